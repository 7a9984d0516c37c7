"""What outlives a pass, and what a broken store does (nothing but start anew)."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ya_salt import store as store_module
from ya_salt.errors import LockHeldError, StoreError
from ya_salt.lock import hold_lock
from ya_salt.model import (
    Condition,
    DaemonSpec,
    DaemonStatus,
    Event,
    GateStanding,
    Package,
    Portod,
    Record,
)
from ya_salt.store import (
    FILE_NAME,
    HISTORY_LIMIT,
    LAST_PASS,
    Store,
    load_portod,
    open_store,
    read_store,
    save_portod,
)
from ya_salt.store_file import checksum
from ya_salt.trusted_files import UntrustedError

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
            [Event(float(i), "a" if i % 2 else "b", str(i)) for i in range(HISTORY_LIMIT + 9)]
        )
    everything = store.load_history(limit=HISTORY_LIMIT * 2)
    assert len(everything) == HISTORY_LIMIT
    assert everything[-1] == Event(float(HISTORY_LIMIT + 8), "b", str(HISTORY_LIMIT + 8))
    assert [event.name for event in store.load_history("a", 3)] == ["a"] * 3


def test_only_root_may_read_it(tmp_path: Path) -> None:
    open_store(str(tmp_path / "state")).close()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / FILE_NAME).stat().st_mode & 0o777 == 0o600


def _write_garbage(path: Path) -> None:
    path.write_bytes(b"this is no database, it never was one" * 99)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _drop_table(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE daemon")


def _become_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _want_another_way_of_writing(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[18] = 3
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        _write_garbage,
        _empty,
        _drop_table,
        _become_a_directory,
        _want_another_way_of_writing,
    ],
)
def test_a_store_that_cannot_be_used_is_set_aside_and_begun_anew(tmp_path: Path, damage) -> None:
    _save(tmp_path, [RECORD])
    damage(tmp_path / FILE_NAME)
    with pytest.raises(StoreError, match="cannot be used"):
        read_store(str(tmp_path))
    again = open_store(str(tmp_path))
    assert again.rebuilt
    assert again.load_records() == {}
    assert len(list(tmp_path.glob(f"{FILE_NAME}.unusable-*"))) == 1
    assert not open_store(str(tmp_path)).rebuilt


def _save(folder: Path, records: list[Record]) -> None:
    store = open_store(str(folder))
    with store.transaction():
        store.save_records(records)
        store.save_fact(LAST_PASS, PASS)
        store.add_history(EVENTS)


EVENTS = [
    Event(1.0, "juggler", "start: it was dead", "shell: alice"),
    Event(2.0, "other", "restart: new"),
]
PASS = {
    "started_at": 1.5,
    "duration_s": 1,
    "result": "ok",
    "error": "",
    "rejected": [["/specs/b.yaml", ["/specs/b.yaml:1:1: it is empty"]]],
    "ignored": [["/specs/c", "not a spec file"]],
    "portod_since": None,
}
AGAIN = {**PASS, "result": "again"}
OTHER = replace(RECORD, name="other", restart_pending=False)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE daemon SET data = '{\"name\":' WHERE name = 'juggler'",
        "UPDATE daemon SET data = 'null' WHERE name = 'juggler'",
        "UPDATE daemon SET data = x'ff00ff' WHERE name = 'juggler'",
        "UPDATE daemon SET data = 7 WHERE name = 'juggler'",
        "UPDATE daemon SET data = replace(data, 'old', 'bad') WHERE name = 'juggler'",
        "UPDATE daemon SET name = 'juggles' WHERE name = 'juggler'",
        "UPDATE daemon SET checksum = NULL WHERE name = 'juggler'",
        "UPDATE daemon SET checksum = (SELECT checksum FROM daemon WHERE name = 'other')"
        " WHERE name = 'juggler'",
    ],
)
def test_one_record_that_cannot_be_read_is_one_record_lost(tmp_path: Path, change: str) -> None:
    _save(tmp_path, [RECORD, OTHER])
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute(change)
    shown = read_store(str(tmp_path))
    assert shown is not None
    assert (shown.load_records(), shown.lost) == ({"other": OTHER}, 1)
    store = open_store(str(tmp_path))
    assert (store.rebuilt, store.lost, store.lacks(LAST_PASS)) == (True, 1, False)
    assert store.load_records() == {"other": OTHER}
    assert store.load_fact(LAST_PASS) == PASS
    assert len(store.load_history()) == 2
    assert not list(tmp_path.glob(f"{FILE_NAME}.unusable-*"))
    healed = open_store(str(tmp_path))
    assert (healed.rebuilt, healed.lost, set(healed.load_records())) == (False, 0, {"other"})


@pytest.mark.parametrize("data", ["null", "[]", "{}", '{"rejected": 7}', '{"error": null}'])
def test_a_last_pass_of_another_shape_is_lost_where_no_checksum_says_so(
    tmp_path: Path, data: str
) -> None:
    _save(tmp_path, [RECORD])
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("UPDATE fact SET data = ?", (data,))
    _go_back_to_format_1(tmp_path)
    store = open_store(str(tmp_path))
    assert (store.load_fact(LAST_PASS), store.lost) == (None, 1)
    assert store.load_records() == {"juggler": RECORD}


@pytest.mark.parametrize("data", ["{not json", "[" * 9000, ""])
def test_a_fact_that_is_no_json_is_one_fact_lost(tmp_path: Path, data: str) -> None:
    _save(tmp_path, [RECORD])
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("UPDATE fact SET data = ?", (data,))
    store = open_store(str(tmp_path))
    assert store.load_fact(LAST_PASS) is None
    assert store.lacks(LAST_PASS)
    assert store.load_records() == {"juggler": RECORD}


@pytest.mark.parametrize("data", [None, 5, {"version": 5}, {"dynamic": "all"}, {"dynamic": [1]}])
def test_what_portod_said_is_nothing_where_it_cannot_be_read(tmp_path: Path, data: object) -> None:
    told = Portod("5.3", frozenset({"memory_limit"}))
    store = open_store(str(tmp_path))
    with store.transaction():
        save_portod(store, told)
    assert load_portod(read_store(str(tmp_path))) == told
    with store.transaction():
        store.save_fact("portod", data)
    assert load_portod(read_store(str(tmp_path))) == load_portod(None) == Portod()


def test_no_text_of_a_row_is_in_an_error(tmp_path: Path, caplog) -> None:
    _save(tmp_path, [RECORD])
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("UPDATE daemon SET data = CAST(x'68756e7465723220ff' AS TEXT)")
        db.execute("UPDATE history SET what = CAST(x'68756e7465723220ff' AS TEXT)")
    read_store(str(tmp_path))
    assert open_store(str(tmp_path)).load_history() == []
    assert "3 rows" in caplog.text
    assert "hunter2" not in caplog.text


class _Newer:
    """What a version to come may do: fields that this one does not know, another format."""

    @staticmethod
    def write(folder: Path, monkeypatch) -> None:
        _save(folder, [RECORD])
        store = open_store(str(folder))
        newer = json.loads(store._content.records["juggler"])
        newer["colour"] = "red"
        newer["status"]["mood"] = {"is": "good"}
        newer["spec"]["packages"][0]["origin"] = "Debian"
        with store.transaction():
            store._content.records["juggler"] = json.dumps(newer)
        with sqlite3.connect(folder / FILE_NAME) as db:
            db.execute("ALTER TABLE daemon ADD COLUMN colour TEXT DEFAULT 'red'")
            db.execute("CREATE TABLE mood (name TEXT)")
            db.execute("PRAGMA user_version = 99")


def test_what_a_newer_version_has_written_is_kept_as_far_as_it_is_known(
    tmp_path: Path, monkeypatch
) -> None:
    _Newer.write(tmp_path, monkeypatch)
    store = open_store(str(tmp_path))
    assert not store.rebuilt
    assert store.load_records() == {"juggler": RECORD}
    with store.transaction():
        store.save_records([OTHER])
    assert open_store(str(tmp_path)).load_records() == {"juggler": RECORD, "other": OTHER}


def _go_back_to_format_1(folder: Path) -> None:
    with sqlite3.connect(folder / FILE_NAME) as db:
        for table in ("daemon", "fact", "history"):
            db.execute(f"ALTER TABLE {table} DROP COLUMN checksum")
        db.execute("PRAGMA user_version = 1")


def test_a_store_from_before_checksums_is_taken_over(tmp_path: Path) -> None:
    _save(tmp_path, [RECORD])
    _go_back_to_format_1(tmp_path)
    shown = read_store(str(tmp_path))
    assert shown is not None
    assert shown.load_records() == {"juggler": RECORD}
    store = open_store(str(tmp_path))
    assert (store.rebuilt, store.load_records()) == (False, {"juggler": RECORD})
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        assert db.execute("SELECT count(checksum) FROM daemon").fetchone() == (1,)


def _go_back_to_format_2(folder: Path) -> None:
    """As the version before `who` has made it."""
    with sqlite3.connect(folder / FILE_NAME) as db:
        db.execute("DROP TABLE author")
        db.execute("PRAGMA user_version = 2")


def test_a_store_from_before_who_is_taken_over(tmp_path: Path) -> None:
    _save(tmp_path, [RECORD])
    _go_back_to_format_2(tmp_path)
    shown = read_store(str(tmp_path))
    assert shown is not None
    assert [event.what for event in shown.load_history()] == [event.what for event in EVENTS]
    store = open_store(str(tmp_path))
    assert (store.rebuilt, store.lost) == (False, 0)
    assert [event.who for event in store.load_history()] == ["", ""]
    with store.transaction():
        store.add_history([Event(3.0, "juggler", "restart: asked for", "agent")])
    assert open_store(str(tmp_path)).load_history()[-1].who == "agent"


def test_an_earlier_version_reads_lines_with_who(tmp_path: Path) -> None:
    _save(tmp_path, [RECORD])
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        rows = db.execute("SELECT id, at, daemon, what, checksum FROM history").fetchall()
    assert [row[4] for row in rows] == [checksum("history", row[0], row[1:4]) for row in rows]


def test_who_that_was_changed_on_the_disk_is_not_believed(tmp_path: Path) -> None:
    _save(tmp_path, [RECORD])
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("UPDATE author SET who = 'shell: mallory'")
    store = open_store(str(tmp_path))
    assert store.lost == 1
    assert [(event.what, event.who) for event in store.load_history()] == [
        ("start: it was dead", ""),
        ("restart: new", ""),
    ]


def test_every_field_of_a_record_comes_back(tmp_path: Path) -> None:
    standing = GateStanding("waiting", "Closed", "not now", 3.0, "update", "2")
    status = replace(RECORD.status, gate=standing, memory_bytes=1, cpu_ns=2, running=None)
    full = replace(RECORD, restart_reason="asked", was_created=True, status=status)
    _save(tmp_path, [full])
    assert open_store(str(tmp_path)).load_records() == {"juggler": full}


# -- a kill in the middle of a write ---------------------------------------------------------------

_DIE_WRITING = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA cache_size = 1")
db.execute("PRAGMA cache_spill = 1")
db.execute("BEGIN")
db.execute("UPDATE daemon SET data = 'half'")
for number in range(2000):
    db.execute("INSERT INTO history (at, daemon, what) VALUES (1.0, 'x', ?)", ("y" * 500,))
os.kill(os.getpid(), 9)
"""


def _die_writing(folder: Path) -> None:
    subprocess.run([sys.executable, "-c", _DIE_WRITING, str(folder / FILE_NAME)], check=False)
    assert (folder / f"{FILE_NAME}-journal").stat().st_size > 0


def test_readers_read_what_a_kill_left_half_written(tmp_path: Path) -> None:
    _save(tmp_path, [RECORD])
    _die_writing(tmp_path)
    store = read_store(str(tmp_path))
    assert store is not None
    assert store.load_records() == {"juggler": RECORD}
    assert len(store.load_history(limit=9999)) == 2


def test_readers_that_may_not_write_read_it_too(tmp_path: Path) -> None:
    _save(tmp_path, [RECORD])
    _die_writing(tmp_path)
    found = _run_as_nobody(
        tmp_path,
        "import sys; from ya_salt.store import read_store; s = read_store(sys.argv[1]);"
        "print(sorted(s.load_records()), len(s.load_history(limit=9999)), s.lost)",
    )
    assert found == "['juggler'] 2 0\n"
    assert (tmp_path / f"{FILE_NAME}-journal").stat().st_size > 0


def _run_as_nobody(folder: Path, code: str) -> str:
    """Run it as a user who may read the store but write nothing."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    for path in (folder, *folder.parents):
        if path.stat().st_uid == 0 and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
    source = str(Path(store_module.__file__).parents[1])
    became = (
        f"import os, sys; sys.path.insert(0, {source!r}); import shutil, tempfile, ya_salt.store\n"
    )
    became += "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    done = subprocess.run(
        [sys.executable, "-c", became + code, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_kill_is_healed_by_the_next_pass(tmp_path: Path) -> None:
    _save(tmp_path, [RECORD])
    _die_writing(tmp_path)
    store = open_store(str(tmp_path))
    assert (store.rebuilt, store.load_records()) == (False, {"juggler": RECORD})
    assert not (tmp_path / f"{FILE_NAME}-journal").exists()


# -- damage of every kind --------------------------------------------------------------------------


def _flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 1, 1, 2, 8, 64])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _zero_a_page(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(0, len(data), 4096)
    data[start : start + 4096] = bytes(len(data[start : start + 4096]))


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _swap_pages(data: bytearray, chance: random.Random) -> None:
    one, other = (chance.randrange(0, len(data) // 4096) * 4096 for _ in range(2))
    data[one : one + 4096], data[other : other + 4096] = (
        data[other : other + 4096],
        data[one : one + 4096],
    )


def _scribble(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    data[start : start + 40] = chance.randbytes(len(data[start : start + 40]))


def _flip_in_the_header(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(100)] ^= 1 << chance.randrange(8)


@pytest.mark.parametrize(
    "damage", [_flip, _zero_a_page, _cut, _swap_pages, _scribble, _flip_in_the_header]
)
def test_no_damage_is_believed_and_all_of_it_heals(tmp_path: Path, damage) -> None:
    records = {f"d{i}": replace(RECORD, name=f"d{i}") for i in range(20)}
    whole = tmp_path / "whole"
    _save(whole, list(records.values()))
    data = (whole / FILE_NAME).read_bytes()
    chance = random.Random(damage.__name__)
    for number in range(int(os.environ.get("YA_SALT_TEST_DAMAGES", "40"))):
        folder = tmp_path / str(number)
        folder.mkdir(mode=0o700)
        damaged = bytearray(data)
        damage(damaged, chance)
        (folder / FILE_NAME).write_bytes(damaged)
        (folder / FILE_NAME).chmod(0o600)
        with contextlib.suppress(StoreError):
            _check_true(read_store(str(folder)), records)
        store = open_store(str(folder))
        _check_true(store, records)
        # A daemon that is not remembered has to be looked for.
        assert store.rebuilt or set(store.load_records()) == set(records)
        with store.transaction():
            store.save_records(records.values())
            store.save_fact(LAST_PASS, AGAIN)
            store.add_history([Event(3.0, "d1", "start: again", "agent")])
        assert store.trouble == ""
        healed = open_store(str(folder))
        assert (healed.rebuilt, healed.lost) == (False, 0)
        assert healed.load_records() == records
        assert healed.load_fact(LAST_PASS) == AGAIN
        assert healed.load_history(limit=1) == [Event(3.0, "d1", "start: again", "agent")]
        shutil.rmtree(folder)


def _check_true(store: Store | None, records: dict[str, Record]) -> None:
    assert store is not None
    found = store.load_records()
    assert found == {name: records[name] for name in found}
    assert store.load_fact(LAST_PASS) in (None, PASS)
    # Whoever had it done may be lost; a wrong one is not told.
    events = [*EVENTS, *(event._replace(who="") for event in EVENTS)]
    assert all(event in events for event in store.load_history())


def test_only_a_few_unusable_stores_are_kept(tmp_path: Path) -> None:
    for _ in range(6):
        _save(tmp_path, [RECORD])
        _write_garbage(tmp_path / FILE_NAME)
        open_store(str(tmp_path))
    assert len(list(tmp_path.glob(f"{FILE_NAME}.unusable-*"))) == 3


# -- a full disk -----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=755", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def _fill(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)


def test_a_full_disk_without_a_store_stops_nothing(small_disk: Path, caplog) -> None:
    _fill(small_disk)
    state = str(small_disk / "state")
    with hold_lock(state):
        store = open_store(state)
        assert store.rebuilt
        for _ in range(3):
            with store.transaction():
                store.save_records([RECORD])
        assert store.load_records() == {"juggler": RECORD}
        assert "No space left" in store.trouble or "full" in store.trouble
        with pytest.raises(LockHeldError), hold_lock(state):
            pass
    assert len([one for one in caplog.records if "cannot be written" in one.message]) == 1


def test_a_disk_that_fills_up_costs_what_is_learnt_and_nothing_else(small_disk: Path) -> None:
    state = small_disk / "state"
    _save(state, [RECORD])
    _fill(small_disk)
    big = [replace(RECORD, name=f"d{i}") for i in range(200)]
    store = open_store(str(state))
    assert not store.rebuilt
    with store.transaction():
        store.save_records(big)
    assert store.trouble
    assert len(store.load_records()) == 201
    with pytest.raises(StoreError), store.transaction(must_last=True):
        store.save_fact("told", 1)
    assert store.load_fact("told") is None
    assert open_store(str(state)).load_records() == {"juggler": RECORD}
    (small_disk / "filler").unlink()
    with store.transaction():
        store.add_history([Event(9.0, "d1", "there is room again")])
    assert store.trouble == ""
    assert len(open_store(str(state)).load_records()) == 201


def test_a_damaged_store_on_a_full_disk_is_not_given_up(small_disk: Path) -> None:
    state = small_disk / "state"
    _save(state, [RECORD, OTHER])
    with sqlite3.connect(state / FILE_NAME) as db:
        db.execute("UPDATE daemon SET data = 'null' WHERE name = 'other'")
    _fill(small_disk)
    store = open_store(str(state))
    assert store.trouble
    assert store.load_records() == {"juggler": RECORD}
    (small_disk / "filler").unlink()
    assert open_store(str(state)).load_records() == {"juggler": RECORD}


def test_a_read_only_disk_stops_nothing(small_disk: Path) -> None:
    state = small_disk / "state"
    _save(state, [RECORD])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with hold_lock(str(state)):
        store = open_store(str(state))
        assert store.load_records() == {"juggler": RECORD}
        with store.transaction():
            store.save_records([OTHER])
        assert store.trouble
        with pytest.raises(LockHeldError), hold_lock(str(state)):
            pass


# -- who may write it ------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["", FILE_NAME])
@pytest.mark.parametrize("how", ["mode", "owner"])
def test_what_somebody_else_may_write_is_refused_by_name(
    tmp_path: Path, where: str, how: str
) -> None:
    state = tmp_path / "state"
    _save(state, [RECORD])
    target = state / where if where else state
    if how == "mode":
        target.chmod(0o777)
    elif os.geteuid() == 0:
        os.chown(target, 1234, 1234)
    else:
        pytest.skip("only root can give files away")
    for use in (open_store, read_store):
        with pytest.raises(UntrustedError) as caught:
            use(str(state))
        assert str(target) in str(caught.value)
        assert ("chmod go-w" if how == "mode" else "chown root") in str(caught.value)
    if not where:
        with pytest.raises(UntrustedError), hold_lock(str(state)):
            pass


def test_folders_that_are_made_have_their_modes_whatever_the_umask(tmp_path: Path) -> None:
    for umask in (0, 0o077):
        old = os.umask(umask)
        try:
            state = tmp_path / oct(umask) / "lib" / "state"
            with hold_lock(str(state)):
                open_store(str(state))
        finally:
            os.umask(old)
        modes = [path.stat().st_mode & 0o777 for path in (state.parents[1], state.parent, state)]
        assert modes == [0o755, 0o755, 0o700]
        assert (state / FILE_NAME).stat().st_mode & 0o777 == 0o600


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


def test_a_new_store_goes_to_the_disk_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    connect = sqlite3.connect

    def connect_and_listen(*arguments: object, **more: object) -> sqlite3.Connection:
        made: sqlite3.Connection = connect(*arguments, **more)  # type: ignore[call-overload] - ours
        made.set_trace_callback(said.append)
        return made

    monkeypatch.setattr(sqlite3, "connect", connect_and_listen)
    open_store(str(tmp_path)).close()
    first, last = said.index("BEGIN"), said.index("COMMIT")
    made = [number for number, text in enumerate(said) if text.startswith("CREATE TABLE")]
    assert made
    assert all(first < number < last for number in made)
    assert said.count("COMMIT") == 1
