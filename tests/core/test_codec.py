"""Data that are read back: all of it, or a word on where it is damaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pytest

from ya_salt.codec import DamagedError, from_data, to_data
from ya_salt.quick_dataclass import dataclass, field


@dataclass(frozen=True)
class Leaf:
    name: str
    weight: float = 0.0


@dataclass(frozen=True)
class Branch:
    leaf: Leaf
    kind: Literal["oak", "elm"] = "oak"
    leaves: tuple[Leaf, ...] = ()
    place: tuple[str, int] = ("", 0)
    marks: frozenset[str] = frozenset()
    counts: Mapping[str, int] = field(default_factory=dict)
    is_dry: bool = False
    next: Branch | None = None
    anything: Any = None


FULL = Branch(
    Leaf("a", 1.5),
    "elm",
    (Leaf("b"), Leaf("c", 2)),
    ("north", 3),
    frozenset({"x", "y"}),
    {"one": 1},
    True,
    Branch(Leaf("d")),
    {"free": [1, None]},
)


@pytest.mark.parametrize("is_sparse", [False, True])
def test_what_is_written_is_read_back(is_sparse: bool) -> None:
    assert from_data(Branch, to_data(FULL, is_sparse=is_sparse)) == FULL


def test_what_a_newer_version_has_added_is_dropped() -> None:
    assert from_data(Branch, {"leaf": {"name": "a", "hue": 5}, "bark": []}) == Branch(Leaf("a"))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"leaf": 5}, "Branch.leaf is of another kind"),
        ({"leaf": {}}, "Branch.leaf lacks a field"),
        ({"leaf": {"name": None}}, "Branch.leaf.name is of another kind"),
        ({"leaf": {"name": "a", "weight": "5"}}, "Branch.leaf.weight is of another kind"),
        ({"leaf": {"name": "a", "weight": True}}, "Branch.leaf.weight is of another kind"),
        ({"leaf": {"name": "a", "weight": 1e300}}, "Branch.leaf.weight is of another kind"),
        ({"leaf": {"name": "a", "weight": float("nan")}}, "Branch.leaf.weight is of another kind"),
        ({"kind": "ash"}, "Branch.kind is of another kind"),
        ({"leaves": [{"name": "a"}, {"name": 5}]}, "Branch.leaves[].name is of another kind"),
        ({"leaves": {}}, "Branch.leaves is of another kind"),
        ({"place": ["a"]}, "Branch.place has another length"),
        ({"place": ["a", "b"]}, "Branch.place[] is of another kind"),
        ({"place": "ab"}, "Branch.place is of another kind"),
        ({"marks": [5]}, "Branch.marks[] is of another kind"),
        ({"counts": {"one": "1"}}, "Branch.counts.* is of another kind"),
        ({"counts": {"one": True}}, "Branch.counts.* is of another kind"),
        ({"counts": []}, "Branch.counts is of another kind"),
        ({"is_dry": 1}, "Branch.is_dry is of another kind"),
        ({"next": {"leaf": {"name": 5}}}, "Branch.next.leaf.name is of another kind"),
    ],
)
def test_no_half_of_it_is_taken_for_the_whole(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(DamagedError) as caught:
        from_data(Branch, {**to_data(FULL), **changed})
    assert str(caught.value) == words


@pytest.mark.parametrize("data", [None, [], "text", 5])
def test_what_is_no_mapping_is_none_of_ours(data: Any) -> None:
    with pytest.raises(DamagedError, match=r"^Branch is of another kind$"):
        from_data(Branch, data)


def test_a_kind_that_cannot_be_read_back_is_a_bug_told_at_once() -> None:
    @dataclass(frozen=True)
    class Wrong:
        items: list[int]

    with pytest.raises(TypeError, match="kept as data"):
        from_data(Wrong, {"items": [1]})
