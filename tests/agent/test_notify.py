"""`readiness.notify`: a daemon says itself how it stands, and nobody who hears it may freeze it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import telling
from helpers.agents import AgentHost, measure
from helpers.programs import wait_for
from helpers.systemd import Systemd

from ya_salt.agent.drainer import CGROUPS, Members, _open_socket
from ya_salt.messages import make_daemon_status
from ya_salt.processes import read_peer
from ya_salt.store import read_store


class Telling:
    """A host on which daemon `d` says what the test wants."""

    def __init__(self, host: AgentHost, notify_dir: str = "") -> None:
        self.host = host
        self.folder = host.folder / "daemon"
        self.folder.mkdir()
        self.folder.chmod(0o777)
        self.notify_dir = Path(notify_dir or host.folder / "n")
        host.variables["YA_SALT_NOTIFY_DIR"] = str(self.notify_dir)

    def drop(
        self, readiness: str = "", properties: str = "", more: str = "", timeout_s: int = 0
    ) -> None:
        command = [sys.executable, telling.__file__, str(self.folder)]
        draft = self.host.folder / "draft"
        draft.write_text(
            "meta: {name: d, version: '1'}\n"
            f"spec:\n  min_ready_s: 0\n  ready_timeout_s: {timeout_s}\n"
            f"  readiness: {{notify: true{readiness}}}\n{more}"
            f"  properties: {{cmd: {command}{properties}}}\n"
        )
        draft.rename(self.host.specs_dir / "d.yaml")

    def say(self, text: str) -> None:
        (self.folder / "new").write_text(text)
        (self.folder / "new").rename(self.folder / "say")

    def say_and_wait(self, text: str) -> str:
        before = self.done()
        self.say(text)
        wait_for(lambda: self.done() != before, f"it has said {text}")
        return self.done().partition(" ")[2]

    def done(self) -> str:
        path = self.folder / "done"
        return path.read_text() if path.exists() else ""

    def flooded(self) -> int:
        path = self.folder / "flooded"
        return int(path.read_text()) if path.exists() else 0

    def await_more(self, count: int, what: str) -> None:
        wanted = self.flooded() + count
        wait_for(lambda: self.flooded() >= wanted, what, 10)

    def read(self) -> dict[str, Any]:
        """What the last pass saved, as `ya-salt status --saved -o json` has it."""
        store = read_store(str(self.host.state_dir)) if self.host.state_dir.exists() else None
        if store is None:
            return {}
        with contextlib.closing(store):
            record = store.load_records().get("d")
        return make_daemon_status(record.status) if record and record.status else {}

    def ready(self) -> tuple[bool, str]:
        found = self.read().get("conditions", {}).get("ready", {})
        return bool(found.get("status")), str(found.get("reason", ""))

    def await_ready(self, is_ready: bool, reason: str = "") -> None:
        def is_so() -> bool:
            now = self.ready()
            return now[0] is is_ready and reason in {"", now[1]}

        try:
            wait_for(is_so, f"ready is {is_ready} {reason}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {self.read()}") from error

    def start(self) -> None:
        """The agent, and the daemon, which is not ready yet."""
        self.host.begin()
        wait_for(lambda: self.host.is_running("d"), "the daemon runs")
        # Until then its container is weak: it would go with the agent.
        wait_for(lambda: self.read() != {}, "the pass is saved")

    @property
    def socket(self) -> str:
        return str(self.notify_dir / "daemons/d/socket")

    def drainer(self) -> int:
        """Its pid; 0 where there is none."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
            try:
                asking.connect(str(self.notify_dir / "drainer/control"))
            except OSError:
                return 0
            return read_peer(asking)[0]

    def kill_drainer(self) -> None:
        pid = self.drainer()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: self.drainer() != pid, "it is gone")

    def pid(self) -> str:
        """Its main process; "" where it is down."""
        return self.host.value("d", "root_pid")


@pytest.fixture
def telling_host(host: AgentHost) -> Iterator[Telling]:
    found = Telling(host)
    yield found
    pid = found.drainer()
    if pid:
        os.kill(pid, signal.SIGKILL)


def test_it_is_ready_when_it_says_so(telling_host: Telling) -> None:
    host = telling_host
    host.drop()
    host.start()
    host.await_ready(False, "Starting")
    elapsed_s = measure(
        lambda: host.say("READY=1\nSTATUS=serves 3 clients"),
        lambda: host.ready()[0],
        "it is ready",
    )
    assert elapsed_s < 5
    told = host.read()
    assert "serves 3 clients" in told["conditions"]["ready"]["message"]
    assert told["probe"]["question"] == "notify"


# -- what it says --------------------------------------------------------------------------------


def test_each_process_says_so_anew(telling_host: Telling) -> None:
    host = telling_host
    host.drop()
    host.start()
    host.say_and_wait("READY=1")
    host.await_ready(True)
    host.host.kill_daemon("d")
    host.await_ready(False, "Starting")
    host.say_and_wait("READY=1")
    host.await_ready(True)


def test_reloading_is_ready_and_stopping_is_not(telling_host: Telling) -> None:
    host = telling_host
    host.drop(", on_failure: restart")
    host.start()
    host.say_and_wait("READY=1")
    host.await_ready(True)
    pid = host.pid()
    host.say_and_wait("RELOADING=1\nMONOTONIC_USEC=1")
    host.say_and_wait("STATUS=reads its settings")
    host.host.run("apply")
    assert host.ready() == (True, "Ready")
    assert "RELOADING=1" in host.read()["probe"]["answer"]
    host.say_and_wait("READY=1")
    host.host.run("apply")
    assert host.read()["probe"]["answer"].startswith("READY=1")
    host.say_and_wait("STOPPING=1")
    host.await_ready(False, "ProbeFailed")
    # It is on its way out: nobody starts it anew meanwhile.
    assert host.pid() == pid
    assert host.read()["probe"]["failures"] == 0


def test_a_missed_watchdog_is_told_and_a_sign_of_life_ends_that(telling_host: Telling) -> None:
    host = telling_host
    host.drop(", watchdog_s: 1")
    host.start()
    assert "WATCHDOG_USEC=1000000" in Path(f"/proc/{host.pid()}/environ").read_text().split("\0")
    host.say_and_wait("READY=1\nWATCHDOG=1")
    host.await_ready(False, "ProbeFailed")
    assert "WATCHDOG=1 within 1 s" in host.read()["conditions"]["ready"]["message"]
    host.say_and_wait("WATCHDOG_USEC=600000000\nWATCHDOG=1")
    host.await_ready(True)


def test_a_missed_watchdog_starts_it_anew_where_its_spec_says_so(telling_host: Telling) -> None:
    host = telling_host
    (host.folder / "greeting").write_text("READY=1")
    host.drop(", watchdog_s: 1, on_failure: restart")
    host.start()
    pid = host.pid()
    wait_for(lambda: host.pid() not in {"", pid}, "it is started anew")
    said = "no WATCHDOG=1 within 1 s"
    wait_for(lambda: said in host.host.run("history", "d").stdout, "the pass is saved")


def test_who_asks_for_time_has_it(telling_host: Telling) -> None:
    host = telling_host
    host.drop(timeout_s=1)
    (host.folder / "greeting").write_text("EXTEND_TIMEOUT_USEC=60000000\nSTATUS=replays its log")
    host.host.begin()
    host.await_ready(False, "Starting")
    time.sleep(1.5)
    host.host.run("apply")
    assert host.ready() == (False, "Starting")
    assert "replays its log" in host.read()["conditions"]["ready"]["message"]


def test_a_message_that_is_too_long_is_not_taken(telling_host: Telling) -> None:
    host = telling_host
    host.drop()
    host.start()
    host.say_and_wait("READY=1\nSTATUS=" + "x" * 5000)
    wait_for(lambda: "has more than 4096 bytes" in host.host.log(), "it is told")
    assert host.ready()[0] is False


def test_an_update_that_does_not_say_so_is_undone(telling_host: Telling) -> None:
    host = telling_host
    host.drop(properties=", env: {TELL_FIRST: READY=1}", timeout_s=4)
    host.start()
    host.await_ready(True, "Ready")
    host.drop(properties=", env: {TELL_FIRST: STATUS=cannot}", timeout_s=4)
    host.await_ready(True, "RolledBack")
    assert "cannot" in host.read()["rejected"]["why"]
    assert "READY=1" in host.read()["probe"]["answer"]


# -- who says it ---------------------------------------------------------------------------------


def test_nobody_but_the_daemon_speaks_for_it(telling_host: Telling) -> None:
    host = telling_host
    host.drop()
    host.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as foreign:
        foreign.sendto(b"READY=1", host.socket)
        wait_for(lambda: "is no process of its container" in host.host.log(), "it is told")
    assert f"uid {os.geteuid()}" in host.host.log()
    assert host.ready()[0] is False
    host.say_and_wait("READY=1")
    host.await_ready(True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_child_of_another_user_speaks_for_it(telling_host: Telling) -> None:
    host = telling_host
    host.drop()
    host.start()
    assert host.say_and_wait("!as 65534 READY=1") == "sent"
    host.await_ready(True)


@pytest.mark.skipif(
    shutil.which("systemd-notify") is None, reason="systemd-notify is not installed"
)
def test_a_tool_that_ends_at_once_speaks_for_it(telling_host: Telling) -> None:
    host = telling_host
    host.drop()
    host.start()
    assert host.say_and_wait("!tool --ready --status=by a tool") == "sent"
    host.await_ready(True)


def test_what_a_message_brings_along_is_closed(telling_host: Telling) -> None:
    host = telling_host
    host.drop()
    host.start()
    host.say_and_wait("STATUS=before")
    before = len(list(Path(f"/proc/{host.drainer()}/fd").iterdir()))
    for _ in range(5):
        assert host.say_and_wait("!fds STATUS=with descriptors") == "sent"
    host.say_and_wait("READY=1")
    host.await_ready(True)
    assert len(list(Path(f"/proc/{host.drainer()}/fd").iterdir())) <= before + 1


# -- whoever hears it is gone --------------------------------------------------------------------


def test_a_daemon_is_never_frozen(telling_host: Telling) -> None:
    host = telling_host
    host.drop()
    host.start()
    host.say_and_wait("READY=1")
    host.await_ready(True)
    agent = host.host.process
    assert agent is not None
    host.say("!flood 1000000")
    wait_for(lambda: host.flooded() > 0, "it speaks")
    for number in (signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL):
        agent.send_signal(number)
        host.await_more(2000, f"it goes on after {number!r}")
    host.kill_drainer()
    host.await_more(2000, "it goes on without anybody")


def test_a_drainer_that_hangs_is_replaced(telling_host: Telling) -> None:
    host = telling_host
    host.drop()
    host.start()
    host.say_and_wait("READY=1")
    host.await_ready(True)
    drainer = host.drainer()
    os.kill(drainer, signal.SIGSTOP)
    before = host.done()
    host.say("!flood 3000")
    wait_for(lambda: host.done() != before, "somebody reads again, or nobody at all")
    assert host.done().endswith(" sent")
    wait_for(lambda: host.drainer() not in {0, drainer}, "there is another one")
    assert "does not answer and is killed" in host.host.log()
    # The socket is another one at the same place; what was said is known.
    host.say_and_wait("STATUS=says more")
    host.host.run("apply")
    assert host.ready() == (True, "Ready")
    assert "says more" in host.read()["probe"]["answer"]


def test_the_socket_is_there_while_another_drainer_takes_it_over(folder: Path) -> None:
    """Who speaks just then is refused or heard, and not told that there is no such file."""
    path, answers, is_over = folder / "socket", set(), threading.Event()

    def speak() -> None:
        while not is_over.is_set():
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                answers.add(sender.connect_ex(str(path)))

    _open_socket(str(path)).close()
    speaker = threading.Thread(target=speak)
    speaker.start()
    for _ in range(1000):
        _open_socket(str(path)).close()
    is_over.set()
    speaker.join()
    assert answers <= {0, errno.ECONNREFUSED}, {errno.errorcode.get(one, one) for one in answers}
    assert [entry.name for entry in folder.iterdir()] == ["socket"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_agent_that_comes_back_knows_what_was_said(telling_host: Telling, number: int) -> None:
    host = telling_host
    host.drop()
    host.start()
    host.say_and_wait("READY=1")
    host.await_ready(True)
    host.host.end(number)
    # While there is none, too.
    host.say_and_wait("STOPPING=1")
    host.host.start()
    host.await_ready(False, "ProbeFailed")
    host.host.end(number)
    host.say_and_wait("READY=1")
    # Nor is anything lost with the one that hears.
    time.sleep(0.3)
    host.kill_drainer()
    host.host.start()
    host.await_ready(True)


def test_what_nobody_could_hear_is_neither_yes_nor_no(telling_host: Telling) -> None:
    host = telling_host
    host.drop(timeout_s=1)
    host.start()
    host.host.end(signal.SIGKILL)
    host.kill_drainer()
    assert host.say_and_wait("READY=1") == "Connection refused"
    shutil.rmtree(host.notify_dir / "drainer")
    host.host.start()
    time.sleep(1.5)
    host.host.run("apply")
    told = host.read()
    assert told["probe"]["failures"] == 0
    message = told["conditions"]["ready"]["message"]
    assert "unheard" in message
    assert "ya-salt restart d" in message


def test_it_outlives_the_service_of_the_agent(telling_host: Telling, service: Systemd) -> None:
    """Under systemd, which ends all that a service has started."""
    host = telling_host
    host.drop()
    service.systemctl("start", "ya-salt.service")
    wait_for(lambda: host.host.is_running("d"), "the daemon runs", 30)
    units = service.systemctl("list-units", "--plain", "--no-legend", "ya-salt-notify*").stdout
    (unit,) = [line.split()[0] for line in units.splitlines()]
    before = service.show(unit, "MainPID")
    assert int(before) > 0
    for words in (
        ("restart", "ya-salt.service"),
        ("kill", "--kill-whom=all", "--signal=KILL", "ya-salt.service"),
    ):
        passes = host.host.last_pass()
        service.systemctl(*words)
        wait_for(lambda known=passes: host.host.last_pass() != known, "the next agent's pass", 40)
        assert service.show(unit, "MainPID") == before
    service.systemctl("stop", "ya-salt.service", unit)


def test_a_folder_that_cannot_be_made_is_told_and_holds_up_nothing(host: AgentHost) -> None:
    host.variables["YA_SALT_NOTIFY_DIR"] = "/proc/nowhere"
    host.drop("other")
    telling = Telling(host, "/proc/nowhere")
    telling.drop()
    host.begin()
    wait_for(lambda: host.is_running("other"), "the other daemon runs", 40)
    wait_for(lambda: telling.ready()[1] == "NoAgent", "it is told")
    assert "the drainer ended with 1: /proc/nowhere" in host.log()


# -- processes under control groups --------------------------------------------------------------


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group as portod makes it for a container."""
    place = next((one for one in map(Path, CGROUPS) if one.parent.is_dir()), None)
    if place is None:
        pytest.skip("no control groups are mounted where portod has them")
    path = place / f"test-{os.getpid()}"
    try:
        path.mkdir(parents=True)
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error.strerror}")
    yield path
    for made in (path / "part", path):
        with contextlib.suppress(FileNotFoundError):
            wait_for(lambda at=made: not (at / "cgroup.procs").read_text(), "its processes ended")
            made.rmdir()
    # Others may have theirs beside it.
    with contextlib.suppress(OSError):
        path.parent.rmdir()


def test_where_there_are_control_groups_they_tell(group: Path) -> None:
    members = Members(group.name, uid=os.geteuid())
    inside, outside = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
    try:
        (group / "cgroup.procs").write_text(str(inside.pid))
        assert members.find_problem(inside.pid, os.geteuid()) == ""
        # Whoever it is, and whatever it says of itself.
        assert "outside of its container" in members.find_problem(outside.pid, os.geteuid())
        other = Members("other", uid=os.geteuid())
        assert f"of container {group.name}" in other.find_problem(inside.pid, os.geteuid())
        # Who runs in a container himself sees the names below it.
        below = Members("part", os.geteuid(), group.name)
        assert "no process of its container" in below.find_problem(inside.pid, os.geteuid())
        (group / "part").mkdir()
        (group / "part/cgroup.procs").write_text(str(outside.pid))
        assert below.find_problem(outside.pid, os.geteuid()) == ""
        assert "outside of its container" in below.find_problem(inside.pid, os.geteuid())
    finally:
        for process in (inside, outside):
            process.kill()
            process.wait()
    # What has ended is known by its user.
    assert members.find_problem(inside.pid, os.geteuid()) == ""
    assert "another user" in members.find_problem(inside.pid, 65534)


# -- passes by hand ------------------------------------------------------------------------------


def test_without_an_agent_it_is_not_started(telling_host: Telling) -> None:
    host = telling_host
    host.drop()
    assert "NoAgent" not in host.host.run("validate").stdout
    assert host.host.run("validate").returncode == 0
    assert "ya-salt run" in host.host.run("plan").stdout
    done = host.host.run("apply")
    assert done.returncode == 1
    assert host.ready() == (False, "NoAgent")
    assert "ya-salt run" in host.read()["conditions"]["ready"]["message"]
    assert host.host.value("d", "state") == ""


def test_without_an_agent_what_runs_goes_on(telling_host: Telling) -> None:
    host = telling_host
    host.drop()
    host.start()
    host.say_and_wait("READY=1")
    host.await_ready(True)
    pid = host.pid()
    host.host.end()
    host.kill_drainer()
    # A change that takes a new process waits for an agent.
    host.drop(properties=", umask: '077'")
    assert host.host.run("apply").returncode == 1
    assert host.ready() == (False, "NoAgent")
    assert host.pid() == pid
    host.drop()
    assert host.host.run("apply").returncode == 0
    assert host.ready() == (True, "Ready")
    assert any("needs the agent" in one or "none runs" in one for one in host.read()["warnings"])
    assert host.pid() == pid


def test_a_pass_by_hand_waits_until_it_says_so(telling_host: Telling) -> None:
    host = telling_host
    (host.folder / "greeting").write_text("READY=1\nSTATUS=greets")
    host.drop(timeout_s=20)
    host.start()
    host.await_ready(True)
    pid = host.pid()
    done = host.host.run("restart", "d")
    assert done.returncode == 0, done.stdout + done.stderr
    assert host.pid() != pid
    assert host.ready() == (True, "Ready")


def test_its_socket_goes_with_it(telling_host: Telling) -> None:
    host = telling_host
    host.drop()
    host.start()
    assert Path(host.socket).is_socket()
    path = host.host.specs_dir / "d.yaml"
    path.write_text(path.read_text().replace("name: d,", "name: d, delete_requested: true,"))
    wait_for(lambda: not Path(host.socket).parent.exists(), "it is gone")
