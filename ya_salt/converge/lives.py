"""How daemons' lives go on: what a look at the host adds, and what they ask of the plan. Pure.

Each concern has a module of its own; here stands their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ya_salt.converge import readiness, watching
from ya_salt.life import Life, Order
from ya_salt.model import DaemonSpec, Observed, Outcome, SignalContainer


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


def look_ahead(
    specs: Sequence[DaemonSpec], observed: Observed, orders: Mapping[str, Order], now: float
) -> dict[str, Life]:
    """The lives before the plan: with what happened since they were saved, and orders taken."""
    del orders
    fresh = {spec.name: Life() for spec in specs}
    known = {name: record.life for name, record in observed.records.items()}
    lives = {**fresh, **known, **observed.lives}
    return readiness.advance_lives(specs, observed, lives, now)


def find_intents(specs: Sequence[DaemonSpec], observed: Observed, now: float) -> dict[str, Intent]:
    """Daemon -> what its life asks of the plan, where it asks anything."""
    intents: dict[str, Intent] = {}
    for spec in specs:
        life, container = observed.lives.get(spec.name, Life()), observed.containers.get(spec.name)
        wish = watching.find_wish(spec, observed, now)
        reasons = (readiness.find_restart(spec, container, life, now), wish.restart)
        intent = Intent(
            restart="; ".join(filter(None, reasons)), signals=wish.signals, notes=wish.notes
        )
        if intent != Intent():
            intents[spec.name] = intent
    return intents


def look_back(
    specs: Sequence[DaemonSpec], after: Observed, outcomes: Mapping[str, Outcome], now: float
) -> dict[str, Life]:
    """The lives after the work: what was done to whom is in `outcomes`."""
    lives = dict(after.lives)
    for spec in specs:
        after = replace(after, lives=lives)
        lives[spec.name] = watching.remember(spec, after, outcomes.get(spec.name), now)
    return lives
