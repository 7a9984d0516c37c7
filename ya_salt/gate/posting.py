"""Post one JSON body to one URL before a deadline, whatever the other end does.

Looking the name up, connecting, TLS, headers that drip and a body without an end: all is over at
the deadline. No proxies, no redirects; nothing of what was sent or answered is in an error's text.
"""

from __future__ import annotations

import io
import json
import queue
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

MAX_ANSWER_BYTES = 1 << 16
_HEADERS = {"Content-Type": "application/json", "User-Agent": "ya-salt", "Connection": "close"}
_PORTS = {"http": 80, "https": 443}
_PATH = "/%:@!$&'()*+,;="
"""Characters of a path that stand for themselves, with letters, digits and -._~."""


class NotSentError(Exception):
    """Nothing was sent, so nothing was done there."""


class UnansweredError(Exception):
    """It was sent, in part at least, and no answer came: it may have been done, or not."""


@dataclass(frozen=True)
class Answer:
    """HTTP status, where it redirects to, and the body.

    The body is None where it did not end in time or is too long. That of a 200 is not read: it is
    a yes whatever follows.
    """

    status: int
    location: str
    body: bytes | None

    def parse(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return json.loads(self.body or b"null")
        except (ValueError, RecursionError):
            return None


def post(
    url: str,
    payload: object,
    headers: Mapping[str, str],
    deadline: float,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """Raises NotSentError, UnansweredError. `deadline` is a moment of `time.monotonic`.

    `context` is how https is spoken; unless given, with the system's certificates.
    """
    parts = urlsplit(url)
    try:
        connected = _connect(parts, deadline, context)
    except (OSError, UnicodeError) as error:
        raise NotSentError(f"no connection: {_explain(error)}") from error
    with connected:
        try:
            body = json.dumps(payload).encode()
            return _exchange(parts, _Stream(connected, deadline), body, {**_HEADERS, **headers})
        except OSError as error:
            raise UnansweredError(f"no answer: {_explain(error)}") from error
        except (HTTPException, ValueError):
            # Not chained: its text shows what came, which may be what we sent, password included.
            raise UnansweredError("what it answered is not HTTP") from None


def _exchange(
    parts: SplitResult, stream: _Stream, body: bytes, headers: Mapping[str, str]
) -> Answer:
    connection = HTTPConnection(parts.hostname or "", _find_port(parts))
    # It does not go into the header Host.
    connection.default_port = _PORTS[parts.scheme]
    connection.sock = stream
    connection.request("POST", quote(parts.path, safe=_PATH), body=body, headers=dict(headers))
    response = connection.getresponse()
    answered = None if response.status == 200 else _read_body(response)
    return Answer(response.status, response.getheader("Location") or "", answered)


def _find_port(parts: SplitResult) -> int:
    return parts.port or _PORTS[parts.scheme]


def _read_body(response: HTTPResponse) -> bytes | None:
    try:
        body = response.read(MAX_ANSWER_BYTES + 1)
    except (OSError, HTTPException, ValueError):
        return None
    return body if len(body) <= MAX_ANSWER_BYTES else None


class _Stream:
    """What http.client asks of a socket. A socket's own timeout begins anew with every byte."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._socket = connected
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._socket.settimeout(_count_left(self._deadline))
        self._socket.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._socket, self._deadline))

    def close(self) -> None:
        """http.client closes before it has read the body, and counts on the file to go on."""


class _Reader(io.RawIOBase):
    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._socket = connected
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._socket.settimeout(_count_left(self._deadline))
        return self._socket.recv_into(buffer)


def _connect(parts: SplitResult, deadline: float, context: ssl.SSLContext | None) -> socket.socket:
    connected = _reach(_resolve(parts.hostname or "", _find_port(parts), deadline), deadline)
    try:
        if parts.scheme == "https":
            connected.settimeout(_count_left(deadline))
            context = context or ssl.create_default_context()
            connected = context.wrap_socket(connected, server_hostname=parts.hostname)
        _count_left(deadline)
    except BaseException:
        connected.close()
        raise
    return connected


def _reach(addresses: list[Any], deadline: float) -> socket.socket:
    """Try a name's addresses one after the other; each gets its part of the time."""
    failure = OSError("the name has no address")
    for tried, (family, kind, protocol, _, address) in enumerate(addresses):
        connected = socket.socket(family, kind, protocol)
        try:
            connected.settimeout(_count_left(deadline) / (len(addresses) - tried))
            connected.connect(address)
            # Head and body are sent apart; the second must not wait until the first is confirmed.
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            connected.close()
            failure = error
        else:
            return connected
    raise failure


def _resolve(host: str, port: int, deadline: float) -> list[Any]:
    """The resolver knows no timeout, so it runs in a thread that may be left behind."""
    found: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def look() -> None:
        try:
            found.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except (OSError, UnicodeError) as error:
            found.put(error)

    threading.Thread(target=look, daemon=True).start()
    try:
        result = found.get(timeout=_count_left(deadline))
    except queue.Empty:
        raise OSError("its name was not looked up in time") from None
    if isinstance(result, Exception):
        raise result
    return result


def _count_left(deadline: float) -> float:
    """Seconds; raises TimeoutError where there are none, as 0 would mean not to wait at all."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _explain(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "nothing came in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted: {error.verify_message}"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
