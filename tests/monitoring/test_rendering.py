"""What each sink is told, as a table: facts in, bodies out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.receiver import check_juggler, check_yasm
from hypothesis import given
from hypothesis import strategies as st
from made import ANSWERED, DEAD, FAILED, GOOD, NO_GATE, NOW, WAITING, make, remember

from ya_salt.gate.memory import GateMemory, find_gate_facts
from ya_salt.gate.protocol import Slot
from ya_salt.life import Hold, Rejection
from ya_salt.model import (
    Condition,
    CrashStanding,
    GateStanding,
    JugglerSettings,
    ProbeStanding,
    YasmSettings,
)
from ya_salt.monitoring.metrics import MAX_PASS_AGE_S, cut_text
from ya_salt.monitoring.render import alertmanager, juggler, prometheus, yasm
from ya_salt.monitoring.verdicts import find_refused

NAMES = st.text(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-@:./", min_size=1, max_size=100
).filter(lambda name: "/" not in name and name not in {".", "..", "self"})


def push(*statuses, **more) -> dict[str, int]:
    body = yasm.render_push(make(*statuses, **more), YasmSettings())
    assert check_yasm(body) == []
    return {value["name"]: value["val"] for value in body[0]["values"]}


def events(*statuses, **more) -> dict[str, dict]:
    found = juggler.render_events(make(*statuses, **more), JugglerSettings(), "host.example.org")
    for request in juggler.render_requests(found, "ya-salt"):
        assert check_juggler(request) == []
    return {event["service"]: event for event in found}


def tell_prometheus(*statuses, **more) -> list[str]:
    return prometheus.render_text(make(*statuses, **more)).decode().splitlines()


# -- YASM --------------------------------------------------------------------------------------


def test_signals_are_named_as_documented() -> None:
    told = push(GOOD, memory=remember(d=(3, 2)))
    assert {name: told[name] for name in told if name.startswith("porto-daemon-")} == {
        "porto-daemon-d-ready_thhh": 1,
        "porto-daemon-d-running_thhh": 1,
        "porto-daemon-d-respawn_count_thhh": 3,
        "porto-daemon-d-restart_count_thhh": 2,
        "porto-daemon-d-gate_waiting_thhh": 0,
        "porto-daemon-d-gate_failed_thhh": 0,
        "porto-daemon-d-crash_looping_thhh": 0,
        "porto-daemon-d-held_thhh": 0,
        "porto-daemon-d-version_rejected_thhh": 0,
    }


def test_a_probe_that_failed_is_told_everywhere() -> None:
    """Of daemons that nobody asks there is no such signal."""
    probe = ProbeStanding("http 80/health", False, 4, 3, "it answered 503", NOW - 9, NOW - 1)
    words = "its probe failed 4 times in a row: http 80/health: it answered 503"
    failed = replace(GOOD, ready=Condition(False, "ProbeFailed", words, NOW - 9), probe=probe)
    assert push(failed)["porto-daemon-d-probe_failed_thhh"] == 1
    assert 'porto_daemon_probe_failures{daemon="d"} 4.0' in tell_prometheus(failed)
    event = events(failed)["porto-daemon-d-ready"]
    assert event["status"] == "CRIT" and "it answered 503" in event["description"]
    ready = replace(GOOD, probe=replace(probe, is_ready=True, failures=1))
    assert push(ready)["porto-daemon-d-probe_failed_thhh"] == 0
    assert "porto-daemon-d-probe_failed_thhh" not in push(GOOD)
    assert not any('porto_daemon_probe_failures{daemon="d"}' in x for x in tell_prometheus(GOOD))


def test_the_body_carries_ttl_and_tags() -> None:
    settings = YasmSettings(tags={"itype": "x", "ctype": "prod"}, ttl_s=60)
    (body,) = yasm.render_push(make(GOOD), settings)
    assert (body["ttl"], body["tags"]) == (60, {"itype": "x", "ctype": "prod"})


@pytest.mark.parametrize(
    ("sentence", "status", "ready", "running"),
    [
        ("all is good", GOOD, 1, 1),
        ("it is dead", DEAD, 0, 0),
        ("it starts", replace(GOOD, ready=Condition(False, "Starting", "", NOW)), 0, 1),
        ("its file is gone", replace(GOOD, phase="Orphaned"), 1, 1),
        ("its update waits", WAITING, 1, 1),
        ("it was never looked at", replace(GOOD, ready=None, running=None), 0, 0),
    ],
)
def test_ready_and_running(sentence: str, status, ready: int, running: int) -> None:
    told = push(status)
    prefix = f"porto-daemon-{status.name}"
    assert (told[f"{prefix}-ready_thhh"], told[f"{prefix}-running_thhh"]) == (ready, running)


def test_only_what_is_new_is_counted() -> None:
    memory = remember(d=(5, 2))
    memory.accept("yasm", {"d": (3, 2)})
    told = push(GOOD, memory=memory)
    assert told["porto-daemon-d-respawn_count_thhh"] == 2
    assert told["porto-daemon-d-restart_count_thhh"] == 0


def test_a_removed_daemon_is_told_only_until_its_counts_are() -> None:
    gone = replace(GOOD, phase="Removed", ready=Condition(False, "Removed", "", NOW))
    memory = remember(d=(1, 0))
    assert [name for name in push(gone, memory=memory) if name.startswith("porto-daemon-")] == [
        "porto-daemon-d-respawn_count_thhh",
        "porto-daemon-d-restart_count_thhh",
    ]
    memory.accept("yasm", memory.list_totals())
    assert not any(name.startswith("porto-daemon-") for name in push(gone, memory=memory))


def test_the_host_has_signals_of_its_own() -> None:
    told = push(
        replace(GOOD, phase="Orphaned"),
        rejected=[["/specs/x.yaml", ["/specs/x.yaml:1:1: bad"]]],
        error="no portod answers",
        now=NOW + 2 * MAX_PASS_AGE_S,
    )
    assert {name: value for name, value in told.items() if name.startswith("porto-daemons-")} == {
        "porto-daemons-rejected_files_thhh": 1,
        "porto-daemons-orphans_thhh": 1,
        "porto-daemons-pass_failed_thhh": 1,
        "porto-daemons-pass_old_thhh": 1,
        "porto-daemons-gate_queue_thhh": 0,
        "porto-daemons-gate_unreachable_thhh": 0,
        "porto-daemons-holds_forgotten_thhh": 0,
    }


@pytest.mark.parametrize(
    ("sentence", "status", "slot", "waiting", "failed"),
    [
        ("it waits", WAITING, "", 1, 0),
        ("its change is under way", GOOD, "working", 0, 0),
        ("its change has to prove itself", GOOD, "settling", 0, 0),
        ("its change failed", DEAD, "failed", 0, 1),
        ("its change failed, and the next waits", WAITING, "failed", 1, 1),
    ],
)
def test_how_a_daemon_stands_with_the_gate(
    sentence: str, status, slot: str, waiting: int, failed: int
) -> None:
    if slot and not status.waits:
        status = replace(status, gate=GateStanding(slot, "", "it keeps its slot", NOW))
    slots = {status.name: slot} if slot else {}
    told = push(status, gate={**ANSWERED, "slots": slots})
    prefix = f"porto-daemon-{status.name}-gate"
    assert (told[f"{prefix}_waiting_thhh"], told[f"{prefix}_failed_thhh"]) == (waiting, failed)
    lines = tell_prometheus(status, gate={**ANSWERED, "slots": slots})
    for name, value in (("waiting", waiting), ("failed", failed), ("slot", int(bool(slot)))):
        assert f'porto_daemon_gate_{name}{{daemon="{status.name}"}} {value}.0' in lines


@pytest.mark.parametrize(
    ("sentence", "gate", "up", "unreachable"),
    [
        ("there is none", NO_GATE, None, 0),
        ("nothing was asked yet", {**NO_GATE, "type": "orly"}, None, 0),
        ("it answered", ANSWERED, "1.0", 0),
        ("it could not be asked", FAILED, "0.0", 1),
    ],
)
def test_whether_the_gate_can_be_asked(sentence: str, gate, up, unreachable: int) -> None:
    assert push(GOOD, gate=gate)["porto-daemons-gate_unreachable_thhh"] == unreachable
    lines = [
        line for line in tell_prometheus(gate=gate) if line.startswith("porto_daemons_gate_up")
    ]
    assert lines == ([f"porto_daemons_gate_up {up}"] if up else [])


def test_what_a_host_remembers_of_a_gate_is_told_while_it_has_one() -> None:
    held = Slot("d", "id", "update", "1.3", NOW, state="failed", error="no licence")
    memory = GateMemory({"d": held}, state="failed", message="m", since=NOW, override="o")
    signals = ("porto-daemon-d-gate_failed_thhh", "porto-daemons-gate_unreachable_thhh")
    for kind, value in (("orly", 1), ("none", 0)):
        gate = find_gate_facts(kind, memory)
        told = push(GOOD, gate=gate)
        assert [told[name] for name in signals] == [value, value]
        assert f"porto_daemons_gate_overridden {value}.0" in tell_prometheus(gate=gate)


def test_the_queue_is_the_daemons_that_wait() -> None:
    gone = replace(WAITING, name="gone", phase="Removed")
    failed = replace(GOOD, name="f", gate=GateStanding("failed", "", "no licence", NOW))
    statuses = (GOOD, WAITING, replace(WAITING, name="other"), gone, failed)
    assert push(*statuses)["porto-daemons-gate_queue_thhh"] == 2
    assert "porto_daemons_gate_queue_length 2.0" in tell_prometheus(*statuses)


def test_a_name_in_yasms_alphabet_stays_as_it_is() -> None:
    assert yasm.map_name("juggler-agent-rtc_2.x@1") == "juggler-agent-rtc_2.x@1"
    assert yasm.map_name("a:b") == "a/3ab"


@given(NAMES, NAMES)
def test_no_two_daemons_share_a_signal(one: str, other: str) -> None:
    assert (yasm.map_name(one) == yasm.map_name(other)) == (one == other)
    told = push(replace(GOOD, name=one), *([replace(GOOD, name=other)] if one != other else []))
    host = len(push())
    assert len(told) == (len(push(GOOD)) - host) * len({one, other}) + host


# -- Juggler -----------------------------------------------------------------------------------


def test_a_ready_daemon_is_ok_and_any_other_critical() -> None:
    told = events(GOOD, DEAD)
    assert told["porto-daemon-d-ready"] == {
        "host": "host.example.org",
        "service": "porto-daemon-d-ready",
        "instance": "",
        "status": "OK",
        "description": "ready, version 1.2",
        "tags": ["porto-daemon"],
    }
    dead = told["porto-daemon-dead-ready"]
    assert dead["status"] == "CRIT"
    assert dead["description"].startswith("Dead: its command ended")
    assert "exited with code 3" in dead["description"]
    assert "cannot open the config" in dead["description"]


def test_a_removed_daemon_is_no_event() -> None:
    assert list(events(replace(GOOD, phase="Removed"))) == ["porto-daemons"]


def test_a_long_description_keeps_both_ends() -> None:
    words = "E: " + "ä" * 4000 + " last words"
    told = events(replace(DEAD, ready=Condition(False, "Failed", words, NOW)))
    text = told["porto-daemon-dead-ready"]["description"]
    assert len(text.encode()) <= 1024
    assert text.startswith("Failed: E: ä")
    assert text.endswith("cannot open the config")


@given(st.text(max_size=80), st.integers(8, 100))
def test_cut_text_is_never_too_long(text: str, limit: int) -> None:
    assert len(cut_text(text, limit).encode()) <= limit


@pytest.mark.parametrize(
    ("sentence", "given", "status", "words"),
    [
        ("all is good", {}, "OK", "every file is used"),
        ("a file is broken", {"rejected": [["/x", ["/x:1:1: bad"]]]}, "CRIT", "/x:1:1: bad"),
        ("the pass failed", {"error": "no portod answers"}, "CRIT", "no portod answers"),
        ("the pass is old", {"now": NOW + 7200}, "CRIT", "120 minutes ago"),
        ("no pass was made", {"started_at": None}, "CRIT", "no pass"),
    ],
)
def test_the_host_has_an_event_of_its_own(sentence, given, status, words) -> None:
    event = events(GOOD, **given)["porto-daemons"]
    assert (event["status"], words in event["description"]) == (status, True), event


def test_an_orphan_alone_is_a_warning() -> None:
    event = events(replace(GOOD, phase="Orphaned"))["porto-daemons"]
    assert (event["status"], event["description"]) == (
        "WARN",
        "orphaned, their files are gone: d",
    )


def test_an_update_that_waits_says_why_and_is_fine() -> None:
    told = events(WAITING, gate=ANSWERED)
    event = told["porto-daemon-waiting-ready"]
    assert (event["status"], event["description"]) == (
        "OK",
        "ready, version 1.2; its update to 1.3 waits for the gate since 2023-11-14T22:12:40Z: "
        "Full: 3 of 3 slots are taken",
    )
    assert told["porto-daemons"]["status"] == "OK"


@pytest.mark.parametrize(
    ("operation", "what"),
    [
        ("install", "its first installation waits"),
        ("update", "its update to 1.3 waits"),
        ("restart", "its restart waits"),
        ("remove", "its removal waits"),
        ("", "its change waits"),
    ],
)
def test_what_waits_is_named(operation: str, what: str) -> None:
    gate = replace(WAITING.gate, operation=operation)
    event = events(replace(WAITING, gate=gate))["porto-daemon-waiting-ready"]
    assert what in event["description"]


NOT_YET = "its first installation waits for the gate: Full: 3 of 3 slots are taken"
DIED = "its command ended; stderr ends with: no licence"


@pytest.mark.parametrize(
    ("sentence", "ready", "running", "description"),
    [
        (
            "a first installation waits",
            ("Deferred", NOT_YET),
            (False, "NoContainer", "there is no container"),
            f"Deferred: {NOT_YET}; NoContainer: there is no container",
        ),
        (
            "what it ran from died",
            ("Dead", f"{DIED}; its change waits for the gate: Full: 3 of 3 slots are taken"),
            (False, "Dead", DIED),
            f"Dead: {DIED}; its change waits for the gate: Full: 3 of 3 slots are taken",
        ),
        (
            "what it ran from starts",
            ("Starting", "running for 1 s of 5 s"),
            (True, "Running", "its command runs"),
            "Starting: running for 1 s of 5 s; its update to 1.3 waits for the gate since "
            "2023-11-14T22:12:40Z: Full: 3 of 3 slots are taken",
        ),
    ],
)
def test_a_daemon_that_waits_and_is_not_ready_says_everything_once(
    sentence: str, ready, running, description: str
) -> None:
    status = replace(WAITING, ready=Condition(False, *ready, NOW), running=Condition(*running, NOW))
    event = events(status)["porto-daemon-waiting-ready"]
    assert (event["status"], event["description"]) == ("CRIT", description)


def test_a_slot_is_no_wait() -> None:
    settling = replace(GOOD, gate=GateStanding("settling", "", "it keeps its slot", NOW))
    told = events(settling)["porto-daemon-d-ready"]
    assert told["description"] == "ready, version 1.2"


@pytest.mark.parametrize(
    ("sentence", "gate", "words"),
    [
        (
            "it cannot be asked",
            FAILED,
            "the gate cannot be asked since 2023-11-14T22:11:50Z: etcd is silent",
        ),
        (
            "somebody went past it",
            {**ANSWERED, "override": "the site is down"},
            "the last pass went past the gate: the site is down",
        ),
    ],
)
def test_trouble_with_the_gate_is_a_warning(sentence: str, gate, words: str) -> None:
    event = events(WAITING, gate=gate)["porto-daemons"]
    assert (event["status"], event["description"]) == ("WARN", words)
    worse = events(gate=gate, error="no portod answers")["porto-daemons"]
    assert worse["status"] == "CRIT"
    assert worse["description"] == f"the last pass failed: no portod answers; {words}"


def test_where_portod_cannot_be_asked_no_daemon_is_ready() -> None:
    told = events(GOOD, error="no portod answers")["porto-daemon-d-ready"]
    assert told["status"] == "CRIT"
    assert told["description"] == (
        "PortodUnavailable: nobody can see it: no portod answers; at the last look it was ready"
    )


def test_fifty_events_go_into_a_request() -> None:
    many = [replace(GOOD, name=f"d{number}") for number in range(119)]
    found = juggler.render_events(make(*many), JugglerSettings(), "h")
    requests = list(juggler.render_requests(found, "s"))
    assert [len(request["events"]) for request in requests] == [50, 50, 20]


@pytest.mark.parametrize(
    ("answer", "codes"),
    [
        ({"events": [{"code": 200}, {"code": 200}]}, []),
        ({"events": [{"code": 200}, {"code": 400, "error": "bad"}]}, [400]),
        ({"events": [{"code": 200}]}, [0]),
        ({"events": [{"code": "200"}, {}]}, [0, 0]),
        ({"events": {}}, [0, 0]),
        ({}, [0, 0]),
        (None, [0, 0]),
        ([], [0, 0]),
    ],
)
def test_every_events_code_is_checked(answer, codes: list[int]) -> None:
    found = find_refused([{"service": "a"}, {"service": "b"}], answer)
    assert [code for _, code, _ in found] == codes


# -- Prometheus --------------------------------------------------------------------------------


def test_the_file_holds_the_same_facts() -> None:
    text = prometheus.render_text(
        make(
            GOOD,
            DEAD,
            memory=remember(d=(3, 2)),
            rejected=[['/specs/"x".yaml', ["bad"]]],
        )
    ).decode()
    lines = text.splitlines()
    for line in (
        'porto_daemon_ready{daemon="d"} 1.0',
        'porto_daemon_ready{daemon="dead"} 0.0',
        'porto_daemon_running{daemon="d"} 1.0',
        'porto_daemon_respawns_total{daemon="d"} 3.0',
        'porto_daemon_restarts_total{daemon="d"} 2.0',
        'porto_daemon_info{daemon="d",digest="abc",version="1.2"} 1.0',
        'porto_daemon_memory_usage_bytes{daemon="d"} 1.048576e+06',
        'porto_daemon_cpu_usage_seconds_total{daemon="d"} 1.5',
        'porto_daemon_last_transition_timestamp_seconds{daemon="d"} 1.699999945e+09',
        r'porto_daemon_spec_rejected{file="/specs/\"x\".yaml"} 1.0',
        "porto_daemons_pass_duration_seconds 1.5",
        "porto_daemons_pass_result 1.0",
        "porto_daemons_gate_queue_length 0.0",
        "porto_daemons_gate_overridden 0.0",
    ):
        assert line in lines, text
    assert 'porto_daemon_memory_usage_bytes{daemon="dead"}' not in text
    assert "# TYPE porto_daemon_respawns_total counter" in lines


# -- Alertmanager ------------------------------------------------------------------------------


def test_what_is_not_ready_fires_and_later_resolves() -> None:
    firing = alertmanager.render_firing(make(GOOD, DEAD), "h")
    (alert,) = alertmanager.merge_alerts(firing, {}, NOW)
    assert alert["labels"] == {
        "alertname": "PortoDaemonNotReady",
        "daemon": "dead",
        "severity": "critical",
        "instance": "h",
    }
    assert "cannot open the config" in alert["annotations"]["description"]
    assert alert["startsAt"] == "2023-11-14T22:12:50Z"
    (over,) = alertmanager.merge_alerts({}, firing, NOW + 60)
    assert over["labels"] == alert["labels"]
    assert over["endsAt"] == "2023-11-14T22:14:20Z"


def test_trouble_with_the_gate_fires_as_a_warning() -> None:
    gate = {**FAILED, "override": "the site is down"}
    assert "porto_daemons_gate_overridden 1.0" in tell_prometheus(gate=gate)
    firing = alertmanager.render_firing(make(WAITING, gate=gate), "h")
    told = {
        alert["labels"]["problem"]: (
            alert["labels"]["severity"],
            alert["annotations"]["description"],
        )
        for alert in firing.values()
    }
    assert told == {
        "gate_unreachable": (
            "warning",
            "the gate cannot be asked since 2023-11-14T22:11:50Z: etcd is silent",
        ),
        "gate_overridden": ("warning", "the last pass went past the gate: the site is down"),
    }


def test_an_alert_keeps_the_start_that_was_told_first() -> None:
    first = alertmanager.render_firing(make(GOOD, rejected=[["/x", ["bad"]]]), "h")
    later = alertmanager.render_firing(make(rejected=[["/x", ["bad"]]], now=NOW + 60), "h")
    (alert,) = alertmanager.merge_alerts(later, first, NOW + 60)
    assert alert["startsAt"] == first["host rejected_files"]["startsAt"]
    assert alert["labels"]["problem"] == "rejected_files"


# -- held, and dying again and again -------------------------------------------------------------

HELD = replace(
    GOOD,
    name="held",
    running=Condition(False, "Held", "held by eve", NOW - 60),
    ready=Condition(False, "Held", "held by eve", NOW - 60),
    hold=Hold("eve", "disk", NOW - 90_000),
)
LOOPING = replace(DEAD, name="loop", crash=CrashStanding(NOW - 60, 5, 16.0))


def test_one_that_is_held_is_no_alert_of_its_own() -> None:
    assert events(HELD)["porto-daemon-held-ready"]["status"] == "CRIT"
    assert "daemon held" not in alertmanager.render_firing(make(HELD), "h")
    assert push(HELD)["porto-daemon-held-held_thhh"] == 1
    assert 'porto_daemon_held{daemon="held"} 1.0' in tell_prometheus(HELD)


@pytest.mark.parametrize(
    ("hold", "is_forgotten"),
    [
        (Hold("eve", "disk", NOW - 90_000), True),
        (Hold("eve", "disk", NOW - 80_000), False),
        (Hold("eve", "disk", NOW - 90_000, NOW + 60), False),
    ],
)
def test_a_hold_without_an_end_is_forgotten_after_a_day(hold: Hold, is_forgotten: bool) -> None:
    status = replace(HELD, hold=hold)
    since = [line for line in tell_prometheus(status) if "held_without_end" in line and "{" in line]

    assert ("host holds_forgotten" in alertmanager.render_firing(make(status), "h")) == is_forgotten
    assert push(status)["porto-daemons-holds_forgotten_thhh"] == is_forgotten
    assert ("by eve" in events(status)["porto-daemons"]["description"]) == is_forgotten
    assert bool(since) == (not hold.until)


def test_one_that_dies_again_and_again_has_its_signal() -> None:
    told = push(LOOPING, GOOD)

    assert told["porto-daemon-loop-crash_looping_thhh"] == 1
    assert told["porto-daemon-d-crash_looping_thhh"] == 0
    assert 'porto_daemon_crash_looping{daemon="loop"} 1.0' in tell_prometheus(LOOPING)
    assert events(LOOPING)["porto-daemon-loop-ready"]["status"] == "CRIT"


def test_an_update_that_was_undone_is_told_though_the_daemon_is_ready() -> None:
    words = "1.1 rejected: exited with 3 four times in 6 s; 1.0 runs again"
    undone = replace(
        GOOD,
        ready=Condition(True, "RolledBack", words, NOW - 9),
        rejection=Rejection(mark="m", version="1.1", why="exited with 3 four times", at=NOW),
    )
    event = events(undone)["porto-daemon-d-ready"]
    assert event["status"] == "OK"
    assert "ready, version " in event["description"] and words in event["description"]
    assert events(undone)["porto-daemons"]["status"] == "WARN"
    firing = alertmanager.render_firing(make(undone), "h")
    assert list(firing) == ["host versions_rejected"]
    assert firing["host versions_rejected"]["annotations"]["description"] == f"d: {words}"
    told = push(undone)
    assert told["porto-daemon-d-ready_thhh"] == told["porto-daemon-d-version_rejected_thhh"] == 1
    assert 'porto_daemon_version_rejected{daemon="d"} 1.0' in tell_prometheus(undone)
