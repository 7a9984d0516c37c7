"""Turn what people write in a rule file into numbers, and back. Pure.

Every `parse_*` takes the text of one value; anything that cannot be used is a ValueError whose text
is "what is wrong; what would be right". Every `show_*` gives a text that its parser takes again.
"""

from __future__ import annotations

import difflib
import re
import zoneinfo
from collections.abc import Collection
from datetime import datetime, timezone
from functools import lru_cache

from ya_salt.porto.texts import NAME_ALPHABET
from ya_salt.porto.values import quote
from ya_salt.rollout.rule import DAYS

MAX_S = 30 * 86400
"""The longest time that a rule may name."""

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile("".join(f"(?:(?P<{unit}>[0-9]{{1,7}}){unit})?" for unit in _UNITS), re.ASCII)
_MINUTE = re.compile(r"([0-9]{2}):([0-9]{2})", re.ASCII)
_DATE = re.compile(r"(20[0-9]{2})-([0-9]{2})-([0-9]{2})(?: ([0-9]{2}):([0-9]{2}))?", re.ASCII)
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,30}(?:/[A-Za-z0-9_+-]{1,30}){0,2}", re.ASCII)
# Other names of the same data, some with leap seconds; and what differs from host to host.
_NO_ZONES = re.compile(r"posix/.*|right/.*|posixrules|localtime|Factory")


def parse_rule_name(text: str) -> str:
    if text in (".", ".."):
        raise ValueError(f"{quote(text)} is no name; write porto-daemon-NAME")
    if not re.fullmatch(f"[{NAME_ALPHABET}]+", text, re.ASCII):
        raise ValueError(
            f"{quote(text)} is not a rule's name; write porto-daemon-NAME, of letters, digits"
            " and _-@:."
        )
    if len(text) > 200:
        raise ValueError("is longer than 200 characters; shorten it")
    return text


def parse_fact(text: str) -> str:
    """Take a fact's name or value: the alphabet of the setting gate.facts."""
    if not text.strip():
        raise ValueError("is empty; write what the setting gate.facts of the hosts says")
    if not text.isprintable() or text != text.strip():
        raise ValueError(
            f"{quote(text)} holds blanks at its ends, or what cannot be seen; remove them"
        )
    if "," in text:
        raise ValueError(f"{quote(text)} holds a comma, which no fact can; write values as a list")
    if len(text) > 250:
        raise ValueError("is longer than 250 characters; shorten it")
    return text


def parse_duration(text: str, low_s: int = 0) -> int:
    """Give the seconds of "90s" or "1h30m"; from `low_s` to 30 days."""
    found = _DURATION.fullmatch(text)
    if re.fullmatch(r"[0-9]{1,15}", text, re.ASCII):
        raise ValueError(f"{quote(text)} has no unit; write {text}s, or a number with m, h or d")
    if found is None or not text:
        raise ValueError(
            f"{quote(text)} is not a time; write whole numbers with d, h, m, s, such as 1h30m"
        )
    seconds = sum(int(found[unit] or 0) * size for unit, size in _UNITS.items())
    if not low_s <= seconds <= MAX_S:
        raise ValueError(
            f"{quote(text)} is out of range; write {show_duration(low_s)} to {show_duration(MAX_S)}"
        )
    return seconds


def show_duration(seconds: int) -> str:
    shown, left = "", seconds
    for unit, size in _UNITS.items():
        count, left = divmod(left, size)
        shown += f"{count}{unit}" if count else ""
    return shown or "0s"


def parse_minute(text: str) -> int:
    """Give the minute of the day, 0 to 1440, of "10:00"."""
    found = _MINUTE.fullmatch(text)
    minute = int(found[1]) * 60 + int(found[2]) if found else -1
    if not found or int(found[2]) > 59 or minute > 1440:
        raise ValueError(f"{quote(text)} is not a time of the day; write HH:MM, such as 09:30")
    return minute


def parse_start(text: str) -> int:
    minute = parse_minute(text)
    if minute == 1440:
        raise ValueError("24:00 begins nothing; write 00:00 and the day after")
    return minute


def show_minute(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def parse_days(text: str) -> tuple[int, ...]:
    """Give the days (0 is Monday) of "mon", "mon-fri" or "sat-mon"."""
    first, dash, last = text.partition("-")
    if first not in DAYS or (dash and last not in DAYS):
        raise ValueError(
            f"{quote(text)} is no day; write one of {', '.join(DAYS)}, or a span such as mon-fri"
        )
    start = DAYS.index(first)
    length = (DAYS.index(last) - start) % 7 if dash else 0
    return tuple((start + offset) % 7 for offset in range(length + 1))


def show_days(days: Collection[int]) -> list[str]:
    """Write days from Monday on, three or more in a row as a span."""
    shown: list[str] = []
    day = 0
    while day < 7:
        end = day
        while end in days:
            end += 1
        if end - day >= 3:
            shown.append(f"{DAYS[day]}-{DAYS[end - 1]}")
        else:
            shown += DAYS[day:end]
        day = end + 1
    return shown


def parse_date(text: str) -> datetime:
    """Give what a clock on the wall shows at that moment; its tzinfo, UTC, says nothing."""
    right = "write YYYY-MM-DD HH:MM or YYYY-MM-DD, such as 2026-12-30 18:00"
    found = _DATE.fullmatch(text)
    if found is None:
        raise ValueError(f"{quote(text)} is not a date from 2000 to 2099; {right}")
    year, month, day, hour, minute = (int(part or 0) for part in found.groups())
    try:
        return datetime(year, month, day, hour, minute, tzinfo=timezone.utc)
    except ValueError:
        raise ValueError(f"{quote(text)} is no moment of the calendar; {right}") from None


def show_date(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M")


def find_epoch(wall: datetime, zone: str, *, is_end: bool) -> float:
    """Give the moment at which a clock on the wall there shows this, in seconds since 1970.

    Where it shows it twice, or leaves it out, a start is the earlier one and an end the later one:
    a freeze is rather an hour too long.
    """
    place = zoneinfo.ZoneInfo(zone)
    both = [wall.replace(tzinfo=place, fold=fold).timestamp() for fold in (0, 1)]
    return max(both) if is_end else min(both)


def parse_zone(text: str) -> str:
    if _ZONE.fullmatch(text) and not _NO_ZONES.fullmatch(text) and _has_zone(text):
        return text
    raise ValueError(f"{quote(text)} is not a time zone; {_suggest_zone(text)}")


def _has_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        # OSError: it is a folder of zones, such as Europe.
        return False
    return True


def _suggest_zone(text: str) -> str:
    known = _list_zones()
    word = text.strip().lower().replace(" ", "_")
    cities = [name for name in known.values() if name.lower().rpartition("/")[2] == word]
    near = difflib.get_close_matches(word[:60], known, 1, 0.75)
    found = cities[:1] or [known[name] for name in near]
    return f"did you mean {found[0]}?" if found else "write a name such as Europe/Moscow, or UTC"


@lru_cache(maxsize=1)
def _list_zones() -> dict[str, str]:
    names = sorted(zoneinfo.available_timezones(), key=lambda name: (-name.count("/"), name))
    return {name.lower(): name for name in names if not _NO_ZONES.fullmatch(name)}
