"""Look at the host: dpkg, Porto and what we remember. Reads only.

One dpkg-query for all packages, one Porto `get` for all containers; only a lost store costs more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ya_salt.converge.drift import decode_last_applied, name_read_back, wanted_properties
from ya_salt.converge.package_users import list_packages_ever
from ya_salt.errors import PackageError
from ya_salt.model import LABEL, Container, DaemonSpec, Observed, Record
from ya_salt.packages.apt import Apt
from ya_salt.porto.client import PortoClient, Values, parse_labels

_ALWAYS = (
    "state",
    "labels",
    "private",
    "respawn_count",
    "time",
    "id",
    "creation_time[raw]",
    "memory_usage",
    "cpu_usage",
)


def observe(
    specs: Sequence[DaemonSpec],
    records: Mapping[str, Record],
    apt: Apt,
    client: PortoClient,
) -> Observed:
    """Everything that a plan needs. Raises PortoError where portod cannot be asked."""
    observed = Observed(
        containers=look_at_containers(client, specs, {*records, *(spec.name for spec in specs)}),
        records=records,
    )
    return look_at_packages(observed, specs, apt)


def look_at_packages(observed: Observed, specs: Sequence[DaemonSpec], apt: Apt) -> Observed:
    """`observed` with what dpkg knows of every package that any of `specs` has or had."""
    names = _list_package_names(specs, observed)
    try:
        return replace(observed, packages=apt.query(names) if names else {}, packages_error="")
    except PackageError as error:
        return replace(observed, packages={}, packages_error=str(error))


def look_at_containers(
    client: PortoClient, specs: Sequence[DaemonSpec], names: Iterable[str]
) -> dict[str, Container]:
    """The containers of these names that exist, with every property that a spec declares."""
    wanted = dict.fromkeys(_ALWAYS)
    for spec in specs:
        wanted.update(dict.fromkeys(name_read_back(name) for name in wanted_properties(spec)))
    found = client.get(sorted(names), wanted) if names else {}
    return {name: _parse_container(name, values) for name, values in found.items()}


def find_lost(client: PortoClient) -> dict[str, Record]:
    """Daemons that only their containers still remember, for a store that begins anew."""
    names = [name for name in client.find_labelled(LABEL) if "/" not in name]
    found = look_at_containers(client, (), names)
    return {name: _recall(container) for name, container in found.items()}


def _recall(container: Container) -> Record:
    applied = decode_last_applied(container.private)
    return Record(
        name=container.name,
        package_names=applied.package_names if applied else (),
    )


def _list_package_names(specs: Sequence[DaemonSpec], observed: Observed) -> tuple[str, ...]:
    names = {package.name for spec in specs for package in spec.packages}
    for spec in specs:
        if spec.delete_requested:
            names |= set(list_packages_ever(spec, observed))
    return tuple(sorted(names))


def _parse_container(name: str, values: Values) -> Container:
    state = values.get("state", "")
    return Container(
        name=name,
        state=state,
        labels=parse_labels(values.get("labels", "")),
        private=values.get("private", ""),
        respawn_count=_parse_count(values.get("respawn_count", "")),
        # Of a dead container `time` may be nonsense: the age of a process that is not.
        running_s=_parse_count(values.get("time", "")) if state == "running" else 0,
        values={key: text for key, text in values.items() if key not in _ALWAYS},
        id=values.get("id", ""),
        created_at=_parse_count(values.get("creation_time[raw]", "")),
        memory_bytes=_parse_use(values.get("memory_usage", "")),
        cpu_ns=_parse_use(values.get("cpu_usage", "")),
    )


def _parse_use(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _parse_count(text: str) -> int:
    return int(text) if text.isdecimal() else 0
