"""A rule file becomes a rule, or all of its errors at once, each with its place and its way out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import MessageToDict, Parse
from hypothesis import given, settings
from hypothesis import strategies as st

from ya_salt.errors import OperatorError, SpecError
from ya_salt.gate import rule_file
from ya_salt.gate.rule import DAYS, Freeze, Rate, Rule, Window
from ya_salt.gate.rule_file import (
    MAX_S,
    load_rule_file,
    parse_days,
    parse_duration,
    parse_minute,
    parse_rule,
    show_days,
    show_duration,
    show_minute,
)
from ya_salt.proto.ya_salt_pb2 import OrlyRuleManifest
from ya_salt.specs import checks

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs/rules/porto-daemon-juggler-agent-rtc.yaml"
GOOD = "meta: {name: r}\nspec:\n  max_concurrent: 1\n"
EVERY_DAY = frozenset(range(7))


def read(spec: str) -> Rule:
    return parse_rule(GOOD + spec, "r.yaml")


def errors_of(text: str, *, is_json: bool = False) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_rule(text, "r", is_json=is_json)
    assert str(caught.value).split("\n") == [str(problem) for problem in caught.value.problems]
    return [str(problem).removeprefix("r:") for problem in caught.value.problems]


# -- what a file means -----------------------------------------------------------------------------


def test_example_of_the_docs_is_a_rule() -> None:
    rule = load_rule_file(str(EXAMPLE))
    assert rule.name == EXAMPLE.stem
    assert (rule.max_concurrent, rule.max_failures) == (20, 3)
    assert rule.rate == Rate(100, 600)
    assert rule.selector == {"datacenter": ("sas", "vla"), "stage": ("production",)}
    assert (rule.min_healthy_s, rule.lost_after_s) == (300, 3600)
    # 18:00 and 00:00 in Moscow, three hours before UTC.
    assert rule.freeze == (Freeze(1798642800.0, 1799442000.0, "holidays"),)
    assert rule.windows == (
        Window(frozenset({0, 1, 2, 3}), 600, 1080),
        Window(frozenset({4}), 600, 840),
    )


def test_least_rule_has_the_defaults_of_the_model() -> None:
    document = '{"meta":{"name":"r"},"spec":{"maxConcurrent":1}}'
    assert read("") == Rule("r", document=document)


def test_defaults_of_the_proto_are_those_of_the_model() -> None:
    told = "halt_on_failure: true, first_install: gate, on_lost: hold"
    text = f"meta: {{name: r}}\nspec: {{max_concurrent: 1, {told}, lost_after: 1h, time_zone: UTC}}"
    told_rule, least = parse_rule(text, "r.yaml"), read("")
    for field in fields(Rule):
        if field.name != "document":
            assert getattr(told_rule, field.name) == getattr(least, field.name)
    proto = (ROOT / "proto/ya_salt.proto").read_text()
    body = proto[proto.index("message OrlyRule {") : proto.index("message RuleRate {")]
    for name, words in [
        *(("max_failures", "Default: 1."), ("min_healthy_time", "Default: none")),
        *(("first_install", "Default: gate."), ("on_lost", "Default: hold.")),
        *(("lost_after", "Default: 1h."), ("time_zone", "Default: UTC.")),
    ]:
        comment = re.search(rf"((?:  //.*\n)+)  optional \w+ {name} =", body)
        assert comment, name
        assert words in comment[1]


@pytest.mark.parametrize(
    ("spec", "max_failures"),
    [
        ("", 1),
        ("  halt_on_failure: true\n", 1),
        ("  halt_on_failure: false\n", None),
        ("  halt_on_failure: 'no'\n", None),
        ("  max_failures: 3\n", 3),
        ("  halt_on_failure: true\n  max_failures: 3\n", 3),
        ("  haltOnFailure: true\n  maxFailures: '3'\n", 3),
    ],
)
def test_when_failures_halt(spec: str, max_failures: int | None) -> None:
    assert read(spec).max_failures == max_failures


def test_allow_and_free_are_taken() -> None:
    rule = read("  first_install: allow\n  on_lost: free\n  lost_after: 10s\n")
    assert (rule.first_install, rule.on_lost, rule.lost_after_s) == ("allow", "free", 10)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("0s", 0), ("90s", 90), ("1h30m", 5400), ("7d", 604800), ("1d2h3m4s", 93784)),
        *(("120m", 7200), ("30d", 2592000), ("1h05m", 3900)),
    ],
)
def test_durations(text: str, seconds: int) -> None:
    assert read(f"  min_healthy_time: {text}\n").min_healthy_s == seconds


@pytest.mark.parametrize(
    "text",
    ["90", "0", "1.5h", "-5s", "1m30", "30m1h", "1h 30m", "5 s", "5S", "5ms", "1:30", "s", ""],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    lines = errors_of(f'{GOOD}  min_healthy_time: "{text}"\n')
    assert len(lines) == 1
    assert lines[0].startswith(f'4:21: spec.min_healthy_time: "{text}" ')


def test_bare_number_is_refused_with_the_remedy() -> None:
    assert errors_of(f"{GOOD}  rate: {{count: 1, window: 10}}\n") == [
        '4:28: spec.rate.window: "10" has no unit; write 10s, or a number with m, h or d'
    ]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ("from: 10:00, to: 18:30", Window(EVERY_DAY, 600, 1110)),
        ("from: '08:00', to: \"24:00\"", Window(EVERY_DAY, 480, 1440)),
        ("from: 00:00, to: 24:00", Window(EVERY_DAY, 0, 1440)),
        ("from: 22:00, to: 06:00", Window(EVERY_DAY, 1320, 360)),
        ("days: mon, from: 10:00, to: 11:00", Window(frozenset({0}), 600, 660)),
        ("days: [mon-wed, fri], from: 10:00, to: 11:00", Window(frozenset({0, 1, 2, 4}), 600, 660)),
        ("days: [sat-mon], from: 10:00, to: 11:00", Window(frozenset({5, 6, 0}), 600, 660)),
        ("days: [mon-sun], from: 10:00, to: 11:00", Window(EVERY_DAY, 600, 660)),
        ("days: [sun-sun], from: 10:00, to: 11:00", Window(frozenset({6}), 600, 660)),
    ],
)
def test_windows_quoted_or_not(window: str, expected: Window) -> None:
    assert read(f"  windows: [{{{window}}}]\n").windows == (expected,)


@pytest.mark.parametrize("mark", ["", "'", '"'])
def test_dates_quoted_or_not(mark: str) -> None:
    spec = f"  freeze: [{{from: {mark}2026-12-30 18:00{mark}, to: {mark}2027-01-09{mark}}}]\n"
    assert read(spec).freeze == (Freeze(1798653600.0, 1799452800.0),)
    moscow = read(f"{spec}  timeZone: Europe/Moscow\n").freeze
    assert moscow == (Freeze(1798653600.0 - 10800, 1799452800.0 - 10800),)


def test_selector_takes_one_value_or_a_list() -> None:
    rule = read("  selector: {b: x, a: [y, z], hostname: ['1', \"yes\"]}\n")
    assert rule.selector == {"a": ("y", "z"), "b": ("x",), "hostname": ("1", "yes")}
    assert '"selector":{"a":["y","z"],"b":["x"],"hostname":["1","yes"]}' in rule.document


def test_name_of_another_kind_of_rule_is_allowed() -> None:
    longest = "a_@:.-Z9" * 25
    assert (
        parse_rule(f"meta: {{name: '{longest}'}}\nspec: {{max_concurrent: 1}}", "r").name == longest
    )


# -- what is refused -------------------------------------------------------------------------------


def _cases() -> list[Any]:
    cases = yaml.safe_load((ROOT / "tests/cases/rules/bad-rules.yaml").read_text())
    return [pytest.param(case["text"], case["errors"], id=case["it"]) for case in cases]


@pytest.mark.parametrize(("text", "errors"), _cases())
def test_bad_file_is_refused_with_all_its_errors(text: str, errors: list[str]) -> None:
    assert errors_of(text) == errors
    assert all("; " in line for line in errors)


def test_there_are_enough_cases() -> None:
    assert sum(len(case.values[1]) for case in _cases()) > 70


@pytest.mark.parametrize(
    ("char", "name"), [("\x1b", "U+001B"), ("\ud800", "U+D800"), ("\0", "U+0000")]
)
def test_character_that_nobody_sees_is_named_with_its_place(char: str, name: str) -> None:
    words = f"holds the control character {name}; remove it"
    assert errors_of(f"{GOOD}  # {char}\n") == [f"4:5: {words}"]


def test_what_the_yaml_reader_refuses_is_refused_here() -> None:
    rate = "{<<: {count: 1}, count: 1, window: 2s}"
    assert "merge keys are not taken" in errors_of(f"{GOOD}  rate: {rate}\n")[0]
    assert "a second document begins here" in errors_of(f"{GOOD}---\n")[0]
    assert "has the tag" in errors_of(f"{GOOD}  on_lost: !!python/name:os.system free\n")[0]
    assert "alias" in errors_of(f"{GOOD}  rate: *a\n")[0]


def test_cut_off_file_says_nothing_of_what_is_missing() -> None:
    assert len(errors_of("meta: {name: r}\nspec: {rate: [")) == 1
    assert len(errors_of('{"meta": {}, "spec": ', is_json=True)) == 1


def test_json_is_json() -> None:
    good = '{"meta": {"name": "r"}, "spec": {"maxConcurrent": 2}}'
    assert parse_rule(good, "r", is_json=True).max_concurrent == 2
    assert errors_of(good.replace("2}", "2,}"), is_json=True)[0].startswith("1:53: ")
    assert errors_of('{"meta": {"name": 5}, "spec": {"maxConcurrent": 2}}', is_json=True) == [
        '1:19: meta.name: 5 is a number, not text; quote it: "5"'
    ]


@pytest.mark.parametrize(
    ("zone", "words"),
    [
        ("europe/moscow", "did you mean Europe/Moscow?"),
        ("Europe/Moskow", "did you mean Europe/Moscow?"),
        ("Moscow", "did you mean Europe/Moscow?"),
        ("New York", "did you mean America/New_York?"),
        ("Europe", "write a name such as Europe/Moscow, or UTC"),
        ("MSK", "write a name such as Europe/Moscow, or UTC"),
        ("+03:00", "write a name such as Europe/Moscow, or UTC"),
        ("localtime", "write a name such as Europe/Moscow, or UTC"),
        ("posixrules", "write a name such as Europe/Moscow, or UTC"),
        ("Factory", "write a name such as Europe/Moscow, or UTC"),
        ("right/UTC", ""),
        ("../../etc/passwd", ""),
        ("/etc/passwd", ""),
        ("Europe//Moscow", ""),
        ("é", ""),
    ],
)
def test_unknown_zone_is_refused_with_a_near_one(zone: str, words: str) -> None:
    text = (
        f"{GOOD}  time_zone: {json.dumps(zone)}\n  freeze: [{{from: 2026-01-01, to: 2026-01-02}}]"
    )
    lines = errors_of(text)
    assert len(lines) == 1
    assert lines[0].startswith(
        f"4:14: spec.time_zone: {json.dumps(zone, ensure_ascii=False)} is not a time zone; "
    )
    assert lines[0].endswith(words)


def test_error_stays_on_its_line_whatever_a_key_holds() -> None:
    assert errors_of(f'{GOOD}  "a\\nb\\u202e": 1\n')[0].startswith(
        '4:3: spec."a\\nb\\u202e": is not a known field; the fields here are max_concurrent'
    )


# -- the document and the proto --------------------------------------------------------------------

MESSAGES = {
    "OrlyRuleManifest": rule_file.MANIFEST_FIELDS,
    "RuleMeta": rule_file.META_FIELDS,
    "OrlyRule": rule_file.SPEC_FIELDS,
    "RuleRate": rule_file.RATE_FIELDS,
    "RuleFreeze": rule_file.FREEZE_FIELDS,
    "RuleWindow": rule_file.WINDOW_FIELDS,
}


@pytest.mark.parametrize("message", MESSAGES)
def test_proto_and_parser_name_the_same_fields_in_the_same_order(message: str) -> None:
    descriptor = OrlyRuleManifest.DESCRIPTOR.file.message_types_by_name[message]
    assert tuple(field.name for field in descriptor.fields) == MESSAGES[message]
    assert [field.json_name for field in descriptor.fields] == [
        checks.camel(name) for name in MESSAGES[message]
    ]


def test_users_reference_names_every_field_and_shows_rules() -> None:
    text = (ROOT / "docs/rules.md").read_text()
    named = set(re.findall(r"^\| `([a-z_.]+)`", text, re.MULTILINE))
    expected = {
        *(f"meta.{name}" for name in rule_file.META_FIELDS),
        *rule_file.SPEC_FIELDS,
        *(f"rate.{name}" for name in rule_file.RATE_FIELDS),
        *(f"freeze.{name}" for name in rule_file.FREEZE_FIELDS),
        *(f"windows.{name}" for name in rule_file.WINDOW_FIELDS),
    }
    assert named == expected - {"rate", "freeze", "windows"}
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(examples) >= 3
    for example in examples:
        assert parse_rule(example, "rules.md").name.startswith("porto-daemon-")


def test_users_reference_names_every_reason_of_a_no() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "ya_salt").rglob("*.py"))
    reasons = set(re.findall(r'Deferral\(\s*"([A-Z]\w+)"', sources))
    assert {"Full", "Halted", "Frozen", "RuleMissing"} <= reasons
    table = (ROOT / "docs/rules.md").read_text().partition("## Which field says no")[2]
    assert reasons <= set(re.findall(r"`([A-Z]\w+)`", table))


LINES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=12)
TEXTS = LINES.filter(lambda text: text == text.strip() and text.isprintable())
FACTS = TEXTS.filter(lambda text: "," not in text)
COUNTS = st.integers(1, 10_000)
NAMES = st.from_regex(r"[A-Za-z0-9_@:.-]{1,200}", fullmatch=True).filter(
    lambda name: name not in (".", "..")
)


def durations(low_s: int) -> st.SearchStrategy[str]:
    plain = st.integers(low_s, MAX_S)
    return st.one_of(plain.map(show_duration), plain.map("{}s".format))


ZONES = st.sampled_from(["UTC", "Europe/Moscow", "Europe/Berlin", "America/Havana", "Asia/Tokyo"])
DATES = st.builds(
    "{:04}-{:02}-{:02}{}".format,
    st.integers(2000, 2099),
    st.integers(1, 12),
    st.integers(1, 28),
    st.one_of(st.just(""), st.integers(0, 1439).map(lambda minute: " " + show_minute(minute))),
)
FREEZES = st.tuples(DATES, DATES, st.none() | TEXTS).filter(
    lambda freeze: f"{freeze[0]} 00:00"[:16] < f"{freeze[1]} 00:00"[:16]
)


def _make_freeze(parts: tuple[str, str, str | None]) -> dict[str, str]:
    start, end, reason = parts
    return {"from": start, "to": end} | ({"reason": reason} if reason else {})


DAY_LISTS = st.frozensets(st.sampled_from(DAYS), min_size=1).map(sorted)
WINDOWS = (
    st.tuples(
        st.integers(0, 1439), st.integers(0, 1440), st.none() | DAY_LISTS | st.just("mon-fri")
    )
    .filter(lambda window: window[0] != window[1])
    .map(
        lambda window: (
            {"from": show_minute(window[0]), "to": show_minute(window[1])}
            | ({"days": window[2]} if window[2] else {})
        )
    )
)
HALTS = st.one_of(
    st.just({}),
    st.just({"halt_on_failure": False}),
    st.just({"halt_on_failure": True}),
    COUNTS.map(lambda count: {"halt_on_failure": True, "max_failures": count}),
    COUNTS.map(lambda count: {"max_failures": count}),
)
SPECS = st.fixed_dictionaries(
    {"max_concurrent": COUNTS},
    optional={
        "rate": st.fixed_dictionaries({"count": COUNTS, "window": durations(2)}),
        "selector": st.dictionaries(
            FACTS,
            FACTS | st.lists(FACTS, min_size=1, max_size=3, unique=True),
            min_size=1,
            max_size=3,
        ),
        "min_healthy_time": durations(0),
        "first_install": st.sampled_from(["gate", "allow"]),
        "on_lost": st.sampled_from(["hold", "free"]),
        "lost_after": durations(10),
        "time_zone": ZONES,
        "freeze": st.lists(FREEZES.map(_make_freeze), min_size=1, max_size=3),
        "windows": st.lists(WINDOWS, min_size=1, max_size=3),
    },
)
MANIFESTS = st.builds(
    lambda meta, spec, halt: {"meta": meta, "spec": spec | halt},
    st.fixed_dictionaries(
        {"name": NAMES},
        optional={
            "kind": st.just("OrlyRule"),
            "annotations": st.dictionaries(TEXTS, st.text(max_size=5).filter(str.isprintable)),
        },
    ),
    SPECS,
    HALTS,
)
GENERATED = settings(deadline=None)


@GENERATED
@given(MANIFESTS)
def test_document_gives_an_equal_rule_and_is_a_manifest_of_the_proto(
    content: dict[str, Any],
) -> None:
    rule = parse_rule(json.dumps(content), "r", is_json=True)
    assert parse_rule(rule.document, "r", is_json=True) == rule
    assert parse_rule(rule.document, "r") == rule
    message = Parse(rule.document, OrlyRuleManifest())
    assert message.meta.name == rule.name
    assert message.spec.max_concurrent == rule.max_concurrent
    assert len(message.spec.freeze) == len(rule.freeze)
    assert {name: tuple(values) for name, values in message.spec.selector.items()} == rule.selector
    for keep in (True, False):
        printed = json.dumps(MessageToDict(message, preserving_proto_field_name=keep))
        assert parse_rule(printed, "r", is_json=True) == rule


@GENERATED
@given(MANIFESTS)
def test_yaml_and_json_and_any_order_are_one_rule(content: dict[str, Any]) -> None:
    rule = parse_rule(json.dumps(content), "r", is_json=True)
    shuffled = {key: dict(reversed(content[key].items())) for key in reversed(content)}
    assert parse_rule(yaml.safe_dump(shuffled, allow_unicode=True, sort_keys=False), "r") == rule


@given(st.integers(0, MAX_S))
def test_shown_duration_is_the_same_time(seconds: int) -> None:
    assert parse_duration(show_duration(seconds)) == seconds


@pytest.mark.parametrize("minute", [0, 1, 599, 600, 1439, 1440])
def test_shown_minute_is_the_same_minute(minute: int) -> None:
    assert parse_minute(show_minute(minute)) == minute


def test_shown_days_are_the_same_days() -> None:
    for bits in range(1, 128):
        days = frozenset(day for day in range(7) if bits >> day & 1)
        shown = show_days(days)
        assert [day for text in shown for day in parse_days(text)] == sorted(days)
    assert show_days(frozenset({0, 1, 2, 3, 4, 6})) == ["mon-fri", "sun"]


# -- whatever a text holds -------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        *(
            "meta",
            "spec",
            "name",
            "max_concurrent",
            "rate",
            "count",
            "window",
            "selector",
            "freeze",
        ),
        *("windows", "days", "from", "to", "time_zone", "Europe/Berlin", "10:00", "2026-03-29"),
        *("mon-fri", "1h30m", "*a", "&a", "<<", "!!str", "|", "- ", ": ", "{", "}", "[", "]", ","),
        *('"', "'", "\\", "\n", "  ", "1.10", "~", "null", "\t", "#", "---\n", "\0", "\ud800", "é"),
        *("true", "0x1", "\u2028", "\x85", "\x7f", "?", "%", "@", "`", "\ufeff"),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS
KEYS = st.sampled_from(
    sorted({name for names in MESSAGES.values() for name in names} | {"maxConcurrent", "lostAfter"})
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | WORDS, inner, max_size=5),
    max_leaves=15,
)


def is_read(text: str, *, is_json: bool) -> bool:
    try:
        rule = parse_rule(text, "r", is_json=is_json)
    except SpecError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.line >= 1
            assert problem.column >= 1
            assert str(problem).isprintable(), str(problem)
        return False
    assert parse_rule(rule.document, "r", is_json=True) == rule
    return True


@given(st.text(max_size=200), st.booleans())
def test_any_text(text: str, is_json: bool) -> None:
    is_read(text, is_json=is_json)


@given(st.lists(WORDS, max_size=60).map("".join), st.booleans())
def test_any_heap_of_words(text: str, is_json: bool) -> None:
    is_read(text, is_json=is_json)


@GENERATED
@given(TREES, st.dictionaries(KEYS, TREES, max_size=8))
def test_any_tree(meta: Any, spec: dict[str, Any]) -> None:
    content = {"meta": meta, "spec": {"max_concurrent": 1} | spec}
    is_read(json.dumps(content), is_json=True)
    is_read(yaml.safe_dump(content, allow_unicode=True), is_json=False)


@GENERATED
@given(MANIFESTS, st.data())
def test_one_thing_wrong_is_one_error_or_none(content: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(content["spec"])))
    content["spec"][name] = data.draw(TREES)
    is_read(json.dumps(content), is_json=True)


# -- files -----------------------------------------------------------------------------------------


def test_json_file_is_told_by_its_ending(tmp_path: Path) -> None:
    document = read("  rate: {count: 1, window: 2s}\n").document
    (tmp_path / "r.json").write_text(document)
    (tmp_path / "r.yaml").write_text(document.replace('"r"', "r"))
    assert load_rule_file(str(tmp_path / "r.json")) == load_rule_file(str(tmp_path / "r.yaml"))
    (tmp_path / "r.json").write_text(document.replace('"r"', "r"))
    with pytest.raises(SpecError, match=re.escape(f"{tmp_path}/r.json:1:17: ")):
        load_rule_file(str(tmp_path / "r.json"))


def test_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    for name, text in (("r.yaml", GOOD), ("r.json", read("").document)):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert load_rule_file(str(tmp_path / name)) == read("")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (GOOD.encode() + b"  # caf\xe9\n", "4:8: is not UTF-8 here; save the file as UTF-8"),
        (
            GOOD.encode() + b"#" * (1 << 20),
            "1:1: is over 1048576 bytes; a rule is a few kilobytes",
        ),
        (b"", "1:1: is empty; write a mapping with meta and spec"),
    ],
)
def test_content_that_cannot_be_a_rule(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        load_rule_file(str(path))
    assert str(caught.value) == f"{path}:{words}"


def test_largest_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(GOOD + "#" * ((1 << 20) - len(GOOD)))
    assert load_rule_file(str(path)) == read("")


def test_files_that_cannot_be_read_are_the_operators(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text(GOOD)
    (tmp_path / "link.yaml").symlink_to("real.yaml")
    assert load_rule_file(str(tmp_path / "link.yaml")) == read("")
    os.mkfifo(tmp_path / "fifo.yaml")
    for name, words in [
        ("none.yaml", "cannot be read: No such file or directory"),
        ("", "cannot be read: Is a directory"),
        ("fifo.yaml", "is a FIFO; put a regular file here"),
        ("a\0b", "cannot be read: "),
        ("a\nb", "a\\nb: cannot be read: "),
    ]:
        with pytest.raises(OperatorError, match=re.escape(words)) as caught:
            load_rule_file(f"{tmp_path}/{name}")
        assert not isinstance(caught.value, SpecError)
        assert str(caught.value).isprintable()


def load_from_stdin(content: bytes, before: str = "") -> subprocess.CompletedProcess[str]:
    code = (
        f"import os\n{before}\nfrom ya_salt.gate.rule_file import load_rule_file\n"
        "try: print(load_rule_file('-').max_concurrent)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", code]
    return subprocess.run(command, input=content, capture_output=True, check=True, cwd=ROOT)


def test_standard_input_is_a_file_too() -> None:
    assert load_from_stdin(GOOD.encode()).stdout == b"1\n"
    assert load_from_stdin(b"\xe9").stdout.decode() == (
        "SpecError standard input:1:1: is not UTF-8 here; save the file as UTF-8\n"
    )
    assert load_from_stdin(b"", "os.close(0)").stdout.decode() == (
        "OperatorError standard input: cannot be read: Bad file descriptor\n"
    )


def test_reading_rules_needs_neither_protobuf_nor_etcd() -> None:
    code = (
        "import sys, ya_salt.gate.rule_file;"
        " print([m for m in sys.modules if m.startswith(('google', 'http.client', 'ssl'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
