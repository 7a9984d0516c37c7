"""Which daemon needs which package, and where two want different versions of one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from ya_salt.model import DaemonSpec, Observed, Package, Record


def find_conflicts(specs: Sequence[DaemonSpec]) -> dict[str, str]:
    """Daemon -> sentence, for daemons that want different versions of one package."""
    wanted: dict[str, list[tuple[DaemonSpec, Package]]] = {}
    for spec in specs:
        if not spec.delete_requested:
            for package in spec.packages:
                wanted.setdefault(package.name, []).append((spec, package))
    conflicts: dict[str, str] = {}
    for users in wanted.values():
        if len(users) == 1 or len({package.version for _, package in users}) == 1:
            continue
        for spec, package in users:
            others = [user for user in users if user[1].version != package.version]
            if others:
                conflicts.setdefault(spec.name, _describe_conflict(spec, package, others))
    return conflicts


def _describe_conflict(
    spec: DaemonSpec, package: Package, others: Sequence[tuple[DaemonSpec, Package]]
) -> str:
    rest = " and ".join(
        f"{other.path}:{theirs.line} wants {theirs.version}" for other, theirs in others
    )
    return (
        f"{spec.path}:{package.line} wants {package.name} {package.version}, but {rest}; "
        "a host has one version of a package: make the specs agree"
    )


def find_users(
    specs: Iterable[DaemonSpec],
    records: Iterable[Record],
    staying: Mapping[str, Iterable[str]] = MappingProxyType({}),
) -> dict[str, tuple[str, ...]]:
    """Package -> names of the daemons that need it.

    A daemon whose file is gone or broken still stands, so what its last good spec named counts; of
    one that only its container remembers, everything that it ever had. `staying` were to go and
    could not: what each would have taken along.
    """
    specs = tuple(specs)
    known = {spec.name for spec in specs}
    users: dict[str, list[str]] = {}
    for spec in specs:
        for package in () if spec.delete_requested else spec.packages:
            users.setdefault(package.name, []).append(spec.name)
    for record in records:
        removed = record.status is not None and record.status.phase == "Removed"
        last = record.spec
        needed = [item.name for item in last.packages] if last else record.package_names
        for name in () if record.name in known or removed else needed:
            users.setdefault(name, []).append(record.name)
    for daemon, names in staying.items():
        for name in names:
            users.setdefault(name, []).append(daemon)
    return {name: tuple(sorted(set(daemons))) for name, daemons in users.items()}


def describe_kept(packages: Iterable[str], users: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """A sentence for each package that is not purged, as somebody needs it."""
    return tuple(
        f"package {name} is kept: {', '.join(users[name])} "
        f"{'needs' if len(users[name]) == 1 else 'need'} it"
        for name in packages
        if name in users
    )


def find_replaceable(
    specs: Iterable[DaemonSpec], context: Iterable[DaemonSpec], observed: Observed
) -> dict[str, tuple[str, ...]]:
    """Daemon -> packages that it named earlier and no daemon needs any more.

    What takes their place may remove them: they are here for its sake alone.
    """
    needed = find_users(context, observed.records.values())
    return {
        spec.name: tuple(name for name in list_packages_ever(spec, observed) if name not in needed)
        for spec in specs
        if not spec.delete_requested
    }


def find_missing(spec: DaemonSpec, observed: Observed) -> tuple[Package, ...]:
    return tuple(package for package in spec.packages if not is_package_right(package, observed))


def is_package_right(package: Package, observed: Observed) -> bool:
    """Whether dpkg has it, whole, at exactly this version."""
    installed = observed.packages.get(package.name)
    return (
        installed is not None
        and installed.version == package.version
        and installed.status == "installed"
    )


def describe_packages(missing: Iterable[Package], observed: Observed) -> str:
    return ", ".join(_describe_package(package, observed) for package in missing)


def _describe_package(package: Package, observed: Observed) -> str:
    there = observed.packages.get(package.name)
    if there is None or there.status in {"not-installed", "config-files"}:
        return f"{package.name} {package.version} is not installed"
    if there.version == package.version:
        return f"{package.name} {package.version} is {there.status}"
    return f"{package.name} {there.version} -> {package.version}"


def list_packages_ever(spec: DaemonSpec, observed: Observed) -> tuple[str, ...]:
    """Names of all packages that the daemon has or ever had, from spec, store and container."""
    names = {package.name for package in spec.packages}
    record = observed.records.get(spec.name)
    if record is not None:
        names |= set(record.package_names)
    container = observed.containers.get(spec.name)
    applied = container.applied if container is not None else None
    if applied is not None:
        names |= set(applied.package_names)
    return tuple(sorted(names))


def is_present(name: str, observed: Observed) -> bool:
    installed = observed.packages.get(name)
    return installed is not None and installed.status != "not-installed"
