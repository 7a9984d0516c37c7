"""One host's dpkg and apt: every command that ya-salt knows, one method each."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from ya_salt.errors import PackageError
from ya_salt.model import InstalledPackage, Package, Progress
from ya_salt.names import is_package_name, shorten_package_name, split_architecture
from ya_salt.packages import dpkg
from ya_salt.packages.cache import Cache
from ya_salt.packages.command import (
    Finished,
    Limits,
    describe_line,
    follow,
    has_tool,
    missing,
    run_short,
    start_child,
)
from ya_salt.packages.locks import find_holder
from ya_salt.packages.policy_rc_d import has_our_policy, remove_our_policy
from ya_salt.packages.root import Root, prepare_root
from ya_salt.quick_dataclass import dataclass, replace
from ya_salt.trusted_files import make_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ya_salt.packages.simulation import Relations
    from ya_salt.packages.unit import AptUnit

_LOG = logging.getLogger("ya_salt.packages")

_UNKNOWN = "no packages found"
_WARNS = " warning: "
_MADISON = r"\s*(\S+) \| +(\S+) \| .*Packages$"
GOING_BACK = ".going-back"
"""Stands in the notes' folder while something is taken back."""


@dataclass(frozen=True)
class Apt:
    """How to reach this host's dpkg and apt. Methods raise PackageError."""

    root: str = "/"
    """A private dpkg root; what it lacks is made before anything is installed."""
    lock_timeout_s: float = 120
    script_timeout_s: float = 900
    stop_timeout_s: float = 20
    """How long dpkg may go on with what it began once we are told to stop."""
    allow_removals: Collection[str] = frozenset()
    """Packages that may be removed or changed although no spec names them."""
    cache_dir: str = ""
    """Where .deb files for going back are kept; "" keeps none."""
    cache_max_files: int = 200
    cache_max_bytes: int = 1 << 30
    protected: Collection[Package] = frozenset()
    """Versions whose .deb files are never taken away."""
    notes_dir: str = ""
    """Where it is written down what updates change, to take it back with them; "" nowhere."""

    @property
    def place(self) -> Root:
        return Root(Path(self.root).absolute())

    def query(self, wanted: Collection[str]) -> dict[str, InstalledPackage]:
        """Ask dpkg what it knows of these packages, in one dpkg-query; others are left out.

        Each NAME or NAME:ARCH as it was given. Needs no rights and changes nothing.
        """
        return {name: entry.installed for name, entry in self._find_entries(wanted).items()}

    def find_binary_names(self, wanted: Collection[str]) -> dict[str, str]:
        """What dpkg itself calls these packages: it refuses a plain name that fits two of them."""
        return {name: entry.binary for name, entry in self._find_entries(wanted).items()}

    def _find_entries(self, wanted: Collection[str]) -> dict[str, dpkg.Entry]:
        # What can be no package's name is nowhere: it may come from an older store.
        good = sorted({name for name in wanted if is_package_name(name)})
        if not good or not self._has_database():
            return {}
        bases = sorted({split_architecture(name)[0] for name in good})
        argv = ("dpkg-query", f"--admindir={self.place.admin_dir}", "-W", f"-f={dpkg.FORMAT}")
        done = run_short((*argv, "--", *bases), self.place.environment())
        lines = [line for line in done.lines if "\t" in line]
        said = [line for line in done.lines if "\t" not in line and _UNKNOWN not in line]
        # What it could not tell of one package is not to be taken for its absence.
        errors = [line for line in said if line.startswith("dpkg-query: ") and _WARNS not in line]
        if done.code not in {0, 1} or errors or (said and not lines):
            raise PackageError("AptFailed", f"dpkg-query failed: {' '.join(said) or done.code}")
        try:
            entries = dpkg.parse_query("\n".join(lines))
        except ValueError as error:
            words = f"dpkg-query: its answer cannot be used: {error}"
            raise PackageError("AptFailed", words) from error
        return dpkg.pick_entries(entries, good, lambda: self.architecture)

    @cached_property
    def architecture(self) -> str:
        """The host's own, as in `libfoo:amd64`. Raises PackageError."""
        done = run_short(("dpkg", "--print-architecture"), self.place.environment())
        if done.code or not done.lines:
            raise PackageError("AptFailed", f"dpkg --print-architecture: {' '.join(done.lines)}")
        return done.lines[0].strip()

    def shorten(self, name: str) -> str:
        """Give the one spelling of a package here; dpkg is asked only where an architecture is."""
        return shorten_package_name(name, self.architecture) if ":" in name else name

    def shorten_packages(self, packages: Iterable[Package]) -> tuple[Package, ...]:
        """The same packages where none names an architecture."""
        packages = tuple(packages)
        if not any(":" in package.name for package in packages):
            return packages
        return tuple(replace(package, name=self.shorten(package.name)) for package in packages)

    def _has_database(self) -> bool:
        """Whether dpkg was ever used in this root. Unreadable is not absent: that raises."""
        if not has_tool("dpkg-query", self._path):
            raise missing("dpkg-query")
        try:
            return self.place.status_file.exists()
        except PermissionError as error:
            raise _not_permitted(f"cannot read the root {self.root}: {error}") from error

    def require(self) -> None:
        """Raise unless apt is here and we may use it (AptMissing, NotPermitted); make the root."""
        for tool in ("apt-get", "dpkg"):
            if not has_tool(tool, self._path):
                raise missing(tool)
        if not self.place.is_private and os.geteuid() != 0:
            raise _not_permitted("only root may install packages: use sudo, or --root DIR")
        try:
            prepare_root(self.place)
        except OSError as error:
            raise _not_permitted(f"cannot write to the root {self.root}: {error}") from error

    @property
    def is_going_back(self) -> bool:
        """Whether a pass that took packages back was killed before it was through."""
        return bool(self.notes_dir) and Path(self.notes_dir, GOING_BACK).exists()

    @property
    def cache(self) -> Cache:
        keeps = self.cache_dir and self.cache_max_bytes > 0
        directory = Path(self.cache_dir).absolute() if keeps else None
        return Cache(directory, self.cache_max_files, self.cache_max_bytes, self.protected)

    @property
    def _path(self) -> str:
        return self.place.environment()["PATH"]

    def tidy(self, tell: Progress = lambda _text: None) -> bool:
        """Remove what a killed pass left behind. Call it at the start of a pass; costs two looks.

        True if there was something. An apt that outlived its pass in a unit of its own is waited
        for. Elsewhere it still needs its policy-rc.d: that is left for the pass after it.
        """
        self.take_result(tell)
        policy = self.place.policy_rc
        if self._read_aside() and not find_holder(self.place.transaction_locks):
            _LOG.warning("packages: a pass was killed: ending the holds that it left behind")
            self.take_back()
        if not has_our_policy(policy) or find_holder(self.place.transaction_locks):
            return False
        _LOG.warning("packages: a pass was killed: removing %s, which it left behind", policy)
        return remove_our_policy(policy)

    def read_versions(self, wanted: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Versions that some repository offers, newest first, as apt's lists stand (apt-cache(8)).

        By apt's own name: a package of a foreign architecture is NAME:ARCH, and a plain NAME that
        only a foreign one has is found as that.
        """
        argv = ("apt-cache", "-q", "madison", "--", *sorted(set(wanted)))
        found: dict[str, dict[str, None]] = {}
        for line in run_short(argv, self.place.environment()).lines:
            if match := re.match(_MADISON, line):
                found.setdefault(match[1], {})[match[2]] = None
        return {name: tuple(versions) for name, versions in found.items()}

    def read_names(self) -> tuple[str, ...]:
        """Names of all packages that apt has heard of, without architectures."""
        return run_short(("apt-cache", "pkgnames"), self.place.environment()).lines

    def find_unavailable(self, packages: Iterable[Package]) -> Mapping[Package, str]:
        """Say which of these versions no list of apt and no file of ours offers.

        One apt-cache for all; reads only, and what apt knows by now: `apt-get update`, which a pass
        runs for an unknown version, may bring it. Empty where apt has read no list yet. Raises
        PackageError.
        """
        asked = {package: self.shorten_packages([package])[0] for package in packages}
        if not asked or not self._has_lists():
            return {}
        offered = self.read_versions(package.name for package in asked.values())
        cache = self.cache
        return {
            given: _describe_unavailable(given, offered.get(package.name, ()))
            for given, package in asked.items()
            if package.version not in offered.get(package.name, ()) and not cache.find(package)
        }

    def _has_lists(self) -> bool:
        if self.place.is_private and not self.place.apt_config.is_file():
            return False
        return any(self.place.lists.glob("*_Packages*"))

    def download(self, words: Sequence[str], folder: Path, timeout_s: float = 600) -> Finished:
        """Put the .deb files of NAME=VERSION… into a folder, hashes checked by apt."""
        argv = ("apt-get", *self.place.apt_options(), "download", "--", *words)
        return run_short(argv, self.place.environment(), timeout_s=timeout_s, cwd=str(folder))

    def read_conffiles(self, names: Collection[str]) -> dict[str, Mapping[str, tuple[str, bool]]]:
        """Package, as given -> path -> (MD5 of what it brought, whether it still has it).

        One dpkg-query(1) for all; packages that are not there have none. Raises PackageError.
        """
        bases = {name: split_architecture(name)[0] for name in names}
        if not bases or not self._has_database():
            return {}
        # What stands for several architectures shares its conffiles.
        form = r"-f=${Package}\n${Conffiles}\n"
        argv = ("dpkg-query", f"--admindir={self.place.admin_dir}", "-W", form)
        done = run_short((*argv, "--", *sorted({*bases.values()})), self.place.environment())
        if done.code not in {0, 1}:
            raise PackageError("AptFailed", f"dpkg-query failed: {' '.join(done.lines)}")
        found = dpkg.parse_conffiles(done.lines)
        return {name: found[base] for name, base in bases.items() if base in found}

    def read_automatic(self, names: Collection[str]) -> tuple[str, ...]:
        """Those that came along as dependencies (apt-mark(8), showauto)."""
        argv = ("apt-mark", "showauto", "--", *sorted(names))
        found = run_short(argv, self.place.environment()).lines if names else ()
        return tuple(line for line in found if line in names)

    def mark_automatic(self, names: Collection[str]) -> None:
        """Say so again of packages that apt was given as files."""
        if names:
            run_short(("apt-mark", "auto", "--", *sorted(names)), self.place.environment())

    def read_relations(self, words: Sequence[str]) -> dict[str, Relations]:
        """What packages say of others, by name; words as for apt-get: NAME=VERSION, or a file."""
        from ya_salt.packages.simulation import parse_relations

        environment = self.place.environment()
        lines: list[str] = []
        if listed := [word for word in words if not word.startswith("/")]:
            lines += run_short(("apt-cache", "show", "--", *listed), environment).lines
        for file in (word for word in words if word.startswith("/")):
            lines += ["", *run_short(("dpkg-deb", "-f", file), environment).lines]
        return parse_relations(lines)

    def read_installed_relations(self, names: Collection[str]) -> dict[str, Relations]:
        """The same of packages that are here, by the names as given."""
        from ya_salt.packages.simulation import parse_relations

        binaries = self.find_binary_names(names)
        return {
            name: relations
            for name, binary in binaries.items()
            for relations in parse_relations(self.read_dpkg("--status", binary)).values()
        }

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
        """`dpkg --configure NAME…`: finish what was unpacked."""
        names = self.find_binary_names(words)
        words = [names.get(word, word) for word in words]
        return self._configure(words, tell)

    def configure_all(self, tell: Progress) -> Finished:
        """`dpkg --configure -a`."""
        return self._configure(("-a",), tell)

    def _configure(self, words: Sequence[str], tell: Progress) -> Finished:
        return self._run_long(("dpkg", *self.place.dpkg_options(), "--configure", *words), tell)

    def remove_half_installed(self, name: str, tell: Progress) -> Finished:
        """Take away what dpkg wants reinstalled first (dpkg(1), remove-reinstreq)."""
        options = (*self.place.dpkg_options(), "--force-remove-reinstreq")
        binary = self.find_binary_names([name]).get(name, name)
        return self._run_long(("dpkg", *options, "--remove", binary), tell)

    def hold(self, held: Collection[str]) -> None:
        """Put the mark back that apt drops when it changes a held package."""
        run_short(("apt-mark", "hold", "--", *sorted(held)), self.place.environment())

    def put_aside(self, names: Collection[str]) -> None:
        """Hold them for now; that is noted first, so that a kill leaves none on hold for good."""
        if self.notes_dir:
            known = {*names, *self._read_aside()}
            try:
                make_directory(self.notes_dir, 0o700, 0o700)
                draft = self._aside_note.with_suffix(".new")
                draft.write_text(json.dumps(sorted(known)))
                draft.replace(self._aside_note)
            except OSError as error:
                _LOG.warning("packages: %s: %s", self._aside_note, error)
        self.hold(names)

    def take_back(self, names: Collection[str] = ()) -> None:
        """End the holds that `put_aside` has made; what apt does not let go now stays noted."""
        try:
            found = self.query({*names, *self._read_aside()})
            held = sorted(name for name, package in found.items() if package.held)
            if held:
                self._unhold(held)
            if self.notes_dir:
                self._aside_note.unlink(missing_ok=True)
        except (PackageError, OSError) as error:
            _LOG.warning("packages: holds stay, the next pass ends them: %s", error)

    def _unhold(self, held: Sequence[str]) -> None:
        """Take the mark away. Raises PackageError."""
        done = run_short(("apt-mark", "unhold", "--", *held), self.place.environment())
        if done.code:
            raise PackageError("AptFailed", " ".join(done.lines[-1:]))

    @property
    def _aside_note(self) -> Path:
        return Path(self.notes_dir) / ".aside"

    def _read_aside(self) -> tuple[str, ...]:
        """What an earlier call, which may have been killed, has noted."""
        if not self.notes_dir:
            return ()
        try:
            found = json.loads(self._aside_note.read_bytes())
        except (OSError, ValueError):
            return ()
        names = found if isinstance(found, list) else []
        return tuple(name for name in names if isinstance(name, str) and is_package_name(name))

    @cached_property
    def _unit(self) -> AptUnit:
        from ya_salt.packages.unit import AptUnit

        return AptUnit(str(self.place.path))

    def take_result(self, tell: Progress) -> str:
        """Wait for an apt that outlived its pass; what became of it, "" where there is none."""
        try:
            worker = self._unit.find()
            if worker is None:
                return ""
            if worker.poll() is None:
                text = f"waiting for {self._unit.name}, which a pass before this one has started"
                _LOG.info("packages: %s", text)
                tell(text)
            done = follow(worker, lambda _line: None, self._limits, on_quiet=tell)
        except (PackageError, OSError) as error:
            _LOG.error("packages: %s", error)
            return str(error)
        from ya_salt.packages.unit import describe_result

        level = logging.WARNING if done.code else logging.INFO
        said = describe_result(self._unit, done)
        _LOG.log(level, "packages: %s", said)
        return said

    @property
    def _limits(self) -> Limits:
        return Limits(
            script_s=self.script_timeout_s,
            # A script may be silent all its time; then the next one.
            quiet_s=2 * self.script_timeout_s + 60,
            stop_s=self.stop_timeout_s,
        )

    def _run_long(self, argv: Sequence[str], tell: Progress) -> Finished:
        def on_line(line: str) -> None:
            _LOG.debug("packages: %s: %s", argv[0], line)
            if text := describe_line(line):
                tell(text)

        def on_wait(text: str) -> None:
            _LOG.warning("packages: %s", text)
            tell(text)

        from ya_salt.packages.unit import find_obstacle

        start = start_child if find_obstacle() else self._unit.start
        worker = start(argv, self.place.environment())
        return follow(worker, on_line, self._limits, on_wait, tell)


def _not_permitted(message: str) -> PackageError:
    return PackageError("NotPermitted", message)


def _describe_unavailable(package: Package, offered: Sequence[str]) -> str:
    from ya_salt.packages.failures import describe_versions

    others = f"nor is any other version of {package.name}"
    there = f"those have {describe_versions(offered)}" if offered else others
    return (
        f"{package.name} {package.version} is in no list that apt has read so far, {there}; "
        "a pass reads the repositories again first (apt-get update)"
    )
