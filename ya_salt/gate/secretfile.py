"""Read a password from a file that nobody else can read. Its text is never in an error."""

from __future__ import annotations

import errno
import os
import stat

from ya_salt.errors import GateError
from ya_salt.trusted_files import UntrustedError, open_trusted

MAX_BYTES = 4096
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def read_secret(path: str) -> str:
    """The file's one line, without its end of line.

    Raises GateError (GateRefused: trying again changes nothing) where there is no such file, it is
    no regular one or a link, its group or others can read or write it, others could put another one
    into its place, or it holds anything else than one line of 1 to 4096 bytes.
    """
    try:
        folder = open_trusted(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)  # noqa: PTH120
        try:
            file = os.open(os.path.basename(path), _FLAGS, dir_fd=folder)  # noqa: PTH119
        finally:
            os.close(folder)
    except UntrustedError as error:
        raise _refuse(path, f"can be replaced by others: {error}") from error
    except OSError as error:
        raise _refuse(path, _explain(error)) from error
    try:
        _check(path, os.fstat(file))
        data = os.read(file, MAX_BYTES + 1)
    except OSError as error:
        raise _refuse(path, _explain(error)) from error
    finally:
        os.close(file)
    return _parse(path, data)


def _check(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise _refuse(path, "is no regular file; write the password into one")
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise _refuse(path, "is open to more than its owner; chmod 600 it")
    if found.st_uid not in {0, os.geteuid()}:
        raise _refuse(path, f"belongs to user {found.st_uid}, who could change it; chown root it")


def _parse(path: str, data: bytes) -> str:
    """A NUL, a line in between or bytes that are no text would end up in a header."""
    try:
        text = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        # Not chained: its text shows the bytes.
        raise _refuse(path, "is no UTF-8 text; write the password on one line") from None
    if len(data) > MAX_BYTES or not text.isprintable():
        raise _refuse(path, f"holds more than one line of {MAX_BYTES} bytes; write one")
    if not text:
        raise _refuse(path, "is empty; write the password into it")
    return text


def _explain(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "is a symbolic link, which is not followed; name the file itself"
    return f"cannot be read: {error.strerror}; see the setting gate.password_file"


def _refuse(path: str, words: str) -> GateError:
    return GateError(f"the password file {path} {words}", "GateRefused")
