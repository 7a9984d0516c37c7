"""Which fields a file of the daemons directory was laid down from, as the last look at it found.

Rendering them anew only to compare takes longer than all the rest of a run with nothing to do. So
what was found equal is written down with the file's stat: while both are the same, so is the text.
It is a hint and never an order, as the snapshot is (`ya_salt.as_left`). Loads next to nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ya_salt import as_left

FILE_NAME = "laid-down"

Laid = Mapping[str, tuple[as_left.Identity | None, str]]
"""Name in the daemons directory -> (the file's stat, the digest of its fields)."""


def digest(name: str, fields: Mapping[str, Any]) -> str:
    """What tells fields from all that would be written otherwise, or refused.

    Raises TypeError of what no text of YAML can be: a date, a number as a key.
    """
    return hashlib.sha256(json.dumps([name, _plain(fields)]).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """The same of Salt's ordered and frozen types; their order counts, as it does in the file."""
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a key that is no text")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def remember(state_dir: str, glimpse: as_left.Glimpse, found: Mapping[str, str]) -> None:
    """Write down files that were as they should be: path -> the digest of its fields.

    `glimpse` was taken before they were read, and only where nothing had changed just then.
    """
    entries, before = glimpse.entries, read(state_dir)
    new = {Path(path).name: sign for path, sign in found.items()}
    laid = {name: item for name, item in before.items() if entries.get(name) == item[0]}
    laid |= {name: (entries[name], sign) for name, sign in new.items() if entries.get(name)}
    if laid == before:
        return
    # Where that cannot be the next run renders them once more.
    with contextlib.suppress(OSError):
        as_left.write_file(_find_file(state_dir), {"here": _name_here(), "laid": laid})


def read(state_dir: str) -> Laid:
    """What was written down; {} where that is not whole, ours alone, and of this code and boot."""
    data = as_left.read_file(_find_file(state_dir))
    if data is None:
        return {}
    *there, before = data["here"]
    *where, step = _name_here()
    laid: Laid = data["laid"]
    return laid if there == where and abs(before - step) < as_left.MAX_STEP_S else {}


def _find_file(state_dir: str) -> str:
    return str(Path(state_dir, FILE_NAME))


def _name_here() -> list[Any]:
    """By what a stat still tells what it told: the code, the boot, and the clock's step."""
    return [as_left.name_code(), as_left.name_boot(), as_left.find_step()]
