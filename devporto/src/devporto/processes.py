"""What the processes of containers use, read from /proc once for a whole answer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from functools import reduce
from operator import add
from pathlib import Path
from typing import NamedTuple

from devporto.containers import Container
from devporto.hardware import find_cpus, find_schedule, read_topology
from devporto.kernel import apply_schedule, list_descendants, list_threads

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Sample(NamedTuple):
    """A sum over processes."""

    processes: int = 0
    threads: int = 0
    cpu_user_ns: int = 0
    cpu_system_ns: int = 0
    minor_faults: int = 0
    major_faults: int = 0
    rss_bytes: int = 0


_NOTHING = Sample()
# portod's own init, one per container, is counted there too.
_INIT = Sample(processes=1, threads=1)


def add_up(samples: Iterable[Sample]) -> Sample:
    return reduce(lambda one, other: Sample._make(map(add, one, other)), samples)


def read_stat(pid: int) -> tuple[int, Sample] | None:
    """(parent, usage) of a process, None where it is gone. See proc(5), `stat`."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        line = os.read(fd, 4096)
    except OSError:
        return None
    finally:
        os.close(fd)
    words = line.rpartition(b")")[2].split(None, 23)
    if not words or words[0] == b"Z":
        return None
    return int(words[1]), Sample(
        1,
        int(words[17]),
        int(words[11]) * _TICK_NS,
        int(words[12]) * _TICK_NS,
        int(words[7]),
        int(words[9]),
        int(words[21]) * _PAGE,
    )


class Census:
    """Usage by container. Reads /proc at the first question, then answers from memory."""

    def __init__(self, inits: Iterable[int]) -> None:
        self._inits = frozenset(inits)
        self._samples: dict[int, Sample] | None = None
        self._measured: dict[str, Sample] = {}

    def measure(self, container: Container) -> Sample:
        """Sum up a container with all below it; once it is dead, what its last run had used."""
        known = self._measured.get(container.name)
        if known is None:
            known = add_up(map(self._measure_one, container.subtree()))
            self._measured[container.name] = known
        return known

    def _measure_one(self, container: Container) -> Sample:
        run = container.run
        if run is None:
            used = container.usage
            return Sample(
                cpu_user_ns=int(used.cpu_user_s * 1e9),
                cpu_system_ns=int(used.cpu_system_s * 1e9),
                minor_faults=used.minor_faults,
                major_faults=used.major_faults,
            )
        return self._find(run.init) if run.init else _NOTHING

    def _find(self, init: int) -> Sample:
        """Sum up the processes below the init of one run."""
        if self._samples is None:
            self._samples = self._count_all() if len(self._inits) > 8 else self._count_few()
        return self._samples.get(init, _INIT)

    def _count_few(self) -> dict[int, Sample]:
        return {
            init: add_up(
                (_INIT, *(entry[1] for pid in list_descendants(init) if (entry := read_stat(pid))))
            )
            for init in self._inits
        }

    def _count_all(self) -> dict[int, Sample]:
        """One pass over /proc is cheaper than a walk per container."""
        found = {}
        names = os.listdir("/proc")  # noqa: PTH208 - ten times faster
        for pid in {int(name) for name in names if name.isdigit()} - self._inits:
            entry = read_stat(pid)
            if entry is not None:
                found[pid] = entry
        below: dict[int, list[Sample]] = {}
        for pid, (_, sample) in found.items():
            init = self._find_init(pid, found)
            if init:
                below.setdefault(init, [_INIT]).append(sample)
        return {init: add_up(samples) for init, samples in below.items()}

    def _find_init(self, pid: int, found: Mapping[int, tuple[int, Sample]]) -> int:
        """Find the init above `pid`, 0 where it belongs to no container (or is an init)."""
        for _ in range(1000):
            entry = found.get(pid)
            if entry is None:
                return 0
            pid = entry[0]
            if pid in self._inits:
                return pid
        return 0


def list_pids(container: Container) -> list[int]:
    """Every process of a container and what is below it."""
    runs = [one.run for one in container.subtree() if one.run and one.run.init]
    return [pid for run in runs for pid in list_descendants(run.init)]


def spread_cpus(container: Container) -> None:
    """Let every process of a container run on the processors that `cpu_set` names."""
    for one in container.subtree():
        if one.run and one.run.init:
            cpus = find_cpus(one, read_topology())
            for pid in list_descendants(one.run.init):
                for tid in list_threads(pid):
                    with contextlib.suppress(OSError):
                        os.sched_setaffinity(tid, cpus)


def order_threads(container: Container) -> None:
    """Give its own processes the schedule of `cpu_policy` and `cpu_weight`."""
    if container.run and container.run.init:
        policy, nice = find_schedule(container)
        for pid in list_descendants(container.run.init):
            for tid in list_threads(pid):
                apply_schedule(tid, policy, nice)


def sum_status_fields(pids: Iterable[int], prefixes: tuple[str, ...]) -> dict[str, int]:
    """Bytes of the `VmRSS: 12 kB` lines of proc(5) `status`, added up by name."""
    totals: dict[str, int] = {}
    for pid in pids:
        for line in _read_lines(f"/proc/{pid}/status"):
            if line.startswith(prefixes) and line.endswith(" kB"):
                key, _, value = line.partition(":")
                totals[key] = totals.get(key, 0) + int(value.split()[0]) * 1024
    return totals


def sum_io_fields(pids: Iterable[int]) -> dict[str, int]:
    """proc(5) `io`, added up by name; empty where we may not read it."""
    totals: dict[str, int] = {}
    for pid in pids:
        for line in _read_lines(f"/proc/{pid}/io"):
            key, _, value = line.partition(":")
            totals[key] = totals.get(key, 0) + int(value)
    return totals


def _read_lines(path: str) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    return []
