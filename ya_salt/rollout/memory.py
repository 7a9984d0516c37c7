"""What a host remembers of the gate between passes. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ya_salt.rollout.gate import Held


@dataclass
class GateMemory:
    """A fact of the store; lost with it, and then learnt again from the gate."""

    held: dict[str, Held] = field(default_factory=dict)
    """Daemon -> the slot that we have for it."""
    asked: set[str] = field(default_factory=set)
    """Daemons that we may have a slot for without knowing: we did not live to see the answer."""
    state: str = "unasked"
    """answered or failed, since `since`; `message` says why it failed."""
    message: str = ""
    since: float | None = None
    override: str = ""
    """Why somebody let the last pass go past the gate."""
    hostnames: dict[str, str] = field(default_factory=dict)
    """Node name -> FQDN, as the resolver told it once: the gate has to know us by one name."""

    def note(self, state: str, message: str, now: float) -> None:
        if state != self.state:
            self.since = now
        self.state, self.message = state, message


def encode_memory(memory: GateMemory) -> dict[str, Any]:
    return {**asdict(memory), "asked": sorted(memory.asked)}


def decode_memory(data: Any) -> GateMemory:
    """The inverse; anything that is not a memory is an empty one."""
    try:
        held = {name: Held(**item) for name, item in data["held"].items()}
        return GateMemory(**{**data, "held": held, "asked": set(data["asked"])})
    except (TypeError, KeyError, AttributeError):
        return GateMemory()
