"""Where everything of a rule is in etcd, and how each value is written. Pure."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ya_salt.errors import SpecError
from ya_salt.gate.decide import Pause
from ya_salt.gate.etcd import Range
from ya_salt.gate.overview import Holder, Release, RuleStatus
from ya_salt.gate.rule import Rule
from ya_salt.gate.rule_file import parse_rule

_DIGITS = 5


@dataclass(frozen=True)
class Keys:
    """The keys of one rule below `prefix`, which ends with a slash. Plurals begin many keys."""

    prefix: str
    name: str

    @property
    def rule(self) -> str:
        """The rule's document, as JSON."""
        return f"{self.prefix}rules/{self.name}"

    @property
    def pause(self) -> str:
        """There while the rule is stopped by hand: {"reason", "by", "since"}."""
        return f"{self.prefix}pause/{self.name}"

    @property
    def slots(self) -> str:
        return f"{self.prefix}slots/{self.name}/"

    @property
    def holders(self) -> str:
        return f"{self.prefix}holders/{self.name}/"

    @property
    def starts(self) -> str:
        return f"{self.prefix}starts/{self.name}/"

    @property
    def alives(self) -> str:
        return f"{self.prefix}alive/{self.name}/"

    @property
    def failures(self) -> str:
        return f"{self.prefix}failed/{self.name}/"

    @property
    def releases(self) -> str:
        return f"{self.prefix}released/{self.name}/"

    def slot(self, number: int) -> str:
        """Of the holder, as long as it holds: {"host", "id"}."""
        return f"{self.slots}{number:0{_DIGITS}}"

    def holder(self, host: str) -> str:
        """{"host", "id", "slot", "operation", "target", "reason", "since", "state", "error"}."""
        return self.holders + host

    def start(self, number: int) -> str:
        """A token of the rate, on a lease of the rate's window: {"host"}."""
        return f"{self.starts}{number:0{_DIGITS}}"

    def alive(self, host: str) -> str:
        """On a lease of the rule's `lost_after`, kept up by the holder: {"host"}."""
        return self.alives + host

    def failed(self, host: str) -> str:
        """Of a holder that has failed, so that asking need not read all holders.

        {"target", "error", "since"}; written and deleted together with the holder's own state.
        """
        return self.failures + host

    def released(self, host: str) -> str:
        """Who gave the host's slot back, on a lease of a week: {"reason", "by", "at"}."""
        return self.releases + host

    def list_ranges(self) -> tuple[Range, ...]:
        """Everything that there is of the rule."""
        many = (self.slots, self.holders, self.starts, self.alives, self.failures, self.releases)
        return (
            Range(self.rule),
            Range(self.pause),
            *(Range(prefix, is_prefix=True) for prefix in many),
        )


def list_numbers(keys: tuple[str, ...]) -> frozenset[int]:
    """The numbers of slots or tokens."""
    texts = (key.rpartition("/")[2] for key in keys)
    return frozenset(int(text) for text in texts if text.isdecimal())


_Values = Mapping[str, Mapping[str, str]]
"""Kind ("rules", "holders", …) -> the rest of the key after the rule's name -> value."""


def make_standings(prefix: str, found: Iterable[tuple[str, str]]) -> tuple[RuleStatus, ...]:
    """`found` are keys with their values; all of a rule's are needed, in any order."""
    rules: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    for key, value in found:
        kind, _, place = key.removeprefix(prefix).partition("/")
        name, _, rest = place.partition("/")
        rules[name][kind][rest] = value
    return tuple(
        _make_standing(name, values)
        for name, values in sorted(rules.items())
        if values.keys() & {"rules", "holders", "slots", "pause"}
    )


def _make_standing(name: str, values: _Values) -> RuleStatus:
    rule, problem = _read_rule(name, values.get("rules", {}).get(""))
    return RuleStatus(
        name=name,
        rule=rule,
        problem=problem,
        pause=read_pause(values.get("pause", {}).get("")),
        slots={
            number: _text(read_object(value), "host")
            for number, value in _list_numbered(values.get("slots", {}))
        },
        starts=frozenset(number for number, _ in _list_numbered(values.get("starts", {}))),
        holders=_read_holders(values),
        failures={
            host: _text(read_object(value), "target")
            for host, value in values.get("failed", {}).items()
        },
        releases=_read_releases(values.get("released", {})),
    )


def _list_numbered(values: Mapping[str, str]) -> list[tuple[int, str]]:
    return sorted((int(text), value) for text, value in values.items() if text.isdecimal())


def _read_rule(name: str, text: str | None) -> tuple[Rule | None, str]:
    if text is None:
        return None, f"there is no rule {name}, only what is left of one: apply it again"
    try:
        return parse_rule(text, name, is_json=True), ""
    except SpecError as error:
        return None, "; ".join(str(problem) for problem in error.problems)


def read_pause(text: str | None) -> Pause | None:
    """Whatever the value is: the key stops the rule."""
    if text is None:
        return None
    data = read_object(text)
    return Pause(_text(data, "reason"), _text(data, "by"), _number(data, "since"))


def _read_holders(values: _Values) -> tuple[Holder, ...]:
    alive = values.get("alive", {})
    holders = [
        read_holder(host, value, is_alive=host in alive)
        for host, value in values.get("holders", {}).items()
    ]
    return tuple(sorted(holders, key=lambda holder: (holder.slot, holder.host)))


def read_holder(host: str, text: str, *, is_alive: bool) -> Holder:
    data = read_object(text)
    return Holder(
        host=host,
        id=_text(data, "id"),
        slot=int(_number(data, "slot", -1)),
        operation=_text(data, "operation"),
        target=_text(data, "target"),
        reason=_text(data, "reason"),
        since=_number(data, "since"),
        state=_text(data, "state"),
        error=_text(data, "error"),
        is_alive=is_alive,
    )


def _read_releases(values: Mapping[str, str]) -> tuple[Release, ...]:
    found = [
        Release(host, _text(data, "reason"), _text(data, "by"), _number(data, "at"))
        for host, data in ((host, read_object(value)) for host, value in values.items())
    ]
    return tuple(sorted(found, key=lambda release: release.at, reverse=True))


def read_object(text: str) -> Mapping[str, Any]:
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _text(data: Mapping[str, Any], name: str) -> str:
    return str(data.get(name, ""))


def _number(data: Mapping[str, Any], name: str, default: float = 0.0) -> float:
    value = data.get(name, default)
    # What no clock shows cannot be shown as a time either.
    return value if isinstance(value, int | float) and 0 <= value < 1 << 33 else default
