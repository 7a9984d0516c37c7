"""Dataclasses to plain data and back. What is unknown is dropped, what is wrong is refused. Pure.

A newer version may have written a field that this one does not know, an older one may have left one
out: both can be read. Anything else is damage, and no half of it is taken for the whole.
"""

from __future__ import annotations

import builtins
import collections.abc
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from ya_salt.quick_dataclass import MISSING, fields, is_dataclass

Some = TypeVar("Some")
_MAX_NUMBER = 1e18
_PLAIN = frozenset({str, int, float, bool, type(None)})


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
    if is_dataclass(kind):
        defaults = _defaults(kind) if is_sparse else {}
        found = {}
        for name in _names(kind):
            item = getattr(value, name)
            if name in defaults and defaults[name] == item:
                continue
            # Not by a call of this for what it would only give back: that is the half of its time.
            found[name] = item if type(item) in _PLAIN else to_data(item, is_sparse=is_sparse)
        return found
    if isinstance(value, Mapping):
        return {name: to_data(item, is_sparse=is_sparse) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_data(item, is_sparse=is_sparse) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(item.name for item in fields(kind))


@cache
def _defaults(kind: type) -> dict[str, Any]:
    """Field -> its default, of those that have one."""
    found = {}
    for item in fields(kind):
        if item.default is not MISSING:
            found[item.name] = item.default
        elif item.default_factory is not MISSING:
            found[item.name] = item.default_factory()
    return found


def from_data(kind: type[Some], data: object) -> Some:
    """The inverse. Raises DamagedError."""
    try:
        found = _make_reader(typing.cast(Any, kind))(data)
    except DamagedError as error:
        raise DamagedError(f"{kind.__name__}{error}") from error
    assert isinstance(found, kind)  # noqa: S101 - tells mypy what the reader promises
    return found


# A reader is made once for each kind: a record has a hundred values, and there are many records.
# Its errors begin with where, seen from its own value: each reader around it adds its part.
_Reader = Callable[[Any], Any]
_OTHER_KIND = " is of another kind"


@cache
def _make_reader(kind: Any) -> _Reader:  # noqa: PLR0911 - a return a kind
    inside = typing.get_args(kind)
    match typing.get_origin(kind):
        case None:
            return _make_plain_reader(kind)
        case types.UnionType | typing.Union:
            return _make_reader_of_maybe(_make_reader(inside[0]))
        case builtins.tuple if inside[-1] is Ellipsis:
            return _make_reader_of_many(_make_reader(inside[0]), tuple)
        case builtins.tuple:
            return _make_reader_of_row([_make_reader(one) for one in inside])
        case builtins.frozenset:
            return _make_reader_of_many(_make_reader(inside[0]), frozenset)
        case typing.Literal:
            return _make_reader_of_words(inside)
        case collections.abc.Mapping | builtins.dict:
            return _make_reader_of_mapping(_make_reader(inside[1]))
    raise TypeError(f"{kind} is nothing that is kept as data")


def _make_plain_reader(kind: Any) -> _Reader:
    if kind is Any:
        return lambda data: data
    if kind is float:
        return _read_number
    if isinstance(kind, type) and is_dataclass(kind):
        return _make_reader_of_fields(kind)

    def read(data: Any) -> Any:
        if type(data) is kind:
            return data
        raise DamagedError(_OTHER_KIND)

    return read


def _read_number(data: Any) -> Any:
    # JSON writes 5.0 as it likes; a number that no clock knows is none of ours.
    if type(data) in {int, float} and abs(data) < _MAX_NUMBER:
        return data
    raise DamagedError(_OTHER_KIND)


def _make_reader_of_fields(kind: type) -> _Reader:
    readers: dict[str, _Reader] = {}

    def read(data: Any) -> Any:
        if type(data) is not dict:
            raise DamagedError(_OTHER_KIND)
        if not readers:
            # Not before: a kind may be among its own fields.
            hints = typing.get_type_hints(kind)
            readers.update((name, _make_reader(hints[name])) for name in _names(kind))
        found, name = {}, ""
        try:
            for name, item in data.items():
                if name in readers:
                    found[name] = readers[name](item)
        except DamagedError as error:
            raise DamagedError(f".{name}{error}") from error
        try:
            return kind(**found)
        except TypeError as error:
            raise DamagedError(" lacks a field") from error

    return read


def _make_reader_of_maybe(read_one: _Reader) -> _Reader:
    return lambda data: None if data is None else read_one(data)


def _make_reader_of_many(read_one: _Reader, make: Callable[[list[Any]], Any]) -> _Reader:
    def read(data: Any) -> Any:
        if type(data) is not list:
            raise DamagedError(_OTHER_KIND)
        try:
            return make([read_one(item) for item in data])
        except DamagedError as error:
            raise DamagedError(f"[]{error}") from error

    return read


def _make_reader_of_row(readers: Sequence[_Reader]) -> _Reader:
    def read(data: Any) -> Any:
        if type(data) is not list:
            raise DamagedError(_OTHER_KIND)
        if len(data) != len(readers):
            raise DamagedError(" has another length")
        try:
            return tuple(read_one(item) for read_one, item in zip(readers, data, strict=True))
        except DamagedError as error:
            raise DamagedError(f"[]{error}") from error

    return read


def _make_reader_of_words(words: tuple[Any, ...]) -> _Reader:
    def read(data: Any) -> Any:
        # 1 and True are equal, and of two kinds.
        if any(data == word and type(data) is type(word) for word in words):
            return data
        raise DamagedError(_OTHER_KIND)

    return read


def _make_reader_of_mapping(read_one: _Reader) -> _Reader:
    def read(data: Any) -> Any:
        if type(data) is not dict:
            raise DamagedError(_OTHER_KIND)
        try:
            return {name: read_one(item) for name, item in data.items()}
        except DamagedError as error:
            raise DamagedError(f".*{error}") from error

    return read
