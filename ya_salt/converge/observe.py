"""Look at the host: dpkg, Porto and what we remember. Reads only.

One dpkg-query for all packages, one Porto `get` for all containers; only a lost store costs more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from ya_salt.converge.drift import (
    GUARDED,
    decode_last_applied,
    name_read_back,
    wanted_properties,
)
from ya_salt.converge.package_users import list_packages_ever
from ya_salt.errors import PackageError, describe_bug
from ya_salt.model import LABEL, Container, DaemonSpec, InstalledPackage, Observed, Record
from ya_salt.porto import glance
from ya_salt.porto.client import PortoClient, Reading, parse_labels
from ya_salt.quick_dataclass import dataclass, field, replace

_NEEDED = ("state", "labels", "private", "respawn_count", "time", "id", "creation_time[raw]")
"""Without these nothing can be said of a container, and nothing be done to it."""

_USE = ("memory_usage", "cpu_usage")
_TOLD = ("start_time[raw]", "death_time[raw]", *_USE)
"""Only shown: where they cannot be read the daemon is looked after all the same."""

_APART = frozenset({*_NEEDED, *_TOLD})
"""These have a place of their own in what is known of a container."""

_COMPARED = ("task_cred", "respawn_delay", *GUARDED)
"""What no spec declares and is compared all the same, as far as it can be read."""

Query = Callable[[Collection[str]], Mapping[str, InstalledPackage]]
"""As `Apt.query`; raises PackageError."""


@dataclass(frozen=True)
class Look:
    """Containers that are there, and names of which portod could not tell (name -> why).

    A name in neither map has no container.
    """

    containers: Mapping[str, Container] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)


def observe(
    specs: Sequence[DaemonSpec],
    records: Mapping[str, Record],
    query: Query,
    client: PortoClient,
    rest: Collection[str] = (),
) -> Observed:
    """Everything that a plan needs, but for the containers of `rest`.

    Raises PortoError where portod cannot be asked.
    """
    names = ({*records} - {*rest}) | {spec.name for spec in specs}
    look = look_at_containers(client, specs, names)
    observed = Observed(containers=look.containers, unknown=look.unknown, records=records)
    return look_at_packages(observed, specs, query)


def look_at_packages(observed: Observed, specs: Sequence[DaemonSpec], query: Query) -> Observed:
    """`observed` with what dpkg knows of every package that any of `specs` has or had."""
    names = _list_package_names(specs, observed)
    try:
        return replace(observed, packages=query(names) if names else {}, packages_error="")
    except PackageError as error:
        return replace(observed, packages={}, packages_error=str(error))


def look_at_containers(
    client: PortoClient, specs: Sequence[DaemonSpec], names: Iterable[str]
) -> Look:
    """The containers of these names, with every property that one of `specs` declares.

    What cannot be read of a container, though its spec declares it, makes it unknown.
    """
    wanted = dict.fromkeys((*_NEEDED, *_TOLD, *(_COMPARED if specs else ())))
    declared: dict[str, set[str]] = {}
    unknown: dict[str, str] = {}
    for spec in specs:
        try:
            declared[spec.name] = {name_read_back(name) for name in wanted_properties(spec)}
        except Exception as error:  # noqa: BLE001 - a bug met by one daemon must not stop the others
            unknown[spec.name] = describe_bug(error)
        wanted.update(dict.fromkeys(declared.get(spec.name, ())))
    asked = sorted(names)
    found = client.look(asked, wanted) if asked else {}
    containers: dict[str, Container] = {}
    for name, reading in found.items():
        why = _describe_unreadable(reading, {*_NEEDED, *declared.get(name, ())})
        if why:
            unknown[name] = why
        elif not reading.is_gone and name not in unknown:
            try:
                containers[name] = _parse_container(name, reading)
            except Exception as error:  # noqa: BLE001 - as above
                unknown[name] = describe_bug(error)
    return Look(containers, unknown)


def look_at_use(
    client: PortoClient, socket_path: str, changed: Mapping[str, int]
) -> Mapping[str, Sequence[int | None]]:
    """Container -> (bytes, nanoseconds of CPU), as far as it tells. Raises PortoError.

    `changed`: when each has changed last, as portod has said. Where that still holds its answer is
    read in a tenth of the time.
    """
    used = _glance_at_use(socket_path, changed)
    if used is not None:
        return used
    found = client.look([*changed], _USE)
    return {
        name: (
            _parse_use(reading.values.get(_USE[0], "")),
            _parse_use(reading.values.get(_USE[1], "")),
        )
        for name, reading in found.items()
    }


def _glance_at_use(socket_path: str, changed: Mapping[str, int]) -> glance.Use | None:
    """The same, where none has changed; else None."""
    try:
        question = glance.encode_question(glance.encode_names(changed), _USE)
        told = glance.Call(socket_path, question).receive().told
        return glance.read_use(told, glance.say_unchanged(changed), _USE)
    except glance.NoGlanceError:
        return None


def _describe_unreadable(reading: Reading, needed: Collection[str]) -> str:
    missing = {name: why for name, why in reading.unreadable.items() if name in needed}
    if reading.is_gone or not missing:
        return ""
    name, why = next(iter(missing.items()))
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return f"portod does not tell its {name}{more}: {why}"


def find_lost(client: PortoClient) -> dict[str, Record]:
    """Daemons that only their containers still remember, for a store that begins anew."""
    names = [name for name in client.find_labelled(LABEL) if "/" not in name]
    look = look_at_containers(client, (), names)
    known = {name: _recall(container) for name, container in look.containers.items()}
    # What cannot be read of them now is no reason to forget that they are there.
    return {**{name: Record(name) for name in look.unknown}, **known}


def _recall(container: Container) -> Record:
    applied = container.applied
    return Record(container.name, package_names=applied.package_names if applied else ())


def _list_package_names(specs: Sequence[DaemonSpec], observed: Observed) -> tuple[str, ...]:
    names = {package.name for spec in specs for package in spec.packages}
    for spec in specs:
        if spec.delete_requested:
            names |= set(list_packages_ever(spec, observed))
    return tuple(sorted(names))


def _parse_container(name: str, reading: Reading) -> Container:
    values = reading.values
    state = values.get("state", "")
    return Container(
        name=name,
        state=state,
        labels=parse_labels(values.get("labels", "")),
        applied=decode_last_applied(values.get("private", "")),
        respawn_count=_parse_count(values.get("respawn_count", "")),
        # Of a dead container `time` may be nonsense: the age of a process that is not.
        running_s=_parse_count(values.get("time", "")) if state == "running" else 0,
        values={key: text for key, text in values.items() if key not in _APART},
        id=values.get("id", ""),
        created_at=_parse_count(values.get("creation_time[raw]", "")),
        memory_bytes=_parse_use(values.get("memory_usage", "")),
        cpu_ns=_parse_use(values.get("cpu_usage", "")),
        started_at=_parse_count(values.get("start_time[raw]", "")),
        died_at=_parse_count(values.get("death_time[raw]", "")) if state == "dead" else 0,
        changed_at=reading.changed_at,
    )


def _parse_use(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 20 else None


def _parse_count(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 20 else 0
