"""What a daemon with `readiness.notify` is given, so that it can say how it stands. Pure.

The directory of its socket is bound into the container, not the socket: one that is made anew is
seen. It has the same path inside as outside, which `virt_mode: host` needs and dev-portod.
"""

from __future__ import annotations

from collections.abc import Mapping

from ya_salt.model import NOTIFY_DIR, DaemonSpec, Readiness

MAX_NAME = 48
"""Longer names of daemons make a path that is too long for a unix socket (107 bytes)."""

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""What ya-salt says in a daemon's environment, or has to leave out (WATCHDOG_PID)."""

_SOCKET = "env[NOTIFY_SOCKET]"
_WATCHDOG = "env[WATCHDOG_USEC]"


def name_folder(notify_dir: str, name: str) -> str:
    """The directory of a daemon's socket."""
    return f"{notify_dir.rstrip('/')}/daemons/{name}"


def name_socket(notify_dir: str, name: str) -> str:
    return f"{name_folder(notify_dir, name)}/socket"


def is_notify(spec: DaemonSpec) -> bool:
    return spec.readiness is not None and spec.readiness.notify


def list_properties(
    name: str, texts: Mapping[str, str], readiness: Readiness | None, notify_dir: str = NOTIFY_DIR
) -> dict[str, str]:
    """The properties with what `readiness.notify` adds to them, whatever it added before."""
    if readiness is None or not readiness.notify:
        return dict(texts)
    found = dict(texts)
    before = found.pop(_SOCKET, "").rpartition("/")[0]
    binds = [one for one in found.pop("bind", "").split(";") if one and one != _bind(before)]
    found[_SOCKET] = name_socket(notify_dir, name)
    if readiness.watchdog_s:
        found[_WATCHDOG] = str(round(readiness.watchdog_s * 1e6))
    if found.get("virt_mode") != "host":
        binds.append(_bind(name_folder(notify_dir, name)))
    if binds:
        found["bind"] = ";".join(binds)
    return found


def _bind(folder: str) -> str:
    # Nobody inside can take the socket away; what is read-only can be sent to all the same.
    return f"{folder} {folder} ro"
