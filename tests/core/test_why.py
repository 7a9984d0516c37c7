"""Why a daemon stands as it does: a case for each kind of cause, with what to type next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from ya_salt.converge.why import _CASES, _GATE_STEPS, _PACKAGE_STEPS, Evidence, explain
from ya_salt.life import Change, CrashLoop, Generation, Hold, Life, Pin, Rejection
from ya_salt.model import (
    Condition,
    DaemonPlan,
    DaemonStatus,
    Drift,
    Event,
    GateStanding,
    Record,
    Rejected,
    ReplaceContainer,
)
from ya_salt.specs.directory import parse_spec
from ya_salt.specs.places import find_lines

NOW = 1_700_000_000.0
PATH = "/etc/d/agent.yaml"
TEXT = """\
meta:
  name: agent
  version: "2"
spec:
  after: [proxy]
  readiness: {tcp: 80}
  properties:
    cmd: [agent, --fast]
    memoryLimit: 64Mb
    env:
      A: "1"
      B: "2"
  packages:
    - name: agent
      version: "2.0"
    - {name: libfoo, version: "1"}
"""
SPEC = parse_spec(TEXT, PATH)
LINES = find_lines(TEXT, is_json=False)
READY = Condition(True, "Ready", "running", NOW - 60)
RUNNING = Condition(True, "Running", "its command runs", NOW - 90)
FINE = DaemonStatus("agent", "2", PATH, running=RUNNING, ready=READY, state="running")
NO_LIFE = Life()
RESTART = Event(NOW - 90, "agent", "restart: changed in the spec: memory_limit", "shell: alice")


def make(
    status: DaemonStatus | None = FINE,
    life: Life = NO_LIFE,
    change: Change | None = None,
    **more: Any,
) -> Evidence:
    record = None if status is None else Record("agent", SPEC, life=life, change=change)
    told: dict[str, Any] = {"spec": SPEC, "lines": LINES, "log_file": "/l", "history": [RESTART]}
    return Evidence("agent", NOW, status=status, record=record, **{**told, **more})


def unready(reason: str, message: str, error: str = "") -> DaemonStatus:
    return replace(FINE, ready=Condition(False, reason, message, NOW), error=error)


def down(reason: str, message: str) -> DaemonStatus:
    verdict = Condition(False, reason, message, NOW)
    return replace(FINE, state=reason.lower(), running=verdict, ready=verdict)


def waiting(reason: str) -> DaemonStatus:
    gate = GateStanding("waiting", reason, "3 slots are taken by a, b, c", NOW - 5, "update", "2")
    return replace(unready("Deferred", "it waits"), gate=gate)


REJECTION = Rejection("m", "1.1", "exited with 3 four times in 20 s", NOW, back_to=4)
BACK = (Generation(4, "n", "1.0"),)
PENDING = DaemonPlan("agent", (ReplaceContainer(SPEC, "changed in the spec: memory_limit"),))
EDITED: Mapping[str, Any] = {
    "container": {"memory_limit": {"old": "33554432", "new": "67108864"}},
    "packages": {"libfoo": {"old": "0.9", "new": "1"}},
}

CASES: Mapping[str, tuple[Evidence, tuple[str, ...], str]] = {
    "PortodSilent": (make(trouble="no portod answers"), ("no portod answers",), "portod"),
    "FileRejected": (
        make(spec=None, rejected=(Rejected(PATH, (f"{PATH}:3:1: spec: is missing",), "agent"),)),
        (f"{PATH}:3:1: spec: is missing",),
        f"ya-salt validate {PATH}",
    ),
    "NeverApplied": (make(None, history=()), (PATH,), "ya-salt apply agent"),
    "Foreign": (make(replace(FINE, phase="Foreign")), ("did not make",), "ya-salt adopt agent"),
    "Held": (
        make(life=Life(hold=Hold("shell: bob", "disk is replaced", NOW - 9, NOW + 7200))),
        ("shell: bob", "disk is replaced", "until 2023-11-15T00:13:20Z"),
        "ya-salt start agent",
    ),
    "VersionRejected": (
        make(life=Life(generations=BACK, rejection=REJECTION)),
        ("1.1 was rejected", "exited with 3 four times in 20 s", "1.0 runs again"),
        "ya-salt retry agent",
    ),
    "RollbackFailed": (
        make(life=Life(rejection=replace(REJECTION, problem="prerm failed"))),
        ("going back failed: prerm failed", "exited with 3"),
        "ya-salt retry agent",
    ),
    "Unknown": (make(unready("Unknown", "get: Timeout")), ("get: Timeout",), "portod's log"),
    "Bug": (make(unready("Bug", "KeyError")), ("KeyError",), "grep porto-daemon-agent /l"),
    "Removed": (
        make(replace(unready("Removed", "removed"), phase="Removed")),
        ("delete_requested",),
        "nothing",
    ),
    "VersionNotFound": (
        make(
            unready("VersionNotFound", "x", "libfoo 1 is in no repository\nE: Version not found"),
            changes=EDITED,
        ),
        ("libfoo 1 is in no repository", "apt said: E: Version not found", f"{PATH}:16"),
        f"apt-cache policy libfoo; upload that version, or correct {PATH}:16",
    ),
    "PostinstFailed": (
        make(unready("PostinstFailed", "agent: exit 1", "agent: postinst exited with 1")),
        ("postinst exited with 1",),
        f"{PATH}:15",
    ),
    "Refused": (
        make(unready("Refused", "portod would not start it: InvalidValue: net")),
        ("InvalidValue: net",),
        "ya-salt retry agent",
    ),
    "GateFull": (
        make(waiting("Full")),
        ("update to 2", "3 slots are taken by a, b, c"),
        "--override-gate",
    ),
    "GateHalted": (make(waiting("Halted")), ("Halted",), "orlyctl resume"),
    "NoAgent": (
        make(unready("NoAgent", "readiness.notify needs the agent, and none runs; start it")),
        ("needs the agent",),
        "systemctl start ya-salt",
    ),
    "WaitsFor": (
        make(unready("WaitsFor", "waits for proxy, which is not ready")),
        ("waits for proxy",),
        "ya-salt why proxy",
    ),
    "Drifted": (
        make(
            replace(
                unready("NotInstalled", "not as declared: agent 2.0"),
                drift=(Drift("package agent", "2.1", "2.0", NOW + 60, "`apt upgrade`"),),
            )
        ),
        ("package agent is 2.1, not 2.0", "by `apt upgrade`", "3 times within an hour"),
        "find who changes it",
    ),
    "OutOfMemory": (
        make(down("Dead", "it ended; it was killed for using more memory than memory_limit")),
        ("more memory than memory_limit",),
        f"raise memory_limit in {PATH}:9",
    ),
    "CrashLooping": (
        make(
            down("CrashLooping", "died 7 times; next try in 64 s; it exited with code 3"),
            Life(crash=CrashLoop(deaths=7, delay_s=64)),
        ),
        ("died 7 times", "exited with code 3"),
        "ya-salt restart agent",
    ),
    "StartFailed": (
        make(down("Stopped", "portod could not start it; start error: no such file")),
        ("no such file",),
        f"{PATH}:8",
    ),
    "Signalled": (
        make(down("Dead", "it ended; it was killed by signal 11")),
        ("signal 11",),
        "dmesg",
    ),
    "NoProgram": (
        make(down("Dead", "it ended; it exited with code 127")),
        ("code 127",),
        f"{PATH}:8",
    ),
    "Exited": (
        make(
            replace(
                down("Respawning", "it exited with code 3; stderr ends with: no"),
                respawn_count=2,
            )
        ),
        ("exited with code 3", "stderr ends with: no", "portod has started it again 2 times"),
        "ya-salt logs agent",
    ),
    "ProbeFailed": (
        make(unready("ProbeFailed", "its probe failed 3 times in a row: connection refused")),
        ("connection refused",),
        f"{PATH}:6",
    ),
    "InvalidValue": (
        make(unready("InvalidValue", "x", "memory_limit: too big; the old one runs on")),
        ("too big; the old one runs on",),
        f"put it right in {PATH}:9",
    ),
    "Orphaned": (make(replace(FINE, phase="Orphaned")), (PATH,), "put the file back"),
    "Pending": (
        make(plan=PENDING, changes=EDITED),
        (
            "a pass would restart: changed in the spec: memory_limit",
            f"{PATH}:9: memory_limit: 33554432 -> 67108864",
            f"{PATH}:16: package libfoo: 0.9 -> 1",
        ),
        "ya-salt apply agent",
    ),
    "Pinned": (
        make(life=Life(pin=Pin(3, "m", "shell: bob", NOW))),
        ("shell: bob went back to generation 3",),
        "ya-salt retry agent",
    ),
    "Starting": (make(unready("Starting", "running for 2 s of 5 s")), ("2 s of 5 s",), "--watch"),
    "NoContainer": (
        make(unready("NoContainer", "there is no container")),
        ("there is no container",),
        "ya-salt logs agent",
    ),
    "Ready": (
        make(
            change=Change(
                "restart: changed in the spec: memory_limit", {"memory_limit": ("1", "2")}
            )
        ),
        ("shell: alice: restart: changed in the spec", f"{PATH}:9: memory_limit: 1 -> 2"),
        "nothing",
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_each_cause_has_its_sentence_and_its_next_step(kind: str) -> None:
    evidence, causes, step = CASES[kind]
    told = explain(evidence)
    assert told.kind == kind
    said = "\n".join(told.causes)
    assert [cause for cause in causes if cause not in said] == []
    assert step in told.next


def test_every_case_is_tried() -> None:
    answered = {
        next((case.__name__ for case in _CASES if case(evidence) is not None), "")
        for evidence, _, _ in CASES.values()
    }
    assert answered == {case.__name__ for case in _CASES} | {""}


def test_what_to_type_next_is_another_one_for_each_cause() -> None:
    steps = [explain(evidence).next for evidence, _, _ in CASES.values()]
    assert len(set(steps)) > len(steps) - 3


@pytest.mark.parametrize("reason", _PACKAGE_STEPS)
def test_every_failure_of_packages_has_a_step_without_gaps(reason: str) -> None:
    told = explain(make(unready(reason, "agent 2.0 cannot be", "agent 2.0 cannot be")))
    assert told.kind == reason
    assert "{" not in told.next


@pytest.mark.parametrize("reason", [*_GATE_STEPS, "SomethingNew"])
def test_every_reason_of_the_gate_has_a_step(reason: str) -> None:
    told = explain(make(waiting(reason)))
    assert told.kind == f"Gate{reason}"
    assert told.next.partition(";")[0]


def test_a_start_is_told_with_what_went_before() -> None:
    died = Event(NOW - 95, "agent", "not ready (Dead): it was killed by signal 9")
    began = Event(NOW - 90, "agent", "start: it is dead", "agent")
    told = explain(make(history=[died, began, Event(NOW - 60, "agent", "ready (Ready): runs")]))
    assert told.causes[1].endswith("by agent: start: it is dead")
    assert told.causes[2].endswith("not ready (Dead): it was killed by signal 9")


def test_a_dead_one_that_the_next_pass_starts_is_started_by_a_pass() -> None:
    told = explain(make(down("Dead", "it exited with code 3"), plan=PENDING))
    assert (told.kind, told.next) == ("Exited", "ya-salt apply agent")
    assert "exited with code 3" in told.causes[0]


def test_lines_are_found_under_either_spelling_and_in_json() -> None:
    assert (LINES["memory_limit"], LINES["env[B]"], LINES["package agent"]) == (9, 12, 15)
    text = (
        '{"meta": {"name": "a"},\n"spec": {"properties": {\n"cmd": ["a"],\n"env": {\n"X": "1"}}}}'
    )
    lines = find_lines(text, is_json=True)
    assert (lines["command_argv"], lines["env[X]"], lines["meta.name"]) == (3, 5, 1)
    assert find_lines("- a: [", is_json=False) == {}
