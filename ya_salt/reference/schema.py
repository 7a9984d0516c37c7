"""JSON Schema (draft-07) of spec files, rules and settings, made from the tree of fields. Pure.

A schema never refuses a file that `validate` takes; what it cannot see (sums, other fields' values,
the YAML behind a value) is listed by the tests with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ya_salt.porto.properties import PROPERTIES
from ya_salt.porto.values import parse_command
from ya_salt.reference import fields
from ya_salt.reference.fields import Field
from ya_salt.reference.kinds import Kind, Schema, find_kind
from ya_salt.specs.checks import camel

DRAFT = "http://json-schema.org/draft-07/schema#"
FOLDER = "/usr/share/ya-salt/schemas"
"""Where the Debian package has them."""

TITLES: Mapping[str, str] = {
    "spec": "A spec file of ya-salt: one daemon",
    "rule": "A rule of ya-salt's rollout gate",
    "settings": "The settings of ya-salt",
}


def make_schema(what: str) -> Schema:
    """`what` is a key of TITLES."""
    makers = {"spec": _make_spec, "rule": _make_rule, "settings": _make_settings}
    return {"$schema": DRAFT, "title": TITLES[what], **makers[what]()}


# -- whole files ---------------------------------------------------------------------------------


def _make_spec() -> Schema:
    schema = _group(fields.SPEC)
    schema["required"] = ["meta"]
    # Who is to be removed needs no spec, and none of what one needs.
    removed = {
        "required": ["meta"],
        "properties": {"meta": _has("delete_requested", _is_true())},
    }
    whole = {
        "required": ["spec"],
        "properties": {
            "spec": {"required": ["properties"], "properties": {"properties": _HAS_CMD}}
        },
    }
    schema["anyOf"] = [whole, removed]
    spec = schema["properties"]["spec"]
    spec.pop("required")
    properties = spec["properties"]["properties"]
    properties.pop("required")
    known = properties["properties"]
    told = {name: known["cmd"].pop(name) for name in ("description", "examples")}
    # A list, or one text as Porto splits it.
    known["cmd"] = {**told, "anyOf": [known["cmd"], find_kind(parse_command).make_schema()]}
    properties["allOf"] = [
        {"not": {"required": ["cmd", "command"]}},
        {"if": _HOST_MODE, "then": _make_host_mode()},
    ]
    readiness = spec["properties"]["readiness"]
    ways = ("exec", "tcp", "http")
    speaks = _has("notify", _is_true())
    readiness["oneOf"] = [*({"required": [way]} for way in ways), speaks]
    readiness["if"] = speaks
    readiness["then"] = _lacks("period_s", "timeout_s", "failure_threshold")
    readiness["else"] = _lacks("watchdog_s")
    watch = spec["properties"]["watch"]["items"]
    watch["oneOf"] = [{"required": ["path"]}, _has("conffiles", _is_true())]
    watch["oneOf"][0]["properties"] = {"conffiles": {"not": _is_true()}}
    watch["dependencies"].update({name: ["signal"] for name in ("splay_s", "splayS")})
    return schema


def _lacks(*names: str) -> Schema:
    spellings = [word for name in names for word in dict.fromkeys((name, camel(name)))]
    return {"not": {"anyOf": [{"required": [word]} for word in spellings]}}


_HAS_CMD: Schema = {"anyOf": [{"required": ["cmd"]}, {"required": ["command"]}]}
_HOST_MODE: Schema = {
    "anyOf": [
        {"required": [name], "properties": {name: {"const": "host"}}}
        for name in ("virt_mode", "virtMode")
    ]
}


def _make_host_mode() -> Schema:
    """What portod takes and then does not start with virt_mode host."""
    found: Schema = {}
    for row in PROPERTIES.values():
        if row.in_host is None:
            continue
        if row.json == "boolean":
            one: Any = {"not": _is_true()}
        elif row.in_host:
            one = {"enum": [*row.in_host, *([word] for word in row.in_host)]}
        else:
            one = False
        found |= dict.fromkeys((row.name, camel(row.name)), one)
    return {"properties": found}


def _make_rule() -> Schema:
    schema = _group(fields.RULE)
    spec = schema["properties"]["spec"]
    # Where failures do not halt, no number of them does.
    halts = [_has("halt_on_failure", {"not": _is_true()})]
    counts = [{"required": [name]} for name in ("max_failures", "maxFailures")]
    spec["allOf"] = [*spec.get("allOf", ()), {"not": {"allOf": [*halts, {"anyOf": counts}]}}]
    spec["properties"]["selector"]["minProperties"] = 1
    for name in ("freeze", "windows"):
        spec["properties"][name]["minItems"] = 1
    spec["properties"]["windows"]["items"]["properties"]["days"]["anyOf"][0]["minItems"] = 1
    return schema


def _make_settings() -> Schema:
    schema = _group(fields.SETTINGS_FILE, is_camel_known=False)
    # An empty file sets nothing.
    return {**schema, "type": ["object", "null"]}


def _has(name: str, value: Schema) -> Schema:
    """A mapping with that field, in either spelling, and such a value."""
    names = sorted({name, camel(name)}, reverse=True)
    return {"anyOf": [{"required": [one], "properties": {one: value}} for one in names]}


def _is_true() -> Schema:
    words = "[tT][rR][uU][eE]|[yY][eE][sS]|[oO][nN]"
    return {"anyOf": [{"const": True}, {"type": "string", "pattern": rf"^\s*(?:{words})\s*$"}]}


# -- groups and values ---------------------------------------------------------------------------


def _group(group: Field, *, is_camel_known: bool = True) -> Schema:
    """A mapping of known fields. Protobuf's spellings are taken, but not suggested."""
    properties: Schema = {}
    spelled: Schema = {}
    dependencies: Schema = {}
    required: list[str] = []
    either: list[Schema] = []
    for child in group.children:
        other = camel(child.name) if is_camel_known else child.name
        properties[child.name] = _describe(child, _make(child, is_camel_known=is_camel_known))
        if other != child.name:
            spelled[f"^{other}$"] = _make(child, is_camel_known=is_camel_known)
            dependencies[other] = {"not": {"required": [child.name]}}
        if child.is_required and other == child.name:
            required.append(child.name)
        elif child.is_required:
            either.append({"anyOf": [{"required": [name]} for name in (child.name, other)]})
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    parts = {
        "patternProperties": spelled,
        "dependencies": dependencies,
        "required": required,
        "allOf": either,
    }
    return schema | {name: part for name, part in parts.items() if part}


def _describe(item: Field, schema: Schema) -> Schema:
    facts = (
        ("Unit", item.unit),
        ("Default", item.default),
        ("A change", item.change),
        ("Needs", item.needs),
    )
    told = [f"{name}: {fact}." for name, fact in facts if fact]
    described: Schema = {"description": " ".join((item.meaning, *told))}
    if item.example:
        described["examples"] = [fields.read_yaml_value(item.example)]
    return described | schema


def _make(item: Field, *, is_camel_known: bool) -> Schema:
    if item.shape == "group":
        return _group(item, is_camel_known=is_camel_known)
    if item.shape == "list of groups":
        return {"type": "array", "items": _group(item, is_camel_known=is_camel_known)}
    if item.kind is None:
        raise ValueError(f"{item.path} is neither a group nor a value")
    return _make_value(item, item.kind)


def _make_value(item: Field, kind: Kind) -> Schema:
    one = kind.make_schema()
    many: Schema = {"type": "array", "items": one}
    match item.shape:
        case "list" if item.joint:
            # One text in Porto's own syntax will do as well.
            text: Schema = {"type": "string", "pattern": r"[^ \t\n;]"}
            if kind.number is not None:
                text = {"type": ["string", "number", "boolean"]}
            return {"anyOf": [{**many, "minItems": 1}, text]}
        case "list":
            return {**many, "minItems": 1} if item.name in ("cmd", "exec") else many
        case "list or one":
            return {"anyOf": [many, one]}
        case "map":
            return {"type": "object", **_name_keys(item), "additionalProperties": one}
        case "map of lists":
            values = {"anyOf": [{**many, "minItems": 1, "uniqueItems": True}, one]}
            return {"type": "object", **_name_keys(item), "additionalProperties": values}
    return one


def _name_keys(item: Field) -> Schema:
    if item.key is None:
        return {}
    names = item.key.make_schema()
    text = next(one for one in names.get("anyOf", [names]) if one["type"] == "string")
    return {"propertyNames": {name: part for name, part in text.items() if name != "type"}}
