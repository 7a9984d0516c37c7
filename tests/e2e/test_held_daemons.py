"""Daemons that somebody stops and starts, over passes; on a DevPortod with real processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.passes import DoomedClient, Passes
from helpers.portod import DevPortod

from ya_salt.converge.host import PassResult
from ya_salt.converge.preview import look_now
from ya_salt.life import Order
from ya_salt.model import DaemonStatus
from ya_salt.proto import porto_pb2 as pb
from ya_salt.store import read_store

STOP = Order("stop", "shell: eve", "disk is being replaced")
START = Order("start", "shell: bob")


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


def order(host: Passes, what: Order) -> DaemonStatus:
    result = host.run(orders={"d": what})
    assert result.ok, result.statuses
    return only(result)


def history(host: Passes) -> list[str]:
    store = read_store(host.settings.state_dir)
    assert store is not None
    return [event.what for event in store.load_history()]


def read(host: Passes, variable: str) -> str:
    with host.client() as client:
        return client.get_property("d", variable)


def be_later(host: Passes, seconds: float) -> None:
    host.now = lambda: time.time() + seconds


def test_a_stop_holds_over_passes_and_says_who_and_why(host: Passes) -> None:
    host.write("d", "", command="cmd: [sh, -c, 'echo here I am; exec sleep 1000']")
    host.run_one()

    status = order(host, STOP)

    assert status.state in {"dead", "stopped"}
    assert status.ready is not None
    assert status.ready.reason == "Held"
    assert "eve" in status.ready.message
    assert "disk is being replaced" in status.ready.message
    assert status.hold is not None
    assert status.hold.until == 0
    assert status.restart_count == 0
    assert read(host, "respawn") == "true"
    assert read(host, "stdout") == "here I am\n"
    again = host.run()
    assert again.ok
    assert only(again).hold == status.hold
    assert host.plan()["d"].steps == ()
    assert "eve" in host.plan()["d"].rests
    assert sum("held by" in line for line in history(host)) == 1


def test_a_start_applies_what_changed_meanwhile(host: Passes) -> None:
    host.write("d", "")
    host.run_one()
    order(host, STOP)
    host.write("d", "thread_limit: 77\nenv: {A: '1'}", version="2")
    held = only(host.run())
    assert held.state in {"dead", "stopped"}
    assert held.version == "1"

    status = order(host, START)

    assert status.state == "running"
    assert status.version == "2"
    assert status.hold is None
    assert read(host, "thread_limit") == "77"
    assert "A=1" in read(host, "env")
    assert host.plan()["d"].steps == ()


def test_a_start_alone_starts_the_same_container_without_drift(host: Passes) -> None:
    host.write("d", "")
    host.run_one()
    number = read(host, "id")
    order(host, STOP)

    status = order(host, START)

    assert read(host, "id") == number
    assert status.actions == ("start: it is dead",)
    assert status.crash is None


def test_a_hold_ends_by_itself(host: Passes) -> None:
    host.write("d", "")
    host.run_one()
    order(host, Order("stop", "shell: eve", "", time.time() + 7200))
    be_later(host, 7100)
    assert only(host.run()).state in {"dead", "stopped"}

    be_later(host, 7300)
    status = only(host.run())

    assert status.state == "running"
    assert status.hold is None
    assert any("hold by shell: eve is over" in line for line in history(host))


@pytest.mark.parametrize("state", ["running", "paused", "respawning", "dead"])
def test_a_stop_stops_whatever_state_it_is_in(host: Passes, state: str) -> None:
    command = "cmd: [sleep, '1000']" if state in {"running", "paused"} else "cmd: ['false']"
    limit = "max_respawns: 0" if state == "dead" else "respawn_delay: 100s"
    host.write("d", limit, command=command)
    host.run()
    if state == "paused":
        request = pb.TContainerRequest()
        request.pause.name = "d"
        with host.client() as client:
            client._write(request, "pause d")

    status = order(host, STOP)

    assert status.state in {"dead", "stopped"}
    assert read(host, "respawn") == "true"
    time.sleep(0.3)
    assert host.plan()["d"].steps == ()


def test_one_that_does_not_hear_sigterm_is_killed(
    host: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ya_salt.converge.containers.STOP_TIMEOUT_S", 0.5)
    host.write(
        "d", "", command="""cmd: [sh, -c, "trap '' TERM; echo up; sleep 1000 & wait; wait"]"""
    )
    host.run_one()

    assert order(host, STOP).state in {"dead", "stopped"}


def test_one_that_somebody_starts_by_hand_is_stopped_again(host: Passes) -> None:
    host.write("d", "")
    host.run_one()
    order(host, STOP)
    with host.client() as client:
        client.stop("d", 1)
        client.start("d")

    assert only(host.run()).state in {"dead", "stopped"}


def test_one_whose_container_is_gone_is_not_made(host: Passes) -> None:
    host.write("d", "")
    host.run_one()
    order(host, STOP)
    with host.client() as client:
        client.destroy("d")

    result = host.run()

    assert result.ok
    assert only(result).state == ""
    assert host.plan()["d"].steps == ()
    assert order(host, START).state == "running"


def test_one_that_never_ran_can_be_held(host: Passes) -> None:
    host.write("d", "")

    status = order(host, STOP)

    assert status.state == ""
    assert status.ready is not None
    assert status.ready.reason == "Held"
    order(host, START)
    assert [type(item.step) for item in host.run().outcomes["d"].results] == []


def test_delete_requested_removes_one_that_is_held(host: Passes) -> None:
    host.write("d", "")
    host.run_one()
    order(host, STOP)
    host.write("d", "", delete=True)

    status = only(host.run())

    assert status.phase == "Removed"
    assert status.hold is None
    host.write("d", "")
    assert only(host.run()).state == "running"


def test_a_restart_of_one_that_is_held_is_refused(host: Passes) -> None:
    host.write("d", "")
    host.run_one()
    order(host, STOP)

    result = host.run(restarts={"d": "asked for"})

    assert not result.ok
    assert "ya-salt start d" in only(result).error
    assert only(result).state in {"dead", "stopped"}
    assert host.run().ok


def test_a_stop_is_not_lost_where_its_pass_is_killed(host: Passes) -> None:
    host.write("d", "")
    host.run_one()
    DoomedClient.writes_left = 2
    kill(lambda: host.run(DoomedClient, orders={"d": STOP}))

    status = only(host.run())

    assert status.hold is not None
    assert status.state in {"dead", "stopped"}
    assert read(host, "respawn") == "true"


def test_a_look_without_a_pass_shows_it(host: Passes) -> None:
    host.write("d", "")
    host.run_one()
    status = order(host, STOP)
    store = read_store(host.settings.state_dir)
    assert store is not None

    (now,) = look_now(host.make_host(), store.load_records())

    assert now.ready == status.ready
    assert now.hold == status.hold


def kill(act: Callable[[], object]) -> None:
    child = os.fork()
    if not child:
        try:
            act()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def test_those_that_come_after_it_wait_and_say_for_whom(host: Passes) -> None:
    host.write("d", "")
    host.run_one()
    order(host, STOP)
    write_after(host, "web", "d")

    result = host.run()

    web = next(status for status in result.statuses if status.name == "web")
    assert web.state == ""
    assert web.ready is not None
    assert "held by shell: eve" in f"{web.ready.message} {web.waits_for}"
    host.run(orders={"d": START})
    web = next(status for status in host.run().statuses if status.name == "web")
    assert web.state == "running"


def test_a_hold_pauses_the_probation_of_an_update(host: Passes) -> None:
    host.write("d", "")
    host.run_one()
    host.write("d", "cwd: /tmp", version="2")
    host.run_one()
    assert only(host.run()).trial is not None
    status = order(host, STOP)
    assert status.rejection is None
    be_later(host, 3600)
    assert only(host.run()).rejection is None

    status = order(host, START)

    assert status.version == "2"
    assert status.rejection is None
    assert status.trial is not None
    assert status.trial.ready_at == pytest.approx(time.time() + 3600, abs=60)


def test_one_on_hold_takes_no_update(host: Passes) -> None:
    """Whose version is another meanwhile is no trial before it is started."""
    host.write("d", "")
    host.run_one()
    order(host, STOP)
    host.write("d", "cwd: /tmp", version="2")
    assert only(host.run()).trial is None

    status = order(host, START)

    assert status.version == "2"
    assert status.trial is not None


def write_after(host: Passes, name: str, other: str) -> None:
    host.write(name, "")
    path = host.specs_dir / f"{name}.yaml"
    path.write_text(path.read_text().replace("spec:\n", f"spec:\n  after: [{other}]\n", 1))
