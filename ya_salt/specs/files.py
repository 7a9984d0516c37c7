"""Open spec files without trusting what lies in the directory. Reads only.

What a spec says runs as root, so a file that somebody else could have written is no spec.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ya_salt.quick_dataclass import dataclass
from ya_salt.trusted_files import find_problem

MAX_BYTES = 1 << 20
ENDINGS = (".yml", ".yaml", ".json")
_LEFTOVERS = (
    *("~", ".bak", ".old", ".orig", ".rej", ".save", ".swp", ".swo", ".tmp"),
    *(f".dpkg-{end}" for end in ("new", "old", "dist", "tmp", "bak", "remove", "divert")),
    *(".ucf-new", ".ucf-old", ".ucf-dist", ".rpmnew", ".rpmorig", ".rpmsave"),
)
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class RefusedFileError(Exception):
    """A file that is not read; the text says why and what to do."""


@dataclass(frozen=True)
class Guard:
    """Who may have written a spec. Checks only for root: nobody else can harm the host."""

    uid: int

    def problem(self, found: os.stat_result, path: str) -> str:
        """Say how the file or directory is too open, or ""."""
        return find_problem(found, path, self.uid) if self.uid == 0 else ""


def why_ignored(name: str) -> str:
    """Tell why a name is not a spec file's, or ""."""
    if name.startswith("."):
        return "a hidden file"
    if name.endswith(_LEFTOVERS) or (name.startswith("#") and name.endswith("#")):
        return "a leftover of an editor or of a package manager"
    if not name.endswith(ENDINGS):
        return "not a spec file: their names end in .yml, .yaml or .json"
    return ""


_TYPES = (
    (stat.S_ISLNK, "a symbolic link, which is not followed; put the file itself here"),
    (stat.S_ISFIFO, "a FIFO; put a regular file here"),
    (stat.S_ISSOCK, "a socket; put a regular file here"),
    (stat.S_ISCHR, "a device; put a regular file here"),
    (stat.S_ISBLK, "a device; put a regular file here"),
)


def check_type(found: os.stat_result) -> None:
    for is_type, words in _TYPES:
        if is_type(found.st_mode):
            raise RefusedFileError(f"is {words}")


def read_entry(name: str, path: str, folder: int, guard: Guard) -> tuple[bytes, str]:
    """Read one file of an open directory, and say how it is too open, or "".

    The name may be anything but is never followed. A file that is too open is read all the same:
    it may not run anything, but it tells which daemon is without a spec.
    """
    check_type(os.stat(name, dir_fd=folder, follow_symlinks=False))
    return _read(os.open(name, _FLAGS, dir_fd=folder), path, guard)


def read_path(path: str) -> bytes:
    """Read a file that somebody named on purpose: links are followed, anybody may own it."""
    check_type(Path(path).stat())
    return _read(os.open(path, _FLAGS & ~os.O_NOFOLLOW), path, Guard(uid=-1))[0]


def read_itself(path: str) -> bytes:
    """Read a file that somebody named, unless a link stands in its place; anybody may own it."""
    check_type(Path(path).lstat())
    return _read(os.open(path, _FLAGS), path, Guard(uid=-1))[0]


STDIN = "-"
"""The name of standard input where files are named."""


def read_stdin() -> bytes:
    """Read standard input like a file, within the same limit; it stays open."""
    return _read_limited(0)


def _read(file: int, path: str, guard: Guard) -> tuple[bytes, str]:
    try:
        found = os.fstat(file)
        # The name may have become something else since it was looked at.
        check_type(found)
        return _read_limited(file), guard.problem(found, path)
    finally:
        os.close(file)


def _read_limited(file: int) -> bytes:
    """Read at most one byte over the limit, which the parser then refuses."""
    chunks: list[bytes] = []
    left = MAX_BYTES + 1
    while left and (chunk := os.read(file, left)):
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)
