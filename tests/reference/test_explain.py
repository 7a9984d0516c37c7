"""`ya-salt explain` says of every field what it is, by the tables that check it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ya_salt.cli.main import main
from ya_salt.gate import rule_file
from ya_salt.gate.rule_file import parse_rule
from ya_salt.porto.properties import PROPERTIES
from ya_salt.reference import words
from ya_salt.reference.fields import Field, list_roots, walk
from ya_salt.settings import SETTINGS, load_settings
from ya_salt.specs import behaviour, daemon
from ya_salt.specs.directory import parse_spec

EVERYTHING = {item.path: item for item in walk(list_roots())}
CHECKED = {
    "": daemon.MANIFEST_FIELDS,
    "meta.": daemon.META_FIELDS,
    "spec.": daemon.SPEC_FIELDS,
    "spec.packages.": daemon.PACKAGE_FIELDS,
    "spec.properties.": ("cmd", "command", *PROPERTIES),
    "spec.readiness.": behaviour.READINESS_FIELDS,
    "spec.readiness.http.": behaviour.HTTP_FIELDS,
    "spec.update.": behaviour.UPDATE_FIELDS,
    "spec.watch.": behaviour.WATCH_FIELDS,
    "rule.": rule_file.MANIFEST_FIELDS,
    "rule.meta.": rule_file.META_FIELDS,
    "rule.spec.": rule_file.SPEC_FIELDS,
    "rule.spec.rate.": rule_file.RATE_FIELDS,
    "rule.spec.freeze.": rule_file.FREEZE_FIELDS,
    "rule.spec.windows.": rule_file.WINDOW_FIELDS,
    "settings.": [setting.name for setting in SETTINGS],
}


def explain(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["explain", *arguments]) == 0
    return capsys.readouterr().out


def test_every_field_that_is_checked_is_explained_and_no_other() -> None:
    checked = {prefix + name for prefix, names in CHECKED.items() for name in names}
    groups = {"rule", "settings", *words.SETTINGS_GROUPS}
    assert set(EVERYTHING) == checked | groups


def test_no_words_are_left_over() -> None:
    assert (words.SPEC.keys() | words.RULE.keys()) - EVERYTHING.keys() == set()
    assert words.PROPERTY_EXAMPLES.keys() | words.PROPERTY_UNITS.keys() <= PROPERTIES.keys()
    assert words.SETTING_EXAMPLES.keys() <= {setting.name for setting in SETTINGS}


@pytest.mark.parametrize("item", EVERYTHING.values(), ids=lambda item: item.path)
def test_a_field_says_all_that_one_asks(item: Field) -> None:
    assert item.meaning.endswith(".")
    assert item.type
    if not item.is_group:
        assert item.example
        # What has no default is required, or one of several ways.
        one_of_several = {"exec", "tcp", "http", "path", "command"}
        assert item.default or item.is_required or item.name in one_of_several
        assert item.change or item.path.startswith("rule.")


def _nest(path: str, value: Any) -> Any:
    for name in reversed(path.split(".")):
        value = {name: [value] if name in {"packages", "watch", "freeze", "windows"} else value}
        if name == "freeze":
            value[name][0] = {"from": "2026-01-01", "to": "2099-12-31"} | value[name][0]
        elif name == "windows":
            value[name][0] = {"from": "00:00", "to": "24:00"} | value[name][0]
    return value


def _merge(base: Any, more: Any) -> Any:
    if isinstance(base, dict) and isinstance(more, dict):
        keys = dict.fromkeys([*base, *more])
        return {
            key: _merge(base[key], more[key])
            if key in base and key in more
            else {**base, **more}[key]
            for key in keys
        }
    return more


BESIDE: dict[str, Any] = {
    "spec.packages.name": {"version": "1"},
    "spec.packages.version": {"name": "a1"},
    "spec.packages.allow_held": {"name": "a1", "version": "1"},
    "spec.readiness.http.path": {"port": 1},
    "spec.readiness.http.status": {"port": 1},
    "spec.watch.conffiles": {},
    "spec.watch.signal": {"path": "/etc/d"},
    "spec.watch.splay_s": {"path": "/etc/d", "signal": "SIGHUP"},
    "rule.spec.rate.count": {"window": "1h"},
    "rule.spec.rate.window": {"count": 1},
}
"""What an example wants beside it."""


@pytest.mark.parametrize(
    "item", [item for item in EVERYTHING.values() if item.example], ids=lambda item: item.path
)
def test_every_example_is_taken_where_it_stands(item: Field, tmp_path: Path) -> None:
    value = yaml.safe_load(item.example)
    if item.path in BESIDE:
        value = {item.name: value, **BESIDE[item.path]}
    path = item.path.rpartition(".")[0] if item.path in BESIDE else item.path
    if item.path.startswith("rule."):
        whole = {"meta": {"name": "r"}, "spec": {"max_concurrent": 1}}
        parse_rule(json.dumps(_merge(whole, _nest(path[5:], value))), "r", is_json=True)
    elif item.path.startswith("settings."):
        told = tmp_path / "ya-salt.yaml"
        told.write_text(json.dumps(_nest(path[9:], value)))
        beside = {
            "gate.type": {"YA_SALT_GATE_ENDPOINTS": "http://e"},
            "gate.username": {"YA_SALT_GATE_PASSWORD_FILE": "/p"},
            "gate.password_file": {"YA_SALT_GATE_USERNAME": "u"},
            "gate.cert_file": {"YA_SALT_GATE_KEY_FILE": "/k"},
            "gate.key_file": {"YA_SALT_GATE_CERT_FILE": "/c"},
        }
        load_settings({}, beside.get(item.path[9:], {}), str(told))
    else:
        parse_spec(json.dumps(_merge(_whole(item), _nest(path, value))), "d.json")


def _whole(item: Field) -> dict[str, Any]:
    properties: dict[str, Any] = {"cmd": ["d"]}
    if item.name == "command":
        properties = {}
    if "a net of its own" in item.needs:
        properties["net"] = ["L3 veth"]
    spec: dict[str, Any] = {"properties": properties}
    if item.name in {"period_s", "timeout_s", "failure_threshold"} or item.path == (
        "spec.readiness.on_failure"
    ):
        spec["readiness"] = {"tcp": 1}
    if item.name == "watchdog_s":
        spec["readiness"] = {"notify": True}
    return {"meta": {"name": "d"}, "spec": spec}


def test_a_property_has_its_unit_default_change_and_what_portod_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = explain(capsys, "spec.properties.memory_limit")
    for fact in ("bytes", "0: none", "live", "controller memory", "told as 2147483648", "2Gb"):
        assert fact in told
    assert "restart" in explain(capsys, "spec.properties.ulimit")
    assert "only false" in explain(capsys, "spec.properties.isolate")
    assert "operations a second" in explain(capsys, "spec.properties.io_ops_limit")
    assert "0123abcd" not in explain(capsys, "env_secret").partition("example")[0]


def test_a_group_lists_what_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    told = explain(capsys, "settings.gate")
    assert "settings.gate.endpoints" in told
    assert "settings.monitoring" not in told
    assert "settings.monitoring.yasm" in explain(capsys, "settings.monitoring")


@pytest.mark.parametrize("typed", ["spec.properties.memoryLimit", "memory_limit", "memoryLimit"])
def test_either_spelling_and_the_end_of_a_path_will_do(
    typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(capsys, typed) == explain(capsys, "spec.properties.memory_limit")


def test_a_place_in_a_list_is_its_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(capsys, "spec.packages[3].version") == explain(capsys, "spec.packages.version")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("spec.properties.memroy_limit", "did you mean spec.properties.memory_limit"),
        ("memroy_limit", "did you mean spec.properties.memory_limit"),
        ("settings.gates", "did you mean settings.gate"),
        ("rule.spec.rates", "did you mean rule.spec.rate"),
        ("name", "meta.name, spec.packages.name or rule.meta.name"),
        ("spec.properties.weak", "set by ya-salt"),
        ("spec.properties.root_pid", "reported by portod"),
        ("zzz", "begin with meta, spec, rule or settings"),
    ],
)
def test_what_is_no_field_is_told_with_what_was_meant(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", typed]) == 2
    assert meant in capsys.readouterr().err


def test_json_has_the_same_facts(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(explain(capsys, "spec.properties.cpu_weight", "-o", "json"))
    assert (told["minimum"], told["maximum"], told["default"]) == (0.01, 100.0, "1")
    assert told["porto"] == {"name": "cpu_weight", "told": "2.5"}
    group = json.loads(explain(capsys, "rule.spec.rate", "-o", "json"))
    assert [child["path"] for child in group["children"]] == [
        "rule.spec.rate.count",
        "rule.spec.rate.window",
    ]


def test_no_pass_loads_the_words() -> None:
    code = (
        "import sys; import ya_salt.cli.main, ya_salt.cli.commands, ya_salt.converge.run;"
        "import ya_salt.cli.verbs, ya_salt.salt_api.states;"
        "sys.exit(any(name.startswith('ya_salt.reference') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
