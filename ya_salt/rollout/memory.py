"""What a host remembers of the gate between passes. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from ya_salt.rollout.gate import Held, Operation, State

_EXAMPLE = Held(daemon="", id="", operation="update", target="", since=0.0)


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
        held = {name: _check(Held(**item)) for name, item in data["held"].items()}
        asked = {_check_text(name) for name in data["asked"]}
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


def _check(held: Held) -> Held:
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
