"""Show rules and how they stand to programs: what -o json and -o yaml print. Pure.

docs/orlyctl.md has the shapes; they are stable.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ya_salt.messages import format_time
from ya_salt.rollout.decide import Pause
from ya_salt.rollout.overview import Holder, Standing, judge_state, list_blocks, list_halted
from ya_salt.rollout.rule import Rule
from ya_salt.rollout.rulechange import Applied, make_file


def applied_to_data(applied: Sequence[Applied], *, is_dry: bool) -> dict[str, Any]:
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


def rules_to_data(standings: Sequence[Standing]) -> dict[str, Any]:
    """The rules as they were applied; one that cannot be read has a problem in place of itself."""
    return {"rules": [_rule_to_data(item) for item in standings]}


def _rule_to_data(item: Standing) -> dict[str, Any]:
    if item.rule is None:
        return {"name": item.name, "rule": None, "problem": item.problem}
    return {"name": item.name, "rule": json.loads(item.rule.document), "problem": ""}


def rule_to_file(rule: Rule) -> dict[str, Any]:
    """The rule as apply-rule -f takes it."""
    return make_file(json.loads(rule.document))


def standings_to_data(standings: Sequence[Standing], now: float) -> dict[str, Any]:
    return {"rules": [_standing_to_data(item, now) for item in standings]}


def _standing_to_data(item: Standing, now: float) -> dict[str, Any]:
    blocks = list_blocks(item, now)
    return {
        "name": item.name,
        "state": judge_state(blocks),
        "problem": item.problem,
        "maxConcurrent": item.rule.max_concurrent if item.rule else None,
        "held": len(item.slots),
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


def _rate_to_data(item: Standing) -> dict[str, int] | None:
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
