"""One name of this host for monitoring and the rollout gate, whatever the resolver says today.

The gate counts slots by this name: a host that is `web1` while the resolver is away and
`web1.example.org` later would wait for itself. So a name that was found is kept in the store, bound
to the machine that found it.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ya_salt.codec import DamagedError, from_data, to_data
from ya_salt.http import Deadline, look_up
from ya_salt.quick_dataclass import dataclass, replace

FACT = "hostname"
"""The store's fact that holds the name."""
RESOLVER_LIMIT_S = 0.3

_log = logging.getLogger("ya_salt.hostname")

Source = Literal["setting", "resolver", "node"]
"""`node` is the kernel's name without a domain: all there is while the resolver does not tell."""


@dataclass(frozen=True)
class KnownName:
    """A name of this host, where it came from, and which machine it was found on."""

    name: str
    source: Source
    node: str = ""
    """The kernel's name at that time."""
    machine_id: str = ""
    """As in /etc/machine-id; "" where there is none."""


@dataclass(frozen=True)
class Choice:
    """The name to go by, and to remember."""

    known: KnownName
    note: str = ""
    """What somebody should know: the name has changed, or would."""


def choose_name(remembered: KnownName | None, found: KnownName, *, holds_slots: bool) -> Choice:
    """Which of the two names this host goes by. Pure.

    `holds_slots`: the gate knows us by the remembered one, for slots that we have or may have.
    """
    if remembered is None:
        return Choice(found)
    if _differ(remembered.machine_id, found.machine_id):
        return Choice(
            found,
            f"the store was made on another machine, {remembered.name}: this host is {found.name}",
        )
    same = replace(remembered, machine_id=found.machine_id or remembered.machine_id)
    if found.name == remembered.name:
        return Choice(replace(found, machine_id=same.machine_id))
    is_silent = found.source == "node" and found.node == remembered.node
    if is_silent and remembered.source == "resolver":
        return Choice(same)
    if holds_slots:
        return Choice(
            same,
            f"this host's name is {found.name} now; it goes on as {remembered.name} until the "
            "gate has no slot of that name any more",
        )
    return Choice(found, f"this host's name is {found.name} now; it was {remembered.name}")


def _differ(one: str, other: str) -> bool:
    """Whether two machine ids are known to be of two machines."""
    return bool(one and other) and one != other


class HostName:
    """`find()` may be called from any thread; the resolver is asked once at most."""

    def __init__(
        self,
        configured: str,
        remembered: object = None,
        holds_slots: Callable[[], bool] = lambda: False,
    ) -> None:
        """`remembered` is what `to_fact` returned once, as the store has it, or None."""
        self._configured = configured
        self._remembered = _read_fact(remembered)
        self._holds_slots = holds_slots
        self.is_other_machine = self._remembered is not None and _differ(
            self._remembered.machine_id, read_machine_id()
        )
        """Whether the store came with an image from another machine: its slots are not ours."""
        self._lock = threading.Lock()
        self._choice: Choice | None = None

    def find(self) -> str:
        """The name to go by. That it has changed, or would, is logged."""
        with self._lock:
            if self._choice is None:
                found = _look(self._configured)
                held = self._holds_slots()
                self._choice = choose_name(self._remembered, found, holds_slots=held)
                if self._choice.note:
                    _log.warning("%s", self._choice.note)
            return self._choice.known.name

    def to_fact(self) -> dict[str, object] | None:
        """What is to be remembered; None where nobody asked for the name or nothing is new."""
        with self._lock:
            if self._choice is None or self._choice.known == self._remembered:
                return None
            fact: dict[str, object] = to_data(self._choice.known)
            return fact


def _read_fact(data: object) -> KnownName | None:
    try:
        return None if data is None else from_data(KnownName, data)
    except DamagedError:
        return None


def _look(configured: str) -> KnownName:
    node, machine_id = socket.gethostname(), read_machine_id()
    if configured:
        return KnownName(configured, "setting", node, machine_id)
    if "." in node:
        return KnownName(node, "resolver", node, machine_id)
    name = _resolve(node)
    return KnownName(name or node, "resolver" if name else "node", node, machine_id)


def read_machine_id(path: str = "/etc/machine-id") -> str:
    """32 hex digits that no two machines share, or "" where they are not there (yet)."""
    try:
        text = Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
    is_id = len(text) == 32 and all(char in "0123456789abcdef" for char in text)
    return text if is_id else ""


def _resolve(node: str) -> str:
    """The canonical name, if it has a domain; "" where it is not told in time."""
    try:
        found = look_up(
            # As bytes, which Python does not have to spell in IDNA.
            lambda: socket.getaddrinfo(node.encode(), None, flags=socket.AI_CANONNAME),
            Deadline.after(RESOLVER_LIMIT_S),
        )
    except (OSError, ValueError):
        return ""
    return next((name for *_, name, _address in found if "." in name), "")
