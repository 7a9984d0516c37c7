"""One pass: load, observe, plan, execute, wait, tell. The only place that knows this order."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ya_salt.converge.execute import Tools, execute
from ya_salt.converge.host import Host, PassRequest, PassResult
from ya_salt.converge.observe import find_lost, look_at_containers, look_at_packages
from ya_salt.converge.package_users import list_packages_ever
from ya_salt.converge.preview import find_trouble, log_gate, log_transition, look_and_plan
from ya_salt.converge.status import is_ready, make_status, make_unmanaged_status
from ya_salt.errors import PortoError, StoreError, YaSaltError
from ya_salt.gate.client import GateClient, find_gate_facts, keep_since, pin_waiting
from ya_salt.gate.client import load_memory as load_gate
from ya_salt.lock import hold_lock
from ya_salt.model import (
    ChangeLive,
    Container,
    DaemonPlan,
    DaemonSpec,
    DaemonStatus,
    InstallPackages,
    Observed,
    Outcome,
    Progress,
    PurgePackages,
    Record,
    Rejected,
    ReplaceContainer,
    StepResult,
)
from ya_salt.monitoring.report import ReportInput, load_memory, report, save_memory
from ya_salt.packages.transaction import PackagePass
from ya_salt.porto.client import PortoClient
from ya_salt.store import LAST_PASS, Store, mask_secrets, open_store

_log = logging.getLogger("ya_salt.pass")


def run_pass(host: Host, scope: PassRequest, lock_wait_s: float = 0.0) -> PassResult:
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


def _run_locked(host: Host, scope: PassRequest, store: Store) -> PassResult:
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


def _save_failure(
    host: Host, scope: PassRequest, store: Store, started: float, error: Exception
) -> None:
    """A pass that could not be made is remembered and told, too."""
    if isinstance(error, PortoError):
        _log.error("pass: failed, portod cannot be asked: %s", error)
    words = str(error) if isinstance(error, YaSaltError) else f"a bug in ya-salt: {error!r}"
    last_pass = _describe_pass(scope, started, host.now(), words)
    with contextlib.suppress(StoreError), store.transaction():
        store.save_fact(LAST_PASS, last_pass)
    saved = tuple(item.status for item in store.load_records().values() if item.status is not None)
    gate = find_gate_facts(host.settings.gate.type, load_gate(store))
    report(
        store, host.settings, load_memory(store), ReportInput(saved, last_pass, host.now(), gate)
    )


def _describe_pass(
    scope: PassRequest, started: float, ended: float, error: str, ok: bool = False
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

    def __init__(self, host: Host, scope: PassRequest, store: Store, client: PortoClient) -> None:
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
        self._gate = GateClient(host, store, scope.override_gate)

    def converge(self) -> PassResult:
        try:
            return self._converge()
        finally:
            self._gate.close()

    def _converge(self) -> PassResult:
        self._host.apt.tidy()
        self._gate.begin({*self._records, *(spec.name for spec in self._scope.targets)})
        before, plans = look_and_plan(self._host, self._scope, self._records, self._client)
        self._log_refusals(plans)
        plans = self._gate.admit(self._scope.targets, plans, before)
        self._count_before(plans, before)
        with self._gate.keep_alive():
            outcomes = self._execute(plans, before)
            after, outcomes = self._look_again(before, outcomes)
        self._containers = after.containers
        statuses = [
            self._finish(spec, before, after, outcomes[spec.name]) for spec in self._scope.targets
        ]
        if self._scope.whole:
            statuses += self._judge_unmanaged(after)
            self._gate.release_rest(status.name for status in statuses)
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
        self._gate.save()
        save_memory(self._store, self._memory)

    def report(self, result: PassResult) -> None:
        """Tell those who watch, also of daemons that this pass was not about."""
        others = {} if self._scope.whole else self._records
        statuses = {name: item.status for name, item in others.items() if item.status is not None}
        statuses |= {status.name: status for status in result.statuses}
        news = ReportInput(
            tuple(statuses[name] for name in sorted(statuses)),
            self._store.load_fact(LAST_PASS),
            self._host.now(),
            self._gate.tell_facts(),
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
            packages=PackagePass(
                self._host.apt,
                self._host.progress,
                {**self._pin_versions(), **pin_waiting(plans, before)},
            ),
            connect=self._host.connect,
            progress=self._host.progress,
            mark_restarts=self._mark_restarts,
            parallel=self._host.settings.parallel,
            permit=self._gate.permit,
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
            specs = [spec for spec in self._scope.targets if spec.name in acted]
            containers = wait_ready(self._client, specs, acted, self._host.progress)
        except PortoError as error:
            _log.error("pass: portod stopped answering: %s", error)
            return after, {
                **outcomes,
                **{name: _blind(item, error) for name, item in acted.items()},
            }
        rest = {name: item for name, item in before.containers.items() if name not in acted}
        return replace(after, containers={**rest, **containers}), dict(outcomes)

    def _finish(
        self, spec: DaemonSpec, before: Observed, after: Observed, outcome: Outcome
    ) -> DaemonStatus:
        record = self._records.get(spec.name, Record(spec.name))
        trouble = find_trouble(self._client, spec, after.containers.get(spec.name))
        now = self._host.now()
        status = make_status(spec, after, outcome, record.status, now, trouble=trouble)
        status = self._with_gate(status, record.status, after, outcome)
        removed = status.phase == "Removed"
        container = after.containers.get(spec.name)
        is_there = container is not None and container.is_ours
        restart_reason = self._find_restart_reason(record, outcome)
        self._keep(
            replace(
                record,
                spec=replace(spec, properties=mask_secrets(spec.properties)),
                package_names=() if removed else list_packages_ever(spec, after),
                restart_pending=bool(restart_reason)
                or _is_restart_pending(
                    spec, before, after, outcome, was=spec.name in self._were_pending
                ),
                restart_reason=restart_reason,
                was_created=not removed and (record.was_created or is_there),
                status=status,
            )
        )
        self._note(spec.name, outcome, record.status, status)
        return status

    def _with_gate(
        self,
        status: DaemonStatus,
        previous: DaemonStatus | None,
        after: Observed,
        outcome: Outcome | None = None,
    ) -> DaemonStatus:
        standing = self._gate.settle(status, after.containers.get(status.name), outcome)
        return replace(status, gate=keep_since(standing, previous.gate if previous else None))

    def _find_restart_reason(self, record: Record, outcome: Outcome) -> str:
        """Why it has to be restarted though nothing else will tell the next pass, or ""."""
        if outcome.touched:
            return ""
        if outcome.deferral is None:
            return record.restart_reason
        return self._scope.restarts.get(record.name, record.restart_reason)

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
            status = self._judge_one(record, rejected, after)
            if status is not None:
                statuses.append(status)
        return statuses

    def _judge_one(
        self, record: Record, rejected: Rejected | None, after: Observed
    ) -> DaemonStatus | None:
        container = after.containers.get(record.name)
        previous = record.status or DaemonStatus(record.name)
        if rejected is None and (previous.phase == "Removed" or container is None):
            # The file went as the removal protocol ends, or there is nothing left to be an orphan.
            return None
        phase = "Rejected" if rejected else "Orphaned"
        error = rejected.problems[0] if rejected and rejected.problems else ""
        status = make_unmanaged_status(previous, phase, container, error, self._host.now())
        status = self._with_gate(status, previous, after)
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
        if name in self._gate.went_past:
            self._events.append((now, name, f"went past the gate: {self._scope.override_gate}"))
        self._events += [(now, name, action) for action in new.actions]
        if outcome.error and (old is None or old.error != outcome.error):
            self._events.append((now, name, f"failed: {outcome.error}"))
        self._events += [(now, name, said) for said in log_gate(name, old, new)]
        self._note_transition(name, old, new)

    def _note_transition(self, name: str, old: DaemonStatus | None, new: DaemonStatus) -> None:
        said = log_transition(name, old, new)
        if said:
            self._events.append((self._host.now(), name, said))


def _changed_packages(outcome: Outcome) -> bool:
    return any(isinstance(item.step, InstallPackages | PurgePackages) for item in outcome.results)


def _blind(outcome: Outcome, error: PortoError) -> Outcome:
    last = outcome.results[-1]
    told = StepResult(last.step, error=f"cannot see how it stands: {error}", reason=error.code)
    return replace(outcome, results=(*outcome.results, told))


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
    plain = replace(record.status, updated_at=0.0, memory_bytes=None, cpu_ns=None)
    return replace(record, status=plain)


_POLL_S = 0.25
_HOPELESS = frozenset({"dead", "stopped"})
"""States that portod does not leave by itself: waiting for such a daemon is in vain."""


def wait_ready(
    client: PortoClient,
    specs: Sequence[DaemonSpec],
    outcomes: Mapping[str, Outcome],
    progress: Progress,
) -> dict[str, Container]:
    """Look at the daemons of `specs`, each of which was worked on, until none is worth waiting for.

    Raises PortoError.
    """
    started = time.monotonic()
    while True:
        containers = look_at_containers(client, specs, [spec.name for spec in specs])
        elapsed = time.monotonic() - started
        waiting = [
            spec
            for spec in specs
            if outcomes[spec.name].touched
            and not outcomes[spec.name].error
            and elapsed < spec.ready_timeout_s
            and _is_worth_waiting(spec, containers.get(spec.name))
        ]
        if not waiting:
            return containers
        progress(_describe_waiting(waiting, containers))
        time.sleep(_POLL_S)


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
