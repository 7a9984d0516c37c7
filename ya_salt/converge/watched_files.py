"""Look at the files that daemons watch. Reads only.

A file whose stat is as it was is not read again. What cannot be read is unknown, never gone.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ya_salt.errors import PackageError, describe_bug
from ya_salt.life import Life, SeenFile
from ya_salt.model import Container, DaemonSpec, FileNow, Observed, WatchedFiles
from ya_salt.packages.apt import Apt
from ya_salt.porto.client import PortoClient
from ya_salt.processes import read_start
from ya_salt.quick_dataclass import replace

MAX_FILES = 1000
"""That one entry may match: more are a mistake, and would cost every pass."""
MAX_BYTES = 4 << 20
"""Of a larger file only size and time are compared."""
_SETTLE_S = 0.3
"""How long a file that has gone is given to come back: editors put a new one in its place."""
_FRESH_NS = 1_000_000_000
"""A file changed this lately may change again without its stat showing it."""
_MAX_LINKS = 40
_TICK_S = 0.01
"""How far the clock of the files may be behind that of the processes."""
_MAGIC = re.compile(r"[*?\[]")


def look_at_files(
    specs: Iterable[DaemonSpec], observed: Observed, apt: Apt, client: PortoClient
) -> Observed:
    """`observed` with every file that one of the daemons watches, as it is now.

    Raises PortoError where portod has to be asked for a process and does not answer.
    """
    watching = [spec for spec in specs if spec.watch and not spec.delete_requested]
    if not watching:
        return observed
    lives = {spec.name: observed.lives.get(spec.name, Life()) for spec in watching}
    files = {spec.name: look_once(spec, lives[spec.name], apt) for spec in watching}
    hasty = [spec for spec in watching if _is_just_gone(files[spec.name], lives[spec.name])]
    if hasty:
        time.sleep(_SETTLE_S)
        files |= {spec.name: look_once(spec, lives[spec.name], apt) for spec in hasty}
    for name, found in files.items():
        container = observed.containers.get(name)
        if container is not None and _is_close(found, lives[name], container):
            pid = client.get([name], ["root_pid"]).get(name, {}).get("root_pid", "")
            files[name] = replace(found, started_at=find_start(pid))
    return replace(observed, files=files)


def look_once(spec: DaemonSpec, life: Life, apt: Apt) -> WatchedFiles:
    """Every file that one daemon watches. Raises nothing."""
    try:
        return _look(spec, life, apt)
    except Exception as error:  # noqa: BLE001 - a bug met by one daemon must not stop the others
        return WatchedFiles(unknown={watch.name: describe_bug(error) for watch in spec.watch})


def _list_changed(files: WatchedFiles, life: Life) -> list[tuple[str, FileNow]]:
    return [
        (path, file)
        for name, found in files.found.items()
        for path, file in found.items()
        if name in life.watched
        and file.hash != (life.watched[name][path].hash if path in life.watched[name] else "")
    ]


def _is_just_gone(files: WatchedFiles, life: Life) -> bool:
    changed = _list_changed(files, life)
    return any(not file.hash and path not in life.noticed for path, file in changed)


def _is_close(files: WatchedFiles, life: Life, container: Container) -> bool:
    """Whether a file changed in the very second in which its daemon was started."""
    changed = _list_changed(files, life)
    return any(0 <= file.changed_at - container.started_at < 1.1 for _, file in changed)


def find_start(pid: str) -> float:
    """When a process was started, to a hundredth of a second; 0 where that cannot be told."""
    ticks = read_start(pid) if pid.isdecimal() else None
    if ticks is None:
        return 0.0
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age_s


def _look(spec: DaemonSpec, life: Life, apt: Apt) -> WatchedFiles:
    found: dict[str, dict[str, FileNow]] = {}
    unknown: dict[str, str] = {}
    for watch in spec.watch:
        seen = life.watched.get(watch.name, {})
        try:
            paths = set(expand(watch.path) if watch.path else list_conffiles(spec, apt))
        except (OSError, ValueError, PackageError) as error:
            unknown[watch.name] = _explain(error)
            continue
        found[watch.name] = {}
        for path in sorted(paths | seen.keys() if watch.path else paths):
            try:
                file = look_at(path, seen.get(path))
            except (OSError, ValueError) as error:
                unknown[path] = _explain(error)
                continue
            if file is None:
                if path == watch.path:
                    unknown[path] = "it is a directory; write it with /* at its end"
            elif file.hash or path in seen:
                found[watch.name][path] = file
    return WatchedFiles(found, unknown)


def _explain(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


# -- which files ---------------------------------------------------------------------------------


def expand(pattern: str) -> list[str]:
    """The paths that a pattern stands for; one without wildcards stands for itself.

    Raises OSError where a directory cannot be read, ValueError for too many.
    """
    paths = [""]
    for part in pattern.split("/"):
        if not part:
            continue
        if _MAGIC.search(part):
            paths = [f"{path}/{name}" for path in paths for name in _match(path, part)]
        else:
            paths = [f"{path}/{part}" for path in paths]
        if len(paths) > MAX_FILES:
            raise ValueError(f"it matches more than {MAX_FILES} files; watch fewer")
    return paths


def _match(folder: str, part: str) -> list[str]:
    try:
        names = [entry.name for entry in Path(folder or "/").iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    # As in the shell: what is hidden is not meant.
    return [
        name
        for name in names
        if fnmatch.fnmatchcase(name, part) and (part.startswith(".") or not name.startswith("."))
    ]


def list_conffiles(spec: DaemonSpec, apt: Apt) -> Iterator[str]:
    """The conffiles that dpkg knows of the daemon's packages. Raises OSError, PackageError."""
    info, root = apt.place.admin_dir / "info", apt.place.path
    for package in spec.packages:
        for line in _read_conffiles(info, package.name, lambda: apt.architecture):
            path = line.strip()
            # Lines with a flag before the path are of files that the package no longer has.
            if path.startswith("/"):
                yield f"{str(root).rstrip('/')}{path}"


def _read_conffiles(info: Path, name: str, find_native: Callable[[], str]) -> list[str]:
    # dpkg names the files of a package that may be there in several architectures with its own.
    is_plain = ":" in name or (info / f"{name}.list").exists()
    file = info / f"{name if is_plain else f'{name}:{find_native()}'}.conffiles"
    try:
        return file.read_text(errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return []


# -- one file ------------------------------------------------------------------------------------


def look_at(path: str, seen: SeenFile | None = None) -> FileNow | None:
    """A file as it is; without a hash where there is none, None for a directory. Raises OSError."""
    for _ in range(3):
        try:
            found = os.stat(path)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return FileNow("", changed_at=_find_change(path) + _TICK_S)
        if stat.S_ISDIR(found.st_mode):
            return None
        stamp = _make_stamp(found)
        if seen is not None and stamp and seen.stamp == stamp:
            return FileNow(seen.hash, stamp)
        changed_at = max(found.st_ctime_ns / 1e9, _find_change(path)) + _TICK_S
        content = _hash(path, found)
        if content:
            return FileNow(content, stamp, changed_at)
    raise OSError(errno.EAGAIN, "it changed each time that it was read")


def _make_stamp(found: os.stat_result) -> str:
    """What is another one when the file is, "" where it is too fresh for that."""
    if time.time_ns() - max(found.st_ctime_ns, found.st_mtime_ns) < _FRESH_NS:
        return ""
    numbers = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return ":".join(map(str, numbers))


def _hash(path: str, found: os.stat_result) -> str:
    """What stands for the content; "" where it changed while it was read."""
    if not stat.S_ISREG(found.st_mode):
        return f"kind {stat.S_IFMT(found.st_mode):o}"
    if found.st_size > MAX_BYTES:
        return f"size {found.st_size} at {found.st_mtime_ns}"
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        digest, size = hashlib.sha256(), 0
        while size <= MAX_BYTES and (data := os.read(fd, 1 << 18)):
            digest.update(data)
            size += len(data)
        after = os.fstat(fd)
    finally:
        os.close(fd)
    was = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    now = (after.st_dev, after.st_ino, after.st_size, after.st_mtime_ns, after.st_ctime_ns)
    return digest.hexdigest()[:32] if was == now and size == found.st_size else ""


def _find_change(path: str) -> float:
    """When what leads to it changed last: an entry of its directories, or a link, put in place.

    Raises OSError where somebody else has made a link on the way: it may lead anywhere.
    """
    rest = [part for part in path.split("/") if part]
    here, latest, links = "", 0.0, 0
    while rest:
        here = f"{here}/{rest.pop(0)}"
        try:
            found = os.lstat(here)
            target = os.readlink(here) if stat.S_ISLNK(found.st_mode) else None  # noqa: PTH115
        except (FileNotFoundError, NotADirectoryError):
            break
        # In /tmp and its like everything changes all the time, and nobody replaces another's.
        if not (stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX):
            latest = max(latest, found.st_ctime_ns / 1e9)
        if target is None:
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if found.st_uid not in {0, os.geteuid()}:
            raise OSError(errno.ELOOP, f"user {found.st_uid} has made the link {here}")
        folder = "" if target.startswith("/") else os.path.dirname(here)  # noqa: PTH120
        whole = os.path.normpath(f"{folder}/{target}")
        rest = [part for part in whole.split("/") if part] + rest
        here = ""
    return latest
