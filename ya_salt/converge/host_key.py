"""The host's own secret, with which hashes of secrets are made."""

from __future__ import annotations

import os
import stat
from pathlib import Path

FILE_NAME = "secret.key"
_LENGTH = 32
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def load_key(state_dir: str) -> bytes:
    """The key; empty where there is none, it cannot be read, or somebody else could have.

    Without it nothing is known of whether secrets changed, and nothing is done about them.
    """
    try:
        file = os.open(f"{state_dir}/{FILE_NAME}", _READ)
    except OSError:
        return b""
    try:
        found = os.fstat(file)
        is_ours = stat.S_ISREG(found.st_mode) and found.st_uid in {0, os.geteuid()}
        if not is_ours or found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return b""
        key = os.read(file, _LENGTH + 1)
        return key if len(key) == _LENGTH else b""
    except OSError:
        return b""
    finally:
        os.close(file)


def make_key(state_dir: str) -> bytes:
    """The key, made where there is none that can be used; empty where it cannot be kept."""
    key = load_key(state_dir)
    if key:
        return key
    path, fresh = f"{state_dir}/{FILE_NAME}", os.urandom(_LENGTH)
    temporary = f"{path}.{os.urandom(8).hex()}"
    try:
        file = os.open(temporary, _MAKE, 0o600)
        try:
            os.write(file, fresh)
            os.fsync(file)
        finally:
            os.close(file)
        Path(temporary).rename(path)
    except OSError:
        return b""
    return load_key(state_dir)
