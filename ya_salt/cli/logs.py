"""The log file, and a container's own output."""

from __future__ import annotations

import codecs
import logging
import os
import re
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ya_salt.cli.output import complain, find_break
from ya_salt.text import escape, escape_lines

if TYPE_CHECKING:
    from ya_salt.porto.client import PortoClient

_POLL_S = 0.5
_MODE = 0o640
"""Daemons' last words are in it: not for everybody, whatever the umask is."""

# -- the log -------------------------------------------------------------------------------------


def open_log(path: str) -> LogFile:
    """Send the log to `path` alone. Its `problem` is for the end: it stops nothing."""
    root = logging.getLogger("ya_salt")
    root.setLevel(logging.INFO)
    root.propagate = False
    handler = LogFile(path)
    root.handlers[:] = [handler]
    return handler


class LogFile(logging.Handler):
    """Append records to a file, in UTF-8, each in one piece; follow its name when it is rotated.

    Links are not followed. Never raises and never waits: `problem` is why a record could not be
    written, "" while all could. Each record is tried anew, so that a log which can be written
    again goes on.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.setFormatter(LineFormatter())
        self._path = path
        self._fd = -1
        self._is_torn = False
        self.problem = ""
        try:
            self._reopen()
        except Exception as error:  # noqa: BLE001 - whatever it is, it stops nothing
            self._note(error)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))
        except Exception as error:  # noqa: BLE001 - whatever it is, it stops nothing
            self._note(error)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        super().close()

    def _note(self, error: Exception) -> None:
        words = getattr(error, "strerror", None) or str(error) or repr(error)
        self.problem = self.problem or f"the log {self._path} could not be written: {words}"

    def _write(self, data: bytes) -> None:
        if not self._is_current():
            self._reopen()
        if self._is_torn:
            data = b"\n" + data
        while data:
            written = os.write(self._fd, data)
            data = data[written:]
            self._is_torn = bool(data)

    def _is_current(self) -> bool:
        """Whether what is open is still what has the name."""
        if self._fd < 0:
            return False
        try:
            named = os.stat(self._path, follow_symlinks=False)  # noqa: PTH116 - the same as below
        except FileNotFoundError:
            return False
        ours = os.fstat(self._fd)
        return (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)

    def _reopen(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        Path(self._path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._fd = _open_for_appending(self._path)
        self._is_torn = False


def _open_for_appending(path: str) -> int:
    """Raises OSError, also where it is neither a file nor a device such as /dev/null."""
    # Non-blocking: nobody may be at the other end of a pipe.
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, _MODE)
    except FileExistsError:
        if Path(path).is_symlink():
            raise OSError(0, "it is a link, which is not followed; name the file itself") from None
        fd = os.open(path, flags)
    else:
        os.fchmod(fd, _MODE)
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):
        os.close(fd)
        raise OSError(0, "it is not a file")
    return fd


class LineFormatter(logging.Formatter):
    """UTC, level, process, words; every line of a record has all of it.

    A record about a daemon begins with `porto-daemon-NAME: `, and so does each of its lines: grep
    for it tells the whole story. What could steer a terminal is written out.
    """

    _DAEMON = re.compile(r"porto-daemon-\S+?: ")

    def __init__(self) -> None:
        super().__init__("%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        head = f"{moment} {record.levelname} [{record.process}] "
        first, *more = super().format(record).splitlines() or [""]
        found = self._DAEMON.match(first)
        daemon = found[0] if found else ""
        return "\n".join(
            [head + escape(first), *(f"{head}{daemon}  {escape(line)}" for line in more)]
        )


# -- what a daemon writes ------------------------------------------------------------------------


def show_output(client: PortoClient, name: str, lines: int, *, follow: bool) -> None:
    """Print the last `lines` lines of stdout and stderr, each to its own stream.

    With `follow` go on with what comes after, also from a new container of that name, until
    interrupted or nobody listens any more. A terminal gets escapes in place of what could steer it,
    a pipe the very bytes. Raises PortoError.
    """
    pipes = [_Pipe(client, name, "stdout", sys.stdout), _Pipe(client, name, "stderr", sys.stderr)]
    shown = [pipe.show_tail(lines) for pipe in pipes]
    if not any(shown) and not follow:
        state = client.get_property(name, "state")
        complain(f"ya-salt: container {name} is {state} and has no output")
    while follow and any(pipe.is_heard() for pipe in pipes):
        time.sleep(_POLL_S)
        for pipe in pipes:
            pipe.show_new()


class _Pipe:
    """One stream of one daemon, and how far it has been shown."""

    def __init__(self, client: PortoClient, name: str, variable: str, stream: TextIO) -> None:
        self._client = client
        self._name = name
        self._variable = variable
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._id = ""
        self._end = 0

    def is_heard(self) -> bool:
        return find_break(self._stream) is None

    def show_tail(self, lines: int) -> bool:
        data = self._take() or b""
        kept = data.splitlines(keepends=True)[-lines:] if lines else []
        self._emit(b"".join(kept))
        return bool(data)

    def show_new(self) -> None:
        self._emit(self._take() or b"")

    def _take(self) -> bytes | None:
        found = self._client.read_output(self._name, self._variable, self._end)
        if found is None:
            return None
        container, start, data = found
        if self._id and container != self._id:
            # A new container counts its bytes from 0 again.
            self._id, self._end = "", 0
            return self._take()
        self._id, self._end = container, start + len(data)
        return data

    def _emit(self, data: bytes) -> None:
        self._stream.flush()
        if self._stream.isatty():
            self._stream.write(escape_lines(self._decoder.decode(data)))
            self._stream.flush()
        else:
            self._stream.buffer.write(data)
            self._stream.buffer.flush()
