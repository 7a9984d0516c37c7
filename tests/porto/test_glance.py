"""What containers use is read at a walk where all tell it, and field by field where they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from ya_salt.porto import glance
from ya_salt.proto import porto_pb2 as pb

ASKED = ("memory_usage", "cpu_usage")
USED = {"web": [0, 5], "n" * 100: [12345678901, 2], "w" * 127: [37, 1 << 62]}
UNKNOWN_FIELD = b"\x78\x00"
"""Before an answer it changes nothing but the way in which that is read."""


def answer(used: Mapping[str, Sequence[int]]) -> pb.TContainerGetResponse:
    out = pb.TContainerGetResponse()
    for name, values in used.items():
        entry = out.list.add(name=name, change_time=1_795_000_000)
        for variable, value in zip(ASKED, values, strict=True):
            entry.keyval.add(variable=variable, value=b"%d" % value)
    return out


def read(told: bytes) -> object:
    try:
        return glance.parse_use(told, ASKED)
    except glance.NoGlanceError:
        return "no glance"


def test_where_all_tell_no_field_is_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glance, "_list_fields", None)
    assert read(answer(USED).SerializeToString()) == USED


def _refuse_a_value(out: pb.TContainerGetResponse) -> None:
    value = out.list[0].keyval[1]
    value.ClearField("value")
    value.error, value.errorMsg = pb.InvalidState, b"1"


def _refuse_all(out: pb.TContainerGetResponse) -> None:
    for value in out.list[0].keyval:
        value.ClearField("value")
        value.error, value.errorMsg = pb.ContainerDoesNotExist, b""
    out.list[0].ClearField("change_time")


def _say_that_nothing_changed(out: pb.TContainerGetResponse) -> None:
    out.list[0].ClearField("keyval")
    out.list[0].no_changes = True


def _leave_one_out(out: pb.TContainerGetResponse) -> None:
    del out.list[0].keyval[1]


def _add_one(out: pb.TContainerGetResponse) -> None:
    out.list[0].keyval.add(variable="state", value=b"1")


def _tell_a_word(out: pb.TContainerGetResponse) -> None:
    out.list[0].keyval[0].value = b"+1"


def _tell_nothing(out: pb.TContainerGetResponse) -> None:
    out.list[0].keyval[0].value = b""


@pytest.mark.parametrize(
    "change",
    [
        _refuse_a_value,
        _refuse_all,
        _say_that_nothing_changed,
        _leave_one_out,
        _add_one,
        _tell_a_word,
        _tell_nothing,
    ],
)
def test_who_does_not_tell_is_left_out(change: object) -> None:
    out = answer(USED)
    assert callable(change)
    change(out)
    others = {name: values for name, values in USED.items() if name != "web"}
    assert read(out.SerializeToString()) == others


def _name_at_length(out: pb.TContainerGetResponse) -> None:
    out.list[0].name = "web" * 50


def _name_in_letters_of_its_own(out: pb.TContainerGetResponse) -> None:
    out.list[0].name = "ярлык"


def _add_an_error_to_a_value(out: pb.TContainerGetResponse) -> None:
    out.list[0].keyval[0].error = pb.Success


def _change_long_ago(out: pb.TContainerGetResponse) -> None:
    out.list[0].change_time = 0


def _say_that_it_has_changed(out: pb.TContainerGetResponse) -> None:
    out.list[0].no_changes = False


@pytest.mark.parametrize(
    "change",
    [
        _name_at_length,
        _name_in_letters_of_its_own,
        _add_an_error_to_a_value,
        _change_long_ago,
        _say_that_it_has_changed,
    ],
)
def test_other_forms_tell_as_well(change: object) -> None:
    out = answer(USED)
    assert callable(change)
    change(out)
    assert read(out.SerializeToString()) == {
        entry.name: [int(value.value) for value in entry.keyval] for entry in out.list
    }


def test_an_answer_that_is_cut_off_is_none() -> None:
    told = answer(USED).SerializeToString()
    ends = {
        len(answer(dict(list(USED.items())[:count])).SerializeToString()): count
        for count in range(len(USED) + 1)
    }
    for length in range(len(told) + 1):
        kept = dict(list(USED.items())[: ends[length]]) if length in ends else "no glance"
        assert read(told[:length]) == kept


def test_any_other_byte_is_read_as_it_is_field_by_field() -> None:
    told = answer(USED).SerializeToString()
    for at, byte in enumerate(told):
        for other in {0, 1, 10, 18, 24, 34, 48, 57, 127, 128, 255, byte ^ 1, byte ^ 8, byte ^ 128}:
            changed = told[:at] + bytes((other,)) + told[at + 1 :]
            assert read(changed) == read(UNKNOWN_FIELD + changed), (at, other)
