"""What is remembered of the gate comes back as it was, and never breaks a pass."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ya_salt.gate.memory import GateMemory, decode_memory, encode_memory
from ya_salt.gate.protocol import Slot

HELD = Slot("web", "id", "update", "2", 1.5, "failed", "exit 1", 3, 7, 9, 60, 3600)
FULL = GateMemory(
    held={"web": HELD},
    asked={"a", "b"},
    state="failed",
    message="no answer",
    since=2.5,
    override="INC-1",
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def test_it_comes_back_as_it_was() -> None:
    assert decode_memory(json.loads(json.dumps(encode_memory(FULL)))) == FULL
    assert decode_memory(json.loads(json.dumps(encode_memory(GateMemory())))) == GateMemory()


@given(JSON)
def test_anything_else_is_an_empty_one(data: Any) -> None:
    assert decode_memory(data) == GateMemory()


@given(st.sampled_from(sorted(encode_memory(FULL))), JSON)
def test_with_one_broken_part_it_is_whole_or_empty(part: str, data: Any) -> None:
    memory = decode_memory({**encode_memory(FULL), part: data})
    assert memory == GateMemory() or all(isinstance(item, Slot) for item in memory.held.values())
    encode_memory(memory)


@given(st.sampled_from(sorted(encode_memory(FULL)["held"]["web"])), JSON)
def test_a_slot_of_another_shape_is_no_slot(field: str, data: Any) -> None:
    told = encode_memory(FULL)
    told["held"]["web"] = {**told["held"]["web"], field: data}
    memory = decode_memory(told)
    for held in memory.held.values():
        assert isinstance(held.lost_after_s + held.revision + held.lease, int)
        assert held.min_healthy_s is None or isinstance(held.min_healthy_s, int)
        assert held.since + 1.0
        assert held.state in {"working", "settling", "failed"}
        assert held.rule == f"porto-daemon-{held.daemon}"


def test_what_an_earlier_version_wrote_is_read_as_it_was_meant() -> None:
    """It knew no rule without a time: its 0 gave the slot back at once."""
    told = encode_memory(FULL)
    told["held"]["web"]["min_healthy_s"] = 0
    assert decode_memory(told).held["web"].min_healthy_s == 0


def test_a_time_that_the_rule_does_not_name_is_none_that_an_earlier_version_stumbles_over() -> None:
    memory = GateMemory(held={"web": Slot("web", "id", "update", "2", 1.5)})
    assert "min_healthy_s" not in encode_memory(memory)["held"]["web"]
    assert decode_memory(encode_memory(memory)) == memory
