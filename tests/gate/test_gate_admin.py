"""What an operator does to rules, where somebody else is at it or etcd's answer is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ya_salt.errors import GateError
from ya_salt.gate.admin import NotPossibleError, RuleAdmin
from ya_salt.gate.decide import Pause
from ya_salt.gate.etcd import Etcd, Put, Range, UnknownOutcomeError
from ya_salt.gate.etcd_gate import OrlyGate
from ya_salt.gate.protocol import Granted, Identity, SlotRequest
from ya_salt.gate.records import Keys
from ya_salt.gate.rule import Rule
from ya_salt.gate.rule_file import parse_rule
from ya_salt.model import GateSettings

RULE = "porto-daemon-x"


def make_rule(limit: int) -> Rule:
    return parse_rule(f"meta: {{name: {RULE}}}\nspec: {{max_concurrent: {limit}}}\n", "r.yaml")


class HookedEtcd(Etcd):
    """Real; something of the test's happens right before or right after a transaction."""

    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None

    def transact(self, *words: Any, **more: Any) -> Any:
        hook, self.before = self.before, None
        if hook:
            hook()
        result = super().transact(*words, **more)
        hook, self.after = self.after, None
        if hook:
            hook()
        return result


class Bench:
    def __init__(self, settings: GateSettings) -> None:
        self.prefix = settings.prefix
        self.etcd = HookedEtcd(settings, deadline_s=10)
        self.other = Etcd(settings, deadline_s=10)
        """Somebody else's."""
        self.admin = RuleAdmin(self.etcd, self.prefix)
        self.keys = Keys(self.prefix, RULE)

    def put(self, key: str, value: str) -> None:
        self.other.transact([], [Put(key, value)])

    def drop(self, key: str) -> None:
        self.other.transact([], [], [key])

    def read(self, key: str) -> str | None:
        (found,) = self.other.read(Range(key)).found
        return found[0].value if found else None

    def start(self, host: str) -> None:
        gate = OrlyGate(self.other, self.prefix, Identity(host))
        assert isinstance(gate.ask(SlotRequest("x", "update", "1.1")), Granted)

    def release(self, host: str) -> None:
        self.admin.release(RULE, host, "why", "ann@adm", 1000.0)


@pytest.fixture
def bench(settings: GateSettings) -> Iterator[Bench]:
    found = Bench(settings)
    found.admin.apply(make_rule(2))
    yield found
    found.etcd.close()
    found.other.close()


def lose_answer() -> None:
    raise UnknownOutcomeError("the answer was lost")


# -- somebody else -----------------------------------------------------------------------------


def test_a_rule_that_somebody_changed_meanwhile_is_not_overwritten(bench: Bench) -> None:
    theirs = make_rule(5).document
    bench.etcd.before = lambda: bench.put(bench.keys.rule, theirs)
    with pytest.raises(NotPossibleError, match="at the same moment"):
        bench.admin.apply(make_rule(9))
    assert bench.read(bench.keys.rule) == theirs


def test_a_rule_that_somebody_created_meanwhile_is_not_overwritten(bench: Bench) -> None:
    bench.admin.delete(RULE)
    theirs = make_rule(5).document
    bench.etcd.before = lambda: bench.put(bench.keys.rule, theirs)
    with pytest.raises(NotPossibleError):
        bench.admin.apply(make_rule(9))
    assert bench.read(bench.keys.rule) == theirs


def test_two_who_apply_the_same_at_once_both_are_right(bench: Bench) -> None:
    same = make_rule(9)
    bench.etcd.before = lambda: bench.put(bench.keys.rule, same.document)
    assert bench.admin.apply(same).result == "changed"


def test_a_rule_is_not_deleted_under_a_host_that_starts_meanwhile(bench: Bench) -> None:
    bench.etcd.before = lambda: bench.start("a")
    with pytest.raises(NotPossibleError):
        bench.admin.delete(RULE)
    assert bench.read(bench.keys.rule) is not None
    with pytest.raises(NotPossibleError, match=r"held by a \(update to 1.1, working\)"):
        bench.admin.delete(RULE)


def test_a_rule_that_somebody_changed_meanwhile_is_not_deleted(bench: Bench) -> None:
    bench.etcd.before = lambda: bench.put(bench.keys.rule, make_rule(5).document)
    with pytest.raises(NotPossibleError):
        bench.admin.delete(RULE)
    assert bench.read(bench.keys.rule) is not None


def test_deleting_leaves_no_failures_for_a_later_rule(bench: Bench) -> None:
    bench.put(bench.keys.failed("a"), '{"target": "1.1"}')
    bench.admin.delete(RULE)
    bench.admin.apply(make_rule(2))
    assert bench.admin.read(RULE).failures == {}


def test_only_the_holder_that_was_looked_at_is_released(bench: Bench) -> None:
    bench.start("a")
    bench.etcd.before = lambda: bench.put(bench.keys.holder("a"), '{"host": "a", "id": "new"}')
    with pytest.raises(NotPossibleError):
        bench.release("a")
    assert bench.read(bench.keys.holder("a"))
    assert bench.read(bench.keys.released("a")) is None


def test_a_rule_can_be_paused_while_somebody_edits_it(bench: Bench) -> None:
    bench.etcd.before = lambda: bench.put(bench.keys.rule, make_rule(5).document)
    bench.admin.pause(RULE, Pause("stop", "ann@adm", 1000.0))
    assert bench.admin.read(RULE).pause == Pause("stop", "ann@adm", 1000.0)


def test_a_rule_that_is_deleted_meanwhile_leaves_no_pause(bench: Bench) -> None:
    bench.etcd.before = lambda: bench.drop(bench.keys.rule)
    with pytest.raises(NotPossibleError):
        bench.admin.pause(RULE, Pause("stop", "ann@adm", 1000.0))
    assert bench.read(bench.keys.pause) is None


def test_only_the_pause_that_was_looked_at_is_ended(bench: Bench) -> None:
    bench.admin.pause(RULE, Pause("one", "ann@adm", 1000.0))
    bench.etcd.before = lambda: bench.put(bench.keys.pause, '{"reason": "two"}')
    with pytest.raises(NotPossibleError):
        bench.admin.resume(RULE)
    assert bench.admin.read(RULE).pause == Pause("two", "", 0.0)


# -- lost answers ------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_answer_is_resolved_whether_it_was_done_or_not(bench: Bench, when: str) -> None:
    bench.start("a")
    setattr(bench.etcd, when, lose_answer)
    bench.admin.apply(make_rule(9))
    assert bench.read(bench.keys.rule) == make_rule(9).document
    setattr(bench.etcd, when, lose_answer)
    bench.admin.pause(RULE, Pause("stop", "ann@adm", 1000.0))
    assert bench.read(bench.keys.pause)
    setattr(bench.etcd, when, lose_answer)
    bench.admin.resume(RULE)
    assert bench.read(bench.keys.pause) is None
    setattr(bench.etcd, when, lose_answer)
    bench.release("a")
    assert bench.read(bench.keys.holder("a")) is None
    setattr(bench.etcd, when, lose_answer)
    bench.admin.delete(RULE)
    assert bench.read(bench.keys.rule) is None


def test_a_lost_answer_does_not_hide_what_somebody_else_did(bench: Bench) -> None:
    theirs = make_rule(5).document

    def change_and_lose() -> None:
        bench.put(bench.keys.rule, theirs)
        lose_answer()

    bench.etcd.before = change_and_lose
    with pytest.raises(NotPossibleError):
        bench.admin.apply(make_rule(9))
    assert bench.read(bench.keys.rule) == theirs


def test_an_answer_that_is_lost_twice_is_said(bench: Bench) -> None:
    def lose_two() -> None:
        bench.etcd.before = lose_answer
        lose_answer()

    bench.etcd.before = lose_two
    with pytest.raises(GateError, match="not known"):
        bench.admin.apply(make_rule(9))


def test_what_was_done_though_the_answer_is_lost_twice_is_no_error(bench: Bench) -> None:
    def lose_two() -> None:
        bench.etcd.after = lose_answer
        lose_answer()

    bench.etcd.before = lose_two
    bench.admin.apply(make_rule(9))
    assert bench.read(bench.keys.rule) == make_rule(9).document


# -- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", "[]", "nonsense", '{"since": "x", "slot": [1]}'])
def test_values_that_somebody_wrote_by_hand_are_shown_as_far_as_they_can_be(
    bench: Bench, value: str
) -> None:
    for key in (bench.keys.holder("a"), bench.keys.slot(1), bench.keys.released("a")):
        bench.put(key, value)
    bench.put(bench.keys.pause, value)
    bench.put(bench.keys.slots + "what", value)
    (standing,) = bench.admin.read_all()
    assert standing.pause is not None
    assert [holder.host for holder in standing.holders] == ["a"]
    assert list(standing.slots) == [1]


def test_what_is_left_of_a_rule_that_is_gone_is_shown_and_can_be_released(bench: Bench) -> None:
    bench.start("a")
    bench.drop(bench.keys.rule)
    (standing,) = bench.admin.read_all()
    assert standing.rule is None
    assert "there is no rule" in standing.problem
    with pytest.raises(NotPossibleError, match="there is no rule"):
        bench.admin.pause(RULE, Pause("stop", "ann@adm", 1000.0))
    bench.release("a")
    assert bench.read(bench.keys.slot(0)) is None


def test_rules_whose_names_begin_alike_are_told_apart(bench: Bench) -> None:
    long = Keys(bench.prefix, RULE + "y")
    bench.put(long.rule, make_rule(3).document)
    bench.put(long.slot(0), '{"host": "b"}')
    assert bench.admin.read(RULE).slots == {}
    assert [item.name for item in bench.admin.read_all()] == [RULE, RULE + "y"]
