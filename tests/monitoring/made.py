"""Daemons that stand as a test needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ya_salt.model import Condition, DaemonStatus, GateStanding
from ya_salt.monitoring.counters import Counter, Memory
from ya_salt.monitoring.metrics import Metrics, make_metrics
from ya_salt.monitoring.report import ReportInput

NOW = 1_700_000_000.0

GOOD = DaemonStatus(
    "d",
    version="1.2",
    path="/specs/d.yaml",
    installed=Condition(True, "Installed", "every package has its declared version", NOW - 60),
    running=Condition(True, "Running", "its command runs", NOW - 60),
    ready=Condition(True, "Ready", "running without a respawn", NOW - 55),
    state="running",
    digest="abc",
    memory_bytes=1 << 20,
    cpu_ns=1_500_000_000,
)

DEAD = replace(
    GOOD,
    name="dead",
    state="dead",
    running=Condition(
        False,
        "Dead",
        "its command ended and portod does not start it again; it exited with code 3; "
        "stderr ends with: cannot open the config",
        NOW - 30,
    ),
    ready=Condition(
        False,
        "Dead",
        "its command ended and portod does not start it again; it exited with code 3; "
        "stderr ends with: cannot open the config",
        NOW - 30,
    ),
    memory_bytes=None,
    cpu_ns=None,
)

LAST_PASS: dict[str, Any] = {
    "started_at": NOW - 2,
    "duration_s": 1.5,
    "result": "ok",
    "error": "",
    "rejected": [],
    "ignored": [],
}


WAITING = replace(
    GOOD,
    name="waiting",
    ready=Condition(True, "Deferred", "it runs as before, its change waits for the gate", NOW - 55),
    gate=GateStanding("waiting", "Full", "3 of 3 slots are taken", NOW - 40, "update", "1.3"),
)
"""1.2 runs, and 1.3 may not yet."""

NO_GATE = {"type": "none", "state": "unasked", "message": "no gate is configured", "since": None}
ANSWERED = {"type": "orly", "state": "answered", "message": "", "since": NOW - 90}
FAILED = {"type": "orly", "state": "failed", "message": "etcd is silent", "since": NOW - 90}


def make(
    *statuses: DaemonStatus,
    memory: Memory | None = None,
    now: float = NOW,
    gate: Mapping[str, Any] = NO_GATE,
    **last_pass: Any,
) -> Metrics:
    return make_metrics(statuses, memory or Memory(), {**LAST_PASS, **last_pass}, now, gate)


def make_news(*statuses: DaemonStatus, now: float = NOW, **last_pass: Any) -> ReportInput:
    return ReportInput(statuses, {**LAST_PASS, **last_pass}, now)


def remember(**counts: Sequence[int]) -> Memory:
    """Daemon -> (respawns, restarts)."""
    return Memory(
        counters={name: Counter(respawns=a, restarts=b) for name, (a, b) in counts.items()}
    )
