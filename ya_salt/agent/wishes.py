"""When the next pass is to begin. Pure: every time is seconds of a clock that only grows.

A burst is one pass: it begins when nothing more has come for a moment, but not much later.
"""

from __future__ import annotations

from collections.abc import Iterable

from ya_salt.quick_dataclass import dataclass, field

QUIET_S = 0.04
LATEST_S = 0.12

_BURST = 5
_REFILL_S = 10.0
_MAX_KEYS = 5000
_MAX_REASONS = 20


@dataclass
class _Bucket:
    left: float
    at: float


class Pacer:
    """Lets the same cause through some times at once, then once every ten seconds."""

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}

    def delay(self, key: str, now: float) -> float:
        """Seconds from now until the cause may count; takes its turn."""
        bucket = self._buckets.get(key)
        if bucket is None:
            self._make_room(now)
            bucket = self._buckets[key] = _Bucket(_BURST, now)
        bucket.left = min(_BURST, bucket.left + (now - bucket.at) / _REFILL_S)
        bucket.at = now
        # What has to wait takes its turn now all the same.
        bucket.left -= 1
        return max(0.0, -bucket.left * _REFILL_S)

    def _make_room(self, now: float) -> None:
        if len(self._buckets) >= _MAX_KEYS:
            full = _BURST * _REFILL_S
            kept = {key: one for key, one in self._buckets.items() if now - one.at < full}
            self._buckets = kept if len(kept) < _MAX_KEYS else {}


@dataclass
class Wishes:
    """Why there is to be a pass, and when."""

    pacer: Pacer = field(default_factory=Pacer)
    _first: float | None = None
    _last: float = 0.0
    _reasons: dict[str, None] = field(default_factory=dict)
    _later: dict[str, float] = field(default_factory=dict)

    def add(self, reason: str, now: float) -> None:
        """A pass as soon as the burst is over."""
        if self._first is None:
            self._first = now
        self._last = now
        if len(self._reasons) < _MAX_REASONS:
            self._reasons[reason] = None

    def add_paced(self, reason: str, now: float) -> None:
        """The same, but not too often for the same reason."""
        if reason in self._later:
            return
        delay_s = self.pacer.delay(reason, now)
        if delay_s:
            self.add_later(reason, now + delay_s)
        else:
            self.add(reason, now)

    def add_later(self, reason: str, at: float) -> None:
        """A pass at that time."""
        self._later[reason] = min(at, self._later.get(reason, at))

    def drop_later(self, reason: str) -> None:
        """It has happened meanwhile."""
        self._later.pop(reason, None)

    def ripen(self, now: float) -> None:
        """Take up what was put off and is due."""
        for reason in [reason for reason, at in self._later.items() if at <= now]:
            del self._later[reason]
            self.add(reason, now)

    def find_due(self) -> float | None:
        """When the next pass is to begin, None: nobody wants one."""
        burst = self.find_burst_end()
        return min((*self._later.values(), *([] if burst is None else [burst])), default=None)

    def find_burst_end(self) -> float | None:
        """The same without what was put off until later."""
        if self._first is None:
            return None
        return min(self._last + QUIET_S, self._first + LATEST_S)

    def take(self) -> tuple[str, ...]:
        """The reasons of the pass that begins now; they are done with."""
        reasons = tuple(self._reasons)
        self._first, self._reasons = None, {}
        return reasons


def describe(reasons: Iterable[str]) -> str:
    """A few of them, in words."""
    found = list(reasons)
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more
