"""The `ulimit` property: `nofile: 1024 2048; core: 0 unlimited`. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ya_salt.devporto.refusal import make_invalid
from ya_salt.devporto.values import UINT64_MAX, parse_size, trim

Ulimits = dict[str, tuple[int, int]]
"""(soft, hard) by type, in the order they were set; UINT64_MAX is unlimited."""

_TYPES = (
    *("as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile"),
    *("nproc", "rss", "rtprio", "rttime", "sigpending", "stack"),
)
_UNLIMITED = ("unlimited", "unlim", "inf", "-1")

DEFAULT: Ulimits = {
    "core": (0, UINT64_MAX),
    "nofile": (8 << 10, 1 << 20),
    "memlock": (8 << 20, UINT64_MAX),
}
"""What portod gives to everybody (its default_ulimit and memlock_minimal)."""


def parse_ulimits(text: str) -> Ulimits:
    """Parse a list of limits. Raises Refusal(InvalidValue)."""
    limits: Ulimits = {}
    for part in map(trim, text.split(";")):
        if part:
            limits |= _parse_one(part)
    return limits


def _parse_one(text: str) -> Ulimits:
    name, colon, numbers = text.partition(":")
    name = trim(name)
    if not colon or name not in _TYPES:
        raise make_invalid(f"Invalid ulimit: {text}")
    soft, _, hard = trim(numbers).partition(" ")
    low = _parse_number(soft)
    return {name: (low, _parse_number(trim(hard)) if trim(hard) else low)}


def _parse_number(text: str) -> int:
    return UINT64_MAX if text in _UNLIMITED else parse_size(text)


def format_ulimits(limits: Mapping[str, tuple[int, int]]) -> str:
    """Every entry ends with `; `, the last too."""
    return "".join(
        f"{name}: {_format(soft)} {_format(hard)}; " for name, (soft, hard) in limits.items()
    )


def _format(value: int) -> str:
    return "unlimited" if value >= UINT64_MAX else str(value)


def merge_ulimits(old: Ulimits, fresh: Ulimits) -> Ulimits:
    """`fresh` wins, places are kept."""
    return {**old, **fresh}
