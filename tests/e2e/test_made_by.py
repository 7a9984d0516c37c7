"""Containers and stores that earlier versions left behind (tests/data/made-by): nothing restarts.

helpers/record_made_by.py records another version.
"""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from helpers.passes import Passes
from helpers.portod import DevPortod

from ya_salt.converge.drift import wanted_properties
from ya_salt.model import ChangeLive
from ya_salt.porto.client import parse_labels
from ya_salt.specs.directory import load_specs
from ya_salt.store import FILE_NAME, open_store, read_store

DATA = Path(__file__).parent.parent / "data/made-by"
MADE = {path.stem: json.loads(path.read_text()) for path in sorted(DATA.glob("*.json"))}
ALL = ["bare", "maps", "plain", "secret"]


@pytest.fixture(scope="module")
def portod() -> Iterator[DevPortod]:
    with DevPortod() as server:
        yield server


@pytest.fixture(params=MADE)
def made(
    request: pytest.FixtureRequest, portod: DevPortod, folder: Path
) -> Iterator[tuple[Passes, dict[str, Any]]]:
    """A host as that version has left it."""
    told = MADE[request.param]
    passes = Passes(folder, portod.socket_path)
    for path in (DATA / "specs").iterdir():
        shutil.copy(path, passes.specs_dir)
        (passes.specs_dir / path.name).chmod(0o600)
    with passes.client() as client:
        for spec in load_specs(str(passes.specs_dir)).specs:
            client.create(spec.name)
            for name, text in wanted_properties(spec).items():
                client.set_property(spec.name, name, text)
            client.start(spec.name)
            found = told["containers"][spec.name]
            for label, text in parse_labels(found["labels"]).items():
                client.set_property(spec.name, f"labels[{label}]", text)
            client.set_property(spec.name, "private", found["private"])
    yield passes, told
    with passes.client() as client:
        for name in ALL:
            client.destroy(name)


def put_store(passes: Passes, told: dict[str, Any]) -> None:
    state_dir = Path(passes.settings.state_dir)
    state_dir.mkdir(mode=0o700)
    path = state_dir / FILE_NAME
    path.touch(0o600)
    with closing(sqlite3.connect(path)) as db:
        db.executescript("\n".join(told["store"]))
    if told["key"]:
        key = state_dir / "secret.key"
        key.touch(0o600)
        key.write_bytes(base64.b64decode(told["key"]))


def read_pids(passes: Passes) -> dict[str, str]:
    with passes.client() as client:
        return {name: item["root_pid"] for name, item in client.get(ALL, ["root_pid"]).items()}


@pytest.mark.parametrize("has_store", [True, False])
def test_an_upgrade_restarts_nothing(made: tuple[Passes, dict[str, Any]], has_store: bool) -> None:
    passes, told = made
    if has_store:
        put_store(passes, told)
    before = read_pids(passes)
    for name, plan in passes.plan().items():
        # At most what is remembered of secrets is written anew, the process untouched.
        assert [step for step in plan.steps if not isinstance(step, ChangeLive)] == [], name
        assert [step.changes for step in plan.steps if isinstance(step, ChangeLive)] in ([], [{}])
        assert not plan.steps or name == "secret"
        assert not plan.refusal
    result = passes.run()
    assert result.ok, result.statuses
    assert [status.restart_count for status in result.statuses] == [0] * len(ALL)
    assert all(not plan.steps for plan in passes.plan().values())
    assert passes.run().touched == frozenset()
    assert read_pids(passes) == before


def test_digests_are_those_of_every_version(made: tuple[Passes, dict[str, Any]]) -> None:
    passes, told = made
    for spec in load_specs(str(passes.specs_dir)).specs:
        label = parse_labels(told["containers"][spec.name]["labels"])["HOSTMAN.spec"]
        # Of the first versions it covered the secrets, too.
        assert label == spec.digest or spec.name == "secret"


@pytest.mark.parametrize("version", MADE)
def test_stores_of_every_version_are_read_whole(version: str, folder: Path) -> None:
    passes = Passes(folder, "/nonexistent")
    put_store(passes, MADE[version])
    shown = read_store(passes.settings.state_dir)
    assert shown is not None
    store = open_store(passes.settings.state_dir)
    for each in (shown, store):
        assert (each.rebuilt, each.lost, sorted(each.load_records())) == (False, 0, ALL)
        assert [event.name for event in each.load_history() if event.what[:6] == "create"] == ALL
    assert store.load_records()["plain"].status is not None


def test_every_version_is_here() -> None:
    assert set(MADE) >= {"first", "gate", "before-lifecycle", "lifecycle"}
