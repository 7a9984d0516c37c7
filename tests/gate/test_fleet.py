"""Many hosts of several processes against a real etcd, judged by etcd's own history.

YA_SALT_TEST_HOSTS says how many hosts (`make soak-gate` takes more of them).
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.etcd import EtcdCluster
from helpers.fleet import Fleet
from helpers.judged import History, replay
from helpers.watched import Watcher

from ya_salt.errors import GateError
from ya_salt.gate.admin import RuleAdmin
from ya_salt.gate.etcd import Etcd
from ya_salt.gate.etcd_gate import OrlyGate
from ya_salt.gate.protocol import Identity, SlotRequest
from ya_salt.gate.rule_file import parse_rule
from ya_salt.model import GateSettings

HOSTS = int(os.environ.get("YA_SALT_TEST_HOSTS", "1000"))
SOME_HOSTS = max(20, HOSTS * 2 // 5)
PREFIX = "/orly/"
ROLLOUT_S = 150.0 * max(1.0, HOSTS / 1000)
"""Long enough for a machine that has other things to do."""

pytestmark = pytest.mark.usefixtures("etcd_programs")


@dataclass
class Land:
    """An etcd that is watched from its first key on, and a folder for the logs of a fleet."""

    cluster: EtcdCluster
    watcher: Watcher
    admin: RuleAdmin
    folder: Path

    def apply(self, spec: str, daemon: str = "web") -> None:
        text = f"meta: {{name: porto-daemon-{daemon}}}\nspec: {{{spec}}}\n"
        self.admin.apply(parse_rule(text, "rule.yaml"))

    def fleet(self, name: str = "web", **more: Any) -> Fleet:
        folder = self.folder / name
        folder.mkdir()
        return Fleet(folder, self.cluster.endpoints, PREFIX, **more)

    def settings(self) -> GateSettings:
        return GateSettings(endpoints=self.cluster.endpoints, prefix=PREFIX)

    def judge(self, daemon: str = "web") -> History:
        """Whatever the test is about, nothing in the history may be wrong."""
        history = replay(PREFIX, f"porto-daemon-{daemon}", self.watcher.read())
        assert history.problems == []
        # Without this a history that lacks something would look just as fine.
        assert history.final == self.watcher.list_present(PREFIX, history.last_revision)
        return history

    def roll_out(self, fleet: Fleet, target: str = "1") -> None:
        """Until all hosts have it; where they do not, the history may tell why."""
        try:
            fleet.wait_until_all_have(target, ROLLOUT_S)
        except TimeoutError:
            self.judge()
            raise

    def list_held(self) -> dict[str, int]:
        """Host -> number of its slot, now."""
        return {host: slot for slot, host in self.admin.read("porto-daemon-web").slots.items()}


@contextmanager
def make_land(size: int, folder: Path) -> Iterator[Land]:
    with EtcdCluster(size) as cluster, Watcher(cluster.endpoints) as watcher:
        settings = GateSettings(endpoints=cluster.endpoints, prefix=PREFIX)
        with closing(Etcd(settings, deadline_s=10)) as etcd:
            yield Land(cluster, watcher, RuleAdmin(etcd, PREFIX), folder)


@pytest.fixture(params=[1, 3], ids=["one node", "three nodes"])
def land(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Land]:
    with make_land(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def lone_land(tmp_path: Path) -> Iterator[Land]:
    with make_land(1, tmp_path) as made:
        yield made


@pytest.fixture
def triple_land(tmp_path: Path) -> Iterator[Land]:
    with make_land(3, tmp_path) as made:
        yield made


def check_all_started_once(fleet: Fleet, history: History, target: str = "1") -> None:
    """Every host, and what hosts believe they were given is what etcd has."""
    assert Counter(history.list_hosts(target)) == Counter(fleet.hosts)
    given = {(start.host, start.id) for start in history.starts}
    told = {(note.host, note.id) for note in fleet.list_notes() if note.what == "allowed"}
    assert told <= given


def check_nothing_left(history: History, daemon: str = "web") -> None:
    kinds = ("slots", "holders", "failed")
    left = [f"{PREFIX}{kind}/porto-daemon-{daemon}/" for kind in kinds]
    assert [key for key in history.final if key.startswith(tuple(left))] == []


def test_never_more_hosts_at_once_and_no_more_starts_than_the_rule_lets(land: Land) -> None:
    land.apply("max_concurrent: 8, rate: {count: 250, window: 2s}")
    # Few starts in a window, so that one too many is seen by the clock, too.
    land.apply("max_concurrent: 3, rate: {count: 4, window: 3s}", "slow")
    few = {"daemon": "slow", "hosts": 12, "processes": 2, "threads": 1}
    with (
        land.fleet(hosts=HOSTS, pause_s=(2.0, 8.0)) as fleet,
        land.fleet("slow", pause_s=(0.5, 1.0), **few) as slow,
    ):
        land.roll_out(fleet)
        land.roll_out(slow)
        history, slow_history = land.judge(), land.judge("slow")

    check_all_started_once(fleet, history)
    check_all_started_once(slow, slow_history)
    check_nothing_left(history)
    assert history.max_slots == 8
    assert slow_history.max_tokens == 4
    assert history.list_rate_breaches(250, 2) == []
    assert slow_history.list_rate_breaches(4, 3) == []


def test_a_shrunk_limit_holds_while_hosts_are_killed(lone_land: Land) -> None:
    land = lone_land
    land.apply("max_concurrent: 8")
    with land.fleet(hosts=HOSTS, work_s=(0.05, 0.15), pause_s=(0.5, 3.0)) as fleet:
        for done in range(1, 11):
            fleet.wait_for(
                lambda done=done: fleet.count("released") >= HOSTS * done // 30, "some", ROLLOUT_S
            )
            # Those who have looked under the old limit are at it now.
            land.apply("max_concurrent: 3")
            time.sleep(0.3)
            land.apply("max_concurrent: 8")
        orphans = kill_holders(land, fleet)
        land.apply("max_concurrent: 3")
        wait_for_refusals(fleet)
        land.judge()
        assert land.list_held() == orphans, "nobody starts, and nobody who is dead gives back"
        for number in (0, 1):
            fleet.start(number)
        fleet.wait_for(lambda: not orphans.keys() & land.list_held().keys(), "adoption", 60)
        fleet.kill(2)
        fleet.start(2)
        land.roll_out(fleet)
        history = land.judge()

    check_all_started_once(fleet, history)
    check_nothing_left(history)
    check_shrinks(history)


def kill_holders(land: Land, fleet: Fleet) -> dict[str, int]:
    """Kill two workers so that their hosts hold more than 3 slots, and not all of the lowest."""
    for _ in range(200):
        for number in (0, 1):
            fleet.kill(number)
        hosts = set(fleet.hosts[: HOSTS // 2])
        orphans = {host: slot for host, slot in land.list_held().items() if host in hosts}
        if len(orphans) > 3 and not {0, 1, 2} <= set(orphans.values()):
            return orphans
        for number in (0, 1):
            fleet.start(number)
        time.sleep(2)
    raise AssertionError("workers that are killed never hold enough")


def wait_for_refusals(fleet: Fleet) -> None:
    """Until very many are refused, or more are let through than may be on their way."""
    refused, allowed = fleet.count_refusals()["Full"], fleet.count("allowed")
    fleet.wait_for(
        lambda: (
            fleet.count_refusals()["Full"] > refused + 100 or fleet.count("allowed") > allowed + 20
        ),
        "refusals",
        60,
    )


def check_shrinks(history: History) -> None:
    """What was held when the limit shrank only becomes less until it is within the limit."""
    over = 0
    for before, after in zip(history.moments, history.moments[1:], strict=False):
        assert after.slots <= max(after.limit, before.slots), after
        over += after.slots > after.limit
    assert over, "the limit was never below what was held, so nothing is shown"
    below = [moment.slots for moment in history.moments if moment.limit == 3]
    assert max(below) > 3
    last = below[::-1]
    assert max(last[: last.index(4)] if 4 in last else last) <= 3


def test_hosts_of_the_same_name_never_have_two_slots(lone_land: Land) -> None:
    """As after a cloned disk, or where one who was thought dead is still at it."""
    land = lone_land
    land.apply("max_concurrent: 16")
    few = {"hosts": 16, "processes": 2, "pause_s": (0.0, 0.02), "work_s": (0.0, 0.005)}
    with land.fleet(**few) as fleet, land.fleet("twins", **few) as twins:
        for number in range(1, 21):
            for one in (fleet, twins):
                one.want(str(number))
            for one in (fleet, twins):
                land.roll_out(one, str(number))
        history = land.judge()
    assert len(history.starts) >= 16 * 20
    check_nothing_left(history)


def test_a_dead_leader_takes_no_grant_along(triple_land: Land) -> None:
    land = triple_land
    land.apply("max_concurrent: 8")
    with land.fleet(hosts=SOME_HOSTS, pause_s=(0.5, 3.0)) as fleet:
        for part in (4, 2):
            wait_for_part(fleet, part)
            leader = land.cluster.leader()
            land.cluster.kill(leader)
            assert land.cluster.leader() != leader
            wait_for_progress(fleet)
            land.cluster.start(leader)
            land.cluster.wait_for(leader)
        land.roll_out(fleet)
        history = land.judge()

    check_all_started_once(fleet, history)
    check_nothing_left(history)
    check_kept_until_done(land, fleet)


def wait_for_part(fleet: Fleet, part: int) -> None:
    wanted = fleet.size // part
    fleet.wait_for(lambda: fleet.count("released") >= wanted, f"{wanted} hosts", ROLLOUT_S)


def wait_for_progress(fleet: Fleet) -> None:
    already = fleet.count("released")
    fleet.wait_for(lambda: fleet.count("released") > already, "somebody more", ROLLOUT_S)


def check_kept_until_done(land: Land, fleet: Fleet) -> None:
    """No holder is gone before its host said that it is done."""
    folder = f"{PREFIX}holders/porto-daemon-web/"
    gone = {
        event.key.removeprefix(folder): event.arrived_at
        for event in land.watcher.read()
        if event.key.startswith(folder) and event.value is None
    }
    done = {note.host: note.at for note in fleet.list_notes() if note.what == "done"}
    assert gone.keys() == done.keys()
    assert [host for host in done if gone[host] < done[host]] == []


def test_without_a_majority_nothing_is_granted_and_hosts_are_told_in_time(
    triple_land: Land,
) -> None:
    land = triple_land
    land.apply("max_concurrent: 8")
    with land.fleet(hosts=SOME_HOSTS // 2, pause_s=(0.5, 3.0)) as fleet:
        wait_for_part(fleet, 4)
        for number in (0, 1):
            land.cluster.kill(number)
        down_at = time.time()
        # Answers to what was asked before may still be on their way.
        with closing(OrlyGate(Etcd(land.settings()), PREFIX, Identity("alone"))) as gate:
            for _ in range(3):
                assert measure_refusal(gate) < 6
        up_at = time.time()
        land.cluster.start(0)
        land.roll_out(fleet)
        history = land.judge()

    check_all_started_once(fleet, history)
    check_nothing_left(history)
    while_down = [note for note in fleet.list_notes() if down_at < note.began and note.at < up_at]
    assert {note.what for note in while_down} <= {"unreachable", "done"}
    assert any(note.what == "unreachable" for note in while_down)
    assert [s for s in history.starts if down_at < s.since and s.arrived_at < up_at] == []


def measure_refusal(gate: OrlyGate) -> float:
    """Seconds until the gate says that it cannot be asked."""
    began = time.monotonic()
    with pytest.raises(GateError):
        gate.ask(SlotRequest("web", "update", "1"))
    return time.monotonic() - began


def test_a_bad_version_halts_by_itself_and_its_repair_goes_on_by_itself(lone_land: Land) -> None:
    land = lone_land
    land.apply("max_concurrent: 60, max_failures: 3")
    workers = {"processes": 4, "threads": 4}
    with land.fleet(hosts=HOSTS, target="2", bad=("2",), pause_s=(2.0, 6.0), **workers) as fleet:
        fleet.wait_for(has_everybody_stopped(fleet), "everybody to stop", ROLLOUT_S)
        stopped = land.judge()
        fleet.want("3")
        land.roll_out(fleet, "3")
        history = land.judge()

    check_halt(fleet, stopped, max_failures=3)
    assert history.list_hosts("2") == stopped.list_hosts("2")
    assert Counter(history.list_hosts("3")) == Counter(fleet.hosts)
    check_nothing_left(history)
    given_back = count_slots_given_back(land)
    # Who failed gets the repair on the slot that it has.
    assert {given_back[host] for host in stopped.list_hosts("2")} == {1}


def has_everybody_stopped(fleet: Fleet) -> Callable[[], bool]:
    """Each host has failed, or was told that the rule halts."""

    def has() -> bool:
        notes = fleet.list_notes()
        failed = {note.host for note in notes if note.what == "failed"}
        halted = {note.host for note in notes if note.detail == "Halted"}
        return len(failed | halted) == fleet.size

    return has


def check_halt(fleet: Fleet, history: History, max_failures: int) -> None:
    halt = history.find_halt("2", max_failures)
    assert halt is not None
    revision, _ = halt
    assert [start for start in history.starts if start.revision > revision] == []
    failed = {host for _, _, host, target in history.failures if target == "2"}
    assert failed == set(history.list_hosts("2"))
    assert len(history.starts) == len(failed) < 60


def count_slots_given_back(land: Land) -> Counter[str]:
    """Host -> how often its holder was deleted."""
    folder = f"{PREFIX}holders/porto-daemon-web/"
    events = [event for event in land.watcher.read() if event.key.startswith(folder)]
    return Counter(event.key.removeprefix(folder) for event in events if event.value is None)
