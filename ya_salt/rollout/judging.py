"""Judge how an operation went by how its daemon stands. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ya_salt.model import Container, DaemonStatus, GateStanding
from ya_salt.rollout.gate import Held, State


def judge(
    held: Held, status: DaemonStatus, container: Container | None, *, is_put_off: bool
) -> tuple[State | Literal["over"], str]:
    """(state, error) of the operation that the slot was taken for; `over`: give it back.

    `is_put_off`: what is to be done about the daemon now waits.
    """
    if status.phase == "Removed":
        return "over", ""
    if status.error and status.phase == "Managed":
        return "failed", status.error
    if is_put_off and held.state == "working":
        # It has not been carried out yet: how the daemon stands says nothing about it.
        return "working", ""
    ready = status.ready
    if ready is None or not ready.status:
        return "failed", f"{ready.reason}: {ready.message}" if ready else "nobody has looked at it"
    healthy_s = container.running_s if container else 0
    return ("over" if healthy_s >= held.min_healthy_s else "settling"), ""


def describe_held(held: Held) -> str:
    match held.state:
        case "failed":
            return f"it keeps its slot of {held.rule} until it is ready or released: {held.error}"
        case "settling":
            s = held.min_healthy_s
            return f"it keeps its slot of {held.rule} until it has been ready for {s} s"
        case "working":
            return f"it has a slot of {held.rule}"


def keep_since(new: GateStanding | None, old: GateStanding | None) -> GateStanding | None:
    """The standing with the time since when it has been in its state."""
    if new is None or old is None or new.state != old.state:
        return new
    return replace(new, since=old.since)
