"""Rows for resources: taken and read back. Enforced are `ulimit`, processors and their order."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from devporto import porto_pb2 as pb
from devporto.containers import Container, State
from devporto.hardware import (
    IO_LIMITS,
    CpuSet,
    check_cpu_set,
    check_disks,
    parse_cpu_set,
    read_topology,
)
from devporto.processes import order_threads, spread_cpus
from devporto.property import (
    Property,
    Question,
    add_bool,
    add_choice,
    add_property,
    add_setting,
    add_size_map,
    enable_controller,
    read_map_key,
)
from devporto.refusal import Refusal, make_invalid
from devporto.values import (
    format_cpu_power,
    format_double,
    format_map,
    format_ulimits,
    merge_ulimits,
    parse_cpu_power,
    parse_nanoseconds,
    parse_plain_double,
    parse_size,
    parse_size_map,
    parse_ulimits,
)

_MIN_MEMORY = 1 << 20
_UNSUPPORTED = (
    ("memory_guarantee", "Guaranteed amount of memory [bytes]"),
    ("memory_guarantee_total", "Total memory guarantee for container hierarchy"),
    ("memory_lock_policy", "Memory lock policy"),
    ("anon_limit", "Anonymous memory limit [bytes]"),
    ("anon_limit_total", "Effective anonymous memory limit [bytes]"),
    ("anon_max_usage", "Peak anonymous memory usage [bytes]"),
    ("anon_only", "Keep only anonymous pages"),
    ("recharge_on_pgfault", "Recharge memory on page fault"),
    ("max_rss", "Peak anonymous memory usage [bytes]"),
    ("cpu_wait", "CPU time waited for execution [nanoseconds]"),
    ("cpu_burst_usage", "CPU burst usage time [nanoseconds]"),
    ("cpu_unconstrained_wait", "CPU unconstrained wait time [nanoseconds]"),
    ("core_command", "Command for receiving core dump"),
    ("coredump_filter", "Coredump filter (hex)"),
)

_CPU_POLICIES = ("rt", "high", "normal", "batch", "idle", "iso", "nosmt")


def read_total_memory() -> int:
    """Bytes of memory this machine has."""
    first = Path("/proc/meminfo").read_text(encoding="ascii").split(maxsplit=2)
    return int(first[1]) * 1024


def _parse_memory(text: str) -> int:
    size = parse_size(text)
    if size and size < _MIN_MEMORY:
        raise make_invalid(f"Should be at least {_MIN_MEMORY}")
    return size


def _parse_weight(text: str) -> float:
    value, unit = parse_plain_double(text)
    if unit or not 0.01 <= value <= 100:
        raise make_invalid("out of range")
    return value


def _write_cpu_weight(__: Question, container: Container, text: str) -> None:
    _, unit = parse_plain_double(text)
    if unit:
        return  # portod answers Success and changes nothing.
    # Kept in whole hundredths; what is beyond them is cut off.
    container.values["cpu_weight"] = int(_parse_weight(text) * 100) / 100
    order_threads(container)


def _write_cpu_policy(_: Question, container: Container, text: str) -> None:
    if text not in _CPU_POLICIES:
        raise make_invalid(f"cpu_policy: {text!r} is none of {', '.join(_CPU_POLICIES)}")
    container.values["cpu_policy"] = text
    order_threads(container)


def _parse_period(text: str) -> int:
    value = parse_nanoseconds(text)
    if not 1_000_000 <= value <= 1_000_000_000:
        raise make_invalid("cpu period out of range")
    return value


def _write_cpu_set(_: Question, container: Container, text: str) -> None:
    asked = parse_cpu_set(text, read_topology())
    if container.state is not State.STOPPED:
        check_cpu_set(container, asked)
    container.values["cpu_set"] = asked
    if container.state is not State.STOPPED:
        spread_cpus(container)


def _add_cpu_power(name: str, desc: str) -> None:
    def read(_: Question, container: Container) -> str:
        if container.is_root and name == "cpu_limit":
            return format_cpu_power((os.cpu_count() or 1) * 10**9)
        return format_cpu_power(container.values.get(name, 0))

    def write(question: Question, container: Container, text: str) -> None:
        container.values[name] = parse_cpu_power(text, question.cores)

    add_property(Property(name, desc, read, write, dynamic=True, controller="cpu"))


def _read_memory_limit(_: Question, container: Container) -> str:
    if container.is_root:
        return str(read_total_memory())
    return str(container.values.get("memory_limit", 0))


def _write_memory_limit(_: Question, container: Container, text: str) -> None:
    container.values["memory_limit"] = _parse_memory(text)


def _write_io(name: str) -> Callable[[Question, Container, str], None]:
    def write(_: Question, container: Container, text: str) -> None:
        single = text and ":" not in text
        _store_io(container, name, {"fs": parse_size(text)} if single else parse_size_map(text))

    return write


def _write_io_key(name: str) -> Callable[[Question, Container, str, str], None]:
    def write(_: Question, container: Container, index: str, text: str) -> None:
        _store_io(container, name, {**container.values.get(name, {}), index: parse_size(text)})

    return write


def _store_io(container: Container, name: str, pairs: dict[str, int]) -> None:
    if "fs" in pairs:
        enable_controller(container, "memory")
    if set(pairs) - {"fs"}:
        enable_controller(container, "blkio")
    if name in IO_LIMITS and container.state is not State.STOPPED:
        check_disks(container, pairs)
    container.values[name] = pairs


def _read_io(name: str) -> Callable[[Question, Container], str]:
    def read(_: Question, container: Container) -> str:
        pairs = container.values.get(name, {})
        return str(pairs["fs"]) if set(pairs) == {"fs"} else format_map(pairs)

    return read


def _read_thread_limit(_: Question, container: Container) -> str:
    default = 10000 if container.level == 1 else ""
    return str(container.values.get("thread_limit", default))


def _write_thread_limit(_: Question, container: Container, text: str) -> None:
    container.values["thread_limit"] = parse_size(text)


def _read_ulimit_key(_: Question, container: Container, index: str) -> str:
    limits = container.values.get("ulimit", {})
    return format_ulimits({index: limits[index]}).removesuffix("; ") if index in limits else ""


def _write_ulimits(_: Question, container: Container, text: str) -> None:
    # Processes that run keep what they started with.
    container.values["ulimit"] = parse_ulimits(text)


def _write_ulimit_key(_: Question, container: Container, index: str, text: str) -> None:
    fresh = parse_ulimits(f"{index}:{text}")
    container.values["ulimit"] = merge_ulimits(container.values.get("ulimit", {}), fresh)


def _parse_tos(text: str) -> str:
    if len(text) != 3 or not text.startswith("CS") or text[2] not in "01234567":
        raise make_invalid(f"Invalid ToS: {text}")
    return text


def _refuse(_: Question, __: Container, *___: str) -> str:
    raise Refusal(pb.NotSupported, "not on this kernel")


def add_rows() -> None:
    """Fill the table."""
    for name, desc in _UNSUPPORTED:
        add_property(Property(name, desc, _refuse, supported=False, hidden=True))
    _add_memory()
    _add_cpu()
    _add_io()
    _add_net()


def _add_memory() -> None:
    add_property(
        Property(
            *("memory_limit", "Memory limit [bytes]", _read_memory_limit, _write_memory_limit),
            dynamic=True,
            controller="memory",
        )
    )
    flags: dict[str, Any] = {"dynamic": True, "controller": "memory"}
    add_setting("dirty_limit", "Dirty file cache limit [bytes]", _parse_memory, str, 0,
                hidden=True, **flags)  # fmt: skip
    add_bool("pressurize_on_death", "After death set tiny soft memory limit", **flags)
    add_setting("hugetlb_limit", "Hugetlb memory limit [bytes]", parse_size, str, 0,
                dynamic=True, controller="hugetlb")  # fmt: skip
    add_property(
        Property(
            *("thread_limit", "Thread limit", _read_thread_limit, _write_thread_limit),
            dynamic=True,
            controller="pids",
        )
    )
    add_property(
        Property(
            "ulimit",
            "Process limits: <type>: [soft]|unlimited [hard];...",
            lambda _, one: format_ulimits(one.values.get("ulimit", {})),
            _write_ulimits,
            _read_ulimit_key,
            _write_ulimit_key,
            dynamic=True,
        )
    )


def _add_cpu() -> None:
    _add_cpu_power("cpu_limit", "CPU limit: <CPUS>c [cores]")
    _add_cpu_power("cpu_guarantee", "CPU guarantee: <CPUS>c [cores]")
    add_property(
        Property(
            "cpu_policy",
            "CPU policy",
            lambda _, container: str(container.values.get("cpu_policy", "normal")),
            _write_cpu_policy,
            dynamic=True,
        )
    )
    add_setting("cpu_period", "CPU limit period: 1ms..1s [nanoseconds]", _parse_period, str,
                100_000_000, dynamic=True)  # fmt: skip
    add_property(
        Property(
            "cpu_weight",
            "CPU weight 0.01..100, default is 1",
            lambda _, one: format_double(one.values.get("cpu_weight", 1.0)),
            _write_cpu_weight,
            dynamic=True,
        )
    )
    add_property(
        Property(
            "cpu_set",
            "CPU set: [N|N-M,]... | jail N | [jail N;] node N",
            lambda _, one: one.values.get("cpu_set", CpuSet()).format(),
            _write_cpu_set,
            dynamic=True,
            controller="cpuset",
        )
    )


def _add_io() -> None:
    policies = ("", "none", "rt", "high", "normal", "batch", "idle")
    add_choice("io_policy", "IO policy", policies, "", dynamic=True)
    add_setting("io_weight", "IO weight: 0.01..100, default is 1", _parse_weight, format_double,
                1.0, dynamic=True, controller="blkio")  # fmt: skip
    for name in ("io_limit", "io_guarantee", "io_ops_limit", "io_ops_guarantee"):
        add_property(
            Property(
                *(
                    name,
                    "IO: fs|<path>|<disk> [r|w]: <number>;...",
                    _read_io(name),
                    _write_io(name),
                ),
                read_index=read_map_key(name),
                write_index=_write_io_key(name),
                dynamic=True,
            )
        )


def _add_net() -> None:
    for name in ("net_guarantee", "net_limit", "net_rx_limit"):
        add_size_map(name, "Network bandwidth: <interface>|default: <Bps>;...", dynamic=True)
    add_setting("net_limit_soft", "Network soft limit: int (kb/s)", parse_size, str, 0,
                dynamic=True)  # fmt: skip
    add_setting("net_tos", "Default IP TOS, format: CS0|...|CS7", _parse_tos, str, "CS0",
                dynamic=True, controller="net_cls")  # fmt: skip
