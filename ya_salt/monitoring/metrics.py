"""Turn statuses and counters into the metrics that every sink sends in its own form. Pure."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from ya_salt.life import Hold
from ya_salt.messages import format_time
from ya_salt.model import HELD, PROBE_FAILED, Condition, DaemonStatus, GateStanding
from ya_salt.monitoring.counters import Counter, Memory, Totals
from ya_salt.quick_dataclass import dataclass, field
from ya_salt.text import count, printable

MAX_PASS_AGE_S = 3600
"""A last pass older than this is a problem of the host."""

MAX_HOLD_AGE_S = 86400
"""A hold without an end that is older than this may be forgotten."""

_GONE = "Removed"


@dataclass(frozen=True)
class DaemonMetrics:
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
    waits: bool
    """Whether a change of it waits for the gate; `description` says why."""
    slot: str
    """State of the gate's slot that we have for it: working, settling, failed; "": none."""
    probe_failures: int | None = None
    """Times in a row that it failed when it was asked if it is ready; None: nobody asks it."""
    is_probe_failed: bool = False
    """Whether it is not ready because of that."""
    drifted: int = 0
    """Properties and packages that somebody else has changed and that are left as they are."""
    keeps_dying: bool = False
    is_version_rejected: bool = False
    """Whether the version of its file has failed and is not tried again."""
    hold: Hold | None = None
    """None unless somebody holds it."""

    @property
    def is_held(self) -> bool:
        """Whether it is not ready because somebody stopped it."""
        return self.hold is not None and self.reason == HELD

    @property
    def held_without_end_since(self) -> float | None:
        return self.hold.since if self.hold is not None and not self.hold.until else None


@dataclass(frozen=True)
class GateMetrics:
    """The rollout gate, as the last pass found it."""

    state: str = "unasked"
    """answered or failed, since `since`; unasked also where there is no gate."""
    message: str = ""
    since: float | None = None
    override: str = ""
    """Why somebody let the last pass go past it."""
    slots: Mapping[str, str] = field(default_factory=dict)
    """Daemon -> state of the slot that we have for it."""

    @property
    def is_up(self) -> bool | None:
        """None where there is none, or nothing had to be asked yet."""
        return {"answered": True, "failed": False}.get(self.state)


@dataclass(frozen=True)
class Problem:
    """Something wrong with the host as a whole. `kind` is one word for programs."""

    kind: str
    text: str
    is_critical: bool = True


@dataclass(frozen=True)
class HostMetrics:
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
    gate: GateMetrics
    now: float
    forgotten: tuple[tuple[str, Hold], ...] = ()
    """Daemons that somebody has held for over a day without saying until when."""
    undone: tuple[tuple[str, str], ...] = ()
    """(daemon, what of it was rejected and why)"""

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
        found += _list_gate_problems(self.gate)
        if self.forgotten:
            found.append(Problem("holds_forgotten", _describe_held(self.forgotten), False))
        if self.undone:
            text = "; ".join(f"{name}: {why}" for name, why in self.undone)
            found.append(Problem("versions_rejected", text, is_critical=False))
        if self.orphans:
            names = ", ".join(self.orphans)
            text = f"orphaned, their files are gone: {names}"
            found.append(Problem("orphans", text, is_critical=False))
        return tuple(found)


@dataclass(frozen=True)
class Metrics:
    """Everything that is told after a pass."""

    find_daemons: Callable[[], tuple[DaemonMetrics, ...]]
    """For any thread. They are made when the first sink asks: where nobody listens, none does."""
    host: HostMetrics
    news: Mapping[str, Totals]
    """Daemon -> (respawns, restarts) that YASM has not accepted yet, removed daemons included."""
    now: float

    @property
    def daemons(self) -> tuple[DaemonMetrics, ...]:
        return self.find_daemons()


def make_metrics(
    statuses: Iterable[DaemonStatus],
    memory: Memory,
    last_pass: Mapping[str, Any] | None,
    now: float,
    gate: Mapping[str, Any],
) -> Metrics:
    """`last_pass` is the store's fact of that name; `gate` is as `report.ReportInput` has it.

    Where the last pass could not ask portod nobody knows how a daemon stands, so none is ready.
    """
    standing = [status for status in statuses if status.phase != _GONE]
    host = _make_host_metrics(standing, last_pass or {}, _read_gate(gate), now)
    # The memory goes on changing.
    counters = dict(memory.counters)
    return Metrics(
        find_daemons=_make_once(
            lambda: tuple(
                _make_daemon_metrics(item, counters.get(item.name, Counter()), host)
                for item in standing
            )
        ),
        host=host,
        news=memory.list_news("yasm"),
        now=now,
    )


def _make_once(
    make: Callable[[], tuple[DaemonMetrics, ...]],
) -> Callable[[], tuple[DaemonMetrics, ...]]:
    """What `make` returns, made by the first thread that asks while the others wait for it."""
    made, lock = cache(make), threading.Lock()

    def find() -> tuple[DaemonMetrics, ...]:
        with lock:
            return made()

    return find


def _read_gate(gate: Mapping[str, Any]) -> GateMetrics:
    known = GateMetrics()
    return GateMetrics(
        state=str(gate.get("state", known.state)),
        message=str(gate.get("message", "")),
        since=gate.get("since"),
        override=str(gate.get("override", "")),
        slots=dict(gate.get("slots", {})),
    )


def _make_host_metrics(
    statuses: Sequence[DaemonStatus], last_pass: Mapping[str, Any], gate: GateMetrics, now: float
) -> HostMetrics:
    started, duration = last_pass.get("started_at"), float(last_pass.get("duration_s", 0.0))
    return HostMetrics(
        rejected=tuple(
            (str(path), printable(str(problems[0])) if problems else "cannot be used")
            for path, problems in last_pass.get("rejected", ())
        ),
        orphans=tuple(status.name for status in statuses if status.phase == "Orphaned"),
        pass_error=printable(str(last_pass.get("error", ""))),
        pass_ok=last_pass.get("result") == "ok",
        pass_ended_at=None if started is None else float(started) + duration,
        pass_duration_s=duration,
        gate_queue=sum(status.waits for status in statuses),
        gate=gate,
        now=now,
        forgotten=tuple(
            (item.name, item.hold)
            for item in statuses
            if item.hold is not None
            and not item.hold.until
            and now - item.hold.since > MAX_HOLD_AGE_S
        ),
        undone=tuple(
            (item.name, printable(item.ready.message))
            for item in statuses
            if item.rejection is not None and item.ready is not None
        ),
    )


def _make_daemon_metrics(
    status: DaemonStatus, counter: Counter, host: HostMetrics
) -> DaemonMetrics:
    ready, running, blind = status.ready, status.running, host.pass_error
    return DaemonMetrics(
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
        waits=status.waits,
        slot=host.gate.slots.get(status.name, ""),
        probe_failures=status.probe.failures if status.probe else None,
        is_probe_failed=bool(ready and ready.reason == PROBE_FAILED),
        drifted=len(status.drift),
        keeps_dying=status.crash is not None,
        is_version_rejected=status.rejection is not None,
        hold=status.hold,
    )


def _describe(status: DaemonStatus, blind: str) -> str:
    """Reason, what is wrong, what the container said last; what is ready says its version.

    What waits for the gate says why.
    """
    ready, gate = status.ready, status.gate
    if blind:
        was = "ready" if ready and ready.status else "not ready"
        return f"PortodUnavailable: nobody can see it: {blind}; at the last look it was {was}"
    if ready is None:
        return "Unknown: it has not been looked at yet"
    words = f"ready, version {status.version or 'unknown'}"
    if not ready.status:
        words = f"{ready.reason}: {_join_messages(ready, status.running)}"
    elif status.rejection is not None:
        words = f"{words}; {ready.message}"
    if gate is not None and status.waits and f"{gate.reason}: {gate.message}" not in words:
        words = f"{words}; {_describe_wait(gate)}"
    return printable(words)


def _join_messages(ready: Condition, running: Condition | None) -> str:
    if running is None or running.status or running.message in ready.message:
        return ready.message
    return f"{ready.message}; {running.reason}: {running.message}"


def _describe_wait(gate: GateStanding) -> str:
    since = format_time(gate.since)
    return f"its {gate.change} waits for the gate since {since}: {gate.reason}: {gate.message}"


def _list_gate_problems(gate: GateMetrics) -> Iterator[Problem]:
    """Nothing that runs is stopped because of the gate, so none of it is critical."""
    if gate.is_up is False:
        since = "" if gate.since is None else f" since {format_time(gate.since)}"
        text = f"the gate cannot be asked{since}: {gate.message}"
        yield Problem("gate_unreachable", text, is_critical=False)
    if gate.override:
        text = f"the last pass went past the gate: {gate.override}"
        yield Problem("gate_overridden", text, is_critical=False)


def _describe_held(held: tuple[tuple[str, Hold], ...]) -> str:
    names = ", ".join(
        f"{name} by {hold.who} since {format_time(hold.since)}" for name, hold in held
    )
    return f"held for over a day, and nobody said until when: {names}"


def _describe_age(age_s: float | None) -> str:
    if age_s is None:
        return "no pass over the daemons directory was made yet"
    return f"the last pass ended {count(int(age_s // 60), 'minute')} ago"


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
