"""Check the parts of a rule that are mappings and lists themselves. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial

from ya_salt.porto.texts import parse_line
from ya_salt.porto.values import parse_integer, quote
from ya_salt.rollout.rule import DAYS, Freeze, Rate, Window
from ya_salt.rollout.rulemessage import Message, keep, list_items, list_items_or_one
from ya_salt.rollout.ruletexts import (
    find_epoch,
    parse_date,
    parse_days,
    parse_duration,
    parse_fact,
    parse_minute,
    parse_start,
    show_date,
    show_days,
    show_duration,
    show_minute,
)
from ya_salt.specfile.checks import (
    Member,
    Report,
    convert,
    index,
    make_fields,
    read_members,
    read_quoted,
    read_value,
)
from ya_salt.specfile.container import Json
from ya_salt.specfile.nodes import MapNode, Node

RATE_FIELDS = ("count", "window")
FREEZE_FIELDS = ("from", "to", "reason")
WINDOW_FIELDS = ("days", "from", "to")
MAX_COUNT = 10_000
MIN_RATE_WINDOW_S = 2

_RATE = make_fields(RATE_FIELDS, "write a mapping of count and window")
_FREEZE = make_fields(FREEZE_FIELDS, "write a mapping of from, to and reason")
_WINDOW = make_fields(WINDOW_FIELDS, "write a mapping of days, from and to")


def parse_count(text: str) -> int:
    return int(parse_integer(text, 1, MAX_COUNT))


def read_rate(spec: Message) -> Rate | None:
    member = spec.members.get("rate")
    if member is None:
        return None
    rate = Message(spec.report, member.node, member.field, _RATE)
    rate.require("count", "write how many hosts may start in one window")
    rate.require("window", "write a time such as 10m")
    count = rate.read("count", parse_count, keep)
    parse_window = partial(parse_duration, low_s=MIN_RATE_WINDOW_S)
    window_s = rate.read("window", parse_window, show_duration)
    spec.show("rate", rate.document)
    return Rate(count, window_s) if count and window_s else None


def read_selector(spec: Message) -> Mapping[str, tuple[str, ...]]:
    member = spec.members.get("selector")
    if member is None:
        return {}
    selector: dict[str, tuple[str, ...]] = {}
    right = "write a mapping of facts to their values"
    for one in read_members(spec.report, member.node, member.field, index, right):
        fact = convert(spec.report, one.key.place, one.field, one.key.text, parse_fact)
        values = _read_fact_values(spec.report, one)
        if fact is not None:
            selector[fact] = values
    if isinstance(member.node, MapNode) and not member.node.entries:
        spec.blame("selector", "is empty; name a fact, or leave it out for every host")
    spec.show("selector", {fact: list(values) for fact, values in sorted(selector.items())})
    return selector


def _read_fact_values(report: Report, member: Member) -> tuple[str, ...]:
    values: list[str] = []
    for node, path in list_items_or_one(report, member, "write one value or a list"):
        text = read_quoted(report, node, path)
        value = convert(report, node.place, path, text, parse_fact)
        if value in values:
            report.add(node.place, path, f"{quote(value)} is listed twice; keep one")
        elif value is not None:
            values.append(value)
    return tuple(values)


def read_freezes(spec: Message, zone: str) -> tuple[Freeze, ...]:
    found: list[Freeze] = []
    shown: list[Json] = []
    for node, path in _list_members(spec, "freeze", "write a list of from and to"):
        freeze = Message(spec.report, node, path, _FREEZE)
        period = _read_freeze(freeze, zone)
        shown.append(freeze.document)
        found += [period] if period else []
    if found:
        spec.show("freeze", shown)
    return tuple(found)


def _read_freeze(freeze: Message, zone: str) -> Freeze | None:
    for name in ("from", "to"):
        freeze.require(name, "write YYYY-MM-DD HH:MM or YYYY-MM-DD")
    start = freeze.read("from", parse_date, show_date)
    end = freeze.read("to", parse_date, show_date)
    reason = freeze.read("reason", parse_line, keep, is_quoted=True) or ""
    if start is None or end is None or not _is_after(freeze, start, end):
        return None
    return Freeze(find_epoch(start, zone, is_end=False), find_epoch(end, zone, is_end=True), reason)


def _is_after(freeze: Message, start: datetime, end: datetime) -> bool:
    if end <= start:
        freeze.blame(
            "to",
            f"is not after from, {show_date(start)}; write the first moment after the freeze"
            " (a date alone is its 00:00)",
        )
    return end > start


def read_windows(spec: Message) -> tuple[Window, ...]:
    found: list[Window] = []
    shown: list[Json] = []
    for node, path in _list_members(spec, "windows", "write a list of days, from and to"):
        message = Message(spec.report, node, path, _WINDOW)
        window = _read_window(message)
        shown.append(message.document)
        found += [window] if window else []
    if found:
        spec.show("windows", shown)
    return tuple(found)


def _read_window(window: Message) -> Window | None:
    for name in ("from", "to"):
        window.require(name, "write HH:MM")
    days = _read_days(window)
    start = window.read("from", parse_start, show_minute)
    end = window.read("to", parse_minute, show_minute)
    if start is None or end is None:
        return None
    if start == end:
        window.blame("to", "is the same as from; write 00:00 and 24:00 for the whole day")
    return Window(days, start, end)


def _read_days(window: Message) -> frozenset[int]:
    member = window.members.get("days")
    if member is None:
        return frozenset(range(len(DAYS)))
    days: set[int] = set()
    for node, path in list_items_or_one(window.report, member, "write a list of days"):
        span = set(read_value(window.report, node, path, parse_days) or ())
        twice = ", ".join(DAYS[day] for day in sorted(days & span))
        if twice:
            window.report.add(node.place, path, f"{twice} is listed twice; keep one")
        days |= span
    window.show("days", [*show_days(days)])
    return frozenset(days)


def _list_members(spec: Message, name: str, right: str) -> list[tuple[Node, str]]:
    member = spec.members.get(name)
    return [] if member is None else list_items(spec.report, member, right)
