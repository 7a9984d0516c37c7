"""What `apt-get -s` says it would do, and whether it may. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from ya_salt.errors import PackageError
from ya_salt.quick_dataclass import dataclass

# apt-get(8), -s: `Inst foo [1.0] (2.0 repo [all])`, `Remv foo [1.0]`, `Purg foo [1.0]`.
_LINE = re.compile(
    r"(?P<action>Inst|Remv|Purg) (?P<name>\S+)"
    r"(?: \[(?P<before>[^\]]*)\])?(?: \((?P<after>\S+))?"
)


@dataclass(frozen=True)
class Change:
    """One package that a transaction touches: `before` or `after` is "" where there is none.

    `name` is apt's: NAME:ARCH for a foreign architecture.
    """

    name: str
    before: str
    after: str

    @property
    def is_removal(self) -> bool:
        return not self.after

    def __str__(self) -> str:
        if self.is_removal:
            return f"remove {self.name} {self.before}"
        if not self.before:
            return f"install {self.name} {self.after}"
        return f"change {self.name} from {self.before} to {self.after}"


def parse_simulation(lines: Iterable[str]) -> tuple[Change, ...]:
    """Read the changes in apt's order. A removal that is part of a purge appears once."""
    found: dict[str, Change] = {}
    for line in lines:
        if match := _LINE.match(line):
            is_install = match["action"] == "Inst"
            after = (match["after"] or "") if is_install else ""
            found[match["name"]] = Change(match["name"], match["before"] or "", after)
    return tuple(found.values())


@dataclass(frozen=True)
class Relations:
    """What a package says of others: what it stands for, and what it cannot be beside."""

    provides: frozenset[str]
    """Its own name and those that it provides."""
    against: frozenset[str]
    """Conflicts, Breaks and Replaces."""

    def excludes(self, other: Relations) -> bool:
        """Whether one takes the other's place: the newer, or the older where we go back."""
        return bool(self.against & other.provides or other.against & self.provides)


_FIELD = re.compile(r"(Package|Provides|Conflicts|Breaks|Replaces): *(.*)")
_RELATION = re.compile(r"\s*([a-z0-9][a-z0-9+.-]*)")


def parse_relations(lines: Iterable[str]) -> dict[str, Relations]:
    """Read control paragraphs, by name: of apt-cache show, dpkg-query --status, dpkg-deb -f."""
    found: dict[str, Relations] = {}
    name = ""
    for line in lines:
        if not (match := _FIELD.match(line)):
            continue
        field, text = match.groups()
        if field == "Package":
            name = text.strip()
        old = found.get(name, Relations(frozenset({name}), frozenset()))
        names = frozenset(m[1] for m in map(_RELATION.match, re.split(r"[,|]", text)) if m)
        if field in {"Package", "Provides"}:
            found[name] = Relations(old.provides | names, old.against)
        else:
            found[name] = Relations(old.provides, old.against | names)
    return found


def judge_install(
    changes: Iterable[Change], pinned: Mapping[str, str], allowed: Collection[str]
) -> PackageError | None:
    """Why this may not be done, or None.

    Free are new dependencies, the versions that specs name (`pinned`, version by name) and what
    `allowed` names. A package that a spec names is never removed nor put to another version.
    """
    bad = [change for change in changes if not _may_install(change, pinned, allowed)]
    return _refuse(bad, "package", pinned) if bad else None


def judge_purge(
    changes: Iterable[Change],
    named: Collection[str],
    pinned: Mapping[str, str],
    allowed: Collection[str],
) -> PackageError | None:
    """Why this may not be done, or None: only what is named goes, nothing is changed.

    `allowed` opens nothing that a spec names (`pinned`).
    """
    free = {*named, *(name for name in allowed if name not in pinned)}
    bad = [change for change in changes if change.name not in free or not change.is_removal]
    return _refuse(bad, "removal", pinned) if bad else None


def _may_install(change: Change, pinned: Mapping[str, str], allowed: Collection[str]) -> bool:
    if change.name in pinned:
        return change.after == pinned[change.name]
    return not change.before or change.before == change.after or change.name in allowed


def _refuse(bad: Collection[Change], what: str, pinned: Mapping[str, str]) -> PackageError:
    reason = "WouldRemove" if any(change.is_removal for change in bad) else "WouldChange"
    names = tuple(sorted(change.name for change in bad))
    does = "; ".join(str(change) for change in bad)
    if any(name in pinned for name in names):
        way_out = "another spec names that package: make the two agree"
    elif what == "removal":
        way_out = (
            f"remove {', '.join(names)} by hand if nobody needs that, or put it into "
            "packages_policy.allow_removals"
        )
    else:
        way_out = (
            f"name it in a spec at the version you want, or put {', '.join(names)} into "
            "packages_policy.allow_removals"
        )
    return PackageError(
        reason,
        f"refused, nothing was changed: this {what} would also {does}; {way_out}",
        packages=names,
    )
