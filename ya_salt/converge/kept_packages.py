"""Which packages a pass keeps for going back: at once, or when a pass has nothing else to do."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from ya_salt.converge.stages import Start
from ya_salt.model import Observed
from ya_salt.packages.cache import find_protected
from ya_salt.store import Store

_log = logging.getLogger("ya_salt.pass")

_KEEPING = "keeping"
"""The fact with the packages that are still to be kept for going back, and when some were."""
_KEEPING_S = 0.25
"""So long daemons that have just become ready are told of nobody while packages are packed."""
_KEEPING_FEW = 8
"""Of more packages than this only those are kept at once that apt still has."""
_KEEPING_IDLE_S = 2.0
_KEEPING_IDLE = 32
"""So many packages at most such a pass asks a repository for."""
_KEEPING_EVERY_S = 60.0


def keep_packages(
    start: Start, fresh: Mapping[str, str], after: Observed, *, is_idle: bool
) -> None:
    """Keep the .deb files of what became ready; what takes long is left to passes with no work.

    Right before an update what it replaces is kept in any case.
    """
    left, last = _load_keeping(start.store)
    now, host = start.host.now(), start.host
    known = {name: item.version for name, item in after.packages.items()}
    left = {name: version for name, version in left.items() if known.get(name) == version}
    # Those that wait already have been looked for in archives and repositories.
    versions = {name: version for name, version in fresh.items() if left.get(name) != version}
    is_time = is_idle and bool(left) and abs(now - last) >= _KEEPING_EVERY_S
    if is_time:
        waiting = [*{**left, **versions}.items()]
        versions, left = dict(waiting[:_KEEPING_IDLE]), dict(waiting[_KEEPING_IDLE:])
    if not versions:
        return
    from ya_salt.packages.keeping import keep_generations

    hurried_s = _KEEPING_S if len(versions) <= _KEEPING_FEW else 0.0
    within_s = _KEEPING_IDLE_S if is_time else hurried_s
    protected = find_protected(after.lives.values())
    kept = keep_generations(host.apt, versions, host.progress, protected, within_s)
    for name, why in kept.problems.items():
        _log.warning("package %s cannot be kept for going back: %s", name, why)
    left |= kept.left
    if kept.left or is_time:
        # It is written with all that the pass has found.
        start.store.save_fact(_KEEPING, {"left": left, "at": now})


def _load_keeping(store: Store) -> tuple[dict[str, str], float]:
    fact = store.load_fact(_KEEPING)
    try:
        return {str(name): str(item) for name, item in fact["left"].items()}, float(fact["at"])
    except (TypeError, LookupError, ValueError, AttributeError):
        return {}, 0.0
