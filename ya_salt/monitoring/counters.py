"""Count respawns and restarts exactly, from running totals that anybody may reset. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ya_salt.model import Container


@dataclass(frozen=True)
class Counter:
    """What happened to one daemon since we know it. The totals never go back."""

    respawns: int = 0
    restarts: int = 0
    container: str = ""
    """The container that was seen last, told from every other one of that name."""
    respawns_seen: int = 0
    """portod's total when it was seen last."""
    restarts_seen: int = 0
    start_duration_s: float | None = None
    """From the making of this container to its first being ready."""

    def with_container(self, container: Container) -> Counter:
        """Add what portod counted since the last look.

        A new container, and a total that somebody set back, have counted from 0 on.
        """
        identity = f"{container.id}@{container.created_at}"
        count = container.respawn_count
        if identity != self.container:
            return replace(
                self,
                respawns=self.respawns + count,
                container=identity,
                respawns_seen=count,
                start_duration_s=None,
            )
        return replace(
            self,
            respawns=self.respawns + _count_new(self.respawns_seen, count),
            respawns_seen=count,
        )

    def with_restarts(self, count: int) -> Counter:
        """Add what we counted ourselves; a store that was lost has counted from 0 on."""
        new = _count_new(self.restarts_seen, count)
        return replace(self, restarts=self.restarts + new, restarts_seen=count)

    def with_ready(self, container: Container, min_ready_s: float, now: float) -> Counter:
        """Note how long this container took, the first time that it is seen ready."""
        if self.start_duration_s is not None or not container.created_at:
            return self
        ready_at = now - container.running_s + min_ready_s
        return replace(self, start_duration_s=max(0.0, ready_at - container.created_at))


def _count_new(seen: int, count: int) -> int:
    return count - seen if count >= seen else count
