"""A pass may be killed at any request to portod: the next one ends where it should have."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.portod import DevPortod

from ya_salt.model import LABEL, Settings
from ya_salt.packages import Apt
from ya_salt.porto.client import PortoClient, parse_labels
from ya_salt.reconcile import Host, PassResult, Scope, run_pass
from ya_salt.specs import load_specs

NAME = "victim"
SPEC = """\
meta: {name: victim, delete_requested: %(delete)s}
spec:
  min_ready_s: 0
  properties:
    cmd: [sleep, '1000']
    memory_limit: %(memory)s
    env: {GENERATION: '%(generation)s'}
"""


class DoomedClient(PortoClient):
    """Dies, as from kill -9, instead of sending its process's n-th write."""

    writes_left = 0

    def _write(self, *arguments, **more):
        DoomedClient.writes_left -= 1
        if DoomedClient.writes_left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._write(*arguments, **more)


class Arena:
    """A daemons directory with one daemon, on a server that outlives many passes."""

    def __init__(self, folder: Path, portod: DevPortod) -> None:
        self._folder = folder
        self.portod = portod
        self.specs_dir = folder / "specs"
        self.specs_dir.mkdir(mode=0o755)

    def write(self, generation: int, memory: str = "64Mb", *, delete: bool = False) -> None:
        values = {"generation": generation, "memory": memory, "delete": str(delete).lower()}
        (self.specs_dir / "victim.yaml").write_text(SPEC % values)

    def run(self, make: Callable[[str], PortoClient] = PortoClient) -> PassResult:
        loaded = load_specs(str(self.specs_dir))
        assert not loaded.rejected
        settings = Settings(state_dir=str(self._folder / "state"), parallel=1)
        host = Host(settings, Apt(), lambda: make(self.portod.socket_path))
        return run_pass(host, Scope(loaded.specs, loaded))

    def run_doomed(self, writes: int) -> bool:
        """A pass in a process that dies at its write number `writes`; True if it got to its end."""
        child = os.fork()
        if not child:
            try:
                DoomedClient.writes_left = writes
                self.run(DoomedClient)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        return os.WIFEXITED(status)

    def containers(self) -> dict[str, dict[str, str]]:
        with PortoClient(self.portod.socket_path) as client:
            return client.get(["*"], ["state", "labels", "weak", "respawn", "env", "memory_limit"])

    def wait_settled(self) -> None:
        """portod notices a broken connection a moment later and removes what was weak."""
        give_up = time.monotonic() + 5
        while any(item["weak"] == "true" for item in self.containers().values()):
            assert time.monotonic() < give_up, "a weak container outlived its connection"
            time.sleep(0.02)


@pytest.fixture(scope="module")
def portod() -> Iterator[DevPortod]:
    with DevPortod() as server:
        yield server


@pytest.fixture
def arena(folder: Path, portod: DevPortod) -> Iterator[Arena]:
    made = Arena(folder, portod)
    yield made
    made.write(1, delete=True)
    made.run()


def check_running(arena: Arena, result: PassResult, generation: int, memory: int) -> None:
    (status,) = result.statuses
    assert result.ok, status
    found = arena.containers()
    assert list(found) == [NAME]
    assert found[NAME]["state"] == "running"
    assert found[NAME]["respawn"] == "true"
    assert found[NAME]["weak"] == "false"
    assert found[NAME]["env"] == f"GENERATION={generation}"
    assert found[NAME]["memory_limit"] == str(memory << 20)
    assert parse_labels(found[NAME]["labels"])[LABEL] == status.digest


def repeat_until_unharmed(
    arena: Arena, prepare: Callable[[], None], check: Callable[[], None]
) -> int:
    """Kill at the first write, at the second…; returns how many writes the whole pass has."""
    for writes in range(60):
        prepare()
        survived = arena.run_doomed(writes)
        arena.wait_settled()
        check()
        if survived:
            return writes
    raise AssertionError("the pass never got to its end")


def test_a_creation_killed_anywhere_is_made_up_for(arena: Arena) -> None:
    def prepare() -> None:
        arena.write(1, delete=True)
        arena.run()
        arena.write(1)

    writes = repeat_until_unharmed(arena, prepare, lambda: check_running(arena, arena.run(), 1, 64))
    assert writes >= 8


def test_a_restart_killed_anywhere_is_made_up_for(arena: Arena) -> None:
    generation = 1

    def prepare() -> None:
        nonlocal generation
        arena.write(generation)
        arena.run()
        generation += 1
        arena.write(generation)

    writes = repeat_until_unharmed(
        arena, prepare, lambda: check_running(arena, arena.run(), generation, 64)
    )
    assert writes >= 15


def test_a_live_change_killed_anywhere_is_made_up_for_without_a_restart(arena: Arena) -> None:
    memory = 64
    arena.write(1)
    arena.run()
    with PortoClient(arena.portod.socket_path) as client:
        pid = client.get_property(NAME, "root_pid")

        def prepare() -> None:
            nonlocal memory
            memory += 1
            arena.write(1, f"{memory}Mb")

        def check() -> None:
            check_running(arena, arena.run(), 1, memory)
            assert client.get_property(NAME, "root_pid") == pid

        assert repeat_until_unharmed(arena, prepare, check) >= 3


def test_a_removal_killed_anywhere_is_made_up_for(arena: Arena) -> None:
    def prepare() -> None:
        arena.write(1)
        arena.run()
        arena.write(1, delete=True)

    def check() -> None:
        (status,) = arena.run().statuses
        assert status.phase == "Removed"
        assert arena.containers() == {}

    assert repeat_until_unharmed(arena, prepare, check) >= 3
