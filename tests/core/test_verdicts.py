"""What answers come to: one process that is asked, and one change a case."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ya_salt.cli.tables import render_details
from ya_salt.converge.lives import find_intents, look_ahead
from ya_salt.converge.plan import make_plan
from ya_salt.converge.readiness import (
    advance,
    describe_question,
    find_restart,
    find_warning,
    is_due,
    is_ready,
    is_to_be_asked,
    name_start,
    pick_newer,
)
from ya_salt.converge.status import is_fine, make_status, make_unmanaged_status
from ya_salt.gate.protocol import Slot
from ya_salt.gate.requests import assess
from ya_salt.life import CrashLoop, Hold, Life, Probes
from ya_salt.messages import Details
from ya_salt.model import (
    LABEL,
    Answer,
    Container,
    DaemonPlan,
    DaemonSpec,
    LastApplied,
    Observed,
    Outcome,
    Readiness,
    ReplaceContainer,
)

HTTP = Readiness(http_port=80, http_path="/health")
SPEC = DaemonSpec(
    "d", "1", "/d", "digest", {}, (), min_ready_s=5, ready_timeout_s=300, readiness=HTTP
)
RUNS = Container(
    "d", "running", {LABEL: "digest"}, LastApplied(), running_s=50, id="4", started_at=1000
)
START, QUESTION = name_start(RUNS), describe_question(HTTP)
KNOWN = Probes(start=START, question=QUESTION, answer="it answered 200", asked_at=1040, since=1010)
READY = replace(KNOWN, is_ready=True)
FAILED = replace(KNOWN, failures=3, answer="it answered 503")


def say(says: Any, at: float = 1050, start: str = START) -> Answer:
    return Answer(start, says, f"{says}!", at)


@pytest.mark.parametrize(
    ("sentence", "before", "answer", "running_s", "expected"),
    [
        ("nothing is known", None, None, 50, (False, 0)),
        ("a first yes", None, say("yes"), 50, (True, 0)),
        ("a no while it comes up", None, say("no"), 50, (False, 0)),
        ("a no while it comes up, in the last second", KNOWN, say("no"), 299, (False, 0)),
        ("a no once it has had its time", KNOWN, say("no"), 300, (False, 1)),
        ("a no that follows such a no", replace(KNOWN, failures=1), say("no"), 300, (False, 2)),
        ("a first no of a ready one", READY, say("no"), 50, (True, 1)),
        ("a second", replace(READY, failures=1), say("no"), 50, (True, 2)),
        ("a third", replace(READY, failures=2), say("no"), 50, (False, 3)),
        ("a fourth", FAILED, say("no"), 50, (False, 4)),
        ("a yes forgets noes", replace(READY, failures=2), say("yes"), 50, (True, 0)),
        ("a yes after too many", FAILED, say("yes"), 50, (True, 0)),
        ("it could not be asked", replace(READY, failures=2), say("unknown"), 50, (True, 2)),
        ("it could not be asked, not ready", FAILED, say("unknown"), 50, (False, 3)),
        ("nobody asked", replace(READY, failures=2), None, 50, (True, 2)),
        ("another process was asked", READY, say("no", start="other"), 50, (True, 0)),
        ("a yes of another process", KNOWN, say("yes", start="other"), 50, (False, 0)),
        ("another process runs now", replace(READY, start="other"), None, 50, (False, 0)),
        ("another process says no", replace(FAILED, start="other"), say("no"), 50, (False, 0)),
        ("another question", replace(READY, question="tcp 1", failures=2), None, 50, (True, 0)),
        ("no to another", replace(READY, question="tcp 1", failures=2), say("no"), 50, (True, 1)),
    ],
)
def test_advance(
    sentence: str,
    before: Probes | None,
    answer: Answer | None,
    running_s: int,
    expected: tuple[bool, int],
) -> None:
    after = advance(SPEC, replace(RUNS, running_s=running_s), before, answer, 1051)
    assert after is not None
    assert (after.is_ready, after.failures) == expected, sentence
    assert (after.start, after.question) == (START, QUESTION)


def test_since_is_when_the_verdict_came() -> None:
    moments = {
        "stays ready": (READY, say("yes"), 1010),
        "becomes ready": (KNOWN, say("yes"), 1050),
        "ceases to be": (replace(READY, failures=2), say("no"), 1050),
        "a no too few": (READY, say("no"), 1010),
    }
    for sentence, (before, answer, since) in moments.items():
        after = advance(SPEC, RUNS, before, answer, 1051)
        assert after is not None and after.since == since, sentence


def test_without_readiness_nothing_is_kept() -> None:
    plain = replace(SPEC, readiness=None)
    assert advance(plain, RUNS, READY, say("yes"), 1051) is None
    assert is_ready(plain, RUNS, Life())
    assert not is_ready(plain, replace(RUNS, running_s=4), Life())


@pytest.mark.parametrize(
    ("sentence", "container", "probes", "expected"),
    [
        ("it says yes", RUNS, READY, True),
        ("it has not said yes", RUNS, KNOWN, False),
        ("nothing is known", RUNS, None, False),
        ("it was another process", RUNS, replace(READY, start="other"), False),
        ("too young", replace(RUNS, running_s=4), READY, False),
        ("paused", replace(RUNS, state="paused"), READY, False),
        # portod tells a start in whole seconds: what else is there tells two of one second apart.
        ("respawned within a second", replace(RUNS, respawn_count=1), READY, False),
        ("made anew within a second", replace(RUNS, id="5"), READY, False),
        ("started again", replace(RUNS, started_at=1001), READY, False),
    ],
)
def test_is_ready(
    sentence: str, container: Container, probes: Probes | None, expected: bool
) -> None:
    assert is_ready(SPEC, container, Life(probes=probes)) is expected, sentence


@pytest.mark.parametrize(
    ("sentence", "given", "expected"),
    [
        ("it runs", {}, True),
        ("no readiness", {"spec": replace(SPEC, readiness=None)}, False),
        ("to be removed", {"spec": replace(SPEC, delete_requested=True)}, False),
        ("no container", {"container": None}, False),
        ("somebody else's", {"container": replace(RUNS, labels={})}, False),
        ("being stopped", {"container": replace(RUNS, state="stopping")}, False),
        ("paused", {"container": replace(RUNS, state="paused")}, False),
        ("held", {"life": Life(hold=Hold("root", "", 0))}, False),
    ],
)
def test_who_is_asked(sentence: str, given: dict[str, Any], expected: bool) -> None:
    asked = {"spec": SPEC, "container": RUNS, "life": Life(), **given}
    assert is_to_be_asked(**asked) is expected, sentence


@pytest.mark.parametrize(
    ("sentence", "probes", "now", "expected"),
    [
        ("never asked", None, 1040, True),
        ("ready, within the period", READY, 1049, False),
        ("ready, after it", READY, 1050, True),
        ("coming up, within a second", KNOWN, 1040.5, False),
        ("coming up, after it", KNOWN, 1041, True),
        ("failed, within the period", FAILED, 1049, False),
        ("the clock was set back", READY, 100, True),
        ("another process", replace(READY, start="other"), 1041, True),
    ],
)
def test_when_it_is_due(sentence: str, probes: Probes | None, now: float, expected: bool) -> None:
    assert is_due(SPEC, RUNS, Life(probes=probes), now) is expected, sentence


RESTART = replace(SPEC, readiness=replace(HTTP, on_failure="restart"))


@pytest.mark.parametrize(
    ("sentence", "spec", "container", "life", "expected"),
    [
        ("it failed", RESTART, RUNS, Life(probes=FAILED), True),
        ("its spec does not ask for it", SPEC, RUNS, Life(probes=FAILED), False),
        ("too few noes", RESTART, RUNS, Life(probes=replace(READY, failures=2)), False),
        ("too few after its time", RESTART, RUNS, Life(probes=replace(KNOWN, failures=2)), False),
        ("another process failed", RESTART, replace(RUNS, id="5"), Life(probes=FAILED), False),
        ("it is dead", RESTART, replace(RUNS, state="dead"), Life(probes=FAILED), False),
        (
            "it is being stopped",
            RESTART,
            replace(RUNS, state="stopping"),
            Life(probes=FAILED),
            False,
        ),
        ("held", RESTART, RUNS, Life(probes=FAILED, hold=Hold("root", "", 0)), False),
        (
            "to be removed",
            replace(RESTART, delete_requested=True),
            RUNS,
            Life(probes=FAILED),
            False,
        ),
    ],
)
def test_who_is_started_anew(
    sentence: str, spec: DaemonSpec, container: Container, life: Life, expected: bool
) -> None:
    assert bool(find_restart(spec, container, life, 1100)) is expected, sentence


def observe(life: Life, answer: Answer | None = None, container: Container = RUNS) -> Observed:
    return Observed(
        containers={"d": container},
        lives={"d": life},
        answers={"d": answer} if answer else {},
    )


def test_the_plan_starts_it_anew_and_then_has_nothing_to_do() -> None:
    observed = observe(Life(probes=FAILED))
    intents = find_intents([RESTART], observed, 1100)
    (plan,) = make_plan([RESTART], [RESTART], observed, intents)
    (step,) = plan.steps
    assert isinstance(step, ReplaceContainer)
    assert "failed 3 times in a row: http 80/health: it answered 503" in step.reason
    after = observe(Life(), container=replace(RUNS, id="5"))
    after = replace(after, lives=look_ahead([RESTART], after, {}, 1100))
    (again,) = make_plan([RESTART], [RESTART], after, find_intents([RESTART], after, 1100))
    assert again.steps == ()


def test_status_tells_what_is_asked_and_what_came_of_it() -> None:
    status = make_status(SPEC, observe(Life(probes=FAILED)), Outcome(DaemonPlan("d")), None, 1100)
    assert status.ready is not None and status.ready.reason == "ProbeFailed"
    assert "it runs on, as readiness.on_failure is none" in status.ready.message
    assert status.probe is not None and not is_fine(status)
    assert (status.probe.failures, status.probe.threshold) == (3, 3)
    ready = make_status(SPEC, observe(Life(probes=READY)), Outcome(DaemonPlan("d")), status, 1100)
    assert ready.ready is not None and ready.ready.status and is_fine(ready)
    # When it said yes, not when its process had run for min_ready_s.
    assert ready.ready.since == 1010


def test_a_late_start_is_a_failure_though_nothing_counted_so_far() -> None:
    late = replace(RUNS, running_s=300)
    status = make_status(
        SPEC, observe(Life(probes=KNOWN), container=late), Outcome(DaemonPlan("d")), None, 1300
    )
    assert status.ready is not None and status.ready.reason == "ProbeFailed"


def test_a_period_that_no_pass_keeps_is_warned_of() -> None:
    assert find_warning(SPEC, Life(probes=replace(READY, gap_s=12))) == ""
    warning = find_warning(SPEC, Life(probes=replace(READY, gap_s=61)))
    assert "period_s is 10" in warning and "about 1 min apart" in warning
    # The same words next time: a record with nothing new in it is not written.
    assert find_warning(SPEC, Life(probes=replace(READY, gap_s=64))) == warning


def test_rest_after_the_last_restart_is_waited_for() -> None:
    resting = Life(probes=FAILED, crash=CrashLoop(deaths=5, last_at=1090, delay_s=16, next_at=1106))
    assert find_restart(RESTART, RUNS, resting, 1100) == ""
    assert find_restart(RESTART, RUNS, resting, 1106)


def test_status_shows_the_question_and_the_last_answer() -> None:
    status = make_status(SPEC, observe(Life(probes=FAILED)), Outcome(DaemonPlan("d")), None, 1100)
    shown = render_details(status, Details(), 1100)
    line = next(line for line in shown.splitlines() if line.startswith("probe"))
    assert "http 80/health: not ready, failed 3 of 3 times" in line
    assert "asked 1m ago: it answered 503" in line


def test_a_daemon_without_its_file_keeps_the_verdict_of_its_process() -> None:
    observed = observe(Life(probes=FAILED))
    before = make_status(SPEC, observed, Outcome(DaemonPlan("d")), None, 1100)
    orphan = make_unmanaged_status(before, "Orphaned", observed, "", 1200)
    assert orphan.ready is not None and orphan.ready.reason == "ProbeFailed"
    assert orphan.ready.since == before.ready.since  # type: ignore[union-attr]
    other = observe(Life(probes=FAILED), container=replace(RUNS, respawn_count=1))
    anew = make_unmanaged_status(before, "Orphaned", other, "", 1200)
    assert anew.ready is not None and anew.ready.status


@pytest.mark.parametrize(("first_yes", "expected"), [(1041, "settling"), (1040, "over")])
def test_a_slot_is_kept_from_the_first_yes_on(first_yes: float, expected: str) -> None:
    life = Life(probes=replace(READY, since=first_yes))
    status = make_status(SPEC, observe(life), Outcome(DaemonPlan("d")), None, 1050)
    held = Slot("d", "id", "update", "1", 1000, min_healthy_s=10)
    assert assess(held, status, RUNS, life, is_put_off=False)[0] == expected


def test_of_two_who_asked_the_later_is_believed() -> None:
    assert pick_newer(READY, FAILED) is READY
    later = replace(FAILED, asked_at=1041)
    assert pick_newer(READY, later) is later
    assert pick_newer(later, READY) is later
    assert pick_newer(None, READY) is READY
    assert pick_newer(READY, None) is READY
