"""Copies of a daemon's own data (`update.state`), made before an update and put back with it.

They are made while the daemon is down, after the old one was stopped and before the new one is
started: no other copy is of one moment. Where the file system shares blocks that takes no time and
no room. Putting back may be killed anywhere: called again it goes on from there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ya_salt import copies
from ya_salt.copies import CopyError
from ya_salt.life import Life
from ya_salt.model import DaemonSpec
from ya_salt.names import check_daemon_name
from ya_salt.trusted_files import make_directory

_log = logging.getLogger("ya_salt.execute")

_SPARE_BYTES = 64 << 20
"""What is left free on a disk that takes copies: others write there, too."""
_PER_ENTRY = 512
"""Of inodes and names, roughly."""
_INDEX = "index.json"
_SHARED = frozenset(
    f"/{top}/{name}"
    for top, names in {
        "var": "backups cache lib local lock log mail opt run spool tmp",
        "usr": "bin games include lib lib32 lib64 libexec local sbin share src",
        "etc": "apt default init.d pam.d security skel ssh ssl sudoers.d systemd",
    }.items()
    for name in names.split()
)
"""Places of the whole host: what is put back there would take others' files back, too."""


def find_obstacle_to_copy(state_dir: str, paths: Sequence[str]) -> str:
    """Why these paths could not be copied, or put back later, or "". Ask before anything is done.

    Reads only, but for two small files in the state directory.
    """
    try:
        paths = tuple(_check_path(state_dir, path) for path in paths)
        sizes = {path: copies.measure(path) for path in paths}
        needed = _add_up(sizes.values())
        if not needed:
            return ""
        folder = _existing(state_dir)
        elsewhere = [path for path in paths if not _is_same_disk(path, folder)]
        shares = copies.can_share_blocks(folder)
        here = _add_up(sizes[p] for p in (elsewhere if shares else paths))
        words = _find_lack(folder, here, "copied")
        for path in () if words else elsewhere:
            # Put back it stands beside what is there until the two are swapped.
            words = words or _find_lack(_existing(path), _add_up([sizes[path]]), "put back")
    except CopyError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename or 'update.state'} cannot be read: {error.strerror or error}"
    return words


def _add_up(sizes: Iterable[copies.Size]) -> int:
    return sum(size.bytes + _PER_ENTRY * size.entries for size in sizes)


def _existing(path: str) -> str:
    folder = Path(path)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return str(folder)


def _is_same_disk(path: str, folder: str) -> bool:
    return os.lstat(_existing(path)).st_dev == Path(folder).stat().st_dev


def _find_lack(folder: str, needed: int, what: str) -> str:
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if free - needed >= _SPARE_BYTES:
        return ""
    return (
        f"update.state needs {needed >> 20} MiB to be {what}, and {folder} has {free >> 20} MiB "
        f"free, of which {_SPARE_BYTES >> 20} stay: see `df -h {folder}`, make room, or name fewer "
        "paths"
    )


def find_going_back(lives: Mapping[str, Life]) -> tuple[str, ...]:
    """Daemons that are to have what they had before an update."""
    return tuple(
        name
        for name, life in lives.items()
        if life.trial is None and (life.rejection is not None or life.pin is not None)
    )


def find_obstacle(state_dir: str, spec: DaemonSpec, life: Life) -> str:
    """Why the data of a daemon whose update begins could not be copied, or ""."""
    trial = life.trial
    if trial is None or not trial.back_to or not spec.update.state:
        return ""
    if has_state(state_dir, spec.name, trial.mark):
        return ""
    return find_obstacle_to_copy(state_dir, spec.update.state)


def carry_state(state_dir: str, spec: DaemonSpec, life: Life) -> None:
    """Copy a daemon's data for an update on trial; put them back where one was undone.

    Call it while the daemon is down. Raises CopyError.
    """
    if life.trial is not None and life.trial.back_to:
        save_state(state_dir, spec.name, life.trial.mark, spec.update.state)
    elif life.rejection is not None or life.pin is not None:
        for folder in _list_saved(state_dir, spec.name):
            if (key := folder.name.removeprefix("state-")).isalnum():
                for path in restore_state(state_dir, spec.name, key):
                    _log.info("porto-daemon-%s: %s is as before the update", spec.name, path)


# -- copying -------------------------------------------------------------------------------------


def save_state(state_dir: str, name: str, key: str, paths: Sequence[str]) -> tuple[str, ...]:
    """Copy the paths, where that was not done for this `key`; sentences of what was left out.

    Call it while the daemon is down. `key` names the update, such as its mark: what was saved under
    it is kept as it is, as the new version may have run since. Raises CopyError; nothing is left of
    a copy that failed.
    """
    folder = _folder(state_dir, name, key)
    if not paths or (folder / _INDEX).exists():
        return ()
    draft = folder.with_name(f"{folder.name}.new")
    try:
        # One update at a time: what was saved for another one is of no use any more.
        drop_state(state_dir, name)
        make_directory(str(draft), 0o700, 0o700)
        there: list[bool] = []
        skipped: list[str] = []
        paths = tuple(_check_path(state_dir, path) for path in paths)
        for number, path in enumerate(paths):
            target = str(draft / str(number))
            skipped += copies.copy(path, target) or []
            there.append(copies.exists(target))
        index = {"paths": paths, "there": there}
        (draft / _INDEX).write_text(json.dumps(index), encoding="utf-8")
        draft.rename(folder)
    except (OSError, CopyError) as error:
        with contextlib.suppress(OSError, CopyError):
            copies.remove(str(draft))
        raise CopyError(f"the data of {name} could not be copied: {_explain(error)}") from error
    for said in skipped:
        _log.warning("porto-daemon-%s: update.state: %s", name, said)
    return tuple(skipped)


def has_state(state_dir: str, name: str, key: str) -> bool:
    """Whether there is a copy to put back."""
    return (_folder(state_dir, name, key) / _INDEX).exists()


def _list_saved(state_dir: str, name: str) -> list[Path]:
    return sorted(_home(state_dir, name).glob("state-*"))


def restore_state(state_dir: str, name: str, key: str) -> tuple[str, ...]:
    """Put back what was saved under this key, once; the paths. Call it while the daemon is down.

    Each path is as it was, or gone where it was not there; what the newer version wrote is
    removed. With nothing saved, or all of it put back, nothing is done. Raises CopyError; called
    again it goes on.
    """
    folder = _folder(state_dir, name, key)
    try:
        index = _read_index(folder)
        if index is None:
            return ()
        for number, (path, was_there) in enumerate(index):
            _put_back(folder, number, path, was_there=was_there)
        # Not there any more in one moment: it is never put back a second time.
        copies.remove(str(_done(folder)))
        folder.rename(_done(folder))
        copies.remove(str(_done(folder)))
    except (OSError, CopyError) as error:
        words = f"the data of {name} could not be put back from {folder}: {_explain(error)}"
        raise CopyError(words) from error
    return tuple(path for path, _ in index)


def drop_state(state_dir: str, name: str) -> None:
    """Remove what was saved of a daemon. Never raises."""
    try:
        for folder in _list_saved(state_dir, name):
            copies.remove(str(folder))
    except (OSError, CopyError) as error:
        _log.warning("porto-daemon-%s: copies of its data stay: %s", name, _explain(error))


def _put_back(folder: Path, number: int, path: str, *, was_there: bool) -> None:
    """Each step leaves what the next call needs to know where it was."""
    saved, finished = folder / str(number), folder / f"{number}.done"
    if finished.exists():
        return
    where, _, base = path.rpartition("/")
    fresh, old = f"{where}/.ya-salt-fresh-{base}", f"{where}/.ya-salt-old-{base}"
    if was_there and copies.exists(str(saved)):
        copies.remove(fresh)
        copies.remove(old)
        if not copies.move(str(saved), fresh):
            # On another disk: what was copied whole is marked by taking the original away.
            copies.copy(str(saved), fresh)
            copies.move(str(saved), str(folder / f"{number}.copied"))
    if was_there and copies.exists(fresh):
        if copies.exists(path):
            copies.remove(old)
            copies.move(path, old)
        copies.move(fresh, path)
    elif not was_there and copies.exists(path):
        copies.remove(old)
        copies.move(path, old)
    copies.remove(old)
    finished.touch(mode=0o600)


# -- pieces --------------------------------------------------------------------------------------


def _home(state_dir: str, name: str) -> Path:
    return Path(os.path.realpath(state_dir)) / "generations" / check_daemon_name(name)


def _folder(state_dir: str, name: str, key: str) -> Path:
    return _home(state_dir, name) / f"state-{_check(key)}"


def _done(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.restored")


def _check_path(state_dir: str, path: str) -> str:
    """The path without detours. Raises CopyError for what is not the daemon's own."""
    clean = "/" + "/".join(part for part in path.split("/") if part not in {"", "."})
    ours = os.path.realpath(state_dir)
    if clean in _SHARED or clean.count("/") < 2:
        raise CopyError(f"{path} is not a daemon's own: name a path below it in update.state")
    if f"{ours}/".startswith(f"{clean}/") or f"{clean}/".startswith(f"{ours}/"):
        raise CopyError(f"{path} and the state directory {ours} hold each other: name other paths")
    return clean


def _check(key: str) -> str:
    # With secrets a mark has three parts.
    if not re.fullmatch(r"[A-Za-z0-9:]{1,64}", key):
        raise CopyError(f"{key!r} names no update")
    return key


def _read_index(folder: Path) -> list[tuple[str, bool]] | None:
    try:
        data = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        return [(str(p), bool(t)) for p, t in zip(data["paths"], data["there"], strict=True)]
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise CopyError(f"{folder / _INDEX} cannot be read: {error}") from error


def _explain(error: Exception) -> str:
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return str(error)
