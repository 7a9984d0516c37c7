"""An HTTP server that is strict about what it is sent, and can be every kind of difficult.

YASM's agent and Juggler's client cannot be had outside; this checks their bodies to the letter and
remembers what it accepted.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SIGNAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9.\-/@_]{1,200}_thhh")
SERVICE = re.compile(r"[A-Za-z0-9_\-@:.]{1,200}")

Mode = str
"""How it behaves: `accept`, a status such as `503`, `late` (takes it, and answers
nobody in time), `stall` (reads, never answers), `drip` (a byte
of the answer each 0.2 s), `drip-body`, `endless` (a body without an end), `hang-up` (closes after
reading), `deaf` (accepts connections, never reads), `garbage` (answers, but not HTTP)."""


class Receiver:
    """A context manager; `url` is where it listens. `check(body)` returns what is wrong with it.

    `port` 0 is one that is free.
    """

    def __init__(self, path: str, check: Callable[[Any], list[str]], port: int = 0) -> None:
        self.path = path
        self._port = port
        self.mode: Mode = "accept"
        self.answer: Callable[[Any], Any] = lambda _body: {"status": "ok"}
        self.accepted: list[Any] = []
        self.seen: list[Any] = []
        self.problems: list[str] = []
        self._check = check
        self._server: ThreadingHTTPServer | None = None
        self._is_over = threading.Event()

    def __enter__(self) -> Receiver:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._take(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: object) -> None:
                """The other end hung up: that is what it is there for."""

        self._server = Server(("127.0.0.1", self._port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_port}{self.path}"

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        if self.mode == "deaf":
            self._is_over.wait(5)
            return
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.seen.append(body)
        self.problems += self._check_request(handler, body)
        with contextlib.suppress(OSError):
            self._behave(handler, body)

    def _check_request(self, handler: BaseHTTPRequestHandler, body: Any) -> list[str]:
        found = self._check(body)
        if handler.path != self.path:
            found.append(f"path is {handler.path}")
        if handler.headers["Content-Type"] != "application/json":
            found.append(f"content type is {handler.headers['Content-Type']}")
        return found

    def _behave(self, handler: BaseHTTPRequestHandler, body: Any) -> None:
        text = json.dumps(self.answer(body)).encode()
        head = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n"
        whole = head + b"Content-Length: %d\r\n\r\n" % len(text) + text
        match self.mode:
            case "accept":
                self.accepted.append(body)
                handler.wfile.write(whole)
            case "late":
                self.accepted.append(body)
                self._is_over.wait(5)
            case "stall":
                self._is_over.wait(5)
            case "drip":
                self._drip(handler, whole)
            case "drip-body":
                self.accepted.append(body)
                handler.wfile.write(head + b"\r\n")
                self._drip(handler, b"x" * 100)
            case "endless":
                self.accepted.append(body)
                handler.wfile.write(head + b"\r\n")
                while not self._is_over.is_set():
                    handler.wfile.write(b"x" * 65536)
            case "garbage":
                handler.wfile.write(b"220 smtp.example.org ESMTP\r\n")
            case "hang-up":
                handler.connection.shutdown(socket.SHUT_RDWR)
            case status:
                handler.send_response(int(status))
                handler.end_headers()
                handler.wfile.write(b"no, thank you")

    def _drip(self, handler: BaseHTTPRequestHandler, data: bytes) -> None:
        for index in range(len(data)):
            handler.wfile.write(data[index : index + 1])
            if self._is_over.wait(0.2):
                return


def make_yasm(port: int = 0) -> Receiver:
    return Receiver("/", check_yasm, port)


def make_juggler() -> Receiver:
    receiver = Receiver("/events", check_juggler)
    receiver.answer = accept_events
    return receiver


def accept_events(body: Any) -> Any:
    return {
        "accepted_events": len(body["events"]),
        "events": [{"code": 200} for _ in body["events"]],
        "success": True,
    }


def check_yasm(body: Any) -> list[str]:
    """A list of {"ttl": seconds, "tags": {"itype": …}, "values": [{"name": …, "val": number}]}."""
    return list(_find_wrong_in_push(body))


def _find_wrong_in_push(body: Any) -> Iterator[str]:
    if not isinstance(body, list) or not body:
        yield "is no list"
        return
    for item in body:
        if sorted(item) != ["tags", "ttl", "values"]:
            yield f"keys are {sorted(item)}"
        if not _is_int(item["ttl"]) or item["ttl"] <= 0:
            yield f"ttl is {item['ttl']!r}"
        tags = item["tags"]
        if "itype" not in tags or not all(isinstance(tag, str) and tag for tag in tags.values()):
            yield f"tags are {tags!r}"
        names = [value["name"] for value in item["values"]]
        if len(names) != len(set(names)):
            yield "a signal is there twice"
        for value in item["values"]:
            if sorted(value) != ["name", "val"] or not _is_int(value["val"]) or value["val"] < 0:
                yield f"value is {value!r}"
            if not SIGNAL.fullmatch(value["name"]):
                yield f"name is {value['name']!r}"


def check_juggler(body: Any) -> list[str]:
    """{"source", "events": [{"host", "service", "instance", "status", "description", "tags"}]}."""
    return list(_find_wrong_in_events(body))


def _find_wrong_in_events(body: Any) -> Iterator[str]:
    if sorted(body) != ["events", "source"] or not isinstance(body["source"], str):
        yield f"keys are {sorted(body)}"
    if not 0 < len(body["events"]) <= 50:
        yield f"{len(body['events'])} events"
    for event in body["events"]:
        if sorted(event) != ["description", "host", "instance", "service", "status", "tags"]:
            yield f"event's keys are {sorted(event)}"
        if event["status"] not in {"OK", "WARN", "CRIT", "INFO"}:
            yield f"status is {event['status']!r}"
        if "porto-daemon" not in event["tags"]:
            yield f"tags are {event['tags']!r}"
        if len(event["description"].encode()) > 1024:
            yield "description is over 1 KiB"
        if not event["host"] or not SERVICE.fullmatch(event["service"]):
            yield f"host {event['host']!r} service {event['service']!r}"


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def sum_values(pushes: list[Any], suffix: str) -> int:
    """The sum over all pushes of the signals whose name ends so."""
    return sum(
        value["val"]
        for push in pushes
        for item in push
        for value in item["values"]
        if value["name"].endswith(suffix)
    )


def read_last(pushes: list[Any]) -> dict[str, int]:
    """Signal -> value of the last push."""
    return {value["name"]: value["val"] for item in pushes[-1] for value in item["values"]}


def measure(action: Callable[[], Any]) -> tuple[Any, float]:
    started = time.monotonic()
    result = action()
    return result, time.monotonic() - started
