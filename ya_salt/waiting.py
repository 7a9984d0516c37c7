"""Wait until daemons that were started are ready, hopeless or out of time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from ya_salt.execute import Progress
from ya_salt.model import Container, DaemonSpec
from ya_salt.observe import look_at_containers
from ya_salt.porto.client import PortoClient
from ya_salt.status import Outcome, is_ready

_POLL_S = 0.25
_HOPELESS = frozenset({"dead", "stopped"})
"""States that portod does not leave by itself: waiting for such a daemon is in vain."""


def wait_ready(
    client: PortoClient,
    specs: Sequence[DaemonSpec],
    outcomes: Mapping[str, Outcome],
    progress: Progress,
) -> dict[str, Container]:
    """Look at the daemons of `specs`, each of which was worked on, until none is worth waiting for.

    Raises PortoError.
    """
    started = time.monotonic()
    while True:
        containers = look_at_containers(client, specs, [spec.name for spec in specs])
        elapsed = time.monotonic() - started
        waiting = [
            spec
            for spec in specs
            if outcomes[spec.name].touched
            and not outcomes[spec.name].error
            and elapsed < spec.ready_timeout_s
            and _is_worth_waiting(spec, containers.get(spec.name))
        ]
        if not waiting:
            return containers
        progress(_describe_waiting(waiting, containers))
        time.sleep(_POLL_S)


def _is_worth_waiting(spec: DaemonSpec, container: Container | None) -> bool:
    if container is None or container.state in _HOPELESS:
        return False
    return not is_ready(spec, container)


def _describe_waiting(specs: Sequence[DaemonSpec], containers: Mapping[str, Container]) -> str:
    shown = ", ".join(
        f"{spec.name} ({containers[spec.name].state} {containers[spec.name].running_s} s)"
        for spec in specs[:3]
    )
    rest = f" and {len(specs) - 3} more" if len(specs) > 3 else ""
    return f"waiting until ready: {shown}{rest}"
