"""The files of what was ready once: many written in one pass, and what stands in their way."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.passes import Passes
from helpers.portod import DevPortod

from ya_salt.converge.generations import load_spec
from ya_salt.life import Life
from ya_salt.model import DaemonSpec
from ya_salt.porto.client import PortoClient
from ya_salt.store import read_store

NAMES = ("a", "b", "c")


@pytest.fixture
def passes(folder: Path) -> Iterator[Passes]:
    with DevPortod() as portod:
        yield Passes(folder, portod.socket_path)


def find_folder(passes: Passes) -> Path:
    return Path(passes.settings.state_dir, "generations")


def list_remembered(passes: Passes) -> dict[str, list[int]]:
    store = read_store(passes.settings.state_dir)
    assert store is not None
    try:
        lives: dict[str, Life] = {name: item.life for name, item in store.load_records().items()}
    finally:
        store.close()
    return {name: [item.number for item in life.generations] for name, life in lives.items()}


def test_many_that_become_ready_at_once_are_all_kept_for_root_alone(passes: Passes) -> None:
    for name in NAMES:
        passes.write(name, "")
    mask = os.umask(0o277)
    try:
        assert passes.run().ok
    finally:
        os.umask(mask)
    for name in NAMES:
        folder = find_folder(passes) / name
        assert folder.stat().st_mode & 0o777 == 0o700
        assert [path.name for path in folder.iterdir()] == ["1.json"]
        assert (folder / "1.json").stat().st_mode & 0o177 == 0
    assert list_remembered(passes) == {name: [1] for name in NAMES}


def test_a_folder_that_others_can_write_costs_its_daemon_alone_its_generation(
    passes: Passes,
) -> None:
    folder = find_folder(passes) / "b"
    folder.mkdir(parents=True, mode=0o700)
    for each in (folder, *list(folder.parents)[:2]):
        each.chmod(0o700)
    folder.chmod(0o777)
    for name in NAMES:
        passes.write(name, "")
    assert passes.run().ok
    assert list_remembered(passes) == {"a": [1], "b": [], "c": [1]}
    assert not [*folder.iterdir()]


def test_a_link_in_the_place_of_a_folder_is_not_followed(passes: Passes, folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    place = find_folder(passes)
    place.mkdir(parents=True)
    (place / "b").symlink_to(elsewhere)
    for name in NAMES:
        passes.write(name, "")
    assert passes.run().ok
    assert list_remembered(passes) == {"a": [1], "b": [], "c": [1]}
    assert not [*elsewhere.iterdir()]


def test_what_the_disk_did_not_take_is_not_remembered(
    passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, taken = threading.Lock(), []

    def fail_once(file: int) -> None:
        path = str(Path(f"/proc/self/fd/{file}").readlink())
        with lock:
            is_first = path.endswith("b/1.json") and not taken
            taken.extend([path] * is_first)
        if is_first:
            raise OSError(errno.EIO, "no disk")

    monkeypatch.setattr(os, "fsync", fail_once)
    for name in NAMES:
        passes.write(name, "")
    assert passes.run().ok
    assert taken
    assert list_remembered(passes) == {"a": [1], "b": [], "c": [1]}
    assert not [*(find_folder(passes) / "b").iterdir()]
    assert passes.run().ok
    assert list_remembered(passes) == {name: [1] for name in NAMES}


@pytest.mark.parametrize("left", [b"", b'{"summary"'])
def test_killed_before_the_disk_has_it_the_next_pass_writes_it_anew(
    passes: Passes, left: bytes
) -> None:
    """The name may be there then, and what it stands for not, or not whole."""
    child = os.fork()
    if child == 0:
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        passes.write("a", "")
        passes.run()
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    file = find_folder(passes) / "a" / "1.json"
    assert file.exists()
    # As a power cut would leave it.
    file.write_bytes(left)
    assert not list_remembered(passes).get("a")
    assert passes.run().ok
    assert list_remembered(passes)["a"] == [1]
    kept = load_spec(passes.settings.state_dir, "a", 1)
    assert isinstance(kept, DaemonSpec)
    assert kept.version == "1"


def test_a_start_of_many_takes_no_thread_for_each(passes: Passes) -> None:
    many = [f"d{number}" for number in range(12)]
    before, most = threading.active_count(), [0]

    class Watching(PortoClient):
        def start(self, name: str) -> None:
            most[0] = max(most[0], threading.active_count() - before)
            super().start(name)

    for name in many:
        passes.write(name, "")
    result = passes.run(Watching)
    assert result.touched == {*many}
    assert 0 < most[0] < len(many)
