"""What the server knows of one container. Data and questions about it, no actions."""

from __future__ import annotations

import asyncio
import posixpath
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ya_salt.devporto.users import Credentials

ROOT = "/"
NAMESPACE = "/porto/"
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
