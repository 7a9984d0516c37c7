"""Look at a host without changing it: how its daemons stand, what a pass would do, a report."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence

from ya_salt.converge.containers import describe_trouble
from ya_salt.converge.drift_policy import (
    describe_drift,
    find_left,
    forget,
    note_drift,
    say_drift,
)
from ya_salt.converge.generations import judge_trials, load_chosen, name_boot, relearn
from ya_salt.converge.holds import describe_end, describe_hold
from ya_salt.converge.host import Host, PassRequest, name_host, open_gate, settle_request
from ya_salt.converge.host_checks import find_missing_account, find_obstacle
from ya_salt.converge.host_key import load_key
from ya_salt.converge.journal import load_last_pass
from ya_salt.converge.listening import NO_AGENT, put_socket
from ya_salt.converge.lives import Intent, find_intents, look_ahead
from ya_salt.converge.observe import look_at_containers, look_at_packages, observe
from ya_salt.converge.ordering import hold_starts
from ya_salt.converge.package_users import find_missing
from ya_salt.converge.plan import (
    REFUSED,
    add_restarts,
    defer,
    hold_all,
    hold_changes,
    make_plan,
)
from ya_salt.converge.readiness import is_ready
from ya_salt.converge.status import make_status, make_unmanaged_status
from ya_salt.converge.trials import (
    REJECTED,
    ROLLBACK_FAILED,
    InEffect,
    choose_specs,
    describe_in_effect,
    describe_rejection,
    describe_way_back,
    find_way_back,
    follow_orders,
    is_update,
    make_version_mark,
)
from ya_salt.converge.watched_files import look_at_files
from ya_salt.errors import (
    PackageError,
    PortoError,
    PortoUnavailableError,
    PortoUnknownFateError,
    StoreError,
    describe_bug,
)
from ya_salt.gate.client import load_memory as load_gate
from ya_salt.gate.client import preview_deferrals
from ya_salt.gate.memory import find_gate_facts
from ya_salt.life import Generation, Life
from ya_salt.lock import hold_lock
from ya_salt.messages import format_time
from ya_salt.model import (
    HELD,
    Answer,
    Container,
    CreateContainer,
    DaemonPlan,
    DaemonSpec,
    DaemonStatus,
    Deferral,
    Event,
    InstallPackages,
    Loaded,
    Observed,
    Outcome,
    Package,
    Portod,
    Record,
    ReplaceContainer,
)
from ya_salt.monitoring.report import ReportInput, load_memory, report, save_memory
from ya_salt.monitoring.sinks import Delivery
from ya_salt.porto.client import PortoClient
from ya_salt.quick_dataclass import dataclass, replace
from ya_salt.store import Store, load_portod, open_store, read_store
from ya_salt.text import count

_log = logging.getLogger("ya_salt.pass")


def look_now(host: Host, records: Mapping[str, Record]) -> list[DaemonStatus]:
    """How the daemons that the last pass knew stand at this moment. Reads only, keeps nothing.

    Raises PortoError where portod cannot be asked.
    """
    return _look_at_all(host, records)[0]


def _look_at_all(
    host: Host, records: Mapping[str, Record]
) -> tuple[list[DaemonStatus], Mapping[str, Container]]:
    specs = [record.spec for record in records.values() if record.spec is not None]
    with host.connect() as client:
        look = look_at_containers(client, (), records)
        # Nobody is asked here: what they said last, as far as it was this process, is what counts.
        lives = {name: record.life for name, record in records.items()}
        observed = Observed(
            containers=look.containers, unknown=look.unknown, records=records, lives=lives
        )
        observed = look_at_packages(observed, specs, host.query_packages)
        troubles = look_for_troubles(client, specs, observed)
        statuses = [
            _look_at_one(record, record.status, observed, troubles.get(record.name, ""), host.now())
            for record in records.values()
            if record.status is not None
        ]
    return statuses, observed.containers


def judge_file(status: DaemonStatus, loaded: Loaded) -> DaemonStatus:
    """The status by its file as it is now, which may be another than the last pass saw."""
    rejected = {item.path: item for item in loaded.rejected}.get(status.path)
    if rejected is not None and rejected.is_hidden:
        return status
    if rejected is not None and status.phase in {"Managed", "Orphaned"}:
        return replace(status, phase="Rejected", error="; ".join(rejected.problems[:1]))
    if rejected is None and status.phase == "Rejected":
        if all(spec.name != status.name for spec in loaded.specs):
            return replace(status, phase="Orphaned", error="")
        words = "its file was repaired after the last pass: the next one takes it up"
        return replace(status, phase="Managed", error="", warnings=(*status.warnings, words))
    return status


def report_now(host: Host, lock_wait_s: float = 0.0) -> tuple[Delivery, ...]:
    """Look at the host as it is now and tell every sink, as a pass does at its end.

    Raises LockHeldError, StoreError.
    """
    with hold_lock(host.settings.state_dir, lock_wait_s):
        known = read_store(host.settings.state_dir)
        if known is None:
            raise StoreError("no pass was made yet, so there is nothing to report: ya-salt apply")
        known.close()
        store = open_store(host.settings.state_dir)
        try:
            return _report_locked(host, store)
        finally:
            store.close()


def _report_locked(host: Host, store: Store) -> tuple[Delivery, ...]:
    records, memory = store.load_records(), load_memory(store)
    last_pass = load_last_pass(store, host.settings.state_dir)
    gate = find_gate_facts(host.settings.gate.type, load_gate(store))
    try:
        statuses, containers = _look_at_all(host, records)
    except PortoError as error:
        last_pass = {**(last_pass or {}), "error": str(error)}
        saved = [record.status for record in records.values() if record.status is not None]
        return report(
            store, host.settings, memory, ReportInput(tuple(saved), last_pass, host.now(), gate)
        )
    specs = {record.name: record.spec for record in records.values() if record.spec is not None}
    memory.see_containers(containers.values())
    memory.see_statuses(statuses, specs, containers, host.now())
    with store.transaction():
        _save_transitions(host, store, records, statuses)
        save_memory(store, memory)
    return report(
        store, host.settings, memory, ReportInput(tuple(statuses), last_pass, host.now(), gate)
    )


def _save_transitions(
    host: Host, store: Store, records: Mapping[str, Record], statuses: Iterable[DaemonStatus]
) -> None:
    """What became ready, or ceased to be, since the last pass: kept, so that it is told once."""
    for status in statuses:
        record = records[status.name]
        now = host.now()
        said = [
            Event(now, status.name, text)
            for text in say_transition(status.name, record.status, status)
        ]
        if said:
            store.add_history(said)
            store.save_records([replace(record, status=replace(status, updated_at=now))])


def _look_at_one(
    record: Record, last: DaemonStatus, observed: Observed, trouble: str, now: float
) -> DaemonStatus:
    if last.phase in {"Orphaned", "Rejected"} or record.spec is None:
        return make_unmanaged_status(last, last.phase, observed, last.error, now)
    if last.phase == "Removed":
        return last
    reason = last.ready.reason if last.error and last.ready else ""
    waits = Deferral(last.gate.reason, last.gate.message) if last.gate and last.waits else None
    plan = DaemonPlan(record.name, refusal=last.error, refusal_reason=reason, deferral=waits)
    outcome = Outcome(replace(plan, blocked=last.waits_for))
    status = make_status(record.spec, observed, outcome, last, now, trouble=trouble)
    return replace(
        status,
        actions=last.actions,
        warnings=last.warnings,
        updated_at=last.updated_at,
        gate=last.gate,
    )


def look_for_troubles(
    client: PortoClient, specs: Iterable[DaemonSpec], observed: Observed
) -> dict[str, str]:
    """Daemon -> what its container said last, where it does not run or keeps respawning."""
    troubles = {}
    for spec in specs:
        container = observed.containers.get(spec.name)
        life = observed.lives.get(spec.name, Life())
        if container is None or not _is_in_trouble(spec, container, life):
            continue
        try:
            troubles[spec.name] = describe_trouble(client, container.name, container.state)
        except Exception as error:  # noqa: BLE001 - a bug met by one daemon must not stop the others
            _log.exception("porto-daemon-%s: its last words cannot be told", spec.name)
            troubles[spec.name] = describe_bug(error)
    return troubles


def _is_in_trouble(spec: DaemonSpec, container: Container, life: Life) -> bool:
    if not container.is_ours or is_ready(spec, container, life):
        return False
    return container.state != "running" or container.respawn_count > 0


def say_gate(name: str, old: DaemonStatus | None, new: DaemonStatus) -> list[str]:
    """Log that a daemon's change waits, where that or its reason is new; the same as sentences."""
    was, gate = old.gate if old else None, new.gate
    if gate is None or (was and (was.state, was.reason) == (gate.state, gate.reason)):
        return []
    said = f"{gate.change}: gate: {gate.state}"
    said += f" ({gate.reason}): {gate.message}" if gate.reason else f": {gate.message}"
    level = logging.WARNING if gate.state == "failed" else logging.INFO
    _log.log(level, "porto-daemon-%s: %s", name, said)
    return [said]


def say_life(name: str, old: DaemonStatus | None, new: DaemonStatus, now: float) -> list[str]:
    """Log that somebody holds it or no longer, that it keeps dying or no longer; as sentences."""
    if new.phase == "Removed":
        return []
    held, holds_now = old.hold if old else None, new.hold
    was, keeps = old.crash if old else None, new.crash
    said = []
    if holds_now is not None and holds_now != held:
        words = describe_hold(holds_now)
        # The stop itself has said so, where it was done at once.
        said += [] if f"stop: {words}" in new.actions else [words]
    if held is not None and holds_now is None:
        said.append(describe_end(held, now))
    is_told = new.ready is not None and new.ready.reason == "CrashLooping"
    if was is None and keeps is not None and not is_told:
        words = f": {keeps.last_words}" if keeps.last_words else ""
        times = count(keeps.deaths, "time")
        said.append(f"keeps dying: {times} in a row since {format_time(keeps.since)}{words}")
    if was is not None and keeps is None and old is not None and old.digest == new.digest:
        times = count(was.deaths, "death")
        said.append(f"no longer keeps dying: {times} since {format_time(was.since)} are forgotten")
    for text in said:
        level = logging.WARNING if keeps is not None and was is None else logging.INFO
        _log.log(level, "porto-daemon-%s: %s", name, text)
    return said


def plan_pass(host: Host, request: PassRequest) -> tuple[DaemonPlan, ...]:
    """What a pass would do now. Reads only, takes no lock. Raises PortoError, StoreError."""
    return preview_pass(host, request).plans


def preview_pass(host: Host, request: PassRequest) -> Looked:
    """`plan_pass`, with the host as it was planned upon; what the gate would put off is put off."""
    request = settle_request(request, host)
    store = read_store(host.settings.state_dir)
    # Without a store a pass would learn from the generations what is not to be tried again.
    kept = {} if store else relearn(host.settings.state_dir)
    lost = {name: Record(name, life=life) for name, life in kept.items()}
    records = store.load_records() if store else lost
    memory, portod = load_gate(store), load_portod(store)
    hostname = name_host(host, store, memory)
    if store:
        store.close()
    with host.connect() as client:
        looked = look_and_plan(host, request, records, portod, client)
        if looked.lost:
            # A pass would tell of them first, and go on with what comes of it.
            lives = looked.observed.lives
            records = {
                name: replace(record, life=lives.get(name, record.life))
                for name, record in records.items()
            }
            again = replace(request, orders={}, restarts={})
            looked = look_and_plan(host, again, records, portod, client)
    request, observed, plans = looked.request, looked.observed, looked.plans
    with open_gate(host, memory, hostname) as gate:
        deferrals = preview_deferrals(gate, request.targets, plans, observed)
    plans = _note_unavailable(host, put_off(plans, deferrals, observed))
    plans = _note_way_back(host, request, plans, observed)
    plans = _note_in_effect(request, plans, observed)
    return replace(looked, plans=_note_obstacles(host, plans))


def _note_way_back(
    host: Host, request: PassRequest, plans: Sequence[DaemonPlan], observed: Observed
) -> tuple[DaemonPlan, ...]:
    """Say of each update whether it could be undone."""
    known = {spec.name: spec for spec in request.targets}
    noted = []
    for plan in plans:
        spec, life = known[plan.name], observed.lives.get(plan.name, Life())
        mark = make_version_mark(spec, observed.key)
        if is_update(spec, life, plan, observed, mark):
            back = find_way_back(life, mark)
            lost = _find_lost(host, back, observed) if back else {}
            words = describe_way_back(spec, life, mark, lost)
            plan = replace(plan, notes=(*plan.notes, words))  # noqa: PLW2901 - the same, and a note
        noted.append(plan)
    return tuple(noted)


def _note_in_effect(
    request: PassRequest, plans: Sequence[DaemonPlan], observed: Observed
) -> tuple[DaemonPlan, ...]:
    """Say where there is nothing to do though the file says something else than what runs."""
    known = {spec.name: spec for spec in request.targets}
    noted = []
    for plan in plans:
        spec, life = known[plan.name], observed.lives.get(plan.name, Life())
        if spec.generation and not (plan.steps or plan.waiting or plan.refusal or plan.notes):
            words = describe_in_effect(spec, life)
            plan = replace(plan, notes=words)  # noqa: PLW2901 - the same, and a note
        noted.append(plan)
    return tuple(noted)


def _note_obstacles(host: Host, plans: Sequence[DaemonPlan]) -> tuple[DaemonPlan, ...]:
    """Say what a start would lack (program, user, directory), unless packages may bring it."""
    noted = []
    for plan in plans:
        steps = (*plan.steps, *plan.waiting)
        starts = [step for step in steps if isinstance(step, CreateContainer | ReplaceContainer)]
        brings = any(isinstance(step, InstallPackages) for step in steps)
        obstacle = None
        if starts and not brings:
            spec, roots = starts[0].spec, ("/", host.settings.root)
            obstacle = find_missing_account(spec, roots) or find_obstacle(spec, roots)
        notes = (f"would fail: {obstacle.code}: {obstacle.message}",) if obstacle else ()
        noted.append(replace(plan, notes=(*plan.notes, *notes)))
    return tuple(noted)


def _note_unavailable(host: Host, plans: Sequence[DaemonPlan]) -> tuple[DaemonPlan, ...]:
    """Say of a version to be installed that apt has not heard of it: the pass may, or may not."""
    wanted = {
        plan.name: step.packages
        for plan in plans
        for step in (*plan.steps, *plan.waiting)
        if isinstance(step, InstallPackages)
    }
    try:
        missing = host.apt.find_unavailable({item for items in wanted.values() for item in items})
    except PackageError:  # Not even apt-cache: the pass will say so.
        return tuple(plans)
    return tuple(
        replace(plan, notes=(*plan.notes, *_list_missing(wanted.get(plan.name, ()), missing)))
        for plan in plans
    )


def _list_missing(packages: Iterable[Package], missing: Mapping[Package, str]) -> list[str]:
    return [missing[package] for package in packages if package in missing]


def put_off(
    plans: Sequence[DaemonPlan], deferrals: Mapping[str, Deferral], observed: Observed
) -> tuple[DaemonPlan, ...]:
    """The plans with what waits for the gate put off, but for repair."""
    return tuple(
        defer(plan, deferrals[plan.name], observed) if plan.name in deferrals else plan
        for plan in plans
    )


@dataclass(frozen=True)
class Looked:
    """The host as it was found, and what is to be done about it."""

    request: PassRequest
    """What the pass is about, with the specs that are in effect."""
    observed: Observed
    plans: tuple[DaemonPlan, ...]
    host: str
    """What tells this boot of the host and this start of portod from others."""
    lost: Mapping[str, str]
    """Daemon -> why its update is given up; it is told before anything is done about it."""


Listen = Callable[[Sequence[DaemonSpec]], Mapping[str, str]]
Ask = Callable[[PassRequest, Observed], Mapping[str, Answer]]


def _ask_nobody(_request: PassRequest, _observed: Observed) -> Mapping[str, Answer]:
    return {}


def look_and_plan(  # noqa: PLR0913, PLR0917 - what is known, whom to ask
    host: Host,
    request: PassRequest,
    records: Mapping[str, Record],
    portod: Portod,
    client: PortoClient,
    ask: Ask = _ask_nobody,
    listen: Listen | None = None,
) -> Looked:
    """Look once and plan once: by what portod said last of itself, which may change live.

    It is asked again only where something is to be changed, and planned again only where it has
    changed its mind: whether there are steps does not depend on that. `ask` asks the daemons that
    it finds running whether they are ready; only a pass does. `listen` has their sockets read, and
    says who is not heard; unless told otherwise it only looks.
    """
    listen = listen or host.listening.find_trouble
    state_dir, now = host.settings.state_dir, host.now()
    key = load_key(state_dir)
    lives = _follow_orders(request, records, key, now)
    known = {
        name: put_socket(found, host.settings.notify_dir)
        if isinstance(found, DaemonSpec)
        else found
        for name, found in load_chosen(state_dir, request.context, lives).items()
    }
    back = [spec for spec in known.values() if isinstance(spec, DaemonSpec)]
    names = {spec.name for spec in request.targets}
    wanted = [*request.targets, *(spec for spec in back if spec.name in names)]
    observed = observe(wanted, records, host.query_packages, client, _list_unseen(request))
    observed = replace(
        observed,
        key=key,
        portod=portod.version,
        dynamic=portod.dynamic,
        hostname=host.settings.hostname or socket.gethostname(),
        lives=lives,
    )
    in_effect = choose_specs(request.context, lives, known, observed)
    request = put_in_effect(request, in_effect)
    targets = request.targets
    observed = replace(observed, lives=_note_problems(observed.lives, in_effect))
    observed = replace(observed, answers=ask(request, observed))
    now = host.now()
    observed = replace(observed, lives=look_ahead(targets, observed, request.orders, now))
    observed = look_at_files(targets, observed, host.apt, client)
    here, lost = "", {}
    if any(life.trial is not None for life in observed.lives.values()):
        here = name_boot(client)
        on_trial = [spec for spec in targets if observed.lives[spec.name].trial is not None]
        troubles = look_for_troubles(client, on_trial, observed)
        judged = judge_trials(targets, observed, lives, {}, here, troubles, state_dir, now)
        observed, lost = replace(observed, lives=judged[0]), judged[1]
    asked = {name for name, order in request.orders.items() if order.kind == "retry"}
    lives = forget(targets, observed.lives, asked | request.restarts.keys(), now)
    observed = replace(observed, lives=lives, left=find_left(lives))
    context = (*request.context, *_list_rejected(request, records))
    intents = find_intents(targets, observed, now)
    unheard = listen(targets)

    def hold(plans: Sequence[DaemonPlan]) -> tuple[DaemonPlan, ...]:
        known = _hold_lost(_hold_unreadable(plans, in_effect, observed), lost, observed)
        return _hold_unheard(known, unheard, observed)

    plans = hold(_plan(request, context, observed, intents))
    if any(plan.steps for plan in plans):
        here = here or name_boot(client)
        try:
            told = Portod(client.version(), client.list_dynamic())
        except (PortoUnavailableError, PortoUnknownFateError):
            raise
        except PortoError as error:
            plans = hold_changes(plans, str(error), observed)
            return Looked(request, observed, plans, here, lost)
        observed = replace(observed, portod=told.version, dynamic=told.dynamic)
        if told != portod:
            plans = hold(_plan(request, context, observed, intents))
    return Looked(request, observed, _name_who(plans, host), here, lost)


def _list_unseen(request: PassRequest) -> set[str]:
    """Daemons that need not be looked at: they are as they were, and no target waits for them."""
    if request.rest is None:
        return set()
    specs = {spec.name: spec for spec in request.context}
    seen: set[str] = set()
    coming = [spec.name for spec in request.targets]
    while coming:
        name = coming.pop()
        if name not in seen:
            seen.add(name)
            coming += specs[name].after if name in specs else ()
    return request.rest.changed.keys() - seen


def _follow_orders(
    request: PassRequest, records: Mapping[str, Record], key: bytes, now: float
) -> dict[str, Life]:
    """The lives of all daemons before anybody has looked at the host."""
    lives = {name: record.life for name, record in records.items()}
    for spec in request.context:
        order = request.orders.get(spec.name)
        lives[spec.name] = follow_orders(spec, lives.get(spec.name) or Life(), order, key, now)
    return lives


def put_in_effect(request: PassRequest, in_effect: InEffect) -> PassRequest:
    """The request with the specs that are in effect in the place of those of the files."""
    known = {spec.name: spec for spec in in_effect.specs}
    return replace(
        request,
        targets=tuple(known[spec.name] for spec in request.targets),
        loaded=replace(
            request.loaded, specs=tuple(known[spec.name] for spec in request.loaded.specs)
        ),
    )


def _note_problems(lives: Mapping[str, Life], in_effect: InEffect) -> dict[str, Life]:
    """The lives of daemons that cannot be taken back, with why."""
    problems = {**in_effect.kept, **in_effect.unreadable}
    return {
        name: replace(life, rejection=replace(life.rejection, problem=problems[name]))
        if life.rejection is not None and name in problems
        else life
        for name, life in lives.items()
    }


def _hold_unheard(
    plans: Sequence[DaemonPlan], unheard: Mapping[str, str], observed: Observed
) -> tuple[DaemonPlan, ...]:
    """The plans without what gives a new process to a daemon that nobody would hear."""
    words = {
        plan.name: unheard[plan.name]
        for plan in plans
        if plan.name in unheard
        and any(isinstance(step, CreateContainer | ReplaceContainer) for step in plan.steps)
    }
    return hold_all(plans, words, reason=NO_AGENT, observed=observed)


def _hold_unreadable(
    plans: Sequence[DaemonPlan], in_effect: InEffect, observed: Observed
) -> tuple[DaemonPlan, ...]:
    """The plans with nothing but repair for those whose generation cannot be read."""
    words = in_effect.unreadable
    held = hold_all(plans, words, ROLLBACK_FAILED, observed)
    return tuple(
        replace(plan, notes=(*plan.notes, in_effect.kept[plan.name]))
        if plan.name in in_effect.kept
        else plan
        for plan in held
    )


def _hold_lost(
    plans: Sequence[DaemonPlan], lost: Mapping[str, str], observed: Observed
) -> tuple[DaemonPlan, ...]:
    """The plans with nothing for those whose update was given up just now: first it is told."""
    words = {
        name: describe_rejection(observed.lives[name].rejection, observed.lives[name])
        for name in lost
    }
    return tuple(
        DaemonPlan(plan.name, refusal=words[plan.name], refusal_reason=REJECTED)
        if plan.name in words
        else plan
        for plan in plans
    )


def _plan(
    request: PassRequest,
    context: Sequence[DaemonSpec],
    observed: Observed,
    intents: Mapping[str, Intent],
) -> tuple[DaemonPlan, ...]:
    plans = make_plan(request.targets, context, observed, intents)
    asked = {
        plan.name: f"tried again, as {request.who or 'somebody'} asks"
        for plan in plans
        if plan.refusal_reason == REFUSED and _is_retried(plan.name, request)
    }
    plans = add_restarts(plans, request.targets, observed, {**asked, **request.restarts})
    missing = {
        spec.name: find_missing(spec, observed)
        for spec in request.targets
        if not observed.packages_error
    }
    plans = note_drift(plans, request.targets, missing, observed)
    return hold_starts(plans, context, observed, request.left)


def _name_who(plans: Iterable[DaemonPlan], host: Host) -> tuple[DaemonPlan, ...]:
    """The plans with who has changed a package, and what is left as it is in sentences."""
    return tuple(
        _name_who_of_one(plan, host)
        if plan.drift or any(isinstance(step, InstallPackages) for step in plan.steps)
        else plan
        for plan in plans
    )


def _find_lost(host: Host, back: Generation, observed: Observed) -> Mapping[str, str]:
    from ya_salt.packages.keeping import can_go_back

    return can_go_back(host.apt, back.packages, observed.packages)


def _name_who_of_one(plan: DaemonPlan, host: Host) -> DaemonPlan:
    from ya_salt.packages.logs import find_who

    notes = []
    root = host.apt.place.path
    for step in plan.steps:
        for name, (version, _) in step.theirs.items() if isinstance(step, InstallPackages) else ():
            who = find_who(root, name.removeprefix("package "), version)
            notes += [f"{name} was changed to {version or 'none'} by {who}"] if who else []
    drift = tuple(
        replace(item, by=find_who(root, item.what.removeprefix("package "), item.now))
        if item.what.startswith("package ")
        else item
        for item in plan.drift
    )
    notes += [describe_drift(item, plan.name, format_time(item.until)) for item in drift]
    return replace(plan, drift=drift, notes=(*plan.notes, *notes))


def _is_retried(name: str, request: PassRequest) -> bool:
    return name in request.orders and request.orders[name].kind == "retry"


def _list_rejected(request: PassRequest, records: Mapping[str, Record]) -> tuple[DaemonSpec, ...]:
    """The last good specs of daemons whose file is broken now: they still claim their packages."""
    broken = {item.path for item in request.loaded.rejected}
    valid = {spec.name for spec in request.context}
    return tuple(
        record.spec
        for record in records.values()
        if record.spec is not None and record.spec.path in broken and record.name not in valid
    )


def say_left(name: str, old: DaemonStatus | None, new: DaemonStatus) -> list[str]:
    """Log what somebody else has changed and is left as it is, once; the same as sentences."""
    said = [describe_drift(item, name, format_time(item.until)) for item in say_drift(old, new)]
    for text in said:
        _log.warning("porto-daemon-%s: %s", name, text)
    return said


def say_transition(name: str, old: DaemonStatus | None, new: DaemonStatus) -> list[str]:
    """Log how readiness changed, if it did; the same as sentences for the history."""
    was = old.ready if old else None
    ready = new.ready
    if ready is None or (was and (was.status, was.reason) == (ready.status, ready.reason)):
        return []
    if new.waits and was and was.status == ready.status:
        # That its change waits is told by itself, once.
        return []
    if ready.reason == HELD:
        # So is who holds it.
        return []
    level = logging.INFO if ready.status or new.phase == "Removed" else logging.WARNING
    what = "ready" if ready.status else "not ready"
    _log.log(level, "porto-daemon-%s: %s reason=%s: %s", name, what, ready.reason, ready.message)
    return [f"{what} ({ready.reason}): {ready.message}"]
