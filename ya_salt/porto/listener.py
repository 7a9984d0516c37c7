"""Hear from portod what containers come to: AsyncWait on a connection of its own.

Never waits and never raises for what portod does: a connection that is gone is made again by the
next `open`.
"""

from __future__ import annotations

import socket

from google.protobuf.message import DecodeError

from ya_salt.porto.frames import FrameReader, FramingError, encode_frame
from ya_salt.proto import quick_porto as pb
from ya_salt.quick_dataclass import dataclass
from ya_salt.text import printable
from ya_salt.trusted_files import find_peer_problem

_EVERY = "*"
"""Containers at the top; `*` stops at a slash."""
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class StateChange:
    """A container has come into a state: one of Porto's, or `destroyed`."""

    name: str
    state: str


class StateListener:
    """Told of every change of state of every container at the top."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._frames = FrameReader(_MAX_BYTES)
        self.trouble = ""
        """Why there is no connection; "" while there is one."""

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def fileno(self) -> int:
        """-1 where there is no connection."""
        return self._socket.fileno() if self._socket is not None else -1

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def open(self) -> bool:
        """Connect and ask, where that is not so yet; whether there is a connection now."""
        if self._socket is not None:
            return True
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        request = pb.TContainerRequest()
        request.AsyncWait.name.append(_EVERY)
        try:
            connection.connect(self._path)
            problem = find_peer_problem(connection)
            if not problem:
                # A new socket's buffer takes these few bytes.
                connection.sendall(encode_frame(request))
        except OSError as error:
            problem = error.strerror or str(error)
        if problem:
            connection.close()
            self.trouble = f"{self._path}: {problem}"
            return False
        self._socket, self._frames, self.trouble = connection, FrameReader(_MAX_BYTES), ""
        return True

    def read(self) -> list[StateChange]:
        """What has been told since the last call; `is_open` is false afterwards if it is over."""
        found: list[StateChange] = []
        while self._socket is not None:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError as error:
                self._lose(error.strerror or str(error))
                break
            if not data:
                self._lose("portod has closed the connection")
                break
            try:
                for body in self._frames.feed(data):
                    found += self._take(pb.TContainerResponse.FromString(body))
            except (FramingError, DecodeError, UnicodeDecodeError) as error:
                self._lose(str(error))
        return found

    def _take(self, message: pb.TContainerResponse) -> list[StateChange]:
        if message.error != pb.Success:
            words = printable(message.errorMsg.decode(errors="replace"))
            self._lose(f"{pb.EError.Name(message.error)}: {words}")
            return []
        if not message.HasField("AsyncWait") or not message.AsyncWait.name:
            return []
        return [StateChange(message.AsyncWait.name, message.AsyncWait.state)]

    def _lose(self, why: str) -> None:
        self.close()
        self.trouble = f"{self._path}: {why}"
