"""One writer per host: a lock file that the kernel lets go of however its holder ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ya_salt.errors import LockHeldError, StoreError

FILE_NAME = "lock"


@contextmanager
def hold_lock(state_dir: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the pass lock, waiting up to `wait_s` seconds for another pass to end.

    Raises LockHeldError where it does not, StoreError where the state directory cannot be written.
    """
    path = Path(state_dir) / FILE_NAME
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror}; run as root, or give --state-dir"
        ) from error
    try:
        _lock(fd, path, time.monotonic() + wait_s)
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(fd)


def _lock(fd: int, path: Path, give_up: float) -> None:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= give_up:
                holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
                raise LockHeldError(
                    f"another pass is running (pid {holder or 'unknown'} holds {path}); "
                    "it will do the work, or try again when it has ended"
                ) from error
            time.sleep(0.1)
        else:
            return
