"""One question to portod, without protobuf: which containers have changed, and what they use.

`get` with a `changed_since` that no clock has come to answers for each container its change time
and that it has none to tell (a change of state, and every property that is set, moves that time).
So what has not changed is answered byte by byte as it was. Without `changed_since` the same answer
also has what they use. The numbers of fields are of Porto's rpc.proto; loads next to nothing.
"""

from __future__ import annotations

import os
import time

from ya_salt import quick_socket
from ya_salt.porto.frames import FrameReader, FramingError, encode_varint, frame
from ya_salt.processes import find_peer, read_peer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    Use = dict[str, list[int]]
    """Container -> what it uses, by the variables that were asked for; who does not tell is not in
    it."""

NEVER = 1 << 33
"""Seconds since 1970: no clock has come to it, and none of portod's will."""
TIMEOUT_S = 1.0

_CONTAINER_DOES_NOT_EXIST = 4

_TIME_BYTES = 6
"""A change time from 1978 until 3058, with the byte that says what it is."""


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


def look(path: str, names: Iterable[str], timeout_s: float = TIMEOUT_S) -> Glance:
    """Ask which of these containers have changed. Raises NoGlanceError."""
    return Call(path, encode_question(encode_names(names)), timeout_s).receive()


# -- what is asked -------------------------------------------------------------------------------


def encode_names(names: Iterable[str]) -> bytes:
    """The containers that a question is about, as `encode_question` takes them."""
    return b"".join([_field(1, name.encode()) for name in names])


def encode_question(names: bytes, variables: Sequence[str] = ()) -> bytes:
    """Which of them have changed; with what they use, by `variables`, each a number."""
    asked = variables or ("state",)
    body = names + b"".join(_field(2, name.encode()) for name in asked)
    return _field(15, body if variables else body + b"\x30" + encode_varint(NEVER))


# -- what is answered ----------------------------------------------------------------------------


def say_unchanged(changed: Mapping[str, int]) -> bytes:
    """The answer where nothing has changed, if no more was asked.

    `changed`: container -> its change time, in the order of the question.
    """
    # Many have the same time: those that were started together.
    times = {when: b"\x18" + encode_varint(when) + b"\x20\x01" for when in {*changed.values()}}
    return b"".join(
        [_field(1, _field(1, name.encode()) + times[when]) for name, when in changed.items()]
    )


def read_use(told: bytes, unchanged: bytes, variables: Sequence[str]) -> Use | None:
    """What the containers use; None where one has changed, or is not all that was asked for.

    `unchanged` is what they would have told if they had not been asked for any `variables`. Raises
    NoGlanceError.
    """
    try:
        heads = [_field(1, name.encode()) + b"\x22" for name in variables]
        return dict(_walk(told, unchanged, heads))
    except (IndexError, ValueError):
        # One has changed, tells of an error, or more, or less, or the answer is cut off.
        pass
    times, used = [], {}
    for number, entry in _list_fields(told):
        if number == 1 and isinstance(entry, bytes):
            name, when, values = _read_entry(entry)
            times.append((name, when))
            if len(values) == len(variables) and all(map(bytes.isdigit, values)):
                used[name] = [int(value) for value in values]
    return used if times == list(parse_changes(unchanged).items()) else None


def _walk(told: bytes, unchanged: bytes, heads: Sequence[bytes]) -> Iterator[tuple[str, list[int]]]:
    """The same of the one form in which portod tells what it knows of every container.

    That is its length, then name, values and change time, all of less than 128 bytes, so that one
    tells how many. `heads`: what is before the length of each value. Field by field it would take
    three times as long. Raises IndexError, ValueError where it has any other form.
    """
    at, seen, size = 0, 0, len(unchanged)
    while seen < size:
        # As it is told without values: name, change time, and two bytes that nothing is to tell.
        start, seen = seen + 2, seen + 2 + unchanged[seen + 1]
        time_at = seen - 2 - _TIME_BYTES
        name = unchanged[start:time_at]
        length, stop = told[at + 1], at + 2
        if length >= 0x80:
            length, stop = length - 0x80 + (told[stop] << 7), stop + 1
        is_plain = told[at] == 0x0A and unchanged[start - 1] < 0x80 and told.startswith(name, stop)
        at = stop + length
        stop, values = stop + len(name), []
        for head in heads:
            first = stop + 3 + len(head)
            value = told[first : first + told[first - 1]]
            is_plain &= told[stop] == 0x12 and told.startswith(head, stop + 2) and value.isdigit()
            stop += 2 + told[stop + 1]
            is_plain &= first + len(value) == stop
            values.append(int(value))
        is_plain &= stop + _TIME_BYTES == at and told[stop:at] == unchanged[time_at : seen - 2]
        if not is_plain:
            raise ValueError(told[stop:at])
        yield name[2:].decode(), values
    if at != len(told):
        raise ValueError(told[at:])


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


def find_absent(told: bytes) -> dict[str, bytes]:
    """Container -> what is told of it, of those that do not exist, in the order of the answer.

    Whatever else keeps portod from telling of one is no absence. Raises NoGlanceError.
    """
    found = {}
    for number, entry in _list_fields(told):
        if number == 1 and isinstance(entry, bytes):
            name, codes, more = b"", [], False
            for field, data in _list_fields(entry):
                if field == 1 and isinstance(data, bytes):
                    name = data
                elif field == 2 and isinstance(data, bytes):
                    codes.append(dict(_list_fields(data)).get(2))
                else:
                    more = True
            if codes and not more and set(codes) == {_CONTAINER_DOES_NOT_EXIST}:
                found[name.decode("utf-8", "replace")] = _field(1, entry)
    return found


def _read_entry(entry: bytes) -> tuple[str, int, list[bytes]]:
    """Name, change time and values; -1 where it has none to tell."""
    name, when, values = "", -1, []
    for number, data in _list_fields(entry):
        if number == 1 and isinstance(data, bytes):
            name = data.decode("utf-8", "replace")
        elif number == 2 and isinstance(data, bytes):
            told = dict(_list_fields(data)).get(4, b"")
            values.append(told if isinstance(told, bytes) else b"")
        elif number == 3 and isinstance(data, int):
            when = data
    return name, when, values


# -- the wire ------------------------------------------------------------------------------------


class Call:
    """A question that is on its way: whoever asks may do other things until it is answered."""

    def __init__(self, path: str, request: bytes, timeout_s: float = TIMEOUT_S) -> None:
        """Raises NoGlanceError."""
        self._until = time.monotonic() + timeout_s
        try:
            self._connection = quick_socket.connect_path(path, timeout_s)
        except OSError as error:
            raise NoGlanceError(str(error)) from error
        try:
            self._peer = self._send(request)
        except OSError as error:
            self.close()
            raise NoGlanceError(str(error)) from error
        except NoGlanceError:
            self.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def _send(self, request: bytes) -> str:
        """To whom. Raises OSError, NoGlanceError."""
        if read_peer(self._connection)[1] not in {0, os.geteuid()}:
            raise NoGlanceError("it runs as somebody else")
        peer = find_peer(self._connection)
        self._connection.sendall(frame(request))
        return peer

    def receive(self) -> Glance:
        """The answer; nothing more can be asked. Raises NoGlanceError."""
        try:
            body = self._receive_body()
        except (OSError, FramingError) as error:
            raise NoGlanceError(str(error)) from error
        finally:
            self.close()
        clock, told, code = 0, b"", 0
        for number, value in _list_fields(body):
            if number == 1 and isinstance(value, int):
                code = value
            elif number == 10 and isinstance(value, bytes):
                told = value
            elif number == 1000 and isinstance(value, int):
                clock = value
        if code or not clock or not self._peer:
            raise NoGlanceError("portod does not say")
        return Glance(clock, told, self._peer)

    def _receive_body(self) -> bytes:
        """Raises OSError, FramingError, NoGlanceError."""
        frames = FrameReader()
        while True:
            left = self._until - time.monotonic()
            if left <= 0:
                raise NoGlanceError("no answer in time")
            self._connection.settimeout(left)
            more = self._connection.recv(1 << 18)
            if not more:
                raise NoGlanceError("portod closed the connection")
            for body in frames.feed(more):
                return body


def _field(number: int, data: bytes) -> bytes:
    size = len(data)
    if number < 0x10 and size < 0x80:
        # A byte each, as nearly always.
        return bytes((number << 3 | 2, size)) + data
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
