"""Changes that somebody else makes: put right, told, given up; real containers and packages."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.example import ExampleHost
from helpers.package_host import needs_apt
from helpers.passes import Passes
from helpers.portod import DevPortod

from ya_salt.converge.host import Host
from ya_salt.life import Order
from ya_salt.messages import make_daemon_status
from ya_salt.model import DaemonStatus
from ya_salt.packages.apt import Apt
from ya_salt.store import open_store

NAME = "drifting"


@pytest.fixture(scope="module")
def portod() -> Iterator[DevPortod]:
    with DevPortod() as server:
        yield server


class Drifting(Passes):
    """A daemon whose limit somebody else changes, and a clock."""

    late = 0.0

    def write_drift(self, drift: str = "correct", limit: str = "64Mb", more: str = "") -> None:
        (self.specs_dir / f"{NAME}.yaml").write_text(
            f"meta: {{name: {NAME}, version: '1'}}\n"
            f"spec:\n  min_ready_s: 0\n  ready_timeout_s: 5\n  drift: {drift}\n"
            f"  properties:\n    cmd: [sleep, '1000']\n    memory_limit: {limit}\n{more}"
        )

    def make_host(self, connect=None) -> Host:
        host = super().make_host(connect)
        now = host.now
        return replace(host, now=lambda: now() + self.late)

    def meddle(self, value: str = "100000000", name: str = "memory_limit") -> None:
        with self.client() as client:
            client.set_property(NAME, name, value)

    def limit(self) -> str:
        with self.client() as client:
            return client.get_property(NAME, "memory_limit")

    def status(self, **scope) -> DaemonStatus:
        (status,) = self.run(**scope).statuses
        return status

    def history(self) -> list[str]:
        store = open_store(self.settings.state_dir)
        said = [event.what for event in store.load_history(NAME, 100)]
        store.close()
        return said


@pytest.fixture
def host(folder: Path, portod: DevPortod) -> Iterator[Drifting]:
    made = Drifting(folder, portod.socket_path)
    made.write_drift()
    yield made
    made.late = 0.0
    made.write(NAME, "", delete=True)
    made.run()


def test_the_history_has_from_and_to(host: Drifting) -> None:
    host.run_one()
    host.meddle()
    assert host.run_one().actions == ("live change: changed by somebody else: memory_limit",)
    (said,) = [what for what in host.history() if "somebody" in what]
    assert "memory_limit 100000000 -> 67108864" in said or "memory_limit 99999744" in said


def test_report_leaves_it_and_says_so(host: Drifting) -> None:
    host.write_drift("report")
    host.run_one()
    host.meddle()
    now = host.limit()
    for _ in range(2):
        result = host.run()
        assert result.ok
        (status,) = result.statuses
        assert status.actions == ()
        (item,) = status.drift
        assert (item.what, item.now, item.wanted) == ("memory_limit", now, "67108864")
        assert any("memory_limit" in warning and now in warning for warning in status.warnings)
        assert make_daemon_status(status)["drift"][0]["value"] == now
    assert host.limit() == now
    (note,) = host.plan()[NAME].notes
    assert "report" in note
    assert len([what for what in host.history() if "left as it is" in what]) == 1
    # What the file says is done all the same, and does not take the rest along.
    host.write_drift("report", more="    cpu_limit: 1c\n")
    status = host.run_one()
    assert status.actions == ("live change: changed in the spec: cpu_limit",)
    assert host.limit() == now
    # A new process is as its spec says.
    host.write_drift("report", more="    cpu_limit: 1c\n    cwd: /tmp\n")
    assert host.run_one().drift == ()
    assert host.limit() == "67108864"
    host.meddle()
    host.write_drift("correct", more="    cpu_limit: 1c\n    cwd: /tmp\n")
    assert host.run_one().actions == ("live change: changed by somebody else: memory_limit",)


def give_up(host: Drifting) -> None:
    host.run_one()
    for _ in range(3):
        host.meddle()
        assert len(host.run_one().actions) == 1
    host.meddle()


def test_the_third_time_was_the_last_within_the_hour(host: Drifting) -> None:
    give_up(host)
    now = host.limit()
    result = host.run()
    assert not result.ok
    (status,) = result.statuses
    assert status.actions == ()
    assert status.ready is not None
    assert status.ready.status
    (item,) = status.drift
    assert item.until > 0
    assert any("3 times" in warning and f"retry {NAME}" in warning for warning in status.warnings)
    assert host.limit() == now
    host.status()
    assert len([what for what in host.history() if "3 times" in what]) == 1
    # Anything else that is changed is put right.
    host.meddle("5000000000ns", "respawn_delay")
    host.meddle("2c", "cpu_limit")
    host.late = 3601
    assert len(host.run_one().actions) == 1
    assert host.limit() == "67108864"


def test_another_property_has_its_own_count(host: Drifting) -> None:
    host.write_drift(more="    cpu_limit: 1c\n")
    give_up(host)
    host.meddle("2c", "cpu_limit")
    status = host.status()
    assert status.actions == ("live change: changed by somebody else: cpu_limit",)
    assert [item.what for item in status.drift] == ["memory_limit"]


@pytest.mark.parametrize("way", ["file", "retry", "restart"])
def test_it_is_taken_up_again(host: Drifting, way: str) -> None:
    give_up(host)
    assert host.status().drift
    scope = {}
    if way == "file":
        host.write_drift(limit="128Mb")
    elif way == "retry":
        scope = {"orders": {NAME: Order("retry", "shell: alice")}}
    else:
        scope = {"restarts": {NAME: "asked for"}}
    status = host.status(**scope)
    assert status.drift == ()
    assert status.actions
    assert host.limit() == ("134217728" if way == "file" else "67108864")
    host.meddle()
    assert len(host.run_one().actions) == 1


def test_what_is_three_times_right_over_more_than_an_hour_goes_on(host: Drifting) -> None:
    host.run_one()
    for _ in range(5):
        host.meddle()
        assert len(host.run_one().actions) == 1
        host.late += 1300


@needs_apt
@pytest.mark.parametrize("drift", ["correct", "report"])
def test_a_package_that_somebody_else_upgrades(folder: Path, drift: str) -> None:
    with ExampleHost(folder) as host:
        for version in ("1", "2"):
            host.repository.add("agent-bin", version, files={"opt/agent": version})
        host.repository.write_index()
        host.spec_file.write_text(
            f"meta: {{name: agent}}\nspec:\n  min_ready_s: 0\n  drift: {drift}\n"
            "  packages: [{name: agent-bin, version: '1'}]\n"
            "  properties: {cmd: [sleep, '1000']}\n"
        )

        def apply(code: int = 0) -> dict:
            done = host.run("apply", "-o", "json")
            assert done.returncode == code, done.stdout + done.stderr
            return json.loads(done.stdout)["portoDaemons"][0]

        def upgrade() -> None:
            argv = ["apt-get", "install", "-y", "agent-bin=2"]
            done = subprocess.run(
                argv, env=Apt(str(host.root)).place.environment(), capture_output=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr

        apply()
        for _ in range(3 if drift == "correct" else 0):
            upgrade()
            status = apply()
            kinds = [action.split(":")[0] for action in status["actions"]]
            assert kinds == ["install", "restart"]
            assert any("apt-get install -y agent-bin=2" in said for said in status["warnings"])
        upgrade()
        for _ in range(2):
            status = apply(1)
            assert status["actions"] == []
            (item,) = status["drift"]
            assert (item["what"], item["value"], item["wanted"]) == ("package agent-bin", "2", "1")
            assert "apt-get install -y agent-bin=2" in item["by"]
            assert ("until" in item) == (drift == "correct")
        assert host.installed()["agent-bin"] == "2"
        if drift == "correct":
            assert host.run("retry", "agent").returncode == 0
            assert host.installed()["agent-bin"] == "1"
