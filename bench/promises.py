"""What was promised of a pass that finds nothing to do, and whether it is kept. Pure.

Ratios of one run, and memory: seconds of one machine tell nothing about another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.measure import Samples

FLOOR = "floor"
APPLY = "ya-salt apply"
SINKS = "ya-salt apply, all sinks"
FULL = "ya-salt apply --full"
STATUS = "ya-salt status"
SAVED = "ya-salt status --saved"
VERSION = "ya-salt --version"
HELP = "ya-salt --help"
IMPORTS = "python -c 'import json, socket'"
SALT_NOTHING = "salt: one trivial state"
SALT_OURS = "salt: state.apply porto_daemons"
SALT_FULL = "salt: the same, all read anew"
SALT_MANY = "salt: as many trivial states"
SALT_OWN = "salt: pkg.installed of all, one check"

Unit = Literal["x", "MB", "ms"]


@dataclass(frozen=True)
class Promise:
    what: str
    beside: str
    """What it is measured by; "" for what has a unit of its own. What it takes more, in "ms"."""
    most: float
    unit: Unit = "x"


@dataclass(frozen=True)
class Verdict:
    promise: Promise
    measured: float
    least: float
    """What is left of it where the machine was busy with others."""

    @property
    def is_kept(self) -> bool:
        return self.measured <= self.promise.most


def list_promises(count: int) -> Sequence[Promise]:
    """For `count` daemons."""
    return (
        Promise(APPLY, FLOOR, 1.5 if count >= 500 else 2.0),
        *([Promise(APPLY, "", 40.0, "MB")] if count <= 500 else []),
        Promise(SINKS, FLOOR, 3.0),
        Promise(STATUS, IMPORTS, 2.0),
        Promise(VERSION, IMPORTS, 1.3),
        Promise(HELP, IMPORTS, 2.0),
        Promise(SALT_OURS, SALT_NOTHING, 1.3)
        if count == 1
        else Promise(SALT_OURS, SALT_NOTHING, 1.0 * min(count, 500), "ms"),
    )


def judge(promises: Sequence[Promise], samples: Mapping[str, Samples]) -> list[Verdict]:
    """Of those that were measured."""
    return [
        _judge(promise, samples[promise.what], samples.get(promise.beside))
        for promise in promises
        if promise.what in samples and promise.beside in {"", *samples}
    ]


def _judge(promise: Promise, found: Samples, beside: Samples | None) -> Verdict:
    if beside is None:
        return Verdict(promise, found.rss_mb, found.rss_mb)
    if promise.unit == "ms":
        return Verdict(promise, found.ms_more_than(beside), found.least_ms_more_than(beside))
    return Verdict(promise, found.ratio_to(beside), found.least_ratio_to(beside))
