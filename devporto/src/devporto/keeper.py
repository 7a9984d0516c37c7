"""The process between the server and the containers' processes. Standard library only.

The server starts one keeper. For every container that starts, the keeper forks a small init, and
the init forks the command. Both are subreapers, so whatever the command leaves behind, in whatever
session, still hangs below its init; when the command ends the init kills the rest, as Porto kills a
cgroup. When the server is gone, however it went, the keeper kills everything below itself.

Messages are JSON datagrams over one SOCK_SEQPACKET socket: the server sends specs, the inits send
what happened (`started`, `failed`, `exit`), the keeper sends `lost` for an init somebody killed.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import resource
import select
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from devporto.kernel import (
    WordExpError,
    apply_schedule,
    become_subreaper,
    die_with_parent,
    keep_capabilities,
    kill_descendants,
    kill_quietly,
    limit_capabilities,
    list_children,
    raise_capabilities,
    split_words,
)

_MAX_DATAGRAM = 1 << 20
_INIT_SIGNALS = {signal.SIGCHLD, signal.SIGTERM}


def encode_message(message: dict[str, Any]) -> bytes:
    """Any string the file system can hold survives (surrogateescape)."""
    return json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogateescape")


def decode_message(data: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(data.decode("utf-8", "surrogateescape"))
    return decoded


class Keeper:
    """Forks inits on request until the server's end of the socket closes."""

    def __init__(self, sock: socket.socket, scratch: str) -> None:
        self._sock = sock
        # It came by inheritance; the commands must not get it that way.
        sock.set_inheritable(False)
        self._scratch = scratch
        self._runs: dict[int, int] = {}
        self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_w, False)
        os.set_blocking(self._wake_r, False)

    def serve(self) -> None:
        become_subreaper()
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, signal.SIG_IGN)
        gc.freeze()
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(self._wake_r, select.POLLIN)
        while self._turn(poll):
            pass
        self._clean_up()

    def _turn(self, poll: select.poll) -> bool:
        for fd, _ in poll.poll():
            if fd == self._wake_r:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_r, 4096)
                self._reap()
            elif not self._receive():
                return False
        return True

    def _receive(self) -> bool:
        try:
            data = self._sock.recv(_MAX_DATAGRAM)
        except ConnectionError:
            return False
        if data:
            self._fork_init(decode_message(data))
        return bool(data)

    def _fork_init(self, spec: Spec) -> None:
        pid = os.fork()
        if pid == 0:
            _run_init(self._sock, spec)
        self._runs[pid] = spec["run"]

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                run = self._runs.pop(pid, None)
                if run is not None and status:
                    with contextlib.suppress(OSError):
                        self._sock.send(encode_message({"run": run, "event": "lost"}))
                if run is None or status:
                    self._kill_strays()

    def _kill_strays(self) -> None:
        """Kill what hung below an init that was killed: it is ours now, and nobody's.

        Those whose parents die of it become ours a moment later, and are found at the next death.
        """
        for pid in list_children(os.getpid()):
            if pid not in self._runs:
                kill_descendants(pid)
                kill_quietly(pid, signal.SIGKILL)

    def _clean_up(self) -> None:
        while kill_descendants(os.getpid()):
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.005)
        shutil.rmtree(self._scratch, ignore_errors=True)


def _run_init(sock: socket.socket, spec: Spec) -> NoReturn:
    """Be a container's init: start the command, outlive it, leave nothing behind."""
    try:
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_BLOCK, _INIT_SIGNALS)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with_parent(signal.SIGKILL)
        become_subreaper()
        _Init(sock, spec["run"]).run(spec)
    finally:
        os._exit(1)


class _Init:
    def __init__(self, sock: socket.socket, run: int) -> None:
        self._sock = sock
        self._run = run
        self._main = 0
        self._status: int | None = None

    def run(self, spec: Spec) -> NoReturn:
        failure = self._start(spec)
        if failure:
            self._kill_all()
            self._send(event="failed", **failure)
            os._exit(0)
        self._send(event="started", pid=self._main, init=os.getpid())
        self._wait()
        self._kill_all()
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._send(
            event="exit",
            status=self._status or 0,
            cpu=[usage.ru_utime, usage.ru_stime],
            faults=[usage.ru_minflt, usage.ru_majflt],
        )
        os._exit(0)

    def _send(self, **message: Any) -> None:
        with contextlib.suppress(OSError):
            self._sock.send(encode_message({"run": self._run, **message}))

    def _start(self, spec: Spec) -> dict[str, str] | None:
        """Fork the command. What went wrong, or None once it is executing."""
        reader, writer = os.pipe()
        self._main = os.fork()
        if self._main == 0:
            _run_main(writer, spec)
        os.close(writer)
        answer = b""
        while chunk := os.read(reader, 65536):
            answer += chunk
        os.close(reader)
        return decode_message(answer) if answer else None

    def _wait(self) -> None:
        """Until the command ends, or the server says (SIGTERM) that it is enough."""
        while self._status is None:
            if signal.sigwait(_INIT_SIGNALS) == signal.SIGTERM:
                return
            self._reap()

    def _reap(self) -> bool:
        """Collect the dead; False once there is nobody left."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return True
                if pid == self._main:
                    self._status = status
        except ChildProcessError:
            return False

    def _kill_all(self) -> None:
        while self._reap():
            kill_descendants(os.getpid())
            signal.sigtimedwait({signal.SIGCHLD}, 0.02)


def _run_main(writer: int, spec: Spec) -> NoReturn:
    try:
        launch(spec)
    except LaunchError as error:
        os.write(writer, encode_message({"code": error.code, "text": str(error)}))
    except Exception as error:  # noqa: BLE001 - a forked child has nobody to raise to
        os.write(writer, encode_message({"code": "Unknown", "text": repr(error)}))
    finally:
        os._exit(1)


def main() -> None:
    """`python -c ... FD SCRATCH`: serve the socket inherited as FD."""
    Keeper(socket.socket(fileno=int(sys.argv[1])), sys.argv[2]).serve()


Spec = dict[str, Any]
"""What the server sends: see `devporto.runs.make_spec`."""


class LaunchError(Exception):
    """The command was not started. `code` is the name of an EError."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def launch(spec: Spec) -> NoReturn:
    """Turn a freshly forked process into a container's main process.

    The order is portod's own: streams of its choosing, limits, session, directory, credentials,
    streams of the user's choosing, umask, environment, words of the command, exec. Never returns.
    Raises LaunchError, or OSError for what has no code of its own.
    """
    for stream in range(3):
        _open_stream(stream, spec, inside=False)
    _apply_limits(spec["ulimits"])
    os.setsid()
    os.umask(0)
    _enter_directory(spec["cwd"])
    _write_oom_score(spec["oom_score_adj"])
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, spec["cpus"])
    apply_schedule(0, *spec["schedule"])
    if spec["credentials"] is not None:
        bound, ambient = spec["capabilities"]
        limit_capabilities(bound)
        with keep_capabilities():
            _become(*spec["credentials"])
            raise_capabilities(ambient & bound)
    for stream in range(3):
        _open_stream(stream, spec, inside=True)
    os.umask(spec["umask"])
    # After the change of user: that clears the request.
    die_with_parent(signal.SIGKILL)
    _reset_signals()
    os.environ.clear()
    os.environ.update(spec["env"])
    _execute(_find_words(spec), spec["sysroot"])


def _open_stream(stream: int, spec: Spec, *, inside: bool) -> None:
    path, is_inside = spec["streams"][stream]
    if is_inside != inside:
        return
    try:
        fd = _open(stream, path, spec["stream_owner"])
    except OSError as error:
        raise LaunchError("InvalidValue", f"open {path}: {error.strerror}") from error
    if fd != stream:
        os.dup2(fd, stream)
        os.close(fd)
    else:
        os.set_inheritable(fd, True)


def _open(stream: int, path: str, owner: tuple[int, int] | None) -> int:
    if stream == 0:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        os.set_blocking(fd, True)
        return fd
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOCTTY
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o660)
    if owner is not None:
        with contextlib.suppress(PermissionError):  # created by the user itself
            os.fchown(fd, *owner)
    return fd


def _apply_limits(ulimits: list[tuple[str, int, int]]) -> None:
    for name, soft, hard in ulimits:
        kind = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if kind is None:
            continue
        if soft > hard or (name == "nofile" and hard > _read_open_max()):
            raise LaunchError("Unknown", f"prlimit {name} {soft} {hard}")
        limits = tuple(resource.RLIM_INFINITY if n >= 2**64 - 1 else n for n in (soft, hard))
        # Raising a hard limit takes root; a development server goes on without.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (limits[0], limits[1]))


def _read_open_max() -> int:
    return int(Path("/proc/sys/fs/nr_open").read_bytes())


def _enter_directory(cwd: str) -> None:
    try:
        os.chdir(cwd)
    except OSError as error:
        raise LaunchError("InvalidPath", f"chdir {cwd}: {error.strerror}") from error


def _write_oom_score(value: int) -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_bytes(b"%d" % value)


def _become(uid: int, gid: int, groups: list[int]) -> None:
    os.setgid(gid)
    os.setgroups(groups)
    os.setuid(uid)


def _reset_signals() -> None:
    for sig in signal.valid_signals():
        with contextlib.suppress(OSError, ValueError):
            signal.signal(sig, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _find_words(spec: Spec) -> list[bytes]:
    if spec["argv"] is not None:
        words = [os.fsencode(word) for word in spec["argv"]]
    else:
        try:
            words = split_words(spec["command"])
        except WordExpError as error:
            raise LaunchError("InvalidCommand", f"wordexp(): {error}") from error
    if not words:
        raise LaunchError("InvalidCommand", "nothing to execute")
    return words


def _execute(words: list[bytes], sysroot: str | None) -> NoReturn:
    worst = errno.ENOENT
    for path in _list_candidates(words[0], os.fsencode(sysroot or "")):
        try:
            os.execve(path, words, os.environb)  # noqa: S606 - this is the command itself
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                # As execvp(3): a text without #! is a script of the shell.
                os.execve(b"/bin/sh", [b"/bin/sh", path, *words[1:]], os.environb)  # noqa: S606
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                worst = error.errno or worst
    raise _describe_failure(worst, words[0])


def _describe_failure(number: int, program: bytes) -> LaunchError:
    code = "ResourceNotAvailable" if number == errno.EAGAIN else "InvalidCommand"
    return LaunchError(code, f"{os.strerror(number)}: cannot exec {os.fsdecode(program)}")


def _list_candidates(program: bytes, sysroot: bytes) -> list[bytes]:
    if not program:
        return []
    if b"/" in program:
        paths = [program]
    else:
        directories = os.environb.get(b"PATH", b"/bin:/usr/bin").split(b":")
        paths = [os.path.join(directory or b".", program) for directory in directories]  # noqa: PTH118
    if not sysroot:
        return paths
    return [one for path in paths for one in _prefer_sysroot(path, sysroot)]


def _prefer_sysroot(path: bytes, sysroot: bytes) -> list[bytes]:
    return [sysroot + path, path] if path.startswith(b"/") else [path]
