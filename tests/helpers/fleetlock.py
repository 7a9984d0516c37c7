"""A FleetLock server: a counting lock for each group, strict about what it is asked, and difficult.

Several faces may share one memory of locks, as the servers behind several endpoints do.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Mode = str
"""How a face behaves: `serve`; `500` (answers a 5xx); `slow` (serves after 0.6 s); `drop-before`
and `drop-after` (hangs up before or after the request was carried out, and says nothing); `stall`
(carries it out, never answers); `deaf` (accepts connections, never reads); `drip` (a byte of the
answer each 0.2 s); `endless` (a 409 whose body has no end); `garbage` (answers, but not HTTP);
`echo` (answers with the request that it got); `tell` (a 400 whose value has that request's
Authorization); `page` (a 404 in HTML); `redirect` (to `elsewhere`)."""

FULL = (409, "failed_lock_semaphore_full", "semaphore currently full, all slots are locked already")
AIRLOCK_FULL = (500, "failed_lock", "all 1 semaphore slots currently locked")


class WrongRequestError(Exception):
    def __init__(self, status: int, kind: str, value: str) -> None:
        super().__init__(value)
        self.answer = (status, kind, value)


@dataclass
class Locks:
    """Who has a lock of which group; a lock is taken once, however often it is asked for."""

    slots: dict[str, int] = field(default_factory=dict)
    """Group -> slots; any other group has `others`, or is unknown where that is 0."""
    others: int = 1
    full: tuple[int, str, str] = FULL
    holders: dict[str, set[str]] = field(default_factory=dict)
    history: list[tuple[str, str, str]] = field(default_factory=list)
    """(lock or unlock, group, id) of what was changed."""
    asked: Counter[str] = field(default_factory=Counter)
    """Path -> requests that were carried out, changes or not."""
    mutex: threading.Lock = field(default_factory=threading.Lock)

    def carry_out(self, path: str, group: str, host: str) -> tuple[int, str, str] | None:
        """None is a yes."""
        with self.mutex:
            self.asked[path] += 1
            limit = self.slots.get(group, self.others)
            if not limit:
                return 400, "unknown_group", f"unknown group {group}"
            holders = self.holders.setdefault(group, set())
            if path == "/v1/steady-state":
                if host in holders:
                    holders.remove(host)
                    self.history.append(("unlock", group, host))
                return None
            if host in holders:
                return None
            if len(holders) >= limit:
                return self.full
            holders.add(host)
            self.history.append(("lock", group, host))
            return None


class Face:
    """One address of the server; a context manager. `modes` come before `mode`, one a request."""

    def __init__(
        self,
        locks: Locks,
        *,
        base: str = "",
        login: str = "",
        context: ssl.SSLContext | None = None,
        address: str = "127.0.0.1",
        name: str = "",
    ) -> None:
        """`login` is user:password; `name` is what it is called in the header Host."""
        self.locks = locks
        self.mode: Mode = "serve"
        self.modes: list[Mode] = []
        self.elsewhere = ""
        self.seen = 0
        self.problems: list[str] = []
        self._base = base
        self._login = b64encode(login.encode()).decode() if login else ""
        self._context = context
        self._address = address
        self._name = name
        self._is_over = threading.Event()

    def __enter__(self) -> Face:
        face = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                with contextlib.suppress(OSError):
                    face._take(self)

            do_GET = do_POST  # noqa: N815 - the name is http.server's

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64
            address_family = socket.AF_INET6 if ":" in face._address else socket.AF_INET

            def handle_error(self, *_: object) -> None:
                """The other end hung up, or does not trust us."""

        self._server = Server((self._address, 0), Handler)
        if self._context is not None:
            # The handshake is made in the request's thread.
            self._server.socket = self._context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    @property
    def url(self) -> str:
        scheme = "https" if self._context else "http"
        return f"{scheme}://{self._host}{self._base}"

    @property
    def _host(self) -> str:
        address = f"[{self._address}]" if ":" in self._address else self._address
        return f"{self._name or address}:{self.port}"

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        self.seen += 1
        mode = self.modes.pop(0) if self.modes else self.mode
        if mode == "deaf":
            self._is_over.wait(10)
            return
        if mode == "drip":
            self._drip(handler)
            return
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        match mode:
            case "serve" | "slow":
                self._is_over.wait(0.6 if mode == "slow" else 0)
                self._answer(handler, self._handle(handler, body))
            case "drop-before":
                _hang_up(handler)
            case "drop-after":
                self._handle(handler, body)
                _hang_up(handler)
            case "stall":
                self._handle(handler, body)
                self._is_over.wait(10)
            case _:
                self._misbehave(handler, mode)

    def _misbehave(self, handler: BaseHTTPRequestHandler, mode: Mode) -> None:
        told = str(handler.headers["Authorization"])
        match mode:
            case "garbage":
                handler.wfile.write(b"220 smtp.example.org ESMTP\r\n")
            case "echo":
                handler.wfile.write(f"{told} {handler.requestline}\r\n{handler.headers}".encode())
            case "tell":
                self._answer(handler, (400, "odd", f"what is {told}?\x1b[2J\nsay\x07 more"))
            case "page":
                handler.send_error(404)
            case "redirect":
                handler.send_response(307)
                handler.send_header("Location", self.elsewhere)
                handler.end_headers()
            case "endless":
                handler.wfile.write(b'HTTP/1.0 409 Conflict\r\n\r\n{"kind": "')
                while not self._is_over.is_set():
                    handler.wfile.write(b"x" * 65536)
            case status:
                self._answer(handler, (int(status), "internal_error", "the lock is broken"))

    def _drip(self, handler: BaseHTTPRequestHandler) -> None:
        for byte in b"HTTP/1.0 200 OK\r\n" + b"X: y\r\n" * 99 + b"\r\n":
            handler.wfile.write(bytes([byte]))
            if self._is_over.wait(0.2):
                return

    def _handle(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, str] | None:
        try:
            path, group, host = self._check(handler, body)
        except WrongRequestError as error:
            self.problems.append(str(error))
            return error.answer
        return self.locks.carry_out(path, group, host)

    def _check(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[str, str, str]:
        path = handler.path.removeprefix(self._base)
        if not handler.path.startswith(self._base) or path not in (
            "/v1/pre-reboot",
            "/v1/steady-state",
        ):
            raise WrongRequestError(404, "not_found", f"nothing at {handler.path}")
        if handler.command != "POST":
            raise WrongRequestError(405, "bad_method", f"{handler.command} is not POST")
        if handler.headers.get_all("fleet-lock-protocol") != ["true"]:
            raise WrongRequestError(400, "bad_header", "header fleet-lock-protocol is not true")
        if handler.headers["Host"] != self._host:
            raise WrongRequestError(400, "bad_host", f"header Host is {handler.headers['Host']}")
        if self._login and handler.headers["Authorization"] != f"Basic {self._login}":
            raise WrongRequestError(401, "unauthorized", "who are you?")
        return (path, *_parse(body))

    def _answer(
        self, handler: BaseHTTPRequestHandler, refusal: tuple[int, str, str] | None
    ) -> None:
        status, *words = refusal or (200,)
        handler.send_response(status)
        handler.end_headers()
        if words:
            handler.wfile.write(
                json.dumps(dict(zip(("kind", "value"), words, strict=True))).encode()
            )


def _parse(body: bytes) -> tuple[str, str]:
    """Group and id of {"client_params": {"id", "group"}}, and nothing else."""
    try:
        data: Any = json.loads(body)
        (params,) = data.values()
        group, host = params["group"], params["id"]
        is_right = list(data) == ["client_params"] and sorted(params) == ["group", "id"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WrongRequestError(400, "bad_body", f"body is {body!r}") from error
    if not is_right or not isinstance(host, str) or not host:
        raise WrongRequestError(400, "bad_body", f"body is {body!r}")
    if not isinstance(group, str) or not re.fullmatch(r"[a-zA-Z0-9.-]+", group):
        raise WrongRequestError(400, "bad_group", f"group is {group!r}")
    return group, host


def _hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)
