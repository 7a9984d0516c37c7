"""Before an update: make sure that the versions in use can be installed again, whatever comes.

A .deb is taken from apt's archives, else from the repository, else packed again from the files on
this host. None of it may stop an update: what cannot be kept is a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ya_salt.errors import PackageError
from ya_salt.model import Package
from ya_salt.packages.apt import Apt, Progress
from ya_salt.packages.names import as_argument
from ya_salt.packages.repack import repack

_LOG = logging.getLogger("ya_salt.packages")


def keep_versions(apt: Apt, packages: Sequence[Package], tell: Progress) -> None:
    """Put every version that is not there yet into apt's cache of ours."""
    wanted = [package for package in packages if not apt.cache.find(package)]
    if apt.cache.directory is None or not wanted:
        return
    try:
        left = _download(apt, _take_from_archives(apt, wanted))
    except (OSError, PackageError) as error:
        _LOG.warning("packages: cannot keep the versions in use for going back: %s", error)
        return
    for package in left:
        _repack(apt, package, tell)


def _take_from_archives(apt: Apt, packages: Sequence[Package]) -> list[Package]:
    """Those that apt has not kept."""
    return [package for package in packages if not _take_from(apt, apt.place.archives, package)]


def _download(apt: Apt, packages: Sequence[Package]) -> list[Package]:
    """Those that no repository has any more."""
    offered = apt.read_versions(package.name for package in packages) if packages else {}
    there = [package for package in packages if package.version in offered.get(package.name, ())]
    with apt.cache.drafts() as folder:
        if there:
            # One call for all; its files tell what worked.
            apt.download([as_argument(package) for package in there], folder)
        return [package for package in packages if not _take_from(apt, folder, package)]


def _take_from(apt: Apt, folder: Path, package: Package) -> bool:
    version = package.version.replace(":", "%3a")
    for file in folder.glob(f"{package.name}_{version}_*.deb"):
        apt.cache.add(package, file)
        return True
    return False


def _repack(apt: Apt, package: Package, tell: Progress) -> None:
    tell(f"packing {package.name} {package.version} again, no repository has it")
    try:
        with apt.cache.drafts() as folder:
            apt.cache.add(package, repack(apt, package, folder), repacked=True)
    except (OSError, PackageError) as error:
        _LOG.warning("packages: cannot keep %s for going back: %s", as_argument(package), error)
