"""Specs and statuses as the protobuf JSON of proto/ya_salt.proto. Pure.

Names are lowerCamelCase; unlike protobuf's own printer 64-bit integers stay numbers, so that jq can
compare them. A test holds these shapes against the messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from ya_salt.life import Generation, Hold, Life, Rejection, Trial
from ya_salt.model import (
    Condition,
    CrashStanding,
    DaemonStatus,
    Drift,
    Event,
    Loaded,
    ProbeStanding,
    Record,
)
from ya_salt.quick_dataclass import asdict, dataclass, field

_LAST_MOMENT = 253402300799.0
"""9999-12-31T23:59:59Z, the last that RFC 3339 can write."""
_LOADED = frozenset({"Managed", "Foreign", "Removed"})


def format_time(seconds: float) -> str:
    """RFC 3339 in UTC, to the second."""
    # What no calendar has came from a damaged file or a clock gone mad.
    known = min(max(seconds, 0.0), _LAST_MOMENT) if seconds == seconds else 0.0  # noqa: PLR0124 - NaN
    moment = datetime.fromtimestamp(int(known), tz=timezone.utc)
    return moment.isoformat().replace("+00:00", "Z")


def make_spec_list(records: Iterable[Record]) -> dict[str, Any]:
    """SpecList: the specs that the last passes loaded."""
    return {
        "portoDaemons": [
            json.loads(record.spec.document)
            for record in records
            if record.spec is not None and record.status and record.status.phase in _LOADED
        ]
    }


@dataclass(frozen=True)
class Details:
    """What is shown of a daemon that is asked for by name, beside its status."""

    pid: int = 0
    """Of its main process; 0 where there is none."""
    limits: Mapping[str, str] = field(default_factory=dict)
    """Limits and guarantees of its spec -> what portod has."""
    history: tuple[Event, ...] = ()
    """Newest last."""
    stderr: str = ""
    """Its end."""


def read_last_pass(fact: Any) -> Mapping[str, Any] | None:
    """The store's fact of the last pass where it has its shape; None where it is none, or odd."""
    try:
        return {
            **fact,
            "started_at": float(fact["started_at"]),
            "duration_s": float(fact["duration_s"]),
            "result": str(fact["result"]),
            "error": str(fact["error"]),
            "rejected": [[str(path), list(map(str, found))] for path, found in fact["rejected"]],
            "ignored": [[str(path), str(reason)] for path, reason in fact["ignored"]],
        }
    except (TypeError, ValueError, LookupError):
        return None


def with_files(last_pass: Mapping[str, Any] | None, loaded: Loaded) -> dict[str, Any]:
    """The store's fact of the last pass, with the files that cannot be used now.

    Where no pass was made, `result` is None.
    """
    return {
        **(last_pass or {"started_at": 0.0, "duration_s": 0.0, "result": None, "error": ""}),
        "rejected": [
            [item.path, list(item.problems)] for item in loaded.rejected if not item.is_hidden
        ],
        "ignored": [[item.path, item.reason] for item in loaded.ignored],
    }


def find_silence(last_pass: Mapping[str, Any] | None) -> tuple[float | None, bool]:
    """(Since when portod does not answer, whether a pass found that out); as far as passes know.

    Where none did, the last one was answered: the moment is then that pass's.
    """
    if last_pass is None or last_pass["result"] is None:
        return None, False
    since: float | None = last_pass.get("portod_since")
    return (since, True) if since is not None else (last_pass["started_at"], False)


def describe_portod(trouble: str, last_pass: Mapping[str, Any] | None) -> dict[str, Any]:
    """PortodStanding: `trouble` is why it did not answer this look, or ""."""
    told: dict[str, Any] = {"answers": not trouble, "message": trouble}
    since, _ = find_silence(last_pass)
    if trouble and since is not None:
        told["since"] = format_time(since)
    return told


def make_host_status(  # noqa: PLR0913, PLR0917 - each is a part of it
    statuses: Iterable[DaemonStatus],
    last_pass: Mapping[str, Any] | None,
    sinks: Iterable[Mapping[str, Any]] = (),
    gate: Mapping[str, Any] | None = None,
    portod: Mapping[str, Any] | None = None,
    details: Details | None = None,
) -> dict[str, Any]:
    """HostStatus. `last_pass` is the store's fact of that name, None where no pass was made.

    `sinks` are name, state, message and since (seconds since 1970) of each; `gate` is type, state,
    message and since (None where it was not asked yet). `details` are those of all `statuses`.
    """
    statuses = tuple(statuses)
    more = {} if details is None else make_details(details)
    told: dict[str, Any] = {
        "portoDaemons": [{**make_daemon_status(item), **more} for item in statuses]
    }
    if portod is not None:
        told["portod"] = dict(portod)
    if gate is not None:
        told["gate"] = _make_gate_status(gate, sum(item.waits for item in statuses))
    if last_pass is not None:
        told["rejectedFiles"] = [
            {"path": path, "problems": problems} for path, problems in last_pass["rejected"]
        ]
        told["ignoredFiles"] = [
            {"path": path, "reason": reason} for path, reason in last_pass["ignored"]
        ]
        if last_pass["result"] is not None:
            told["lastPass"] = {
                "startedAt": format_time(last_pass["started_at"]),
                "durationS": last_pass["duration_s"],
                "result": last_pass["result"],
                "error": last_pass["error"],
            }
        told["sinks"] = [{**sink, "since": format_time(sink["since"])} for sink in sinks]
    return told


def make_details(details: Details) -> dict[str, Any]:
    told: dict[str, Any] = {
        "limits": dict(details.limits),
        "history": [
            {"time": format_time(item.at), "what": item.what, "who": item.who}
            for item in details.history
        ],
        "stderr": details.stderr,
    }
    return {**told, "pid": details.pid} if details.pid else told


def _make_gate_status(gate: Mapping[str, Any], waiting: int) -> dict[str, Any]:
    told = {name: gate[name] for name in ("type", "state", "message")}
    if gate["since"] is not None:
        told["since"] = format_time(gate["since"])
    return {**told, "queueLength": waiting}


def make_daemon_status(status: DaemonStatus) -> dict[str, Any]:
    """PortoDaemonStatus."""
    told: dict[str, Any] = {
        "name": status.name,
        "version": status.version,
        "wantedVersion": status.wanted_version,
        "path": status.path,
        "phase": status.phase,
        "conditions": {
            name: _make_condition(condition)
            for name, condition in (
                ("installed", status.installed),
                ("running", status.running),
                ("ready", status.ready),
            )
            if condition is not None
        },
        "state": status.state,
        "respawnCount": status.respawn_count,
        "restartCount": status.restart_count,
        "digest": status.digest,
        "packages": [
            {"name": name, "version": version, "installedVersion": installed}
            for name, version, installed in status.packages
        ],
        "warnings": list(status.warnings),
        "actions": list(status.actions),
        "error": status.error,
        "updatedAt": format_time(status.updated_at),
    }
    if status.memory_bytes is not None:
        told["memoryUsageBytes"] = status.memory_bytes
    if status.cpu_ns is not None:
        told["cpuUsageS"] = status.cpu_ns / 1e9
    if status.drift:
        told["drift"] = [_make_drift(item) for item in status.drift]
    if status.waits_for:
        told["waitsFor"] = status.waits_for
    return {**told, **_make_rare(status)}


def _make_rare(status: DaemonStatus) -> dict[str, Any]:
    """What most daemons have nothing of."""
    told: dict[str, Any] = {}
    if status.generations:
        told["generations"] = status.generations
    if status.crash is not None:
        told["crashLoop"] = _make_crash_loop(status.crash)
    if status.hold is not None:
        told["hold"] = _make_hold(status.hold)
    if status.rejection is not None:
        told["rejected"] = _make_rejected(status.rejection, status.version)
    if status.trial is not None:
        told["update"] = _make_update(status.trial)
    if status.pin is not None:
        told["pinned"] = {
            "generation": status.pin.number,
            "who": status.pin.who,
            "at": format_time(status.pin.at),
        }
    if status.gate is not None:
        told["gate"] = {**asdict(status.gate), "since": format_time(status.gate.since)}
    if status.probe is not None:
        told["probe"] = _make_probe(status.probe)
    return told


_MOMENTS = frozenset({"at", "since", "until"})


def describe_life(life: Life) -> dict[str, Any]:
    """What is remembered between passes, but for the generations; nothing of what there is none."""
    told = asdict(life)
    del told["generations"]
    return {_camel(key): _plain(key, value) for key, value in told.items() if value}


def _plain(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {_camel(name): _plain(name, item) for name, item in value.items() if item}
    if isinstance(value, tuple | list):
        return [_plain(key, item) for item in value]
    is_moment = key in _MOMENTS or key.endswith("_at")
    return format_time(value) if is_moment and isinstance(value, int | float) else value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    # Files and properties are names of others.
    return name if "/" in name else first + "".join(word.capitalize() for word in rest)


def make_generations(record: Record) -> list[dict[str, Any]]:
    """What a daemon can go back to, oldest first; `state` is one word, or "" where it is none."""
    life = record.life
    running = record.status.digest if record.status else ""
    rejected = life.rejection.mark if life.rejection else ""

    def name_state(item: Generation) -> str:
        if life.pin is not None and life.pin.number == item.number:
            return "pinned"
        if item.rejected or item.mark == rejected:
            return "rejected"
        return "current" if item.digest and item.digest == running else ""

    return [
        {
            "number": item.number,
            "version": item.version,
            "readyAt": format_time(item.ready_at),
            "state": name_state(item),
            "packages": dict(item.packages),
            "digest": item.digest,
        }
        for item in sorted(life.generations, key=lambda item: item.number)
    ]


def _make_probe(probe: ProbeStanding) -> dict[str, Any]:
    times = {"since": probe.since, "askedAt": probe.asked_at}
    return {
        "question": probe.question,
        "ready": probe.is_ready,
        "failures": probe.failures,
        "failureThreshold": probe.threshold,
        "answer": probe.answer,
        **{name: format_time(at) for name, at in times.items() if at},
    }


def _make_rejected(item: Rejection, running: str) -> dict[str, Any]:
    return {
        "version": item.version,
        "why": item.why,
        "at": format_time(item.at),
        "generation": item.back_to,
        "runningVersion": running,
        "problem": item.problem,
        "data": _say_data(item.covers_data),
    }


def _say_data(is_covered: bool) -> str:
    return "covered" if is_covered else "not covered"


def _make_update(trial: Trial) -> dict[str, Any]:
    return {
        "version": trial.version,
        "state": "probation" if trial.ready_at else "starting",
        "since": format_time(trial.ready_at or trial.begun_at),
        "generation": trial.back_to,
        "deaths": trial.deaths,
        "data": _say_data(trial.covers_data),
    }


def _make_crash_loop(crash: CrashStanding) -> dict[str, Any]:
    told: dict[str, Any] = {
        "since": format_time(crash.since),
        "deaths": crash.deaths,
        "delayS": crash.delay_s,
        "lastWords": crash.last_words,
    }
    return {**told, "nextTry": format_time(crash.next_at)} if crash.next_at else told


def _make_hold(hold: Hold) -> dict[str, Any]:
    told = {"who": hold.who, "why": hold.why, "since": format_time(hold.since)}
    return {**told, "until": format_time(hold.until)} if hold.until else told


def _make_drift(item: Drift) -> dict[str, Any]:
    told: dict[str, Any] = {
        "what": item.what,
        "value": item.now,
        "wanted": item.wanted,
        "by": item.by,
    }
    return {**told, "until": format_time(item.until)} if item.until else told


def _make_condition(condition: Condition) -> dict[str, Any]:
    return {
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": format_time(condition.since),
    }
