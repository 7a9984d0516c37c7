"""The properties `net`, `ip`, `default_gw` and `ip_limit`: what portod takes of each.

Pure, but for `netns`, whose folder it looks into. An address is what nl_addr_parse(3) of libnl
takes; anything else is refused with Unknown.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path

from devporto import porto_pb2 as pb
from devporto.refusal import Refusal, make_denied, make_invalid
from devporto.values import parse_int, split_escaped

Rows = list[list[str]]

_NETNS = Path("/var/run/netns")
_HARDWARE = re.compile(r"[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}\Z")
_LINK_LAYER = re.compile(r"[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2})+\Z")
_DECNET = re.compile(r"\d{1,2}\.\d{1,4}\Z")
# libnl takes these for an IPv4 address of zeros.
_ANY_ADDRESS = ("default", "all", "any")
_MACVLAN = ("bridge", "private", "vepa", "passthru")
_IPVLAN = ("l2", "l3")


@dataclass(frozen=True)
class Network:
    """`net`, understood."""

    rows: tuple[tuple[str, ...], ...] = (("inherited",),)
    inherits: bool = True
    isolates: bool = False
    container: str = ""
    """Whose network it shares."""
    only_l3: bool = True

    @property
    def is_none(self) -> bool:
        return self.rows == (("none",),)

    @property
    def needs_class(self) -> bool:
        return not self.inherits and not self.is_none


@dataclass
class _Draft:
    inherits: bool = False
    isolates: bool = False
    container: str = ""
    namespace: str = ""
    only_l3: bool = True


def parse_net(text: str) -> Network:
    """`L3 veth; MTU veth 1450`. Raises Refusal(InvalidValue, Permission)."""
    rows = split_escaped(text, " ", ";")
    if not rows:
        raise make_invalid("Configuration is not specified")
    # portod adds the fallback tunnel to every network of one's own.
    draft, links = _Draft(), {"ip6tnl0"}
    for row in rows:
        if row == ["none"] and len(rows) > 1:
            raise make_invalid("net=none must be the only option")
        _take_row(draft, links, row)
    kinds = draft.inherits, draft.isolates, bool(draft.namespace), bool(draft.container)
    if sum(kinds) != 1:
        raise make_invalid("Uncertain network type")
    return Network(
        *(tuple(map(tuple, rows)), draft.inherits, draft.isolates or bool(draft.namespace)),
        *(draft.container, draft.only_l3),
    )


def _take_row(draft: _Draft, links: set[str], row: Sequence[str]) -> None:
    kind = row[0]
    if kind in _DEVICES:
        _take_device(draft, links, row)
    elif kind in ("MTU", "MAC", "autoconf", "ECN"):
        _check_link_option(links, row)
    elif kind == "inherited" or row == ["host"]:
        draft.inherits = True
    elif kind == "none":
        draft.isolates = True
    elif kind == "host":
        _take_device(draft, links, ["steal", *row[1:]])
    elif kind == "container":
        _check_length(row, 2, 2)
        draft.container, draft.only_l3 = row[1], False
    elif kind == "netns":
        draft.namespace, draft.only_l3 = _find_namespace(row), False
    elif kind == "ip":
        raise make_denied("iproute is disabled")
    else:
        raise make_invalid(f"Unknown net option: {kind}")


def _find_namespace(row: Sequence[str]) -> str:
    _check_length(row, 2, 2)
    if ".." in row[1]:
        raise make_denied("'..' not allowed in net namespace path")
    if not (_NETNS / row[1]).exists():
        raise make_invalid(f"net namespace not found: {row[1]}")
    return row[1]


def _check_length(row: Sequence[str], least: int, most: int | None = None) -> None:
    if len(row) < least or (most is not None and len(row) > most):
        raise make_invalid(f"Invalid {' '.join(row)}")


def _check_link_option(links: Iterable[str], row: Sequence[str]) -> None:
    if row == ["ECN"]:
        return
    wanted = 3 if row[0] in ("MTU", "MAC") else 2
    _check_length(row, wanted, wanted)
    if row[0] == "MTU":
        parse_int(row[2])
    if row[0] == "MAC":
        _check_hardware(row[2])
    if row[1] not in links:
        raise make_invalid(f"Link not found: {row[1]}")


def _check_hardware(text: str) -> None:
    if not _HARDWARE.match(text):
        raise make_invalid(f"Invalid mac {text}")


def _take_device(draft: _Draft, links: set[str], row: Sequence[str]) -> None:
    links.add(_DEVICES[row[0]](row))
    if row[0] == "tap":
        draft.inherits = True
    else:
        draft.isolates = True
    if row[0] not in ("L3", "NAT", "ipip6", "tap"):
        draft.only_l3 = False


def _take_steal(row: Sequence[str]) -> str:
    _check_length(row, 2, 2)
    return row[1]


def _take_vlan(modes: Sequence[str], *, with_hardware: bool) -> Callable[[Sequence[str]], str]:
    def take(row: Sequence[str]) -> str:
        _check_length(row, 3)
        if len(row) > 3 and row[3] not in modes:
            raise make_invalid(f"Invalid {row[0]} mode {row[3]}")
        if len(row) > 4:
            parse_int(row[4])
        if len(row) > 5 and with_hardware:
            _check_hardware(row[5])
        return row[2]

    return take


def _take_veth(row: Sequence[str]) -> str:
    _check_length(row, 3)
    if len(row) > 3:
        parse_int(row[3])
    if len(row) > 4:
        _check_hardware(row[4])
    return row[1]


def _take_l3(row: Sequence[str]) -> str:
    words = row[2:] if row[1:2] == ["extra_routes"] else row[1:]
    return words[0] if words else "eth0"


def _take_tunnel(row: Sequence[str]) -> str:
    _check_length(row, 4, 4)
    if row[1] == "ip6tnl0":
        raise make_invalid("Cannot modify default fallback tunnel")
    for text in row[2:]:
        if _find_family(text) != socket.AF_INET6:
            raise _make_bad_address(text)
    return row[1]


_DEVICES: Mapping[str, Callable[[Sequence[str]], str]] = {
    "steal": _take_steal,
    "macvlan": _take_vlan(_MACVLAN, with_hardware=True),
    "ipvlan": _take_vlan(_IPVLAN, with_hardware=False),
    "veth": _take_veth,
    "L3": _take_l3,
    "NAT": lambda row: row[1] if len(row) > 1 else "eth0",
    "ipip6": _take_tunnel,
    "tap": _take_steal,
}
"""How each device is checked; the answer is the name of its link."""


def parse_addresses(text: str) -> Rows:
    """`eth0 192.0.2.1/24; ...`. Raises Refusal(InvalidValue, Unknown)."""
    rows = split_escaped(text, " ", ";")
    for row in rows:
        if len(row) != 2:
            raise make_invalid("Invalid ip format")
        _find_family(row[1])
    return rows


def parse_ip_limit(text: str) -> Rows:
    """`192.0.2.1 2001:db8::/64`, `any`, `none`. Raises Refusal(InvalidValue, Unknown)."""
    rows = split_escaped(text, ";", " ")
    for row in rows:
        if len(row) != 1 or (row[0] in ("any", "none") and len(rows) != 1):
            raise make_invalid("wrong format")
        if row[0] not in ("any", "none") and _find_family(row[0]) not in (
            socket.AF_INET,
            socket.AF_INET6,
        ):
            raise make_invalid("wrong address")
    return rows


def _make_bad_address(text: str) -> Refusal:
    return Refusal(pb.Unknown, f"Cannot parse address {text}")


def _find_family(text: str) -> int:
    """Tell the family of an address, 0 for one of another kind. Raises Refusal(Unknown)."""
    address, slash, prefix = text.partition("/")
    if slash and not re.match(r"[+-]?\d*\Z", prefix):
        raise _make_bad_address(text)
    if address.lower() in _ANY_ADDRESS:
        return socket.AF_INET
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address)
        except OSError:
            continue
        return family
    if address.lower() == "none" or _LINK_LAYER.match(address) or _DECNET.match(address):
        return 0
    raise _make_bad_address(text)


def is_address_inside(address: str, limits: Rows) -> bool:
    """Tell whether an `ip_limit` lets this address of `ip` pass."""
    try:
        asked = ip_interface(address)
        nets = [ip_interface(row[0]).network for row in limits]
    except ValueError:
        return False
    return any(asked.version == net.version and asked.ip in net for net in nets)
