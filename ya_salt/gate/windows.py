"""Tell when a rule lets nobody start, and when it does again. Pure.

A window is open while a clock on the wall of its time zone shows a time in it. A time that comes
twice, where clocks are put back, counts twice; one that is left out, where they are put forward,
never does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta, timezone
from itertools import count
from zoneinfo import ZoneInfo

from ya_salt.gate.rule import DAYS, Freeze, Rule, Window
from ya_salt.model import Deferral

_DAY = timedelta(days=1)


def describe_closed(rule: Rule, now: float) -> Deferral | None:
    """Say why nobody may start at `now` (seconds since 1970) and when one may; None: one may."""
    zone = ZoneInfo(rule.time_zone)
    if _is_frozen(rule.freeze, now):
        return Deferral("Frozen", _describe_freeze(rule, zone, now))
    if _is_open(rule.windows, zone, now):
        return None
    opening = _show_opening(find_opening(rule, now), zone)
    return Deferral("OutsideWindow", f"{rule.name} is outside its windows; it opens {opening}")


def find_opening(rule: Rule, now: float) -> float:
    """Give the first moment from `now` on, in seconds since 1970, that is open and not frozen."""
    zone = ZoneInfo(rule.time_zone)
    # The one looked for has the last end of a freeze before it, or `now`, and no freeze in between:
    # so it is the first open moment after one of these.
    bases = sorted({now, *(freeze.end for freeze in rule.freeze if freeze.end > now)})
    moments = (_find_window(rule.windows, zone, base) for base in bases)
    return next(moment for moment in moments if not _is_frozen(rule.freeze, moment))


def _describe_freeze(rule: Rule, zone: ZoneInfo, now: float) -> str:
    thaw, reasons = _find_thaw(rule.freeze, now)
    why = f": {', '.join(reasons)}" if reasons else ""
    text = f"{rule.name} is frozen until {_show(thaw, zone)}{why}"
    opening = find_opening(rule, now)
    return text if opening == thaw else f"{text}; it opens {_show_opening(opening, zone)}"


def _find_thaw(freezes: Sequence[Freeze], now: float) -> tuple[float, list[str]]:
    """Give the first moment without a freeze, and the reasons of those until then."""
    moment, reasons = now, list[str]()
    while holding := [freeze for freeze in freezes if freeze.start <= moment < freeze.end]:
        reasons += [freeze.reason for freeze in holding if freeze.reason]
        moment = max(freeze.end for freeze in holding)
    return moment, list(dict.fromkeys(reasons))


def _is_frozen(freezes: Iterable[Freeze], moment: float) -> bool:
    return any(freeze.start <= moment < freeze.end for freeze in freezes)


def _is_open(windows: Sequence[Window], zone: ZoneInfo, moment: float) -> bool:
    if not windows:
        return True
    local = datetime.fromtimestamp(moment, zone)
    day, minute = local.weekday(), local.hour * 60 + local.minute
    return any(_holds(window, day, minute) for window in windows)


def _holds(window: Window, day: int, minute: int) -> bool:
    if window.start_minute < window.end_minute:
        return day in window.days and window.start_minute <= minute < window.end_minute
    is_evening = day in window.days and minute >= window.start_minute
    return is_evening or ((day - 1) % 7 in window.days and minute < window.end_minute)


def _find_window(windows: Sequence[Window], zone: ZoneInfo, base: float) -> float:
    """Give the first moment from `base` on at which a window is open.

    It is within some weeks: a window has at least one day of the week, and no zone leaves out the
    same time of a day twice in a row.
    """
    if _is_open(windows, zone, base):
        return base
    today = datetime.fromtimestamp(base, zone).date()
    days = (today + offset * _DAY for offset in count())
    moments = (moment for day in days for moment in _list_changes(windows, zone, day))
    return next(moment for moment in moments if moment >= base and _is_open(windows, zone, moment))


def _list_changes(windows: Sequence[Window], zone: ZoneInfo, day: date) -> list[float]:
    """List the moments of a day at which a window may open."""
    starts = {window.start_minute for window in windows if day.weekday() in window.days}
    found = {moment for start in starts for moment in _find_moments(zone, day, start)}
    # Clocks that are put forward may go right into a window, those put back into one that has been.
    return sorted(found | set(_find_shifts(zone, day)))


def _find_moments(zone: ZoneInfo, day: date, minute: int) -> Iterator[float]:
    """Give the moments at which the clock shows this: two where it is put back, else one twice."""
    wall = datetime(day.year, day.month, day.day, tzinfo=timezone.utc) + timedelta(minutes=minute)
    return (wall.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))


def _find_shifts(zone: ZoneInfo, day: date) -> Iterator[float]:
    """Give the moment, if there is one, at which the clocks of a day are put forward or back."""
    early, late = (next(_find_moments(zone, one, 0)) for one in (day, day + _DAY))
    before = _offset(zone, early)
    if _offset(zone, late) == before:
        return
    while late - early > 1:
        middle = (early + late) // 2
        early, late = (middle, late) if _offset(zone, middle) == before else (early, middle)
    yield late


def _offset(zone: ZoneInfo, moment: float) -> timedelta | None:
    return datetime.fromtimestamp(moment, zone).utcoffset()


def _show(moment: float, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(moment, zone).strftime("%Y-%m-%d %H:%M %Z")


def _show_opening(moment: float, zone: ZoneInfo) -> str:
    day = datetime.fromtimestamp(moment, zone).weekday()
    return f"{DAYS[day].capitalize()} {_show(moment, zone)}"
