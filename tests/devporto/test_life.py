"""States, parents and children, respawn, weak containers, waiting, labels."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.portod import DevPortod, Wire


def states(wire: Wire, *names: str) -> list[str]:
    return [wire.get(name, "state") for name in names]


def has_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_names_are_relative_absolute_or_about_oneself(wire: Wire) -> None:
    wire.must(create={"name": "/porto/a"})
    wire.must(create={"name": "self/b"})
    assert wire.get("a", "absolute_name") == "/porto/a"
    assert wire.get("a/../b/.", "absolute_name") == "/porto/b"
    for name in ("/", ".", "self", "a/.."):
        assert wire.get(name, "state") == "meta"
        assert wire.get(name, "absolute_name") == "/"
    assert wire.code(create={"name": "a/"}) == "ContainerAlreadyExists"
    assert wire.code(create={"name": "/a"}) == "InvalidValue"
    assert wire.get("/a", "state") == "error: ContainerDoesNotExist"


def test_root_is_read_only(wire: Wire) -> None:
    for name in ("/", "self", "."):
        assert (
            wire.code(setProperty={"name": name, "property": "private", "value": "x"})
            == "Permission"
        )
        assert wire.code(destroy={"name": name}) == "Permission"
        assert wire.code(stop={"name": name}) == "Permission"
        assert wire.code(kill={"name": name, "sig": 9}) == "Permission"
    assert wire.get("/", "root_pid") == "1"
    assert wire.get("/", "level") == "0"
    assert wire.get("/", "parent") == ""


def test_containers_nest_sixteen_deep(wire: Wire) -> None:
    name = "a"
    for _ in range(15):
        wire.must(create={"name": name})
        name += "/a"
    wire.must(create={"name": name})
    assert wire.get(name, "level") == "16"
    assert wire.code(create={"name": name + "/a"}) == "InvalidValue"


def test_masks_name_levels(wire: Wire) -> None:
    for name in ("a", "a/b", "a/b/c", "ab"):
        wire.must(create={"name": name})

    def listed(mask: str) -> list[str]:
        names: list[str] = wire.call(list={"mask": mask}).get("list", {}).get("name", [])
        return names

    assert listed("*") == ["a", "ab"]
    assert listed("a/*") == ["a/b"]
    assert listed("a***") == ["a", "a/b", "a/b/c", "ab"]
    assert listed("a/***") == ["a/b", "a/b/c"]
    assert listed("***c") == ["a/b/c"]
    assert listed("[x]") == []
    assert wire.call(list={})["list"]["name"] == ["a", "a/b", "a/b/c", "ab"]
    got = wire.call(get={"name": ["ab", "a/*", "a?", "nosuch"], "variable": ["level"]})
    assert [entry["name"] for entry in got["get"]["list"]] == ["ab", "nosuch", "a/b", "ab"]


def test_starting_a_child_starts_its_parents(wire: Wire) -> None:
    for name in ("p", "p/q", "p/q/c"):
        wire.must(create={"name": name})
    wire.set("p/q/c", command="sleep 100")
    wire.must(start={"name": "p/q/c"})
    assert states(wire, "p", "p/q", "p/q/c") == ["meta", "meta", "running"]


def test_parent_that_cannot_start_stops_the_child(wire: Wire) -> None:
    wire.create("p", command="/nonexistent")
    wire.create("p/c", command="sleep 100")
    assert wire.code(start={"name": "p/c"}) == "InvalidCommand"
    assert states(wire, "p", "p/c") == ["stopped", "stopped"]


def test_children_die_with_a_running_parent(wire: Wire) -> None:
    wire.create("p", command="sleep 100")
    wire.create("p/c", command="sleep 100")
    wire.must(start={"name": "p/c"})
    pid = int(wire.get("p/c", "root_pid"))
    wire.must(kill={"name": "p", "sig": 15})
    wire.wait_for("p", "state", "dead")
    assert wire.get("p/c", "state") == "dead"
    assert wire.get("p/c", "exit_status") == "0"
    assert not Path(f"/proc/{pid}").exists()
    wire.must(stop={"name": "p"})
    assert states(wire, "p", "p/c") == ["stopped", "stopped"]


def test_parent_lives_on_when_a_child_dies(wire: Wire) -> None:
    wire.create("p")
    wire.create("p/c", command="true")
    wire.must(start={"name": "p/c"})
    wire.wait_for("p/c", "state", "dead")
    assert wire.get("p", "state") == "meta"


def test_stop_of_a_parent_gives_children_time_to_end(wire: Wire) -> None:
    wire.create("p")
    wire.create(
        "p/c",
        command="sh -c 'trap \"echo bye; exit 0\" TERM; echo up; while :; do sleep 0.05; done'",
    )
    wire.set("p/c", stdout_path="/tmp/../dev/null")
    wire.must(start={"name": "p/c"})
    wire.must(stop={"name": "p", "timeout_ms": 10000})
    assert states(wire, "p", "p/c") == ["stopped", "stopped"]
    assert wire.get("p", "start_time") == ""


def test_state_while_stopping_is_visible_to_others(portod: DevPortod, wire: Wire) -> None:
    wire.create("p", command="sh -c 'trap \"\" TERM; echo up; while :; do sleep 0.1; done'")
    wire.must(start={"name": "p"})
    wire.wait_for("p", "stdout", "up\n")
    wire.send({"stop": {"name": "p", "timeout_ms": 1500}})
    with portod.connect() as other:
        other.wait_for("p", "state", "stopping")
        assert other.code(kill={"name": "p", "sig": 9}) == "InvalidState"
        # A change waits for the stop to finish.
        assert other.code(setProperty={"name": "p", "property": "cwd", "value": "/"}) == "Success"
        assert other.get("p", "state") == "stopped"
    assert wire.receive()["error"] == "Success"


def test_pause_stops_every_process_and_resume_continues(wire: Wire) -> None:
    wire.create("p", command="sh -c 'setsid sleep 100 & wait'")
    wire.create("p/c", command="sleep 100")
    wire.must(start={"name": "p/c"})
    pids = [int(wire.get(name, "root_pid")) for name in ("p", "p/c")]
    wire.must(pause={"name": "p"})
    assert states(wire, "p", "p/c") == ["paused", "paused"]
    assert all(map(has_stopped, pids))
    assert wire.code(start={"name": "p/c"}) == "InvalidState"
    assert wire.code(stop={"name": "p/c"}) == "InvalidState"
    assert wire.code(resume={"name": "p/c"}) == "InvalidState"
    assert wire.code(pause={"name": "p"}) == "InvalidState"
    assert wire.code(kill={"name": "p/c", "sig": 9}) == "InvalidState"
    wire.must(resume={"name": "p"})
    assert states(wire, "p", "p/c") == ["running", "running"]
    assert not any(map(has_stopped, pids))
    assert wire.code(resume={"name": "p"}) == "InvalidState"


def test_meta_and_stopped_containers_and_pause(wire: Wire) -> None:
    wire.must(create={"name": "p"})
    assert wire.code(pause={"name": "p"}) == "InvalidState"
    wire.must(start={"name": "p"})
    wire.must(pause={"name": "p"})
    wire.must(resume={"name": "p"})
    assert wire.get("p", "state") == "meta"


def test_kill_takes_any_signal_number_the_kernel_takes(wire: Wire) -> None:
    wire.create("p", command="sleep 100")
    assert wire.code(kill={"name": "p", "sig": 15}) == "InvalidState"
    wire.must(start={"name": "p"})
    assert wire.code(kill={"name": "p", "sig": 0}) == "Success"
    assert wire.code(kill={"name": "p", "sig": 999}) == "Unknown"
    assert wire.code(kill={"name": "nosuch", "sig": 9}) == "ContainerDoesNotExist"


def test_start_twice_and_modes_that_cannot_start(wire: Wire) -> None:
    wire.create("p", command="sleep 100")
    wire.must(start={"name": "p"})
    assert wire.code(start={"name": "p"}) == "InvalidState"
    wire.create("j", command="true", virt_mode="job")
    assert wire.code(start={"name": "j"}) == "InvalidValue"
    wire.create("h", command="true", virt_mode="host", hostname="x")
    assert wire.code(start={"name": "h"}) == "InvalidValue"
    wire.create("s", command="true", sysctl="kernel.panic: 1")
    assert wire.code(start={"name": "s"}) == "Permission"
    wire.create("p/h", command="true", virt_mode="host")
    assert wire.code(start={"name": "p/h"}) == "Permission"
    wire.create("p/j", command="sleep 100", virt_mode="job")
    assert wire.code(start={"name": "p/j"}) == "Success"


def test_respawn_count_and_limits(wire: Wire) -> None:
    wire.create("p", command="sleep 100")
    assert wire.code(Respawn={"name": "p"}) == "InvalidState"
    wire.must(start={"name": "p"})
    assert wire.code(Respawn={"name": "p"}) == "InvalidState"
    wire.must(kill={"name": "p", "sig": 9})
    wire.wait_for("p", "state", "dead")
    wire.must(Respawn={"name": "p"})
    assert states(wire, "p") == ["running"]
    assert wire.get("p", "respawn_count") == "1"
    wire.must(kill={"name": "p", "sig": 9})
    wire.wait_for("p", "state", "dead")
    wire.set("p", max_respawns="1")
    assert wire.code(Respawn={"name": "p"}) == "ResourceNotAvailable"


def test_respawn_switched_off_while_respawning_still_comes_back_once(wire: Wire) -> None:
    wire.create("p", command="sleep 100", respawn="true", respawn_delay="400ms")
    wire.must(start={"name": "p"})
    wire.must(kill={"name": "p", "sig": 9})
    wire.wait_for("p", "state", "respawning")
    wire.set("p", respawn="false")
    wire.wait_for("p", "state", "running")
    assert wire.get("p", "respawn_count") == "1"


def test_start_time_restarts_at_a_respawn_and_death_time_does_not(wire: Wire) -> None:
    wire.create("p", command="sleep 100", respawn="true", respawn_delay="1200ms")
    wire.must(start={"name": "p"})
    first = int(wire.get("p", "start_time[raw]"))
    wire.must(kill={"name": "p", "sig": 9})
    wire.wait_for("p", "respawn_count", "1")
    wire.wait_for("p", "state", "running")
    assert int(wire.get("p", "start_time[raw]")) > first
    assert wire.get("p", "time") in ("0", "1")
    wire.set("p", respawn="false")
    wire.must(kill={"name": "p", "sig": 9})
    wire.wait_for("p", "state", "dead")
    assert int(wire.get("p", "death_time[raw]")) <= int(wire.get("p", "start_time[raw]"))
    wire.must(stop={"name": "p"})
    assert wire.get("p", "start_time[raw]") == "0"


def test_respawn_that_cannot_start_ends_dead_with_the_reason(wire: Wire, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\nexit 0\n")
    tool.chmod(0o755)
    wire.create("p", command=str(tool), respawn="true", max_respawns="2", respawn_delay="50ms")
    wire.must(start={"name": "p"})
    tool.unlink()
    wire.wait_for("p", "state", "dead")
    wire.wait_for("p", "respawn_count", "2")
    wire.wait_for("p", "state", "dead")
    assert wire.get("p", "start_error").startswith("InvalidCommand")


def test_dead_container_goes_when_it_has_aged(wire: Wire) -> None:
    wire.create("p", command="true", aging_time="1")
    wire.must(start={"name": "p"})
    wire.wait_for("p", "state", "error: ContainerDoesNotExist")


def test_weak_container_goes_with_its_connection(portod: DevPortod, wire: Wire) -> None:
    with portod.connect() as other:
        for name in ("w1", "w2", "w3"):
            other.must(createWeak={"name": name})
            other.set(name, command="sleep 100")
        other.must(start={"name": "w1"})
        other.must(start={"name": "w2"})
        other.set("w2", weak="false")
        pid = int(other.get("w1", "root_pid"))
        assert wire.get("w1", "weak") == "true"
    wire.wait_for("w1", "state", "error: ContainerDoesNotExist")
    wire.wait_for("w3", "state", "error: ContainerDoesNotExist")
    assert not Path(f"/proc/{pid}").exists()
    assert wire.get("w2", "state") == "running"


def test_container_made_weak_later_stays(portod: DevPortod, wire: Wire) -> None:
    with portod.connect() as other:
        other.create("w", weak="true")
    time.sleep(0.2)
    assert wire.get("w", "weak") == "true"


def test_wait_wakes_for_death_of_any_named(portod: DevPortod, wire: Wire) -> None:
    wire.create("a", command="sleep 100")
    wire.create("b", command="sleep 100")
    wire.must(start={"name": "a"})
    wire.must(start={"name": "b"})
    wire.send({"wait": {"name": ["a", "/porto/b"]}})
    with portod.connect() as other:
        other.must(kill={"name": "b", "sig": 9})
    answer = wire.receive()
    assert (answer["error"], answer["wait"]["name"], answer["wait"]["state"]) == (
        "Success",
        "b",
        "dead",
    )
    assert (answer["wait"]["label"], answer["wait"]["value"]) == ("exit_code", "-9")
    # The older mask is answered at once, sorted by name; meta without children counts.
    wire.must(create={"name": "0"})
    wire.must(start={"name": "0"})
    assert wire.call(wait={"name": ["*"], "timeout_ms": 0})["wait"]["state"] == "meta"


def test_wait_without_names_and_of_a_container_still_to_come(portod: DevPortod, wire: Wire) -> None:
    assert wire.call(wait={})["error"] == "InvalidValue"
    wire.send({"wait": {"name": ["late*"], "timeout_ms": 20000}})
    with portod.connect() as other:
        other.must(create={"name": "late1"})
    answer = wire.receive()["wait"]
    assert (answer["name"], answer["state"]) == ("late1", "stopped")


def test_stop_and_destroy_end_a_wait(portod: DevPortod, wire: Wire) -> None:
    wire.create("p", command="sleep 100")
    wire.must(start={"name": "p"})
    wire.send({"wait": {"name": ["p"]}})
    with portod.connect() as other:
        time.sleep(0.1)
        other.must(destroy={"name": "p"})
    assert wire.receive()["wait"]["state"] in ("stopped", "dead")


def test_requests_are_answered_in_order_even_behind_a_wait(wire: Wire) -> None:
    wire.create("p", command="sleep 0.3")
    wire.must(start={"name": "p"})
    wire.send({"wait": {"name": ["p"]}})
    wire.send({"getProperty": {"name": "p", "property": "state"}})
    assert wire.receive()["wait"]["state"] == "dead"
    assert wire.receive()["getProperty"]["value"] == "dead"


def test_async_wait_reports_until_it_is_stopped(portod: DevPortod, wire: Wire) -> None:
    wire.create("p", command="sleep 100")
    with portod.connect() as watcher:
        watcher.send({"AsyncWait": {"name": ["p"]}})
        first, second = watcher.receive(), watcher.receive()
        assert first["AsyncWait"]["state"] == "stopped"
        assert second["error"] == "Success"
        assert "AsyncWait" not in second
        wire.must(start={"name": "p"})
        assert [watcher.receive()["AsyncWait"]["state"] for _ in range(2)] == [
            "starting",
            "running",
        ]
        wire.must(kill={"name": "p", "sig": 9})
        assert watcher.receive()["AsyncWait"]["state"] == "dead"
        assert watcher.code(StopAsyncWait={"name": ["other"]}) == "InvalidValue"
        assert watcher.code(StopAsyncWait={"name": ["p"]}) == "Success"
        wire.must(stop={"name": "p"})
        assert watcher.call(version={})["version"]["tag"] == "5.3.59"


def test_async_wait_for_a_state_reports_once(portod: DevPortod, wire: Wire) -> None:
    wire.create("p", command="sleep 100")
    with portod.connect() as watcher:
        assert watcher.code(AsyncWait={"name": ["p"], "target_state": "running"}) == "Success"
        wire.must(start={"name": "p"})
        assert watcher.receive()["AsyncWait"]["state"] == "running"
        wire.must(stop={"name": "p"})
        wire.must(start={"name": "p"})
        assert "version" in watcher.call(version={})


def test_async_wait_times_out(wire: Wire) -> None:
    wire.create("p", command="sleep 100")
    wire.must(start={"name": "p"})
    wire.send({"AsyncWait": {"name": ["nosuch"], "timeout_ms": 0}})
    assert wire.receive()["AsyncWait"]["state"] == "timeout"
    assert wire.receive()["error"] == "Success"
    assert wire.code(AsyncWait={"name": ["nosuch"], "timeout_ms": 50}) == "Success"
    assert wire.receive()["AsyncWait"]["state"] == "timeout"


def test_async_wait_hears_of_labels(portod: DevPortod, wire: Wire) -> None:
    wire.create("p")
    with portod.connect() as watcher:
        assert watcher.code(AsyncWait={"name": ["p"], "label": ["CF.*"]}) == "Success"
        wire.set("p", **{"labels[CF.a]": "1"})
        wire.set("p", **{"labels[XX.a]": "1"})
        wire.must(IncLabel={"name": "p", "label": "CF.a"})
        heard = [watcher.receive()["AsyncWait"] for _ in range(2)]
        assert [(one["label"], one["value"]) for one in heard] == [("CF.a", "1"), ("CF.a", "2")]


SET, INC, FIND = "SetLabel", "IncLabel", "FindLabel"


@pytest.mark.parametrize(
    ("request_", "code", "rest"),
    [
        ({SET: {"name": "p", "label": "bad", "value": "1"}}, "InvalidLabel", {SET: {}}),
        ({SET: {"name": "p", "label": "CF.a", "value": "a b"}}, "InvalidLabel", {SET: {}}),
        ({SET: {"name": "no", "label": "CF.a", "value": "1"}}, "ContainerDoesNotExist", {SET: {}}),
        (
            {SET: {"name": "p", "label": "CF.z", "value": "1", "prev_value": "x"}},
            "LabelNotFound",
            {SET: {"state": "stopped"}},
        ),
        (
            {SET: {"name": "p", "label": "CF.n", "value": "1", "state": "running"}},
            "InvalidState",
            {SET: {"prev_value": "5", "state": "stopped"}},
        ),
        (
            {SET: {"name": "p", "label": "CF.n", "value": "", "prev_value": "5"}},
            "Success",
            {SET: {"prev_value": "5", "state": "stopped"}},
        ),
        ({INC: {"name": "p", "label": "bad"}}, "InvalidLabel", {}),
        ({INC: {"name": "no", "label": "CF.a"}}, "ContainerDoesNotExist", {}),
        ({INC: {"name": "p", "label": "CF.z", "add": 0}}, "LabelNotFound", {INC: {"result": "0"}}),
        ({INC: {"name": "p", "label": "CF.t"}}, "InvalidValue", {INC: {"result": "0"}}),
        ({INC: {"name": "p", "label": "CF.n", "add": -7}}, "Success", {INC: {"result": "-2"}}),
        (
            {INC: {"name": "p", "label": "CF.n", "add": str(2**63 - 1)}},
            "InvalidValue",
            {INC: {"result": "5"}},
        ),
        ({FIND: {"label": "CF.nosuch"}}, "Success", {FIND: {}}),
        ({FIND: {"label": "CF.n", "value": "6"}}, "Success", {FIND: {}}),
        ({FIND: {"label": "CF.n", "state": "running"}}, "Success", {FIND: {}}),
        (
            {FIND: {"label": "CF.?", "value": "5"}},
            "Success",
            {FIND: {"list": [{"name": "p", "state": "stopped", "label": "CF.n", "value": "5"}]}},
        ),
    ],
)  # fmt: skip
def test_label_calls(wire: Wire, request_: dict[str, Any], code: str, rest: dict[str, Any]) -> None:
    wire.create("p", labels="CF.n: 5; CF.t: text")
    answer = wire.call(**request_)
    assert answer.pop("error") == code
    answer = {key: answer[key] for key in answer if key not in ("errorMsg", "timestamp")}
    assert answer == rest


def test_at_most_a_hundred_labels(wire: Wire) -> None:
    wire.create("p", labels=";".join(f"CF.n{index}: 1" for index in range(100)))
    one_more = {"name": "p", "property": "labels[CF.x]", "value": "1"}
    assert wire.code(setProperty=one_more) == "ResourceNotAvailable"
    assert wire.code(IncLabel={"name": "p", "label": "CF.x"}) == "ResourceNotAvailable"


def test_dotted_label_is_looked_up_in_ancestors(wire: Wire) -> None:
    wire.create("p", labels="CF.a: up")
    wire.create("p/c")
    assert wire.get("p/c", "labels[.CF.a]") == "up"
    assert wire.get("p/c", ".CF.a") == "up"
    assert wire.get("p/c", "CF.a") == "error: LabelNotFound"
