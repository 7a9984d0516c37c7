"""What restarts a daemon and what does not, on a Porto server: the process is the witness."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from helpers.passes import Passes
from helpers.portod import DevPortod

from ya_salt.converge.containers import STOP_TIMEOUT_S
from ya_salt.converge.drift import decode_last_applied
from ya_salt.model import ReplaceContainer
from ya_salt.porto.client import PortoClient

NAME = "changing"
LIVE = [
    ("a limit is new", "", "memory_limit: 64Mb", {"memory_limit": "67108864"}),
    ("a limit changes", "memory_limit: 64Mb", "memory_limit: 1Gb", {"memory_limit": "1073741824"}),
    ("a limit goes", "memory_limit: 64Mb", "", {"memory_limit": "0"}),
    ("cpu", "cpu_limit: 1c", "cpu_limit: 0.5c", {"cpu_limit": "0.5c"}),
    ("cpu goes", "cpu_limit: 1c", "", {"cpu_limit": "0c"}),
    ("threads go", "thread_limit: 50", "", {"thread_limit": "10000"}),
    ("respawns are limited", "", "max_respawns: 3", {"max_respawns": "3"}),
    ("respawns are no more", "max_respawns: 3", "", {"max_respawns": ""}),
    ("the delay goes", "respawn_delay: 5s", "", {"respawn_delay": "1000000000ns"}),
    ("a label changes", "labels: {TEAM.x: a}", "labels: {TEAM.x: b}", {"TEAM.x": "b"}),
    ("a label goes", "labels: {TEAM.x: a, TEAM.y: b}", "labels: {TEAM.y: b}", {"TEAM.y": "b"}),
    ("the network limit goes", "net_limit: {default: 1000}", "", {"net_limit": ""}),
    ("a guarantee of the kernel", "", "memory_guarantee: 1Mb", {}),
    ("no guarantee of the kernel", "memory_guarantee: 1Mb", "", {}),
]
RESTARTED = [
    ("the user changes", "user: root\ngroup: root", "user: daemon\ngroup: root"),
    ("the folder changes", "cwd: /", "cwd: /tmp"),
    ("the folder goes", "cwd: /", ""),
    ("the environment grows", "env: {A: '1'}", "env: {A: '1', B: '2'}"),
    ("the environment shrinks", "env: {A: '1', B: '2'}", "env: {A: '1'}"),
    # portod would set them live, and the process would keep what it was started with.
    ("a ulimit is new", "", "ulimit: {nofile: 10 20}"),
    ("a ulimit changes", "ulimit: {nofile: 10 20}", "ulimit: {nofile: 11 21}"),
    ("a ulimit goes", "ulimit: {nofile: 10 20, core: 1 2}", "ulimit: {core: 1 2}"),
    ("a controller goes", "controllers: {devices: false}", ""),
]


@pytest.fixture(scope="module")
def portod() -> Iterator[DevPortod]:
    with DevPortod() as server:
        yield server


@pytest.fixture
def passes(folder: Path, portod: DevPortod) -> Iterator[Passes]:
    made = Passes(folder, portod.socket_path)
    yield made
    made.remove_all()


def pid(passes: Passes) -> str:
    with passes.client() as client:
        return client.get_property(NAME, "root_pid")


@pytest.mark.parametrize(("what", "before", "after", "read"), LIVE, ids=[row[0] for row in LIVE])
def test_a_dynamic_change_keeps_the_process(
    passes: Passes, what: str, before: str, after: str, read: dict[str, str]
) -> None:
    passes.write(NAME, before)
    passes.run_one()
    process = pid(passes)
    passes.write(NAME, after)
    status = passes.run_one()
    assert [action.split(":")[0] for action in status.actions] == ["live change"]
    assert pid(passes) == process
    with passes.client() as client:
        assert client.get([NAME], read).get(NAME, {}) == read
    # And that was all: nothing is left to do, and nothing reads back as if somebody had been here.
    assert passes.run_one().actions == ()
    assert passes.requests == ["get"]


@pytest.mark.parametrize(("what", "before", "after"), RESTARTED, ids=[row[0] for row in RESTARTED])
def test_a_static_change_is_one_new_process(
    passes: Passes, what: str, before: str, after: str
) -> None:
    passes.write(NAME, before)
    passes.run_one()
    process = pid(passes)
    passes.write(NAME, after)
    status = passes.run_one()
    assert [action.split(":")[0] for action in status.actions] == ["restart"]
    assert status.restart_count == 1
    assert pid(passes) != process
    assert passes.run_one().actions == ()


def test_a_default_is_remembered_across_a_chain_of_live_changes(passes: Passes) -> None:
    passes.write(NAME, "")
    passes.run_one()
    for text in ("thread_limit: 50", "thread_limit: 60\ncpu_limit: 1c", "cpu_limit: 1c"):
        passes.write(NAME, text)
        passes.run_one()
    with passes.client() as client:
        assert client.get_property(NAME, "thread_limit") == "10000"


def test_the_default_of_a_number_that_reads_back_empty_is_a_number(passes: Passes) -> None:
    # portod takes an empty max_respawns for whatever number it finds in its memory.
    passes.write(NAME, "max_respawns: 3")
    passes.run_one()
    passes.write(NAME, "")
    passes.run_one()
    assert f"set {NAME} max_respawns" in passes.requests
    with passes.client() as client:
        passes.write(NAME, "max_respawns: 3")
        passes.run_one()
        applied = decode_last_applied(client.get_property(NAME, "private"))
    assert applied is not None
    assert applied.defaults["max_respawns"] == "-1"


def test_a_change_that_portod_takes_only_at_rest_becomes_a_restart(passes: Passes) -> None:
    # portod lists resolv_conf as dynamic, but switches it on and off only while nothing runs.
    passes.write(NAME, "")
    passes.run_one()
    process = pid(passes)
    passes.write(NAME, "resolv_conf: [nameserver 192.0.2.1]")
    status = passes.run_one()
    assert status.actions == ("restart: changed in the spec: resolv_conf",)
    assert pid(passes) != process


def test_a_dead_daemon_with_a_new_limit_starts_with_it(passes: Passes) -> None:
    passes.write(NAME, "")
    passes.run_one()
    with passes.client() as client:
        client.set_property(NAME, "respawn", "false")
        client.kill(NAME, 9)
        assert client.wait_dead(NAME, 10)
    passes.write(NAME, "memory_limit: 64Mb")
    status = passes.run_one()
    assert status.actions == ("restart: changed in the spec: memory_limit",)


def test_what_is_rehearsed_leaves_nothing_behind(passes: Passes) -> None:
    passes.write(NAME, "user: root\ngroup: root")
    passes.run_one()
    process = pid(passes)
    passes.write(NAME, "user: nosuchuser\ngroup: root")
    result = passes.run()
    assert "nosuchuser" in result.statuses[0].error
    assert pid(passes) == process
    with passes.client() as client:
        assert list(client.get(["*"], ["state"])) == [NAME]


def test_a_user_without_a_group_is_warned_of(passes: Passes) -> None:
    passes.write(NAME, "user: root")
    assert any("group is not set" in warning for warning in passes.run_one().warnings)
    passes.write(NAME, "user: root\ngroup: root")
    assert passes.run_one().warnings == ()


def test_an_entry_that_somebody_added_to_a_map_goes_again(passes: Passes) -> None:
    passes.write(NAME, "ulimit: {nofile: 10 20}")
    passes.run_one()
    process = pid(passes)
    with passes.client() as client:
        client.set_property(NAME, "ulimit[core]", "1 2")
        assert passes.run_one().actions == ("live change: changed by somebody else: ulimit",)
        assert client.get_property(NAME, "ulimit") == "nofile: 10 20; "
    assert pid(passes) == process


def test_a_daemon_has_time_to_end_well_before_it_is_destroyed(passes: Passes, folder: Path) -> None:
    farewell = folder / "open" / "farewell"
    farewell.parent.mkdir()
    farewell.parent.chmod(0o777)
    script = f"trap 'sleep 1; touch {farewell}; exit 0' TERM; while :; do sleep 0.1; done"
    spec = f"cmd: [sh, -c, {script!r}]"
    passes.write(NAME, "", command=spec)
    passes.run_one()
    passes.write(NAME, "cwd: /", command=spec)
    passes.run_one()
    assert farewell.exists()


def test_a_daemon_that_ignores_sigterm_is_destroyed_after_ten_seconds(passes: Passes) -> None:
    spec = """cmd: [sh, -c, 'trap "" TERM; while :; do sleep 0.1; done']"""
    passes.write(NAME, "", command=spec)
    passes.run_one()
    started = time.monotonic()
    passes.write(NAME, "", delete=True)
    passes.run_one()
    # What is asserted is that it was waited for, not how fast this machine is.
    assert time.monotonic() - started >= STOP_TIMEOUT_S == 10
    with passes.client() as client:
        assert client.get([NAME], ["state"]) == {}


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("umask: '022'", "umask: '022'\nresolv_conf: default", "live change"),
        ("resolv_conf: inherit", "resolv_conf: default", "live change"),
        ("resolv_conf: keep", "resolv_conf: default", "restart"),
        ("resolv_conf: [nameserver 192.0.2.1]", "resolv_conf: default", "restart"),
        ("resolv_conf: keep", "resolv_conf: inherit", "live change"),
    ],
)
def test_what_becomes_of_resolv_conf_is_foretold(
    passes: Passes, before: str, after: str, kind: str
) -> None:
    passes.write(NAME, before)
    passes.run_one()
    passes.write(NAME, after)
    (step,) = passes.plan()[NAME].steps
    assert isinstance(step, ReplaceContainer) == (kind == "restart")
    status = passes.run_one()
    assert {action.split(":")[0] for action in status.actions} == {kind}
    assert passes.run_one().actions == ()


class _Witness(PortoClient):
    """Notes which threads change something."""

    seen: ClassVar[set[threading.Thread]] = set()

    def _write(self, *arguments, **more):
        self.seen.add(threading.current_thread())
        return super()._write(*arguments, **more)


def test_a_signal_never_interrupts_a_step_and_where_none_can_no_thread_is_started(
    passes: Passes,
) -> None:
    """Python raises what a signal's handler raises in the main thread, wherever that is."""
    _Witness.seen.clear()
    passes.write(NAME, "memory_limit: 64Mb")
    passes.run(_Witness)
    assert _Witness.seen
    assert threading.main_thread() not in _Witness.seen

    _Witness.seen.clear()
    passes.write(NAME, "memory_limit: 65Mb")
    own = threading.Thread(target=passes.run, args=(_Witness,))
    own.start()
    own.join()
    assert _Witness.seen == {own}
