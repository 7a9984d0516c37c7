"""The gate on a FleetLock server: a counting lock for each group, one for a host, and no more.

The protocol is that of https://coreos.github.io/zincati/development/fleetlock/protocol; what can
be had of a gate over it is in docs/fleetlock.md.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

from ya_salt.gate.fleetlock_server import LIMIT_S, FleetLockServer
from ya_salt.gate.protocol import Granted, Identity, Slot, SlotRequest, State
from ya_salt.model import Deferral, GateSettings


class FleetLockGate:
    """A Gate.

    `held` says what the host remembers to hold at this moment: the server cannot be asked, and
    where daemons share a group only the last of them may unlock. `Slot.id` is GROUP/HEX, so that a
    lock is given back where it was taken though the settings have changed since.
    """

    def __init__(
        self,
        settings: GateSettings,
        identity: Identity,
        *,
        held: Callable[[], Collection[Slot]] = lambda: (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._group = settings.group
        self._server = FleetLockServer(settings, identity.host)
        self._remember = held
        self._clock = clock
        self._taken: dict[str, Slot] = {}
        """Daemon -> what was allowed here; whoever asked may not have remembered it yet."""
        self._returned: set[str] = set()
        """Ids that were released here; whoever did may not have forgotten them yet."""
        self._turns: dict[str, threading.Lock] = {}

    def ask(self, ask: SlotRequest) -> Granted | Deferral:
        """Lock, whatever is remembered: the server may have been told to forget it."""
        known = self._find(ask.daemon)
        group = self._find_group(known, ask.rule)
        with self._take_turn(group) as deadline:
            full = self._server.lock(group, deadline)
            if full:
                return Deferral("Full", full)
            held = known if known and _is_same(known, ask, group) else self._make(ask, group)
            self._taken[ask.daemon] = held
        return Granted(held)

    def foresee(self, ask: SlotRequest) -> Granted | Deferral:
        """Always yes: FleetLock tells nothing without locking."""
        return Granted(self._find(ask.daemon))

    def find(self, daemon: str) -> Slot | None:  # noqa: ARG002 - the protocol of all gates
        """Always None, which means that nobody knows: FleetLock cannot be asked."""
        return None

    def tell(self, held: Slot, state: State, error: str = "") -> Slot | None:
        """Nothing is sent: to the server a lock is a lock. A host that failed simply keeps it."""
        told = replace(held, state=state, error=error)
        if held.daemon in self._taken:
            self._taken[held.daemon] = told
        return told

    def release(self, held: Slot) -> None:
        """Unlock, unless another daemon of this host still holds in the same group.

        A lock that we do not have is unlocked without a word, so it is right to release after an
        `ask` whose outcome nobody knows; any Held of the daemon does, with or without an id.
        """
        group = self._find_group(held, held.rule)
        with self._take_turn(group) as deadline:
            if not self._is_needed(group, held.daemon):
                self._server.unlock(group, deadline)
            self._taken.pop(held.daemon, None)
            self._returned.add(held.id)

    def renew(self, held: Slot) -> Slot | None:
        """Nothing to do: a lock of FleetLock never ends by itself."""
        return held

    def close(self) -> None:
        """Nothing to do: each request has a connection of its own."""

    @contextmanager
    def _take_turn(self, group: str) -> Iterator[float]:
        """Let in one daemon of a group at a time, and give the deadline for all of it.

        Otherwise the unlock of one and the lock of another could cross on their way: the second
        would find the host's lock still there, and then lose it.
        """
        deadline = time.monotonic() + LIMIT_S
        # Whoever has it is at its own deadline soon.
        with self._turns.setdefault(group, threading.Lock()):
            yield deadline

    def _find(self, daemon: str) -> Slot | None:
        return self._list_held().get(daemon)

    def _list_held(self) -> dict[str, Slot]:
        known = {held.daemon: held for held in self._remember()} | self._taken
        return {name: held for name, held in known.items() if held.id not in self._returned}

    def _find_group(self, held: Slot | None, rule: str) -> str:
        return (_read_group(held) if held else "") or self._group or name_group(rule)

    def _is_needed(self, group: str, daemon: str) -> bool:
        return any(
            name != daemon and _read_group(held) == group
            for name, held in self._list_held().items()
        )

    def _make(self, ask: SlotRequest, group: str) -> Slot:
        id_ = f"{group}/{uuid.uuid4().hex}"
        return Slot(ask.daemon, id_, ask.operation, ask.target, since=self._clock())


def name_group(rule: str) -> str:
    """A group of FleetLock's alphabet, letters, digits, dots and dashes; never one for two rules.

    Any other character becomes .xHH for each of its bytes in UTF-8 (`a_b` is `a.x5Fb`), and so does
    a dot in front of what would read as such.
    """
    return re.sub(r"[^a-zA-Z0-9.-]|\.(?=x[0-9A-F]{2})", _escape, rule)


def _escape(match: re.Match[str]) -> str:
    return "".join(f".x{byte:02X}" for byte in match[0].encode())


def _read_group(held: Slot) -> str:
    """The group of an id that was made here; "" for one of another gate."""
    return held.id.rpartition("/")[0]


def _is_same(held: Slot, ask: SlotRequest, group: str) -> bool:
    """Whether what was started goes on; what came to its end is another operation the next time."""
    same = (_read_group(held), held.operation, held.target) == (group, ask.operation, ask.target)
    return same and held.state != "settling"
