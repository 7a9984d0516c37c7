"""A bounded folder of .deb files: versions that were in use, to go back to without a repository.

What daemons would go back to now stays whatever the bounds say; the rest goes after a week.
Only its owner may read it: a repacked file holds conffiles as they were on this host.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from ya_salt.life import Life
from ya_salt.model import Package
from ya_salt.quick_dataclass import dataclass

MAX_AGE_S = 7 * 86400.0
"""How long a file is kept that nobody would go back to now."""

_REPACKED = ".repacked.deb"
_LOOK_EVERY_S = 86400.0


def find_protected(lives: Iterable[Life]) -> frozenset[Package]:
    """The versions that daemons may go back to by themselves, or run from after they went back.

    Those are each one's last generation that became ready and was not rejected later, and the one
    that its trial, rejection or pin names.
    """
    found = set[tuple[str, str]]()
    for life in lives:
        numbers = {item.back_to for item in (life.trial, life.rejection) if item}
        numbers |= {life.pin.number} if life.pin else set()
        numbers.update([item.number for item in life.generations if not item.rejected][-1:])
        for generation in life.generations:
            if generation.number in numbers:
                found.update(generation.packages.items())
    return frozenset(Package(name, version) for name, version in found)


def make_packages(versions: Mapping[str, str]) -> tuple[Package, ...]:
    return tuple(Package(name, version) for name, version in versions.items())


@dataclass(frozen=True)
class Cache:
    """`directory` None keeps nothing. The oldest files go first when a bound is reached."""

    directory: Path | None
    max_files: int = 200
    max_bytes: int = 1 << 30
    protected: Collection[Package] = frozenset()
    """Never taken away."""

    def has(self, package: Package) -> bool:
        """Whether this version is here, as `find`; it does not count as a use."""
        return any(self._files(package))

    def find(self, package: Package, *, originals_only: bool = False) -> Path | None:
        """Find the file of this version; a repacked one only if there is no original."""
        found = sorted(self._files(package), key=lambda file: file.name.endswith(_REPACKED))
        if not found or (originals_only and found[0].name.endswith(_REPACKED)):
            return None
        with contextlib.suppress(OSError):
            os.utime(found[0])  # Used: the last to go.
        return found[0]

    def find_lacking(self, packages: Iterable[Package]) -> list[Package]:
        """Those of which no version is here; it counts as a use of the others."""
        there: dict[str, list[Path]] = {}
        for file in self.directory.glob("*.deb") if self.directory is not None else ():
            there.setdefault(_stem_of(file), []).append(file)
        lacking = []
        for package in packages:
            found = there.get(_stem(package))
            if found is None:
                lacking.append(package)
                continue
            with contextlib.suppress(OSError):
                os.utime(min(found, key=lambda file: file.name.endswith(_REPACKED)))
        return lacking

    def add(
        self, package: Package, file: Path, *, repacked: bool = False, is_last: bool = True
    ) -> None:
        """Take a copy, whole or not at all, and make room for it, and for those that came before.

        That looks at every file, so of many only the last one says `is_last`. May raise OSError.
        """
        if self.directory is None:
            return
        architecture = file.stem.rpartition("_")[2]
        ending = _REPACKED if repacked else ".deb"
        target = self.directory / f"{_stem(package)}_{architecture}{ending}"
        import shutil

        with self.drafts() as drafts:
            draft = drafts / target.name
            shutil.copyfile(file, draft)
            draft.chmod(0o600)
            _sync(draft)
            draft.replace(target)
        if is_last:
            self.make_room()

    @contextlib.contextmanager
    def drafts(self) -> Iterator[Path]:
        """Lend a folder on the same disk for files that are not ready; gone afterwards."""
        if self.directory is None:
            raise ValueError("this cache keeps nothing")
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._remove_stale_drafts()
        import tempfile

        with tempfile.TemporaryDirectory(
            prefix=f"drafts-{os.getpid()}-", dir=self.directory, ignore_cleanup_errors=True
        ) as folder:
            yield Path(folder)

    def _remove_stale_drafts(self) -> None:
        """Remove the drafts that a killed pass has left behind."""
        import shutil

        for old in self.directory.glob("drafts-*") if self.directory else ():
            if not Path("/proc", old.name.split("-")[1]).exists():
                shutil.rmtree(old, ignore_errors=True)

    def _files(self, package: Package) -> Iterator[Path]:
        if self.directory is not None:
            yield from self.directory.glob(f"{_stem(package)}_*.deb")

    def is_due(self, now: float) -> bool:
        """Whether nobody has looked for files that are too old for a day."""
        try:
            looked_at = None if self.directory is None else self.directory.stat().st_mtime
        except OSError:
            return False
        return looked_at is not None and abs(now - looked_at) >= _LOOK_EVERY_S

    def expire(self, now: float) -> bool:
        """Look once a day for files that are too old; whether it looked."""
        if self.directory is None or not self.is_due(now):
            return False
        try:
            self.make_room(now)
            os.utime(self.directory, (now, now))
        except OSError:
            return False
        return True

    def make_room(self, now: float | None = None) -> None:
        """Take away what is too old or too much."""
        if self.directory is None:
            return
        oldest = (time.time() if now is None else now) - MAX_AGE_S
        kept = {_stem(package) for package in self.protected}
        files = [(file.stat(), file) for file in self.directory.glob("*.deb")]
        newest_first = sorted(files, key=lambda pair: pair[0].st_mtime_ns, reverse=True)
        # What stays anyway takes its room first.
        newest_first.sort(key=lambda pair: _stem_of(pair[1]) not in kept)
        total = 0
        for count, (stat, file) in enumerate(newest_first, 1):
            total += stat.st_size
            is_over = count > self.max_files or total > self.max_bytes
            if (is_over or stat.st_mtime < oldest) and _stem_of(file) not in kept:
                file.unlink(missing_ok=True)


def _stem_of(file: Path) -> str:
    """The `_stem` of a file of ours: all but the architecture and the ending."""
    return file.name.rpartition("_")[0]


def _stem(package: Package) -> str:
    """As apt names its archives, but with the architecture of a foreign package in its name.

    A colon would not pass every file system.
    """
    return f"{package.name}_{package.version}".replace(":", "%3a")


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
