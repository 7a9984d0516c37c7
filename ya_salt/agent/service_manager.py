"""Tell systemd how this service stands (sd_notify(3)); nobody is told where none asked."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping


class ServiceManager:
    """Sends to the socket that the environment names. Never raises, never waits."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        # A name that begins with @ is an abstract one.
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        self.watchdog_s = _read_watchdog(environment)
        """How long systemd waits for a sign of life; 0: it does not."""

    def tell(self, *lines: str) -> None:
        """Assignments such as `READY=1`."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
            connection.setblocking(False)
            try:
                connection.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                # Its socket is full, or gone: it asks again by restarting us.
                return

    def tell_reloading(self) -> None:
        """Follow it with `READY=1`."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.tell("RELOADING=1", f"MONOTONIC_USEC={microseconds}")


def _read_watchdog(environment: Mapping[str, str]) -> float:
    """WATCHDOG_USEC, where it is meant for this process."""
    pid = environment.get("WATCHDOG_PID", "")
    text = environment.get("WATCHDOG_USEC", "")
    is_ours = not pid or pid == str(os.getpid())
    return int(text) / 1e6 if text.isdecimal() and is_ours else 0.0
