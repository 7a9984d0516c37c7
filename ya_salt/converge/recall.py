"""The first stage of a pass: what is known before anybody has looked.

The store tells of it, the journal of a pass that was cut short, and portod where the store is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from ya_salt.converge.generations import relearn
from ya_salt.converge.host import Host, PassRequest, Rest, name_host
from ya_salt.converge.journal import Journal, list_left_to_apt, list_renewed, list_unsaved
from ya_salt.converge.observe import find_lost
from ya_salt.converge.readiness import pick_newer
from ya_salt.converge.stages import Recalled
from ya_salt.errors import PortoError, PortoUnavailableError, PortoUnknownFateError
from ya_salt.gate.client import load_memory as load_gate
from ya_salt.gate.memory import GateMemory
from ya_salt.model import Observed, Record
from ya_salt.monitoring.report import load_memory
from ya_salt.porto.client import PortoClient
from ya_salt.quick_dataclass import replace
from ya_salt.store import LAST_PASS, Store, load_portod

RELEARNING = "relearning"
"""The fact that says that a store has begun anew, and what only others know is not asked yet."""
LEFT_TO_APT = "left_to_apt"
"""The fact that says whose packages apt was at work on when the last pass was told to end."""
_log = logging.getLogger("ya_salt.pass")


def tell_outlived(host: Host, store: Store, journal: Journal) -> None:
    """Note what became of an apt that outlived its pass, for those whom it was started for."""
    said = host.apt.take_result(host.progress)
    told = store.load_fact(LEFT_TO_APT)
    begun = [*_read_pairs(told), *list_left_to_apt(list_unsaved(journal.left, store))]
    for name, what in dict.fromkeys(begun) if said else ():
        journal.note(name, f"{what}: {said}")
    if told:
        with store.transaction():
            store.save_fact(LEFT_TO_APT, [])


def _read_pairs(fact: Any) -> list[tuple[str, str]]:
    try:
        return [(str(name), str(what)) for name, what in fact or ()]
    except (TypeError, ValueError):
        return []


def recall(
    host: Host, store: Store, client: PortoClient, journal: Journal, targets: Iterable[str]
) -> Recalled:
    """What store, journal and, for a lost store, portod tell.

    Raises PortoUnavailableError and PortoUnknownFateError; another PortoError is its `blindness`.
    """
    records = store.load_records()
    relearned: dict[str, Record] = {}
    blindness = ""
    is_new = store.rebuilt or store.load_fact(RELEARNING) is True
    if is_new:
        # Should this pass not come to its end, the next one asks.
        with store.transaction():
            store.save_fact(RELEARNING, True)
        try:
            relearned = {
                name: item for name, item in find_lost(client).items() if name not in records
            }
        except (PortoUnavailableError, PortoUnknownFateError):
            raise
        except PortoError as error:
            blindness = f"the store is new, and portod does not tell which daemons it had: {error}"
            _log.error("pass: %s", blindness)
        known = {**{name: Record(name) for name in targets}, **relearned, **records}
        for name, kept in relearn(host.settings.state_dir).items():
            if name in known and not known[name].life.generations:
                life = replace(
                    known[name].life,
                    generations=kept.generations,
                    rejection=kept.rejection,
                    pin=kept.pin,
                )
                relearned[name] = replace(known[name], life=life)
    gate = load_gate(store)
    hostname = name_host(host, store, gate)
    if hostname.is_other_machine:
        gate = GateMemory()
    return Recalled(
        records={**records, **relearned},
        relearned=relearned,
        is_store_new=is_new,
        blindness=blindness,
        portod=load_portod(store),
        counters=load_memory(store),
        gate=gate,
        hostname=hostname,
        rejected=_read_rejected(store),
        deeds=list_unsaved(journal.left, store),
    )


def learn_answers(recalled: Recalled, request: PassRequest) -> Recalled:
    """With what was learnt between passes; this one saves it."""
    changed = {}
    for name, probes in request.probes.items():
        record = recalled.records.get(name)
        if record is not None:
            newer = pick_newer(record.life.probes, probes)
            changed[name] = replace(record, life=replace(record.life, probes=newer))
    return replace(recalled, records={**recalled.records, **changed})


def _read_rejected(store: Store) -> dict[str, tuple[str, ...]]:
    last = store.load_fact(LAST_PASS)
    try:
        return {path: tuple(problems) for path, problems in last["rejected"]} if last else {}
    except (TypeError, LookupError, ValueError):
        return {}


def count_cut_short(recalled: Recalled, before: Observed, rest: Rest | None) -> Recalled:
    """Count what portod counted since, and restarts of a pass that did not live to count them."""
    counters = recalled.counters
    there = {*before.containers, *before.unknown, *(rest.changed if rest else ())}
    is_begun_anew = recalled.is_store_new and not counters.counters
    made_up = counters.see_containers(before.containers.values())
    made_up |= counters.see_gone(there.__contains__)
    if is_begun_anew:
        # What was counted before it was lost has been told.
        counters.accept("yasm", counters.list_totals())
    renewed = made_up | list_renewed(recalled.deeds)
    changed = {
        name: _with_restart(record, is_counted=name in made_up)
        for name, record in recalled.records.items()
        if name in renewed
    }
    return replace(
        recalled,
        records={**recalled.records, **changed},
        relearned={**recalled.relearned, **changed},
    )


def _with_restart(record: Record, *, is_counted: bool) -> Record:
    """The record of a daemon that a pass has restarted without living to say so."""
    status = record.status
    if status is not None and is_counted:
        status = replace(status, restart_count=status.restart_count + 1)
    return replace(record, restart_pending=False, restart_reason="", status=status)
