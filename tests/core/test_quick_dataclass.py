"""Our `dataclass` beside the standard library's: the same class, defined with both."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

import ya_salt
from ya_salt.quick_dataclass import dataclass as ours
from ya_salt.quick_dataclass import replace

Make = Callable[..., Any]


def make_point(dataclass: Make) -> Any:
    @dataclass(frozen=True)
    class Point:
        x: int
        y: float = 0.5
        tags: tuple[str, ...] = ()
        labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
        note: str = dataclasses.field(default="", compare=False, repr=False)
        limit: ClassVar[int] = 7

        @property
        def sum(self) -> float:
            return self.x + self.y

    return Point


def make_heap(dataclass: Make) -> Any:
    @dataclass
    class Heap:
        items: list[int] = dataclasses.field(default_factory=list)
        size: int = 0

    return Heap


def make_tall(dataclass: Make) -> Any:
    @dataclass(frozen=True)
    class Tall(make_point(dataclass)):
        z: int = 3

    return Tall


def make_empty(dataclass: Make) -> Any:
    @dataclass(frozen=True)
    class Empty:
        """Nothing."""

    return Empty


def make_said(dataclass: Make) -> Any:
    @dataclass(frozen=True)
    class Said:
        word: str

        def __repr__(self) -> str:
            return f"<{self.word}>"

        def __eq__(self, other: object) -> bool:
            return isinstance(other, type(self)) and other.word.lower() == self.word.lower()

        def __hash__(self) -> int:
            return hash(self.word.lower())

    return Said


MAKERS = [make_point, make_heap, make_tall, make_empty, make_said]
CALLS: dict[Callable[..., Any], list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    make_point: [
        ((), {}),
        ((1,), {}),
        ((1, 2.0, ("a",), {"b": "c"}, "n"), {}),
        ((1,), {"note": "other"}),
        ((), {"y": 1.0, "x": 2}),
        ((1,), {"x": 1}),
        ((1,), {"w": 1}),
        ((1, 2, 3, 4, 5, 6), {}),
        ((float("nan"),), {}),
    ],
    make_heap: [((), {}), (([1],), {}), (([1], 2), {}), ((), {"size": 2})],
    make_tall: [((1,), {}), ((1,), {"z": 4}), ((1, 2.0, (), {}, "", 9), {})],
    make_empty: [((), {}), ((1,), {})],
    make_said: [(("A",), {}), (("a",), {}), ((), {"word": "b"})],
}


def describe(cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Whatever can be seen of an instance, or why there is none."""
    try:
        made = cls(*args, **kwargs)
    except TypeError as error:
        return re.sub(r"^\S*?(\w+)\.__init__", r"\1.__init__", str(error))
    seen: dict[str, Any] = {"repr": re.sub(r"make_\w+\.<locals>\.", "", repr(made))}
    seen["values"] = dataclasses.astuple(made)
    seen["fields"] = [field.name for field in dataclasses.fields(made)]
    seen["equal"] = made == copy.deepcopy(made), made == cls(*args, **kwargs), made == object()
    try:
        seen["hash"] = hash(made) == hash(copy.copy(made))
    except TypeError as error:
        seen["hash"] = str(error)
    name = seen["fields"][0] if seen["fields"] else "other"
    try:
        setattr(made, name, [5])
        seen["set"] = getattr(made, name)
        delattr(made, name)
    except dataclasses.FrozenInstanceError as error:
        seen["set"] = str(error)
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(made, name)
    return str(seen)


@pytest.mark.parametrize("make", MAKERS)
def test_behaves_as_the_standard_librarys(make: Callable[[Make], Any]) -> None:
    theirs, quick = make(dataclasses.dataclass), make(ours)
    assert quick.__match_args__ == theirs.__match_args__
    assert dataclasses.is_dataclass(quick)
    for args, kwargs in CALLS[make]:
        assert describe(quick, args, kwargs) == describe(theirs, args, kwargs), (args, kwargs)


@pytest.mark.parametrize("make", MAKERS)
def test_is_compared_as_the_standard_librarys(make: Callable[[Make], Any]) -> None:
    theirs, quick = make(dataclasses.dataclass), make(ours)
    calls = [call for call in CALLS[make] if isinstance(build(theirs, call), theirs)]
    for one in calls:
        for other in calls:
            expected = build(theirs, one) == build(theirs, other)
            assert (build(quick, one) == build(quick, other)) is expected, (one, other)


def build(cls: Any, call: Any) -> Any:
    try:
        return cls(*call[0], **call[1])
    except TypeError:
        return None


def test_defaults_that_are_made_are_not_shared() -> None:
    heap = make_heap(ours)
    heap().items.append(1)
    assert heap().items == []


@pytest.mark.parametrize("change", [dataclasses.replace, replace])
def test_replacing_knows_the_fields(change: Make) -> None:
    make = make_point(ours)
    point = make(1, tags=("a",))
    moved = change(point, x=2)
    assert (moved.x, moved.tags, moved.sum, moved.limit) == (2, ("a",), 2.5, 7)
    assert point.x == 1
    assert moved == make(2, tags=("a",))
    with pytest.raises(TypeError, match="w"):
        change(point, w=2)


def test_replacing_forgets_what_was_found_out_of_the_old_values() -> None:
    @ours(frozen=True)
    class Square:
        side: int

        @functools.cached_property
        def area(self) -> int:
            return self.side**2

    square = Square(2)
    assert square.area == 4
    assert replace(square, side=3).area == 9
    assert (square.area, replace(square).area) == (4, 4)


def test_subclass_of_an_unused_class_has_its_own_arguments() -> None:
    tall = make_tall(ours)
    assert tall.__mro__[1](1) != tall(1)
    assert tall(1, z=2).z == 2


def test_no_instance_is_equal_to_one_of_another_class() -> None:
    assert make_point(ours)(1) != make_point(ours)(1)


@ours(frozen=True)
class Sent:
    word: str


def test_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Sent("a"))) == Sent("a")


def test_asks_the_standard_library_for_nothing_we_do_not_write() -> None:
    """A class that needs more than there is would be wrong without a word."""
    folder = Path(ya_salt.__file__).parent
    asked = set()
    for path in folder.rglob("*.py"):
        text = path.read_text()
        if path.name != "quick_dataclass.py":
            asked |= set(re.findall(r"^@dataclass.*$", text, re.MULTILINE))
            assert not re.search(r"InitVar|KW_ONLY|__post_init__|kw_only|init=False", text), path
            words = r"^from dataclasses import.*\b(dataclass|replace)\b"
            assert not re.search(words, text, re.MULTILINE), path
    assert asked == {"@dataclass", "@dataclass(frozen=True)"}


def test_is_written_when_the_first_is_made() -> None:
    point = make_point(ours)
    assert "args" in inspect.signature(point.__init__).parameters
    point(1)
    assert list(inspect.signature(point.__init__).parameters)[:3] == ["self", "x", "y"]
