"""Turn statuses and counters into the facts that every sink tells in its own words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ya_salt.model import Condition, DaemonStatus
from ya_salt.monitoring.memory import Memory, Totals

MAX_PASS_AGE_S = 3600
"""A last pass older than this is a problem of the host."""

_GONE = "Removed"


@dataclass(frozen=True)
class DaemonFacts:
    """One daemon. `reason` and `description` are for people and say why it is as it is."""

    name: str
    version: str
    digest: str
    ready: bool
    running: bool
    reason: str
    description: str
    since: float | None
    """Since when it has been ready, or not."""
    respawns: int
    restarts: int
    memory_bytes: int | None
    cpu_s: float | None
    start_duration_s: float | None


@dataclass(frozen=True)
class Problem:
    """Something wrong with the host as a whole. `kind` is one word for programs."""

    kind: str
    text: str
    is_critical: bool = True


@dataclass(frozen=True)
class HostFacts:
    """The daemons directory and the last pass over it."""

    rejected: tuple[tuple[str, str], ...]
    """(path, first problem)"""
    orphans: tuple[str, ...]
    pass_error: str
    """Why the last pass as a whole could not be made."""
    pass_ok: bool
    pass_ended_at: float | None
    """None where no pass was made yet."""
    pass_duration_s: float
    gate_queue: int
    """Daemons whose change waits for its turn."""
    now: float

    @property
    def pass_age_s(self) -> float | None:
        return None if self.pass_ended_at is None else max(0.0, self.now - self.pass_ended_at)

    @property
    def is_pass_old(self) -> bool:
        return self.pass_age_s is None or self.pass_age_s > MAX_PASS_AGE_S

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What somebody has to look at, worst first."""
        found = []
        if self.pass_error:
            found.append(Problem("pass_failed", f"the last pass failed: {self.pass_error}"))
        if self.is_pass_old:
            found.append(Problem("pass_old", _describe_age(self.pass_age_s)))
        if self.rejected:
            found.append(Problem("rejected_files", _describe_rejected(self.rejected)))
        if self.orphans:
            names = ", ".join(self.orphans)
            text = f"orphaned, their files are gone: {names}"
            found.append(Problem("orphans", text, is_critical=False))
        return tuple(found)


@dataclass(frozen=True)
class Facts:
    """Everything that is told after a pass."""

    daemons: tuple[DaemonFacts, ...]
    host: HostFacts
    news: Mapping[str, Totals]
    """Daemon -> (respawns, restarts) that YASM has not accepted yet, removed daemons included."""
    now: float


def make_facts(
    statuses: Iterable[DaemonStatus],
    memory: Memory,
    last_pass: Mapping[str, Any] | None,
    now: float,
) -> Facts:
    """`last_pass` is the store's fact of that name.

    Where the last pass could not ask portod nobody knows how a daemon stands, so none is ready.
    """
    standing = [status for status in statuses if status.phase != _GONE]
    host = _make_host_facts(standing, last_pass or {}, now)
    return Facts(
        daemons=tuple(_make_daemon_facts(item, memory, host.pass_error) for item in standing),
        host=host,
        news=memory.list_news("yasm"),
        now=now,
    )


def _make_host_facts(
    statuses: Iterable[DaemonStatus], last_pass: Mapping[str, Any], now: float
) -> HostFacts:
    started, duration = last_pass.get("started_at"), float(last_pass.get("duration_s", 0.0))
    return HostFacts(
        rejected=tuple(
            (str(path), str(problems[0]) if problems else "cannot be used")
            for path, problems in last_pass.get("rejected", ())
        ),
        orphans=tuple(status.name for status in statuses if status.phase == "Orphaned"),
        pass_error=str(last_pass.get("error", "")),
        pass_ok=last_pass.get("result") == "ok",
        pass_ended_at=None if started is None else float(started) + duration,
        pass_duration_s=duration,
        gate_queue=int(last_pass.get("gate_queue", 0)),
        now=now,
    )


def _make_daemon_facts(status: DaemonStatus, memory: Memory, blind: str) -> DaemonFacts:
    ready, running = status.ready, status.running
    counter = memory.find_counter(status.name)
    return DaemonFacts(
        name=status.name,
        version=status.version,
        digest=status.digest,
        ready=bool(ready and ready.status and not blind),
        running=bool(running and running.status),
        reason="PortodUnavailable" if blind else (ready.reason if ready else "Unknown"),
        description=_describe(status, blind),
        since=ready.since if ready else None,
        respawns=counter.respawns,
        restarts=counter.restarts,
        memory_bytes=status.memory_bytes,
        cpu_s=None if status.cpu_ns is None else status.cpu_ns / 1e9,
        start_duration_s=counter.start_duration_s,
    )


def _describe(status: DaemonStatus, blind: str) -> str:
    """Reason, what is wrong, what the container said last; what is ready says its version."""
    ready, running = status.ready, status.running
    if blind:
        was = "ready" if ready and ready.status else "not ready"
        return f"PortodUnavailable: nobody can see it: {blind}; at the last look it was {was}"
    if ready is None:
        return "Unknown: it has not been looked at yet"
    if ready.status:
        return f"ready, version {status.version or 'unknown'}"
    return " ".join(f"{ready.reason}: {_join_messages(ready, running)}".split())


def _join_messages(ready: Condition, running: Condition | None) -> str:
    if running is None or running.status or running.message == ready.message:
        return ready.message
    return f"{ready.message}; {running.reason}: {running.message}"


def _describe_age(age_s: float | None) -> str:
    if age_s is None:
        return "no pass over the daemons directory was made yet"
    return f"the last pass ended {int(age_s // 60)} minutes ago"


def _describe_rejected(rejected: tuple[tuple[str, str], ...]) -> str:
    first = rejected[0][1]
    more = f" (and {len(rejected) - 1} more)" if len(rejected) > 1 else ""
    return f"rejected files: {first}{more}"


def cut_text(text: str, limit_bytes: int) -> str:
    """At most so many bytes of UTF-8, with `…` where something is missing in the middle.

    The end is kept as well: that is where a daemon's last words are.
    """
    data = text.encode(errors="replace")
    if len(data) <= limit_bytes:
        return data.decode()
    half = (limit_bytes - len("…".encode())) // 2
    begin, end = data[:half].decode(errors="ignore"), data[-half:].decode(errors="ignore")
    return f"{begin}…{end}"
