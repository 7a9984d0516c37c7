"""Who waits for whom, case by case: circles, chains, and what of a plan is left for later."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ya_salt.converge.ordering import CIRCLE, hold_starts
from ya_salt.model import (
    LABEL,
    Container,
    CreateContainer,
    DaemonPlan,
    DaemonSpec,
    InstallPackages,
    Observed,
    ReplaceContainer,
    SignalContainer,
    StartContainer,
    Step,
)
from ya_salt.specs.order import find_circles, sort_by_order

A = DaemonSpec("a", "1", "/specs/a.yaml", "digest", {}, (), after=("b",))
B = DaemonSpec("b", "1", "/specs/b.yaml", "digest", {}, ())
READY = Container("b", "running", {LABEL: "digest"}, running_s=100)
STEPS: dict[str, tuple[Step, ...]] = {
    "create": (CreateContainer(A, "new"),),
    "start": (StartContainer("a", "dead", "it is dead"),),
    "restart": (InstallPackages("a", (), "p"), ReplaceContainer(A, "p")),
}


@pytest.mark.parametrize(
    ("after", "circles"),
    [
        ({"a": ("b",), "b": ()}, {}),
        ({"a": ("a",)}, {"a": "a -> a"}),
        ({"a": ("b",), "b": ("a",)}, {"a": "a -> b -> a", "b": "b -> a -> b"}),
        # Who only leads to a circle is in none, and the shortest way is told.
        (
            {"a": ("b",), "b": ("c", "d"), "c": ("d",), "d": ("b",)},
            {"b": "b -> d -> b", "c": "c -> d -> b -> c", "d": "d -> b -> d"},
        ),
        ({"a": ("nobody",)}, {}),
    ],
)
def test_circles(after: dict[str, tuple[str, ...]], circles: dict[str, str]) -> None:
    assert find_circles(after) == circles


def test_each_stands_behind_those_before_it() -> None:
    after = {"a": ("b", "c"), "b": ("c", "x"), "c": (), "d": ("a",)}
    assert sort_by_order(after) == ["c", "b", "a", "d"]
    deep = {str(number): (str(number + 1),) for number in range(5000)}
    assert sort_by_order(deep)[-1] == "0"


def hold(
    steps: tuple[Step, ...],
    container: Container | None = None,
    other: DaemonSpec | None = B,
    *plans: DaemonPlan,
    **more: object,
) -> DaemonPlan:
    containers = {} if container is None else {"b": container}
    specs = [A, *([other] if other else [])]
    mine = replace(DaemonPlan("a", steps), **more)
    return hold_starts([mine, *plans], specs, Observed(containers=containers))[0]


@pytest.mark.parametrize("kind", STEPS)
def test_who_is_ready_holds_nobody_up(kind: str) -> None:
    assert hold(STEPS[kind], READY) == DaemonPlan("a", STEPS[kind])


@pytest.mark.parametrize(
    ("container", "words"),
    [
        (None, "b (it has no container)"),
        (replace(READY, labels={}), "b (it has no container)"),
        (replace(READY, state="dead"), "b (dead)"),
        (replace(READY, state="paused"), "b (paused)"),
        (replace(READY, state="respawning", respawn_count=3), "b (respawning)"),
        # It has been at it for as long as anybody waits, or dies again and again.
        (replace(READY, running_s=3, respawn_count=1), "b (running for 3 s)"),
    ],
)
@pytest.mark.parametrize("kind", STEPS)
def test_who_will_not_be_ready_within_the_pass(
    kind: str, container: Container | None, words: str
) -> None:
    plan = hold(STEPS[kind], container)
    assert plan.blocked == f"waits for {words}"
    assert plan.steps == ()
    assert plan.waiting == STEPS[kind]


def test_packages_of_one_that_does_not_run_come_first() -> None:
    install = InstallPackages("a", (), "p")
    plan = hold((install, CreateContainer(A, "new")))
    assert (plan.steps, plan.waiting) == ((install,), (CreateContainer(A, "new"),))


def test_one_that_was_started_lately_is_waited_for_in_the_pass() -> None:
    assert not hold(STEPS["create"], replace(READY, running_s=3)).blocked
    slow = replace(B, min_ready_s=50, ready_timeout_s=60)
    assert not hold(STEPS["create"], replace(READY, running_s=49), slow).blocked
    assert hold(STEPS["create"], replace(READY, running_s=4), replace(B, ready_timeout_s=0)).blocked


def test_one_that_this_pass_starts_is_waited_for_but_not_one_that_is_blocked_itself() -> None:
    starts = DaemonPlan("b", (CreateContainer(B, "new"),))
    assert not hold(STEPS["create"], None, B, starts).blocked
    waits = replace(B, after=("c",))
    plan = hold(STEPS["create"], None, waits, DaemonPlan("b", (CreateContainer(waits, "new"),)))
    assert plan.blocked == "waits for b, which waits for c, which no file defines"


def test_one_that_goes_or_that_nobody_knows_is_waited_for_in_the_next_pass() -> None:
    gone = replace(B, delete_requested=True)
    assert hold(STEPS["start"], READY, gone).blocked == "waits for b, which is being removed"
    assert hold(STEPS["start"], READY, None).blocked == "waits for b, which no file defines"


def test_a_signal_is_sent_while_the_restart_waits() -> None:
    signal = SignalContainer("a", "SIGHUP", "changed: /x")
    plan = hold(STEPS["restart"], None, B, meanwhile=(signal,))
    assert plan.steps == (signal,)


def test_a_live_change_waits_for_nobody() -> None:
    signal = SignalContainer("a", "SIGHUP", "changed: /x")
    assert hold((signal,)) == DaemonPlan("a", (signal,))


def test_a_circle_is_a_refusal_and_the_dead_are_repaired() -> None:
    round_ = replace(B, after=("a",))
    plan = hold(STEPS["restart"], READY, round_)
    assert (plan.steps, plan.refusal_reason) == ((), CIRCLE)
    assert "a -> b -> a" in plan.refusal
    dead = Container("a", "dead", {LABEL: "digest"})
    observed = Observed(containers={"a": dead, "b": READY})
    plan = hold_starts([DaemonPlan("a", STEPS["restart"])], [A, round_], observed)[0]
    assert [type(step) for step in plan.steps] == [StartContainer]


def test_in_a_circle_one_that_goes_does_not_count() -> None:
    assert not hold(STEPS["start"], READY, replace(B, after=("a",), delete_requested=True)).refusal
