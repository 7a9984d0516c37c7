"""What the server knows of its containers: each one, and all of them by name. No actions."""

from __future__ import annotations

import asyncio
import posixpath
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from devporto import porto_pb2 as pb
from devporto.counting import Process
from devporto.network import Network
from devporto.refusal import Refusal, make_denied, make_invalid
from devporto.users import Caller, Credentials
from devporto.values import check_name, normalize_path

ROOT = "/"
NAMESPACE = "/porto/"
NO_CHOICE = Network()
"""What `net` is where nobody set it."""
INT64_WRAP = 2**64

DEFAULT_CONTROLLERS = (
    *("freezer", "memory", "cpu", "cpuacct", "blkio", "devices", "hugetlb", "cpuset", "pids"),
    *("perf_event", "cgroup2"),
)
NESTED_CONTROLLERS = ("freezer", "cpuacct", "perf_event", "cgroup2")


class State(str, Enum):
    """The states portod names."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    PAUSED = "paused"
    DEAD = "dead"
    META = "meta"
    RESPAWNING = "respawning"
    DESTROYED = "destroyed"


ALIVE = (State.RUNNING, State.META)


@dataclass(eq=False)
class Run:
    """One execution of a container's command."""

    number: int
    owner: Container
    started: asyncio.Future[None]
    finished: asyncio.Future[None]
    pid: int = 0
    init: int = 0
    process: Process | None = None
    """The init, once somebody has asked what this run uses."""


@dataclass(eq=False)
class Stream:
    """stdout or stderr: where it goes and what was cut off its head."""

    path: str
    inside: bool = False
    """The client named the path, so it is opened as the container's user."""
    redirect: str = ""
    """For `/dev/fd/N`: that descriptor of the client."""
    offset: int = 0


@dataclass(eq=False)
class Usage:
    """What a finished run had used."""

    cpu_user_s: float = 0.0
    cpu_system_s: float = 0.0
    minor_faults: int = 0
    major_faults: int = 0


@dataclass(eq=False)
class Container:
    """One container, the root included (level 0)."""

    name: str
    id: int
    parent: Container | None
    workdir: str
    owner: Credentials = field(default_factory=Credentials)
    task: Credentials = field(default_factory=Credentials)
    state: State = State.STOPPED
    values: dict[str, Any] = field(default_factory=dict)
    """Settings that differ from the default, by property."""
    touched: set[str] = field(default_factory=set)
    """Properties somebody set: `real` reads ask for it."""
    labels: dict[str, str] = field(default_factory=dict)
    controllers: set[str] = field(default_factory=set)
    required: set[str] = field(default_factory=set)
    children: dict[str, Container] = field(default_factory=dict)
    command: str = ""
    argv: list[str] | None = None
    mode: str = "app"
    network: Network = NO_CHOICE
    isolate: bool = True
    weak: bool = False
    respawn: bool = False
    respawn_count: int = 0
    max_respawns: int = -1
    respawn_delay_ns: int = 1_000_000_000
    aging_s: int = 86400
    stdout_limit: int = 8 << 20
    stdin: Stream = field(default_factory=lambda: Stream("/dev/null"))
    stdout: Stream = field(default_factory=lambda: Stream("stdout"))
    stderr: Stream = field(default_factory=lambda: Stream("stderr"))
    run: Run | None = None
    usage: Usage = field(default_factory=Usage)
    exit_status: int = 0
    start_error: str = ""
    created_at: float = field(default_factory=time.time)
    started_at: float = 0.0
    died_at: float = 0.0
    changed_at: int = 0
    respawn_timer: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        defaults = DEFAULT_CONTROLLERS if self.level <= 1 else NESTED_CONTROLLERS
        self.controllers.update(defaults)
        self.touch()

    @property
    def level(self) -> int:
        return 0 if self.parent is None else self.parent.level + 1

    @property
    def is_root(self) -> bool:
        return self.parent is None

    @property
    def is_meta(self) -> bool:
        """Without a command: it only holds children."""
        return not self.command and self.argv is None

    @property
    def first_name(self) -> str:
        return self.name.rpartition("/")[2]

    def touch(self) -> None:
        """Something changed that `changed_since` asks about."""
        self.changed_at = int(time.time())

    def ancestors(self) -> Iterator[Container]:
        """Yield this one, its parent, up to the root."""
        one: Container | None = self
        while one is not None:
            yield one
            one = one.parent

    def subtree(self) -> list[Container]:
        """Children before their parents, this one last."""
        below = [one for child in self.children.values() for one in child.subtree()]
        return [*below, self]

    def has_running_child(self) -> bool:
        return any(
            child.state is State.RUNNING or child.has_running_child()
            for child in self.children.values()
        )

    def find_cwd(self) -> str:
        """Where the command runs: its own setting, an ancestor's, else a private directory."""
        cwd = ""
        for one in self.ancestors():
            own = one.values.get("cwd", "")
            if own:
                cwd = posixpath.join(own, cwd) if cwd else own
            if cwd.startswith("/"):
                return cwd
            if one.values.get("root", "/") != "/":
                return posixpath.join("/", cwd)
        return "/" if self.is_root else self.workdir

    def find_stream_path(self, stream: Stream) -> str:
        """Empty where nothing is kept: /dev/null, or a descriptor of the client."""
        if stream.path in ("", "/dev/null") or stream.path.startswith("/dev/fd/"):
            return ""
        base = self.find_cwd() if stream.inside else self.workdir
        return posixpath.join(base, stream.path)

    def find_exit_code(self) -> int:
        signal = self.exit_status & 0x7F
        return -signal if signal else self.exit_status >> 8

    def count_time_s(self) -> int:
        """`time`. A container that died again after a respawn keeps the time of its first death.

        portod subtracts unsigned numbers there, so the value can wrap; a client has to bear that.
        """
        if self.state is State.STOPPED:
            return 0
        end = self.died_at if self.state is State.DEAD else time.time()
        return (int((end - self.started_at) * 1000) % INT64_WRAP) // 1000


_FIRST_ID = 4
_LAST_ID = 4095
_MAX_TOTAL = 3000
_LEVEL_MAX = 16


class Registry:
    """The containers of one server."""

    def __init__(self, workdir: str) -> None:
        self._workdir = workdir
        self.root = Container(ROOT, 1, None, "/", state=State.META, mode="host")
        self._all: dict[str, Container] = {}
        self._sorted: list[Container] | None = None
        self._next_id = _FIRST_ID
        self._locked: set[str] = set()
        self._released: list[asyncio.Future[None]] = []

    def __iter__(self) -> Iterator[Container]:
        """Every container but the root, by name."""
        if self._sorted is None:
            self._sorted = [self._all[name] for name in sorted(self._all)]
        return iter(self._sorted)

    def find(self, name: str) -> Container:
        """By full name. Raises Refusal(ContainerDoesNotExist)."""
        container = self.root if name == ROOT else self._all.get(name)
        if container is None:
            raise Refusal(pb.ContainerDoesNotExist, f"container {name} not found")
        return container

    def resolve(self, caller: Caller, name: str) -> str:
        """Find the full name of what `caller` calls `name`. Raises Refusal(Permission)."""
        full = normalize_path(self._expand(caller, name))
        if full == ".":
            full = ROOT
        inside = full.startswith((caller.namespace, caller.container + "/"))
        above = f"{caller.container}/".startswith(full + "/")
        if not (inside or above or full == ROOT):
            raise make_denied(f"container name out of namespace: {name}")
        return full

    def _expand(self, caller: Caller, name: str) -> str:
        if name == ROOT:
            return ROOT
        if name == "self":
            return caller.container
        if name == ".":
            return caller.namespace.rstrip("/") or ROOT
        if name.startswith("self/"):
            rest = name.removeprefix("self/")
            return rest if caller.container == ROOT else f"{caller.container}/{rest}"
        if name.startswith(NAMESPACE):
            return name.removeprefix(NAMESPACE)
        return caller.namespace + name

    def compose(self, caller: Caller, container: Container) -> str | None:
        """Find the name under which `caller` sees a container; None where it does not."""
        if container.is_root or not caller.namespace:
            return container.name
        if container.name.startswith(caller.namespace):
            return container.name.removeprefix(caller.namespace)
        return None

    def find_namespace(self, container: Container) -> str:
        """Find the prefix which clients inside that container do not see."""
        namespace = ""
        for one in container.ancestors():
            access = one.values.get("enable_porto", "true")
            if access in ("isolate", "read-isolate", "self-isolate") and not one.is_root:
                return f"{one.name}/{namespace}"
            namespace = str(one.values.get("porto_namespace", "")) + namespace
        return namespace

    def find_for(self, caller: Caller, name: str) -> Container:
        """For reading. Raises Refusal."""
        if not caller.namespace and caller.container == ROOT and name in self._all:
            return self._all[name]
        return self.find(self.resolve(caller, name))

    def find_writable(self, caller: Caller, name: str) -> Container:
        """For changing. Raises Refusal."""
        caller.check_write()
        container = self.find_for(caller, name)
        self.check_control(caller, container)
        return container

    def check_control(self, caller: Caller, container: Container) -> None:
        """Let pass who may change it. Raises Refusal(Permission)."""
        caller.check_write()
        if container.is_root:
            raise make_denied("Write access denied: root container is read-only")
        caller.check_control(container.owner)

    def create(self, caller: Caller, name: str) -> Container:
        """Make a new, stopped container. Raises Refusal."""
        full = self.resolve(caller, name)
        check_name(full, superuser=caller.is_superuser)
        parent = self._find_parent(caller, full)
        if full == ROOT or full in self._all:
            raise Refusal(pb.ContainerAlreadyExists, f"container {full} already exists")
        if len(self._all) >= _MAX_TOTAL + (100 if caller.is_superuser else 0):
            raise Refusal(pb.ResourceNotAvailable, f"number of containers reached {_MAX_TOTAL}")
        container = Container(
            full,
            self._take_id(),
            parent,
            posixpath.join(self._workdir, full),
            owner=caller.credentials,
            task=caller.credentials,
        )
        self._all[full] = container
        self._sorted = None
        parent.children[full] = container
        return container

    def _find_parent(self, caller: Caller, name: str) -> Container:
        parent = self.find(name.rpartition("/")[0] or ROOT)
        if parent.level >= _LEVEL_MAX:
            raise make_invalid(f"Maximum level is {_LEVEL_MAX}")
        caller.check_write()
        if not parent.is_root:
            caller.check_control(parent.owner)
        return parent

    def _take_id(self) -> int:
        used = {one.id for one in self._all.values()}
        while self._next_id in used:
            self._next_id = self._next_id % _LAST_ID + 1
        number, self._next_id = self._next_id, self._next_id % _LAST_ID + 1
        return max(number, _FIRST_ID)

    def forget(self, container: Container) -> None:
        """After this nobody finds it."""
        del self._all[container.name]
        self._sorted = None
        if container.parent is not None:
            container.parent.children.pop(container.name, None)
        container.state = State.DESTROYED

    def is_locked(self, container: Container) -> bool:
        """Somebody changes it, something below it or something above it."""
        name = container.name
        return any(
            other == name or other.startswith(name + "/") or name.startswith(other + "/")
            for other in self._locked
        )

    async def lock(self, container: Container) -> None:
        """Wait until nobody else changes it. Raises Refusal(ContainerDoesNotExist)."""
        while self.is_locked(container):
            future = asyncio.get_running_loop().create_future()
            self._released.append(future)
            await future
        if container.state is State.DESTROYED:
            raise Refusal(pb.ContainerDoesNotExist, "Container was destroyed")
        self._locked.add(container.name)

    def unlock(self, container: Container) -> None:
        self._locked.discard(container.name)
        waiting, self._released = self._released, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
