"""One run of a command: asked of the keeper, its directory, its captured streams, its exit."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from devporto import porto_pb2 as pb
from devporto.capabilities import find_ambient, find_bound
from devporto.containers import Container, Run, Stream
from devporto.environment import list_environment
from devporto.hardware import find_cpus, find_schedule, read_topology
from devporto.keeper import decode_message, encode_message
from devporto.kernel import kill_quietly
from devporto.refusal import Refusal
from devporto.users import UserBook
from devporto.values import DEFAULT, Ulimits, merge_ulimits, parse_uint64

_BOOT = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from devporto import keeper; keeper.main()"
)
_MAX_DATAGRAM = 1 << 20
OnExit = Callable[[Run, dict[str, Any]], None]


class Spawner:
    """Starts the keeper, sends it specs, turns its messages into results of futures."""

    def __init__(self, users: UserBook, scratch: str, sysroot: str | None) -> None:
        self.users = users
        self._sysroot = sysroot
        self._numbers = itertools.count(1)
        self._runs: dict[int, Run] = {}
        self.on_exit: OnExit = lambda _, __: None
        self.on_lost: Callable[[], None] = lambda: None
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            for sock in (self._sock, theirs):
                for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                    sock.setsockopt(socket.SOL_SOCKET, option, _MAX_DATAGRAM)
            self._process = self._start(theirs, scratch)

    @staticmethod
    def _start(theirs: socket.socket, scratch: str) -> subprocess.Popen[bytes]:
        package_root = str(Path(__file__).resolve().parents[1])
        # Isolated, without site-packages: a small process forks fast, and it forks for each start.
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BOOT, package_root, str(theirs.fileno()), scratch],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def listen(self, on_exit: OnExit) -> None:
        """Deliver messages from now on in the running loop."""
        self.on_exit = on_exit
        self._sock.setblocking(False)
        asyncio.get_running_loop().add_reader(self._sock, self._receive_all)

    def close(self) -> None:
        """Let the keeper see the end of the socket; wait until it has killed everything."""
        self._sock.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=15)

    async def start(self, container: Container) -> Run:
        """Execute the container's command. Raises Refusal."""
        loop = asyncio.get_running_loop()
        run = Run(next(self._numbers), container, loop.create_future(), loop.create_future())
        spec = make_spec(container, self.users, self._sysroot)
        self._runs[run.number] = run
        try:
            await loop.sock_sendall(self._sock, encode_message({"run": run.number, **spec}))
            await run.started
        except OSError as error:
            raise Refusal(pb.Unknown, f"cannot start a process: {error}") from error
        finally:
            if not run.pid:
                self._runs.pop(run.number, None)
        return run

    @staticmethod
    def end(run: Run) -> None:
        """Kill everything of this run; `run.finished` tells when it is done."""
        kill_quietly(run.init, signal.SIGTERM)

    def _receive_all(self) -> None:
        while True:
            try:
                data = self._sock.recv(_MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                asyncio.get_running_loop().remove_reader(self._sock)
                self.on_lost()
                return
            self._deliver(decode_message(data))

    def _deliver(self, message: dict[str, Any]) -> None:
        run = self._runs.get(message["run"])
        if run is None:
            return
        event = message["event"]
        if event == "started":
            run.pid, run.init = message["pid"], message["init"]
            run.started.set_result(None)
        elif not run.started.done():
            code = pb.EError.Value(message.get("code", "Unknown"))
            run.started.set_exception(Refusal(code, message.get("text", "lost at start")))
        else:
            del self._runs[run.number]
            self.on_exit(run, message)
            run.finished.set_result(None)


def make_spec(container: Container, users: UserBook, sysroot: str | None) -> dict[str, Any]:
    """Collect what `devporto.keeper.launch` needs to know."""
    task = container.task
    is_root = os.geteuid() == 0
    env = list_environment(container, users)
    return {
        "command": container.command,
        "argv": container.argv,
        "env": {name: value for name, value in env.items() if value is not None},
        "cwd": container.find_cwd(),
        "umask": container.values.get("umask", 0o002) & 0o777,
        "ulimits": [[name, *limits] for name, limits in _find_ulimits(container).items()],
        "oom_score_adj": container.values.get("oom_score_adj", 0),
        "cpus": sorted(find_cpus(container, read_topology())),
        "schedule": find_schedule(container),
        "capabilities": [find_bound(container), find_ambient(container)] if is_root else None,
        "credentials": [task.uid, task.gid, list(task.groups)] if is_root else None,
        "stream_owner": [task.uid, task.gid] if is_root else None,
        "streams": [
            _place_stream(container, stream)
            for stream in (container.stdin, container.stdout, container.stderr)
        ],
        "sysroot": sysroot,
    }


def _find_ulimits(container: Container) -> Ulimits:
    """Own limits, then those of the ancestors, then portod's defaults."""
    limits: Ulimits = DEFAULT
    for one in reversed(list(container.ancestors())):
        limits = merge_ulimits(limits, one.values.get("ulimit", {}))
    return limits


def _place_stream(container: Container, stream: Stream) -> list[Any]:
    """[path, opened as the container's user]."""
    if stream.redirect:
        return [stream.redirect, False]
    if not stream.path:
        return ["/dev/null", False]
    if stream.inside:
        return [os.path.join(container.find_cwd(), stream.path), stream.path != "/dev/null"]  # noqa: PTH118
    return [os.path.join(container.workdir, stream.path), False]  # noqa: PTH118


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
    return os.pread(fd, limit, offset).decode("utf-8", "surrogateescape")


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


_SIGRTMIN = 34


def translate_status(status: int) -> int:
    """Turn 128 + signal into that signal: portod's init cannot die like its child, so it exits so.

    The same happens to a command that exits with such a code by itself.
    """
    code = status >> 8
    if status & 0xFF or not 128 < code < 128 + 2 * _SIGRTMIN:
        return status
    return code - (_SIGRTMIN if code > 128 + _SIGRTMIN else 128)


def make_workdir(container: Container) -> None:
    """Make a private directory for a run. Raises Refusal."""
    path = Path(container.workdir)
    shutil.rmtree(path, ignore_errors=True)
    try:
        path.mkdir(parents=True)
        path.chmod(0o775)
        if os.geteuid() == 0:
            os.chown(path, container.task.uid, container.task.gid)
    except OSError as error:
        raise Refusal(pb.Unknown, f"working directory: {error}") from error


def remove_workdir(container: Container) -> None:
    """Forget captured streams and the private directory."""
    remove_streams(container)
    shutil.rmtree(container.workdir, ignore_errors=True)
