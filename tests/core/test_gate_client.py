"""One host's side of the gate, as tables over a gate of a few lines: what is asked, kept, told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from ya_salt.errors import GateError
from ya_salt.gate import client
from ya_salt.gate.client import (
    DaemonResult,
    GateConnection,
    Permits,
    Work,
    admit,
    preview_deferrals,
    recall_slots,
    report_results,
)
from ya_salt.gate.memory import GateMemory
from ya_salt.gate.protocol import Granted, Slot, SlotRequest
from ya_salt.life import Life, Pin, Rejection, Trial
from ya_salt.model import (
    LABEL,
    ChangeLive,
    Condition,
    Container,
    CreateContainer,
    DaemonPlan,
    DaemonSpec,
    DaemonStatus,
    Deferral,
    InstallPackages,
    Observed,
    Outcome,
    Package,
    Record,
    ReplaceContainer,
    StartContainer,
    Step,
)

NOW = 1000.0
ALIVE = Life()
FULL = Deferral("Full", "1 of 1 slots in use")
AWAY = GateError("etcd does not answer")
SHARED = Package("lib", "2")


def make_slot(daemon: str = "a", **more: Any) -> Slot:
    return Slot(daemon, f"id-{daemon}", "update", "2", 1.0, **more)


def make_spec(name: str = "a") -> DaemonSpec:
    return DaemonSpec(name, "2", f"/{name}.yaml", "d" * 64, {}, (SHARED,))


def plan_update(name: str = "a") -> DaemonPlan:
    install = InstallPackages(name, (SHARED,), "lib 1 -> 2")
    return DaemonPlan(name, (install, ReplaceContainer(make_spec(name), "packages: lib 1 -> 2")))


def plan_change(name: str = "a") -> DaemonPlan:
    return DaemonPlan(name, (ReplaceContainer(make_spec(name), "changed in the spec: user"),))


class FakeGate:
    """Says what the test has laid down for a call (or a call about a daemon), and keeps the calls.

    Without a word from the test it grants, finds nothing, and agrees with what it is told.
    """

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = dict(answers)
        self.calls: list[str] = []

    def _say(self, call: str, daemon: str, usual: Any, *told: str) -> Any:
        self.calls.append(" ".join((call, daemon, *told)))
        said = self.answers.get(f"{call} {daemon}", self.answers.get(call, usual))
        if isinstance(said, Exception):
            raise said
        return said

    def ask(self, request: SlotRequest) -> Any:
        return self._say("ask", request.daemon, Granted(make_slot(request.daemon)))

    def preview(self, request: SlotRequest) -> Any:
        return self._say("preview", request.daemon, Granted())

    def find(self, daemon: str) -> Any:
        return self._say("find", daemon, None)

    def tell(self, slot: Slot, state: Any, error: str = "") -> Any:
        return self._say("tell", slot.daemon, replace(slot, state=state, error=error), state)

    def blame(self, slot: Slot, error: str) -> Any:
        return self._say("blame", slot.daemon, replace(slot, state="failed", error=error))

    def release(self, slot: Slot) -> Any:
        return self._say("release", slot.daemon, None)

    def renew(self, slot: Slot) -> Any:
        return self._say("renew", slot.daemon, slot)

    def close(self) -> None:
        self.calls.append("close")


class Bench:
    """A host with running daemons `a` and `b`, whose gate answers as the test says."""

    def __init__(self, **answers: Any) -> None:
        said = {key.replace("_", " "): answer for key, answer in answers.items()}
        self.gate = FakeGate(said)
        self.connection = GateConnection(lambda: self.gate, GateMemory(), lambda: NOW)
        self.saved: list[GateMemory] = []
        self.observed = Observed(
            containers={name: Container(name, "running", {LABEL: "e" * 64}) for name in "ab"},
            records={name: Record(name, was_created=True) for name in "ab"},
        )

    def work(self, *plans: DaemonPlan, override: str = "") -> Work:
        return Work([make_spec(plan.name) for plan in plans], plans, self.observed, override)

    def admit(self, *plans: DaemonPlan, held: tuple[Slot, ...] = (), **more: Any) -> Permits:
        memory = GateMemory(
            held={slot.daemon: slot for slot in held}, asked=more.pop("asked", frozenset())
        )
        work = self.work(*plans, **more)
        return admit(self.connection, memory, work, self.saved.append, lambda _told: None)

    def report(self, permits: Permits, *results: DaemonResult, is_whole: bool = True) -> Any:
        return report_results(self.connection, permits, results, NOW, is_whole=is_whole)


ON_TRIAL = Life(trial=Trial("mark", "2", back_to=1))
UNDONE = Life(rejection=Rejection("mark", "2", "exited with 3 four times in 20 s", NOW, 1))
PINNED = Life(pin=Pin(1, "mark", "alice", NOW))


def make_result(
    name: str = "a",
    *,
    ready: str = "",
    running_s: int = 60,
    error: str = "",
    life: Life = ALIVE,
    **outcome: Any,
) -> DaemonResult:
    """How a daemon stands: ready, or not for the reason `ready`."""
    condition = Condition(not ready, ready or "Ready", "so it is", NOW)
    return DaemonResult(
        DaemonStatus(name, ready=condition, error=error),
        Container(name, "running", {LABEL: "d" * 64}, running_s=running_s),
        Outcome(DaemonPlan(name, **outcome)),
        life,
    )


# -- before the work -----------------------------------------------------------------------------

ADMITTED: dict[str, tuple[Any, str, set[str], set[str]]] = {
    # it: (what the gate says, why it waits, slots held, slots that it may have)
    "a slot is granted": (Granted(make_slot()), "", {"a"}, set()),
    "it may go on without a slot": (Granted(), "", set(), set()),
    "it is refused": (FULL, "Full", set(), set()),
    "the gate is away, and may have granted it": (AWAY, "GateUnreachable", set(), {"a"}),
    "the gate does not let us ask": (GateError("no", "GateRefused"), "GateRefused", set(), {"a"}),
    "a bug in the gate's client": (KeyError("x"), "GateUnreachable", set(), {"a"}),
}


@pytest.mark.parametrize("row", ADMITTED.values(), ids=ADMITTED)
def test_what_the_gate_says_to_an_update(row: tuple[Any, str, set[str], set[str]]) -> None:
    said, reason, held, asked = row
    bench = Bench(ask=said)
    permits = bench.admit(plan_update())
    why = permits.deferrals.get("a")
    memory = permits.close()
    assert (why.reason if why else "", set(memory.held), memory.asked) == (reason, held, asked)
    assert bench.gate.calls == ["ask a"]


NOT_ASKED: dict[str, tuple[Step, ...]] = {
    "nothing is to be done": (),
    "a change of the running daemon": (ChangeLive(make_spec(), {"memory_limit": "1"}, "changed"),),
    "a dead one is started as it is": (StartContainer("a", "dead", "it is dead"),),
    "one that has run here is made again": (CreateContainer(make_spec(), "none"),),
}


@pytest.mark.parametrize("steps", NOT_ASKED.values(), ids=NOT_ASKED)
def test_what_disturbs_nobody_is_not_asked(steps: tuple[Step, ...]) -> None:
    bench = Bench()
    assert bench.admit(DaemonPlan("a", steps)).deferrals == {}
    assert bench.gate.calls == []


def test_for_whom_will_be_asked_is_saved_before_the_first_question() -> None:
    bench = Bench()
    calls_then: list[int] = []
    admit(
        bench.connection,
        GateMemory(),
        bench.work(plan_update("a"), plan_change("b"), DaemonPlan("c")),
        lambda memory: (calls_then.append(len(bench.gate.calls)), bench.saved.append(memory)),  # type: ignore[func-returns-value, arg-type, return-value]
        lambda _told: None,
    )
    assert calls_then == [0]
    assert [memory.asked for memory in bench.saved] == [frozenset("ab")]


def test_a_gate_that_is_away_is_asked_once_for_all_daemons() -> None:
    bench = Bench(ask=AWAY)
    permits = bench.admit(plan_change("a"), plan_change("b"))
    assert {name: why.reason for name, why in permits.deferrals.items()} == {
        "a": "GateUnreachable",
        "b": "GateUnreachable",
    }
    assert bench.gate.calls == ["ask a"]
    # Of b nothing was sent, so there is nothing to be looked for.
    assert permits.close().asked == {"a"}


def test_who_shares_a_package_waits_along_and_gives_its_slot_back() -> None:
    bench = Bench(ask_a=FULL)
    permits = bench.admit(plan_update("a"), plan_update("b"))
    assert {name: why.reason for name, why in permits.deferrals.items()} == {
        "a": "Full",
        "b": "SharedPackage",
    }
    assert bench.gate.calls == ["ask a", "ask b", "release b"]
    assert permits.close().held == {}


def test_a_slot_from_an_earlier_pass_is_kept_while_it_waits_along() -> None:
    bench = Bench(ask_a=FULL)
    permits = bench.admit(plan_update("a"), plan_update("b"), held=(make_slot("b"),))
    assert set(permits.deferrals) == {"a", "b"}
    assert set(permits.close().held) == {"b"}


def test_who_goes_past_the_gate_asks_nothing_and_is_told_of() -> None:
    bench = Bench()
    permits = bench.admit(plan_update("a"), DaemonPlan("b"), override="the gate burns")
    assert (permits.deferrals, permits.went_past) == ({}, {"a"})
    assert permits.check(plan_change("b").steps[0]) is None
    assert bench.gate.calls == []
    assert permits.close().override == "the gate burns"


def test_without_a_gate_nobody_is_asked_and_nobody_goes_past() -> None:
    gate = FakeGate({})
    connection = GateConnection(lambda: gate, GateMemory(), lambda: NOW, is_configured=False)
    work = Bench().work(plan_update())
    permits = admit(connection, GateMemory(), work, lambda _memory: None, lambda _told: None)
    assert (permits.deferrals, permits.went_past, gate.calls) == ({}, frozenset(), [])


def test_a_slot_that_is_not_wanted_any_more_is_given_back_first() -> None:
    bench = Bench()
    permits = bench.admit(plan_change("b"), asked=frozenset("a"))
    assert bench.gate.calls == ["release a", "ask b"]
    assert permits.close().asked == set()


def test_a_no_settles_whether_there_is_a_slot_and_silence_does_not() -> None:
    for said, left in ((FULL, set()), (AWAY, {"a"})):
        permits = Bench(ask=said).admit(plan_update(), asked=frozenset("a"))
        assert permits.close().asked == left


RECALLED: dict[str, tuple[dict[str, Any], bool, list[str], set[str], set[str]]] = {
    # it: (answers, is the store new, calls, slots held, still not known)
    "who was asked for is looked for": ({}, False, ["renew b", "find a"], {"b"}, {"a"}),
    "what is found is ours": (
        {"find_a": make_slot("a")},
        False,
        ["renew b", "find a"],
        {"a", "b"},
        set(),
    ),
    "a new store looks for all": (
        {"find_c": make_slot("c")},
        True,
        ["renew b", "find a", "find c"],
        {"b", "c"},
        {"a"},
    ),
    "a slot was taken away meanwhile": (
        {"renew": None},
        False,
        ["renew b", "find a"],
        set(),
        {"a"},
    ),
    "the gate is away: what we had we have": ({"renew": AWAY}, False, ["renew b"], {"b"}, {"a"}),
}


@pytest.mark.parametrize("row", RECALLED.values(), ids=RECALLED)
def test_what_is_known_of_slots_when_a_pass_begins(
    row: tuple[dict[str, Any], bool, list[str], set[str], set[str]],
) -> None:
    answers, is_new, calls, held, unknown = row
    bench = Bench(**answers)
    memory = GateMemory(held={"b": make_slot("b")}, asked=frozenset("a"))
    found = recall_slots(bench.connection, memory, "abc", is_store_new=is_new)
    assert bench.gate.calls == calls
    assert set(found.held) == held
    assert found.asked == unknown


def test_a_look_asks_nothing_that_changes_the_gate() -> None:
    bench = Bench(preview_a=FULL)
    work = bench.work(plan_update("a"), plan_update("b"))
    said = preview_deferrals(bench.connection, work.specs, work.plans, work.observed)
    assert {name: why.reason for name, why in said.items()} == {"a": "Full", "b": "SharedPackage"}
    assert bench.gate.calls == ["preview a", "preview b"]


# -- during the work -----------------------------------------------------------------------------


def test_a_fresh_answer_is_not_asked_for_again_before_the_stop() -> None:
    bench = Bench()
    permits = bench.admit(plan_update())
    assert permits.check(plan_update().steps[1]) is None
    assert bench.gate.calls == ["ask a"]


def test_an_old_answer_is_asked_for_again_before_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_ASK_AGAIN_AFTER_S", 0.0)
    bench = Bench()
    permits = bench.admit(plan_update())
    bench.gate.answers["ask"] = FULL
    assert permits.check(plan_update().steps[0]) is None
    assert permits.check(plan_update().steps[1]) == FULL
    assert bench.gate.calls == ["ask a", "ask a"]


def test_a_change_that_turns_out_to_need_a_restart_is_asked() -> None:
    bench = Bench(ask=FULL)
    live = DaemonPlan("a", (ChangeLive(make_spec(), {"memory_limit": "1"}, "changed"),))
    permits = bench.admit(live)
    assert permits.check(live.steps[0]) is None
    assert permits.check(plan_change().steps[0]) == FULL
    request = permits.find_request("a")
    assert request is not None
    assert request.operation == "restart"


class Pulse:
    """Answers to `renew`, and says when it was called."""

    def __init__(self, bench: Bench, answer: Callable[[Slot], Slot | None]) -> None:
        self.beat = threading.Event()
        self._answer = answer
        bench.gate.renew = self.renew  # type: ignore[method-assign]

    def renew(self, slot: Slot) -> Slot | None:
        answer = self._answer(slot)
        self.beat.set()
        return answer


LIVING = Granted(make_slot(lost_after_s=1))


def test_a_slot_is_kept_alive_as_long_as_the_work_takes() -> None:
    bench = Bench(ask=LIVING)
    pulse = Pulse(bench, lambda slot: slot)
    permits = bench.admit(plan_update())
    with permits.keep_alive():
        assert pulse.beat.wait(10)
    assert set(permits.close().held) == {"a"}


def test_a_slot_that_is_only_taken_during_the_work_is_kept_alive_too() -> None:
    bench = Bench(ask=LIVING)
    pulse = Pulse(bench, lambda slot: slot)
    permits = bench.admit(DaemonPlan("a", (StartContainer("a", "dead", "it is dead"),)))
    with permits.keep_alive():
        assert not permits.close().held
        assert permits.check(plan_change().steps[0]) is None
        assert pulse.beat.wait(10)


def test_a_slot_that_is_lost_during_the_work_is_asked_for_again() -> None:
    bench = Bench(ask=LIVING)
    pulse = Pulse(bench, lambda _slot: None)
    permits = bench.admit(plan_update())
    with permits.keep_alive():
        assert pulse.beat.wait(10)
    assert permits.close().held == {}
    bench.gate.answers["ask"] = FULL
    assert permits.check(plan_update().steps[1]) == FULL


def test_a_gate_that_was_away_is_tried_again_when_the_work_is_over() -> None:
    bench = Bench(ask=AWAY)
    permits = bench.admit(plan_change("a"), held=(make_slot("b"),))
    with permits.keep_alive():
        pass
    settled = bench.report(permits, make_result("b"))
    assert bench.gate.calls == ["ask a", "release b"]
    assert settled.memory.asked == {"a"}


# -- after the work ------------------------------------------------------------------------------

TOLD: dict[str, tuple[Slot, DaemonResult, list[str], str]] = {
    # it: (the slot, how the daemon stands, what is called, the state that stays: "" is given back)
    "it is ready": (make_slot(), make_result(), ["release a"], ""),
    "it is removed": (
        make_slot(),
        replace(make_result(), status=DaemonStatus("a", phase="Removed")),
        ["release a"],
        "",
    ),
    "it has to stay ready for a while": (
        make_slot(min_healthy_s=90),
        make_result(running_s=60),
        ["tell a settling"],
        "settling",
    ),
    "it has stayed ready for long enough": (
        make_slot(min_healthy_s=60, state="settling"),
        make_result(running_s=60),
        ["release a"],
        "",
    ),
    "it is not ready": (make_slot(), make_result(ready="Dead"), ["tell a failed"], "failed"),
    "its step failed": (make_slot(), make_result(error="no"), ["tell a failed"], "failed"),
    "it was told already": (make_slot(state="failed"), make_result(ready="Dead"), [], "failed"),
    "a failed one is ready again, and has to stay so": (
        make_slot(min_healthy_s=90, state="failed", error="Dead"),
        make_result(running_s=60),
        [],
        "failed",
    ),
    "a failure that is in the way of others is told again": (
        make_slot(state="failed", slot=3),
        make_result(ready="Dead"),
        ["tell a failed"],
        "failed",
    ),
    "the rule has no time, and it is on trial": (
        make_slot(),
        make_result(life=ON_TRIAL),
        ["tell a settling"],
        "settling",
    ),
    "the rule has no time, and its trial is over": (
        make_slot(state="settling"),
        make_result(running_s=1),
        ["release a"],
        "",
    ),
    "the rule's time goes before a trial": (
        make_slot(min_healthy_s=60, state="settling"),
        make_result(running_s=60, life=ON_TRIAL),
        ["release a"],
        "",
    ),
    "the rule says at once, whatever is on trial": (
        make_slot(min_healthy_s=0),
        make_result(running_s=0, life=ON_TRIAL),
        ["release a"],
        "",
    ),
    "it is on trial, and not ready yet": (
        make_slot(),
        make_result(ready="Starting", life=ON_TRIAL),
        [],
        "working",
    ),
    "it settles, and its probation begins anew": (
        make_slot(state="settling"),
        make_result(ready="Dead", life=ON_TRIAL),
        [],
        "settling",
    ),
    "what was on trial could not be carried out": (
        make_slot(),
        make_result(error="no", life=ON_TRIAL),
        ["tell a failed"],
        "failed",
    ),
    "it was undone, and the one before is ready": (
        make_slot(),
        make_result(life=UNDONE),
        ["tell a failed"],
        "failed",
    ),
    "it was undone and told": (
        make_slot(state="failed"),
        make_result(life=UNDONE),
        [],
        "failed",
    ),
    "a restart of the one before is none of the rejected version": (
        replace(make_slot(), operation="restart"),
        make_result(life=UNDONE),
        ["release a"],
        "",
    ),
    "the file says another thing now, and that is ready": (
        make_slot(state="failed"),
        make_result(),
        ["release a"],
        "",
    ),
    "nobody could look": (make_slot(), make_result(ready="Unknown"), [], "working"),
    "it has not been carried out yet": (
        make_slot(),
        make_result(ready="Deferred", deferral=FULL),
        [],
        "waiting",
    ),
}


@pytest.mark.parametrize("row", TOLD.values(), ids=TOLD)
def test_what_the_gate_is_told_after_the_work(
    row: tuple[Slot, DaemonResult, list[str], str],
) -> None:
    slot, result, calls, state = row
    bench = Bench()
    settled = bench.report(bench.admit(DaemonPlan("a"), held=(slot,)), result)
    assert bench.gate.calls == calls
    assert set(settled.memory.held) == ({"a"} if state else set())
    standing = settled.standings.get("a")
    assert (standing.state if standing else "") == state


# -- going back ----------------------------------------------------------------------------------


BEFORE = replace(make_spec(), version="1", generation=1)
BACK = DaemonPlan(
    "a", (InstallPackages("a", (SHARED,), "lib 2 -> 1"), ReplaceContainer(BEFORE, "lib 2 -> 1"))
)


def look_at_life(bench: Bench, life: Life) -> None:
    bench.observed = replace(bench.observed, lives={"a": life})


def go_back(bench: Bench, *held: Slot) -> Permits:
    work = replace(bench.work(BACK), specs=(BEFORE,))
    memory = GateMemory(held={slot.daemon: slot for slot in held})
    return admit(bench.connection, memory, work, bench.saved.append, lambda _told: None)


def test_a_rejection_is_told_before_anything_is_undone_and_that_needs_no_slot() -> None:
    bench = Bench()
    look_at_life(bench, UNDONE)
    permits = go_back(bench, make_slot())
    assert permits.deferrals == {}
    assert permits.check(BACK.steps[1]) is None
    assert bench.gate.calls == ["tell a failed"]
    held = permits.close().held["a"]
    assert (held.state, held.error) == ("failed", "exited with 3 four times in 20 s")


def test_a_rejection_that_could_not_be_told_is_undone_all_the_same_and_told_later() -> None:
    bench = Bench(tell=AWAY)
    look_at_life(bench, UNDONE)
    permits = go_back(bench, make_slot())
    with permits.keep_alive():
        assert permits.check(BACK.steps[1]) is None
    assert permits.close().held["a"].state == "working"
    del bench.gate.answers["tell"]
    settled = bench.report(permits, make_result(life=UNDONE))
    assert settled.memory.held["a"].state == "failed"
    assert bench.gate.calls == ["tell a failed", "tell a failed"]


def test_going_back_by_hand_needs_no_slot() -> None:
    bench = Bench(ask=FULL)
    look_at_life(bench, PINNED)
    permits = go_back(bench)
    assert (permits.deferrals, permits.check(BACK.steps[1])) == ({}, None)
    assert bench.gate.calls == []


def test_a_restart_of_the_version_that_came_back_is_asked_and_keeps_the_failure() -> None:
    bench = Bench()
    same = {"a": Container("a", "running", {LABEL: make_spec().digest})}
    failed = replace(make_slot(state="failed"), target="3")
    bench.observed = replace(bench.observed, containers=same, lives={"a": UNDONE})
    permits = bench.admit(plan_change(), held=(failed,))
    request = permits.find_request("a")
    assert request is not None
    # On the slot that it has: another target would take the failure's place.
    assert (request.operation, request.target) == ("restart", "3")
    assert bench.gate.calls == ["ask a"]


def settle_early(bench: Bench, memory: GateMemory, life: Life) -> Any:
    """A pass over a daemon that is ready, under a rule that gives slots back at once."""
    permits = Permits(bench.connection, memory, {})
    return bench.report(permits, make_result(life=life)).memory


def test_an_update_that_fails_after_its_slot_was_given_back_is_told_once() -> None:
    bench = Bench()
    held = GateMemory(held={"a": make_slot(min_healthy_s=0)})
    memory = settle_early(bench, held, ON_TRIAL)
    assert (memory.held, set(memory.returned)) == ({}, {"a"})
    memory = settle_early(bench, memory, ON_TRIAL)
    assert set(memory.returned) == {"a"}
    memory = settle_early(bench, memory, UNDONE)
    assert (memory.held["a"].state, memory.returned) == ("failed", {})
    assert memory.held["a"].error == "exited with 3 four times in 20 s"
    # Somebody has released it since.
    memory = settle_early(bench, replace(memory, held={}), UNDONE)
    assert memory.held == {}
    assert bench.gate.calls == ["release a", "blame a"]


def test_what_has_proved_itself_since_its_slot_was_given_back_is_not_told_of() -> None:
    bench = Bench()
    memory = GateMemory(returned={"a": make_slot()})
    assert settle_early(bench, memory, ALIVE).returned == {}
    assert bench.gate.calls == []


def test_a_late_failure_that_could_not_be_told_is_told_by_the_next_pass() -> None:
    bench = Bench(blame=AWAY)
    memory = settle_early(bench, GateMemory(returned={"a": make_slot()}), UNDONE)
    assert (memory.held, set(memory.returned)) == ({}, {"a"})
    del bench.gate.answers["blame"]
    bench.connection.mend()
    assert settle_early(bench, memory, UNDONE).held["a"].state == "failed"


def test_a_late_failure_does_not_take_the_place_of_what_the_host_is_at() -> None:
    bench = Bench()
    newer = replace(make_slot(), operation="restart", min_healthy_s=90)
    memory = GateMemory(held={"a": newer}, returned={"a": make_slot()})
    memory = settle_early(bench, memory, UNDONE)
    assert (memory.held["a"].state, memory.returned) == ("settling", {})


def test_a_look_shows_no_wait_for_what_goes_back() -> None:
    bench = Bench(preview=FULL)
    work = bench.work(BACK, plan_change("b"))
    work = replace(work, specs=(BEFORE, make_spec("b")))
    said = preview_deferrals(bench.connection, work.specs, work.plans, work.observed)
    assert set(said) == {"b"}


def test_a_whole_pass_gives_back_slots_of_daemons_that_nobody_knows() -> None:
    held = (make_slot("a"), make_slot("z"))
    bench = Bench()
    settled = bench.report(bench.admit(held=held), make_result(ready="Unknown"))
    assert (bench.gate.calls, set(settled.memory.held)) == (["release z"], {"a"})
    bench = Bench()
    settled = bench.report(bench.admit(held=held), make_result(), is_whole=False)
    assert (bench.gate.calls, set(settled.memory.held)) == (["release a"], {"z"})


def test_a_slot_that_cannot_be_given_back_is_kept_in_mind() -> None:
    bench = Bench(release=AWAY)
    settled = bench.report(bench.admit(held=(make_slot(),)), make_result())
    assert set(settled.memory.held) == {"a"}
    assert (settled.memory.state, settled.memory.since) == ("failed", NOW)
    assert "etcd does not answer" in settled.memory.message


def test_a_slot_that_was_lost_is_not_told_of_any_more() -> None:
    bench = Bench(tell=None)
    settled = bench.report(bench.admit(held=(make_slot(),)), make_result(ready="Dead"))
    assert (bench.gate.calls, settled.memory.held) == (["tell a failed"], {})


def test_how_the_gate_answered_last_is_remembered() -> None:
    bench = Bench()
    settled = bench.report(bench.admit(plan_update()), make_result())
    assert (settled.memory.state, settled.memory.message) == ("answered", "")


def test_a_gate_is_connected_when_it_is_asked_and_closed_at_the_end() -> None:
    made: list[FakeGate] = []

    def connect() -> FakeGate:
        made.append(FakeGate({}))
        return made[-1]

    with GateConnection(connect, GateMemory(), lambda: NOW) as connection:
        assert made == []
        connection.find("a")
        connection.find("b")
    assert [gate.calls for gate in made] == [["find a", "find b", "close"]]


def test_a_gate_that_cannot_even_be_made_is_a_reason_to_wait() -> None:
    def connect() -> FakeGate:
        raise GateError("its password cannot be read", "GateRefused")

    with GateConnection(connect, GateMemory(), lambda: NOW) as connection:
        said = connection.ask(SlotRequest("a", "update", "2"))
    assert isinstance(said, Deferral)
    assert said.reason == "GateRefused"
