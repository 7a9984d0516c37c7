"""What a gate is: asked before a running daemon is disturbed, and told how that went. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from ya_salt.model import Deferral
from ya_salt.quick_dataclass import dataclass, field

RULE_PREFIX = "porto-daemon-"

Operation = Literal["install", "update", "restart", "remove"]
State = Literal["working", "settling", "failed"]
"""Of an operation: under way; done, and the daemon has to stay ready for a while; not done."""

REMOVAL = "removal"
"""What stands for the version where the daemon is to go."""


@dataclass(frozen=True)
class SlotRequest:
    """What a host wants to do to a daemon."""

    daemon: str
    operation: Operation
    target: str
    """The version that it leads to (the digest of a spec without one, REMOVAL): what fails once,
    fails elsewhere, so failures are counted by it."""
    reason: str = ""
    """Why, for a person."""

    @property
    def rule(self) -> str:
        return RULE_PREFIX + self.daemon


@dataclass(frozen=True)
class Identity:
    """Who asks: the host's name and the facts that selectors look at."""

    host: str
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Slot:
    """A slot that this host has, as the gate and the host both remember it."""

    daemon: str
    id: str
    """Made by the host when it asked: tells its slot from one that it had before."""
    operation: Operation
    target: str
    since: float
    """Seconds since 1970, of the start."""
    state: State = "working"
    error: str = ""
    """Why it failed."""
    slot: int = -1
    """The slot's number; -1 where the gate does not number them, and of a host that failed."""
    revision: int = 0
    """etcd's create_revision of the holder's key."""
    lease: int = 0
    """etcd's lease of the sign of life; 0 where there is none."""
    min_healthy_s: int | None = None
    """The daemon has to stay ready for this long before the slot is given back; None: the rule does
    not say, so the update's own probation decides."""
    lost_after_s: int = 0
    """The gate has to hear of the host within this time; 0: never."""

    @property
    def rule(self) -> str:
        return RULE_PREFIX + self.daemon


@dataclass(frozen=True)
class Granted:
    """Go on. `held` is the slot that was taken or kept; None where none is needed."""

    held: Slot | None = None


class Gate(Protocol):
    """Somebody who decides for the whole fleet.

    A "no" is a Deferral; every method raises GateError where the gate cannot be asked, within the
    deadline. A write whose answer was lost is resolved by reading, never assumed.
    """

    def ask(self, ask: SlotRequest) -> Granted | Deferral:
        """Take a slot for the operation, or go on with the one that this host already has.

        Asking again for the same operation and target takes nothing more.
        """

    def preview(self, ask: SlotRequest) -> Granted | Deferral:
        """What `ask` would say now. Reads only; its `held` is the present slot."""

    def find(self, daemon: str) -> Slot | None:
        """The slot that this host has by the gate's own memory. Reads only."""

    def tell(self, held: Slot, state: State, error: str = "") -> Slot | None:
        """Say how the operation stands; the slot as it is now, None where it is ours no more."""

    def blame(self, returned: Slot, error: str) -> Slot | None:
        """Say that an operation has failed after all whose slot was given back.

        The failed slot that the host has from now on; None where there is nobody to tell.
        """

    def release(self, held: Slot) -> None:
        """Give the slot back; fine where it is ours no more."""

    def renew(self, held: Slot) -> Slot | None:
        """Say that this host is alive; the slot as it is now, None where it is ours no more."""

    def close(self) -> None:
        """Let go of connections."""
