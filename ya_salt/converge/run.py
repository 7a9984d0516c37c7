"""One pass over the host, as a straight line of stages. The only place that knows their order.

recall -> look and plan -> admit -> write down what is intended -> execute -> look again -> judge ->
tell the gate -> save -> tell monitoring. Each stage is a function from values to values.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import PurePath
from typing import Any

from ya_salt.converge import quick
from ya_salt.converge.changes import describe_changes
from ya_salt.converge.containers import await_last_death
from ya_salt.converge.daemon_data import (
    carry_state,
    drop_state,
    find_going_back,
    find_obstacle,
)
from ya_salt.converge.drift import has_secrets
from ya_salt.converge.execute import Tools, execute
from ya_salt.converge.generations import (
    begin_trials,
    forget,
    judge_rollbacks,
    judge_trials,
    keep_standing,
    relearn,
    remember_before,
    remember_ready,
)
from ya_salt.converge.host import (
    Host,
    PassRequest,
    PassResult,
    Rest,
    name_host,
    open_gate,
    settle_request,
)
from ya_salt.converge.host_key import make_key
from ya_salt.converge.journal import FILE_NAME as JOURNAL_NAME
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
from ya_salt.converge.lives import find_due, look_back
from ya_salt.converge.narrow import is_about_more, narrow, widen
from ya_salt.converge.observe import (
    Look,
    find_lost,
    look_at_containers,
    look_at_packages,
    look_at_use,
)
from ya_salt.converge.ordering import STARTS, Standing, list_order, stand
from ya_salt.converge.package_users import find_replaceable, list_packages_ever
from ya_salt.converge.plan import hold_packages
from ya_salt.converge.preview import (
    Looked,
    look_and_plan,
    look_for_troubles,
    put_off,
    say_gate,
    say_left,
    say_life,
    say_transition,
)
from ya_salt.converge.probing import Prober
from ya_salt.converge.readiness import (
    advance,
    is_due,
    is_ready,
    is_to_be_asked,
    pick_newer,
)
from ya_salt.converge.status import (
    make_bug_status,
    make_status,
    make_unmanaged_status,
)
from ya_salt.converge.trials import REJECTED, describe_rejection, is_hopeless, is_lost
from ya_salt.converge.watched_files import look_once
from ya_salt.converge.watching import note_told
from ya_salt.errors import (
    PortoError,
    PortoUnavailableError,
    PortoUnknownFateError,
    YaSaltError,
    describe_bug,
)
from ya_salt.gate.client import (
    DaemonResult,
    Permits,
    Settlement,
    Work,
    admit,
    recall_slots,
    report_results,
)
from ya_salt.gate.client import load_memory as load_gate
from ya_salt.gate.memory import FACT as GATE
from ya_salt.gate.memory import GateMemory, describe_gate, encode_memory, find_gate_facts
from ya_salt.gate.requests import keep_since, pin_waiting
from ya_salt.hostname import HostName
from ya_salt.life import Change, Life
from ya_salt.lock import hold_lock
from ya_salt.model import (
    Answer,
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
    Portod,
    Progress,
    PurgePackages,
    Record,
    Rejected,
    RemoveContainer,
    ReplaceContainer,
    SignalContainer,
    StartContainer,
    StepResult,
    WatchedFiles,
    describe_step,
)
from ya_salt.monitoring.counters import Memory
from ya_salt.monitoring.report import FACT as MONITORING
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
from ya_salt.packages.cache import find_protected
from ya_salt.packages.going_back import finish_going_back
from ya_salt.packages.keeping import keep_generations
from ya_salt.packages.transaction import PackagePass
from ya_salt.porto.client import PortoClient
from ya_salt.porto.glance import Glance
from ya_salt.quick_dataclass import dataclass
from ya_salt.readers import share
from ya_salt.store import FILE_NAME as STORE_NAME
from ya_salt.store import LAST_PASS, Store, load_portod, mask_record, open_store, save_portod
from ya_salt.text import join_words

_RELEARNING = "relearning"
"""The fact that says that a store has begun anew, and what only others know is not asked yet."""

_LEFT_TO_APT = "left_to_apt"
"""The fact that says whose packages apt was at work on when the last pass was told to end."""

_log = logging.getLogger("ya_salt.pass")


def run_pass(host: Host, request: PassRequest, lock_wait_s: float = 0.0) -> PassResult:
    """Make the targets true and say how they stand.

    A daemon's failure is in its status. Raises LockHeldError, StoreError, and PortoError where
    portod cannot be asked at all.
    """
    request = settle_request(request, host)
    with hold_lock(host.settings.state_dir, lock_wait_s) as left:
        request = narrow(host.settings, request, left)
        store = open_store(host.settings.state_dir)
        _share(host)
        try:
            return _run_locked(host, request, store)
        finally:
            store.close()


def _run_locked(host: Host, request: PassRequest, store: Store) -> PassResult:
    host.patience.renew()
    seen = quick.look_before(host.settings, request)
    started, done = host.now(), _make_round(host, request, store, None)
    results, request = [done.result], done.request
    while done.lost or done.left:
        # What failed is written down and told: now it is undone, as any pass would do it.
        request = replace(
            widen(request),
            orders={},
            restarts={},
            asks_all=False,
            left=done.left,
            awaited=done.awaited,
        )
        done = _make_round(host, request, store, started)
        results.append(done.result)
    deliveries = _report(host, request, store, done)
    _share(host)
    _leave(host, request, seen, done.result, lambda: _describe_left(host, store, done, deliveries))
    return _join(results)


def _share(host: Host) -> None:
    """Let the readers read; also a store that was made anew meanwhile."""
    share(host.settings.state_dir, (STORE_NAME, JOURNAL_NAME), host.settings.read_group)


def _leave(
    host: Host,
    request: PassRequest,
    seen: Glance | None,
    result: PassResult,
    tell: Callable[[], Mapping[str, Any]],
) -> None:
    """Write down how the host is left, for the next pass to be quick."""
    try:
        quick.leave(host.settings, request, seen, result, tell)
    except Exception:  # noqa: BLE001 - what spares the next pass work may not fail this one
        _log.exception("pass: the next one will not be quick: a bug in ya-salt")


def _describe_left(
    host: Host, store: Store, done: _Done, deliveries: Sequence[Delivery]
) -> dict[str, Any]:
    """What `quick.leave` asks for. `deliveries`: how those who watch took what they were told."""
    last, gate = store.load_fact(LAST_PASS), load_gate(store)
    kind = host.settings.gate.type
    found = ReportInput(done.result.statuses, last, host.now(), find_gate_facts(kind, gate))
    find_name = done.recalled.hostname.find
    return {
        "passed": last["started_at"],
        "sinks": list_sinks(store.load_fact(MONITORING)),
        "gate": describe_gate(kind, gate),
        "causes": load_last_causes(store, host.settings.state_dir),
        "steady": render_steady(host.settings, done.counters, found, deliveries, find_name),
    }


def _make_round(host: Host, request: PassRequest, store: Store, started: float | None) -> _Done:
    """Everything that a pass does, once. `started`: when the pass was, of a round that follows."""
    journal = Journal(host.settings.state_dir, host.now, request.who)
    try:
        with host.connect() as client:
            done = _make_pass(host, request, store, client, journal)
        began = journal.started if started is None else started
        problem = _save(host, request, store, done, began)
        if not problem:
            journal.clear()
    except BaseException as error:
        _save_cut_short(host, request, store, journal, error)
        raise
    finally:
        journal.close()
    return replace(done, result=replace(done.result, problems=(problem,) if problem else ()))


def _join(results: Sequence[PassResult]) -> PassResult:
    """One result of all rounds: how it stands at the end, and all that was done."""
    first, last = results[0], results[-1]
    actions: dict[str, tuple[str, ...]] = {}
    outcomes: dict[str, Outcome] = {}
    for result in results:
        for status in result.statuses:
            actions[status.name] = actions.get(status.name, ()) + status.actions
        for name, outcome in result.outcomes.items():
            before = outcomes[name].results if name in outcomes else ()
            outcomes[name] = replace(outcome, results=(*before, *outcome.results))
    return replace(
        last,
        statuses=tuple(replace(item, actions=actions.get(item.name, ())) for item in last.statuses),
        touched=frozenset().union(*(result.touched for result in results)),
        outcomes=outcomes,
        before=first.before,
    )


# -- the stages ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Recalled:
    """What is known before anybody has looked."""

    records: Mapping[str, Record]
    relearned: Mapping[str, Record]
    """Records that a lost store has to learn again."""
    is_store_new: bool
    """Whether something may be missing that no pass could make up for yet."""
    blindness: str
    """Why portod does not tell which daemons a lost store has forgotten; "" where it does."""
    portod: Portod
    counters: Memory
    gate: GateMemory
    hostname: HostName
    rejected: Mapping[str, tuple[str, ...]]
    """Path -> problems of files that the last pass could not use."""
    deeds: tuple[Deed, ...]
    """What a pass that was cut short has left in the journal."""


@dataclass(frozen=True)
class _Done:
    """Everything that a pass found and did, to be saved and told."""

    result: PassResult
    records: Mapping[str, Record]
    """Those that are new or changed."""
    events: Sequence[Event]
    counters: Memory
    gate: GateMemory
    recalled: _Recalled
    request: PassRequest
    """What it was about in the end."""
    lost: Mapping[str, str]
    """Daemon -> why its update was given up: another round undoes it."""
    left: Mapping[str, str]
    """Daemon -> why it was stopped, without a start so far: another round starts it."""
    awaited: frozenset[str]
    """Daemons that were started and are not ready yet, where they were not waited for."""


@dataclass(frozen=True)
class _Acted:
    """What was planned upon which host, what was done, and the host after it."""

    plans: Sequence[DaemonPlan]
    before: Observed
    after: Observed
    outcomes: Mapping[str, Outcome]
    troubles: Mapping[str, str]
    """Daemon -> what its container said last, where it does not run."""
    lost: Mapping[str, str]
    """Daemon -> why its update was given up in this round."""


@dataclass(frozen=True)
class _Seen:
    """What is looked at in the middle of the work, by any thread."""

    files: dict[str, WatchedFiles]
    """What daemons watch, as it was right before each was started."""
    lasts: list[Container]
    """Containers that went, as they were seen last."""


@dataclass(frozen=True)
class _Start:
    """What a pass goes by: the same from its first stage to its last."""

    host: Host
    request: PassRequest
    store: Store
    recalled: _Recalled

    @property
    def records(self) -> Mapping[str, Record]:
        return self.recalled.records

    def save_gate(self, memory: GateMemory) -> None:
        """Before the gate is asked: for whom, and under which name."""
        self.recalled.hostname.find()
        with self.store.transaction():
            self.store.save_fact(GATE, encode_memory(memory))
            save_hostname(self.store, self.recalled.hostname)

    def mark_restarts(self, names: Iterable[str]) -> None:
        """Whose process apt is about to leave outdated."""
        marked = [
            replace(self.records.get(name, Record(name)), restart_pending=True) for name in names
        ]
        with self.store.transaction():
            self.store.save_records(marked)


def _make_pass(
    host: Host, request: PassRequest, store: Store, client: PortoClient, journal: Journal
) -> _Done:
    _tell_outlived(host, store, journal)
    host.apt.tidy(host.progress)
    finish_going_back(host.apt)
    targets = [spec.name for spec in request.targets]
    recalled = _learn_answers(_recall(host, store, client, journal, targets), request)
    with (
        open_gate(host, recalled.gate, recalled.hostname) as gate,
        Prober(host.connect, host.now, host.listening) as prober,
    ):
        names = {*recalled.records, *targets}
        if any(has_secrets(spec) for spec in request.targets):
            make_key(host.settings.state_dir)
        slots = recall_slots(gate, recalled.gate, names, is_store_new=recalled.is_store_new)
        wanted, looked = _look(host, request, recalled, client, prober)
        request, before, plans = looked.request, looked.observed, looked.plans
        if looked.lost:
            plans = _leave_again(plans, request.left, looked.lost)
        if recalled.blindness:
            plans = hold_packages(plans, recalled.blindness, before)
        start = _Start(host, request, store, _count_cut_short(recalled, before, request.rest))
        _log_refusals(plans)
        if any(plan.steps for plan in plans):
            journal.open()
        work = Work(request.targets, plans, before, request.override_gate)
        permits = admit(gate, slots, work, start.save_gate, host.progress)
        plans = put_off(plans, permits.deferrals, before)
        before = _remember_before(host, request, plans, before)
        lives = begin_trials(request.targets, plans, before, looked.host, host.now())
        before = replace(before, lives=lives)
        start = _save_intent(start, plans, lives)
        with permits.keep_alive():
            outcomes, seen = _execute(start, plans, before, permits, journal, prober)
            after, outcomes = _look_again(start, client, before, outcomes, prober)
        _forget_gone(host, outcomes)
        after = replace(after, files={**after.files, **seen.files})
        _await_endings(client, request.targets, after)
        troubles = look_for_troubles(client, request.targets, after)
        lives = look_back(request.targets, after, outcomes, host.now())
        after = replace(after, lives=lives)
        after, lost = _judge_versions(start, looked, after, outcomes, troubles)
        _drop_copies(start, after.lives)
        outcomes = _blame(outcomes, lost, after)
        acted = _Acted(plans, before, after, outcomes, troubles, lost)
        left = {**(request.left if looked.lost else {}), **_list_left(outcomes)}
        is_asked = bool(left) or not request.waits
        awaited = _list_awaited(start, outcomes, after) if is_asked else frozenset()
        results = _judge(start, acted, awaited if left else frozenset())
        is_about_all = request.whole and request.rest is None
        settled = report_results(gate, permits, results, host.now(), is_whole=is_about_all)
    statuses = tuple(_with_standing(start, result.status, settled) for result in results)
    rest = _list_rest(start, client)
    return _Done(
        result=PassResult(
            tuple(sorted((*statuses, *rest), key=lambda status: status.name)),
            request.loaded.rejected if request.whole else (),
            frozenset(name for name, outcome in outcomes.items() if outcome.results),
            {**{item.name: Outcome(DaemonPlan(item.name)) for item in rest}, **outcomes},
            before,
            find_due(after, host.now()),
            after=after,
            coming=frozenset() if request.waits else _list_coming(awaited, after),
            targets=request.targets,
        ),
        records=_make_records(start, acted, statuses),
        events=_list_events(start, permits, journal, statuses, outcomes),
        counters=_count(start, acted, seen.lasts, statuses),
        gate=settled.memory,
        recalled=start.recalled,
        request=wanted,
        lost=lost,
        left=left,
        awaited=awaited,
    )


def _look(
    host: Host, request: PassRequest, recalled: _Recalled, client: PortoClient, prober: Prober
) -> tuple[PassRequest, Looked]:
    """What the pass is about, and what was found: all daemons, where a few do not make it up."""

    def look(request: PassRequest) -> Looked:
        return look_and_plan(
            host,
            request,
            recalled.records,
            recalled.portod,
            client,
            lambda request, observed: _ask_all(host, request, prober, observed),
            host.listening.serve,
        )

    request = request if _is_rest_known(request, recalled) else widen(request)
    looked = look(request)
    if request.rest is not None and (looked.lost or is_about_more(looked.plans)):
        request = widen(request)
        looked = look(request)
    return request, looked


def _is_rest_known(request: PassRequest, recalled: _Recalled) -> bool:
    """Whether the store tells of all daemons that the pass does not look at."""
    if request.rest is None:
        return True
    known = {name for name, item in recalled.records.items() if item.status is not None}
    return request.rest.changed.keys() <= known and not (recalled.is_store_new or recalled.deeds)


def _list_rest(start: _Start, client: PortoClient) -> list[DaemonStatus]:
    """The statuses of those that the pass does not look at: as they were, and what they use now."""
    rest, now = start.request.rest, start.host.now()
    if rest is None:
        return []
    names = sorted(rest.changed)
    try:
        used = look_at_use(client, names)
    except PortoError:
        used = {}
    return [
        replace(status, memory_bytes=memory_bytes, cpu_ns=cpu_ns, updated_at=now)
        for status in (start.records[name].status for name in names)
        if status is not None
        for memory_bytes, cpu_ns in [used.get(status.name, (None, None))]
    ]


def _tell_outlived(host: Host, store: Store, journal: Journal) -> None:
    """Note what became of an apt that outlived its pass, for those whom it was started for."""
    said = host.apt.take_result(host.progress)
    told = store.load_fact(_LEFT_TO_APT)
    begun = [*_read_pairs(told), *list_left_to_apt(list_unsaved(journal.left, store))]
    for name, what in dict.fromkeys(begun) if said else ():
        journal.note(name, f"{what}: {said}")
    if told:
        with store.transaction():
            store.save_fact(_LEFT_TO_APT, [])


def _read_pairs(fact: Any) -> list[tuple[str, str]]:
    try:
        return [(str(name), str(what)) for name, what in fact or ()]
    except (TypeError, ValueError):
        return []


# -- before the work -----------------------------------------------------------------------------


def _recall(
    host: Host, store: Store, client: PortoClient, journal: Journal, targets: Iterable[str]
) -> _Recalled:
    records = store.load_records()
    relearned: dict[str, Record] = {}
    blindness = ""
    is_new = store.rebuilt or store.load_fact(_RELEARNING) is True
    if is_new:
        # Should this pass not come to its end, the next one asks.
        with store.transaction():
            store.save_fact(_RELEARNING, True)
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
    return _Recalled(
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


def _learn_answers(recalled: _Recalled, request: PassRequest) -> _Recalled:
    """With what was learnt between passes; this one saves it."""
    changed = {}
    for name, probes in request.probes.items():
        record = recalled.records.get(name)
        if record is not None:
            newer = pick_newer(record.life.probes, probes)
            changed[name] = replace(record, life=replace(record.life, probes=newer))
    return replace(recalled, records={**recalled.records, **changed})


def _ask_all(
    host: Host, request: PassRequest, prober: Prober, observed: Observed
) -> dict[str, Answer]:
    """What the daemons say that run, all asked side by side."""

    def find_last(spec: DaemonSpec) -> float:
        probes = observed.lives.get(spec.name, Life()).probes
        return probes.asked_at if probes else 0.0

    for spec in sorted(request.targets, key=find_last):
        container = observed.containers.get(spec.name)
        life = observed.lives.get(spec.name, Life())
        if container is None or not is_to_be_asked(spec, container, life):
            continue
        if request.asks_all or is_due(spec, container, life, host.now()):
            prober.begin(spec, container)
    return prober.take_all(progress=host.progress)


def _read_rejected(store: Store) -> dict[str, tuple[str, ...]]:
    last = store.load_fact(LAST_PASS)
    try:
        return {path: tuple(problems) for path, problems in last["rejected"]} if last else {}
    except (TypeError, LookupError, ValueError):
        return {}


def _count_cut_short(recalled: _Recalled, before: Observed, rest: Rest | None) -> _Recalled:
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


def _log_refusals(plans: Iterable[DaemonPlan]) -> None:
    for plan in plans:
        if plan.refusal:
            _log.error("porto-daemon-%s: %s", plan.name, plan.refusal)


def _save_intent(start: _Start, plans: Iterable[DaemonPlan], lives: Mapping[str, Life]) -> _Start:
    """Write down whose containers are about to go, in case this process does not see the end.

    And what of their lives is new: an update that begins, an order.
    """
    busy = [plan.name for plan in plans if plan.steps]
    if not busy:
        return start
    counters, records = start.recalled.counters, start.records
    counters.mark_restarts(_list_replaced(plans))
    renewed = {
        name: replace(records.get(name, Record(name)), life=lives[name])
        for name in busy
        if name in lives and lives[name] != records.get(name, Record(name)).life
    }
    relearned = {**start.recalled.relearned, **renewed}
    with start.store.transaction():
        # What was made up for the pass before is counted in both, or in neither.
        start.store.save_records(relearned.values())
        save_memory(start.store, counters)
    recalled = replace(start.recalled, records={**records, **renewed}, relearned=relearned)
    return replace(start, recalled=recalled)


def _list_replaced(plans: Iterable[DaemonPlan]) -> list[str]:
    return [
        plan.name
        for plan in plans
        if any(isinstance(step, ReplaceContainer | ChangeLive) for step in plan.steps)
    ]


# -- the work ------------------------------------------------------------------------------------


def _execute(  # noqa: PLR0913, PLR0917 - what is done, upon what, and with what
    start: _Start,
    plans: Sequence[DaemonPlan],
    before: Observed,
    permits: Permits,
    journal: Journal,
    prober: Prober,
) -> tuple[dict[str, Outcome], _Seen]:
    """The outcome by daemon, and what was seen meanwhile."""
    seen = _Seen({}, [])
    if not any(plan.steps for plan in plans):
        return {plan.name: Outcome(plan) for plan in plans}, seen
    host = start.host
    watching = {spec.name: spec for spec in start.request.targets if spec.watch}

    def see_files(name: str) -> None:
        if name in watching:
            life = before.lives.get(name, Life())
            seen.files[name] = look_once(watching[name], life, host.apt)

    state_dir = host.settings.state_dir
    tools = Tools(
        packages=PackagePass(
            replace(host.apt, protected=find_protected(before.lives.values())),
            host.progress,
            {**_pin_versions(start), **pin_waiting(plans, before)},
            find_replaceable(start.request.targets, start.request.context, before),
            find_going_back(before.lives),
        ),
        connect=host.connect,
        progress=host.progress,
        journal=journal,
        mark_restarts=start.mark_restarts,
        parallel=host.settings.parallel,
        order=list_order(_list_specs(start).values()),
        look=_Others(start, plans, before, prober).look,
        insistent=start.request.left,
        permit=permits.check,
        see_last=seen.lasts.append,
        see_files=see_files,
        while_down=lambda spec: carry_state(state_dir, spec, before.lives[spec.name]),
        find_obstacle=lambda spec: find_obstacle(state_dir, spec, before.lives[spec.name]),
        roots=("/", host.settings.root),
    )
    return execute(plans, before, tools), seen


def _forget_gone(host: Host, outcomes: Mapping[str, Outcome]) -> None:
    """Nobody speaks any more for a daemon that was removed."""
    for name, outcome in outcomes.items():
        for item in outcome.results:
            if isinstance(item.step, RemoveContainer) and item.is_done:
                host.listening.forget(name)


def _drop_copies(start: _Start, after: Mapping[str, Life]) -> None:
    """What was kept for going back and is of no use any more."""
    for name, record in start.records.items():
        if _is_open(record.life) and not _is_open(after.get(name, Life())):
            drop_state(start.host.settings.state_dir, name)
    apt = replace(start.host.apt, protected=find_protected(after.values()))
    apt.cache.expire(start.host.now())


def _is_open(life: Life) -> bool:
    """Whether it may still come to going back, or has and stays so."""
    return not (life.trial is None and life.rejection is None and life.pin is None)


def _list_specs(start: _Start) -> dict[str, DaemonSpec]:
    """Of every daemon: of one whose file is gone or broken what was remembered."""
    remembered = {name: item.spec for name, item in start.records.items() if item.spec is not None}
    return {**remembered, **{spec.name: spec for spec in start.request.context}}


class _Others:
    """How daemons stand that others wait for, looked at while they are worked on."""

    def __init__(
        self, start: _Start, plans: Iterable[DaemonPlan], before: Observed, prober: Prober
    ) -> None:
        self._start, self._prober = start, prober
        self._specs = _list_specs(start)
        renewed = {
            plan.name for plan in plans if any(isinstance(step, STARTS) for step in plan.steps)
        }
        self._lives = {
            name: replace(life, probes=None) if name in renewed else life
            for name, life in before.lives.items()
        }
        self._answers: dict[str, Answer] = {}
        """Those that came while somebody else was looked at."""
        self._lock = threading.Lock()

    def look(self, names: Iterable[str]) -> dict[str, Standing]:
        """For any thread. What portod does not tell is nothing that is waited for."""
        names, host = tuple(names), self._start.host
        with self._lock:
            try:
                with host.connect() as client:
                    look = look_at_containers(client, (), names)
            except PortoError as error:
                look = Look(unknown={name: str(error) for name in names})
            self._answers |= self._prober.take()
            return {name: self._judge(name, look, self._answers.pop(name, None)) for name in names}

    def _judge(self, name: str, look: Look, answer: Answer | None) -> Standing:
        spec, container = self._specs.get(name), look.containers.get(name)
        life, now = self._lives.get(name, Life()), self._start.host.now()
        if spec is not None:
            life = replace(life, probes=advance(spec, container, life.probes, answer, now))
            self._lives[name] = life
            is_asked = container is not None and is_to_be_asked(spec, container, life)
            if container is not None and is_asked and is_due(spec, container, life, now):
                self._prober.begin(spec, container)
        standing = stand(name, spec, container, life, look.unknown.get(name, ""))
        if spec is None or standing.is_ready:
            return standing
        return replace(standing, is_lost=is_lost(life, spec, container, now))


def _pin_versions(start: _Start) -> dict[str, str]:
    """Versions that daemons which stand need: apt may not change them as a side effect.

    A valid file goes before what a daemon without one had.
    """
    context = start.request.context
    known = {spec.name for spec in context}
    others = (item.spec for item in start.records.values() if item.name not in known)
    specs = [*(spec for spec in others if spec), *context]
    return {
        package.name: package.version
        for spec in specs
        if not spec.delete_requested
        for package in spec.packages
    }


# -- looking at what became of it ----------------------------------------------------------------


def _look_again(
    start: _Start,
    client: PortoClient,
    before: Observed,
    outcomes: Mapping[str, Outcome],
    prober: Prober,
) -> tuple[Observed, dict[str, Outcome]]:
    awaited = start.request.awaited
    acted = {name: item for name, item in outcomes.items() if item.results or name in awaited}
    if not acted:
        return before, dict(outcomes)
    after, targets = before, start.request.targets
    if any(_changed_packages(outcome) for outcome in acted.values()):
        after = look_at_packages(before, targets, start.host.apt)
    try:
        specs = [spec for spec in targets if spec.name in acted]
        host = start.host
        is_hurried = host.is_hurried if start.request.waits else lambda: True
        wait = ReadyWait(client, prober, host.progress, host.now, is_hurried)
        look, lives = wait.run(specs, acted, before.lives, awaited)
    except PortoError as error:
        _log.error("pass: portod stopped answering: %s", error)
        blind = {name: _blind(item, error) for name, item in acted.items()}
        return after, {**outcomes, **blind}
    rest = {name: item for name, item in before.containers.items() if name not in acted}
    unknown = {name: why for name, why in before.unknown.items() if name not in acted}
    return replace(
        after,
        containers={**rest, **look.containers},
        unknown={**unknown, **look.unknown},
        lives={**before.lives, **lives},
    ), dict(outcomes)


def _changed_packages(outcome: Outcome) -> bool:
    return any(isinstance(item.step, InstallPackages | PurgePackages) for item in outcome.results)


def _blind(outcome: Outcome, error: PortoError) -> Outcome:
    last = outcome.results[-1]
    told = StepResult(last.step, error=f"cannot see how it stands: {error}", reason=error.code)
    return replace(outcome, results=(*outcome.results, told))


_POLL_S = 0.25
_HOPELESS = frozenset({"dead", "stopped"})
"""States that portod does not leave by itself: waiting for such a daemon is in vain."""


@dataclass(frozen=True)
class ReadyWait:
    """Waits for daemons that were worked on, and asks them meanwhile."""

    client: PortoClient
    prober: Prober
    progress: Progress
    now: Callable[[], float]
    is_hurried: Callable[[], bool] = lambda: False
    _early: dict[str, Answer] = field(default_factory=dict, init=False)
    """What was said by daemons that are not looked at until the end."""

    def run(
        self,
        specs: Sequence[DaemonSpec],
        outcomes: Mapping[str, Outcome],
        before: Mapping[str, Life],
        awaited: Collection[str] = (),
    ) -> tuple[Look, dict[str, Life]]:
        """The look at which none was worth waiting for any more, and what they said until then.

        `awaited` were started earlier. Raises PortoError.
        """
        started = time.monotonic()
        is_pressing = bool(_list_left(outcomes))
        # Of a new process nothing is known, whatever portod's whole seconds say.
        lives = {
            spec.name: replace(life, probes=None) if outcomes[spec.name].touched else life
            for spec in specs
            for life in [before.get(spec.name, Life())]
        }
        candidates = [
            spec
            for spec in specs
            if (outcomes[spec.name].touched or spec.name in awaited)
            and not outcomes[spec.name].error
        ]
        look, asked = Look(), specs
        while True:
            look = self._look(look, asked, lives)
            elapsed = time.monotonic() - started
            waiting = [
                spec
                for spec in candidates
                if elapsed < spec.ready_timeout_s
                and _is_worth_waiting(spec, look, lives[spec.name], self.now())
            ]
            if is_pressing:
                # Somebody is down until the next round: it waits for the rest.
                waiting = _list_going_along(waiting, specs, look, lives, self.now())
            is_over = not waiting or self.is_hurried()
            if is_over and asked is specs:
                return look, lives
            if is_over:
                # What became of the others meanwhile.
                asked = specs
                continue
            asked = specs if len(waiting) == len(specs) else waiting
            self._ask(waiting, look, lives)
            self.progress(_describe_waiting(waiting, look.containers))
            time.sleep(_POLL_S)

    def _look(self, last: Look, asked: Sequence[DaemonSpec], lives: dict[str, Life]) -> Look:
        """`last` with how these stand now; all answers that came meanwhile are taken."""
        names = {spec.name for spec in asked}
        now = look_at_containers(self.client, asked, names)
        containers = {name: item for name, item in last.containers.items() if name not in names}
        unknown = {name: why for name, why in last.unknown.items() if name not in names}
        look = Look({**containers, **now.containers}, {**unknown, **now.unknown})
        answers = self.prober.take()
        self._early.update({name: item for name, item in answers.items() if name not in names})
        for spec in asked:
            life, container = lives[spec.name], look.containers.get(spec.name)
            answer = answers.get(spec.name) or self._early.pop(spec.name, None)
            probes = advance(spec, container, life.probes, answer, self.now())
            lives[spec.name] = replace(life, probes=probes)
        return look

    def _ask(self, specs: Sequence[DaemonSpec], look: Look, lives: Mapping[str, Life]) -> None:
        for spec in specs:
            life, container = lives[spec.name], look.containers.get(spec.name)
            if container is None or not is_to_be_asked(spec, container, life):
                continue
            if is_due(spec, container, life, self.now()):
                self.prober.begin(spec, container)


def _list_left(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """Daemon -> why it was stopped, of those that wait for another round to be started."""
    return {
        name: f"{stopped.reason}; it waited for {outcome.blocked.removeprefix('waits for ')}"
        for name, outcome in outcomes.items()
        if outcome.is_down and outcome.blocked
        for stopped in [item.step for item in outcome.results if item.blocked]
    }


def _leave_again(
    plans: Iterable[DaemonPlan], left: Collection[str], lost: Iterable[str]
) -> tuple[DaemonPlan, ...]:
    """The plans without a start of those that were left for this round: the next one goes back."""
    words = f"waits for {join_words(sorted(lost))}, whose update fails"
    return tuple(
        replace(plan, steps=(), waiting=plan.steps, blocked=words) if plan.name in left else plan
        for plan in plans
    )


def _list_awaited(
    start: _Start, outcomes: Mapping[str, Outcome], after: Observed
) -> frozenset[str]:
    return frozenset(
        spec.name
        for spec in start.request.targets
        for container in [after.containers.get(spec.name)]
        if (outcomes[spec.name].touched or spec.name in start.request.awaited)
        and container is not None
        and container.state not in _HOPELESS
        and not is_ready(spec, container, after.lives.get(spec.name, Life()))
    )


def _list_coming(awaited: Iterable[str], after: Observed) -> frozenset[str]:
    """Those of them that have not died so far."""
    found = {name: after.containers[name] for name in awaited}
    return frozenset(
        name
        for name, item in found.items()
        if item.state in {"starting", "running"} and not item.respawn_count
    )


def _list_going_along(
    waiting: Iterable[DaemonSpec],
    specs: Iterable[DaemonSpec],
    look: Look,
    lives: Mapping[str, Life],
    now: float,
) -> list[DaemonSpec]:
    """Those that go back together with one that is lost, should they fail, too: of its packages."""
    shared = {
        package.name
        for spec in specs
        if is_lost(lives[spec.name], spec, look.containers.get(spec.name), now)
        for package in spec.packages
    }
    return [spec for spec in waiting if any(item.name in shared for item in spec.packages)]


def _is_worth_waiting(spec: DaemonSpec, look: Look, life: Life, now: float) -> bool:
    container = look.containers.get(spec.name)
    if container is None:
        return spec.name in look.unknown
    if container.state in _HOPELESS or is_ready(spec, container, life):
        return False
    return not is_lost(life, spec, container, now)


def _describe_waiting(specs: Sequence[DaemonSpec], containers: Mapping[str, Container]) -> str:
    shown = ", ".join(_describe_start(spec.name, containers.get(spec.name)) for spec in specs[:3])
    rest = f" and {len(specs) - 3} more" if len(specs) > 3 else ""
    return f"waiting until ready: {shown}{rest}"


def _describe_start(name: str, container: Container | None) -> str:
    if container is None:
        return f"{name} (portod does not tell its state)"
    return f"{name} ({container.state} {container.running_s} s)"


# -- judging -------------------------------------------------------------------------------------


def _judge_versions(
    start: _Start,
    looked: Looked,
    after: Observed,
    outcomes: Mapping[str, Outcome],
    troubles: Mapping[str, str],
) -> tuple[Observed, dict[str, str]]:
    """The host with what came of updates and of going back; daemon -> why an update is given up."""
    targets, now = start.request.targets, start.host.now()
    state_dir = start.host.settings.state_dir
    was = looked.observed.lives
    lives, lost = judge_trials(targets, after, was, outcomes, looked.host, troubles, state_dir, now)
    after = replace(after, lives=lives)
    after = replace(after, lives=judge_rollbacks(targets, after, outcomes, troubles, now))
    lives, fresh = remember_ready(state_dir, targets, after, outcomes, now)
    after = replace(after, lives=lives)
    versions = {name: version for item in fresh for name, version in item.packages.items()}
    is_idle = not any(outcome.results for outcome in outcomes.values())
    _keep_packages(start, versions, after, is_idle=is_idle)
    return after, {**looked.lost, **lost}


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


def _keep_packages(
    start: _Start, fresh: Mapping[str, str], after: Observed, *, is_idle: bool
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


def _remember_before(
    host: Host, request: PassRequest, plans: Iterable[DaemonPlan], before: Observed
) -> Observed:
    """The host with what runs remembered, where it is about to be changed."""
    busy = {plan.name for plan in plans if plan.steps}
    targets = [spec for spec in request.targets if spec.name in busy]
    state_dir, now = host.settings.state_dir, host.now()
    return replace(before, lives=remember_before(state_dir, targets, before, now))


def _await_endings(client: PortoClient, specs: Iterable[DaemonSpec], after: Observed) -> None:
    """See to it that portod tells how versions that are given up end: it does of dead ones only."""
    given_up = [
        spec.name
        for spec in specs
        for container in [after.containers.get(spec.name)]
        if container is not None
        and container.state != "dead"
        and is_hopeless(after.lives.get(spec.name, Life()), spec, container)
    ]
    with contextlib.suppress(PortoError):
        await_last_death(client, given_up)


def _blame(
    outcomes: Mapping[str, Outcome], lost: Mapping[str, str], after: Observed
) -> dict[str, Outcome]:
    """The outcomes, those of updates that are given up with that as their error."""
    blamed = {}
    for name in lost:
        life, outcome = after.lives[name], outcomes[name]
        words = describe_rejection(life.rejection, life)
        plan = replace(outcome.plan, refusal=words, refusal_reason=REJECTED)
        blamed[name] = replace(outcome, plan=plan)
        if outcome.plan.refusal_reason != REJECTED:
            _log.error("porto-daemon-%s: %s", name, words)
    return {**outcomes, **blamed}


def _judge(start: _Start, acted: _Acted, awaited: Collection[str]) -> list[DaemonResult]:
    """How every daemon stands that the pass is about; a whole pass is about all that are known."""
    now, after = start.host.now(), acted.after
    results = []
    for spec in start.request.targets:
        outcome = acted.outcomes[spec.name]
        previous = start.records.get(spec.name, Record(spec.name)).status
        trouble = acted.troubles.get(spec.name, "")
        try:
            status = make_status(spec, after, outcome, previous, now, trouble=trouble)
        except Exception as error:  # noqa: BLE001 - a bug met by one daemon must not stop the others
            _log.exception("porto-daemon-%s: how it stands cannot be said", spec.name)
            status = make_bug_status(spec, outcome, previous, describe_bug(error), now)
        life = after.lives.get(spec.name, Life())
        container, is_coming = after.containers.get(spec.name), spec.name in awaited
        results.append(DaemonResult(status, container, outcome, life, is_coming))
    if start.request.whole:
        results += _judge_unmanaged(start, after, now)
    return results


def _judge_unmanaged(start: _Start, after: Observed, now: float) -> list[DaemonResult]:
    """Daemons whose file is gone or broken, or that a state defines: they stay as they are."""
    valid = {spec.name for spec in start.request.context}
    broken = {item.name: item for item in start.request.loaded.rejected if item.name}
    paths = {item.path: item for item in start.request.loaded.rejected}
    results = []
    for name, record in start.records.items():
        if name in valid:
            continue
        rejected = broken.get(name) or paths.get(record.spec.path if record.spec else "")
        if rejected is None and _is_over(record, after):
            continue
        previous = record.status or DaemonStatus(name)
        error = rejected.problems[0] if rejected and rejected.problems else ""
        phase = "Rejected" if rejected else "Orphaned"
        if rejected is None and record.spec is not None and record.spec.is_from_state:
            # Its state speaks for it; nothing of this pass was about it.
            phase, error = "Managed", previous.error
        try:
            status = make_unmanaged_status(previous, phase, after, error, now)
        except Exception as bug:  # noqa: BLE001 - as above
            _log.exception("porto-daemon-%s: how it stands cannot be said", name)
            status = replace(previous, phase=phase, error=describe_bug(bug), updated_at=now)
        results.append(DaemonResult(status, after.containers.get(name)))
    return results


def _is_over(record: Record, after: Observed) -> bool:
    """Whether a daemon without a file can be forgotten: it is removed, gone, or was never ours."""
    if record.name in after.unknown:
        return False
    container = after.containers.get(record.name)
    if container is None or not container.is_ours:
        return True
    return record.status is not None and record.status.phase == "Removed"


def _with_standing(start: _Start, status: DaemonStatus, settled: Settlement) -> DaemonStatus:
    previous = start.records.get(status.name, Record(status.name)).status
    standing = settled.standings.get(status.name)
    return replace(status, gate=keep_since(standing, previous.gate if previous else None))


# -- remembering ---------------------------------------------------------------------------------


def _make_records(
    start: _Start, acted: _Acted, statuses: Iterable[DaemonStatus]
) -> dict[str, Record]:
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
    start: _Start, acted: _Acted, spec: DaemonSpec, old: Record, status: DaemonStatus
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


_CHANGE_ENTRIES, _CHANGE_CHARS = 40, 200
"""So much of a change is remembered: enough to read, little enough for a thousand daemons."""


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


def _is_changed_under_it(spec: DaemonSpec, acted: _Acted, *, was: bool) -> bool:
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


def _list_events(
    start: _Start,
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


def _list_orders(start: _Start, at: float) -> list[Event]:
    """What somebody asked for by name; of stop and start the hold tells."""
    told = []
    for name, order in start.request.orders.items():
        if order.kind in {"retry", "rollback"}:
            to = f" to generation {order.number}" if order.number else ""
            told.append(Event(at, name, f"{order.kind}{to}: asked for", order.who))
    return told


def _find_author(start: _Start, text: str, name: str) -> str:
    """Who had done what is told of a daemon's life: a hold is begun and ended by an order."""
    order = start.request.orders.get(name)
    is_about_hold = text.startswith(("held by ", "its hold "))
    return order.who if order is not None and is_about_hold else ""


def _is_told(start: _Start, deed: Deed) -> bool:
    """Whether it failed as it did in the pass before: that is told once, not each minute."""
    old = start.records.get(deed.name, Record(deed.name)).status
    return deed.ended == "failed" and old is not None and old.error == deed.error


def _say_rejected(start: _Start) -> list[tuple[str, str]]:
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


def _count(
    start: _Start, acted: _Acted, lasts: Iterable[Container], statuses: Iterable[DaemonStatus]
) -> Memory:
    after, counters = acted.after, start.recalled.counters
    specs = {spec.name: spec for spec in start.request.targets}
    # This process has lived to see the end: the statuses say what became of them.
    counters.drop_marks(_list_replaced(acted.plans))
    counters.see_containers(lasts)
    counters.see_containers(after.containers.values())
    counters.see_statuses(statuses, specs, after.containers, start.host.now())
    return counters


# -- saving and telling --------------------------------------------------------------------------


def _save(host: Host, request: PassRequest, store: Store, done: _Done, started: float) -> str:
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
            store.save_fact(_RELEARNING, False)
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


def _list_forgotten(done: _Done) -> list[str]:
    known = {status.name for status in done.result.statuses}
    return [name for name in done.recalled.records if name not in known]


def _save_cut_short(
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
            store.save_fact(_LEFT_TO_APT, [list(pair) for pair in left])
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


_MAKING = CreateContainer | ReplaceContainer | ChangeLive


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


def _report(host: Host, request: PassRequest, store: Store, done: _Done) -> tuple[Delivery, ...]:
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
