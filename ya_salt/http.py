"""One exchange over HTTP before one deadline, whatever the other end does.

Looking the name up, connecting, TLS, headers that drip and a body without an end: all is over at
the deadline, or as soon as another thread says so. No proxies, no redirects, no cookies; nothing of
what was sent or answered is in an error's text.

Importing this costs next to nothing: http.client, and ssl which that loads too, come with the first
connection that stands.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

from ya_salt.quick_dataclass import dataclass
from ya_salt.strict_json import parse_json
from ya_salt.text import printable
from ya_salt.trusted_files import UntrustedError, open_trusted

if TYPE_CHECKING:
    import ssl
    from http.client import HTTPResponse

T = TypeVar("T")

MAX_ANSWER_BYTES = 1 << 16
_PIECE_BYTES = 1 << 16
_PORTS = {"http": 80, "https": 443}
_PATH = "/%:@!$&'()*+,;="
"""Characters of a path that stand for themselves, with letters, digits and -._~."""
_IDLE_S = 30.0
"""A connection that was kept for longer may be forgotten by whatever stands in between."""
_VERDICT_MS = 100


class HttpError(Exception):
    """There is no answer. `str()` says why, in a few words on one line."""


class NotSentError(HttpError):
    """Nothing was sent, so nothing was done there."""


class RefusedError(NotSentError):
    """Somebody listens, but it came to no connection over which anything could be sent."""

    def __init__(self, message: str, *, wants_certificate: bool = False) -> None:
        super().__init__(message)
        self.wants_certificate = wants_certificate
        """Whether it is our certificate, or that there is none, that was refused."""


class TlsFileError(NotSentError):
    """A file for TLS cannot be used; the text begins with the setting that names it."""


class UnansweredError(HttpError):
    """It was sent, in part at least, and no answer came: it may have been done, or not."""


class Deadline:
    """A moment at which everything is over; `abort`, from any thread, brings it about at once.

    For one exchange after the other, not for several at the same time.
    """

    def __init__(self, until: float) -> None:
        """`until` is a moment of `time.monotonic`."""
        self._until = until
        self._lock = threading.Lock()
        self._is_aborted = False
        self._wake: Callable[[], object] | None = None

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    def abort(self) -> None:
        """Time is over: whoever waits is woken."""
        with self._lock:
            self._is_aborted = True
            if self._wake is not None:
                self._wake()

    def seconds_left(self) -> float:
        return 0.0 if self._is_aborted else max(0.0, self._until - time.monotonic())

    def require(self) -> float:
        """Seconds; raises TimeoutError where none are left, as a timeout of 0 would not wait."""
        left = self.seconds_left()
        if left <= 0:
            raise TimeoutError
        return left

    def wake_with(self, wake: Callable[[], object] | None) -> None:
        """What `abort` is to call from now on; it may not wait. Raises TimeoutError: it is over."""
        with self._lock:
            self._wake = wake
            if self._is_aborted and wake is not None:
                raise TimeoutError


def look_up(ask: Callable[[], T], deadline: Deadline) -> T:
    """What `ask` returns or raises (OSError, ValueError), which asks a resolver.

    A resolver knows no timeout, so it runs in a thread that may be left behind: TimeoutError.
    """
    found: queue.SimpleQueue[tuple[T] | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            found.put((ask(),))
        except (OSError, ValueError) as error:
            found.put(error)

    late = TimeoutError("its name was not looked up in time")
    deadline.wake_with(lambda: found.put(late))
    try:
        threading.Thread(target=work, name="ya-salt-resolver", daemon=True).start()
        result = found.get(timeout=deadline.require())
    except queue.Empty:
        raise late from None
    except RuntimeError as error:
        raise OSError(f"its name cannot be looked up: {error}") from error
    finally:
        deadline.wake_with(None)
    if isinstance(result, Exception):
        raise result
    return result[0]


@dataclass(frozen=True)
class Tls:
    """Files in PEM; "": the system's certificates, no certificate of ours."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    section: str = ""
    """What stands before these names in the settings: "gate."."""

    def make_context(self) -> ssl.SSLContext:
        """Raises TlsFileError, also where others than root and we could have written a file."""
        import ssl  # noqa: PLC0415 - 15 ms, for those who speak https

        self._check_files()

        name, path = f"{self.section}ca_file", self.ca_file
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
            if self.cert_file:
                name = f"{self.section}cert_file or {self.section}key_file"
                path = " ".join(filter(None, (self.cert_file, self.key_file)))
                # Without a password OpenSSL would ask whoever sits at the terminal.
                context.load_cert_chain(self.cert_file, self.key_file or None, password="")
        except (OSError, ValueError) as error:
            words = getattr(error, "strerror", None) or str(error) or "it cannot be used"
            raise TlsFileError(f"{name}: {path}: {words}; it has to be PEM") from error
        return context

    def _check_files(self) -> None:
        for name in ("ca_file", "cert_file", "key_file"):
            path = getattr(self, name)
            try:
                if path:
                    os.close(open_trusted(path))
            except UntrustedError as error:
                raise TlsFileError(f"{self.section}{name}: {error}") from error
            except OSError:
                continue  # Whoever loads it says so.


@dataclass(frozen=True)
class Answer:
    """HTTP status, where it redirects to, and the body."""

    status: int
    location: str
    body: bytes | None
    """None where there is no whole one, or where it was not asked for."""
    missing: str = ""
    """Why there is no whole one."""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def parse(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return parse_json(self.body or b"null")
        except ValueError:
            return None

    def describe(self) -> str:
        """Status and the beginning of the body, for answers to what was no secret."""
        words = (self.body or b"")[:2000].decode(errors="replace")
        return printable(f"it answered {self.status} {words}", 220)


@dataclass(frozen=True)
class _Place:
    scheme: str
    host: str
    port: int


@dataclass(frozen=True)
class _Request:
    place: _Place
    method: str
    target: str
    make_body: Callable[[], bytes | None]
    """Called when the connection stands."""
    headers: Mapping[str, str]


@dataclass(frozen=True)
class _Kept:
    connected: socket.socket
    since: float


class Client:
    """May be used by several threads at once. Any number of servers, all by the same rules."""

    def __init__(
        self,
        tls: Tls | None = None,
        *,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        keeps_connections: bool = False,
        unread: frozenset[int] = frozenset(),
        is_forgetful: bool = False,
    ) -> None:
        """`unread` are the statuses that say it all: their body is not waited for.

        With `is_forgetful` see `forget_on_close`. A kept connection is used again unless the
        server has closed it meanwhile; see `close`.
        """
        self._tls = tls or Tls()
        self._context: ssl.SSLContext | None = None
        self._max_answer_bytes = max_answer_bytes
        self._keeps = keeps_connections
        self._unread = unread
        self._is_forgetful = is_forgetful
        self._lock = threading.Lock()
        self._kept: dict[_Place, list[_Kept]] = {}

    def close(self) -> None:
        """Let go of connections that were kept."""
        with self._lock:
            kept = [item for items in self._kept.values() for item in items]
            self._kept.clear()
        for item in kept:
            item.connected.close()

    def get(self, url: str, deadline: Deadline, headers: Mapping[str, str] | None = None) -> Answer:
        """Raises NotSentError (RefusedError, TlsFileError), UnansweredError."""
        return self._exchange(_make_request("GET", url, lambda: None, headers or {}), deadline)

    def post(
        self,
        url: str,
        payload: object,
        deadline: Deadline,
        headers: Mapping[str, str] | None = None,
        *,
        before_send: Callable[[], None] | None = None,
    ) -> Answer:
        """Post `payload` as JSON. Raises what `get` raises.

        A `payload` that is a function makes it, and is called only where somebody listens.
        `before_send` is called when the connection stands and nothing has been sent yet. What
        either raises is raised.
        """

        def make_body() -> bytes:
            made = payload() if callable(payload) else payload
            return json.dumps(made, ensure_ascii=False).encode(errors="replace")

        told = {"Content-Type": "application/json", **(headers or {})}
        request = _make_request("POST", url, make_body, told)
        return self._exchange(request, deadline, before_send)

    def _exchange(
        self,
        request: _Request,
        deadline: Deadline,
        before_send: Callable[[], None] | None = None,
    ) -> Answer:
        connected = self._take(request.place) or self._connect(request.place, deadline)
        is_kept = False
        try:
            data = request.make_body()
            if before_send is not None:
                before_send()
            response = _ask(request, data, _Wire(connected, deadline), keeps=self._keeps)
            body, missing = None, ""
            if response.status not in self._unread:
                body, missing = self._read_body(response, deadline)
            is_kept = self._keeps and response.isclosed() and not response.will_close
            return Answer(response.status, response.getheader("Location") or "", body, missing)
        finally:
            deadline.wake_with(None)
            if is_kept:
                self._put_back(request.place, connected)
            else:
                connected.close()

    def _read_body(self, response: HTTPResponse, deadline: Deadline) -> tuple[bytes | None, str]:
        """The body, or why there is none that is whole."""
        from http.client import HTTPException  # noqa: PLC0415 - loaded, as there is a response

        pieces, length = [], 0
        try:
            while piece := response.read(_PIECE_BYTES):
                pieces.append(piece)
                length += len(piece)
                if length > self._max_answer_bytes:
                    return None, f"its answer is longer than {self._max_answer_bytes} bytes"
            is_whole = not response.length
        except (OSError, HTTPException, ValueError):
            is_whole = False
        # `abort` makes an end of it that looks like a good one.
        if not deadline.seconds_left():
            return None, "its answer did not come to an end in time"
        return (b"".join(pieces), "") if is_whole else (None, "its answer broke off")

    # -- connections ---------------------------------------------------------------------------

    def _take(self, place: _Place) -> socket.socket | None:
        while True:
            with self._lock:
                kept = self._kept.get(place)
                item = kept.pop() if kept else None
            if item is None:
                return None
            if time.monotonic() - item.since < _IDLE_S and not _is_readable(item.connected, 0):
                return item.connected
            # Closed at the other end, or something came that nobody asked for.
            item.connected.close()

    def _put_back(self, place: _Place, connected: socket.socket) -> None:
        with self._lock:
            self._kept.setdefault(place, []).append(_Kept(connected, time.monotonic()))

    def _connect(self, place: _Place, deadline: Deadline) -> socket.socket:
        # First, as a file that cannot be used is to be named whoever listens.
        context = self._find_context() if place.scheme == "https" else None
        try:
            connected = _reach(_resolve(place, deadline), deadline)
        except (OSError, ValueError, OverflowError) as error:
            raise NotSentError(_explain(error, deadline)) from error
        if self._is_forgetful:
            forget_on_close(connected)
        if context is None:
            return connected
        try:
            return _start_tls(context, connected, place.host, deadline)
        except (OSError, ValueError) as error:
            words, is_ours = _explain(error, deadline), _is_about_certificate(error)
            raise RefusedError(words, wants_certificate=is_ours) from error
        finally:
            # What TLS is spoken over is another object by now, with the descriptor of this one.
            connected.close()

    def _find_context(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = self._tls.make_context()
        return self._context


def forget_on_close(connected: socket.socket) -> None:
    """Have it end with a reset: neither end then keeps it in TIME_WAIT for a minute.

    For those who ask the same server over and over: the ports would run out. What was sent last
    may be lost by it.
    """
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _make_request(
    method: str, url: str, make_body: Callable[[], bytes | None], headers: Mapping[str, str]
) -> _Request:
    parts = urlsplit(url)
    place = _Place(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme])
    query = f"?{quote(parts.query, safe=_PATH + '?')}" if parts.query else ""
    target = (quote(parts.path, safe=_PATH) or "/") + query
    return _Request(place, method, target, make_body, {"User-Agent": "ya-salt", **headers})


def _ask(request: _Request, data: bytes | None, wire: _Wire, *, keeps: bool) -> HTTPResponse:
    """Send it and read the head of the answer."""
    # 20 ms, for those where somebody listens.
    from http.client import HTTPConnection, HTTPException  # noqa: PLC0415

    place = request.place
    connection = HTTPConnection(place.host, place.port)
    # It does not go into the header Host.
    connection.default_port = _PORTS[place.scheme]
    connection.sock = wire
    headers = dict(request.headers) if keeps else {**request.headers, "Connection": "close"}
    failure: HttpError
    # Raised at the end, so that nothing is chained that shows what was sent or came: what came may
    # be what we sent, password included.
    try:
        connection.request(request.method, request.target, body=data, headers=headers)
        wire.flush()
        return connection.getresponse()
    except OSError as error:
        failure = wire.judge(error)
    except (HTTPException, ValueError):
        failure = (
            UnansweredError("what it answered is not HTTP")
            if wire.is_sent
            else NotSentError("what was to be sent is not HTTP")
        )
    raise failure


class _Wire:
    """What http.client takes for a socket: written to memory first, then sent before the deadline.

    A socket's own timeout would begin anew with every byte.
    """

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket = connected
        self._deadline = deadline
        self._written = bytearray()
        self.is_sent = False
        """That it may have been, at least in part."""

    def sendall(self, data: bytes) -> None:
        self._written += data

    def flush(self) -> None:
        self._deadline.wake_with(partial(_shut, self._socket))
        left = memoryview(self._written)
        while left:
            self._socket.settimeout(self._deadline.require())
            self.is_sent = True
            left = left[self._socket.send(left) :]

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._socket, self._deadline), _PIECE_BYTES)

    def close(self) -> None:
        """http.client closes before it has read the body, and counts on the file to go on."""

    def judge(self, error: OSError) -> HttpError:
        words = _explain(error, self._deadline)
        if _is_about_certificate(error):
            # Before a server knows who we are it takes nothing from us.
            return RefusedError(words, wants_certificate=True)
        if self.is_sent:
            return UnansweredError(words)
        return RefusedError(f"nothing could be sent: {words}")


class _Reader(io.RawIOBase):
    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket = connected
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._socket.settimeout(self._deadline.require())
        return self._socket.recv_into(buffer)


def _resolve(place: _Place, deadline: Deadline) -> list[Any]:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(family, place.host)
            return [(family, socket.SOCK_STREAM, 0, "", (place.host, place.port))]
    # As bytes, where it makes no difference: Python takes a text for one to be spelled in IDNA.
    host = place.host.encode() if place.host.isascii() else place.host
    return look_up(
        lambda: list(socket.getaddrinfo(host, place.port, type=socket.SOCK_STREAM)), deadline
    )


def _reach(addresses: list[Any], deadline: Deadline) -> socket.socket:
    """Try a name's addresses one after the other; each gets its part of the time."""
    failure = OSError("the name has no address")
    for tried, (family, kind, protocol, _, address) in enumerate(addresses):
        try:
            connected = socket.socket(family, kind, protocol)
        except OSError as error:
            failure = error
            continue
        try:
            deadline.wake_with(partial(_shut, connected))
            connected.settimeout(deadline.require() / (len(addresses) - tried))
            connected.connect(address)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            deadline.require()
        except OSError as error:
            connected.close()
            failure = error
        else:
            return connected
    raise failure


def _start_tls(
    context: ssl.SSLContext, connected: socket.socket, host: str, deadline: Deadline
) -> socket.socket:
    wrapped = context.wrap_socket(connected, server_hostname=host, do_handshake_on_connect=False)
    try:
        deadline.wake_with(partial(_shut, wrapped))
        wrapped.settimeout(deadline.require())
        wrapped.do_handshake()
        if wrapped.version() == "TLSv1.3":
            _read_verdict(wrapped, deadline)
    except BaseException:
        wrapped.close()
        raise
    return wrapped


def _read_verdict(connected: ssl.SSLSocket, deadline: Deadline) -> None:
    """Raise what the server thinks of our certificate, which it looks at after the handshake.

    Whoever sends right away may find the connection broken and never learn why. A server that lets
    us in sends tickets instead.
    """
    import ssl  # noqa: PLC0415 - loaded, as there is a connection

    if not _is_readable(connected, min(_VERDICT_MS, int(deadline.require() * 1000))):
        return
    connected.settimeout(0)
    with contextlib.suppress(ssl.SSLWantReadError):
        connected.recv(1)


def _is_readable(connected: socket.socket, wait_ms: int) -> bool:
    """Whether there is something to read, or an end to be found."""
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return bool(poll.poll(wait_ms))


def _is_about_certificate(error: Exception) -> bool:
    """Whether the server breaks off TLS as it does not want our certificate, or wants one."""
    reason = getattr(error, "reason", None) or ""
    return "ALERT" in reason and any(word in reason for word in _ALERTS)


_ALERTS = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "HANDSHAKE_FAILURE")


def _shut(connected: socket.socket) -> None:
    """Wake whoever waits for it. Not SSLSocket's own, which takes TLS off while it is in use."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)


def _explain(error: Exception, deadline: Deadline) -> str:
    if not deadline.seconds_left() or isinstance(error, TimeoutError):
        return str(error) if "in time" in str(error) else "nothing came in time"
    if words := getattr(error, "verify_message", ""):
        return f"its certificate is not to be trusted: certificate verify failed: {words}"
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(str(words), 300)
