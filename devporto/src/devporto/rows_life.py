"""Rows for life and death, labels and rights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from devporto import porto_pb2 as pb
from devporto.capabilities import (
    find_ambient,
    find_bound,
    find_limit,
    format_capabilities,
    parse_capabilities,
)
from devporto.containers import Container
from devporto.property import (
    Property,
    Question,
    add_bool,
    add_property,
    add_setting,
    find_label,
    set_label,
)
from devporto.refusal import Refusal, make_invalid
from devporto.seccomp import parse_seccomp
from devporto.values import (
    LABEL_COUNT_MAX,
    check_label,
    format_bool,
    format_map,
    merge_list,
    parse_bool,
    parse_flags,
    parse_int64,
    parse_nanoseconds,
    parse_string_map,
    parse_uint64,
    split_list,
    wrap_int64,
)

CONTROLLERS = (
    *("freezer", "memory", "cpu", "cpuacct", "net_cls", "blkio", "devices", "hugetlb"),
    *("cpuset", "pids", "perf_event", "systemd", "cgroup2"),
)


_PRIVATE_MAX = 4096


_ACCESS = {"none": "false", "full": "true"} | {
    level: level
    for level in (
        "false",
        "read-isolate",
        "read-only",
        "isolate",
        "self-isolate",
        "child-only",
        "true",
    )
}


def _read_flags(chosen: set[str] | frozenset[str], order: tuple[str, ...]) -> str:
    return ";".join(name for name in order if name in chosen)


def _write_controllers(_: Question, container: Container, text: str) -> None:
    _store_controllers(container, set(parse_flags(text, CONTROLLERS)))


def _write_controller(_: Question, container: Container, index: str, text: str) -> None:
    named = parse_flags(index, CONTROLLERS)
    on = parse_bool(text)
    _store_controllers(
        container, container.controllers | named if on else container.controllers - named
    )


def _store_controllers(container: Container, chosen: set[str]) -> None:
    if not container.required <= chosen:
        raise make_invalid("Cannot disable required controllers")
    container.controllers = chosen


def _read_controller(_: Question, container: Container, index: str) -> str:
    return format_bool(parse_flags(index, CONTROLLERS) <= container.controllers)


def _add_capabilities(name: str, find: Callable[[Container], int]) -> None:
    def write(_: Question, container: Container, text: str) -> None:
        container.values[name] = parse_capabilities(text)

    def write_one(_: Question, container: Container, index: str, text: str) -> None:
        named, old = parse_capabilities(index), find(container)
        container.values[name] = old | named if parse_bool(text) else old & ~named

    row = _describe_capabilities(name, find)
    add_property(replace(row, write=write, write_index=write_one))
    add_property(_describe_capabilities(f"{name}_allowed", find_bound))


def _describe_capabilities(name: str, find: Callable[[Container], int]) -> Property:
    def read_one(_: Question, container: Container, index: str) -> str:
        named = parse_capabilities(index)
        return format_bool(find(container) & named == named)

    return Property(
        name,
        "Capabilities: SYS_ADMIN;NET_ADMIN;...",
        lambda _, one: format_capabilities(find(one)),
        read_index=read_one,
    )


def _write_seccomp(_: Question, container: Container, text: str) -> None:
    container.values["seccomp"] = parse_seccomp(text)


def _refuse_profile(_: Question, __: Container, text: str) -> None:
    # They are named in portod's configuration, which has none; an empty name is none either.
    raise make_invalid(f"Unknown seccomp profile {text}")


def _write_labels(_: Question, container: Container, text: str) -> None:
    pairs = parse_string_map(text)
    for label, value in pairs.items():
        check_label(label, value)
    if len({**container.labels, **pairs}) > LABEL_COUNT_MAX:
        raise Refusal(pb.ResourceNotAvailable, "Too many labels")
    for label, value in pairs.items():
        set_label(container, label, value)


def _write_label(_: Question, container: Container, index: str, text: str) -> None:
    check_label(index, text)
    if text and len(container.labels) >= LABEL_COUNT_MAX:
        raise Refusal(pb.ResourceNotAvailable, "Too many labels")
    set_label(container, index, text)


def _write_private(_: Question, container: Container, text: str) -> None:
    if len(text.encode()) > _PRIVATE_MAX:
        raise make_invalid(f"Private value is too long, max {_PRIVATE_MAX} bytes")
    container.values["private"] = text


def _wrap_ms(seconds: int) -> int:
    """Lose what portod loses, which counts milliseconds in 64 bits."""
    return seconds * 1000 % 2**64 // 1000


def _write_max_respawns(_: Question, container: Container, text: str) -> None:
    container.max_respawns = parse_int64(text) if text else -1


def _read_max_respawns(_: Question, container: Container) -> str:
    return str(container.max_respawns) if container.max_respawns >= 0 else ""


def _write_owner_containers(question: Question, container: Container, text: str) -> None:
    names = [question.registry.resolve(question.caller, name) for name in split_list(text, ";")]
    container.values["owner_containers"] = names


def _parse_access(text: str) -> str:
    if text not in _ACCESS:
        raise make_invalid(f"Unknown access level: {text}")
    return _ACCESS[text]


def _parse_session(text: str) -> str:
    words = text.split()
    if words and (len(words) != 3 or not words[1].isdecimal()):
        raise make_invalid("session_info is <kind> <id> <user>")
    return " ".join(words)


def _add_life() -> None:
    flags: dict[str, Any] = {"dynamic": True, "any_state": True}
    rows = (
        ("respawn", lambda _, c: format_bool(c.respawn),
         lambda _, c, text: setattr(c, "respawn", parse_bool(text))),
        ("respawn_count", lambda _, c: str(c.respawn_count),
         lambda _, c, text: setattr(c, "respawn_count", wrap_int64(parse_uint64(text)))),
        ("max_respawns", _read_max_respawns, _write_max_respawns),
        ("respawn_delay", lambda _, c: f"{c.respawn_delay_ns}ns",
         lambda _, c, text: setattr(c, "respawn_delay_ns", parse_nanoseconds(text))),
        ("aging_time", lambda _, c: str(c.aging_s),
         lambda _, c, text: setattr(c, "aging_s", _wrap_ms(parse_uint64(text)))),
        ("weak", lambda _, c: format_bool(c.weak),
         lambda _, c, text: setattr(c, "weak", parse_bool(text))),
        ("private", lambda _, c: c.values.get("private", ""), _write_private),
    )  # fmt: skip
    for name, read, write in rows:
        add_property(Property(name, name.replace("_", " "), read, write, **flags))
    add_property(
        Property(
            *("labels", "User-defined labels", lambda _, c: format_map(c.labels), _write_labels),
            read_index=lambda _, c, index: find_label(c, index),
            write_index=_write_label,
            **flags,
        )
    )
    add_bool(
        "oom_is_fatal", "Kill all affected containers on OOM event", default=True, dynamic=True
    )
    add_bool("children_allowed", "Sub-containers may be created", default=True)


def _add_rights() -> None:
    add_property(
        Property(
            "controllers",
            "Cgroup controllers",
            lambda _, c: _read_flags(c.controllers, CONTROLLERS),
            _write_controllers,
            _read_controller,
            _write_controller,
        )
    )
    _add_capabilities("capabilities", find_limit)
    _add_capabilities("capabilities_ambient", find_ambient)
    add_setting("enable_porto", "Porto access level", _parse_access, str, "true", dynamic=True)
    add_property(
        Property(
            "owner_containers",
            "Containers that have write access to container",
            lambda _, c: merge_list(c.values.get("owner_containers", ()), ";"),
            _write_owner_containers,
            dynamic=True,
        )
    )
    add_setting("session_info", "Session info: <kind> <id> <user>", _parse_session, str, "")
    everything = parse_seccomp("")
    add_property(
        Property(
            "seccomp",
            "Seccomp profile rules",
            lambda _, c: c.values.get("seccomp", everything),
            _write_seccomp,
        )
    )
    add_property(Property("seccomp_name", "Seccomp profile", lambda _, __: "", _refuse_profile))


def add_rows() -> None:
    """Fill the table."""
    _add_life()
    _add_rights()
