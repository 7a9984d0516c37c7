"""The stage that judges: which versions are given up, and how every daemon stands."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterable, Mapping

from ya_salt.converge.containers import await_last_death
from ya_salt.converge.generations import judge_rollbacks, judge_trials, remember_ready
from ya_salt.converge.kept_packages import keep_packages
from ya_salt.converge.preview import Looked
from ya_salt.converge.stages import Acted, Start
from ya_salt.converge.status import make_bug_status, make_status, make_unmanaged_status
from ya_salt.converge.trials import REJECTED, describe_rejection, is_hopeless
from ya_salt.errors import PortoError, describe_bug
from ya_salt.gate.client import DaemonResult, Settlement
from ya_salt.gate.requests import keep_since
from ya_salt.life import Life
from ya_salt.model import DaemonSpec, DaemonStatus, Observed, Outcome, Record
from ya_salt.porto.client import PortoClient
from ya_salt.quick_dataclass import replace

_log = logging.getLogger("ya_salt.pass")


def judge_versions(
    start: Start,
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
    keep_packages(start, versions, after, is_idle=is_idle)
    return after, {**looked.lost, **lost}


def await_endings(client: PortoClient, specs: Iterable[DaemonSpec], after: Observed) -> None:
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


def blame(
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


def judge_daemons(start: Start, acted: Acted, awaited: Collection[str]) -> list[DaemonResult]:
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


def _judge_unmanaged(start: Start, after: Observed, now: float) -> list[DaemonResult]:
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


def with_standing(start: Start, status: DaemonStatus, settled: Settlement) -> DaemonStatus:
    previous = start.records.get(status.name, Record(status.name)).status
    standing = settled.standings.get(status.name)
    return replace(status, gate=keep_since(standing, previous.gate if previous else None))
