"""Count respawns and restarts exactly, from running totals that anybody may reset. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ya_salt.codec import DamagedError, from_data, to_data
from ya_salt.model import Container, DaemonSpec, DaemonStatus
from ya_salt.quick_dataclass import dataclass, field, replace


@dataclass(frozen=True)
class Counter:
    """What happened to one daemon since we know it. The totals never go back."""

    respawns: int = 0
    restarts: int = 0
    container: str = ""
    """The container that was seen last, told from every other one of that name."""
    respawns_seen: int = 0
    """portod's total when it was seen last."""
    restarts_seen: int = 0
    start_duration_s: float | None = None
    """From the making of this container to its first being ready."""

    def with_container(self, container: Container) -> Counter:
        """Add what portod counted since the last look.

        A new container, and a total that somebody set back, have counted from 0 on.
        """
        identity = f"{container.id}@{container.created_at}"
        count = container.respawn_count
        if identity != self.container:
            return replace(
                self,
                respawns=self.respawns + count,
                container=identity,
                respawns_seen=count,
                start_duration_s=None,
            )
        return replace(
            self,
            respawns=self.respawns + _count_new(self.respawns_seen, count),
            respawns_seen=count,
        )

    def with_restarts(self, count: int) -> Counter:
        """Add what we counted ourselves; a store that was lost has counted from 0 on."""
        new = _count_new(self.restarts_seen, count)
        return replace(self, restarts=self.restarts + new, restarts_seen=count)

    def with_restart_unseen(self) -> Counter:
        """Add one that no pass lived to count; its status is put right together with this."""
        return replace(self, restarts=self.restarts + 1, restarts_seen=self.restarts_seen + 1)

    def with_ready(self, container: Container, min_ready_s: float, now: float) -> Counter:
        """Note how long this container took, the first time that it is seen ready."""
        if self.start_duration_s is not None or not container.created_at:
            return self
        ready_at = now - container.running_s + min_ready_s
        return replace(self, start_duration_s=max(0.0, ready_at - container.created_at))


def _count_new(seen: int, count: int) -> int:
    return count - seen if count >= seen else count


Totals = tuple[int, int]
"""(respawns, restarts)"""


@dataclass(frozen=True)
class SinkState:
    """How a sink took what it was told last: `state` is a word of `sinks.Delivery`."""

    state: str
    message: str
    since: float


@dataclass
class Memory:
    """Changed in place under the pass lock, then saved."""

    counters: dict[str, Counter] = field(default_factory=dict)
    accepted: dict[str, dict[str, Totals]] = field(default_factory=dict)
    """Sink -> daemon -> the totals that it has been told."""
    handed_over: dict[str, dict[str, Totals]] = field(default_factory=dict)
    """Sink -> totals that are on their way to it; gone again once their fate is known."""
    doubted: dict[str, dict[str, Totals]] = field(default_factory=dict)
    """Sink -> totals that it was sent without giving an answer: it may have them, or not."""
    restarting: dict[str, str] = field(default_factory=dict)
    """Daemon -> the container that a pass under way is about to replace."""
    sinks: dict[str, SinkState] = field(default_factory=dict)
    alerts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Alerts that are firing at the Alertmanager, by our own key."""
    textfile_dir: str = ""
    """Where the file for node_exporter was written last; "" where there is none."""

    def copy(self) -> Memory:
        """One that does not change with this one; what is in its counters never does."""
        return Memory(
            dict(self.counters),
            _copy_totals(self.accepted),
            _copy_totals(self.handed_over),
            _copy_totals(self.doubted),
            dict(self.restarting),
            dict(self.sinks),
            dict(self.alerts),
            self.textfile_dir,
        )

    # -- counting ------------------------------------------------------------------------------

    def see_containers(self, containers: Iterable[Container]) -> frozenset[str]:
        """Count what portod counted; somebody else's container is not our daemon.

        The names of those that a pass replaced without living to count it: it is counted here.
        """
        made_up = set()
        for container in containers:
            if container.is_ours:
                counter = self.find_counter(container.name).with_container(container)
                marked = self.restarting.pop(container.name, counter.container)
                if marked != counter.container:
                    made_up.add(container.name)
                    counter = counter.with_restart_unseen()
                self.counters[container.name] = counter
        return frozenset(made_up)

    def see_gone(self, is_there: Callable[[str], bool]) -> frozenset[str]:
        """Daemons that a pass has stopped without living to start them: each is counted here."""
        gone = frozenset(name for name in self.restarting if not is_there(name))
        for name in gone:
            del self.restarting[name]
            self.counters[name] = self.find_counter(name).with_restart_unseen()
        return gone

    def mark_restarts(self, names: Iterable[str]) -> None:
        """A pass is about to replace these containers, and may not live to count that."""
        self.restarting |= {name: self.find_counter(name).container for name in names}

    def drop_marks(self, names: Iterable[str]) -> None:
        """It lived: the statuses say what became of them."""
        for name in names:
            self.restarting.pop(name, None)

    def see_statuses(
        self,
        statuses: Iterable[DaemonStatus],
        specs: Mapping[str, DaemonSpec],
        containers: Mapping[str, Container],
        now: float,
    ) -> None:
        """Count what we did, and note how long what is ready now took to become so."""
        for status in statuses:
            counter = self.find_counter(status.name)
            counter = counter.with_restarts(status.restart_count)
            container, spec = containers.get(status.name), specs.get(status.name)
            if container and container.is_ours and spec and status.ready and status.ready.status:
                counter = counter.with_ready(container, spec.min_ready_s, now)
            if counter != Counter():
                self.counters[status.name] = counter

    # -- what a sink has been told -------------------------------------------------------------

    def list_totals(self) -> dict[str, Totals]:
        return {name: (item.respawns, item.restarts) for name, item in self.counters.items()}

    def list_news(self, sink: str) -> dict[str, Totals]:
        """Daemon -> (respawns, restarts) that the sink has not accepted yet; all of them >= 0."""
        told = self.accepted.get(sink, {})
        return {
            name: (max(0, total[0] - was[0]), max(0, total[1] - was[1]))
            for name, total in self.list_totals().items()
            for was in (told.get(name, (0, 0)),)
        }

    def accept(self, sink: str, totals: Mapping[str, Totals]) -> None:
        """The sink has taken everything up to `totals`."""
        self.accepted[sink] = {**self.accepted.get(sink, {}), **totals}
        self.handed_over.pop(sink, None)
        self.doubted.pop(sink, None)

    def doubt(self, sink: str) -> None:
        """No answer came to what was handed over. It is told once more, and not a third time."""
        totals = self.handed_over.pop(sink, None)
        if totals is None:
            return
        told_twice = self.doubted.pop(sink, None)
        if told_twice is not None:
            self.accept(sink, told_twice)
        self.doubted[sink] = totals

    def settle(self) -> None:
        """Decide about pushes that we did not live to hear the answer of: they were handed over."""
        for sink, totals in list(self.handed_over.items()):
            self.accept(sink, totals)

    def forget(self, known: Iterable[str], sinks: Iterable[str]) -> None:
        """Drop daemons that nobody knows any more, once all of `sinks` know all about them.

        Until then they are kept: the next daemon of that name counts its restarts from 0 on.
        """
        gone = set(self.counters) - set(known)
        news = [self.list_news(sink) for sink in sinks] if gone else []
        for name in gone:
            if any(any(item.get(name, ())) for item in news):
                self.counters[name] = self.counters[name].with_restarts(0)
                continue
            del self.counters[name]
            for told in self.accepted.values():
                told.pop(name, None)

    def find_counter(self, name: str) -> Counter:
        return self.counters.get(name, Counter())

    def set_sink(self, sink: str, state: str, message: str, now: float) -> None:
        """Remember how the sink took it, and since when it has been taking it so."""
        old = self.sinks.get(sink)
        since = old.since if old is not None and old.state == state else now
        self.sinks[sink] = SinkState(state, message, since)


def _copy_totals(told: Mapping[str, Mapping[str, Totals]]) -> dict[str, dict[str, Totals]]:
    return {sink: dict(totals) for sink, totals in told.items()}


def encode_memory(memory: Memory) -> dict[str, Any]:
    data: dict[str, Any] = to_data(memory)
    return data


def decode_memory(data: Any) -> Memory:
    """The inverse; anything that is not a memory is an empty one, what is unknown in it dropped."""
    try:
        return from_data(Memory, data)
    except DamagedError:
        return Memory()
