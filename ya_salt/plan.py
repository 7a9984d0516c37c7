"""Decide what to do. Pure: no clock, no I/O, no logging.

Every step says why. Planning again after the steps were carried out gives no steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ya_salt.applied import (
    base_name,
    decode_applied,
    group_sent,
    hash_packages,
    hash_values,
    name_read_back,
)
from ya_salt.model import (
    LABEL,
    Applied,
    ChangeLive,
    Container,
    CreateContainer,
    DaemonPlan,
    DaemonSpec,
    InstallPackages,
    Observed,
    Package,
    PurgePackages,
    Record,
    RemoveContainer,
    ReplaceContainer,
    StartContainer,
    Step,
)

OUR_PROPERTIES: Mapping[str, str] = {"respawn": "true"}
"""What ya-salt itself sets on every container, beside the label and `private`."""

_EMPTIED = frozenset({"labels", "symlink"})
"""Maps whose entries go with an empty value; others' entries only with the whole map set anew."""

_SET_BY_KEY = frozenset({"controllers", "env", "env_secret", "sysctl"})
"""Maps that need a new container anyway."""

_SET_WHEN_DEAD = frozenset({"respawn", "max_respawns", "respawn_delay", "labels"})
"""All that portod lets anybody set on a dead container."""

_TRANSIENT = frozenset({"running", "starting", "stopping", "respawning"})


@dataclass(frozen=True)
class Context:
    """Everything that plans of single daemons share."""

    observed: Observed
    needed_by: Mapping[str, tuple[str, ...]]
    """Package name -> the daemons that stand and need it."""
    conflicts: Mapping[str, str]
    """Daemon -> why its packages cannot be what two specs want at once."""


def make_plan(
    specs: Sequence[DaemonSpec], context: Sequence[DaemonSpec], observed: Observed
) -> tuple[DaemonPlan, ...]:
    """What to do about each of `specs`, in their order.

    `context` are all specs of the host (`specs` among them or not): their packages count as needed,
    as do those of daemons that stand without a file. Which properties change live only matters
    where there are steps: without `observed.dynamic` a plan has steps or none all the same.
    """
    shared = Context(
        observed=observed,
        needed_by=_find_users(context, observed.records.values()),
        conflicts=find_conflicts(context),
    )
    return tuple(_plan_daemon(spec, shared) for spec in specs)


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
    renewing = ReplaceContainer | CreateContainer | StartContainer
    if plan.refusal or spec.delete_requested or any(isinstance(s, renewing) for s in plan.steps):
        return plan
    kept = tuple(step for step in plan.steps if not isinstance(step, ChangeLive))
    return replace(plan, steps=(*kept, ReplaceContainer(spec, reason)))


def find_conflicts(specs: Sequence[DaemonSpec]) -> dict[str, str]:
    """Daemon -> sentence, for daemons that want different versions of one package."""
    wanted: dict[str, list[tuple[DaemonSpec, Package]]] = {}
    for spec in specs:
        if not spec.delete_requested:
            for package in spec.packages:
                wanted.setdefault(package.name, []).append((spec, package))
    conflicts: dict[str, str] = {}
    for users in wanted.values():
        for spec, package in users:
            others = [user for user in users if user[1].version != package.version]
            if others:
                conflicts.setdefault(spec.name, _describe_conflict(spec, package, others))
    return conflicts


def _describe_conflict(
    spec: DaemonSpec, package: Package, others: Sequence[tuple[DaemonSpec, Package]]
) -> str:
    rest = " and ".join(
        f"{other.path}:{theirs.line} wants {theirs.version}" for other, theirs in others
    )
    return (
        f"{spec.path}:{package.line} wants {package.name} {package.version}, but {rest}; "
        "a host has one version of a package: make the specs agree"
    )


def _find_users(
    specs: Iterable[DaemonSpec], records: Iterable[Record]
) -> dict[str, tuple[str, ...]]:
    """Package -> names of the daemons that need it.

    A daemon whose file is gone or broken still stands, so what its last good spec named counts; of
    one that only its container remembers, everything that it ever had.
    """
    specs = tuple(specs)
    known = {spec.name for spec in specs}
    users: dict[str, list[str]] = {}
    for spec in specs:
        for package in () if spec.delete_requested else spec.packages:
            users.setdefault(package.name, []).append(spec.name)
    for record in records:
        removed = record.status is not None and record.status.phase == "Removed"
        last = record.spec
        names = [item.name for item in last.packages] if last else record.package_names
        for name in () if record.name in known or removed else names:
            users.setdefault(name, []).append(record.name)
    return {name: tuple(sorted(set(daemons))) for name, daemons in users.items()}


# -- one daemon --------------------------------------------------------------------------------


def _plan_daemon(spec: DaemonSpec, shared: Context) -> DaemonPlan:
    container = shared.observed.containers.get(spec.name)
    if container is not None and not container.is_ours:
        return DaemonPlan(
            spec.name,
            refusal=f"a container {spec.name} exists that ya-salt did not make (no label {LABEL}); "
            "it is left alone: rename the daemon, or destroy that container",
            refusal_reason="ForeignContainer",
        )
    if shared.observed.packages_error and _concerns_packages(spec, shared.observed):
        return DaemonPlan(
            spec.name, refusal=shared.observed.packages_error, refusal_reason="DpkgUnavailable"
        )
    if spec.delete_requested:
        return _plan_removal(spec, container, shared)
    if spec.name in shared.conflicts:
        return DaemonPlan(
            spec.name,
            refusal=shared.conflicts[spec.name],
            refusal_reason="PackageVersionConflict",
        )
    missing = _find_missing(spec, shared.observed)
    steps: list[Step] = [*_plan_install(spec, missing, shared.observed)]
    steps += _plan_container(spec, container, missing, shared.observed)
    return DaemonPlan(spec.name, tuple(steps))


def _concerns_packages(spec: DaemonSpec, observed: Observed) -> bool:
    """Whether dpkg has to be asked; for a removal also about what the spec names no more."""
    return bool(spec.packages or (spec.delete_requested and list_packages_ever(spec, observed)))


def _find_missing(spec: DaemonSpec, observed: Observed) -> tuple[Package, ...]:
    return tuple(package for package in spec.packages if not is_package_right(package, observed))


def is_package_right(package: Package, observed: Observed) -> bool:
    """Whether dpkg has it, whole, at exactly this version."""
    installed = observed.packages.get(package.name)
    return (
        installed is not None
        and installed.version == package.version
        and installed.status == "installed"
    )


def _plan_install(
    spec: DaemonSpec, missing: tuple[Package, ...], observed: Observed
) -> tuple[Step, ...]:
    if not missing:
        return ()
    return (InstallPackages(spec.name, missing, _describe_packages(missing, observed)),)


def _describe_packages(missing: Iterable[Package], observed: Observed) -> str:
    return ", ".join(_describe_package(package, observed) for package in missing)


def _describe_package(package: Package, observed: Observed) -> str:
    there = observed.packages.get(package.name)
    if there is None or there.status in {"not-installed", "config-files"}:
        return f"{package.name} {package.version} is not installed"
    if there.version == package.version:
        return f"{package.name} {package.version} is {there.status}"
    return f"{package.name} {there.version} -> {package.version}"


def _plan_container(
    spec: DaemonSpec,
    container: Container | None,
    missing: tuple[Package, ...],
    observed: Observed,
) -> tuple[Step, ...]:
    if container is None:
        return (CreateContainer(spec, "there is no container"),)
    record = observed.records.get(spec.name)
    if missing:
        return (ReplaceContainer(spec, f"packages: {_describe_packages(missing, observed)}"),)
    if record is not None and record.restart_pending:
        return (ReplaceContainer(spec, "its packages were changed while it ran"),)
    changed = _plan_change(spec, container, observed)
    if any(isinstance(step, ReplaceContainer) for step in changed):
        return changed
    return (*changed, *_plan_repair(container))


def _plan_repair(container: Container) -> tuple[Step, ...]:
    if container.state in _TRANSIENT:
        return ()
    return (StartContainer(container.name, container.state, f"it is {container.state}"),)


def _plan_change(spec: DaemonSpec, container: Container, observed: Observed) -> tuple[Step, ...]:
    applied = decode_applied(container.private)
    current = container.labels[LABEL] == spec.digest
    if applied is None or not applied.sent:
        return () if current else (ReplaceContainer(spec, "the spec changed"),)
    if not current and applied.packages != hash_packages(spec.packages):
        return (ReplaceContainer(spec, "its list of packages changed"),)
    changes, static = _compare(spec, applied, observed.dynamic)
    drifted = _find_drift(spec, container, applied)
    relearned = _find_relearned(drifted, container, applied, observed)
    drifted -= relearned
    changes |= _restore(drifted, wanted_properties(spec))
    static |= {name for name in changes if not _is_settable(name, container, observed)}
    if static:
        return (ReplaceContainer(spec, _describe_change(static, drifted)),)
    if relearned and current and not changes:
        reason = f"portod {observed.portod} reads back otherwise: {', '.join(sorted(relearned))}"
        return (ChangeLive(spec, {}, reason),)
    if changes or not current:
        return (ChangeLive(spec, changes, _describe_change(changes, drifted)),)
    return ()


def _find_relearned(
    drifted: frozenset[str], container: Container, applied: Applied, observed: Observed
) -> frozenset[str]:
    """Static properties that read back otherwise since portod was upgraded.

    Nobody can have changed them: the container runs.
    """
    if container.state != "running" or observed.portod in {"", applied.portod}:
        return frozenset()
    return frozenset(name for name in drifted if not _is_dynamic(name, observed.dynamic))


def _is_settable(name: str, container: Container, observed: Observed) -> bool:
    if container.state == "dead":
        return base_name(name) in _SET_WHEN_DEAD
    return _is_dynamic(name, observed.dynamic)


def _is_dynamic(name: str, dynamic: frozenset[str]) -> bool:
    # Where the kernel has no support for a guarantee portod does not even list it; where it has,
    # all guarantees change live.
    return base_name(name) in dynamic or name.endswith("_guarantee")


def wanted_properties(spec: DaemonSpec) -> dict[str, str]:
    """Everything that is set on the daemon's container, but for our label and `private`."""
    return {**OUR_PROPERTIES, **spec.properties}


def _compare(
    spec: DaemonSpec, applied: Applied, dynamic: frozenset[str]
) -> tuple[dict[str, str], set[str]]:
    """What differs from what was sent: (texts to send, names that only a new container has)."""
    wanted = wanted_properties(spec)
    hashes = hash_values(group_sent(wanted))
    changed = {name for name, digest in hashes.items() if applied.sent.get(name) != digest}
    changes = {
        name: text for name, text in wanted.items() if name in changed or base_name(name) in changed
    }
    gone = {name for name in applied.sent.keys() - hashes.keys() if name not in applied.unsupported}
    resets = {
        key: text
        for name in sorted(gone)
        if _is_dynamic(name, dynamic)
        for key, text in _reset(name, wanted, applied).items()
    }
    static = {
        name for name in gone if not _is_dynamic(name, dynamic) or not _reset(name, wanted, applied)
    }
    return {**resets, **changes}, static


def _restore(drifted: Iterable[str], wanted: Mapping[str, str]) -> dict[str, str]:
    """What to set where somebody else did; a map whole, as they may have added entries."""
    changes = {}
    for name in drifted:
        base = base_name(name)
        if base == name or base in _EMPTIED or base in _SET_BY_KEY:
            changes[name] = wanted[name]
        else:
            changes[base] = "; ".join(_list_entries(base, wanted))
    return changes


def _reset(name: str, wanted: Mapping[str, str], applied: Applied) -> dict[str, str]:
    """What to set so that a property that left the spec is gone; nothing where that is unknown."""
    base = base_name(name)
    if base in _EMPTIED:
        return {name: ""}
    if base != name:
        return {base: "; ".join(_list_entries(base, wanted))}
    return {name: applied.defaults[name]} if name in applied.defaults else {}


def _list_entries(base: str, wanted: Mapping[str, str]) -> list[str]:
    """What is left in a map, as Porto takes it whole."""
    prefix = f"{base}["
    return [
        f"{name[len(prefix) : -1]}: {text}"
        for name, text in wanted.items()
        if name.startswith(prefix)
    ]


def find_differences(
    spec: DaemonSpec, container: Container, applied: Applied
) -> tuple[frozenset[str], frozenset[str]]:
    """Names that differ from what was sent, in the spec or no longer in it; and those that drifted.

    A map that cannot change live stands under its one name, see `group_sent`.
    """
    hashes = hash_values(group_sent(wanted_properties(spec)))
    changed = {name for name, digest in hashes.items() if applied.sent.get(name) != digest}
    gone = applied.sent.keys() - hashes.keys() - set(applied.unsupported)
    return frozenset(changed | gone), _find_drift(spec, container, applied)


def _find_drift(spec: DaemonSpec, container: Container, applied: Applied) -> frozenset[str]:
    """Wanted properties, flattened, that read back otherwise than right after we set them.

    Labels are compared one by one: others may keep labels of their own on our container.
    """
    now = hash_values(container.values)
    bases = {name for name, digest in applied.read.items() if now.get(name, digest) != digest}
    return frozenset(
        name
        for name, text in wanted_properties(spec).items()
        if name not in applied.unsupported
        and (name_read_back(name) in bases or _is_label_lost(name, text, container, applied))
    )


def _is_label_lost(name: str, text: str, container: Container, applied: Applied) -> bool:
    return (
        base_name(name) == "labels"
        and applied.sent.get(name) == hash_values({name: text})[name]
        and container.labels.get(name[len("labels[") : -1]) != text
    )


def _describe_change(names: Iterable[str], drifted: frozenset[str]) -> str:
    theirs = drifted | {base_name(name) for name in drifted}
    by_spec = sorted(name for name in names if name not in theirs)
    by_hand = sorted(name for name in names if name in theirs)
    parts = []
    if by_spec:
        parts.append(f"changed in the spec: {', '.join(by_spec)}")
    if by_hand:
        parts.append(f"changed by somebody else: {', '.join(by_hand)}")
    return "; ".join(parts) or "nothing but the label is out of date"


# -- removal -----------------------------------------------------------------------------------


def _plan_removal(spec: DaemonSpec, container: Container | None, shared: Context) -> DaemonPlan:
    steps: list[Step] = []
    if container is not None:
        steps.append(RemoveContainer(spec.name, "meta.delete_requested is true"))
    present = [
        name
        for name in list_packages_ever(spec, shared.observed)
        if _is_present(name, shared.observed)
    ]
    purge = tuple(name for name in present if name not in shared.needed_by)
    kept = tuple(
        f"package {name} is kept: {', '.join(shared.needed_by[name])} needs it"
        for name in present
        if name in shared.needed_by
    )
    if purge:
        free = tuple(package.name for package in spec.packages if package.allow_held)
        steps.append(PurgePackages(spec.name, purge, free, "meta.delete_requested is true"))
    return DaemonPlan(spec.name, tuple(steps), notes=kept)


def list_packages_ever(spec: DaemonSpec, observed: Observed) -> tuple[str, ...]:
    """Names of all packages that the daemon has or ever had, from spec, store and container."""
    names = {package.name for package in spec.packages}
    record = observed.records.get(spec.name)
    if record is not None:
        names |= set(record.package_names)
    container = observed.containers.get(spec.name)
    applied = decode_applied(container.private) if container is not None else None
    if applied is not None:
        names |= set(applied.package_names)
    return tuple(sorted(names))


def _is_present(name: str, observed: Observed) -> bool:
    installed = observed.packages.get(name)
    return installed is not None and installed.status != "not-installed"
