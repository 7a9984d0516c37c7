"""What an editor refuses by the schema is refused by `validate`, and the other way round."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from helpers.schema_files import FOLDER, render
from helpers.yaml_reader import read
from specs.test_spec_meaning import PROPERTIES

from ya_salt.cli.parser import SCHEMAS as SCHEMA_NAMES
from ya_salt.errors import SettingsError, SpecError
from ya_salt.gate.rule_file import parse_rule
from ya_salt.reference.fields import list_roots, read_yaml_value, walk
from ya_salt.reference.kinds import list_kinds
from ya_salt.reference.outputs import list_outputs
from ya_salt.reference.schema import TITLES, make_schema
from ya_salt.settings import load_settings
from ya_salt.specs.directory import parse_spec

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests/cases"
SCHEMAS = {name: jsonschema.Draft7Validator(make_schema(name)) for name in TITLES}
GOOD_SPEC = "meta: {name: d}\nspec:\n  properties:\n    cmd: [d]\n"


def _check_settings(text: str, tmp_path: Path) -> None:
    path = tmp_path / "ya-salt.yaml"
    path.write_text(text)
    load_settings({}, {}, str(path))


def is_valid(what: str, text: str, tmp_path: Path, ending: str = "yaml") -> bool:
    try:
        if what == "settings":
            _check_settings(text, tmp_path)
        elif what == "rule":
            parse_rule(text, "r", is_json=ending == "json")
        else:
            parse_spec(text, f"d.{ending}")
    except (SpecError, SettingsError):
        return False
    return True


def is_taken(what: str, text: str, ending: str = "yaml") -> bool | None:
    """By the schema; None where an editor cannot read the text at all."""
    try:
        data = json.loads(text) if ending == "json" else read(text)
    except (ValueError, yaml.YAMLError):
        return None
    return SCHEMAS[what].is_valid(data)


@pytest.mark.parametrize("name", TITLES)
def test_schema_is_of_draft_07_and_refuses_unknown_fields(name: str) -> None:
    schema = make_schema(name)
    jsonschema.Draft7Validator.check_schema(schema)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("name", SCHEMA_NAMES)
def test_shipped_schema_is_up_to_date(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text() == render(name), "make schemas"


def test_no_other_schema_is_shipped() -> None:
    assert sorted(SCHEMA_NAMES) == sorted(path.stem for path in FOLDER.iterdir())
    assert set(SCHEMA_NAMES) == {*TITLES, *list_outputs()}


# -- bad files -----------------------------------------------------------------------------------


def _bad() -> Iterator[Any]:
    for path in sorted((CASES / "specs").glob("bad-*.yaml")):
        for case in yaml.safe_load(path.read_text()):
            yield "spec", case
    for case in yaml.safe_load((CASES / "rules/bad-rules.yaml").read_text()):
        yield "rule", case


UNSEEN = CASES / "schemas/not-seen.yaml"
"""Bad cases that a schema takes: reason -> cases, by the schema's name and what they are."""


def _unseen() -> dict[str, str]:
    found = yaml.safe_load(UNSEEN.read_text())
    return {case: reason for reason, cases in found.items() for case in cases}


def test_bad_files_are_refused_by_the_schema_or_listed_with_the_reason() -> None:
    unseen = _unseen()
    taken = [
        f"{what}: {case['it']}"
        for what, case in _bad()
        if is_taken(what, case["text"], case.get("ending", "yaml"))
    ]
    assert sorted(set(taken) - unseen.keys()) == []
    assert sorted(unseen.keys() - set(taken)) == [], "these are seen by now"


def test_few_bad_files_go_past_the_schema() -> None:
    assert len(_unseen()) < 0.3 * sum(1 for _ in _bad())


BAD_SETTINGS = [
    "spec_dir: /a",
    "parallel: many",
    "parallel: 0",
    "parallel: 65",
    "root:",
    "root: [/a]",
    "- root",
    "packages_policy: {allow_removals: x}",
    "packages_policy: {allow_removals: [-x]}",
    "packages_policy: {allow_removal: [x]}",
    "monitoring: {yasm: {uri: x}}",
    "monitoring: {graphite: {}}",
    "monitoring: {yasm: {url: 'localhost:11005'}}",
    "monitoring: {yasm: {url: 'http://u:p@h/'}}",
    "monitoring: {yasm: {enabled: 2}}",
    "monitoring: {yasm: {tags: [x]}}",
    "monitoring: {yasm: {tags: {itype: 'a b'}}}",
    "monitoring: {prometheus: {enabled: maybe}}",
    "monitoring:",
    "hostname: хост",
    "hostname: 'a b'",
    "gate: {type: etcd}",
    "gate: {endpoints: ['h:2379']}",
    "gate: {prefix: 'a b'}",
    "gate: {facts: {dc: 'a,b'}}",
    "gate: {group: a_b}",
    "gate: {password: x}",
    "maxConcurrent: 1",
]
GOOD_SETTINGS = [
    "",
    "parallel: '8'",
    "monitoring: {yasm: {enabled: 'Off', tags: {itype: a, ctype: 1}, url: 'https://[::1]:1/x?y'}}",
    "monitoring: {alertmanager: {url: ''}}",
    "gate: {type: orly, endpoints: ['https://etcd1:2379'], prefix: orly, facts: {dc: sas, n: 1}}",
    "specs_dir: relative/path",
    "hostname: 10",
]


@pytest.mark.parametrize("text", BAD_SETTINGS)
def test_bad_settings_are_refused_by_both(text: str, tmp_path: Path) -> None:
    assert not is_valid("settings", text, tmp_path)
    assert not is_taken("settings", text)


@pytest.mark.parametrize("text", GOOD_SETTINGS)
def test_good_settings_are_taken_by_both(text: str, tmp_path: Path) -> None:
    assert is_valid("settings", text, tmp_path)
    assert is_taken("settings", text)


# -- good files ----------------------------------------------------------------------------------


def _good() -> Iterator[Any]:
    """Every document of the documentation and of the tests' own files that is one."""
    texts = [
        *(found for page in sorted((ROOT / "docs").glob("*.md")) for found in _blocks(page)),
        *((ROOT / "docs/rules").glob("*.yaml")),
        *((ROOT / "tests/data").glob("*.yaml")),
    ]
    for item in texts:
        text = item.read_text() if isinstance(item, Path) else item
        if "max_concurrent" in text and "meta:" in text:
            yield pytest.param("rule", text)
        elif "meta:" in text and "spec:" in text:
            yield pytest.param("spec", text)
        elif text.startswith("# /etc/hostman/ya-salt.yaml"):
            yield pytest.param("settings", text)


def _blocks(page: Path) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("what", "text"), list(_good()))
def test_examples_of_the_documents_are_taken(what: str, text: str, tmp_path: Path) -> None:
    assert is_valid(what, text, tmp_path)
    SCHEMAS[what].validate(read(text))
    # Python's YAML makes dates, and numbers out of times.
    SCHEMAS[what].validate(yaml.safe_load(text))


def test_there_are_examples_of_each() -> None:
    kinds = [item.values[0] for item in _good()]
    assert set(kinds) == set(TITLES) and len(kinds) > 6


def _meanings() -> list[Any]:
    return [written for written, _told, _shown in PROPERTIES]


@pytest.mark.parametrize("written", _meanings())
def test_every_way_to_write_a_property_is_taken(written: str) -> None:
    text = f"meta: {{name: d}}\nspec:\n  properties: {{cmd: [d], {written}}}\n"
    spec = parse_spec(text, "d.yaml")
    SCHEMAS["spec"].validate(read(text))
    if "secret" not in written:
        SCHEMAS["spec"].validate(json.loads(spec.document))


@pytest.mark.parametrize(
    "text",
    [
        "meta: {name: d, delete_requested: true}\n",
        "meta: {name: d, deleteRequested: 'Yes'}\nspec: {}\n",
        f"{GOOD_SPEC}  readiness: {{tcp: 80, periodS: 2}}\n",
        f"{GOOD_SPEC}  readiness: {{tcp: 80, notify: no}}\n",
        f"{GOOD_SPEC}  readiness: {{notify: yes, watchdogS: 2, on_failure: restart}}\n",
        f"{GOOD_SPEC}  watch: [{{conffiles: yes, signal: HUP, splay_s: 3}}, {{path: /etc/d}}]\n",
        f"{GOOD_SPEC}  after: []\n  update: {{state: [], watch_s: 0.5}}\n",
        "meta: {name: d}\nspec: {properties: {command: d -x, virt_mode: host, isolate: off}}\n",
        "meta: {name: d}\nspec: {properties: {cmd: d, virtMode: host, rootReadonly: no}}\n",
    ],
)
def test_less_usual_files_are_taken(text: str, tmp_path: Path) -> None:
    assert is_valid("spec", text, tmp_path)
    SCHEMAS["spec"].validate(read(text))


# -- single values -------------------------------------------------------------------------------


def _scalars(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield str(key)
            yield from _scalars(value)
    elif isinstance(data, list):
        for value in data:
            yield from _scalars(value)
    elif data is not None:
        yield str(data).lower() if isinstance(data, bool) else str(data)


@lru_cache(maxsize=1)
def _pool() -> list[str]:
    """Every value of every case, good or bad, and what is at the edges."""
    found = {"", " ", "0", "1", "-1", "1.5", "1e3", "0x1f", "022", "a b", " a", "a\n", "a\tb", "é"}
    found |= {"1K", "1048576", "999999", "1000000", "100%", "101%", "5", "5s", "0c", "3c", "00:00"}
    found |= {"24:00", "23:59", "9:30", "2026-12-30", "2026-12-30 18:00", "1h30m", "mon-fri"}
    found |= {"http://h", "http://h:1/x", "http://:1", "https://u@h", "/..", "/a/../b", "/a", "/a/"}
    found |= {"..", "self", "-x", "a" * 300, "\u202e", "\x85", "\x1b", "SIGHUP", "HUP", "KILL"}
    found |= {"unlimited", "1024 2048", "[a]", "a;b", "a:b", "a\\b", "None", "TRUE", "oN", "full"}
    found |= set(_meanings())
    for what, case in _bad():
        data = is_taken(what, case["text"], case.get("ending", "yaml"))
        if data is not None and case.get("ending", "yaml") == "yaml":
            found |= set(_scalars(read(case["text"])))
    for item in walk(list_roots()):
        if item.example:
            found |= set(_scalars(read_yaml_value(item.example)))
    return sorted(found)


@pytest.mark.parametrize(
    ("parse", "kind"),
    [pytest.param(parse, kind, id=name) for name, parse, kind in list_kinds()],
)
def test_a_kind_takes_what_its_parser_takes(parse: Callable[[str], Any], kind: Any) -> None:
    schema = jsonschema.Draft7Validator(kind.make_schema())
    refused, let_by = [], []
    for text in _pool():
        if "\0" in text:
            continue  # Refused before any parser sees it.
        try:
            parse(text)
        except ValueError:
            let_by += [text] if schema.is_valid(text) else []
        else:
            refused += [] if schema.is_valid(text) else [text]
    assert refused == []
    if not kind.loose:
        assert let_by == []
