"""The `cpu_set` property: `0-1`, `node 0; mems 0`, `jail 2`, `reserve 1`. Pure."""

from __future__ import annotations

from ya_salt.devporto.refusal import make_invalid
from ya_salt.devporto.values import format_bitmap, parse_bitmap, parse_int, split_escaped


def parse_cpu_set(text: str) -> str:
    """Find the normal form of `0-1`, `node 0; mems 0`, `jail 2`, `reserve 1`. Raises Refusal."""
    jail, mems, rest = 0, "", list[str]()
    for row in split_escaped(text, " ", ";"):
        if row[0] not in ("mems", "jail"):
            rest = row
        elif len(row) != 2:
            raise make_invalid("wrong format")
        elif row[0] == "mems":
            mems = row[1]
        else:
            jail = _parse_positive(row[1])
    parts = [f"jail {jail}"] if jail else []
    chosen = _parse_cpu_choice(rest)
    if jail and chosen and not chosen.startswith("node"):
        raise make_invalid("wrong format")
    return "; ".join([*parts, *([chosen] if chosen else []), *([f"mems {mems}"] if mems else [])])


def _parse_positive(text: str) -> int:
    value = parse_int(text)
    if value <= 0:
        raise make_invalid("must be positive")
    return value


def _parse_cpu_choice(words: list[str]) -> str:
    if not words or words[0] in ("all", "inherit"):
        return ""
    if len(words) == 1:
        return format_bitmap(parse_bitmap(words[0]))
    number = parse_int(words[1]) if len(words) == 2 else -1
    if words[0] not in ("node", "threads", "cores", "reserve"):
        raise make_invalid("wrong format")
    if number < 0 or (not number and words[0] != "node"):
        raise make_invalid("wrong format")
    return f"{words[0]} {number}"
