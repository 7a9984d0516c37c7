"""Builders for the plain rows of the property table: a value, its parser, its normal form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ya_salt.devporto.container import Container
from ya_salt.devporto.property import Property, Question, ReadIndex, WriteIndex, add_property
from ya_salt.devporto.refusal import make_invalid
from ya_salt.devporto.values import (
    format_bool,
    format_map,
    parse_bool,
    parse_size,
    parse_size_map,
)


def add_setting(
    name: str,
    desc: str,
    parse: Callable[[str], Any],
    form: Callable[[Any], str],
    default: Any,
    **flags: Any,
) -> None:
    """Add a value kept in `Container.values`, that nothing else looks at."""

    def read(_: Question, container: Container) -> str:
        return form(container.values.get(name, default))

    def write(_: Question, container: Container, text: str) -> None:
        container.values[name] = parse(text)

    add_property(Property(name, desc, read, write, **flags))


def add_text(name: str, desc: str, default: str = "", **flags: Any) -> None:
    add_setting(name, desc, str, str, default, **flags)


def add_bool(name: str, desc: str, *, default: bool = False, **flags: Any) -> None:
    add_setting(name, desc, parse_bool, format_bool, default, **flags)


def add_choice(name: str, desc: str, choices: tuple[str, ...], default: str, **flags: Any) -> None:
    """One of a few words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise make_invalid(f"{name}: {text!r} is none of {', '.join(choices)}")
        return text

    add_setting(name, desc, parse, str, default, **flags)


def read_map_key(name: str) -> ReadIndex:
    """`name[key]` of a map; a missing key is InvalidValue."""

    def read(_: Question, container: Container, index: str) -> str:
        pairs: Mapping[str, object] = container.values.get(name, {})
        if index not in pairs:
            raise make_invalid(f"invalid index {index}")
        return str(pairs[index])

    return read


def write_size_key(name: str) -> WriteIndex:
    """`name[key]` of a map of sizes."""

    def write(_: Question, container: Container, index: str, text: str) -> None:
        container.values[name] = {**container.values.get(name, {}), index: parse_size(text)}

    return write


def add_size_map(name: str, desc: str, **flags: Any) -> None:
    """Add a map of sizes, set at once or key by key."""
    flags = {"read_index": read_map_key(name), "write_index": write_size_key(name), **flags}
    add_setting(name, desc, parse_size_map, format_map, {}, **flags)
