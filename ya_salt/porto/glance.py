"""One question to portod, without protobuf: which containers have changed, and when.

`get` with a `changed_since` that no clock has come to answers for each container its change time
and that it has none to tell (a change of state, and every property that is set, moves that time).
So what has not changed is answered byte by byte as it was. The numbers of fields are of Porto's
rpc.proto; loads next to nothing.
"""

from __future__ import annotations

import os
import socket
import time

from ya_salt.porto.frames import FrameReader, FramingError, encode_varint, frame
from ya_salt.processes import find_peer, read_peer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

NEVER = 1 << 33
"""Seconds since 1970: no clock has come to it, and none of portod's will."""
TIMEOUT_S = 1.0


class NoGlanceError(Exception):
    """portod does not answer, or not in a form that tells: ask it in full."""


class Glance:
    """What portod answered."""

    def __init__(self, clock: int, told: bytes, peer: str) -> None:
        self.clock = clock
        """portod's time, whole seconds since 1970."""
        self.told = told
        """Its answer to `get`."""
        self.peer = peer
        """The process that answers, and when it was started."""
        self.step = clock - time.clock_gettime(time.CLOCK_BOOTTIME)
        """Its clock against the time since the boot, as it answered: a pass may take long."""


class Question:
    """Which containers have changed, and the answer where none has.

    `changed`: container -> its change time.
    """

    def __init__(self, changed: Mapping[str, int]) -> None:
        self.request = _encode_get(changed, ("state",), NEVER)
        self.unchanged = say_unchanged(changed)


def look(path: str, names: Sequence[str], timeout_s: float = TIMEOUT_S) -> Glance:
    """Ask which of these containers have changed. Raises NoGlanceError."""
    return ask(path, _encode_get(names, ("state",), NEVER), timeout_s)


def look_at_use(
    path: str, names: Sequence[str], variables: Sequence[str], timeout_s: float = TIMEOUT_S
) -> dict[str, list[int]]:
    """What those of them use that tell, by `variables`, each a number. Raises NoGlanceError."""
    answer = ask(path, _encode_get(names, variables, 0), timeout_s)
    return parse_use(answer.told, variables)


def parse_use(told: bytes, variables: Sequence[str]) -> dict[str, list[int]]:
    """The same of an answer to `get`. Raises NoGlanceError."""
    try:
        return dict(_walk_use(told, [_field(1, name.encode()) + b"\x22" for name in variables]))
    except (IndexError, ValueError):
        # Somebody tells of an error instead, or there is more, or less, or it is cut off.
        pass
    found = {}
    for number, entry in _list_fields(told):
        if number == 1 and isinstance(entry, bytes):
            name, values = _read_values(entry)
            if len(values) == len(variables) and all(map(bytes.isdigit, values)):
                found[name] = [int(value) for value in values]
    return found


def _walk_use(told: bytes, heads: Sequence[bytes]) -> Iterator[tuple[str, list[int]]]:
    """The same of the one form in which portod tells what it knows of every container.

    That is its length, then name, values and change time, all of less than 128 bytes, so that one
    tells how many. `heads`: what is before the length of each value. Field by field it would take
    three times as long. Raises IndexError, ValueError where it has any other form.
    """
    at, size = 0, len(told)
    while at < size:
        length, start = told[at + 1], at + 2
        if length >= 0x80:
            length, start = length - 0x80 + (told[start] << 7), start + 1
        stop = start + 2 + told[start + 1]
        is_plain = told[at] == told[start] == 0x0A
        name, values = told[start + 2 : stop].decode(), []
        for head in heads:
            first = stop + 3 + len(head)
            value = told[first : first + told[first - 1]]
            is_plain &= told[stop] == 0x12 and told.startswith(head, stop + 2) and value.isdigit()
            stop += 2 + told[stop + 1]
            is_plain &= first + len(value) == stop
            values.append(int(value))
        at = start + length
        # The change time takes five bytes from 1978 until 3058.
        most = told[stop + 1] & told[stop + 2] & told[stop + 3] & told[stop + 4]
        is_plain &= told[stop] == 0x18 and most >= 0x80 > told[stop + 5] and at == stop + 6
        if not is_plain:
            raise ValueError(told[start:at])
        yield name, values


def say_unchanged(changed: Mapping[str, int]) -> bytes:
    """The answer to `look` where nothing has changed. `changed`: container -> its change time."""
    return b"".join(
        _field(
            1,
            _field(1, name.encode()) + b"\x18" + encode_varint(when) + b"\x20\x01",
        )
        for name, when in changed.items()
    )


def parse_changes(told: bytes) -> dict[str, int]:
    """Container -> its change time, of those that say so and nothing else. Raises NoGlanceError."""
    found = {}
    for number, entry in _list_fields(told):
        if number != 1 or not isinstance(entry, bytes):
            continue
        values = dict(_list_fields(entry))
        name, when = values.get(1), values.get(3)
        if isinstance(name, bytes) and isinstance(when, int) and values.get(4) == 1:
            found[name.decode("utf-8", "replace")] = when
    return found


def _read_values(entry: bytes) -> tuple[str, list[bytes]]:
    name, values = "", []
    for number, data in _list_fields(entry):
        if number == 1 and isinstance(data, bytes):
            name = data.decode("utf-8", "replace")
        elif number == 2 and isinstance(data, bytes):
            told = dict(_list_fields(data)).get(4, b"")
            values.append(told if isinstance(told, bytes) else b"")
    return name, values


# -- the wire ------------------------------------------------------------------------------------


def ask(path: str, request: bytes, timeout_s: float = TIMEOUT_S) -> Glance:
    """Send an encoded request. Raises NoGlanceError."""
    until = time.monotonic() + timeout_s
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(path)
            if read_peer(connection)[1] not in {0, os.geteuid()}:
                raise NoGlanceError("it runs as somebody else")
            peer = find_peer(connection)
            connection.sendall(frame(request))
            body = _receive(connection, until)
    except (OSError, FramingError) as error:
        raise NoGlanceError(str(error)) from error
    clock, told, code = 0, b"", 0
    for number, value in _list_fields(body):
        if number == 1 and isinstance(value, int):
            code = value
        elif number == 10 and isinstance(value, bytes):
            told = value
        elif number == 1000 and isinstance(value, int):
            clock = value
    if code or not clock or not peer:
        raise NoGlanceError("portod does not say")
    return Glance(clock, told, peer)


def _receive(connection: socket.socket, until: float) -> bytes:
    """The body of one message. Raises OSError, FramingError, NoGlanceError."""
    frames = FrameReader()
    while True:
        left = until - time.monotonic()
        if left <= 0:
            raise NoGlanceError("no answer in time")
        connection.settimeout(left)
        more = connection.recv(1 << 18)
        if not more:
            raise NoGlanceError("portod closed the connection")
        for body in frames.feed(more):
            return body


def _encode_get(names: Iterable[str], variables: Iterable[str], changed_since: int) -> bytes:
    body = b"".join(_field(1, name.encode()) for name in names)
    body += b"".join(_field(2, name.encode()) for name in variables)
    if changed_since:
        body += b"\x30" + encode_varint(changed_since)
    return _field(15, body)


def _field(number: int, data: bytes) -> bytes:
    return encode_varint(number << 3 | 2) + encode_varint(len(data)) + data


def _list_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of a message's fields. Raises NoGlanceError on what is none."""
    at, end = 0, len(data)
    try:
        while at < end:
            tag, at = _read_varint(data, at)
            kind = tag & 7
            if kind == 0:
                value, at = _read_varint(data, at)
                yield tag >> 3, value
                continue
            if kind == 2:
                length, at = _read_varint(data, at)
            elif kind in {1, 5}:
                length = 8 if kind == 1 else 4
            else:
                raise NoGlanceError("that is no message of Porto's")
            if at + length > end:
                raise NoGlanceError("a message of Porto's that is cut off")
            yield tag >> 3, data[at : at + length]
            at += length
    except IndexError as error:
        raise NoGlanceError("a message of Porto's that is cut off") from error


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = 0, 0
    while byte >= 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        byte = data[at]
    return value | byte << shift, at + 1
