"""Where everything of a rule is in etcd, and how each value is written and read. Pure.

Whoever acts on a record uses only one that is as a host writes it, and raises GateError for any
other: unknown is no permission. Whoever shows records (orlyctl) shows what can be read of them, so
that what is wrong can be found and taken away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from ya_salt.errors import GateError, SpecError
from ya_salt.gate.decide import Pause
from ya_salt.gate.etcd import Range
from ya_salt.gate.overview import Holder, Release, RuleStatus
from ya_salt.gate.protocol import Operation, State
from ya_salt.gate.rule import Rule
from ya_salt.gate.rule_file import parse_rule
from ya_salt.quick_dataclass import dataclass
from ya_salt.strict_json import parse_json
from ya_salt.text import printable

_DIGITS = 5
_MAX_NUMBER = 10**9
_MAX_DEPTH = 8
_LATEST = 1 << 33
"""What no clock shows cannot be shown as a time either."""


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
        """{"host", "id", "slot", "operation", "target", "reason", "since", "state", "error"}.

        `slot` is -1 once it has failed.
        """
        return self.holders + host

    def start(self, number: int) -> str:
        """A token of the rate, on a lease of the rate's window: {"host"}."""
        return f"{self.starts}{number:0{_DIGITS}}"

    def alive(self, host: str) -> str:
        """On a lease of the rule's `lost_after`, kept up by the holder: {"host"}."""
        return self.alives + host

    def failed(self, host: str) -> str:
        """Of a holder that has failed, so that asking need not read all holders.

        {"target", "error", "since", "aside"}; written and deleted together with the holder's own
        state. `aside`: the host has no number among the slots any more. (Versions that did not know
        of that left it out, and kept the number.)
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


# -- for whoever acts on it ------------------------------------------------------------------------


def require_numbers(prefix: str, keys: Iterable[str]) -> frozenset[int]:
    """The numbers of slots or tokens, from their keys. Raises GateError where one has none."""
    return frozenset(_require_number(key, key.removeprefix(prefix)) for key in keys)


def _require_number(key: str, text: str) -> int:
    number = _find_number(text)
    if number is None:
        raise GateError(
            f"{_describe(key)}: its name ends with no number; no host writes that: look who did, "
            "and take it away (etcdctl del)"
        )
    return number


def require_failure(keys: Keys, host: str, text: str) -> tuple[str, bool]:
    """The target that an operation of the host failed with, and whether it is set aside.

    Raises GateError.
    """
    try:
        data = _require_object(text)
        return _require_text(data, "target"), data.get("aside") is True
    except ValueError as error:
        raise _complain(keys, keys.failed(host), host, error) from None


def require_holder(keys: Keys, host: str, text: str, *, is_alive: bool) -> Holder:
    """Raises GateError where it is none that can be acted on."""
    try:
        _check_holder(_require_object(text))
    except ValueError as error:
        raise _complain(keys, keys.holder(host), host, error) from None
    return read_holder(host, text, is_alive=is_alive)


def _check_holder(data: Mapping[str, Any]) -> None:
    if not _require_text(data, "id"):
        raise ValueError("id is empty")
    _require_text(data, "target")
    slot, least = data.get("slot"), 0 if data.get("state") == "working" else -1
    if isinstance(slot, bool) or not isinstance(slot, int) or not least <= slot < _MAX_NUMBER:
        raise ValueError("slot is no slot's number")
    for name, known in (("operation", get_args(Operation)), ("state", get_args(State))):
        if _require_text(data, name) not in known:
            raise ValueError(f"{name} is none of {', '.join(known)}")
    if _number(data, "since", -1) < 0:
        raise ValueError("since is no time")
    if not isinstance(data.get("error", ""), str):
        raise ValueError("error is no text")  # noqa: TRY004 - as all that is wrong with it


def _require_object(text: str) -> Mapping[str, Any]:
    if not is_text(text):
        raise ValueError("is no UTF-8")
    data = parse_json(text, _MAX_DEPTH)
    if not isinstance(data, dict):
        raise ValueError("is no JSON object")  # noqa: TRY004 - as all that is wrong with it
    return data


def is_text(value: str) -> bool:
    """Whether what etcd has there is UTF-8."""
    return _tidy(value) == value


def _require_text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"{name} is no text on one line")
    return value


def _complain(keys: Keys, key: str, host: str, error: ValueError) -> GateError:
    command = f"orlyctl release {printable(keys.name)} {printable(host)} --reason TEXT"
    return GateError(
        f"{_describe(key)}: {error}; no host of this version writes that: {command} takes it away"
    )


def _describe(key: str) -> str:
    return f"what etcd keeps as {printable(key)} cannot be used"


# -- for whoever shows it --------------------------------------------------------------------------

_Values = Mapping[str, Mapping[str, str]]
"""Kind ("rules", "holders", …) -> the rest of the key after the rule's name -> value."""


def make_statuses(prefix: str, found: Iterable[tuple[str, str]]) -> tuple[RuleStatus, ...]:
    """`found` are keys with their values; all of a rule's are needed, in any order."""
    rules: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    for key, value in found:
        kind, _, place = _tidy(key).removeprefix(prefix).partition("/")
        name, _, rest = place.partition("/")
        rules[name][kind][rest] = _tidy(value)
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
        aside=frozenset(
            host
            for host, value in values.get("failed", {}).items()
            if read_object(value).get("aside") is True
        ),
        releases=_read_releases(values.get("released", {})),
    )


def _list_numbered(values: Mapping[str, str]) -> list[tuple[int, str]]:
    found = ((_find_number(text), value) for text, value in values.items())
    return sorted((number, value) for number, value in found if number is not None)


def _find_number(text: str) -> int | None:
    is_number = text.isascii() and text.isdecimal() and len(text) < 10
    return int(text) if is_number else None


def _read_rule(name: str, text: str | None) -> tuple[Rule | None, str]:
    if text is None:
        return None, f"there is no rule {name}, only what is left of one: apply it again"
    try:
        return parse_rule(text, name, is_json=True), ""
    except SpecError as error:
        return None, printable("; ".join(str(problem) for problem in error.problems), 1000)


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
    """What of it is text, number or yes and no; nothing where it is no JSON object."""
    try:
        data = _require_object(_tidy(text))
    except ValueError:
        return {}
    return {name: value for name, value in data.items() if isinstance(value, str | int | float)}


def _tidy(text: str) -> str:
    """With a mark for each byte that was no UTF-8, as nobody can write such text anywhere."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _text(data: Mapping[str, Any], name: str) -> str:
    # JSON can spell half a character, which nobody can write anywhere.
    return str(data.get(name, "")).encode(errors="replace").decode()


def _number(data: Mapping[str, Any], name: str, default: float = 0.0) -> float:
    value = data.get(name, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and 0 <= value < _LATEST else default
