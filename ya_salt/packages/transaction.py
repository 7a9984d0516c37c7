"""Install and purge for all daemons of a pass at once.

Refuse what may not be, one transaction for the rest, then only what is still wrong. A group is what
one daemon needs: whoever spoils the transaction is told apart, by simulation before and by dpkg's
state after, and costs the others nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

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
from ya_salt.packages.going_back import (
    Way,
    begin_going_back,
    complete_notes,
    end_going_back,
    find_way,
    write_notes,
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
    describe_landing,
    find_present,
    merge_packages,
)
from ya_salt.packages.simulation import Change, judge_install
from ya_salt.quick_dataclass import replace

_LOG = logging.getLogger("ya_salt.packages")


class PackagePass:
    """One pass over this host's packages."""

    def __init__(
        self,
        apt: Apt,
        progress: Progress = be_silent,
        pinned: Mapping[str, str] | None = None,
        replaceable: Replaceable | None = None,
        back: Collection[str] = (),
    ) -> None:
        """Take the version of every package that any spec names, this call or not, in `pinned`.

        Such a package is never taken to another version as a side effect. `replaceable` are, by
        group, packages that its daemon named earlier and nobody else needs: what takes their place
        may remove them. `back` are the groups that go back to what they had, all of them in one
        transaction, and where all of it is kept here no repository is read.
        """
        self._session = Session(apt, progress, pinned or {}, replaceable or {})
        self._apt = apt
        self._back = frozenset(back)

    def install(self, groups: Groups) -> TransactionResult:
        """Bring every package of every group to exactly its version.

        Raises nothing for a group that fails, whatever it asks for: that is in the result. With
        everything right already it costs one dpkg-query and no apt.
        """
        refused = {g: e for g, packages in groups.items() if (e := _refuse_words(packages))}
        rest = {g: packages for g, packages in groups.items() if g not in refused}
        try:
            named = self._shorten(rest, refused)
            back = {group: named[group] for group in named if group in self._back}
            forth = {group: named[group] for group in named if group not in back}
            # First: what they go back to is here, whatever the others need.
            done = _join(self._go_back(back), self._install(forth))
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
        work, before = self._find_work(groups)
        if not work.todo:
            return TransactionResult({}, before)
        changing = {group: [p.name for p in packages] for group, packages in work.todo.items()}
        installation = Installation(
            self._session, work, lambda changes: write_notes(self._apt, changing, changes)
        )
        self._carry_out(installation, work)
        complete_notes(self._apt, changing)
        return self._tell(work, before, installation.changes)

    def _go_back(self, groups: Groups) -> TransactionResult:
        """As an installation, but from what is kept here, and with what had come along."""
        work, before = self._find_work(groups)
        todo = dict(work.todo)
        if not todo:
            return TransactionResult({}, before)
        pinned = self._session.pinned.keys()
        ways = {group: find_way(self._apt, group, todo[group], pinned) for group in todo}

        def begin(_changes: Iterable[Change]) -> None:
            for way in ways.values():
                begin_going_back(self._apt, way)

        installation = Installation(self._session, work, begin, ways)
        # What is not kept has to come from somewhere.
        wrong = find_wrong(work.packages, before)
        self._session.is_offline = all(self._apt.cache.has(package) for package in wrong)
        try:
            self._carry_out(installation, work)
        finally:
            self._session.is_offline = False
        done = self._tell(work, before, installation.changes)
        landed = {
            group: describe_landing(todo[group], before, done.installed) for group in done.errors
        }
        for group, way in ways.items():
            is_back = group not in landed or landed[group].is_back
            for said in end_going_back(self._apt, way, is_back=is_back):
                _LOG.warning("packages: %s: %s", group, said)
        errors = {group: _add(error, landed[group].words) for group, error in done.errors.items()}
        return replace(done, errors=errors, landed=landed)

    def _find_work(self, groups: Groups) -> tuple[Remaining, dict[str, InstalledPackage]]:
        every = merge_packages(groups.values())
        self._session.pinned = {p.name: p.version for p in every} | self._session.pinned
        before = self._apt.query([package.name for package in every])
        todo = {group: tuple(p) for group, p in groups.items() if find_wrong(p, before)}
        return Remaining(todo, asked=frozenset(package.name for package in every)), before

    def _carry_out(self, installation: Installation, work: Remaining) -> None:
        try:
            with self._session.ready("install"):
                installation.carry_out()
        except PackageError as error:
            work.fail_all(error)

    def _tell(
        self,
        work: Remaining,
        before: Mapping[str, InstalledPackage],
        foretold: Iterable[Change],
    ) -> TransactionResult:
        side = {c.name: c.before for c in foretold if c.name not in work.asked}
        after = self._apt.query({*work.asked, *side})
        changes = compare(before, {name: after[name] for name in after if name in work.asked})
        along = (Change(name, was, find_present(after, name)) for name, was in side.items())
        changes += tuple(change for change in along if change.before != change.after)
        return TransactionResult(work.errors, after, changes)

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


def _join(one: TransactionResult, other: TransactionResult) -> TransactionResult:
    return TransactionResult(
        {**one.errors, **other.errors},
        # The later look tells more.
        {**one.installed, **other.installed},
        (*one.changes, *other.changes),
        {**one.landed, **other.landed},
    )


def _add(error: PackageError, words: str) -> PackageError:
    text = f"{error}; on the disk now: {words}"
    return PackageError(error.reason, text, packages=error.packages, output=error.output)


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

    def __init__(
        self,
        session: Session,
        work: Remaining,
        begin: Callable[[Sequence[Change]], None],
        ways: Mapping[str, Way] = MappingProxyType({}),
    ) -> None:
        """`begin` is told what is about to change; `ways` are how groups go back."""
        self._session = session
        self._apt = session.apt
        self._work = work
        self._begin = begin
        self._is_going_back = bool(ways)
        self._along = {group: way.along for group, way in ways.items()}
        self._free = frozenset(name for way in ways.values() for name in way.touched)
        """What came along on the way up may be changed, or go."""
        self._files: dict[str, Path] = {}
        """.deb files of ours, by name, for packages that no repository has any more."""
        self.changes: tuple[Change, ...] = ()
        """As apt foretold them."""

    def carry_out(self) -> None:
        """Every group ends as done (dropped from `work.todo`) or in `work.errors`."""
        self._refuse_held()
        self._repair()
        self._find_versions()
        self._find_along()
        self._choose()
        if self._work.todo:
            if not self._is_going_back:
                self._keep_old_versions()
            self._begin(self.changes)
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
            # A repository's own is better than what was packed again, but has to be reached.
            prefers_original = is_offered and not self._is_going_back
            file = cache.find(package, originals_only=prefers_original)
            if file:
                self._files[package.name] = file
            elif not is_offered:
                unknown.append(package)
        return unknown

    def _find_along(self) -> None:
        """Of what goes back on the side only that which is kept here, and which nobody holds."""
        every = merge_packages(self._along.values())
        held = find_held(every, self._apt.query([package.name for package in every]))
        files = {package.name: self._apt.cache.find(package) for package in every}
        self._files |= {name: file for name, file in files.items() if file and name not in held}
        for group, packages in self._along.items():
            self._along[group] = tuple(p for p in packages if p.name in self._files)
            for package in packages:
                if package.name not in self._files:
                    _LOG.warning("packages: %s stays, %s is not kept", package.name, package)

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
        problem = self._judge_together(groups)
        if problem and any(self._along.get(group) for group in groups):
            # Somebody may need by now what came along: then it stays.
            along, self._along = self._along, {}
            if self._judge_together(groups) is None:
                return None
            self._along = along
        return problem

    def _judge_together(self, groups: Mapping[str, Sequence[Package]]) -> PackageError | None:
        try:
            words, options = self._command(groups)
            changes = self._session.simulate("install", words, *options)
            asked = {group: list(map(self._word, packages)) for group, packages in groups.items()}
            replaced = self._session.find_replaced(changes, asked)
        except PackageError as error:
            return error
        allowed = self._session.allowed | replaced | self._free
        refusal = judge_install(changes, self._session.pinned, allowed)
        if not refusal:
            self.changes = changes
        return refusal

    def _keep_old_versions(self) -> None:
        old = [Package(c.name, c.before) for c in self.changes if c.before not in {"", c.after}]
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
        todo = {group: self._work.todo[group] for group in groups}
        packages = merge_packages(todo.values())
        before = self._query()
        words, options = self._command(todo)
        permissions = self._permissions(packages, before)
        automatic = self._apt.read_automatic([p.name for p in self._list_along(todo)])
        try:
            done = self._session.run("install", words, *permissions, *options)
            failed = self._session.find_failures(done) if done.code else ()
            self._finish_unpacked(failed)
        finally:
            self._restore_holds(packages, before)
            self._apt.mark_automatic(automatic)
        after = self._query()
        self._work.drop_right(after)
        if not failed and any(group in self._work.todo for group in groups):
            failed = (explain_difference(dpkg.find_wrong(packages, after), after, done),)
        return failed

    def _list_along(self, groups: Iterable[str]) -> tuple[Package, ...]:
        return merge_packages(self._along.get(group, ()) for group in groups)

    def _command(self, groups: Mapping[str, Sequence[Package]]) -> tuple[list[str], list[str]]:
        """Words and options for apt-get install."""
        installed = self._query()
        packages = merge_packages([*groups.values(), self._list_along(groups)])
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
        if not any(change.is_removal for change in self.changes):
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
        touched = {*self._work.names, *(change.name for change in self.changes)}
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
