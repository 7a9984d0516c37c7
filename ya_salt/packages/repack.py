"""Pack an installed package again from dpkg's database and the files on this host.

The result installs like the original. Conffiles are as they are here now; files that somebody
deleted are missing.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from ya_salt.errors import PackageError
from ya_salt.model import Package
from ya_salt.packages.apt import Apt
from ya_salt.packages.command import run_short

# dpkg's own notes in the status file, which are no fields of a package.
_NOTES = re.compile(r"(?:Status|Conffiles|Config-Version|Triggers-(?:Pending|Awaited)):")
_DIVERTED = re.compile(r"(?:locally diverted|diverted by \S+) to: (?P<to>/.*)")


def repack(apt: Apt, package: Package, folder: Path) -> Path:
    """Build the .deb in `folder`. Raises PackageError or OSError."""
    control = apt.read_dpkg("--status", package.name)
    if f"Version: {package.version}" not in control:
        raise PackageError("AptFailed", f"{package.name} is not at {package.version} any more")
    tree = folder / "tree"
    tree.mkdir()
    try:
        _write_control(tree / "DEBIAN", control, apt.read_dpkg("--control-path", package.name))
        copy_files(apt.place.path, tree, parse_list(apt.read_dpkg("-L", package.name)))
        return _build(apt, tree, folder / f"{package.name}_{_architecture(control)}.deb")
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def make_control(status: Iterable[str]) -> str:
    """Make a control file from a paragraph of dpkg's status file."""
    kept = []
    is_note = False
    for line in status:
        if not line.startswith(" "):
            is_note = bool(_NOTES.match(line))
        if line and not is_note:
            kept.append(f"{line}\n")
    return "".join(kept)


def parse_list(lines: Sequence[str]) -> dict[str, str]:
    """`dpkg-query -L`: where each path of the package really is; a diversion follows its path."""
    found: dict[str, str] = {}
    last = ""
    for line in lines:
        if match := _DIVERTED.match(line):
            found[last] = match["to"]
        elif line.startswith("/") and line != "/.":
            last = line
            found[line] = line
    return found


def copy_files(root: Path, tree: Path, paths: dict[str, str]) -> None:
    """Copy into `tree` with modes and, for root, owners; folders last, they may be read-only."""
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
    folder.mkdir(mode=0o755)
    (folder / "control").write_text(make_control(status))
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
