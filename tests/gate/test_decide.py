"""Who may start: every reason of a no, and that no interleaving of askers goes over the limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ya_salt.gate.decide import (
    Decision,
    GoOn,
    Grant,
    NoSlotNeeded,
    Pause,
    View,
    decide,
    find_free_slots,
)
from ya_salt.gate.protocol import REMOVAL, Identity, Slot, SlotRequest
from ya_salt.gate.rule import Freeze, Rate, Rule, Window
from ya_salt.model import Deferral

NOW = 1_790_000_000.0
NAME = "porto-daemon-d"
HOST = Identity("a", {"hostname": "a", "dc": "sas"})
UPDATE = SlotRequest("d", "update", "2")
INSTALL = SlotRequest("d", "install", "2")
HELD = Slot("d", "id1", "update", "2", NOW - 60)
RULE = Rule(NAME, max_concurrent=2)
PAUSE = Pause("bad metrics", "alice", NOW - 60)
NEVER = (Freeze(NOW - 1, NOW + 3600, "holidays"),)


def rule_with(**changes: Any) -> Rule:
    return replace(RULE, **changes)


def view_with(changed: Rule = RULE, **changes: Any) -> View:
    return View(changed, **changes)


ALLOWED: list[tuple[str, View, SlotRequest, Decision]] = [
    ("no slot is held: any slot", View(RULE), UPDATE, Grant((0, 1), ())),
    ("one slot is held: the other slot", view_with(slots=frozenset({0})), UPDATE, Grant((1,), ())),
    (
        "a host with the fact",
        View(rule_with(selector={"dc": ("vla", "sas")})),
        UPDATE,
        Grant((0, 1), ()),
    ),
    (
        "tokens are left",
        View(rule_with(rate=Rate(3, 60)), starts=frozenset({1})),
        UPDATE,
        Grant((0, 1), (0, 2)),
    ),
    ("a first install is gated by default", View(RULE), INSTALL, Grant((0, 1), ())),
    (
        "a first install that needs no slot",
        View(rule_with(first_install="allow")),
        INSTALL,
        NoSlotNeeded(),
    ),
    (
        "a first install is let through whatever holds others up",
        View(
            rule_with(first_install="allow", freeze=NEVER, rate=Rate(1, 60)),
            slots=frozenset({0, 1}),
            starts=frozenset({0}),
            failures={"b": "2"},
            pause=PAUSE,
        ),
        INSTALL,
        NoSlotNeeded(),
    ),
    (
        "a first install on a host with a slot of something else takes that slot along",
        View(rule_with(first_install="allow"), held=replace(HELD, target="1")),
        INSTALL,
        Grant((), ()),
    ),
    ("what was started goes on", view_with(held=HELD, slots=frozenset({0, 1})), UPDATE, GoOn()),
    ("what failed is tried again", view_with(held=replace(HELD, state="failed")), UPDATE, GoOn()),
    (
        "what was started goes on without another token, and though the version is halted",
        View(
            rule_with(rate=Rate(1, 60)),
            held=HELD,
            starts=frozenset({0}),
            failures={"b": "2"},
        ),
        UPDATE,
        GoOn(),
    ),
    (
        "another version on the slot that the host has",
        view_with(held=replace(HELD, target="1", state="failed"), slots=frozenset({0, 1})),
        UPDATE,
        Grant((), ()),
    ),
    (
        "another version on the slot that the host has takes a token",
        View(rule_with(rate=Rate(2, 60)), held=replace(HELD, target="1"), starts=frozenset({0})),
        UPDATE,
        Grant((), (1,)),
    ),
    (
        "an update that was cut short goes on as a restart",
        view_with(held=HELD),
        SlotRequest("d", "restart", "2"),
        GoOn(),
    ),
    (
        "the same once more while the daemon settles is a new start",
        view_with(held=replace(HELD, state="settling")),
        UPDATE,
        Grant((), ()),
    ),
    ("another version failed", view_with(failures={"b": "1"}), UPDATE, Grant((0, 1), ())),
    (
        "others failed with another version: they are in nobody's way",
        View(
            rule_with(max_concurrent=1), failures={"b": "1", "c": "1"}, aside=frozenset({"b", "c"})
        ),
        UPDATE,
        Grant((0,), ()),
    ),
    (
        "who failed with this version keeps its part of what may be at it",
        View(rule_with(max_failures=None), failures={"b": "2", "c": "1"}, aside=frozenset("bc")),
        UPDATE,
        Grant((0,), ()),
    ),
    (
        "another version where one failed takes a slot as on any other host",
        view_with(
            held=replace(HELD, target="1", state="failed"),
            slots=frozenset({0}),
            failures={"a": "1"},
            aside=frozenset("a"),
        ),
        UPDATE,
        Grant((1,), ()),
    ),
    (
        "what failed is tried again, whoever is at it meanwhile",
        view_with(
            held=replace(HELD, state="failed"),
            slots=frozenset({0, 1}),
            failures={"a": "2"},
            aside=frozenset("a"),
        ),
        UPDATE,
        GoOn(),
    ),
    (
        "fewer failed than halt it",
        View(rule_with(max_failures=2), failures={"b": "2"}),
        UPDATE,
        Grant((0, 1), ()),
    ),
    (
        "any number may fail",
        View(rule_with(max_failures=None), failures=dict.fromkeys("bcdefgh", "2")),
        UPDATE,
        Grant((0, 1), ()),
    ),
    (
        "the host's own failure does not keep it from another try",
        view_with(failures={"a": "2"}),
        UPDATE,
        Grant((0, 1), ()),
    ),
    (
        "the freeze is over",
        View(rule_with(freeze=(Freeze(NOW - 9, NOW),))),
        UPDATE,
        Grant((0, 1), ()),
    ),
]

DEFERRED: list[tuple[str, View, SlotRequest, str, str]] = [
    (
        "all slots are taken",
        view_with(slots=frozenset({0, 1})),
        UPDATE,
        "Full",
        "2 of 2 slots in use; ",
    ),
    (
        "all slots are taken, some by hosts that failed with another version",
        view_with(slots=frozenset({0, 1}), failures={"b": "1"}),
        UPDATE,
        "Full",
        "2 of 2 slots in use: b (failed); ",
    ),
    (
        "those that failed with this version are as many as may be at it",
        View(rule_with(max_failures=None), failures={"b": "2", "c": "2"}, aside=frozenset("bc")),
        UPDATE,
        "Full",
        "2 of 2 slots in use: b, c (failed); ",
    ),
    (
        "one is at it, and one failed with this version",
        View(
            rule_with(max_failures=None),
            slots=frozenset({1}),
            failures={"b": "2"},
            aside=frozenset("b"),
        ),
        UPDATE,
        "Full",
        "2 of 2 slots in use: b (failed); ",
    ),
    (
        "another version where one failed, while as many as may be are at it",
        view_with(
            held=replace(HELD, target="1", state="failed"),
            slots=frozenset({0, 1}),
            failures={"a": "1"},
            aside=frozenset("a"),
        ),
        UPDATE,
        "Full",
        "2 of 2 slots in use; ",
    ),
    (
        "more slots are held than the lowered limit",
        view_with(slots=frozenset({5, 6, 7})),
        UPDATE,
        "Full",
        "3 of 2 slots in use; ",
    ),
    (
        "as many slots are held as the lowered limit, on higher slots",
        view_with(slots=frozenset({6, 7})),
        UPDATE,
        "Full",
        "2 of 2 slots in use; ",
    ),
    (
        "the tokens are used up",
        View(rule_with(rate=Rate(2, 60)), starts=frozenset({0, 1})),
        UPDATE,
        "RateLimited",
        " of 2 starts in 60 s used",
    ),
    (
        "the rate was lowered and more have started than it lets now",
        View(rule_with(rate=Rate(2, 60)), starts=frozenset({5, 6, 7})),
        UPDATE,
        "RateLimited",
        " of 2 starts in 60 s used",
    ),
    (
        "a new start on the host's own slot waits for a token",
        View(rule_with(rate=Rate(1, 60)), held=replace(HELD, target="1"), starts=frozenset({0})),
        UPDATE,
        "RateLimited",
        "porto-daemon-d: 1 of 1 starts in 60 s used",
    ),
    (
        "the version failed elsewhere",
        view_with(failures={"b": "2", "c": "1"}),
        UPDATE,
        "Halted",
        "version 2 failed on b, and porto-daemon-d halts at 1 failed host; ",
    ),
    (
        "the version failed on many, and this host has a slot for another one",
        View(
            rule_with(max_failures=4),
            failures=dict.fromkeys("fedcb", "2"),
            held=replace(HELD, target="1"),
        ),
        UPDATE,
        "Halted",
        "version 2 failed on b, c, d and 2 more, and porto-daemon-d halts at 4 failed hosts; ",
    ),
    (
        "a removal failed elsewhere",
        view_with(failures={"b": REMOVAL}),
        SlotRequest("d", "remove", REMOVAL),
        "Halted",
        "the removal failed on b, and porto-daemon-d halts at 1 failed host; ",
    ),
    (
        "it is paused, even for what was started: it is asked right before something is disturbed",
        view_with(pause=PAUSE, held=HELD),
        UPDATE,
        "Paused",
        "porto-daemon-d is paused by alice: bad metrics;"
        " orlyctl resume porto-daemon-d lets it go on",
    ),
    (
        "it is paused by nobody knows whom",
        view_with(pause=Pause("", "", 0.0)),
        UPDATE,
        "Paused",
        "porto-daemon-d is paused; orlyctl resume porto-daemon-d lets it go on",
    ),
    (
        "it is frozen",
        View(rule_with(freeze=NEVER), held=HELD),
        UPDATE,
        "Frozen",
        "porto-daemon-d is frozen until 2026-09-21 15:13 UTC: holidays",
    ),
    (
        "it is outside its windows",
        View(rule_with(windows=(Window(frozenset({6}), 600, 660),))),
        UPDATE,
        "OutsideWindow",
        "porto-daemon-d is outside its windows; it opens Sun 2026-09-27 10:00 UTC",
    ),
    (
        "a fact has another value, even for a first install that needs no slot",
        View(rule_with(selector={"dc": ("vla", "man")}, first_install="allow")),
        INSTALL,
        "NotSelected",
        "porto-daemon-d is for hosts with dc: vla, man; this one has dc: sas (setting gate.facts)",
    ),
    (
        "a fact is missing, whatever else matches",
        View(rule_with(selector={"dc": ("sas",), "stage": ("test",)}), held=HELD),
        UPDATE,
        "NotSelected",
        "porto-daemon-d is for hosts with stage: test; this one has no fact stage"
        " (setting gate.facts)",
    ),
]


@pytest.mark.parametrize(
    ("view", "ask", "decision"), [pytest.param(*row, id=it) for it, *row in ALLOWED]
)
def test_may_start(view: View, ask: SlotRequest, decision: Decision) -> None:
    assert decide(view, HOST, ask, NOW) == decision


@pytest.mark.parametrize(
    ("view", "ask", "reason", "message"), [pytest.param(*row, id=it) for it, *row in DEFERRED]
)
def test_has_to_wait(view: View, ask: SlotRequest, reason: str, message: str) -> None:
    found = decide(view, HOST, ask, NOW)
    assert isinstance(found, Deferral)
    assert found.reason == reason
    assert message in found.message


SLOTS = st.frozensets(st.integers(0, 12), max_size=13)


@given(st.integers(1, 8), SLOTS)
def test_a_slot_is_free_exactly_while_fewer_are_at_it_than_may_be(
    limit: int, taken: frozenset[int]
) -> None:
    free = find_free_slots(limit, taken)
    assert bool(free) == (len(taken) < limit)
    assert not taken & set(free)
    assert all(0 <= slot < limit for slot in free)
    if not any(slot >= limit for slot in taken):
        assert set(free) == set(range(limit)) - taken


def test_all_slots_are_found_at_the_highest_limit() -> None:
    assert len(find_free_slots(10_000, frozenset(range(0, 10_000, 2)))) == 5_000


class Fleet(RuleBasedStateMachine):
    """etcd's part of the bargain: views are of one moment, a commit is refused where the rule, the
    slot or the token is not as it was seen. Everything between may happen in any order."""

    views = Bundle("views")

    def __init__(self) -> None:
        super().__init__()
        self.rule = Rule(NAME, max_concurrent=3, rate=Rate(3, 60))
        self.revision = 0
        self.slots: set[int] = set()
        self.starts: set[int] = set()
        self.most_slots = self.most_starts = 3

    @rule(target=views)
    def look(self) -> tuple[int, Decision]:
        view = View(self.rule, frozenset(self.slots), frozenset(self.starts))
        return self.revision, decide(view, HOST, UPDATE, NOW)

    @rule(view=st.one_of(views, consumes(views)), slot=st.integers(0), token=st.integers(0))
    def take(self, view: tuple[int, Decision], slot: int, token: int) -> None:
        revision, decision = view
        if revision != self.revision or not isinstance(decision, Grant):
            return
        chosen = decision.slots[slot % len(decision.slots)]
        start = decision.tokens[token % len(decision.tokens)]
        if chosen in self.slots or start in self.starts:
            return
        self.slots.add(chosen)
        self.starts.add(start)
        assert len(self.slots) <= self.rule.max_concurrent
        assert self.rule.rate is not None
        assert len(self.starts) <= self.rule.rate.count

    @precondition(lambda self: self.slots)
    @rule(number=st.integers(0))
    def give_back(self, number: int) -> None:
        self.slots.remove(sorted(self.slots)[number % len(self.slots)])
        self._forget()

    @precondition(lambda self: self.starts)
    @rule(number=st.integers(0))
    def let_expire(self, number: int) -> None:
        self.starts.remove(sorted(self.starts)[number % len(self.starts)])
        self._forget()

    @rule(limit=st.integers(1, 6), count=st.integers(1, 6))
    def apply(self, limit: int, count: int) -> None:
        self.rule = replace(self.rule, max_concurrent=limit, rate=Rate(count, 60))
        self.revision += 1
        self.most_slots, self.most_starts = len(self.slots), len(self.starts)

    def _forget(self) -> None:
        """What was over the limit when it was lowered may go down, never up again."""
        self.most_slots = min(self.most_slots, max(len(self.slots), self.rule.max_concurrent))
        assert self.rule.rate is not None
        self.most_starts = min(self.most_starts, max(len(self.starts), self.rule.rate.count))

    @invariant()
    def nothing_is_over(self) -> None:
        assert self.rule.rate is not None
        assert len(self.slots) <= max(self.rule.max_concurrent, self.most_slots)
        assert len(self.starts) <= max(self.rule.rate.count, self.most_starts)


def test_no_order_of_looking_and_acting_goes_over_the_limit_or_the_rate() -> None:
    limits = settings(max_examples=100, stateful_step_count=50, deadline=None)
    run_state_machine_as_test(Fleet, settings=limits)


Finder = Callable[[int, frozenset[int]], tuple[int, ...]]
Slots = frozenset[int]


def _find_over(find: Finder, limit: int) -> tuple[Slots, Slots] | None:
    """Go through everything that can happen after the limit was set, from anything held in 7 slots.

    A state is (held, offered): whoever has looked since may still take any slot that was offered to
    him. Returns a state in which such a slot would be one too many; None where there is no such.
    """
    seen: set[tuple[Slots, Slots]] = set()
    nobody: Slots = frozenset()
    states = [(frozenset(held), nobody) for n in range(8) for held in combinations(range(7), n)]
    while states:
        held, offered = state = states.pop()
        if state in seen:
            continue
        seen.add(state)
        if offered - held and len(held) >= limit:
            return state
        states.append((held, offered | set(find(limit, held))))
        states += [(held - {slot}, offered) for slot in held]
        states += [(held | {slot}, offered) for slot in offered - held]
    return None


LIMITS = range(1, 7)


@pytest.mark.parametrize("kept", [0, 1, 3])
@pytest.mark.parametrize("limit", LIMITS)
def test_every_order_of_everything_on_seven_slots_stays_within_the_limit(
    limit: int, kept: int
) -> None:
    """Also where some who look keep a part of it free for hosts that failed, and others do not."""

    def find(limit: int, held: frozenset[int]) -> tuple[int, ...]:
        return (*find_free_slots(limit, held), *find_free_slots(limit, held, kept))

    assert _find_over(find, limit) is None


def _find_all(limit: int, taken: frozenset[int]) -> tuple[int, ...]:
    return tuple(number for number in range(limit) if number not in taken)


def _find_all_while_below(limit: int, taken: frozenset[int]) -> tuple[int, ...]:
    return _find_all(limit, taken) if len(taken) < limit else ()


@pytest.mark.parametrize("limit", range(2, 7))
@pytest.mark.parametrize("naive", [_find_all, _find_all_while_below])
def test_simpler_choices_would_go_over_the_limit(naive: Finder, limit: int) -> None:
    assert _find_over(naive, limit) is not None
