"""What a daemon's answers come to: when it counts as ready, and when it is started anew. Pure.

Asking is done elsewhere; here an answer and what was known before make what is known now. So a
verdict outlives whoever asked, and every process of a daemon begins with a clean sheet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ya_salt.converge.crash import find_rest
from ya_salt.life import Life, Probes
from ya_salt.messages import format_time
from ya_salt.model import (
    PROBE_FAILED,
    Answer,
    Container,
    DaemonSpec,
    Observed,
    Outcome,
    ProbeStanding,
    Readiness,
    ReplaceContainer,
)
from ya_salt.quick_dataclass import replace
from ya_salt.text import count
from ya_salt.told import ENDING

PROBE_RESTART = "its readiness probe failed"
"""Begins the reason of every restart that is made for it."""

NOTIFY = "notify"
"""Begins the question of a daemon that says itself how it stands."""

_LATE_S = 1.0
"""So much later than its time a question may come: whoever asks does other things, too."""

_SLOW = 1.5
"""Asked less often than this many periods a daemon is asked by passes alone."""


def describe_question(readiness: Readiness) -> str:
    """`exec: /usr/bin/check -q`, `tcp 80`, `http 80/health`, `notify`, for people."""
    if readiness.notify:
        dog = f", watchdog {readiness.watchdog_s:g} s" if readiness.watchdog_s else ""
        return f"{NOTIFY}{dog}"
    if readiness.exec:
        return f"exec: {' '.join(readiness.exec)}"
    if readiness.tcp:
        return f"tcp {readiness.tcp}"
    wanted = f" = {readiness.http_status}" if readiness.http_status != 200 else ""
    return f"http {readiness.http_port}{readiness.http_path}{wanted}"


def describe_rhythm(readiness: Readiness) -> str:
    """How often it is asked and what noes do, for people who read a plan."""
    if readiness.notify:
        then = " and started anew" if readiness.on_failure == "restart" else ""
        return f"not ready{then} once it says so"
    failures = count(readiness.failure_threshold, "failure")
    in_a_row = " in a row" if readiness.failure_threshold > 1 else ""
    then = " and started anew" if readiness.on_failure == "restart" else ""
    return f"every {readiness.period_s:g} s, not ready{then} after {failures}{in_a_row}"


def name_start(container: Container) -> str:
    """Name the process: another start, also within the same second, has another name.

    portod tells a start in whole seconds only, and counts respawns.
    """
    born = f"{container.id}.{container.created_at}"
    return f"{born}.{container.started_at}.{container.respawn_count}"


def name_process(texts: Mapping[str, str]) -> str:
    """The same from what portod says of it."""
    born = f"{texts.get('id', '')}.{texts.get('creation_time[raw]', '')}"
    return f"{born}.{texts.get('start_time[raw]', '')}.{texts.get('respawn_count', '')}"


def find_probes(container: Container | None, life: Life) -> Probes | None:
    """What is known of the process that runs now; None where that is nothing."""
    probes = life.probes
    if container is None or probes is None or probes.start != name_start(container):
        return None
    return probes


def is_ready(spec: DaemonSpec, container: Container, life: Life) -> bool:
    """Whether it has run for as long as its spec asks, and says that it is ready where asked."""
    if container.state != "running" or container.running_s < spec.min_ready_s:
        return False
    if spec.readiness is None:
        return True
    probes = find_probes(container, life)
    return probes is not None and probes.is_ready


def is_to_be_asked(spec: DaemonSpec, container: Container | None, life: Life) -> bool:
    """Whether its answer would mean anything: nobody asks what is stopped, held or not ours."""
    return (
        spec.readiness is not None
        and not spec.delete_requested
        and container is not None
        and container.is_ours
        and container.state == "running"
        and life.hold is None
    )


def is_due(spec: DaemonSpec, container: Container, life: Life, now: float) -> bool:
    """Whether its next question is due."""
    return find_wait(spec, container, life, now) <= 0


def find_wait(spec: DaemonSpec, container: Container, life: Life, now: float) -> float:
    """Seconds until its next question is due; while it is coming up it is asked each second."""
    probes = find_probes(container, life)
    if spec.readiness is None or probes is None:
        return 0.0
    is_settled = probes.is_ready or probes.failures > 0
    period_s = spec.readiness.period_s if is_settled else min(1.0, spec.readiness.period_s)
    since = now - probes.asked_at
    # A clock that was set back is no reason to wait until it is where it was.
    return max(0.0, period_s - since) if since >= 0 else 0.0


def is_overdue(spec: DaemonSpec, probes: Probes, now: float) -> bool:
    """Whether its last answer is older than one who asks it each period would have it."""
    if spec.readiness is None:
        return True
    age_s = now - probes.asked_at
    return not 0 <= age_s <= spec.readiness.period_s + spec.readiness.timeout_s + _LATE_S


def pick_newer(known: Probes | None, other: Probes | None) -> Probes | None:
    """Of two that know something of a daemon the one that asked last."""
    if known is None or other is None:
        return known or other
    return other if other.asked_at > known.asked_at else known


def advance(  # noqa: PLR0911 - a return a rule
    spec: DaemonSpec,
    container: Container | None,
    probes: Probes | None,
    answer: Answer | None,
    now: float,
) -> Probes | None:
    """What is known after `answer`, or after a look without one.

    Noes count from the first yes on, or once the daemon has had its time to become ready. A no that
    was meant for another process is none, and what could not be asked changes nothing.
    """
    if spec.readiness is None:
        return None
    if container is None or not container.is_ours:
        return probes
    start, question = name_start(container), describe_question(spec.readiness)
    if probes is None or probes.start != start:
        probes = Probes(start=start, question=question, since=now)
    if probes.question != question:
        probes = replace(probes, question=question, failures=0)
    if answer is None or answer.start != start:
        return probes
    gap_s = max(0.0, answer.at - probes.asked_at) if probes.asked_at else 0.0
    asked = replace(
        probes,
        answer=answer.words,
        asked_at=answer.at,
        gap_s=gap_s,
        until=answer.until,
        is_unheard=spec.readiness.notify and answer.says == "unknown",
    )
    if answer.says == "yes":
        since = probes.since if probes.is_ready else answer.at
        return replace(asked, is_ready=True, failures=0, since=since)
    if answer.says == "wait":
        since = answer.at if probes.is_ready else probes.since
        return replace(asked, is_ready=False, failures=0, since=since)
    if answer.says == "unknown" or not _counts(spec, container, probes):
        return asked
    failures = probes.failures + 1
    if probes.is_ready and failures >= spec.readiness.failure_threshold:
        return replace(asked, is_ready=False, failures=failures, since=answer.at)
    return replace(asked, failures=failures)


def _counts(spec: DaemonSpec, container: Container, probes: Probes) -> bool:
    """Whether a no is held against it: not while it has never been ready and is still coming up."""
    is_late = container.running_s >= spec.ready_deadline_s
    return probes.is_ready or probes.failures > 0 or is_late


def advance_lives(
    specs: Sequence[DaemonSpec], observed: Observed, lives: Mapping[str, Life], now: float
) -> dict[str, Life]:
    """The lives with what the answers of this look add to them."""
    changed = dict(lives)
    for spec in specs:
        life = lives.get(spec.name, Life())
        container, answer = observed.containers.get(spec.name), observed.answers.get(spec.name)
        probes = advance(spec, container, life.probes, answer, now)
        if probes != life.probes:
            changed[spec.name] = replace(life, probes=probes)
    return changed


# -- starting anew -------------------------------------------------------------------------------


def find_restart(spec: DaemonSpec, container: Container | None, life: Life, now: float) -> str:
    """Why it is to be started anew, or "": its spec asks for that, and it does not rest."""
    probes = find_probes(container, life)
    if (
        probes is None
        or not is_to_be_asked(spec, container, life)
        or not _is_to_be_restarted(spec, probes)
        or find_rest(life.crash, now)
    ):
        return ""
    return f"{PROBE_RESTART} {count(probes.failures, 'time')} in a row: {_quote_no(probes)}"


def _is_to_be_restarted(spec: DaemonSpec, probes: Probes) -> bool:
    readiness = spec.readiness
    return (
        readiness is not None
        and readiness.on_failure == "restart"
        and not probes.is_ready
        and probes.failures >= readiness.failure_threshold
    )


def was_restarted_for_it(outcome: Outcome | None) -> bool:
    """Whether a pass has started it anew because of its probe: that counts as a death."""
    return outcome is not None and any(
        isinstance(item.step, ReplaceContainer)
        and item.is_done
        and item.step.reason.startswith(PROBE_RESTART)
        for item in outcome.results
    )


# -- telling -------------------------------------------------------------------------------------


def make_standing(
    spec: DaemonSpec, container: Container | None, life: Life
) -> ProbeStanding | None:
    """How it answers, of a daemon that is asked."""
    if spec.readiness is None or spec.delete_requested:
        return None
    probes = find_probes(container, life) or Probes()
    return ProbeStanding(
        question=describe_question(spec.readiness),
        is_ready=probes.is_ready,
        failures=probes.failures,
        threshold=spec.readiness.failure_threshold,
        answer=probes.answer,
        since=probes.since,
        asked_at=probes.asked_at,
    )


def describe_yes(spec: DaemonSpec, life: Life) -> str:
    """Why a daemon that is ready is; with noes that are too few as yet."""
    readiness, probes = spec.readiness, life.probes
    if readiness is None or probes is None:
        return ""
    if probes.failures:
        times = f"failed {count(probes.failures, 'time')} of {readiness.failure_threshold}"
        return f"its probe {times} that would make it not ready: {_quote_no(probes)}"
    if readiness.notify:
        return f"it says so itself: {probes.answer}" if probes.answer else ""
    return f"{describe_question(readiness)} says yes: {probes.answer}"


def describe_no(spec: DaemonSpec, container: Container, life: Life) -> tuple[str, str]:
    """(reason, sentence) of a daemon that runs for long enough and does not say yes."""
    readiness, probes = spec.readiness, find_probes(container, life)
    if readiness is None:
        return "", ""
    question = describe_question(readiness)
    if probes is None or not probes.answer:
        return "Starting", f"{question} has not been asked since it was started"
    told = _quote_no(probes)
    if readiness.notify and probes.answer.startswith(ENDING):
        return PROBE_FAILED, told
    is_coming = container.running_s < spec.ready_deadline_s or probes.until > probes.asked_at
    if not probes.failures and is_coming:
        time = f"running for {container.running_s} s of at most {spec.ready_deadline_s:g} s"
        return "Starting", f"it has not said yes so far: {told}; {time}"
    times = f" {count(probes.failures, 'time')} in a row" if probes.failures else ""
    return PROBE_FAILED, f"its probe failed{times}: {told}; {_describe_next(spec, probes, life)}"


def _describe_next(spec: DaemonSpec, probes: Probes, life: Life) -> str:
    readiness = spec.readiness
    if readiness is None or readiness.on_failure != "restart":
        return "it runs on, as readiness.on_failure is none"
    left = readiness.failure_threshold - probes.failures
    if left > 0:
        return f"it is started anew after {count(left, 'more failure')}"
    rest = find_rest(life.crash, probes.asked_at)
    if rest:
        return f"it is started anew at {format_time(rest)}, as that has not helped before"
    return "it is to be started anew"


def _quote_no(probes: Probes) -> str:
    # What it says itself needs no question beside it.
    if probes.question.startswith(NOTIFY):
        return probes.answer
    return f"{probes.question}: {probes.answer}"


def find_warning(spec: DaemonSpec, life: Life) -> str:
    """That nobody hears it, or that it is asked less often than its spec says; "" for neither."""
    readiness, probes = spec.readiness, life.probes
    if readiness is None or probes is None:
        return ""
    if readiness.notify:
        return probes.answer if probes.is_unheard else ""
    if probes.gap_s <= readiness.period_s * _SLOW:
        return ""
    return (
        f"readiness.period_s is {readiness.period_s:g}, but only passes ask, and the last two were "
        f"about {_round(probes.gap_s)} apart: failure_threshold ({readiness.failure_threshold}) "
        "counts passes"
    )


def _round(seconds: float) -> str:
    """Coarse, so that it does not change with every pass."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{round(seconds / size)} {unit}"
    return f"{max(1, round(seconds / 10)) * 10} s" if seconds >= 10 else f"{round(seconds)} s"
