"""What a property is, portod's rules for reading and setting one, builders for plain ones.

The table itself is filled by the modules `rows_*`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from devporto import porto_pb2 as pb
from devporto.containers import Container, Registry, State
from devporto.processes import Census
from devporto.refusal import Refusal, make_bad_state, make_denied, make_invalid
from devporto.users import Caller, UserBook
from devporto.values import (
    check_label,
    format_bool,
    format_map,
    parse_bool,
    parse_size,
    parse_size_map,
    trim,
)

_CAPITALS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_LEGACY_NAMES = {
    "memory.limit_in_bytes": "memory_limit",
    "memory.low_limit_in_bytes": "memory_guarantee",
}


@dataclass
class Question:
    """Who asks, and what is needed to answer."""

    caller: Caller
    registry: Registry
    users: UserBook
    census: Census
    keeper_pid: int = 0
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)


Read = Callable[[Question, Container], str]
Write = Callable[[Question, Container, str], None]
ReadIndex = Callable[[Question, Container, str], str]
WriteIndex = Callable[[Question, Container, str, str], None]


@dataclass(frozen=True)
class Property:
    """One row of the table. Without `write` it is read-only."""

    name: str
    desc: str
    read: Read
    write: Write | None = None
    read_index: ReadIndex | None = None
    write_index: WriteIndex | None = None
    dynamic: bool = False
    any_state: bool = False
    runtime_only: bool = False
    dead_only: bool = False
    supported: bool = True
    hidden: bool = False
    controller: str = ""
    flagged: bool = True
    """Whether a `real` read asks if somebody set it."""

    @property
    def read_only(self) -> bool:
        return self.write is None

    @cached_property
    def is_guarded(self) -> bool:
        """Whether it can be read at all depends on something."""
        return not self.supported or self.runtime_only or self.dead_only

    def describe(self) -> str:
        marks = (" (ro)" if self.read_only else "") + (" (dynamic)" if self.dynamic else "")
        return self.desc + marks

    def check_read(self, container: Container) -> None:
        state = container.state
        if not self.supported:
            raise Refusal(pb.NotSupported, f"{self.name} is not supported")
        if self.runtime_only and state in (State.STOPPED, State.STARTING):
            raise make_bad_state(f"{self.name} is not available in {state.value} state")
        if self.dead_only and state is not State.DEAD:
            raise make_bad_state(f"{self.name} available only in dead state")

    def check_write(self, container: Container) -> None:
        if not self.supported:
            raise Refusal(pb.NotSupported, f"{self.name} is not supported")
        if self.read_only:
            raise make_invalid(f"{self.name} is read-only")
        if not self.dynamic and container.state is not State.STOPPED:
            raise make_bad_state(f"{self.name} could be set only in stopped state")
        if not self.any_state and container.state is State.DEAD:
            raise make_bad_state(f"{self.name} cannot be set in dead state")


TABLE: dict[str, Property] = {}


def add_property(row: Property) -> None:
    TABLE[row.name] = row


def split_index(text: str) -> tuple[str, str | None]:
    """`labels[A.b]` -> (`labels`, `A.b`). Raises Refusal(InvalidProperty) for an empty index."""
    if not text.endswith("]") or "[" not in text:
        return text, None
    name, _, index = text.partition("[")
    if index == "]":
        raise Refusal(pb.InvalidProperty, "Empty property index")
    return name, index[:-1]


def read_property(question: Question, container: Container, text: str) -> str:
    """Read a value in portod's normal form. Raises Refusal."""
    row, index = _find_row(text)
    if row is None:
        return _read_dotted(container, text)
    if row.is_guarded:
        row.check_read(container)
    if index is None:
        return row.read(question, container)
    if row.read_index is None:
        raise make_invalid("Invalid subscript for property")
    return row.read_index(question, container, index)


@lru_cache(4096)
def _find_row(text: str) -> tuple[Property | None, str | None]:
    """(row, index) of what a client reads; no row for a dotted name. Raises Refusal."""
    if row := TABLE.get(text):
        return row, None
    name, index = split_index(text)
    if index is None and "." in name:
        return None, None
    if name not in TABLE:
        raise Refusal(pb.InvalidProperty, f"Unknown container property: {name}")
    return TABLE[name], index


def _read_dotted(container: Container, name: str) -> str:
    """Read a label by its own name, or a knob of a cgroup (of which there are none here)."""
    if _CAPITALS.issuperset(name.partition(".")[0]):
        return find_label(container, name)
    if container.state is State.STOPPED:
        raise make_bad_state(f"Not available in stopped state: {name}")
    raise Refusal(pb.InvalidProperty, f"Unknown cgroup attribute: {name}")


def find_label(container: Container, label: str) -> str:
    """Look a label up; a leading dot also asks the ancestors. Raises Refusal(LabelNotFound)."""
    places = container.ancestors() if label.startswith(".") else iter([container])
    key = label.removeprefix(".")
    for one in places:
        if key in one.labels:
            return one.labels[key]
    raise Refusal(pb.LabelNotFound, f"Label {label} is not set")


def write_property(question: Question, container: Container, text: str, value: str) -> None:
    """Set a property as setProperty does. Raises Refusal."""
    if container.is_root:
        raise make_denied("System containers are read only")
    text, value = _translate_legacy(text, value)
    name, index = split_index(text)
    value = trim(value)
    row = TABLE.get(name)
    if row is None:
        _write_dotted(container, name, value)
        return
    row.check_write(container)
    if row.controller:
        enable_controller(container, row.controller)
    if index is None and row.write is not None:
        row.write(question, container, value)
    elif index is not None and row.write_index is not None:
        row.write_index(question, container, index, value)
    else:
        raise make_invalid("Invalid subscript for property")
    container.touched.add(name)
    container.touch()


def _translate_legacy(text: str, value: str) -> tuple[str, str]:
    if text == "cpu.smart":
        return "cpu_policy", "normal" if value == "0" else "rt"
    return _LEGACY_NAMES.get(text, text), value


def _write_dotted(container: Container, name: str, value: str) -> None:
    prefix, dot, _ = name.partition(".")
    if not dot or not _CAPITALS.issuperset(prefix):
        raise Refusal(pb.InvalidProperty, f"Invalid property {name}")
    check_label(name, value)
    set_label(container, name, value)
    container.touch()


def set_label(container: Container, label: str, value: str) -> None:
    """Set a label; an empty value removes it."""
    if value:
        container.labels[label] = value
    else:
        container.labels.pop(label, None)
    container.touched.add("labels")


def enable_controller(container: Container, controller: str) -> None:
    """Give the container a cgroup of its own, which a running one cannot get any more."""
    if container.state is State.STOPPED:
        container.controllers.add(controller)
        container.required.add(controller)
    elif controller not in container.controllers:
        raise Refusal(pb.NotSupported, "Cannot enable controllers in runtime")


def check_real(container: Container, text: str) -> None:
    """Let a `real` read pass only where somebody set the value. Raises Refusal."""
    name, index = split_index(text)
    if index is None and "." in name:
        _read_dotted(container, name)
        return
    row = TABLE.get(name)
    if row is None:
        raise Refusal(pb.InvalidProperty, "Unknown property")
    if not row.supported:
        raise Refusal(pb.NotSupported, "Not supported")
    if row.flagged and not row.read_only and name not in container.touched:
        raise Refusal(pb.NoValue, "Property not set")
    if row.controller and container.state is State.STOPPED:
        raise make_bad_state("Not available in stopped state")
    if row.controller and row.controller not in container.controllers:
        raise Refusal(pb.NoValue, "Controllers is disabled")


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
