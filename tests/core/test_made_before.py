"""Labels and `private` that earlier versions wrote (tests/cases/made-before.json) stay good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ya_salt.converge.drift import (
    decode_last_applied,
    hash_entries,
    hash_packages,
    hash_sent,
    make_mark,
    wanted_properties,
)
from ya_salt.converge.plan import make_plan
from ya_salt.model import LABEL, ChangeLive, Container, DaemonSpec, Observed, ReplaceContainer, Step
from ya_salt.porto.client import parse_labels
from ya_salt.specs.directory import parse_spec

MADE = {
    item["name"]: item
    for item in json.loads((Path(__file__).parent.parent / "cases/made-before.json").read_text())
}
DYNAMIC = frozenset(
    {"memory_limit", "cpu_limit", "thread_limit", "labels", "respawn", "max_respawns"}
)


def read(made: dict[str, Any], properties: str | None = None) -> DaemonSpec:
    lines = "".join(f"    {line}\n" for line in (properties or made["properties"]).splitlines())
    text = (
        f"meta: {{name: {made['name']}}}\nspec:\n  properties:\n    cmd: [sleep, '1000']\n{lines}"
    )
    return parse_spec(text, "before.yaml")


def plan(made: dict[str, Any], spec: DaemonSpec, key: bytes = b"key") -> tuple[Step, ...]:
    container = Container(
        made["name"],
        "running",
        parse_labels(made["labels"]),
        decode_last_applied(made["private"]),
        values=made["values"],
    )
    observed = Observed(
        containers={made["name"]: container}, dynamic=DYNAMIC, portod="5.3.59", key=key
    )
    return make_plan((spec,), (spec,), observed)[0].steps


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_what_was_remembered_is_understood(made: dict[str, Any]) -> None:
    applied = decode_last_applied(made["private"])
    assert applied is not None
    assert applied.packages == hash_packages(())
    assert applied.sent


@pytest.mark.parametrize("name", ["plain", "ordered"])
def test_a_digest_in_use_never_changes(name: str) -> None:
    assert parse_labels(MADE[name]["labels"])[LABEL] == read(MADE[name]).digest
    assert plan(MADE[name], read(MADE[name])) == ()


def test_a_digest_that_covers_secrets_is_replaced_live() -> None:
    made = MADE["secret"]
    spec = read(made)
    assert spec.digest != parse_labels(made["labels"])[LABEL]
    (step,) = plan(made, spec)
    assert step == ChangeLive(spec, {}, step.reason)


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_a_new_limit_is_set_live(made: dict[str, Any]) -> None:
    (step,) = plan(made, read(made, made["properties"] + "\nmax_respawns: 3"))
    assert isinstance(step, ChangeLive)
    assert step.changes == {"max_respawns": "3"}


@pytest.mark.parametrize(
    ("name", "written", "shuffled"),
    [
        ("ordered", "{B: '2', A: '1', C: 'x;y'}", "{A: '1', C: 'x;y', B: '2'}"),
        ("ordered", "{memory: true, devices: false}", "{devices: false, memory: true}"),
        (
            "secret",
            "{TOKEN: hunter2, KEY: 'correct horse'}",
            "{KEY: 'correct horse', TOKEN: hunter2}",
        ),
    ],
)
def test_another_order_beside_a_new_limit_restarts_nothing(
    name: str, written: str, shuffled: str
) -> None:
    properties = MADE[name]["properties"].replace(written, shuffled) + "\nthread_limit: 77"
    assert shuffled in properties
    (step,) = plan(MADE[name], read(MADE[name], properties))
    assert isinstance(step, ChangeLive)
    assert step.changes == {"thread_limit": "77"}


def test_only_the_variable_that_changed_is_named() -> None:
    properties = MADE["ordered"]["properties"].replace("x;y", "x;z")
    (step,) = plan(MADE["ordered"], read(MADE["ordered"], properties))
    assert isinstance(step, ReplaceContainer)
    assert step.reason == "changed in the spec: env[C]"


def test_another_secret_is_a_restart() -> None:
    properties = MADE["secret"]["properties"].replace("hunter2", "hunter3")
    (step,) = plan(MADE["secret"], read(MADE["secret"], properties))
    assert isinstance(step, ReplaceContainer)
    assert "env_secret" in step.reason


def test_no_hash_of_a_secret_can_be_tried_without_the_key() -> None:
    spec = read(MADE["secret"])
    wanted = wanted_properties(spec)
    for make in (hash_sent, hash_entries):
        assert make(wanted, b"a")["env_secret"] != make(wanted, b"b")["env_secret"]
    assert make_mark(spec, b"a") != make_mark(spec, b"b")
    other = read(MADE["secret"], MADE["secret"]["properties"].replace("hunter2", "hunter3"))
    assert other.digest == spec.digest
    assert make_mark(other, b"a") != make_mark(spec, b"a")
