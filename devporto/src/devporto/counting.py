"""What processes use, asked again and again: the files of /proc that tell it stay open.

To open one takes as long as to read it ten times, and each is of one process: once that is gone it
tells of none, whoever has its number by then.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from typing import NamedTuple

from devporto.kernel import HAS_CHILDREN_FILE, list_children

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_READ_BYTES = 4096
_SURELY_ALL_BYTES = _READ_BYTES - 32
"""The kernel ends before a number that would not fit: a longer list may go on."""


class Sample(NamedTuple):
    """A sum over processes."""

    processes: int = 0
    threads: int = 0
    cpu_user_ns: int = 0
    cpu_system_ns: int = 0
    minor_faults: int = 0
    major_faults: int = 0
    rss_bytes: int = 0


class KeptFile:
    """A file of /proc, kept open as long as there is room for it."""

    __slots__ = ("_fd", "_path")
    room = 0
    """How many more may be kept open, by all together."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            KeptFile.room += 1

    def read(self) -> bytes:
        """The beginning of it. Raises OSError where the process is gone."""
        if self._fd >= 0:
            return os.pread(self._fd, _READ_BYTES, 0)
        fd = os.open(self._path, os.O_RDONLY)
        if KeptFile.room > 0:
            KeptFile.room -= 1
            self._fd = fd
            return os.pread(fd, _READ_BYTES, 0)
        try:
            return os.read(fd, _READ_BYTES)
        finally:
            os.close(fd)


def make_room() -> None:
    """Let this process have as many files open as it may, and use half of them here."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    KeptFile.room = most // 2


class Process:
    """One process, and those that it has forked."""

    __slots__ = ("_below", "_children", "_stat", "_told", "pid")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._begin()

    def _begin(self) -> None:
        self._stat = KeptFile(f"/proc/{self.pid}/stat")
        self._children = KeptFile(f"/proc/{self.pid}/task/{self.pid}/children")
        self._told = b""
        self._below: list[Process] = []

    def count_as_init(self) -> Sample:
        """All that have come from it; itself, of one thread, as one that uses nothing."""
        totals = [1, 1, 0, 0, 0, 0, 0]
        found = [*self._find_below(has_threads=False)]
        for process in found:
            found += process._add(totals)
        return Sample._make(totals)

    def _find_below(self, *, has_threads: bool) -> Sequence[Process]:
        told = self._tell_children(has_threads=has_threads)
        if told != self._told:
            known = {process.pid: process for process in self._below}
            self._below = [known.get(pid) or Process(pid) for pid in map(int, told.split())]
            self._told = told
        return self._below

    def _tell_children(self, *, has_threads: bool) -> bytes:
        """Their numbers, a blank after each."""
        if not has_threads and HAS_CHILDREN_FILE:
            try:
                told = self._children.read()
            except OSError:
                return b""
            if len(told) <= _SURELY_ALL_BYTES:
                return told
        return b"".join(b"%d " % pid for pid in list_children(self.pid))

    def _add(self, totals: list[int]) -> Sequence[Process]:
        """Add it, if it is there; its children. See proc(5), `stat`."""
        line = self._read_stat()
        if not line:
            return ()
        words = line[line.rindex(b")") + 2 :].split(None, 23)
        threads = int(words[17])
        if words[0] != b"Z":
            totals[0] += 1
            totals[1] += threads
            totals[2] += int(words[11]) * _TICK_NS
            totals[3] += int(words[12]) * _TICK_NS
            totals[4] += int(words[7])
            totals[5] += int(words[9])
            totals[6] += int(words[21]) * _PAGE
        return self._find_below(has_threads=threads > 1)

    def _read_stat(self) -> bytes:
        """Empty where it is gone."""
        try:
            return self._stat.read()
        except OSError:
            # Another one of that number, if there is one.
            self._begin()
        try:
            return self._stat.read()
        except OSError:
            return b""
