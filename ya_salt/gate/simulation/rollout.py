"""Play a rollout on a virtual fleet and clock. Pure: chance is a parameter.

Who may start is asked of `decide`, as the gate does; nothing here knows a rule's limits.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Mapping
from enum import IntEnum
from heapq import heappop, heappush
from math import ceil
from random import Random

from ya_salt.gate.decide import Decision, Grant, NoSlotNeeded, View, decide
from ya_salt.gate.protocol import RULE_PREFIX, Identity, Slot, SlotRequest
from ya_salt.gate.rule import Rule
from ya_salt.gate.simulation.result import (
    MAX_EVENTS,
    STATES,
    Ending,
    Halt,
    Happening,
    HostState,
    Result,
    Scenario,
    What,
)
from ya_salt.gate.windows import find_opening
from ya_salt.model import Deferral
from ya_salt.quick_dataclass import dataclass, replace


def simulate(scenario: Scenario, random: Random) -> Result:
    """Run until nothing can change any more, or until the scenario's time is over.

    The same scenario and state of `random` give the same result.
    """
    return _Rollout(scenario, random).run()


class _Rollout:
    def __init__(self, scenario: Scenario, random: Random) -> None:
        self._scenario = scenario
        self._rule = scenario.rule
        self._interval = to_ms(scenario.pass_interval_s)
        self._end = to_ms(scenario.max_time_s)
        self._memory = HostMemory(self._rule, to_ms(scenario.token_slack_s))
        self._book = Logbook(scenario)
        self._ask = SlotRequest(
            self._rule.name.removeprefix(RULE_PREFIX), scenario.operation, "new"
        )
        self._hosts = make_hosts(scenario, self._interval, random)
        self._by_name = {host.name: host for host in self._hosts}
        self._facts = scenario.choose_facts()
        self._events: list[tuple[int, int, int, int]] = []
        """(when, kind, host's number, its attempt; for ASK the queue's number)."""
        self._events_left = MAX_EVENTS
        self._now = 0
        self._is_repair_planned = scenario.repair_after_s is None
        self._waiting = Queue(self._interval)
        """Hosts without a slot."""
        self._holding = Queue(self._interval)
        """Hosts that have a slot and want another version than they took it for."""
        self._failed = Queue(self._interval)
        """Hosts that failed, and want another version than that."""
        self._retrying = Queue(self._interval)
        self._queues = (self._waiting, self._holding, self._failed, self._retrying)

    def run(self) -> Result:
        for host in self._hosts:
            self._line_up(host, 0)
        while self._step() or self._plan_repair_where_stuck():
            pass
        end = self._end if self._events_left else self._now
        return self._book.sum_up(*self._judge(), self._ask.target, end)

    def _step(self) -> bool:
        if not self._events or self._events[0][0] > self._end or not self._events_left:
            return False
        self._events_left -= 1
        self._now, kind, number, tag = heappop(self._events)
        at = self._now
        if kind == Kind.ASK:
            self._let_ask(self._queues[tag], at, number)
        elif kind == Kind.REPAIR:
            self._repair(at)
        elif self._hosts[number].attempt == tag and self._hosts[number].state != "waiting":
            self._happen(Kind(kind), self._hosts[number], at)
        return True

    def _happen(self, kind: Kind, host: VirtualHost, at: int) -> None:
        if kind == Kind.DEATH:
            self._die(host, at)
        elif kind == Kind.SETTLED:
            self._give_back(host, at)
        elif host.is_bad:
            self._fail(host, at)
        else:
            self._succeed(host, at)
        self._line_up(host, at)
        for queue in self._queues:
            self._wake(queue, at)

    # -- asking ------------------------------------------------------------------------------------

    def _wake(self, queue: Queue, at: int, number: int = 0) -> None:
        """Let somebody ask in the first pass from then on."""
        due = queue.find_pass(at, number)
        if due is not None and (queue.due is None or due < queue.due):
            queue.due = due
            heappush(self._events, (due[0], Kind.ASK, due[1], self._queues.index(queue)))

    def _let_ask(self, queue: Queue, at: int, number: int) -> None:
        if queue.due != (at, number):
            return
        queue.due = None
        host = self._hosts[number]
        # Whose turn it was may have gone to another queue since.
        answer = self._decide(host, at) if host.queue is queue else None
        if isinstance(answer, Deferral):
            self._sleep(queue, at, answer)
            return
        if answer is not None:
            queue.discard(host)
            self._start(host, answer, at)
        self._wake(queue, at, number)

    def _decide(self, host: VirtualHost, at: int) -> Decision:
        answer = self._foresee(host.name, at)
        is_full = isinstance(answer, Deferral) and answer.reason == "Full"
        if is_full and self._rule.on_lost == "free" and self._free_lost(at):
            answer = self._foresee(host.name, at)
        return answer

    def _foresee(self, name: str, at: int) -> Decision:
        self._book.asked += 1
        identity = Identity(name, {"hostname": name, **self._facts})
        now = self._scenario.start + at / 1000
        return decide(self._memory.look(name, at), identity, self._ask, now)

    def _sleep(self, queue: Queue, at: int, refusal: Deferral) -> None:
        """Until something happens, or until the passing of time can change the answer."""
        queue.refusal = refusal
        self._note_halt(refusal)
        until = self._find_change(refusal, at)
        if until is not None:
            self._wake(queue, max(until, at + 1))

    def _find_change(self, refusal: Deferral, at: int) -> int | None:
        match refusal.reason:
            case "RateLimited":
                return self._memory.find_expiry()
            case "Frozen" | "OutsideWindow":
                opening = find_reopening(self._rule, self._scenario.start, at)
                return opening if opening <= self._end else None
            case "Full" if self._rule.on_lost == "free":
                return min(self._find_losses(at).values(), default=None)
        return None

    # -- starting and ending -----------------------------------------------------------------------

    def _start(self, host: VirtualHost, answer: Decision, at: int) -> None:
        is_first = host.tried != self._ask.target
        if is_grant := isinstance(answer, Grant):
            self._memory.take(host.name, answer, self._ask, at)
        host.attempt += 1
        host.tried = self._ask.target
        host.is_free = isinstance(answer, NoSlotNeeded)
        self._mark(host, "working")
        self._book.note(at, host, "started" if is_first or is_grant else "retried")
        self._draw_fate(host, at, is_first=is_first)

    def _draw_fate(self, host: VirtualHost, at: int, *, is_first: bool) -> None:
        scenario, is_repaired = self._scenario, self._book.repaired_at is not None
        luck, fate = host.random.random(), host.random.random()
        took = max(1, to_ms(host.random.uniform(*scenario.op_time_s)))
        if is_first:
            rate = scenario.repaired_failure_rate if is_repaired else scenario.failure_rate
            host.is_bad = luck < rate
        elif luck < scenario.retry_success_rate:
            host.is_bad = False
        if is_first and fate < scenario.lost_rate:
            self._plan(at + took // 2, Kind.DEATH, host)
        else:
            self._plan(at + took, Kind.END, host)

    def _plan(self, at: int, kind: Kind, host: VirtualHost) -> None:
        heappush(self._events, (at, kind, host.number, host.attempt))

    def _succeed(self, host: VirtualHost, at: int) -> None:
        host.has, host.heard = host.tried, at
        self._book.note(at, host, "succeeded")
        healthy = to_ms(self._scenario.find_settling_s())
        if not healthy or host.name not in self._memory.holders:
            self._give_back(host, at)
            return
        self._memory.tell_settling(host.name)
        self._mark(host, "settling")
        self._plan(find_own_pass(host, at + healthy, self._interval), Kind.SETTLED, host)

    def _fail(self, host: VirtualHost, at: int) -> None:
        host.heard = at
        self._memory.tell_failed(host.name)
        self._mark(host, "failed")
        self._book.note(at, host, "failed")
        if self._waiting or self._holding or self._failed:
            # Somebody who looks on sees it at once, the next host in its next pass.
            self._note_halt(self._foresee("", at))

    def _note_halt(self, answer: Decision) -> None:
        if isinstance(answer, Deferral) and answer.reason == "Halted":
            self._plan_repair(self._book.note_halt())

    def _die(self, host: VirtualHost, at: int) -> None:
        host.is_dead, host.heard = True, at
        self._mark(host, "lost")
        self._book.note(at, host, "died")

    def _give_back(self, host: VirtualHost, at: int) -> None:
        if self._memory.drop(host.name):
            self._book.note(at, host, "released")
        self._mark(host, "done")

    def _mark(self, host: VirtualHost, state: HostState) -> None:
        is_busy = state == "working" or self._memory.has_number(host.name)
        self._book.note_state(host, state, is_busy=is_busy)

    def _line_up(self, host: VirtualHost, at: int) -> None:
        """Put an idle host where it belongs."""
        if host.queue is not None:
            host.queue.discard(host)
        queue = self._choose_queue(host)
        if queue is not None:
            queue.add(host)
            self._wake(queue, at)

    def _choose_queue(self, host: VirtualHost) -> Queue | None:
        if host.is_dead or host.state == "working" or host.has == self._ask.target:
            return None
        is_holding = host.name in self._memory.holders
        if host.tried == self._ask.target and (is_holding or host.is_free):
            # Tries that must fail change nothing: its slot is held, and it is heard of.
            return self._retrying if self._scenario.retry_success_rate else None
        if is_holding:
            return self._holding if self._memory.has_number(host.name) else self._failed
        self._mark(host, "waiting")
        return self._waiting

    # -- lost hosts --------------------------------------------------------------------------------

    def _find_losses(self, at: int) -> dict[str, int]:
        after, hosts = self._rule.lost_after_s * 1000, self._memory.holders
        found = {name: find_loss(self._by_name[name], at, self._interval, after) for name in hosts}
        return {name: loss for name, loss in found.items() if loss is not None}

    def _free_lost(self, at: int) -> bool:
        lost = [name for name, loss in self._find_losses(at).items() if loss <= at]
        for name in lost:
            host = self._by_name[name]
            self._memory.drop(name)
            self._mark(host, host.state)
            self._book.note(at, host, "freed")
            self._book.robbed += not host.is_dead
            self._line_up(host, at)
        return bool(lost)

    # -- the repaired version ----------------------------------------------------------------------

    def _plan_repair(self, stopped_s: float) -> None:
        if not self._is_repair_planned and self._scenario.repair_after_s is not None:
            self._is_repair_planned = True
            when = max(self._now + 1, to_ms(stopped_s + self._scenario.repair_after_s))
            heappush(self._events, (when, Kind.REPAIR, 0, 0))

    def _plan_repair_where_stuck(self) -> bool:
        if self._events or self._is_repair_planned or self._judge()[0] != "stuck":
            return False
        self._plan_repair(self._book.last_at / 1000)
        return True

    def _repair(self, at: int) -> None:
        self._ask = replace(self._ask, target="repaired")
        self._book.repaired_at = at
        for queue in self._queues:
            queue.refusal = None
        for host in self._hosts:
            self._line_up(host, at)

    # -- the end -----------------------------------------------------------------------------------

    def _judge(self) -> tuple[Ending, Deferral | None]:
        is_moving = bool(self._book.count("working") or self._retrying)
        queue = self._waiting or self._holding or self._failed
        if not queue:
            return "unfinished" if is_moving else "done", None
        is_asleep = queue.due is None
        match queue.refusal.reason if queue.refusal else "":
            case "Halted":
                return "halted", queue.refusal
            case "NotSelected":
                return "unselected", queue.refusal
            case "Frozen" | "OutsideWindow" if is_asleep:
                return "closed", queue.refusal
            case "Full" if is_asleep and not is_moving and not self._book.count("settling"):
                return "stuck", queue.refusal
        return "unfinished", queue.refusal


# -- hosts, and what they leave at the gate ------------------------------------------------------


class Kind(IntEnum):
    """What an event is. At the same moment what ends comes before what begins."""

    END = 0
    DEATH = 1
    SETTLED = 2
    REPAIR = 3
    ASK = 4


class HostMemory:
    """What etcd would hold for the rule."""

    def __init__(self, rule: Rule, token_slack_ms: int) -> None:
        self._rule = rule
        self._token_ms = rule.rate.window_s * 1000 + token_slack_ms if rule.rate else 0
        self._holders: dict[str, Slot] = {}
        self._failures: dict[str, str] = {}
        self._tokens: deque[tuple[int, int]] = deque()
        """(when it expires, number), by time."""
        self._slots: frozenset[int] | None = frozenset()

    @property
    def holders(self) -> Mapping[str, Slot]:
        return self._holders

    def look(self, host: str, at: int) -> View:
        """What the gate sees when this host asks."""
        while self._tokens and self._tokens[0][0] <= at:
            self._tokens.popleft()
        if self._slots is None:
            numbers = (held.slot for held in self._holders.values())
            self._slots = frozenset(number for number in numbers if number >= 0)
        starts = frozenset(number for _, number in self._tokens)
        held = self._holders.get(host)
        failed = self._failures
        return View(self._rule, self._slots, starts, failed, failed.keys(), held=held)

    def has_number(self, host: str) -> bool:
        """Whether it is one of those of which there may be so many at once."""
        held = self._holders.get(host)
        return held is not None and held.slot >= 0

    def find_expiry(self) -> int | None:
        """When the first start counts no more."""
        return self._tokens[0][0] if self._tokens else None

    def take(self, host: str, grant: Grant, ask: SlotRequest, at: int) -> None:
        """Write down a start, on the host's own slot where it has one."""
        slot = grant.slots[0] if grant.slots else self._holders[host].slot
        self._holders[host] = Slot(
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
            self._holders[host] = replace(held, state="failed", slot=-1)
            self._failures[host] = held.target
            self._slots = None

    def tell_settling(self, host: str) -> None:
        """Who has failed stays so until it gives its slot back."""
        held = self._holders[host]
        if held.state != "failed":
            self._holders[host] = replace(held, state="settling")

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


# -- how it went ---------------------------------------------------------------------------------

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

    def sum_up(self, outcome: Ending, refusal: Deferral | None, target: str, end: int) -> Result:
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

    def _find_end(self, outcome: Ending, end: int) -> float:
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
