"""The agent asks daemons between its passes whether they are ready."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import answering
from helpers.agents import AgentHost, measure
from helpers.programs import find_free_ports, wait_for


class Asked:
    """A daemon that answers as the test says, on a host whose passes no clock makes."""

    def __init__(self, host: AgentHost) -> None:
        self.host = host
        self.folder = host.folder / "daemon"
        self.folder.mkdir()
        (self.port,) = find_free_ports(1)
        self.say("200")

    def say(self, word: str) -> None:
        (self.folder / "new").write_text(word)
        (self.folder / "new").rename(self.folder / "answer")

    def drop(self, readiness: str) -> None:
        command = [sys.executable, answering.__file__, str(self.port), str(self.folder)]
        draft = self.host.folder / "draft"
        draft.write_text(
            "meta: {name: d, version: '1'}\nspec:\n  min_ready_s: 0\n  ready_timeout_s: 10\n"
            f"  readiness: {{http: {{port: {self.port}}}, period_s: 1, {readiness}}}\n"
            f"  properties: {{cmd: {command}}}\n"
        )
        draft.rename(self.host.specs_dir / "d.yaml")

    def read(self) -> dict[str, Any]:
        """What the last pass saved."""
        told = json.loads(self.host.run("status", "--saved", "-o", "json").stdout)
        found: dict[str, Any] = told["portoDaemons"][0]
        return found

    def read_reason(self) -> str:
        return str(self.read()["conditions"]["ready"]["reason"])

    def count_asked(self) -> int:
        asked = self.folder / "asked"
        return len(asked.read_text().splitlines()) if asked.exists() else 0


@pytest.fixture
def asked(host: AgentHost) -> Asked:
    return Asked(host)


def test_a_daemon_that_fails_is_told_within_its_periods(asked: Asked) -> None:
    asked.drop("failure_threshold: 3")
    asked.host.start()
    wait_for(lambda: asked.read_reason() == "Ready", "it is ready")
    passes = asked.host.passes()
    elapsed_s = measure(
        lambda: asked.say("503"), lambda: asked.host.passes() > passes, "a pass about it"
    )
    assert 1.5 < elapsed_s < 6
    wait_for(lambda: asked.read_reason() == "ProbeFailed", "it is told")
    assert asked.read()["probe"]["failures"] >= 3
    # No warning: it is asked as often as its spec says.
    assert not any("period_s" in item for item in asked.read()["warnings"])
    asked.say("200")
    wait_for(lambda: asked.read_reason() == "Ready", "it is ready again")


def test_it_is_started_anew_where_its_spec_says_so(asked: Asked) -> None:
    asked.drop("failure_threshold: 2, on_failure: restart")
    asked.host.start()
    pid = asked.host.value("d", "root_pid")
    asked.say("503")
    wait_for(lambda: asked.host.value("d", "root_pid") not in {"", pid}, "it is started anew")


def test_an_agent_that_is_killed_changes_no_verdict(asked: Asked) -> None:
    asked.drop("failure_threshold: 2")
    asked.host.start()
    pid = asked.host.value("d", "root_pid")
    asked.say("503")
    wait_for(lambda: asked.read_reason() == "ProbeFailed", "it is told")
    asked.host.end(signal.SIGKILL)
    asked.host.start()
    status = asked.read()
    assert status["conditions"]["ready"]["reason"] == "ProbeFailed"
    assert status["probe"]["failures"] >= 2
    assert asked.host.value("d", "root_pid") == pid


def test_its_own_questions_wake_nobody(asked: Asked) -> None:
    """A command's container is started and stopped each second: no state that concerns anybody."""
    asked.drop("failure_threshold: 2")
    text = (asked.host.specs_dir / "d.yaml").read_text()
    log = Path(asked.folder, "log")
    draft = asked.host.folder / "draft"
    draft.write_text(
        text.replace(f"http: {{port: {asked.port}}}", f"exec: [sh, -c, 'echo x >> {log}']")
    )
    draft.rename(asked.host.specs_dir / "d.yaml")
    asked.host.start()
    passes, begun = asked.host.passes(), len(log.read_text().splitlines())
    wait_for(lambda: len(log.read_text().splitlines()) >= begun + 3, "it is asked three times")
    assert asked.host.passes() == passes
