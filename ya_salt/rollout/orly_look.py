"""What one read of etcd shows to a host that asks, and what the host writes there. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import cast, get_args

from ya_salt.errors import SpecError
from ya_salt.model import Deferral
from ya_salt.rollout.decide import View
from ya_salt.rollout.etcd_values import KeyValue, Range
from ya_salt.rollout.gate import RULE_PREFIX, Ask, Held, Operation, State
from ya_salt.rollout.keys import Keys, list_numbers
from ya_salt.rollout.records import read_holder, read_object, read_pause
from ya_salt.rollout.rule import Rule
from ya_salt.rollout.rulefile import parse_rule

_MAX_ERROR_BYTES = 512
_Found = tuple[tuple[KeyValue, ...], ...]


@dataclass(frozen=True)
class Look:
    """What there is to decide on, and at which revision the rule was so."""

    view: View
    rule_revision: int
    revision: int
    """etcd's at the look."""


def list_ranges(keys: Keys, host: str) -> tuple[Range, ...]:
    """What `parse_look` needs. Little, however many hosts hold: a whole fleet reads it at once."""
    return (
        Range(keys.rule),
        Range(keys.pause),
        *list_own_ranges(keys, host),
        Range(keys.slots, is_prefix=True, keys_only=True),
        Range(keys.starts, is_prefix=True, keys_only=True),
        Range(keys.failures, is_prefix=True),
    )


def list_own_ranges(keys: Keys, host: str) -> tuple[Range, Range]:
    return Range(keys.holder(host)), Range(keys.alive(host))


def parse_look(keys: Keys, found: _Found, revision: int) -> Look | Deferral:
    """`found` is for the ranges of `list_ranges`."""
    rules, pauses, holders, alive, slots, starts, failures = found
    rule = parse_rule_value(keys, rules)
    if isinstance(rule, Deferral):
        return rule
    view = View(
        rule=rule,
        slots=list_numbers(tuple(item.key for item in slots)),
        starts=list_numbers(tuple(item.key for item in starts)),
        failures={
            item.key.removeprefix(keys.failures): str(read_object(item.value).get("target", ""))
            for item in failures
        },
        pause=read_pause(pauses[0].value) if pauses else None,
        held=parse_held(keys, holders, alive, rule),
    )
    return Look(view, rules[0].mod_revision, revision)


def parse_rule_value(keys: Keys, rules: tuple[KeyValue, ...]) -> Rule | Deferral:
    if not rules:
        return Deferral(
            "RuleMissing", f"there is no rule {keys.name}; orlyctl apply-rule -f FILE makes it"
        )
    try:
        rule = parse_rule(rules[0].value, keys.name, is_json=True)
    except SpecError as error:
        return _refuse(f"{error.problems[0]}; this host's ya-salt may be older than the rule")
    if rule.name != keys.name:
        return _refuse(f"what is kept as {keys.name} is the rule {rule.name}")
    return rule


def _refuse(words: str) -> Deferral:
    return Deferral("RuleUnreadable", f"{words}; orlyctl apply-rule -f FILE puts it right")


def parse_held(
    keys: Keys,
    holders: tuple[KeyValue, ...],
    alive: tuple[KeyValue, ...],
    rule: Rule | None,
) -> Held | None:
    """The own slot, from the own holder's key and sign of life. Without a rule it need not wait."""
    if not holders:
        return None
    (item,) = holders
    holder = read_holder(item.key.removeprefix(keys.holders), item.value, is_alive=bool(alive))
    return Held(
        daemon=keys.name.removeprefix(RULE_PREFIX),
        id=holder.id,
        operation=cast(Operation, _choose(holder.operation, get_args(Operation), "update")),
        target=holder.target,
        since=holder.since,
        state=cast(State, _choose(holder.state, get_args(State), "working")),
        error=holder.error,
        slot=holder.slot,
        revision=item.create_revision,
        lease=alive[0].lease if alive else 0,
        min_healthy_s=rule.min_healthy_s if rule else 0,
        lost_after_s=rule.lost_after_s if rule else 0,
    )


def is_same(held: Held, other: Held | None) -> bool:
    """Whether it is the very same slot, not one taken later."""
    return other is not None and (held.id, held.revision) == (other.id, other.revision)


def put_state(held: Held, state: State, error: str) -> Held:
    """What went wrong is only of interest where something did."""
    words = error.encode(errors="replace")[:_MAX_ERROR_BYTES].decode(errors="ignore")
    return replace(held, state=state, error=words if state == "failed" else "")


def encode_holder(host: str, held: Held, ask: Ask) -> str:
    return encode(
        host=host,
        id=held.id,
        slot=held.slot,
        operation=held.operation,
        target=held.target,
        reason=ask.reason[:_MAX_ERROR_BYTES],
        since=held.since,
        state=held.state,
        error=held.error,
    )


def encode_change(old: str, held: Held) -> str:
    """A holder's value with another state."""
    return encode(**{**read_object(old), "state": held.state, "error": held.error})


def encode(**values: object) -> str:
    return json.dumps(values, separators=(",", ":"))


def _choose(text: str, choices: tuple[str, ...], default: str) -> str:
    return text if text in choices else default
