"""One host's dpkg and apt: every command that ya-salt knows, one method each."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ya_salt.errors import PackageError
from ya_salt.model import InstalledPackage, Progress
from ya_salt.packages import dpkg
from ya_salt.packages.cache import Cache
from ya_salt.packages.command import Finished, describe_line, missing, run_long, run_short
from ya_salt.packages.locks import find_holder
from ya_salt.packages.policy_rc_d import drop_shield, has_shield
from ya_salt.packages.root import Root, prepare_root

_LOG = logging.getLogger("ya_salt.packages")


_UNKNOWN = "no packages found"
_MADISON = re.compile(r"\s*(\S+) \| +(\S+) \| .*Packages$")


@dataclass(frozen=True)
class Apt:
    """How to reach this host's dpkg and apt. Methods raise PackageError."""

    root: str = "/"
    """A private dpkg root; what it lacks is made before anything is installed."""
    lock_timeout_s: float = 120
    script_timeout_s: float = 900
    allow_removals: Collection[str] = frozenset()
    """Packages that may be removed or changed although no spec names them."""
    cache_dir: str = ""
    """Where .deb files for going back are kept; "" keeps none."""
    cache_max_files: int = 200
    cache_max_bytes: int = 1 << 30

    @property
    def place(self) -> Root:
        return Root(Path(self.root).absolute())

    def query(self, wanted: Collection[str]) -> dict[str, InstalledPackage]:
        """Ask dpkg what it knows of these packages, in one dpkg-query; others are left out.

        Needs no rights and changes nothing.
        """
        dpkg.check_names(wanted)
        if not wanted or not self._has_database():
            return {}
        argv = ("dpkg-query", f"--admindir={self.place.admin_dir}", "-W", f"-f={dpkg.FORMAT}")
        done = run_short((*argv, "--", *sorted(set(wanted))), self.place.environment())
        lines = [line for line in done.lines if "\t" in line]
        said = [line for line in done.lines if "\t" not in line and _UNKNOWN not in line]
        if done.code not in {0, 1} or (said and not lines):
            raise PackageError("AptFailed", f"dpkg-query failed: {' '.join(said) or done.code}")
        return dpkg.parse_query("\n".join(lines))

    def _has_database(self) -> bool:
        """Whether dpkg was ever used in this root. Unreadable is not absent: that raises."""
        if not shutil.which("dpkg-query", path=self._path):
            raise missing("dpkg-query")
        try:
            return self.place.status_file.exists()
        except PermissionError as error:
            raise _not_permitted(f"cannot read the root {self.root}: {error}") from error

    def require(self) -> None:
        """Raise unless apt is here and we may use it (AptMissing, NotPermitted); make the root."""
        for tool in ("apt-get", "dpkg"):
            if not shutil.which(tool, path=self._path):
                raise missing(tool)
        if not self.place.is_private and os.geteuid() != 0:
            raise _not_permitted("only root may install packages: use sudo, or --root DIR")
        try:
            prepare_root(self.place)
        except OSError as error:
            raise _not_permitted(f"cannot write to the root {self.root}: {error}") from error

    @property
    def cache(self) -> Cache:
        keeps = self.cache_dir and self.cache_max_bytes > 0
        directory = Path(self.cache_dir).absolute() if keeps else None
        return Cache(directory, self.cache_max_files, self.cache_max_bytes)

    @property
    def _path(self) -> str:
        return self.place.environment()["PATH"]

    def tidy(self) -> bool:
        """Remove what a killed pass left behind. Call it at the start of a pass; costs one look.

        True if there was something. An apt that outlived its pass still needs its shield: that is
        left for the pass after it.
        """
        policy = self.place.policy_rc
        if not has_shield(policy) or find_holder(self.place.transaction_locks):
            return False
        _LOG.warning("packages: a pass was killed: removing %s, which it left behind", policy)
        return drop_shield(policy)

    def read_versions(self, wanted: Iterable[str]) -> dict[str, set[str]]:
        """Versions that some repository offers, by name, as apt's lists stand (apt-cache(8))."""
        argv = ("apt-cache", "-q", "madison", "--", *sorted(set(wanted)))
        found: dict[str, set[str]] = {}
        for line in run_short(argv, self.place.environment()).lines:
            if match := _MADISON.match(line):
                found.setdefault(match[1], set()).add(match[2])
        return found

    def download(self, words: Sequence[str], folder: Path) -> Finished:
        """Put the .deb files of NAME=VERSION… into a folder, hashes checked by apt."""
        argv = ("apt-get", *self.place.apt_options(), "download", "--", *words)
        return run_short(argv, self.place.environment(), timeout_s=600, cwd=str(folder))

    def read_dpkg(self, *words: str) -> tuple[str, ...]:
        """dpkg-query's lines, e.g. for `-L NAME`. Raises PackageError."""
        argv = ("dpkg-query", f"--admindir={self.place.admin_dir}", *words)
        done = run_short(argv, self.place.environment())
        if done.code:
            raise PackageError("AptFailed", f"dpkg-query {words[0]}: {' '.join(done.lines)}")
        return done.lines

    def simulate(self, verb: str, words: Sequence[str], options: Sequence[str] = ()) -> Finished:
        """Ask apt-get what it would do, holds aside: who may change them is ours to say."""
        free = ("-s", "--allow-downgrades", "--allow-change-held-packages")
        argv = ("apt-get", *self.place.apt_options(), *free, *options, verb, "--", *words)
        return run_short(argv, self.place.environment(), timeout_s=300)

    def run(
        self, verb: str, words: Sequence[str], options: Sequence[str], tell: Progress
    ) -> Finished:
        """apt-get for real: `install`, `purge`, `update`."""
        timeout = f"-oDPkg::Lock::Timeout={max(0, int(self.lock_timeout_s))}"
        argv = ("apt-get", *self.place.apt_options(), timeout, *options, verb, "--", *words)
        return self._run_long(argv, tell)

    def configure(self, words: Sequence[str], tell: Progress) -> Finished:
        """`dpkg --configure NAME…` or `-a`: finish what was unpacked."""
        return self._run_long(("dpkg", *self.place.dpkg_options(), "--configure", *words), tell)

    def remove_half_installed(self, name: str, tell: Progress) -> Finished:
        """Take away what dpkg wants reinstalled first (dpkg(1), remove-reinstreq)."""
        options = (*self.place.dpkg_options(), "--force-remove-reinstreq")
        return self._run_long(("dpkg", *options, "--remove", name), tell)

    def hold(self, held: Collection[str]) -> None:
        """Put the mark back that apt drops when it changes a held package."""
        run_short(("apt-mark", "hold", "--", *sorted(held)), self.place.environment())

    def unhold(self, held: Collection[str]) -> None:
        """Take the mark away."""
        run_short(("apt-mark", "unhold", "--", *sorted(held)), self.place.environment())

    def _run_long(self, argv: Sequence[str], tell: Progress) -> Finished:
        def on_line(line: str) -> None:
            _LOG.debug("packages: %s: %s", argv[0], line)
            if text := describe_line(line):
                tell(text)

        return run_long(
            argv,
            self.place.environment(),
            on_line,
            script_timeout_s=self.script_timeout_s,
            # A script may be silent all its time; then the next one.
            quiet_timeout_s=2 * self.script_timeout_s + 60,
        )


def _not_permitted(message: str) -> PackageError:
    return PackageError("NotPermitted", message)
