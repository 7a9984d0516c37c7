"""The agent's drainer when it is late: killed where it hangs, not where it has no processor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from helpers.programs import wait_for

from ya_salt import __version__
from ya_salt.agent.draining import Draining
from ya_salt.processes import read_work

LATE = """
import json, socket, sys, time
control, version, how = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(control)
listener.listen()
peer, _ = listener.accept()
peer.recv(65536)
peer.send(json.dumps({"version": version}).encode())
peer.recv(65536)
while how == "works":
    pass
if how == "answers late":
    until = time.process_time() + 0.5
    while time.process_time() < until:
        pass
    peer.send(b"{}")
time.sleep(1000)
"""
"""Says who it is, and is late with the next answer."""


class Late:
    """A drainer that has been asked, and what the agent does about it as time goes by."""

    def __init__(self, folder: Path, how: str) -> None:
        control = folder / "drainer/control"
        control.parent.mkdir()
        command = [sys.executable, "-c", LATE, str(control), __version__, how]
        self.process = subprocess.Popen(command)
        wait_for(control.exists, "it is there")
        self.agent = Draining(str(folder))
        asking = threading.Thread(target=self.agent.have)
        asking.start()
        wait_for(lambda: self.see(1.0) and not asking.is_alive(), "it has said who it is")
        self.see(6.0)

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def see(self, now: float) -> bool:
        """Whether the agent leaves it alone then."""
        self.agent.step(now)
        return self.agent.is_open

    def state(self) -> str:
        work = read_work(self.process.pid)
        return work[0] if work else ""


@pytest.fixture
def late(folder: Path) -> Iterator[Callable[[str], Late]]:
    made: list[Late] = []

    def make(how: str) -> Late:
        made.append(Late(folder, how))
        return made[-1]

    yield make
    for one in made:
        one.agent.close()
        one.process.kill()
        one.process.wait()


def test_one_that_hangs_is_killed_after_five_seconds(late: Callable[[str], Late]) -> None:
    drainer = late("hangs")
    wait_for(lambda: drainer.state() == "S", "it sleeps")
    assert drainer.see(10.9)
    assert not drainer.see(11.5)
    assert drainer.process.wait(5) == -signal.SIGKILL


def test_one_that_is_stopped_is_killed_after_five_seconds(late: Callable[[str], Late]) -> None:
    drainer = late("works")
    drainer.process.send_signal(signal.SIGSTOP)
    wait_for(lambda: drainer.state() == "T", "it is stopped")
    assert not (drainer.see(11.5) and drainer.see(12.6))
    assert drainer.process.wait(5) == -signal.SIGKILL


def test_one_that_would_go_on_is_waited_for_a_minute(late: Callable[[str], Late]) -> None:
    drainer = late("works")
    assert all(drainer.see(now) for now in (11.5, 12.6, 30.0, 65.0))
    assert drainer.agent.find_pause(65.1) == pytest.approx(0.9)
    assert drainer.is_alive()
    assert not drainer.see(66.5)
    assert drainer.process.wait(5) == -signal.SIGKILL


def test_one_that_answers_late_is_as_good_as_ever(late: Callable[[str], Late]) -> None:
    drainer = late("answers late")
    assert drainer.see(11.5)
    wait_for(lambda: drainer.state() == "S", "it has answered")
    assert drainer.see(12.6)
    assert drainer.see(16.0)
    # It was asked anew, and has its five seconds.
    assert drainer.see(17.5)
    assert drainer.is_alive()


MANY = """
import socket, sys
daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
daemon.setblocking(False)
daemon.connect(sys.argv[1])
for number in range(300):
    try:
        daemon.send(b"STATUS=%d" % number)
    except BlockingIOError:
        break
    last = number
print(last, flush=True)
sys.stdin.read()
"""
"""As many messages as lie in its socket, or three hundred; says which was the last."""


@contextmanager
def run(*command: str, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, *command], **more) as process:
        yield process
        process.kill()


def test_what_lies_unread_when_it_ends_is_kept(folder: Path) -> None:
    """More than it reads at once lies there when it is told to end."""
    path = folder / "daemons/d/socket"
    path.parent.mkdir(parents=True)
    speaking = {"stdin": PIPE, "stdout": PIPE, "env": {**os.environ, "PORTO_NAME": "d"}}
    with run("-m", "ya_salt.agent.drainer", str(folder)) as drainer:
        wait_for(path.exists, "it hears")
        drainer.send_signal(signal.SIGSTOP)
        with run("-c", MANY, str(path), **speaking) as daemon:
            assert daemon.stdout
            last = daemon.stdout.readline().decode().strip()
            drainer.send_signal(signal.SIGTERM)
            drainer.send_signal(signal.SIGCONT)
            assert drainer.wait(10) == 0
    assert json.loads((folder / "drainer/d.json").read_text())["told"]["status"] == last
