"""What libc and /proc offer and Python does not. Standard library only: the keeper imports it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_CAP_AMBIENT_RAISE = 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_SECBIT_KEEP_CAPS = 1 << 4
_CAP_SETPCAP = 8
_CAPABILITY_VERSION = 0x20080522
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


def _prctl(option: int, value: int, third: int = 0) -> None:
    if _LIBC.prctl(option, value, third, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def _list_bits(mask: int) -> list[int]:
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]


def limit_capabilities(bound: int) -> None:
    """Let this process and its children never have others, as far as the kernel lets us say so."""
    drop = ~bound & (1 << 41) - 1
    # The right to drop goes last.
    for bit in sorted(_list_bits(drop), key=lambda bit: bit == _CAP_SETPCAP):
        with contextlib.suppress(OSError):
            _prctl(_PR_CAPBSET_DROP, bit)


@contextlib.contextmanager
def keep_capabilities() -> Iterator[None]:
    """Keep them over a change of user; exec takes away what is not ambient."""
    with contextlib.suppress(OSError):
        _prctl(_PR_SET_SECUREBITS, _SECBIT_KEEP_CAPS | _SECBIT_NO_SETUID_FIXUP)
    yield
    with contextlib.suppress(OSError):
        _prctl(_PR_SET_SECUREBITS, 0)


def raise_capabilities(ambient: int) -> None:
    """Give these to whatever is executed, whoever it runs as. Raises OSError."""
    if not ambient:
        return
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    # Effective, permitted, inheritable: the low halves, then the high ones.
    data = (ctypes.c_uint32 * 6)()
    if _LIBC.capget(header, data):
        raise OSError(ctypes.get_errno(), "capget")
    data[2], data[5] = ambient & 0xFFFFFFFF, ambient >> 32
    if _LIBC.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")
    for bit in _list_bits(ambient):
        _prctl(_PR_CAP_AMBIENT, _CAP_AMBIENT_RAISE, bit)


def split_words(command: str) -> list[bytes]:
    """Expand `command` as portod does: wordexp(3), without commands, undefined variables refused.

    Uses the environment and the directory of the calling process. Raises WordExpError.
    """
    result = _WordExp()
    code = _LIBC.wordexp(os.fsencode(command), ctypes.byref(result), _WRDE_NOCMD | _WRDE_UNDEF)
    if code:
        raise WordExpError(_WORDEXP_ERRORS.get(code, f"error {code}"))
    return [result.words[index] or b"" for index in range(result.count)]


HAS_CHILDREN_FILE = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists()


def list_children(pid: int) -> list[int]:
    """Direct children, also those forked by other threads. Empty where `pid` is gone."""
    if not HAS_CHILDREN_FILE:
        return _scan_children(pid)
    found: list[int] = []
    with contextlib.suppress(OSError):
        for tid in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - ten times faster
            found += map(int, _read(f"/proc/{pid}/task/{tid}/children").split())
    return found


def apply_schedule(tid: int, policy: int, nice: int) -> None:
    """Order a thread among others. What takes root is left out where that is missing."""
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, tid, nice)
        os.sched_setscheduler(tid, policy, os.sched_param(0))


def list_threads(pid: int) -> list[int]:
    """The threads of a process. Empty where it is gone."""
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208 - faster
    return []


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
        data = b""
        # A list is told a page at a time, however much is asked for.
        while more := os.read(fd, 65536):
            data += more
        return data
    finally:
        os.close(fd)
