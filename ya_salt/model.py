"""The words of the house: what is wanted, what is there, what is done, how it stands. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

LABEL = "HOSTMAN.spec"
"""The Porto label that holds a spec's digest: "is it ours, is it current" is one comparison."""

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Package:
    """An exact Debian package: `version` as dpkg writes it, with epoch and revision if any."""

    name: str
    version: str
    allow_held: bool = False
    line: int = 0
    """Where the spec file names it, counted from 1."""


@dataclass(frozen=True)
class DaemonSpec:
    """One valid file of the daemons directory.

    `properties` are Porto's own names, flattened where Porto sets them one by one
    (`controllers[devices]`, `env[PATH]`, `labels[X.y]`, `ulimit[nofile]`), with the text as it goes
    to portod: sizes in bytes, `true`/`false`, argv joined by tabs as `command_argv`.
    """

    name: str
    version: str
    path: str
    digest: str
    """64 hex digits over everything that decides what runs: properties and packages."""
    properties: Mapping[str, str]
    packages: tuple[Package, ...]
    delete_requested: bool = False
    annotations: Mapping[str, str] = NOTHING
    min_ready_s: float = 5.0
    ready_timeout_s: float = 60.0
    document: str = ""
    """The file's meaning as protobuf JSON ({"meta": …, "spec": …}), secrets masked: for people and the store."""


@dataclass(frozen=True)
class Rejected:
    """A file of the daemons directory that cannot be used. `problems` are whole sentences with their place.

    `name` is the daemon it would have been, where that much can be read, else "".
    """

    path: str
    problems: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True)
class Ignored:
    """An entry of the daemons directory that is not a spec file, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Loaded:
    """What one look at the daemons directory found, each in name order."""

    specs: tuple[DaemonSpec, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    ignored: tuple[Ignored, ...] = ()


@dataclass(frozen=True)
class InstalledPackage:
    """A package as dpkg knows it: `status` is dpkg's third word (`installed`, `half-configured`…)."""

    name: str
    version: str
    status: str = "installed"
    held: bool = False


@dataclass(frozen=True)
class Container:
    """A container as portod reports it.

    `values` are read-back texts by property name; a property that portod did not answer for is
    absent. `running_s` is the age of its process in whole seconds.
    """

    name: str
    state: str
    labels: Mapping[str, str] = NOTHING
    private: str = ""
    respawn_count: int = 0
    running_s: int = 0
    values: Mapping[str, str] = NOTHING

    @property
    def is_ours(self) -> bool:
        return LABEL in self.labels
