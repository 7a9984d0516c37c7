"""Our `dataclass` beside the standard library's: the same class, defined with both."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import pickle
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pytest

import ya_salt
from ya_salt import quick_dataclass as ours

Make = Any
"""A module that has `dataclass` and `field`."""


def make_point(lib: Make) -> Any:
    @lib.dataclass(frozen=True)
    class Point:
        x: int
        y: float = 0.5
        tags: tuple[str, ...] = ()
        labels: Mapping[str, str] = lib.field(default_factory=dict)
        note: str = lib.field(default="", compare=False, repr=False)
        limit: ClassVar[int] = 7

        @property
        def sum(self) -> float:
            return self.x + self.y

    return Point


def make_heap(lib: Make) -> Any:
    @lib.dataclass
    class Heap:
        items: list[int] = lib.field(default_factory=list)
        size: int = 0

    return Heap


def make_tall(lib: Make) -> Any:
    @lib.dataclass(frozen=True)
    class Tall(make_point(lib)):
        z: int = 3

    return Tall


def make_empty(lib: Make) -> Any:
    @lib.dataclass(frozen=True)
    class Empty:
        """Nothing."""

    return Empty


def make_said(lib: Make) -> Any:
    @lib.dataclass(frozen=True)
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


@pytest.mark.parametrize("count", [0, 100], ids=["the first few", "those after"])
@pytest.mark.parametrize("make", MAKERS)
def test_behaves_as_the_standard_librarys(make: Callable[[Make], Any], count: int) -> None:
    theirs, quick = make(dataclasses), make(ours)
    for _ in range(count):
        build(quick, CALLS[make][1])
    assert quick.__match_args__ == theirs.__match_args__
    assert dataclasses.is_dataclass(quick)
    for args, kwargs in CALLS[make]:
        mine = quick if count else make(ours)
        assert describe(mine, args, kwargs) == describe(theirs, args, kwargs), (args, kwargs)


@pytest.mark.parametrize("make", MAKERS)
def test_is_compared_as_the_standard_librarys(make: Callable[[Make], Any]) -> None:
    theirs, quick = make(dataclasses), make(ours)
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


@pytest.mark.parametrize("change", [dataclasses.replace, ours.replace])
def test_replacing_knows_the_fields(change: Callable[..., Any]) -> None:
    make = make_point(ours)
    point = make(1, tags=("a",))
    moved = change(point, x=2)
    assert (moved.x, moved.tags, moved.sum, moved.limit) == (2, ("a",), 2.5, 7)
    assert point.x == 1
    assert moved == make(2, tags=("a",))
    with pytest.raises(TypeError, match="w"):
        change(point, w=2)


def test_replacing_forgets_what_was_found_out_of_the_old_values() -> None:
    @ours.dataclass(frozen=True)
    class Square:
        side: int

        @functools.cached_property
        def area(self) -> int:
            return self.side**2

    square = Square(2)
    assert square.area == 4
    assert ours.replace(square, side=3).area == 9
    assert (square.area, ours.replace(square).area) == (4, 4)


@pytest.mark.parametrize("make", [make_point, make_tall, make_heap, make_empty])
def test_is_data_as_the_standard_library_makes_it(make: Callable[[Make], Any]) -> None:
    quick, theirs = make(ours), make(dataclasses)
    inside = {"a": [build(quick, CALLS[make][1])], "b": (build(quick, CALLS[make][1]), "c")}
    holder = make_point(ours)(build(quick, CALLS[make][1]), labels=inside)
    assert ours.asdict(holder) == dataclasses.asdict(holder)
    assert ours.asdict(holder)["labels"] is not holder.labels
    assert [item.name for item in ours.fields(quick)] == [
        f.name for f in dataclasses.fields(theirs)
    ]
    assert ours.is_dataclass(quick)
    assert not ours.is_dataclass(dict)


def test_subclass_of_an_unused_class_has_its_own_arguments() -> None:
    tall = make_tall(ours)
    assert tall.__mro__[1](1) != tall(1)
    assert tall(1, z=2).z == 2


def test_no_instance_is_equal_to_one_of_another_class() -> None:
    assert make_point(ours)(1) != make_point(ours)(1)


@ours.dataclass(frozen=True)
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
            assert not re.search(r"^ *(from|import) dataclasses\b", text, re.MULTILINE), path
            for said in re.findall(r"[ =]field\(([^)]*)", text):
                words = re.findall(r"(\w+)=", said)
                assert {*words} <= {"default", "default_factory", "repr", "compare"}, (path, said)
    assert asked == {"@dataclass", "@dataclass(frozen=True)"}


def test_the_standard_library_has_nothing_against_ours() -> None:
    """It would refuse a default that all share, and one before what has none."""
    found = map(import_module, _list_modules())
    classes = {kind for module in found for kind in vars(module).values() if is_ours(kind)}
    assert len(classes) > 200
    for kind in classes:
        names = [item.name for item in ours.fields(kind)]
        assert [item.name for item in dataclasses.fields(kind)] == names


def _list_modules() -> list[str]:
    return [item.name for item in pkgutil.walk_packages(ya_salt.__path__, "ya_salt.")]


def is_ours(kind: object) -> bool:
    return isinstance(kind, type) and ours.is_dataclass(kind)


def test_is_written_once_some_have_been_made() -> None:
    point = make_point(ours)
    assert "args" in inspect.signature(point.__init__).parameters
    made = [point(1) for _ in range(100)]
    assert list(inspect.signature(point.__init__).parameters)[:3] == ["self", "x", "y"]
    assert all(vars(one) == vars(made[0]) for one in made)


def test_the_standard_librarys_waits_until_it_is_asked() -> None:
    script = """if 1:
        import sys
        from ya_salt.quick_dataclass import asdict, dataclass, field, replace
        @dataclass(frozen=True)
        class Point:
            x: int
            tags: list = field(default_factory=list)
        assert repr(replace(Point(1), x=2)) == "Point(x=2, tags=[])"
        assert asdict(Point(1)) == {"x": 1, "tags": []}
        assert {Point: 1} and "dataclasses" not in sys.modules
        import dataclasses
        assert dataclasses.replace(Point(1), x=2).x == 2
    """
    subprocess.run([sys.executable, "-S", "-c", script], check=True, env={"PYTHONPATH": ROOT})


ROOT = str(Path(ya_salt.__file__).parent.parent)
