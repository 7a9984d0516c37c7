"""A rule: how a change may go through a fleet. Pure data; rule_file.py reads it from a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ya_salt.quick_dataclass import dataclass, field

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class Rate:
    """At most `count` starts in any `window_s` seconds."""

    count: int
    window_s: int


@dataclass(frozen=True)
class Freeze:
    """No starts from `start` until right before `end`, both seconds since 1970."""

    start: float
    end: float
    reason: str = ""


@dataclass(frozen=True)
class Window:
    """Starts are possible on `days` (0 is Monday) from `start_minute` until `end_minute`.

    Minutes count from local midnight, 0 to 1440. Where the end is not after the start, the window
    goes on into the day after.
    """

    days: frozenset[int]
    start_minute: int
    end_minute: int


@dataclass(frozen=True)
class Rule:
    """What a rule file says. `document` is the same as protobuf JSON, as etcd keeps it."""

    name: str
    max_concurrent: int = 1
    """Hosts that may change at once, those that failed with the same version included."""
    rate: Rate | None = None
    selector: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Fact of a host -> the values that it may have."""
    max_failures: int | None = 1
    """Hosts that may fail with one version before nobody else gets it; None: any number."""
    min_healthy_s: int | None = None
    """A slot is given back when the daemon has stayed ready for this long; None: when the
    probation of the update is over."""
    first_install: Literal["gate", "allow"] = "gate"
    on_lost: Literal["hold", "free"] = "hold"
    lost_after_s: int = 3600
    """A holder that has not been heard of for this long is lost."""
    time_zone: str = "UTC"
    freeze: tuple[Freeze, ...] = ()
    windows: tuple[Window, ...] = ()
    """None: always."""
    document: str = ""
