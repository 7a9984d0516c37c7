"""What spec files said when a process read them last, by their stat: for one that looks often.

Only files without a mistake are in it, and only where a later change cannot but show in their stat
(`ya_salt.as_left.is_settled`): any other is read each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ya_salt import as_left
from ya_salt.specs.kept import Parsed


class SeenFiles:
    """Of one directory, by the names of its entries. Not for several threads at once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[as_left.Identity, Parsed]] = {}

    def find(self, name: str, identity: as_left.Identity) -> Parsed | None:
        """What the file said; None where it is not known to be as it was."""
        known = self._known.get(name)
        return known[1] if known is not None and known[0] == identity else None

    def find_all(self, entries: Mapping[str, as_left.Identity | None]) -> dict[str, Parsed]:
        """The same of many, by name: those that are known to be as they were."""
        return {
            name: parsed
            for name, (identity, parsed) in self._known.items()
            if entries.get(name) == identity
        }

    def keep(
        self, name: str, identity: as_left.Identity, parsed: Parsed, *, is_settled: bool
    ) -> None:
        """`identity`: before it was read; `is_settled`: as `as_left.is_settled` says of it then."""
        if parsed.spec is not None and is_settled:
            self._known[name] = (identity, parsed)
        else:
            self._known.pop(name, None)

    def retain(self, names: Iterable[str]) -> None:
        """Forget all others: they are gone."""
        for gone in self._known.keys() - set(names):
            del self._known[gone]
