"""Dataclasses to plain data and back. What is unknown is dropped, what is wrong is refused. Pure.

A newer version may have written a field that this one does not know, an older one may have left one
out: both can be read. Anything else is damage, and no half of it is taken for the whole.
"""

from __future__ import annotations

import builtins
import collections.abc
import dataclasses
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

Some = TypeVar("Some")
_MAX_NUMBER = 1e18
_PLAIN = frozenset({str, int, float, bool, type(None)})
_EXACT = frozenset({str, int, bool})
"""Kinds whose values are data already, and the only ones that are."""


class DamagedError(ValueError):
    """The data are none of this class; the text says where, never what was found."""


def to_data(value: Any, *, is_sparse: bool = False) -> Any:
    """Dataclasses, mappings and tuples as dicts and lists, as JSON has them.

    With `is_sparse` what is at its default is left out: who reads it has the same defaults.
    """
    kind = type(value)
    if kind in _PLAIN:
        # Most of what there is.
        return value
    if dataclasses.is_dataclass(kind):
        found = {name: getattr(value, name) for name in _names(kind)}
        if is_sparse:
            defaults = _defaults(kind)
            found = {
                name: item
                for name, item in found.items()
                if name not in defaults or defaults[name] != item
            }
        return {name: to_data(item, is_sparse=is_sparse) for name, item in found.items()}
    if isinstance(value, Mapping):
        return {name: to_data(item, is_sparse=is_sparse) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_data(item, is_sparse=is_sparse) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(item.name for item in dataclasses.fields(kind))


@cache
def _defaults(kind: type) -> dict[str, Any]:
    """Field -> its default, of those that have one."""
    found = {}
    for item in dataclasses.fields(kind):
        if item.default is not dataclasses.MISSING:
            found[item.name] = item.default
        elif item.default_factory is not dataclasses.MISSING:
            found[item.name] = item.default_factory()
    return found


def from_data(kind: type[Some], data: object) -> Some:
    """The inverse. Raises DamagedError."""
    found = _read(kind, data, kind.__name__)
    assert isinstance(found, kind)  # noqa: S101 - tells mypy what _read promises
    return found


@cache
def _hints(kind: type) -> tuple[tuple[str, Any], ...]:
    """Every field with its type."""
    hints = typing.get_type_hints(kind)
    return tuple((name, hints[name]) for name in _names(kind))


def _read(kind: Any, data: object, place: str) -> Any:  # noqa: PLR0911 - a return a kind
    if type(data) is kind and kind in _EXACT:
        return data
    inside = typing.get_args(kind)
    match typing.get_origin(kind):
        case None:
            return _read_one(kind, data, place)
        case types.UnionType | typing.Union:
            return None if data is None else _read(inside[0], data, place)
        case builtins.tuple:
            return _read_tuple(inside, data, place)
        case builtins.frozenset:
            return frozenset(_read_tuple((*inside, ...), data, place))
        case typing.Literal if data in inside:
            return data
        case collections.abc.Mapping | builtins.dict if isinstance(data, dict):
            return {name: _read(inside[1], item, f"{place}.*") for name, item in data.items()}
        case _:
            raise DamagedError(f"{place} is of another kind")


def _read_one(kind: Any, data: object, place: str) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _read_fields(kind, data, place)
    if kind is Any:
        return data
    # JSON writes 5.0 as it likes; a number that no clock knows is none of ours.
    is_number = kind is float and type(data) in {int, float} and abs(data) < _MAX_NUMBER  # type: ignore[arg-type]
    if is_number or (type(data) is kind and kind is not float):
        return data
    raise DamagedError(f"{place} is of another kind")


def _read_fields(kind: type, data: object, place: str) -> Any:
    if not isinstance(data, dict):
        raise DamagedError(f"{place} is of another kind")
    found = {
        name: _read(hint, data[name], f"{place}.{name}")
        for name, hint in _hints(kind)
        if name in data
    }
    try:
        return kind(**found)
    except TypeError as error:
        raise DamagedError(f"{place} lacks a field") from error


def _read_tuple(inside: tuple[Any, ...], data: object, place: str) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise DamagedError(f"{place} is of another kind")
    kinds = [inside[0]] * len(data) if inside[-1] is Ellipsis else list(inside)
    if len(kinds) != len(data):
        raise DamagedError(f"{place} has another length")
    return tuple(_read(kind, item, f"{place}[]") for kind, item in zip(kinds, data, strict=True))
