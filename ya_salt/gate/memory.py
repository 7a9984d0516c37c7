"""What a host remembers of the rollout gate between passes, and how it tells of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ya_salt.codec import DamagedError, from_data, to_data
from ya_salt.gate.protocol import Slot
from ya_salt.quick_dataclass import dataclass, field, replace

FACT = "gate"
"""Under this name the store keeps it."""


def describe_gate(kind: str, memory: GateMemory) -> dict[str, Any]:
    """How the gate stood in the last pass: type, state, message, since (None: not asked yet).

    `kind` is the setting gate.type.
    """
    if kind == "none":
        memory = GateMemory(message="no gate is configured: every change is made at once")
    return {"type": kind, "state": memory.state, "message": memory.message, "since": memory.since}


def find_gate_facts(kind: str, memory: GateMemory) -> dict[str, Any]:
    """`describe_gate`, with what monitoring is told besides.

    `override`: why the last pass went past the gate, or ""; `slots`: daemon -> state of the slot
    that we have for it.
    """
    held = {} if kind == "none" else memory.held
    slots = {name: item.state for name, item in held.items()}
    override = "" if kind == "none" else memory.override
    return {**describe_gate(kind, memory), "override": override, "slots": slots}


@dataclass(frozen=True)
class GateMemory:
    """A fact of the store; lost with it, and then learnt again from the gate."""

    held: Mapping[str, Slot] = field(default_factory=dict)
    """Daemon -> the slot that we have for it."""
    asked: frozenset[str] = frozenset()
    """Daemons that we may have a slot for without knowing: we did not live to see the answer."""
    returned: Mapping[str, Slot] = field(default_factory=dict)
    """Daemon -> a slot that was given back while its update may still be undone."""
    state: str = "unasked"
    """answered or failed, since `since`; `message` says why it failed."""
    message: str = ""
    since: float | None = None
    override: str = ""
    """Why somebody let the last pass go past the gate."""

    def with_answer(self, state: str, message: str, now: float) -> GateMemory:
        """After a question: `state` is answered or failed, and is since the first of a row."""
        since = now if state != self.state else self.since
        return replace(self, state=state, message=message, since=since)


def encode_memory(memory: GateMemory) -> dict[str, Any]:
    """What is None in a slot is left out: versions that knew no None there read their default."""
    data: dict[str, Any] = to_data(memory)
    slots = {"held": memory.held, "returned": memory.returned}
    return {**data, **{name: to_data(value, is_sparse=True) for name, value in slots.items()}}


def decode_memory(data: Any) -> GateMemory:
    """The inverse; anything that is not a memory is an empty one, what is unknown in it dropped."""
    try:
        return from_data(GateMemory, data)
    except DamagedError:
        return GateMemory()
