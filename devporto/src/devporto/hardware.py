"""What properties ask of this machine: its processors, its scheduler, its disks (`io_limit`)."""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from devporto import porto_pb2 as pb
from devporto.containers import Container
from devporto.refusal import Refusal, make_invalid
from devporto.values import format_bitmap, parse_bitmap, parse_uint64, split_escaped

_SYSTEM = Path("/sys/devices/system")
IO_LIMITS = ("io_limit", "io_ops_limit")
_NUMBERS = re.compile(r"\d+:\d+\Z")
_NICE = {"rt": -20, "high": -10, "iso": -10}
_POLICIES = {"batch": os.SCHED_BATCH, "idle": os.SCHED_IDLE}


@dataclass(frozen=True)
class Topology:
    """The processors of a machine."""

    online: frozenset[int]
    nodes: Mapping[int, frozenset[int]]


@dataclass(frozen=True)
class CpuSet:
    """What a container asks for; nothing of it is whatever its parent has."""

    cpus: frozenset[int] = frozenset()
    node: int | None = None
    jail: int = 0

    def format(self) -> str:
        if self.cpus:
            return format_bitmap(self.cpus)
        parts = [f"jail {self.jail}"] if self.jail else []
        return "; ".join([*parts, *([] if self.node is None else [f"node {self.node}"])])


@lru_cache(1)
def read_topology() -> Topology:
    """Ask the kernel. A machine that says nothing of nodes is one node."""
    try:
        online = parse_bitmap((_SYSTEM / "cpu/online").read_bytes().decode().strip())
    except (OSError, Refusal):
        online = frozenset(os.sched_getaffinity(0))
    nodes = {}
    for path in (_SYSTEM / "node").glob("node[0-9]*"):
        cpus = (path / "cpulist").read_bytes().decode().strip()
        nodes[int(path.name.removeprefix("node"))] = parse_bitmap(cpus) if cpus else frozenset()
    return Topology(online, nodes or {0: online})


def parse_cpu_set(text: str, machine: Topology) -> CpuSet:
    """Take what this machine can give. Raises Refusal(InvalidValue)."""
    rows = split_escaped(text, " ", ";")
    words = dict(row for row in rows if len(row) == 2)
    if text in ("", "all", "inherit"):
        return CpuSet()
    if len(rows) == 1 and len(rows[0]) == 1:
        return CpuSet(_take_cpus(rows[0][0], machine))
    if len(words) != len(rows) or not words.keys() <= {"jail", "node"}:
        raise make_invalid(f"invalid cpu_set: {text}")
    node = _take_node(words["node"], machine) if "node" in words else None
    jail = _take_jail(words["jail"], node, machine) if "jail" in words else 0
    return CpuSet(frozenset(), node, jail)


def _take_cpus(text: str, machine: Topology) -> frozenset[int]:
    cpus = parse_bitmap(text)
    if not cpus <= machine.online:
        raise make_invalid(f"invalid cpu_set: {text}")
    return cpus


def _take_node(text: str, machine: Topology) -> int:
    node = parse_uint64(text)
    if node not in machine.nodes:
        raise make_invalid(f"no such node: {node}")
    return node


def _take_jail(text: str, node: int | None, machine: Topology) -> int:
    size = parse_uint64(text)
    among = machine.online if node is None else machine.nodes[node]
    if not 0 < size < len(among):
        raise make_invalid(f"jail {size} is out of range")
    return size


def check_cpu_set(container: Container, asked: CpuSet) -> None:
    """Refuse a jail inside a jail. Raises Refusal(ResourceNotAvailable)."""
    others = [one for one in (*container.ancestors(), *container.subtree()) if one is not container]
    if asked.jail and any(one.values.get("cpu_set", CpuSet()).jail for one in others):
        raise Refusal(pb.ResourceNotAvailable, "Nested cpu jails are not supported")


def find_cpus(container: Container, machine: Topology) -> frozenset[int]:
    """Which processors its processes may use."""
    for one in container.ancestors():
        asked: CpuSet = one.values.get("cpu_set", CpuSet())
        if asked.cpus:
            return asked.cpus
        among = machine.online if asked.node is None else machine.nodes[asked.node]
        if asked.jail:
            # portod gives the least used ones; here neighbours get different ones.
            first = one.id % len(among)
            turned = sorted(among)[first:] + sorted(among)[:first]
            return frozenset(turned[: asked.jail])
        if asked.node is not None:
            return among
    return machine.online


def find_schedule(container: Container) -> tuple[int, int]:
    """Policy and nice value of its processes, of `cpu_policy` and `cpu_weight`.

    portod gives `rt` SCHED_RR, and `iso` SCHED_ISO where the kernel has it; here they are nice.
    """
    name = container.values.get("cpu_policy", "normal")
    weight: float = container.values.get("cpu_weight", 1.0)
    # One step of nice is a tenth of weight.
    nice = int(_NICE.get(name, 0) - math.log(weight) / math.log(1.1))
    return _POLICIES.get(name, os.SCHED_OTHER), min(max(nice, -20), 19)


def check_disks(container: Container, keys: Iterable[str]) -> None:
    """Accept keys such as `/place r` and `sda`. Raises Refusal(InvalidValue)."""
    for key in keys:
        name = key.removesuffix(" r").removesuffix(" w")
        if name != "fs" and not _is_there(container, name):
            raise make_invalid(f"Disk not found: {name}")


def _is_there(container: Container, name: str) -> bool:
    if _NUMBERS.match(name):
        return Path("/sys/dev/block", name).exists()
    if name.startswith("."):
        name = container.values.get("root", "/") + name[1:]
    if name.startswith("/"):
        return Path(name).exists()
    try:
        return stat.S_ISBLK(os.stat(f"/dev/{name}").st_mode)  # noqa: PTH116 - one call
    except OSError:
        return False
