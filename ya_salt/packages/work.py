"""The groups of one call, each a daemon's packages: what is still to do, what has failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ya_salt.errors import PackageError
from ya_salt.model import InstalledPackage, Package
from ya_salt.packages.dpkg import find_wrong
from ya_salt.packages.simulation import Change

Groups = Mapping[str, Sequence[Package]]


@dataclass(frozen=True)
class Outcome:
    """How a call ended: errors by group (absent means as asked), and what is there now."""

    errors: Mapping[str, PackageError]
    installed: Mapping[str, InstalledPackage]
    changes: tuple[Change, ...] = ()


@dataclass
class Work:
    """Shrinks as groups are done or refused."""

    todo: dict[str, tuple[Package, ...]]
    errors: dict[str, PackageError] = field(default_factory=dict)

    @property
    def packages(self) -> tuple[Package, ...]:
        """Everything still to do, each package once."""
        return merge_packages(self.todo.values())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(package.name for package in self.packages)

    def fail(self, group: str, error: PackageError) -> None:
        self.errors[group] = error
        self.todo.pop(group, None)

    def fail_all(self, error: PackageError) -> None:
        for group in list(self.todo):
            self.fail(group, error)

    def drop_right(self, installed: Mapping[str, InstalledPackage]) -> None:
        for group, packages in list(self.todo.items()):
            if not find_wrong(packages, installed):
                del self.todo[group]


def merge_packages(groups: Iterable[Sequence[Package]]) -> tuple[Package, ...]:
    """Every package once, by name, in the order of first mention."""
    return tuple({package.name: package for group in groups for package in group}.values())


def compare(
    before: Mapping[str, InstalledPackage], after: Mapping[str, InstalledPackage]
) -> tuple[Change, ...]:
    """Version changes between two queries."""
    changes = (
        Change(name, _version(before, name), _version(after, name))
        for name in sorted({*before, *after})
    )
    return tuple(change for change in changes if change.before != change.after)


def _version(installed: Mapping[str, InstalledPackage], name: str) -> str:
    package = installed.get(name)
    return package.version if package and package.status != "config-files" else ""
