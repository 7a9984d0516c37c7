"""Porto's framing: a message is its length as a base-128 varint, then that many bytes. Pure."""

from __future__ import annotations

from google.protobuf.message import Message

MAX_MESSAGE_BYTES = 32 << 20
"""portod closes a connection that announces more than this (its RPC_MSG_MAX is of that order)."""
_MAX_VARINT_BYTES = 5


class FramingError(ValueError):
    """The bytes are no message of Porto's."""


def encode_frame(message: Message) -> bytes:
    body = message.SerializeToString()
    length, head = len(body), bytearray()
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + body


class FrameReader:
    """Cuts bytes, fed as they arrive, into the bodies of whole messages."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the bodies that `data` completes. Raises FramingError on a senseless length."""
        data = self._buffer + data
        start, bodies = 0, []
        while (found := _find_body(data, start)) is not None and found[1] <= len(data):
            bodies.append(data[found[0] : found[1]])
            start = found[1]
        self._buffer = data[start:]
        return bodies


def _find_body(data: bytes, start: int) -> tuple[int, int] | None:
    """(first byte, end) of the body whose length stands at `start`, None while that is cut off."""
    length = 0
    for index in range(_MAX_VARINT_BYTES):
        if start + index >= len(data):
            return None
        byte = data[start + index]
        length |= (byte & 0x7F) << (7 * index)
        if length > MAX_MESSAGE_BYTES:
            break
        if byte < 0x80:
            return start + index + 1, start + index + 1 + length
    raise FramingError(f"no message is {length} bytes long")
