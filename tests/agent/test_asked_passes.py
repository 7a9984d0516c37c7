"""Passes of the agent over daemons that are asked: it asks them itself, so these are quick, too."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import answering
from helpers.agents import AgentHost, measure
from helpers.programs import find_free_ports, wait_for

from ya_salt import as_left


class AskedHost(AgentHost):
    """Under an agent with a pass each second, and node_exporter's directory."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, interval_s=1)
        self.answers = folder / "answers"
        self.answers.mkdir()
        (folder / "textfile").mkdir()
        (self.port,) = find_free_ports(1)
        self.say("200")

    def say(self, word: str) -> None:
        (self.answers / "new").write_text(word)
        (self.answers / "new").rename(self.answers / "answer")

    def count_asked(self) -> int:
        return len((self.answers / "asked").read_text().splitlines())

    def drop_asked(self, failure_threshold: int = 3, period_s: int = 1) -> None:
        """The daemon d, which answers as it was told to, and e, which a command asks."""
        serve = [sys.executable, answering.__file__, str(self.port), str(self.answers)]
        http = f"http: {{port: {self.port}}}"
        for name, command, how in (
            ("d", serve, http),
            ("e", ["sleep", "1000"], "exec: ['true']"),
        ):
            draft = self.folder / "draft"
            draft.write_text(
                f"meta: {{name: {name}, version: '1'}}\nspec:\n  min_ready_s: 0\n"
                f"  readiness: {{{how}, period_s: {period_s}, timeout_s: 5, "
                f"failure_threshold: {failure_threshold}}}\n"
                f"  properties: {{cmd: {command}}}\n"
            )
            draft.rename(self.specs_dir / f"{name}.yaml")

    def wait_for_quick_pass(self) -> None:
        state_dir = str(self.state_dir)
        before = as_left.load_pass(state_dir)
        wait_for(lambda: as_left.load_pass(state_dir) not in {None, before}, "a quick pass", 60)

    def is_quick(self, seconds: float = 4.0) -> bool:
        """Whether any pass of these seconds is."""
        before, give_up = as_left.load_pass(str(self.state_dir)), time.monotonic() + seconds
        while time.monotonic() < give_up:
            if as_left.load_pass(str(self.state_dir)) not in {None, before}:
                return True
            time.sleep(0.05)
        return False

    def read_metric(self, name: str) -> float | None:
        """Of the daemon d."""
        path = self.folder / "textfile/ya-salt.prom"
        text = path.read_text() if path.exists() else ""
        found = re.search(rf'^{name}{{daemon="d"}} (\S+)$', text, re.MULTILINE)
        return float(found[1]) if found else None

    def sign_store(self) -> tuple[int, int]:
        found = (self.state_dir / "store.sqlite3").stat()
        return found.st_ino, found.st_mtime_ns


@pytest.fixture
def host(folder: Path) -> Iterator[AskedHost]:
    with AskedHost(folder) as started:
        yield started


@pytest.fixture
def quiet(host: AskedHost) -> AskedHost:
    host.drop_asked()
    host.start()
    host.wait_for_quick_pass()
    return host


def test_they_are_quick_and_ask_as_often_as_before(quiet: AskedHost) -> None:
    store, asked = quiet.sign_store(), quiet.count_asked()
    started = time.monotonic()
    for _ in range(4):
        quiet.wait_for_quick_pass()
    assert quiet.sign_store() == store
    assert quiet.count_asked() - asked >= (time.monotonic() - started) // 2


def test_when_a_daemon_was_asked_last_is_told_as_it_was(quiet: AskedHost) -> None:
    for _ in range(4):
        quiet.wait_for_quick_pass()
    now = time.time()
    for words in (["--saved"], []):
        told = json.loads(quiet.run("status", *words, "-o", "json").stdout)["portoDaemons"]
        for daemon in told:
            asked_at = daemon["probe"]["askedAt"]
            before = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now - 3.5))
            assert asked_at >= before, words
    text = quiet.run("status", "d").stdout
    assert re.search(r"ready; asked [0-4]s ago: it answered 200", text), text


def test_a_daemon_that_begins_to_fail_is_told_within_its_periods(quiet: AskedHost) -> None:
    elapsed_s = measure(
        lambda: quiet.say("503"),
        lambda: quiet.read_metric("porto_daemon_ready") == 0.0,
        "it is told",
    )
    assert 1.5 < elapsed_s < 8
    assert (quiet.read_metric("porto_daemon_probe_failures") or 0) >= 3
    assert not quiet.is_quick()
    quiet.say("200")
    wait_for(lambda: quiet.read_metric("porto_daemon_ready") == 1.0, "it is ready again")
    history = quiet.run("history", "d").stdout
    assert "not ready (ProbeFailed)" in history
    quiet.wait_for_quick_pass()
    assert quiet.read_metric("porto_daemon_probe_failures") == 0.0


def test_a_failure_that_makes_nothing_of_it_is_told_by_the_next_pass(host: AskedHost) -> None:
    host.drop_asked(failure_threshold=100)
    host.start()
    host.wait_for_quick_pass()
    host.say("503")
    wait_for(lambda: (host.read_metric("porto_daemon_probe_failures") or 0) >= 2, "it is told")
    assert host.read_metric("porto_daemon_ready") == 1.0
    assert not host.is_quick()


def test_a_pass_of_somebody_else_asks_them(host: AskedHost) -> None:
    host.drop_asked(period_s=6)
    host.start()
    host.wait_for_quick_pass()
    # For longer than a period and a half no record is written.
    time.sleep(12)
    asked = host.count_asked()
    done = host.run("apply")
    assert done.returncode == 0, done.stderr
    assert host.count_asked() > asked
    # Whoever reads knows when they were asked last: no pass seems to be far from the one before.
    assert "period_s" not in done.stdout + done.stderr


def test_what_another_pass_has_left_is_looked_at_in_full(quiet: AskedHost) -> None:
    wait_for(
        lambda: (
            quiet.run("apply", "--full").returncode == 0
            and (as_left.read(str(quiet.state_dir)) or {}).get("who") not in {None, "agent"}
        ),
        "a snapshot of a command's",
        60,
    )
    wait_for(
        lambda: (as_left.read(str(quiet.state_dir)) or {}).get("who") == "agent",
        "a full pass of the agent's",
    )
