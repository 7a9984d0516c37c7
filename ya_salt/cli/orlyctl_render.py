"""Show rules and how they stand: lines and tables for people, `-o json` for programs. Pure.

docs/orlyctl.md has the shapes for programs; they are stable.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ya_salt.cli.lines import format_age, render_table
from ya_salt.gate.decide import Pause
from ya_salt.gate.overview import (
    Block,
    Holder,
    Released,
    RuleStatus,
    judge_state,
    list_blocks,
    list_halted,
)
from ya_salt.gate.rule import Rule
from ya_salt.gate.rule_change import RuleResult, make_file
from ya_salt.messages import format_time
from ya_salt.text import count, printable

_OVERVIEW = ("RULE", "STATE", "LIMIT", "HELD", "FAILED", "LOST", "STARTS")
_HOLDERS = ("HOST", "SLOT", "STATE", "DOING", "SINCE", "HEARD OF", "WHY")
_RULES = ("RULE", "LIMIT", "RATE", "FAILURES", "FIRST INSTALL", "STATE")


# -- rules -------------------------------------------------------------------------------------


def render_applied(applied: RuleResult, *, is_dry: bool) -> str:
    """One line: what became of a rule, or would."""
    name = applied.rule.name
    result = f"would be {applied.result}" if is_dry and applied.is_change else applied.result
    listed = ", ".join(str(change) for change in applied.changes)
    line = f"{name}: {result}: {listed}" if applied.result == "changed" else f"{name}: {result}"
    if applied.pause is None:
        return line
    return f"{line}; {_describe_pause(applied.pause)}, orlyctl resume {name} ends that"


def render_rules(statuses: Sequence[RuleStatus], now: float) -> str:
    rows = [
        (item.name, *_list_terms(item.rule), judge_state(list_blocks(item, now)))
        for item in statuses
    ]
    return render_table(_RULES, rows) if rows else "no rules"


def _list_terms(rule: Rule | None) -> tuple[str, ...]:
    if rule is None:
        return ("?", "?", "?", "?")
    return (
        str(rule.max_concurrent),
        _describe_rate(rule) or "-",
        "any" if rule.max_failures is None else str(rule.max_failures),
        rule.first_install,
    )


# -- how they stand ----------------------------------------------------------------------------


def render_overview(statuses: Sequence[RuleStatus], now: float) -> str:
    """A line a rule."""
    rows = [_list_cells(item, list_blocks(item, now)) for item in statuses]
    return render_table(_OVERVIEW, rows) if rows else "no rules"


def _list_cells(item: RuleStatus, blocks: tuple[Block, ...]) -> tuple[str, ...]:
    return (
        item.name,
        _describe_state(blocks),
        str(item.rule.max_concurrent) if item.rule else "?",
        str(item.held),
        str(len(item.failures)),
        str(item.count_lost()),
        _describe_starts(item) or "-",
    )


def _describe_state(blocks: tuple[Block, ...]) -> str:
    state = judge_state(blocks)
    return f"halted for {', '.join(list_halted(blocks))}" if state == "halted" else state


def _describe_rate(rule: Rule | None) -> str:
    return f"{rule.rate.count} in {_format_span(rule.rate.window_s)}" if rule and rule.rate else ""


def _describe_starts(item: RuleStatus) -> str:
    rate = _describe_rate(item.rule)
    return f"{len(item.starts)} of {rate}" if rate else ""


def _format_span(seconds: int) -> str:
    """90s, 10m, 2d: exactly that long, in the largest unit that can say it."""
    sizes = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    return next(f"{seconds // size}{unit}" for unit, size in sizes if seconds % size == 0)


def render_status(item: RuleStatus, now: float) -> str:
    """Everything about one rule: who holds a slot, what blocks whom, who was released."""
    blocks = list_blocks(item, now)
    parts = [
        f"{item.name}: {_describe_state(blocks)}",
        _describe_counts(item),
        *_render_holders(item, now),
        *(f"{holder.host}: failed: {printable(holder.error)}" for holder in _list_failed(item)),
        *(f"{block.whom}: {block.reason}: {block.message}" for block in blocks),
        *(
            f"released: {release.host} {format_age(now - release.at)} ago by {release.by}: "
            f"{release.reason}"
            for release in item.releases
        ),
    ]
    return "\n".join(parts)


def _describe_counts(item: RuleStatus) -> str:
    starts = _describe_starts(item)
    taken = count(item.held, "slot")
    if item.rule:
        taken = f"{item.held} of {item.rule.max_concurrent} slots"
    failed = f"{len(item.failures)} failed"
    if item.aside:
        failed += " (each takes a slot from its own version alone)"
    counts = [
        f"{taken} held",
        failed,
        f"{item.count_lost()} lost",
        *([f"{starts} started"] if starts else []),
    ]
    return ", ".join(counts)


def _render_holders(item: RuleStatus, now: float) -> list[str]:
    rows = [_list_holder_cells(holder, now) for holder in item.holders]
    return [
        *([render_table(_HOLDERS, rows)] if rows else []),
        *(
            f"slot {number} is {host}'s without a record: orlyctl release {item.name} {host}"
            for number, host in item.find_strays().items()
        ),
    ]


def _list_holder_cells(holder: Holder, now: float) -> tuple[str, ...]:
    return (
        holder.host,
        str(holder.slot) if holder.slot >= 0 else "-",
        holder.state,
        holder.doing,
        format_age(now - holder.since),
        "yes" if holder.is_alive else "lost",
        printable(holder.reason) or "-",
    )


def _list_failed(item: RuleStatus) -> list[Holder]:
    return [holder for holder in item.holders if holder.state == "failed"]


def _describe_pause(pause: Pause) -> str:
    return f"paused by {pause.by} since {format_time(pause.since)}: {pause.reason}"


# -- by hand -----------------------------------------------------------------------------------


def render_released(rule: str, host: str, released: Released) -> str:
    """What was given back, and what that host and the others do next."""
    slots = ", ".join(str(slot) for slot in released.slots)
    what = f"slot {slots}" if slots else "its slot"
    holder = released.holder
    if holder is None:
        if not released.slots:
            return f"{rule}: {host} held no slot; the note that it failed is gone"
        return f"{rule}: {host} gave back {what}, of which it had no record"
    lines = [
        f"{rule}: {host} gave back {what} ({holder.doing}, "
        f"{holder.state} since {format_time(holder.since)})",
        f"{host} is not stopped by this: it asks again before it disturbs the daemon next",
    ]
    if holder.state == "failed":
        lines.append(f"its failure counts no more: other hosts may get {holder.target} now")
    return "\n".join(lines)


def render_paused(rule: str, wanted: Pause, before: Pause | None) -> str:
    if before is not None and before.reason == wanted.reason:
        return f"{rule}: is already {_describe_pause(before)}"
    was = f"; was {_describe_pause(before)}" if before else ""
    return f"{rule}: paused; no further daemon is stopped{was}"


def render_resumed(rule: str, before: Pause | None) -> str:
    if before is None:
        return f"{rule}: was not paused"
    return f"{rule}: resumed; was {_describe_pause(before)}"


def applied_to_data(applied: Sequence[RuleResult], *, is_dry: bool) -> dict[str, Any]:
    return {
        "dryRun": is_dry,
        "rules": [
            {
                "name": item.rule.name,
                "result": item.result,
                "changes": [
                    {"field": change.field, "old": change.old, "new": change.new}
                    for change in item.changes
                ],
                "pause": _pause_to_data(item.pause),
            }
            for item in applied
        ],
    }


def rules_to_data(statuses: Sequence[RuleStatus]) -> dict[str, Any]:
    """The rules as they were applied; one that cannot be read has a problem in place of itself."""
    return {"rules": [_rule_to_data(item) for item in statuses]}


def _rule_to_data(item: RuleStatus) -> dict[str, Any]:
    if item.rule is None:
        return {"name": item.name, "rule": None, "problem": item.problem}
    return {"name": item.name, "rule": json.loads(item.rule.document), "problem": ""}


def rule_to_file(rule: Rule) -> dict[str, Any]:
    """The rule as apply-rule -f takes it."""
    return make_file(json.loads(rule.document))


def statuses_to_data(statuses: Sequence[RuleStatus], now: float) -> dict[str, Any]:
    return {"rules": [_status_to_data(item, now) for item in statuses]}


def _status_to_data(item: RuleStatus, now: float) -> dict[str, Any]:
    blocks = list_blocks(item, now)
    return {
        "name": item.name,
        "state": judge_state(blocks),
        "problem": item.problem,
        "maxConcurrent": item.rule.max_concurrent if item.rule else None,
        "held": item.held,
        "failed": len(item.failures),
        "lost": item.count_lost(),
        "rate": _rate_to_data(item),
        "haltedTargets": list_halted(blocks),
        "pause": _pause_to_data(item.pause),
        "blocks": [
            {"reason": block.reason, "whom": block.whom, "message": block.message}
            for block in blocks
        ],
        "holders": [_holder_to_data(holder) for holder in item.holders],
        "strays": [{"slot": slot, "host": host} for slot, host in item.find_strays().items()],
        "released": [
            {
                "host": release.host,
                "reason": release.reason,
                "by": release.by,
                "at": format_time(release.at),
            }
            for release in item.releases
        ],
    }


def _rate_to_data(item: RuleStatus) -> dict[str, int] | None:
    if item.rule is None or item.rule.rate is None:
        return None
    rate = item.rule.rate
    return {"count": rate.count, "windowS": rate.window_s, "used": len(item.starts)}


def _pause_to_data(pause: Pause | None) -> dict[str, str] | None:
    if pause is None:
        return None
    return {"reason": pause.reason, "by": pause.by, "since": format_time(pause.since)}


def _holder_to_data(holder: Holder) -> dict[str, Any]:
    return {
        "host": holder.host,
        "slot": holder.slot,
        "operation": holder.operation,
        "target": holder.target,
        "reason": holder.reason,
        "since": format_time(holder.since),
        "state": holder.state,
        "alive": holder.is_alive,
        "error": holder.error,
    }
