"""Who waits for whom (`spec.after`): what of a plan is left for later. Pure.

Nobody is stopped because another one is not ready: what waits is a start, and a restart as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from ya_salt.converge.holds import describe_hold
from ya_salt.converge.plan import keep_repair
from ya_salt.converge.readiness import is_ready
from ya_salt.life import Life
from ya_salt.model import (
    Container,
    CreateContainer,
    DaemonPlan,
    DaemonSpec,
    Observed,
    ReplaceContainer,
    StartContainer,
    Step,
)
from ya_salt.quick_dataclass import dataclass, replace
from ya_salt.specs.order import find_circles, sort_by_order
from ya_salt.text import join_words

CIRCLE = "OrderCircle"
"""The reason of a plan that does nothing because daemons are each to be started after the other."""

STARTS = (CreateContainer, ReplaceContainer, StartContainer)


@dataclass(frozen=True)
class Standing:
    """How a daemon stands that another one waits for."""

    is_ready: bool
    is_hopeless: bool = False
    """Whether it will not become ready by waiting for it."""
    words: str = ""
    timeout_s: float = 0.0
    """How long it is waited for once it was started."""
    is_lost: bool = False
    """Whether its update has failed, so that this very pass undoes it."""


def list_after(specs: Iterable[DaemonSpec]) -> dict[str, tuple[str, ...]]:
    """Daemon -> those that it is started after. One that goes is in nobody's way."""
    return {spec.name: () if spec.delete_requested else spec.after for spec in specs}


def list_order(specs: Iterable[DaemonSpec]) -> dict[str, tuple[str, ...]]:
    """The order in which they are worked on: of one that goes, too, and without circles."""
    after = {spec.name: spec.after for spec in specs}
    circles = find_circles(after)
    return {name: () if name in circles else names for name, names in after.items()}


def stand(
    name: str, spec: DaemonSpec | None, container: Container | None, life: Life, why: str
) -> Standing:
    """How it stands for those who wait for it; `why` portod does not tell, or ""."""
    if spec is None:
        return Standing(False, True, f"{name}, which no file defines")
    if spec.delete_requested:
        return Standing(False, True, f"{name}, which is being removed")
    if why:
        return Standing(False, False, f"{name} (nobody knows how it stands: {why})", 0.0)
    if container is None or not container.is_ours:
        return Standing(False, True, f"{name} (it has no container)")
    if is_ready(spec, container, life):
        return Standing(True)
    is_hopeless = container.state not in {"running", "starting", "respawning"}
    words = f"{name} ({container.state}"
    words += f" for {container.running_s} s)" if container.state == "running" else ")"
    return Standing(False, is_hopeless, words, spec.ready_timeout_s)


def hold_starts(
    plans: Sequence[DaemonPlan],
    context: Sequence[DaemonSpec],
    observed: Observed,
    left: Mapping[str, str] = MappingProxyType({}),
) -> tuple[DaemonPlan, ...]:
    """The plans without what would have to wait for longer than a pass does.

    `left`: daemon -> why this pass has stopped it: it is started whoever is ready, as it ran.
    """
    if not any(has_start(plan) for plan in plans):
        return tuple(plans)
    specs = _list_specs(context, observed)
    circles = find_circles(list_after(specs.values()))
    after = {
        name: () if name in circles else names for name, names in list_after(specs.values()).items()
    }
    planned = {plan.name: plan for plan in plans}
    for name in sort_by_order(after):
        plan = planned.get(name)
        if plan is None or not has_start(plan):
            continue
        if name in circles and not plan.refusal:
            planned[name] = _refuse(plan, circles[name], observed)
            continue
        if name in left:
            planned[name] = replace(plan, steps=_tell_why(plan.steps, left[name]))
            continue
        late = [_describe(other, planned.get(other), specs, observed) for other in after[name]]
        if not all(is_coming for _, is_coming in late):
            words = join_words(words for words, _ in late if words)
            planned[name] = _hold(plan, f"waits for {words}")
    return tuple(planned[plan.name] for plan in plans)


def has_start(plan: DaemonPlan) -> bool:
    """Whether a process of it is begun."""
    return any(isinstance(step, STARTS) for step in plan.steps)


def _tell_why(steps: Iterable[Step], why: str) -> tuple[Step, ...]:
    return tuple(
        replace(step, reason=why) if isinstance(step, CreateContainer) else step for step in steps
    )


def _list_specs(context: Sequence[DaemonSpec], observed: Observed) -> dict[str, DaemonSpec]:
    """By name; one whose file is gone or broken runs on from what was remembered."""
    remembered = {
        name: record.spec for name, record in observed.records.items() if record.spec is not None
    }
    return {**remembered, **{spec.name: spec for spec in context}}


def _describe(
    name: str, plan: DaemonPlan | None, specs: Mapping[str, DaemonSpec], observed: Observed
) -> tuple[str, bool]:
    """(who it is and how it stands, "" where it is ready; whether it will be within this pass)."""
    spec, container = specs.get(name), observed.containers.get(name)
    life = observed.lives.get(name, Life())
    standing = stand(name, spec, container, life, observed.unknown.get(name, ""))
    if standing.is_ready or spec is None or spec.delete_requested:
        return standing.words, standing.is_ready
    if life.hold is not None:
        return f"{name} ({describe_hold(life.hold)})", False
    if plan is not None and plan.blocked:
        return f"{name}, which {plan.blocked}", False
    is_started = plan is not None and has_start(plan)
    # Else one that was started lately and has not died since.
    is_coming = (is_started and spec.ready_timeout_s > 0) or (
        container is not None
        and not standing.is_hopeless
        and not container.respawn_count
        and container.running_s < standing.timeout_s
    )
    return standing.words, is_coming


def _hold(plan: DaemonPlan, why: str) -> DaemonPlan:
    if any(isinstance(step, ReplaceContainer) for step in plan.steps):
        # What runs goes on as it is, with the packages that it was started from.
        return replace(plan, steps=plan.meanwhile, waiting=plan.steps, blocked=why)
    starts = tuple(step for step in plan.steps if isinstance(step, STARTS))
    rest = tuple(step for step in plan.steps if step not in starts)
    return replace(plan, steps=rest, waiting=starts, blocked=why)


def _refuse(plan: DaemonPlan, circle: str, observed: Observed) -> DaemonPlan:
    words = f"spec.after goes round in a circle: {circle}; take one of them out of it"
    steps: tuple[Step, ...] = keep_repair(plan, observed)
    return DaemonPlan(plan.name, steps, refusal=words, refusal_reason=CIRCLE, notes=plan.notes)
