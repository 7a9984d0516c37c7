"""Decide what to do. Pure: no clock, no I/O, no logging.

Every step says why. Planning again after the steps were carried out gives no steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

from ya_salt.converge.crash import DEFAULT_DELAY, DELAY
from ya_salt.converge.drift import (
    base_name,
    compare,
    has_old_hashes,
    hash_packages,
    is_current,
    make_mark,
    name_read_back,
    set_anew,
    wanted_properties,
)
from ya_salt.converge.drift_policy import drop_left
from ya_salt.converge.lives import Intent
from ya_salt.converge.package_users import (
    describe_kept,
    describe_packages,
    find_conflicts,
    find_missing,
    find_users,
    is_present,
    list_packages_ever,
)
from ya_salt.converge.watching import is_renewed
from ya_salt.errors import describe_bug
from ya_salt.model import (
    DOWN,
    HELD,
    LABEL,
    ChangeLive,
    Container,
    CreateContainer,
    DaemonPlan,
    DaemonSpec,
    Deferral,
    InstallPackages,
    Observed,
    Package,
    PurgePackages,
    RemoveContainer,
    ReplaceContainer,
    SignalContainer,
    StartContainer,
    Step,
    StopContainer,
)
from ya_salt.porto.properties import LIVE_IN_NAME_ONLY
from ya_salt.quick_dataclass import dataclass, replace

REFUSED = "Refused"
"""The reason of a plan that does nothing because portod would not start the spec."""

_TRANSIENT = frozenset({"running", "starting", "stopping", "respawning"})


@dataclass(frozen=True)
class Context:
    """Everything that plans of single daemons share."""

    specs: Sequence[DaemonSpec]
    observed: Observed
    conflicts: Mapping[str, str]
    """Daemon -> why its packages cannot be what two specs want at once."""
    intents: Mapping[str, Intent]

    @cached_property
    def needed_by(self) -> Mapping[str, tuple[str, ...]]:
        """Package name -> the daemons that stand and need it: asked where one is removed."""
        return find_users(self.specs, self.observed.records.values())


_NO_INTENTS: Mapping[str, Intent] = MappingProxyType({})


def make_plan(
    specs: Sequence[DaemonSpec],
    context: Sequence[DaemonSpec],
    observed: Observed,
    intents: Mapping[str, Intent] = _NO_INTENTS,
) -> tuple[DaemonPlan, ...]:
    """What to do about each of `specs`, in their order.

    `context` are all specs of the host (`specs` among them or not): their packages count as needed,
    as do those of daemons that stand without a file. Which properties change live only matters
    where there are steps: without `observed.dynamic` a plan has steps or none all the same.
    """
    shared = Context(
        specs=context,
        observed=observed,
        conflicts=find_conflicts(context),
        intents=intents,
    )
    return tuple(_plan_guarded(spec, shared) for spec in specs)


def add_restarts(
    plans: Sequence[DaemonPlan],
    specs: Sequence[DaemonSpec],
    observed: Observed,
    reasons: Mapping[str, str],
) -> tuple[DaemonPlan, ...]:
    """The plans with a new process for every daemon in `reasons` that would keep its old one."""
    known = {spec.name: spec for spec in specs}
    return tuple(
        _add_restart(plan, known[plan.name], reasons[plan.name])
        if plan.name in reasons and plan.name in observed.containers
        else plan
        for plan in plans
    )


def _add_restart(plan: DaemonPlan, spec: DaemonSpec, reason: str) -> DaemonPlan:
    if plan.is_held and not plan.refusal:
        words = f"it is {plan.rests}: `ya-salt start {plan.name}` ends that and starts it"
        return replace(plan, refusal=words, refusal_reason=HELD)
    if plan.refusal_reason == REFUSED and not spec.delete_requested:
        # Somebody asks for it by name: what stood in the way may be gone.
        return DaemonPlan(plan.name, (ReplaceContainer(spec, reason),), notes=plan.notes)
    if plan.refusal or spec.delete_requested or is_renewed(plan.steps):
        return plan
    dropped = ChangeLive | SignalContainer | StartContainer
    kept = tuple(step for step in plan.steps if not isinstance(step, dropped))
    return replace(plan, steps=(*kept, ReplaceContainer(spec, reason)))


def defer(plan: DaemonPlan, deferral: Deferral, observed: Observed) -> DaemonPlan:
    """The plan with everything waiting but what is repair: a daemon that is dead is started again.

    So it comes back as it was, and a change cannot pass the gate by a crash.
    """
    steps = (*keep_repair(plan, observed), *plan.meanwhile)
    return replace(plan, steps=steps, deferral=deferral, waiting=plan.steps)


def keep_repair(plan: DaemonPlan, observed: Observed) -> tuple[Step, ...]:
    """What starts the daemon again as it was, where that is all that is to be done now."""
    container = observed.containers.get(plan.name)
    is_removal = any(isinstance(step, RemoveContainer) for step in plan.steps)
    if container is None or is_removal:
        return ()
    return _plan_repair(container, plan.rests)


def hold_packages(
    plans: Sequence[DaemonPlan], why: str, observed: Observed
) -> tuple[DaemonPlan, ...]:
    """The plans without what touches packages, as nobody knows who else needs them."""
    words = f"nothing is done about packages, as others may need them: {why}"
    return _hold(plans, (InstallPackages, PurgePackages), words, observed)


def hold_changes(
    plans: Sequence[DaemonPlan], why: str, observed: Observed
) -> tuple[DaemonPlan, ...]:
    """The plans without what changes a container, as nobody knows what may change while it runs."""
    words = f"it is left as it is, as nobody knows what may change while it runs: {why}"
    return _hold(plans, (ReplaceContainer, ChangeLive), words, observed)


def hold_all(
    plans: Sequence[DaemonPlan], words: Mapping[str, str], reason: str, observed: Observed
) -> tuple[DaemonPlan, ...]:
    """The plans of the daemons in `words` (name -> why) with nothing but repair."""
    return tuple(
        DaemonPlan(
            plan.name,
            keep_repair(plan, observed),
            refusal=words[plan.name],
            refusal_reason=reason,
            notes=plan.notes,
            rests=plan.rests,
        )
        if plan.name in words and not plan.is_held
        else plan
        for plan in plans
    )


def _hold(
    plans: Sequence[DaemonPlan], kinds: tuple[type[Step], ...], words: str, observed: Observed
) -> tuple[DaemonPlan, ...]:
    """Repair goes on: a daemon that is dead is started again as it was."""
    return tuple(
        DaemonPlan(
            plan.name,
            keep_repair(plan, observed),
            refusal=plan.refusal or words,
            refusal_reason=plan.refusal_reason or "Unknown",
            notes=plan.notes,
            rests=plan.rests,
            is_held=plan.is_held,
        )
        if any(isinstance(step, kinds) for step in plan.steps)
        else plan
        for plan in plans
    )


# -- one daemon --------------------------------------------------------------------------------


def _plan_guarded(spec: DaemonSpec, shared: Context) -> DaemonPlan:
    try:
        return _plan_daemon(spec, shared)
    except Exception as error:  # noqa: BLE001 - a bug met by one daemon must not stop the others
        refusal = f"nothing is done: {describe_bug(error)}"
        return DaemonPlan(spec.name, refusal=refusal, refusal_reason="Bug")


def _plan_daemon(spec: DaemonSpec, shared: Context) -> DaemonPlan:  # noqa: PLR0911 - a return a rule
    unknown = shared.observed.unknown.get(spec.name)
    if unknown is not None:
        return DaemonPlan(
            spec.name,
            refusal=f"nothing is done, as nobody knows how it stands: {unknown}; "
            "see portod's log, the next pass looks again",
            refusal_reason="Unknown",
        )
    container = shared.observed.containers.get(spec.name)
    if container is not None and not container.is_ours:
        return DaemonPlan(
            spec.name,
            refusal=f"a container {spec.name} exists that ya-salt did not make (no label {LABEL}); "
            "it is left alone: rename the daemon, or destroy that container; where it runs as the "
            f"file says, ya-salt adopt {spec.name} --write takes it over",
            refusal_reason="ForeignContainer",
        )
    intent = shared.intents.get(spec.name, Intent())
    if intent.held and not spec.delete_requested:
        return _plan_hold(spec, container, intent.held)
    rests = _find_rest(container, intent)
    repair = _plan_repair(container, rests) if container is not None else ()
    if shared.observed.packages_error and _concerns_packages(spec, shared.observed):
        # Whatever dpkg would say: a dead daemon is started again as it was.
        return DaemonPlan(
            spec.name,
            () if spec.delete_requested else repair,
            refusal=shared.observed.packages_error,
            refusal_reason="DpkgUnavailable",
            rests=rests,
        )
    if spec.delete_requested:
        return _plan_removal(spec, container, shared)
    if spec.name in shared.conflicts:
        return DaemonPlan(
            spec.name,
            refusal=shared.conflicts[spec.name],
            refusal_reason="PackageVersionConflict",
            rests=rests,
        )
    missing = drop_left(find_missing(spec, shared.observed), spec, shared.observed)
    refused = "" if missing else _find_refused(spec, container, shared.observed)
    if refused and container is not None:
        return DaemonPlan(spec.name, repair, refusal=refused, refusal_reason=REFUSED, rests=rests)
    steps: list[Step] = [*_plan_install(spec, missing, shared.observed)]
    steps += _plan_container(spec, container, missing, shared.observed, intent)
    if any(isinstance(step, ReplaceContainer | CreateContainer) for step in steps):
        # The new process has seen the files; while it waits for the gate the old one is told.
        return DaemonPlan(
            spec.name, tuple(steps), notes=intent.notes, meanwhile=intent.signals, rests=rests
        )
    return DaemonPlan(spec.name, (*steps, *intent.signals), notes=intent.notes, rests=rests)


def _plan_hold(spec: DaemonSpec, container: Container | None, why: str) -> DaemonPlan:
    """Nothing but the stop: no package of its own, no new container, no start."""
    respawn = wanted_properties(spec)["respawn"]
    if container is None:
        return DaemonPlan(spec.name, rests=why, is_held=True)
    # A stop that was cut short has left it with respawn off.
    is_over = container.state in DOWN and container.values.get("respawn", respawn) == respawn
    steps = () if is_over else (StopContainer(spec.name, why, respawn),)
    return DaemonPlan(spec.name, steps, rests=why, is_held=True)


def _find_rest(container: Container | None, intent: Intent) -> str:
    return intent.resting if container is not None and container.state == "dead" else ""


def _find_refused(spec: DaemonSpec, container: Container | None, observed: Observed) -> str:
    """Why this very spec is not tried again, or "": each try would cost the daemon its process."""
    applied = container.applied if container is not None else None
    if applied is None or not applied.refused or applied.refused != make_mark(spec, observed.key):
        return ""
    return (
        f"portod would not start it: {applied.refused_because}; the container that ran before "
        "was brought back and is kept: change the spec, or try again with "
        f"`ya-salt retry {spec.name}`"
    )


def _concerns_packages(spec: DaemonSpec, observed: Observed) -> bool:
    """Whether dpkg has to be asked; for a removal also about what the spec names no more."""
    return bool(spec.packages or (spec.delete_requested and list_packages_ever(spec, observed)))


def _plan_install(
    spec: DaemonSpec, missing: tuple[Package, ...], observed: Observed
) -> tuple[Step, ...]:
    if not missing:
        return ()
    return (InstallPackages(spec.name, missing, describe_packages(missing, observed)),)


def _plan_container(
    spec: DaemonSpec,
    container: Container | None,
    missing: tuple[Package, ...],
    observed: Observed,
    intent: Intent,
) -> tuple[Step, ...]:
    if container is None:
        return (CreateContainer(spec, "there is no container"),)
    record = observed.records.get(spec.name)
    if missing:
        reason = f"packages: {describe_packages(missing, observed)}"
        return (ReplaceContainer(spec, _say_back(spec) + _join(reason, intent.restart)),)
    if record is not None and record.restart_pending:
        reason = record.restart_reason or "its packages were changed while it ran"
        return (ReplaceContainer(spec, _join(reason, intent.restart)),)
    changed = _plan_change(_slow_down(spec, observed, intent), container, observed)
    renewing = next((step for step in changed if isinstance(step, ReplaceContainer)), None)
    if renewing is not None or intent.restart:
        reason = renewing.reason if renewing is not None else ""
        back = "" if is_current(spec, container) else _say_back(spec)
        return (ReplaceContainer(spec, back + _join(reason, intent.restart)),)
    if container.state == "respawning" and intent.retry:
        return (*changed, StartContainer(spec.name, container.state, intent.retry))
    return (*changed, *_plan_repair(container, _find_rest(container, intent)))


def _say_back(spec: DaemonSpec) -> str:
    if not spec.generation:
        return ""
    return f"back to {spec.version or spec.digest[:12]} (generation {spec.generation}): "


def _join(*reasons: str) -> str:
    return "; ".join(filter(None, reasons))


def _slow_down(spec: DaemonSpec, observed: Observed, intent: Intent) -> DaemonSpec:
    """The spec with the delay of a daemon that keeps dying, where that is no cause for a restart.

    Its digest stays: it is the same spec.
    """
    can_change = not observed.dynamic or DELAY in observed.dynamic
    if not intent.respawn_delay or not can_change:
        return spec
    return replace(spec, properties={**spec.properties, DELAY: intent.respawn_delay})


def _plan_repair(container: Container, rests: str = "") -> tuple[Step, ...]:
    if container.state in _TRANSIENT or rests:
        return ()
    return (StartContainer(container.name, container.state, f"it is {container.state}"),)


def _plan_change(  # noqa: PLR0911 - a return a rule
    spec: DaemonSpec, container: Container, observed: Observed
) -> tuple[Step, ...]:
    applied = container.applied
    current = is_current(spec, container)
    if not current and (applied is None or not applied.sent):
        return (ReplaceContainer(spec, "the spec changed"),)
    if applied is None:
        changes = set_anew(spec, container, observed)
        return (ChangeLive(spec, changes, "ya-salt's notes in its private were overwritten"),)
    if not applied.sent:
        # There was no room for more than the packages.
        return ()
    if not current and applied.packages != hash_packages(spec.packages):
        return (ReplaceContainer(spec, "its list of packages changed"),)
    found = compare(spec, container, applied, observed)
    if found.static:
        reason = _describe_change(found.static, found.by_hand)
        return (ReplaceContainer(spec, reason + _explain_restart(found.static)),)
    relearn = frozenset(name_read_back(name) for name in found.relearned)
    if found.changes or not current:
        reason = _describe_change(found.changes, found.by_hand)
        if current and found.changes.keys() - found.by_hand == {DELAY}:
            # The file says as before: it is ours, of a daemon that keeps dying.
            reason = _describe_delay(spec, found.by_hand)
        return (ChangeLive(spec, found.changes, reason, relearn),)
    if relearn:
        names = ", ".join(sorted(found.relearned))
        reason = f"portod {observed.portod} reads back otherwise: {names}"
        return (ChangeLive(spec, {}, reason, relearn),)
    if has_old_hashes(spec, container, applied, observed.key):
        return (ChangeLive(spec, {}, "its hashes of env_secret are made anew with the host's key"),)
    return ()


def _describe_change(names: Iterable[str], theirs: frozenset[str]) -> str:
    by_spec = sorted(name for name in names if name not in theirs)
    by_hand = sorted(name for name in names if name in theirs)
    parts = []
    if by_spec:
        parts.append(f"changed in the spec: {', '.join(by_spec)}")
    if by_hand:
        parts.append(f"changed by somebody else: {', '.join(by_hand)}")
    return "; ".join(parts) or "nothing but the label is out of date"


def _describe_delay(spec: DaemonSpec, theirs: frozenset[str]) -> str:
    now = spec.properties.get(DELAY, DEFAULT_DELAY)
    reason = f"how often it dies: {DELAY} is {now} now"
    return f"{reason}; {_describe_change(theirs, theirs)}" if theirs else reason


def _explain_restart(names: Iterable[str]) -> str:
    """Why what portod would set live is not: "" where it would not."""
    bases = sorted({base_name(name) for name in names} & LIVE_IN_NAME_ONLY.keys())
    return "".join(f"; {base}: {LIVE_IN_NAME_ONLY[base]}" for base in bases)


# -- removal -----------------------------------------------------------------------------------


def _plan_removal(spec: DaemonSpec, container: Container | None, shared: Context) -> DaemonPlan:
    steps: list[Step] = []
    if container is not None:
        steps.append(RemoveContainer(spec.name, "meta.delete_requested is true"))
    present = [
        name
        for name in list_packages_ever(spec, shared.observed)
        if is_present(name, shared.observed)
    ]
    purge = tuple(name for name in present if name not in shared.needed_by)
    kept = describe_kept(present, shared.needed_by)
    if purge:
        free = tuple(package.name for package in spec.packages if package.allow_held)
        steps.append(PurgePackages(spec.name, purge, free, "meta.delete_requested is true"))
    return DaemonPlan(spec.name, tuple(steps), notes=kept)
