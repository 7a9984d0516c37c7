"""A pass about one daemon, as somebody asks for it by name: from the shell, or through Salt."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from ya_salt.converge.drift import has_secrets
from ya_salt.converge.host import PassRequest
from ya_salt.errors import UsageError
from ya_salt.life import Life, Order
from ya_salt.model import DaemonSpec, Loaded, Record


def ask_apply(name: str, loaded: Loaded, records: Mapping[str, Record], who: str) -> PassRequest:
    """For what its file says."""
    spec = find_target(name, loaded, records)
    return PassRequest((spec,), loaded, whole=False, who=who)


def ask_restart(
    name: str, loaded: Loaded, records: Mapping[str, Record], who: str, why: str
) -> PassRequest:
    """For a new process. Raises UsageError where there is nothing to restart."""
    spec = find_target(name, loaded, records)
    hold = _find_life(name, records).hold
    if hold is not None:
        raise UsageError(
            f"{name} was stopped by {hold.who or 'somebody'}"
            f"{f' ({hold.why})' if hold.why else ''}: ya-salt start {name}"
        )
    words = " ".join(why.split())
    reason = f"asked for by {who}{f': {words}' if words else ''}"
    return PassRequest((spec,), loaded, whole=False, restarts={name: reason}, who=who)


def ask_order(
    name: str, loaded: Loaded, records: Mapping[str, Record], order: Order
) -> PassRequest:
    """For what `order` says. Raises UsageError where it cannot be."""
    spec = find_target(name, loaded, records, is_stop=order.kind == "stop")
    if order.kind == "rollback":
        _check_generation(name, records.get(name, Record(name)), order.number)
    return PassRequest((spec,), loaded, whole=False, orders={name: order}, who=order.who)


def find_target(
    name: str, loaded: Loaded, records: Mapping[str, Record], *, is_stop: bool = False
) -> DaemonSpec:
    """The daemon's file; without one that can be used, what the last pass had of it.

    Raises UsageError where there is neither, or not enough.
    """
    spec = next((item for item in loaded.specs if item.name == name), None)
    if spec is None:
        record = records.get(name)
        spec = record.spec if record else None
        if spec is None:
            raise UsageError(say_unknown(name, loaded, records))
        if has_secrets(spec) and not is_stop:
            # The store keeps no values of secrets: it would be started without them.
            raise UsageError(
                f"{name} has no file that can be used, and its env_secret is nowhere else: put "
                f"{spec.path} right first"
            )
    if spec.delete_requested:
        raise UsageError(
            f"{spec.path} asks for the removal of {name} (meta.delete_requested): ya-salt apply"
        )
    return spec


def say_unknown(name: str, loaded: Loaded, seen: Collection[str]) -> str:
    """Why nothing is known of a daemon that is none of those that a pass has seen."""
    paths = [item.path for item in loaded.specs if item.name == name]
    if paths:
        return f"no pass has seen daemon {name} of {paths[0]} yet; ya-salt apply {name}"
    broken = [item for item in loaded.rejected if item.name == name]
    if broken:
        return (
            f"the file of {name} cannot be used, and no pass has seen it: {broken[0].problems[0]}"
        )
    known = {*seen, *(item.name for item in loaded.specs)}
    import difflib

    near = difflib.get_close_matches(name, sorted(known), 1)
    hint = f"did you mean {near[0]}?" if near else "ya-salt status lists those that are"
    return f"no daemon {name} is known here; {hint}"


def _find_life(name: str, records: Mapping[str, Record]) -> Life:
    record = records.get(name)
    return record.life if record else Life()


def _check_generation(name: str, record: Record, number: int) -> None:
    running = record.status.digest if record.status else ""
    known = [item.number for item in record.life.generations]
    others = [item for item in record.life.generations if item.digest != running]
    if number and number not in known:
        raise UsageError(
            f"{name} has no generation {number}; ya-salt generations {name} lists those it has"
        )
    if not number and not others:
        raise UsageError(f"nothing else of {name} was ready yet, so there is nothing to go back to")


_SPAN = re.compile(r"([0-9]{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_span(text: str) -> float:
    """Seconds of `90s`, `30m`, `2h`, `3d`. Raises UsageError."""
    found = _SPAN.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise UsageError(f"{text!r} is no span of time; write a number with s, m, h or d, as 2h")
    return float(int(found[1]) * _SECONDS[found[2]])
