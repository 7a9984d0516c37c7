"""The last stages of a pass: it is saved, whole or cut short, and told to those who watch."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from ya_salt.converge.generations import forget, keep_standing
from ya_salt.converge.host import Host, PassRequest
from ya_salt.converge.journal import (
    SAVED,
    Deed,
    Journal,
    list_events,
    list_left_to_apt,
    list_renewed,
    list_unsaved,
    load_last_causes,
)
from ya_salt.converge.recall import LEFT_TO_APT, RELEARNING
from ya_salt.converge.stages import Done
from ya_salt.converge.watching import note_told
from ya_salt.errors import PortoError, YaSaltError
from ya_salt.gate.client import load_memory as load_gate
from ya_salt.gate.memory import FACT as GATE
from ya_salt.gate.memory import describe_gate, encode_memory, find_gate_facts
from ya_salt.model import (
    ChangeLive,
    CreateContainer,
    DaemonPlan,
    DaemonStatus,
    Outcome,
    Portod,
    Record,
    ReplaceContainer,
    SignalContainer,
)
from ya_salt.monitoring.report import (
    ReportInput,
    list_sinks,
    load_memory,
    render_steady,
    report,
    save_hostname,
    save_memory,
)
from ya_salt.monitoring.sinks import Delivery
from ya_salt.quick_dataclass import replace
from ya_salt.store import LAST_PASS, Store, save_portod

_log = logging.getLogger("ya_salt.pass")

_MAKING = CreateContainer | ReplaceContainer | ChangeLive


def save(host: Host, request: PassRequest, store: Store, done: Done, started: float) -> str:
    """Write what changed, and nothing where nothing did; why it could not be written, or ""."""
    keep_standing(
        host.settings.state_dir, {name: record.life for name, record in done.records.items()}
    )
    with store.transaction():
        store.save_records(done.records.values())
        store.add_history(done.events)
        if done.recalled.deeds or done.result.touched:
            store.save_fact(SAVED, host.now())
        if request.whole:
            store.forget(_list_forgotten(done))
        if done.recalled.is_store_new and not done.recalled.blindness:
            store.save_fact(RELEARNING, False)
        store.save_fact(GATE, encode_memory(done.gate))
        save_memory(store, done.counters)
        save_hostname(store, done.recalled.hostname)
        now = Portod(done.result.before.portod, done.result.before.dynamic)
        if now != done.recalled.portod:
            save_portod(store, now)
        if request.whole:
            ended = _describe_pass(request, started, host.now(), done.result.ok)
            store.save_fact(LAST_PASS, ended)
    removed = [item.name for item in done.result.statuses if item.phase == "Removed"]
    for name in (*removed, *(_list_forgotten(done) if request.whole else ())):
        forget(host.settings.state_dir, name)
    return f"the store cannot be written: {store.trouble}" if store.trouble else ""


def _list_forgotten(done: Done) -> list[str]:
    known = {status.name for status in done.result.statuses}
    return [name for name in done.recalled.records if name not in known]


def save_cut_short(
    host: Host, request: PassRequest, store: Store, journal: Journal, error: BaseException
) -> None:
    """A pass that could not be made, or not to its end, is remembered and told, too."""
    words, is_interrupted = _describe_end(error)
    last = store.load_fact(LAST_PASS)
    since = last.get("portod_since") if isinstance(last, dict) else None
    ended = _describe_pass(request, journal.started, host.now(), ok=False, error=words)
    if is_interrupted:
        ended["result"] = "interrupted"
    if isinstance(error, PortoError):
        _log.error("pass: failed, portod cannot be asked: %s", error)
        ended["portod_since"] = since or journal.started
    with store.transaction():
        deeds = [*list_unsaved(journal.left, store), *journal.list_deeds()]
        store.add_history(list_events(deeds))
        store.save_records(_count_done(store, journal, request))
        store.save_records(_list_not_pending(store, deeds))
        left = list_left_to_apt(deeds)
        if left:
            store.save_fact(LEFT_TO_APT, [list(pair) for pair in left])
        store.save_fact(SAVED, host.now())
        store.save_fact(LAST_PASS, ended)
    if not store.trouble:
        journal.clear()
    saved = tuple(item.status for item in store.load_records().values() if item.status is not None)
    gate = find_gate_facts(host.settings.gate.type, load_gate(store))
    told = ReportInput(saved, ended, host.now(), gate)
    report(store, host.settings, load_memory(store), told)


def _describe_end(error: BaseException) -> tuple[str, bool]:
    """In words, and whether somebody ended it."""
    if isinstance(error, YaSaltError):
        return str(error), False
    if isinstance(error, Exception):
        return f"a bug in ya-salt: {error!r}", False
    return "interrupted: what had begun was brought to its end, the next pass does the rest", True


def _count_done(store: Store, journal: Journal, request: PassRequest) -> list[Record]:
    """Records with what was done before the pass was cut short, and from which spec."""
    memory, records, counted = load_memory(store), store.load_records(), []
    specs = {spec.name: spec for spec in request.targets}
    for name, results in journal.results.items():
        record = records.get(name, Record(name))
        done = Outcome(DaemonPlan(name), tuple(results))
        for item in results:
            if isinstance(item.step, SignalContainer) and item.is_done:
                record = replace(record, life=note_told(record.life, item.step.files))
        if not done.touched and not done.restarts and record == records.get(name):
            continue
        made = [item.step.spec for item in results if isinstance(item.step, _MAKING)]
        spec, status = made[-1] if made else specs.get(name), record.status
        if spec is not None and done.touched:
            # What runs now is to be held against what it was made from.
            status = status or DaemonStatus(name, wanted_version=spec.version, path=spec.path)
            record = replace(record, spec=spec, was_created=True)
        if status is not None:
            status = replace(status, restart_count=status.restart_count + done.restarts)
        is_pending = record.restart_pending and not done.touched
        counted.append(replace(record, restart_pending=is_pending, status=status))
    # What was counted here is not to be counted again by the look of the next pass.
    memory.drop_marks([record.name for record in counted])
    memory.see_statuses(
        [record.status for record in counted if record.status is not None], {}, {}, 0.0
    )
    save_memory(store, memory)
    return counted


def _list_not_pending(store: Store, deeds: Iterable[Deed]) -> list[Record]:
    """Records of daemons that wait for a restart which, as the deeds say, they have had."""
    records = store.load_records()
    return [
        replace(records[name], restart_pending=False, restart_reason="")
        for name in list_renewed(deeds)
        if name in records and records[name].restart_pending
    ]


def _describe_pass(
    request: PassRequest, started: float, ended: float, ok: bool, error: str = ""
) -> dict[str, object]:
    return {
        "started_at": started,
        "duration_s": round(ended - started, 3),
        "result": "ok" if ok else "failed",
        "error": error,
        "rejected": [[item.path, list(item.problems)] for item in request.loaded.rejected],
        "ignored": [[item.path, item.reason] for item in request.loaded.ignored],
    }


def report_pass(host: Host, request: PassRequest, store: Store, done: Done) -> tuple[Delivery, ...]:
    """Tell those who watch, also of daemons that this pass was not about."""
    others = {} if request.whole else done.recalled.records
    statuses = {name: item.status for name, item in others.items() if item.status is not None}
    statuses |= {status.name: status for status in done.result.statuses}
    gate = find_gate_facts(host.settings.gate.type, done.gate)
    told = ReportInput(
        tuple(statuses[name] for name in sorted(statuses)),
        store.load_fact(LAST_PASS),
        host.now(),
        gate,
    )
    return report(store, host.settings, done.counters, told, done.recalled.hostname)


def describe_left(
    host: Host, store: Store, done: Done, deliveries: Sequence[Delivery]
) -> dict[str, Any]:
    """What `quick.leave` asks for. `deliveries`: how those who watch took what they were told."""
    last, gate = store.load_fact(LAST_PASS), load_gate(store)
    kind = host.settings.gate.type
    found = ReportInput(done.result.statuses, last, host.now(), find_gate_facts(kind, gate))
    find_name = done.recalled.hostname.find
    return {
        "passed": last["started_at"],
        "sinks": list_sinks(load_memory(store)),
        "gate": describe_gate(kind, gate),
        "causes": load_last_causes(store, host.settings.state_dir),
        "steady": render_steady(host.settings, done.counters, found, deliveries, find_name),
    }
