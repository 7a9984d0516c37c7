"""A store that a process opens again: it goes by what it knows only while nobody else wrote it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from ya_salt import store as store_module
from ya_salt.model import DaemonStatus, Event, Record
from ya_salt.store import FILE_NAME, KeptStore, open_store
from ya_salt.store_file import WeatherError

ONE = Record("one", status=DaemonStatus("one"))
OTHER = Record("two", status=DaemonStatus("two", restart_count=3))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that are read as a whole."""
    found: list[Path] = []
    read_file = store_module.read_file

    def read(path: Path, *, thoroughly: bool) -> object:
        found.append(path)
        return read_file(path, thoroughly=thoroughly)

    monkeypatch.setattr(store_module, "read_file", read)
    return found


@pytest.fixture
def kept(tmp_path: Path) -> KeptStore:
    """Of a process that has made some passes."""
    kept = KeptStore()
    for record in (OTHER, ONE):
        make_pass(tmp_path, kept, record)
    return kept


def make_pass(folder: Path, kept: KeptStore | None, *records: Record) -> dict[str, Record]:
    """What a pass finds in the store, which it leaves with these in it besides."""
    store = open_store(str(folder), kept)
    found = store.load_records()
    with store.transaction():
        store.save_records(records)
        store.add_history([Event(1.0, record.name, "was seen") for record in records])
    store.close()
    return found


def execute(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


def change_unseen(path: Path) -> None:
    """A row is gone, and size and time of change are as they were."""
    found = path.stat()
    execute(path, "DELETE FROM daemon WHERE name = 'two'")
    assert path.stat().st_size == found.st_size
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def take_away(path: Path) -> None:
    path.unlink()


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"two"', b'"tw_"'))


def let_an_earlier_one_take_its_place(path: Path) -> None:
    make_pass(path.parent, None)
    earlier = path.with_name("earlier")
    shutil.copyfile(path, earlier)
    execute(earlier, "DELETE FROM daemon")
    earlier.rename(path)


def let_another_process_make_a_pass(path: Path) -> None:
    make_pass(path.parent, None, Record("one", package_names=("p",)), Record("three"))


DEEDS = [
    *(change_unseen, take_away, damage, let_an_earlier_one_take_its_place),
    let_another_process_make_a_pass,
]


def test_what_nobody_else_has_written_is_not_read_again(
    tmp_path: Path, kept: KeptStore, reads: list[Path]
) -> None:
    assert make_pass(tmp_path, kept, Record("three")) == {"one": ONE, "two": OTHER}
    assert make_pass(tmp_path, kept).keys() == {"one", "two", "three"}
    assert reads == []
    # It is on the disk all the same.
    assert make_pass(tmp_path, None).keys() == {"one", "two", "three"}


@pytest.mark.parametrize("deed", DEEDS)
def test_what_somebody_else_has_done_is_found(
    tmp_path: Path, kept: KeptStore, reads: list[Path], deed: Callable[[Path], None]
) -> None:
    deed(tmp_path / FILE_NAME)
    reads.clear()
    shutil.copytree(tmp_path, tmp_path / "copy")
    expected = make_pass(tmp_path / "copy", None)
    assert expected != {"one": ONE, "two": OTHER}
    assert make_pass(tmp_path, kept) == expected
    assert make_pass(tmp_path, kept) == expected


def test_a_change_of_the_same_moment_is_found(
    tmp_path: Path, kept: KeptStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stat is the same, as it may be within a tick: SQLite's own count tells."""
    path = tmp_path / FILE_NAME
    found = store_module.as_left.identify(str(path))
    monkeypatch.setattr(store_module.as_left, "identify", lambda *_: found)
    make_pass(tmp_path, kept)
    change_unseen(path)
    assert make_pass(tmp_path, kept).keys() == {"one"}


def test_what_was_written_during_the_pass_is_found_by_the_next(
    tmp_path: Path, kept: KeptStore, reads: list[Path]
) -> None:
    store = open_store(str(tmp_path), kept)
    with store.transaction():
        store.save_records([Record("three")])
    change_unseen(tmp_path / FILE_NAME)
    store.close()
    assert make_pass(tmp_path, kept).keys() == {"one", "three"}


def test_what_could_not_be_written_is_not_known_to_the_next(
    tmp_path: Path, kept: KeptStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise WeatherError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "update_file", refuse)
        make_pass(tmp_path, kept, Record("three"))
    assert make_pass(tmp_path, kept).keys() == {"one", "two"}


def test_a_write_that_was_cut_off_is_undone_by_reading(
    tmp_path: Path, kept: KeptStore, reads: list[Path]
) -> None:
    """A journal beside the file says that it may not be what it looks like."""
    path = tmp_path / FILE_NAME
    path.with_name(f"{path.name}-journal").write_bytes(b"")
    make_pass(tmp_path, kept)
    assert reads == [path]
