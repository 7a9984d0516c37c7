"""Text from outside, made harmless for whoever reads it. Pure."""

from __future__ import annotations

import json
import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def printable(text: str, limit: int | None = None) -> str:
    r"""One line that cannot steer a terminal or a log, of at most `limit` characters.

    Line ends and other blanks become one blank each run. Whatever else does not show itself is
    written out, as \x1b or \u202e: control characters (C0, DEL, C1), those that turn the
    direction of writing or take no room, bytes that were no text (lone surrogates).
    """
    return escape(" ".join(text.split()))[:limit]


def escape(line: str) -> str:
    """The same with its blanks as they are; a line end is written out, too."""
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


def escape_lines(text: str) -> str:
    """The same for a text of several lines, which keeps its line ends and tabs."""
    return "\n".join(
        "\t".join(map(escape, line.split("\t"))) for line in text.replace("\r\n", "\n").split("\n")
    )


def escape_all(data: Any) -> Any:
    """Plain data (lists, dictionaries, strings) with every text in it made harmless so."""
    if isinstance(data, str):
        return escape_lines(data)
    if isinstance(data, dict):
        return {escape_all(key): escape_all(value) for key, value in data.items()}
    return [escape_all(item) for item in data] if isinstance(data, list | tuple) else data


def count(number: int, word: str) -> str:
    """`1 host`, `2 hosts`."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def join_words(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def redact(text: str, secrets: Iterable[str]) -> str:
    """Without the secrets: whoever is asked may repeat what it was told."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return text


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
