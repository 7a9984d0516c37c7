"""Text from outside, made harmless for whoever reads it. Pure."""

from __future__ import annotations

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
