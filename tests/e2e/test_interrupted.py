"""A pass may be killed at any request to portod: the next one ends where it should have."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.passes import DoomedClient, Passes
from helpers.portod import DevPortod

from ya_salt.converge.host import PassResult
from ya_salt.model import LABEL
from ya_salt.porto.client import parse_labels

NAME = "victim"


class Arena(Passes):
    """A daemons directory with one daemon, on a server that outlives many passes."""

    def write_victim(self, generation: int, memory: str = "64Mb", *, delete: bool = False) -> None:
        self.write(
            NAME, f"memory_limit: {memory}\nenv: {{GENERATION: '{generation}'}}", delete=delete
        )

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
        with self.client() as client:
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
    made = Arena(folder, portod.socket_path)
    yield made
    made.write_victim(1, delete=True)
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
        arena.write_victim(1, delete=True)
        arena.run()
        arena.write_victim(1)

    writes = repeat_until_unharmed(arena, prepare, lambda: check_running(arena, arena.run(), 1, 64))
    assert writes >= 8


def test_a_restart_killed_anywhere_is_made_up_for(arena: Arena) -> None:
    generation = 1

    def prepare() -> None:
        nonlocal generation
        arena.write_victim(generation)
        arena.run()
        generation += 1
        arena.write_victim(generation)

    writes = repeat_until_unharmed(
        arena, prepare, lambda: check_running(arena, arena.run(), generation, 64)
    )
    assert writes >= 15


def test_a_live_change_killed_anywhere_is_made_up_for_without_a_restart(arena: Arena) -> None:
    memory = 64
    arena.write_victim(1)
    arena.run()
    with arena.client() as client:
        pid = client.get_property(NAME, "root_pid")

        def prepare() -> None:
            nonlocal memory
            memory += 1
            arena.write_victim(1, f"{memory}Mb")

        def check() -> None:
            check_running(arena, arena.run(), 1, memory)
            assert client.get_property(NAME, "root_pid") == pid

        assert repeat_until_unharmed(arena, prepare, check) >= 3


def test_a_removal_killed_anywhere_is_made_up_for(arena: Arena) -> None:
    def prepare() -> None:
        arena.write_victim(1)
        arena.run()
        arena.write_victim(1, delete=True)

    def check() -> None:
        (status,) = arena.run().statuses
        assert status.phase == "Removed"
        assert arena.containers() == {}

    assert repeat_until_unharmed(arena, prepare, check) >= 3


def test_a_default_is_not_lost_in_a_change_killed_anywhere(arena: Arena) -> None:
    arena.write(NAME, "")
    arena.run()

    def prepare() -> None:
        arena.write(NAME, "thread_limit: 50")

    def check() -> None:
        arena.run()
        arena.write(NAME, "")
        arena.run()
        with arena.client() as client:
            assert client.get_property(NAME, "thread_limit") == "10000"

    assert repeat_until_unharmed(arena, prepare, check) >= 4
