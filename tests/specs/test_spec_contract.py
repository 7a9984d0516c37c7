"""The table, proto/ya_salt.proto and the recorded portod name and take the same things."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict, Parse
from helpers.property_table import PAGE, rewrite

from ya_salt.errors import SpecError
from ya_salt.porto.properties import (
    NEEDS_SUPPORT,
    PROGRAM_OWNED,
    PROPERTIES,
    READ_ONLY,
    UNLISTED,
    Property,
)
from ya_salt.proto.ya_salt_pb2 import PortoDaemonManifest
from ya_salt.specs import behaviour, checks, daemon
from ya_salt.specs.directory import parse_spec

ROOT = Path(__file__).parents[2]
RECORDED = json.loads((ROOT / "tests/data/properties.json").read_text())
CONFORMANCE = ROOT / "tests/conformance"
MANIFEST = PortoDaemonManifest.DESCRIPTOR
MESSAGES = {
    "PortoDaemonManifest": daemon.MANIFEST_FIELDS,
    "ObjectMeta": daemon.META_FIELDS,
    "PortoDaemon": daemon.SPEC_FIELDS,
    "Package": daemon.PACKAGE_FIELDS,
    "Readiness": behaviour.READINESS_FIELDS,
    "HttpProbe": behaviour.HTTP_FIELDS,
    "Update": behaviour.UPDATE_FIELDS,
    "Watch": behaviour.WATCH_FIELDS,
    "PortoProperties": ("cmd", "command", *PROPERTIES),
}


@pytest.mark.parametrize("message", MESSAGES)
def test_proto_and_checker_name_the_same_fields(message: str) -> None:
    descriptor = MANIFEST.file.message_types_by_name[message]
    assert {field.name for field in descriptor.fields} == set(MESSAGES[message])
    assert {field.json_name for field in descriptor.fields} == {
        checks.camel(name) for name in MESSAGES[message]
    }


TYPES = {
    "string": {FieldDescriptor.TYPE_STRING},
    "integer": {
        FieldDescriptor.TYPE_UINT64,
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_INT32,
    },
    "number": {FieldDescriptor.TYPE_DOUBLE},
    "boolean": {FieldDescriptor.TYPE_BOOL},
}


def _is_repeated(field: Any) -> bool:
    # protobuf 6.31 named this anew, 7 took the old name away.
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(field.label == FieldDescriptor.LABEL_REPEATED)


@pytest.mark.parametrize("row", PROPERTIES.values(), ids=lambda row: row.name)
def test_proto_has_the_type_of_the_table(row: Property) -> None:
    field = MANIFEST.file.message_types_by_name["PortoProperties"].fields_by_name[row.name]
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    is_list = not is_map and _is_repeated(field)
    assert row.shape == ("map" if is_map else "list" if is_list else "one")
    value = field.message_type.fields_by_name["value"] if is_map else field
    assert value.type in TYPES[row.json]
    if row.shape == "one":
        # A daemon with memory_limit 0 is not one that leaves it out.
        assert field.has_presence


def test_every_field_of_the_proto_is_explained() -> None:
    text = (ROOT / "proto/ya_salt.proto").read_text()
    body = text[text.index("message PortoProperties {") :]
    body = body[: body.index("\n}")]
    lines = body.splitlines()
    for number, line in enumerate(lines):
        if re.search(r" = \d+;", line):
            assert lines[number - 1].lstrip().startswith("//"), line
    explained = re.findall(r"((?:  //.*\n)+)  [^/\n]* = \d+;", body)
    assert len(explained) == len(PROPERTIES) + 2
    missing = [text for text in explained if "Default:" not in text]
    assert len(missing) == 3, missing  # cmd, command, and env_secret, which is "the same"


def test_table_is_everything_that_portod_lets_one_set() -> None:
    settable = set(RECORDED["static"] + RECORDED["dynamic"])
    assert set(PROGRAM_OWNED) <= settable
    assert set(PROPERTIES) - NEEDS_SUPPORT == settable - set(PROGRAM_OWNED) - {"command"}
    assert not NEEDS_SUPPORT & settable
    assert set(READ_ONLY) >= set(RECORDED["read_only"])
    assert not READ_ONLY & set(PROPERTIES)


def test_the_table_says_live_where_portod_does() -> None:
    told = {row.name for row in PROPERTIES.values() if row.live}
    assert told - UNLISTED == set(RECORDED["dynamic"]) & set(PROPERTIES) - UNLISTED


def test_the_table_in_the_docs_is_the_table_that_checks() -> None:
    page = PAGE.read_text()
    assert rewrite(page) == page, "make docs-tables"
    for name in PROPERTIES:
        assert f"\n| `{name}` | " in page


@pytest.mark.parametrize("name", [*PROGRAM_OWNED, *sorted(READ_ONLY)])
def test_what_a_spec_may_not_set_is_refused_with_a_reason(name: str) -> None:
    text = f"meta: {{name: d}}\nspec: {{properties: {{cmd: [d], {name}: x}}}}\n"
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "d.yaml")
    assert f"d.yaml:2:31: spec.properties.{name}: " in str(caught.value)
    assert "; " in str(caught.value)


EXAMPLES: dict[str, str] = {
    "string": "x",
    "bind": "/a /b ro",
    "capabilities": "KILL",
    "capabilities_ambient": "KILL",
    "cgroupfs": "ro",
    "coredump_filter": "0x10",
    "cpu_guarantee": "12.5%",
    "cpu_limit": "2c",
    "cpu_period": "100ms",
    "cpu_policy": "idle",
    "cpu_set": "0-3",
    "cwd": "/x",
    "default_gw": "eth0 192.0.2.1",
    "devices": "/dev/fuse rw",
    "enable_porto": "isolate",
    "io_policy": "idle",
    "ip": "eth0 192.0.2.1",
    "ip_limit": "any",
    "labels": "x",
    "memory_lock_policy": "xattr",
    "net": "L3 veth",
    "net_tos": "CS1",
    "respawn_delay": "1500us",
    "root": "/x",
    "stderr_path": "/x",
    "stdin_path": "/x",
    "stdout_path": "/x",
    "ulimit": "1 2",
    "umask": "077",
    "virt_mode": "os",
    "volumes_required": "/x",
}
KEYS = {
    "env": "A",
    "env_secret": "B",
    "labels": "CF.a",
    "controllers": "cpu",
    "ulimit": "core",
    "sysctl": "net.a",
}


def example(row: Property) -> Any:
    value = EXAMPLES.get(row.name, "x")
    if row.json == "boolean":
        value = "true"
    elif row.json in ("integer", "number") and row.name not in EXAMPLES:
        value = "9223372036854775807" if row.parse is PROPERTIES["stdout_limit"].parse else "100"
        value = "1048576" if row.parse is PROPERTIES["memory_limit"].parse else value
    if row.shape == "list":
        return [value]
    return {KEYS.get(row.name, "/k"): value} if row.shape == "map" else value


def full_manifest() -> dict[str, Any]:
    return {
        "meta": {
            "kind": "PortoDaemon",
            "name": "d",
            "version": "1",
            "delete_requested": "false",
            "annotations": {"a": "b"},
        },
        "spec": {
            "properties": {"cmd": ["d", "a b"]}
            | {row.name: example(row) for row in PROPERTIES.values()},
            "packages": [{"name": "a1", "version": "1:1-1", "allow_held": True}],
            "min_ready_s": 1,
            "ready_timeout_s": 2.5,
        },
    }


def test_document_is_a_manifest_of_the_proto_with_every_field() -> None:
    spec = parse_spec(json.dumps(full_manifest()), "d.json")
    message = Parse(spec.document, PortoDaemonManifest())
    assert set(PROPERTIES) | {"cmd"} == {
        field.name for field, _ in message.spec.properties.ListFields()
    }
    assert message.meta.name == "d"
    assert message.spec.properties.stdout_limit == 9223372036854775807
    assert message.spec.min_ready_s == 1.0


def test_document_is_a_spec_file_itself() -> None:
    spec = parse_spec(json.dumps(full_manifest()), "d.json")
    again = parse_spec(spec.document, "d.json")
    assert again.document == spec.document
    assert {k: v for k, v in again.properties.items() if not k.startswith("env_secret")} == {
        k: v for k, v in spec.properties.items() if not k.startswith("env_secret")
    }
    assert again.properties["env_secret[B]"] == "***"
    assert parse_spec(spec.document, "d.yaml").document == spec.document


def test_what_protobuf_prints_is_a_spec_file() -> None:
    spec = parse_spec(json.dumps(full_manifest()), "d.json")
    message = Parse(spec.document, PortoDaemonManifest())
    for keep in (True, False):
        printed = json.dumps(MessageToDict(message, preserving_proto_field_name=keep))
        assert parse_spec(printed, "d.json").document == spec.document


def _recorded_values(scenario: str) -> list[tuple[str, str, str, str]]:
    """Give (property, sent, error, read back) of a recorded scenario."""
    steps = json.loads((CONFORMANCE / f"{scenario}.json").read_text())["steps"]
    found = []
    for step, after in pairwise(steps):
        call, read = step.get("call", {}).get("setProperty"), after.get("call", {})
        if call and "getProperty" in read and read["getProperty"]["property"] == call["property"]:
            value = after["expect"].get("getProperty", {}).get("value", "")
            found.append((call["property"], call["value"], step["expect"]["error"], value))
    return found


@pytest.mark.parametrize(
    ("name", "sent", "error", "read_back"),
    [
        case
        for scenario in ("size-values", "cpu-values", "bool-values")
        for case in _recorded_values(scenario)
    ],
)
def test_values_are_what_portod_reads_back(
    name: str, sent: str, error: str, read_back: str
) -> None:
    row = PROPERTIES[name]
    if error == "Success":
        assert row.parse(sent) == read_back
    elif row.json == "boolean" and sent in ("False", "no"):
        # People write these; portod is told what it understands.
        assert row.parse(sent) == "false"
    else:
        with pytest.raises(ValueError, match="; "):
            row.parse(sent)


def test_there_are_recorded_values() -> None:
    assert len(_recorded_values("size-values")) > 8


def test_reading_specs_needs_no_protobuf() -> None:
    code = "import sys, ya_salt.specs; print([m for m in sys.modules if m.startswith('google')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_users_reference_names_every_property() -> None:
    text = "".join((ROOT / f"docs/{page}.md").read_text() for page in ("specs", "lifecycle"))
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    fields = {name for names in MESSAGES.values() for name in names} - {"meta", "spec", "command"}
    assert fields - {"allow_held"} <= named
    assert set(PROGRAM_OWNED) <= named


def test_example_of_the_users_reference_is_a_spec() -> None:
    text = (ROOT / "docs/specs.md").read_text()
    example = text[text.index("```yaml\n") + 8 :].partition("```")[0]
    assert parse_spec(example, "d.yaml").properties["memory_limit"] == "2147483648"
