"""Play a rollout on a virtual fleet and clock. Pure: chance is a parameter.

Who may start is asked of `decide`, as the gate does; nothing here knows a rule's limits.
"""

from __future__ import annotations

from dataclasses import replace
from heapq import heappop, heappush
from random import Random

from ya_salt.model import Deferral
from ya_salt.rollout.decide import Decision, Grant, NoSlotNeeded, decide
from ya_salt.rollout.gate import RULE_PREFIX, Ask, Identity
from ya_salt.rollout.logbook import Logbook
from ya_salt.rollout.simulated import MAX_EVENTS, HostState, Outcome, Result, Scenario
from ya_salt.rollout.virtual import (
    Kind,
    Memory,
    Queue,
    VirtualHost,
    find_loss,
    find_own_pass,
    find_reopening,
    make_hosts,
    to_ms,
)


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
        self._memory = Memory(self._rule, to_ms(scenario.token_slack_s))
        self._book = Logbook(scenario)
        self._ask = Ask(self._rule.name.removeprefix(RULE_PREFIX), scenario.operation, "new")
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
        self._retrying = Queue(self._interval)
        self._queues = (self._waiting, self._holding, self._retrying)

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
        healthy = self._rule.min_healthy_s * 1000
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
        if self._waiting or self._holding:
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
        is_busy = state == "working" or host.name in self._memory.holders
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
            return self._holding
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

    def _judge(self) -> tuple[Outcome, Deferral | None]:
        is_moving = bool(self._book.count("working") or self._retrying)
        queue = self._waiting or self._holding
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
