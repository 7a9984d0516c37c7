"""Conditions and phases: one good daemon, one change a case."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import json_format

from ya_salt.converge.preview import judge_file
from ya_salt.converge.status import is_fine, make_status, make_unmanaged_status
from ya_salt.life import CrashLoop, Hold, Life, Pin, Rejection, Trial
from ya_salt.messages import (
    Details,
    describe_portod,
    make_daemon_status,
    make_host_status,
    make_spec_list,
    read_last_pass,
    with_files,
)
from ya_salt.model import (
    LABEL,
    Condition,
    Container,
    CrashStanding,
    CreateContainer,
    DaemonPlan,
    DaemonSpec,
    DaemonStatus,
    Deferral,
    Drift,
    Event,
    GateStanding,
    InstalledPackage,
    InstallPackages,
    Loaded,
    Observed,
    Outcome,
    Package,
    ProbeStanding,
    Record,
    Rejected,
    ReplaceContainer,
    StartContainer,
    StepResult,
)
from ya_salt.proto import ya_salt_pb2

SPEC = DaemonSpec("d", "1", "/specs/d.yaml", "digest", {}, (Package("p", "1.0"),))
CONTAINER = Container("d", "running", labels={LABEL: "digest"}, running_s=5)
GOOD = Observed(packages={"p": InstalledPackage("p", "1.0")}, containers={"d": CONTAINER})
QUIET = Outcome(DaemonPlan("d"))
RESTART, START = ReplaceContainer(SPEC, "r"), StartContainer("d", "dead", "r")
FULL = Deferral("Full", "3 of 3 slots are taken")
WAITS = Outcome(DaemonPlan("d", deferral=FULL))


def assess(
    container: Container | None = CONTAINER,
    *,
    version: str = "1.0",
    outcome: Outcome = QUIET,
    trouble: str = "",
    previous: DaemonStatus | None = None,
    spec: DaemonSpec = SPEC,
    life: Life | None = None,
) -> DaemonStatus:
    observed = Observed(
        lives={"d": life or Life()},
        packages={"p": InstalledPackage("p", version)} if version else {},
        containers={"d": container} if container else {},
    )
    return make_status(spec, observed, outcome, previous, 1000.0, trouble=trouble)


def reasons(status: DaemonStatus) -> tuple[str, ...]:
    """As `Ready` where the condition holds and `!Dead` where it does not."""
    conditions = (status.installed, status.running, status.ready)
    return tuple(item.reason if item.status else f"!{item.reason}" for item in conditions if item)


@pytest.mark.parametrize(
    ("sentence", "given", "expected"),
    [
        ("all is good", {}, ("Installed", "Running", "Ready")),
        (
            "it runs not long enough",
            {"container": replace(CONTAINER, running_s=4)},
            ("Installed", "Running", "!Starting"),
        ),
        (
            "it is between two lives",
            {"container": replace(CONTAINER, state="respawning")},
            ("Installed", "!Respawning", "!Respawning"),
        ),
        (
            "it is dead",
            {"container": replace(CONTAINER, state="dead")},
            ("Installed", "!Dead", "!Dead"),
        ),
        (
            "there is no container",
            {"container": None},
            ("Installed", "!NoContainer", "!NoContainer"),
        ),
        (
            "a package is missing",
            {"version": ""},
            ("!NotInstalled", "Running", "!NotInstalled"),
        ),
        (
            "a package has another version",
            {"version": "0.9"},
            ("!NotInstalled", "Running", "!NotInstalled"),
        ),
        (
            "it runs from an earlier spec",
            {"container": replace(CONTAINER, labels={LABEL: "old"})},
            ("Installed", "Running", "!Outdated"),
        ),
        (
            "the container is somebody else's",
            {
                "container": replace(CONTAINER, labels={}),
                "outcome": Outcome(
                    DaemonPlan("d", refusal="not ours", refusal_reason="ForeignContainer")
                ),
            },
            ("Installed", "!ForeignContainer", "!ForeignContainer"),
        ),
        (
            "a step failed while the old one runs on",
            {
                "outcome": Outcome(
                    DaemonPlan("d"),
                    (StepResult(ReplaceContainer(SPEC, "r"), "no such user", "InvalidValue"),),
                )
            },
            ("Installed", "Running", "!InvalidValue"),
        ),
        (
            "an install failed, with its own reason",
            {
                "version": "0.9",
                "outcome": Outcome(
                    DaemonPlan("d"),
                    (StepResult(InstallPackages("d", (), "r"), "no", "VersionNotFound"),),
                ),
            },
            ("!VersionNotFound", "Running", "!VersionNotFound"),
        ),
        (
            "its update waits while it runs from an earlier spec",
            {
                "container": replace(CONTAINER, labels={LABEL: "old"}),
                "version": "0.9",
                "outcome": WAITS,
            },
            ("!Deferred", "Running", "Deferred"),
        ),
        (
            "its restart was to be, and the slot was lost right before",
            {"outcome": Outcome(DaemonPlan("d"), (StepResult(RESTART, deferral=FULL),))},
            ("Installed", "Running", "Deferred"),
        ),
        (
            "its first installation waits",
            {"container": None, "version": "", "outcome": WAITS},
            ("!Deferred", "!NoContainer", "!Deferred"),
        ),
        (
            "its update waits while it is dead",
            {"container": replace(CONTAINER, state="dead"), "outcome": WAITS},
            ("Installed", "!Dead", "!Dead"),
        ),
        (
            "its update waits while it starts",
            {"container": replace(CONTAINER, running_s=4), "outcome": WAITS},
            ("Installed", "Running", "!Starting"),
        ),
        (
            "its update waits and its repair failed",
            {
                "container": replace(CONTAINER, state="dead"),
                "outcome": Outcome(
                    WAITS.plan, (StepResult(START, "no such user", "InvalidValue"),)
                ),
            },
            ("Installed", "!Dead", "!InvalidValue"),
        ),
        (
            "its removal waits",
            {"spec": replace(SPEC, delete_requested=True), "outcome": WAITS},
            ("Installed", "Running", "Deferred"),
        ),
    ],
)
def test_conditions(sentence: str, given: dict, expected: tuple[str, ...]) -> None:
    assert reasons(assess(**given)) == expected


def test_what_waits_keeps_the_version_that_it_has() -> None:
    previous = replace(assess(), version="0")
    assert assess(outcome=WAITS, previous=previous).version == "0"
    assert assess(None, outcome=WAITS).version == ""
    assert assess(previous=previous).version == "1"


def test_a_daemon_that_waits_says_for_what() -> None:
    why = "waits for the gate: Full: 3 of 3 slots are taken"
    assert assess(outcome=WAITS).ready.message == f"it runs as before, its change {why}"
    assert assess(None, outcome=WAITS).ready.message == f"its first installation {why}"
    dead = assess(replace(CONTAINER, state="dead"), outcome=WAITS, trouble="it exited with code 3")
    assert dead.ready.message == f"{dead.running.message}; its change {why}"
    assert "it exited with code 3" in dead.ready.message
    assert assess(version="0.9", outcome=WAITS).installed.message == "not yet as declared: p 1.0"


def test_the_time_of_a_transition_stays_while_the_condition_does() -> None:
    old = DaemonStatus("d", ready=Condition(True, "Ready", "", 7.0))
    assert assess(previous=old).ready.since == 7.0
    assert assess(None, previous=old).ready.since == 1000.0
    assert assess(previous=old).installed.since == 1000.0


def test_trouble_is_in_the_message_of_a_daemon_that_does_not_run() -> None:
    status = assess(replace(CONTAINER, state="dead"), trouble="it exited with code 3")
    assert "it exited with code 3" in status.running.message


@pytest.mark.parametrize(
    ("step", "restarts"),
    [
        (ReplaceContainer(SPEC, "r"), 1),
        (StartContainer("d", "dead", "r"), 1),
        (CreateContainer(SPEC, "r"), 0),
        (InstallPackages("d", (), "r"), 0),
    ],
)
def test_restarts_are_counted_on_top_of_earlier_ones(step, restarts: int) -> None:
    outcome = Outcome(DaemonPlan("d"), (StepResult(step),))
    assert assess(outcome=outcome, previous=DaemonStatus("d", restart_count=2)).restart_count == (
        2 + restarts
    )
    failed = Outcome(DaemonPlan("d"), (StepResult(step, "failed"),))
    assert assess(outcome=failed).restart_count == 0


def test_a_removed_daemon_is_removed_only_when_nothing_failed_or_waits() -> None:
    spec = replace(SPEC, delete_requested=True)
    assert assess(None, version="", spec=spec).phase == "Removed"
    failed = Outcome(DaemonPlan("d", refusal="locked", refusal_reason="LockHeld"))
    assert assess(None, spec=spec, outcome=failed).phase == "Managed"
    assert assess(spec=spec, outcome=WAITS).phase == "Managed"


def test_an_unmanaged_daemon_shows_what_its_container_does_now() -> None:
    previous = replace(assess(), restart_count=4)
    there = Observed(containers={previous.name: replace(CONTAINER, state="dead")})
    dead = make_unmanaged_status(previous, "Orphaned", there, "", 2000.0)
    assert (dead.phase, dead.restart_count, reasons(dead)) == (
        "Orphaned",
        4,
        ("Installed", "!Dead", "!Dead"),
    )


def test_json_is_what_the_proto_says() -> None:
    status = replace(
        assess(),
        warnings=("w",),
        actions=("a",),
        error="e",
        respawn_count=2**40,
        memory_bytes=2**40,
        cpu_ns=1,
        gate=GateStanding("waiting", "Full", "3 of 3 slots are taken", 1.0, "update", "1"),
        probe=ProbeStanding("tcp 80", True, 1, 3, "refused", 1.0, 2.0),
        waits_for="waits for b (dead)",
        rejection=Rejection("mark", "1.1", "exited with 3", 1.0, 1, "no room"),
        trial=Trial("mark", "1.1", 1, begun_at=1.0, deaths=1),
        pin=Pin(1, "mark", "shell: a", 1.0),
        generations=2,
        crash=CrashStanding(1.0, 5, 16.0, 2.0, "it exited with code 3"),
        hold=Hold("shell: eve", "disk", 1.0, 2.0),
        drift=(Drift("memory_limit", "2", "1", 1.0, "dpkg"),),
    )
    fact = {
        "started_at": 1.0,
        "duration_s": 0.5,
        "result": "ok",
        "error": "",
        "rejected": [["/x", ["p"]]],
        "ignored": [["/y", "r"]],
    }
    sinks = [{"name": "yasm", "state": "refused", "message": "no", "since": 1.0}]
    gate = {"type": "orly", "state": "answered", "message": "m", "since": 1.0}
    portod = describe_portod("no answer", fact)
    details = Details(
        7, {"memory_limit": "1"}, (Event(1.0, "d", "create", "shell: a"),), "last words"
    )
    told = make_host_status([status, assess()], fact, sinks, gate, portod, details)
    message = json_format.ParseDict(told, ya_salt_pb2.HostStatus())
    fields = {field.name for field, _ in message.porto_daemons[0].ListFields()}
    assert fields == {field.name for field in ya_salt_pb2.PortoDaemonStatus.DESCRIPTOR.fields}
    assert told["portoDaemons"][0]["respawnCount"] == 2**40
    assert {field.name for field, _ in message.ListFields()} == {
        field.name for field in ya_salt_pb2.HostStatus.DESCRIPTOR.fields
    }
    assert {field.name for field, _ in message.porto_daemons[0].gate.ListFields()} == {
        field.name for field in ya_salt_pb2.GateStanding.DESCRIPTOR.fields
    }
    assert {field.name for field, _ in message.porto_daemons[0].crash_loop.ListFields()} == {
        field.name for field in ya_salt_pb2.CrashLoop.DESCRIPTOR.fields
    }
    assert {field.name for field, _ in message.porto_daemons[0].hold.ListFields()} == {
        field.name for field in ya_salt_pb2.Hold.DESCRIPTOR.fields
    }
    assert {field.name for field, _ in message.gate.ListFields()} == {
        field.name for field in ya_salt_pb2.GateStatus.DESCRIPTOR.fields
    }
    assert told["gate"]["queueLength"] == 1
    assert {field.name for field, _ in message.portod.ListFields()} == {
        field.name for field in ya_salt_pb2.PortodStanding.DESCRIPTOR.fields
    }
    assert {field.name for field, _ in message.porto_daemons[0].history[0].ListFields()} == {
        field.name for field in ya_salt_pb2.HistoryEvent.DESCRIPTOR.fields
    }
    assert "pid" not in make_daemon_status(status)
    for part in ("rejected", "update", "pinned"):
        found = getattr(message.porto_daemons[0], part)
        assert len(found.ListFields()) == len(found.DESCRIPTOR.fields)
        assert not message.porto_daemons[1].HasField(part)
    assert not message.porto_daemons[1].HasField("gate")
    assert {field.name for field, _ in message.sinks[0].ListFields()} == {
        field.name for field in ya_salt_pb2.SinkStatus.DESCRIPTOR.fields
    }
    assert {field.name for field, _ in message.last_pass.ListFields()} == {
        field.name for field in ya_salt_pb2.PassStatus.DESCRIPTOR.fields
    }


def test_a_gate_that_was_not_asked_has_no_time() -> None:
    gate = {"type": "none", "state": "unasked", "message": "no gate", "since": None}
    told = make_host_status([assess()], None, gate=gate)["gate"]
    assert told == {"type": "none", "state": "unasked", "message": "no gate", "queueLength": 0}


def test_the_spec_list_holds_what_was_loaded() -> None:
    spec = replace(SPEC, document='{"meta":{"name":"d"},"spec":{}}')
    managed = Record("d", spec=spec, status=assess())
    orphan = Record("o", spec=spec, status=DaemonStatus("o", phase="Orphaned"))
    lost = Record("l", status=DaemonStatus("l"))
    assert make_spec_list([managed, orphan, lost]) == {
        "portoDaemons": [{"meta": {"name": "d"}, "spec": {}}]
    }


def test_times_are_utc_to_the_second() -> None:
    assert make_daemon_status(assess())["updatedAt"] == "1970-01-01T00:16:40Z"


FACT = {"started_at": 9.0, "duration_s": 1.0, "result": "ok", "error": ""}


@pytest.mark.parametrize(
    ("last_pass", "since"),
    [
        (None, None),
        (with_files(None, Loaded()), None),
        (FACT, "1970-01-01T00:00:09Z"),
        ({**FACT, "error": "no answer", "portod_since": 5.0}, "1970-01-01T00:00:05Z"),
    ],
    ids=["no pass", "no pass, but files", "a pass that it answered", "passes that it did not"],
)
def test_since_when_portod_does_not_answer_is_what_passes_know(
    last_pass: dict[str, Any] | None, since: str | None
) -> None:
    assert describe_portod("no answer", last_pass).get("since") == since
    assert describe_portod("", last_pass) == {"answers": True, "message": ""}


@pytest.mark.parametrize(
    "fact", [None, 7, [], {}, {**FACT}, {**FACT, "rejected": [7], "ignored": []}]
)
def test_a_last_pass_of_an_odd_shape_is_none(fact: object) -> None:
    assert read_last_pass(fact) is None


BROKEN = Loaded(rejected=(Rejected("/specs/d.yaml", ("/specs/d.yaml:1:1: is wrong",), "d"),))


@pytest.mark.parametrize(
    ("phase", "loaded", "now"),
    [
        ("Managed", Loaded((SPEC,)), "Managed"),
        ("Managed", BROKEN, "Rejected"),
        ("Orphaned", BROKEN, "Rejected"),
        ("Foreign", BROKEN, "Foreign"),
        ("Rejected", BROKEN, "Rejected"),
        ("Rejected", Loaded((SPEC,)), "Managed"),
        ("Rejected", Loaded(), "Orphaned"),
    ],
)
def test_a_status_is_told_by_the_file_as_it_is_now(phase: str, loaded: Loaded, now: str) -> None:
    last = DaemonStatus("d", path="/specs/d.yaml", phase=phase, error="e" * (phase == "Rejected"))
    status = judge_file(last, loaded)
    assert status.phase == now
    assert bool(status.error) == (now == "Rejected")


LOOP = CrashLoop(deaths=4, since=900.0, last_at=995.0, delay_s=8, next_at=1003.0, is_down=True)


@pytest.mark.parametrize(
    ("state", "crash", "expected"),
    [
        ("dead", LOOP, ("Installed", "!CrashLooping", "!CrashLooping")),
        ("respawning", LOOP, ("Installed", "!CrashLooping", "!CrashLooping")),
        ("dead", replace(LOOP, deaths=2), ("Installed", "!Dead", "!Dead")),
        ("stopped", LOOP, ("Installed", "!Stopped", "!Stopped")),
        ("running", replace(LOOP, is_down=False), ("Installed", "Running", "Ready")),
    ],
)
def test_one_that_keeps_dying_says_so(
    state: str, crash: CrashLoop, expected: tuple[str, ...]
) -> None:
    container = replace(CONTAINER, state=state)
    status = assess(container, life=Life(crash=crash), trouble="it exited with code 3")

    assert reasons(status) == expected
    assert (status.crash is not None) == (crash.deaths >= 3)
    if "!CrashLooping" in expected:
        assert status.ready is not None
        for fact in ("4 times", "1970-01-01T00:15:00Z", "1970-01-01T00:16:43Z", "code 3"):
            assert fact in status.ready.message


def test_what_it_said_last_is_kept_while_it_runs() -> None:
    life = Life(crash=LOOP)
    down = assess(replace(CONTAINER, state="dead"), life=life, trouble="it exited with code 3")
    up = assess(previous=down, life=Life(crash=replace(LOOP, is_down=False)))

    assert up.crash == CrashStanding(900.0, 4, 8.0, 0.0, "it exited with code 3")


@pytest.mark.parametrize(
    ("state", "expected", "fine"),
    [
        ("dead", ("Installed", "!Held", "!Held"), True),
        ("stopped", ("Installed", "!Held", "!Held"), True),
        ("", ("Installed", "!Held", "!Held"), True),
        ("running", ("Installed", "Running", "Ready"), True),
        ("paused", ("Installed", "!Paused", "!Paused"), False),
    ],
)
def test_one_that_somebody_holds_is_fine_once_it_is_down(
    state: str, expected: tuple[str, ...], fine: bool
) -> None:
    container = replace(CONTAINER, state=state) if state else None
    status = assess(container, life=Life(hold=Hold("shell: eve", "disk", 900.0, 4600.0)))

    assert reasons(status) == expected
    assert is_fine(status) == fine
    assert status.hold is not None
    if "!Held" in expected:
        assert status.ready is not None
        for fact in ("shell: eve", "disk", "1970-01-01T01:16:40Z"):
            assert fact in status.ready.message


def test_a_container_that_is_not_ours_is_not_called_held() -> None:
    foreign = replace(CONTAINER, state="dead", labels={})

    assert reasons(assess(foreign, life=Life(hold=Hold("eve", "", 1.0))))[1] == "!ForeignContainer"
