"""JSON from outside, to the letter. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any


def parse_json(data: str | bytes, max_depth: int | None = None) -> Any:
    """JSON to the letter of RFC 8259. Raises ValueError, and nothing else, for whatever is not.

    That is, no NaN and no Infinity either, be it only for a number too big. The error shows nothing
    of the text. Whoever compares or writes again what is nested wants a `max_depth`, as that is
    done by recursion.
    """
    problem = ValueError("is no JSON")
    try:
        parsed = json.loads(data, parse_constant=_refuse, parse_float=_parse_float)
        if max_depth is None or not _is_deeper(parsed, max_depth):
            return parsed
        problem = ValueError(f"is nested more than {max_depth} deep")
    except (ValueError, RecursionError):
        pass
    # Not chained: what was read hangs on those errors.
    raise problem


def _is_deeper(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth + 1):
        level = [child for item in level for child in _list_children(item)]
    return bool(level)


def _list_children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _refuse(word: str) -> float:
    raise ValueError(word)


def _parse_float(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)
