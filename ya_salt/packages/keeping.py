"""Before an update: make sure that the versions in use can be installed again, whatever comes.

A .deb is taken from apt's archives, else from the repository, else packed again from the files on
this host. None of it may stop an update: what cannot be kept is a warning.
A repacked .deb has conffiles as they are on this host; files that somebody deleted are missing.
"""

from __future__ import annotations

import logging
import math
import os
import re
import stat
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from ya_salt.errors import PackageError
from ya_salt.model import InstalledPackage, Package, Progress
from ya_salt.names import split_architecture
from ya_salt.packages.apt import Apt
from ya_salt.packages.cache import make_packages
from ya_salt.packages.command import run_short
from ya_salt.packages.dpkg import as_argument, is_right
from ya_salt.quick_dataclass import dataclass, field, replace

_LOG = logging.getLogger("ya_salt.packages")


_DOWNLOAD_S = 120.0
"""How long a repository is asked: what it does not give is packed again."""


@dataclass(frozen=True)
class Kept:
    """What came of keeping .deb files."""

    problems: Mapping[str, str] = field(default_factory=dict)
    """Package -> why it is not kept."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Package -> version: there was no time for it, it is to be kept later."""


def keep_versions(
    apt: Apt, packages: Sequence[Package], tell: Progress, within_s: float = math.inf
) -> Kept:
    """Put every version that is not there yet into apt's cache of ours.

    Packing again begins with no further package once `within_s` is over; 0 takes what apt has in
    its archives, and asks no repository either.
    """
    wanted = apt.cache.find_lacking(packages)
    if apt.cache.directory is None or not wanted:
        return Kept()
    until = time.monotonic() + within_s
    try:
        left = _take_from_archives(apt, wanted)
        problems, later = {}, {}
        if within_s <= 0:
            later, left = {package.name: package.version for package in left}, []
        left = _download(apt, left) if left else []
        for number, package in enumerate(left):
            if number and time.monotonic() > until:
                later[package.name] = package.version
            elif why := _repack(apt, package, tell):
                problems[package.name] = why
        apt.cache.make_room()
    except (OSError, PackageError) as error:
        _LOG.warning("packages: cannot keep the versions in use for going back: %s", error)
        why = f"its .deb cannot be kept: {error}"
        return Kept(dict.fromkeys((p.name for p in wanted), why))
    return Kept(problems, later)


def keep_generation(
    apt: Apt, versions: Mapping[str, str], tell: Progress, protected: Collection[Package] = ()
) -> Mapping[str, str]:
    """Keep the .deb files of a generation that became ready; package -> why it is not kept.

    Nothing on the host changes but our cache, and nothing is raised: call it once for a generation
    and remember what it said. `protected` are the versions that other daemons would go back to.
    """
    return keep_generations(apt, versions, tell, protected, math.inf).problems


def keep_generations(
    apt: Apt,
    versions: Mapping[str, str],
    tell: Progress,
    protected: Collection[Package],
    within_s: float,
) -> Kept:
    """As `keep_generation`, of many: what would take longer than this is left for later."""
    if apt.cache.directory is None:
        return Kept(dict.fromkeys(versions, _NOTHING_KEPT))
    try:
        packages = apt.shorten_packages(make_packages(versions)) if versions else ()
        mine = replace(apt, protected=frozenset({*apt.protected, *protected, *packages}))
        return keep_versions(mine, packages, tell, within_s)
    except Exception as error:  # noqa: BLE001 - what cannot be kept stops no pass
        _LOG.exception("packages: keeping .deb files failed: a bug in ya-salt")
        return Kept(dict.fromkeys(versions, f"a bug in ya-salt: {error!r}"))


def can_go_back(
    apt: Apt, versions: Mapping[str, str], installed: Mapping[str, InstalledPackage]
) -> dict[str, str]:
    """Why packages could not be taken back to these versions without a repository, by name.

    Empty: they can. What is installed at its version now is kept right before an update. Looks at
    our cache alone, and counts as no use of it.
    """
    if apt.cache.directory is None:
        return dict.fromkeys(versions, _NOTHING_KEPT)
    packages = make_packages(versions)
    wrong = [package for package in packages if not is_right(package, installed)]
    return {
        package.name: _describe_lost(apt, package, installed)
        for package in wrong
        if not apt.cache.has(package)
    }


_NOTHING_KEPT = "no .deb is kept, as package_cache_bytes is 0"


def _describe_lost(apt: Apt, package: Package, installed: Mapping[str, InstalledPackage]) -> str:
    there = installed.get(package.name)
    what = f"{there.version} is {there.status}" if there else "no other version is installed either"
    return f"the .deb of {as_argument(package)} is not in {apt.cache_dir}, and {what}"


def _take_from_archives(apt: Apt, packages: Sequence[Package]) -> list[Package]:
    """Those that apt has not kept."""
    if not any(apt.place.archives.glob("*.deb")):
        # As a rule; dpkg need not be asked for the name of its architecture.
        return [*packages]
    return [package for package in packages if not _take_from(apt, apt.place.archives, package)]


def _download(apt: Apt, packages: Sequence[Package]) -> list[Package]:
    """Those that no repository has any more."""
    offered = apt.read_versions(package.name for package in packages) if packages else {}
    there = [package for package in packages if package.version in offered.get(package.name, ())]
    with apt.cache.drafts() as folder:
        if there:
            # One call for all; its files tell what worked.
            apt.download([as_argument(package) for package in there], folder, _DOWNLOAD_S)
        return [package for package in packages if not _take_from(apt, folder, package)]


def _take_from(apt: Apt, folder: Path, package: Package) -> bool:
    base, architecture = split_architecture(package.name)
    version = package.version.replace(":", "%3a")
    for machine in (architecture,) if architecture else (apt.architecture, "all"):
        file = folder / f"{base}_{version}_{machine}.deb"
        if file.is_file():
            apt.cache.add(package, file, is_last=False)
            return True
    return False


def _repack(apt: Apt, package: Package, tell: Progress) -> str:
    """Why it could not be packed again, or ""."""
    tell(f"packing {package.name} {package.version} again, no repository has it")
    try:
        with apt.cache.drafts() as folder:
            file = repack(apt, package, folder)
            apt.cache.add(package, file, repacked=True, is_last=False)
    except (OSError, PackageError) as error:
        _LOG.warning("packages: cannot keep %s for going back: %s", as_argument(package), error)
        return f"it cannot be packed again: {error}"
    return ""


# dpkg's own notes in the status file, which are no fields of a package.
_NOTES = r"(?:Status|Conffiles|Config-Version|Triggers-(?:Pending|Awaited)):"
_DIVERTED = r"(?:locally diverted|diverted by \S+) to: (?P<to>/.*)"


def repack(apt: Apt, package: Package, folder: Path) -> Path:
    """Build the .deb in `folder`. Raises PackageError or OSError."""
    name = apt.find_binary_names([package.name]).get(package.name, package.name)
    control = apt.read_dpkg("--status", name)
    if f"Version: {package.version}" not in control:
        raise PackageError("AptFailed", f"{package.name} is not at {package.version} any more")
    import shutil

    tree = folder / "tree"
    tree.mkdir()
    try:
        _write_control(tree / "DEBIAN", control, apt.read_dpkg("--control-path", name))
        copy_files(apt.place.path, tree, parse_list(apt.read_dpkg("-L", name)))
        return _build(apt, tree, folder / f"repacked_{_architecture(control)}.deb")
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def make_control(status: Iterable[str]) -> str:
    """Make a control file from a paragraph of dpkg's status file."""
    kept = []
    is_note = False
    for line in status:
        if not line.startswith(" "):
            is_note = bool(re.match(_NOTES, line))
        if line and not is_note:
            kept.append(f"{line}\n")
    return "".join(kept)


def parse_list(lines: Sequence[str]) -> dict[str, str]:
    """`dpkg-query -L`: where each path of the package really is; a diversion follows its path."""
    found: dict[str, str] = {}
    last = ""
    for line in lines:
        if match := re.match(_DIVERTED, line):
            found[last] = match["to"]
        elif line.startswith("/") and line != "/.":
            last = line
            found[line] = line
    return found


def copy_files(root: Path, tree: Path, paths: dict[str, str]) -> None:
    """Copy into `tree` with modes and, for root, owners; folders last, they may be read-only."""
    import shutil

    parents = {str(parent) for path in paths for parent in Path(path).parents}
    folders = []
    for path, place in sorted(paths.items()):
        source, target = root / place.lstrip("/"), tree / path.lstrip("/")
        if path in parents or (source.is_dir() and not source.is_symlink()):
            target.mkdir(parents=True, exist_ok=True)
            folders.append((source, target))
        elif source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
            _copy_owner(source, target)
    for source, target in reversed(folders):
        _copy_owner(source, target)


def _copy_owner(source: Path, target: Path) -> None:
    """Owner first: chown takes set-user-id bits away."""
    # A package's /lib may be a link on a merged /usr: the folder behind it counts.
    found = source.lstat() if target.is_symlink() else source.stat()
    if os.geteuid() == 0:
        os.chown(target, found.st_uid, found.st_gid, follow_symlinks=False)
    if not target.is_symlink():
        target.chmod(stat.S_IMODE(found.st_mode))


def _write_control(folder: Path, status: Sequence[str], files: Sequence[str]) -> None:
    import shutil

    folder.mkdir(mode=0o755)
    (folder / "control").write_text(make_control(status), encoding="utf-8")
    for file in map(Path, files):
        # NAME.postinst or NAME:ARCH.postinst; names may hold dots, kinds do not.
        shutil.copy2(file, folder / file.name.rpartition(".")[2])


def _build(apt: Apt, tree: Path, target: Path) -> Path:
    owners = () if os.geteuid() == 0 else ("--root-owner-group",)
    argv = ("dpkg-deb", *owners, "-Zgzip", "-z1", "--nocheck", "--build", str(tree), str(target))
    done = run_short(argv, apt.place.environment(), timeout_s=600)
    if done.code:
        raise PackageError("AptFailed", f"dpkg-deb: {' '.join(done.lines)}")
    return target


def _architecture(status: Iterable[str]) -> str:
    found = [line.partition(": ")[2] for line in status if line.startswith("Architecture: ")]
    return found[0] if found else "all"
