"""Orders to stop and to start, as lives; when a hold ends, and when the next pass is due."""

from __future__ import annotations

import pytest

from ya_salt.converge.holds import describe_end, describe_hold, end_when_due, take_order
from ya_salt.converge.lives import Intent, find_due, find_intents, look_ahead, look_back
from ya_salt.life import CrashLoop, Hold, Life, Order
from ya_salt.model import (
    LABEL,
    Container,
    DaemonPlan,
    DaemonSpec,
    Observed,
    Outcome,
    Record,
    StepResult,
    StopContainer,
)

SPEC = DaemonSpec("d", "1", "/d.yaml", "0" * 64, {}, ())
HOLD = Hold("eve", "disk", 100.0)
LOOP = CrashLoop(
    container="7@50", is_down=True, deaths=5, since=60.0, last_at=90.0, delay_s=16, next_at=106.0
)


def observe(state: str = "dead", life: Life | None = None, **more: Life) -> Observed:
    container = Container("d", state, labels={LABEL: SPEC.digest}, id="7", created_at=50)
    lives = {"d": life or Life(), **more}
    records = {name: Record(name, life=item) for name, item in lives.items()}
    return Observed(containers={"d": container}, records=records, lives=lives)


@pytest.mark.parametrize(
    ("before", "order", "after"),
    [
        (None, Order("stop", "eve", "disk"), HOLD),
        (None, Order("stop", "eve", "disk", 900.0), Hold("eve", "disk", 100.0, 900.0)),
        (Hold("bob", "", 20.0), Order("stop", "eve", "disk"), Hold("eve", "disk", 20.0)),
        (None, Order("stop", ""), Hold("somebody", "", 100.0)),
        (HOLD, Order("start", "bob"), None),
        (None, Order("start", "bob"), None),
        (HOLD, Order("retry", "bob"), HOLD),
        (HOLD, Order("rollback", "bob"), HOLD),
    ],
)
def test_an_order_makes_or_ends_a_hold(
    before: Hold | None, order: Order, after: Hold | None
) -> None:
    assert take_order(Life(hold=before), order, 100.0).hold == after


@pytest.mark.parametrize("kind", ["start", "retry", "rollback"])
def test_who_asks_for_it_by_name_does_not_wait_for_its_rest(kind: str) -> None:
    crash = take_order(Life(crash=LOOP), Order(kind, "bob"), 100.0).crash  # type: ignore[arg-type]

    assert crash is not None
    assert (crash.deaths, crash.delay_s) == (0, 0)
    assert "bob" in crash.retry


@pytest.mark.parametrize(
    ("until", "now", "holds"), [(0, 1e9, True), (200, 199, True), (200, 200, False)]
)
def test_a_hold_ends_at_its_time(until: float, now: float, holds: bool) -> None:
    hold = Hold("eve", "", 100.0, until)

    assert (end_when_due(Life(hold=hold), now).hold is not None) == holds


def test_it_says_who_since_when_until_when_and_why() -> None:
    for fact in ("eve", "disk", "1970-01-01T00:01:40Z", "somebody starts it"):
        assert fact in describe_hold(HOLD)
    assert "1970-01-01T00:15:00Z" in describe_hold(Hold("eve", "", 100.0, 900.0))
    assert "over" in describe_end(Hold("eve", "", 100.0, 900.0), 900.0)
    assert "ended" in describe_end(Hold("eve", "", 100.0, 900.0), 800.0)


def test_a_hold_counts_no_deaths_and_asks_for_nothing_else() -> None:
    observed = observe(life=Life(hold=HOLD, crash=LOOP))
    lives = look_ahead((SPEC,), observed, {}, 110.0)

    assert lives["d"].crash is not None
    assert lives["d"].crash.deaths == 0
    held = Observed(containers=observed.containers, lives=lives)
    assert find_intents((SPEC,), held, 110.0) == {"d": Intent(held=describe_hold(HOLD))}


def test_our_own_stop_is_no_death() -> None:
    running = observe("running", Life(hold=HOLD, crash=CrashLoop("7@50")))
    plan = DaemonPlan("d", (StopContainer("d", "held", "true"),))
    after = observe("dead", running.lives["d"])
    done = Outcome(plan, (StepResult(plan.steps[0]),))
    lives = look_back((SPEC,), after, {"d": done}, 110.0)
    started = look_ahead((SPEC,), observe("dead", lives["d"]), {"d": Order("start", "bob")}, 120.0)

    assert done.restarts == 0
    assert started["d"].crash is not None
    assert started["d"].crash.deaths == 0


def test_time_passes_for_one_that_has_no_file() -> None:
    observed = observe(gone=Life(hold=Hold("eve", "", 100.0, 200.0)))

    assert look_ahead((SPEC,), observed, {}, 199.0)["gone"].hold is not None
    assert look_ahead((SPEC,), observed, {}, 200.0)["gone"].hold is None


@pytest.mark.parametrize(
    ("state", "life", "due_at"),
    [
        ("dead", Life(), None),
        ("dead", Life(crash=LOOP), 106.0),
        ("respawning", Life(crash=LOOP), None),
        ("dead", Life(hold=HOLD), None),
        ("dead", Life(hold=Hold("eve", "", 50.0, 120.0)), 120.0),
        ("dead", Life(hold=Hold("eve", "", 50.0, 90.0)), None),
    ],
)
def test_when_there_is_more_to_do_that_nothing_tells_of(
    state: str, life: Life, due_at: float | None
) -> None:
    assert find_due(observe(state, life), 100.0) == due_at
