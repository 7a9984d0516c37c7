"""What the processes of containers use: counted once for a whole answer, or read from /proc."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from functools import reduce
from operator import add
from pathlib import Path

from devporto.containers import Container
from devporto.counting import Process, Sample
from devporto.hardware import find_cpus, find_schedule, read_topology
from devporto.kernel import apply_schedule, list_descendants, list_threads

_NOTHING = Sample()


def add_up(samples: Iterable[Sample]) -> Sample:
    return reduce(lambda one, other: Sample._make(map(add, one, other)), samples)


class Census:
    """Usage by container, at one moment: asked twice it tells the same."""

    def __init__(self) -> None:
        self._found: dict[str, Sample] = {}
        self._measured: dict[str, Sample] = {}

    def measure(self, container: Container) -> Sample:
        """Sum up a container with all below it; once it is dead, what its last run had used."""
        if not container.children:
            return self._measure_one(container)
        known = self._measured.get(container.name)
        if known is None:
            known = add_up(map(self._measure_one, container.subtree()))
            self._measured[container.name] = known
        return known

    def _measure_one(self, container: Container) -> Sample:
        known = self._found.get(container.name)
        if known is None:
            known = self._found[container.name] = _count(container)
        return known


def _count(container: Container) -> Sample:
    run = container.run
    if run is None:
        used = container.usage
        return Sample(
            cpu_user_ns=int(used.cpu_user_s * 1e9),
            cpu_system_ns=int(used.cpu_system_s * 1e9),
            minor_faults=used.minor_faults,
            major_faults=used.major_faults,
        )
    if not run.init:
        return _NOTHING
    if run.process is None:
        run.process = Process(run.init)
    # portod's own init, one per container, is counted there too.
    return run.process.count_as_init()


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
