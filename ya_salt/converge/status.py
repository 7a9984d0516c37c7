"""Say how a daemon stands. Pure: the moment comes in as a parameter."""

from __future__ import annotations

from ya_salt.converge import crash, holds, trials
from ya_salt.converge.package_users import find_missing, is_package_right
from ya_salt.converge.readiness import (
    describe_no,
    describe_yes,
    find_probes,
    find_warning,
    is_ready,
    make_standing,
)
from ya_salt.life import Life, Probes
from ya_salt.model import (
    DOWN,
    HELD,
    LABEL,
    PROBE_FAILED,
    Condition,
    Container,
    CrashStanding,
    DaemonSpec,
    DaemonStatus,
    Deferral,
    Observed,
    Outcome,
    describe_step,
)
from ya_salt.quick_dataclass import dataclass, replace
from ya_salt.text import count

_NOT_RUNNING = {
    "stopped": "portod could not start it, or somebody stopped it",
    "dead": "its command ended and portod does not start it again",
    "respawning": "its command ended, portod starts it again in a moment",
    "paused": "somebody paused it",
    "meta": "it has no command",
    "starting": "portod is starting it",
    "stopping": "portod is stopping it",
}


def make_status(  # noqa: PLR0913 - what is wanted, there, done, was; when; and what it said
    spec: DaemonSpec,
    observed: Observed,
    outcome: Outcome,
    previous: DaemonStatus | None,
    now: float,
    *,
    trouble: str = "",
) -> DaemonStatus:
    """How the daemon of a valid spec stands after a pass.

    `trouble` is what its container said last (exit code, stderr), for the message of `running`.
    """
    container = observed.containers.get(spec.name)
    removed = spec.delete_requested and not outcome.error and not outcome.deferral
    life = Life() if removed else observed.lives.get(spec.name, Life())
    before = previous.version if previous else ""
    status = DaemonStatus(
        name=spec.name,
        version=spec.version if _is_current(spec, container, observed, outcome) else before,
        wanted_version=spec.file_version if spec.generation else spec.version,
        path=spec.path,
        phase=_find_phase(removed, outcome),
        state=_name_state(spec.name, observed),
        respawn_count=container.respawn_count if container else 0,
        restart_count=(previous.restart_count if previous else 0) + outcome.restarts,
        digest=container.labels.get(LABEL, "") if container else "",
        packages=_list_packages(spec, observed),
        warnings=_collect_warnings(spec, container, outcome, life),
        actions=tuple(describe_step(item.step) for item in outcome.results if item.is_done),
        error=outcome.error,
        updated_at=now,
        memory_bytes=container.memory_bytes if container else None,
        cpu_ns=container.cpu_ns if container else None,
        probe=make_standing(spec, container, life),
        drift=() if outcome.touched or removed else outcome.plan.drift,
        waits_for="" if removed or outcome.error else outcome.blocked,
        rejection=life.rejection,
        trial=life.trial,
        pin=life.pin,
        generations=len(life.generations),
        crash=_describe_crash(spec, life, container, previous, trouble),
        hold=life.hold,
    )
    return _with_conditions(
        status,
        _with_life(
            _with_version(_assess(spec, observed, outcome, trouble), spec, life, outcome),
            life,
            container,
        ),
        previous,
        _Moments.of(spec, container, now, find_probes(container, life)),
    )


def make_bug_status(
    spec: DaemonSpec, outcome: Outcome, previous: DaemonStatus | None, words: str, now: float
) -> DaemonStatus:
    """How a daemon stands of which a bug keeps us from saying more: its own failure."""
    last = previous or DaemonStatus(spec.name)
    since = last.ready.since if last.ready is not None and not last.ready.status else now
    return replace(
        last,
        wanted_version=spec.version,
        path=spec.path,
        phase="Managed",
        state="unknown",
        restart_count=last.restart_count + outcome.restarts,
        actions=tuple(describe_step(item.step) for item in outcome.results if item.is_done),
        error=words,
        running=Condition(False, "Bug", words, since),
        ready=Condition(False, "Bug", words, since),
        updated_at=now,
    )


def make_unmanaged_status(
    previous: DaemonStatus, phase: str, observed: Observed, error: str, now: float
) -> DaemonStatus:
    """How a daemon stands that the pass is not about: as it is.

    Its file is gone (`Orphaned`) or broken (`Rejected`), or a Salt state defines it (`Managed`).
    """
    container = observed.containers.get(previous.name)
    life = replace(observed.lives.get(previous.name, Life()), crash=None)
    state = _name_state(previous.name, observed)
    running = _assess_running(container, "", observed.unknown.get(previous.name, ""))
    ready = _Verdict(running.status, "Ready" if running.status else running.reason, running.message)
    probes = find_probes(container, observed.lives.get(previous.name, Life()))
    if running.status and probes is not None and not probes.is_ready:
        # Nobody asks it now: what it said last stands until it is another process.
        words = f"it was not ready when it was asked last: {probes.question}: {probes.answer}"
        ready = _Verdict(False, PROBE_FAILED, words)
    installed = previous.installed
    status = replace(
        previous,
        phase=phase,
        state=state,
        respawn_count=container.respawn_count if container else 0,
        actions=(),
        error=error,
        updated_at=now,
        memory_bytes=container.memory_bytes if container else None,
        cpu_ns=container.cpu_ns if container else None,
        crash=None,
        hold=life.hold,
    )
    verdicts = (
        _Verdict(installed.status, installed.reason, installed.message)
        if installed
        else _Verdict(False, "Unknown", "not looked at without a valid spec"),
        running,
        ready,
    )
    verdicts = _with_life(verdicts, life, container)
    return _with_conditions(status, verdicts, previous, _Moments.of(None, container, now))


def _is_current(
    spec: DaemonSpec, container: Container | None, observed: Observed, outcome: Outcome
) -> bool:
    """Whether what runs, or ran last, is what the spec asks for."""
    if container is None or not container.is_ours or outcome.deferral:
        return False
    is_updated = not find_missing(spec, observed) or outcome.touched
    return container.labels.get(LABEL) == spec.digest and is_updated


def _name_state(name: str, observed: Observed) -> str:
    """Portod's word; `unknown` where it did not tell, "" where there is no container."""
    if name in observed.unknown:
        return "unknown"
    container = observed.containers.get(name)
    return container.state if container else ""


def _find_phase(removed: bool, outcome: Outcome) -> str:
    if removed:
        return "Removed"
    return "Foreign" if outcome.reason == "ForeignContainer" else "Managed"


def _list_packages(spec: DaemonSpec, observed: Observed) -> tuple[tuple[str, str, str], ...]:
    found = observed.packages
    return tuple(
        (item.name, item.version, found[item.name].version if item.name in found else "")
        for item in spec.packages
    )


def _collect_warnings(
    spec: DaemonSpec, container: Container | None, outcome: Outcome, life: Life
) -> tuple[str, ...]:
    applied = container.applied if container and container.is_ours else None
    unsupported = tuple(
        f"{name}: this host's kernel has no support for it, the daemon runs without"
        for name in (applied.unsupported if applied else ())
    )
    if "user" in spec.properties and "group" not in spec.properties:
        # Porto's user does not bring its group along.
        unsupported += ("group is not set, so portod runs it with the group root; set group too",)
    said = tuple(warning for item in outcome.results for warning in item.warnings)
    rhythm = find_warning(spec, life)
    asked = (rhythm,) if rhythm else ()
    return tuple(dict.fromkeys((*unsupported, *said, *asked, *outcome.plan.notes)))


# -- conditions --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Verdict:
    status: bool
    reason: str
    message: str


_Verdicts = tuple[_Verdict, _Verdict, _Verdict]


def _assess(spec: DaemonSpec, observed: Observed, outcome: Outcome, trouble: str) -> _Verdicts:
    if spec.delete_requested and not outcome.error and not outcome.deferral:
        gone = _Verdict(False, "Removed", "removed as meta.delete_requested asks")
        return gone, gone, gone
    container = observed.containers.get(spec.name)
    life = observed.lives.get(spec.name, Life())
    installed = _assess_installed(spec, observed, outcome)
    unknown = observed.unknown.get(spec.name, "")
    if unknown:
        verdict = _Verdict(False, "Unknown", unknown)
        return installed, verdict, verdict
    running = _assess_running(container, trouble)
    if outcome.error or not (outcome.deferral or outcome.blocked):
        ready = _assess_ready(spec, container, installed, running, outcome, life)
    elif outcome.deferral:
        ready = _assess_waiting(spec, container, running, outcome.deferral, life)
    else:
        ready = _assess_blocked(spec, container, running, outcome.blocked, life)
    if ready.reason == "Starting" and trouble:
        ready = replace(ready, message=f"{ready.message}; {trouble}")
    return installed, running, ready


def _with_version(verdicts: _Verdicts, spec: DaemonSpec, life: Life, outcome: Outcome) -> _Verdicts:
    """The verdicts with why it is not the file's version that they are about."""
    installed, running, ready = verdicts
    rejection, pin = life.rejection, life.pin
    if rejection is not None and outcome.reason != trials.REJECTED:
        if rejection.problem:
            words = trials.describe_failed_rollback(spec, rejection)
            return installed, running, _Verdict(False, trials.ROLLBACK_FAILED, words)
        told = trials.describe_rolled_back(spec, rejection)
        if ready.status:
            return installed, running, _Verdict(True, trials.ROLLED_BACK, told)
        return installed, running, replace(ready, message=f"{ready.message}; {told}")
    if pin is not None and spec.generation and ready.status and ready.reason == "Ready":
        words = trials.describe_pin(spec, pin)
        return installed, running, _Verdict(True, trials.PINNED, words)
    return verdicts


_DYING = frozenset({"Dead", "Respawning", "Starting"})


def _with_life(verdicts: _Verdicts, life: Life, container: Container | None) -> _Verdicts:
    """The verdicts with why it is so of a daemon that somebody holds, or that keeps dying."""
    installed, running, ready = verdicts
    is_foreign = container is not None and not container.is_ours
    is_down = container is None or container.state in DOWN
    if life.hold is not None and is_down and not is_foreign and running.reason != "Unknown":
        held = _Verdict(False, HELD, holds.describe_hold(life.hold))
        return installed, held, held
    if life.crash is not None and crash.is_looping(life.crash):
        told = crash.describe_loop(life.crash)
        if life.crash.is_down:
            told = crash.describe_rest(life.crash)
        return installed, _with_loop(running, told), _with_loop(ready, told)
    return verdicts


def _with_loop(verdict: _Verdict, told: str) -> _Verdict:
    if verdict.status or verdict.reason not in _DYING:
        return verdict
    return _Verdict(False, "CrashLooping", f"{told}; {verdict.message}")


def _describe_crash(
    spec: DaemonSpec,
    life: Life,
    container: Container | None,
    previous: DaemonStatus | None,
    trouble: str,
) -> CrashStanding | None:
    known = life.crash
    if known is None or not crash.is_looping(known):
        return None
    before = previous.crash if previous else None
    is_down = container is not None and container.state in {"dead", "respawning"}
    return CrashStanding(
        since=known.since,
        deaths=known.deaths,
        delay_s=max(float(known.delay_s), crash.read_delay(spec)),
        next_at=known.next_at if is_down else 0.0,
        last_words=trouble or (before.last_words if before else ""),
    )


def _assess_installed(spec: DaemonSpec, observed: Observed, outcome: Outcome) -> _Verdict:
    if observed.packages_error and spec.packages:
        return _Verdict(False, "DpkgUnavailable", observed.packages_error)
    wrong = [item for item in spec.packages if not is_package_right(item, observed)]
    if not wrong:
        return _Verdict(True, "Installed", "every package has its declared version")
    names = ", ".join(f"{item.name} {item.version}" for item in wrong)
    if outcome.deferral and not outcome.error:
        return _Verdict(False, "Deferred", f"not yet as declared: {names}")
    why = f": {outcome.error}" if outcome.error else ""
    return _Verdict(False, outcome.reason or "NotInstalled", f"not as declared: {names}{why}")


def _assess_running(container: Container | None, trouble: str, unknown: str = "") -> _Verdict:
    if unknown:
        return _Verdict(False, "Unknown", unknown)
    if container is None:
        return _Verdict(False, "NoContainer", trouble or "there is no container")
    if not container.is_ours:
        return _Verdict(False, "ForeignContainer", "the container of this name is not ours")
    if container.state == "running":
        return _Verdict(True, "Running", "its command runs")
    said = f"; {trouble}" if trouble else ""
    meaning = _NOT_RUNNING.get(container.state, "a state unknown to this version of ya-salt")
    return _Verdict(False, container.state.capitalize() or "Unknown", meaning + said)


def _assess_waiting(
    spec: DaemonSpec,
    container: Container | None,
    running: _Verdict,
    deferral: Deferral,
    life: Life,
) -> _Verdict:
    """Of a daemon whose change waits for the gate: what it runs from now is what counts."""
    why = f"waits for the gate: {deferral.reason}: {deferral.message}"
    if container is None:
        return _Verdict(False, "Deferred", f"its first installation {why}")
    if not running.status:
        return replace(running, message=f"{running.message}; its change {why}")
    if not is_ready(spec, container, life):
        return _say_not_ready(spec, container, life)
    return _Verdict(True, "Deferred", f"it runs as before, its change {why}")


def _assess_blocked(
    spec: DaemonSpec, container: Container | None, running: _Verdict, why: str, life: Life
) -> _Verdict:
    """Of a daemon that others keep from being started: that it does not run is nothing to leave."""
    if container is None or not running.status:
        return _Verdict(False, "WaitsFor", why)
    if not is_ready(spec, container, life):
        return _say_not_ready(spec, container, life)
    return _Verdict(True, "WaitsFor", f"it runs as before, its change {why}")


def _assess_ready(  # noqa: PLR0913, PLR0917 - each may be what is in the way
    spec: DaemonSpec,
    container: Container | None,
    installed: _Verdict,
    running: _Verdict,
    outcome: Outcome,
    life: Life,
) -> _Verdict:
    if outcome.error:
        return _Verdict(False, outcome.reason or "Failed", outcome.error)
    if not installed.status:
        return installed
    if not running.status or container is None:
        return running
    if container.labels.get(LABEL) != spec.digest:
        words = "it runs from another spec than was saved last; the next pass sees to it"
        return _Verdict(False, "Outdated", words)
    if not is_ready(spec, container, life):
        return _say_not_ready(spec, container, life)
    ran = f"running without a respawn for {spec.min_ready_s:g} s or more"
    said = describe_yes(spec, life)
    return _Verdict(True, "Ready", f"{said}; {ran}" if said else ran)


def _say_not_ready(spec: DaemonSpec, container: Container, life: Life) -> _Verdict:
    """Of a daemon that runs: for too short a time, or without saying yes."""
    if spec.readiness is not None and container.running_s >= spec.min_ready_s:
        reason, words = describe_no(spec, container, life)
        return _Verdict(False, reason, words + _say_respawned(container))
    words = f"running for {container.running_s} s of {spec.min_ready_s:g} s"
    return _Verdict(False, "Starting", words + _say_respawned(container))


def _say_respawned(container: Container) -> str:
    times = container.respawn_count
    return f", respawned {count(times, 'time')}" if times else ""


@dataclass(frozen=True)
class _Moments:
    """When things came to be as they are, by portod's own clock where it tells; s since 1970."""

    now: float
    down: float | None = None
    """Since when it does not run: known of a dead container."""
    changed: float | None = None
    """When the container changed last."""
    started: float | None = None
    ready: float | None = None
    """When it had run for as long as its spec asks, and had said yes where it is asked."""

    @classmethod
    def of(
        cls,
        spec: DaemonSpec | None,
        container: Container | None,
        now: float,
        probes: Probes | None = None,
    ) -> _Moments:
        if container is None or not container.is_ours:
            return cls(now)
        started = _not_after(container.started_at, now)
        ready = started if started is None or spec is None else started + spec.min_ready_s
        if ready is not None and probes is not None:
            ready = max(ready, probes.since)
        return cls(
            now,
            down=_not_after(container.died_at, now),
            changed=_not_after(container.changed_at, now),
            started=started,
            ready=_not_after(ready or 0, now),
        )


def _not_after(moment: float, now: float) -> float | None:
    """A moment that portod told; None where there is none, or its clock is not to be trusted."""
    return float(moment) if 0 < moment <= now else None


def _with_conditions(
    status: DaemonStatus, verdicts: _Verdicts, previous: DaemonStatus | None, moments: _Moments
) -> DaemonStatus:
    before = previous or DaemonStatus(status.name)
    installed, running, ready = verdicts
    new_running = _make_condition(running, _since_running(running, before.running, moments))
    since = _since_ready(ready, before.ready, new_running, moments)
    return replace(
        status,
        installed=_make_condition(installed, _keep(installed, before.installed) or moments.now),
        running=new_running,
        ready=_make_condition(ready, since),
    )


def _make_condition(verdict: _Verdict, since: float) -> Condition:
    return Condition(verdict.status, verdict.reason, verdict.message, since)


def _keep(verdict: _Verdict, old: Condition | None) -> float | None:
    return old.since if old is not None and old.status == verdict.status else None


def _since_running(verdict: _Verdict, old: Condition | None, moments: _Moments) -> float:
    kept = _keep(verdict, old)
    if verdict.status:
        return moments.started or kept or moments.now
    return moments.down or kept or moments.changed or moments.now


def _since_ready(
    verdict: _Verdict, old: Condition | None, running: Condition, moments: _Moments
) -> float:
    """A new process is ready since it has been, though the old one was ready before."""
    kept = _keep(verdict, old)
    if verdict.status:
        if kept is not None and (moments.started is None or kept >= moments.started):
            return kept
        return moments.ready or kept or moments.now
    if kept is not None:
        return kept
    return moments.now if running.status else running.since


def is_fine(status: DaemonStatus, *, is_coming: bool = False) -> bool:
    """Whether nobody has to look at this daemon.

    `is_coming`: it was just started, and nobody has waited until it is ready.
    """
    is_given_up = any(item.until for item in status.drift)
    if status.error or status.rejection is not None or is_given_up:
        return False
    if is_coming or (status.ready is not None and status.ready.reason == HELD):
        return True
    if status.waits and status.ready is not None and status.ready.reason == "Deferred":
        return True
    if status.phase == "Orphaned":
        return status.running is not None and status.running.status
    return status.phase == "Removed" or (status.ready is not None and status.ready.status)
