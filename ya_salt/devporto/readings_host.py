"""Rows nobody can set: bounds, cgroups, network counters."""

from __future__ import annotations

import os
from pathlib import Path

from ya_salt.devporto.container import Container, State
from ya_salt.devporto.property import Question, Read
from ya_salt.devporto.readings import add_map, add_reading
from ya_salt.devporto.refusal import Refusal
from ya_salt.devporto.settings_limits import read_total_memory
from ya_salt.devporto.values import (
    CPU_POWER,
    format_bitmap,
    format_cpu_power,
    format_map,
)
from ya_salt.proto import porto_pb2 as pb

_NET_STATS = (
    *("net_bytes", "net_packets", "net_drops", "net_overlimits"),
    *("net_rx_bytes", "net_rx_packets", "net_rx_drops", "net_rx_overlimits"),
    *("net_tx_bytes", "net_tx_packets", "net_tx_drops"),
)


_NET_TABLES = ("net_netstat", "net_snmp", "net_snmp6", "net_limit_soft_stat")


_CGROUPS = (
    *("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory"),
    *("net_cls", "perf_event", "pids", "unified"),
)


def _read_memory_total(_: Question, container: Container) -> str:
    limits = [one.values.get("memory_limit", 0) for one in container.ancestors()]
    return str(min((limit for limit in limits if limit), default=read_total_memory()))


def _find_cpu(question: Question, container: Container, name: str) -> list[int]:
    powers = [one.values.get(name, 0) for one in container.ancestors()]
    if name == "cpu_limit":
        powers[-1] = question.cores * CPU_POWER
    return [power for power in powers if power]


def _sum_cpu_limit(question: Question, container: Container) -> int:
    own: int = container.values.get("cpu_limit", 0) or question.cores * CPU_POWER
    if container.state is State.RUNNING:
        return own
    return sum(
        min(_sum_cpu_limit(question, child), child.values.get("cpu_limit", 0) or 1 << 62)
        for child in container.children.values()
        if child.state in (State.RUNNING, State.META)
    )


def _read_cpu_limit_total(question: Question, container: Container) -> str:
    total = _sum_cpu_limit(question, container)
    return format_cpu_power(total) if total else ""


def _read_cpu_limit_bound(question: Question, container: Container) -> str:
    if container.state is State.STOPPED:
        return ""
    return format_cpu_power(min(_find_cpu(question, container, "cpu_limit")))


def _read_cpu_guarantee(question: Question, container: Container) -> str:
    powers = _find_cpu(question, container, "cpu_guarantee")
    return format_cpu_power(max(powers)) if powers else ""


def _read_affinity(_: Question, container: Container) -> str:
    chosen: str = container.values.get("cpu_set", "")
    if chosen[:1].isdigit():
        return chosen
    return "" if container.state is State.STOPPED else format_bitmap(os.sched_getaffinity(0))


def _find_cgroup(container: Container, kind: str) -> str:
    base = f"/sys/fs/cgroup/{kind}"
    if container.is_root:
        return base
    if kind in ("freezer", "unified"):
        return f"{base}/porto/{container.name}"
    parts = [one for one in container.ancestors() if kind in one.controllers and not one.is_root]
    return f"{base}/porto%{parts[0].name.replace('/', '%')}" if parts else base


def _read_cgroups(_: Question, container: Container) -> str:
    return format_map({kind: _find_cgroup(container, kind) for kind in _CGROUPS})


def _read_cgroup(_: Question, container: Container, index: str) -> str:
    if index not in _CGROUPS:
        raise Refusal(pb.InvalidProperty, f"Unknown cgroup subsystem: {index}")
    return _find_cgroup(container, index)


def _read_pressure(kind: str) -> Read:
    def read(_: Question, __: Container) -> str:
        try:
            lines = Path(f"/proc/pressure/{kind}").read_text(encoding="ascii").splitlines()
        except OSError:
            return ""
        return format_map({line.split()[0]: line.rpartition("total=")[2] for line in lines})

    return read


def _add_bounds() -> None:
    add_reading("cgroups", _read_cgroups, _read_cgroup)
    for kind in ("cpu", "memory", "io"):
        add_reading(f"{kind}_pressure", _read_pressure(kind), runtime_only=True)
    add_reading("memory_limit_total", _read_memory_total)
    add_reading("cpu_limit_total", _read_cpu_limit_total)
    add_reading("cpu_limit_bound", _read_cpu_limit_bound)
    add_reading("cpu_guarantee_total", _read_cpu_guarantee)
    add_reading("cpu_guarantee_bound", _read_cpu_guarantee)
    add_reading("cpu_set_affinity", _read_affinity)
    add_reading("net_class_id", lambda _, __: "1:0", lambda _, __, ___: "1:0", runtime_only=True)
    for name in ("net_limit_bound", "net_rx_limit_bound"):
        add_reading(name, lambda _, __: "")
    for name in _NET_STATS:
        add_reading(name, lambda _, __: "", lambda _, __, ___: "", runtime_only=True)
    for name in _NET_TABLES:
        add_map(name, lambda _: {})


def add_rows() -> None:
    """Fill the table."""
    _add_bounds()
