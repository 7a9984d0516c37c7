"""Updates that fail and are undone, on a real Porto socket with real processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.passes import DoomedClient, Passes
from helpers.portod import DevPortod

from ya_salt.life import Life, Order
from ya_salt.model import DaemonStatus
from ya_salt.store import open_store, read_store

DIES = "cmd: ['/bin/sh', '-c', 'echo no config >&2; exit 3']"


@pytest.fixture
def passes(folder: Path) -> Iterator[Passes]:
    with DevPortod() as portod:
        yield Passes(folder, portod.socket_path)


def the_one(statuses: tuple[DaemonStatus, ...]) -> DaemonStatus:
    (status,) = statuses
    return status


def test_update_that_dies_is_undone_in_the_same_pass(passes: Passes) -> None:
    passes.write("web", "", version="1.0", min_ready_s=1)
    passes.run_one()
    passes.write("web", "", version="1.1", min_ready_s=1, command=DIES)
    result = passes.run()
    status = the_one(result.statuses)
    assert not result.ok
    assert status.ready
    assert (status.ready.status, status.ready.reason) == (True, "RolledBack")
    assert (status.version, status.wanted_version, status.state) == ("1.0", "1.1", "running")
    assert status.rejection
    assert "four times" in status.rejection.why
    assert "no config" in status.rejection.why
    again = passes.run()
    assert not again.ok
    assert again.touched == frozenset()
    plan = passes.plan()["web"]
    assert not plan.steps
    (note,) = plan.notes
    assert note.startswith("1.1 rejected: exited with 3 four times")
    assert note.endswith("ya-salt retry web")


def test_what_was_rejected_is_told_with_how_it_ended(passes: Passes) -> None:
    passes.write("web", "", version="1.0", min_ready_s=1)
    passes.run_one()
    passes.write("web", "", version="1.1", min_ready_s=1, command=DIES)
    status = the_one(passes.run().statuses)
    assert status.rejection
    assert status.rejection.why.startswith("exited with 3 four times in ")
    assert not status.rejection.covers_data
    assert status.ready
    assert "1.1 rejected: exited with 3" in status.ready.message
    assert "1.0 runs again" in status.ready.message
    store = read_store(passes.settings.state_dir)
    assert store
    told = [event.what for event in store.load_history("web")]
    assert any("1.1 rejected: exited with 3 four times" in what for what in told)
    assert any("RolledBack" in what for what in told)


def test_the_same_again_is_not_tried_and_another_is(passes: Passes) -> None:
    passes.write("web", "", version="1.0", min_ready_s=1)
    passes.run_one()
    passes.write("web", "", version="1.1", min_ready_s=1, command=DIES)
    passes.run()
    # Another text of the same: neither bytes nor time nor version count.
    passes.write("web", "", version="1.1-final", min_ready_s=1, command=DIES)
    result = passes.run()
    assert result.touched == frozenset()
    assert not result.ok
    passes.write("web", "", version="1.2", min_ready_s=1, command="cmd: [sleep, '1001']")
    status = passes.run_one()
    assert (status.version, status.rejection, status.generations) == ("1.2", None, 2)


def test_retry_tries_it_again(passes: Passes, folder: Path) -> None:
    passes.write("web", "", version="1.0", min_ready_s=1)
    passes.run_one()
    flag = folder / "flag"
    command = f"cmd: ['/bin/sh', '-c', 'test -e {flag} || exit 3; exec sleep 1000']"
    passes.write("web", "", version="1.1", min_ready_s=1, command=command)
    assert not passes.run().ok
    flag.touch()
    assert not passes.run().ok
    status = the_one(passes.run(orders={"web": Order("retry", "shell: a")}).statuses)
    assert (status.version, status.rejection) == ("1.1", None)
    assert status.trial
    assert status.trial.ready_at
    assert passes.run().ok


@pytest.mark.parametrize(
    "properties", ["", "respawn_delay: 30s"], ids=["it is up again", "it is down"]
)
def test_version_that_dies_in_its_probation_is_undone_by_the_pass_that_sees_it(
    passes: Passes, properties: str
) -> None:
    passes.write("web", "", version="1.0", min_ready_s=1)
    passes.run_one()
    dies_later = "cmd: ['/bin/sh', '-c', 'sleep 2; exit 4']"
    passes.write("web", properties, version="1.1", min_ready_s=1, command=dies_later)
    status = passes.run_one()
    assert status.version == "1.1"
    assert status.trial
    time.sleep(2.5)
    plan = passes.plan()["web"]
    assert [type(step).__name__ for step in plan.steps] == ["ReplaceContainer"]
    status = the_one(passes.run().statuses)
    assert status.version == "1.0"
    assert status.ready
    assert status.ready.reason == "RolledBack"
    assert status.rejection
    assert "after it had become ready" in status.rejection.why


def test_version_that_is_not_to_be_undone_is_left(passes: Passes) -> None:
    passes.write("web", "", version="1.0", min_ready_s=1)
    passes.run_one()
    passes.write("web", "", version="1.1", min_ready_s=1, command=DIES, update="on_failure: keep")
    assert "cannot be undone: update.on_failure is keep" in passes.plan()["web"].notes
    result = passes.run()
    status = the_one(result.statuses)
    assert not result.ok
    assert (status.wanted_version, status.rejection, status.trial) == ("1.1", None, None)
    assert status.digest
    assert status.state != "stopped"


def test_first_installation_is_left_failing(passes: Passes) -> None:
    passes.write("web", "", version="1.0", min_ready_s=1, command=DIES)
    status = the_one(passes.run().statuses)
    assert (status.rejection, status.trial, status.generations) == (None, None, 0)
    assert status.ready
    assert not status.ready.status


def test_restart_by_a_person_is_no_failure(passes: Passes) -> None:
    passes.write("web", "", version="1.0")
    passes.run_one()
    passes.write("web", "env: {A: '2'}", version="1.1")
    passes.run_one()
    result = passes.run(restarts={"web": "somebody asked"})
    status = the_one(result.statuses)
    assert (status.version, status.rejection) == ("1.1", None)
    with passes.client() as client:
        client.stop("web", timeout_s=1)
        client.start("web")
    status = passes.run_one()
    assert (status.version, status.rejection) == ("1.1", None)
    assert status.trial


def test_new_portod_begins_the_probation_anew(folder: Path) -> None:
    with DevPortod() as portod:
        passes = Passes(folder, portod.socket_path)
        passes.write("web", "", version="1.0")
        passes.run_one()
        passes.write("web", "env: {A: '2'}", version="1.1")
        first = passes.run_one().trial
        with passes.client() as client:
            known = client.name_peer()
        portod.kill()
        portod.start()
        with passes.client() as client:
            assert client.name_peer() not in {"", known}
        result = passes.run()
        status = the_one(result.statuses)
        assert status.rejection is None, status.rejection
        assert first
        assert status.trial
        assert status.trial.begun_at > first.begun_at
        assert status.trial.host != first.host


def add(passes: Passes, name: str, line: str) -> None:
    """Put one more line into the spec of a daemon's file."""
    file = passes.specs_dir / f"{name}.yaml"
    file.write_text(file.read_text().replace("spec:\n", f"spec:\n  {line}\n"))


def test_a_watched_file_that_changed_is_no_failure_of_the_version(
    passes: Passes, folder: Path
) -> None:
    """It dies of its configuration: another version would, too."""
    config = folder / "config"
    config.write_text("good")
    ends = f"cmd: ['/bin/sh', '-c', 'while grep -q good {config}; do sleep 0.1; done; exit 3']"
    for version in ("1.0", "1.1"):
        passes.write("web", f"env: {{A: '{version}'}}", version=version, command=ends)
        add(passes, "web", f"watch: [{{path: {config}}}]")
        passes.run_one()
    config.write_text("bad")
    time.sleep(1)
    for _ in range(2):
        status = the_one(passes.run().statuses)
        assert (status.wanted_version, status.rejection) == ("1.1", None)
    config.write_text("good")
    status = the_one(passes.run(restarts={"web": "mended"}).statuses)
    assert (status.version, status.rejection) == ("1.1", None)
    assert status.trial


def test_a_daemon_that_it_comes_after_and_that_is_gone_is_no_failure_of_the_version(
    passes: Passes, folder: Path
) -> None:
    flag = folder / "flag"
    serves = f"cmd: ['/bin/sh', '-c', 'touch {flag}; sleep 1000']"
    passes.write("base", "", command=serves)
    needs = f"cmd: ['/bin/sh', '-c', 'while test -e {flag}; do sleep 0.1; done; exit 3']"
    for version in ("1.0", "1.1"):
        passes.write("web", f"env: {{A: '{version}'}}", version=version, command=needs)
        add(passes, "web", "after: [base]")
        assert passes.run().ok
    passes.run(orders={"base": Order("stop", "shell: a")})
    flag.unlink()
    time.sleep(1)
    status = next(item for item in passes.run().statuses if item.name == "web")
    assert (status.wanted_version, status.rejection) == ("1.1", None)
    passes.run(orders={"base": Order("start", "shell: a")})
    status = next(item for item in passes.run().statuses if item.name == "web")
    assert (status.version, status.rejection) == ("1.1", None)
    assert status.trial


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can fill a file system of its own")
def test_a_full_disk_is_no_failure_of_the_version(passes: Passes) -> None:
    state = Path(passes.settings.state_dir)
    state.mkdir(mode=0o700)
    mount = ("mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs", str(state))
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        passes.write("web", "", version="1.0", min_ready_s=1)
        passes.run_one()
        with (state / "big").open("wb", buffering=0) as big, contextlib.suppress(OSError):
            while big.write(b"x" * 65536):
                pass
        passes.write("web", "max_respawns: 0", version="1.1", min_ready_s=1, command=DIES)
        status = the_one(passes.run().statuses)
        assert (status.wanted_version, status.rejection) == ("1.1", None)
        (state / "big").unlink()
        give_up = time.monotonic() + 30
        while not status.rejection and time.monotonic() < give_up:
            status = the_one(passes.run().statuses)
        assert status.ready
        assert (status.version, status.ready.reason) == ("1.0", "RolledBack")
    finally:
        subprocess.run(("umount", "-l", str(state)), check=True)


def test_going_back_by_hand_holds_until_the_file_changes(passes: Passes) -> None:
    for number in ("1", "2", "3"):
        passes.write("web", f"env: {{A: '{number}'}}", version=number)
        passes.run_one()
    order = Order("rollback", "shell: a")
    result = passes.run(orders={"web": order})
    status = the_one(result.statuses)
    assert result.ok
    assert (status.version, status.wanted_version) == ("2", "3")
    assert status.ready
    assert (status.ready.status, status.ready.reason) == (True, "Pinned")
    assert passes.run().touched == frozenset()
    (note,) = passes.plan()["web"].notes
    assert note.startswith("2 (generation 2) runs, as it was gone back to by shell: a")
    passes.run(orders={"web": order})
    assert passes.run_one().version == "1"
    status = the_one(passes.run(orders={"web": replace(order, number=3)}).statuses)
    assert status.version == "3"
    passes.run(orders={"web": replace(order, number=1)})
    passes.write("web", "env: {A: '4'}", version="4")
    status = passes.run_one()
    assert (status.version, status.pin) == ("4", None)


def test_secrets_come_back_and_are_told_nobody(
    passes: Passes, caplog: pytest.LogCaptureFixture
) -> None:
    shows = "cmd: ['/bin/sh', '-c', 'echo $TOKEN >&2; exec sleep 1000']"
    passes.write("web", "env_secret: {TOKEN: sesame}", version="1.0", command=shows, min_ready_s=1)
    passes.run_one()
    passes.write("web", "env_secret: {TOKEN: other}", version="1.1", command=DIES, min_ready_s=1)
    status = the_one(passes.run().statuses)
    assert status.version == "1.0"
    with passes.client() as client:
        assert client.get_property("web", "stderr").strip() == "sesame"
    file = Path(passes.settings.state_dir, "generations", "web", "1.json")
    assert "sesame" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert "sesame" not in repr(status)
    assert "sesame" not in caplog.text
    store = Path(passes.settings.state_dir, "store.sqlite3").read_bytes()
    assert b"sesame" not in store


def test_generations_go_with_the_daemon(passes: Passes) -> None:
    passes.write("web", "", version="1.0")
    passes.run_one()
    folder = Path(passes.settings.state_dir, "generations", "web")
    assert [path.name for path in folder.iterdir()] == ["1.json"]
    passes.write("web", "", delete=True)
    passes.run()
    assert not folder.exists()


def test_lost_store_learns_generations_from_their_files(passes: Passes) -> None:
    passes.write("web", "", version="1.0", min_ready_s=1)
    passes.run_one()
    Path(passes.settings.state_dir, "store.sqlite3").unlink()
    passes.write("web", "", version="1.1", min_ready_s=1, command=DIES)
    status = the_one(passes.run().statuses)
    assert status.version == "1.0"
    assert status.ready
    assert status.ready.reason == "RolledBack"


def lose_store(passes: Passes, how: str) -> None:
    store = Path(passes.settings.state_dir, "store.sqlite3")
    if how == "gone":
        store.unlink()
    elif how == "damaged":
        store.write_bytes(b"no database")
    else:
        with sqlite3.connect(store) as database:
            database.execute("UPDATE daemon SET data = '{}'")


@pytest.mark.parametrize("how", ["gone", "damaged", "rows damaged"])
def test_lost_store_does_not_try_again_what_was_rejected(passes: Passes, how: str) -> None:
    passes.write("web", "", version="1.0", min_ready_s=1)
    passes.run_one()
    passes.write("web", "", version="1.1", min_ready_s=1, command=DIES)
    passes.run()
    lose_store(passes, how)
    assert how != "gone" or not passes.plan()["web"].steps
    result = passes.run()
    status = the_one(result.statuses)
    assert result.touched == frozenset()
    assert status.ready
    assert (status.ready.status, status.ready.reason) == (True, "RolledBack")
    assert status.rejection
    assert status.rejection.why.startswith("exited with 3 four times in ")
    # Nor is it for good: what is repaired is tried, and forgotten beside the generations, too.
    folder = Path(passes.settings.state_dir, "generations", "web")
    assert (folder / "standing.json").stat().st_mode & 0o777 == 0o600
    passes.write("web", "", version="1.2", min_ready_s=1, command="cmd: [sleep, '1001']")
    assert passes.run_one().version == "1.2"
    assert sorted(path.name for path in folder.iterdir()) == ["1.json", "2.json"]


def test_lost_store_still_knows_what_failed_in_its_probation(passes: Passes) -> None:
    """It was ready once, so that it has a generation; nothing goes back to that."""
    passes.write("web", "", version="1.0", min_ready_s=1)
    passes.run_one()
    dies_later = "cmd: ['/bin/sh', '-c', 'sleep 2; exit 4']"
    passes.write("web", "", version="1.1", min_ready_s=1, command=dies_later)
    passes.run_one()
    time.sleep(2.5)
    assert the_one(passes.run().statuses).version == "1.0"
    lose_store(passes, "gone")
    assert the_one(passes.run().statuses).version == "1.0"
    passes.write("web", "", version="1.2", min_ready_s=1, command=DIES)
    status = the_one(passes.run().statuses)
    assert (status.version, status.wanted_version) == ("1.0", "1.2")


def test_lost_store_keeps_who_went_back_by_hand(passes: Passes) -> None:
    for number in ("1", "2"):
        passes.write("web", f"env: {{A: '{number}'}}", version=number)
        passes.run_one()
    passes.run(orders={"web": Order("rollback", "shell: a")})
    lose_store(passes, "gone")
    result = passes.run()
    status = the_one(result.statuses)
    assert (result.touched, status.version) == (frozenset(), "1")
    assert status.pin
    assert status.pin.who == "shell: a"


def test_generation_that_cannot_be_read_leaves_the_daemon_as_it_is(passes: Passes) -> None:
    passes.write("web", "", version="1.0", min_ready_s=1)
    passes.run_one()
    passes.write("web", "", version="1.1", min_ready_s=1, command=DIES)
    assert the_one(passes.run().statuses).version == "1.0"
    file = Path(passes.settings.state_dir, "generations", "web", "1.json")
    file.chmod(0o644)
    for _ in range(2):
        result = passes.run()
        status = the_one(result.statuses)
        assert result.touched == frozenset()
        assert status.state == "running"
        assert status.ready
        assert (status.ready.status, status.ready.reason) == (False, "RollbackFailed")
        assert str(file) in status.error
    file.chmod(0o600)
    status = the_one(passes.run().statuses)
    assert status.ready
    assert status.ready.reason == "RolledBack"


def test_going_back_that_fails_is_not_undone_again(passes: Passes, folder: Path) -> None:
    flag = folder / "flag"
    flag.touch()
    command = f"cmd: ['/bin/sh', '-c', 'test -e {flag} || exit 5; exec sleep 1000']"
    passes.write("web", "", version="1.0", min_ready_s=1, command=command)
    passes.run_one()
    flag.unlink()
    passes.write("web", "", version="1.1", min_ready_s=1, command=DIES)
    status = the_one(passes.run().statuses)
    assert status.ready
    assert (status.ready.status, status.ready.reason) == (False, "RollbackFailed")
    assert "1.1 rejected: exited with 3" in status.ready.message
    assert "going back to 1.0 failed" in status.ready.message
    digest = status.digest
    assert the_one(passes.run().statuses).digest == digest
    flag.touch()
    # By now it rests 16 or 32 s before each start, as often as it died meanwhile: somebody asks.
    status = the_one(passes.run(restarts={"web": "the flag is there again"}).statuses)
    assert status.ready
    assert (status.ready.status, status.ready.reason) == (True, "RolledBack")
    assert status.digest == digest


def test_what_ran_before_anything_was_remembered_is_gone_back_to(passes: Passes) -> None:
    """As an earlier version of ya-salt left it."""
    passes.write("web", "", version="1.0", min_ready_s=1)
    passes.run_one()
    store = open_store(passes.settings.state_dir)
    with store.transaction():
        store.save_records(replace(record, life=Life()) for record in store.load_records().values())
    shutil.rmtree(Path(passes.settings.state_dir, "generations"))
    passes.write("web", "", version="1.1", min_ready_s=1, command=DIES)
    status = the_one(passes.run().statuses)
    assert status.version == "1.0"


# -- killed anywhere -----------------------------------------------------------------------------


def make_doomed_pass(passes: Passes, writes: int) -> int:
    """A pass in a process that is killed before its n-th write to portod; its exit code."""
    child = os.fork()
    if not child:
        try:
            DoomedClient.writes_left = writes
            passes.run(DoomedClient)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("writes", range(0, 60, 3))
def test_killed_at_every_step_the_next_pass_ends_it(passes: Passes, writes: int) -> None:
    passes.write("web", "", version="1.0", min_ready_s=1)
    passes.run_one()
    passes.write("web", "max_respawns: 0", version="1.1", min_ready_s=1, command=DIES)
    was_killed = make_doomed_pass(passes, writes) != 0
    status = the_one(passes.run().statuses)
    assert (status.version, status.wanted_version) == ("1.0", "1.1"), was_killed
    assert status.ready
    assert (status.ready.status, status.ready.reason) == (True, "RolledBack")
    assert passes.run().touched == frozenset()
