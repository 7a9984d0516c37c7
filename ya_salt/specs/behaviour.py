"""Check how a daemon is to be looked after: readiness, update, watch, after, drift. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ya_salt.model import Readiness, UpdatePolicy, Watch
from ya_salt.names import check_daemon_name, quote
from ya_salt.porto.values import (
    check_argument,
    parse_argv,
    parse_bool,
    parse_choice,
    parse_integer,
    parse_real,
    parse_seconds,
)
from ya_salt.quick_dataclass import dataclass, field
from ya_salt.specs.checks import (
    Diagnostics,
    Member,
    camel,
    convert,
    describe,
    make_fields,
    read_fields,
    read_quoted,
    read_text,
    read_value,
)
from ya_salt.specs.container import Json
from ya_salt.specs.sockets import MAX_NAME, VARIABLES
from ya_salt.specs.tree import START, ListNode, MapNode, Node, Place

READINESS_FIELDS = (
    "exec", "tcp", "http", "notify", "period_s", "timeout_s", "failure_threshold", "on_failure",
    "watchdog_s",
)  # fmt: skip
HTTP_FIELDS = ("port", "path", "status")
UPDATE_FIELDS = ("on_failure", "max_failures", "watch_s", "state")
WATCH_FIELDS = ("path", "conffiles", "signal", "splay_s")
BEHAVIOUR_FIELDS = ("readiness", "update", "watch", "after", "drift")

_EXEC_PERIOD_S = 30.0
_WAYS = ("exec", "tcp", "http", "notify")
_OF_QUESTIONS = ("period_s", "timeout_s", "failure_threshold")
_NOTIFY = {"notify": True, "period_s": 30.0, "failure_threshold": 1}
"""What it says counts at once; it is looked after in between, should its word have been lost."""
_READINESS = make_fields(READINESS_FIELDS, "write a mapping with exec, tcp, http or notify")
_HTTP = make_fields(HTTP_FIELDS, "write a mapping with port and path")
_UPDATE = make_fields(UPDATE_FIELDS)
_WATCH = make_fields(WATCH_FIELDS, "write a mapping with path or conffiles")

# -- single values -------------------------------------------------------------------------------


def check_url_path(text: str) -> str:
    if not re.fullmatch(r"/[!-~]*", text) or len(text) > 1000 or "#" in text:
        raise ValueError(f"{quote(text)} is no path; write one as /health, blanks as %20")
    return text


def check_path(text: str) -> str:
    parts = text.split("/")
    if not text.startswith("/") or ".." in parts or text != text.strip() or "\n" in text:
        raise ValueError(f"{quote(text)} is no absolute path without ..; write it from / on")
    return text


def check_state(text: str) -> str:
    path = check_path(text).rstrip("/")
    if path.count("/") < 2:
        raise ValueError(f"{quote(text)} is not a daemon's own; name a path below it")
    return path


SIGNALS = tuple(sorted({item.name for item in signal.Signals} - {"SIGKILL", "SIGSTOP"}))
"""By which a process can be told something."""


def parse_signal(text: str) -> str:
    name = text if text.startswith("SIG") else f"SIG{text}"
    if name not in SIGNALS:
        raise ValueError(f"{quote(text)} is no signal to tell something by; write SIGHUP or such")
    return name


def parse_whole(text: str, low: int, high: int) -> int:
    return int(parse_integer(text, low, high))


def parse_number(text: str, low: str, high: str) -> float:
    return float(parse_real(text, low, high))


_Parsers = Mapping[str, Callable[[str], Any]]

_parse_port = partial(parse_whole, low=1, high=65535)
parse_drift = partial(parse_choice, choices=("correct", "report"))

READINESS_PARSERS: _Parsers = {
    "tcp": _parse_port,
    "period_s": partial(parse_number, low="1", high="86400"),
    # A pass waits for the answers.
    "timeout_s": partial(parse_number, low="0.1", high="60"),
    "failure_threshold": partial(parse_whole, low=1, high=1000),
    "on_failure": partial(parse_choice, choices=("none", "restart")),
    "notify": parse_bool,
    "watchdog_s": partial(parse_number, low="0.1", high="86400"),
}
HTTP_PARSERS: _Parsers = {
    "port": _parse_port,
    "path": check_url_path,
    "status": partial(parse_whole, low=100, high=599),
}
UPDATE_PARSERS: _Parsers = {
    "on_failure": partial(parse_choice, choices=("rollback", "keep")),
    "max_failures": partial(parse_whole, low=0, high=1000),
    "watch_s": parse_seconds,
}
WATCH_PARSERS: _Parsers = {
    "path": check_path,
    "conffiles": parse_bool,
    "signal": parse_signal,
    "splay_s": parse_seconds,
}


# -- what a document says ------------------------------------------------------------------------


@dataclass
class Behaviour:
    """What a document says of it; None where it says nothing."""

    readiness: Readiness | None = None
    update: UpdatePolicy = field(default_factory=UpdatePolicy)
    watch: tuple[Watch, ...] = ()
    after: tuple[str, ...] = ()
    after_place: Place = START
    drift: str = "correct"
    document: dict[str, Json] = field(default_factory=dict)
    """The fields that were set, as protobuf JSON."""


def read_behaviour(report: Diagnostics, members: dict[str, Member]) -> Behaviour:
    found = Behaviour()
    if "readiness" in members:
        found.readiness = _read_readiness(report, members["readiness"], found.document)
    if "update" in members:
        found.update = _read_update(report, members["update"], found.document)
    if "watch" in members:
        found.watch = _read_watches(report, members["watch"], found.document)
    if "after" in members:
        names = _read_list(report, members["after"], check_daemon_name)
        found.after = tuple(dict.fromkeys(names))
        found.after_place = members["after"].node.place
        found.document["after"] = list(found.after)
    if "drift" in members:
        found.drift = _read_one(report, members["drift"], parse_drift) or "correct"
        found.document["drift"] = found.drift
    return found


# -- readiness -----------------------------------------------------------------------------------


def _read_readiness(
    report: Diagnostics, member: Member, document: dict[str, Json]
) -> Readiness | None:
    members = read_fields(report, member.node, member.field, _READINESS)
    if not isinstance(member.node, MapNode):
        return None
    values: dict[str, Any] = {}
    shown: dict[str, Json] = {}
    _read_into(report, members, READINESS_PARSERS, values, shown)
    if "notify" in values:
        values["notify"] = shown["notify"] = values["notify"] == "true"
    ways = [name for name in _WAYS if name in members and values.get(name) is not False]
    if len(ways) != 1:
        said = f"names {' and '.join(ways)}" if ways else "says not how to ask"
        right = "write one of exec, tcp and http, or notify: true"
        report.add(member.node.place, member.field, f"{said}; {right}")
    else:
        _check_fields(report, members, is_notify=ways == ["notify"])
    if values.get("notify"):
        values = {**_NOTIFY, **values}
    if "exec" in members:
        argv = _read_argv(report, members["exec"])
        values = {"period_s": _EXEC_PERIOD_S, **values, "exec": argv}
        shown["exec"] = list(argv)
    if "http" in members:
        http = _read_http(report, members["http"])
        values |= {f"http_{name}": value for name, value in http.items()}
        shown["http"] = dict(http)
    document["readiness"] = shown
    return Readiness(**values)


def _check_fields(report: Diagnostics, members: dict[str, Member], *, is_notify: bool) -> None:
    """Refuse what says nothing beside the way that was chosen."""
    idle, need = (_OF_QUESTIONS, "exec, tcp and http") if is_notify else (("watchdog_s",), "notify")
    for name in [name for name in idle if name in members]:
        member = members[name]
        report.add(member.key.place, member.field, f"is of use with {need} only; leave it out")


def _read_argv(report: Diagnostics, member: Member) -> tuple[str, ...]:
    argv = tuple(_read_list(report, member, check_argument, read_text))
    if argv:
        convert(report, member.node.place, member.field, "", lambda _: parse_argv(argv))
    elif isinstance(member.node, ListNode) and not member.node.items:
        report.add(member.node.place, member.field, "is an empty list; write the program and more")
    return argv


def _read_http(report: Diagnostics, member: Member) -> dict[str, Any]:
    members = read_fields(report, member.node, member.field, _HTTP)
    found: dict[str, Any] = {}
    if isinstance(member.node, MapNode) and "port" not in members:
        report.add(member.node.place, f"{member.field}.port", "is missing; write the port to ask")
    _read_into(report, members, HTTP_PARSERS, found, {})
    return found


def check_socket(
    report: Diagnostics, members: Mapping[str, Member], name: str, texts: Mapping[str, str]
) -> None:
    """Refuse what stands in the way of the socket of `readiness.notify`."""
    readiness, properties = members["readiness"], members.get("properties")
    if len(name) > MAX_NAME:
        words = f"takes a name of at most {MAX_NAME} characters, as a socket's path is short"
        place, field = readiness.node.place, f"{readiness.field}.notify"
        report.add(place, field, f"{words}; shorten meta.name, or ask by exec, tcp or http")
    for key in (f"{base}[{one}]" for base in ("env", "env_secret") for one in VARIABLES):
        if key in texts and properties is not None:
            base, _, variable = key.partition("[")
            found = _find_entry(properties.node, base, variable[:-1])
            words = "is set by ya-salt for readiness.notify; leave it out"
            report.add(found, f"{properties.field}.{base}.{variable[:-1]}", words)


def _find_entry(node: Node, *keys: str) -> Place:
    """Where an entry of a mapping stands; the mapping, where that is not to be seen."""
    place = node.place
    for key in keys:
        entries = node.entries if isinstance(node, MapNode) else ()
        found = next((one for one in entries if one[0].text in {key, camel(key)}), None)
        if found is None:
            return place
        place, node = found[0].place, found[1]
    return place


def check_reach(
    report: Diagnostics, member: Member, readiness: Readiness, texts: Mapping[str, str]
) -> None:
    """Refuse a question that cannot reach a daemon with these properties."""
    place, field = member.node.place, member.field
    if readiness.notify:
        return
    if readiness.exec:
        if texts.get("children_allowed") == "false":
            words = "needs a container inside the daemon's; leave children_allowed out, or ask by"
            report.add(place, f"{field}.exec", f"{words} tcp or http")
        return
    # In os mode portod gives it a network that is empty.
    net = texts.get("net") or ("none" if texts.get("virt_mode") == "os" else "inherited")
    kinds = {entry.split(" ")[0] for entry in net.split(";")}
    if kinds & _HOSTS_NETS or (kinds & _ROUTED_NETS and texts.get("ip")):
        return
    name = "tcp" if readiness.tcp else "http"
    right = "set ip, or ask by exec" if kinds & _ROUTED_NETS else "ask by exec"
    words = f"cannot be asked from the host, as the daemon's net is {quote(net)}"
    report.add(place, f"{field}.{name}", f"{words}; {right}")


_HOSTS_NETS = frozenset({"inherited", "host"})
"""The daemon's ports are the host's."""
_ROUTED_NETS = frozenset({"L3", "veth"})
"""The host reaches the daemon's own addresses, where the spec says them: not so macvlan, ipvlan."""


# -- update, watch -------------------------------------------------------------------------------


def _read_update(report: Diagnostics, member: Member, document: dict[str, Json]) -> UpdatePolicy:
    members = read_fields(report, member.node, member.field, _UPDATE)
    values: dict[str, Any] = {}
    shown: dict[str, Json] = {}
    _read_into(report, members, UPDATE_PARSERS, values, shown)
    if "state" in members:
        values["state"] = tuple(_read_list(report, members["state"], check_state))
        shown["state"] = list(values["state"])
    document["update"] = shown
    return UpdatePolicy(**values)


def _read_watches(
    report: Diagnostics, member: Member, document: dict[str, Json]
) -> tuple[Watch, ...]:
    node = member.node
    if not isinstance(node, ListNode):
        report.add(node.place, member.field, f"{describe(node)}; write a list of path or conffiles")
        return ()
    shown: list[Json] = []
    found = []
    for number, item in enumerate(node.items):
        watch = _read_watch(report, item, f"{member.field}[{number}]", shown)
        if watch is not None:
            found.append(watch)
    document["watch"] = shown
    return tuple(found)


def _read_watch(report: Diagnostics, node: Node, path: str, shown: list[Json]) -> Watch | None:
    members = read_fields(report, node, path, _WATCH)
    if not isinstance(node, MapNode):
        return None
    values: dict[str, Any] = {}
    document: dict[str, Json] = {}
    _read_into(report, members, WATCH_PARSERS, values, document)
    conffiles = values.pop("conffiles", "") == "true"
    if "conffiles" in document:
        document["conffiles"] = conffiles
    if conffiles == ("path" in members):
        report.add(node.place, path, "write either path, or conffiles: true")
    if "splay_s" in members and "signal" not in members:
        member = members["splay_s"]
        report.add(member.key.place, member.field, "is of use with signal only; leave it out")
    shown.append({camel(name): value for name, value in document.items()})
    return Watch(**values)


# -- pieces --------------------------------------------------------------------------------------


def _read_into(
    report: Diagnostics,
    members: dict[str, Member],
    readers: Mapping[str, Callable[[str], Any]],
    values: dict[str, Any],
    shown: dict[str, Json],
) -> None:
    """Read what is there by its reader; into `values` by name and `shown` by protobuf JSON's."""
    for name, parse in readers.items():
        if name not in members:
            continue
        value = _read_one(report, members[name], parse)
        if value is not None:
            values[name] = value
            shown[camel(name)] = value


def _read_one(report: Diagnostics, member: Member, parse: Callable[[str], Any]) -> Any:
    return read_value(report, member.node, member.field, parse)


def _read_list(
    report: Diagnostics,
    member: Member,
    parse: Callable[[str], str],
    read: Callable[[Diagnostics, Node, str], str | None] = read_quoted,
) -> list[str]:
    node = member.node
    if not isinstance(node, ListNode):
        report.add(node.place, member.field, f"{describe(node)}; write a list")
        return []
    found = []
    for number, item in enumerate(node.items):
        field = f"{member.field}[{number}]"
        text = convert(report, item.place, field, read(report, item, field), parse)
        if text is not None:
            found.append(text)
    return found
