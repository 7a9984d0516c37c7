"""Keep the log of a simulated rollout and sum it up. Pure."""

from __future__ import annotations

from collections import Counter, deque

from ya_salt.model import Deferral
from ya_salt.rollout.simulated import (
    STATES,
    Halt,
    Happening,
    HostState,
    Outcome,
    Result,
    Scenario,
    What,
)
from ya_salt.rollout.virtual import VirtualHost

_PERCENTS = (1, 10, 25, 50, 75, 90, 100)


class Logbook:
    """What happened, when (milliseconds since the start), to whom."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._log: list[Happening] = []
        self._states: Counter[HostState] = Counter({"waiting": scenario.hosts})
        self._touched: dict[str, set[int]] = {}
        self._busy: set[int] = set()
        self._max_at_once = 0
        self._had: dict[str, list[int]] = {}
        self._starts: list[int] = []
        self._halts: list[Halt] = []
        self._is_halted = False
        self._last_failure = Halt(0.0, 0, 0, 0)
        self.last_at = 0
        """When anything happened last, but for slots that were given back."""
        self.asked = 0
        self.robbed = 0
        self.repaired_at: int | None = None

    def note(self, at: int, host: VirtualHost, what: What) -> None:
        self._log.append(Happening(at / 1000, host.name, what, host.tried))
        if what not in {"released", "freed"}:
            self.last_at = at
        if what == "succeeded":
            self._had.setdefault(host.tried, []).append(at)
        elif what == "failed":
            self._last_failure = self._see_failure(at, host.tried)
        elif what == "started":
            self._note_start(at, host)

    def _note_start(self, at: int, host: VirtualHost) -> None:
        self._starts.append(at)
        self._touched.setdefault(host.tried, set()).add(host.number)
        if self._is_halted:
            self._halts[-1].resumed_at_s = at / 1000
            self._is_halted = False

    def _see_failure(self, at: int, target: str) -> Halt:
        states = self._states
        touched = len(self._touched.get(target, ()))
        return Halt(at / 1000, touched, states["failed"], states["working"])

    def note_halt(self) -> float:
        """The gate says so; since when it does, in seconds."""
        if not self._is_halted:
            self._halts.append(self._last_failure)
            self._is_halted = True
        return self._halts[-1].at_s

    def note_state(self, host: VirtualHost, state: HostState, *, is_busy: bool) -> None:
        """`is_busy`: it is at it, or holds a slot."""
        self._states[host.state] -= 1
        self._states[state] += 1
        host.state = state
        if is_busy:
            self._busy.add(host.number)
        else:
            self._busy.discard(host.number)
        self._max_at_once = max(self._max_at_once, len(self._busy))

    def count(self, *states: HostState) -> int:
        return sum(self._states[state] for state in states)

    def sum_up(self, outcome: Outcome, refusal: Deferral | None, target: str, end: int) -> Result:
        """`target` is the last version; `end` is when time was over, for what is unfinished."""
        return Result(
            scenario=self._scenario,
            outcome=outcome,
            refusal=refusal,
            duration_s=self._find_end(outcome, end),
            states={state: self._states[state] for state in STATES},
            disturbed=len(set().union(*self._touched.values())),
            max_at_once=self._max_at_once,
            max_starts=self._count_starts(),
            robbed=self.robbed,
            timeline=self._make_timeline(target),
            halts=tuple(self._halts),
            repaired_at_s=None if self.repaired_at is None else self.repaired_at / 1000,
            asked=self.asked,
            log=tuple(self._log),
        )

    def _find_end(self, outcome: Outcome, end: int) -> float:
        if outcome == "halted":
            return self._halts[-1].at_s
        return (end if outcome == "unfinished" else self.last_at) / 1000

    def _count_starts(self) -> int:
        rate = self._scenario.rule.rate
        if rate is None:
            return 0
        most, window = 0, deque[int]()
        for at in self._starts:
            window.append(at)
            while window[0] <= at - rate.window_s * 1000:
                window.popleft()
            most = max(most, len(window))
        return most

    def _make_timeline(self, target: str) -> tuple[tuple[float, int], ...]:
        had, hosts = self._had.get(target, []), self._scenario.hosts
        # The one that brings it to so many percent of the fleet, counted from 1.
        marks = [(percent, -(-hosts * percent // 100)) for percent in _PERCENTS]
        return tuple((had[mark - 1] / 1000, percent) for percent, mark in marks if mark <= len(had))
