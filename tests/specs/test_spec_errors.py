"""Bad files are refused with every error at once, each with its place and its way out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from ya_salt.errors import SpecError
from ya_salt.specs.checks import Diagnostics, make_fields, read_fields
from ya_salt.specs.directory import parse_spec
from ya_salt.specs.yaml_tree import read_yaml

CASES = Path(__file__).parents[1] / "cases" / "specs"
GOOD = "meta: {name: d}\nspec:\n  properties:\n    cmd: [d]\n"


def _cases() -> list[Any]:
    return [
        pytest.param(case, id=f"{path.stem}: {case['it']}")
        for path in sorted(CASES.glob("bad-*.yaml"))
        for case in yaml.safe_load(path.read_text())
    ]


def errors_of(text: str | bytes, path: str = "d.yaml") -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, path)
    assert str(caught.value).split("\n") == [str(problem) for problem in caught.value.problems]
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


@pytest.mark.parametrize("case", _cases())
def test_bad_file_is_refused_with_all_its_errors(case: dict[str, Any]) -> None:
    ending = case.get("ending", "yaml")
    assert errors_of(case["text"], f"d.{ending}") == case["errors"]
    assert errors_of(case["text"].encode(), f"d.{ending}") == case["errors"]


def test_there_are_enough_cases() -> None:
    assert len(_cases()) > 200


def test_every_message_says_what_would_be_right() -> None:
    for case in _cases():
        for line in case.values[0]["errors"]:
            assert "; " in line, line


def test_byte_that_is_not_utf8_is_named_by_its_place() -> None:
    text = GOOD.encode() + b"    # caf\xe9\n"
    assert errors_of(text) == ["5:10: is not UTF-8 here; save the file as UTF-8"]
    assert errors_of("meta: {name: '\ud800'}") == [
        "1:15: is not UTF-8 here; save the file as UTF-8"
    ]


def test_utf16_is_refused() -> None:
    assert errors_of(GOOD.encode("utf-16")) == ["1:1: is not UTF-8 here; save the file as UTF-8"]


def test_byte_order_mark_is_no_error() -> None:
    assert parse_spec(b"\xef\xbb\xbf" + GOOD.encode(), "d.yaml").name == "d"


def test_file_of_one_mebibyte_is_read_and_one_more_byte_is_not() -> None:
    text = GOOD + "#" * ((1 << 20) - len(GOOD))
    assert parse_spec(text, "d.yaml").name == "d"
    assert errors_of(text + "#") == ["1:1: is over 1048576 bytes; a spec is a few kilobytes"]
    assert errors_of(text.encode() + b"#") == [
        "1:1: is over 1048576 bytes; a spec is a few kilobytes"
    ]


@pytest.mark.parametrize("ending", ["yaml", "json"])
def test_nesting_over_32_is_refused(ending: str) -> None:
    head = '{"meta": {"name": "d", "annotations": '
    deep = head + "[" * 31 + "]" * 31 + "}}"
    path = "meta.annotations" + "[0]" * 30
    assert errors_of(deep, f"d.{ending}") == [
        f"1:{len(head) + 31}: {path}: is nested over 32 levels; flatten it"
    ]
    fine = head + "[" * 30 + "]" * 30 + "}}"
    assert "nested" not in "\n".join(errors_of(fine, f"d.{ending}"))


@pytest.mark.parametrize("text", ["[" * 500_000, "{a: " * 200_000, "- " * 500_000, '"' * 999_999])
@pytest.mark.parametrize("ending", ["yaml", "json"])
def test_hostile_nesting_is_cheap(text: str, ending: str) -> None:
    started = time.monotonic()
    errors_of(text, f"d.{ending}")
    assert time.monotonic() - started < 5


def test_many_aliases_are_refused() -> None:
    def text(uses: int) -> str:
        listed = "".join(f"    - {'*a' if number else '&a x'}\n" for number in range(uses + 1))
        return f"meta: {{name: d}}\nspec:\n  properties:\n   cmd:\n{listed}"

    assert len(parse_spec(text(32), "d.yaml").properties["command_argv"]) == 65
    assert errors_of(text(33)) == [
        "38:7: spec.properties.cmd[33]: is alias 33; write the values out"
    ]


def test_billion_laughs_are_refused() -> None:
    lines = ["meta:", "  name: d", "  annotations:", "    a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"    a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 6)}]" for n in range(1, 6)]
    started = time.monotonic()
    assert errors_of("\n".join(lines)) == [
        "9:14: meta.annotations.a5[0]: holds over 20000 values; shorten it"
    ]
    assert time.monotonic() - started < 1


def test_many_values_are_refused() -> None:
    text = GOOD + "    bind: [" + "x, " * 30_000 + "]\n"
    assert errors_of(text)[0].endswith("holds over 20000 values; shorten it")


def test_command_over_portods_limit_is_refused() -> None:
    text = "meta: {{name: d}}\nspec: {{properties: {{cmd: [d, {}]}}}}\n"
    assert parse_spec(text.format("x" * (128 * 1024 - 2)), "d.yaml").name == "d"
    assert errors_of(text.format("x" * (128 * 1024 - 1))) == [
        "2:26: spec.properties.cmd:"
        " the command is over 131072 bytes, which portod refuses; shorten it"
    ]


def test_more_labels_than_fit_are_refused() -> None:
    labels = "".join(f"      CF.l{number}: x\n" for number in range(91))
    assert errors_of(f"{GOOD}    labels:\n{labels}") == [
        "6:7: spec.properties.labels: holds too many labels; keep at most 90"
    ]


def test_secret_is_in_no_error() -> None:
    text = f"{GOOD}    env_secret: {{TOKEN: ' hunter2', A-B: hunter2, C: [hunter2]}}\n"
    assert "hunter2" not in "\n".join(errors_of(text))
    assert len(errors_of(text)) == 3


def test_error_stays_on_its_line_whatever_a_key_holds() -> None:
    text = 'meta: {name: d, "a\\nb\\u202e": 1}\nspec: {properties: {cmd: [d]}}\n'
    assert errors_of(text) == [
        '1:17: meta."a\\nb\\u202e": is not a known field;'
        " the fields here are kind, version, name, delete_requested, annotations"
    ]


def test_syntax_error_reports_nothing_as_missing() -> None:
    assert len(errors_of("meta: {name: d}\nspec: {properties: {cmd: [")) == 1


@pytest.mark.parametrize("key", ["null", "<<", "~"])
def test_key_that_is_no_name_to_yaml_is_no_field_whatever_fields_are_called(key: str) -> None:
    root, report = read_yaml(f"{key}: 1").root, Diagnostics()
    assert root is not None
    assert not read_fields(report, root, "", make_fields((key,)))
    assert len(report.diagnostics) == 1


def test_removal_does_not_excuse_other_errors() -> None:
    text = "meta: {name: d, delete_requested: true}\nspec: {properties: {memory_limit: x}}\n"
    assert len(errors_of(text)) == 1
