"""YASM's agent: signals, as the users' document names them. Rendering is pure."""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any

from ya_salt.model import YasmSettings
from ya_salt.monitoring.metrics import DaemonMetrics, Metrics

_ALPHABET = frozenset(string.ascii_letters + string.digits + "-_.@")
"""Of a daemon's characters those that YASM takes in a signal's name."""


def render_push(metrics: Metrics, settings: YasmSettings) -> list[dict[str, Any]]:
    """The body of a push: `[{"ttl": s, "tags": {…}, "values": [{"name": …, "val": …}]}]`."""
    values = [{"name": name, "val": value} for name, value in _list_values(metrics)]
    return [{"ttl": settings.ttl_s, "tags": dict(settings.tags), "values": values}]


def map_name(name: str) -> str:
    """A daemon's name in YASM's alphabet, no two alike.

    A slash cannot be in a daemon's name, so one with two hex digits stands for what is not taken.
    """
    return "".join(char if char in _ALPHABET else f"/{ord(char):02x}" for char in name)


def _list_values(metrics: Metrics) -> Iterator[tuple[str, int]]:
    standing = {daemon.name for daemon in metrics.daemons}
    for daemon in metrics.daemons:
        yield from _list_daemon(daemon, metrics)
    for name, (respawns, restarts) in metrics.news.items():
        # A daemon that is gone: only what happened before it went.
        if name not in standing and (respawns or restarts):
            yield from _list_counts(name, respawns, restarts)
    yield from _list_host(metrics)


def _list_daemon(daemon: DaemonMetrics, metrics: Metrics) -> Iterator[tuple[str, int]]:
    prefix = f"porto-daemon-{map_name(daemon.name)}"
    yield f"{prefix}-ready_thhh", int(daemon.ready)
    yield f"{prefix}-running_thhh", int(daemon.running)
    yield f"{prefix}-gate_waiting_thhh", int(daemon.waits)
    yield f"{prefix}-gate_failed_thhh", int(daemon.slot == "failed")
    if daemon.probe_failures is not None:
        yield f"{prefix}-probe_failed_thhh", int(daemon.is_probe_failed)
    yield f"{prefix}-crash_looping_thhh", int(daemon.keeps_dying)
    yield f"{prefix}-held_thhh", int(daemon.is_held)
    yield f"{prefix}-version_rejected_thhh", int(daemon.is_version_rejected)
    yield from _list_counts(daemon.name, *metrics.news.get(daemon.name, (0, 0)))


def _list_counts(name: str, respawns: int, restarts: int) -> Iterator[tuple[str, int]]:
    prefix = f"porto-daemon-{map_name(name)}"
    yield f"{prefix}-respawn_count_thhh", respawns
    yield f"{prefix}-restart_count_thhh", restarts


def _list_host(metrics: Metrics) -> Iterator[tuple[str, int]]:
    host = metrics.host
    yield "porto-daemons-rejected_files_thhh", len(host.rejected)
    yield "porto-daemons-orphans_thhh", len(host.orphans)
    yield "porto-daemons-pass_failed_thhh", int(bool(host.pass_error))
    yield "porto-daemons-pass_old_thhh", int(host.is_pass_old)
    yield "porto-daemons-gate_queue_thhh", host.gate_queue
    yield "porto-daemons-gate_unreachable_thhh", int(host.gate.is_up is False)
    yield "porto-daemons-holds_forgotten_thhh", len(host.forgotten)
