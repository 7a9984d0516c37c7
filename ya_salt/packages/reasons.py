"""Why a group is not as asked, from what dpkg and apt told. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ya_salt.errors import PackageError
from ya_salt.model import InstalledPackage, Package
from ya_salt.packages.command import Finished
from ya_salt.packages.failures import Failure, find_failures, find_unread_sources, last_lines


def explain_unknown(package: Package, updated: Finished | None) -> PackageError:
    """Say why a version is unknown: nobody has it, or its repository could not be read."""
    asked = f"{package.name} {package.version}"
    if unread := find_unread_sources(updated.lines if updated else ()):
        return PackageError(
            unread[0].reason,
            f"{asked} is in no list that apt could read; {unread[0].message}",
            packages=(package.name,),
            output=unread[0].output,
        )
    if updated and updated.code:
        # A source that apt cannot parse, or a repository that it does not trust.
        (failure, *_) = find_failures(updated.lines)
        return PackageError(
            failure.reason,
            f"{asked} is in no list that apt could read; {failure.message}; "
            "put etc/apt/sources.list right, the next pass tries again",
            packages=(package.name,),
            output=failure.output,
        )
    return PackageError(
        "VersionNotFound",
        f"{asked} is in no repository of this host: check the version in the spec (`apt-cache "
        f"policy {package.name}` shows what there is) and that it was uploaded",
        packages=(package.name,),
    )


def refuse_held(package: Package, found: InstalledPackage) -> PackageError:
    return PackageError(
        "Held",
        f"{package.name} is on hold at {found.version} and the spec wants {package.version}: "
        f"`apt-mark unhold {package.name}`, or write allow_held: true beside it in the spec",
        packages=(package.name,),
    )


def find_held(packages: Sequence[Package], installed: Mapping[str, InstalledPackage]) -> set[str]:
    names = {package.name for package in packages}
    return {name for name in names & installed.keys() if installed[name].held}


def find_version(installed: Mapping[str, InstalledPackage], name: str) -> str:
    return installed[name].version if name in installed else ""


def find_status(installed: Mapping[str, InstalledPackage], name: str) -> str:
    return installed[name].status if name in installed else ""


def pick_failure(failed: Sequence[Failure], packages: Sequence[Package]) -> Failure:
    """Choose the failure that concerns these packages, else the first."""
    names = {package.name for package in packages}
    return next((failure for failure in failed if failure.package in names), failed[0])


def explain_difference(
    wrong: Sequence[Package], installed: Mapping[str, InstalledPackage], done: Finished
) -> Failure:
    """Say what dpkg has where apt said that all went well."""
    package = wrong[0]
    found = installed.get(package.name)
    there = f"{found.version} ({found.status})" if found else "nothing"
    return Failure(
        "AptFailed",
        f"apt-get ended without an error, but of {package.name} there is {there} instead of "
        f"{package.version}",
        package.name,
        last_lines(done.lines),
    )
