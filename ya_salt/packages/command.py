"""Run apt and dpkg: never a shell, bounded memory, an end to everything that hangs."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ya_salt.errors import PackageError
from ya_salt.packages import procs

_MAX_LINES = 2000
_MAX_LINE = 1000
_TICK_S = 0.5


@dataclass(frozen=True)
class Finished:
    """A command that ended. `lines` are its last ones, stdout and stderr together.

    `hung` are the maintainer scripts that were ended for taking too long, `went_quiet` says that
    the whole command was, for saying nothing at all.
    """

    code: int
    lines: tuple[str, ...]
    hung: tuple[procs.Script, ...] = ()
    went_quiet: bool = False


def run_short(
    argv: Sequence[str], environment: Mapping[str, str], timeout_s: float = 120, cwd: str = "/"
) -> Finished:
    """For commands that only read. Raises PackageError (AptMissing, AptFailed)."""
    try:
        done = subprocess.run(
            argv,
            env=dict(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise missing(argv[0]) from error
    except subprocess.TimeoutExpired as error:
        raise PackageError(
            "AptFailed", f"{argv[0]} gave no answer in {timeout_s:.0f} s: is a disk hanging?"
        ) from error
    return Finished(done.returncode, tuple(done.stdout.decode(errors="replace").splitlines()))


def missing(tool: str) -> PackageError:
    return PackageError(
        "AptMissing",
        f"{tool} is not on this host: ya-salt installs Debian packages and needs apt and dpkg",
    )


def run_long(
    argv: Sequence[str],
    environment: Mapping[str, str],
    on_line: Callable[[str], None],
    *,
    script_timeout_s: float,
    quiet_timeout_s: float,
) -> Finished:
    """For commands that change something; `on_line` gets every line as it comes.

    A maintainer script older than `script_timeout_s` is ended with everything it started, and
    dpkg goes on; a command that says nothing for `quiet_timeout_s` is ended as a whole, and so is
    one that we leave by an exception.
    """
    try:
        # Its own session: a Ctrl-C meant for us does not stop dpkg half-way through a file.
        process = subprocess.Popen(
            argv,
            env=dict(environment),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o022,
        )
    except FileNotFoundError as error:
        raise missing(argv[0]) from error
    run = _Run(process, on_line, script_timeout_s, quiet_timeout_s)
    try:
        return run.follow()
    finally:
        run.close()


class _Run:
    def __init__(
        self,
        process: subprocess.Popen[bytes],
        on_line: Callable[[str], None],
        script_timeout_s: float,
        quiet_timeout_s: float,
    ) -> None:
        self._process = process
        self._on_line = on_line
        self._script_timeout_s = script_timeout_s
        self._quiet_timeout_s = quiet_timeout_s
        self._lines: deque[str] = deque(maxlen=_MAX_LINES)
        self._rest = b""
        self._first_seen: dict[procs.Process, float] = {}
        self._hung: list[procs.Script] = []
        assert process.stdout is not None  # noqa: S101 - asked for in Popen
        self._pipe = process.stdout.fileno()
        os.set_blocking(self._pipe, False)

    def follow(self) -> Finished:
        """Until the command itself ends: a daemon it left behind may keep the pipe open."""
        heard = time.monotonic()
        went_quiet = False
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            while self._process.poll() is None:
                if selector.select(self._tick_s()) and self._read():
                    heard = time.monotonic()
                self._end_old_scripts()
                if time.monotonic() - heard > self._quiet_timeout_s and not went_quiet:
                    went_quiet = True
                    self._end_everything()
        self._read()
        self._take(b"\n")
        return Finished(self._process.returncode, tuple(self._lines), tuple(self._hung), went_quiet)

    def close(self) -> None:
        if self._process.poll() is None:
            self._end_everything()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _tick_s(self) -> float:
        return min(_TICK_S, self._script_timeout_s / 4)

    def _read(self) -> bool:
        """Take what is there; False at the end or when there was nothing."""
        got = False
        try:
            while chunk := os.read(self._pipe, 65536):
                got = True
                self._take(chunk)
        except BlockingIOError:
            return got
        time.sleep(0.02)  # The pipe is closed: select() would return at once, again and again.
        return got

    def _take(self, chunk: bytes) -> None:
        *lines, rest = (self._rest + chunk).replace(b"\r", b"\n").split(b"\n")
        self._rest = rest[:_MAX_LINE]
        for line in lines:
            text = line[:_MAX_LINE].decode(errors="replace").rstrip()
            if text:
                self._lines.append(text)
                self._on_line(text)

    def _end_old_scripts(self) -> None:
        now = time.monotonic()
        if now - getattr(self, "_looked", 0.0) < self._tick_s():
            return
        self._looked = now
        processes = procs.read_processes()
        scripts = procs.find_scripts(processes, self._process.pid)
        self._first_seen = {p: self._first_seen.get(p, now) for p in scripts}
        for script, since in self._first_seen.items():
            if now - since > self._script_timeout_s:
                self._hung.append(procs.describe_script(script))
                procs.end_all(partial(self._find_family, script))

    def _end_everything(self) -> None:
        procs.end_all(self._find_all, grace_s=5.0)

    def _find_family(self, script: procs.Process) -> set[int]:
        return procs.find_family(procs.read_processes(), script, self._process.pid)

    def _find_all(self) -> set[int]:
        processes = procs.read_processes()
        mine = {p.pid for p in processes.values() if p.session == self._process.pid}
        return procs.find_tree(processes, self._process.pid) | mine
