"""Juggler's client: a raw event for each daemon and one for the host. Rendering is pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ya_salt.model import JugglerSettings
from ya_salt.monitoring.metrics import Metrics, cut_text

TAG = "porto-daemon"
MAX_EVENTS = 50
"""In one request, says Juggler."""
MAX_DESCRIPTION_BYTES = 1024

Event = dict[str, Any]


def render_events(metrics: Metrics, settings: JugglerSettings, hostname: str) -> list[Event]:
    """One event a daemon, OK when ready, CRIT otherwise, also when held; one for the host."""
    told = [
        (
            f"porto-daemon-{daemon.name}-ready",
            "OK" if daemon.ready else "CRIT",
            daemon.description,
        )
        for daemon in metrics.daemons
    ]
    return [
        {
            "host": hostname,
            "service": service,
            "instance": settings.instance,
            "status": status,
            "description": cut_text(description, MAX_DESCRIPTION_BYTES),
            "tags": [TAG],
        }
        for service, status, description in (*told, _describe_host(metrics))
    ]


def _describe_host(metrics: Metrics) -> tuple[str, str, str]:
    problems = metrics.host.problems
    if not problems:
        return "porto-daemons", "OK", "every file is used, the last pass was made"
    status = "CRIT" if any(problem.is_critical for problem in problems) else "WARN"
    return "porto-daemons", status, "; ".join(problem.text for problem in problems)


def render_requests(events: Sequence[Event], source: str) -> Iterator[dict[str, Any]]:
    """Bodies of requests, each with as many events as Juggler takes at once."""
    for start in range(0, len(events), MAX_EVENTS):
        yield {"source": source, "events": list(events[start : start + MAX_EVENTS])}
