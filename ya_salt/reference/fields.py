"""Every field of spec files, rules and settings, in one tree made from the tables that check them.

Pure. For `ya-salt explain`, for JSON Schema, for completion; no pass loads any of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal

from ya_salt.gate import rule_file
from ya_salt.model import Settings
from ya_salt.porto import values
from ya_salt.porto.properties import LIVE_IN_NAME_ONLY, NEEDS_SUPPORT, PROPERTIES, Property
from ya_salt.quick_dataclass import dataclass, field
from ya_salt.reference import words
from ya_salt.reference.kinds import Kind, find_kind, quoted
from ya_salt.reference.words import FROM_NOW_ON, LIVE, RESTART, Words
from ya_salt.settings import SETTINGS, Setting
from ya_salt.specs import behaviour, daemon

Shape = Literal["one", "list", "list or one", "map", "map of lists", "group", "list of groups"]


@dataclass(frozen=True)
class PortoSide:
    """A property as portod knows it: its name, and the text that the example becomes."""

    name: str
    text: str


@dataclass(frozen=True)
class Field:
    """One field. `path` is how people name it: `spec.packages.version`, `settings.gate.type`."""

    path: str
    meaning: str
    shape: Shape = "one"
    kind: Kind | None = None
    """Of each single value; None for groups."""
    key: Kind | None = None
    """Of the names in a map."""
    default: str = ""
    is_required: bool = False
    change: str = ""
    """What becomes of a running daemon when it is changed."""
    needs: str = ""
    in_host: tuple[str, ...] | None = None
    """Of a property: all that it may be with virt_mode host; None: whatever it may be at all."""
    example: str = ""
    """YAML of its value."""
    porto: PortoSide | None = None
    joint: str = ""
    """A list may also be one text: what stands between its entries there."""
    children: tuple[Field, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def is_group(self) -> bool:
        return self.shape in ("group", "list of groups")

    @property
    def unit(self) -> str:
        """In what a number is counted."""
        own = words.PROPERTY_UNITS.get(self.name) if self.porto else None
        by_name = [unit for end, unit in words.UNITS_BY_ENDING.items() if self.name.endswith(end)]
        return own or (self.kind.unit if self.kind else "") or "".join(by_name[:1])

    @property
    def type(self) -> str:
        """What it is, in a word or two."""
        if self.is_group or self.kind is None:
            return {"group": "mapping", "list of groups": "list of mappings"}.get(self.shape, "")
        return {
            "one": self.kind.words,
            "list": f"list, each {self.kind.words}",
            "list or one": f"list, or one; each {self.kind.words}",
            "map": f"mapping, each {self.kind.words}",
            "map of lists": f"mapping of lists, or of single values; each {self.kind.words}",
        }[self.shape]


@lru_cache(maxsize=1)
def list_roots() -> tuple[Field, ...]:
    """The spec file's two parts, a rule, and the settings."""
    return (*SPEC.children, RULE, SETTINGS_FILE)


def walk(roots: Iterable[Field]) -> Iterable[Field]:
    """Them, and everything in them, each before what it holds."""
    for item in roots:
        yield item
        yield from walk(item.children)


def read_yaml_value(text: str) -> Any:
    """An example as data."""
    import yaml  # noqa: PLC0415 - whoever makes a schema shows no example

    return yaml.safe_load(text)


# -- spec files ----------------------------------------------------------------------------------

_Table = Mapping[str, Words]


def _make(
    table: _Table, path: str, parse: Callable[..., Any], *, shape: Shape = "one", **more: Any
) -> Field:
    said = table[path]
    kind = find_kind(parse)
    if more.pop("is_text", False):
        kind = quoted(kind)
    return Field(
        path,
        said.meaning,
        shape,
        kind,
        default=said.default,
        change=said.change,
        example=said.example,
        **more,
    )


def _group(
    table: _Table, path: str, children: Iterable[Field], *, shape: Shape = "group", **more: Any
) -> Field:
    said = table[path]
    return Field(
        path,
        said.meaning,
        shape,
        default=said.default,
        change=said.change,
        children=tuple(children),
        **more,
    )


def _read(
    table: _Table,
    parent: str,
    parsers: Mapping[str, Callable[[str], Any]],
    required: Iterable[str] = (),
    texts: Iterable[str] = (),
) -> dict[str, Field]:
    """The fields of a table of parsers."""
    return {
        name: _make(
            table,
            f"{parent}.{name}",
            parse,
            is_required=name in required,
            is_text=name in texts,
        )
        for name, parse in parsers.items()
    }


def _order(fields: Mapping[str, Field], names: Iterable[str]) -> list[Field]:
    """In the order of the document; KeyError where the two name different fields."""
    found = [fields[name] for name in names]
    if len(found) != len(fields):
        raise KeyError(*(fields.keys() - {item.name for item in found}))
    return found


def _make_spec() -> Field:
    table = words.SPEC
    meta = _read(table, "meta", daemon.META_PARSERS, ("name",), daemon.QUOTED)
    meta["annotations"] = _make(table, "meta.annotations", str, shape="map", key=find_kind(str))
    spec = _read(table, "spec", daemon.SPEC_PARSERS)
    spec["properties"] = _group(
        table,
        "spec.properties",
        (_make_cmd(), _make_command(), *map(_make_property, PROPERTIES.values())),
        is_required=True,
    )
    packages = _read(
        table, "spec.packages", daemon.PACKAGE_PARSERS, ("name", "version"), daemon.QUOTED
    )
    spec["packages"] = _group(
        table,
        "spec.packages",
        _order(packages, daemon.PACKAGE_FIELDS),
        shape="list of groups",
    )
    spec |= _make_behaviour()
    return Field(
        "",
        "A spec file: one daemon.",
        "group",
        children=(
            _group(table, "meta", _order(meta, daemon.META_FIELDS), is_required=True),
            _group(table, "spec", _order(spec, daemon.SPEC_FIELDS), is_required=True),
        ),
    )


def _make_behaviour() -> dict[str, Field]:
    table = words.SPEC
    http = _read(table, "spec.readiness.http", behaviour.HTTP_PARSERS, ("port",))
    readiness = _read(table, "spec.readiness", behaviour.READINESS_PARSERS)
    readiness["exec"] = _make(table, "spec.readiness.exec", values.check_argument, shape="list")
    readiness["http"] = _group(table, "spec.readiness.http", _order(http, behaviour.HTTP_FIELDS))
    update = _read(table, "spec.update", behaviour.UPDATE_PARSERS)
    update["state"] = _make(
        table, "spec.update.state", behaviour.check_state, shape="list", is_text=True
    )
    watch = _read(table, "spec.watch", behaviour.WATCH_PARSERS)
    return {
        "readiness": _group(table, "spec.readiness", _order(readiness, behaviour.READINESS_FIELDS)),
        "update": _group(table, "spec.update", _order(update, behaviour.UPDATE_FIELDS)),
        "watch": _group(
            table,
            "spec.watch",
            _order(watch, behaviour.WATCH_FIELDS),
            shape="list of groups",
        ),
        "after": _make(
            table, "spec.after", daemon.META_PARSERS["name"], shape="list", is_text=True
        ),
        "drift": _make(table, "spec.drift", behaviour.parse_drift),
    }


def _make_cmd() -> Field:
    path = "spec.properties.cmd"
    example = words.SPEC[path].example
    argv = tuple(str(item) for item in read_yaml_value(example))
    return _make(
        words.SPEC,
        path,
        values.check_argument,
        shape="list",
        is_required=True,
        porto=PortoSide("command_argv", values.parse_argv(argv)),
    )


def _make_command() -> Field:
    path = "spec.properties.command"
    text = values.parse_command(words.SPEC[path].example)
    return _make(words.SPEC, path, values.parse_command, porto=PortoSide("command", text))


def _make_property(row: Property) -> Field:
    meaning, _, default = row.meaning.partition("Default: ")
    example = find_property_example(row)
    needs = ["a kernel or portod that has it"] if row.name in NEEDS_SUPPORT else []
    needs += [row.needs] if row.needs else []
    needs += [f"controller {row.controller}"] if row.controller else []
    return Field(
        f"spec.properties.{row.name}",
        _plain(meaning),
        row.shape,
        find_kind(row.parse),
        find_kind(row.check_key) if row.check_key else None,
        _plain(default).removesuffix(".") or _say_off(row),
        change=_say_change(row),
        needs=_plain(", ".join(needs)),
        in_host=row.in_host,
        example=example,
        porto=PortoSide(row.name, _tell(row, read_yaml_value(example))),
        joint=row.joint if row.shape == "list" else "",
    )


def _plain(text: str) -> str:
    return text.replace("`", "").strip()


def _say_off(row: Property) -> str:
    if row.off is None or row.shape != "one":
        return "Porto's own"
    return f"{row.off}: none" if row.off in {"0", "0c"} else row.off


def _say_change(row: Property) -> str:
    if row.name in LIVE_IN_NAME_ONLY:
        return f"{RESTART} ({LIVE_IN_NAME_ONLY[row.name]})"
    return LIVE if row.live else RESTART


def find_property_example(row: Property) -> str:
    """YAML of a value that a spec may have."""
    if row.name in words.PROPERTY_EXAMPLES:
        return words.PROPERTY_EXAMPLES[row.name]
    choices = find_kind(row.parse).choices
    if choices:
        return next(word for word in choices if word != row.off)
    return words.KIND_EXAMPLES[row.kind]


def _tell(row: Property, example: Any) -> str:
    """What portod is told of it."""
    if isinstance(example, dict):
        return "; ".join(
            f"{row.name}[{key}] = {_tell_one(row, one)}" for key, one in example.items()
        )
    if isinstance(example, list):
        return row.joint.join(_tell_one(row, one) for one in example)
    return _tell_one(row, example)


def _tell_one(row: Property, value: Any) -> str:
    if row.is_secret:
        return "***"
    return row.parse(str(value).lower() if isinstance(value, bool) else str(value))


# -- rules ---------------------------------------------------------------------------------------


def _make_rule() -> Field:
    table = words.RULE
    meta = _read(table, "rule.meta", rule_file.META_PARSERS, ("name",), rule_file.QUOTED)
    meta["annotations"] = _make(
        table, "rule.meta.annotations", str, shape="map", key=find_kind(str)
    )
    spec = _read(table, "rule.spec", rule_file.SPEC_PARSERS, ("max_concurrent",))
    rate = _read(table, "rule.spec.rate", rule_file.RATE_PARSERS, rule_file.RATE_FIELDS)
    freeze = _read(
        table, "rule.spec.freeze", rule_file.FREEZE_PARSERS, ("from", "to"), rule_file.QUOTED
    )
    windows = _read(table, "rule.spec.windows", rule_file.WINDOW_PARSERS, ("from", "to"))
    windows["days"] = _make(
        table, "rule.spec.windows.days", rule_file.WINDOW_PARSERS["days"], shape="list or one"
    )
    spec |= {
        "rate": _group(table, "rule.spec.rate", _order(rate, rule_file.RATE_FIELDS)),
        "selector": _make(
            table,
            "rule.spec.selector",
            rule_file.parse_fact,
            shape="map of lists",
            key=find_kind(rule_file.parse_fact),
            is_text=True,
        ),
        "freeze": _group(
            table,
            "rule.spec.freeze",
            _order(freeze, rule_file.FREEZE_FIELDS),
            shape="list of groups",
        ),
        "windows": _group(
            table,
            "rule.spec.windows",
            _order(windows, rule_file.WINDOW_FIELDS),
            shape="list of groups",
        ),
    }
    return Field(
        "rule",
        "A rule: how changes of one daemon may go through the fleet. `orlyctl apply-rule` puts it"
        " in force.",
        "group",
        children=(
            _group(table, "rule.meta", _order(meta, rule_file.META_FIELDS), is_required=True),
            _group(table, "rule.spec", _order(spec, rule_file.SPEC_FIELDS), is_required=True),
        ),
    )


# -- settings ------------------------------------------------------------------------------------


def _make_settings() -> Field:
    return Field(
        "settings",
        "The settings file, /etc/hostman/ya-salt.yaml. Variables and flags go over it.",
        "group",
        children=tuple(_make_settings_in("settings")),
    )


def _make_settings_in(parent: str) -> Iterable[Field]:
    depth = parent.count(".") + 1
    done = set()
    for setting in SETTINGS:
        path = f"settings.{setting.name}"
        if not path.startswith(f"{parent}."):
            continue
        own = ".".join(path.split(".")[: depth + 1])
        if own == path:
            yield _make_setting(setting)
        elif own not in done:
            done.add(own)
            meaning = words.SETTINGS_GROUPS[own]
            yield Field(own, meaning, "group", children=tuple(_make_settings_in(own)))


def _make_setting(setting: Setting) -> Field:
    kind = find_kind(setting.parse)
    shape: Shape = "list" if setting.is_list else "map" if setting.is_map else "one"
    value = setting.read(Settings())
    default = json.dumps(value) if isinstance(value, list | dict | bool | int) else value
    return Field(
        f"settings.{setting.name}",
        setting.help[0].upper() + setting.help[1:] + ".",
        shape,
        kind,
        kind if setting.is_map else None,
        default if value or value is False or value == 0 else "none",
        change=FROM_NOW_ON,
        example=words.SETTING_EXAMPLES.get(setting.name) or default,
    )


SPEC = _make_spec()
RULE = _make_rule()
SETTINGS_FILE = _make_settings()
