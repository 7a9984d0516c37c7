"""What the stages of a pass hand on to one another: values only, each frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ya_salt.converge.host import Host, PassRequest, PassResult
from ya_salt.converge.journal import Deed
from ya_salt.gate.memory import FACT as GATE
from ya_salt.gate.memory import GateMemory, encode_memory
from ya_salt.hostname import HostName
from ya_salt.model import (
    Container,
    DaemonPlan,
    Event,
    Observed,
    Outcome,
    Portod,
    Record,
    WatchedFiles,
)
from ya_salt.monitoring.counters import Memory
from ya_salt.monitoring.report import save_hostname
from ya_salt.quick_dataclass import dataclass, replace
from ya_salt.store import Store


@dataclass(frozen=True)
class Recalled:
    """What is known before anybody has looked."""

    records: Mapping[str, Record]
    relearned: Mapping[str, Record]
    """Records that a lost store has to learn again."""
    is_store_new: bool
    """Whether something may be missing that no pass could make up for yet."""
    blindness: str
    """Why portod does not tell which daemons a lost store has forgotten; "" where it does."""
    portod: Portod
    counters: Memory
    gate: GateMemory
    hostname: HostName
    rejected: Mapping[str, tuple[str, ...]]
    """Path -> problems of files that the last pass could not use."""
    deeds: tuple[Deed, ...]
    """What a pass that was cut short has left in the journal."""


@dataclass(frozen=True)
class Done:
    """Everything that a pass found and did, to be saved and told."""

    result: PassResult
    records: Mapping[str, Record]
    """Those that are new or changed."""
    events: Sequence[Event]
    counters: Memory
    gate: GateMemory
    recalled: Recalled
    request: PassRequest
    """What it was about in the end."""
    lost: Mapping[str, str]
    """Daemon -> why its update was given up: another round undoes it."""
    left: Mapping[str, str]
    """Daemon -> why it was stopped, without a start so far: another round starts it."""
    awaited: frozenset[str]
    """Daemons that were started and are not ready yet, where they were not waited for."""


@dataclass(frozen=True)
class Acted:
    """What was planned upon which host, what was done, and the host after it."""

    plans: Sequence[DaemonPlan]
    before: Observed
    after: Observed
    outcomes: Mapping[str, Outcome]
    troubles: Mapping[str, str]
    """Daemon -> what its container said last, where it does not run."""
    lost: Mapping[str, str]
    """Daemon -> why its update was given up in this round."""


@dataclass(frozen=True)
class Seen:
    """What is looked at in the middle of the work, by any thread."""

    files: dict[str, WatchedFiles]
    """What daemons watch, as it was right before each was started."""
    lasts: list[Container]
    """Containers that went, as they were seen last."""


@dataclass(frozen=True)
class Start:
    """What a pass goes by: the same from its first stage to its last."""

    host: Host
    request: PassRequest
    store: Store
    recalled: Recalled

    @property
    def records(self) -> Mapping[str, Record]:
        return self.recalled.records

    def save_gate(self, memory: GateMemory) -> None:
        """Before the gate is asked: for whom, and under which name."""
        self.recalled.hostname.find()
        with self.store.transaction():
            self.store.save_fact(GATE, encode_memory(memory))
            save_hostname(self.store, self.recalled.hostname)

    def mark_restarts(self, names: Iterable[str]) -> None:
        """Whose process apt is about to leave outdated."""
        marked = [
            replace(self.records.get(name, Record(name)), restart_pending=True) for name in names
        ]
        with self.store.transaction():
            self.store.save_records(marked)
