"""What stands between a host and etcd, and fails: it swallows requests, or only their answers."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Fate = Literal["pass", "lose-request", "lose-answer", "break-answer", "refuse"]
"""Lost ones hang; `break-answer` hands the request on and then breaks the connection; `refuse`
answers 503 without handing it on."""


class EtcdProxy:
    """A context manager. `decide` is asked for the fate of each request: path and payload.

    `seen` are the paths and payloads of all requests, in order.
    """

    def __init__(self, port: int) -> None:
        self.decide: Callable[[str, Any], Fate] = lambda path, payload: "pass"
        self.seen: list[tuple[str, Any]] = []
        self.over = threading.Event()
        self._upstream = port
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._make_handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def writes(self) -> list[Any]:
        """Payloads of transactions that write."""
        return [payload for path, payload in self.seen if is_write(path, payload)]

    def __enter__(self) -> EtcdProxy:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    def lose_once(self, fate: Fate) -> None:
        """The next transaction that writes has this fate; all else passes."""
        left = [fate]

        def decide(path: str, payload: Any) -> Fate:
            return left.pop() if left and is_write(path, payload) else "pass"

        self.decide = decide

    def _make_handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                payload = json.loads(body)
                proxy.seen.append((self.path, payload))
                fate = proxy.decide(self.path, payload)
                if fate == "lose-request":
                    self._hang()
                elif fate == "refuse":
                    self._answer(503, b"busy")
                else:
                    answer = proxy.ask(self.path, body, dict(self.headers))
                    if fate == "pass":
                        self._answer(*answer)
                    elif fate == "lose-answer":
                        self._hang()
                self.close_connection = fate != "pass"

            def _hang(self) -> None:
                proxy.over.wait(30)

            def _answer(self, status: int, body: bytes, location: str = "") -> None:
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    if location:
                        self.send_header("Location", location)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
                pass

        return Handler

    def ask(
        self, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes] | tuple[int, bytes, str]:
        """Hand a request on. A test may answer in its stead: status, body, a redirect's URL."""
        upstream = http.client.HTTPConnection("127.0.0.1", self._upstream, timeout=10)
        try:
            upstream.request("POST", path, body=body, headers=headers)
            answer = upstream.getresponse()
            return answer.status, answer.read()
        finally:
            upstream.close()


def is_write(path: str, payload: Any) -> bool:
    """Whether it is a transaction that would write."""
    parts = payload.get("success", []) if path == "/v3/kv/txn" else []
    return any("request_range" not in part for part in parts)


@contextlib.contextmanager
def hold_deaf_port() -> Iterator[str]:
    """The URL of somebody who accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def hold_full_port() -> Iterator[str]:
    """The URL of somebody to whom no connection comes about, as behind a firewall that drops."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        # With its queue full the kernel drops every further attempt.
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def find_dead_url() -> str:
    """Nobody listens there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
