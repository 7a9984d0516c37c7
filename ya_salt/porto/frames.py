"""How messages follow each other on portod's socket: the length of each, then its body.

Loads next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

MAX_MESSAGE_BYTES = 32 << 20
"""portod closes a connection that announces more than this (its RPC_MSG_MAX is of that order)."""

_OF_ONE_BYTE = [bytes((value,)) for value in range(0x80)]


class FramingError(ValueError):
    """The bytes are no message of Porto's."""


def encode_frame(message: Message) -> bytes:
    """The bytes that carry `message`."""
    return frame(message.SerializeToString())


def frame(body: bytes) -> bytes:
    """The same for a message that is encoded already."""
    return encode_varint(len(body)) + body


def encode_varint(value: int) -> bytes:
    """A number as protobuf writes it, seven bits a byte."""
    if value <= 0x7F:
        return _OF_ONE_BYTE[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class FrameReader:
    """Cuts a stream of bytes, fed as it arrives, into the bodies of whole messages."""

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._buffer = bytearray()
        self._max_bytes = max_bytes

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield each body that `data` completes. Raises FramingError on a senseless length."""
        if not self._buffer and 0 < len(data) <= 0x80 and data[0] == len(data) - 1:
            # One small message and nothing else: nearly every answer.
            yield data[1:]
            return
        self._buffer += data
        while (body := self._take()) is not None:
            yield body

    def _take(self) -> bytes | None:
        header = self._parse_length()
        if header is None:
            return None
        start, length = header
        if len(self._buffer) < start + length:
            return None
        body = bytes(self._buffer[start : start + length])
        del self._buffer[: start + length]
        return body

    def _parse_length(self) -> tuple[int, int] | None:
        """(bytes of the varint, its value), or None while it is not complete."""
        length = 0
        for index, byte in enumerate(self._buffer[:5]):
            length |= (byte & 0x7F) << (7 * index)
            if length > self._max_bytes:
                raise FramingError(f"a message of {length} bytes is too long")
            if byte < 0x80:
                return index + 1, length
        if len(self._buffer) >= 5:
            raise FramingError("a message's length takes more than 5 bytes")
        return None
