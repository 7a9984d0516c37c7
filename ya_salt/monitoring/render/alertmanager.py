"""Alertmanager, API v2: what fires now, and what no longer does. Rendering is pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ya_salt.messages import format_time
from ya_salt.monitoring.metrics import MAX_PASS_AGE_S, Metrics, cut_text

API = "/api/v2/alerts"
EXPIRES_S = 2 * MAX_PASS_AGE_S
"""An alert that no pass confirms resolves by itself after this; passes are further apart than
Alertmanager's own five minutes."""

_MAX_TEXT_BYTES = 4096

Alert = dict[str, Any]


def render_firing(metrics: Metrics, hostname: str) -> dict[str, Alert]:
    """Our own key -> alert: every daemon that is not ready, everything wrong with the host.

    One that somebody stopped is no alert; a hold that may be forgotten is the host's.
    """
    alerts = {
        f"daemon {daemon.name}": _make_alert(
            {"alertname": "PortoDaemonNotReady", "daemon": daemon.name, "severity": "critical"},
            f"porto-daemon-{daemon.name} is not ready on {hostname}",
            daemon.description,
            daemon.since or metrics.now,
            metrics.now,
        )
        for daemon in metrics.daemons
        if not daemon.ready and not daemon.is_held
    }
    for problem in metrics.host.problems:
        severity = "critical" if problem.is_critical else "warning"
        alerts[f"host {problem.kind}"] = _make_alert(
            {"alertname": "PortoDaemonsProblem", "problem": problem.kind, "severity": severity},
            f"porto-daemons: {problem.kind} on {hostname}",
            problem.text,
            metrics.now,
            metrics.now,
        )
    for alert in alerts.values():
        alert["labels"]["instance"] = hostname
    return alerts


def _make_alert(
    labels: dict[str, str], summary: str, description: str, since: float, now: float
) -> Alert:
    return {
        "labels": labels,
        "annotations": {
            "summary": summary,
            "description": cut_text(description, _MAX_TEXT_BYTES),
        },
        "startsAt": format_time(since),
        "endsAt": format_time(now + EXPIRES_S),
    }


def merge_alerts(
    firing: Mapping[str, Alert], before: Mapping[str, Alert], now: float
) -> list[Alert]:
    """What to send: what fires, with the start that was told first; what fired before, as over."""
    alerts = [
        {**alert, "startsAt": before[key]["startsAt"] if key in before else alert["startsAt"]}
        for key, alert in firing.items()
    ]
    over = [
        {**alert, "endsAt": format_time(now)} for key, alert in before.items() if key not in firing
    ]
    return alerts + over
