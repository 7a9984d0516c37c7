"""Which process it is: at the other end of a socket, and as told from another of its number.

Loads next to nothing.
"""

from __future__ import annotations

import sys
from _socket import SO_PEERCRED, SOL_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket


def read_peer(connection: socket) -> tuple[int, int]:
    """(pid, uid) of who made, or listens at, the other end of a unix socket."""
    # struct ucred: three numbers of four bytes.
    peer = connection.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)
    pid, uid = (int.from_bytes(peer[at : at + 4], sys.byteorder) for at in (0, 4))
    return pid, uid


def find_peer(connection: socket) -> str:
    """The process at the other end of a unix socket, so that another one of its number differs.

    "" where /proc does not tell.
    """
    pid, _uid = read_peer(connection)
    ticks = read_start(pid)
    return "" if ticks is None else f"{pid}:{ticks}"


def read_start(pid: int | str) -> int | None:
    """When a process was started, in clock ticks since the boot; None where /proc does not tell."""
    try:
        # The 22nd field is when it was started.
        return int(_read_fields(pid)[19])
    except (OSError, IndexError, ValueError):
        return None


def read_work(pid: int) -> tuple[str, int] | None:
    """(its state, a letter as in proc(5); its processor time in ticks); None as above."""
    try:
        fields = _read_fields(pid)
        return fields[0].decode(), int(fields[11]) + int(fields[12])
    except (OSError, IndexError, ValueError):
        return None


def _read_fields(pid: int | str) -> list[bytes]:
    """Of /proc/PID/stat those after the name, which may hold anything. Raises OSError."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()
