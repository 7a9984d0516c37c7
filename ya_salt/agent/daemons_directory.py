"""The daemons directory as the agent reads it: again only after a change, and nothing half-written.

A file that is being written counts as what it was before: its last valid spec, or as not there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping

from ya_salt.as_left import Glimpse
from ya_salt.model import DaemonSpec, Loaded
from ya_salt.quick_dataclass import dataclass, replace
from ya_salt.specs.directory import load_specs
from ya_salt.specs.seen import SeenFiles

YOUNG_S = 1.0
"""A file that cannot be used and was changed this short a time ago may not be whole yet."""

PATIENCE_S = 10.0
"""A file that is being written for longer is read as it is."""


@dataclass(frozen=True)
class Reading:
    """`again_in_s` is when to look again because of files that were held back, None: never."""

    loaded: Loaded
    again_in_s: float | None = None


class DaemonsDirectory:
    """Not for use by several threads at once."""

    def __init__(self, path: str, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._seen = SeenFiles()
        self._loaded = Loaded()
        self._good: dict[str, DaemonSpec] = {}
        self._held_since: dict[str, float] = {}
        self._is_first = True

    def read(self, unfinished: Collection[str] = (), glimpse: Glimpse | None = None) -> Reading:
        """Everything that a pass is about. `unfinished` are paths that are open for writing.

        `glimpse` is of this directory, and has just been taken. Raises DaemonsDirectoryError.
        """
        now = self._clock()
        self._loaded = load_specs(self.path, seen=self._seen, glimpse=glimpse)
        held = self._find_held(unfinished, now)
        if not held:
            self._good = {spec.path: spec for spec in self._loaded.specs}
            return Reading(self._loaded)
        loaded = hold_back(self._loaded, held, self._good)
        self._good = {spec.path: spec for spec in loaded.specs}
        return Reading(loaded, YOUNG_S)

    def _find_held(self, unfinished: Collection[str], now: float) -> set[str]:
        young = {
            item.path for item in self._loaded.rejected if now - _changed_at(item.path) < YOUNG_S
        }
        # What was there before we came may be of a daemon whose earlier spec we do not know.
        is_first, self._is_first = self._is_first, False
        held = {*unfinished, *young}
        if is_first:
            held = {path for path in held if path in unfinished}
        self._held_since = {path: self._held_since.get(path, now) for path in held}
        return {path for path, since in self._held_since.items() if now - since < PATIENCE_S}


def hold_back(loaded: Loaded, held: Collection[str], good: Mapping[str, DaemonSpec]) -> Loaded:
    """The directory with the files of `held` as they were before: `good`, or not there."""
    specs = [spec for spec in loaded.specs if spec.path not in held]
    names = {spec.name for spec in specs}
    kept = [good[path] for path in sorted(held) if path in good and good[path].name not in names]
    return replace(
        loaded,
        specs=tuple(sorted((*specs, *kept), key=lambda spec: spec.path)),
        rejected=tuple(item for item in loaded.rejected if item.path not in held),
    )


def _changed_at(path: str) -> float:
    try:
        return os.lstat(path).st_ctime
    except OSError:
        return 0.0
