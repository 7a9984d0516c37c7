"""What a pass has to write down of what it found and did: records, history and counts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import PurePath

from ya_salt.converge.changes import describe_changes
from ya_salt.converge.host import PassRequest
from ya_salt.converge.journal import Deed, Journal, list_events
from ya_salt.converge.package_users import list_packages_ever
from ya_salt.converge.preview import say_gate, say_left, say_life, say_transition
from ya_salt.converge.stages import Acted, Start
from ya_salt.gate.client import Permits
from ya_salt.life import Change, Life
from ya_salt.model import (
    ChangeLive,
    Container,
    CreateContainer,
    DaemonPlan,
    DaemonSpec,
    DaemonStatus,
    Event,
    InstallPackages,
    Observed,
    Outcome,
    Record,
    Rejected,
    ReplaceContainer,
    StartContainer,
    describe_step,
)
from ya_salt.monitoring.counters import Memory
from ya_salt.quick_dataclass import replace
from ya_salt.store import mask_record

_log = logging.getLogger("ya_salt.pass")

_CHANGE_ENTRIES, _CHANGE_CHARS = 40, 200
"""So much of a change is remembered: enough to read, little enough for a thousand daemons."""


def make_records(start: Start, acted: Acted, statuses: Iterable[DaemonStatus]) -> dict[str, Record]:
    """The records to save: those with anything new in them, but for the time of the look."""
    specs = {spec.name: spec for spec in start.request.targets}
    stale = {*start.recalled.relearned, *_list_marked(acted.plans)}
    made = {}
    for status in statuses:
        old = start.records.get(status.name, Record(status.name))
        spec = specs.get(status.name)
        record = replace(old, life=acted.after.lives.get(status.name, old.life), status=status)
        if spec is not None:
            try:
                record = _make_record(start, acted, spec, old, status)
            except Exception:  # noqa: BLE001 - as above
                _log.exception("porto-daemon-%s: a bug in ya-salt", status.name)
        is_known = status.name in start.records and status.name not in stale
        if not is_known or _without_time(old) != _without_time(record):
            made[status.name] = record
    return made


def _make_record(
    start: Start, acted: Acted, spec: DaemonSpec, old: Record, status: DaemonStatus
) -> Record:
    after, outcome = acted.after, acted.outcomes[spec.name]
    is_removed = status.phase == "Removed"
    container = after.containers.get(spec.name)
    is_there = container is not None and container.is_ours
    reason = _find_restart_reason(start.request, old, outcome)
    was_changed = _is_changed_under_it(spec, acted, was=old.restart_pending)
    record = replace(
        old,
        spec=spec,
        package_names=() if is_removed else list_packages_ever(spec, after),
        restart_pending=bool(reason) or was_changed,
        restart_reason=reason,
        was_created=not is_removed and (old.was_created or is_there),
        life=Life() if is_removed else acted.after.lives.get(spec.name, old.life),
        change=_find_change(start.request, spec, outcome, acted.before, old) or old.change,
        status=status,
    )
    # As the store keeps it, so that it can be compared with what is there.
    return mask_record(record)


def _find_change(
    request: PassRequest, spec: DaemonSpec, outcome: Outcome, before: Observed, old: Record
) -> Change | None:
    """What this pass did to the container, with values old and new; None where it did nothing."""
    renewing = CreateContainer | ReplaceContainer | ChangeLive | StartContainer
    is_left = outcome.is_down and bool(outcome.blocked)
    # What it was stopped for is told of the start that follows.
    done = [item.step for item in outcome.results if item.is_done or (is_left and item.blocked)]
    steps = [step for step in done if isinstance(step, renewing)]
    if not steps:
        return None
    if spec.name in request.left and old.change is not None:
        return replace(old.change, what=describe_step(steps[-1]))
    told = describe_changes(spec, done, before)
    is_new = any(isinstance(step, CreateContainer) for step in steps)
    # Of a new container everything is new, and stands in the file.
    values = {} if is_new else dict(told.get("container", {}))
    values |= {f"package {name}": item for name, item in told.get("packages", {}).items()}
    return Change(
        describe_step(steps[-1]),
        {
            name: (item["old"][:_CHANGE_CHARS], item["new"][:_CHANGE_CHARS])
            for name, item in list(values.items())[:_CHANGE_ENTRIES]
        },
    )


def _find_restart_reason(request: PassRequest, record: Record, outcome: Outcome) -> str:
    """Why it has to be restarted though nothing else will tell the next pass, or ""."""
    if outcome.touched:
        return ""
    if outcome.deferral is None and not outcome.blocked:
        return record.restart_reason
    return request.restarts.get(record.name, record.restart_reason)


def _is_changed_under_it(spec: DaemonSpec, acted: Acted, *, was: bool) -> bool:
    """Whether the process still runs from packages that were changed under it, now or before."""
    before, after, outcome = acted.before, acted.after, acted.outcomes[spec.name]
    is_there = spec.name in after.containers or spec.name in after.unknown
    if not is_there or outcome.touched:
        return False
    changed = any(
        before.packages.get(item.name) != after.packages.get(item.name) for item in spec.packages
    )
    return changed or was


def _without_time(record: Record) -> Record:
    if record.status is None:
        return record
    plain = replace(record.status, updated_at=0.0, memory_bytes=None, cpu_ns=None)
    return replace(record, status=plain)


def _list_marked(plans: Iterable[DaemonPlan]) -> set[str]:
    """Daemons whose records `mark_restarts` has written meanwhile."""
    return {
        plan.name for plan in plans if any(isinstance(step, InstallPackages) for step in plan.steps)
    }


def list_happened(
    start: Start,
    permits: Permits,
    journal: Journal,
    statuses: Iterable[DaemonStatus],
    outcomes: Mapping[str, Outcome],
) -> list[Event]:
    """What goes into the history, in the order in which it happened."""
    now = start.host.now()
    deeds = [deed for deed in journal.list_deeds() if not _is_told(start, deed)]
    events = [*list_events(start.recalled.deeds), *_list_orders(start, journal.started)]
    events += list_events(deeds)
    events += [
        Event(now, name, f"went past the gate: {start.request.override_gate}", start.request.who)
        for name in sorted(permits.went_past)
    ]
    for status in statuses:
        old = start.records.get(status.name, Record(status.name)).status
        outcome = outcomes.get(status.name)
        if outcome and outcome.plan.refusal and (old is None or old.error != outcome.error):
            events.append(Event(now, status.name, f"failed: {outcome.error}"))
        said = [
            *say_left(status.name, old, status),
            *say_life(status.name, old, status, now),
            *say_gate(status.name, old, status),
            *say_transition(status.name, old, status),
        ]
        events += [
            Event(now, status.name, text, _find_author(start, text, status.name)) for text in said
        ]
    return events + [Event(now, name, said) for name, said in _say_rejected(start)]


def _list_orders(start: Start, at: float) -> list[Event]:
    """What somebody asked for by name; of stop and start the hold tells."""
    told = []
    for name, order in start.request.orders.items():
        if order.kind in {"retry", "rollback"}:
            to = f" to generation {order.number}" if order.number else ""
            told.append(Event(at, name, f"{order.kind}{to}: asked for", order.who))
    return told


def _find_author(start: Start, text: str, name: str) -> str:
    """Who had done what is told of a daemon's life: a hold is begun and ended by an order."""
    order = start.request.orders.get(name)
    is_about_hold = text.startswith(("held by ", "its hold "))
    return order.who if order is not None and is_about_hold else ""


def _is_told(start: Start, deed: Deed) -> bool:
    """Whether it failed as it did in the pass before: that is told once, not each minute."""
    old = start.records.get(deed.name, Record(deed.name)).status
    return deed.ended == "failed" and old is not None and old.error == deed.error


def _say_rejected(start: Start) -> list[tuple[str, str]]:
    """Log the files that cannot be used and could be, or were not there, in the last pass."""
    if not start.request.whole:
        return []
    said = []
    for item in start.request.loaded.rejected:
        if start.recalled.rejected.get(item.path) == item.problems:
            continue
        name = item.name or PurePath(item.path).name
        for problem in item.problems:
            _log.error("porto-daemon-%s: rejected: %s", name, problem)
        said.append((name, f"rejected: {_shorten(item)}"))
    return said


def _shorten(item: Rejected) -> str:
    more = f" (and {len(item.problems) - 1} more)" if len(item.problems) > 1 else ""
    return f"{item.problems[0] if item.problems else item.path}{more}"


def count_pass(
    start: Start, acted: Acted, lasts: Iterable[Container], statuses: Iterable[DaemonStatus]
) -> Memory:
    """The counters with all that the pass has seen; `lasts`: containers that went."""
    after, counters = acted.after, start.recalled.counters
    specs = {spec.name: spec for spec in start.request.targets}
    # This process has lived to see the end: the statuses say what became of them.
    counters.drop_marks(list_replaced(acted.plans))
    counters.see_containers(lasts)
    counters.see_containers(after.containers.values())
    counters.see_statuses(statuses, specs, after.containers, start.host.now())
    return counters


def list_replaced(plans: Iterable[DaemonPlan]) -> list[str]:
    return [
        plan.name
        for plan in plans
        if any(isinstance(step, ReplaceContainer | ChangeLive) for step in plan.steps)
    ]
