"""Whole passes of a host that has to ask: real etcd, a real Porto server, real processes."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.etcd import EtcdServer
from helpers.etcd_proxy import EtcdProxy
from helpers.fleetlock import Face, Locks
from helpers.passes import DoomedClient, Passes
from helpers.portod import DevPortod

from ya_salt.errors import PortoError
from ya_salt.gate import client
from ya_salt.gate.admin import RuleAdmin
from ya_salt.gate.decide import Pause
from ya_salt.gate.etcd import Etcd, Put
from ya_salt.gate.factory import make_gate
from ya_salt.gate.memory import FACT
from ya_salt.gate.protocol import Slot, SlotRequest
from ya_salt.gate.rule_file import parse_rule
from ya_salt.life import Order
from ya_salt.model import DaemonStatus, GateSettings
from ya_salt.porto.client import PortoClient
from ya_salt.store import open_store

RULE = "porto-daemon-agent"
NOBODY = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def portod() -> Iterator[DevPortod]:
    with DevPortod() as server:
        yield server


class Fleet:
    """One host that makes passes, and a gate whose rule and other hosts the test plays."""

    def __init__(self, folder: Path, portod: DevPortod, gate: GateSettings) -> None:
        self.gate = gate
        self.etcd = Etcd(gate)
        self.admin = RuleAdmin(self.etcd, gate.prefix)
        folder.mkdir(exist_ok=True)
        self.host = Passes(folder, portod.socket_path, gate)

    def rule(self, spec: str = "max_concurrent: 1", name: str = RULE) -> None:
        """Without a time of its own it gives slots back at once."""
        if "min_healthy_time" not in spec:
            spec += ", min_healthy_time: 0s"
        self.admin.apply(parse_rule(f"meta: {{name: {name}}}\nspec: {{{spec}}}", "rule"))

    def other(self, target: str = "1", host: str = "other") -> Slot:
        """Another host takes a slot."""
        gate = make_gate(self.gate, host)
        assert gate is not None
        answer = gate.ask(SlotRequest("agent", "update", target))
        gate.close()
        assert getattr(answer, "held", None), answer
        return answer.held

    def leave(self, held: Slot, host: str = "other") -> None:
        gate = make_gate(self.gate, host)
        assert gate is not None
        gate.release(held)
        gate.close()

    def holders(self) -> dict[str, str]:
        """Host -> state of what it is at."""
        return {item.host: item.state for item in self.admin.read(RULE).holders}

    def status(self, **more: Any) -> DaemonStatus:
        (status,) = self.host.run(**more).statuses
        return status

    def pid(self) -> str:
        with self.host.client() as client:
            return client.get(["agent"], ["root_pid"]).get("agent", {}).get("root_pid", "")

    def value(self, name: str) -> str:
        with self.host.client() as client:
            return client.get_property("agent", name)

    def break_gate(self) -> None:
        self.point(NOBODY)

    def point(self, *endpoints: str) -> None:
        gate = replace(self.gate, endpoints=endpoints)
        self.host.settings = replace(self.host.settings, gate=gate)


@pytest.fixture
def fleet(tmp_path: Path, portod: DevPortod, settings: GateSettings) -> Iterator[Fleet]:
    made = Fleet(tmp_path / "host", portod, settings)
    made.host.write("agent", "")
    yield made
    made.host.settings = replace(made.host.settings, gate=GateSettings())
    made.host.remove_all()
    made.etcd.close()


@pytest.fixture
def running(fleet: Fleet) -> Fleet:
    """The daemon runs version 1 under a rule for one host at once."""
    fleet.rule()
    assert fleet.host.run_one().gate is None
    return fleet


# -- first installation ----------------------------------------------------------------------------


def test_without_a_rule_nothing_is_installed_and_it_says_so(fleet: Fleet) -> None:
    result = fleet.host.run()
    (status,) = result.statuses
    assert result.ok
    assert status.state == ""
    assert status.gate is not None
    assert (status.gate.state, status.gate.reason) == ("waiting", "RuleMissing")
    assert status.ready is not None
    assert (status.ready.status, status.ready.reason) == (False, "Deferred")
    fleet.rule()
    status = fleet.host.run_one()
    assert (status.state, status.gate) == ("running", None)
    assert fleet.holders() == {}


def test_a_rule_may_let_first_installations_through(fleet: Fleet) -> None:
    fleet.rule("max_concurrent: 1, first_install: allow")
    fleet.other()
    assert fleet.host.run_one().state == "running"
    assert fleet.holders() == {"other": "working"}


# -- updates -------------------------------------------------------------------------------------


def test_an_update_waits_while_another_host_is_at_it(running: Fleet) -> None:
    pid, held = running.pid(), running.other("2")
    running.host.write("agent", "env: {A: '2'}", version="2")
    plan = running.host.plan()["agent"]
    assert plan.deferral is not None
    assert (plan.deferral.reason, plan.steps) == ("Full", ())
    assert len(plan.waiting) == 1
    status = running.status()
    assert running.pid() == pid
    assert status.version == "1"
    assert status.gate is not None
    assert (status.gate.state, status.gate.reason) == ("waiting", "Full")
    assert (status.gate.operation, status.gate.target) == ("update", "2")
    assert status.ready is not None
    assert (status.ready.status, status.ready.reason) == (True, "Deferred")
    running.leave(held)
    status = running.host.run_one()
    assert running.pid() != pid
    assert (status.version, status.gate) == ("2", None)
    assert running.holders() == {}


def test_a_wait_is_told_once_in_the_history(running: Fleet) -> None:
    running.other("2")
    running.host.write("agent", "env: {A: '2'}", version="2")
    since = running.status().gate
    assert since is not None
    again = running.status().gate
    assert again is not None
    assert again.since == since.since
    store = open_store(running.host.settings.state_dir)
    told = [item.what for item in store.load_history("agent") if "gate" in item.what]
    store.close()
    (line,) = told
    assert line.startswith("update to 2: gate: waiting (Full): 1 of 1 slots in use")


def test_a_live_change_is_not_asked(running: Fleet) -> None:
    pid = running.pid()
    running.break_gate()
    running.host.write("agent", "memory_limit: 64Mb")
    status = running.host.run_one()
    assert running.pid() == pid
    assert status.gate is None
    assert running.value("memory_limit") == str(64 << 20)


def test_a_container_that_is_gone_is_made_again_without_asking(running: Fleet) -> None:
    with running.host.client() as client:
        client.destroy("agent")
    running.break_gate()
    assert running.host.run_one().state == "running"


def test_a_dead_daemon_whose_update_waits_runs_again_as_it_was(running: Fleet) -> None:
    running.other("2")
    running.host.write("agent", "env: {A: '2'}", version="2")
    with running.host.client() as client:
        client.stop("agent", timeout_s=1)
    status = running.status()
    assert (status.state, status.version, status.restart_count) == ("running", "1", 1)
    assert status.waits
    assert "A=2" not in running.value("env")


def test_a_gate_that_does_not_answer_stops_nothing(running: Fleet) -> None:
    pid = running.pid()
    running.break_gate()
    running.host.write("agent", "env: {A: '2'}", version="2")
    result = running.host.run()
    (status,) = result.statuses
    assert result.ok
    assert running.pid() == pid
    assert status.gate is not None
    assert status.gate.reason == "GateUnreachable"
    running.point(*running.gate.endpoints)
    assert running.host.run_one().version == "2"


def test_many_daemons_wait_for_a_dead_gate_once(fleet: Fleet) -> None:
    """A listener that never answers costs a pass one deadline, not one for each daemon."""
    import socket  # noqa: PLC0415 - only here

    for number in range(5):
        fleet.host.write(f"agent{number}", "")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fleet.point(f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        statuses = fleet.host.run().statuses
        took_s = time.monotonic() - started
    assert [item.gate.reason for item in statuses if item.gate] == ["GateUnreachable"] * 6
    assert took_s < 2 * 3


def test_a_pass_with_nothing_to_do_asks_nobody(running: Fleet) -> None:
    running.break_gate()
    assert running.host.run_one().gate is None
    store = open_store(running.host.settings.state_dir)
    fact = store.load_fact(FACT)
    store.close()
    assert fact["state"] == "answered"


# -- failures ------------------------------------------------------------------------------------


def test_a_bad_version_keeps_its_slot_and_a_repaired_one_goes_on(running: Fleet) -> None:
    running.rule("max_concurrent: 5")
    bad = "cmd: ['false']"
    running.host.write("agent", "max_respawns: '0'", command=bad, version="2", min_ready_s=1)
    result = running.host.run()
    (status,) = result.statuses
    assert not result.ok
    assert status.gate is not None
    assert status.gate.state == "failed"
    assert running.holders() == {"host": "failed"}
    gate = make_gate(running.gate, "other")
    assert gate is not None
    refused = gate.ask(SlotRequest("agent", "update", "2"))
    assert getattr(refused, "reason", "") == "Halted"
    held = getattr(gate.ask(SlotRequest("agent", "update", "3")), "held", None)
    assert held is not None
    gate.release(held)
    gate.close()
    # Tried again, it stays failed, and takes nothing more.
    assert running.status().gate is not None
    assert running.holders() == {"host": "failed"}
    running.host.write("agent", "", version="3")
    status = running.host.run_one()
    assert (status.version, status.gate) == ("3", None)
    assert running.holders() == {}


def test_a_failure_that_the_gate_cannot_be_told_is_undone_and_told_later(running: Fleet) -> None:
    """By a rule that leaves it to the probation how long the slot is kept."""
    running.admin.apply(parse_rule(f"meta: {{name: {RULE}}}\nspec: {{max_concurrent: 1}}", "rule"))
    flag = running.host.folder / "die"
    command = f"cmd: [sh, -c, 'while [ ! -e {flag} ]; do sleep 0.1; done; exit 3']"
    running.host.write("agent", "max_respawns: '0'", command=command, version="2")
    status = running.host.run_one()
    assert status.gate is not None
    assert status.gate.state == "settling"
    running.break_gate()
    flag.touch()
    give_up = time.monotonic() + 20
    while running.value("state") != "dead":
        assert time.monotonic() < give_up
    status = running.status()
    assert (status.version, status.state) == ("1", "running")
    assert running.holders() == {"host": "settling"}
    running.point(*running.gate.endpoints)
    assert running.status().version == "1"
    assert running.holders() == {"host": "failed"}
    # It is in no other version's way, here neither.
    running.leave(running.other("3"))
    running.host.write("agent", "", version="3", update="watch_s: 0")
    assert running.host.run_one().version == "3"
    assert running.holders() == {}


def write_base(fleet: Fleet, properties: str, version: str, **more: Any) -> None:
    """A daemon that the agent is started after, and that has a rule of its own."""
    fleet.host.write("base", properties, version=version, min_ready_s=1, **more)
    fleet.host.write("agent", f"env: {{A: '{version}'}}", version=version)
    file = fleet.host.specs_dir / "agent.yaml"
    file.write_text(file.read_text().replace("spec:\n", "spec:\n  after: [base]\n"))


def list_told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the gate is told from now on: daemon, state of what its slot was taken for."""
    told: list[tuple[str, str]] = []
    tell = client.GateConnection.tell

    def note(connection: client.GateConnection, slot: Slot, state: Any, error: str) -> Any:
        told.append((slot.daemon, state))
        return tell(connection, slot, state, error)

    monkeypatch.setattr(client.GateConnection, "tell", note)
    return told


def test_who_waits_until_another_one_has_gone_back_keeps_its_slot(
    running: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for healthy in ("0s", "1h"):
        for name in ("agent", "base", "slow"):
            rule = f"max_concurrent: 1, min_healthy_time: {healthy}"
            running.rule(rule, name=f"porto-daemon-{name}")
        running.host.write("slow", "", min_ready_s=3)
        write_base(running, "", "1")
        assert running.host.run().ok
    told = list_told(monkeypatch)
    dies = "cmd: [sh, -c, 'exit 3']"
    write_base(running, "max_respawns: '0'", "2", command=dies)
    found = {item.name: item for item in running.host.run(restarts={"slow": "asked"}).statuses}
    assert found["base"].ready
    assert (found["base"].version, found["base"].ready.reason) == ("1", "RolledBack")
    assert (found["agent"].version, found["agent"].actions[0][:5]) == ("2", "stop:")
    # Neither who was down meanwhile nor who was not ready yet has failed for that.
    assert [state for name, state in told if name == "base"] == ["failed"]
    assert [state for name, state in told if name == "agent"] == ["settling"]
    assert [state for name, state in told if name == "slow"] == ["settling"]


def test_who_waits_for_the_gate_is_not_stopped_for_one_that_goes_back(running: Fleet) -> None:
    running.rule(name="porto-daemon-base")
    write_base(running, "", "1")
    assert running.host.run().ok
    pid, held = running.pid(), running.other()
    write_base(running, "max_respawns: '0'", "2", command="cmd: [sh, -c, 'exit 3']")
    found = {item.name: item for item in running.host.run().statuses}
    assert found["base"].version == "1"
    assert running.pid() == pid
    assert found["agent"].waits
    running.leave(held)
    assert not running.host.run().ok
    assert running.pid() != pid


def test_what_recovers_by_itself_gives_its_slot_back(running: Fleet, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    command = f"cmd: [sh, -c, 'test -e {flag} || exit 1; exec sleep 1000']"
    once = "max_respawns: '0'"
    running.host.write(
        "agent", once, command=command, version="2", min_ready_s=1, update="on_failure: keep"
    )
    assert not running.host.run().ok
    assert running.holders() == {"host": "failed"}
    flag.touch()
    assert running.host.run_one().gate is None
    assert running.holders() == {}


def test_a_slot_is_kept_until_the_daemon_has_been_ready_for_long_enough(running: Fleet) -> None:
    running.rule("max_concurrent: 1, min_healthy_time: 3s")
    running.host.write("agent", "env: {A: '2'}", version="2")
    status = running.host.run_one()
    assert status.gate is not None
    assert status.gate.state == "settling"
    assert running.holders() == {"host": "settling"}
    time.sleep(3.5)
    assert running.host.run_one().gate is None
    assert running.holders() == {}


def test_a_daemon_that_fails_while_it_settles_fails_the_change(running: Fleet) -> None:
    running.rule("max_concurrent: 1, min_healthy_time: 1h")
    command = "cmd: [sh, -c, 'sleep 3; exit 1']"
    once = "max_respawns: '0'"
    running.host.write("agent", once, command=command, version="2", min_ready_s=1)
    status = running.host.run_one()
    assert status.gate is not None
    assert status.gate.state == "settling"
    time.sleep(3)
    # Dead: it is started again, but not before the look that finds it so.
    running.host.write("agent", once, command="cmd: ['false']", version="2", min_ready_s=1)
    running.status()
    assert running.holders() == {"host": "failed"}


# -- the rest of what is asked -------------------------------------------------------------------


def test_a_removal_waits(running: Fleet) -> None:
    pid, held = running.pid(), running.other()
    running.host.write("agent", "", delete=True)
    status = running.status()
    assert (running.pid(), status.phase) == (pid, "Managed")
    assert status.gate is not None
    assert (status.gate.operation, status.gate.target) == ("remove", "removal")
    running.leave(held)
    assert running.status().phase == "Removed"
    assert running.holders() == {}


def test_a_restart_that_waits_is_not_forgotten(running: Fleet) -> None:
    pid, held = running.pid(), running.other()
    assert running.status(restarts={"agent": "its file changed"}).waits
    assert running.pid() == pid
    running.leave(held)
    status = running.host.run_one()
    assert status.actions == ("restart: its file changed",)
    assert running.pid() != pid
    assert running.host.run_one().actions == ()


def test_what_portod_does_not_change_live_is_asked_before_it_restarts(running: Fleet) -> None:
    """portod lists a property as dynamic, and does not change it while something runs."""

    class Stiff(PortoClient):
        def set_property(self, name: str, variable: str, value: str) -> None:
            stiff = name == "agent" and variable == "memory_limit"
            if stiff and self.get_property(name, "state") == "running":
                raise PortoError("InvalidState", "not while it runs", f"set {name} {variable}")
            super().set_property(name, variable, value)

    pid, held = running.pid(), running.other()
    running.host.write("agent", "memory_limit: 64Mb")
    (status,) = running.host.run(Stiff).statuses
    assert status.gate is not None
    assert (status.gate.reason, status.gate.operation) == ("Full", "restart")
    assert running.pid() == pid
    running.leave(held)
    (status,) = running.host.run(Stiff).statuses
    assert status.actions[0].startswith("restart: ")
    assert running.pid() != pid
    assert running.holders() == {}


def test_root_may_go_past_the_gate(running: Fleet) -> None:
    pid = running.pid()
    running.other("2")
    running.host.write("agent", "env: {A: '2'}", version="2")
    status = running.status(override_gate="INC-1: it leaks")
    assert running.pid() != pid
    assert (status.version, status.gate) == ("2", None)
    store = open_store(running.host.settings.state_dir)
    fact = store.load_fact(FACT)
    told = [item.what for item in store.load_history("agent")]
    store.close()
    assert fact["override"] == "INC-1: it leaks"
    assert any("INC-1: it leaks" in what for what in told)


# -- what may happen in the middle ---------------------------------------------------------------


def run_doomed(fleet: Fleet, writes: int) -> None:
    """A pass in a process of its own that is killed instead of portod's n-th write."""
    pid = os.fork()
    if pid == 0:
        DoomedClient.writes_left = writes
        fleet.host.run(DoomedClient)
        os._exit(1)
    _, code = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(code)
    assert os.WTERMSIG(code) == signal.SIGKILL


@pytest.mark.parametrize("writes", [0, 3, 8])
def test_a_pass_that_is_killed_leaves_a_slot_that_the_next_one_knows(
    running: Fleet, writes: int
) -> None:
    running.host.write("agent", "env: {A: '2'}", version="2")
    run_doomed(running, writes)
    assert running.holders() == {"host": "working"}
    status = running.host.run_one()
    assert (status.version, status.gate) == ("2", None)
    assert running.holders() == {}


def test_after_a_kill_a_change_that_is_not_wanted_any_more_gives_its_slot_back(
    running: Fleet,
) -> None:
    running.host.write("agent", "env: {A: '2'}", version="2")
    run_doomed(running, 0)
    running.host.write("agent", "")
    assert running.host.run_one().actions == ()
    assert running.holders() == {}


def test_a_store_that_is_lost_is_learnt_again_from_the_gate(running: Fleet) -> None:
    running.rule("max_concurrent: 1, min_healthy_time: 2s")
    running.host.write("agent", "env: {A: '2'}", version="2")
    running.host.run_one()
    assert running.holders() == {"host": "settling"}
    Path(running.host.settings.state_dir, "store.sqlite3").unlink()
    time.sleep(2.5)
    running.host.run_one()
    assert running.holders() == {}


def test_a_host_goes_by_one_name_whatever_the_resolver_says(
    running: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"now": ""}
    monkeypatch.setattr("ya_salt.hostname.socket.gethostname", lambda: "web1")
    monkeypatch.setattr("ya_salt.hostname._resolve", lambda _node: answers["now"])
    running.host.settings = replace(running.host.settings, hostname="")
    running.rule("max_concurrent: 1, min_healthy_time: 2s")
    # A slow boot: there is no resolver yet, and a slot is taken.
    running.host.write("agent", "env: {A: '2'}", version="2")
    running.host.run_one()
    assert running.holders() == {"web1": "settling"}
    # The resolver is there, the slot is still ours, and there is no second one.
    answers["now"] = "web1.example.org"
    running.host.write("agent", "env: {A: '3'}", version="3")
    assert running.host.run_one().version == "3"
    assert running.holders() == {"web1": "settling"}
    time.sleep(2.5)
    running.host.run_one()
    assert running.holders() == {}
    # No slot is held under the old name any more: the new one is used, and it stays.
    running.host.write("agent", "env: {A: '4'}", version="4")
    running.host.run_one()
    assert running.holders() == {"web1.example.org": "settling"}
    answers["now"] = ""
    running.host.run_one()
    assert running.holders() == {"web1.example.org": "settling"}


def test_a_clone_does_not_take_its_twins_slot_for_its_own(
    running: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ya_salt.hostname._resolve", lambda _node: "")
    monkeypatch.setattr("ya_salt.hostname.socket.gethostname", lambda: "web1")
    monkeypatch.setattr("ya_salt.hostname.read_machine_id", lambda: "1" * 32)
    running.host.settings = replace(running.host.settings, hostname="")
    running.rule("max_concurrent: 1, min_healthy_time: 1h")
    running.host.write("agent", "env: {A: '2'}", version="2")
    running.host.run_one()
    assert running.holders() == {"web1": "settling"}
    # The same store and the same container, on another machine.
    monkeypatch.setattr("ya_salt.hostname.socket.gethostname", lambda: "web2")
    monkeypatch.setattr("ya_salt.hostname.read_machine_id", lambda: "2" * 32)
    running.host.write("agent", "env: {A: '3'}", version="3")
    status = running.status()
    assert status.gate is not None
    assert (status.gate.state, status.gate.reason) == ("waiting", "Full")
    assert running.holders() == {"web1": "settling"}


def test_a_fact_that_cannot_be_read_fails_no_pass(running: Fleet) -> None:
    store = open_store(running.host.settings.state_dir)
    with store.transaction():
        store.save_fact(FACT, {"held": 3})
    with sqlite3.connect(Path(running.host.settings.state_dir, "store.sqlite3")) as db:
        db.execute("UPDATE fact SET data = '{broken' WHERE name = ?", (FACT,))
    running.host.write("agent", "env: {A: '2'}", version="2")
    assert running.host.run_one().version == "2"


def test_a_daemon_whose_file_is_gone_keeps_no_slot(running: Fleet) -> None:
    running.rule("max_concurrent: 1, min_healthy_time: 1s")
    running.host.write("agent", "env: {A: '2'}", version="2")
    running.host.run_one()
    (running.host.specs_dir / "agent.yaml").unlink()
    time.sleep(1.5)
    running.host.run()
    assert running.holders() == {}
    running.host.write("agent", "env: {A: '2'}", version="2")


def test_a_daemon_that_nobody_knows_any_more_keeps_no_slot(running: Fleet) -> None:
    running.rule("max_concurrent: 1, min_healthy_time: 1h")
    running.host.write("agent", "env: {A: '2'}", version="2")
    running.host.run_one()
    assert running.holders() == {"host": "settling"}
    (running.host.specs_dir / "agent.yaml").unlink()
    with running.host.client() as client:
        client.destroy("agent")
    assert running.host.run().statuses == ()
    assert running.holders() == {}
    running.host.write("agent", "")


def test_a_slot_that_could_not_be_given_back_is_given_back_later(running: Fleet) -> None:
    running.rule("max_concurrent: 1, min_healthy_time: 1s")
    running.host.write("agent", "env: {A: '2'}", version="2")
    running.host.run_one()
    time.sleep(1.5)
    running.break_gate()
    assert running.host.run_one().gate is not None
    assert running.holders() == {"host": "settling"}
    running.point(*running.gate.endpoints)
    assert running.host.run_one().gate is None
    assert running.holders() == {}


def test_a_gate_that_comes_back_during_a_pass_is_told_how_it_went(
    running: Fleet, etcd_server: EtcdServer
) -> None:
    running.rule("max_concurrent: 1, min_healthy_time: 1s")
    running.host.write("agent", "env: {A: '2'}", version="2")
    running.host.run_one()
    assert running.holders() == {"host": "settling"}
    time.sleep(1.5)
    with EtcdProxy(etcd_server.ports[0]) as proxy:
        running.point(proxy.url)
        proxy.decide = lambda _path, _payload: "refuse"

        def mend() -> None:
            proxy.decide = lambda _path, _payload: "pass"

        # portod is looked at after the host has tried to say that it is alive.
        running.host.run(lambda path: _Watching(path, mend, "look"))
    assert running.holders() == {}


def before_its_steps(happen: Callable[[], object]) -> Callable[[str], PortoClient]:
    """Connections to portod, where something happens before the one for a daemon's own steps."""
    connections: list[str] = []

    def connect(path: str) -> PortoClient:
        connections.append(path)
        if len(connections) == 2:
            happen()
        return PortoClient(path)

    return connect


def test_a_slot_taken_away_meanwhile_is_asked_for_again(
    running: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody releases it, and another host takes it, between the answer and the restart."""
    monkeypatch.setattr(client, "_ASK_AGAIN_AFTER_S", 0.0)
    running.host.write("agent", "env: {A: '2'}", version="2")
    pid = running.pid()

    def rob() -> None:
        running.admin.release(RULE, "host", "too slow", "me", time.time())
        running.other("2")

    (status,) = running.host.run(before_its_steps(rob)).statuses
    assert running.pid() == pid
    assert status.gate is not None
    assert (status.gate.state, status.gate.reason) == ("waiting", "Full")
    assert running.holders() == {"other": "working"}


def test_a_rule_that_is_paused_meanwhile_stops_nothing_any_more(
    running: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_ASK_AGAIN_AFTER_S", 0.0)
    running.host.write("agent", "env: {A: '2'}", version="2")
    pid = running.pid()

    def pause() -> None:
        running.admin.pause(RULE, Pause("look first", "me", time.time()))

    (status,) = running.host.run(before_its_steps(pause)).statuses
    assert running.pid() == pid
    assert status.gate is not None
    assert status.gate.reason == "Paused"
    assert running.holders() == {"host": "working"}
    running.admin.resume(RULE)
    assert running.host.run_one().version == "2"
    assert running.holders() == {}


def test_a_host_that_works_for_long_stays_alive(running: Fleet) -> None:
    """SIGTERM is ignored, so stopping takes its ten seconds, as long as the sign of life lasts."""
    running.rule("max_concurrent: 1, lost_after: 10s")
    command = "cmd: [sh, -c, 'trap \"\" TERM; while :; do sleep 0.2; done']"
    running.host.write("agent", "", command=command, version="2")
    running.host.run_one()
    running.host.write("agent", "env: {A: '3'}", command=command, version="3")
    seen = []

    def connect(path: str) -> PortoClient:
        return _Watching(path, lambda: seen.append(running.admin.read(RULE).holders[0].is_alive))

    (status,) = running.host.run(connect).statuses
    assert status.version == "3"
    assert seen
    assert all(seen)
    with running.host.client() as client:
        client.destroy("agent")


class _Watching(PortoClient):
    """Calls `look` right before a container is destroyed, or portod asked for values."""

    def __init__(self, path: str, look: Any, moment: str = "destroy") -> None:
        super().__init__(path)
        self._look = look
        self._moment = moment

    def destroy(self, name: str) -> None:
        if name == "agent" and self._moment == "destroy":
            self._look()
        super().destroy(name)

    def look(self, *arguments: Any, **more: Any) -> Any:
        if self._moment == "look":
            self._look()
        return super().look(*arguments, **more)


# -- FleetLock -----------------------------------------------------------------------------------


def make_fleetlock_host(folder: Path, portod: DevPortod, face: Face) -> Passes:
    gate = GateSettings(type="fleetlock", endpoints=(face.url,), group="daemons")
    host = Passes(folder, portod.socket_path, gate)
    host.write("agent", "")
    assert host.run_one().state == "running"
    return host


def test_a_whole_rollout_through_fleetlock(tmp_path: Path, portod: DevPortod) -> None:
    locks = Locks()
    with Face(locks) as face:
        host = make_fleetlock_host(tmp_path, portod, face)
        assert [what for what, _, _ in locks.history] == ["lock", "unlock"]
        locks.holders["daemons"].add("other")
        host.write("agent", "env: {A: '2'}", version="2", update="watch_s: 0")
        (status,) = host.run().statuses
        assert status.gate is not None
        assert status.gate.reason == "Full"
        locks.holders["daemons"].clear()
        assert host.run_one().version == "2"
        assert not locks.holders["daemons"]
        bad = "cmd: ['false']"
        host.write("agent", "max_respawns: '0'", command=bad, version="3", min_ready_s=1)
        assert not host.run().ok
        assert locks.holders["daemons"] == {tmp_path.name}
        host.write("agent", "", version="4", update="watch_s: 0")
        assert host.run_one().version == "4"
        assert not locks.holders["daemons"]
        host.remove_all()


def test_a_lock_that_nobody_knows_of_is_given_back(tmp_path: Path, portod: DevPortod) -> None:
    """Its answer was lost, and then the change was taken back."""
    locks = Locks()
    with Face(locks) as face:
        host = make_fleetlock_host(tmp_path, portod, face)
        host.write("agent", "env: {A: '2'}", version="2")
        face.mode = "drop-after"
        (status,) = host.run().statuses
        assert status.gate is not None
        assert status.gate.reason == "GateUnreachable"
        assert locks.holders["daemons"] == {tmp_path.name}
        face.mode = "serve"
        host.write("agent", "")
        host.run_one()
        assert not locks.holders["daemons"]
        host.remove_all()


def test_how_long_fleetlock_has_been_silent_is_remembered(
    tmp_path: Path, portod: DevPortod
) -> None:
    with Face(Locks()) as face:
        host = make_fleetlock_host(tmp_path, portod, face)
        host.write("agent", "env: {A: '2'}", version="2")
        face.mode = "500"
        facts = []
        for _ in range(2):
            host.run()
            store = open_store(host.settings.state_dir)
            facts.append(store.load_fact(FACT))
            store.close()
        assert [fact["state"] for fact in facts] == ["failed", "failed"]
        assert facts[0]["since"] == facts[1]["since"]
        face.mode = "serve"
        host.remove_all()


# -- a gate that answers nonsense ----------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"{}", b"[]", b'{"succeeded": NaN}', b"[" * 3000 + b"]" * 3000, b'{"responses": [{}]}', b"x"],
)
def test_a_gate_of_nonsense_holds_up_what_asks_and_nothing_else(
    running: Fleet, etcd_server: EtcdServer, body: bytes
) -> None:
    """The update waits, and the dead daemon runs again as it was."""
    running.host.write("agent", "env: {A: '2'}", version="2")
    with running.host.client() as portod:
        portod.stop("agent", timeout_s=1)
    with EtcdProxy(etcd_server.ports[0]) as proxy:
        proxy.ask = lambda path, body_, headers: (200, body)
        running.point(proxy.url)
        status = running.status()
    assert (status.state, status.version) == ("running", "1")
    assert status.gate is not None
    assert (status.gate.state, status.gate.reason) == ("waiting", "GateUnreachable")
    running.point(*running.gate.endpoints)
    status = running.status()
    assert (status.version, status.gate) == ("2", None)


def test_a_failure_note_of_nonsense_holds_up_what_asks_and_nothing_else(running: Fleet) -> None:
    running.host.write("agent", "env: {A: '2'}", version="2")
    with running.host.client() as portod:
        portod.stop("agent", timeout_s=1)
    note = f"{running.gate.prefix}failed/{RULE}/other"
    running.etcd.transact([], [Put(note, "[" * 3000 + "]" * 3000)])
    status = running.status()
    assert (status.state, status.version) == ("running", "1")
    assert status.gate is not None
    assert "orlyctl release" in status.gate.message
    running.admin.release(RULE, "other", "", "me", 1.0)
    assert running.status().version == "2"


# -- stopped by hand -------------------------------------------------------------------------------

STOP = {"agent": Order("stop", "shell: eve", "disk")}


def test_a_stop_by_hand_waits_for_the_gate_and_holds_meanwhile(running: Fleet) -> None:
    pid, other = running.pid(), running.other()
    waiting = running.status(orders=STOP)

    assert running.pid() == pid
    assert waiting.gate is not None
    assert (waiting.gate.state, waiting.gate.operation) == ("waiting", "restart")
    assert waiting.hold is not None
    assert running.host.run().ok

    running.leave(other)
    stopped = running.status()

    assert running.pid() == ""
    assert stopped.ready is not None
    assert stopped.ready.reason == "Held"
    assert stopped.gate is None
    assert running.holders() == {}


def test_one_that_is_held_asks_nothing_of_the_gate(running: Fleet) -> None:
    running.status(orders=STOP)
    other = running.other()
    running.host.write("agent", "cwd: /tmp", version="2")
    running.break_gate()

    held = running.host.run()

    assert held.ok
    assert held.statuses[0].gate is None
    running.point(*running.gate.endpoints)
    running.leave(other)
    started = running.status(orders={"agent": Order("start", "shell: eve")})
    assert (started.version, started.state) == ("2", "running")


def test_a_stop_gives_the_slot_of_an_update_back(running: Fleet) -> None:
    running.rule("max_concurrent: 1, min_healthy_time: 1h")
    running.host.write("agent", "cwd: /tmp", version="2")
    running.status()
    assert running.holders() == {running.host.folder.name: "settling"}

    running.status(orders=STOP)

    assert running.holders() == {}
