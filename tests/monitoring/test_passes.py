"""Real passes over real containers tell real receivers, which can neither fail nor delay them."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.apart import NOBODY, name_variables, set_apart
from helpers.fleetlock import Face, Locks
from helpers.passes import DoomedClient, Passes
from helpers.portod import DevPortod
from helpers.receiver import Receiver, make_yasm, measure, read_last, sum_values

from ya_salt.converge.host import Host
from ya_salt.converge.preview import report_now
from ya_salt.errors import PortoError
from ya_salt.model import GateSettings, JugglerSettings, MonitoringSettings, YasmSettings
from ya_salt.packages.apt import Apt
from ya_salt.porto.client import PortoClient

RESPAWNING = "respawn_delay: 100ms"


class Watched(Passes):
    """Passes whose monitoring ends at two receivers."""

    def __init__(self, folder: Path, portod: DevPortod, yasm: Receiver, juggler: Receiver) -> None:
        super().__init__(folder, portod.socket_path)
        told = MonitoringSettings(
            YasmSettings(url=yasm.url),
            JugglerSettings(url=juggler.url),
            set_apart(folder).prometheus,
        )
        self.settings = replace(self.settings, monitoring=told, hostname="h.example.org")
        self.yasm, self.juggler = yasm, juggler

    def kill(self, name: str) -> None:
        """Let the daemon's command die, and wait until portod has started it again."""
        with self.client() as client:
            before = int(client.get_property(name, "respawn_count"))
            client.kill(name, 9)
            give_up = time.monotonic() + 20
            while (
                int(client.get_property(name, "respawn_count")) == before
                or client.get_property(name, "state") != "running"
            ):
                assert time.monotonic() < give_up
                time.sleep(0.02)

    def event(self, service: str) -> dict[str, str]:
        (found,) = [
            event
            for body in self.juggler.accepted[-1:]
            for event in body["events"]
            if event["service"] == service
        ]
        return found

    def counted(self, name: str, kind: str) -> int:
        return sum_values(self.yasm.accepted, f"porto-daemon-{name}-{kind}_count_thhh")

    def host(self, socket_path: str = "") -> Host:
        return Host(self.settings, Apt(), lambda: PortoClient(socket_path or self.socket_path))


@pytest.fixture
def watched(folder: Path, portod: DevPortod, yasm: Receiver, juggler: Receiver):
    made = Watched(folder, portod, yasm, juggler)
    yield made
    yasm.mode = juggler.mode = "accept"
    made.remove_all()
    assert yasm.problems == juggler.problems == []


def test_a_daemons_life_as_monitoring_sees_it(watched: Watched) -> None:
    watched.write("d", RESPAWNING)
    watched.run()
    assert read_last(watched.yasm.accepted)["porto-daemon-d-ready_thhh"] == 1
    assert watched.event("porto-daemon-d-ready")["status"] == "OK"
    watched.kill("d")
    watched.kill("d")
    watched.run()
    assert (watched.counted("d", "respawn"), watched.counted("d", "restart")) == (2, 0)
    watched.write("d", f"{RESPAWNING}\ncwd: /tmp", update="watch_s: 0")
    watched.run()
    assert (watched.counted("d", "respawn"), watched.counted("d", "restart")) == (2, 1)
    watched.kill("d")
    watched.run()
    watched.run()
    assert (watched.counted("d", "respawn"), watched.counted("d", "restart")) == (3, 1)
    watched.write("d", "", delete=True)
    watched.run()
    assert "porto-daemon-d-ready_thhh" not in read_last(watched.yasm.accepted)
    assert watched.event("porto-daemons")["status"] == "OK"


class DyingLate(PortoClient):
    """The daemon dies once more while the pass is about to stop it."""

    accident: Callable[[], None] | None = None

    def create_weak(self, name: str) -> None:
        accident, DyingLate.accident = DyingLate.accident, None
        if accident is not None:
            accident()
        super().create_weak(name)


def test_a_respawn_right_before_a_restart_is_counted(watched: Watched) -> None:
    watched.write("d", RESPAWNING)
    watched.run()
    watched.kill("d")
    watched.write("d", f"{RESPAWNING}\ncwd: /tmp")
    DyingLate.accident = lambda: watched.kill("d")
    watched.run(DyingLate)
    assert (watched.counted("d", "respawn"), watched.counted("d", "restart")) == (2, 1)


def test_what_was_not_accepted_is_told_later(watched: Watched) -> None:
    watched.write("d", RESPAWNING)
    watched.run()
    for mode in ("503", "stall", "hang-up"):
        watched.yasm.mode = mode
        watched.kill("d")
        watched.run()
    assert watched.counted("d", "respawn") == 0
    watched.yasm.mode = "accept"
    watched.run()
    watched.run()
    assert watched.counted("d", "respawn") == 3


def test_a_pass_killed_anywhere_in_a_restart_counts_it_once(watched: Watched) -> None:
    watched.write("d", RESPAWNING)
    watched.run()
    for writes in range(40):
        watched.write("d", f"{RESPAWNING}\nenv: {{NUMBER: '{writes}'}}")
        with watched.client() as client:
            before = client.get_property("d", "id")
        survived = run_doomed(watched, writes)
        watched.run()
        with watched.client() as client:
            assert client.get_property("d", "id") != before
        assert watched.counted("d", "restart") == writes + 1, f"killed at write {writes}"
        if survived:
            return
    raise AssertionError("the pass never got to its end")


def run_doomed(watched: Watched, writes: int) -> bool:
    child = os.fork()
    if not child:
        try:
            DoomedClient.writes_left = writes
            watched.run(DoomedClient)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    # portod notices the broken connection a moment later and removes what was weak.
    time.sleep(0.2)
    return os.WIFEXITED(status)


def test_a_daemon_that_dies_is_told_with_its_last_words(watched: Watched) -> None:
    (watched.specs_dir / "dying.yaml").write_text(
        "meta: {name: dying}\n"
        "spec:\n"
        "  properties:\n"
        "    cmd: [sh, -c, 'echo cannot open the config >&2; exit 3']\n"
        "    max_respawns: 1\n"
        "    respawn_delay: 100ms\n"
    )
    assert not watched.run().ok
    event = watched.event("porto-daemon-dying-ready")
    assert event["status"] == "CRIT"
    assert "exited with code 3" in event["description"]
    assert "cannot open the config" in event["description"]
    assert watched.event("porto-daemons")["status"] == "OK"


def test_a_daemon_that_keeps_respawning_is_told_with_its_last_words(watched: Watched) -> None:
    (watched.specs_dir / "looping.yaml").write_text(
        "meta: {name: looping}\n"
        "spec:\n"
        "  min_ready_s: 3\n"
        "  ready_timeout_s: 1.5\n"
        "  properties:\n"
        "    cmd: [sh, -c, 'echo no licence >&2; sleep 0.6']\n"
        "    respawn_delay: 10ms\n"
    )
    watched.run()
    event = watched.event("porto-daemon-looping-ready")
    assert (event["status"], "no licence" in event["description"]) == ("CRIT", True), event


def test_a_broken_file_is_an_alert_and_not_a_silence(watched: Watched) -> None:
    watched.write("d", "")
    watched.run()
    path = watched.specs_dir / "d.yaml"
    good = path.read_text()
    path.write_text("meta: {name: d}\n")
    assert not watched.run(is_strict=False).ok
    assert watched.event("porto-daemons")["status"] == "CRIT"
    assert str(path) in watched.event("porto-daemons")["description"]
    # Its daemon runs on, and is told so.
    assert watched.event("porto-daemon-d-ready")["status"] == "OK"
    path.unlink()
    watched.run()
    assert watched.event("porto-daemons")["status"] == "WARN"
    path.write_text(good)
    watched.run()
    assert watched.event("porto-daemons")["status"] == "OK"


def test_a_pass_that_failed_is_told(watched: Watched, folder: Path) -> None:
    watched.write("d", "")
    watched.run()
    watched.socket_path, real = "/nonexistent/s", watched.socket_path
    with pytest.raises(PortoError):
        watched.run()
    watched.socket_path = real
    told = read_last(watched.yasm.accepted)
    assert (told["porto-daemons-pass_failed_thhh"], told["porto-daemon-d-ready_thhh"]) == (1, 0)
    assert watched.event("porto-daemons")["status"] == "CRIT"
    assert "no portod answers" in watched.event("porto-daemon-d-ready")["description"]
    watched.run()
    assert read_last(watched.yasm.accepted)["porto-daemons-pass_failed_thhh"] == 0


def test_sinks_that_stall_delay_the_end_by_a_second_and_nothing_else(watched: Watched) -> None:
    watched.write("d", "")
    _, usual_s = measure(watched.run)
    watched.yasm.mode = watched.juggler.mode = "stall"
    result, took_s = measure(watched.run)
    assert result.ok
    assert took_s < usual_s + 1.6


def test_report_tells_what_happened_since_the_pass(watched: Watched) -> None:
    watched.write("d", RESPAWNING)
    watched.run()
    watched.kill("d")
    told = {item.sink: item.state for item in report_now(watched.host())}
    assert told == {"yasm": "accepted", "juggler": "accepted", "prometheus": "absent"}
    assert watched.counted("d", "respawn") == 1
    with watched.client() as client:
        client.destroy("d")
    report_now(watched.host())
    assert watched.event("porto-daemon-d-ready")["status"] == "CRIT"
    report_now(watched.host("/nonexistent/s"))
    assert "no portod answers" in watched.event("porto-daemons")["description"]
    watched.run()
    assert watched.counted("d", "respawn") == 1


def test_a_store_that_is_lost_tells_nothing_twice(watched: Watched) -> None:
    watched.write("d", RESPAWNING)
    watched.run()
    watched.kill("d")
    watched.run()
    (Path(watched.settings.state_dir) / "store.sqlite3").unlink()
    watched.run()
    watched.kill("d")
    watched.run()
    assert watched.counted("d", "respawn") == 2


def test_the_command_reports(host_with_sleeper) -> None:
    host, yasm = host_with_sleeper
    environment = {"YA_SALT_MONITORING_YASM_URL": yasm.url}
    done = host.run("report", "-o", "json", extra=environment)
    assert done.returncode == 0, done.stderr
    told = {item["name"]: item["state"] for item in json.loads(done.stdout)["sinks"]}
    assert told == {"yasm": "accepted", "juggler": "absent", "prometheus": "absent"}
    yasm.mode = "503"
    done = host.run("report", extra=environment)
    assert (done.returncode, "it answered 503" in done.stdout) == (1, True), done.stdout
    done = host.run("status")
    assert "monitoring: yasm refused for " in done.stderr
    assert "monitoring: not on this host: juggler, prometheus" in done.stderr
    with (host.folder / "state/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Another pass tells it anyway.
        assert host.run("report", extra=environment).returncode == 3
    assert host.run("report", "--state-dir", str(host.folder / "none")).returncode == 1
    status = json.loads(host.run("status", "-o", "json").stdout)
    assert {item["name"]: item["state"] for item in status["sinks"]}["yasm"] == "refused"


@pytest.fixture
def host_with_sleeper(folder: Path, portod: DevPortod):
    """The commands of a user, on a daemons directory with one daemon."""
    host = Commands(folder, portod)
    (host.specs_dir / "s.yaml").write_text(
        "meta: {name: s}\nspec: {min_ready_s: 0, properties: {cmd: [sleep, '1000']}}\n"
    )
    assert host.run("apply").returncode == 0
    with make_yasm() as yasm:
        yield host, yasm
    with PortoClient(portod.socket_path) as client:
        client.destroy("s")


class Commands:
    def __init__(self, folder: Path, portod: DevPortod) -> None:
        self.specs_dir = folder / "specs"
        self.specs_dir.mkdir(mode=0o755)
        self.folder, self._portod = folder, portod

    def run(self, *words: str, extra: dict[str, str] | None = None):
        environment = {
            **os.environ,
            "YA_SALT_SPECS_DIR": str(self.specs_dir),
            "YA_SALT_STATE_DIR": str(self.folder / "state"),
            "YA_SALT_PORTO_SOCKET": self._portod.socket_path,
            "YA_SALT_LOG_FILE": str(self.folder / "log"),
            **name_variables(self.folder),
            **(extra or {}),
        }
        return subprocess.run(
            [sys.executable, "-m", "ya_salt.cli.main", *words],
            env=environment,
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        )


# -- the gate ----------------------------------------------------------------------------------


@pytest.fixture
def face(watched: Watched) -> Iterator[Face]:
    """The gate of the host: a FleetLock server with one slot for each daemon."""
    (watched.folder / "textfile").mkdir()
    with Face(Locks()) as made:
        gate = GateSettings(type="fleetlock", endpoints=(f"http://127.0.0.1:{made.port}",))
        watched.settings = replace(watched.settings, gate=gate)
        yield made
        watched.settings = replace(watched.settings, gate=GateSettings())
    assert made.problems == []


def read_gate(watched: Watched) -> tuple[dict[str, int], dict[str, float]]:
    """What YASM and Prometheus were told of the gate last, without the names' common parts."""
    signals = {
        name.rpartition("-gate_")[2].removesuffix("_thhh"): value
        for name, value in read_last(watched.yasm.accepted).items()
        if "-gate_" in name
    }
    lines = (watched.folder / "textfile/ya-salt.prom").read_text().splitlines()
    metrics = {
        words[0].partition("gate_")[2].replace('{daemon="d"}', ""): float(words[1])
        for words in (line.split() for line in lines if not line.startswith("#"))
        if "gate_" in words[0]
    }
    return signals, metrics


def list_on(watched: Watched) -> set[str]:
    """Names of all that is not zero; a gate that is up is no news."""
    signals, metrics = read_gate(watched)
    assert metrics.pop("up") == 1 - signals["unreachable"]
    assert metrics["queue_length"] == signals["queue"]
    assert (metrics["waiting"], metrics["failed"]) == (signals["waiting"], signals["failed"])
    return {name for told in (signals, metrics) for name, value in told.items() if value}


WAITS = {"waiting", "queue", "queue_length"}


def test_a_rollout_as_monitoring_sees_it(watched: Watched, face: Face) -> None:
    watched.write("d", "")
    watched.run()
    assert list_on(watched) == set()
    assert watched.event("porto-daemon-d-ready")["description"] == "ready, version 1"

    face.locks.holders["porto-daemon-d"] = {"somebody"}
    watched.write("d", "cwd: /tmp", version="2")
    watched.run()
    assert list_on(watched) == WAITS
    event = watched.event("porto-daemon-d-ready")
    assert event["status"] == "OK"
    assert event["description"].startswith("ready, version 1; its update to 2 waits for the gate")
    assert "Full" in event["description"]
    assert watched.event("porto-daemons")["status"] == "OK"

    watched.run(override_gate="the site is down")
    assert list_on(watched) == {"overridden"}
    assert watched.event("porto-daemon-d-ready")["description"] == "ready, version 2"
    event = watched.event("porto-daemons")
    assert (event["status"], event["description"]) == (
        "WARN",
        "the last pass went past the gate: the site is down",
    )
    watched.run()
    assert list_on(watched) == set()
    assert watched.event("porto-daemons")["status"] == "OK"


def test_a_change_that_failed_keeps_its_slot_until_the_next_is_done(
    watched: Watched, face: Face
) -> None:
    watched.write("d", "")
    watched.run()
    watched.write("d", "", command="cmd: [/nonexistent/d]", version="2")
    watched.run()
    assert list_on(watched) == {"slot", "failed"}
    assert watched.event("porto-daemon-d-ready")["status"] == "CRIT"
    watched.write("d", "", version="3")
    watched.run()
    assert list_on(watched) == set()
    assert watched.event("porto-daemon-d-ready")["description"] == "ready, version 3"


def test_a_gate_that_cannot_be_asked_is_told_until_it_can(watched: Watched, face: Face) -> None:
    watched.write("d", "")
    watched.run()
    served = watched.settings.gate
    unserved = GateSettings(type="orly", endpoints=(NOBODY,))
    watched.settings = replace(watched.settings, gate=unserved)
    command, update = "cmd: [sleep, '1001']", "watch_s: 0"
    watched.write("d", "", version="2", command=command, update=update)
    watched.run()
    assert list_on(watched) == {*WAITS, "unreachable"}
    first = watched.event("porto-daemons")
    assert first["status"] == "WARN"
    assert first["description"].startswith("the gate cannot be asked since ")
    assert watched.event("porto-daemon-d-ready")["status"] == "OK"
    # Since when is remembered, and a report tells it as the pass does.
    time.sleep(1.1)
    watched.run()
    report_now(watched.host())
    assert watched.event("porto-daemons") == first
    with pytest.raises(PortoError):
        watched.run(lambda _: PortoClient("/nonexistent/s"))
    blind = watched.event("porto-daemons")
    assert blind["status"] == "CRIT"
    assert blind["description"].endswith(f"; {first['description']}")
    watched.yasm.accepted.clear()
    report_now(watched.host("/nonexistent/s"))
    assert watched.event("porto-daemons") == blind
    assert list_on(watched) == {*WAITS, "unreachable"}
    watched.settings = replace(watched.settings, gate=served)
    watched.run()
    assert list_on(watched) == set()
    assert watched.event("porto-daemons")["status"] == "OK"
