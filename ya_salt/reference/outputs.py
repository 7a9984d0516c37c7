"""JSON Schema of what each command prints with `-o json`: a contract, which tests hold. Pure.

Where the answer is a message of proto/ya_salt.proto the schema is made from it; which of its fields
are always there stands here. A field that is not listed is none: a program may rely on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from ya_salt.proto import ya_salt_pb2
from ya_salt.reference import schema
from ya_salt.reference.kinds import Schema
from ya_salt.settings import SETTINGS
from ya_salt.specs.checks import camel

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SWITCH: Schema = {"type": "boolean"}
ANYTHING: Schema = {}
TIME: Schema = {
    "type": "string",
    "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$",
    "description": "RFC 3339, UTC",
}


def make_output(name: str) -> Schema:
    """Of a name in `list_outputs`, such as `output-status`."""
    body = _MAKERS[name]()
    program, command = (
        ("orlyctl", name[15:])
        if name.startswith("output-orlyctl-")
        else (
            "ya-salt",
            name[7:],
        )
    )
    title = {"title": f"What `{program} {command} -o json` prints"}
    return {"$schema": schema.DRAFT, **title, **body}


def list_outputs() -> list[str]:
    return list(_MAKERS)


# -- pieces --------------------------------------------------------------------------------------


def _object(always: Mapping[str, Schema], sometimes: Mapping[str, Schema] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": {**always, **(sometimes or {})},
        "required": list(always),
        "additionalProperties": False,
    }


def _list(one: Schema) -> Schema:
    return {"type": "array", "items": one}


def _map(one: Schema) -> Schema:
    return {"type": "object", "additionalProperties": one}


def _one_of(*words: str) -> Schema:
    return {"type": "string", "enum": list(words)}


def _or_null(one: Schema) -> Schema:
    return {"anyOf": [one, {"type": "null"}]}


# -- messages ------------------------------------------------------------------------------------

_ALWAYS: Mapping[str, str] = {
    "SpecList": "portoDaemons",
    "PortoDaemonManifest": "meta",
    "ObjectMeta": "name",
    "Package": "name version",
    "HttpProbe": "port",
    "HostStatus": "portoDaemons",
    "PortodStanding": "answers message",
    "GateStatus": "type state message queueLength",
    "SinkStatus": "name state message since",
    "PassStatus": "startedAt durationS result error",
    "RejectedFile": "path problems",
    "IgnoredFile": "path reason",
    "PortoDaemonStatus": "name version wantedVersion path phase conditions state respawnCount"
    " restartCount digest packages warnings actions error updatedAt",
    "Condition": "status reason message lastTransitionTime",
    "PackageStatus": "name version installedVersion",
    "ProbeStatus": "question ready failures failureThreshold answer",
    "RejectedVersion": "version why at generation runningVersion problem data",
    "UpdateStanding": "version state since generation deaths data",
    "PinnedGeneration": "generation who at",
    "CrashLoop": "since deaths delayS",
    "Hold": "who why since",
    "DriftStatus": "what value wanted by",
    "HistoryEvent": "time what who",
    "GateStanding": "state reason message since operation target",
}
"""Message -> its fields that are always there."""

_WORDS: Mapping[str, tuple[str, ...]] = {
    "PortoDaemonStatus.phase": ("Managed", "Orphaned", "Rejected", "Foreign", "Removed"),
    "PassStatus.result": ("ok", "failed", "interrupted"),
    "SinkStatus.state": ("accepted", "absent", "refused", "unanswered"),
    "GateStatus.type": ("none", "orly", "fleetlock"),
    "GateStatus.state": ("unasked", "answered", "failed"),
    "GateStanding.state": ("waiting", "working", "settling", "failed"),
    "UpdateStanding.state": ("starting", "probation"),
    "UpdateStanding.data": ("covered", "not covered"),
    "RejectedVersion.data": ("covered", "not covered"),
}
"""Texts that are one of a few words."""

_TIMES = frozenset(
    {"startedAt", "since", "updatedAt", "askedAt", "at", "nextTry", "until", "time"}
    | {"lastTransitionTime"}
)
_INTEGER: Schema = {"type": "integer"}
_NUMBERS = {
    FieldDescriptor.TYPE_UINT32: COUNT,
    FieldDescriptor.TYPE_UINT64: COUNT,
    FieldDescriptor.TYPE_INT32: _INTEGER,
    FieldDescriptor.TYPE_INT64: _INTEGER,
    FieldDescriptor.TYPE_DOUBLE: NUMBER,
    FieldDescriptor.TYPE_BOOL: SWITCH,
}


def _message(name: str) -> Schema:
    """The schema of a message; those within it are among its definitions."""
    known: dict[str, Schema] = {}
    top = _collect(ya_salt_pb2.DESCRIPTOR.message_types_by_name[name], known)
    return {**known.pop(top), "definitions": known}


def _collect(message: Descriptor, known: dict[str, Schema]) -> str:
    name = str(message.name)
    if name not in known:
        known[name] = {}
        always = _ALWAYS.get(name, "").split()
        properties = {camel(item.name): _field(item, known) for item in message.fields}
        known[name] = {
            "type": "object",
            "properties": properties,
            "required": always,
            "additionalProperties": False,
        }
    return name


def _field(item: FieldDescriptor, known: dict[str, Schema]) -> Schema:
    inner = item.message_type
    if inner is not None and inner.GetOptions().map_entry:
        return _map(_field(inner.fields_by_name["value"], known))
    one = _single(item, known)
    return _list(one) if _is_repeated(item) else one


def _is_repeated(item: Any) -> bool:
    # protobuf 6.31 named this anew, 7 took the old name away.
    if hasattr(item, "is_repeated"):
        return bool(item.is_repeated)
    return bool(item.label == FieldDescriptor.LABEL_REPEATED)


def _single(item: FieldDescriptor, known: dict[str, Schema]) -> Schema:
    if item.message_type is not None:
        return {"$ref": f"#/definitions/{_collect(item.message_type, known)}"}
    if item.type != FieldDescriptor.TYPE_STRING:
        return dict(_NUMBERS[item.type])
    words = _WORDS.get(f"{item.containing_type.name}.{item.name}")
    if words:
        return _one_of(*words)
    return dict(TIME if camel(item.name) in _TIMES else TEXT)


# -- answers of ya-salt --------------------------------------------------------------------------

_CHANGE = _object({"old": TEXT, "new": TEXT})
_PLANS = _object(
    {
        "plans": _list(
            _object(
                {
                    "name": TEXT,
                    "steps": _list(TEXT),
                    "waiting": _list(TEXT),
                    "changes": _object(
                        {},
                        {
                            "packages": _map(_CHANGE),
                            "container": _map(_CHANGE),
                            "files": _map(_CHANGE),
                            "process": _CHANGE,
                        },
                    ),
                    "gate": _or_null(_object({"reason": TEXT, "message": TEXT})),
                    "waitsFor": TEXT,
                    "refusal": TEXT,
                    "notes": _list(TEXT),
                    "rests": TEXT,
                }
            )
        )
    }
)
_EVENT = _object({"time": TIME, "name": TEXT, "what": TEXT, "who": TEXT})
_WHY = {"kind": TEXT, "causes": {**_list(TEXT), "minItems": 1}, "next": TEXT}
_GENERATIONS = _list(
    _object(
        {
            "number": COUNT,
            "version": TEXT,
            "readyAt": TIME,
            "state": _one_of("pinned", "rejected", "current", ""),
            "packages": _map(TEXT),
            "digest": TEXT,
        }
    )
)


def _of_pass() -> Schema:
    """A pass tells how the daemons stand; with --dry-run what it would do."""
    status = _message("HostStatus")
    known = status.pop("definitions")
    return {"anyOf": [status, _PLANS], "definitions": known}


def _of_settings() -> Schema:
    one = _object({"value": ANYTHING, "origin": TEXT})
    return _object({"settings": _object({item.name: one for item in SETTINGS})})


def _of_describe() -> Schema:
    known: dict[str, Schema] = {}
    messages = ya_salt_pb2.DESCRIPTOR.message_types_by_name
    status = {"$ref": f"#/definitions/{_collect(messages['PortoDaemonStatus'], known)}"}
    spec = {"$ref": f"#/definitions/{_collect(messages['PortoDaemonManifest'], known)}"}
    told = _object(
        {
            "name": TEXT,
            "file": TEXT,
            # What is remembered grows with what ya-salt learns to remember.
            "life": {"type": "object"},
            "generations": _GENERATIONS,
            "why": _object(_WHY),
        },
        {
            "portod": TEXT,
            "spec": spec,
            "specInEffect": spec,
            "problems": _list(TEXT),
            "status": status,
            "lastChange": _object({"what": TEXT, "values": _map(_list(TEXT))}),
        },
    )
    return {**told, "definitions": known}


def _of_explain() -> Schema:
    summary = {"path": TEXT, "type": TEXT, "meaning": TEXT, "required": SWITCH}
    told = _object(
        {
            **summary,
            "shape": _one_of(
                *("one", "list", "list or one", "map", "map of lists", "group", "list of groups")
            ),
            **dict.fromkeys(("unit", "default", "change", "needs", "example"), TEXT),
            "choices": _list(TEXT),
            "children": _list(_object(summary)),
        },
        {
            "minimum": NUMBER,
            "maximum": NUMBER,
            "in_host_mode": _list(TEXT),
            "porto": _object({"name": TEXT, "told": TEXT}),
        },
    )
    return {"anyOf": [told, _list(_object(summary))]}


def _of_history() -> Schema:
    """With -f a line an event."""
    return {"anyOf": [_object({"history": _list(_EVENT)}), _EVENT]}


# -- answers of orlyctl --------------------------------------------------------------------------

_PAUSE = _or_null(_object({"reason": TEXT, "by": TEXT, "since": TIME}))


def _of_apply_rule() -> Schema:
    change = _object({"field": TEXT, "old": ANYTHING, "new": ANYTHING})
    rule = {"name": TEXT, "result": TEXT, "changes": _list(change), "pause": _PAUSE}
    return _object({"dryRun": SWITCH, "rules": _list(_object(rule))})


def _of_rules() -> Schema:
    rule = {"name": TEXT, "rule": _or_null({"type": "object"}), "problem": TEXT}
    return _object({"rules": _list(_object(rule))})


def _of_rule() -> Schema:
    whole = schema.make_schema("rule")
    return {name: part for name, part in whole.items() if name not in ("$schema", "title")}


def _of_rule_status() -> Schema:
    holder = {
        **dict.fromkeys(("host", "operation", "target", "reason", "state", "error"), TEXT),
        "slot": {"type": ["integer", "string"]},
        "since": TIME,
        "alive": SWITCH,
    }
    rule = {
        "name": TEXT,
        "state": TEXT,
        "problem": TEXT,
        "maxConcurrent": _or_null(COUNT),
        **dict.fromkeys(("held", "failed", "lost"), COUNT),
        "rate": _or_null(_object({"count": COUNT, "windowS": COUNT, "used": COUNT})),
        "haltedTargets": _list(TEXT),
        "pause": _PAUSE,
        "blocks": _list(_object({"reason": TEXT, "whom": TEXT, "message": TEXT})),
        "holders": _list(_object(holder)),
        "strays": _list(_object({"slot": {"type": ["integer", "string"]}, "host": TEXT})),
        "released": _list(_object({"host": TEXT, "reason": TEXT, "by": TEXT, "at": TIME})),
    }
    return _object({"rules": _list(_object(rule))})


def _of_simulate() -> Schema:
    return _object(
        {
            **dict.fromkeys(("rule", "start", "outcome", "reason", "message"), TEXT),
            **dict.fromkeys(("hosts", "disturbed", "max_at_once", "robbed"), COUNT),
            "seed": {"type": "integer"},
            "duration_s": NUMBER,
            "hosts_by_state": _map(COUNT),
            "max_starts_in_window": _or_null(COUNT),
            "repaired_at_s": _or_null(NUMBER),
            "halts": _list({"type": "object"}),
            "timeline": _list(_object({"percent": NUMBER, "at_s": NUMBER})),
            "advice": _list(TEXT),
        }
    )


_MAKERS = {
    **{
        f"output-{name}": _of_pass
        for name in ("apply", "restart", "stop", "start", "retry", "rollback", "adopt")
    },
    "output-plan": lambda: dict(_PLANS),
    "output-status": lambda: _message("HostStatus"),
    "output-spec": lambda: _message("SpecList"),
    "output-report": lambda: _object(
        {"sinks": _list(_object({"name": TEXT, "state": TEXT, "message": TEXT}))}
    ),
    "output-history": _of_history,
    "output-why": lambda: _object({"name": TEXT, **_WHY}),
    "output-describe": _of_describe,
    "output-generations": lambda: _object({"generations": _GENERATIONS}),
    "output-settings": _of_settings,
    "output-explain": _of_explain,
    "output-orlyctl-apply-rule": _of_apply_rule,
    "output-orlyctl-list": _of_rules,
    "output-orlyctl-get": _of_rule,
    "output-orlyctl-status": _of_rule_status,
    "output-orlyctl-simulate": _of_simulate,
}
