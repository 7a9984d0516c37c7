"""Debian's programs that tests start, ports for them, and waiting. Needs no pytest."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

UNPACKED = Path(sys.prefix) / "servers/usr/bin"
"""Where .ci/prepare-servers unpacks those that are not installed."""


def find_program(name: str) -> str | None:
    """The program's path; None where it is neither installed nor unpacked."""
    return shutil.which(name, path=str(UNPACKED)) or shutil.which(name)


def list_missing(packages: Mapping[str, str]) -> list[str]:
    """Debian packages that are wanting; `packages` are those of programs."""
    return sorted({packages[name] for name in packages if find_program(name) is None})


def find_free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1, each another one."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def wait_for(is_so: Callable[[], bool], what: str, within_s: float = 30.0) -> None:
    """Poll until it is so. Raises TimeoutError."""
    give_up = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > give_up:
            raise TimeoutError(f"in vain waited for: {what}")
        time.sleep(0.05)
