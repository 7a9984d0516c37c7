"""Passes over a store that is damaged, or on a disk that takes nothing more."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.passes import Passes
from helpers.portod import DevPortod

from ya_salt.hostname import FACT as HOSTNAME
from ya_salt.store import FILE_NAME, open_store, read_store


@pytest.fixture(scope="module")
def portod() -> Iterator[DevPortod]:
    with DevPortod() as server:
        yield server


@pytest.fixture
def passes(folder: Path, portod: DevPortod) -> Iterator[Passes]:
    made = Passes(folder, portod.socket_path)
    yield made
    made.remove_all()


def pids(passes: Passes) -> dict[str, str]:
    with passes.client() as client:
        found = client.get(["one", "two"], ["root_pid"])
    return {name: values.get("root_pid", "") for name, values in found.items()}


def stop(passes: Passes, name: str) -> None:
    with passes.client() as client:
        client.stop(name, 5)


# -- damage ----------------------------------------------------------------------------------------


def test_every_pass_goes_on_and_heals_whatever_happened_to_the_store(passes: Passes) -> None:
    chance = random.Random(11)
    passes.write("one", "")
    passes.write("two", "")
    passes.run()
    before = pids(passes)
    path = Path(passes.settings.state_dir, FILE_NAME)
    for _ in range(40):
        data = bytearray(path.read_bytes())
        for _ in range(chance.choice([1, 4, 40])):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        result = passes.run()
        assert result.ok, result
        assert (result.problems, pids(passes)) == ((), before)
        store = read_store(passes.settings.state_dir)
        assert store is not None
        assert (set(store.load_records()), store.lost) == ({"one", "two"}, 0)


def test_a_record_that_is_lost_is_learnt_from_its_container(passes: Passes) -> None:
    passes.write("one", "")
    passes.write("two", "")
    passes.run()
    before = pids(passes)
    with sqlite3.connect(Path(passes.settings.state_dir, FILE_NAME)) as db:
        db.execute("UPDATE daemon SET data = 'null' WHERE name = 'one'")
    (passes.specs_dir / "one.yaml").unlink()
    result = passes.run()
    assert {item.name: item.phase for item in result.statuses} == {
        "one": "Orphaned",
        "two": "Managed",
    }
    assert pids(passes) == before


# -- a disk that takes nothing more ----------------------------------------------------------------


@pytest.fixture
def full_disk(folder: Path) -> Iterator[Path]:
    disk = folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k,mode=755", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)


@pytest.mark.parametrize("has_store", [True, False])
def test_a_dead_daemon_is_started_on_a_full_disk(
    passes: Passes, full_disk: Path, has_store: bool
) -> None:
    passes.write("one", "")
    passes.run()
    state = passes.settings.state_dir
    passes.settings = replace(passes.settings, state_dir=str(full_disk / "state"))
    if has_store:
        passes.run()
    fill(full_disk)
    stop(passes, "one")
    result = passes.run()
    (status,) = result.statuses
    assert (status.state, status.error) == ("running", "")
    assert any(action.startswith("start") for action in status.actions)
    # It is told that this will be forgotten, and that is no success.
    assert len(result.problems) == 1
    assert not result.ok
    (full_disk / "filler").unlink()
    assert passes.run().ok
    passes.settings = replace(passes.settings, state_dir=state)


# -- the host's name -------------------------------------------------------------------------------


def test_an_image_that_is_cloned_takes_no_name_along(
    passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(passes.settings.state_dir)
    other = {"name": "web1", "source": "node", "node": "web1", "machine_id": "f" * 32}
    with store.transaction():
        store.save_fact(HOSTNAME, other)
    monkeypatch.setattr("ya_salt.hostname.read_machine_id", lambda: "e" * 32)
    passes.write("one", "")
    passes.run()
    again = read_store(passes.settings.state_dir)
    assert again is not None
    found = again.load_fact(HOSTNAME)
    assert found is not None
    assert (found["machine_id"], found["name"] != "web1") == ("e" * 32, True)
