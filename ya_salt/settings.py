"""Read the configuration, in one place: defaults, the settings file, the environment, flags.

Later ones go over earlier ones. Whatever cannot be used is an error that names its place; an
unknown key is an error too, as a misspelt setting that is silently ignored surprises at night.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from ya_salt.errors import SettingsError
from ya_salt.flags import CONFIG_VARIABLE, DEFAULT_FILE, ENVIRONMENT_PREFIX, FLAGS
from ya_salt.model import PrometheusSettings, Settings
from ya_salt.names import check_package_name
from ya_salt.quick_dataclass import dataclass, fields, replace
from ya_salt.specs.tree import START, ListNode, MapNode, Node, Scalar
from ya_salt.trusted_files import UntrustedError, explain, open_trusted

_TEXTFILE_DIR = "monitoring.prometheus.textfile_dir"
_TEST_PREFIX = "YA_SALT_TEST_"
"""Variables of the test suite, which say how long its longest tests go on."""
_MAX_BYTES = 1 << 20
_SOCKET_MAX_BYTES = 107
_NOTIFY_MAX_BYTES = 43
"""With the longest name that a daemon with a socket may have it is a socket's path."""
_FIELDS = frozenset(item.name for item in fields(Settings))


@dataclass(frozen=True)
class Setting:
    """One key of the settings file."""

    name: str
    """As in the file, with a dot where it stands in a mapping of its own."""
    parse: Callable[[str], Any]
    help: str
    is_list: bool = False
    is_map: bool = False
    has_flag: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """The way to its field in Settings; a group that only the file knows is not on it."""
        first, *rest = self.name.split(".")
        return (first, *rest) if first in _FIELDS else (*rest,)

    def get(self, settings: Settings) -> Any:
        """Its value in `settings`."""
        value: Any = settings
        for name in self.fields:
            value = getattr(value, name)
        return value

    def read(self, settings: Settings) -> Any:
        """Its value in `settings`, in types that JSON has."""
        value = self.get(settings)
        if self.is_map:
            return dict(value)
        return list(value) if self.is_list else value

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.replace(".", "_").upper()


@dataclass(frozen=True)
class InForce:
    """The settings, and where each comes from ("default", a file's place, a variable, a flag)."""

    settings: Settings
    origins: Mapping[str, str]


def parse_path(text: str) -> str:
    if not text:
        raise ValueError("a path is wanted, such as /var/lib/ya-salt")
    if not text.isprintable():
        # It would break lines of the log, of tables, of what people copy.
        raise ValueError(f"{text!r} holds a line break or another control character; rename it")
    return os.path.abspath(text)  # noqa: PTH100 - Path.absolute() keeps "..", resolve() follows links


def parse_socket(text: str) -> str:
    path = parse_path(text)
    if len(path.encode()) > _SOCKET_MAX_BYTES:
        raise ValueError(f"a unix socket's path has at most {_SOCKET_MAX_BYTES} bytes")
    return path


def parse_notify_dir(text: str) -> str:
    path = parse_path(text)
    if len(path.encode()) > _NOTIFY_MAX_BYTES or set(path) & set(" ;"):
        raise ValueError(
            f"the sockets of daemons lie in it, so it has at most {_NOTIFY_MAX_BYTES} bytes, "
            "without blanks and semicolons"
        )
    return path


def parse_count(text: str, low: int, high: int) -> int:
    if not text.isdecimal() or not low <= int(text) <= high:
        raise ValueError(f"{text!r} is not a whole number from {low} to {high}")
    return int(text)


def _count(low: int, high: int) -> Callable[[str], int]:
    return partial(parse_count, low=low, high=high)


def parse_switch(text: str) -> bool:
    known = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if text.lower() not in known:
        raise ValueError(f"{text!r} is neither true nor false")
    return known[text.lower()]


def parse_word(text: str) -> str:
    if not text.isprintable() or len(text) > 250:
        raise ValueError(f"{text[:40]!r} is not one line of at most 250 characters")
    return text


def parse_read_group(text: str) -> str:
    if text and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}\$?", text, re.ASCII):
        raise ValueError(f"{text[:40]!r} is not the name of a group")
    return text


def parse_hostname(text: str) -> str:
    if (
        not text.isascii()
        or not 0 < len(text) <= 253
        or not all(char.isalnum() or char in "-_.:" for char in text)
    ):
        raise ValueError(f"{text[:40]!r} is not a host name")
    return text


def parse_url(text: str) -> str:
    wrong = ValueError(f"{text[:200]!r} is not a URL such as http://localhost:9093/")
    try:
        parts = urlsplit(text)
        is_right = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError as error:
        raise wrong from error
    if not is_right or "@" in parts.netloc or not text.isascii() or not text.isprintable():
        raise wrong
    return text


def parse_url_or_nothing(text: str) -> str:
    return parse_url(text) if text else text


def parse_tag(text: str) -> str:
    if (
        not text.isascii()
        or not 0 < len(text) <= 128
        or not all(char.isalnum() or char in "-_.@/" for char in text)
    ):
        raise ValueError(f"{text[:40]!r} is not a tag: letters, digits and -_.@/ make one")
    return text


GATE_TYPES = ("none", "orly", "fleetlock")


def parse_gate_type(text: str) -> str:
    if text not in GATE_TYPES:
        raise ValueError(f"{text[:40]!r} is not one of none, orly, fleetlock")
    return text


def parse_prefix(text: str) -> str:
    if not re.fullmatch(r"(/?[A-Za-z0-9._-]+)+/?", text) or len(text) > 250:
        raise ValueError(f"{text[:40]!r} is not a prefix of keys such as /orly/")
    return text.rstrip("/") + "/"


def parse_fact(text: str) -> str:
    if not text or not text.isprintable() or len(text) > 250 or "," in text:
        raise ValueError(f"{text[:40]!r} is not a fact: one line without commas, at most 250 long")
    return text


def parse_group(text: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9.-]+", text):
        raise ValueError(
            f"{text[:40]!r} is not a group of FleetLock: letters, digits, dots, dashes"
        )
    return text


SETTINGS = (
    *(
        Setting(
            flag.name,
            parse_socket if flag.name == "porto_socket" else parse_path,
            flag.help,
            has_flag=True,
        )
        for flag in FLAGS
    ),
    Setting("notify_dir", parse_notify_dir, "where the sockets of readiness.notify are"),
    Setting("interval_s", _count(1, 86400), "seconds between the agent's full passes"),
    Setting("parallel", _count(1, 64), "daemons worked on side by side"),
    Setting("lock_timeout_s", _count(0, 86400), "seconds to wait for another apt or dpkg"),
    Setting("script_timeout_s", _count(1, 86400), "seconds a maintainer script may take"),
    Setting("stop_timeout_s", _count(0, 86400), "seconds for dpkg to end after SIGTERM"),
    Setting("package_cache_bytes", _count(0, 1 << 44), "bound of the cache of .deb files"),
    Setting(
        "packages_policy.allow_removals",
        check_package_name,
        "packages that apt may remove, downgrade or upgrade though no spec names them",
        is_list=True,
    ),
    Setting(
        "read_group",
        parse_read_group,
        "group whose members may read how daemons stand without root; nobody where it is empty",
    ),
    Setting("hostname", parse_hostname, "the host's name in monitoring; its FQDN unless set"),
    Setting("monitoring.yasm.enabled", parse_switch, "push signals to YASM's agent"),
    Setting("monitoring.yasm.url", parse_url, "where YASM's agent listens"),
    Setting("monitoring.yasm.tags", parse_tag, "tags of the signals", is_map=True),
    Setting("monitoring.yasm.ttl_s", _count(1, 86400), "seconds that a value is shown"),
    Setting("monitoring.juggler.enabled", parse_switch, "push events to Juggler's client"),
    Setting("monitoring.juggler.url", parse_url, "where Juggler's client listens"),
    Setting("monitoring.juggler.source", parse_word, "who the events say they come from"),
    Setting("monitoring.juggler.instance", parse_word, "instance of the events"),
    Setting("monitoring.prometheus.enabled", parse_switch, "write a file for node_exporter"),
    Setting(
        "monitoring.prometheus.textfile_dir",
        parse_path,
        "node_exporter's textfile directory; nothing is written where it does not exist",
    ),
    Setting("monitoring.alertmanager.enabled", parse_switch, "send alerts where there is a URL"),
    Setting("monitoring.alertmanager.url", parse_url_or_nothing, "an Alertmanager (API v2)"),
    Setting("gate.type", parse_gate_type, "whom to ask before a running daemon is disturbed"),
    Setting("gate.endpoints", parse_url, "URLs of etcd, or of one FleetLock server", is_list=True),
    Setting("gate.prefix", parse_prefix, "begins all keys in etcd"),
    Setting("gate.username", parse_word, "our user there"),
    Setting("gate.password_file", parse_path, "file with the user's password, root's alone"),
    Setting("gate.ca_file", parse_path, "CA certificates (PEM) for https, if not the system's"),
    Setting("gate.cert_file", parse_path, "our certificate (PEM)"),
    Setting("gate.key_file", parse_path, "our certificate's key (PEM)"),
    Setting("gate.facts", parse_fact, "what selectors of rules look at", is_map=True),
    Setting("gate.group", parse_group, "FleetLock's group; one a daemon unless set"),
)


def load_settings(
    flags: Mapping[str, str],
    environment: Mapping[str, str],
    config: str | None = None,
    overrides: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
) -> InForce:
    """Read everything. `flags` and `config` hold only what was given. Raises SettingsError.

    `overrides` are plain data that go over the settings file, by where they come from (Salt's
    configuration, its pillar), later ones over earlier ones.
    """
    path = _name_file(environment, config)
    settings = Settings()
    origins = {setting.name: "default" for setting in SETTINGS}
    known = {setting.name: setting for setting in SETTINGS}
    sources = (
        _read_file(path or DEFAULT_FILE, is_required=path is not None),
        *(_read_plain(origin, data) for origin, data in overrides.items()),
        _read_environment(environment),
        _read_flags(flags),
    )
    # Where a value that differs from those before it comes from; a variable is as good as a flag.
    rank = dict.fromkeys(known, 0)
    for number, source in enumerate(sources, 1):
        for name, (value, origin) in source.items():
            if value != known[name].get(settings):
                rank[name] = min(number, len(sources) - 1)
            settings = _put(settings, known[name].fields, value)
            origins[name] = origin
    _check_gate(settings, origins)
    return _spare_textfile(InForce(settings, origins), rank)


def find_settings_file(environment: Mapping[str, str], config: str | None = None) -> str:
    """The path of the settings file that `load_settings` reads, whether it is there or not."""
    return _name_file(environment, config) or DEFAULT_FILE


def _name_file(environment: Mapping[str, str], config: str | None) -> str | None:
    return config or environment.get(CONFIG_VARIABLE)


def _spare_textfile(in_force: InForce, rank: Mapping[str, int]) -> InForce:
    """Write no textfile for a trial: its daemons are not the host's.

    A trial has another package root or state directory, named over the textfile directory in force.
    """
    settings, default = in_force.settings, Settings()
    for name in ("root", "state_dir"):
        is_other = getattr(settings, name) != getattr(default, name)
        if is_other and rank[name] > rank[_TEXTFILE_DIR]:
            off = PrometheusSettings(enabled=False, textfile_dir="")
            said = f"off, as {name} is another ({in_force.origins[name]})"
            told = {_TEXTFILE_DIR: said, "monitoring.prometheus.enabled": said}
            monitoring = replace(settings.monitoring, prometheus=off)
            return InForce(replace(settings, monitoring=monitoring), {**in_force.origins, **told})
    return in_force


def _check_gate(settings: Settings, origins: Mapping[str, str]) -> None:
    """What is wrong only together. Raises SettingsError."""
    gate = settings.gate
    if gate.type != "none" and not gate.endpoints:
        raise SettingsError(
            f"{origins['gate.type']}: gate.type: {gate.type} wants gate.endpoints, the URLs to ask"
        )
    for one, other in (("cert_file", "key_file"), ("username", "password_file")):
        for name, needed in ((one, other), (other, one)):
            if getattr(gate, name) and not getattr(gate, needed):
                raise SettingsError(
                    f"{origins['gate.' + name]}: gate.{name}: it is of no use without gate.{needed}"
                )


def _put(group: Any, way: tuple[str, ...], value: object) -> Any:
    """A copy of a dataclass in which the field at the end of `way` has `value`."""
    first, *rest = way
    inner = _put(getattr(group, first), tuple(rest), value) if rest else value
    return replace(group, **{first: inner})


_Found = dict[str, tuple[Any, str]]


def _read_environment(environment: Mapping[str, str]) -> _Found:
    found: _Found = {}
    known = {setting.variable: setting for setting in SETTINGS}
    for variable, text in sorted(environment.items()):
        origin = f"environment {variable}"
        if variable in known:
            setting = known[variable]
            found[setting.name] = (parse_text(setting, text, origin), origin)
        elif _is_unknown(variable):
            raise SettingsError(f"{ascii(origin)[1:-1]}: {_suggest_variable(variable, known)}")
    return found


def _is_unknown(variable: str) -> bool:
    is_ours = variable.startswith(ENVIRONMENT_PREFIX) and not variable.startswith(_TEST_PREFIX)
    return is_ours and variable != CONFIG_VARIABLE


def _read_flags(flags: Mapping[str, str]) -> _Found:
    found: _Found = {}
    for setting in SETTINGS:
        if setting.name in flags:
            origin = "flag --" + setting.name.replace("_", "-")
            found[setting.name] = (parse_text(setting, flags[setting.name], origin), origin)
    return found


def parse_text(setting: Setting, text: str, origin: str) -> Any:
    """The value of a variable's or a flag's text. Raises SettingsError that names `origin`."""
    try:
        if setting.is_map:
            return _parse_map(setting, text)
        if setting.is_list:
            return tuple(setting.parse(item.strip()) for item in text.split(",") if item.strip())
        return setting.parse(text)
    except ValueError as error:
        raise SettingsError(f"{origin}: {error}") from error


def _parse_map(setting: Setting, text: str) -> dict[str, str]:
    """`KEY=VALUE,KEY=VALUE`, as a variable has it."""
    found: dict[str, str] = {}
    for item in text.split(","):
        key, sign, value = item.strip().partition("=")
        if not sign:
            raise ValueError(f"{item!r} is not KEY=VALUE; write KEY=VALUE,KEY=VALUE")
        found[setting.parse(key)] = setting.parse(value)
    return found


def _read_file(path: str, *, is_required: bool) -> _Found:
    text = _read_text(path, is_required=is_required)
    if not text:
        return {}
    from ya_salt.specs.yaml_tree import read_yaml

    tree = read_yaml(text)
    problems = [f"{path}:{c.place.line}:{c.place.column}: {c.message}" for c in tree.diagnostics]
    found: _Found = {}
    if isinstance(tree.root, MapNode):
        _read_mapping(path, "", tree.root, found, problems)
    elif tree.root is not None and not problems:
        problems.append(f"{path}:1:1: settings are a mapping of names to values")
    if problems:
        raise SettingsError("\n".join(problems))
    return found


def _read_plain(origin: str, data: Mapping[str, object]) -> _Found:
    """Settings from data that somebody else has parsed, by the same names and rules as a file's."""
    found: _Found = {}
    problems: list[str] = []
    _read_mapping(origin, "", _make_node(data), found, problems)
    if problems:
        said = (problem.removeprefix(f"{origin}:1:1: ") for problem in problems)
        raise SettingsError("\n".join(f"{origin} porto_daemons: {problem}" for problem in said))
    return {name: (value, origin) for name, (value, _) in found.items()}


def _make_node(value: object) -> Any:
    if isinstance(value, Mapping):
        entries = [(Scalar(START, str(key)), _make_node(item)) for key, item in value.items()]
        return MapNode(START, entries)
    if isinstance(value, list | tuple):
        return ListNode(START, [_make_node(item) for item in value])
    if value is None:
        return Scalar(START, "", "null")
    return Scalar(START, str(value).lower() if isinstance(value, bool) else str(value))


def _read_text(path: str, *, is_required: bool) -> str:
    try:
        with os.fdopen(open_trusted(path), "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        if is_required:
            raise SettingsError(f"{path}: there is no such settings file") from error
        return ""
    except UntrustedError as error:
        # Whoever can write it says which dpkg root is used, and so what runs as root.
        raise SettingsError(f"the settings file cannot be trusted: {error}") from error
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {explain(error)}") from error
    if len(data) > _MAX_BYTES:
        raise SettingsError(f"{path}: is over 1 MiB; settings are a few lines")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: is not UTF-8 at byte {error.start}") from error


def _read_mapping(
    path: str, parent: str, node: MapNode, found: _Found, problems: list[str]
) -> None:
    known = {setting.name: setting for setting in SETTINGS}
    seen: set[str] = set()
    for key, value in node.entries:
        name = parent + key.text
        place = f"{path}:{key.place.line}:{key.place.column}"
        if name in seen:
            problems.append(f"{place}: {name}: it is set twice; keep one")
        elif name in known:
            try:
                found[name] = (_read_value(known[name], value), place)
            except ValueError as error:
                problems.append(f"{place}: {name}: {error}")
        elif isinstance(value, MapNode) and any(other.startswith(f"{name}.") for other in known):
            _read_mapping(path, f"{name}.", value, found, problems)
        else:
            problems.append(f"{place}: {name}: {_suggest(name, known)}")
        seen.add(name)


def _read_value(setting: Setting, node: Node) -> Any:
    if setting.is_map:
        if not isinstance(node, MapNode):
            raise ValueError("a mapping is wanted")
        return {
            setting.parse(key.text): setting.parse(_scalar_text(value))
            for key, value in node.entries
        }
    if setting.is_list:
        if not isinstance(node, ListNode):
            raise ValueError("a list is wanted")
        return tuple(setting.parse(_scalar_text(item)) for item in node.items)
    return setting.parse(_scalar_text(node))


def _scalar_text(node: Node) -> str:
    if not isinstance(node, Scalar) or node.kind == "null":
        raise ValueError("one value is wanted")
    return node.text


def _suggest_variable(variable: str, known: Collection[str]) -> str:
    # What all of them begin with would make any two look alike.
    start = len(ENVIRONMENT_PREFIX)
    names = [name[start:] for name in (*known, CONFIG_VARIABLE)]
    return _suggest(variable[start:], names, ENVIRONMENT_PREFIX)


def _suggest(name: str, known: Collection[str], prefix: str = "") -> str:
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    hint = (
        f"did you mean {prefix}{near[0]}?"
        if near
        else f"known are {', '.join(prefix + name for name in sorted(known))}"
    )
    return f"there is no such setting; {hint}"
