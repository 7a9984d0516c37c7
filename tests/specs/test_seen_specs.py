"""Spec files that a process has read before: it finds whatever reading them again would tell."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ya_salt import as_left
from ya_salt.model import Loaded
from ya_salt.specs import directory
from ya_salt.specs.directory import load_specs
from ya_salt.specs.seen import SeenFiles

TICK_S = 0.03
"""More than the clock of files ticks, and what is settled here."""

ONE = "meta: {name: a}\nspec: {properties: {cmd: [d]}}\n"
OTHER = "meta: {name: a}\nspec: {properties: {cmd: [e]}}\n"
LATE = "meta: {name: b}\nspec: {after: [a], properties: {cmd: [d]}}\n"
CIRCLE = "meta: {name: a}\nspec: {after: [b], properties: {cmd: [d]}}\n"

Reads = list[str]
Load = Callable[[Path, SeenFiles], Loaded]


def take_glimpse(folder: Path) -> as_left.Glimpse:
    now, entries = time.time(), as_left.identify_entries(str(folder))
    unsettled = {name for name, item in entries.items() if not as_left.is_settled(item, now)}
    return as_left.Glimpse({}, {}, entries, unsettled)


def load_alone(folder: Path, seen: SeenFiles) -> Loaded:
    return load_specs(str(folder), seen=seen)


def load_after_glimpse(folder: Path, seen: SeenFiles) -> Loaded:
    return load_specs(str(folder), seen=seen, glimpse=take_glimpse(folder))


each_way = pytest.mark.parametrize("load", [load_alone, load_after_glimpse])


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """The names of the files that are opened."""
    names: Reads = []
    read_entry = directory.read_entry

    def read(name: str, path: str, folder: int, guard: directory.Guard) -> tuple[bytes, str]:
        names.append(name)
        return read_entry(name, path, folder, guard)

    monkeypatch.setattr(directory, "read_entry", read)
    monkeypatch.setattr(as_left, "SETTLED_S", TICK_S)
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "d"
    folder.mkdir(mode=0o755)
    (folder / "1.yaml").write_text(ONE)
    (folder / "2.yaml").write_text(LATE)
    return folder


def rewrite_unseen(folder: Path) -> None:
    """The same size, the same time of change: only ctime tells."""
    path = folder / "1.yaml"
    found = path.stat()
    path.write_text(OTHER)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def put_in_place(folder: Path) -> None:
    (folder / "new").write_text(OTHER)
    (folder / "new").rename(folder / "1.yaml")


def put_a_link(folder: Path) -> None:
    (folder / "1.yaml").rename(folder.parent / "1.yaml")
    (folder / "1.yaml").symlink_to(folder.parent / "1.yaml")


def name_it_twice(folder: Path) -> None:
    (folder / "3.yaml").write_text(OTHER)


def go_round(folder: Path) -> None:
    (folder / "1.yaml").write_text(CIRCLE)


def let_all_write(folder: Path) -> None:
    (folder / "1.yaml").chmod(0o666)


def let_all_write_the_folder(folder: Path) -> None:
    folder.chmod(0o777)


def give_away(folder: Path) -> None:
    os.chown(folder / "1.yaml", 65534, 65534)


def change_places(folder: Path) -> None:
    (folder / "1.yaml").rename(folder / "x")
    (folder / "2.yaml").rename(folder / "1.yaml")
    (folder / "x").rename(folder / "2.yaml")


def break_it(folder: Path) -> None:
    (folder / "1.yaml").write_text("meta: {name: a}\nspec: {properties: {cmd: [d], no: 1}}\n")


def take_away(folder: Path) -> None:
    (folder / "1.yaml").unlink()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="owners are checked for root alone")
DEEDS = [
    *(rewrite_unseen, put_in_place, put_a_link, name_it_twice, go_round),
    *(change_places, break_it, take_away),
    *(
        pytest.param(deed, marks=needs_root)
        for deed in (let_all_write, let_all_write_the_folder, give_away)
    ),
]


@each_way
@pytest.mark.parametrize("deed", DEEDS)
def test_every_change_is_found(
    folder: Path, reads: Reads, deed: Callable[[Path], None], load: Load
) -> None:
    seen = SeenFiles()
    time.sleep(2 * TICK_S)
    before = load(folder, seen)
    deed(folder)
    changed = load(folder, seen)
    assert changed == load_specs(str(folder))
    assert changed != before
    time.sleep(2 * TICK_S)
    for _ in range(2):
        assert load(folder, seen) == load_specs(str(folder))


@each_way
def test_what_is_as_it_was_is_not_read_again(folder: Path, reads: Reads, load: Load) -> None:
    seen = SeenFiles()
    time.sleep(2 * TICK_S)
    first = load(folder, seen)
    reads.clear()
    again = load(folder, seen)
    assert (again, reads) == (first, [])
    assert again.specs[0] is first.specs[0]
    (folder / "1.yaml").write_text(OTHER)
    load(folder, seen)
    assert reads == ["1.yaml"]


@each_way
def test_what_has_just_been_written_is_read_each_time(
    folder: Path, reads: Reads, load: Load
) -> None:
    """A second change in the same tick would have the same times."""
    seen = SeenFiles()
    load(folder, seen)
    reads.clear()
    load(folder, seen)
    assert reads == ["1.yaml", "2.yaml"]


@each_way
def test_what_is_broken_is_read_each_time(folder: Path, reads: Reads, load: Load) -> None:
    break_it(folder)
    seen = SeenFiles()
    time.sleep(2 * TICK_S)
    load(folder, seen)
    reads.clear()
    load(folder, seen)
    assert reads == ["1.yaml"]


@each_way
def test_what_is_gone_is_forgotten(folder: Path, reads: Reads, load: Load) -> None:
    seen = SeenFiles()
    time.sleep(2 * TICK_S)
    load(folder, seen)
    (folder / "1.yaml").rename(folder.parent / "1.yaml")
    load(folder, seen)
    (folder.parent / "1.yaml").rename(folder / "1.yaml")
    reads.clear()
    load(folder, seen)
    assert reads == ["1.yaml"]


def test_no_file_is_looked_at_twice_after_a_glimpse(
    folder: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = SeenFiles()
    time.sleep(2 * TICK_S)
    first, glimpse = load_after_glimpse(folder, seen), take_glimpse(folder)

    def identify(path: str, _folder: int | None = None) -> None:
        raise AssertionError(path)

    monkeypatch.setattr(as_left, "identify", identify)
    assert load_specs(str(folder), seen=seen, glimpse=glimpse) == first


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("deed", [put_in_place, rewrite_unseen, break_it, take_away, name_it_twice])
def test_change_after_the_glimpse_is_found_by_the_next_one(
    folder: Path, reads: Reads, deed: Callable[[Path], None], is_known: bool
) -> None:
    seen = SeenFiles()
    time.sleep(2 * TICK_S)
    if is_known:
        load_after_glimpse(folder, seen)
    glimpse = take_glimpse(folder)
    deed(folder)
    load_specs(str(folder), seen=seen, glimpse=glimpse)
    time.sleep(2 * TICK_S)
    for _ in range(2):
        assert load_after_glimpse(folder, seen) == load_specs(str(folder))


def test_glimpse_of_another_directory_tells_nothing(folder: Path, reads: Reads) -> None:
    seen = SeenFiles()
    time.sleep(2 * TICK_S)
    load_after_glimpse(folder, seen)
    glimpse = take_glimpse(folder)
    folder.rename(folder.parent / "before")
    folder.mkdir(mode=0o755)
    assert load_specs(str(folder), seen=seen, glimpse=glimpse).specs == ()
