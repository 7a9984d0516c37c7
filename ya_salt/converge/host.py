"""A host, what a pass over it is about, and how the pass ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property, partial

from ya_salt.as_left import Glimpse
from ya_salt.converge.known_packages import KnownPackages
from ya_salt.converge.listening import Listening, put_socket
from ya_salt.converge.status import is_fine
from ya_salt.errors import GateError, PackageError
from ya_salt.gate.client import GateConnection
from ya_salt.gate.factory import make_gate
from ya_salt.gate.memory import GateMemory
from ya_salt.gate.protocol import Gate, Slot
from ya_salt.hostname import FACT as HOSTNAME
from ya_salt.hostname import HostName
from ya_salt.life import Order, Probes
from ya_salt.model import (
    DaemonSpec,
    DaemonStatus,
    InstalledPackage,
    Loaded,
    Observed,
    Outcome,
    Progress,
    Rejected,
    Settings,
)
from ya_salt.packages.apt import Apt
from ya_salt.porto.client import Patience, PortoClient
from ya_salt.quick_dataclass import dataclass, field, replace
from ya_salt.store import KeptStore, Store


def _make_no_gate(_name: str, _held: Callable[[], Collection[Slot]]) -> Gate | None:
    return None


@dataclass(frozen=True)
class Host:
    """What a pass needs of the world."""

    settings: Settings
    apt: Apt
    connect: Callable[[], PortoClient]
    progress: Progress = lambda _text: None
    now: Callable[[], float] = time.time
    patience: Patience = field(default_factory=Patience)
    """With portod, shared by all that `connect` makes."""
    is_hurried: Callable[[], bool] = lambda: False
    """Whether a pass is to wait no longer until daemons are ready: the next one is wanted."""
    kept_store: KeptStore = field(default_factory=KeptStore)
    """For a process that makes pass after pass."""
    known_packages: KnownPackages = field(default_factory=KnownPackages)
    """As above."""
    connect_gate: Callable[[str, Callable[[], Collection[Slot]]], Gate | None] = _make_no_gate
    """(our name, what we hold at the moment) -> the rollout gate; raises GateError."""

    @property
    def listening(self) -> Listening:
        """Whoever hears what daemons say of themselves."""
        return Listening(self.settings.notify_dir)

    def query_packages(self, names: Collection[str]) -> dict[str, InstalledPackage]:
        """What dpkg knows of them, as `Apt.query`. Raises PackageError."""
        return self.known_packages.query(self.apt, names)


def name_host(host: Host, store: Store | None, memory: GateMemory) -> HostName:
    """Under which name monitoring and the gate know this host; the store remembers it."""
    remembered = store.load_fact(HOSTNAME) if store else None
    has_slots = bool(memory.held or memory.asked)
    return HostName(host.settings.hostname, remembered, lambda: has_slots)


def open_gate(host: Host, memory: GateMemory, hostname: HostName) -> GateConnection:
    """The connection to the rollout gate; nothing is asked yet. Use it as a context manager."""

    def connect() -> Gate:
        gate = host.connect_gate(hostname.find(), lambda: tuple(connection.held.values()))
        if gate is None:
            raise GateError("this host has no gate", "GateRefused")
        return gate

    is_configured = host.settings.gate.type != "none"
    connection = GateConnection(connect, memory, host.now, is_configured=is_configured)
    return connection


def make_host(settings: Settings, progress: Progress = lambda _text: None) -> Host:
    """Make the host that the settings describe."""
    patience = Patience()
    return Host(
        settings=settings,
        apt=Apt(
            root=settings.root,
            lock_timeout_s=settings.lock_timeout_s,
            script_timeout_s=settings.script_timeout_s,
            stop_timeout_s=settings.stop_timeout_s,
            allow_removals=frozenset(settings.allow_removals),
            cache_dir=f"{settings.state_dir}/debs",
            cache_max_bytes=settings.package_cache_bytes,
            notes_dir=f"{settings.state_dir}/generations",
        ),
        connect=partial(PortoClient, settings.porto_socket, patience=patience),
        patience=patience,
        progress=progress,
        connect_gate=partial(make_gate, settings.gate),
    )


@dataclass(frozen=True)
class Rest:
    """Daemons that are as the last pass left them, so that this one does not look at them."""

    changed: Mapping[str, int]
    """Daemon -> when portod says that its container changed last, seconds since 1970."""
    peer: str
    """The portod that says so."""
    full_at: float
    """Seconds since the boot: all daemons are looked at then."""
    step: float
    porto_step: float
    """The clocks of this host and of portod against the time since the boot."""


@dataclass(frozen=True)
class PassRequest:
    """What a pass is about: the specs to make true, and everything known of the rest.

    `whole` is false for `apply -f`: daemons that are not named are then neither touched nor judged.
    """

    targets: tuple[DaemonSpec, ...]
    loaded: Loaded
    whole: bool = True
    restarts: Mapping[str, str] = field(default_factory=dict)
    """Daemon -> why it gets a new process though nothing about it changed."""
    orders: Mapping[str, Order] = field(default_factory=dict)
    """Daemon -> what a person asks for it."""
    who: str = ""
    """Who makes the pass: `agent`, `shell: NAME`, `Salt job ID`; "" where nobody said."""
    override_gate: str = ""
    """Why the rollout gate is not asked this time; "" asks it."""
    waits: bool = True
    """Whether it waits until the daemons that it starts are ready; else the next one judges them.

    Those that others are started `after` are waited for all the same.
    """
    asks_all: bool = True
    """Whether every daemon is asked if it is ready; else those whose time has come."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Daemon -> why the round of this pass before has stopped it: it is started in this one."""
    awaited: frozenset[str] = frozenset()
    """Daemons started by the round before, which did not wait until they are ready."""
    probes: Mapping[str, Probes] = field(default_factory=dict)
    """Daemon -> what somebody who asks between passes has come to know."""
    glimpse: Glimpse | None = None
    """The files as they were before they were read, where a next pass may be quick for it."""
    is_full: bool = False
    """Whether all daemons are looked at, whatever the last pass has left."""
    rest: Rest | None = None
    """Of a whole pass: those of its daemons that are no targets, as nothing has become of them."""

    @cached_property
    def context(self) -> tuple[DaemonSpec, ...]:
        """All valid specs of the host; a target goes before the file of the same daemon."""
        named = {spec.name for spec in self.targets}
        return (*self.targets, *(spec for spec in self.loaded.specs if spec.name not in named))


def settle_request(request: PassRequest, host: Host) -> PassRequest:
    """The request as this host has it: sockets where its settings say, one spelling for packages.

    `libfoo:amd64` is `libfoo` on amd64. Without dpkg they stay as they are: nothing is done about
    packages then.
    """
    request = _replace_specs(request, partial(_put_sockets, host.settings.notify_dir))
    try:
        return _replace_specs(request, partial(_spell, host.apt))
    except PackageError:
        return request


def _replace_specs(
    request: PassRequest, change: Callable[[Iterable[DaemonSpec]], tuple[DaemonSpec, ...]]
) -> PassRequest:
    specs = change(request.loaded.specs)
    is_all = request.targets == request.loaded.specs
    targets = specs if is_all else change(request.targets)
    return replace(request, targets=targets, loaded=replace(request.loaded, specs=specs))


def _put_sockets(notify_dir: str, specs: Iterable[DaemonSpec]) -> tuple[DaemonSpec, ...]:
    return tuple(put_socket(spec, notify_dir) for spec in specs)


def _spell(apt: Apt, specs: Iterable[DaemonSpec]) -> tuple[DaemonSpec, ...]:
    return tuple(
        spec if packages is spec.packages else replace(spec, packages=packages)
        for spec in specs
        for packages in [apt.shorten_packages(spec.packages)]
    )


@dataclass(frozen=True)
class PassResult:
    """How a pass ended: the statuses of its daemons, in name order."""

    statuses: tuple[DaemonStatus, ...]
    rejected: tuple[Rejected, ...]
    touched: frozenset[str] = frozenset()
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    """What was planned and done, by daemon; not of those that it did not look at."""
    before: Observed = field(default_factory=Observed)
    """The host as it was planned upon."""
    due_at: float | None = None
    """When there is more to do that nothing tells of; None: as far as is known never."""
    after: Observed = field(default_factory=Observed)
    """The host at its end."""
    coming: frozenset[str] = frozenset()
    """Daemons that it has started and not waited for: so far nothing of them has failed."""
    targets: tuple[DaemonSpec, ...] = ()
    """What it was about, each as it is in effect."""
    problems: tuple[str, ...] = ()
    """What went wrong with the pass itself, all daemons aside: it could not be written down."""

    @property
    def ok(self) -> bool:
        return not (self.rejected or self.problems) and all(
            is_fine(status, is_coming=status.name in self.coming) for status in self.statuses
        )
