"""Rows for devices, mounts and the network. Recorded and read back, not applied."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace

from devporto import porto_pb2 as pb
from devporto.containers import Container, State
from devporto.network import parse_addresses, parse_ip_limit, parse_net
from devporto.property import (
    Property,
    Question,
    add_bool,
    add_property,
    add_setting,
    add_size_map,
    add_text,
    enable_controller,
)
from devporto.refusal import Refusal, make_bad_state, make_denied, make_invalid
from devporto.starting import check_volumes
from devporto.symlinks import place_symlink
from devporto.users import Credentials, UserBook
from devporto.values import (
    format_map,
    format_octal,
    merge_list,
    merge_rows,
    normalize_path,
    parse_octal,
    parse_string_map,
    split_escaped,
    split_list,
    trim,
)

_BIND_FLAGS = (
    *("rw", "ro", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "noatime", "nodiratime"),
    *("rec", "unbindable", "private", "relatime"),
)


def _write_devices(question: Question, container: Container, text: str) -> None:
    if not text:
        container.values["devices"] = []
        return
    fresh = _take_devices(question, container, text)
    old: list[Device] = container.values.get("devices", [])
    container.values["devices"] = merge_devices(withdraw_devices(old), fresh)


def _take_devices(question: Question, container: Container, text: str) -> list[Device]:
    fresh = parse_devices(text, question.users, question.caller.credentials)
    # A node alone, which nobody may read or write, takes no cgroup.
    if any(one.access & {"r", "w"} or "m" not in one.access for one in fresh):
        enable_controller(container, "devices")
    return fresh


def _write_device(question: Question, container: Container, index: str, text: str) -> None:
    fresh = _take_devices(question, container, f"{index} {text}")
    container.values["devices"] = merge_devices(container.values.get("devices", []), fresh)


def _write_net(_: Question, container: Container, text: str) -> None:
    network = parse_net(text)
    if network.needs_class:
        enable_controller(container, "net_cls")
    container.network = network


def _read_resolv_conf(_: Question, container: Container) -> str:
    kept: str | None = container.values.get("resolv_conf")
    if kept:
        return kept.replace("\n", ";")
    if container.is_root:
        return ""
    if kept is not None:
        return "keep"
    return "inherit" if container.values.get("root", "/") == "/" else "default"


def _write_resolv_conf(_: Question, container: Container, text: str) -> None:
    at_root = container.values.get("root", "/") == "/"
    kept: str | None = container.values.get("resolv_conf")
    was_off = not kept if kept is not None else at_root
    now_off = text in ("keep", "") or (at_root and text == "inherit")
    if container.state is not State.STOPPED and was_off != now_off:
        raise make_bad_state("Cannot enable/disable resolv.conf overriding in runtime")
    if text in ("default", "inherit"):
        container.values.pop("resolv_conf", None)
    else:
        container.values["resolv_conf"] = "" if text == "keep" else text.replace(";", "\n")


def _parse_binds(text: str) -> list[list[str]]:
    """[source, target, flags in portod's order]."""
    binds = []
    for row in split_escaped(text, " ", ";"):
        if len(row) < 2:
            raise make_invalid(f"Invalid bind mount {text}")
        asked = {trim(word) for word in row[2].split(",")} - {""} if len(row) > 2 else set[str]()
        if not asked <= set(_BIND_FLAGS):
            raise make_invalid(f"Invalid bind mount flags {row[2]}")
        binds.append([*row[:2], ",".join(flag for flag in _BIND_FLAGS if flag in asked)])
    return binds


def _read_symlinks(_: Question, container: Container) -> str:
    links = container.values.get("symlink", {})
    return "".join(f"{link}: {links[link]}; " for link in sorted(links))


def _read_symlink(_: Question, container: Container, index: str) -> str:
    links = container.values.get("symlink", {})
    if normalize_path(index) not in links:
        raise Refusal(pb.NoValue, f"Symlink {index} not set")
    return str(links[normalize_path(index)])


def _write_symlinks(_: Question, container: Container, text: str) -> None:
    asked = {normalize_path(k): normalize_path(v) for k, v in parse_string_map(text).items()}
    gone = dict.fromkeys(container.values.get("symlink", {}), "")
    for link, target in sorted({**gone, **asked}.items()):
        _set_symlink(container, link, target)


def _write_volumes(_: Question, container: Container, text: str) -> None:
    wanted = split_list(text, ";")
    if container.state is not State.STOPPED:
        check_volumes(wanted)
    container.values["volumes_required"] = wanted


def _write_symlink(_: Question, container: Container, index: str, text: str) -> None:
    _set_symlink(container, normalize_path(index), normalize_path(text))


def _set_symlink(container: Container, link: str, target: str) -> None:
    """One by one: those before one that fails stay set."""
    if container.run:
        place_symlink(container.find_cwd(), link, target, container.task)
    links = {**container.values.get("symlink", {}), link: target}
    container.values["symlink"] = {key: value for key, value in links.items() if value}


def _write_sysctl(_: Question, container: Container, index: str, text: str) -> None:
    pairs = {**container.values.get("sysctl", {}), index: text}
    container.values["sysctl"] = {key: value for key, value in pairs.items() if value}


def _add_places() -> None:
    add_text("porto_namespace", "Prefix of container names seen inside")
    add_setting("place", "Places for volumes and layers", lambda text: split_list(text, ";"),
                lambda words: merge_list(words, ";"), ["/place", "***"])  # fmt: skip
    add_size_map("place_limit", "Limits of volume space by place")
    add_property(
        Property(
            "volumes_required",
            "Volume links required by container: path;...",
            lambda _, c: merge_list(c.values.get("volumes_required", []), ";"),
            _write_volumes,
            dynamic=True,
        )
    )
    add_setting("bind", "Bind mounts: <source> <target> [flags]; ...", _parse_binds,
                lambda rows: merge_rows(rows, " ", ";"), [])  # fmt: skip
    add_property(
        Property(
            "symlink",
            "Symlinks: <symlink>: <target>;...",
            _read_symlinks,
            _write_symlinks,
            _read_symlink,
            _write_symlink,
            dynamic=True,
        )
    )
    add_setting("sysctl", "Sysctl, format: name: value;...", parse_string_map, format_map, {},
                read_index=lambda _, c, index: c.values.get("sysctl", {}).get(index, ""),
                write_index=_write_sysctl)  # fmt: skip


def _add_network() -> None:
    form = {"ip": "IP configuration", "default_gw": "Default gateway"}
    for name, desc in form.items():
        add_setting(name, f"{desc}: <interface> <ip>; ...", parse_addresses,
                    lambda rows: merge_rows(rows, " ", ";"), [])  # fmt: skip
    add_property(
        Property(
            "net",
            "Container network settings",
            lambda _, one: merge_rows(one.network.rows, " ", ";"),
            _write_net,
        )
    )
    add_setting("ip_limit", "IP allowed for sub-containers", parse_ip_limit,
                lambda rows: merge_rows(rows, ";", " "), [["any"]])  # fmt: skip
    add_property(
        Property(
            *("resolv_conf", "DNS resolver configuration", _read_resolv_conf, _write_resolv_conf),
            dynamic=True,
        )
    )


def _add_devices() -> None:
    add_property(
        Property(
            "devices",
            "Devices: <device> [r][w][m][-][?] [path] [mode] [user] [group]; ...",
            lambda q, c: format_devices(c.values.get("devices", ()), q.users),
            _write_devices,
            write_index=_write_device,
            dynamic=True,
        )
    )
    add_bool("devices_explicit", "Only the devices named are allowed", dynamic=True)


def add_rows() -> None:
    """Fill the table."""
    _add_devices()
    _add_places()
    _add_network()


@dataclass(frozen=True)
class Device:
    """One device node and what may be done with it."""

    path: str
    access: frozenset[str]
    inside: str
    mode: int
    uid: int
    gid: int

    def format(self, users: UserBook) -> str:
        access = "".join(letter for letter in "rwm*" if letter in self.access) or "-"
        access += "?" if "?" in self.access else ""
        owner = f"{users.name_user(self.uid)} {users.name_group(self.gid)}"
        return f"{self.path} {access} {self.inside} {format_octal(self.mode)} {owner}"


def parse_devices(text: str, users: UserBook, asker: Credentials) -> list[Device]:
    """`/dev/null rw; ...`. Raises Refusal(InvalidValue, DeviceNotFound, Permission)."""
    found = []
    for row in split_escaped(text, " ", ";"):
        if row[0] == "preset" and len(row) == 2:
            raise make_invalid(f"Undefined device preset {row[1]}")
        try:
            found.append(_parse_device(row, users, asker))
        except Refusal as error:
            if error.code != pb.DeviceNotFound or not set("-?").intersection(row[1]):
                raise
    return found


def _parse_device(row: list[str], users: UserBook, asker: Credentials) -> Device:
    if len(row) < 2:
        raise make_invalid(f"Invalid device config: {' '.join(row)}")
    _check_path(row[0])
    access = _parse_access(row[1])
    if "*" in access and asker.uid != 0:
        raise make_denied(f"uid {asker.uid} cannot set up a wildcard {row[0]}")
    node = _read_node(row[0])
    _check_access(node, access, asker)
    inside = row[2] if len(row) > 2 else row[0]
    _check_path(inside)
    mode = parse_octal(row[3]) if len(row) > 3 else node.st_mode & 0o777
    if mode & ~0o777:
        raise make_invalid(f"invalid device mode: {row[3]}")
    uid = users.find_uid(row[4]) if len(row) > 4 else node.st_uid
    gid = users.find_gid(row[5]) if len(row) > 5 else node.st_gid
    return Device(row[0], access, inside, mode, uid, gid)


def _check_access(node: os.stat_result, access: frozenset[str], asker: Credentials) -> None:
    """Nobody gives a container more than he has. Raises Refusal(Permission)."""
    shift = 6 if asker.uid == node.st_uid else 3 if asker.is_member(node.st_gid) else 0
    for letter, bit in (("r", 4), ("w", 2)):
        if letter in access and asker.uid != 0 and not node.st_mode >> shift & bit:
            raise make_denied(f"uid {asker.uid} has no such access: {letter}")


def _check_path(path: str) -> None:
    if normalize_path(path) != path or not path.startswith("/dev/"):
        raise make_invalid(f"Device path not in /dev: {path}")


def _parse_access(text: str) -> frozenset[str]:
    if not set(text) <= set("rwm*-?"):
        raise make_invalid(f"Invalid access: {text}")
    access = {"?" if letter == "-" else letter for letter in text}
    if access & {"r", "w"} and "*" not in access:
        access.add("m")
    return frozenset(access)


def _read_node(path: str) -> os.stat_result:
    try:
        node = os.stat(path)  # noqa: PTH116 - wants the path as written
    except OSError as error:
        raise Refusal(pb.DeviceNotFound, f"Device {path} does not exist") from error
    if not stat.S_ISCHR(node.st_mode) and not stat.S_ISBLK(node.st_mode):
        raise Refusal(pb.DeviceNotFound, f"Not a device node: {path}")
    return node


def withdraw_devices(devices: Iterable[Device]) -> list[Device]:
    """Take all access away: what a new list does not name stays listed."""
    return [replace(one, access=frozenset("?") | (one.access & {"*"})) for one in devices]


def merge_devices(old: list[Device], fresh: list[Device]) -> list[Device]:
    """`fresh` replaces what has the same path inside."""
    merged = {one.inside: one for one in old}
    merged.update({one.inside: one for one in fresh})
    return list(merged.values())


def format_devices(devices: Iterable[Device], users: UserBook) -> str:
    return "".join(one.format(users) + "; " for one in devices)
