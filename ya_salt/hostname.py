"""The name under which monitoring knows this host, without waiting for a resolver that hangs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping

from ya_salt.http import Deadline, look_up

RESOLVER_LIMIT_S = 0.3


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
