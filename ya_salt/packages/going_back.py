"""What an update changes beside what it was asked for, so that going back takes that along.

Before dpkg starts, a note is written for every daemon: which packages the transaction changes, and
a copy of each conffile. Going back follows the notes, the newest first: a package that came along
has its old version again, and a conffile is as it was before, unless somebody edited it since. dpkg
alone does not do that: it leaves what the new version brought, and what its scripts wrote or took.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from ya_salt import copies
from ya_salt.codec import DamagedError, from_data, to_data
from ya_salt.errors import PackageError
from ya_salt.model import InstalledPackage, Package
from ya_salt.packages.apt import GOING_BACK, Apt
from ya_salt.packages.simulation import Change
from ya_salt.quick_dataclass import dataclass, field, replace
from ya_salt.trusted_files import make_directory

_LOG = logging.getLogger("ya_salt.packages")

_KEPT_NOTES = 8
"""Updates of one daemon that are remembered."""
_MAX_CONFFILE = 16 << 20
_PREFIX = "update-"
_ABSENT = ""
_LEFTOVERS = (".dpkg-new", ".dpkg-dist", ".dpkg-tmp")
"""What dpkg puts beside a conffile; all of it comes from packages (dpkg(1), --force-confold)."""

_KEEP, _RESTORE, _REMOVE = "keep", "restore", "remove"


@dataclass(frozen=True)
class Note:
    """One update of one daemon."""

    named: tuple[str, ...]
    """Packages that the daemon's spec names."""
    before: Mapping[str, str]
    """Every package that changed -> its version; "" where it was not there."""
    after: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
    """Conffile of before -> hash of what was in it; "" where it was not there."""
    leftovers: tuple[str, ...] = ()
    """What dpkg had left beside them before."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Conffile -> hash of what the update left."""
    is_whole: bool = False
    """Whether `left` is known: the pass saw the end of it."""
    decided: Mapping[str, str] = field(default_factory=dict)
    """While it is taken back, of the newest note: conffile -> keep, remove, restore FOLDER."""


@dataclass(frozen=True)
class Found:
    """A note and where it lies."""

    folder: Path
    note: Note


@dataclass(frozen=True)
class Way:
    """How a daemon goes back: its notes, the newest first, and what they ask for beside it."""

    notes: tuple[Found, ...] = ()
    along: tuple[Package, ...] = ()
    """Packages that the updates changed on the side, at their versions before."""
    touched: frozenset[str] = frozenset()
    """Names of all that the updates changed on the side: these may be changed, or go."""


# -- on the way up -------------------------------------------------------------------------------


Brought = Mapping[str, Mapping[str, tuple[str, bool]]]
"""Package -> conffile -> (MD5 of what the package brought, whether it still has it)."""


def write_notes(apt: Apt, groups: Mapping[str, Iterable[str]], changes: Iterable[Change]) -> None:
    """Write down what a transaction is about to change, by daemon. Never raises.

    `groups` are the packages that each daemon's spec names.
    """
    every = {change.name: change for change in changes if change.before != change.after}
    named = {name for names in groups.values() for name in names}
    side = [change for change in every.values() if change.name not in named]
    changing = {g: [every[n] for n in names if n in every] for g, names in groups.items()}
    # A first installation has nothing to go back to.
    todo = {g: mine for g, mine in changing.items() if any(change.before for change in mine)}
    if not apt.notes_dir or not todo:
        return
    complete_notes(apt, todo, is_late=True)
    try:
        brought = apt.read_conffiles([name for name in every if every[name].before])
        for group, mine in todo.items():
            _write_note(apt, Path(apt.notes_dir) / group, mine, side, brought)
    except (OSError, PackageError, copies.CopyError) as error:
        _LOG.warning("packages: cannot note what an update changes: %s", error)


def _write_note(
    apt: Apt, folder: Path, mine: list[Change], side: list[Change], brought: Brought
) -> None:
    changes = [*mine, *side]
    draft = folder / f".{_PREFIX}draft"
    copies.remove(_real(draft))
    make_directory(str(draft / "files"), 0o700, 0o700)
    files = {}
    for path in {path for change in changes for path in brought.get(change.name, ())}:
        place = _place(apt, path)
        digest = _hash(place)
        if digest is not None:
            files[path] = digest
            if digest != _ABSENT:
                copies.copy(place, _real(draft / "files" / _name(path)))
    note = Note(
        named=tuple(change.name for change in mine),
        before={change.name: change.before for change in changes},
        after={change.name: change.after for change in changes},
        files=files,
        leftovers=tuple(_list_leftovers(apt, files)),
    )
    _save(draft, note)
    numbers = [_number(found.folder) for found in read_notes(folder)]
    draft.rename(folder / f"{_PREFIX}{max(numbers, default=0) + 1:06d}")
    for old in read_notes(folder)[_KEPT_NOTES:]:
        copies.remove(_real(old.folder))


def complete_notes(apt: Apt, groups: Iterable[str], *, is_late: bool = False) -> None:
    """Write down what the transaction left of the conffiles; drop notes of what it did not change.

    `is_late`: somebody may have edited them since. Never raises.
    """
    if not apt.notes_dir:
        return
    try:
        newest = [found for g in groups for found in read_notes(Path(apt.notes_dir) / g)[:1]]
        todo = [found for found in newest if not found.note.is_whole]
        names = {name for found in todo for name in found.note.before}
        now, brought = _read_versions(apt, names), apt.read_conffiles(names)
        for found in todo:
            if all(now[name] == version for name, version in found.note.before.items()):
                copies.remove(_real(found.folder))
                continue
            left = _read_left(apt, found.note, brought, is_late=is_late)
            _save(found.folder, replace(found.note, left=left, is_whole=True))
    except (OSError, PackageError, copies.CopyError) as error:
        _LOG.warning("packages: cannot note what an update left: %s", error)


def _read_left(apt: Apt, note: Note, every: Brought, *, is_late: bool = False) -> dict[str, str]:
    """What the update left. `is_late`: somebody may have edited it since, dpkg's notes tell."""
    brought = {path: item for name in note.after for path, item in every.get(name, {}).items()}
    left = {}
    for path in {*note.files, *brought}:
        place = _place(apt, path)
        digest = _hash(place)
        md5, is_active = brought.get(path, ("", False))
        is_as_brought = digest not in {None, _ABSENT} and _hash(place, "md5") == md5
        if digest is None or (path not in note.files and not is_as_brought):
            continue  # None of dpkg's: it was there before the package had it.
        as_before = digest == note.files.get(path)
        if is_late and not (is_as_brought or as_before or (digest == _ABSENT and not is_active)):
            continue
        left[path] = digest
    return left


# -- on the way down -----------------------------------------------------------------------------


def find_way(apt: Apt, group: str, wanted: Iterable[Package], pinned: Collection[str]) -> Way:
    """Follow the notes of a daemon back to the versions that it wants. Never raises."""
    if not apt.notes_dir:
        return Way()
    try:
        notes = read_notes(Path(apt.notes_dir) / group)
        target = {package.name: package.version for package in wanted}
        known = {name for found in notes for name in found.note.before}
        now = _read_versions(apt, {*target, *known})
    except (OSError, PackageError) as error:
        _LOG.warning("packages: cannot read what updates of %s changed: %s", group, error)
        return Way()
    chain = _follow(notes, target, now)
    before: dict[str, str] = {}
    for found in chain:
        before |= found.note.before
    side = {
        name
        for found in chain
        for name in found.note.before
        if name not in found.note.named and name not in target and name not in pinned
    }
    newest = {n: v for found in reversed(chain) for n, v in found.note.after.items()}
    along = tuple(
        Package(name, before[name])
        for name in sorted(side)
        # Somebody else changed it since: that is not ours to take back.
        if before[name] and now[name] == newest[name] != before[name]
    )
    return Way(tuple(chain), along, frozenset(side))


def _follow(
    notes: Iterable[Found], target: Mapping[str, str], now: Mapping[str, str]
) -> list[Found]:
    chain, here = [], dict(now)
    for found in notes:
        note = found.note
        is_there = all(here.get(name) == version for name, version in target.items())
        if is_there and not note.decided:
            break
        for name in note.named:
            if here.get(name, "") not in {note.after[name], note.before[name]}:
                return []  # Other hands were at work: nothing is known of what was before.
        chain.append(found)
        here |= {name: note.before[name] for name in note.named}
    is_there = all(here.get(name) == version for name, version in target.items())
    return chain if is_there else []


def begin_going_back(apt: Apt, way: Way) -> None:
    """Decide what becomes of each conffile, while nothing is changed yet. Never raises.

    Those that only the newer versions had go now: dpkg would keep them, and know them for ever as
    deleted by the administrator where they went later.
    """
    if not way.notes:
        return
    try:
        newest = way.notes[0]
        if not newest.note.decided:
            newest = Found(newest.folder, replace(newest.note, decided=_decide(apt, way)))
            _save(newest.folder, newest.note)
        (Path(apt.notes_dir) / GOING_BACK).touch(mode=0o600)
        for path in _list_decided(newest, _REMOVE):
            _set_aside(apt, newest.folder, path)
    except (OSError, PackageError, copies.CopyError) as error:
        _LOG.warning("packages: conffiles may not go back as they were: %s", error)


def _decide(apt: Apt, way: Way) -> dict[str, str]:
    decided = {}
    unknown = {n for found in way.notes if not found.note.is_whole for n in found.note.after}
    brought = apt.read_conffiles(unknown)
    lefts = {
        found.folder: found.note.left
        if found.note.is_whole
        else _read_left(apt, found.note, brought, is_late=True)
        for found in way.notes
    }
    for path in sorted({path for left in lefts.values() for path in left}):
        here, what = _hash(_place(apt, path)), _KEEP
        for found in way.notes:
            left = lefts[found.folder]
            if path not in left and path not in found.note.files:
                continue  # That update had nothing to do with it.
            if here is None or left.get(path) != here:
                break  # Edited since: it stays, with all that is older.
            here = found.note.files.get(path, _ABSENT)
            what = _REMOVE if here == _ABSENT else f"{_RESTORE} {found.folder.name}"
        decided[path] = what
    return decided


def _list_decided(found: Found, what: str) -> list[str]:
    return [path for path, words in found.note.decided.items() if words.split(" ")[0] == what]


def _set_aside(apt: Apt, folder: Path, path: str) -> None:
    place, aside = _place(apt, path), folder / "aside" / _name(path)
    aside.parent.mkdir(mode=0o700, exist_ok=True)
    if not copies.exists(place):
        return
    copies.remove(_real(aside))
    copies.copy(place, _real(aside))
    copies.remove(place)


def end_going_back(apt: Apt, way: Way, *, is_back: bool) -> tuple[str, ...]:
    """Put the conffiles right once dpkg is through: as they were, or, not back, as they are now.

    Sentences of what could not be done.
    """
    if not way.notes:
        return ()
    try:
        found = _read(way.notes[0].folder)
    except (OSError, DamagedError, ValueError) as error:
        return (f"conffiles may not be as before: the note of the update is lost: {error}",)
    told = _put_back(apt, found, way) if is_back else _undo_removal(apt, found)
    if is_back and not told:
        for done in reversed(way.notes):
            copies.remove(_real(done.folder))
    with contextlib.suppress(OSError):
        (Path(apt.notes_dir) / GOING_BACK).unlink(missing_ok=True)
    return tuple(told)


def _put_back(apt: Apt, newest: Found, way: Way) -> list[str]:
    told = []
    for path in newest.note.decided:
        try:
            _put_right(apt, newest, path)
        except (OSError, copies.CopyError) as error:
            told.append(f"{_place(apt, path)} could not be put back as it was: {error}")
    oldest = way.notes[-1].note.leftovers
    for path in {*newest.note.decided, *(p for found in way.notes for p in found.note.files)}:
        for place in _list_leftovers(apt, [path]):
            if place not in oldest:
                with contextlib.suppress(OSError, copies.CopyError):
                    copies.remove(_place(apt, place))
    return told


def _put_right(apt: Apt, newest: Found, path: str) -> None:
    what, _, name = newest.note.decided[path].partition(" ")
    place = _place(apt, path)
    if what == _REMOVE:
        copies.remove(place)
    if what == _RESTORE:
        saved = newest.folder.parent / name / "files" / _name(path)
        if not saved.exists() or _hash(_real(saved)) == _hash(place):
            return
        draft = f"{place}.dpkg-new"
        copies.remove(draft)
        copies.copy(_real(saved), draft)
        copies.move(draft, place)


def _undo_removal(apt: Apt, found: Found) -> list[str]:
    """The newer version stays: it has its conffiles again."""
    for path in _list_decided(found, _REMOVE):
        saved = found.folder / "aside" / _name(path)
        with contextlib.suppress(OSError, copies.CopyError):
            if saved.exists() and not copies.exists(_place(apt, path)):
                copies.copy(_real(saved), _place(apt, path))
    with contextlib.suppress(OSError):
        _save(found.folder, replace(found.note, decided={}))
    return []


def finish_going_back(apt: Apt) -> None:
    """End what a killed pass had begun. Call it at the start of a pass; costs one look.

    Where dpkg is not through, going back is planned again and ends it.
    """
    if not apt.is_going_back:
        return
    begun = Path(apt.notes_dir) / GOING_BACK
    try:
        is_open = False
        for folder in sorted(Path(apt.notes_dir).iterdir()):
            notes = read_notes(folder) if folder.is_dir() else []
            if notes and notes[0].note.decided:
                is_open |= not _finish(apt, notes)
        if not is_open:
            begun.unlink(missing_ok=True)
    except (OSError, PackageError) as error:
        _LOG.warning("packages: going back was cut short and cannot be ended: %s", error)


def _finish(apt: Apt, notes: list[Found]) -> bool:
    folders = {words.partition(" ")[2] for words in notes[0].note.decided.values()}
    last = max((n for n, found in enumerate(notes) if found.folder.name in folders), default=0)
    chain = notes[: last + 1]
    target = {name: v for found in chain for name, v in found.note.before.items()}
    named = {name for found in chain for name in found.note.named}
    now = _read_versions(apt, named)
    if any(now[name] != target[name] for name in named):
        return False
    for said in end_going_back(apt, Way(tuple(chain)), is_back=True):
        _LOG.warning("packages: %s", said)
    return True


# -- pieces --------------------------------------------------------------------------------------


def read_notes(folder: Path) -> list[Found]:
    """The notes of a daemon, the newest first; what cannot be read is none. May raise OSError."""
    found = []
    for place in sorted(folder.glob(f"{_PREFIX}[0-9]*"), reverse=True):
        try:
            found.append(_read(place))
        except (DamagedError, ValueError, FileNotFoundError) as error:
            _LOG.warning("packages: %s cannot be read: %s", place, error)
    return found


def _read(folder: Path) -> Found:
    text = (folder / "note.json").read_text(encoding="utf-8", errors="surrogateescape")
    return Found(folder, from_data(Note, json.loads(text)))


def _save(folder: Path, note: Note) -> None:
    draft = folder / ".note.new"
    draft.write_text(json.dumps(to_data(note)), encoding="utf-8", errors="surrogateescape")
    draft.replace(folder / "note.json")


def _number(folder: Path) -> int:
    text = folder.name.removeprefix(_PREFIX)
    return int(text) if text.isdecimal() else 0


def _read_versions(apt: Apt, names: Collection[str]) -> dict[str, str]:
    installed = apt.query(names)
    return {name: _version(installed.get(name)) for name in names}


def _version(package: InstalledPackage | None) -> str:
    return package.version if package and package.status != "config-files" else ""


def _place(apt: Apt, path: str) -> str:
    return os.path.realpath(apt.root).rstrip("/") + path


def _real(path: Path) -> str:
    """A path of ours, for `copies`, which follows no link."""
    return f"{os.path.realpath(path.parent)}/{path.name}"


def _name(path: str) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:32]


def _hash(place: str, kind: str = "sha256") -> str | None:
    """Of a file's content; "" where there is none; None where it is none of ours to copy.

    That is a link, a folder, something very large, or what cannot be read.
    """
    try:
        with copies.open_parent(place) as (folder, name):
            found = copies.look(folder, name)
            if found is None:
                return _ABSENT
            if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_CONFFILE:
                return None
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            with os.fdopen(fd, "rb") as file:
                return hashlib.new(kind, file.read(), usedforsecurity=False).hexdigest()
    except FileNotFoundError:
        return _ABSENT
    except (OSError, copies.CopyError):
        return None


def _list_leftovers(apt: Apt, paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        for ending in _LEFTOVERS:
            if os.path.lexists(f"{_place(apt, path)}{ending}"):
                yield f"{path}{ending}"
