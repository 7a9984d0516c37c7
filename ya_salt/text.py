"""Text from outside, made harmless for whoever reads it. Pure."""

from __future__ import annotations

from collections.abc import Iterable


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


def redact(text: str, secrets: Iterable[str]) -> str:
    """Without the secrets: whoever is asked may repeat what it was told."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return text
