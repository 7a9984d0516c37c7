"""The server's end of the keeper: ask for processes, hear how they fare."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ya_salt.devporto.container import Container, Run, Stream
from ya_salt.devporto.environment import list_environment
from ya_salt.devporto.keeper import decode_message, encode_message
from ya_salt.devporto.refusal import Refusal
from ya_salt.devporto.tree import kill_quietly
from ya_salt.devporto.ulimits import DEFAULT, Ulimits, merge_ulimits
from ya_salt.devporto.users import UserBook
from ya_salt.proto import porto_pb2 as pb

_BOOT = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from ya_salt.devporto import keeper; keeper.main()"
)
_MAX_DATAGRAM = 1 << 20
OnExit = Callable[[Run, dict[str, Any]], None]


class Spawner:
    """Starts the keeper, sends it specs, turns its messages into results of futures."""

    def __init__(self, users: UserBook, scratch: str, sysroot: str | None) -> None:
        self._users = users
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
        package_root = str(Path(__file__).resolve().parents[2])
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
        spec = make_spec(container, self._users, self._sysroot)
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
    """Collect what `ya_salt.devporto.launch` needs to know."""
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
