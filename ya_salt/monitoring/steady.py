"""Tell monitoring that everything is as it was: what a full pass has rendered, sent once more.

Only for a host on which nothing has changed. What does not go exactly as with that pass (another
answer, no answer, another file) is no success, and then a full pass tells everybody, and says what
is wrong. Loads next to nothing.
"""

from __future__ import annotations

import os
import time
import zlib

from ya_salt import quick_socket
from ya_salt.as_left import is_ours
from ya_salt.monitoring.verdicts import find_refused, says_no

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

LIMIT_S = 0.9
"""For all sinks together."""
_MAX_ANSWER_BYTES = 1 << 20
_MAX_FILE_BYTES = 64 << 20
_UNKNOWN = 1 << 62
"""The length of a body that does not say it: it ends with the connection."""
_MEMORY = "porto_daemon_memory_usage_bytes"
_CPU = "porto_daemon_cpu_usage_seconds_total"
_ENDED = "porto_daemons_pass_timestamp_seconds"
_DURATION = "porto_daemons_pass_duration_seconds"


def push_all(pushes: Iterable[Sequence[Any]]) -> bool:
    """Whether every sink took what it was told. Raises nothing.

    `pushes`: sink, (host, port), path, body, and what the full pass was answered, or None.
    """
    until = time.monotonic() + LIMIT_S
    try:
        return all(_push(push, until) for push in pushes)
    except (OSError, ValueError, TypeError, LookupError):
        return False


def _push(push: Sequence[Any], until: float) -> bool:
    sink, place, path, body, before = push
    status, answer = _post(place, path, body, until)
    # The same word means the same.
    return 200 <= status < 300 and (answer == before or _is_taken(sink, body, answer))


def _post(place: Sequence[Any], path: str, body: bytes, until: float) -> tuple[int, bytes]:
    """Status and body of the answer. Raises OSError, ValueError: it is none, or comes too late.

    HTTP/1.0, whose answers end where the connection does. By hand, as http.client takes as long to
    load as all the rest of a quick pass, and waits for ever for an answer that drips.
    """
    host, port = place
    head = (
        f"POST {path} HTTP/1.0\r\nHost: {host}:{port}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection = quick_socket.connect(host, port, _find_left(until))
    try:
        connection.settimeout(_find_left(until))
        connection.sendall(head.encode("ascii") + body)
        return _read_answer(connection, until)
    finally:
        connection.close()


def _read_answer(connection: _socket.socket, until: float) -> tuple[int, bytes]:
    data, is_over = bytearray(), False
    while True:
        start, _, body = bytes(data).partition(b"\r\n\r\n")
        lines = start.split(b"\r\n")
        wanted = _find_length(lines[1:])
        if is_over or (b"\r\n\r\n" in data and len(body) >= wanted):
            break
        connection.settimeout(_find_left(until))
        piece = connection.recv(1 << 16)
        data += piece
        is_over = not piece
        if len(data) > _MAX_ANSWER_BYTES:
            raise ValueError("the answer has no end")
    words = lines[0].split(b" ")
    if not words[0].startswith(b"HTTP/1.") or (is_over and len(body) < wanted < _UNKNOWN):
        raise ValueError("that is no answer, or a part of one")
    return int(words[1]), body


def _find_length(headers: Iterable[bytes]) -> int:
    for line in headers:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return _UNKNOWN


def _find_left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _is_taken(sink: str, body: bytes, answer: bytes) -> bool:
    """Whether the answer is the yes that the sink says; raises ValueError where it is no JSON."""
    import json

    if sink == "yasm":
        return not says_no(json.loads(answer) if answer.strip() else None)
    if sink == "juggler":
        return not find_refused(json.loads(body)["events"], json.loads(answer))
    return True


# -- node_exporter's file --------------------------------------------------------------------------


def sign_text(text: bytes) -> int:
    """Of a textfile, what does not change while nothing happens to its daemons.

    Raises ValueError where a family that does is not in it.
    """
    sign, at = 0, 0
    for start, end, _ in _find_moving(text):
        sign, at = zlib.crc32(text[at:start], sign), end
    return zlib.crc32(text[at:], sign)


def _find_moving(text: bytes) -> list[tuple[int, int, str]]:
    """From where to where the samples of a family lie that does, and its name. Raises ValueError.

    What is in a family is no comment, and what is between two is.
    """
    found = []
    for family in (_MEMORY, _CPU, _ENDED, _DURATION):
        # The end of the line that says its type.
        before = text.index(b"\n", text.index(f"\n# TYPE {family} ".encode()) + 1)
        end = text.find(b"\n#", before)
        found.append((before + 1, len(text) if end < 0 else end + 1, family))
    return sorted(found)


def renew_text(
    text: bytes, use: Mapping[str, Sequence[int]], started: float, ended: float
) -> bytes | None:
    """The file as a pass would write it now. `use`: container -> bytes, and nanoseconds of CPU.

    None where a daemon in it does not tell what it uses. Raises ValueError as `sign_text`.
    """
    moments = {_ENDED: ended, _DURATION: round(ended - started, 3)}
    pieces, at = [], 0
    try:
        for start, end, family in _find_moving(text):
            pieces += [text[at:start], _renew(text[start:end].decode(), family, use, moments)]
            at = end
    except LookupError:
        return None
    return b"".join([*pieces, text[at:]])


def _renew(
    samples: str,
    family: str,
    use: Mapping[str, Sequence[int]],
    moments: Mapping[str, float],
) -> bytes:
    """Raises LookupError where one of them is of no daemon that tells what it uses."""
    if family in moments:
        return f"{family} {moments[family]!r}\n".encode()
    start = f'{family}{{daemon="'
    column, unit = (0, 1) if family == _MEMORY else (1, 10**9)
    # A daemon's name has nothing in it that would be escaped.
    names = [line[len(start) : line.rfind('"')] for line in samples.splitlines()]
    return "".join([f'{start}{name}"}} {use[name][column] / unit!r}\n' for name in names]).encode()


def sign_file(path: str, name: str) -> int:
    """`sign_text` of a file in this directory. Raises OSError, ValueError."""
    folder = open_folder(path)
    try:
        return sign_text(_read_text(folder, name))
    finally:
        os.close(folder)


def renew_file(
    path: str, name: str, sign: int, use: Mapping[str, Sequence[int]], started: float
) -> bool:
    """Renew a file whose rest is as it was; False where it is not. Raises OSError, ValueError."""
    folder = open_folder(path)
    try:
        text = _read_text(folder, name)
        new = renew_text(text, use, started, time.time())
        if new is None or sign_text(text) != sign:
            return False
        write_text(folder, name, new)
    finally:
        os.close(folder)
    return True


def _read_text(folder: int, name: str) -> bytes:
    """The file of an open directory. Raises OSError, ValueError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, dir_fd=folder), "rb") as file:
        return file.read(_MAX_FILE_BYTES)


def open_folder(path: str) -> int:
    """Of textfiles. Raises OSError, ValueError where others may write into it."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if not is_ours(os.fstat(folder)):
        os.close(folder)
        raise ValueError(path)
    return folder


def write_text(folder: int, name: str, data: bytes) -> None:
    """Put the file in place of the one before: it is always whole. Raises OSError."""
    # Not a name that node_exporter reads.
    beside = f".{name}.new"
    try:
        os.unlink(beside, dir_fd=folder)
    except FileNotFoundError:
        pass
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(beside, flags, 0o644, dir_fd=folder), "wb") as file:
        file.write(data)
        # node_exporter runs as a user of its own, whatever our umask is.
        os.fchmod(file.fileno(), 0o644)
    os.replace(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
