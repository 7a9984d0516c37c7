"""Limits in bytes as people write them, 64M and 2G, in what they read. Pure.

What programs read has them as portod does: nothing that is saved or sent comes through here.
"""

from __future__ import annotations

import re

from ya_salt.cli.lines import format_size
from ya_salt.porto.properties import PROPERTIES

_LIMITS_IN_BYTES = frozenset(
    f"ulimit[{name}]"
    for name in ("as", "core", "data", "fsize", "memlock", "msgqueue", "rss", "stack")
)
_VALUE = r"(?:\d+|unlimited|not there|unset|\(not set\))(?: (?:\d+|unlimited))?"
_CHANGE = re.compile(
    # `NAME: OLD -> NEW` of a plan, `NAME OLD -> NEW` of a step, `NAME is OLD, not NEW` of a drift.
    rf"(?<![\w.])([a-z_]+(?:\[[^\]]+\])?)(:? | is )({_VALUE})( -> |, not )({_VALUE})(?![\w.])"
)


def show_limit(name: str, text: str) -> str:
    """A limit as portod has it, with bytes as people write them."""
    row = PROPERTIES.get(name.partition("[")[0])
    is_size = row is not None and row.kind in {"size", "map of sizes"}
    if not is_size and name not in _LIMITS_IN_BYTES:
        return text
    words = [format_size(int(word)) if word.isdecimal() else word for word in text.split()]
    return " ".join(words)


def show_sizes(line: str) -> str:
    """A line with changes of limits in it, with their bytes so; all else stays as it is."""

    def show(found: re.Match[str]) -> str:
        name, joint, old, arrow, new = found.groups()
        return f"{name}{joint}{show_limit(name, old)}{arrow}{show_limit(name, new)}"

    return _CHANGE.sub(show, line)
