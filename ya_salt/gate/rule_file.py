"""Read rule files: every problem with its place. Only `load_rule_file` touches a file."""

from __future__ import annotations

import difflib
import json
import re
import zoneinfo
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timezone
from functools import lru_cache, partial
from typing import Any, TypeVar

from ya_salt.errors import OperatorError, SpecError, SpecProblem, list_in_order
from ya_salt.gate.rule import DAYS, Freeze, Rate, Rule, Window
from ya_salt.names import NAME_ALPHABET, quote
from ya_salt.porto.values import (
    parse_bool,
    parse_choice,
    parse_integer,
    parse_line,
)
from ya_salt.quick_dataclass import replace
from ya_salt.specs.checks import (
    Diagnostics,
    Fields,
    Member,
    camel,
    convert,
    describe,
    index,
    join,
    make_fields,
    read_fields,
    read_members,
    read_quoted,
    read_text,
    read_value,
    spellings,
    unknown_field,
)
from ya_salt.specs.container import Json
from ya_salt.specs.files import MAX_BYTES, STDIN, RefusedFileError, read_path, read_stdin
from ya_salt.specs.tree import (
    START,
    Diagnostic,
    ListNode,
    MapNode,
    Node,
    Place,
    Tree,
    read_json,
)
from ya_salt.specs.yaml_tree import read_yaml

# -- the file ------------------------------------------------------------------------------------


def load_rule_file(path: str) -> Rule:
    """Read and check a file (`-`: standard input); `.json` at its end means JSON, else it is YAML.

    Links are followed and anybody may own it: orlyctl's user answers for it. Raises OperatorError
    where it cannot be read and SpecError with everything that is wrong with it.
    """
    origin = "standard input" if path == STDIN else _show(path)
    try:
        content = read_stdin() if path == STDIN else read_path(path)
    except RefusedFileError as error:
        raise OperatorError(f"{origin}: {error}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OperatorError(f"{origin}: cannot be read: {reason}") from error
    return parse_rule(_decode(content, origin), origin, is_json=path.endswith(".json"))


def _show(path: str) -> str:
    return path if path.isprintable() else ascii(path)[1:-1]


def _decode(content: bytes, origin: str) -> str:
    if len(content) > MAX_BYTES:
        raise SpecError(
            (
                SpecProblem(
                    origin, 1, 1, "", f"is over {MAX_BYTES} bytes; a rule is a few kilobytes"
                ),
            )
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        words = "is not UTF-8 here; save the file as UTF-8"
        raise SpecError((SpecProblem(origin, line, column, "", words),)) from error


# -- the document --------------------------------------------------------------------------------

KIND = "OrlyRule"
MANIFEST_FIELDS = ("meta", "spec")
META_FIELDS = ("kind", "name", "annotations")
SPEC_FIELDS = (
    *("max_concurrent", "rate", "selector", "halt_on_failure", "max_failures"),
    *("min_healthy_time", "first_install", "on_lost", "lost_after"),
    *("time_zone", "freeze", "windows"),
)
MIN_LOST_AFTER_S = 10

_UNSEEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def parse_rule(text: str, origin: str, *, is_json: bool = False) -> Rule:
    """Check a rule file's text; `origin` names it in errors.

    Raises SpecError with everything that is wrong, in the order of the file. The rule's `document`
    is JSON that gives an equal rule again.
    """
    tree = read_json(text) if is_json else _read_yaml(text)
    report = Diagnostics()
    rule = _read_manifest(report, tree.root)
    # Of a tree that was cut off nothing can be said to be missing or empty.
    diagnostics = tree.diagnostics + (report.diagnostics if tree.is_whole else [])
    if diagnostics:
        found = {SpecProblem(origin, *place, name, words) for place, name, words in diagnostics}
        raise SpecError(list_in_order(found))
    return rule


def _read_yaml(text: str) -> Tree:
    unseen = _UNSEEN.search(text)
    if unseen is None:
        return read_yaml(text)
    before = text[: unseen.start()]
    place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
    words = f"holds the control character U+{ord(unseen[0]):04X}; remove it"
    return Tree(is_whole=False, diagnostics=[Diagnostic(place, "", words)])


def _explain_top(key: str) -> str:
    for place, names in (("meta", META_FIELDS), ("spec", SPEC_FIELDS)):
        if key in spellings(names):
            return f"belongs under {place}; move it there"
    return unknown_field(key, MANIFEST_FIELDS)


def _explain_spec(key: str) -> str:
    if key in spellings(META_FIELDS):
        return "belongs under meta; move it there"
    near = difflib.get_close_matches(key[:100].lower(), SPEC_FIELDS, 1, 0.6)
    right = f"did you mean {near[0]}?" if near else f"the fields here are {', '.join(SPEC_FIELDS)}"
    return f"is not a known field; {right}"


_MANIFEST = Fields(spellings(MANIFEST_FIELDS), _explain_top, "write a mapping with meta and spec")
_META = make_fields(META_FIELDS, "write a mapping with the rule's name")
_SPEC = Fields(spellings(SPEC_FIELDS), _explain_spec, "write a mapping with max_concurrent")


def _read_manifest(report: Diagnostics, root: Node | None) -> Rule:
    if not isinstance(root, MapNode):
        place, word = (root.place, describe(root)) if root else (START, "is empty")
        report.add(place, "", f"{word}; {_MANIFEST.right}")
        return Rule("")
    manifest = Message(report, root, "", _MANIFEST)
    manifest.require("meta", _META.right)
    manifest.require("spec", _SPEC.right)
    rule = Rule("")
    if "spec" in manifest.members:
        rule = _read_spec(manifest, manifest.members["spec"])
    name = _read_meta(manifest, manifest.members["meta"]) if "meta" in manifest.members else ""
    return replace(rule, name=name, document=_dump(manifest.sort(MANIFEST_FIELDS)))


def _dump(document: dict[str, Json]) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def _read_meta(manifest: Message, member: Member) -> str:
    meta = Message(manifest.report, member.node, member.field, _META)
    meta.read("kind", META_PARSERS["kind"], keep)
    meta.require("name", "write porto-daemon-NAME for the rule of the daemon NAME")
    name = meta.read("name", META_PARSERS["name"], keep, is_quoted=True)
    annotations = _read_annotations(meta)
    if annotations:
        meta.show("annotations", annotations)
    manifest.show("meta", meta.sort(META_FIELDS))
    return name or ""


def check_kind(text: str) -> str:
    if text != KIND:
        raise ValueError(f"{quote(text)} is not known; write {KIND} or leave it out")
    return text


def _read_annotations(meta: Message) -> dict[str, Json]:
    member = meta.members.get("annotations")
    if member is None:
        return {}
    members = read_members(meta.report, member.node, member.field, index, "write a mapping")
    found = {one.key.text: read_value(meta.report, one.node, one.field, str) for one in members}
    return {key: text for key, text in sorted(found.items()) if text is not None}


def _read_spec(manifest: Message, member: Member) -> Rule:
    spec = Message(manifest.report, member.node, member.field, _SPEC)
    spec.require("max_concurrent", "write how many hosts may change at once, such as 1")
    # Where the zone does not exist, what else is wrong with the freezes is said in one go.
    zone = spec.read("time_zone", SPEC_PARSERS["time_zone"], keep) or Rule.time_zone
    rule = Rule(
        "",
        max_concurrent=spec.read("max_concurrent", SPEC_PARSERS["max_concurrent"], keep) or 1,
        rate=read_rate(spec),
        selector=read_selector(spec),
        max_failures=_read_max_failures(spec),
        min_healthy_s=_read_duration(spec, "min_healthy_time"),
        first_install=_read_choice(spec, "first_install") or Rule.first_install,
        on_lost=_read_choice(spec, "on_lost") or Rule.on_lost,
        lost_after_s=_read_duration(spec, "lost_after") or Rule.lost_after_s,
        time_zone=zone,
        freeze=read_freezes(spec, zone),
        windows=read_windows(spec),
    )
    manifest.show("spec", spec.sort(SPEC_FIELDS))
    return rule


def _read_choice(spec: Message, name: str) -> Any:
    return spec.read(name, SPEC_PARSERS[name], keep)


def _read_duration(spec: Message, name: str) -> int | None:
    return spec.read(name, SPEC_PARSERS[name], show_duration)


def _read_max_failures(spec: Message) -> int | None:
    halts = spec.read("halt_on_failure", SPEC_PARSERS["halt_on_failure"], keep)
    limit = spec.read("max_failures", SPEC_PARSERS["max_failures"], keep)
    if halts is False and "max_failures" in spec.members:
        spec.blame("max_failures", "stands beside halt_on_failure: false; keep one of the two")
    return None if halts is False else limit or Rule.max_failures


# -- parts of the spec ---------------------------------------------------------------------------

RATE_FIELDS = ("count", "window")
FREEZE_FIELDS = ("from", "to", "reason")
WINDOW_FIELDS = ("days", "from", "to")
MAX_COUNT = 10_000
MIN_RATE_WINDOW_S = 2

_RATE = make_fields(RATE_FIELDS, "write a mapping of count and window")
_FREEZE = make_fields(FREEZE_FIELDS, "write a mapping of from, to and reason")
_WINDOW = make_fields(WINDOW_FIELDS, "write a mapping of days, from and to")


def read_rate(spec: Message) -> Rate | None:
    member = spec.members.get("rate")
    if member is None:
        return None
    rate = Message(spec.report, member.node, member.field, _RATE)
    rate.require("count", "write how many hosts may start in one window")
    rate.require("window", "write a time such as 10m")
    count = rate.read("count", RATE_PARSERS["count"], keep)
    window_s = rate.read("window", RATE_PARSERS["window"], show_duration)
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


def _read_fact_values(report: Diagnostics, member: Member) -> tuple[str, ...]:
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
    start = freeze.read("from", FREEZE_PARSERS["from"], show_date)
    end = freeze.read("to", FREEZE_PARSERS["to"], show_date)
    reason = freeze.read("reason", FREEZE_PARSERS["reason"], keep, is_quoted=True) or ""
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
    start = window.read("from", WINDOW_PARSERS["from"], show_minute)
    end = window.read("to", WINDOW_PARSERS["to"], show_minute)
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
        span = set(read_value(window.report, node, path, WINDOW_PARSERS["days"]) or ())
        twice = ", ".join(DAYS[day] for day in sorted(days & span))
        if twice:
            window.report.add(node.place, path, f"{twice} is listed twice; keep one")
        days |= span
    window.show("days", [*show_days(days)])
    return frozenset(days)


def _list_members(spec: Message, name: str, right: str) -> list[tuple[Node, str]]:
    member = spec.members.get(name)
    return [] if member is None else list_items(spec.report, member, right)


# -- single values -------------------------------------------------------------------------------

MAX_S = 30 * 86400
"""The longest time that a rule may name."""

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile("".join(f"(?:(?P<{unit}>[0-9]{{1,7}}){unit})?" for unit in _UNITS), re.ASCII)
_MINUTE = re.compile(r"([0-9]{2}):([0-9]{2})", re.ASCII)
_DATE = re.compile(r"(20[0-9]{2})-([0-9]{2})-([0-9]{2})(?: ([0-9]{2}):([0-9]{2}))?", re.ASCII)
ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,30}(?:/[A-Za-z0-9_+-]{1,30}){0,2}", re.ASCII)
# Other names of the same data, some with leap seconds; and what differs from host to host.
_NO_ZONES = re.compile(r"posix/.*|right/.*|posixrules|localtime|Factory")


def parse_rule_name(text: str) -> str:
    if text in (".", ".."):
        raise ValueError(f"{quote(text)} is not a name; write porto-daemon-NAME")
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
            f"{quote(text)} is not a day; write one of {', '.join(DAYS)}, or a span such as mon-fri"
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
        raise ValueError(f"{quote(text)} is not in the calendar; {right}") from None


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
    if ZONE.fullmatch(text) and not _NO_ZONES.fullmatch(text) and _has_zone(text):
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


def parse_count(text: str, low: int = 1, high: int = MAX_COUNT) -> int:
    return int(parse_integer(text, low, high))


def parse_switch(text: str) -> bool:
    return parse_bool(text) == "true"


_Parsers = Mapping[str, Callable[[str], Any]]

META_PARSERS: _Parsers = {"kind": check_kind, "name": parse_rule_name}
SPEC_PARSERS: _Parsers = {
    "max_concurrent": parse_count,
    "halt_on_failure": parse_switch,
    "max_failures": parse_count,
    "min_healthy_time": parse_duration,
    "first_install": partial(parse_choice, choices=("gate", "allow")),
    "on_lost": partial(parse_choice, choices=("hold", "free")),
    "lost_after": partial(parse_duration, low_s=MIN_LOST_AFTER_S),
    "time_zone": parse_zone,
}
RATE_PARSERS: _Parsers = {
    "count": parse_count,
    "window": partial(parse_duration, low_s=MIN_RATE_WINDOW_S),
}
FREEZE_PARSERS: _Parsers = {"from": parse_date, "to": parse_date, "reason": parse_line}
WINDOW_PARSERS: _Parsers = {"days": parse_days, "from": parse_start, "to": parse_minute}
QUOTED = frozenset({"name", "reason"})
"""Fields that have to be texts to YAML; so have a selector's values."""

# -- mappings ------------------------------------------------------------------------------------

T = TypeVar("T")


def keep(value: str | int | bool) -> Json:
    """Show a value as it is."""
    return value


class Message:
    """One mapping. `document` is what was set and can be used, by the names of protobuf JSON."""

    def __init__(self, report: Diagnostics, node: Node, path: str, fields: Fields) -> None:
        self.report = report
        self.members = read_fields(report, node, path, fields)
        self.document: dict[str, Json] = {}
        self._node, self._path = node, path

    def read(
        self,
        name: str,
        parse: Callable[[str], T],
        show: Callable[[T], Json],
        *,
        is_quoted: bool = False,
    ) -> T | None:
        """Read one value; None where it is left out or cannot be used."""
        member = self.members.get(name)
        if member is None:
            return None
        text = (read_quoted if is_quoted else read_text)(self.report, member.node, member.field)
        value = convert(self.report, member.node.place, member.field, text, parse)
        if value is not None:
            self.show(name, show(value))
        return value

    def require(self, name: str, right: str) -> None:
        # What is no mapping has been reported already.
        if name not in self.members and isinstance(self._node, MapNode):
            field = join(self._path, name)
            self.report.add(self._node.place, field, f"is missing; {right}")

    def blame(self, name: str, message: str) -> None:
        member = self.members[name]
        self.report.add(member.node.place, member.field, message)

    def show(self, name: str, value: Json) -> None:
        self.document[camel(name)] = value

    def sort(self, names: Iterable[str]) -> dict[str, Json]:
        """Give the document in the order of `names`."""
        keys = [camel(name) for name in names]
        return {key: self.document[key] for key in keys if key in self.document}


def list_items(report: Diagnostics, member: Member, right: str) -> list[tuple[Node, str]]:
    """Give a list's values and their paths; an empty list is wrong: nobody knows what it means."""
    node, path = member.node, member.field
    if not isinstance(node, ListNode):
        report.add(node.place, path, f"{describe(node)}; {right}")
        return []
    if not node.items:
        report.add(node.place, path, "is an empty list; list something or leave it out")
    return [(item, f"{path}[{number}]") for number, item in enumerate(node.items)]


def list_items_or_one(report: Diagnostics, member: Member, right: str) -> list[tuple[Node, str]]:
    """Give the same, and one value as a list of itself."""
    if isinstance(member.node, ListNode):
        return list_items(report, member, right)
    return [(member.node, member.field)]
