"""One pass over the host, as a straight line of stages. The only place that knows their order.

recall -> look and plan -> admit -> write down what is intended -> execute -> look again -> judge ->
tell the gate -> save -> tell monitoring. Each stage is a function from values to values.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ya_salt.converge import quick
from ya_salt.converge.acting import do_work, drop_copies, forget_gone
from ya_salt.converge.drift import has_secrets
from ya_salt.converge.generations import begin_trials, remember_before
from ya_salt.converge.host import Host, PassRequest, PassResult, open_gate, settle_request
from ya_salt.converge.host_key import make_key
from ya_salt.converge.journal import FILE_NAME as JOURNAL_NAME
from ya_salt.converge.journal import Journal
from ya_salt.converge.judging import (
    await_endings,
    blame,
    judge_daemons,
    judge_versions,
    with_standing,
)
from ya_salt.converge.lives import find_due, look_back
from ya_salt.converge.look_again import (
    leave_again,
    list_awaited,
    list_coming,
    list_left,
    look_again,
)
from ya_salt.converge.narrow import is_about_more, narrow, widen
from ya_salt.converge.observe import look_at_use
from ya_salt.converge.plan import hold_packages
from ya_salt.converge.preview import Looked, look_and_plan, look_for_troubles, put_off
from ya_salt.converge.probing import Prober
from ya_salt.converge.readiness import is_due, is_to_be_asked
from ya_salt.converge.recall import count_cut_short, learn_answers, recall, tell_outlived
from ya_salt.converge.recording import count_pass, list_happened, list_replaced, make_records
from ya_salt.converge.saving import describe_left, report_pass, save, save_cut_short
from ya_salt.converge.stages import Acted, Done, Recalled, Start
from ya_salt.errors import PortoError
from ya_salt.gate.client import Work, admit, recall_slots, report_results
from ya_salt.life import Life
from ya_salt.lock import hold_lock
from ya_salt.model import Answer, DaemonPlan, DaemonSpec, DaemonStatus, Observed, Outcome, Record
from ya_salt.monitoring.report import save_memory
from ya_salt.packages.locks import find_holder
from ya_salt.porto.client import PortoClient
from ya_salt.porto.glance import Glance
from ya_salt.quick_dataclass import replace
from ya_salt.readers import share
from ya_salt.store import FILE_NAME as STORE_NAME
from ya_salt.store import Store, open_store

_log = logging.getLogger("ya_salt.pass")


def run_pass(host: Host, request: PassRequest, lock_wait_s: float = 0.0) -> PassResult:
    """Make the targets true and say how they stand.

    A daemon's failure is in its status. Raises LockHeldError, StoreError, and PortoError where
    portod cannot be asked at all.
    """
    request = settle_request(request, host)
    with hold_lock(host.settings.state_dir, lock_wait_s) as left:
        request = narrow(host.settings, request, left)
        if request.rest is None:
            # Whoever looks at everything looks at packages, too.
            host.known_packages.forget()
        store = open_store(host.settings.state_dir, host.kept_store)
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
    deliveries = report_pass(host, request, store, done)
    _share(host)
    _leave(host, request, seen, done.result, lambda: describe_left(host, store, done, deliveries))
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


def _make_round(host: Host, request: PassRequest, store: Store, started: float | None) -> Done:
    """Everything that a pass does, once. `started`: when the pass was, of a round that follows."""
    journal = Journal(host.settings.state_dir, host.now, request.who)
    try:
        return _carry_out(host, request, store, started, journal)
    except Exception:
        raise
    except BaseException:
        _start_left(host, request, store, journal)
        raise


def _carry_out(
    host: Host, request: PassRequest, store: Store, started: float | None, journal: Journal
) -> Done:
    try:
        with host.connect() as client:
            done = _make_pass(host, request, store, client, journal)
        began = journal.started if started is None else started
        problem = save(host, request, store, done, began)
        if not problem:
            journal.clear()
    except BaseException as error:
        save_cut_short(host, request, store, journal, error)
        raise
    finally:
        journal.close()
    return replace(done, result=replace(done.result, problems=(problem,) if problem else ()))


def _start_left(host: Host, request: PassRequest, store: Store, journal: Journal) -> None:
    """Told to end: start those that were stopped for a round that does not come any more.

    Nobody is waited for, as nobody else is worked on: the next pass does the rest.
    """
    done = {name: Outcome(DaemonPlan(name), (*made,)) for name, made in journal.results.items()}
    started = {name for name, outcome in done.items() if outcome.touched}
    left = {
        name: why
        for name, why in {**request.left, **list_left(done)}.items()
        if name not in started
    }
    targets = tuple(replace(spec, after=()) for spec in request.targets if spec.name in left)
    if not targets:
        return
    if find_holder(host.apt.place.transaction_locks):
        # An apt that outlives us would be waited for.
        for name in sorted(left):
            _log.error(
                "porto-daemon-%s: DOWN until the next pass: apt is at work, and whoever is told to "
                "end waits for nobody; once it is done: ya-salt apply",
                name,
            )
        return
    last = PassRequest(
        targets,
        request.loaded,
        whole=False,
        who=request.who,
        override_gate=request.override_gate,
        waits=False,
        asks_all=False,
        left=left,
    )
    try:
        again = Journal(host.settings.state_dir, host.now, request.who)
        _carry_out(host, last, store, journal.started, again)
    except Exception:  # noqa: BLE001 - it is on its way out, and has said why
        for name in sorted(left):
            _log.exception(
                "porto-daemon-%s: DOWN: told to end, it could not be started; what is to be done "
                "about it: ya-salt apply",
                name,
            )


def _join(results: Sequence[PassResult]) -> PassResult:
    """One result of all rounds: how it stands at the end, and all that was done."""
    first, last = results[0], results[-1]
    if first is last:
        return last
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


def _make_pass(
    host: Host, request: PassRequest, store: Store, client: PortoClient, journal: Journal
) -> Done:
    tell_outlived(host, store, journal)
    host.apt.tidy(host.progress)
    if host.apt.is_going_back:
        from ya_salt.packages.going_back import finish_going_back

        finish_going_back(host.apt)
    targets = [spec.name for spec in request.targets]
    recalled = learn_answers(recall(host, store, client, journal, targets), request)
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
            plans = leave_again(plans, request.left, looked.lost)
        if recalled.blindness:
            plans = hold_packages(plans, recalled.blindness, before)
        start = Start(host, request, store, count_cut_short(recalled, before, request.rest))
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
            outcomes, seen = do_work(start, plans, before, permits, journal, prober)
            after, outcomes = look_again(start, client, before, outcomes, prober)
        forget_gone(host, outcomes)
        after = replace(after, files={**after.files, **seen.files})
        await_endings(client, request.targets, after)
        troubles = look_for_troubles(client, request.targets, after)
        lives = look_back(request.targets, after, outcomes, host.now())
        after = replace(after, lives=lives)
        after, lost = judge_versions(start, looked, after, outcomes, troubles)
        drop_copies(start, after.lives)
        outcomes = blame(outcomes, lost, after)
        acted = Acted(plans, before, after, outcomes, troubles, lost)
        left = {**(request.left if looked.lost else {}), **list_left(outcomes)}
        is_asked = bool(left) or not request.waits
        awaited = list_awaited(start, outcomes, after) if is_asked else frozenset()
        results = judge_daemons(start, acted, awaited if left else frozenset())
        is_about_all = request.whole and request.rest is None
        settled = report_results(gate, permits, results, host.now(), is_whole=is_about_all)
    statuses = tuple(with_standing(start, result.status, settled) for result in results)
    rest = _list_rest(start, client)
    return Done(
        result=PassResult(
            tuple(sorted((*statuses, *rest), key=lambda status: status.name)),
            request.loaded.rejected if request.whole else (),
            frozenset(name for name, outcome in outcomes.items() if outcome.results),
            outcomes,
            before,
            find_due(after, host.now()),
            after=after,
            coming=frozenset() if request.waits else list_coming(awaited, after),
            targets=request.targets,
        ),
        records=make_records(start, acted, statuses),
        events=list_happened(start, permits, journal, statuses, outcomes),
        counters=count_pass(start, acted, seen.lasts, statuses),
        gate=settled.memory,
        recalled=start.recalled,
        request=wanted,
        lost=lost,
        left=left,
        awaited=awaited,
    )


def _look(
    host: Host, request: PassRequest, recalled: Recalled, client: PortoClient, prober: Prober
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


def _is_rest_known(request: PassRequest, recalled: Recalled) -> bool:
    """Whether the store tells of all daemons that the pass does not look at."""
    if request.rest is None:
        return True
    known = {name for name, item in recalled.records.items() if item.status is not None}
    return request.rest.changed.keys() <= known and not (recalled.is_store_new or recalled.deeds)


def _list_rest(start: Start, client: PortoClient) -> list[DaemonStatus]:
    """The statuses of those that the pass does not look at: as they were, and what they use now."""
    rest, now = start.request.rest, start.host.now()
    if rest is None:
        return []
    records = start.records
    known = [
        status
        for name in sorted(rest.changed)
        for status in [records[name].status]
        if status is not None
    ]
    used: Mapping[str, Sequence[int | None]]
    try:
        used = look_at_use(client, start.host.settings.porto_socket, rest.changed)
    except PortoError:
        used = {}
    return [
        replace(status, memory_bytes=memory_bytes, cpu_ns=cpu_ns, updated_at=now)
        for status in known
        for memory_bytes, cpu_ns in [used.get(status.name, (None, None))]
    ]


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


def _log_refusals(plans: Iterable[DaemonPlan]) -> None:
    for plan in plans:
        if plan.refusal:
            _log.error("porto-daemon-%s: %s", plan.name, plan.refusal)


def _save_intent(start: Start, plans: Iterable[DaemonPlan], lives: Mapping[str, Life]) -> Start:
    """Write down whose containers are about to go, in case this process does not see the end.

    And what of their lives is new: an update that begins, an order.
    """
    busy = [plan.name for plan in plans if plan.steps]
    if not busy:
        return start
    counters, records = start.recalled.counters, start.records
    counters.mark_restarts(list_replaced(plans))
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


def _remember_before(
    host: Host, request: PassRequest, plans: Iterable[DaemonPlan], before: Observed
) -> Observed:
    """The host with what runs remembered, where it is about to be changed."""
    busy = {plan.name for plan in plans if plan.steps}
    targets = [spec for spec in request.targets if spec.name in busy]
    state_dir, now = host.settings.state_dir, host.now()
    return replace(before, lives=remember_before(state_dir, targets, before, now))
