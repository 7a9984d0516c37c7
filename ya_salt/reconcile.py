"""One pass: load, observe, plan, execute, wait, tell. The only place that knows this order."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from ya_salt.containers import describe_trouble
from ya_salt.errors import PortoError, StoreError, YaSaltError
from ya_salt.execute import Progress, Tools, execute
from ya_salt.ledger import list_packages_ever
from ya_salt.lock import hold_lock
from ya_salt.model import (
    ChangeLive,
    Container,
    DaemonPlan,
    DaemonSpec,
    DaemonStatus,
    InstallPackages,
    Loaded,
    Observed,
    PurgePackages,
    Record,
    Rejected,
    ReplaceContainer,
    Settings,
    StepResult,
)
from ya_salt.monitoring.report import News, load_memory, report, save_memory
from ya_salt.monitoring.sinks import Delivery
from ya_salt.observe import find_lost, look_at_containers, look_at_packages, observe
from ya_salt.packages import Apt, PackagePass
from ya_salt.plan import add_restarts, make_plan
from ya_salt.porto.client import PortoClient
from ya_salt.status import Outcome, is_ready, make_status, make_unmanaged_status
from ya_salt.store import LAST_PASS, Store, mask_secrets, open_store, read_store

_POLL_S = 0.25
_HOPELESS = frozenset({"dead", "stopped"})
"""States that portod does not leave by itself: waiting for such a daemon is in vain."""

_log = logging.getLogger("ya_salt.pass")


@dataclass(frozen=True)
class Host:
    """What a pass needs of the world."""

    settings: Settings
    apt: Apt
    connect: Callable[[], PortoClient]
    progress: Progress = lambda _text: None
    now: Callable[[], float] = time.time


def make_host(settings: Settings, progress: Progress = lambda _text: None) -> Host:
    """Make the host that the settings describe."""
    return Host(
        settings=settings,
        apt=Apt(
            root=settings.root,
            lock_timeout_s=settings.lock_timeout_s,
            script_timeout_s=settings.script_timeout_s,
            allow_removals=frozenset(settings.allow_removals),
            cache_dir=f"{settings.state_dir}/debs",
            cache_max_bytes=settings.package_cache_bytes,
        ),
        connect=partial(PortoClient, settings.porto_socket),
        progress=progress,
    )


@dataclass(frozen=True)
class Scope:
    """What a pass is about: the specs to make true, and everything known of the rest.

    `whole` is false for `apply -f`: daemons that are not named are then neither touched nor judged.
    """

    targets: tuple[DaemonSpec, ...]
    loaded: Loaded
    whole: bool = True
    restarts: Mapping[str, str] = field(default_factory=dict)
    """Daemon -> why it gets a new process though nothing about it changed."""

    @property
    def context(self) -> tuple[DaemonSpec, ...]:
        """All valid specs of the host; a target goes before the file of the same daemon."""
        named = {spec.name for spec in self.targets}
        return (*self.targets, *(spec for spec in self.loaded.specs if spec.name not in named))


@dataclass(frozen=True)
class PassResult:
    """How a pass ended: the statuses of its daemons, in name order."""

    statuses: tuple[DaemonStatus, ...]
    rejected: tuple[Rejected, ...]
    touched: frozenset[str] = frozenset()
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    """What was planned and done, by daemon."""
    before: Observed = field(default_factory=Observed)
    """The host as it was planned upon."""

    @property
    def ok(self) -> bool:
        return not self.rejected and all(is_fine(status) for status in self.statuses)


def is_fine(status: DaemonStatus) -> bool:
    """Whether nobody has to look at this daemon."""
    if status.error:
        return False
    return status.phase in {"Removed", "Orphaned"} or (
        status.ready is not None and status.ready.status
    )


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
        observed = Observed(containers=look_at_containers(client, (), records), records=records)
        observed = look_at_packages(observed, specs, host.apt)
        statuses = [
            _look_at_one(client, record, record.status, observed, host.now())
            for record in records.values()
            if record.status is not None
        ]
    return statuses, observed.containers


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
    last_pass = store.load_fact(LAST_PASS)
    try:
        statuses, containers = _look_at_all(host, records)
    except PortoError as error:
        last_pass = {**(last_pass or {}), "error": str(error)}
        saved = [record.status for record in records.values() if record.status is not None]
        return report(store, host.settings, memory, News(tuple(saved), last_pass, host.now()))
    specs = {record.name: record.spec for record in records.values() if record.spec is not None}
    memory.see_containers(containers.values())
    memory.see_statuses(statuses, specs, containers, host.now())
    with store.transaction():
        _save_transitions(host, store, records, statuses)
        save_memory(store, memory)
    return report(store, host.settings, memory, News(tuple(statuses), last_pass, host.now()))


def _save_transitions(
    host: Host, store: Store, records: Mapping[str, Record], statuses: Iterable[DaemonStatus]
) -> None:
    """What became ready, or ceased to be, since the last pass: kept, so that it is told once."""
    for status in statuses:
        record = records[status.name]
        said = _log_transition(status.name, record.status, status)
        if said:
            now = host.now()
            store.add_history([(now, status.name, said)])
            store.save_records([replace(record, status=replace(status, updated_at=now))])


def _look_at_one(
    client: PortoClient, record: Record, last: DaemonStatus, observed: Observed, now: float
) -> DaemonStatus:
    container = observed.containers.get(record.name)
    if last.phase in {"Orphaned", "Rejected"} or record.spec is None:
        return make_unmanaged_status(last, last.phase, container, last.error, now)
    if last.phase == "Removed":
        return last
    reason = last.ready.reason if last.error and last.ready else ""
    outcome = Outcome(DaemonPlan(record.name, refusal=last.error, refusal_reason=reason))
    trouble = _find_trouble(client, record.spec, container)
    status = make_status(record.spec, observed, outcome, last, now, trouble=trouble)
    return replace(status, actions=last.actions, warnings=last.warnings, updated_at=last.updated_at)


def _find_trouble(client: PortoClient, spec: DaemonSpec, container: Container | None) -> str:
    """What a container that does not run, or keeps respawning, said last."""
    if container is None or not container.is_ours or is_ready(spec, container):
        return ""
    if container.state == "running" and not container.respawn_count:
        return ""
    return describe_trouble(client, container.name, container.state)


def plan_pass(host: Host, scope: Scope) -> tuple[DaemonPlan, ...]:
    """What a pass would do now. Reads only, takes no lock. Raises PortoError, StoreError."""
    return preview_pass(host, scope)[1]


def preview_pass(host: Host, scope: Scope) -> tuple[Observed, tuple[DaemonPlan, ...]]:
    """`plan_pass`, with the host as it was planned upon."""
    store = read_store(host.settings.state_dir)
    records = store.load_records() if store else {}
    if store:
        store.close()
    with host.connect() as client:
        return _look_and_plan(host, scope, records, client)


def _look_and_plan(
    host: Host, scope: Scope, records: Mapping[str, Record], client: PortoClient
) -> tuple[Observed, tuple[DaemonPlan, ...]]:
    """Look once; ask portod what may change live only where something is to be changed."""
    observed = observe(scope.targets, records, host.apt, client)
    context = (*scope.context, *_list_rejected(scope, records))
    plans = _plan(scope, context, observed)
    if any(plan.steps for plan in plans):
        observed = replace(observed, dynamic=client.list_dynamic(), portod=client.version())
        plans = _plan(scope, context, observed)
    return observed, plans


def _plan(
    scope: Scope, context: Sequence[DaemonSpec], observed: Observed
) -> tuple[DaemonPlan, ...]:
    plans = make_plan(scope.targets, context, observed)
    return add_restarts(plans, scope.targets, observed, scope.restarts)


def _list_rejected(scope: Scope, records: Mapping[str, Record]) -> tuple[DaemonSpec, ...]:
    """The last good specs of daemons whose file is broken now: they still claim their packages."""
    broken = {item.path for item in scope.loaded.rejected}
    valid = {spec.name for spec in scope.context}
    return tuple(
        record.spec
        for record in records.values()
        if record.spec is not None and record.spec.path in broken and record.name not in valid
    )


def run_pass(host: Host, scope: Scope, lock_wait_s: float = 0.0) -> PassResult:
    """Make the targets true and say how they stand.

    A daemon's failure is in its status. Raises LockHeldError, StoreError, and PortoError where
    portod cannot be asked at all.
    """
    with hold_lock(host.settings.state_dir, lock_wait_s):
        store = open_store(host.settings.state_dir)
        try:
            return _run_locked(host, scope, store)
        finally:
            store.close()


def _run_locked(host: Host, scope: Scope, store: Store) -> PassResult:
    started = host.now()
    try:
        with host.connect() as client:
            run = _Run(host, scope, store, client)
            result = run.converge()
        with store.transaction():
            run.save(result)
            if scope.whole:
                last_pass = _describe_pass(scope, started, host.now(), "", result.ok)
                store.save_fact(LAST_PASS, last_pass)
    except Exception as error:
        _save_failure(host, scope, store, started, error)
        raise
    run.report(result)
    return result


def _save_failure(host: Host, scope: Scope, store: Store, started: float, error: Exception) -> None:
    """A pass that could not be made is remembered and told, too."""
    if isinstance(error, PortoError):
        _log.error("pass: failed, portod cannot be asked: %s", error)
    words = str(error) if isinstance(error, YaSaltError) else f"a bug in ya-salt: {error!r}"
    last_pass = _describe_pass(scope, started, host.now(), words)
    with contextlib.suppress(StoreError), store.transaction():
        store.save_fact(LAST_PASS, last_pass)
    saved = tuple(item.status for item in store.load_records().values() if item.status is not None)
    report(store, host.settings, load_memory(store), News(saved, last_pass, host.now()))


def _describe_pass(
    scope: Scope, started: float, ended: float, error: str, ok: bool = False
) -> dict[str, object]:
    return {
        "started_at": started,
        "duration_s": round(ended - started, 3),
        "result": "ok" if ok else "failed",
        "error": error,
        "rejected": [[item.path, list(item.problems)] for item in scope.loaded.rejected],
        "ignored": [[item.path, item.reason] for item in scope.loaded.ignored],
    }


class _Run:
    """The state of one pass under way."""

    def __init__(self, host: Host, scope: Scope, store: Store, client: PortoClient) -> None:
        self._host = host
        self._scope = scope
        self._store = store
        self._client = client
        self._events: list[tuple[float, str, str]] = []
        self._changed: dict[str, Record] = {}
        self._records = store.load_records()
        if store.rebuilt:
            self._records = {**find_lost(client), **self._records}
            self._changed = dict(self._records)
        self._were_pending = {name for name, item in self._records.items() if item.restart_pending}
        self._memory = load_memory(store)
        self._containers: Mapping[str, Container] = {}
        self._replaced: list[str] = []
        self._lasts: list[Container] = []

    def converge(self) -> PassResult:
        self._host.apt.tidy()
        before, plans = _look_and_plan(self._host, self._scope, self._records, self._client)
        self._log_refusals(plans)
        self._count_before(plans, before)
        outcomes = self._execute(plans, before)
        after, outcomes = self._look_again(before, outcomes)
        self._containers = after.containers
        statuses = [
            self._finish(spec, before, after, outcomes[spec.name]) for spec in self._scope.targets
        ]
        if self._scope.whole:
            statuses += self._judge_unmanaged(after)
        return PassResult(
            tuple(sorted(statuses, key=lambda status: status.name)),
            self._scope.loaded.rejected if self._scope.whole else (),
            frozenset(name for name, outcome in outcomes.items() if outcome.results),
            outcomes,
            before,
        )

    def save(self, result: PassResult) -> None:
        """Write what changed, and nothing where nothing did."""
        self._store.save_records(self._changed.values())
        self._store.add_history(self._events)
        if self._scope.whole:
            known = {status.name for status in result.statuses}
            self._store.forget(name for name in self._records if name not in known)
        self._count_after(result)
        save_memory(self._store, self._memory)

    def report(self, result: PassResult) -> None:
        """Tell those who watch, also of daemons that this pass was not about."""
        others = {} if self._scope.whole else self._records
        statuses = {name: item.status for name, item in others.items() if item.status is not None}
        statuses |= {status.name: status for status in result.statuses}
        news = News(
            tuple(statuses[name] for name in sorted(statuses)),
            self._store.load_fact(LAST_PASS),
            self._host.now(),
        )
        report(self._store, self._host.settings, self._memory, news)

    # -- counting ------------------------------------------------------------------------------

    def _count_before(self, plans: Iterable[DaemonPlan], before: Observed) -> None:
        """Count before containers are replaced, in case this process does not see the end."""
        self._memory.see_containers(before.containers.values())
        if self._store.rebuilt:
            # What was counted before the store was lost has been told.
            self._memory.accept("yasm", self._memory.list_totals())
        steps = [step for plan in plans for step in plan.steps]
        if not steps:
            return
        replacing = ReplaceContainer | ChangeLive
        self._replaced = [step.name for step in steps if isinstance(step, replacing)]
        self._memory.mark_restarts(self._replaced)
        with self._store.transaction():
            save_memory(self._store, self._memory)

    def _count_after(self, result: PassResult) -> None:
        specs = {spec.name: spec for spec in self._scope.targets}
        self._memory.drop_marks(self._replaced)
        self._memory.see_containers(self._lasts)
        self._memory.see_containers(self._containers.values())
        self._memory.see_statuses(result.statuses, specs, self._containers, self._host.now())

    # -- doing ---------------------------------------------------------------------------------

    def _log_refusals(self, plans: Iterable[DaemonPlan]) -> None:
        for plan in plans:
            if plan.refusal:
                _log.error("porto-daemon-%s: %s", plan.name, plan.refusal)

    def _execute(self, plans: Sequence[DaemonPlan], before: Observed) -> dict[str, Outcome]:
        if not any(plan.steps for plan in plans):
            return {plan.name: Outcome(plan) for plan in plans}
        tools = Tools(
            packages=PackagePass(self._host.apt, self._host.progress, self._pin_versions()),
            connect=self._host.connect,
            progress=self._host.progress,
            mark_restarts=self._mark_restarts,
            parallel=self._host.settings.parallel,
            see_last=self._lasts.append,
        )
        return execute(plans, before, tools)

    def _pin_versions(self) -> dict[str, str]:
        """Versions that daemons which stand need: apt may not change them as a side effect.

        A valid file goes before what a daemon without one had.
        """
        known = {spec.name for spec in self._scope.context}
        others = (item.spec for item in self._records.values() if item.name not in known)
        specs = [*(spec for spec in others if spec), *self._scope.context]
        return {
            package.name: package.version
            for spec in specs
            if not spec.delete_requested
            for package in spec.packages
        }

    def _mark_restarts(self, names: Iterable[str]) -> None:
        marked = [
            replace(self._records.get(name, Record(name)), restart_pending=True) for name in names
        ]
        with self._store.transaction():
            self._store.save_records(marked)
        self._records |= {record.name: record for record in marked}

    # -- looking at what became of it ----------------------------------------------------------

    def _look_again(
        self, before: Observed, outcomes: Mapping[str, Outcome]
    ) -> tuple[Observed, dict[str, Outcome]]:
        acted = {name: outcome for name, outcome in outcomes.items() if outcome.results}
        if not acted:
            return before, dict(outcomes)
        after = before
        if any(_changed_packages(outcome) for outcome in acted.values()):
            after = look_at_packages(before, self._scope.targets, self._host.apt)
        try:
            containers = self._wait_ready(acted)
        except PortoError as error:
            _log.error("pass: portod stopped answering: %s", error)
            return after, {
                **outcomes,
                **{name: _blind(item, error) for name, item in acted.items()},
            }
        rest = {name: item for name, item in before.containers.items() if name not in acted}
        return replace(after, containers={**rest, **containers}), dict(outcomes)

    def _wait_ready(self, acted: Mapping[str, Outcome]) -> dict[str, Container]:
        """Look at the daemons that were worked on until each is ready, hopeless or out of time."""
        specs = [spec for spec in self._scope.targets if spec.name in acted]
        started = time.monotonic()
        while True:
            containers = look_at_containers(self._client, specs, [spec.name for spec in specs])
            elapsed = time.monotonic() - started
            waiting = [
                spec
                for spec in specs
                if acted[spec.name].touched
                and not acted[spec.name].error
                and elapsed < spec.ready_timeout_s
                and _is_worth_waiting(spec, containers.get(spec.name))
            ]
            if not waiting:
                return containers
            self._host.progress(_describe_waiting(waiting, containers))
            time.sleep(_POLL_S)

    def _finish(
        self, spec: DaemonSpec, before: Observed, after: Observed, outcome: Outcome
    ) -> DaemonStatus:
        record = self._records.get(spec.name, Record(spec.name))
        trouble = _find_trouble(self._client, spec, after.containers.get(spec.name))
        now = self._host.now()
        status = make_status(spec, after, outcome, record.status, now, trouble=trouble)
        removed = status.phase == "Removed"
        self._keep(
            replace(
                record,
                spec=replace(spec, properties=mask_secrets(spec.properties)),
                package_names=() if removed else list_packages_ever(spec, after),
                restart_pending=_is_restart_pending(
                    spec, before, after, outcome, was=spec.name in self._were_pending
                ),
                status=status,
            )
        )
        self._note(spec.name, outcome, record.status, status)
        return status

    def _judge_unmanaged(self, after: Observed) -> list[DaemonStatus]:
        """Daemons whose file is gone or broken stay as they are, and are shown as such."""
        valid = {spec.name for spec in self._scope.targets}
        broken = {item.name: item for item in self._scope.loaded.rejected if item.name}
        paths = {item.path: item for item in self._scope.loaded.rejected}
        statuses = []
        for name, record in self._records.items():
            if name in valid:
                continue
            rejected = broken.get(name) or paths.get(record.spec.path if record.spec else "")
            status = self._judge_one(record, rejected, after.containers.get(name))
            if status is not None:
                statuses.append(status)
        return statuses

    def _judge_one(
        self, record: Record, rejected: Rejected | None, container: Container | None
    ) -> DaemonStatus | None:
        previous = record.status or DaemonStatus(record.name)
        if rejected is None and (previous.phase == "Removed" or container is None):
            # The file went as the removal protocol ends, or there is nothing left to be an orphan.
            return None
        phase = "Rejected" if rejected else "Orphaned"
        error = rejected.problems[0] if rejected and rejected.problems else ""
        status = make_unmanaged_status(previous, phase, container, error, self._host.now())
        self._keep(replace(record, status=status))
        self._note_transition(record.name, record.status, status)
        return status

    # -- remembering ---------------------------------------------------------------------------

    def _keep(self, record: Record) -> None:
        """Remember to save the record if anything in it is new, but for the time of the look."""
        old = self._records.get(record.name)
        if (
            old is None
            or _without_time(old) != _without_time(record)
            or record.name in self._changed
        ):
            self._changed[record.name] = record

    def _note(
        self, name: str, outcome: Outcome, old: DaemonStatus | None, new: DaemonStatus
    ) -> None:
        now = self._host.now()
        self._events += [(now, name, action) for action in new.actions]
        if outcome.error and (old is None or old.error != outcome.error):
            self._events.append((now, name, f"failed: {outcome.error}"))
        self._note_transition(name, old, new)

    def _note_transition(self, name: str, old: DaemonStatus | None, new: DaemonStatus) -> None:
        said = _log_transition(name, old, new)
        if said:
            self._events.append((self._host.now(), name, said))


def _log_transition(name: str, old: DaemonStatus | None, new: DaemonStatus) -> str:
    """Log how readiness changed, if it did; the same as a sentence for the history, or ""."""
    was = old.ready if old else None
    ready = new.ready
    if ready is None or (was and (was.status, was.reason) == (ready.status, ready.reason)):
        return ""
    level = logging.INFO if ready.status or new.phase == "Removed" else logging.WARNING
    what = "ready" if ready.status else "not ready"
    _log.log(level, "porto-daemon-%s: %s reason=%s: %s", name, what, ready.reason, ready.message)
    return f"{what} ({ready.reason}): {ready.message}"


def _changed_packages(outcome: Outcome) -> bool:
    return any(isinstance(item.step, InstallPackages | PurgePackages) for item in outcome.results)


def _blind(outcome: Outcome, error: PortoError) -> Outcome:
    last = outcome.results[-1]
    told = StepResult(last.step, error=f"cannot see how it stands: {error}", reason=error.code)
    return replace(outcome, results=(*outcome.results, told))


def _is_worth_waiting(spec: DaemonSpec, container: Container | None) -> bool:
    if container is None or container.state in _HOPELESS:
        return False
    return not is_ready(spec, container)


def _describe_waiting(specs: Sequence[DaemonSpec], containers: Mapping[str, Container]) -> str:
    shown = ", ".join(
        f"{spec.name} ({containers[spec.name].state} {containers[spec.name].running_s} s)"
        for spec in specs[:3]
    )
    rest = f" and {len(specs) - 3} more" if len(specs) > 3 else ""
    return f"waiting until ready: {shown}{rest}"


def _is_restart_pending(
    spec: DaemonSpec, before: Observed, after: Observed, outcome: Outcome, *, was: bool
) -> bool:
    """Whether the process still runs from packages that were changed under it, now or before."""
    if spec.name not in after.containers or outcome.touched:
        return False
    changed = any(
        before.packages.get(item.name) != after.packages.get(item.name) for item in spec.packages
    )
    return changed or was


def _without_time(record: Record) -> Record:
    if record.status is None:
        return record
    plain = replace(record.status, updated_at=0.0, actions=(), memory_bytes=None, cpu_ns=None)
    return replace(record, status=plain)
