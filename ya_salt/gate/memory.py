"""What a host remembers of the rollout gate between passes, and how it tells of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, get_args

from ya_salt.gate.protocol import Operation, Slot, State

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


_EXAMPLE = Slot(daemon="", id="", operation="update", target="", since=0.0)


@dataclass(frozen=True)
class GateMemory:
    """A fact of the store; lost with it, and then learnt again from the gate."""

    held: Mapping[str, Slot] = field(default_factory=dict)
    """Daemon -> the slot that we have for it."""
    asked: frozenset[str] = frozenset()
    """Daemons that we may have a slot for without knowing: we did not live to see the answer."""
    state: str = "unasked"
    """answered or failed, since `since`; `message` says why it failed."""
    message: str = ""
    since: float | None = None
    override: str = ""
    """Why somebody let the last pass go past the gate."""
    hostnames: Mapping[str, str] = field(default_factory=dict)
    """Node name -> FQDN, as the resolver told it once: the gate has to know us by one name."""

    def with_answer(self, state: str, message: str, now: float) -> GateMemory:
        """After a question: `state` is answered or failed, and is since the first of a row."""
        since = now if state != self.state else self.since
        return replace(self, state=state, message=message, since=since)


def encode_memory(memory: GateMemory) -> dict[str, Any]:
    return {**asdict(memory), "asked": sorted(memory.asked)}


def decode_memory(data: Any) -> GateMemory:
    """The inverse; anything that is not a memory is an empty one."""
    try:
        held = {name: _check(Slot(**item)) for name, item in data["held"].items()}
        asked = frozenset(_check_text(name) for name in data["asked"])
        hostnames = {name: _check_text(text) for name, text in data["hostnames"].items()}
        return GateMemory(
            held=held,
            asked=asked,
            state=_check_text(data["state"]),
            message=_check_text(data["message"]),
            since=None if data["since"] is None else float(data["since"]),
            override=_check_text(data["override"]),
            hostnames=hostnames,
        )
    except (TypeError, LookupError, ValueError, AttributeError, OverflowError):
        return GateMemory()


def _check(held: Slot) -> Slot:
    """Raises TypeError where a field is of another kind than a slot's."""
    for name, value in asdict(held).items():
        wanted = {"since": (int, float)}.get(name, type(getattr(_EXAMPLE, name)))
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise TypeError(f"{name} is {value!r}")
    if held.operation not in get_args(Operation) or held.state not in get_args(State):
        raise TypeError(f"{held.operation}, {held.state}")
    return held


def _check_text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
