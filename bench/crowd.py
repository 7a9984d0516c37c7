"""Have many hosts of several processes ask at once, one way or another, and count who came through.

What they say is held against what etcd has afterwards.
"""

from __future__ import annotations

import multiprocessing
import queue
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Literal

from bench.one_key import count_hosts, try_once
from ya_salt.errors import GateError
from ya_salt.gate.etcd import Etcd, Put, Range
from ya_salt.gate.etcd_gate import OrlyGate
from ya_salt.gate.protocol import Granted, Identity, SlotRequest
from ya_salt.gate.records import Keys
from ya_salt.model import GateSettings

Kind = Literal["bare", "numbered", "single"]
KINDS: dict[Kind, str] = {
    "bare": "peer: one bare write a host",
    "numbered": "numbered slots",
    "single": "peer: one key for all holders",
}
_SETTLE_S = 5.0
"""Until all processes have started and loaded what they need."""
_PAUSE_S = (0.0, 0.05)
"""Who was not quick enough tries again after this."""


@dataclass(frozen=True)
class Outcome:
    granted: int
    seconds: float
    """Until the last one, or until time was over."""
    tries: int
    failures: int
    """Calls that were not answered within the client's deadline."""

    @property
    def per_second(self) -> float:
        return self.granted / self.seconds


@dataclass(frozen=True)
class Crowd:
    """Who asks, and where. There is a slot for each host."""

    endpoints: tuple[str, ...]
    hosts: int
    at_once: int
    processes: int
    within_s: float


@dataclass(frozen=True)
class _Job:
    """What one process is to do."""

    kind: Kind
    crowd: Crowd
    prefix: str
    number: int
    start_at: float
    end_at: float


@dataclass
class _Tally:
    granted_at: list[float]
    tries: int = 0
    failures: int = 0


def run_crowd(kind: Kind, crowd: Crowd, prefix: str) -> Outcome:
    """Keys begin with `prefix`. Raises SystemExit where etcd has not what the hosts believe."""
    start_at = time.time() + _SETTLE_S
    jobs = [
        _Job(kind, crowd, prefix, number, start_at, start_at + crowd.within_s)
        for number in range(crowd.processes)
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(crowd.processes, mp_context=context) as pool:
        tallies = list(pool.map(_run_job, jobs))
    granted = sorted(at for tally in tallies for at in tally.granted_at)
    _check(kind, crowd, prefix, len(granted))
    return Outcome(
        granted=len(granted),
        seconds=granted[-1] - start_at if len(granted) == crowd.hosts else crowd.within_s,
        tries=sum(tally.tries for tally in tallies),
        failures=sum(tally.failures for tally in tallies),
    )


def _check(kind: Kind, crowd: Crowd, prefix: str, granted: int) -> None:
    keys = Keys(prefix, "porto-daemon-web")
    with closing(_connect(crowd)) as etcd:
        if kind == "single":
            there = count_hosts(etcd, f"{prefix}holders")
        else:
            start = keys.slots if kind == "numbered" else f"{prefix}bare/"
            there = len(etcd.read(Range(start, is_prefix=True, keys_only=True)).found[0])
    # Whose answer came too late is there without having been counted.
    if there < granted:
        raise SystemExit(f"{KINDS[kind]}: {granted} hosts were let through, etcd has {there}")


def _connect(crowd: Crowd) -> Etcd:
    # Hosts would give up after 3 s and ask at their next pass; here the work itself is measured.
    return Etcd(GateSettings(endpoints=crowd.endpoints), deadline_s=30)


def _run_job(job: _Job) -> _Tally:
    tally, lock = _Tally([]), threading.Lock()
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for host in range(job.number, job.crowd.hosts, job.crowd.processes):
        waiting.put(f"host-{host:05}")
    threads = [
        threading.Thread(target=_run_hosts, args=(job, waiting, tally, lock))
        for _ in range(max(1, job.crowd.at_once // job.crowd.processes))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally


def _run_hosts(
    job: _Job, waiting: queue.SimpleQueue[str], tally: _Tally, lock: threading.Lock
) -> None:
    with closing(_connect(job.crowd)) as etcd:
        # The first request loads and connects, which is not to be counted.
        with suppress(GateError):
            etcd.read(Range(f"{job.prefix}warm"))
        time.sleep(max(0.0, job.start_at - time.time()))
        while time.time() < job.end_at:
            try:
                attempt = _make_attempt(job, etcd, waiting.get_nowait())
            except queue.Empty:
                return
            _go_on_until_granted(job, attempt, tally, lock)


def _go_on_until_granted(
    job: _Job, attempt: Callable[[], bool], tally: _Tally, lock: threading.Lock
) -> None:
    while time.time() < job.end_at:
        is_granted = _try(attempt, tally, lock)
        if is_granted and time.time() < job.end_at:
            with lock:
                tally.granted_at.append(time.time())
        if is_granted:
            return
        time.sleep(random.uniform(*_PAUSE_S))


def _try(attempt: Callable[[], bool], tally: _Tally, lock: threading.Lock) -> bool:
    with lock:
        tally.tries += 1
    try:
        return attempt()
    except GateError:
        with lock:
            tally.failures += 1
        return False


def _make_attempt(job: _Job, etcd: Etcd, host: str) -> Callable[[], bool]:
    if job.kind == "bare":
        return lambda: etcd.transact([], [Put(f"{job.prefix}bare/{host}", "x" * 200)]).succeeded
    if job.kind == "single":
        return lambda: try_once(etcd, f"{job.prefix}holders", host, job.crowd.hosts)
    gate = OrlyGate(etcd, job.prefix, Identity(host))
    return lambda: isinstance(gate.ask(SlotRequest("web", "update", "1")), Granted)
