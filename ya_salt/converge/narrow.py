"""A pass over the whole host that looks at those daemons alone that may not be as they were left.

It goes by the snapshot of the last pass, as the quick way does (`ya_salt.converge.quick`). What is
in doubt is looked at; where it is more than single daemons, all of them are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ya_salt import as_left
from ya_salt.converge import quick
from ya_salt.converge.host import PassRequest, Rest
from ya_salt.model import DaemonPlan, InstallPackages, PurgePackages, RemoveContainer, Settings
from ya_salt.porto import glance
from ya_salt.quick_dataclass import replace


def narrow(settings: Settings, request: PassRequest, data: Mapping[str, Any] | None) -> PassRequest:
    """The request, with those daemons as its rest that are as they were left.

    `data` is the snapshot that the last pass has left, None where there is none. Call it under the
    pass lock, after the specs were read. Raises nothing.
    """
    if data is None or request.is_full or not quick.is_plain_request(request):
        return request
    try:
        rest = _find_rest(settings, request, data)
    except (OSError, glance.NoGlanceError, LookupError, TypeError, ValueError, AttributeError):
        return request
    targets = tuple(spec for spec in request.targets if spec.name not in rest)
    if not targets or 2 * len(targets) > len(request.targets):
        return request
    return replace(
        request,
        targets=targets,
        rest=Rest(rest, data["peer"], data["full_at"], data["step"], data["porto_step"]),
    )


def widen(request: PassRequest) -> PassRequest:
    """The request about all daemons again, before anything is put in effect."""
    if request.rest is None:
        return request
    return replace(request, targets=request.loaded.specs, rest=None)


def is_about_more(plans: Iterable[DaemonPlan]) -> bool:
    """Whether packages are to change: that may bear on daemons that were not looked at."""
    steps = (step for plan in plans for step in (*plan.steps, *plan.waiting))
    return any(
        isinstance(step, InstallPackages | PurgePackages | RemoveContainer) for step in steps
    )


def _find_rest(settings: Settings, request: PassRequest, data: Mapping[str, Any]) -> dict[str, int]:
    """Daemon -> its change time, of those that are as they were left. Raises as `as_left` does."""
    glimpse, loaded = request.glimpse, request.loaded
    names = {spec.name for spec in loaded.specs}
    is_same_host = (
        glimpse is not None
        and data["source"] == glimpse.source
        and data["specs_dir"] == settings.specs_dir
        and data["files"].items() >= glimpse.files.items()
        and as_left.is_around_as_left(data, settings.state_dir)
        and not loaded.rejected
        # Each daemon that was there still has a file.
        and names >= data["changed"].keys() | {*data["aside"], *data["gone"]}
        and {spec.name for spec in request.targets} == names
    )
    if glimpse is None or not is_same_host:
        return {}
    was, now = data["entries"], glimpse.entries
    if not _is_same_folder(was["."], now["."]):
        return {}
    fresh = {name for name in was.keys() | now.keys() if was.get(name) != now.get(name)}
    fresh |= glimpse.unsettled
    question = glance.encode_question(data["asked"])
    seen = glance.Call(settings.porto_socket, question).receive()
    if seen.peer != data["peer"] or not quick.is_timed(data, seen):
        return {}
    was_changed = data["changed"]
    is_still = seen.told == data["unchanged"]
    changed = was_changed if is_still else glance.parse_changes(seen.told)
    touched = {spec.name for spec in loaded.specs if spec.path.rpartition("/")[2] in fresh}
    # They are asked by every pass but a quick one.
    touched |= data["probed"].keys() | request.probes.keys()
    return {
        name: when
        for name, when in was_changed.items()
        if changed.get(name) == when and name not in touched
    }


def _is_same_folder(was: as_left.Identity | None, now: as_left.Identity | None) -> bool:
    """But for its times: they change with every entry, and entries tell of themselves."""
    return was is not None and now is not None and was[:5] == now[:5]
