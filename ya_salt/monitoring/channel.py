"""Post one JSON body to one URL within a time limit, whatever the other end does. No proxies.

The limit holds for everything together: connecting, a slow answer, an endless body. Whoever started
the thread calls `abort` when time is over, which wakes it wherever it hangs.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from urllib3.connection import HTTPConnection

_MAX_ANSWER_BYTES = 1 << 20
_HEADERS = {"Content-Type": "application/json", "User-Agent": "ya-salt", "Connection": "close"}


class AbsentError(Exception):
    """Nobody listens there: nothing was sent."""


class RefusedError(Exception):
    """It did not take what we sent, and we know that."""


class UnansweredError(Exception):
    """It was sent, and no answer came."""


@dataclass(frozen=True)
class Answer:
    """HTTP status and body; None for a body that did not end in time or is too long."""

    status: int
    body: bytes | None

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def parse(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return json.loads(self.body or b"null")
        except ValueError:
            return None

    def describe(self) -> str:
        """Status and the beginning of the body, on one line."""
        words = " ".join((self.body or b"").decode(errors="replace").split())[:200]
        return f"it answered {self.status} {words}".rstrip()


class Channel:
    """The way of one sink to its server, for the time of one report."""

    def __init__(self, deadline: float) -> None:
        """`deadline` is a moment of `time.monotonic`."""
        self._deadline = deadline
        self._socket: socket.socket | None = None
        self._is_over = False

    def abort(self) -> None:
        """Time is over. May be called from any thread, at any time."""
        self._is_over = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def seconds_left(self) -> float:
        return 0.0 if self._is_over else max(0.0, self._deadline - time.monotonic())

    def post(
        self, url: str, payload: object, before_send: Callable[[], None] | None = None
    ) -> Answer:
        """Raises AbsentError, RefusedError, UnansweredError.

        `before_send` is called when somebody listens and nothing has been sent yet.
        """
        parts = urlsplit(url)
        body = json.dumps(payload, ensure_ascii=False).encode(errors="replace")
        self._socket = self._connect(parts)
        try:
            connection = self._wrap(parts, self._socket)
            if before_send is not None:
                before_send()
            self._send(connection, parts, body)
            return self._receive(connection)
        finally:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    def _connect(self, parts: SplitResult) -> socket.socket:
        where = f"nobody listens on {parts.scheme}://{parts.netloc}"
        port = parts.port or (443 if parts.scheme == "https" else 80)
        left = self.seconds_left()
        if not left:
            raise AbsentError(f"{where}: no time was left to try")
        try:
            return socket.create_connection((parts.hostname or "", port), timeout=left)
        except (OSError, UnicodeError) as error:
            words = "no answer in time" if isinstance(error, TimeoutError) else _explain(error)
            raise AbsentError(f"{where}: {words}") from error

    def _wrap(self, parts: SplitResult, connected: socket.socket) -> HTTPConnection:
        """urllib3 on our own socket, which we can shut down from another thread."""
        # Only hosts on which somebody listens pay for it.
        from urllib3.connection import HTTPConnection, HTTPSConnection  # noqa: PLC0415

        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self.seconds_left() or 0.001)
        connection._new_conn = lambda: connected  # type: ignore[method-assign]
        try:
            connection.connect()
        except _list_failures() as error:
            raise RefusedError(f"no connection: {_explain(error)}") from error
        # With TLS it is another object than ours, which no longer holds the descriptor.
        self._socket = connection.sock or connected
        return connection

    def _send(self, connection: HTTPConnection, parts: SplitResult, body: bytes) -> None:
        if not self.seconds_left():
            raise RefusedError("there was no time left to send anything")
        # No body is read before we ask for it; urllib3 1.26 (Debian 12) does not know how to.
        knows = type(connection).request.__kwdefaults__ or {}
        later = {"preload_content": False} if "preload_content" in knows else {}
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request("POST", path, body=body, headers=_HEADERS, **later)
        except _list_failures() as error:
            raise RefusedError(f"it did not read the request: {_explain(error)}") from error

    def _receive(self, connection: HTTPConnection) -> Answer:
        failures = _list_failures()
        try:
            response = connection.getresponse()
        except failures as error:
            raise UnansweredError(self._say_why(error)) from error
        try:
            body = response.read(_MAX_ANSWER_BYTES + 1)
        except failures:
            return Answer(response.status, None)
        is_whole = not self._is_over and len(body) <= _MAX_ANSWER_BYTES
        return Answer(response.status, body if is_whole else None)

    def _say_why(self, error: Exception) -> str:
        if isinstance(error, TimeoutError) or not self.seconds_left():
            return "no answer in time"
        return f"no answer: {_explain(error)}"


def _list_failures() -> tuple[type[Exception], ...]:
    """Everything that a connection can end in."""
    from http.client import HTTPException  # noqa: PLC0415

    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    return OSError, HTTPException, HTTPError, ValueError


def _explain(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
