"""Show how daemons stand to people: tables and lines. Pure.

What comes from outside is written so that it cannot steer a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from ya_salt.model import DaemonPlan, DaemonStatus, describe_step, is_state
from ya_salt.text import printable

Paint: TypeAlias = "Callable[[str, str], str]"
"""(column's head, padded cell) -> the cell as a terminal shows it."""

Causes: TypeAlias = "Mapping[str, tuple[float, str]]"
"""Daemon -> when and why something was done to it last."""

_HEAD = ("NAME", "VERSION", "PHASE", "STATE", "READY", "SINCE", "RESPAWNS", "RESTARTS", "MEMORY")
_IDLE = "nothing had to be done"
_COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1"}
_CELL_COLOURS = {
    ("READY", "yes"): "green",
    ("READY", "no"): "red",
    ("STATE", "dead"): "red",
    ("STATE", "stopped"): "red",
    ("STATE", "respawning"): "yellow",
    ("PHASE", "Orphaned"): "yellow",
    ("PHASE", "Rejected"): "red",
    ("PHASE", "Foreign"): "red",
    ("GATE", "waiting"): "yellow",
    ("GATE", "failed"): "red",
}


def paint_nothing(_column: str, cell: str) -> str:
    """For a pipe, a file, and whoever asked for no colours."""
    return cell


def paint_cell(column: str, cell: str) -> str:
    """What wants to be seen, in a terminal's colours."""
    text = cell.strip()
    colour = "bold" if text == column else _CELL_COLOURS.get((column, text), "")
    return f"\x1b[{_COLOURS[colour]}m{cell}\x1b[0m" if colour else cell


def render_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], paint: Paint = paint_nothing
) -> str:
    """Columns two spaces apart, without trailing ones."""
    table = [tuple(head), *(tuple(map(printable, row)) for row in rows)]
    widths = [max(len(row[index]) for row in table) for index in range(len(head))]
    # The last column is as long as it is: painting must not end in blanks.
    widths[-1] = 0
    return "\n".join(
        "  ".join(
            paint(column, cell.ljust(width))
            for column, cell, width in zip(head, row, widths, strict=True)
        ).rstrip()
        for row in table
    )


def render_statuses(  # noqa: PLR0913 - each but the first two is a way of showing it
    statuses: Sequence[DaemonStatus],
    now: float,
    *,
    causes: Causes | None = None,
    show_actions: bool = False,
    paint: Paint = paint_nothing,
    width: int = 0,
) -> str:
    """The table, then lines for what was done and for what somebody has to look at.

    Causes are cut so that a line is at most `width` long, if that is given.
    """
    if not statuses:
        return "no daemons"
    head: tuple[str, ...] = _HEAD
    rows = [_list_cells(item, now) for item in statuses]
    if any(item.gate for item in statuses):
        head = (*head, "GATE")
        states = [item.gate.state if item.gate else "-" for item in statuses]
        rows = [(*row, state) for row, state in zip(rows, states, strict=True)]
    if causes is not None:
        used = sum(max(map(len, column)) + 2 for column in zip(head, *rows, strict=True))
        room = max(20, width - used) if width else 0
        head = (*head, "LAST CAUSE")
        rows = [
            (*row, _cut(_describe_cause(causes.get(item.name), now), room))
            for row, item in zip(rows, statuses, strict=True)
        ]
    notes = [note for item in statuses for note in _list_notes(item)]
    if show_actions:
        done = [f"{item.name}: {action}" for item in statuses for action in item.actions]
        idle = "nothing was done" if any(item.waits for item in statuses) else _IDLE
        notes = [*(done or [idle]), *notes]
    return "\n".join([render_table(head, rows, paint), *map(printable, notes)])


def _list_cells(item: DaemonStatus, now: float) -> tuple[str, ...]:
    return (
        item.name,
        item.version or "-",
        item.phase,
        item.state or "-",
        "yes" if item.ready and item.ready.status else "no",
        format_age(now - item.ready.since) if item.ready else "-",
        str(item.respawn_count),
        str(item.restart_count),
        "-" if item.memory_bytes is None else format_bytes(item.memory_bytes),
    )


def _describe_cause(cause: tuple[float, str] | None, now: float) -> str:
    if cause is None:
        return "-"
    at, what = cause
    return f"{format_age(now - at)} ago: {' '.join(what.split())}"


def _cut(text: str, room: int) -> str:
    return text if not room or len(text) <= room else f"{text[: room - 1]}…"


def _list_notes(status: DaemonStatus) -> list[str]:
    notes = []
    if status.error:
        notes.append(f"{status.name}: error: {status.error}")
    elif status.waits:
        notes.append(f"{status.name}: {_describe_gate(status)}")
    elif status.ready and not status.ready.status and status.phase != "Removed":
        notes.append(f"{status.name}: not ready: {status.ready.reason}: {status.ready.message}")
    if status.phase == "Orphaned":
        notes.append(
            f"{status.name}: its file is gone, so it is left as it is; put the file back, with "
            "meta.delete_requested: true if the daemon is to be removed"
        )
    elif is_state(status.path):
        notes.append(f"{status.name}: defined by {status.path}")
    notes += [f"{status.name}: warning: {warning}" for warning in status.warnings]
    return notes


def _describe_gate(status: DaemonStatus) -> str:
    gate = status.gate
    if gate is None:
        return ""
    return f"its {gate.change} waits for the gate: {gate.reason}: {gate.message}"


def render_plans(plans: Sequence[DaemonPlan]) -> str:
    """A line a step; what is refused stands there with its reason."""
    lines = []
    for plan in plans:
        lines += [f"{plan.name}: {describe_step(step)}" for step in plan.steps]
        if plan.deferral:
            waits = f"{plan.deferral.reason}: {plan.deferral.message}"
            lines.append(f"{plan.name}: would wait for the gate: {waits}")
            lines += [f"{plan.name}: would wait: {describe_step(step)}" for step in plan.waiting]
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
                "waiting": [describe_step(step) for step in plan.waiting],
                "gate": asdict(plan.deferral) if plan.deferral else None,
                "refusal": plan.refusal,
                "notes": list(plan.notes),
            }
            for plan in plans
        ]
    }


def format_bytes(count: int) -> str:
    """512B, 37M, 1.5G: as much as one reads in a table."""
    size = float(count)
    for unit in ("B", "K", "M", "G"):
        if size < 1000:
            return f"{size:.1f}{unit}" if size < 10 and unit != "B" else f"{size:.0f}{unit}"
        size /= 1024
    return f"{size:.1f}T"


def format_age(seconds: float) -> str:
    """12s, 5m, 3h, 9d: one unit, as one reads it in a table."""
    whole = max(0, int(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= size:
            return f"{whole // size}{unit}"
    return f"{whole}s"


def describe_sinks(sinks: Iterable[Mapping[str, Any]], now: float) -> list[str]:
    """Who is not told how the daemons stand: in one line those that are not there at all."""
    sinks = tuple(sinks)
    absent = ", ".join(item["name"] for item in sinks if item["state"] == "absent")
    return [
        *([f"monitoring: not on this host: {absent}"] if absent else []),
        *(
            f"monitoring: {item['name']} {item['state']} for {format_age(now - item['since'])}: "
            f"{item['message']}"
            for item in sinks
            if item["state"] in {"refused", "unanswered"}
        ),
    ]


def describe_gate_trouble(gate: Mapping[str, Any], now: float) -> list[str]:
    """That there is none, or that it could not be asked; one that answers needs no word."""
    if gate["type"] == "none":
        return [f"gate: {gate['message']}"]
    if gate["state"] != "failed":
        return []
    age = format_age(now - gate["since"])
    return [f"gate: {gate['type']} cannot be asked for {age}: {gate['message']}"]
