"""A wire between a client and a portod on which answers can be changed, held back or cut."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from ya_salt.porto.frames import FrameReader, encode_frame
from ya_salt.proto import porto_pb2 as pb

Change = Callable[[pb.TContainerRequest, pb.TContainerResponse], pb.TContainerResponse | None]
"""The answer to give instead; None gives none, and the connection stays as it is."""


def as_it_is(
    _request: pb.TContainerRequest, answer: pb.TContainerResponse
) -> pb.TContainerResponse:
    return answer


class PortoProxy:
    """Listens on `path`; every request goes to the portod on `target`. A context manager."""

    def __init__(self, folder: Path, target: str) -> None:
        self.path = str(folder / "proxy.socket")
        self.change: Change = as_it_is
        self.requests: list[pb.TContainerRequest] = []
        self._target = target
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(64)

    def __enter__(self) -> PortoProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # Wakes whoever waits in accept, which close alone does not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connected,), daemon=True).start()

    def _serve(self, connected: socket.socket) -> None:
        with connected, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.connect(self._target)
            asked, answered = FrameReader(), FrameReader()
            while data := connected.recv(1 << 16):
                for body in asked.feed(data):
                    request = pb.TContainerRequest.FromString(body)
                    self.requests.append(request)
                    server.sendall(encode_frame(request))
                    answer = self.change(request, _receive(server, answered))
                    if answer is not None:
                        connected.sendall(encode_frame(answer))


def _receive(server: socket.socket, frames: FrameReader) -> pb.TContainerResponse:
    while True:
        data = server.recv(1 << 18)
        if not data:
            raise ConnectionResetError
        for body in frames.feed(data):
            return pb.TContainerResponse.FromString(body)
