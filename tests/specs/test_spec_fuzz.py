"""Whatever a file holds: SpecError or a DaemonSpec, quickly, and what is valid stays so."""

from __future__ import annotations

import json
import string
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from ya_salt.errors import SpecError
from ya_salt.model import DaemonSpec
from ya_salt.porto.properties import PROPERTIES
from ya_salt.specs.directory import parse_spec

ENDINGS = st.sampled_from(["d.yaml", "d.json"])
WORDS = st.sampled_from(
    [
        *("meta", "spec", "name", "properties", "cmd", "packages", "version", "memory_limit"),
        *(
            "env",
            "delete_requested",
            "*a",
            "&a",
            "<<",
            "!!str",
            "|",
            "- ",
            ": ",
            "{",
            "}",
            "[",
            "]",
        ),
        *(",", '"', "'", "\\", "\n", "  ", "1.10", "~", "null", "\t", "#", "---\n", "\0", "\ud800"),
        *("true", "0x1", "2Gb", "é", "\u2028", "\x85", "?", "%", "@", "`"),
    ]
)


def read(content: bytes | str, path: str) -> DaemonSpec | None:
    try:
        return parse_spec(content, path)
    except SpecError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.line >= 1
            assert problem.column >= 1
            assert problem.path == path
            assert str(problem).isprintable(), str(problem)
        return None


@given(st.binary(max_size=200), ENDINGS)
def test_any_bytes(content: bytes, path: str) -> None:
    read(content, path)


@given(st.lists(WORDS, max_size=60).map("".join), ENDINGS)
def test_any_heap_of_words(content: str, path: str) -> None:
    read(content, path)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS
FIELDS = st.sampled_from(
    ["meta", "spec", "properties", "packages", "name", "version", "annotations", *PROPERTIES]
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS | WORDS, inner, max_size=5),
    max_leaves=15,
)


@given(TREES, TREES)
def test_any_tree(meta: Any, properties: Any) -> None:
    content = {"meta": meta, "spec": {"properties": properties, "packages": meta}}
    read(json.dumps(content), "d.json")
    read(yaml.safe_dump(content, allow_unicode=True), "d.yaml")


@given(st.dictionaries(st.sampled_from(sorted(PROPERTIES)), TREES, max_size=8))
def test_any_value_of_any_property(properties: dict[str, Any]) -> None:
    content = {"meta": {"name": "d"}, "spec": {"properties": {"cmd": ["d"], **properties}}}
    spec = read(json.dumps(content), "d.json")
    if spec is not None:
        assert all(text == text.strip(" \t\n") for text in spec.properties.values())


NAMES = st.text(string.ascii_letters + string.digits + "_-@:.", min_size=1, max_size=100).filter(
    lambda name: name not in (".", "..", "self") and not name.startswith("-")
)
TEXTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=20
).filter(lambda text: text == text.strip() and text.isprintable())
PROPERTY_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "memory_limit": st.integers(1 << 20, (1 << 63) - 1),
    "stdout_limit": st.builds("{}{}".format, st.integers(0, 1000), st.sampled_from("bKmGt")),
    "cpu_limit": st.builds("{}{}".format, st.integers(0, 100), st.sampled_from("c%")),
    "respawn_delay": st.builds("{}{}".format, st.integers(1, 9999), st.sampled_from(["s", "ns"])),
    "isolate": st.booleans(),
    "io_weight": st.integers(1, 100),
    "max_respawns": st.integers(-1, 10),
    "umask": st.integers(0, 0o777).map(lambda mask: f"{mask:o}"),
    "user": st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True),
    "env": st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), TEXTS, max_size=3),
    "labels": st.dictionaries(st.just("CF.a"), NAMES, max_size=1),
    "controllers": st.dictionaries(st.sampled_from(["freezer", "devices"]), st.booleans()),
    "io_limit": st.dictionaries(st.sampled_from(["fs", "/a b r"]), st.integers(0, 1 << 62)),
    "capabilities": st.lists(st.sampled_from(["KILL", "CHOWN"]), min_size=1),
    "net": st.sampled_from([["none"], ["L3 veth"], ["L3 veth", "MTU veth 1450"]]),
}
PACKAGES = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.from_regex(r"[a-z0-9][a-z0-9+.-]{0,20}[a-z0-9+.]", fullmatch=True),
            "version": st.from_regex(
                r"([0-9]:)?[0-9][A-Za-z0-9.~]{0,6}(-[a-z0-9]{1,4})?", fullmatch=True
            ),
        },
        optional={"allow_held": st.booleans()},
    ),
    max_size=4,
    unique_by=lambda package: package["name"],
)
SPECS = st.fixed_dictionaries(
    {
        "meta": st.fixed_dictionaries(
            {"name": NAMES},
            optional={
                "version": TEXTS,
                "kind": st.just("PortoDaemon"),
                "delete_requested": st.booleans(),
                "annotations": st.dictionaries(TEXTS, st.text(max_size=5).filter(str.isprintable)),
            },
        ),
        "spec": st.fixed_dictionaries(
            {
                "properties": st.fixed_dictionaries(
                    {"cmd": st.lists(TEXTS, min_size=1, max_size=4)}, optional=PROPERTY_VALUES
                ),
                "packages": PACKAGES,
            },
            optional={"min_ready_s": st.integers(0, 86400)},
        ),
    }
)


@given(SPECS)
def test_valid_spec_survives_its_own_document(content: dict[str, Any]) -> None:
    spec = parse_spec(json.dumps(content), "d.json")
    for path in ("d.json", "d.yaml"):
        again = parse_spec(spec.document, path)
        assert again.digest == spec.digest
        assert again.document == spec.document
        assert dict(again.properties) == dict(spec.properties)


@given(SPECS)
def test_yaml_and_json_are_one(content: dict[str, Any]) -> None:
    as_json = parse_spec(json.dumps(content), "d.json")
    dumped = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    assert parse_spec(dumped, "d.yaml").document == as_json.document
