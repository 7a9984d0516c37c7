"""What is remembered of a daemon's life from one pass to the next. Pure data, kept in its record.

All of it may be lost with the store: a daemon then is as one that was just installed, but for what
lies beside its generations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ya_salt.quick_dataclass import dataclass, field


@dataclass(frozen=True)
class Probes:
    """What the questions of `spec.readiness` have come to, of one process."""

    start: str = ""
    """Tells that process from the ones before and after it: for another, everything begins anew."""
    question: str = ""
    """What is asked; noes to another question do not count."""
    is_ready: bool = False
    failures: int = 0
    """Noes in a row, the last ones; those that do not count yet are left out."""
    answer: str = ""
    """What came of the last question, a sentence; "" where none was asked."""
    asked_at: float = 0.0
    gap_s: float = 0.0
    """Between the last two questions."""
    since: float = 0.0
    """Since when `is_ready` is what it is."""
    until: float = 0.0
    """It asked for time until then (EXTEND_TIMEOUT_USEC); 0: it did not."""
    is_unheard: bool = False
    """Whether nobody heard what it said last, if anything (`readiness.notify`)."""


@dataclass(frozen=True)
class Generation:
    """Spec and packages that became ready together; the whole of it lies in a file of its own."""

    number: int
    mark: str
    """Names spec and packages, secrets and all."""
    version: str = ""
    digest: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    ready_at: float = 0.0
    """When it became ready last; the one that did so last stands last."""
    rejected: str = ""
    """Why it failed all the same, later; "" where it did not."""


@dataclass(frozen=True)
class Trial:
    """An update that has to prove itself: begun, then ready, then over or undone."""

    mark: str
    version: str = ""
    back_to: int = 0
    """Number of the generation that it took the place of; 0: there is none."""
    begun_at: float = 0.0
    ready_at: float = 0.0
    """0 until it was ready."""
    deaths: int = 0
    """Of this version, since it was begun."""
    host: str = ""
    """What tells a boot of the host and a start of portod from others; "" begins it anew."""
    container: str = ""
    """Which container was looked at last, and below how it stood: deaths are told by that."""
    respawns: int = 0
    started_at: int = 0
    was_dead: bool = False
    was_respawning: bool = False
    """Whether it was down until portod starts it again: portod counts that death only then."""
    is_carried_out: bool = False
    """Whether what was looked at was the new version's."""
    covers_data: bool = False
    """Whether `update.state` names what its data are."""


@dataclass(frozen=True)
class Rejection:
    """A version that failed: it is not tried again while the file says the same."""

    mark: str
    version: str
    why: str
    at: float
    back_to: int = 0
    """Number of the generation that runs in its place; 0: it was left as it is."""
    problem: str = ""
    """Why going back failed; "" where it did not."""
    covers_data: bool = False
    """Whether its data went back, too."""


@dataclass(frozen=True)
class Pin:
    """Somebody went back by hand: that generation runs while the file says the same."""

    number: int
    mark: str
    """Of what the file said then."""
    who: str
    at: float


@dataclass(frozen=True)
class Hold:
    """Somebody stopped the daemon: it stays so until it is started, or `until` (0: for ever)."""

    who: str
    why: str
    since: float
    until: float = 0.0


@dataclass(frozen=True)
class CrashLoop:
    """Deaths in a row, and what was seen when they were counted last."""

    container: str = ""
    """portod's number of the container and when it was made: another one counts from 0 on."""
    started_at: int = 0
    """portod's time of the start of the process that was seen last."""
    respawns: int = 0
    """portod's total when it was seen last."""
    is_down: bool = False
    """Whether it was down by a death, which is counted already."""
    mark: str = ""
    """Of the spec: another one is tried at once."""
    after: Mapping[str, str] = field(default_factory=dict)
    """Daemon that it comes after -> what told its process, where that was ready."""
    deaths: int = 0
    since: float = 0.0
    """When it died first of these times, as far as that is known."""
    last_at: float = 0.0
    delay_s: int = 0
    """How long it rests before it is started again; 0: as its spec says."""
    next_at: float = 0.0
    """When it is started again, while it is down."""
    is_carried: bool = False
    """Its container is about to be made anew because of a failure: counting goes on."""
    retry: str = ""
    """Why it does not rest though it is down: something changed, or somebody asks."""


@dataclass(frozen=True)
class Order:
    """What a person asks for by name, once: it is carried out by the pass that it comes with."""

    kind: Literal["stop", "start", "retry", "rollback"]
    who: str
    why: str = ""
    until: float = 0.0
    """Of stop: seconds since 1970; 0: until somebody starts it."""
    number: int = 0
    """Of rollback: the generation; 0: the one before the present."""


@dataclass(frozen=True)
class SeenFile:
    """A watched file as the process that runs has seen it."""

    hash: str
    stamp: str = ""
    """Its stat: while that is the same it need not be read; "" reads it."""


@dataclass(frozen=True)
class Change:
    """What was done to its container last, and what that changed."""

    what: str
    """The step, as the history has it."""
    values: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Property, or `package NAME` -> what it was and what it became; secrets are masked."""


@dataclass(frozen=True)
class Life:
    """Everything of it; what a daemon has nothing of is None or empty."""

    probes: Probes | None = None
    generations: tuple[Generation, ...] = ()
    trial: Trial | None = None
    rejection: Rejection | None = None
    pin: Pin | None = None
    hold: Hold | None = None
    crash: CrashLoop | None = None
    watched: Mapping[str, Mapping[str, SeenFile]] = field(default_factory=dict)
    """Entry of `watch` -> its files as they were when it was started, or told, last."""
    noticed: Mapping[str, float] = field(default_factory=dict)
    """File -> when a change of it was noticed that is not acted on yet."""
    signal_at: float = 0.0
    """When it is to be told of such changes, as hosts spread that; 0: there are none."""
    corrections: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Property, or `package NAME` -> when it was put right, seconds since 1970, lately."""
    corrected: str = ""
    """Digest of the spec by which that was."""
