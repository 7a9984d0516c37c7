"""A gate's memory and a fleet that exist nowhere else. Pure: the clock is a parameter.

Times are whole milliseconds since the start: their sums are exact, so a run is the same everywhere.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from math import ceil
from random import Random

from ya_salt.model import Deferral
from ya_salt.rollout.decide import Grant, View
from ya_salt.rollout.gate import Ask, Held
from ya_salt.rollout.rule import Rule
from ya_salt.rollout.simulated import HostState, Scenario
from ya_salt.rollout.windows import find_opening


class Kind(IntEnum):
    """What an event is. At the same moment what ends comes before what begins."""

    END = 0
    DEATH = 1
    SETTLED = 2
    REPAIR = 3
    ASK = 4


class Memory:
    """What etcd would hold for the rule."""

    def __init__(self, rule: Rule, token_slack_ms: int) -> None:
        self._rule = rule
        self._token_ms = rule.rate.window_s * 1000 + token_slack_ms if rule.rate else 0
        self._holders: dict[str, Held] = {}
        self._failures: dict[str, str] = {}
        self._tokens: deque[tuple[int, int]] = deque()
        """(when it expires, number), by time."""
        self._slots: frozenset[int] | None = frozenset()

    @property
    def holders(self) -> Mapping[str, Held]:
        return self._holders

    def look(self, host: str, at: int) -> View:
        """What the gate sees when this host asks."""
        while self._tokens and self._tokens[0][0] <= at:
            self._tokens.popleft()
        if self._slots is None:
            self._slots = frozenset(held.slot for held in self._holders.values())
        starts = frozenset(number for _, number in self._tokens)
        held = self._holders.get(host)
        return View(self._rule, self._slots, starts, self._failures, None, held)

    def find_expiry(self) -> int | None:
        """When the first start counts no more."""
        return self._tokens[0][0] if self._tokens else None

    def take(self, host: str, grant: Grant, ask: Ask, at: int) -> None:
        """Write down a start, on the host's own slot where it has one."""
        slot = grant.slots[0] if grant.slots else self._holders[host].slot
        self._holders[host] = Held(
            ask.daemon, f"{host}-{at}", ask.operation, ask.target, at / 1000, slot=slot
        )
        self._failures.pop(host, None)
        self._slots = None
        if grant.tokens:
            self._tokens.append((at + self._token_ms, grant.tokens[0]))

    def tell_failed(self, host: str) -> None:
        """The host's operation failed; told by a host that holds nothing, it is not heard."""
        held = self._holders.get(host)
        if held is not None:
            self._holders[host] = replace(held, state="failed")
            self._failures[host] = held.target

    def tell_settling(self, host: str) -> None:
        self._holders[host] = replace(self._holders[host], state="settling")
        self._failures.pop(host, None)

    def drop(self, host: str) -> bool:
        """The slot is given back, or taken away; whether there was one."""
        self._failures.pop(host, None)
        self._slots = None
        return self._holders.pop(host, None) is not None


@dataclass
class VirtualHost:
    """A host, its daemon and its luck."""

    number: int
    name: str
    random: Random
    """Its own, so that its luck does not hang on when others act."""
    phase: int
    """Its passes begin so long after each multiple of the interval."""
    state: HostState = "waiting"
    tried: str = ""
    """The version that it started with last."""
    has: str = ""
    attempt: int = 0
    is_bad: bool = False
    is_free: bool = False
    """The last start needed no slot."""
    is_dead: bool = False
    heard: int = 0
    """When it was heard of last, if it is dead."""
    queue: Queue | None = None


class Queue:
    """Idle hosts of which one is refused like any other, woken in the order of their passes.

    Asking at every pass of every host would end the same: while nothing changes, the answer does
    not either.
    """

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._waiting: list[tuple[int, int]] = []
        """(phase, number), sorted."""
        self.due: tuple[int, int] | None = None
        """The pass, (time, number), in which somebody asks next."""
        self.refusal: Deferral | None = None
        """What the last one who asked was told."""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, host: VirtualHost) -> None:
        insort(self._waiting, (host.phase, host.number))
        host.queue = self

    def discard(self, host: VirtualHost) -> None:
        del self._waiting[bisect_left(self._waiting, (host.phase, host.number))]
        host.queue = None

    def find_pass(self, at: int, number: int = 0) -> tuple[int, int] | None:
        """The first pass not before `at`, and at that moment none of a host before `number`."""
        if not self._waiting:
            return None
        cycle, offset = divmod(at, self._interval)
        place = bisect_left(self._waiting, (offset, number))
        if place == len(self._waiting):
            cycle, place = cycle + 1, 0
        phase, found = self._waiting[place]
        return cycle * self._interval + phase, found


def find_own_pass(host: VirtualHost, at: int, interval: int) -> int:
    """The host's first pass not before `at`."""
    return at + (host.phase - at) % interval


def find_loss(host: VirtualHost, at: int, interval: int, lost_after: int) -> int | None:
    """When others may have the slot, if nothing more is heard of the host; None: it is heard of."""
    if host.is_dead:
        return host.heard + lost_after
    # While it works a host says again and again that it lives.
    if host.state == "working" or interval <= lost_after:
        return None
    last_pass = find_own_pass(host, at, interval)
    last_pass -= interval if last_pass > at else 0
    return max(host.heard, last_pass) + lost_after


def find_reopening(rule: Rule, start: float, at: int) -> int:
    """When nothing of the calendar is in the way any more; `start` is seconds since 1970."""
    return ceil((find_opening(rule, start + at / 1000) - start) * 1000)


def make_hosts(scenario: Scenario, interval: int, random: Random) -> list[VirtualHost]:
    width = len(str(scenario.hosts))
    return [
        VirtualHost(
            number,
            f"host-{number + 1:0{width}}",
            Random(random.getrandbits(64)),  # noqa: S311 - a simulation is no secret
            _draw_phase(scenario, number, interval, random),
        )
        for number in range(scenario.hosts)
    ]


def _draw_phase(scenario: Scenario, number: int, interval: int, random: Random) -> int:
    if scenario.phases_s:
        return to_ms(scenario.phases_s[number]) % interval
    return random.randrange(interval)


def to_ms(seconds: float) -> int:
    return round(seconds * 1000)
