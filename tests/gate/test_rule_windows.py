"""When a rule lets nobody start, and the first moment at which it does again."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ya_salt.gate.rule import Freeze, Rule, Window
from ya_salt.gate.rule_file import parse_rule
from ya_salt.gate.windows import describe_closed, find_opening
from ya_salt.model import Deferral

UTC = timezone.utc


def read_rule(spec: str) -> Rule:
    return parse_rule(f"meta: {{name: r}}\nspec:\n  max_concurrent: 1\n{spec}", "r.yaml")


def at(zone: str, text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


WORK = read_rule(
    """
  time_zone: Europe/Moscow
  freeze:
  - {from: 2026-12-30 18:00, to: 2027-01-09, reason: holidays}
  windows:
  - {days: [mon-thu], from: 10:00, to: 18:00}
  - {days: [fri], from: 10:00, to: 14:00}
"""
)


@pytest.mark.parametrize(
    "now",
    [
        "2026-11-23 10:00",
        "2026-11-23 17:59:59",
        "2026-11-27 10:00",
        "2026-11-27 13:59:59",
        "2026-12-30 17:59:59",
        "2027-01-11 10:00",
    ],
)
def test_within_a_window_one_may_start(now: str) -> None:
    assert describe_closed(WORK, at("Europe/Moscow", now)) is None


@pytest.mark.parametrize(
    ("now", "opening"),
    [
        ("2026-11-23 09:59:59", "Mon 2026-11-23 10:00"),
        ("2026-11-23 18:00", "Tue 2026-11-24 10:00"),
        ("2026-11-26 18:00", "Fri 2026-11-27 10:00"),
        ("2026-11-27 14:00", "Mon 2026-11-30 10:00"),
        ("2026-11-29 12:00", "Mon 2026-11-30 10:00"),
        ("2027-01-09 00:00", "Mon 2027-01-11 10:00"),
    ],
)
def test_outside_windows_the_next_opening_is_named(now: str, opening: str) -> None:
    message = f"r is outside its windows; it opens {opening} MSK"
    assert describe_closed(WORK, at("Europe/Moscow", now)) == Deferral("OutsideWindow", message)


@pytest.mark.parametrize(
    "now", ["2026-12-30 18:00", "2026-12-30 18:00:01", "2027-01-08 23:59:59", "2027-01-05 12:00"]
)
def test_a_freeze_says_how_long_and_when_the_windows_open_after_it(now: str) -> None:
    assert describe_closed(WORK, at("Europe/Moscow", now)) == Deferral(
        "Frozen",
        "r is frozen until 2027-01-09 00:00 MSK: holidays; it opens Mon 2027-01-11 10:00 MSK",
    )


def test_a_freeze_without_windows_says_its_end_once() -> None:
    rule = read_rule("  freeze: [{from: 2026-12-30, to: 2027-01-09}]")
    assert describe_closed(rule, at("UTC", "2027-01-01 00:00")) == Deferral(
        "Frozen", "r is frozen until 2027-01-09 00:00 UTC"
    )


def test_freezes_that_follow_each_other_are_one() -> None:
    rule = read_rule(
        """
  freeze:
  - {from: 2027-01-01, to: 2027-01-09, reason: holidays}
  - {from: 2026-12-24, to: 2027-01-01, reason: sales}
  - {from: 2027-01-08, to: 2027-01-10, reason: holidays}
  - {from: 2027-01-11, to: 2027-01-12, reason: another}
"""
    )
    assert describe_closed(rule, at("UTC", "2026-12-31 00:00")) == Deferral(
        "Frozen", "r is frozen until 2027-01-10 00:00 UTC: sales, holidays"
    )


def test_an_opening_that_is_frozen_is_passed_over() -> None:
    rule = read_rule(
        """
  windows: [{days: [wed], from: 10:00, to: 12:00}]
  freeze:
  - {from: 2026-11-25 09:00, to: 2026-11-25 11:00}
  - {from: 2026-12-02, to: 2026-12-03}
"""
    )

    def opening(now: str) -> str:
        deferral = describe_closed(rule, at("UTC", now))
        return deferral.message.partition("opens ")[2] if deferral else ""

    assert opening("2026-11-24 00:00") == "Wed 2026-11-25 11:00 UTC"
    assert opening("2026-11-25 12:00") == "Wed 2026-12-09 10:00 UTC"
    assert opening("2026-12-02 11:00") == "Wed 2026-12-09 10:00 UTC"


NIGHT = read_rule("  windows: [{days: [fri], from: 22:00, to: 06:00}]")


@pytest.mark.parametrize(
    ("now", "is_open"),
    [
        ("2026-11-27 21:59", False),
        ("2026-11-27 22:00", True),
        ("2026-11-28 00:00", True),
        ("2026-11-28 05:59:59", True),
        ("2026-11-28 06:00", False),
        ("2026-11-28 22:00", False),
        ("2026-11-27 03:00", False),
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_it_begins_on(now: str, is_open: bool) -> None:
    assert (describe_closed(NIGHT, at("UTC", now)) is None) == is_open


def test_a_window_over_the_night_to_monday_is_of_sunday() -> None:
    rule = read_rule("  windows: [{days: [sun], from: 22:00, to: 06:00}]")
    assert describe_closed(rule, at("UTC", "2026-11-30 05:59")) is None
    assert find_opening(rule, at("UTC", "2026-11-30 06:00")) == at("UTC", "2026-12-06 22:00")


def test_whole_days_and_windows_to_midnight() -> None:
    rule = read_rule("  windows: [{days: [sat-mon], from: 00:00, to: 24:00}]")
    assert describe_closed(rule, at("UTC", "2026-11-28 00:00")) is None
    assert describe_closed(rule, at("UTC", "2026-11-30 23:59:59")) is None
    assert find_opening(rule, at("UTC", "2026-12-01 00:00")) == at("UTC", "2026-12-05 00:00")
    evening = read_rule("  windows: [{from: 18:00, to: 00:00}]")
    assert describe_closed(evening, at("UTC", "2026-11-28 23:59:59")) is None
    assert find_opening(evening, at("UTC", "2026-11-29 00:00")) == at("UTC", "2026-11-29 18:00")


def show_berlin(moment: float) -> str:
    return datetime.fromtimestamp(moment, ZoneInfo("Europe/Berlin")).strftime("%m-%d %H:%M %Z")


def list_times(rule: Rule, start: float, hours: int) -> list[str]:
    """List each change of open and closed, looking every minute."""
    found, was = [], False
    for minute in range(hours * 60):
        moment = start + minute * 60
        is_open = describe_closed(rule, moment) is None
        if is_open != was:
            found.append(f"{'open' if is_open else 'shut'} {show_berlin(moment)}")
        was = is_open
    return found


# In Berlin clocks went from 02:00 CET to 03:00 CEST on 2026-03-29, from 03:00 CEST to 02:00 CET on
# 2026-10-25.
SPRING = at("Europe/Berlin", "2026-03-28 21:00")
AUTUMN = at("Europe/Berlin", "2026-10-24 21:00")


@pytest.mark.parametrize(
    ("window", "start", "times"),
    [
        ("from: 10:00, to: 18:00", SPRING, ["open 03-29 10:00 CEST", "shut 03-29 18:00 CEST"]),
        ("from: 10:00, to: 18:00", AUTUMN, ["open 10-25 10:00 CET", "shut 10-25 18:00 CET"]),
        ("from: 22:00, to: 06:00", SPRING, ["open 03-28 22:00 CET", "shut 03-29 06:00 CEST"]),
        ("from: 22:00, to: 06:00", AUTUMN, ["open 10-24 22:00 CEST", "shut 10-25 06:00 CET"]),
        ("from: 02:30, to: 04:00", SPRING, ["open 03-29 03:00 CEST", "shut 03-29 04:00 CEST"]),
        ("from: 01:00, to: 02:30", SPRING, ["open 03-29 01:00 CET", "shut 03-29 03:00 CEST"]),
        ("from: 02:00, to: 03:00", SPRING, []),
        ("from: 02:00, to: 03:00", AUTUMN, ["open 10-25 02:00 CEST", "shut 10-25 03:00 CET"]),
        (
            "from: 01:00, to: 02:30",
            AUTUMN,
            [
                "open 10-25 01:00 CEST",
                "shut 10-25 02:30 CEST",
                "open 10-25 02:00 CET",
                "shut 10-25 02:30 CET",
            ],
        ),
        (
            "from: 02:30, to: 04:00",
            AUTUMN,
            [
                "open 10-25 02:30 CEST",
                "shut 10-25 02:00 CET",
                "open 10-25 02:30 CET",
                "shut 10-25 04:00 CET",
            ],
        ),
    ],
)
def test_windows_follow_the_clock_on_the_wall_when_it_is_changed(
    window: str, start: float, times: list[str]
) -> None:
    rule = read_rule(f"  time_zone: Europe/Berlin\n  windows: [{{days: [sat, sun], {window}}}]")
    assert list_times(rule, start, 23) == times
    opens = [time.removeprefix("open ") for time in times if time.startswith("open")]
    moment, named = start, []
    for _ in opens:
        moment = find_opening(rule, moment)
        named.append(show_berlin(moment))
        while describe_closed(rule, moment) is None:
            moment += 60
    assert named == opens


def test_a_window_that_the_clock_leaves_out_opens_a_week_later() -> None:
    rule = read_rule(
        "  time_zone: Europe/Berlin\n  windows: [{days: [sun], from: 02:00, to: 03:00}]"
    )
    assert show_berlin(find_opening(rule, SPRING)) == "04-05 02:00 CEST"


def test_a_freeze_is_as_long_as_any_clock_says() -> None:
    rule = read_rule(
        """
  time_zone: Europe/Berlin
  freeze:
  - {from: 2026-10-25 02:30, to: 2026-10-25 02:45}
  - {from: 2026-03-29 02:15, to: 2026-03-29 02:45}
"""
    )
    autumn, spring = rule.freeze
    assert show_berlin(autumn.start) == "10-25 02:30 CEST"
    assert show_berlin(autumn.end) == "10-25 02:45 CET"
    assert show_berlin(spring.start) == "03-29 01:15 CET"
    assert show_berlin(spring.end) == "03-29 03:45 CEST"


ZONES = [
    *("UTC", "Europe/Berlin", "Europe/Moscow", "Asia/Kathmandu", "America/Santiago"),
    *("America/Havana", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "Asia/Beirut"),
]
MINUTES = st.sampled_from([0, 1, 29, 30, 60, 119, 120, 150, 179, 180, 600, 1380, 1410, 1439])
WINDOWS = st.builds(
    Window,
    st.frozensets(st.integers(0, 6), min_size=1),
    MINUTES,
    MINUTES | st.just(1440),
).filter(lambda window: window.start_minute != window.end_minute)
# Days around which some of the zones change their clocks.
DAYS = [(2026, 3, 29), (2026, 10, 25), (2026, 4, 5), (2026, 9, 6), (2011, 12, 30), (2026, 3, 8)]


@st.composite
def cases(draw: st.DrawFn) -> tuple[Rule, float]:
    zone = draw(st.sampled_from(ZONES))
    day = datetime(*draw(st.sampled_from(DAYS)), tzinfo=UTC) - timedelta(days=1)
    now = day.timestamp() + 60 * draw(st.integers(0, 4 * 1440))
    minutes = st.integers(-500, 12_000)
    pairs = draw(st.lists(st.tuples(minutes, st.integers(1, 6_000)), max_size=4))
    freezes = tuple(Freeze(now + 60 * a, now + 60 * (a + b)) for a, b in pairs)
    windows = tuple(draw(st.lists(WINDOWS, max_size=3)))
    return Rule("r", time_zone=zone, freeze=freezes, windows=windows), now


def is_open(rule: Rule, moment: float) -> bool:
    """The same in other words: a walk over the minutes of the day that the clock shows."""
    if any(freeze.start <= moment < freeze.end for freeze in rule.freeze):
        return False
    clock = datetime.fromtimestamp(moment, ZoneInfo(rule.time_zone)).replace(tzinfo=None)
    midnight = clock.replace(hour=0, minute=0, second=0)
    for window in rule.windows:
        length = (window.end_minute - window.start_minute) % 1440 or 1440
        for start in (midnight - timedelta(days=1), midnight):
            begin = start + timedelta(minutes=window.start_minute)
            if start.weekday() in window.days and begin <= clock < begin + timedelta(
                minutes=length
            ):
                return True
    return not rule.windows


@settings(max_examples=150, deadline=None)
@given(cases())
def test_the_opening_is_the_first_open_minute(case: tuple[Rule, float]) -> None:
    rule, now = case
    opening = find_opening(rule, now)
    assert opening >= now
    assert (opening == now) == (describe_closed(rule, now) is None)
    moments = (now + 60 * minute for minute in range(30 * 1440))
    assert opening == next(moment for moment in moments if is_open(rule, moment))


@given(cases(), st.floats(0, 59.9))
def test_the_opening_does_not_depend_on_the_second(case: tuple[Rule, float], more: float) -> None:
    rule, now = case
    if not is_open(rule, now):
        assert find_opening(rule, now + more) == find_opening(rule, now)
