"""`spec.after` on a Porto server: who is started and stopped when, and who need not wait."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.passes import DoomedClient, Passes
from helpers.portod import DevPortod

from ya_salt.converge import containers, run
from ya_salt.converge.changes import describe_changes
from ya_salt.converge.host import PassRequest
from ya_salt.converge.narrow import widen
from ya_salt.converge.run import run_pass
from ya_salt.messages import make_daemon_status
from ya_salt.model import DaemonStatus
from ya_salt.porto.client import PortoClient
from ya_salt.specs.directory import load_files, load_specs
from ya_salt.store import LAST_PASS, read_store

NOTES = (
    "trap 'echo stop {name} >> {log}; exit 0' TERM; echo start {name} >> {log};"
    " while :; do sleep 0.05; done"
)
BAD = "echo start {name} >> {log}; exit 3"
BEFORE, AFTER = "max_respawns: 0", "max_respawns: 0\ncwd: /tmp"
STUBBORN = "trap '' TERM; while :; do sleep 0.2; done"


@pytest.fixture(scope="module")
def portod() -> Iterator[DevPortod]:
    with DevPortod() as server:
        yield server


class Ordered(Passes):
    """Daemons that note when they are started and told to stop."""

    def __init__(self, folder: Path, socket_path: str) -> None:
        super().__init__(folder, socket_path)
        self.settings = replace(self.settings, parallel=2)
        self.log = folder / "log"

    def write_one(
        self,
        name: str,
        *after: str,
        properties: str = "",
        delete: bool = False,
        program: str = NOTES,
        min_ready_s: float = 0,
        timeout_s: float = 5,
        more: str = "",
        update: str = "",
    ) -> Path:
        """`more` stands in the spec, `update` in the braces of its `update`."""
        argv = ["/bin/sh", "-c", program.format(name=name, log=self.log)]
        lines = "".join(f"    {line}\n" for line in properties.splitlines())
        path = self.specs_dir / f"{name}.yaml"
        path.write_text(
            f"meta: {{name: {name}, delete_requested: {str(delete).lower()}}}\n"
            f"spec:\n  min_ready_s: {min_ready_s}\n  ready_timeout_s: {timeout_s}\n"
            f"  after: {json.dumps(after)}\n  update: {{{update}}}\n"
            + "".join(f"  {line}\n" for line in more.splitlines())
            + f"  properties:\n    cmd: {json.dumps(argv)}\n{lines}"
        )
        return path

    def take_notes(self) -> list[str]:
        """What happened since the last time; a moment is given to note it."""
        time.sleep(0.2)
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.write_text("")
        return lines

    def state(self, name: str) -> str:
        with self.client() as client:
            return client.get([name], ["state"]).get(name, {}).get("state", "absent")

    def close(self) -> None:
        for path in self.specs_dir.iterdir():
            path.write_text(path.read_text().replace("requested: false", "requested: true"))
        self.run(is_strict=False)


@pytest.fixture
def host(folder: Path, portod: DevPortod) -> Iterator[Ordered]:
    made = Ordered(folder, portod.socket_path)
    yield made
    made.close()


def statuses(host: Ordered) -> dict[str, object]:
    return {status.name: status for status in host.run().statuses}


def test_started_one_after_the_other_and_removed_the_other_way(host: Ordered) -> None:
    # Names in the order of the alphabet would do it wrong.
    host.write_one("a", "b", "c")
    host.write_one("b", "c", min_ready_s=1)
    host.write_one("c", min_ready_s=1)
    assert host.run().ok
    assert host.take_notes() == ["start c", "start b", "start a"]
    assert all(not status.actions for status in host.run().statuses)
    for name, after in (("a", "bc"), ("b", "c"), ("c", "")):
        host.write_one(name, *after, delete=True)
    assert host.run().ok
    assert host.take_notes() == ["stop a", "stop b", "stop c"]


def test_both_changed_are_stopped_and_started_in_order(host: Ordered) -> None:
    for properties in ("", "cwd: /tmp"):
        host.write_one("a", "b", properties=properties)
        host.write_one("b", properties=properties, min_ready_s=1)
        assert host.run().ok
    assert host.take_notes() == ["start b", "start a", "stop a", "stop b", "start b", "start a"]


def test_a_restart_of_one_does_not_touch_those_after_it(host: Ordered) -> None:
    host.write_one("a", "b")
    host.write_one("b")
    host.run()
    host.take_notes()
    host.write_one("b", properties="cwd: /tmp")
    assert host.run().ok
    assert host.take_notes() == ["stop b", "start b"]


def test_one_that_is_not_ready_keeps_others_from_starting_and_stops_nobody(host: Ordered) -> None:
    host.write_one("a", "b", "gone")
    keep = "on_failure: keep"
    host.write_one("b", program="exit 1", properties="max_respawns: 0", min_ready_s=1)
    assert "gone, which no file defines" in statuses(host)["a"].ready.message
    found = statuses(host)
    ready = found["a"].ready
    assert (ready.status, ready.reason) == (False, "WaitsFor")
    assert "b (" in ready.message
    assert "gone, which no file defines" in ready.message
    assert make_daemon_status(found["a"])["waitsFor"] == found["a"].waits_for == ready.message
    assert not host.run().ok
    assert host.state("a") == "absent"
    host.write_one("gone")
    host.write_one("b")
    assert host.run().ok
    assert host.state("a") == "running"
    # Now it dies: who runs goes on, and what is new about him waits.
    host.write_one("b", program="exit 1", properties="max_respawns: 0", min_ready_s=1, update=keep)
    assert not host.run().ok
    host.take_notes()
    host.write_one("a", "b", "gone", properties="cwd: /tmp")
    found = statuses(host)
    assert (found["a"].ready.status, found["a"].ready.reason) == (True, "WaitsFor")
    assert found["a"].actions == ()
    assert host.take_notes() == []


def test_the_rest_of_a_chain_waits_for_whom_its_first_waits(host: Ordered) -> None:
    host.write_one("a", "b")
    host.write_one("b", "none")
    plans = host.plan()
    assert plans["b"].blocked == "waits for none, which no file defines"
    assert plans["a"].blocked == "waits for b, which waits for none, which no file defines"


def test_a_start_is_left_for_the_next_pass_where_its_time_is_up(host: Ordered) -> None:
    host.write_one("a", "b")
    host.write_one("b", min_ready_s=2, timeout_s=0)
    found = statuses(host)
    assert found["a"].ready.reason == "WaitsFor"
    assert host.state("a") == "absent"
    time.sleep(2)
    assert host.run().ok
    assert host.take_notes() == ["start b", "start a"]


def test_a_rehearsal_that_fails_stops_nobody(host: Ordered) -> None:
    host.write_one("a", "b")
    host.write_one("b")
    host.run()
    host.take_notes()
    host.write_one("a", "b", properties="cwd: /tmp")
    host.write_one("b", properties="cwd: /nowhere/at/all")
    found = statuses(host)
    assert found["b"].error
    assert host.take_notes() == ["stop a", "start a"]
    assert found["a"].ready.status


def test_who_was_stopped_is_started_all_the_same(host: Ordered) -> None:
    host.write_one("a", "b")
    host.write_one("b")
    host.run()
    host.take_notes()
    host.write_one("a", "b", properties="cwd: /tmp")
    keep = "on_failure: keep"
    host.write_one("b", program="exit 1", properties="max_respawns: 0", min_ready_s=1, update=keep)
    found = statuses(host)
    assert host.take_notes() == ["stop a", "stop b", "start a"]
    assert found["a"].ready.status
    assert any("all the same" in warning for warning in found["a"].warnings)


# -- the earlier one's update is bad, and undone -------------------------------------------------


def both(host: Ordered, **bad: Any) -> dict[str, DaemonStatus]:
    """a after b, both changed: b to something bad. How they stand after that pass."""
    make_both(host, **bad)
    return statuses(host)


def make_both(host: Ordered, **bad: Any) -> None:
    host.write_one("a", "b", properties=BEFORE)
    host.write_one("b", properties=BEFORE, min_ready_s=1)
    assert host.run().ok
    host.take_notes()
    host.write_one("a", "b", properties=AFTER)
    host.write_one("b", **{"program": BAD, "properties": AFTER, "min_ready_s": 1, **bad})


def history(host: Ordered, name: str) -> list[str]:
    store = read_store(host.settings.state_dir)
    assert store
    return [event.what for event in store.load_history(name)]


def test_the_later_one_is_started_when_the_earlier_one_has_gone_back(host: Ordered) -> None:
    make_both(host)
    result = host.run()
    found = {status.name: status for status in result.statuses}
    assert host.take_notes() == ["stop a", "stop b", "start b", "start b", "start a"]
    assert found["b"].ready.reason == "RolledBack"
    # What Salt tells is what it would have foretold.
    spec = next(item for item in result.targets if item.name == "a")
    done = [item.step for item in result.outcomes["a"].results if item.is_done]
    changes = describe_changes(spec, done, result.before)
    assert changes["process"] == {"old": "running", "new": "restarted"}
    assert list(changes["container"]) == ["cwd"]
    a = found["a"]
    assert (a.ready.status, a.ready.reason, a.warnings) == (True, "Ready", ())
    assert a.restart_count == 1
    (stopped, created) = a.actions
    assert stopped.startswith("stop: ")
    assert created == (
        "create: changed in the spec: cwd; it waited for b (dead), whose update fails"
    )
    told = history(host, "a")
    assert any("not ready (WaitsFor): waits for b (dead), whose update fails" in it for it in told)
    assert any(created in it for it in told)
    # What was changed is told of the start, though there was no container then.
    store = read_store(host.settings.state_dir)
    assert store
    change = store.load_records()["a"].change
    assert change
    assert change.what == created
    assert "cwd" in change.values
    assert host.run(is_strict=False).touched == frozenset()


def test_a_version_that_keeps_dying_is_not_waited_for_any_longer(host: Ordered) -> None:
    started = time.monotonic()
    found = both(host, properties="cwd: /tmp", timeout_s=60)
    assert time.monotonic() - started < 30
    assert found["b"].rejection
    assert "four times" in found["b"].rejection.why
    assert list(dict.fromkeys(host.take_notes())) == ["stop a", "stop b", "start b", "start a"]
    assert found["a"].ready.status


def test_a_version_that_says_no_is_waited_for_until_its_time_is_up(
    host: Ordered, folder: Path
) -> None:
    probe = f"readiness: {{exec: [test, -e, {folder}/flag], period_s: 1}}"
    found = both(host, program=NOTES, timeout_s=3, more=probe)
    assert host.take_notes() == ["stop a", "stop b", "start b", "stop b", "start b", "start a"]
    assert found["b"].rejection
    assert "not ready within 3 s" in found["b"].rejection.why
    assert found["a"].ready.status


def test_where_going_back_fails_too_the_later_one_is_started_all_the_same(
    host: Ordered, folder: Path
) -> None:
    flag = folder / "flag"
    flag.touch()
    needs = "test -e " + str(flag) + " || exit 5; " + NOTES
    host.write_one("a", "b", properties=BEFORE)
    host.write_one("b", properties=BEFORE, program=needs, min_ready_s=1)
    assert host.run().ok
    host.take_notes()
    flag.unlink()
    host.write_one("a", "b", properties=AFTER)
    host.write_one("b", properties=AFTER, program=BAD, min_ready_s=1)
    found = statuses(host)
    assert host.take_notes() == ["stop a", "stop b", "start b", "start a"]
    assert found["b"].ready.reason == "RollbackFailed"
    assert found["a"].ready.status
    assert any("all the same" in warning for warning in found["a"].warnings)


def test_a_chain_waits_for_its_first_to_go_back(host: Ordered) -> None:
    for properties, program in ((BEFORE, NOTES), (AFTER, BAD)):
        host.write_one("a", "b", properties=properties)
        host.write_one("b", "c", properties=properties, min_ready_s=1)
        host.write_one("c", properties=properties, program=program, min_ready_s=1)
        found = statuses(host)
    assert host.take_notes()[3:] == [
        *("stop a", "stop b", "stop c"),
        *("start c", "start c", "start b", "start a"),
    ]
    assert found["c"].ready.reason == "RolledBack"
    assert found["a"].ready.status
    assert found["b"].ready.status
    assert any("b, which waits for c (dead), whose update fails" in it for it in history(host, "a"))


def test_both_are_bad_and_go_back_one_after_the_other(host: Ordered) -> None:
    host.write_one("a", "b", properties=BEFORE, min_ready_s=1)
    host.write_one("b", properties=BEFORE, min_ready_s=1)
    assert host.run().ok
    host.take_notes()
    host.write_one("a", "b", properties=AFTER, program=BAD, min_ready_s=1)
    host.write_one("b", properties=AFTER, program=BAD, min_ready_s=1)
    found = statuses(host)
    assert [status.ready.reason for status in found.values()] == ["RolledBack", "RolledBack"]
    assert host.take_notes() == [
        *("stop a", "stop b", "start b", "start b"),
        *("start a", "start a"),
    ]


def test_who_was_left_is_left_again_while_another_update_is_lost(
    host: Ordered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """c was ready when b failed, and dies before the round that undoes b's update."""
    for properties, program in ((BEFORE, NOTES), (AFTER, BAD)):
        host.write_one("a", "b", "c", properties=properties)
        host.write_one("b", properties=properties, program=program, min_ready_s=1)
        host.write_one("c", properties=properties)
        if program is NOTES:
            assert host.run().ok
            host.take_notes()
    rounds = []

    def end_round(request: PassRequest) -> PassRequest:
        rounds.append(dict(request.left))
        if len(rounds) == 1:
            with host.client() as client:
                client.kill("c", signal.SIGKILL)
                client.wait_dead("c", 5)
        return widen(request)

    monkeypatch.setattr(run, "widen", end_round)
    found = statuses(host)
    # It is started once, when both are what they will be.
    notes = host.take_notes()
    assert notes[:1] + notes[-1:] == ["stop a", "start a"]
    assert sorted(notes[1:-1]) == ["start b"] * 2 + ["start c"] * 2 + ["stop b", "stop c"]
    assert len(rounds) == 2
    assert found["b"].ready.reason == found["c"].ready.reason == "RolledBack"
    assert (found["a"].ready.status, found["a"].warnings) == (True, ())


def test_one_that_is_restarted_for_a_file_waits_as_well(host: Ordered, folder: Path) -> None:
    watched = folder / "watched"
    watched.write_text("1")
    watch = f"watch: [{{path: {watched}}}]"
    host.write_one("a", "b", more=watch)
    host.write_one("b", properties=BEFORE, min_ready_s=1)
    assert host.run().ok
    host.take_notes()
    watched.write_text("2")
    host.write_one("b", properties=AFTER, program=BAD, min_ready_s=1)
    found = statuses(host)
    assert host.take_notes() == ["stop a", "stop b", "start b", "start b", "start a"]
    assert f"changed: {watched}" in found["a"].actions[-1]
    # It is acted on once.
    assert host.run(is_strict=False).touched == frozenset()


def test_one_that_is_new_waits_until_the_other_has_gone_back(host: Ordered) -> None:
    host.write_one("b", properties=BEFORE, min_ready_s=1)
    assert host.run().ok
    host.take_notes()
    host.write_one("a", "b")
    host.write_one("b", properties=AFTER, program=BAD, min_ready_s=1)
    found = statuses(host)
    assert host.take_notes() == ["stop b", "start b", "start b", "start a"]
    assert found["a"].ready.status


def test_one_that_becomes_ready_slowly_does_not_keep_another_one_down(host: Ordered) -> None:
    """It is waited for all the same, once nobody is down any more."""
    host.write_one("slow", properties=BEFORE)
    host.write_one("a", "b", properties=BEFORE)
    host.write_one("b", properties=BEFORE, min_ready_s=1)
    assert host.run().ok
    host.take_notes()
    host.write_one("slow", properties=AFTER, min_ready_s=6, timeout_s=20)
    host.write_one("a", "b", properties=AFTER)
    host.write_one("b", properties=AFTER, program=BAD, min_ready_s=1)
    found = statuses(host)
    assert all(status.ready.status for status in found.values())
    with host.client() as client:
        running = client.get(["a", "slow"], ["time"])
    assert int(running["slow"]["time"]) - int(running["a"]["time"]) < 5


def test_where_the_earlier_one_is_not_taken_back_after_all_nobody_waits(host: Ordered) -> None:
    """A full disk is no version's fault: nothing is undone."""
    found = both(host, program="echo no space left on device >&2; " + BAD)
    notes = host.take_notes()
    assert list(dict.fromkeys(notes)) == ["stop a", "stop b", "start b", "start a"]
    assert notes.count("start a") == 1
    assert found["b"].rejection is None
    assert found["a"].ready.status
    assert any("all the same" in warning for warning in found["a"].warnings)


@pytest.mark.parametrize("writes", range(8, 68, 12))
def test_killed_at_every_step_the_next_pass_starts_who_was_left(host: Ordered, writes: int) -> None:
    host.write_one("a", "b", properties=BEFORE)
    host.write_one("b", properties=BEFORE, min_ready_s=1)
    assert host.run().ok
    host.write_one("a", "b", properties=AFTER)
    host.write_one("b", properties=AFTER, program=BAD, min_ready_s=1)
    child = os.fork()
    if not child:
        try:
            DoomedClient.writes_left = writes
            host.run(DoomedClient)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    found = statuses(host)
    assert found["b"].ready.reason == "RolledBack"
    assert (found["a"].ready.status, found["a"].ready.reason) == (True, "Ready")
    assert host.run(is_strict=False).touched == frozenset()


def test_ten_slow_stops_cost_one(host: Ordered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "STOP_TIMEOUT_S", 3.0)
    names = [f"slow{number}" for number in range(10)]
    for change in ("", "cwd: /tmp"):
        for name in names:
            host.write_one(name, properties=change, program=STUBBORN)
        started = time.monotonic()
        assert host.run().ok
    assert 3 <= time.monotonic() - started < 8
    for name in names:
        host.write_one(name, delete=True, program=STUBBORN)
    started = time.monotonic()
    assert host.run().ok
    assert 3 <= time.monotonic() - started < 8


def test_no_more_than_parallel_are_worked_on_at_once(host: Ordered) -> None:
    inside, most, lock = 0, 0, threading.Lock()

    class Counting(PortoClient):
        def create_weak(self, name: str) -> None:
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.1)
            super().create_weak(name)

        def start(self, name: str) -> None:
            nonlocal inside
            super().start(name)
            with lock:
                inside -= 1

    for number in range(6):
        host.write_one(f"one{number}")
    assert host.run(Counting).ok
    assert most == 2


def test_a_circle_is_told_with_its_way_and_disturbs_nobody(host: Ordered) -> None:
    for name in ("a", "b", "c"):
        host.write_one(name)
    host.run()
    host.take_notes()
    host.write_one("a", "b")
    host.write_one("b", "c")
    path = host.write_one("c", "a")
    loaded = load_specs(str(host.specs_dir))
    assert loaded.specs == ()
    assert [item.name for item in loaded.rejected] == ["a", "b", "c"]
    (problem,) = loaded.rejected[2].problems
    assert problem.startswith(f"{path}:5:")
    assert "spec.after" in problem
    assert "c -> a -> b -> c" in problem
    result = host.run(is_strict=False)
    assert not result.ok
    assert {status.state for status in result.statuses} == {"running"}
    assert host.take_notes() == []
    # The same where only a part of it is named on the command line.
    assert load_files([str(path)]).specs
    host.write_one("a")
    assert host.run().ok


def test_a_circle_with_a_file_outside_of_the_directory(host: Ordered, folder: Path) -> None:
    host.write_one("a", "b")
    host.write_one("b")
    host.run()
    host.take_notes()
    other = folder / "other.yaml"
    path = host.write_one("b", "a", properties="cwd: /tmp")
    other.write_text(path.read_text())
    host.write_one("b")
    targets = load_files([str(other)]).specs
    loaded = load_specs(str(host.specs_dir))
    (status,) = run_pass(host.make_host(), PassRequest(targets, loaded, whole=False)).statuses
    assert "b -> a -> b" in status.error
    assert host.take_notes() == []


def test_one_that_is_removed_is_waited_for_by_nobody_who_runs(host: Ordered) -> None:
    host.write_one("a", "b")
    host.write_one("b")
    host.run()
    host.take_notes()
    host.write_one("b", delete=True)
    assert host.run().ok
    assert host.take_notes() == ["stop b"]


def test_ready_is_what_the_readiness_of_the_other_one_says(host: Ordered, folder: Path) -> None:
    flag = folder / "flag"
    path = host.write_one("b")
    path.write_text(
        path.read_text().replace(
            "  properties:",
            f"  readiness: {{exec: [test, -e, {flag}], period_s: 1}}\n  properties:",
        )
    )
    host.write_one("a", "b")
    timer = threading.Timer(1.5, flag.touch)
    timer.start()
    started = time.monotonic()
    assert host.run().ok
    assert time.monotonic() - started > 1.5
    assert host.take_notes() == ["start b", "start a"]
    timer.join()


def interrupt(host: Ordered, after_s: float) -> float:
    """Make a pass in another process and end it from outside; how long its end took."""
    child = os.fork()
    if not child:
        try:
            host.run()
        finally:
            os._exit(0)
    time.sleep(after_s)
    os.kill(child, signal.SIGINT)
    told = time.monotonic()
    os.waitpid(child, 0)
    return time.monotonic() - told


def test_told_to_end_nobody_waits_any_more(host: Ordered) -> None:
    host.write_one("a", "b")
    host.write_one("b", min_ready_s=20, timeout_s=30)
    assert interrupt(host, 1.5) < 3
    assert host.take_notes() == ["start b"]
    # The next pass goes on where that one stood.
    assert host.plan()["a"].steps


def test_told_to_end_who_was_stopped_is_started(host: Ordered) -> None:
    host.write_one("a", "b")
    host.write_one("b")
    assert host.run().ok
    host.take_notes()
    host.write_one("a", "b", properties="cwd: /tmp")
    host.write_one("b", properties="cwd: /tmp", min_ready_s=20, timeout_s=30)
    assert interrupt(host, 2) < 3
    assert host.take_notes() == ["stop a", "stop b", "start b", "start a"]


@pytest.mark.parametrize("when", ["the round ends", "the next one looks"])
def test_told_to_end_between_two_rounds_who_was_left_is_started(
    host: Ordered, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """It waits for an update to be undone, which is now left to the next pass."""
    make_both(host)
    place = {"the round ends": "judge_versions", "the next one looks": "look_and_plan"}[when]
    then, calls = getattr(run, place), []

    def end(*arguments: Any, **more: Any) -> Any:
        calls.append(place)
        if place == "judge_versions" or len(calls) == 2:
            monkeypatch.undo()
            raise KeyboardInterrupt
        return then(*arguments, **more)

    monkeypatch.setattr(run, place, end)
    with pytest.raises(KeyboardInterrupt):
        host.run()
    assert host.take_notes() == ["stop a", "stop b", "start b", "start a"]
    assert host.state("a") == "running"
    store = read_store(host.settings.state_dir)
    assert store
    assert store.load_fact(LAST_PASS)["result"] == "interrupted"
    assert store.load_records()["a"].status.restart_count == 1
    assert any("it waited for b (dead), whose update fails" in it for it in history(host, "a"))
    found = statuses(host)
    assert found["b"].ready.reason == "RolledBack"
    assert (found["a"].ready.status, found["a"].restart_count) == (True, 1)
    assert "start a" not in host.take_notes()


def test_told_to_end_while_apt_is_at_work_nobody_waits_for_it(
    host: Ordered, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_both(host)

    def end(*_arguments: Any) -> Any:
        monkeypatch.undo()
        monkeypatch.setattr(run, "find_holder", lambda _locks: "apt-get")
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "judge_versions", end)
    with pytest.raises(KeyboardInterrupt):
        host.run()
    assert host.take_notes() == ["stop a", "stop b", "start b"]
    assert "porto-daemon-a: DOWN until the next pass: apt is at work" in caplog.text
    assert statuses(host)["a"].ready.status
