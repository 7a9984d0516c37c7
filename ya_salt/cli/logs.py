"""The log file, and a container's own output."""

from __future__ import annotations

import logging
import logging.handlers
import sys
import time
from pathlib import Path
from typing import TextIO

from ya_salt.porto.client import PortoClient

_FORMAT = "%(asctime)s %(levelname)s [%(process)d] %(message)s"
_POLL_S = 0.5


def open_log(path: str) -> None:
    """Send the log to `path`, following the name when logrotate moves the file away.

    A log that cannot be written is said once on stderr and stops nothing.
    """
    root = logging.getLogger("ya_salt")
    root.setLevel(logging.INFO)
    root.propagate = False
    handler: logging.Handler
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.WatchedFileHandler(path, encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"ya-salt: cannot write the log {path}: {error.strerror}\n")
        handler = logging.NullHandler()
    handler.setFormatter(make_formatter())
    root.handlers[:] = [handler]


def make_formatter() -> logging.Formatter:
    """The shape of a line of the log: UTC, level, process, words."""
    formatter = logging.Formatter(_FORMAT, "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    return formatter


def show_output(client: PortoClient, name: str, lines: int, *, follow: bool) -> None:
    """Print the last `lines` lines of stdout and stderr, each to its own stream.

    With `follow` go on with what comes after, also from a new container of that name, until
    interrupted. Raises PortoError.
    """
    pipes = [_Pipe(client, name, "stdout", sys.stdout), _Pipe(client, name, "stderr", sys.stderr)]
    shown = [pipe.show_tail(lines) for pipe in pipes]
    if not any(shown) and not follow:
        state = client.get_property(name, "state")
        sys.stderr.write(f"ya-salt: container {name} is {state} and has no output\n")
    while follow:
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
        self._id = ""
        self._end = 0

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
        self._stream.buffer.write(data)
        self._stream.buffer.flush()
