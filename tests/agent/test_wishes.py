"""When passes begin."""

from __future__ import annotations

from ya_salt.agent.wishes import LATEST_S, QUIET_S, Wishes


def test_a_burst_is_waited_for_but_not_for_long() -> None:
    wishes = Wishes()
    assert wishes.find_due() is None
    wishes.add("a", 10.0)
    assert wishes.find_due() == 10.0 + QUIET_S
    wishes.add("b", 10.03)
    assert wishes.find_due() == 10.03 + QUIET_S
    for number in range(20):
        wishes.add("c", 10.03 + number / 100)
    assert wishes.find_due() == 10.0 + LATEST_S
    assert wishes.take() == ("a", "b", "c")
    assert wishes.find_due() is None


def test_from_a_change_to_its_pass_it_is_less_than_the_fifth_of_a_second() -> None:
    assert max(QUIET_S, LATEST_S) < 0.2


def test_one_that_keeps_dying_is_looked_at_each_ten_seconds() -> None:
    wishes = Wishes()
    begun = []
    for tick in range(6000):
        now = tick / 50
        if tick % 50 == 0:
            wishes.add_paced("one: respawning", now)
        wishes.ripen(now)
        due = wishes.find_due()
        if due is not None and now >= due:
            wishes.take()
            begun.append(now)
    assert begun[3] < 4, "the first ones are looked at at once"
    assert 10 <= len(begun) <= 18


def test_what_was_put_off_comes_in_its_time() -> None:
    wishes = Wishes()
    wishes.add_later("a file", 5.0)
    wishes.add_later("another", 7.0)
    wishes.drop_later("another")
    wishes.ripen(4.9)
    assert wishes.find_due() == 5.0
    wishes.ripen(5.0)
    assert wishes.take() == ("a file",)
    assert wishes.find_due() is None
