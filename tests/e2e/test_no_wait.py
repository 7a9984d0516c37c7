"""`--no-wait`: a pass that starts daemons and leaves it to the next one to see them ready."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.example import ExampleHost
from helpers.programs import wait_for

LONG_S = 60


def write(
    host: ExampleHost,
    name: str = "one",
    *,
    cmd: str = "[sleep, '1000']",
    version: str = "1",
    more: str = f"min_ready_s: {LONG_S}",
) -> Path:
    path = host.specs_dir / f"{name}.yaml"
    path.write_text(
        f"meta: {{name: {name}, version: '{version}'}}\n"
        f"spec: {{{more}, properties: {{cmd: {cmd}, isolate: false}}}}\n"
    )
    return path


def look(host: ExampleHost, name: str = "one") -> dict[str, Any]:
    told = json.loads(host.run("status", name, "-o", "json").stdout)
    (daemon,) = (item for item in told["portoDaemons"] if item["name"] == name)
    return {**daemon, "reason": daemon["conditions"]["ready"]["reason"]}


@pytest.fixture
def bare(host: ExampleHost) -> ExampleHost:
    host.spec_file.unlink(missing_ok=True)
    return host


def test_what_is_started_is_not_waited_for(bare: ExampleHost) -> None:
    write(bare)
    began = time.monotonic()
    done = bare.run("apply", "--no-wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < LONG_S
    assert "one: not waited for: Starting: running for 0 s" in done.stdout
    assert "1 done, 0 failed, 0 waiting" in done.stdout
    assert done.stderr == ""
    assert look(bare)["state"] == "running" and look(bare)["reason"] == "Starting"
    # The pass itself was fine; that it is not ready yet is said by who asks.
    assert json.loads(bare.run("status", "-o", "json").stdout)["lastPass"]["result"] == "ok"
    assert bare.run("status").returncode == 1


def test_a_restart_need_not_be_waited_for_either(bare: ExampleHost) -> None:
    write(bare)
    assert bare.run("apply", "--no-wait").returncode == 0
    was = bare.values("root_pid", name="one")
    began = time.monotonic()
    assert bare.run("restart", "one", "--no-wait").returncode == 0
    assert time.monotonic() - began < LONG_S
    assert bare.values("root_pid", name="one") != was


def test_what_has_failed_already_is_told(bare: ExampleHost) -> None:
    write(bare, "none", cmd="[/no/such/program]")
    write(bare)
    done = bare.run("apply", "--no-wait")
    assert done.returncode == 1
    assert "1 done, 1 failed, 0 waiting" in done.stdout
    assert "one: not waited for" in done.stdout and "none: error: " in done.stdout


def test_those_that_others_come_after_are_waited_for(bare: ExampleHost) -> None:
    write(bare, "first", more="min_ready_s: 2")
    write(bare, "then", more=f"min_ready_s: {LONG_S}, after: [first]")
    done = bare.run("apply", "--no-wait")
    assert done.returncode == 0, done.stdout + done.stderr
    first, then = (
        int(bare.values("start_time[raw]", name=name)["start_time[raw]"])
        for name in ("first", "then")
    )
    assert then - first >= 2
    assert "then: not waited for" in done.stdout and "first: not" not in done.stdout


def test_an_update_that_fails_later_is_undone_by_the_next_pass(bare: ExampleHost) -> None:
    write(bare, more="min_ready_s: 0")
    assert bare.run("apply").returncode == 0
    write(bare, version="2", cmd="[sh, -c, 'sleep 1; exit 3']", more=f"min_ready_s: {LONG_S}")
    assert bare.run("apply", "--no-wait").returncode == 0
    assert look(bare)["version"] == "2"

    def is_undone() -> bool:
        bare.run("apply", "--no-wait")
        return look(bare)["reason"] == "RolledBack"

    wait_for(is_undone, "its deaths are counted, and it goes back")
    done = bare.run("apply")
    assert "1 -> 2" in done.stdout and done.returncode == 1
    assert look(bare)["state"] == "running"
