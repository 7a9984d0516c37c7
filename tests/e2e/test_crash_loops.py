"""Daemons that keep dying rest longer and longer; on a DevPortod, with processes that die."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.passes import Passes
from helpers.portod import DevPortod

from ya_salt.converge.host import PassResult
from ya_salt.converge.preview import look_now
from ya_salt.errors import PortoError
from ya_salt.model import DaemonStatus, StartContainer
from ya_salt.store import FILE_NAME, read_store


@pytest.fixture(scope="module")
def portod() -> Iterator[DevPortod]:
    with DevPortod() as server:
        yield server


@pytest.fixture
def host(folder: Path, portod: DevPortod) -> Iterator[Passes]:
    made = Passes(folder, portod.socket_path)
    yield made
    made.now = time.time
    made.remove_all()


def only(result: PassResult) -> DaemonStatus:
    (status,) = result.statuses
    return status


def history(host: Passes) -> list[str]:
    store = read_store(host.settings.state_dir)
    assert store is not None
    return [event.what for event in store.load_history()]


def read(host: Passes, variable: str) -> str:
    with host.client() as client:
        return client.get_property("d", variable)


def read_delay(host: Passes) -> float:
    return int(read(host, "respawn_delay").removesuffix("ns")) / 1e9


def wait_for(seen: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 10
    while not seen():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def write_dying(host: Passes, properties: str = "respawn_delay: 100ms", **more: str) -> Path:
    """The daemon lives as long as the file that is returned is there, and dies without."""
    alive = host.folder / "alive"
    words = f"test -e {alive} && exec sleep 1000; echo no such port >&2; exit 3"
    host.write("d", properties, command=f"cmd: [sh, -c, '{words}']", **more)
    return alive


def make_loop(host: Passes, times: int = 4) -> DaemonStatus:
    """It rests for longer than a test takes."""
    host.run()
    wait_for(lambda: int(read(host, "respawn_count")) >= times)
    host.run()
    die_again(host)
    return only(host.run())


def die_again(host: Passes) -> None:
    times = int(read(host, "respawn_count"))

    def is_begun() -> bool:
        # portod may be quicker.
        with host.client() as client, contextlib.suppress(PortoError):
            client.respawn("d")
        return int(read(host, "respawn_count")) > times

    wait_for(is_begun)
    wait_for(lambda: is_down(host))


def is_down(host: Passes) -> bool:
    """Whether it has died, and is not on its way up: then too it is `respawning`.

    portod counts a respawn before it starts the process, and each process speaks once.
    """
    with host.client() as client:
        told = client.get(["d"], ["state", "respawn_count", "stderr"])["d"]
    deaths = told["stderr"].count("no such port")
    return told["state"] == "respawning" and deaths > int(told["respawn_count"])


def be_later(host: Passes, seconds: float) -> None:
    host.now = lambda: time.time() + seconds


# -- portod starts it again ----------------------------------------------------------------------


def test_one_that_respawns_is_slowed_down_live(host: Passes) -> None:
    write_dying(host)

    status = make_loop(host)

    assert status.ready is not None
    assert status.ready.reason == "CrashLooping"
    assert status.running is not None
    assert status.running.reason == "CrashLooping"
    assert status.crash is not None
    assert status.crash.deaths >= 5
    assert status.crash.next_at > 0
    assert "no such port" in status.crash.last_words
    assert read_delay(host) == status.crash.delay_s >= 16
    assert read(host, "labels[HOSTMAN.spec]") == status.digest
    assert status.restart_count == 0


def test_a_pass_that_sees_no_further_death_changes_nothing(host: Passes) -> None:
    write_dying(host)
    make_loop(host)
    told = history(host)
    host.run()

    assert host.plan()["d"].steps == ()
    assert history(host) == told
    assert sum("CrashLooping" in line for line in told) == 1


def test_what_the_spec_says_is_never_undercut(host: Passes) -> None:
    write_dying(host, "respawn_delay: 700s")
    host.run()
    for _ in range(4):
        die_again(host)
        host.run()

    status = only(host.run())

    assert status.crash is not None
    assert status.crash.delay_s == 700 == read_delay(host)


@pytest.mark.parametrize("properties", ["respawn_delay: 100ms", ""])
def test_it_is_forgotten_after_quiet_and_the_delay_taken_back(
    host: Passes, properties: str
) -> None:
    alive = write_dying(host, properties)
    usual = 0.1 if properties else 1.0
    make_loop(host, 4 if properties else 2)
    alive.touch()
    with host.client() as client:
        client.respawn("d")
    # It may have died once more before it could live.
    status = only(host.run())
    assert status.crash is not None
    quiet = max(60, 2 * status.crash.delay_s)
    started = read(host, "start_time[raw]")
    be_later(host, quiet - 10)
    assert only(host.run()).crash is not None
    assert read_delay(host) > usual

    be_later(host, quiet + 10)
    status = only(host.run())

    assert status.crash is None
    assert read_delay(host) == usual
    assert read(host, "start_time[raw]") == started
    assert any(line.startswith("no longer keeps dying") for line in history(host))
    assert host.plan()["d"].steps == ()


def test_a_changed_spec_tries_at_once_though_a_delay_is_under_way(host: Passes) -> None:
    alive = write_dying(host)
    make_loop(host)
    alive.touch()
    write_dying(host, "respawn_delay: 100ms\nthread_limit: 77")

    status = only(host.run())

    assert status.state == "running"
    assert status.crash is None
    assert read_delay(host) == 0.1
    assert any(line.startswith("start: its spec changed") for line in history(host))


def test_a_restart_tries_at_once_and_counts_anew(host: Passes) -> None:
    alive = write_dying(host)
    make_loop(host)
    alive.touch()

    status = only(host.run(restarts={"d": "asked for"}))

    assert status.state == "running"
    assert status.crash is None
    assert read_delay(host) == 0.1


def test_a_lost_store_begins_anew_and_takes_the_delay_back(host: Passes) -> None:
    write_dying(host)
    make_loop(host)
    (Path(host.settings.state_dir) / FILE_NAME).unlink()

    status = only(host.run())

    assert status.crash is None
    assert read_delay(host) == 0.1


def test_a_total_that_somebody_set_back_is_no_death(host: Passes) -> None:
    write_dying(host)
    before = make_loop(host)
    with host.client() as client:
        client.set_property("d", "respawn_count", "0")

    status = only(host.run())

    assert status.crash is not None
    assert before.crash is not None
    assert status.crash.deaths == before.crash.deaths


# -- we start it again ---------------------------------------------------------------------------


def die(host: Passes) -> None:
    wait_for(lambda: read(host, "state") == "dead")


def test_one_that_is_dead_rests_before_it_is_started_again(host: Passes) -> None:
    write_dying(host, "max_respawns: 0")
    host.run()
    for deaths, delay_s in enumerate((0, 2, 4, 8, 16), 1):
        die(host)
        if delay_s:
            be_later(host, delay_s - 2)
            status = only(host.run())
            assert status.state == "dead"
            assert "started again at" in host.plan()["d"].rests
        be_later(host, delay_s + 1)
        assert [type(step) for step in host.plan()["d"].steps] == [StartContainer]
        assert only(host.run()).restart_count == deaths
        host.now = time.time
    die(host)

    status = only(host.run())

    assert status.ready is not None
    assert status.ready.reason == "CrashLooping"
    assert status.crash is not None
    assert status.crash.deaths == 6
    assert "exited with code 3" in status.crash.last_words
    assert only_now(host).crash == status.crash
    assert not any("live change" in line for line in history(host))


def test_somebody_who_starts_it_begins_a_new_count(host: Passes) -> None:
    alive = write_dying(host, "max_respawns: 0")
    host.run()
    for delay_s in (0, 2, 4):
        die(host)
        be_later(host, delay_s + 1)
        host.run()
        host.now = time.time
    die(host)
    host.run()
    alive.touch()
    with host.client() as client:
        client.stop("d", 1)
        time.sleep(1)
        client.start("d")

    assert only(host.run()).crash is None


def only_now(host: Passes) -> DaemonStatus:
    """As `ya-salt status` sees it."""
    store = read_store(host.settings.state_dir)
    assert store is not None
    (status,) = look_now(host.make_host(), store.load_records())
    return status
