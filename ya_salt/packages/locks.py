"""Who holds apt's and dpkg's locks, and waiting until they let go."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from ya_salt.errors import PackageError
from ya_salt.quick_dataclass import dataclass

_POLL_S = 0.2
_REMIND_S = 10.0
# struct flock of fcntl(2): type, whence, start, length, pid.
_FLOCK = "hhqqi4x"


@dataclass(frozen=True)
class LockHolder:
    """A process with a lock. `pid` is 0 where it lives in another pid namespace."""

    path: Path
    pid: int
    command: str

    def __str__(self) -> str:
        who = f"process {self.pid} ({self.command})" if self.pid else "a process we cannot see"
        return f"{who} holds {self.path}"


def find_holder(paths: Iterable[Path]) -> LockHolder | None:
    """Find the first lock that another process holds. A missing file is a free lock."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                pid = _ask(descriptor)
            finally:
                os.close(descriptor)
            if pid is not None:
                return LockHolder(path, pid, _read_command(pid))
    return None


def wait_for_locks(
    paths: Iterable[Path], timeout_s: float, progress: Callable[[str], None]
) -> None:
    """Wait until all are free; raise PackageError (LockHeld) when the time is over."""
    every = tuple(paths)
    started = time.monotonic()
    told = -_REMIND_S
    while holder := find_holder(every):
        waited = time.monotonic() - started
        if waited >= timeout_s:
            raise held_too_long(holder, timeout_s)
        if waited - told >= _REMIND_S:
            progress(f"waiting up to {timeout_s - waited:.0f} s: {holder}")
            told = waited
        time.sleep(min(_POLL_S, timeout_s - waited))


def held_too_long(holder: LockHolder | None, timeout_s: float) -> PackageError:
    who = str(holder) if holder else "another process holds a lock of apt"
    return PackageError(
        "LockHeld",
        f"{who} and did not let go in {timeout_s:.0f} s: nothing was changed, the next pass tries "
        "again; if it hangs, look at that process",
    )


def _ask(descriptor: int) -> int | None:
    question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    return None if answer[0] == fcntl.F_UNLCK else max(answer[4], 0)


def _read_command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return "gone"
    text = b" ".join(words).decode(errors="replace")
    # One line whatever its arguments hold: it goes into the log and onto a terminal.
    return "".join(c if c.isprintable() else " " for c in text)[:120] or "kernel thread"
