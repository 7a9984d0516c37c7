"""What a simulated rollout is made of, and what came of it. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from ya_salt.gate.protocol import Operation
from ya_salt.gate.rule import Rule
from ya_salt.model import Deferral
from ya_salt.quick_dataclass import dataclass

MAX_EVENTS = 1_000_000
"""Nothing is simulated further than that, so that it always ends."""

HostState = Literal["waiting", "working", "settling", "failed", "lost", "done"]
STATES: tuple[HostState, ...] = ("waiting", "working", "settling", "failed", "lost", "done")

Ending = Literal["done", "halted", "stuck", "closed", "unselected", "unfinished"]
"""done: nobody waits any more. halted: no host gets this version, too many failed with it. stuck:
every slot is held by hosts that failed or are lost. closed: frozen or outside of windows, with no
end in sight. unselected: the rule is not for these hosts. unfinished: there was no time left."""

What = Literal["started", "retried", "succeeded", "failed", "died", "released", "freed"]
"""released: the host gave its slot back. freed: it was taken away, as nothing was heard of it."""


@dataclass(frozen=True)
class Scenario:
    """A rule, a fleet, and what befalls it. Rates are shares from 0 to 1, times are seconds."""

    rule: Rule
    hosts: int
    start: float
    """Seconds since 1970."""
    operation: Operation = "update"
    op_time_s: tuple[float, float] = (30.0, 30.0)
    """An operation takes any time from the first to the second."""
    pass_interval_s: float = 300.0
    failure_rate: float = 0.0
    """Hosts on which the version is bad: it fails there each time."""
    retry_success_rate: float = 0.0
    """Further tries of a host that succeed even so."""
    lost_rate: float = 0.0
    """Hosts that die while they are at it and are not heard of again."""
    repair_after_s: float | None = None
    """How long after the rollout has stopped another version comes, once; None: never."""
    repaired_failure_rate: float = 0.0
    max_time_s: float = 30 * 86400.0
    facts: Mapping[str, str] | None = None
    """What the selector looks at; None: what it wants to see."""
    watch_s: float = 0.0
    """The probation of an update; the slot is kept for so long where the rule does not say."""
    phases_s: tuple[float, ...] = ()
    """How long after the start each host makes its first pass; (): drawn, within the interval."""
    token_slack_s: float = 10.0
    """A start counts so much longer than the rate's window, as etcd's leases do."""

    def find_settling_s(self) -> float:
        """How long a host keeps its slot once the daemon is ready."""
        if self.rule.min_healthy_s is not None:
            return self.rule.min_healthy_s
        return self.watch_s if self.operation == "update" else 0.0

    def choose_facts(self) -> Mapping[str, str]:
        """Facts of each host, but for its name."""
        if self.facts is not None:
            return self.facts
        return {fact: values[0] for fact, values in self.rule.selector.items()}


class Happening(NamedTuple):
    """One line of what happened."""

    at_s: float
    host: str
    what: What
    target: str


@dataclass
class Halt:
    """The gate let nobody else have the version."""

    at_s: float
    """When the failure that did it was told."""
    disturbed: int
    """Hosts that had started with the version by then."""
    failed: int
    working: int
    resumed_at_s: float | None = None


@dataclass(frozen=True)
class Result:
    """What came of it. Times are seconds since the start."""

    scenario: Scenario
    outcome: Ending
    refusal: Deferral | None
    """What the gate said last to those that still wait; None where nobody does."""
    duration_s: float
    """Until the last host had it or failed; until it stopped, where it did."""
    states: Mapping[HostState, int]
    """Every state -> how many hosts are in it at the end."""
    disturbed: int
    """Hosts that started at all, with whatever version."""
    max_at_once: int
    """Most hosts that were at it, or held a slot without having failed, at the same moment."""
    max_starts: int
    """Most starts within any window of the rule's rate; 0 where it has none."""
    robbed: int
    """Slots that were taken from hosts which were alive."""
    timeline: tuple[tuple[float, int], ...]
    """(time, percent of all hosts that had the last version by then)."""
    halts: tuple[Halt, ...]
    repaired_at_s: float | None
    asked: int
    """How often the gate's decision was asked for."""
    log: tuple[Happening, ...]
    """By time."""

    @property
    def halted_at_s(self) -> float | None:
        return self.halts[0].at_s if self.halts else None

    @property
    def resumed_at_s(self) -> float | None:
        return self.halts[0].resumed_at_s if self.halts else None
