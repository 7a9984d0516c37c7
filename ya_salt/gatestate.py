"""What the last pass left behind about the rollout gate, for those who tell how it stands."""

from __future__ import annotations

from typing import Any

from ya_salt.rollout.memory import GateMemory, decode_memory
from ya_salt.store import Store

FACT = "gate"


def load_memory(store: Store | None) -> GateMemory:
    """What was remembered; what cannot be read, or no store, is an empty memory."""
    if store is None:
        return GateMemory()
    try:
        return decode_memory(store.load_fact(FACT))
    except ValueError:
        return GateMemory()


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
