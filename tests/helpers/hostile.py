"""A server on a raw socket that does to each connection what a test wants, however bad."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType

Script = Callable[["Visit"], None]
"""What is done to one connection; it is closed afterwards."""


class Visit:
    """One connection, and everything that came over it."""

    def __init__(self, connection: socket.socket, over: threading.Event) -> None:
        self.connection = connection
        self.over = over
        self.read = b""

    def take_request(self) -> bytes:
        """Read one request; b"" where none comes."""
        self.read = b""
        while b"\r\n\r\n" not in self.read:
            piece = self.connection.recv(65536)
            if not piece:
                return b""
            self.read += piece
        head, _, body = self.read.partition(b"\r\n\r\n")
        lengths = [
            line.split(b":")[1] for line in head.lower().split(b"\r\n") if b"-length" in line
        ]
        left = int(lengths[0]) - len(body) if lengths else 0
        while left > 0 and (piece := self.connection.recv(left)):
            self.read += piece
            left -= len(piece)
        return self.read

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def answer(self, body: bytes, head: bytes = b"HTTP/1.1 200 OK") -> None:
        self.send(b"%s\r\nContent-Length: %d\r\n\r\n%s" % (head, len(body), body))

    def drip(self, data: bytes, each_s: float = 0.05) -> None:
        """A byte at a time, for as long as somebody reads."""
        for number in range(len(data)):
            self.send(data[number : number + 1])
            if self.over.wait(each_s):
                return

    def stay(self) -> None:
        """Do nothing more until the test is over."""
        self.over.wait(20)

    def reset(self) -> None:
        """Break the connection off, as a machine does that was started anew (RST)."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


class HostileServer:
    """A context manager. `scripts` are for the first connections, `script` for all others."""

    def __init__(self, *scripts: Script, address: str = "127.0.0.1") -> None:
        self.visits: list[Visit] = []
        self._scripts = list(scripts)
        self._over = threading.Event()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family, backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}/path"

    def __enter__(self) -> HostileServer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._over.set()
        # A listener that somebody waits for is not closed by close alone.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            visit = Visit(connection, self._over)
            self.visits.append(visit)
            script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
            threading.Thread(target=self._serve, args=(visit, script), daemon=True).start()

    def _serve(self, visit: Visit, script: Script) -> None:
        with contextlib.suppress(OSError), visit.connection:
            script(visit)
