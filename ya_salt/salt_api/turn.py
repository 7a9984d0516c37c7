"""A state's turn: what it may say and ask for, and what it returns. Loads next to nothing."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from ya_salt.errors import OperatorError
from ya_salt.quick_dataclass import dataclass, field
from ya_salt.salt_api.speech import SOMEBODY

META = ("version", "annotations", "delete_requested")
SPEC = (
    *("properties", "packages", "min_ready_s", "ready_timeout_s"),
    *("readiness", "update", "watch_files", "after", "drift"),
)
FIELDS = (*META, *SPEC)
"""What of a spec may stand in a state or in pillar."""

LOCK_WAIT_S = 600.0
"""How long another pass is waited for; a first installation may take minutes."""

Chunk = Mapping[str, Any]
"""A state as Salt has it: `state`, `fun`, `name`, `__id__`, `__sls__`, its arguments and Salt's own
(`require`, `order`, …)."""


class DesiredStateError(OperatorError):
    """A state asks for something that cannot be; the text is the state's comment."""


@dataclass(frozen=True)
class DesiredState:
    """One state: the daemon it is about, and where its spec is.

    The spec is that of `source`, a file on this host, or is made of `fields`. With `file` the
    fields are laid down there, in the daemons directory, and taken from there.
    """

    key: str
    """Tells this state from all others of the run."""
    name: str
    place: str
    """The state, for people: `state juggler of SLS agents`."""
    source: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""
    absent: bool = False
    restart: str = ""
    """Why the daemon gets a new process whatever else is to be done; "" where it does not."""

    @property
    def path(self) -> str:
        """Where its spec is to be looked for: a file, or the state itself."""
        return self.source or self.file or self.place


def check_fields(name: str, source: str, fields: Mapping[str, Any]) -> None:
    """Refuse arguments that are no field of a spec. Raises DesiredStateError."""
    for key in fields:
        if key not in FIELDS:
            near = difflib.get_close_matches(key, FIELDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(FIELDS)}, source"
            raise DesiredStateError(f"{name}: there is no argument {key}; {hint}")
    if source and fields:
        given = ", ".join(sorted(fields))
        raise DesiredStateError(
            f"{name}: give either source or the spec itself ({given}), not both"
        )


@dataclass(frozen=True)
class Mode:
    """How to go about it."""

    test: bool = False
    lock_wait_s: float = LOCK_WAIT_S
    who: str = SOMEBODY
    """For the history."""


REAL = Mode()


@dataclass(frozen=True)
class StateReturn:
    """What a state returns: `result` None means that something would change."""

    result: bool | None
    comment: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Declared:
    """A state of the run, whether it is this one's turn or not: enough to find contradictions."""

    key: str
    name: str
    place: str
    path: str


def name_chunk(chunk: Chunk) -> str:
    """What tells it from all others of the run."""
    parts = (chunk.get("__id__", ""), chunk.get("name", ""), chunk.get("fun", ""))
    return "|".join(str(part) for part in parts)


def say_ready(name: str, did: str = "") -> str:
    """The comment of a state whose daemon is as it should be; `did` is what was done for that."""
    return f"{name} is ready{did or ', nothing had to be done'}"


def say_gone(name: str) -> str:
    """The comment of a state whose daemon was gone already, as it asks."""
    return f"{name} is not there, as asked"
