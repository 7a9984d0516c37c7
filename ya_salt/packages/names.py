"""Debian's alphabet for names and versions, so that nothing given to apt can be an option. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from ya_salt.model import Package

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
