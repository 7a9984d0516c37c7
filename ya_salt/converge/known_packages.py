"""What dpkg said, for a process that makes pass after pass: asked anew where its files changed.

They are those that the quick way goes by, too. An answer is only kept where a later change of them
cannot but show in their stat (`ya_salt.as_left.is_settled`), and for as long as between two looks
at everything.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from ya_salt import as_left
from ya_salt.model import InstalledPackage
from ya_salt.packages.apt import Apt


class KnownPackages:
    """Not for several threads at once."""

    def __init__(self) -> None:
        self._database: dict[str, list[Any]] = {}
        self._known: dict[str, InstalledPackage | None] = {}
        """None: dpkg knows nothing of it."""
        self._asked_at = 0.0

    def forget(self) -> None:
        """Ask about all of them again."""
        self._known = {}

    def query(self, apt: Apt, names: Collection[str]) -> dict[str, InstalledPackage]:
        """As `Apt.query`. Raises PackageError."""
        # Before it is asked: what changes meanwhile shows the next time.
        database, now = _identify(apt), time.monotonic()
        is_old = now - self._asked_at >= as_left.FULL_EVERY_S
        if database is None or database != self._database or is_old:
            self.forget()
            self._database, self._asked_at = database or {}, now
        fresh = [name for name in names if name not in self._known]
        found = apt.query(fresh) if fresh else {}
        known = {**self._known, **{name: found.get(name) for name in fresh}}
        if database is not None:
            self._known = known
        return {name: item for name in names if (item := known[name]) is not None}


def _identify(apt: Apt) -> dict[str, list[Any]] | None:
    """The files of dpkg's database; None where a change of them may not show."""
    now, folder = time.time(), apt.place.admin_dir
    try:
        found = as_left.identify_all(str(folder / name) for name in as_left.DPKG_FILES)
    except OSError:
        return None
    return found if all(as_left.is_settled(item, now) for _, item in found.values()) else None
