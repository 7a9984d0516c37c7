"""Read what etcd keeps of rules: keys and values of one look -> Standing. Pure.

What somebody wrote by hand and cannot be read is shown as far as it can be; only a rule is refused.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from ya_salt.errors import SpecError
from ya_salt.rollout.decide import Pause
from ya_salt.rollout.overview import Holder, Release, Standing
from ya_salt.rollout.rule import Rule
from ya_salt.rollout.rulefile import parse_rule

_Values = Mapping[str, Mapping[str, str]]
"""Kind ("rules", "holders", …) -> the rest of the key after the rule's name -> value."""


def make_standings(prefix: str, found: Iterable[tuple[str, str]]) -> tuple[Standing, ...]:
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


def _make_standing(name: str, values: _Values) -> Standing:
    rule, problem = _read_rule(name, values.get("rules", {}).get(""))
    return Standing(
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
