"""Show things to people (tables) and to programs (JSON, YAML). Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from ya_salt.model import DaemonPlan, DaemonStatus, describe_step


def render_data(data: object, form: str) -> str:
    """`form` is json or yaml."""
    if form == "json":
        return json.dumps(data, indent=2, ensure_ascii=False)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True).rstrip()


def render_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns two spaces apart, without trailing ones."""
    table = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(row[index]) for row in table) for index in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def render_statuses(
    statuses: Sequence[DaemonStatus], now: float, *, show_actions: bool = False
) -> str:
    """The table, then lines for what was done and for what somebody has to look at."""
    if not statuses:
        return "no daemons"
    rows = [
        (
            item.name,
            item.version or "-",
            item.phase,
            item.state or "-",
            "yes" if item.ready and item.ready.status else "no",
            format_age(now - item.ready.since) if item.ready else "-",
            str(item.respawn_count),
            str(item.restart_count),
        )
        for item in statuses
    ]
    head = ("NAME", "VERSION", "PHASE", "STATE", "READY", "SINCE", "RESPAWNS", "RESTARTS")
    notes = [note for item in statuses for note in _list_notes(item)]
    if show_actions:
        done = [f"{item.name}: {action}" for item in statuses for action in item.actions]
        notes = [*(done or ["nothing had to be done"]), *notes]
    return "\n".join([render_table(head, rows), *notes])


def _list_notes(status: DaemonStatus) -> list[str]:
    notes = []
    if status.error:
        notes.append(f"{status.name}: error: {status.error}")
    elif status.ready and not status.ready.status and status.phase != "Removed":
        notes.append(f"{status.name}: not ready: {status.ready.reason}: {status.ready.message}")
    if status.phase == "Orphaned":
        notes.append(
            f"{status.name}: its file is gone, so it is left as it is; put the file back, with "
            "meta.delete_requested: true if the daemon is to be removed"
        )
    notes += [f"{status.name}: warning: {warning}" for warning in status.warnings]
    return notes


def render_plans(plans: Sequence[DaemonPlan]) -> str:
    """A line a step; what is refused stands there with its reason."""
    lines = []
    for plan in plans:
        lines += [f"{plan.name}: {describe_step(step)}" for step in plan.steps]
        lines += [f"{plan.name}: {note}" for note in plan.notes]
        if plan.refusal:
            lines.append(f"{plan.name}: refused: {plan.refusal}")
    return "\n".join(lines) or "nothing to do"


def plans_to_data(plans: Sequence[DaemonPlan]) -> dict[str, Any]:
    return {
        "plans": [
            {
                "name": plan.name,
                "steps": [describe_step(step) for step in plan.steps],
                "refusal": plan.refusal,
                "notes": list(plan.notes),
            }
            for plan in plans
        ]
    }


def format_age(seconds: float) -> str:
    """12s, 5m, 3h, 9d: one unit, as one reads it in a table."""
    whole = max(0, int(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= size:
            return f"{whole // size}{unit}"
    return f"{whole}s"
