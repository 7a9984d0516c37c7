"""Passes of the agent that find everything as it was left: they cost little, and miss nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.agents import AgentHost
from helpers.programs import wait_for

from ya_salt import as_left
from ya_salt.converge.quick import Reader
from ya_salt.porto.client import PortoClient


@pytest.fixture
def host(folder: Path) -> Iterator[AgentHost]:
    """Two daemons under an agent with a pass each second, all of them quick by now."""
    with AgentHost(folder, interval_s=1) as started:
        for name in ("one", "two"):
            started.drop(name, "memory_limit: 64Mb")
        started.start()
        wait_for_quick_pass(started)
        yield started


def wait_for_quick_pass(host: AgentHost) -> None:
    before = as_left.load_pass(str(host.state_dir))
    wait_for(
        lambda: as_left.load_pass(str(host.state_dir)) not in {None, before}, "a quick pass", 60
    )


def test_they_write_nothing_but_when_they_were(host: AgentHost) -> None:
    store = host.state_dir / "store.sqlite3"
    before = store.stat().st_ino, store.stat().st_mtime_ns
    for _ in range(3):
        wait_for_quick_pass(host)
    assert (store.stat().st_ino, store.stat().st_mtime_ns) == before


def test_a_command_profits_from_the_agents_passes(host: AgentHost) -> None:
    done = host.run("apply")
    assert done.returncode == 0, done.stderr
    # A full pass would have taken the snapshot away, at least for a moment, and written the store.
    assert as_left.read(str(host.state_dir)) is not None


def test_what_somebody_sets_is_put_right_by_the_next_one(host: AgentHost) -> None:
    limit = host.value("one", "memory_limit")
    with PortoClient(host.portod.socket_path) as client:
        client.set_property("one", "memory_limit", "32Mb")
    wait_for(lambda: host.value("one", "memory_limit") == limit, "the limit as before", 20)


def test_what_happens_meanwhile_is_acted_on_as_ever(host: AgentHost) -> None:
    old = host.value("one", "root_pid")
    host.kill_daemon("one")
    wait_for(lambda: host.value("one", "root_pid") not in {"", old}, "one runs again", 20)
    host.drop("three")
    wait_for(lambda: host.is_running("three"), "three runs", 20)


def test_the_snapshot_is_read_again_only_where_it_is_another(tmp_path: Path) -> None:
    reader, state_dir = Reader(), str(tmp_path)
    assert reader.read(state_dir) is None
    as_left.write(state_dir, {"number": 1}, {})
    first = reader.read(state_dir)
    assert first is not None
    # While it may be written again without its times showing it, it is not relied upon.
    assert reader.read(state_dir) is not first
    time.sleep(as_left.SETTLED_S + 0.1)
    kept = reader.read(state_dir)
    assert reader.read(state_dir) is kept is not None
    as_left.write(state_dir, {"number": 2}, {})
    other = reader.read(state_dir)
    assert other is not None
    assert other["number"] == 2
    as_left.forget(state_dir)
    assert reader.read(state_dir) is None


def test_a_snapshot_that_is_taken_away_means_a_full_pass(host: AgentHost) -> None:
    time.sleep(as_left.SETTLED_S + 1.0)
    as_left.forget(str(host.state_dir))
    wait_for(lambda: as_left.read(str(host.state_dir)) is not None, "another snapshot", 20)
