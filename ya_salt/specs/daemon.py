"""Check a whole document: `meta`, `spec` and the packages. Pure.

The names of fields are those of proto/ya_salt.proto; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ya_salt.model import Package
from ya_salt.names import check_daemon_name, check_package_name, check_package_version, quote
from ya_salt.porto.properties import PROGRAM_OWNED, PROPERTIES
from ya_salt.porto.values import parse_bool, parse_line, parse_seconds
from ya_salt.quick_dataclass import dataclass, field
from ya_salt.specs.behaviour import (
    BEHAVIOUR_FIELDS,
    Behaviour,
    check_reach,
    check_socket,
    read_behaviour,
)
from ya_salt.specs.checks import (
    Diagnostics,
    Fields,
    Member,
    convert,
    describe,
    index,
    make_fields,
    read_fields,
    read_members,
    read_quoted,
    read_value,
    spellings,
    unknown_field,
)
from ya_salt.specs.container import ContainerDraft, Json, read_container
from ya_salt.specs.tree import START, ListNode, MapNode, Node, Place

KIND = "PortoDaemon"
MANIFEST_FIELDS = ("meta", "spec")
META_FIELDS = ("kind", "version", "name", "delete_requested", "annotations")
SPEC_FIELDS = ("properties", "packages", "min_ready_s", "ready_timeout_s", *BEHAVIOUR_FIELDS)
PACKAGE_FIELDS = ("name", "version", "allow_held")


def check_kind(text: str) -> str:
    if text != KIND:
        raise ValueError(f"{quote(text)} is not known; write {KIND} or leave it out")
    return text


def check_version(text: str) -> str:
    if len(text) > 200:
        raise ValueError("is longer than 200 characters; shorten it")
    return parse_line(text)


def check_exact_version(text: str) -> str:
    version = check_package_version(text)
    if version.endswith("+"):
        # apt-get takes a plus or minus at the end of an argument for an instruction.
        raise ValueError(f"{quote(text)} ends with '+', which apt-get misreads; rename the version")
    return version


Parsers = Mapping[str, Callable[[str], Any]]

META_PARSERS: Parsers = {
    "kind": check_kind,
    "version": check_version,
    "name": check_daemon_name,
    "delete_requested": parse_bool,
}
PACKAGE_PARSERS: Parsers = {
    "name": check_package_name,
    "version": check_exact_version,
    "allow_held": parse_bool,
}
SPEC_PARSERS: Parsers = {"min_ready_s": parse_seconds, "ready_timeout_s": parse_seconds}
QUOTED = frozenset({"name", "version"})
"""Fields that have to be texts to YAML, of `meta` and of a package."""


@dataclass
class Draft:
    """What a document says, as far as it can be read."""

    name: str = ""
    name_place: Place = START
    version: str = ""
    delete_requested: bool = False
    annotations: dict[str, str] = field(default_factory=dict)
    container: ContainerDraft = field(default_factory=ContainerDraft)
    packages: list[Package] = field(default_factory=list)
    min_ready_s: float | None = None
    ready_timeout_s: float | None = None
    behaviour: Behaviour = field(default_factory=Behaviour)
    meta: dict[str, Json] = field(default_factory=dict)
    """The fields of `meta` that were set, for the document."""
    has_spec: bool = False


def _explain_top(key: str) -> str:
    if key in spellings(META_FIELDS):
        return "belongs under meta; move it there"
    if key in spellings(SPEC_FIELDS):
        return "belongs under spec; move it there"
    return _explain_spec(key, MANIFEST_FIELDS)


def _explain_spec(key: str, known: tuple[str, ...] = SPEC_FIELDS) -> str:
    if key in spellings(("cmd", "command", *PROPERTIES, *PROGRAM_OWNED)):
        return "belongs under spec.properties; move it there"
    return unknown_field(key, known)


_MANIFEST = Fields(spellings(MANIFEST_FIELDS), _explain_top)
_META = make_fields(META_FIELDS)
_SPEC = Fields(spellings(SPEC_FIELDS), _explain_spec)
_PACKAGE = make_fields(PACKAGE_FIELDS, "write a mapping of name and version")


def read_manifest(report: Diagnostics, root: Node | None) -> Draft:
    draft = Draft()
    if not isinstance(root, MapNode):
        place = root.place if root else START
        word = describe(root) if root else "is empty"
        report.add(place, "", f"{word}; write a mapping with meta and spec")
        return draft
    members = read_fields(report, root, "", _MANIFEST)
    if "meta" in members:
        _read_meta(report, members["meta"].node, draft)
    else:
        report.add(root.place, "meta", "is missing; write a mapping with the daemon's name")
    if "spec" in members:
        _read_spec(report, members["spec"].node, draft)
    elif not draft.delete_requested:
        report.add(root.place, "spec", "is missing; write a mapping with properties and packages")
    return draft


def _read_meta(report: Diagnostics, node: Node, draft: Draft) -> None:
    members = read_fields(report, node, "meta", _META)
    if "kind" in members:
        kind = read_value(report, *members["kind"][1:], META_PARSERS["kind"])
        draft.meta |= {"kind": kind} if kind else {}
    if "version" in members:
        draft.version = _read_quoted(report, members["version"], META_PARSERS["version"]) or ""
        draft.meta |= {"version": draft.version}
    _read_name(report, node, members.get("name"), draft)
    if "delete_requested" in members:
        draft.delete_requested = _read_bool(report, members["delete_requested"])
        draft.meta |= {"delete_requested": draft.delete_requested}
    if "annotations" in members:
        draft.annotations = _read_annotations(report, members["annotations"])
        draft.meta |= {"annotations": dict(draft.annotations)}


def _read_quoted(report: Diagnostics, member: Member, check: Callable[[str], str]) -> str | None:
    return convert(report, member.node.place, member.field, read_quoted(report, *member[1:]), check)


def _read_name(report: Diagnostics, node: Node, member: Member | None, draft: Draft) -> None:
    if member is None:
        if isinstance(node, MapNode):
            report.add(node.place, "meta.name", "is missing; write the daemon's name")
        return
    draft.name = _read_quoted(report, member, META_PARSERS["name"]) or ""
    draft.name_place = member.node.place
    draft.meta |= {"name": draft.name}


def _read_bool(report: Diagnostics, member: Member) -> bool:
    return read_value(report, member.node, member.field, parse_bool) == "true"


def _read_annotations(report: Diagnostics, member: Member) -> dict[str, str]:
    members = read_members(report, member.node, member.field, index, "write a mapping")
    found = {one.key.text: read_value(report, one.node, one.field, str) for one in members}
    return {key: text for key, text in found.items() if text is not None}


def _read_spec(report: Diagnostics, node: Node, draft: Draft) -> None:
    draft.has_spec = True
    members = read_fields(report, node, "spec", _SPEC)
    if "properties" in members:
        draft.container = read_container(report, *members["properties"][1:])
    if not draft.container.has_command and not draft.delete_requested:
        _report_no_command(report, members.get("properties"), node)
    if "packages" in members:
        draft.packages = _read_packages(report, members["packages"])
    for name, parse in SPEC_PARSERS.items():
        if name in members:
            setattr(draft, name, read_value(report, *members[name][1:], parse))
    draft.behaviour = read_behaviour(report, members)
    if draft.behaviour.readiness is not None:
        check_reach(report, members["readiness"], draft.behaviour.readiness, draft.container.texts)
        if draft.behaviour.readiness.notify:
            check_socket(report, members, draft.name, draft.container.texts)


def _report_no_command(report: Diagnostics, properties: Member | None, spec: Node) -> None:
    """Say it once: a `properties` that is no mapping has been reported already."""
    holder = properties.node if properties else spec
    if isinstance(holder, MapNode):
        report.add(
            holder.place,
            "spec.properties.cmd",
            "is missing; write the command as a list of arguments",
        )


def _read_packages(report: Diagnostics, member: Member) -> list[Package]:
    node = member.node
    if not isinstance(node, ListNode):
        report.add(node.place, member.field, f"{describe(node)}; write a list of name and version")
        return []
    packages: dict[str, Package] = {}
    for number, item in enumerate(node.items):
        path = f"{member.field}[{number}]"
        package = _read_package(report, item, path)
        if package is None:
            continue
        first = packages.setdefault(package.name, package)
        if first is not package:
            report.add(
                item.place,
                f"{path}.name",
                f"{package.name} is listed twice (first in line {first.line}); keep one",
            )
    return list(packages.values())


def _read_package(report: Diagnostics, node: Node, path: str) -> Package | None:
    members = read_fields(report, node, path, _PACKAGE)
    texts: dict[str, str] = {}
    for name in ("name", "version"):
        if name in members:
            texts[name] = _read_quoted(report, members[name], PACKAGE_PARSERS[name]) or ""
        elif isinstance(node, MapNode):
            report.add(node.place, f"{path}.{name}", f"is missing; write the package's {name}")
    held = "allow_held" in members and _read_bool(report, members["allow_held"])
    if not texts.get("name"):
        return None
    line = members["name"].node.place.line
    return Package(texts["name"], texts.get("version", ""), held, line)
