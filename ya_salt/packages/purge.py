"""Purge: exactly what is named goes, and nothing else with it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ya_salt.errors import PackageError
from ya_salt.model import InstalledPackage
from ya_salt.packages.dpkg import is_held
from ya_salt.packages.session import Session
from ya_salt.packages.simulation import judge_purge


class Purge:
    """Takes groups of names from there to gone or failed."""

    def __init__(
        self, session: Session, todo: dict[str, tuple[str, ...]], allow_held: Collection[str]
    ) -> None:
        self._session = session
        self._apt = session.apt
        self._todo = todo
        self._allow_held = frozenset(allow_held)
        self.errors: dict[str, PackageError] = {}

    def carry_out(self) -> None:
        """Every group ends as gone or in `errors`."""
        self._refuse_held()
        accepted: list[str] = []
        self._accept(list(self._todo), accepted)
        if accepted and (failed := self._transact(accepted)):
            self._session.set_aside(failed.packages)
            for group in accepted:
                self._retry(group, failed)

    def _refuse_held(self) -> None:
        installed = self._query()
        for group, names in list(self._todo.items()):
            held = [n for n in names if n in installed and is_held(installed[n])]
            if refused := [name for name in held if name not in self._allow_held]:
                self._fail(group, _held(refused))

    def _accept(self, groups: Sequence[str], accepted: list[str]) -> None:
        """As in an installation: halve on trouble."""
        if not groups:
            return
        problem = self._judge([*accepted, *groups])
        if not problem:
            accepted.extend(groups)
        elif len(groups) == 1:
            self._fail(groups[0], problem)
        else:
            middle = len(groups) // 2
            self._accept(groups[:middle], accepted)
            self._accept(groups[middle:], accepted)

    def _judge(self, groups: Sequence[str]) -> PackageError | None:
        names = self._present(groups)
        if not names:
            return None
        try:
            changes = self._session.simulate("purge", names)
        except PackageError as error:
            return error
        return judge_purge(changes, names, self._session.pinned, self._session.allowed)

    def _transact(self, groups: Sequence[str]) -> PackageError | None:
        """One apt-get purge; None if nothing of these groups is left."""
        names = self._present(groups)
        if not names:
            return None
        # Those that may not be changed were refused before.
        held = any(package.held for package in self._query().values())
        options = ["--allow-change-held-packages"] if held else []
        done = self._session.run("purge", names, *options)
        if not self._present(groups):
            return None
        return self._session.find_failures(done)[0].as_error()

    def _retry(self, group: str, failed: PackageError) -> None:
        left = self._present([group])
        if not left:
            return
        is_to_blame = bool({*left} & {*failed.packages})
        error = failed if is_to_blame else self._transact([group])
        if error:
            self._fail(group, error)

    def _fail(self, group: str, error: PackageError) -> None:
        self.errors[group] = error
        self._todo.pop(group, None)

    def _present(self, groups: Sequence[str]) -> list[str]:
        """List what dpkg still has of these groups, conffiles included."""
        installed = self._query()
        wanted = self._names({group: self._todo[group] for group in groups})
        return sorted(name for name in wanted if name in installed)

    def _query(self) -> dict[str, InstalledPackage]:
        return self._apt.query(self._names(self._todo))

    @staticmethod
    def _names(groups: dict[str, tuple[str, ...]]) -> set[str]:
        return {name for names in groups.values() for name in names}


def _held(names: Sequence[str]) -> PackageError:
    text = " ".join(names)
    return PackageError(
        "Held",
        f"on hold and therefore not purged: {text}; `apt-mark unhold {text}`, or write "
        "allow_held: true in the spec",
        packages=tuple(names),
    )
