"""Rows nobody can set: what the server and /proc know of a container and of the machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from devporto import porto_pb2 as pb
from devporto.containers import NAMESPACE, Container, State
from devporto.counting import Sample
from devporto.hardware import CpuSet, find_cpus, read_topology
from devporto.processes import list_pids, sum_io_fields, sum_status_fields
from devporto.property import Property, Question, Read, ReadIndex, add_property
from devporto.refusal import Refusal, make_bad_state, make_invalid
from devporto.rows_limits import read_total_memory
from devporto.runs import read_stream
from devporto.values import (
    CPU_POWER,
    format_bitmap,
    format_bool,
    format_cpu_power,
    format_map,
)


def add_reading(name: str, read: Read, read_index: ReadIndex | None = None, **flags: Any) -> None:
    add_property(Property(name, name.replace("_", " "), read, read_index=read_index, **flags))


@lru_cache(4096)
def format_time(moment: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(moment))


def _add_moment(name: str, find: Callable[[Container], float], *, dead_only: bool = False) -> None:
    def read(_: Question, container: Container) -> str:
        moment = find(container)
        return format_time(int(moment)) if moment else ""

    def read_raw(_: Question, container: Container, index: str) -> str:
        if index != "raw":
            raise make_invalid(f"What {index}?")
        return str(int(find(container)))

    add_reading(name, read, read_raw, dead_only=dead_only)


def _read_dead_time(_: Question, container: Container, index: str) -> str:
    if index != "dead":
        raise make_invalid(f"What {index}?")
    if container.state is not State.DEAD:
        raise make_bad_state("Not dead yet")
    return str(int(time.time() - container.died_at))


def _read_time(_: Question, container: Container) -> str:
    if container.is_root:
        return str(int(time.clock_gettime(time.CLOCK_BOOTTIME)))
    return str(container.count_time_s())


def _read_parent(_: Question, container: Container) -> str:
    if container.parent is None:
        return ""
    return "/" if container.parent.is_root else NAMESPACE + container.parent.name


def _read_root_pid(question: Question, container: Container) -> str:
    if container.is_root:
        return "1"
    if container.run and container.run.pid:
        return str(container.run.pid)
    if container.isolate and container.is_meta and container.state in (State.META, State.PAUSED):
        return str(question.keeper_pid)
    raise make_bad_state("container isn't running")


def _add_count(name: str, pick: Callable[[Sample], int]) -> None:
    def read(question: Question, container: Container) -> str:
        return str(pick(question.census.measure(container)))

    add_reading(name, read, runtime_only=True)


def _add_memory_part(name: str, *fields: str) -> None:
    def read(_: Question, container: Container) -> str:
        parts = sum_status_fields(list_pids(container), fields) if fields else {}
        return str(sum(parts.values()))

    add_reading(name, read, runtime_only=True)


def add_map(name: str, find: Callable[[Container], dict[str, int]]) -> None:
    def read_one(_: Question, container: Container, index: str) -> str:
        pairs = find(container)
        if index not in pairs:
            raise make_invalid(f"invalid index {index}")
        return str(pairs[index])

    add_reading(name, lambda _, one: format_map(find(one)), read_one, runtime_only=True)


def _read_io(*fields: str) -> Callable[[Container], dict[str, int]]:
    def find(container: Container) -> dict[str, int]:
        sums = sum_io_fields(list_pids(container))
        return {"hw": sum(sums.get(name, 0) for name in fields)}

    return find


def _read_virtual_memory(_: Question, container: Container) -> str:
    return format_map(sum_status_fields(list_pids(container), ("Vm", "Rss")))


def _read_virtual_memory_part(_: Question, container: Container, index: str) -> str:
    found = sum_status_fields(list_pids(container), ("Vm", "Rss"))
    if index not in found:
        raise Refusal(pb.InvalidProperty, f"Unknown {index}")
    return str(found[index])


def _read_taint(_: Question, container: Container) -> str:
    lines = []
    if container.level == 1 and not container.values.get("memory_limit"):
        lines.append("First level container without memory_limit.")
    if container.level == 1 and not container.values.get("cpu_limit"):
        lines.append("First level container without cpu_limit.")
    if container.level == 1 and not container.isolate:
        lines.append("First level container without pid namespace.")
    if container.level == 1 and "devices" not in container.controllers:
        lines.append("First level container without devices cgroup.")
    return "".join(line + "\n" for line in lines)


def _add_identity() -> None:
    add_reading("state", lambda _, c: c.state.value)
    add_reading("id", lambda _, c: str(c.id))
    add_reading("level", lambda _, c: str(c.level))
    add_reading("absolute_name", lambda _, c: "/" if c.is_root else NAMESPACE + c.name)
    add_reading("absolute_namespace", lambda q, c: NAMESPACE + q.registry.find_namespace(c))
    add_reading("parent", _read_parent)
    add_reading("root_path", lambda _, c: c.values.get("root", "/"))
    add_reading("root_pid", _read_root_pid, runtime_only=True)
    add_reading("taint", _read_taint)
    for name in ("volumes_linked", "volumes_owned"):
        add_reading(name, lambda _, __: "")
    _add_map_now("place_usage")


def _add_map_now(name: str) -> None:
    def read_one(_: Question, __: Container, index: str) -> str:
        raise make_invalid(f"invalid index {index}")

    add_reading(name, lambda _, __: "", read_one)


def _add_history() -> None:
    _add_moment("creation_time", lambda c: c.created_at)
    _add_moment("start_time", lambda c: c.started_at)
    _add_moment("death_time", lambda c: c.died_at, dead_only=True)
    _add_moment("change_time", lambda c: c.changed_at)
    add_reading("time", _read_time, _read_dead_time)
    add_reading("exit_status", lambda _, c: str(c.exit_status), dead_only=True)
    add_reading("exit_code", lambda _, c: str(c.find_exit_code()), dead_only=True)
    add_reading("core_dumped", lambda _, c: format_bool(bool(c.exit_status & 0x80)), dead_only=True)
    add_reading("oom_killed", lambda _, __: "false", dead_only=True)
    add_reading("oom_kills", lambda _, __: "0")
    add_reading("oom_kills_total", lambda _, __: "0")
    add_reading("start_error", lambda _, c: c.start_error)
    for name in ("stdout", "stderr"):
        _add_stream(name)


def _add_stream(name: str) -> None:
    add_reading(
        name,
        lambda _, c: read_stream(c, getattr(c, name)),
        lambda _, c, index: read_stream(c, getattr(c, name), index),
        runtime_only=True,
    )
    add_reading(f"{name}_offset", lambda _, c: str(getattr(c, name).offset), runtime_only=True)


def _add_usage() -> None:
    _add_count("process_count", lambda one: one.processes)
    _add_count("thread_count", lambda one: one.threads)
    _add_count("cpu_usage", lambda one: one.cpu_user_ns + one.cpu_system_ns)
    _add_count("cpu_usage_system", lambda one: one.cpu_system_ns)
    _add_count("minor_faults", lambda one: one.minor_faults)
    _add_count("major_faults", lambda one: one.major_faults)
    _add_count("memory_usage", lambda one: one.rss_bytes)
    _add_memory_part("anon_usage", "RssAnon")
    _add_memory_part("cache_usage", "RssFile")
    _add_memory_part("shmem_usage", "RssShmem")
    _add_memory_part("mlock_usage", "VmLck")
    for name in ("memory_reclaimed", "hugetlb_usage", "cpu_throttled"):
        add_reading(name, lambda _, __: "0", runtime_only=True)
    add_reading("virtual_memory", _read_virtual_memory, _read_virtual_memory_part,
                runtime_only=True)  # fmt: skip
    for name, fields in (
        ("io_read", ("read_bytes",)),
        ("io_write", ("write_bytes",)),
        ("io_read_ops", ("syscr",)),
        ("io_write_ops", ("syscw",)),
        ("io_ops", ("syscr", "syscw")),
        ("io_time", ()),
    ):
        add_map(name, _read_io(*fields))


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


def _read_cpu_limit_bound(question: Question, container: Container) -> str:
    """The least of its own limit, those above it, and the machine's processors."""
    limits = [one.values.get("cpu_limit", 0) for one in container.ancestors()]
    every = question.cores * CPU_POWER
    return format_cpu_power(min((limit for limit in limits if limit), default=every))


def _read_cpu_guarantee_bound(question: Question, container: Container) -> str:
    above = [one for one in container.ancestors() if not one.is_root and "cpu" in one.controllers]
    powers = [one.values.get("cpu_guarantee", 0) for one in above]
    return format_cpu_power(min(powers, default=question.cores * CPU_POWER))


def _read_affinity(_: Question, container: Container) -> str:
    asked: CpuSet = container.values.get("cpu_set", CpuSet())
    if container.state is State.STOPPED and not asked.cpus:
        return ""
    return format_bitmap(find_cpus(container, read_topology()))


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
    for ending in ("total", "bound"):
        add_reading(f"cpu_limit_{ending}", _read_cpu_limit_bound)
        add_reading(f"cpu_guarantee_{ending}", _read_cpu_guarantee_bound)
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
    _add_identity()
    _add_history()
    _add_usage()
    _add_bounds()
