"""What monitoring remembers survives being written, and never breaks a pass however it looks."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ya_salt.model import LABEL, Condition, Container, DaemonSpec, DaemonStatus
from ya_salt.monitoring import report
from ya_salt.monitoring.counters import Counter, Memory, SinkState, decode_memory, encode_memory
from ya_salt.monitoring.report import FACT, load_memory, save_memory
from ya_salt.store import FILE_NAME, open_store

BOX = Container("d", "running", {LABEL: "x"}, id="7", created_at=1000, running_s=30)
FULL = Memory(
    counters={"d": Counter(3, 1, "7@1000", 3, 1, 4.5)},
    accepted={"yasm": {"d": (2, 1)}},
    handed_over={"yasm": {"d": (3, 1)}},
    restarting={"d": "7@1000"},
    sinks={"yasm": SinkState("refused", "no", 1.0)},
    alerts={"daemon d": {"labels": {"daemon": "d"}}},
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(sorted(encode_memory(FULL))), inner, max_size=7)
    ),
    max_leaves=10,
)


def test_it_comes_back_as_it_was_written() -> None:
    assert decode_memory(json.loads(json.dumps(encode_memory(FULL)))) == FULL


@given(json_values)
def test_whatever_is_found_in_the_store_is_a_memory(data: Any) -> None:
    assert isinstance(decode_memory(data), Memory)


@example("accepted", {"yasm": {"d": ""}})
@example("handed_over", {"yasm": {"d": [1]}})
@given(st.sampled_from(sorted(encode_memory(FULL))), json_values)
def test_a_memory_with_one_broken_part_is_still_one(part: str, data: Any) -> None:
    memory = decode_memory({**encode_memory(FULL), part: data})
    memory.list_news("yasm")
    memory.see_containers([BOX])
    memory.settle()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"counters": {"d": {"respawns": "x"}}}'])
def test_a_pass_is_made_whatever_is_found_in_the_store(tmp_path: Path, text: str) -> None:
    state = tmp_path / "state"
    store = open_store(str(state))
    with store.transaction():
        store.save_fact(FACT, {})
    with sqlite3.connect(state / FILE_NAME) as db:
        db.execute("UPDATE fact SET data = ? WHERE name = ?", (text, FACT))
    memory = load_memory(open_store(str(state)))
    memory.see_containers([BOX])
    assert memory.list_totals() == {"d": (0, 0)}


def test_what_was_read_may_change_without_changing_what_is_read_next(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "state"))
    full = decode_memory(encode_memory(FULL))
    save_memory(store, full)
    first = load_memory(store)
    assert first == FULL
    first.counters["d"] = Counter(9)
    first.accepted["yasm"]["d"] = first.handed_over["yasm"]["d"] = (9, 9)
    first.doubted["yasm"] = {}
    first.restarting.clear()
    first.sinks.clear()
    first.alerts.clear()
    first.textfile_dir = "/somewhere"
    assert load_memory(store) == FULL == full
    save_memory(store, first)
    assert load_memory(store) == first
    full.accepted["yasm"]["d"] = (7, 7)
    assert load_memory(store) == first


def test_what_is_written_is_read_by_a_process_that_did_not_write_it(tmp_path: Path) -> None:
    store, memory = open_store(str(tmp_path / "state")), FULL.copy()
    memory.counters |= {f"d-{number}": Counter(number) for number in range(5)}
    for name in ("d", 'with " quotes', "d-3"):
        memory.counters[name] = Counter(7, 1, "8@2000")
        save_memory(store, memory)
        assert decode_memory(store.load_fact(FACT)) == memory
        assert store.load_fact(FACT) == json.loads(json.dumps(encode_memory(memory)))
        assert str(store.load_text(FACT)).count('"counters"') == 1
    # What another process would write of it is the same: a pass that finds no news writes none.
    read = decode_memory(store.load_fact(FACT))
    read.counters = dict(reversed(read.counters.items()))
    assert report._LastWritten().write(read) == store.load_text(FACT)
    del memory.counters["d-4"]
    save_memory(store, memory)
    assert decode_memory(store.load_fact(FACT)) == memory
    save_memory(store, Memory())
    assert decode_memory(store.load_fact(FACT)) == Memory()


def test_every_store_has_a_memory_of_its_own(tmp_path: Path) -> None:
    one, other = open_store(str(tmp_path / "one")), open_store(str(tmp_path / "other"))
    save_memory(one, FULL)
    save_memory(other, Memory())
    assert (load_memory(one), load_memory(other)) == (FULL, Memory())
    assert load_memory(open_store(str(tmp_path / "third"))) == Memory()


def test_what_is_as_it_was_is_not_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(tmp_path / "state"))
    save_memory(store, FULL)
    text = store.load_text(FACT)
    monkeypatch.setattr(report.json, "dumps", lambda *_, **__: pytest.fail("it was"))
    save_memory(store, FULL.copy())
    assert store.load_text(FACT) is text


def test_somebody_elses_container_is_not_counted() -> None:
    memory = Memory()
    memory.see_containers([Container("d", "running", {}, respawn_count=9, id="1")])
    assert memory.counters == {}


@pytest.mark.parametrize(
    ("sentence", "running_s", "min_ready_s", "now", "took_s"),
    [
        ("at once", 0, 0.0, 1000.0, 0.0),
        ("after its time to be ready", 5, 5.0, 1007.0, 7.0),
        ("seen late, but not counted late", 300, 5.0, 1302.0, 7.0),
        ("by a clock that was set back", 300, 5.0, 900.0, 0.0),
    ],
)
def test_how_long_a_start_took(
    sentence: str, running_s: int, min_ready_s: float, now: float, took_s: float
) -> None:
    box = Container("d", "running", {LABEL: "x"}, id="7", created_at=1000, running_s=running_s)
    spec = DaemonSpec("d", "1", "/d", "x", {}, (), min_ready_s=min_ready_s)
    status = DaemonStatus("d", ready=Condition(True, "Ready", "", now))
    memory = Memory()
    memory.see_containers([box])
    memory.see_statuses([status], {"d": spec}, {"d": box}, now)
    assert memory.find_counter("d").start_duration_s == took_s
    # What happens to it later is not its start.
    memory.see_statuses([status], {"d": spec}, {"d": box}, now + 1000)
    assert memory.find_counter("d").start_duration_s == took_s


def test_a_daemon_that_is_gone_is_forgotten_once_all_is_told() -> None:
    memory = Memory(counters={"d": Counter(respawns=1)})
    memory.forget([], ["yasm"])
    assert "d" in memory.counters
    memory.accept("yasm", memory.list_totals())
    memory.forget(["d"], ["yasm"])
    assert "d" in memory.counters
    memory.forget([], ["yasm"])
    assert (memory.counters, memory.accepted) == ({}, {"yasm": {}})
