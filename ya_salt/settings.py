"""Read the configuration, in one place: defaults, the settings file, the environment, flags.

Later ones go over earlier ones. Whatever cannot be used is an error that names its place; an
unknown key is an error too, as a misspelt setting that is silently ignored surprises at night.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ya_salt.errors import SettingsError
from ya_salt.model import Settings
from ya_salt.specfile.nodes import ListNode, MapNode, Node, Scalar
from ya_salt.specfile.yamlnodes import read_yaml

DEFAULT_FILE = "/etc/hostman/ya-salt.yaml"
ENVIRONMENT_PREFIX = "YA_SALT_"
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Setting:
    """One key of the settings file."""

    name: str
    """As in the file, with a dot where it stands in a mapping of its own."""
    parse: Callable[[str], Any]
    help: str
    is_list: bool = False
    has_flag: bool = False

    @property
    def field(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.replace(".", "_").upper()


@dataclass(frozen=True)
class InForce:
    """The settings, and where each comes from ("default", a file's place, a variable, a flag)."""

    settings: Settings
    origins: Mapping[str, str]


def _parse_path(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("a path is wanted, such as /var/lib/ya-salt")
    return os.path.abspath(text)  # noqa: PTH100 - Path.absolute() keeps "..", resolve() follows links


def _parse_count(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise ValueError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return parse


def _parse_package(text: str) -> str:
    if not text or not all(char.isalnum() or char in "+-.:" for char in text) or text[0] in "+-.":
        raise ValueError(f"{text!r} is no Debian package name")
    return text


SETTINGS = (
    Setting("specs_dir", _parse_path, "the daemons directory", has_flag=True),
    Setting("state_dir", _parse_path, "where what must outlive a pass is kept", has_flag=True),
    Setting("porto_socket", _parse_path, "portod's socket", has_flag=True),
    Setting(
        "root",
        _parse_path,
        "packages only: DIR/etc/apt and DIR/var/lib/dpkg are used, missing folders made",
        has_flag=True,
    ),
    Setting("log_file", _parse_path, "the log", has_flag=True),
    Setting("parallel", _parse_count(1, 64), "daemons worked on side by side"),
    Setting("lock_timeout_s", _parse_count(0, 86400), "seconds to wait for another apt or dpkg"),
    Setting("script_timeout_s", _parse_count(1, 86400), "seconds a maintainer script may take"),
    Setting("package_cache_bytes", _parse_count(0, 1 << 44), "bound of the cache of .deb files"),
    Setting(
        "packages_policy.allow_removals",
        _parse_package,
        "packages that apt may remove, downgrade or upgrade though no spec names them",
        is_list=True,
    ),
)


def load_settings(
    flags: Mapping[str, str], environment: Mapping[str, str], config: str | None = None
) -> InForce:
    """Read everything. `flags` and `config` hold only what was given. Raises SettingsError."""
    path = config or environment.get(f"{ENVIRONMENT_PREFIX}CONFIG")
    values: dict[str, Any] = {}
    origins = {setting.name: "default" for setting in SETTINGS}
    sources = (
        _read_file(path or DEFAULT_FILE, is_required=path is not None),
        _read_environment(environment),
        _read_flags(flags),
    )
    for source in sources:
        for name, (value, origin) in source.items():
            values[name.rpartition(".")[2]] = value
            origins[name] = origin
    return InForce(replace(Settings(), **values), origins)


_Found = dict[str, tuple[Any, str]]


def _read_environment(environment: Mapping[str, str]) -> _Found:
    found: _Found = {}
    for setting in SETTINGS:
        text = environment.get(setting.variable)
        if text is not None:
            origin = f"environment {setting.variable}"
            found[setting.name] = (_parse_text(setting, text, origin), origin)
    return found


def _read_flags(flags: Mapping[str, str]) -> _Found:
    found: _Found = {}
    for setting in SETTINGS:
        if setting.name in flags:
            origin = "flag --" + setting.name.replace("_", "-")
            found[setting.name] = (_parse_text(setting, flags[setting.name], origin), origin)
    return found


def _parse_text(setting: Setting, text: str, origin: str) -> Any:
    try:
        if setting.is_list:
            return tuple(setting.parse(item.strip()) for item in text.split(",") if item.strip())
        return setting.parse(text)
    except ValueError as error:
        raise SettingsError(f"{origin}: {error}") from error


def _read_file(path: str, *, is_required: bool) -> _Found:
    text = _read_text(path, is_required=is_required)
    tree = read_yaml(text)
    problems = [f"{path}:{c.place.line}:{c.place.column}: {c.message}" for c in tree.complaints]
    found: _Found = {}
    if isinstance(tree.root, MapNode):
        _read_mapping(path, "", tree.root, found, problems)
    elif tree.root is not None and not problems:
        problems.append(f"{path}:1:1: settings are a mapping of names to values")
    if problems:
        raise SettingsError("\n".join(problems))
    return found


def _read_text(path: str, *, is_required: bool) -> str:
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        if is_required:
            raise SettingsError(f"{path}: there is no such settings file") from error
        return ""
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
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
    if setting.is_list:
        if not isinstance(node, ListNode):
            raise ValueError("a list is wanted")
        return tuple(setting.parse(_scalar_text(item)) for item in node.items)
    return setting.parse(_scalar_text(node))


def _scalar_text(node: Node) -> str:
    if not isinstance(node, Scalar) or node.kind == "null":
        raise ValueError("one value is wanted")
    return node.text


def _suggest(name: str, known: Mapping[str, Setting]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
    return f"there is no such setting; {hint}"
