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
AGENT_PASS = "ya-salt run: a pass with nothing to do"
AGENT_LIVE = "ya-salt run: one live change"
AGENT_RESTART = "ya-salt run: one restart"

Unit = Literal["x", "MB", "ms", "ms CPU"]


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


def list_agent_promises(count: int) -> Sequence[Promise]:
    """The same under `ya-salt run`, in processor time of its process."""
    return (
        Promise(AGENT_PASS, "", 5.0 if count <= 100 else 10.0, "ms CPU"),
        Promise(AGENT_LIVE, AGENT_PASS, 20.0, "ms CPU"),
        Promise(AGENT_RESTART, AGENT_PASS, 20.0, "ms CPU"),
    )


def judge_figures(promises: Sequence[Promise], figures: Mapping[str, float]) -> list[Verdict]:
    """Of figures that are all of one unit."""
    found = [(one, figures[one.what] - figures.get(one.beside, 0.0)) for one in promises]
    return [Verdict(promise, measured, measured) for promise, measured in found]


def describe_verdicts(verdicts: Sequence[Verdict]) -> str:
    """A line for each."""
    lines = []
    for verdict in verdicts:
        promise = verdict.promise
        beside = f" beside {promise.beside}" if promise.beside else ""
        said = "kept" if verdict.is_kept else "NOT KEPT"
        lines.append(
            f"  {said:9} {promise.what}{beside}: {verdict.measured:.2f} {promise.unit}, "
            f"promised {promise.most:g} {promise.unit}"
        )
    return "\n".join(lines)


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
