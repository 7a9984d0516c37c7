"""The one name of this host for monitoring and the rollout gate, whatever the weather.

The gate counts slots by this name: a host that is `web1` while the resolver is away and
`web1.example.org` later would wait for itself. So a name that was found is kept in the store, bound
to the machine that found it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ya_salt.http import Deadline, look_up

FACT = "hostname"
"""The store's fact that holds the name."""
RESOLVER_LIMIT_S = 0.3

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
    is_other_machine: bool = False
    """The store came from another machine: slots that it speaks of are not ours."""


def choose_name(remembered: KnownName | None, found: KnownName, *, holds_slots: bool) -> Choice:
    """Which of the two names this host goes by. Pure.

    `holds_slots`: the gate knows us by the remembered one, for slots that we have or may have.
    """
    if remembered is None:
        return Choice(found)
    ids = {remembered.machine_id, found.machine_id} - {""}
    if len(ids) > 1:
        return Choice(
            found,
            f"the store was made on another machine, {remembered.name}: this host is {found.name}",
            is_other_machine=True,
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


class HostName:
    """`find()` may be called from any thread; the resolver is asked once at most."""

    def __init__(self, configured: str, remembered: Mapping[str, str]) -> None:
        self._configured = configured
        self._remembered = remembered
        self._lock = threading.Lock()
        self._found = ""
        self.resolved: dict[str, str] = {}
        """Node name -> FQDN, if the resolver told one."""

    def find(self) -> str:
        """The setting, or the FQDN; where the resolver does not tell it, what it told earlier."""
        if self._configured:
            return self._configured
        with self._lock:
            if not self._found:
                self._found = self._look()
            return self._found

    def _look(self) -> str:
        node = socket.gethostname()
        if "." in node:
            return node
        name = _resolve(node)
        if name:
            self.resolved = {node: name}
        return name or self._remembered.get(node, node)


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
            lambda: socket.getaddrinfo(node, None, flags=socket.AI_CANONNAME),
            Deadline.after(RESOLVER_LIMIT_S),
        )
    except (OSError, ValueError):
        return ""
    return next((name for *_, name, _address in found if "." in name), "")
