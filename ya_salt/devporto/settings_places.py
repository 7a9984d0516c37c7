"""Rows for devices, mounts and the network. Recorded and read back, not applied."""

from __future__ import annotations

import ipaddress

from ya_salt.devporto import matching
from ya_salt.devporto.container import Container, State
from ya_salt.devporto.devices import (
    Device,
    format_devices,
    merge_devices,
    parse_devices,
    withdraw_devices,
)
from ya_salt.devporto.property import (
    Property,
    Question,
    add_property,
    enable_controller,
)
from ya_salt.devporto.refusal import Refusal, make_bad_state, make_invalid
from ya_salt.devporto.settings_common import add_bool, add_setting, add_size_map, add_text
from ya_salt.devporto.values import (
    format_map,
    merge_list,
    merge_rows,
    parse_string_map,
    split_escaped,
    split_list,
)
from ya_salt.proto import porto_pb2 as pb

_NET_WORDS = {
    "none": (1, 1), "inherited": (1, 1), "host": (1, 2), "steal": (2, 2), "container": (2, 2),
    "macvlan": (3, 6), "ipvlan": (3, 5), "veth": (3, 5), "L3": (2, 4), "NAT": (1, 2),
    "ipip6": (4, 4), "tap": (2, 2), "MTU": (3, 3), "MAC": (3, 3), "autoconf": (2, 2),
    "ip": (2, 99), "netns": (2, 2),
}  # fmt: skip


def _write_devices(question: Question, container: Container, text: str) -> None:
    if not text:
        container.values["devices"] = []
        return
    fresh = parse_devices(text, question.users)
    enable_controller(container, "devices")
    old: list[Device] = container.values.get("devices", [])
    container.values["devices"] = merge_devices(withdraw_devices(old), fresh)


def _write_device(question: Question, container: Container, index: str, text: str) -> None:
    fresh = parse_devices(f"{index} {text}", question.users)
    enable_controller(container, "devices")
    container.values["devices"] = merge_devices(container.values.get("devices", []), fresh)


def _parse_net(text: str) -> list[list[str]]:
    rows = split_escaped(text, " ", ";")
    for row in rows:
        low, high = _NET_WORDS.get(row[0], (0, 0))
        if not low <= len(row) <= high:
            raise make_invalid(f"Invalid net configuration: {' '.join(row)}")
    if len(rows) > 1 and any(row[0] in ("none", "inherited") for row in rows):
        raise make_invalid("none and inherited stand alone")
    return rows


def _parse_addresses(text: str) -> list[list[str]]:
    rows = split_escaped(text, " ", ";")
    for row in rows:
        if len(row) != 2:
            raise make_invalid("Invalid ip format")
        _check_address(row[1])
    return rows


def _check_address(text: str) -> None:
    try:
        ipaddress.ip_interface(text)
    except ValueError as error:
        raise Refusal(pb.InvalidNetworkAddress, f"Unable to parse IP address {text}") from error


def _parse_ip_limit(text: str) -> list[list[str]]:
    rows = split_escaped(text, ";", " ")
    for row in rows:
        if len(row) != 1 or (row[0] in ("any", "none") and len(rows) != 1):
            raise make_invalid("wrong format")
        if row[0] not in ("any", "none"):
            _check_address(row[0])
    return rows


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
    rows = split_escaped(text, " ", ";")
    if any(len(row) < 2 for row in rows):
        raise make_invalid(f"Invalid bind mount {text}")
    return rows


def _parse_symlinks(text: str) -> dict[str, str]:
    normal = matching.normalize_path
    return {normal(link): normal(target) for link, target in parse_string_map(text).items()}


def _read_symlink(_: Question, container: Container, index: str) -> str:
    links = container.values.get("symlink", {})
    if matching.normalize_path(index) not in links:
        raise Refusal(pb.NoValue, f"Symlink {index} not set")
    return str(links[matching.normalize_path(index)])


def _write_symlink(_: Question, container: Container, index: str, text: str) -> None:
    links = {**container.values.get("symlink", {})}
    links[matching.normalize_path(index)] = matching.normalize_path(text)
    container.values["symlink"] = {link: target for link, target in links.items() if target}


def _write_sysctl(_: Question, container: Container, index: str, text: str) -> None:
    pairs = {**container.values.get("sysctl", {}), index: text}
    container.values["sysctl"] = {key: value for key, value in pairs.items() if value}


def _add_places() -> None:
    add_text("porto_namespace", "Prefix of container names seen inside")
    add_setting("place", "Places for volumes and layers", lambda text: split_list(text, ";"),
                lambda words: merge_list(words, ";"), ["/place", "***"])  # fmt: skip
    add_size_map("place_limit", "Limits of volume space by place")
    add_setting("volumes_required", "Volume links required by container: path;...",
                lambda text: split_list(text, ";"), lambda words: merge_list(words, ";"), [],
                dynamic=True)  # fmt: skip
    add_setting("bind", "Bind mounts: <source> <target> [flags]; ...", _parse_binds,
                lambda rows: merge_rows(rows, " ", ";"), [])  # fmt: skip
    add_setting("symlink", "Symlinks: <symlink>: <target>;...", _parse_symlinks,
                lambda pairs: "".join(f"{k}: {pairs[k]}; " for k in sorted(pairs)), {},
                read_index=_read_symlink, write_index=_write_symlink, dynamic=True)  # fmt: skip
    add_setting("sysctl", "Sysctl, format: name: value;...", parse_string_map, format_map, {},
                read_index=lambda _, c, index: c.values.get("sysctl", {}).get(index, ""),
                write_index=_write_sysctl)  # fmt: skip


def _add_network() -> None:
    form = {"ip": "IP configuration", "default_gw": "Default gateway"}
    for name, desc in form.items():
        add_setting(name, f"{desc}: <interface> <ip>; ...", _parse_addresses,
                    lambda rows: merge_rows(rows, " ", ";"), [])  # fmt: skip
    add_setting("net", "Container network settings", _parse_net,
                lambda rows: merge_rows(rows, " ", ";"), [["inherited"]])  # fmt: skip
    add_setting("ip_limit", "IP allowed for sub-containers", _parse_ip_limit,
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
