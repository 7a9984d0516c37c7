"""Compare a rule with what is there, and write one as the file that apply-rule takes. Pure.

A document is the protobuf JSON of OrlyRuleManifest, parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from ya_salt.gate.decide import Pause
from ya_salt.gate.rule import Rule
from ya_salt.quick_dataclass import dataclass
from ya_salt.strict_json import parse_json

_MAX_DEPTH = 16


@dataclass(frozen=True)
class FieldChange:
    """One field, named as in a rule file; None where it is not set."""

    field: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.field} {_show(self.old)} -> {_show(self.new)}"


@dataclass(frozen=True)
class RuleResult:
    """What became of a rule that was applied, or would."""

    rule: Rule
    result: Literal["created", "changed", "unchanged"]
    changes: tuple[FieldChange, ...] = ()
    pause: Pause | None = None
    """It is paused, and stays so."""

    @property
    def is_change(self) -> bool:
        return self.result != "unchanged"


def compare_rule(old: str | None, rule: Rule, pause: Pause | None) -> RuleResult:
    """`old` is the text that is there; None where there is no such rule."""
    if old is None:
        return RuleResult(rule, "created", pause=pause)
    before, after = _parse(old), json.loads(rule.document)
    if before == after:
        return RuleResult(rule, "unchanged", pause=pause)
    return RuleResult(rule, "changed", list_changes(before, after), pause)


def _parse(text: str) -> dict[str, Any]:
    """What somebody wrote by hand and is no document counts as an empty one."""
    try:
        data = parse_json(text.encode(errors="replace"), _MAX_DEPTH)
        make_file(data)
    except (ValueError, AttributeError):
        return {}
    return dict(data)


def make_file(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the names of fields as people write them."""
    return {
        part: {_spell(name): value for name, value in members.items()}
        for part, members in document.items()
    }


def list_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[FieldChange, ...]:
    before, after = dict(_flatten(old)), dict(_flatten(new))
    names = dict.fromkeys((*before, *after))
    return tuple(
        FieldChange(name, before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    )


def _flatten(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for part, members in make_file(document).items():
        for name, value in members.items():
            place = name if part == "spec" else f"{part}.{name}"
            if isinstance(value, dict):
                yield from ((f"{place}.{key}", item) for key, item in value.items())
            else:
                yield place, value


def _spell(name: str) -> str:
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def _show(value: Any) -> str:
    if value is None:
        return "unset"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
