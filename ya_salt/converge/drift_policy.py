"""What becomes of changes that somebody else has made: put right, told, or given up. Pure.

The same one put right three times within an hour comes back: somebody, or something, insists. It is
told then and left as it is, until the file changes, somebody asks for it, or the hour is over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from ya_salt.converge.drift import (
    base_name,
    compare,
    find_now,
    hash_packages,
    is_current,
    wanted_properties,
)
from ya_salt.life import Life
from ya_salt.model import (
    ChangeLive,
    CreateContainer,
    DaemonPlan,
    DaemonSpec,
    DaemonStatus,
    Drift,
    InstallPackages,
    Observed,
    Outcome,
    Package,
    ReplaceContainer,
    Step,
)
from ya_salt.porto.properties import SECRET_MASK, is_secret
from ya_salt.quick_dataclass import replace

MOST = 3
"""Times within `HOUR_S` that the same is put right."""
HOUR_S = 3600.0
_SHOWN = 80
"""Characters of a value that are told."""


# -- what is left alone --------------------------------------------------------------------------


def forget(
    specs: Iterable[DaemonSpec],
    lives: Mapping[str, Life],
    lifted: Collection[str],
    now: float,
) -> dict[str, Life]:
    """The lives without corrections that are old, of another spec, or of whom is in `lifted`."""
    known = dict(lives)
    for spec in specs:
        life = known.get(spec.name, Life())
        if not life.corrections:
            continue
        is_over = spec.name in lifted or life.corrected != spec.digest
        kept = {
            name: late
            for name, times in ({} if is_over else life.corrections).items()
            if (late := tuple(at for at in times if now - HOUR_S < at <= now))
        }
        known[spec.name] = replace(life, corrections=kept)
    return known


def find_left(lives: Mapping[str, Life]) -> dict[str, dict[str, float]]:
    """Daemon -> what is not put right any more -> until when."""
    found = {
        name: {
            what: times[-MOST] + HOUR_S
            for what, times in life.corrections.items()
            if len(times) >= MOST
        }
        for name, life in lives.items()
        if life.corrections
    }
    return {name: left for name, left in found.items() if left}


def drop_left(
    missing: tuple[Package, ...], spec: DaemonSpec, observed: Observed
) -> tuple[Package, ...]:
    """The packages to install, without those that somebody else has changed and that are left."""
    theirs = _find_their_packages(missing, spec, observed)
    if spec.drift == "report":
        return tuple(item for item in missing if item not in theirs)
    left = observed.left.get(spec.name, {})
    return tuple(
        item for item in missing if not (item in theirs and _call_package(item.name) in left)
    )


def _find_their_packages(
    missing: Iterable[Package], spec: DaemonSpec, observed: Observed
) -> tuple[Package, ...]:
    """Packages that were right when the daemon was started, and that no pass has changed since."""
    container, record = observed.containers.get(spec.name), observed.records.get(spec.name)
    applied = container.applied if container is not None else None
    if applied is None or applied.packages != hash_packages(spec.packages):
        return ()
    life = observed.lives.get(spec.name, Life())
    if life.trial is not None or life.rejection is not None or life.pin is not None:
        # An update that we undo has left them as they are.
        return ()
    return () if record is not None and record.restart_pending else tuple(missing)


def _call_package(name: str) -> str:
    return f"package {name}"


# -- telling -------------------------------------------------------------------------------------


def note_drift(
    plans: Sequence[DaemonPlan],
    specs: Iterable[DaemonSpec],
    missing: Mapping[str, tuple[Package, ...]],
    observed: Observed,
) -> tuple[DaemonPlan, ...]:
    """The plans with what somebody else has changed, put right in the steps or left as it is.

    `missing` are each daemon's packages that are not as declared.
    """
    known = {spec.name: spec for spec in specs}
    return tuple(
        _note_one(plan, known[plan.name], missing.get(plan.name, ()), observed)
        if plan.name in observed.containers and not known[plan.name].delete_requested
        else plan
        for plan in plans
    )


def _note_one(
    plan: DaemonPlan, spec: DaemonSpec, missing: tuple[Package, ...], observed: Observed
) -> DaemonPlan:
    container = observed.containers[plan.name]
    if not container.is_ours or container.applied is None:
        return plan
    packages = {
        _call_package(item.name): (_find_version(item.name, observed), item.version)
        for item in _find_their_packages(missing, spec, observed)
    }
    kept = {_call_package(item.name) for item in drop_left(missing, spec, observed)}
    theirs, left = _find_properties(spec, observed) if container.applied.sent else ({}, {})
    left |= {name: values for name, values in packages.items() if name not in kept}
    until = observed.left.get(spec.name, {})
    drift = tuple(
        Drift(name, *values, until=0.0 if spec.drift == "report" else until.get(_base(name), 0.0))
        for name, values in sorted(left.items())
    )
    right = {name: values for name, values in packages.items() if name in kept}
    steps = tuple(_with_theirs(step, theirs, right) for step in plan.steps)
    return replace(plan, steps=steps, drift=drift)


def _base(name: str) -> str:
    return name if name.startswith("package ") else base_name(name)


_Values = dict[str, tuple[str, str]]
"""What -> (what it is, what it is to be)."""


def _find_properties(spec: DaemonSpec, observed: Observed) -> tuple[_Values, _Values]:
    """(what is put right, what is left as it is)."""
    container = observed.containers[spec.name]
    applied = container.applied
    if applied is None or (not is_current(spec, container) and not applied.sent):
        return {}, {}
    found = compare(spec, container, applied, observed)
    if not found.by_hand and not found.left:
        return {}, {}
    wanted = {**applied.defaults, **wanted_properties(spec), "weak": "false", **found.changes}

    def show(name: str) -> tuple[str, str]:
        if is_secret(name):
            return SECRET_MASK, SECRET_MASK
        return _shorten(find_now(name, container)), _shorten(wanted.get(name, ""))

    touched = {*found.changes, *found.static} & found.by_hand
    if spec.generation and not is_current(spec, container):
        # We had it off, to see how the version that is given up ends.
        touched -= {"respawn"}
    return {name: show(name) for name in touched}, {name: show(name) for name in found.left}


def _shorten(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= _SHOWN else f"{plain[:_SHOWN]}…"


def _find_version(name: str, observed: Observed) -> str:
    there = observed.packages.get(name)
    if there is None or there.status in {"not-installed", "config-files"}:
        return ""
    return there.version if there.status == "installed" else f"{there.version} ({there.status})"


def _with_theirs(step: Step, properties: _Values, packages: _Values) -> Step:
    if isinstance(step, InstallPackages) and packages:
        return replace(step, theirs=packages)
    if isinstance(step, ChangeLive | ReplaceContainer) and properties:
        return replace(step, theirs=properties)
    return step


def describe_drift(item: Drift, name: str, until: str) -> str:
    """A sentence: what it is and should be, who did it as far as known, and what to do."""
    by = f" by {item.by}" if item.by else ""
    said = (
        f"{item.what} is {item.now or 'not there'}, not {item.wanted or 'unset'}: "
        f"changed by somebody else{by}"
    )
    if not item.until:
        return f"{said}; left as it is, as spec.drift says report"
    who = "" if by or item.what.startswith("package ") else " (portod does not tell by whom)"
    return (
        f"{said}{who}, and again after it was put right {MOST} times within an hour; left as it is "
        f"until {until}: find who does it, change the file, or `ya-salt retry {name}`"
    )


def say_drift(old: DaemonStatus | None, new: DaemonStatus) -> list[Drift]:
    """What is left as it is since this pass."""
    known = {(item.what, item.now, bool(item.until)) for item in old.drift} if old else set()
    return [item for item in new.drift if (item.what, item.now, bool(item.until)) not in known]


# -- remembering ---------------------------------------------------------------------------------


def remember(spec: DaemonSpec, life: Life, outcome: Outcome | None, now: float) -> Life:
    """The life with what was put right in this pass."""
    done = [item.step for item in outcome.results if item.is_done] if outcome else []
    right = {
        _base(name)
        for step in done
        if isinstance(step, InstallPackages | ChangeLive | ReplaceContainer)
        for name in step.theirs
    }
    # A new container is as its spec says, whatever was given up.
    is_new = any(isinstance(step, CreateContainer | ReplaceContainer) for step in done)
    kept = {
        name: times
        for name, times in life.corrections.items()
        if not is_new or name in right or name.startswith("package ")
    }
    corrections = {**kept, **{name: (*kept.get(name, ()), now) for name in sorted(right)}}
    if corrections == dict(life.corrections):
        return life
    return replace(life, corrections=corrections, corrected=spec.digest if corrections else "")
