"""What was done is told whatever followed; since when it is so is told as portod knows it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.passes import DoomedClient, Passes
from helpers.portod import DevPortod

from ya_salt.converge.host import PassResult
from ya_salt.converge.journal import load_history, load_last_causes, load_last_pass
from ya_salt.converge.preview import look_now
from ya_salt.errors import PortoError
from ya_salt.model import DaemonStatus
from ya_salt.monitoring.counters import Memory
from ya_salt.monitoring.metrics import make_metrics
from ya_salt.porto.client import PortoClient
from ya_salt.salt_api import queries
from ya_salt.store import LAST_PASS, read_store


@pytest.fixture(scope="module")
def portod() -> Iterator[DevPortod]:
    with DevPortod() as server:
        yield server


@pytest.fixture
def host(folder: Path, portod: DevPortod) -> Iterator[Passes]:
    made = Passes(folder, portod.socket_path)
    yield made
    made.remove_all()


def in_a_process(act: Callable[[], object], signals: tuple[int, ...] = ()) -> int:
    """The wait status of a child that acts; it raises on the signals as the command does."""
    child = os.fork()
    if not child:
        try:
            for number in signals:
                signal.signal(number, lambda number, _frame: exec_exit(number))
            act()
        finally:
            os._exit(0)
    return child


def exec_exit(number: int) -> None:
    raise SystemExit(128 + number)


def history(host: Passes) -> list[str]:
    store = read_store(host.settings.state_dir)
    assert store is not None
    try:
        return [f"{item.name}: {item.what}" for item in store.load_history()]
    finally:
        store.close()


def last_pass(host: Passes) -> dict[str, object]:
    store = read_store(host.settings.state_dir)
    assert store is not None
    try:
        return store.load_fact(LAST_PASS)
    finally:
        store.close()


def shown(host: Passes) -> list[str]:
    """The history as `ya-salt history` has it."""
    store = read_store(host.settings.state_dir)
    events = load_history(store, host.settings.state_dir)
    return [f"{item.name}: {item.what}" for item in events]


def shown_pass(host: Passes) -> dict[str, object]:
    """The last pass as `ya-salt status` has it."""
    store = read_store(host.settings.state_dir)
    assert store is not None
    return load_last_pass(store, host.settings.state_dir)


def restart_count(host: Passes, name: str = "d") -> int:
    store = read_store(host.settings.state_dir)
    assert store is not None
    try:
        status = store.load_records()[name].status
        assert status is not None
        return status.restart_count
    finally:
        store.close()


def only(result: PassResult) -> DaemonStatus:
    (status,) = result.statuses
    return status


# -- interrupted ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_pass_ended_while_it_waits_has_told_what_it_did(host: Passes, number: int) -> None:
    host.write("d", "")
    host.run_one()
    host.write("d", "env: {A: '1'}", min_ready_s=600)
    child = in_a_process(host.run, (signal.SIGTERM, signal.SIGINT))
    wait_for(lambda: find_env(host) == "A=1")
    time.sleep(0.5)
    os.kill(child, number)
    os.waitpid(child, 0)

    assert last_pass(host)["result"] == "interrupted"
    assert look(host).ready.reason == "Starting", "it runs from the new spec, and that is told"
    told = [line for line in history(host) if "restart: changed in the spec: env" in line]
    assert len(told) == 1
    assert "interrupted" not in told[0]
    assert restart_count(host) == 1

    host.write("d", "env: {A: '1'}")
    assert host.run_one().restart_count == 1
    assert last_pass(host)["result"] == "ok"
    assert sum("env" in line and "restart" in line for line in history(host)) == 1


def test_a_pass_killed_at_any_write_leaves_its_history_and_counts_once(host: Passes) -> None:
    host.write("d", "")
    host.run_one()
    for writes in range(40):
        number = writes + 1
        host.write("d", f"env: {{A: '{number}'}}")
        child = os.fork()
        if not child:
            try:
                DoomedClient.writes_left = writes
                host.run(DoomedClient)
            finally:
                os._exit(0)
        _, ended = os.waitpid(child, 0)
        time.sleep(0.2)
        status = host.run_one()
        assert status.restart_count == number, f"killed at write {writes}"
        assert find_env(host) == f"A={number}"
        about = [line for line in history(host) if "restart: changed in the spec: env" in line]
        assert len(about) >= number, f"killed at write {writes}: {about}"
        if os.WIFEXITED(ended):
            return
    raise AssertionError("the pass never got to its end")


def test_what_an_interrupted_pass_has_made_is_known(host: Passes) -> None:
    host.write("d", "", min_ready_s=600)
    child = in_a_process(host.run, (signal.SIGTERM,))
    wait_for(lambda: find(host, "state") == "running")
    time.sleep(0.5)
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)
    status = look(host)
    assert (status.version, status.state, status.restart_count) == ("1", "running", 0)
    assert status.ready is not None and status.ready.reason == "Starting"
    host.write("d", "")
    assert host.run_one().restart_count == 0


def test_a_killed_pass_is_told_of_before_the_next_one(host: Passes) -> None:
    host.write("d", "")
    host.run_one()
    host.write("d", "env: {A: '1'}", min_ready_s=600)
    child = in_a_process(host.run)
    wait_for(lambda: any(line.endswith("env[A]") for line in shown(host)))

    # Under way: its deeds are told, and nobody says that it was cut short.
    assert shown_pass(host)["result"] == "ok"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

    assert shown_pass(host)["result"] == "interrupted"
    assert "killed" in shown_pass(host)["error"]
    about = [line for line in shown(host) if "restart: changed in the spec: env" in line]
    assert len(about) == 1
    store = read_store(host.settings.state_dir)
    assert store is not None
    assert "env" in load_last_causes(store, host.settings.state_dir)["d"][1]

    host.write("d", "env: {A: '1'}")
    assert host.run_one().restart_count == 1
    assert [line for line in shown(host) if line in about] == about
    assert shown(host) == history(host)
    assert shown_pass(host)["result"] == "ok"


def test_a_step_under_way_is_told_as_that(host: Passes) -> None:
    host.write("d", "")
    host.run_one()
    host.write("d", "env: {A: '1'}", command="cmd: [sleep, '1000']")

    class Slow(PortoClient):
        def destroy(self, name: str) -> None:
            time.sleep(3)
            super().destroy(name)

    child = in_a_process(lambda: host.run(Slow))
    wait_for(lambda: any("env" in line for line in shown(host)))
    assert next(line for line in shown(host) if "env" in line).endswith(": under way")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert "interrupted" in next(line for line in shown(host) if "env" in line)
    host.write("d", "env: {A: '1'}")
    assert host.run_one().restart_count == 1


def test_a_pass_that_fails_after_one_that_was_killed_loses_none_of_its_deeds(host: Passes) -> None:
    host.write("d", "")
    host.run_one()
    host.write("d", "env: {A: '1'}", min_ready_s=600)
    child = in_a_process(host.run)
    wait_for(lambda: any(line.endswith("env[A]") for line in shown(host)))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    about = [line for line in shown(host) if "env" in line]
    host.write("d", "env: {A: '1'}")
    with pytest.raises(PortoError):
        host.run(lambda _path: PortoClient(str(host.folder / "nobody")))
    assert [line for line in history(host) if "env" in line] == about
    status = host.run_one()
    assert (status.restart_count, status.actions) == (1, ())
    assert [line for line in history(host) if "env" in line] == about


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"\xff\xfe",
        b"null",
        b"[" * 5000,
        b'{"at": 1}',
        *(
            b'{"at": %s, "name": "d", "what": "x", "kind": "X", "ended": "", "error": ""}' % at
            for at in (b"1e999", b"NaN", b"-1", b"9e99")
        ),
        b'{"at": 9e9, "name": "d", "what": "\\ud800", "kind": "X", "ended": "", "error": ""}',
    ],
)
def test_a_line_of_the_journal_that_cannot_be_is_a_line_lost(host: Passes, line: bytes) -> None:
    host.write("d", "")
    host.run_one()
    good = b'{"at": 9e9, "name": "d", "what": "good", "kind": "X", "ended": "done", "error": ""}'
    journal = Path(host.settings.state_dir) / "journal"
    journal.write_bytes(line + b"\n" + good + b"\n")
    before = history(host)
    assert shown(host) == [*before, "d: good"]
    host.run_one()
    assert history(host) == [*before, "d: good"]
    assert shown(host) == history(host)


def test_a_journal_that_is_no_file_holds_nobody_up(host: Passes) -> None:
    host.write("d", "")
    host.run_one()
    os.mkfifo(Path(host.settings.state_dir) / "journal")
    host.write("d", "env: {A: '1'}")
    assert shown(host) == history(host)
    assert host.run_one().restart_count == 1


# -- failed --------------------------------------------------------------------------------------


def test_a_restart_whose_start_fails_tells_that_the_old_one_was_stopped(
    host: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.write("d", "")
    host.run_one()
    host.write("d", "env: {A: '1'}")

    class Unlucky(PortoClient):
        starts = 0

        def start(self, name: str) -> None:
            if name == "d":
                Unlucky.starts += 1
                # portod has lost it meanwhile: the start is refused by the real one.
                self.destroy(name)
            super().start(name)

    result = host.run(Unlucky)
    status = only(result)
    assert not result.ok
    assert status.ready is not None and not status.ready.status
    assert any(line.startswith("stop: ") for line in status.actions), status.actions
    assert status.restart_count == 1
    assert result.outcomes["d"].is_down
    assert any("d: stop: changed in the spec: env" in line for line in history(host))
    assert any("failed" in line for line in history(host))
    assert host.run_one().restart_count == 1


def test_what_fails_in_every_pass_alike_is_told_once(host: Passes) -> None:
    host.write("d", "")
    host.run_one()
    host.write("d", "", command="cmd: [/no/such/program]")
    for _ in range(3):
        assert not host.run().ok
    assert sum("restart" in line and "failed" in line for line in history(host)) == 1
    host.write("d", "", command="cmd: [/no/other/program]")
    assert not host.run().ok
    assert sum("restart" in line and "failed" in line for line in history(host)) == 2


# -- since ---------------------------------------------------------------------------------------


def test_a_daemon_is_dead_since_it_died_however_often_one_looks(host: Passes) -> None:
    host.write("d", "max_respawns: 0", command="cmd: [sh, -c, 'sleep 1.2; exit 3']")
    host.run(is_strict=True)
    wait_for(lambda: find(host, "state") == "dead")
    died = float(find(host, "death_time[raw]"))
    time.sleep(2.1)
    looks = [look(host) for _ in range(2)]
    for status in looks:
        assert status.running is not None and status.ready is not None
        assert not status.running.status
        assert status.running.since == died
        assert status.ready.since <= died + 1
    assert looks[0].running == looks[1].running


def test_a_daemon_runs_since_it_was_started(host: Passes) -> None:
    host.write("d", "")
    host.run_one()
    started = float(find(host, "start_time[raw]"))
    time.sleep(1.5)
    status = look(host)
    assert status.running is not None
    assert status.running.since == started
    with host.client() as client:
        client.stop("d", timeout_s=1)
        client.start("d")
    time.sleep(1.5)
    again = look(host)
    assert again.running is not None and again.ready is not None
    assert again.running.since == float(find(host, "start_time[raw]")) > started
    assert again.ready.since >= again.running.since


# -- orphans and rejected files ------------------------------------------------------------------


def test_a_dead_orphan_is_not_fine(host: Passes) -> None:
    host.write("d", "max_respawns: 0", command="cmd: [sh, -c, 'sleep 1; exit 3']")
    host.run(is_strict=True)
    wait_for(lambda: find(host, "state") == "dead")
    text = (host.specs_dir / "d.yaml").read_text()
    (host.specs_dir / "d.yaml").unlink()
    result = host.run()
    assert only(result).phase == "Orphaned"
    assert not result.ok
    (host.specs_dir / "d.yaml").write_text(text)


def test_a_foreign_container_is_forgotten_once_its_file_goes(host: Passes) -> None:
    with host.client() as client:
        client.create_weak("d")
        host.write("d", "")
        result = host.run()
        assert only(result).phase == "Foreign"
        (host.specs_dir / "d.yaml").unlink()
        assert host.run().statuses == ()


def test_a_rejected_file_is_told_once(host: Passes, caplog: pytest.LogCaptureFixture) -> None:
    (host.specs_dir / "d.yaml").write_text("meta: {name: d}\nspec: {propertis: {}}\n")
    for _ in range(2):
        assert not host.run(is_strict=False).ok
    about = [line for line in history(host) if line.startswith("d: rejected: ")]
    assert len(about) == 1
    assert "d.yaml:2" in about[0]
    assert sum("rejected" in record.getMessage() for record in caplog.records) >= 1
    (host.specs_dir / "d.yaml").unlink()


# -- pieces --------------------------------------------------------------------------------------


def look(host: Passes) -> DaemonStatus:
    store = read_store(host.settings.state_dir)
    assert store is not None
    records = store.load_records()
    store.close()
    (status,) = look_now(host.make_host(), records)
    return status


def find(host: Passes, variable: str) -> str:
    with host.client() as client:
        return client.get(["d"], [variable]).get("d", {}).get(variable, "")


def find_env(host: Passes) -> str:
    return find(host, "env")


def wait_for(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)


# -- what others say -------------------------------------------------------------------------------

EVIL = "\x1b[31mred\x07\u202e"
"""Colour, a bell, and writing from right to left."""


def test_what_a_daemon_says_steers_nobodys_terminal_through_salt_either(host: Passes) -> None:
    said = host.folder / "said"
    said.write_text(f"{EVIL}\n")
    command = f"cmd: [sh, -c, 'cat {said} >&2; exit 3']"
    host.write("d", "max_respawns: 0", command=command)
    host.run()
    wait_for(lambda: find(host, "state") == "dead")
    settings = replace(host.settings, log_file=str(host.folder / "log"))
    told = json.dumps(
        [
            queries.show_status(settings),
            queries.show_status(settings, "d"),
            queries.show_logs(settings, "d"),
            queries.explain(settings, "d"),
            queries.apply_now(settings),
            queries.show_history(settings),
        ],
        ensure_ascii=False,
    )
    assert told.count("x1b[31mred") >= 3
    assert "\\u001b" not in told
    assert "\\u0007" not in told
    assert "\u202e" not in told
    status = look(host)
    facts = make_metrics([status], Memory(), None, time.time(), {})
    assert "red" in facts.daemons[0].description
    assert facts.daemons[0].description.isprintable()


def test_nothing_pending_is_told_of_a_daemon_that_only_keeps_dying(host: Passes) -> None:
    host.write("d", "max_respawns: 0", command="cmd: [sh, -c, 'sleep 0.1; exit 3']", min_ready_s=60)
    settings = replace(host.settings, log_file=str(host.folder / "log"))
    host.run()
    wait_for(lambda: find(host, "state") == "dead")
    assert queries.explain(settings, "d")["next"] == "salt-call porto_daemon.apply d"
    host.write("d", "respawn_delay: 60s", command="cmd: [sh, -c, 'exit 3']", min_ready_s=60)
    host.run()
    wait_for(lambda: find(host, "state") == "respawning")
    told = queries.explain(settings, "d")
    assert told["pending"] == []
    assert told["next"].startswith("salt-call porto_daemon.logs d")
