"""How daemons' lives go on: what a look at the host adds, and what they ask of the plan. Pure.

Each concern has a module of its own; here stands their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ya_salt.converge import crash, drift_policy, holds, readiness, watching
from ya_salt.converge.drift import make_mark
from ya_salt.life import CrashLoop, Life, Order
from ya_salt.model import Container, DaemonSpec, Observed, Outcome, SignalContainer
from ya_salt.quick_dataclass import dataclass, replace


@dataclass(frozen=True)
class Intent:
    """What bears on the plan of one daemon beside its spec and how it stands."""

    held: str = ""
    """Why it is to be stopped and to stay so: who, since when, until when; "" where it is not."""
    resting: str = ""
    """Why it is not started yet though it is down; "" where nothing keeps it."""
    restart: str = ""
    """Why it gets a new process though spec, packages and container are right; ""."""
    signals: tuple[SignalContainer, ...] = ()
    """How its process is told of changed files, where it keeps it."""
    notes: tuple[str, ...] = ()
    retry: str = ""
    """Why portod is not to wait any longer before it starts the daemon again; ""."""
    respawn_delay: str = ""
    """What its container has in place of the spec's, as long as it keeps dying; ""."""


def look_ahead(
    specs: Sequence[DaemonSpec], observed: Observed, orders: Mapping[str, Order], now: float
) -> dict[str, Life]:
    """The lives before the plan: with what happened since they were saved, and orders taken."""
    fresh = {spec.name: Life() for spec in specs}
    known = {name: record.life for name, record in observed.records.items()}
    lives = {**fresh, **known, **observed.lives}
    for spec in specs:
        life = replace(lives[spec.name], crash=_count_deaths(spec, lives[spec.name], observed, now))
        if spec.name in orders:
            life = holds.take_order(life, orders[spec.name], now)
        lives[spec.name] = life
    # Time passes for those that nobody looks after, too.
    lives = {name: _keep_calm(holds.end_when_due(life, now)) for name, life in lives.items()}
    return readiness.advance_lives(specs, observed, lives, now)


def find_intents(specs: Sequence[DaemonSpec], observed: Observed, now: float) -> dict[str, Intent]:
    """Daemon -> what its life asks of the plan, where it asks anything."""
    found = {spec.name: _find_intent(spec, observed, now) for spec in specs}
    return {name: intent for name, intent in found.items() if intent != Intent()}


def look_back(
    specs: Sequence[DaemonSpec], after: Observed, outcomes: Mapping[str, Outcome], now: float
) -> dict[str, Life]:
    """The lives after the work: what was done to whom is in `outcomes`."""
    lives = dict(after.lives)
    after = replace(after, lives=lives)
    for spec in specs:
        life, outcome = lives.get(spec.name, Life()), outcomes.get(spec.name)
        if outcome is not None and outcome.results:
            if readiness.was_restarted_for_it(outcome):
                life = crash.note_failure(life, now)
            known = _count_deaths(spec, life, after, now, outcome)
            lives[spec.name] = _keep_calm(replace(life, crash=known))
        life = watching.remember(spec, after, outcome, now)
        lives[spec.name] = drift_policy.remember(spec, life, outcome, now)
    return lives


def find_due(observed: Observed, now: float) -> float | None:
    """When a pass has something to do that nothing tells of: a rest is over, a signal due."""
    times = []
    for name, life in observed.lives.items():
        container = observed.containers.get(name)
        times.append(life.signal_at)
        if life.hold is not None:
            times.append(life.hold.until)
        elif container is not None and container.state == "dead":
            times.append(crash.find_rest(life.crash, now))
    return min((at for at in times if at > now), default=None)


def _find_intent(spec: DaemonSpec, observed: Observed, now: float) -> Intent:
    life, container = observed.lives.get(spec.name, Life()), observed.containers.get(spec.name)
    if life.hold is not None:
        return Intent(held=holds.describe_hold(life.hold))
    wish = watching.find_wish(spec, observed, now)
    reasons = (readiness.find_restart(spec, container, life, now), wish.restart)
    intent = Intent(
        restart="; ".join(filter(None, reasons)), signals=wish.signals, notes=wish.notes
    )
    known = life.crash
    if known is None or container is None:
        return intent
    return replace(
        intent,
        resting=crash.describe_rest(known) if crash.find_rest(known, now) else "",
        retry=known.retry,
        respawn_delay=crash.find_respawn_delay(known, spec, container),
    )


# -- deaths ------------------------------------------------------------------------------------


def _count_deaths(
    spec: DaemonSpec, life: Life, observed: Observed, now: float, outcome: Outcome | None = None
) -> CrashLoop | None:
    container = observed.containers.get(spec.name)
    if container is None or not container.is_ours:
        return life.crash
    after = {name: _name_process(observed.containers.get(name)) for name in spec.after}
    look = crash.Look(container, make_mark(spec, observed.key), crash.read_delay(spec), after)
    known = life.crash if outcome is None else crash.see_outcome(life.crash, outcome, look)
    return crash.see(known, look, now)


def _name_process(container: Container | None) -> str:
    """What tells the process of a daemon that others come after; "" while it does not run."""
    if container is None or container.state != "running":
        return ""
    return f"{container.id}@{container.created_at} {container.started_at}"


def _keep_calm(life: Life) -> Life:
    """Of a daemon that is held nothing is counted: we stopped it."""
    if life.hold is None or life.crash is None:
        return life
    return replace(life, crash=replace(crash.forget(life.crash), retry=""))
