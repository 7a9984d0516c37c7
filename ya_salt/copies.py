"""Copy files and trees as they are, and put copies back, without following a link anywhere.

Everything is opened step by step from `/`: what somebody swaps for a link meanwhile is refused. A
copy shares its blocks with the original where the file system can (FICLONE, ioctl_ficlonerange(2)).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ya_salt.errors import RetryError
from ya_salt.quick_dataclass import dataclass, field
from ya_salt.text import count

MAX_ENTRIES = 500_000
MAX_DEPTH = 200
_FICLONE = 0x40049409
_CHUNK = 1 << 24
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SPECIAL = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class CopyError(RetryError):
    """It cannot be copied, or put back; the text says what and what to do."""


@dataclass
class Size:
    """How much there is to copy."""

    bytes: int = 0
    entries: int = 0


@dataclass
class _Copying:
    """What one copy goes by and has met."""

    device: int
    top: int
    """The open folder in which the copy is made: hard links are made from there."""
    skipped: list[str] = field(default_factory=list)
    linked: dict[tuple[int, int], str] = field(default_factory=dict)
    """Inode of a file with several names -> where its copy is, from `top`."""
    entries: int = 0


@dataclass(frozen=True)
class _Spot:
    """An entry of an open folder, and what it is called."""

    folder: int
    name: str
    place: str

    def look(self) -> os.stat_result | None:
        return look(self.folder, self.name)

    def inside(self, folder: int, name: str) -> _Spot:
        return _Spot(folder, name, f"{self.place}/{name}")


@contextmanager
def open_parent(path: str) -> Iterator[tuple[int, str]]:
    """Lend the open folder that holds an entry, and the entry's name.

    Raises CopyError for a link on the way, FileNotFoundError, OSError.
    """
    *folders, name = [part for part in path.split("/") if part not in {"", "."}]
    fd = os.open("/", _FOLDER)
    here = ""
    try:
        for folder in folders:
            here += f"/{folder}"
            fd = _step(fd, folder, here)
        yield fd, name
    finally:
        os.close(fd)


def _step(fd: int, folder: str, here: str) -> int:
    """The folder below; the one above is closed where that worked."""
    try:
        below = os.open(folder, _FOLDER, dir_fd=fd)
    except OSError as error:
        if error.errno not in {errno.ELOOP, errno.ENOTDIR} or not is_link(fd, folder):
            raise
        where = os.readlink(folder, dir_fd=fd)
        raise CopyError(
            f"{here} is a link to {where}, which is not followed: name the path that it leads to"
        ) from error
    os.close(fd)
    return below


def is_link(folder: int, name: str) -> bool:
    found = look(folder, name)
    return found is not None and stat.S_ISLNK(found.st_mode)


def look(folder: int, name: str) -> os.stat_result | None:
    """What is there, links as links; None where nothing is. Raises OSError."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


# -- measuring -----------------------------------------------------------------------------------


def measure(path: str) -> Size:
    """How much a copy would be; nothing where nothing is. Raises CopyError, OSError."""
    size = Size()
    for mount in _list_mounts():
        if mount == path or mount.startswith(f"{path.rstrip('/')}/"):
            where = "it" if mount == path else mount
            raise CopyError(
                f"{path} cannot be copied: a file system is mounted at {where}; name paths inside"
            )
    try:
        with open_parent(path) as (folder, name):
            _measure(_Spot(folder, name, path), size, 0)
    except FileNotFoundError:
        return Size()
    return size


def _list_mounts() -> list[str]:
    """Where file systems are mounted (proc(5), mountinfo: octal escapes)."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
        points = (line.split(b" ")[4].decode("latin-1") for line in lines)
        return [_unescape(point) for point in points]
    return []


def _unescape(text: str) -> str:
    raw = text.encode("latin-1").decode("unicode_escape").encode("latin-1")
    return os.fsdecode(raw)


def _measure(spot: _Spot, size: Size, depth: int) -> None:
    found = spot.look()
    if found is None:
        return
    size.entries += 1
    size.bytes += found.st_blocks * 512
    _check_bounds(size.entries, depth, spot.place)
    if stat.S_ISDIR(found.st_mode):
        with _opened(spot, _FOLDER) as fd:
            for entry in os.listdir(fd):  # noqa: PTH208 - of an open folder, which no path names
                _measure(spot.inside(fd, entry), size, depth + 1)


def _check_bounds(entries: int, depth: int, place: str) -> None:
    if entries > MAX_ENTRIES:
        raise CopyError(f"more than {count(MAX_ENTRIES, 'file')} up to {place}: name fewer")
    if depth > MAX_DEPTH:
        raise CopyError(f"{place} is more than {count(MAX_DEPTH, 'folder')} deep")


def can_share_blocks(folder: str) -> bool:
    """Whether copies inside this file system cost no room."""
    source = Path(folder) / f".share-{os.getpid()}-1"
    target = Path(folder) / f".share-{os.getpid()}-2"
    try:
        source.write_bytes(b"x" * 4096)
        with source.open("rb") as old, target.open("wb") as new:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
    except OSError:
        return False
    finally:
        for file in (source, target):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
    return True


# -- copying -------------------------------------------------------------------------------------


def copy(source: str, target: str) -> list[str] | None:
    """Copy a file, a link or a tree to a path where nothing is; sentences of what was left out.

    None where there is nothing to copy. Owners (for root), modes, times, extended attributes,
    holes and hard links are kept. A half-made copy is left for the caller to remove. Raises
    CopyError, OSError.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder, name = stack.enter_context(open_parent(source))
        except FileNotFoundError:
            return None
        found = look(folder, name)
        if found is None:
            return None
        into, new = stack.enter_context(open_parent(target))
        work = _Copying(found.st_dev, into)
        _copy(work, _Spot(folder, name, source), _Spot(into, new, new), 0)
        return work.skipped


def _copy(work: _Copying, old: _Spot, new: _Spot, depth: int) -> None:
    found = old.look()
    if found is None:
        return  # It went meanwhile.
    work.entries += 1
    _check_bounds(work.entries, depth, old.place)
    if found.st_dev != work.device:
        raise CopyError(f"{old.place} is on another file system: name paths inside")
    kind = stat.S_IFMT(found.st_mode)
    if kind in _SPECIAL:
        work.skipped.append(f"{old.place} is {_SPECIAL[kind]} and was not copied")
    elif kind == stat.S_IFLNK:
        target = os.readlink(old.name, dir_fd=old.folder)
        os.symlink(target, new.name, dir_fd=new.folder)
        _set_owner_and_time(new, found)
    elif kind == stat.S_IFDIR:
        _copy_folder(work, old, new, depth)
    else:
        _copy_file(work, old, new)


def _copy_folder(work: _Copying, old: _Spot, new: _Spot, depth: int) -> None:
    # Nobody else may reach into it before it is whole; what it is in the end comes last.
    os.mkdir(new.name, 0o700, dir_fd=new.folder)
    with _opened(old, _FOLDER) as source, _opened(new, _FOLDER) as target:
        for entry in os.listdir(source):  # noqa: PTH208 - of an open folder
            _copy(work, old.inside(source, entry), new.inside(target, entry), depth + 1)
        _copy_attributes(source, target)


def _copy_file(work: _Copying, old: _Spot, new: _Spot) -> None:
    with _opened(old, _READ) as source:
        found = os.fstat(source)
        if not stat.S_ISREG(found.st_mode):
            raise CopyError(f"{old.place} was exchanged while it was copied")
        inode = (found.st_dev, found.st_ino)
        if inode in work.linked:
            folders = {"src_dir_fd": work.top, "dst_dir_fd": new.folder}
            os.link(work.linked[inode], new.name, **folders, follow_symlinks=False)
            return
        with _opened(new, _MAKE) as target:
            copy_content(source, target, found.st_size)
            _copy_attributes(source, target)
        if found.st_nlink > 1:
            work.linked[inode] = new.place


@contextmanager
def _opened(spot: _Spot, flags: int) -> Iterator[int]:
    fd = os.open(spot.name, flags, 0o600, dir_fd=spot.folder)
    try:
        yield fd
    finally:
        os.close(fd)


def copy_content(old: int, new: int, size: int) -> None:
    """Share the blocks, or copy what is data and leave holes as holes."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(new, _FICLONE, old)
        return
    os.ftruncate(new, size)
    at = 0
    while at < size:
        try:
            start = os.lseek(old, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # A hole up to the end.
            raise
        end = os.lseek(old, start, os.SEEK_HOLE)
        os.lseek(old, start, os.SEEK_SET)
        os.lseek(new, start, os.SEEK_SET)
        at = _copy_range(old, new, start, end)


def _copy_range(old: int, new: int, start: int, end: int) -> int:
    while start < end:
        done = os.sendfile(new, old, start, min(_CHUNK, end - start))
        if not done:
            return end  # It was cut short meanwhile.
        start += done
    return start


def _copy_attributes(old: int, new: int) -> None:
    """Owner, then mode (chown takes set-user-id bits away), extended attributes, times."""
    found = os.fstat(old)
    if os.geteuid() == 0:
        os.fchown(new, found.st_uid, found.st_gid)
    os.fchmod(new, stat.S_IMODE(found.st_mode))
    with contextlib.suppress(OSError):  # A file system may have none, or not these.
        for item in os.listxattr(old):
            with contextlib.suppress(OSError):
                os.setxattr(new, item, os.getxattr(old, item))
    os.utime(new, ns=(found.st_atime_ns, found.st_mtime_ns))


def _set_owner_and_time(spot: _Spot, found: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.chown(spot.name, found.st_uid, found.st_gid, dir_fd=spot.folder, follow_symlinks=False)
    times = (found.st_atime_ns, found.st_mtime_ns)
    os.utime(spot.name, ns=times, dir_fd=spot.folder, follow_symlinks=False)


# -- moving and removing -------------------------------------------------------------------------


def exists(path: str) -> bool:
    """Whether anything is there, a link that leads nowhere included. Raises CopyError, OSError."""
    try:
        with open_parent(path) as (folder, name):
            return look(folder, name) is not None
    except FileNotFoundError:
        return False


def move(source: str, target: str) -> bool:
    """Rename, within one file system; False where the two are on different ones. Raises OSError."""
    with open_parent(source) as (folder, name), open_parent(target) as (into, new):
        try:
            os.rename(name, new, src_dir_fd=folder, dst_dir_fd=into)
        except OSError as error:
            if error.errno == errno.EXDEV:
                return False
            raise
        return True


def remove(path: str) -> None:
    """Remove what is there, whatever it is; nothing is fine. Raises CopyError, OSError."""
    with contextlib.suppress(FileNotFoundError), open_parent(path) as (folder, name):
        found = look(folder, name)
        if found is None:
            return
        if stat.S_ISDIR(found.st_mode):
            import shutil

            # No path that others could turn leads there; rmtree itself follows no link.
            shutil.rmtree(f"/proc/self/fd/{folder}/{name}")
        else:
            os.unlink(name, dir_fd=folder)
