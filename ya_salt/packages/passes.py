"""What the core uses: one object a pass, with install and purge for all daemons at once.

A group is what one daemon needs. All groups go through one transaction; whoever spoils it is told
apart, by simulation before and by dpkg's state after, and costs the others nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ya_salt.errors import PackageError
from ya_salt.packages.apt import Apt, Progress
from ya_salt.packages.dpkg import find_wrong
from ya_salt.packages.installing import Installation
from ya_salt.packages.names import check_names, check_packages
from ya_salt.packages.purging import Purge
from ya_salt.packages.session import Session, be_silent
from ya_salt.packages.work import Groups, Outcome, Work, compare, merge_packages


class PackagePass:
    """One pass over this host's packages."""

    def __init__(
        self, apt: Apt, progress: Progress = be_silent, pinned: Mapping[str, str] | None = None
    ) -> None:
        """Take the version of every package that any spec names, this call or not, in `pinned`.

        Such a package is never taken to another version as a side effect.
        """
        self._session = Session(apt, progress, pinned or {})
        self._apt = apt

    def install(self, groups: Groups) -> Outcome:
        """Bring every package of every group to exactly its version.

        Never raises PackageError: what failed is in the outcome, by group. With everything right
        already it costs one dpkg-query and no apt.
        """
        check_packages([package for group in groups.values() for package in group])
        try:
            return self._install(groups)
        except PackageError as error:  # Not even dpkg-query answers.
            return Outcome(dict.fromkeys(groups, error), {})

    def _install(self, groups: Groups) -> Outcome:
        every = merge_packages(groups.values())
        self._session.pinned = {p.name: p.version for p in every} | self._session.pinned
        names = [package.name for package in every]
        before = self._apt.query(names)
        work = Work({g: tuple(p) for g, p in groups.items() if find_wrong(p, before)})
        if not work.todo:
            return Outcome({}, before)
        try:
            with self._session.ready("install"):
                Installation(self._session, work).carry_out()
        except PackageError as error:
            work.fail_all(error)
        after = self._apt.query(names)
        return Outcome(work.errors, after, compare(before, after))

    def purge(
        self, groups: Mapping[str, Sequence[str]], allow_held: Collection[str] = ()
    ) -> Outcome:
        """Purge every name of every group, conffiles and all. What is not there is fine.

        Nothing else is removed with them unless `Apt.allow_removals` names it. Never raises
        PackageError. Packages that others need must not be in the groups: counting is the
        caller's.
        """
        names = sorted({name for group in groups.values() for name in group})
        check_names(names)
        try:
            return self._purge(groups, names, allow_held)
        except PackageError as error:
            return Outcome(dict.fromkeys(groups, error), {})

    def _purge(
        self,
        groups: Mapping[str, Sequence[str]],
        names: Sequence[str],
        allow_held: Collection[str],
    ) -> Outcome:
        before = self._apt.query(names)
        todo = {g: tuple(n) for g, n in groups.items() if any(name in before for name in n)}
        if not todo:
            return Outcome({}, before)
        self._session.purged = frozenset(names)
        purge = Purge(self._session, dict(todo), allow_held)
        errors = purge.errors
        try:
            with self._session.ready("purge"):
                purge.carry_out()
        except PackageError as error:
            errors = {**dict.fromkeys(todo, error), **errors}
        after = self._apt.query(names)
        errors = {g: e for g, e in errors.items() if any(name in after for name in todo[g])}
        return Outcome(errors, after, compare(before, after))
