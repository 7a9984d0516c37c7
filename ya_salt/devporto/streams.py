"""Captured stdout and stderr: read in part, cut at the head when they grow."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from ya_salt.devporto.container import Container, Stream
from ya_salt.devporto.refusal import Refusal
from ya_salt.devporto.values import parse_uint64
from ya_salt.proto import porto_pb2 as pb

_READ_MAX = 16 << 20


def read_stream(container: Container, stream: Stream, window: str = "") -> str:
    """`[offset][:limit]`; without an offset the last bytes. Raises Refusal(InvalidData)."""
    path = container.find_stream_path(stream)
    if not path:
        raise Refusal(pb.InvalidData, "Data not available")
    start, _, length = window.partition(":")
    offset = _find_offset(stream, start)
    limit = parse_uint64(length) if length else container.stdout_limit
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise Refusal(pb.InvalidData, f"{path}: {error.strerror}") from error
    try:
        return _read_window(fd, offset, min(limit, _READ_MAX), from_end=not start)
    finally:
        os.close(fd)


def _find_offset(stream: Stream, text: str) -> int:
    if not text:
        return 0
    offset = parse_uint64(text)
    if offset < stream.offset:
        raise Refusal(pb.InvalidData, f"Requested offset lower than current {stream.offset}")
    return offset - stream.offset


def _read_window(fd: int, offset: int, limit: int, *, from_end: bool) -> str:
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        raise Refusal(pb.InvalidData, "File is non-regular")
    if from_end and info.st_size > limit:
        offset = info.st_size - limit
    if offset >= info.st_size:
        return ""
    # A string of the protocol has to be UTF-8; what a daemon writes need not be.
    return os.pread(fd, limit, offset).decode("utf-8", "replace")


def rotate_streams(container: Container) -> None:
    """Keep at most half of the limit of each stream that has outgrown it, as portod does."""
    for stream in (container.stdout, container.stderr):
        path = container.find_stream_path(stream)
        if path:
            with contextlib.suppress(OSError):
                stream.offset += _cut_head(Path(path), container.stdout_limit)


def _cut_head(path: Path, limit: int) -> int:
    """How many bytes went."""
    info = path.lstat()
    if not stat.S_ISREG(info.st_mode) or info.st_size <= max(limit, info.st_blksize):
        return 0
    lost = info.st_size - limit // 2
    lost -= lost % info.st_blksize
    # portod collapses the range in the file system; a copy works on all of them.
    with path.open("r+b", buffering=0) as file:
        file.seek(lost)
        tail = file.read()
        file.truncate(0)
        with path.open("ab", buffering=0) as end:
            end.write(tail)
    return lost


def remove_streams(container: Container) -> None:
    """Files named by the client stay; the server's own go."""
    for stream in (container.stdout, container.stderr):
        if not stream.inside and not stream.path.startswith("/"):
            Path(container.workdir, stream.path).unlink(missing_ok=True)
