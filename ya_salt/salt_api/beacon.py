"""What has changed about the daemons since the last look, as events. Pure but for `look`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ya_salt.errors import YaSaltError
from ya_salt.model import DaemonStatus, Settings
from ya_salt.quick_dataclass import dataclass
from ya_salt.salt_api.queries import list_statuses
from ya_salt.text import escape_lines

EVENTS = ("not_ready", "ready", "respawned", "changed")
"""What a beacon may tell; `changed` is a daemon that runs from another spec than before."""


@dataclass(frozen=True)
class Seen:
    """What was told about a daemon last."""

    ready: bool
    respawns: int
    digest: str


def look(settings: Settings) -> list[DaemonStatus]:
    """The daemons now; none where portod does not answer, as that says nothing about them."""
    try:
        return list_statuses(settings)
    except YaSaltError:
        return []


def find_events(
    statuses: Iterable[DaemonStatus], seen: dict[str, Seen], wanted: Iterable[str] = EVENTS
) -> list[dict[str, Any]]:
    """Events since `seen`, which is brought up to date.

    Of a daemon that is seen for the first time only `not_ready` is told: the minion has just begun.
    """
    wanted = frozenset(wanted)
    events = []
    for status in statuses:
        if status.phase == "Removed":
            seen.pop(status.name, None)
            continue
        now = Seen(bool(status.ready and status.ready.status), status.respawn_count, status.digest)
        kinds = _compare(seen.get(status.name), now)
        events += [_tell(kind, status) for kind in kinds if kind in wanted]
        seen[status.name] = now
    return events


def _compare(before: Seen | None, now: Seen) -> list[str]:
    if before is None:
        return [] if now.ready else ["not_ready"]
    kinds = []
    if before.ready != now.ready:
        kinds.append("ready" if now.ready else "not_ready")
    # A counter that went back is a new container's, which counts from 0 again.
    if now.respawns > (before.respawns if now.respawns >= before.respawns else 0):
        kinds.append("respawned")
    if before.digest != now.digest:
        kinds.append("changed")
    return kinds


def _tell(kind: str, status: DaemonStatus) -> dict[str, Any]:
    ready = status.ready
    return {
        "tag": f"{kind}/{status.name}",
        "event": kind,
        "name": status.name,
        "version": status.version,
        "state": status.state,
        "reason": ready.reason if ready else "",
        "message": escape_lines(ready.message) if ready else "",
        "respawn_count": status.respawn_count,
    }


def check_config(config: Mapping[str, Any]) -> str:
    """What is wrong with a beacon's configuration, or ""."""
    wanted = config.get("events", list(EVENTS))
    if not isinstance(wanted, list | tuple) or any(item not in EVENTS for item in wanted):
        return f"events: a list of some of {', '.join(EVENTS)} is wanted"
    return ""
