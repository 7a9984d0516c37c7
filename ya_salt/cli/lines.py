"""Lines and columns for people: what needs nothing but text. Pure, and loads next to nothing."""

from __future__ import annotations

from ya_salt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, TypeAlias

    Paint: TypeAlias = Callable[[str, str], str]
    """(column's head, padded cell) -> the cell as a terminal shows it."""

HEAD = ("NAME", "VERSION", "PHASE", "STATE", "READY", "SINCE", "RESPAWNS", "RESTARTS")
"""Of the table of daemons; more columns may follow."""
_COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1"}
_CELL_COLOURS = {
    ("READY", "yes"): "green",
    ("READY", "no"): "red",
    ("READY", "held"): "yellow",
    ("STATE", "dead"): "red",
    ("STATE", "stopped"): "red",
    ("STATE", "respawning"): "yellow",
    ("PHASE", "Orphaned"): "yellow",
    ("PHASE", "Rejected"): "red",
    ("PHASE", "Foreign"): "red",
    ("GATE", "waiting"): "yellow",
    ("GATE", "failed"): "red",
}


# -- any table -----------------------------------------------------------------------------------


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
    columns = [_make_column(*cells) for cells in zip(head, *rows, strict=True)]
    *widths, _ = (max(map(len, column)) for column in columns)
    # The last column is as long as it is: painting must not end in blanks.
    padded = [
        [paint(column[0], cell.ljust(width)) for cell in column]
        for column, width in zip(columns, (*widths, 0), strict=True)
    ]
    return "\n".join(["  ".join(row).rstrip() for row in zip(*padded, strict=True)])


def _make_column(head: str, *cells: str) -> list[str]:
    # Most of what stands in a column stands there again.
    shown = {cell: printable(cell) for cell in set(cells)}
    return [head, *map(shown.__getitem__, cells)]


# -- sizes and ages ------------------------------------------------------------------------------


def format_bytes(number: int) -> str:
    """512B, 37M, 1.5G: as much as one reads in a table."""
    size = float(number)
    for unit in ("B", "K", "M", "G"):
        if size < 1000:
            return f"{size:.1f}{unit}" if size < 10 and unit != "B" else f"{size:.0f}{unit}"
        size /= 1024
    return f"{size:.1f}T"


def format_size(number: int) -> str:
    """2G, 1536M, 1000000 (977K): to the byte, in the units of specs where that is shorter."""
    for unit, size in (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if number and number % size == 0:
            return f"{number // size}{unit}"
    return f"{number} ({format_bytes(number)})" if number >= 1 << 10 else str(number)


def format_memory(number: int | None) -> str:
    """The same, where it may be unknown."""
    return "-" if number is None else format_bytes(number)


def format_age(seconds: float) -> str:
    """12s, 5m, 3h, 9d: one unit, as one reads it in a table."""
    whole = int(min(max(0.0, seconds), 1e11))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= size:
            return f"{whole // size}{unit}"
    return f"{whole}s"


# -- around the daemons --------------------------------------------------------------------------


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


def describe_last_pass(last_pass: Mapping[str, Any] | None, now: float) -> list[str]:
    """The files that cannot be used, and how the last pass over the directory ended."""
    if last_pass is None:
        return ["no pass over the daemons directory was made yet: ya-salt apply"]
    problems = [problem for _, problems in last_pass["rejected"] for problem in problems]
    if last_pass["result"] is None:
        return [*problems, *describe_last_pass(None, now)]
    age = format_age(now - last_pass["started_at"])
    result = last_pass["result"]
    error = last_pass["error"].removeprefix(f"{result}: ")
    said = f": {error}" if error else ""
    return [*problems, f"last pass: {age} ago, {result}{said}"]


def describe_cause(cause: tuple[float, str] | None, now: float) -> str:
    if cause is None:
        return "-"
    at, what = cause
    return f"{format_age(now - at)} ago: {' '.join(what.split())}"


def cut(text: str, room: int) -> str:
    return text if not room or len(text) <= room else f"{text[: room - 1]}…"
