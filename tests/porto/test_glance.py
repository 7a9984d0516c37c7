"""What containers use is read at a walk where all tell it, and field by field where they do not.

Either way it is noticed where one of them has changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ya_salt.porto import glance
from ya_salt.proto import porto_pb2 as pb

ASKED = ("memory_usage", "cpu_usage")
USED = {"web": [0, 5], "n" * 60: [12345678901, 2], "w" * 100: [37, 1 << 62]}
UNKNOWN_FIELD = b"\x78\x00"
"""Before an answer it changes nothing but the way in which that is read."""


CHANGED = {name: 1_795_000_000 + number for number, name in enumerate(USED)}


def answer(used: Mapping[str, Sequence[int]]) -> pb.TContainerGetResponse:
    out = pb.TContainerGetResponse()
    for name, values in used.items():
        entry = out.list.add(name=name, change_time=CHANGED[name])
        for variable, value in zip(ASKED, values, strict=True):
            entry.keyval.add(variable=variable, value=b"%d" % value)
    return out


def read(told: bytes, changed: Mapping[str, int] = CHANGED) -> object:
    try:
        return glance.read_use(told, glance.say_unchanged(changed), ASKED)
    except glance.NoGlanceError:
        return "no glance"


def test_a_question_is_what_protobuf_makes_of_it() -> None:
    request = pb.TContainerRequest()
    request.get.name.extend(USED)
    request.get.variable.extend(ASKED)
    names = glance.encode_names(USED)
    assert glance.encode_question(names, ASKED) == request.SerializeToString()
    request.get.ClearField("variable")
    request.get.variable.append("state")
    request.get.changed_since = glance.NEVER
    assert glance.encode_question(names) == request.SerializeToString()


def test_where_all_tell_no_field_is_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glance, "_list_fields", None)
    assert read(answer(USED).SerializeToString()) == USED


def _refuse_a_value(out: pb.TContainerGetResponse) -> None:
    value = out.list[0].keyval[1]
    value.ClearField("value")
    value.error, value.errorMsg = pb.InvalidState, b"1"


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


@pytest.mark.parametrize("name", ["web" * 50, "n" * 117, "n" * 116, "ярлык"])
def test_other_names_tell_as_well(name: str) -> None:
    changed = {name: 1_795_000_000}
    out = answer(USED)
    del out.list[1:]
    out.list[0].name = name
    assert read(out.SerializeToString(), changed) == {name: USED["web"]}
    out.list[0].change_time += 1
    assert read(out.SerializeToString(), changed) is None


@pytest.mark.parametrize("when", [0, 1, 1 << 34, 1 << 36])
def test_a_time_of_any_length_is_compared(when: int) -> None:
    changed = {**CHANGED, "web": when}
    out = answer(USED)
    out.list[0].change_time = when
    assert read(out.SerializeToString(), changed) == USED
    assert read(out.SerializeToString()) is None


def _add_an_error_to_a_value(out: pb.TContainerGetResponse) -> None:
    out.list[0].keyval[0].error = pb.Success


def _say_that_it_has_changed(out: pb.TContainerGetResponse) -> None:
    out.list[0].no_changes = False


@pytest.mark.parametrize(
    "change",
    [
        _add_an_error_to_a_value,
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


def _change_one(out: pb.TContainerGetResponse) -> None:
    out.list[1].change_time += 1


def _set_one_back(out: pb.TContainerGetResponse) -> None:
    out.list[1].change_time -= 1


def _destroy_one(out: pb.TContainerGetResponse) -> None:
    for value in out.list[0].keyval:
        value.ClearField("value")
        value.error, value.errorMsg = pb.ContainerDoesNotExist, b""
    out.list[0].ClearField("change_time")


def _forget_the_last(out: pb.TContainerGetResponse) -> None:
    del out.list[-1]


def _tell_of_another(out: pb.TContainerGetResponse) -> None:
    out.list.add().CopyFrom(out.list[0])


def _turn_around(out: pb.TContainerGetResponse) -> None:
    turned = list(reversed(out.list))
    del out.list[:]
    out.list.extend(turned)


@pytest.mark.parametrize(
    "change",
    [
        _change_one,
        _set_one_back,
        _destroy_one,
        _forget_the_last,
        _tell_of_another,
        _turn_around,
        lambda out: out.list[0].ClearField("change_time"),
        lambda out: out.ClearField("list"),
    ],
)
@pytest.mark.parametrize("before", [b"", UNKNOWN_FIELD], ids=["at a walk", "field by field"])
def test_a_change_is_noticed_however_it_is_read(change: object, before: bytes) -> None:
    out = answer(USED)
    assert callable(change)
    change(out)
    assert read(before + out.SerializeToString()) is None


def test_nothing_is_told_of_no_containers() -> None:
    assert read(b"", {}) == {}
    assert read(answer(USED).SerializeToString(), {}) is None


def test_an_answer_that_is_cut_off_is_none() -> None:
    told = answer(USED).SerializeToString()
    for length in range(len(told)):
        assert read(told[:length]) in ("no glance", None)
    assert read(told) == USED


def test_any_other_byte_is_read_as_it_is_field_by_field() -> None:
    told = answer(USED).SerializeToString()
    for at, byte in enumerate(told):
        for other in {0, 1, 10, 18, 24, 34, 48, 57, 127, 128, 255, byte ^ 1, byte ^ 8, byte ^ 128}:
            changed = told[:at] + bytes((other,)) + told[at + 1 :]
            assert read(changed) == read(UNKNOWN_FIELD + changed), (at, other)


# -- who is not there ------------------------------------------------------------------------------


def tell_none(**more: Any) -> pb.TContainerGetResponse:
    """One that is there, and one that is not."""
    out = answer({"web": [0, 5]})
    entry = out.list.add(name="none", **more)
    entry.keyval.add(variable="state", error=pb.ContainerDoesNotExist, errorMsg=b"not found")
    return out


def test_who_does_not_exist_is_told_as_it_was_answered() -> None:
    out = tell_none()
    entry = pb.TContainerGetResponse(list=out.list[1:]).SerializeToString()
    assert glance.find_absent(out.SerializeToString()) == {"none": entry}


def test_whatever_else_keeps_portod_from_telling_is_no_absence() -> None:
    for code in set(pb.EError.values()) - {pb.ContainerDoesNotExist}:
        out = tell_none()
        out.list[1].keyval[0].error = code
        assert glance.find_absent(out.SerializeToString()) == {}
    out = tell_none()
    out.list[1].keyval[0].ClearField("error")
    assert glance.find_absent(out.SerializeToString()) == {}
    out = tell_none()
    out.list[1].keyval.add(variable="other", value=b"1")
    assert glance.find_absent(out.SerializeToString()) == {}
    for more in ({"change_time": 1_795_000_000}, {"no_changes": True}):
        assert glance.find_absent(tell_none(**more).SerializeToString()) == {}
    nothing = pb.TContainerGetResponse()
    nothing.list.add(name="none")
    assert glance.find_absent(nothing.SerializeToString()) == {}


def test_an_answer_that_is_cut_off_tells_of_no_absence() -> None:
    told = tell_none().SerializeToString()
    with pytest.raises(glance.NoGlanceError):
        glance.find_absent(told[:-1])
