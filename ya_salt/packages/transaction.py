"""Install and purge for all daemons of a pass at once.

Refuse what may not be, one transaction for the rest, then only what is still wrong. A group is what
one daemon needs: whoever spoils the transaction is told apart, by simulation before and by dpkg's
state after, and costs the others nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ya_salt.errors import PackageError
from ya_salt.model import InstalledPackage, Package, Progress
from ya_salt.names import check_package_name, check_package_version, quote, split_architecture
from ya_salt.packages import dpkg
from ya_salt.packages.apt import Apt
from ya_salt.packages.dpkg import as_argument, find_held, find_status, find_version, find_wrong
from ya_salt.packages.failures import (
    Failure,
    describe_offer,
    explain_difference,
    explain_unknown,
    pick_failure,
    refuse_held,
)
from ya_salt.packages.keeping import keep_versions
from ya_salt.packages.purge import Purge
from ya_salt.packages.session import (
    Groups,
    Remaining,
    Replaceable,
    Session,
    TransactionResult,
    be_silent,
    compare,
    merge_packages,
)
from ya_salt.packages.simulation import Change, judge_install

_LOG = logging.getLogger("ya_salt.packages")


class PackagePass:
    """One pass over this host's packages."""

    def __init__(
        self,
        apt: Apt,
        progress: Progress = be_silent,
        pinned: Mapping[str, str] | None = None,
        replaceable: Replaceable | None = None,
    ) -> None:
        """Take the version of every package that any spec names, this call or not, in `pinned`.

        Such a package is never taken to another version as a side effect. `replaceable` are, by
        group, packages that its daemon named earlier and nobody else needs: what takes their place
        may remove them.
        """
        self._session = Session(apt, progress, pinned or {}, replaceable or {})
        self._apt = apt

    def install(self, groups: Groups) -> TransactionResult:
        """Bring every package of every group to exactly its version.

        Raises nothing for a group that fails, whatever it asks for: that is in the result. With
        everything right already it costs one dpkg-query and no apt.
        """
        refused = {g: e for g, packages in groups.items() if (e := _refuse_words(packages))}
        rest = {g: packages for g, packages in groups.items() if g not in refused}
        try:
            done = self._install(self._shorten(rest, refused))
        except PackageError as error:  # Not even dpkg-query answers.
            done = TransactionResult(dict.fromkeys(rest, error), {})
        except Exception as error:  # noqa: BLE001 - packages never stop a pass
            done = TransactionResult(dict.fromkeys(rest, _explain_bug(error)), {})
        return replace(done, errors={**done.errors, **refused})

    def _shorten(self, groups: Groups, refused: dict[str, PackageError]) -> Groups:
        """Give every package its one spelling; refuse what asks for two versions under two."""
        self._session.pinned = {
            self._apt.shorten(name): version for name, version in self._session.pinned.items()
        }
        found = {}
        for group, packages in groups.items():
            named = self._apt.shorten_packages(packages)
            if error := _refuse_two_versions(named):
                refused[group] = error
            else:
                found[group] = named
        return found

    def _install(self, groups: Groups) -> TransactionResult:
        every = merge_packages(groups.values())
        self._session.pinned = {p.name: p.version for p in every} | self._session.pinned
        names = [package.name for package in every]
        before = self._apt.query(names)
        work = Remaining({g: tuple(p) for g, p in groups.items() if find_wrong(p, before)})
        if not work.todo:
            return TransactionResult({}, before)
        try:
            with self._session.ready("install"):
                Installation(self._session, work).carry_out()
        except PackageError as error:
            work.fail_all(error)
        after = self._apt.query(names)
        return TransactionResult(work.errors, after, compare(before, after))

    def purge(
        self, groups: Mapping[str, Sequence[str]], allow_held: Collection[str] = ()
    ) -> TransactionResult:
        """Purge every name of every group, conffiles and all. What is not there is fine.

        Nothing else is removed with them unless `Apt.allow_removals` names it. Never raises
        PackageError. Packages that others need must not be in the groups: counting is the
        caller's.
        """
        try:
            named = {g: tuple(map(self._apt.shorten, names)) for g, names in groups.items()}
            names = sorted({name for group in named.values() for name in group})
            return self._purge(named, names, {self._apt.shorten(name) for name in allow_held})
        except PackageError as error:
            return TransactionResult(dict.fromkeys(groups, error), {})
        except Exception as error:  # noqa: BLE001 - packages never stop a pass
            return TransactionResult(dict.fromkeys(groups, _explain_bug(error)), {})

    def _purge(
        self,
        groups: Mapping[str, Sequence[str]],
        names: Sequence[str],
        allow_held: Collection[str],
    ) -> TransactionResult:
        before = self._apt.query(names)
        todo = {g: tuple(n) for g, n in groups.items() if any(name in before for name in n)}
        if not todo:
            return TransactionResult({}, before)
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
        return TransactionResult(errors, after, compare(before, after))


def _explain_bug(error: Exception) -> PackageError:
    _LOG.exception("packages: failed: a bug in ya-salt")
    return PackageError("Bug", f"a bug in ya-salt: {error!r}; see the log")


def _refuse_words(packages: Sequence[Package]) -> PackageError | None:
    """Nothing that apt could take for an option, a file or a wish to remove reaches it."""
    for package in packages:
        try:
            check_package_name(package.name)
            check_package_version(package.version)
        except ValueError as error:
            message = f"package {quote(package.name)}: {error}; nothing was run for this daemon"
            return PackageError("InvalidPackage", message, packages=(package.name,))
    return None


def _refuse_two_versions(packages: Sequence[Package]) -> PackageError | None:
    versions: dict[str, str] = {}
    for package in packages:
        first = versions.setdefault(package.name, package.version)
        if first != package.version:
            return PackageError(
                "PackageVersionConflict",
                f"{package.name} is named twice, at {first} and at {package.version}, with and "
                "without this host's own architecture: keep one",
                packages=(package.name,),
            )
    return None


class Installation:
    """Takes `work` from wanted to installed or failed."""

    def __init__(self, session: Session, work: Remaining) -> None:
        self._session = session
        self._apt = session.apt
        self._work = work
        self._files: dict[str, Path] = {}
        """.deb files of ours, by name, for packages that no repository has any more."""
        self._changes: tuple[Change, ...] = ()

    def carry_out(self) -> None:
        """Every group ends as done (dropped from `work.todo`) or in `work.errors`."""
        self._refuse_held()
        self._repair()
        self._find_versions()
        self._choose()
        if self._work.todo:
            self._keep_old_versions()
            self._transact_until_done()

    # --- before anything is changed

    def _refuse_held(self) -> None:
        """One that is only to be repaired at its version may be on hold."""
        installed = self._query()
        for group, packages in list(self._work.todo.items()):
            for package in dpkg.find_wrong(packages, installed):
                found = installed.get(package.name)
                if not found or not dpkg.is_held(found) or package.allow_held:
                    continue
                if found.version != package.version:
                    self._work.fail(group, refuse_held(package, found))

    def _repair(self) -> None:
        """Put interrupted packages right; a group that stays broken at its version has failed.

        One that is to change its version anyway is not configured first: its new version is the
        cure, and a script that hangs would hang again.
        """
        versions = {package.name: package.version for package in self._work.packages}
        broken = dpkg.find_broken(versions, self._query())
        stuck = [package for package in broken if package.version == versions[package.name]]
        if not stuck:
            return
        self._session.repair()
        installed = self._query()
        self._work.drop_right(installed)
        causes = {failure.package: failure for failure in self._session.repair_failures}
        for group, packages in list(self._work.todo.items()):
            for package in packages:
                cause = causes.get(package.name)
                if cause and find_version(installed, package.name) == package.version:
                    self._work.fail(group, cause.as_error())

    def _find_versions(self) -> None:
        """Every version is in a repository, or in our cache, or its groups have failed."""
        unknown = self._find_unknown()
        if unknown and self._session.update():
            unknown = self._find_unknown()
        lost = self._explain_unknown(unknown)
        for group, packages in list(self._work.todo.items()):
            if missing := [package for package in packages if package in lost]:
                self._work.fail(group, lost[missing[0]])

    def _explain_unknown(self, unknown: Sequence[Package]) -> dict[Package, PackageError]:
        if not unknown:
            return {}
        bases = {split_architecture(package.name)[0] for package in unknown}
        offered = self._apt.read_versions({*bases, *(package.name for package in unknown)})
        known = self._apt.read_names()
        updated = self._session.updated
        return {
            package: explain_unknown(package, updated, describe_offer(package, offered, known))
            for package in unknown
        }

    def _find_unknown(self) -> list[Package]:
        """Wrong packages that nobody offers; fills `_files` for those that only we still have."""
        wrong = dpkg.find_wrong(self._work.packages, self._query())
        offered = self._apt.read_versions(package.name for package in wrong) if wrong else {}
        cache = self._apt.cache
        unknown = []
        for package in wrong:
            is_offered = package.version in offered.get(package.name, ())
            file = cache.find(package, originals_only=is_offered)
            if file:
                self._files[package.name] = file
            elif not is_offered:
                unknown.append(package)
        return unknown

    def _choose(self) -> None:
        """Refuse groups until what is left may be done together, first come first served."""
        accepted: dict[str, tuple[Package, ...]] = {}
        self._accept(list(self._work.todo), accepted)
        self._work.todo = accepted

    def _accept(self, groups: Sequence[str], accepted: dict[str, tuple[Package, ...]]) -> None:
        """Halve on trouble: one bad group among n costs about log n simulations."""
        if not groups:
            return
        trial = accepted | {group: self._work.todo[group] for group in groups}
        problem = self._judge(trial)
        if not problem:
            accepted.update(trial)
        elif len(groups) == 1:
            self._work.errors[groups[0]] = problem
        else:
            middle = len(groups) // 2
            self._accept(groups[:middle], accepted)
            self._accept(groups[middle:], accepted)

    def _judge(self, groups: Mapping[str, Sequence[Package]]) -> PackageError | None:
        try:
            words, options = self._command(merge_packages(groups.values()))
            changes = self._session.simulate("install", words, *options)
            asked = {group: list(map(self._word, packages)) for group, packages in groups.items()}
            replaced = self._session.find_replaced(changes, asked)
        except PackageError as error:
            return error
        allowed = self._session.allowed | replaced
        refusal = judge_install(changes, self._session.pinned, allowed)
        if not refusal:
            self._changes = changes
        return refusal

    def _keep_old_versions(self) -> None:
        old = [Package(c.name, c.before) for c in self._changes if c.before not in {"", c.after}]
        keep_versions(self._apt, old, self._session.progress)

    # --- the transaction

    def _transact_until_done(self) -> None:
        """Everything together; after a failure only what is still wrong and not to blame."""
        while self._work.todo:
            failed = self._transact(list(self._work.todo))
            if failed and not self._put_down(failed):
                self._transact_one_by_one()

    def _transact_one_by_one(self) -> None:
        for group in list(self._work.todo):
            failed = self._transact([group])
            if group in self._work.todo:
                self._work.fail(group, pick_failure(failed, self._work.todo[group]).as_error())

    def _transact(self, groups: Sequence[str]) -> tuple[Failure, ...]:
        """One apt-get install; what is right after it is dropped from the work."""
        packages = merge_packages(self._work.todo[group] for group in groups)
        before = self._query()
        words, options = self._command(packages)
        permissions = self._permissions(packages, before)
        try:
            done = self._session.run("install", words, *permissions, *options)
            failed = self._session.find_failures(done) if done.code else ()
            self._finish_unpacked(failed)
        finally:
            self._restore_holds(packages, before)
        after = self._query()
        self._work.drop_right(after)
        if not failed and any(group in self._work.todo for group in groups):
            failed = (explain_difference(dpkg.find_wrong(packages, after), after, done),)
        return failed

    def _command(self, packages: Sequence[Package]) -> tuple[list[str], list[str]]:
        """Words and options for apt-get install."""
        installed = self._query()
        options = []
        if any(find_status(installed, p.name) == dpkg.HALF_INSTALLED for p in packages):
            # Without it apt fetches such a package and leaves it as it is.
            options.append("--reinstall")
            packages = dpkg.find_wrong(packages, installed)
        options.extend(self._session.options)
        return [self._word(package) for package in packages], options

    def _word(self, package: Package) -> str:
        file = self._files.get(package.name)
        return self._session.name_file(file) if file else as_argument(package)

    def _permissions(
        self, packages: Sequence[Package], installed: Mapping[str, InstalledPackage]
    ) -> list[str]:
        permissions = ["--allow-downgrades"]
        if not any(change.is_removal for change in self._changes):
            permissions.append("--no-remove")
        if find_held(packages, installed):
            permissions.append("--allow-change-held-packages")
        return permissions

    def _restore_holds(
        self, packages: Sequence[Package], before: Mapping[str, InstalledPackage]
    ) -> None:
        if held := {n for n in find_held(packages, before) if dpkg.is_held(before[n])}:
            self._apt.hold(held)

    def _finish_unpacked(self, failed: Sequence[Failure]) -> None:
        """Configure what apt left unpacked because another package failed: no second install."""
        touched = {*self._work.names, *(change.name for change in self._changes)}
        culprits = {failure.package for failure in failed}
        broken = dpkg.find_broken(touched - culprits, self._apt.query(touched))
        finishable = [package.name for package in broken if package.status != dpkg.HALF_INSTALLED]
        if finishable:
            self._apt.configure(finishable, self._session.progress)

    # --- after a failure

    def _put_down(self, failed: Sequence[Failure]) -> bool:
        """Fail the groups to blame, or clear the cause away; False if nobody can be named."""
        if any(failure.is_fetch for failure in failed) and self._get_elsewhere(failed):
            return True
        causes = {failure.package: failure for failure in reversed(failed)}
        blamed = False
        for group, packages in list(self._work.todo.items()):
            names = [package.name for package in packages if package.name in causes]
            if names:
                self._work.fail(group, causes[names[0]].as_error())
                blamed = True
        return blamed

    def _get_elsewhere(self, failed: Sequence[Failure]) -> bool:
        """Try again where the lists of apt are older than the repository, or with our own file."""
        if self._session.update():
            self._find_versions()
            self._choose()
            return True
        causes = {failure.package for failure in failed}
        cache = self._apt.cache
        found = {
            package.name: file
            for package in self._work.packages
            if package.name in causes
            and package.name not in self._files
            and (file := cache.find(package))
        }
        self._files |= found
        return bool(found)

    def _query(self) -> dict[str, InstalledPackage]:
        return self._apt.query(self._work.names)
