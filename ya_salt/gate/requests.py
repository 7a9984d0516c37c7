"""What of a plan is asked of the gate, who waits along, and how an operation went. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from ya_salt.gate.protocol import REMOVAL, Operation, Slot, SlotRequest, State
from ya_salt.life import Life, Rejection
from ya_salt.model import (
    DOWN,
    HELD,
    LABEL,
    Condition,
    Container,
    CreateContainer,
    DaemonPlan,
    DaemonSpec,
    DaemonStatus,
    Deferral,
    GateStanding,
    InstallPackages,
    Observed,
    RemoveContainer,
    ReplaceContainer,
    Step,
    StopContainer,
)
from ya_salt.quick_dataclass import replace


def find_request(plan: DaemonPlan, spec: DaemonSpec, observed: Observed) -> SlotRequest | None:
    """The question for the gate; None where the plan disturbs no running daemon, or goes back.

    A dead daemon may be removed and started again as it is; changing it is asked, too, or a bad
    version would pass the gate wherever a daemon has crashed.
    """
    for step in plan.steps:
        operation = _find_operation(step, plan, spec, observed)
        if operation == "update" and spec.generation:
            return None
        if operation is not None:
            return make_request(spec, operation, _describe(step, plan))
    return None


def list_requests(
    specs: Sequence[DaemonSpec],
    plans: Sequence[DaemonPlan],
    observed: Observed,
    held: Mapping[str, Slot] = MappingProxyType({}),
) -> dict[str, SlotRequest]:
    """Daemon -> what is to be asked before it is disturbed; without those that disturb nobody.

    `held` are the slots that this host has.
    """
    known = {spec.name: spec for spec in specs}
    found = {
        plan.name: find_request(plan, known[plan.name], observed) for plan in plans if plan.steps
    }
    return {
        name: _keep_failure(request, held.get(name), observed)
        for name, request in found.items()
        if request is not None
    }


def _keep_failure(request: SlotRequest, held: Slot | None, observed: Observed) -> SlotRequest:
    """A restart goes on with the slot of the version that failed here and was undone.

    With a slot for itself it would take that one's place, and with it the news of the failure.
    """
    life = observed.lives.get(request.daemon, Life())
    if request.operation == "restart" and held is not None and is_rejected(held, life):
        return replace(request, target=held.target)
    return request


def is_rejected(held: Slot, life: Life) -> bool:
    """Whether what the slot was taken for has failed and is not to be tried again.

    A slot that was taken since, for a restart of the version that runs instead, is about that one.
    """
    if life.rejection is None:
        return False
    return held.state == "failed" or held.operation in {"update", "install"}


def make_request(spec: DaemonSpec, operation: Operation, reason: str) -> SlotRequest:
    removal = operation == "remove"
    return SlotRequest(
        daemon=spec.name,
        operation=operation,
        target=REMOVAL if removal else spec.version or spec.digest[:12],
        reason=reason,
    )


def _find_operation(
    step: Step, plan: DaemonPlan, spec: DaemonSpec, observed: Observed
) -> Operation | None:
    container = observed.containers.get(plan.name)
    match step:
        case ReplaceContainer():
            updates = any(isinstance(item, InstallPackages) for item in plan.steps)
            current = container is not None and container.labels.get(LABEL) == spec.digest
            return "restart" if current and not updates else "update"
        case RemoveContainer():
            return None if container is not None and container.state in DOWN else "remove"
        case StopContainer():
            # Somebody stops it by hand: one host less, as with a restart.
            return "restart" if container is not None and container.state == "running" else None
        case CreateContainer():
            record = observed.records.get(plan.name)
            return None if record is not None and record.was_created else "install"
    return None


def _describe(step: Step, plan: DaemonPlan) -> str:
    return next((item.reason for item in plan.steps if isinstance(item, InstallPackages)), "") or (
        step.reason
    )


def find_sharing(
    plans: Sequence[DaemonPlan],
    requests: Mapping[str, SlotRequest],
    deferrals: Mapping[str, Deferral],
) -> dict[str, Deferral]:
    """Further plans that have to wait: their packages are to be changed under one that waits.

    Only those that were asked for: a daemon that is down is repaired whoever waits.
    """
    known = dict(deferrals)
    while True:
        waiting = _list_waiting_packages(plans, known)
        more = {
            plan.name: _share(package, waiting[package], known)
            for plan in plans
            if plan.name in requests and plan.name not in known
            # The first package that they share is the one that is named.
            for package in reversed(_list_installed(plan.steps))
            if package in waiting
        }
        if not more:
            return {name: why for name, why in known.items() if name not in deferrals}
        known |= more


def pin_waiting(plans: Sequence[DaemonPlan], observed: Observed) -> dict[str, str]:
    """Package -> version that it keeps, as the change to another one waits for the gate.

    What somebody else's steps install is not among them.
    """
    wanted = {package for plan in plans for package in _list_installed(plan.steps)}
    waiting = {package for plan in plans for package in _list_installed(plan.waiting)}
    return {
        name: observed.packages[name].version
        for name in waiting - wanted
        if name in observed.packages and observed.packages[name].status == "installed"
    }


def _list_installed(steps: Iterable[Step]) -> tuple[str, ...]:
    found = (step for step in steps if isinstance(step, InstallPackages))
    return tuple(package.name for step in found for package in step.packages)


def _list_waiting_packages(
    plans: Sequence[DaemonPlan], deferrals: Mapping[str, Deferral]
) -> dict[str, str]:
    """Package -> a daemon that runs from it and waits."""
    return {
        package: plan.name
        for plan in plans
        if plan.name in deferrals and _replaces(plan)
        for package in _list_installed(plan.steps)
    }


def _replaces(plan: DaemonPlan) -> bool:
    return any(isinstance(step, ReplaceContainer) for step in plan.steps)


def _share(package: str, other: str, deferrals: Mapping[str, Deferral]) -> Deferral:
    why = deferrals[other]
    return Deferral(
        "SharedPackage",
        f"package {package} is also {other}'s, and that waits: {why.reason}: {why.message}",
    )


def assess(
    held: Slot,
    status: DaemonStatus,
    container: Container | None,
    life: Life,
    *,
    is_put_off: bool,
) -> tuple[State | Literal["over"], str]:
    """(state, error) of the operation that the slot was taken for; `over`: give it back.

    `is_put_off`: what is to be done about the daemon now waits.
    """
    if status.phase == "Removed":
        return "over", ""
    if life.rejection is not None and is_rejected(held, life):
        # However the version stands that runs in its place.
        return "failed", describe_rejection(life.rejection)
    if status.error and status.phase == "Managed":
        return "failed", status.error
    if is_put_off and held.state == "working":
        # It has not been carried out yet: how the daemon stands says nothing about it.
        return "working", ""
    if status.ready is not None and status.ready.status:
        healthy_s = _count_healthy(status, container)
        return _judge_ready(held, healthy_s, life)
    return _judge_unready(held, status.ready, life)


def _count_healthy(status: DaemonStatus, container: Container | None) -> float:
    """Seconds for which a daemon that is ready has been well: since its start, or its first yes."""
    running_s = container.running_s if container else 0
    probe = status.probe
    return min(running_s, status.updated_at - probe.since) if probe else running_s


def _judge_ready(held: Slot, healthy_s: float, life: Life) -> tuple[State | Literal["over"], str]:
    if _is_proven(held, healthy_s, life):
        return "over", ""
    # Who has failed counts until it has stayed ready: others go on after that.
    return ("failed", held.error) if held.state == "failed" else ("settling", "")


def _judge_unready(
    held: Slot, ready: Condition | None, life: Life
) -> tuple[State | Literal["over"], str]:
    if ready is not None and ready.reason == HELD:
        # Nobody can say how it went; who stopped it answers for it.
        return ("failed", held.error) if held.state == "failed" else ("over", "")
    if life.trial is not None and held.state != "failed":
        # It has its time to become ready, and who rejects it says so.
        return held.state, ""
    return "failed", f"{ready.reason}: {ready.message}" if ready else "nobody has looked at it"


def _is_proven(held: Slot, healthy_s: float, life: Life) -> bool:
    """Whether a daemon that is ready has been so for long enough: the rule's word goes first."""
    if held.min_healthy_s is None:
        return life.trial is None
    return healthy_s >= held.min_healthy_s


def describe_rejection(rejection: Rejection) -> str:
    """What the other hosts are told of it."""
    return (
        f"{rejection.why}; going back failed: {rejection.problem}"
        if rejection.problem
        else (rejection.why)
    )


def describe_slot(held: Slot) -> str:
    match held.state:
        case "failed":
            return (
                f"{held.target} failed here, and keeps its slot of {held.rule} until that or "
                f"another version is ready here, or it is released: {held.error}"
            )
        case "settling" if held.min_healthy_s is None:
            return f"it keeps its slot of {held.rule} until its probation (update.watch_s) is over"
        case "settling":
            s = held.min_healthy_s
            return f"it keeps its slot of {held.rule} until it has been ready for {s} s"
        case "working":
            return f"it has a slot of {held.rule}"


def keep_since(new: GateStanding | None, old: GateStanding | None) -> GateStanding | None:
    """The standing with the time since when it has been in its state."""
    if new is None or old is None or new.state != old.state:
        return new
    return replace(new, since=old.since)
