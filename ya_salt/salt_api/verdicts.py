"""What a state returns: from a plan, as a forecast; from what was done, as a report. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from ya_salt.converge.changes import Changes, describe_changes
from ya_salt.converge.host import is_fine
from ya_salt.converge.status import make_status
from ya_salt.model import (
    DaemonPlan,
    DaemonSpec,
    DaemonStatus,
    Deferral,
    Observed,
    Outcome,
    describe_step,
)


@dataclass(frozen=True)
class Verdict:
    """What a state returns: `result` None means that something would change."""

    result: bool | None
    comment: str
    changes: Changes = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def done(spec: DaemonSpec) -> Verdict:
    """Of a second state about a daemon."""
    return Verdict(True, f"{spec.name}: another state of this run has seen to it")


def foresee(spec: DaemonSpec, plan: DaemonPlan, observed: Observed, now: float) -> Verdict:
    if plan.refusal:
        return Verdict(False, f"{spec.name}: {plan.refusal}")
    if plan.deferral:
        return _foresee_waiting(spec, plan, plan.deferral, observed)
    if plan.steps:
        steps = "\n".join(f"  {describe_step(step)}" for step in plan.steps)
        changes = describe_changes(spec, plan.steps, observed)
        return Verdict(None, f"{spec.name} would be changed:\n{steps}", changes, tuple(plan.notes))
    record = observed.records.get(spec.name)
    previous = record.status if record else None
    status = make_status(spec, observed, Outcome(plan), previous, now)
    return Verdict(is_fine(status), _say(spec, status), {}, status.warnings)


def _foresee_waiting(
    spec: DaemonSpec, plan: DaemonPlan, why: Deferral, observed: Observed
) -> Verdict:
    words = f"{spec.name} would wait for the gate: {why.reason}: {why.message}"
    waiting = "".join(f"\n  would wait: {describe_step(step)}" for step in plan.waiting)
    steps = "".join(f"\n  {describe_step(step)}" for step in plan.steps)
    changes = describe_changes(spec, plan.steps, observed)
    return Verdict(None, f"{words}{waiting}{steps}", changes, tuple(plan.notes))


def report(spec: DaemonSpec, status: DaemonStatus, outcome: Outcome, before: Observed) -> Verdict:
    done = [item.step for item in outcome.results if item.is_done]
    changes = describe_changes(spec, done, before)
    waits = (describe_waiting(status),) if status.waits else ()
    return Verdict(is_fine(status), _say(spec, status), changes, (*status.warnings, *waits))


def describe_waiting(status: DaemonStatus) -> str:
    """What of a daemon waits for the gate, and why; "" where nothing does."""
    gate = status.gate
    if gate is None or not status.waits:
        return ""
    return f"its {gate.change} waits for the gate: {gate.reason}: {gate.message}"


def _say(spec: DaemonSpec, status: DaemonStatus) -> str:
    actions = "\n".join(f"  {action}" for action in status.actions)
    did = f"; done:\n{actions}" if actions else ""
    ready = status.ready
    if status.error:
        return (
            f"{spec.name}: {status.error}{did}\n"
            f"more: ya-salt logs {spec.name}; salt-call --local porto_daemon.why {spec.name}"
        )
    if status.waits:
        return f"{spec.name}: {describe_waiting(status)}{did}"
    if status.phase == "Removed":
        return f"{spec.name} is removed{did}" if did else f"{spec.name} is not there, as asked"
    if ready is None or not ready.status:
        why = f"{ready.reason}: {ready.message}" if ready else "unknown"
        return f"{spec.name} is not ready: {why}{did}\nmore: ya-salt logs {spec.name}"
    return f"{spec.name} is ready{did or ', nothing had to be done'}"
