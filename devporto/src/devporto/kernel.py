"""What libc and /proc offer and Python does not. Standard library only: the keeper imports it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_WRDE_NOCMD = 4
_WRDE_UNDEF = 32
_WORDEXP_ERRORS = {
    2: "illegal newline or one of | & ; < > ( ) { }",
    3: "undefined variable",
    4: "command substitution is not supported",
    5: "syntax error",
}


class _WordExp(ctypes.Structure):
    _fields_ = (
        ("count", ctypes.c_size_t),
        ("words", ctypes.POINTER(ctypes.c_char_p)),
        ("offset", ctypes.c_size_t),
    )


class WordExpError(ValueError):
    """wordexp(3) refused the command line."""


def become_subreaper() -> None:
    """Orphans below this process come to it, not to init."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(sig: int) -> None:
    """Receive `sig` when the parent ends. A change of credentials forgets it."""
    _prctl(_PR_SET_PDEATHSIG, sig)


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def split_words(command: str) -> list[bytes]:
    """Expand `command` as portod does: wordexp(3), without commands, undefined variables refused.

    Uses the environment and the directory of the calling process. Raises WordExpError.
    """
    result = _WordExp()
    code = _LIBC.wordexp(os.fsencode(command), ctypes.byref(result), _WRDE_NOCMD | _WRDE_UNDEF)
    if code:
        raise WordExpError(_WORDEXP_ERRORS.get(code, f"error {code}"))
    return [result.words[index] or b"" for index in range(result.count)]


_HAS_CHILDREN_FILE = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists()


def list_children(pid: int) -> list[int]:
    """Direct children, also those forked by other threads. Empty where `pid` is gone."""
    if not _HAS_CHILDREN_FILE:
        return _scan_children(pid)
    found: list[int] = []
    with contextlib.suppress(OSError):
        for tid in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - ten times faster
            found += map(int, _read(f"/proc/{pid}/task/{tid}/children").split())
    return found


def list_descendants(pid: int) -> list[int]:
    """All below `pid`, parents before children."""
    found = list_children(pid)
    for child in found:
        found.extend(list_children(child))
    return found


def kill_quietly(pid: int, sig: int) -> None:
    """Send a signal to a process that may be gone, or may not be ours."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, sig)


def kill_descendants(pid: int) -> int:
    """SIGKILL everything below `pid`; how many there were. Repeat until it returns 0."""
    found = list_descendants(pid)
    for child in found:
        kill_quietly(child, signal.SIGKILL)
    return len(found)


def signal_descendants(pid: int, sig: int) -> None:
    """Send `sig` to everything below `pid`, again while new ones turn up (they fork)."""
    seen: set[int] = set()
    while fresh := set(list_descendants(pid)) - seen:
        for child in fresh:
            kill_quietly(child, sig)
        seen |= fresh


def is_stopped(pid: int) -> bool:
    """Tell whether a process runs no more: stopped, traced, dead or gone."""
    try:
        return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[0] in b"TtZX"
    except (OSError, IndexError):
        return True


def read_parent(pid: int) -> int:
    """Find the parent of `pid`, 0 where it is gone."""
    try:
        return int(_read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _scan_children(pid: int) -> list[int]:
    every = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    return [other for other in every if read_parent(other) == pid]


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        data = os.read(fd, 65536)
        while len(data) % 65536 == 0 and (more := os.read(fd, 65536)):
            data += more
        return data
    finally:
        os.close(fd)
