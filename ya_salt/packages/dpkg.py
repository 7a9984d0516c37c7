"""Debian's alphabet of names and versions, and what dpkg-query answers. Pure.

Nothing that is given to apt can be taken for an option.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from ya_salt.model import InstalledPackage, Package

# Debian policy 5.6.1 and 5.6.12. A version may not end in "-": apt would read `foo=1.0-` as
# "remove foo"; see apt-get(8) under install.
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.]\Z")
_VERSION = re.compile(r"(?:[0-9]+:)?[0-9A-Za-z](?:[0-9A-Za-z.+~:-]*[0-9A-Za-z.+~])?\Z")


def check_names(names: Iterable[str]) -> None:
    """Raise ValueError for what is not a package name: a bug, specs were checked long before."""
    for name in names:
        if not _NAME.match(name):
            raise ValueError(f"not a Debian package name: {name!r}")


def check_packages(packages: Collection[Package]) -> None:
    """Raise ValueError for a name or version outside Debian's alphabet."""
    check_names(package.name for package in packages)
    for package in packages:
        if not _VERSION.match(package.version):
            raise ValueError(f"not a Debian version of {package.name}: {package.version!r}")


def as_argument(package: Package) -> str:
    """Write the word that asks apt-get for exactly this version."""
    return f"{package.name}={package.version}"


def format_names(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))


# dpkg-query(1): the last three are want, error flag and status, e.g. "install ok installed".
FORMAT = r"${Package}\t${Version}\t${db:Status-Want}\t${db:Status-Eflag}\t${db:Status-Status}\n"
INSTALLED = "installed"
HALF_INSTALLED = "half-installed"
BROKEN = frozenset(
    {"half-installed", "unpacked", "half-configured", "triggers-awaited", "triggers-pending"}
)
"""States that `dpkg --configure -a` or `apt-get -f install` may put right (dpkg(1))."""
GONE = frozenset({"not-installed", "config-files"})


def is_held(package: InstalledPackage) -> bool:
    """Whether somebody wants it left as it is: nobody wants that of half a package."""
    return package.held and package.status != HALF_INSTALLED


def parse_query(text: str) -> dict[str, InstalledPackage]:
    """dpkg-query's answer in `FORMAT`, by name; what was purged or never there is left out.

    A package installed for several architectures appears once, with the worst status: it is
    right only if all of it is.
    """
    found: dict[str, InstalledPackage] = {}
    for line in text.splitlines():
        name, version, want, _, status = line.split("\t")
        package = InstalledPackage(name, version, status, held=want == "hold")
        if status != "not-installed" and not _is_worse(found.get(name), package):
            found[name] = package
    return found


def _is_worse(old: InstalledPackage | None, new: InstalledPackage) -> bool:
    return (
        old is not None
        and old.status not in GONE
        and (old.status != INSTALLED or new.status in GONE)
    )


def is_right(package: Package, installed: Mapping[str, InstalledPackage]) -> bool:
    """Whether exactly this version is there, whole and configured."""
    found = installed.get(package.name)
    return found is not None and (found.version, found.status) == (package.version, INSTALLED)


def find_wrong(
    packages: Iterable[Package], installed: Mapping[str, InstalledPackage]
) -> tuple[Package, ...]:
    return tuple(package for package in packages if not is_right(package, installed))


def find_broken(
    names: Collection[str], installed: Mapping[str, InstalledPackage]
) -> tuple[InstalledPackage, ...]:
    """Those of the names that dpkg has not finished with."""
    return tuple(
        package
        for name in sorted(names)
        if (package := installed.get(name)) is not None and package.status in BROKEN
    )
