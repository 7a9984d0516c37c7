"""A bounded folder of .deb files: versions that were in use, to go back to without a repository.

Only its owner may read it: a repacked file holds conffiles as they were on this host.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ya_salt.model import Package

_REPACKED = ".repacked.deb"


@dataclass(frozen=True)
class Cache:
    """`directory` None keeps nothing. The oldest files go first when a bound is reached."""

    directory: Path | None
    max_files: int = 200
    max_bytes: int = 1 << 30

    def find(self, package: Package, *, originals_only: bool = False) -> Path | None:
        """Find the file of this version; a repacked one only if there is no original."""
        found = sorted(self._files(package), key=lambda file: file.name.endswith(_REPACKED))
        if not found or (originals_only and found[0].name.endswith(_REPACKED)):
            return None
        with contextlib.suppress(OSError):
            os.utime(found[0])  # Used: the last to go.
        return found[0]

    def add(self, package: Package, file: Path, *, repacked: bool = False) -> None:
        """Take a copy, whole or not at all, and make room for it. May raise OSError."""
        if self.directory is None:
            return
        architecture = file.stem.rpartition("_")[2]
        ending = _REPACKED if repacked else ".deb"
        target = self.directory / f"{_stem(package)}_{architecture}{ending}"
        with self.drafts() as drafts:
            draft = drafts / target.name
            shutil.copyfile(file, draft)
            draft.chmod(0o600)
            _sync(draft)
            draft.replace(target)
        self._make_room()

    @contextlib.contextmanager
    def drafts(self) -> Iterator[Path]:
        """Lend a folder on the same disk for files that are not ready; gone afterwards."""
        if self.directory is None:
            raise ValueError("this cache keeps nothing")
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._remove_stale_drafts()
        with tempfile.TemporaryDirectory(
            prefix=f"drafts-{os.getpid()}-", dir=self.directory, ignore_cleanup_errors=True
        ) as folder:
            yield Path(folder)

    def _remove_stale_drafts(self) -> None:
        """Remove the drafts that a killed pass has left behind."""
        for old in self.directory.glob("drafts-*") if self.directory else ():
            if not Path("/proc", old.name.split("-")[1]).exists():
                shutil.rmtree(old, ignore_errors=True)

    def _files(self, package: Package) -> Iterator[Path]:
        if self.directory is not None:
            yield from self.directory.glob(f"{_stem(package)}_*.deb")

    def _make_room(self) -> None:
        if self.directory is None:
            return
        files = [(file.stat(), file) for file in self.directory.glob("*.deb")]
        total = 0
        newest_first = sorted(files, key=lambda pair: pair[0].st_mtime_ns, reverse=True)
        for count, (stat, file) in enumerate(newest_first, 1):
            total += stat.st_size
            if count > self.max_files or total > self.max_bytes:
                file.unlink()


def _stem(package: Package) -> str:
    """As apt names its archives, but with the architecture of a foreign package in its name.

    A colon would not pass every file system.
    """
    return f"{package.name}_{package.version}".replace(":", "%3a")


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
