"""What outlives a pass, and what a broken store does (nothing but start anew)."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from ya_salt.errors import StoreError
from ya_salt.model import Condition, DaemonSpec, DaemonStatus, Package, Record
from ya_salt.store import FILE_NAME, HISTORY_LIMIT, open_store, read_store

RECORD = Record(
    name="juggler",
    spec=DaemonSpec(
        name="juggler",
        version="1",
        path="/specs/a.yaml",
        digest="d" * 64,
        properties={"command_argv": "a\tb", "env_secret[TOKEN]": "***"},
        packages=(Package("juggler", "1.0", line=7),),
        annotations={"owner": "me"},
        document="{}",
    ),
    package_names=("juggler", "old"),
    restart_pending=True,
    status=DaemonStatus(
        name="juggler",
        ready=Condition(True, "Ready", "runs", 12.5),
        packages=(("juggler", "1.0", "1.0"),),
        warnings=("w",),
        restart_count=3,
    ),
)


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    assert store.rebuilt
    with store.transaction():
        store.save_records([RECORD])
    store.close()
    again = open_store(str(tmp_path))
    assert not again.rebuilt
    assert again.load_records() == {"juggler": RECORD}


def test_secrets_never_reach_the_disk(tmp_path: Path) -> None:
    spec = replace(RECORD.spec, properties={"env_secret[TOKEN]": "hunter2", "user": "x"})
    store = open_store(str(tmp_path))
    with store.transaction():
        store.save_records([replace(RECORD, spec=spec)])
    store.close()
    assert b"hunter2" not in (tmp_path / FILE_NAME).read_bytes()


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    with pytest.raises(RuntimeError), store.transaction():
        store.save_records([RECORD])
        raise RuntimeError
    assert store.load_records() == {}


def test_history_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    with store.transaction():
        store.add_history(
            [(float(i), "a" if i % 2 else "b", str(i)) for i in range(HISTORY_LIMIT + 9)]
        )
    everything = store.load_history(limit=HISTORY_LIMIT * 2)
    assert len(everything) == HISTORY_LIMIT
    assert everything[-1] == (float(HISTORY_LIMIT + 8), "b", str(HISTORY_LIMIT + 8))
    assert [name for _, name, _ in store.load_history("a", 3)] == ["a"] * 3


def test_only_root_may_read_it(tmp_path: Path) -> None:
    open_store(str(tmp_path / "state")).close()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / FILE_NAME).stat().st_mode & 0o777 == 0o600


def _truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\0" * 100)


def _write_garbage(path: Path) -> None:
    path.write_bytes(b"this is no database, it never was one" * 99)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _drop_table(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE daemon")


def _break_json(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE daemon SET data = '{\"name\":'")


def _change_shape(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute('UPDATE daemon SET data = \'{"name": "x", "colour": "red"}\'')


def _come_from_the_future(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        _write_garbage,
        _empty,
        _drop_table,
        _break_json,
        _change_shape,
        _come_from_the_future,
    ],
)
def test_a_store_that_cannot_be_used_is_set_aside_and_begun_anew(tmp_path: Path, damage) -> None:
    store = open_store(str(tmp_path))
    with store.transaction():
        store.save_records([RECORD])
    store.close()
    damage(tmp_path / FILE_NAME)
    with pytest.raises(StoreError, match="cannot be used"):
        read_store(str(tmp_path))
    again = open_store(str(tmp_path))
    assert again.rebuilt
    assert again.load_records() == {}
    assert len(list(tmp_path.glob(f"{FILE_NAME}.unusable-*"))) == 1


def test_reading_makes_nothing(tmp_path: Path) -> None:
    assert read_store(str(tmp_path / "state")) is None
    assert list(tmp_path.iterdir()) == []


def test_a_state_directory_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StoreError, match="run as root, or give --state-dir"):
        open_store(str(tmp_path / "state"))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        open_store(str(tmp_path))
    assert not (tmp_path / "elsewhere").exists()
