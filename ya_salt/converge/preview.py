"""Look at a host without changing it: how its daemons stand, what a pass would do, a report."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from ya_salt.converge.containers import describe_trouble
from ya_salt.converge.host import Host, PassRequest, name_host, open_gate, spell_packages
from ya_salt.converge.host_checks import find_missing_account, find_obstacle
from ya_salt.converge.host_key import load_key
from ya_salt.converge.journal import load_last_pass
from ya_salt.converge.lives import Intent, find_intents, look_ahead
from ya_salt.converge.observe import look_at_containers, look_at_packages, observe
from ya_salt.converge.ordering import hold_starts
from ya_salt.converge.plan import REFUSED, add_restarts, defer, hold_changes, make_plan
from ya_salt.converge.readiness import is_ready
from ya_salt.converge.status import make_status, make_unmanaged_status
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
from ya_salt.life import Life
from ya_salt.lock import hold_lock
from ya_salt.model import (
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
from ya_salt.store import Store, load_portod, open_store, read_store

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
        observed = look_at_packages(observed, specs, host.apt)
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


def plan_pass(host: Host, request: PassRequest) -> tuple[DaemonPlan, ...]:
    """What a pass would do now. Reads only, takes no lock. Raises PortoError, StoreError."""
    return preview_pass(host, request)[1]


def preview_pass(host: Host, request: PassRequest) -> tuple[Observed, tuple[DaemonPlan, ...]]:
    """`plan_pass`, with the host as it was planned upon; what the gate would put off is put off."""
    request = spell_packages(request, host.apt)
    store = read_store(host.settings.state_dir)
    records = store.load_records() if store else {}
    memory, portod = load_gate(store), load_portod(store)
    hostname = name_host(host, store, memory)
    if store:
        store.close()
    with host.connect() as client:
        observed, plans = look_and_plan(host, request, records, portod, client)
    with open_gate(host, memory, hostname) as gate:
        deferrals = preview_deferrals(gate, request.targets, plans, observed)
    plans = _note_unavailable(host, put_off(plans, deferrals, observed))
    return observed, _note_obstacles(host, plans)


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


def look_and_plan(  # noqa: PLR0913, PLR0917 - what is known, whom to ask
    host: Host,
    request: PassRequest,
    records: Mapping[str, Record],
    portod: Portod,
    client: PortoClient,
    ask: Callable[[Observed], Mapping[str, Answer]] = lambda _observed: {},
) -> tuple[Observed, tuple[DaemonPlan, ...]]:
    """Look once and plan once: by what portod said last of itself, which may change live.

    It is asked again only where something is to be changed, and planned again only where it has
    changed its mind: whether there are steps does not depend on that. `ask` asks the daemons that
    it finds running whether they are ready; only a pass does.
    """
    observed = observe(request.targets, records, host.apt, client)
    observed = replace(
        observed,
        key=load_key(host.settings.state_dir),
        portod=portod.version,
        dynamic=portod.dynamic,
        hostname=host.settings.hostname or socket.gethostname(),
    )
    context = (*request.context, *_list_rejected(request, records))
    observed = replace(observed, answers=ask(observed))
    now = host.now()
    observed = replace(observed, lives=look_ahead(request.targets, observed, request.orders, now))
    observed = look_at_files(request.targets, observed, host.apt, client)
    intents = find_intents(request.targets, observed, now)
    plans = _plan(request, context, observed, intents)
    if any(plan.steps for plan in plans):
        try:
            told = Portod(client.version(), client.list_dynamic())
        except (PortoUnavailableError, PortoUnknownFateError):
            raise
        except PortoError as error:
            return observed, hold_changes(plans, str(error), observed)
        observed = replace(observed, portod=told.version, dynamic=told.dynamic)
        if told != portod:
            plans = _plan(request, context, observed, intents)
    return observed, plans


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
    restarts = {
        name: reason
        for name, reason in {**asked, **request.restarts}.items()
        if name not in intents or not intents[name].held
    }
    plans = add_restarts(plans, request.targets, observed, restarts)
    return hold_starts(plans, context, observed)


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


def say_transition(name: str, old: DaemonStatus | None, new: DaemonStatus) -> list[str]:
    """Log how readiness changed, if it did; the same as sentences for the history."""
    was = old.ready if old else None
    ready = new.ready
    if ready is None or (was and (was.status, was.reason) == (ready.status, ready.reason)):
        return []
    if new.waits and was and was.status == ready.status:
        # That its change waits is told by itself, once.
        return []
    level = logging.INFO if ready.status or new.phase == "Removed" else logging.WARNING
    what = "ready" if ready.status else "not ready"
    _log.log(level, "porto-daemon-%s: %s reason=%s: %s", name, what, ready.reason, ready.message)
    return [f"{what} ({ready.reason}): {ready.message}"]
