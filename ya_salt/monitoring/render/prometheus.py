"""node_exporter's textfile collector: the same metrics by Prometheus' conventions. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ya_salt.monitoring.metrics import DaemonMetrics, HostMetrics, Metrics

if TYPE_CHECKING:
    from prometheus_client.core import Metric


FILE_NAME = "ya-salt.prom"

_Value = float | int | bool | None

_GAUGES: Sequence[tuple[str, str, Callable[[DaemonMetrics], _Value]]] = (
    ("ready", "Whether the daemon is installed and runs from its current spec.", lambda d: d.ready),
    ("running", "Whether the daemon's command runs.", lambda d: d.running),
    (
        "last_transition_timestamp_seconds",
        "When the daemon became ready, or ceased to be.",
        lambda d: d.since,
    ),
    (
        "start_duration_seconds",
        "Time from the making of the daemon's container to its first being ready.",
        lambda d: d.start_duration_s,
    ),
    (
        "probe_failures",
        "Times in a row that the daemon failed its readiness probe.",
        lambda d: d.probe_failures,
    ),
    (
        "drifted",
        "Properties and packages that somebody else has changed and that are left as they are.",
        lambda d: d.drifted or None,
    ),
    ("memory_usage_bytes", "Memory that the daemon's container uses.", lambda d: d.memory_bytes),
    ("gate_waiting", "Whether a change of the daemon waits for the gate.", lambda d: d.waits),
    ("gate_slot", "Whether the host has the gate's slot for the daemon.", lambda d: bool(d.slot)),
    (
        "gate_failed",
        "Whether a change of the daemon failed, which keeps its slot.",
        lambda d: d.slot == "failed",
    ),
    (
        "crash_looping",
        "Whether the daemon dies again and again and rests before each start.",
        lambda d: d.keeps_dying,
    ),
    (
        "version_rejected",
        "Whether the version of its file has failed and is not tried again.",
        lambda d: d.is_version_rejected,
    ),
    ("held", "Whether the daemon is down because somebody stopped it.", lambda d: d.is_held),
    (
        "held_without_end_timestamp_seconds",
        "When somebody stopped the daemon without saying until when.",
        lambda d: d.held_without_end_since,
    ),
)

_COUNTERS: Sequence[tuple[str, str, Callable[[DaemonMetrics], _Value]]] = (
    ("respawns", "Times that portod started the daemon again.", lambda d: d.respawns),
    ("restarts", "Times that ya-salt stopped and started the daemon.", lambda d: d.restarts),
    ("cpu_usage_seconds", "CPU time that the daemon's container has used.", lambda d: d.cpu_s),
)

_HOST_GAUGES: Sequence[tuple[str, str, Callable[[HostMetrics], _Value]]] = (
    ("pass_duration_seconds", "How long the last pass took.", lambda h: h.pass_duration_s),
    ("pass_timestamp_seconds", "When the last pass ended.", lambda h: h.pass_ended_at),
    ("pass_result", "1 where the last pass ended well, else 0.", lambda h: h.pass_ok),
    (
        "pass_failed",
        "1 where the last pass could not be made at all, else 0.",
        lambda h: bool(h.pass_error),
    ),
    (
        "rejected_files",
        "Files of the daemons directory that cannot be used.",
        lambda h: len(h.rejected),
    ),
    ("orphans", "Daemons whose file is gone.", lambda h: len(h.orphans)),
    ("gate_queue_length", "Daemons whose change waits for its turn.", lambda h: h.gate_queue),
    (
        "gate_up",
        "1 where the gate answered, 0 where it could not be asked.",
        lambda h: h.gate.is_up,
    ),
    (
        "gate_overridden",
        "1 where the last pass went past the gate, else 0.",
        lambda h: bool(h.gate.override),
    ),
)


def render_text(metrics: Metrics) -> bytes:
    """The whole file, in Prometheus' text format."""
    # Only hosts with a node_exporter pay for it.
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415

    class Snapshot:
        def collect(self) -> Iterable[Metric]:
            return make_metrics(metrics)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Snapshot())
    return generate_latest(registry)


def make_metrics(metrics: Metrics) -> list[Metric]:
    """What is not known (the memory of a container that does not run) has no sample."""
    return [*_make_daemons(metrics), *_make_infos(metrics), *_make_host(metrics)]


def _make_daemons(metrics: Metrics) -> list[Metric]:
    from prometheus_client.core import (  # noqa: PLC0415 - only where somebody collects
        CounterMetricFamily,
        GaugeMetricFamily,
    )

    made: list[Metric] = []
    for family, rows in ((GaugeMetricFamily, _GAUGES), (CounterMetricFamily, _COUNTERS)):
        for name, text, find in rows:
            metric = family(f"porto_daemon_{name}", text, labels=("daemon",))
            for daemon in metrics.daemons:
                value = find(daemon)
                if value is not None:
                    metric.add_metric((daemon.name,), float(value))
            made.append(metric)
    return made


def _make_infos(metrics: Metrics) -> list[Metric]:
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415

    info = GaugeMetricFamily(
        "porto_daemon_info", "What the daemon runs from.", labels=("daemon", "version", "digest")
    )
    for daemon in metrics.daemons:
        info.add_metric((daemon.name, daemon.version, daemon.digest), 1)
    rejected = GaugeMetricFamily(
        "porto_daemon_spec_rejected", "A file that cannot be used.", labels=("file",)
    )
    for path, _problem in metrics.host.rejected:
        rejected.add_metric((path,), 1)
    return [info, rejected]


def _make_host(metrics: Metrics) -> list[Metric]:
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415

    return [
        GaugeMetricFamily(f"porto_daemons_{name}", text, value=float(value))
        for name, text, find in _HOST_GAUGES
        if (value := find(metrics.host)) is not None
    ]
