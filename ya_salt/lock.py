"""One writer per host: a lock that the kernel lets go of however its holder ends.

Two are held: of the state directory, which needs no room on the disk, and of the lock file, which
says who holds it. Where the directory cannot even be made, the nearest one above it stands in.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ya_salt import as_left
from ya_salt.errors import LockHeldError, StoreError
from ya_salt.store import is_operators
from ya_salt.trusted_files import explain, make_directory, open_trusted

FILE_NAME = "lock"
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@contextmanager
def hold_lock(state_dir: str, wait_s: float = 0.0) -> Iterator[dict[str, Any] | None]:
    """Hold the pass lock, waiting up to `wait_s` seconds for another pass to end.

    Its value is the snapshot that the last pass has left, if any (`as_left.read`): it is gone now.

    A full or broken disk is no reason not to. Raises LockHeldError where another pass does not end,
    StoreError where the state directory cannot be ours, UntrustedError where it may be somebody
    else's.
    """
    path = Path(state_dir) / FILE_NAME
    with contextlib.ExitStack() as held:
        give_up = time.monotonic() + wait_s
        try:
            folder = _open_directory(state_dir)
            held.callback(os.close, folder)
            file = _open_file(path)
        except OSError as error:
            raise StoreError(
                f"cannot write {path}: {explain(error)}; run as root, or give --state-dir"
            ) from error
        _lock(folder, path, give_up)
        if file is not None:
            held.callback(os.close, file)
            _lock(file, path, give_up)
            _say_who(file)
        # What the quick way goes by is over as soon as somebody may change something.
        yield as_left.take(state_dir)


def _open_directory(state_dir: str) -> int:
    try:
        make_directory(state_dir, 0o700)
        return open_trusted(state_dir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if is_operators(error):
            raise
        there = next(folder for folder in Path(state_dir).parents if folder.is_dir())
        return os.open(there, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _open_file(path: Path) -> int | None:
    """None where there is none and no room for one."""
    for flags in (os.O_CREAT | os.O_RDWR, os.O_RDONLY):
        try:
            return os.open(path, flags | _FLAGS, 0o600)
        except OSError as error:
            if is_operators(error):
                raise
    return None


def _lock(fd: int, path: Path, give_up: float) -> None:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= give_up:
                raise LockHeldError(
                    f"another pass is running (pid {_read_who(path)} holds {path}); "
                    "it will do the work, or try again when it has ended"
                ) from error
            time.sleep(0.1)
        else:
            return


def _say_who(fd: int) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)


def _read_who(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        text = path.read_bytes()[:32].decode().strip()
        return text if text.isdecimal() else "unknown"
    return "unknown"
