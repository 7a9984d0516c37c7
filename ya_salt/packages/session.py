"""One pass over apt: what is still to do for each group, what was tried already.

A group is what one daemon needs. Updates and repairs happen at most once.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from ya_salt.errors import PackageError
from ya_salt.model import InstalledPackage, Package, Progress
from ya_salt.packages import dpkg, failures
from ya_salt.packages.apt import Apt
from ya_salt.packages.command import Finished
from ya_salt.packages.dpkg import find_wrong, format_names
from ya_salt.packages.failures import Failure
from ya_salt.packages.locks import find_holder, held_too_long, wait_for_locks
from ya_salt.packages.policy_rc_d import policy_in_place
from ya_salt.packages.simulation import Change, judge_install, parse_simulation
from ya_salt.quick_dataclass import dataclass, field

_LOG = logging.getLogger("ya_salt.packages")

Groups = Mapping[str, Sequence[Package]]
"""Packages by group."""

Replaceable = Mapping[str, Collection[str]]
"""By group, names of packages that only its daemon brought here: its new ones may replace them."""


def be_silent(_: str) -> None:
    """Progress for when nobody is looking."""


@dataclass(frozen=True)
class Landing:
    """What is on the disk after going back failed: whichever is whole may run."""

    is_back: bool
    """Every file is of the versions that were asked for, though not all are configured."""
    is_unchanged: bool
    """Every file is of the versions that were there before, as above."""
    words: str


def describe_landing(
    packages: Iterable[Package],
    before: Mapping[str, InstalledPackage],
    after: Mapping[str, InstalledPackage],
) -> Landing:
    names = {package.name: package.version for package in packages}
    whole = {
        name: found.version
        for name, found in after.items()
        if found.status not in {*dpkg.GONE, dpkg.HALF_INSTALLED}
    }
    return Landing(
        is_back=all(whole.get(name) == version for name, version in names.items()),
        is_unchanged=all(whole.get(name, "") == find_present(before, name) for name in names),
        words=", ".join(_describe_one(name, after) for name in names),
    )


def _describe_one(name: str, after: Mapping[str, InstalledPackage]) -> str:
    found = after.get(name)
    if found is None or found.status in dpkg.GONE:
        return f"{name} is not there"
    if found.status == dpkg.INSTALLED:
        return f"{name} {found.version} is installed"
    if found.status == dpkg.HALF_INSTALLED:
        return f"{name} {found.version} is half-installed, its files may not be whole"
    return f"the files of {name} {found.version} are whole, but it is {found.status}"


@dataclass(frozen=True)
class TransactionResult:
    """How a call ended: errors by group (absent means as asked), and what is there now."""

    errors: Mapping[str, PackageError]
    installed: Mapping[str, InstalledPackage]
    changes: tuple[Change, ...] = ()
    landed: Mapping[str, Landing] = field(default_factory=dict)
    """Of groups that were to go back and failed: what is on the disk."""


@dataclass
class Remaining:
    """Shrinks as groups are done or refused."""

    todo: dict[str, tuple[Package, ...]]
    errors: dict[str, PackageError] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()
    """Names of all packages of the call, of what is right already, too."""

    @property
    def packages(self) -> tuple[Package, ...]:
        """Everything still to do, each package once."""
        return merge_packages(self.todo.values())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(package.name for package in self.packages)

    def fail(self, group: str, error: PackageError) -> None:
        self.errors[group] = error
        self.todo.pop(group, None)

    def fail_all(self, error: PackageError) -> None:
        for group in list(self.todo):
            self.fail(group, error)

    def drop_right(self, installed: Mapping[str, InstalledPackage]) -> None:
        for group, packages in list(self.todo.items()):
            if not find_wrong(packages, installed):
                del self.todo[group]


def merge_packages(groups: Iterable[Sequence[Package]]) -> tuple[Package, ...]:
    """Every package once, by name, in the order of first mention."""
    return tuple({package.name: package for group in groups for package in group}.values())


def compare(
    before: Mapping[str, InstalledPackage], after: Mapping[str, InstalledPackage]
) -> tuple[Change, ...]:
    """Version changes between two queries."""
    changes = (
        Change(name, find_present(before, name), find_present(after, name))
        for name in sorted({*before, *after})
    )
    return tuple(change for change in changes if change.before != change.after)


def find_present(installed: Mapping[str, InstalledPackage], name: str) -> str:
    """The version whose files are here, or ""."""
    package = installed.get(name)
    return package.version if package and package.status != "config-files" else ""


class Session:
    """Apt, and what was already tried in this pass."""

    def __init__(
        self, apt: Apt, progress: Progress, pinned: Mapping[str, str], replaceable: Replaceable
    ) -> None:
        self.apt = apt
        self.progress = progress
        self.pinned = dict(pinned)
        """The version of every package that any spec names."""
        self.replaceable = replaceable
        self.purged: frozenset[str] = frozenset()
        """Packages that this call is to take away."""
        self.updated: Finished | None = None
        self.repaired = False
        self.repair_failures: tuple[Failure, ...] = ()
        self._aside: set[str] = set()
        self._links: tempfile.TemporaryDirectory[str] | None = None
        self.is_offline = False
        """Whether no repository is read: what is kept here is taken."""
        self.has_broken = False
        """Whether dpkg could not finish with some package in this pass."""

    @contextlib.contextmanager
    def ready(self, call: Literal["install", "purge"]) -> Iterator[None]:
        """Make sure that apt is here, nobody else uses it, and services are safe from scripts.

        A dpkg that died is repaired first: simulations would not know of it.
        """
        self.apt.require()
        wait_for_locks(self.apt.place.transaction_locks, self.apt.lock_timeout_s, self._tell_wait)
        with policy_in_place(self.apt.place.policy_rc, call, self._is_apt_at_work):
            if self.apt.place.has_journal:
                self.repair()
            try:
                yield
            finally:
                self._take_back()

    def _is_apt_at_work(self) -> bool:
        return find_holder(self.apt.place.transaction_locks) is not None

    def name_file(self, file: Path) -> str:
        """Write the word that asks apt-get for a file: it sees none behind a colon but a link."""
        if ":" not in str(file):
            return str(file)
        if self._links is None:
            self._links = tempfile.TemporaryDirectory(prefix="ya-salt-")
        link = Path(self._links.name) / file.name
        if not link.is_symlink():
            link.symlink_to(file)
        return str(link)

    @property
    def options(self) -> tuple[str, ...]:
        """For installs: what cannot be configured would be tried, and fail or hang, again."""
        return ("-oDPkg::ConfigurePending=0",) if self.has_broken else ()

    @property
    def allowed(self) -> frozenset[str]:
        """Packages that people have allowed to be removed or changed, as apt calls them."""
        return frozenset(self.apt.shorten(name) for name in self.apt.allow_removals)

    def find_replaced(
        self, changes: Sequence[Change], words: Mapping[str, Sequence[str]]
    ) -> frozenset[str]:
        """Packages that would go and may, without anybody's leave: each makes room for a new one.

        It came for that group's daemon alone, no spec names it, and one of the two says that it
        cannot be beside the other. `words` are what apt-get is asked for, by group. (One on hold
        apt does not remove.)
        """
        removed = {change.name for change in changes if change.is_removal} - self.pinned.keys()
        # New dependencies of the new package may be what takes the place.
        along = [f"{c.name}={c.after}" for c in changes if c.after and c.name not in self.pinned]
        found: set[str] = set()
        for group, asked in words.items():
            mine = removed & {self.apt.shorten(name) for name in self.replaceable.get(group, ())}
            if mine:
                new = self.apt.read_relations([*asked, *along]).values()
                found |= {
                    name
                    for name, old in self.apt.read_installed_relations(mine).items()
                    if any(one.excludes(old) for one in new)
                }
        return frozenset(found)

    def _tell_wait(self, text: str) -> None:
        _LOG.info("packages: %s", text)
        self.progress(text)

    def update(self) -> bool:
        """`apt-get update`, the first time it is asked for in a pass; False after that."""
        if self.updated or self.is_offline:
            return False
        wait_for_locks(self.apt.place.update_locks, self.apt.lock_timeout_s, self._tell_wait)
        self.progress("reading the repositories (apt-get update)")
        done = self.apt.run("update", (), (), be_silent)
        self._refuse_locked(done, self.apt.place.update_locks)
        self.updated = done
        return True

    def simulate(self, verb: str, words: Sequence[str], *options: str) -> tuple[Change, ...]:
        """Ask for the changes apt has in mind; raise PackageError when it sees no way.

        A dpkg that was interrupted is repaired first, once a pass.
        """
        done = self.apt.simulate(verb, words, options)
        if done.code and failures.needs_repair(done.lines) and self.repair():
            done = self.apt.simulate(verb, words, options)
        if done.code:
            raise failures.find_failures(done.lines, native=self.apt.architecture)[0].as_error()
        changes = parse_simulation(done.lines)
        removed = {change.name for change in changes if change.is_removal}
        if self.set_aside(removed - {*words}):
            return self.simulate(verb, words, *options)
        return changes

    def set_aside(self, names: Collection[str]) -> bool:
        """Hold those that are half-removed until this call is over; False if there are none.

        apt takes every removal that failed up again, whatever it is asked for, and does nothing
        else where it fails again (pkgApplyStatus of apt-pkg/algorithms.cc; a hold keeps it off).
        """
        found = self.apt.query(names)
        half = {name for name in found if found[name].status == dpkg.HALF_INSTALLED} - self._aside
        if half:
            _LOG.warning("packages: half-removed, left alone for now: %s", format_names(half))
            self._aside |= half
            self.apt.put_aside(half)
        return bool(half)

    def _take_back(self) -> None:
        if self._links is not None:
            self._links.cleanup()
            self._links = None
        if self._aside:
            self.apt.take_back(self._aside)
            self._aside.clear()

    def run(self, verb: str, words: Sequence[str], *options: str) -> Finished:
        """apt-get for real; raises PackageError (LockHeld) if somebody was faster to the lock."""
        done = self.apt.run(verb, words, options, self.progress)
        self._refuse_locked(done, self.apt.place.transaction_locks)
        return done

    def _refuse_locked(self, done: Finished, locks: Sequence[Path]) -> None:
        if done.code and failures.is_locked(done.lines):
            raise held_too_long(find_holder(locks), self.apt.lock_timeout_s)

    def find_failures(self, done: Finished) -> tuple[Failure, ...]:
        """Tell what went wrong in a call that failed; at least one thing."""
        hung = {self.apt.shorten(script.package) for script in done.hung}
        found = failures.find_failures(
            done.lines, hung, self.apt.script_timeout_s, self.apt.architecture
        )
        self.has_broken |= any(failure.package and not failure.is_fetch for failure in found)
        if done.went_quiet:
            return (failures.make_quiet_failure(done.lines), *found)
        return found

    def repair(self) -> bool:
        """Finish what dpkg left half-done; False if that was tried before in this pass."""
        if self.repaired:
            return False
        self.repaired = True
        _LOG.warning("packages: dpkg was interrupted earlier: repairing (dpkg --configure -a)")
        self.progress("repairing what dpkg has not finished")
        done = self.apt.configure_all(self.progress)
        if done.code:
            self.repair_failures = self.find_failures(done)
        self._fix_dependencies()
        return True

    def _fix_dependencies(self) -> None:
        """`apt-get -f install`, if it has something to do that may be done."""
        plan = self.apt.simulate("install", (), ("-f",))
        if name := failures.find_lost_archive(plan.lines):
            self._give_up(name)
            plan = self.apt.simulate("install", (), ("-f",))
        changes = parse_simulation(plan.lines)
        if refusal := judge_install(changes, self.pinned, self.allowed):
            _LOG.warning("packages: not running apt-get -f install: %s", refusal)
        elif changes and not plan.code:
            self.run("install", (), "-f")

    def _give_up(self, name: str) -> None:
        """Take away a half-installed package of ours whose archive is gone: it blocks apt.

        Its right version is installed afterwards. What is not ours is left to people.
        """
        if name in self.pinned or name in self.purged:
            _LOG.warning("packages: %s is half-installed and its archive is gone: removing", name)
            self.apt.remove_half_installed(name, self.progress)
