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
from ya_salt.monitoring.counters import Counter, Memory, SinkState, decode_memory, encode_memory
from ya_salt.monitoring.report import FACT, load_memory
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
