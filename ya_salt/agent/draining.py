"""The agent's side of its drainer: have one, hear what it tells, end one that does not answer."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from ya_salt import __version__
from ya_salt.converge.listening import ListeningError, connect
from ya_salt.model import DaemonSpec
from ya_salt.packages.unit import find_obstacle
from ya_salt.processes import read_peer, read_work
from ya_salt.quick_dataclass import dataclass
from ya_salt.specs.sockets import is_notify
from ya_salt.text import printable

_WAIT_S = 10.0
"""How long a pass waits until its daemons are heard; then it goes on without."""
_CONNECT_S = 0.02
_PING_S = 5.0
"""How often it has to answer; while it does not, nobody reads and daemons freeze."""
_BUSY_S = 60.0
"""The longest that it need not where it would go on, had it the processor or the disk: killed, it
takes along what it has not read."""
_LOOK_S = 1.0
"""How often it is looked at meanwhile."""
_BUSY_STATES = frozenset("RD")
_MAX_PACKET = 1 << 17
_PAUSES_S = (0.2, 30.0)
"""The first and the longest before another is started in the place of one that ended."""

_log = logging.getLogger("ya_salt.agent")


@dataclass(frozen=True)
class News:
    """Daemons that have said something; whether the connection that was waited on is gone."""

    names: frozenset[str] = frozenset()
    is_lost: bool = False


class Draining:
    """All for the thread that waits, but for `have`."""

    def __init__(self, notify_dir: str) -> None:
        self._folder = notify_dir
        self._control = Path(notify_dir, "drainer", "control")
        self._connection: socket.socket | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._has_unit = _may_have_unit()
        self._is_wanted = False
        self._is_there = threading.Event()
        self._failures = 0
        """Of those in a row that were to be started."""
        self._asked_at = self._heard_at = 0.0
        self._look_at = 0.0
        """Not before it is looked at again, where it is late and busy."""
        self._spent = 0
        """Its processor time when it was asked, or looked at, last."""
        self._not_before = 0.0
        self._pause_s = _PAUSES_S[0]

    def fileno(self) -> int:
        """-1 where there is nothing to wait on."""
        return self._connection.fileno() if self._connection is not None else -1

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def is_wanted_by(self, specs: Iterable[DaemonSpec]) -> bool:
        """Whether any of them speaks, or some daemon did before and may still run."""
        with contextlib.suppress(OSError):
            if any(Path(self._folder, "daemons").iterdir()):
                return True
        return any(is_notify(spec) for spec in specs)

    def have(self) -> None:
        """For a pass: from now on there is to be one; returns when it is there, or takes long."""
        self._is_wanted = True
        # One that ends whenever it is started holds up no pass.
        self._is_there.wait(0.0 if self._failures > 1 else _WAIT_S)

    def close(self) -> None:
        """It lives on for a while: the next agent may be on its way."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._is_there.clear()

    # -- step by step --------------------------------------------------------------------------

    def find_pause(self, now: float) -> float:
        """Seconds until `step` has something to do that no descriptor tells of."""
        if self._connection is not None:
            return max(0.0, max(self._asked_at + _PING_S, self._look_at) - now)
        if not self._is_wanted:
            return _PING_S
        is_coming = self._child is not None and self._child.poll() is None
        return _CONNECT_S if is_coming else max(_CONNECT_S, self._not_before - now)

    def step(self, now: float) -> News:
        """See to it that there is one that answers; what it has told meanwhile."""
        if self._child is not None and self._child.poll() is not None:
            self._see_end(self._child)
        if not self.is_open:
            if self._is_wanted and not self._join(now):
                self._start(now)
            return News()
        names = self._read(now)
        if self.is_open and now - self._asked_at >= _PING_S:
            if self._heard_at >= self._asked_at:
                self._pause_s = _PAUSES_S[0]
                self._failures = 0
                self._ask({"do": "look"}, now)
            elif now >= self._look_at and not self._is_busy(now):
                self._end_hung()
        return News(names, is_lost=not self.is_open)

    def _join(self, now: float) -> bool:
        try:
            self._connection = connect(self._control)
        except ListeningError:
            return False
        self._connection.setblocking(False)
        self._ask({"do": "agent"}, now)
        self._heard_at = 0.0
        return True

    def _ask(self, request: dict[str, str], now: float) -> None:
        self._asked_at = now
        if self._connection is not None:
            work = read_work(read_peer(self._connection)[0])
            self._spent = work[1] if work is not None else 0
            try:
                self._connection.send(json.dumps(request).encode())
            except BlockingIOError:
                pass
            except OSError:
                self.close()

    def _read(self, now: float) -> frozenset[str]:
        names: set[str] = set()
        while self._connection is not None:
            try:
                data = self._connection.recv(_MAX_PACKET)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                _log.warning("agent: the drainer has ended; another one takes its place")
                self.close()
                break
            self._heard_at = now
            names |= self._take(json.loads(data))
        return frozenset(names)

    def _take(self, packet: dict[str, object]) -> set[str]:
        version = packet.get("version")
        if version == __version__:
            self._is_there.set()
        elif version is not None and self._connection is not None:
            # Of the ya-salt before this one. What was said it leaves in its files.
            with contextlib.suppress(OSError):
                self._connection.send(json.dumps({"do": "end"}).encode())
        logs, news = packet.get("logs"), packet.get("news")
        for line in logs if isinstance(logs, list) else ():
            _log.warning("%s", line)
        return {str(name) for name in news} if isinstance(news, list) else set()

    def _is_busy(self, now: float) -> bool:
        """Whether it is late only because others have the machine; it is looked at again then."""
        assert self._connection is not None  # noqa: S101 - it was asked over it
        work = read_work(read_peer(self._connection)[0])
        if work is None or now - self._asked_at >= _BUSY_S:
            return False
        state, spent = work
        is_busy = state in _BUSY_STATES or spent > self._spent
        self._spent, self._look_at = spent, now + _LOOK_S
        return is_busy

    def _end_hung(self) -> None:
        """Nobody reads while it hangs, and daemons freeze: without it they are refused instead."""
        assert self._connection is not None  # noqa: S101 - it was asked over it
        pid, _ = read_peer(self._connection)
        _log.error("agent: the drainer (pid %d) does not answer and is killed", pid)
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
        self.close()

    # -- starting ------------------------------------------------------------------------------

    def _start(self, now: float) -> None:
        if self._child is not None or now < self._not_before:
            return
        self._not_before = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, _PAUSES_S[1])
        command = [sys.executable, "-m", "ya_salt.agent.drainer", self._folder]
        if self._has_unit:
            command = [*_make_unit(self._folder), "--", *command]
        try:
            self._child = subprocess.Popen(
                command,
                # Python looks for modules there first: not where we were started.
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                # Ctrl-C is for us; daemons have to be heard on.
                start_new_session=True,
            )
        except OSError as error:
            self._failures += 1
            _log.error("agent: the drainer cannot be started: %s", error.strerror)

    def _see_end(self, child: subprocess.Popen[bytes]) -> None:
        self._child = None
        assert child.stderr is not None  # noqa: S101 - it was asked for
        with child.stderr:
            os.set_blocking(child.stderr.fileno(), False)
            lines = (child.stderr.read() or b"").decode(errors="replace").split("\n")
        if child.returncode == 0:
            # systemd has it now, there was one already, or somebody ended it.
            return
        said = next((line for line in reversed(lines) if line.strip()), "")
        self._failures += 1
        _log.error("agent: the drainer ended with %d: %s", child.returncode, printable(said, 300))
        if self._has_unit:
            # Better one that ends with us than none.
            self._has_unit = False
            self._not_before = 0.0


def _may_have_unit() -> bool:
    """Whether it can outlive the service that we are, as apt does."""
    return bool(os.environ.get("INVOCATION_ID")) and not find_obstacle()


def _make_unit(folder: str) -> list[str]:
    mark = hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
    return [
        *("systemd-run", "--quiet", "--no-ask-password", "--collect", "--service-type=exec"),
        f"--unit=ya-salt-notify-{mark}.service",
        "--description=Hears what ya-salt's daemons say of themselves",
    ]
