"""Hear what happens in directories: Linux's inotify(7), which the standard library lacks.

Directories only, never files: a file that is replaced by another of its name takes its watch along.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator

from ya_salt.quick_dataclass import dataclass

MODIFY = 0x00000002
ATTRIB = 0x00000004
CLOSE_WRITE = 0x00000008
MOVED_FROM = 0x00000040
MOVED_TO = 0x00000080
CREATE = 0x00000100
DELETE = 0x00000200
DELETE_SELF = 0x00000400
MOVE_SELF = 0x00000800
UNMOUNT = 0x00002000
OVERFLOW = 0x00004000
IGNORED = 0x00008000
ISDIR = 0x40000000
_ONLYDIR = 0x01000000
_EXCL_UNLINK = 0x04000000

CHANGES = (
    MODIFY
    | ATTRIB
    | CLOSE_WRITE
    | MOVED_FROM
    | MOVED_TO
    | CREATE
    | DELETE
    | DELETE_SELF
    | MOVE_SELF
)
"""What is asked of every directory."""

_HEAD = struct.Struct("iIII")
_BUFFER = 1 << 16
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Event:
    """One message. `watch` is -1 for OVERFLOW, `name` is "" for the directory itself."""

    watch: int
    mask: int
    name: str


class Inotify:
    """One inotify instance. Raises OSError (EMFILE, ENOSPC: the kernel's limits are reached)."""

    def __init__(self) -> None:
        self._fd = _check(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def add(self, directory: str) -> int:
        """Watch a directory; the same number where it is watched already. Raises OSError."""
        mask = CHANGES | _ONLYDIR | _EXCL_UNLINK
        return _check(_libc.inotify_add_watch(self._fd, os.fsencode(directory), mask))

    def remove(self, watch: int) -> None:
        """It may be gone already, with its directory."""
        _libc.inotify_rm_watch(self._fd, watch)

    def read(self) -> Iterator[Event]:
        """Everything that has come so far; never waits."""
        while True:
            try:
                data = os.read(self._fd, _BUFFER)
            except BlockingIOError:
                return
            yield from _parse(data)


def _parse(data: bytes) -> Iterator[Event]:
    offset = 0
    while offset < len(data):
        watch, mask, _cookie, length = _HEAD.unpack_from(data, offset)
        offset += _HEAD.size
        name = data[offset : offset + length].rstrip(b"\0")
        offset += length
        yield Event(watch, mask, os.fsdecode(name))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
