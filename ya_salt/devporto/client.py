"""One connection: frames in, one request at a time, answers out in order."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from ya_salt.devporto.container import Container
from ya_salt.devporto.desk import Queued
from ya_salt.devporto.refusal import Refusal
from ya_salt.devporto.service import answer, finish
from ya_salt.devporto.users import Caller, Credentials
from ya_salt.devporto.waiters import Waiter
from ya_salt.porto.client import FrameReader, FramingError, encode_frame
from ya_salt.proto import porto_pb2 as pb

if TYPE_CHECKING:
    from ya_salt.devporto.server import Server

_LOG = logging.getLogger(__name__)


def read_peer(sock: socket.socket) -> tuple[int, Credentials]:
    """(pid, uid and gid) of the process at the other end."""
    size = struct.calcsize("3i")
    pid, uid, gid = struct.unpack(
        "3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return pid, Credentials(uid, gid)


def _describe_bug(error: Exception) -> Refusal:
    """Log what should not have happened; the client hears Unknown."""
    _LOG.error("request failed", exc_info=error)
    return Refusal(pb.Unknown, repr(error))


class Client(asyncio.Protocol):
    """A connected client. A frame that is no request closes the connection, as portod does."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._frames = FrameReader()
        self._waiting: deque[bytes] = deque()
        self._busy = False
        self._transport: asyncio.Transport | None = None
        self.caller = Caller()
        self.weak: list[Container] = []
        self.sync_waiter: Waiter | None = None
        self.async_waiter: Waiter | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a stream server's
        self._transport = transport
        pid, credentials = read_peer(transport.get_extra_info("socket"))
        caller = self._server.identify(pid, credentials)
        if caller is None:
            transport.abort()
            return
        self.caller = caller
        self._server.clients.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        self._waiting.clear()
        self._server.forget(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._waiting.extend(self._frames.feed(data))
        except FramingError:
            self.close()
            return
        if self._waiting and self._transport:
            self._work()

    def _work(self) -> None:
        """Answer what has arrived, until one request has to wait for something."""
        while self._waiting and not self._busy and self._transport:
            request = pb.TContainerRequest()
            try:
                request.ParseFromString(self._waiting.popleft())
            except DecodeError:
                self.close()
                return
            if not request.IsInitialized():
                self.close()
                return
            self._handle(request)

    def _handle(self, request: pb.TContainerRequest) -> None:
        out = pb.TContainerResponse()
        self._busy = True
        try:
            later = answer(self._server.desk, self, request, out)
        except Queued:
            return
        except Refusal as error:
            self._complete(out, error)
            return
        except Exception as error:  # noqa: BLE001 - one bad request must not end the others
            self._complete(out, _describe_bug(error))
            return
        if later is None:
            self._complete(out, None)
        else:
            self._server.machine.run_later(self._finish_later(later, out))

    async def _finish_later(
        self, later: asyncio.Future[None] | object, out: pb.TContainerResponse
    ) -> None:
        error = None
        try:
            await later  # type: ignore[misc]
        except Refusal as refusal:
            error = refusal
        except Exception as bug:  # noqa: BLE001 - one bad request must not end the others
            error = _describe_bug(bug)
        self._complete(out, error)
        self._work()

    def _complete(self, out: pb.TContainerResponse, error: Refusal | None) -> None:
        self._busy = False
        self.send(finish(out, error))

    def send(self, out: pb.TContainerResponse) -> None:
        if self._transport:
            self._transport.write(encode_frame(out))

    def answer_wait(self, out: pb.TContainerResponse) -> None:
        """Send the answer to a `wait`, whenever it comes."""
        self._busy = False
        self.send(out)
        asyncio.get_running_loop().call_soon(self._work)

    def replace_waiter(self, waiter: Waiter) -> None:
        """Keep one waiter of each kind; the older one hears nothing more."""
        name = "async_waiter" if waiter.is_async else "sync_waiter"
        self._server.waiters.remove(getattr(self, name))
        setattr(self, name, waiter)

    def close(self) -> None:
        if self._transport:
            self._transport.abort()
