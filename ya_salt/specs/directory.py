"""Read spec files: text to DaemonSpec, directory to (specs, rejected, ignored). Changes nothing."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from types import MappingProxyType

from ya_salt import as_left
from ya_salt.errors import OperatorError, SpecError, SpecProblem, list_in_order
from ya_salt.model import (
    PROBED_READY_TIMEOUT_S,
    READY_TIMEOUT_S,
    DaemonSpec,
    Ignored,
    Loaded,
    Rejected,
)
from ya_salt.quick_dataclass import dataclass, replace
from ya_salt.specs.checks import Diagnostics
from ya_salt.specs.daemon import Draft, read_manifest
from ya_salt.specs.digest import make_digest, make_document
from ya_salt.specs.files import (
    MAX_BYTES,
    STDIN,
    Guard,
    RefusedFileError,
    read_entry,
    read_path,
    read_stdin,
    why_ignored,
)
from ya_salt.specs.kept import KeptSpecs, Parsed
from ya_salt.specs.order import find_circles
from ya_salt.specs.seen import SeenFiles
from ya_salt.specs.sockets import list_properties
from ya_salt.specs.tree import START, Diagnostic, Place, Tree, read_json
from ya_salt.trusted_files import open_path

# Compiled where a file is parsed: it takes as long as 20 of them.
_UNPRINTABLE = "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"


class DaemonsDirectoryError(OperatorError):
    """The daemons directory itself cannot be read: nothing is known about any daemon."""


class DaemonsDirectoryMissingError(DaemonsDirectoryError):
    """There is no daemons directory."""


def parse_spec(text: bytes | str, path: str) -> DaemonSpec:
    """Check one file's content; `path` names it in errors, and `.json` at its end means JSON.

    Raises SpecError with everything that is wrong, in the order of the file.
    """
    parsed = _parse(text, path)
    if parsed.spec is None:
        raise SpecError(parsed.problems)
    return parsed.spec


def load_specs(
    directory: str,
    *,
    uid: int | None = None,
    kept: KeptSpecs | None = None,
    seen: SeenFiles | None = None,
    glimpse: as_left.Glimpse | None = None,
) -> Loaded:
    """Read every spec file of a directory, in name order.

    What is in `kept` is not parsed again, and what is in `seen` and as it was is not even read.
    `glimpse` spares who has taken one of this directory that files are looked at twice: a change
    since then is for who compares them with it the next time. `uid` is the user to whom files may
    belong (default: the running one); root's checks on owners and permissions apply to root only.
    Raises DaemonsDirectoryError where the directory cannot be read: that must not look like a
    directory without daemons.
    """
    guard = Guard(os.geteuid() if uid is None else uid)
    file, note = _open_directory(directory, guard)
    try:
        seen = SeenFiles() if seen is None else seen
        glimpse = glimpse if glimpse is not None and _is_of(glimpse, file) else None
        folder = _Folder(directory, file, guard, note, partial(_parse_unless, kept), seen, glimpse)
        names = _names(file) if glimpse is None else sorted(glimpse.entries.keys() - {"."})
        seen.retain(names)
        # Where the directory is too open, every file has to say so.
        known = {} if note or glimpse is None else seen.find_all(glimpse.entries)
        found = [known.get(name) or _load_entry(name, folder) for name in names]
    except OSError as error:
        raise _directory_error(directory, error) from error
    finally:
        os.close(file)
    return _sort_out(found)


def _is_of(glimpse: as_left.Glimpse, folder: int) -> bool:
    """Whether it was this very directory that was looked at."""
    was, found = glimpse.entries.get("."), os.fstat(folder)
    return was is not None and was[:2] == [found.st_dev, found.st_ino]


def load_files(paths: Sequence[str]) -> Loaded:
    """Read the named files (`-`: standard input, YAML or JSON, whichever it begins like).

    Links are followed and permissions are the caller's business.
    """
    return _sort_out([_load_file(path) for path in dict.fromkeys(paths)])


_Found = Parsed | Rejected | Ignored


def _open_directory(directory: str, guard: Guard) -> tuple[int, str]:
    """The open directory, and how it or what leads to it is too open, or ""."""
    try:
        folder, problem = open_path(directory, os.O_RDONLY | os.O_DIRECTORY, guard.uid)
    except (OSError, ValueError) as error:
        raise _directory_error(directory, error) from error
    if problem is None or guard.uid != 0:
        return folder, ""
    what, words = problem
    its = "its directory" if what == directory else f"{what}, which leads to its directory,"
    return folder, f"{its} {words}"


def _directory_error(directory: str, error: Exception) -> DaemonsDirectoryError:
    if isinstance(error, FileNotFoundError):
        return DaemonsDirectoryMissingError(
            f"{directory}: the daemons directory does not exist;"
            " create it, or set its path in the settings"
        )
    reason = getattr(error, "strerror", None) or str(error)
    return DaemonsDirectoryError(f"{directory}: the daemons directory cannot be read: {reason}")


def _names(folder: int) -> list[str]:
    return sorted(os.listdir(folder))


@dataclass(frozen=True)
class _Folder:
    """An open directory, and how its files are read."""

    path: str
    file: int
    guard: Guard
    note: str
    """How the directory is too open, or ""."""
    parse: Callable[[bytes, str], Parsed]
    seen: SeenFiles
    glimpse: as_left.Glimpse | None

    def identify(self, name: str) -> tuple[as_left.Identity | None, bool]:
        """What a file is before it is read, and whether a change from then on cannot but show."""
        if self.glimpse is not None:
            return self.glimpse.entries.get(name), name not in self.glimpse.unsettled
        now, identity = time.time(), as_left.identify(name, self.file)
        return identity, as_left.is_settled(identity, now)


def _load_entry(name: str, folder: _Folder) -> _Found:
    whole = f"{folder.path.rstrip('/')}/{name}"
    path = _printable(whole)
    reason = why_ignored(name)
    if reason:
        return Ignored(path, reason)
    if path != whole:
        return Rejected(path, (f"{path}: its name cannot be printed; rename it",))
    try:
        return _read_entry(name, path, folder)
    except FileNotFoundError:
        return Ignored(path, "gone while the directory was read")
    except (OSError, RefusedFileError) as error:
        return _rejected(path, error)


def _read_entry(name: str, path: str, folder: _Folder) -> _Found:
    """Raises FileNotFoundError, OSError, RefusedFileError."""
    identity, is_settled = folder.identify(name)
    if identity is None:
        raise FileNotFoundError
    if stat.S_ISDIR(identity[2]):
        return Ignored(path, "a directory")
    known = folder.seen.find(name, identity)
    if known is not None and not folder.note:
        return known
    content, problem = read_entry(name, path, folder.file, folder.guard)
    parsed = folder.parse(content, path)
    problem = problem or folder.note
    if problem:
        return Rejected(path, (f"{path}: {problem}",), parsed.name)
    folder.seen.keep(name, identity, parsed, is_settled=is_settled)
    return parsed


def _load_file(path: str) -> _Found:
    try:
        if path == STDIN:
            content = read_stdin()
            return _parse(content, "standard input", is_json=content.lstrip().startswith(b"{"))
        return _parse(read_path(path), _printable(path))
    except (OSError, ValueError, RefusedFileError) as error:
        return _rejected(_printable(path), error)


def _rejected(path: str, error: Exception) -> Rejected:
    if isinstance(error, RefusedFileError):
        return Rejected(path, (f"{path}: {error}",))
    reason = getattr(error, "strerror", None) or str(error)
    is_hidden = isinstance(error, PermissionError) and os.geteuid() != 0
    return Rejected(path, (f"{path}: cannot be read: {reason}",), is_hidden=is_hidden)


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _sort_out(found: Iterable[_Found]) -> Loaded:
    """Refuse names given twice and circles, then tell specs, rejected and ignored apart."""
    entries = list(found)
    valid = [entry for entry in entries if isinstance(entry, Parsed) and entry.spec]
    rejected: list[Rejected] = [entry for entry in entries if isinstance(entry, Rejected)]
    specs: list[DaemonSpec] = []
    circles = _find_circles(valid)
    namesakes: dict[str, list[Parsed]] = {}
    for one in valid:
        namesakes.setdefault(one.name, []).append(one)
    for entry in entries:
        if not isinstance(entry, Parsed):
            continue
        twins = [other.path for other in namesakes.get(entry.name, ()) if other is not entry]
        if entry.spec is None:
            rejected.append(Rejected(entry.path, _sentences(entry.problems), entry.name))
        elif twins:
            rejected.append(Rejected(entry.path, _sentences((_twin(entry, twins),)), entry.name))
        elif entry.name in circles:
            problem = _circle(entry, circles[entry.name])
            rejected.append(Rejected(entry.path, _sentences((problem,)), entry.name))
        else:
            specs.append(entry.spec)
    ignored = tuple(entry for entry in entries if isinstance(entry, Ignored))
    order = {entry.path: number for number, entry in enumerate(entries)}
    rejected.sort(key=lambda one: order[one.path])
    return Loaded(tuple(specs), _disown(rejected, specs), ignored)


def _sentences(problems: Iterable[SpecProblem]) -> tuple[str, ...]:
    return tuple(str(problem) for problem in problems)


def _twin(entry: Parsed, twins: list[str]) -> SpecProblem:
    message = f"{entry.name} is also defined in {', '.join(twins)}; keep it in one file"
    return SpecProblem(entry.path, *entry.name_place, "meta.name", message)


def _find_circles(valid: Iterable[Parsed]) -> dict[str, str]:
    """Those that go do not count: nobody is started after them, and they may go."""
    specs = [entry.spec for entry in valid if entry.spec is not None]
    return find_circles({spec.name: spec.after for spec in specs if not spec.delete_requested})


def _circle(entry: Parsed, circle: str) -> SpecProblem:
    message = f"goes round in a circle: {circle}; take one of them out of it"
    return SpecProblem(entry.path, *entry.after_place, "spec.after", message)


def _disown(rejected: list[Rejected], specs: list[DaemonSpec]) -> tuple[Rejected, ...]:
    """Let a broken file speak for a daemon only where no good file does: it disturbs nobody."""
    names = {spec.name for spec in specs}
    return tuple(replace(one, name="") if one.name in names else one for one in rejected)


_KEPT_BYTES = 16 << 10
"""A spec is a few kilobytes; what is longer is parsed each time."""


def _parse_unless(kept: KeptSpecs | None, text: bytes, path: str) -> Parsed:
    """Parse it unless its content is known."""
    if len(text) > _KEPT_BYTES:
        return _parse(text, path)
    if kept is None:
        return _parse_once(text, path)
    parsed = kept.find(path, text)
    if parsed is None:
        parsed = _parse_once(text, path)
        kept.keep(path, text, parsed)
    return parsed


@lru_cache(maxsize=1024)
def _parse_once(text: bytes, path: str) -> Parsed:
    """The same content means the same: a process that looks again does not parse again."""
    return _parse(text, path)


def _read_yaml(text: str) -> Tree:
    from ya_salt.specs.yaml_tree import read_yaml

    return read_yaml(text)


def _parse(text: bytes | str, path: str, *, is_json: bool | None = None) -> Parsed:
    report = Diagnostics()
    is_json = path.endswith(".json") if is_json is None else is_json
    decoded = _decode(report, text, is_json=is_json)
    draft = Draft()
    if decoded is not None:
        tree = read_json(decoded) if is_json else _read_yaml(decoded)
        checks = Diagnostics()
        draft = read_manifest(checks, tree.root)
        report.diagnostics += tree.diagnostics
        # Of a tree that was cut off nothing can be said to be missing or empty.
        report.diagnostics += checks.diagnostics if tree.is_whole else []
    problems = _problems(path, report.diagnostics)
    spec = None if problems else _make_spec(draft, path)
    return Parsed(path, draft.name, draft.name_place, draft.behaviour.after_place, spec, problems)


def _problems(path: str, diagnostics: Iterable[Diagnostic]) -> tuple[SpecProblem, ...]:
    found = {SpecProblem(path, *place, name, message) for place, name, message in diagnostics}
    return list_in_order(found)


def _decode(report: Diagnostics, text: bytes | str, *, is_json: bool) -> str | None:
    """Return the text, or report why it is none."""
    size = len(text)
    if size > MAX_BYTES:
        report.add(START, "", f"is over {MAX_BYTES} bytes; a spec is a few kilobytes")
        return None
    try:
        decoded = text.decode() if isinstance(text, bytes) else text.encode().decode()
    except UnicodeError as error:
        report.add(_undecoded_place(text, error), "", "is not UTF-8 here; save the file as UTF-8")
        return None
    decoded = decoded.removeprefix("\ufeff")
    found = None if is_json and "\0" not in decoded else re.search(_UNPRINTABLE, decoded)
    if found:
        char = "a NUL byte" if found[0] == "\0" else f"the control character U+{ord(found[0]):04X}"
        report.add(_place_of(decoded[: found.start()]), "", f"holds {char}; remove it")
        return None
    return decoded


def _undecoded_place(text: bytes | str, error: UnicodeError) -> Place:
    start = error.start if isinstance(error, UnicodeDecodeError | UnicodeEncodeError) else 0
    before = text[:start]
    return _place_of(before.decode() if isinstance(before, bytes) else before)


def _place_of(before: str) -> Place:
    return Place(before.count("\n") + 1, len(before) - before.rfind("\n"))


def _make_spec(draft: Draft, path: str) -> DaemonSpec:
    packages, told = tuple(draft.packages), draft.behaviour
    texts = list_properties(draft.name, draft.container.texts, told.readiness)
    timeout_s = READY_TIMEOUT_S if told.readiness is None else PROBED_READY_TIMEOUT_S
    return DaemonSpec(
        name=draft.name,
        version=draft.version,
        path=path,
        digest=make_digest(draft.name, texts, packages),
        properties=MappingProxyType(texts),
        packages=packages,
        delete_requested=draft.delete_requested,
        annotations=MappingProxyType(draft.annotations),
        min_ready_s=_either(draft.min_ready_s, DaemonSpec.min_ready_s),
        ready_timeout_s=_either(draft.ready_timeout_s, timeout_s),
        readiness=told.readiness,
        update=told.update,
        watch=told.watch,
        after=told.after,
        drift=told.drift,
        document=make_document(draft),
    )


def _either(value: float | None, default: float) -> float:
    return default if value is None else value
