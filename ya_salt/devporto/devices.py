"""The `devices` property. Recorded and read back; no device is allowed or denied."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ya_salt.devporto.matching import normalize_path
from ya_salt.devporto.refusal import Refusal, make_invalid
from ya_salt.devporto.users import UserBook
from ya_salt.devporto.values import format_octal, parse_octal, split_escaped
from ya_salt.proto import porto_pb2 as pb


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


def parse_devices(text: str, users: UserBook) -> list[Device]:
    """`/dev/null rw; ...`. Raises Refusal(InvalidValue, DeviceNotFound)."""
    found = []
    for row in split_escaped(text, " ", ";"):
        if row[0] == "preset" and len(row) == 2:
            raise make_invalid(f"Undefined device preset {row[1]}")
        try:
            found.append(_parse_device(row, users))
        except Refusal as error:
            if error.code != pb.DeviceNotFound or not set("-?").intersection(row[1]):
                raise
    return found


def _parse_device(row: list[str], users: UserBook) -> Device:
    if len(row) < 2:
        raise make_invalid(f"Invalid device config: {' '.join(row)}")
    _check_path(row[0])
    access = _parse_access(row[1])
    node = _read_node(row[0])
    inside = row[2] if len(row) > 2 else row[0]
    _check_path(inside)
    mode = parse_octal(row[3]) if len(row) > 3 else node.st_mode & 0o777
    if mode & ~0o777:
        raise make_invalid(f"invalid device mode: {row[3]}")
    uid = users.find_uid(row[4]) if len(row) > 4 else node.st_uid
    gid = users.find_gid(row[5]) if len(row) > 5 else node.st_gid
    return Device(row[0], access, inside, mode, uid, gid)


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
