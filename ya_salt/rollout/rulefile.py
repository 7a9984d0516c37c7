"""Check a rule file: from its text to a Rule, or to everything that is wrong with it. Pure.

The names of fields are those of proto/ya_salt.proto; a test holds the two together.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import replace
from functools import partial

from ya_salt.errors import SpecError, SpecProblem
from ya_salt.porto.values import parse_bool, parse_choice, quote
from ya_salt.rollout.rule import Rule
from ya_salt.rollout.rulemessage import Message, keep
from ya_salt.rollout.ruleparts import (
    parse_count,
    read_freezes,
    read_rate,
    read_selector,
    read_windows,
)
from ya_salt.rollout.ruletexts import parse_duration, parse_rule_name, parse_zone, show_duration
from ya_salt.specfile.checks import (
    Fields,
    Member,
    Report,
    describe,
    index,
    make_fields,
    read_members,
    read_value,
    spellings,
    unknown_field,
)
from ya_salt.specfile.container import Json
from ya_salt.specfile.jsonnodes import read_json
from ya_salt.specfile.nodes import START, Complaint, MapNode, Node, Place, Tree
from ya_salt.specfile.yamlnodes import read_yaml

KIND = "OrlyRule"
MANIFEST_FIELDS = ("meta", "spec")
META_FIELDS = ("kind", "name", "annotations")
SPEC_FIELDS = (
    *("max_concurrent", "rate", "selector", "halt_on_failure", "max_failures"),
    *("min_healthy_time", "first_install", "on_lost", "lost_after"),
    *("time_zone", "freeze", "windows"),
)
MIN_LOST_AFTER_S = 10

_UNSEEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def parse_rule(text: str, origin: str, *, is_json: bool = False) -> Rule:
    """Check a rule file's text; `origin` names it in errors.

    Raises SpecError with everything that is wrong, in the order of the file. The rule's `document`
    is JSON that gives an equal rule again.
    """
    tree = read_json(text) if is_json else _read_yaml(text)
    report = Report()
    rule = _read_manifest(report, tree.root)
    # Of a tree that was cut off nothing can be said to be missing or empty.
    complaints = tree.complaints + (report.complaints if tree.is_whole else [])
    if complaints:
        found = {SpecProblem(origin, *place, name, words) for place, name, words in complaints}
        raise SpecError(tuple(sorted(found)))
    return rule


def _read_yaml(text: str) -> Tree:
    unseen = _UNSEEN.search(text)
    if unseen is None:
        return read_yaml(text)
    before = text[: unseen.start()]
    place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
    words = f"holds the control character U+{ord(unseen[0]):04X}; remove it"
    return Tree(is_whole=False, complaints=[Complaint(place, "", words)])


def _explain_top(key: str) -> str:
    for place, names in (("meta", META_FIELDS), ("spec", SPEC_FIELDS)):
        if key in spellings(names):
            return f"belongs under {place}; move it there"
    return unknown_field(key, MANIFEST_FIELDS)


def _explain_spec(key: str) -> str:
    if key in spellings(META_FIELDS):
        return "belongs under meta; move it there"
    near = difflib.get_close_matches(key[:100].lower(), SPEC_FIELDS, 1, 0.6)
    right = f"did you mean {near[0]}?" if near else f"the fields here are {', '.join(SPEC_FIELDS)}"
    return f"is not a known field; {right}"


_MANIFEST = Fields(spellings(MANIFEST_FIELDS), _explain_top, "write a mapping with meta and spec")
_META = make_fields(META_FIELDS, "write a mapping with the rule's name")
_SPEC = Fields(spellings(SPEC_FIELDS), _explain_spec, "write a mapping with max_concurrent")


def _read_manifest(report: Report, root: Node | None) -> Rule:
    if not isinstance(root, MapNode):
        place, word = (root.place, describe(root)) if root else (START, "is empty")
        report.add(place, "", f"{word}; {_MANIFEST.right}")
        return Rule("")
    manifest = Message(report, root, "", _MANIFEST)
    manifest.require("meta", _META.right)
    manifest.require("spec", _SPEC.right)
    rule = Rule("")
    if "spec" in manifest.members:
        rule = _read_spec(manifest, manifest.members["spec"])
    name = _read_meta(manifest, manifest.members["meta"]) if "meta" in manifest.members else ""
    return replace(rule, name=name, document=_dump(manifest.sort(MANIFEST_FIELDS)))


def _dump(document: dict[str, Json]) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def _read_meta(manifest: Message, member: Member) -> str:
    meta = Message(manifest.report, member.node, member.field, _META)
    meta.read("kind", _check_kind, keep)
    meta.require("name", "write porto-daemon-NAME for the rule of the daemon NAME")
    name = meta.read("name", parse_rule_name, keep, is_quoted=True)
    annotations = _read_annotations(meta)
    if annotations:
        meta.show("annotations", annotations)
    manifest.show("meta", meta.sort(META_FIELDS))
    return name or ""


def _check_kind(text: str) -> str:
    if text != KIND:
        raise ValueError(f"{quote(text)} is not known; write {KIND} or leave it out")
    return text


def _read_annotations(meta: Message) -> dict[str, Json]:
    member = meta.members.get("annotations")
    if member is None:
        return {}
    members = read_members(meta.report, member.node, member.field, index, "write a mapping")
    found = {one.key.text: read_value(meta.report, one.node, one.field, str) for one in members}
    return {key: text for key, text in sorted(found.items()) if text is not None}


def _read_spec(manifest: Message, member: Member) -> Rule:
    spec = Message(manifest.report, member.node, member.field, _SPEC)
    spec.require("max_concurrent", "write how many hosts may be at it at once, such as 1")
    # Where the zone does not exist, what else is wrong with the freezes is said in one go.
    zone = spec.read("time_zone", parse_zone, keep) or Rule.time_zone
    rule = Rule(
        "",
        max_concurrent=spec.read("max_concurrent", parse_count, keep) or 1,
        rate=read_rate(spec),
        selector=read_selector(spec),
        max_failures=_read_max_failures(spec),
        min_healthy_s=_read_duration(spec, "min_healthy_time", 0, Rule.min_healthy_s),
        first_install="allow" if _read_choice(spec, "first_install", "gate", "allow") else "gate",
        on_lost="free" if _read_choice(spec, "on_lost", "hold", "free") else "hold",
        lost_after_s=_read_duration(spec, "lost_after", MIN_LOST_AFTER_S, Rule.lost_after_s),
        time_zone=zone,
        freeze=read_freezes(spec, zone),
        windows=read_windows(spec),
    )
    manifest.show("spec", spec.sort(SPEC_FIELDS))
    return rule


def _read_choice(spec: Message, name: str, usual: str, other: str) -> bool:
    """Tell whether it is the other one."""
    return spec.read(name, partial(parse_choice, choices=(usual, other)), keep) == other


def _read_duration(spec: Message, name: str, low_s: int, usual_s: int) -> int:
    found = spec.read(name, partial(parse_duration, low_s=low_s), show_duration)
    return usual_s if found is None else found


def _read_max_failures(spec: Message) -> int | None:
    halts = spec.read("halt_on_failure", lambda text: parse_bool(text) == "true", keep)
    limit = spec.read("max_failures", parse_count, keep)
    if halts is False and "max_failures" in spec.members:
        spec.blame("max_failures", "stands beside halt_on_failure: false; keep one of the two")
    return None if halts is False else limit or Rule.max_failures
