"""Keep the log readable when the same goes wrong again and again.

A line comes through once a minute for each daemon and reason, then with how often it was held back.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

from ya_salt.quick_dataclass import dataclass

WINDOW_S = 60.0
_MAX_KINDS = 500
_NAME = re.compile(r"porto-daemon-[^\s:]+")
_NUMBERS = re.compile(r"\d+")
_MAX_KEY = 200


@dataclass
class _Kind:
    """Lines that differ in their numbers only."""

    since: float
    text: str
    """One of them."""
    held_back: int = 0


class Repeats(logging.Filter):
    """A filter for a handler. `clock` gives seconds that only ever grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[str, _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Let it through, or count it."""
        text = record.getMessage()
        key = _make_key(text[:_MAX_KEY])
        now = self._clock()
        kind = self._kinds.get(key)
        if kind is not None and now - kind.since < WINDOW_S:
            kind.held_back += 1
            return False
        if kind is not None and kind.held_back:
            record.msg, record.args = _with_count(text, kind.held_back), ()
        if len(self._kinds) >= _MAX_KINDS:
            self._forget(now)
        self._kinds[key] = _Kind(now, text)
        return True

    def take_over(self) -> list[str]:
        """What was held back of lines that did not come again, in words; each once."""
        now = self._clock()
        over = [kind for kind in self._kinds.values() if now - kind.since >= WINDOW_S]
        self._forget(now)
        return [_with_count(kind.text, kind.held_back) for kind in over if kind.held_back]

    def _forget(self, now: float) -> None:
        kept = {key: kind for key, kind in self._kinds.items() if now - kind.since < WINDOW_S}
        # More kinds than that a minute: what is said is another thing each time.
        self._kinds = kept if len(kept) < _MAX_KINDS else {}


def _make_key(text: str) -> str:
    """The same for lines about one daemon that differ in numbers only."""
    name = _NAME.match(text)
    end = name.end() if name else 0
    return text[:end] + _NUMBERS.sub("#", text[end:])


def _with_count(text: str, count: int) -> str:
    return f"{text} (and {count} more like it)"
