"""The operator's verbs as they are typed: each a pass about one daemon, with who in the history."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest
import yaml
from helpers.example import ExampleHost

from ya_salt.converge.single import parse_span
from ya_salt.errors import UsageError
from ya_salt.lock import hold_lock

SLEEPER = (
    "meta: {{name: {0}, version: '{1}'}}\n"
    "spec: {{min_ready_s: 0, properties: {{cmd: [sleep, '1000'], isolate: false{2}}}}}\n"
)


def write(host: ExampleHost, name: str, version: str = "1", more: str = "") -> Path:
    path = host.specs_dir / f"{name}.yaml"
    path.write_text(SLEEPER.format(name, version, more))
    return path


def pid(host: ExampleHost, name: str) -> int:
    return int(host.values("root_pid", name=name)["root_pid"])


def history(host: ExampleHost, name: str) -> list[dict[str, str]]:
    told = json.loads(host.run("history", name, "-o", "json").stdout)
    found: list[dict[str, str]] = told["history"]
    return found


@pytest.fixture
def two(host: ExampleHost, monkeypatch: pytest.MonkeyPatch) -> ExampleHost:
    """Daemons `one` and `two` that run, applied by alice."""
    monkeypatch.setenv("SUDO_USER", "alice")
    write(host, "one")
    write(host, "two")
    done = host.run("apply")
    assert done.returncode == 0, done.stdout + done.stderr
    return host


def test_restart_is_about_one_daemon_and_told_with_who(
    two: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    was = pid(two, "one"), pid(two, "two")
    monkeypatch.setenv("SUDO_USER", "bob")
    done = two.run("restart", "one", "--reason", "it leaks")
    assert done.returncode == 0, done.stderr
    assert "restart: asked for by shell: bob: it leaks" in done.stdout
    assert "two" not in done.stdout
    assert pid(two, "one") != was[0]
    assert pid(two, "two") == was[1]
    (restarted,) = [item for item in history(two, "one") if item["what"].startswith("restart")]
    assert restarted["who"] == "shell: bob"
    (created,) = [item for item in history(two, "two") if item["what"].startswith("create")]
    assert created["who"] == "shell: alice"
    # Nobody makes a daemon ready.
    assert {item["who"] for item in history(two, "two") if "ready" in item["what"]} == {""}
    assert two.run("plan").returncode == 0


def test_a_restart_that_is_only_tried_touches_nothing(two: ExampleHost) -> None:
    was = pid(two, "one")
    done = two.run("restart", "one", "--dry-run")
    assert done.returncode == 4
    assert done.stdout.splitlines() == ["one: restart: asked for by shell: alice"]
    assert pid(two, "one") == was


@pytest.mark.parametrize(
    "verb",
    [
        "apply",
        "plan",
        "restart",
        "stop",
        "start",
        "retry",
        "rollback",
        "generations",
        "why",
        "describe",
    ],
)
def test_a_wrong_name_is_told_with_the_nearest(two: ExampleHost, verb: str) -> None:
    done = two.run(verb, "onne")
    assert done.returncode == 2
    assert "onne" in done.stderr
    assert "did you mean one?" in done.stderr


def test_restart_needs_no_file_that_can_be_used(two: ExampleHost) -> None:
    was = pid(two, "one")
    (two.specs_dir / "one.yaml").write_text("meta: {name: one}\nspec: {nonsense: 1}\n")
    assert two.run("restart", "one").returncode == 0
    assert pid(two, "one") != was
    (two.specs_dir / "two.yaml").unlink()
    was = pid(two, "two")
    assert two.run("restart", "two").returncode == 0
    assert pid(two, "two") != was


def test_a_secret_that_only_the_file_has_is_never_made_up(two: ExampleHost) -> None:
    path = write(two, "one", more=", env_secret: {TOKEN: hunter2}")
    assert two.run("apply", "one").returncode == 0
    was = pid(two, "one")
    path.unlink()
    done = two.run("restart", "one")
    assert (done.returncode, pid(two, "one")) == (2, was)
    assert "env_secret" in done.stderr


def test_what_is_to_be_removed_is_not_restarted(two: ExampleHost) -> None:
    path = two.specs_dir / "one.yaml"
    path.write_text("meta: {name: one, delete_requested: true}\n")
    done = two.run("restart", "one")
    assert done.returncode == 2
    assert "delete_requested" in done.stderr


def test_apply_and_plan_of_a_name_are_about_it_alone(two: ExampleHost) -> None:
    was = pid(two, "one"), pid(two, "two")
    write(two, "one", more=", cwd: /tmp")
    write(two, "two", more=", cwd: /tmp")
    done = two.run("plan", "two")
    assert done.returncode == 4
    assert {line.partition(":")[0] for line in done.stdout.splitlines()} == {"two"}
    assert two.run("apply", "two").returncode == 0
    assert pid(two, "one") == was[0]
    assert pid(two, "two") != was[1]
    assert two.run("plan", "two").returncode == 0
    assert two.run("plan", "one", "two").returncode == 4


def test_apply_of_a_name_whose_file_is_broken_says_what_is_wrong(two: ExampleHost) -> None:
    (two.specs_dir / "one.yaml").write_text("meta: {name: one}\nspec: {nonsense: 1}\n")
    done = two.run("apply", "one", "two")
    assert done.returncode == 1
    assert "nonsense" in done.stderr
    assert "one.yaml:2:8" in done.stderr


@contextmanager
def following(host: ExampleHost, *words: str) -> Iterator[Queue[str]]:
    """Lines of `ya-salt history -f` as they come."""
    command = [sys.executable, "-m", "ya_salt.cli.main", "history", "-f", "-n", "0", *words]
    process = subprocess.Popen(
        command, env=host.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    lines: Queue[str] = Queue()
    stdout = process.stdout

    def read() -> None:
        for line in stdout:
            lines.put(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        # It has looked once as soon as the journal's folder was asked for; a moment is enough.
        time.sleep(1.5)
        yield lines
    finally:
        process.terminate()
        process.wait()
        reader.join()
        stdout.close()


def wait_line(lines: Queue[str], pattern: str, within_s: float = 20.0) -> str:
    give_up, seen = time.monotonic() + within_s, []
    while time.monotonic() < give_up:
        try:
            seen.append(lines.get(timeout=0.2))
        except Empty:
            continue
        if re.search(pattern, seen[-1]):
            return seen[-1]
    raise AssertionError(f"no line like {pattern!r} in {seen}")


def test_history_is_followed_across_processes_and_stores(two: ExampleHost) -> None:
    with following(two) as lines:
        assert two.run("restart", "one").returncode == 0
        wait_line(lines, r"one  shell: alice  restart: asked for by shell: alice$")
        # The store begins anew: what is done then is told all the same.
        (two.state_dir / "store.sqlite3").unlink()
        assert two.run("restart", "two").returncode == 0
        wait_line(lines, r"two  shell: alice  restart: ")
        assert lines.empty() or "create" not in lines.get()


def test_history_of_one_daemon_is_followed_as_json(two: ExampleHost) -> None:
    with following(two, "two", "-o", "json") as lines:
        assert two.run("restart", "one").returncode == 0
        assert two.run("restart", "two").returncode == 0
        told = json.loads(wait_line(lines, "restart"))
        assert (told["name"], told["who"]) == ("two", "shell: alice")


def test_who_is_the_login_where_sudo_is_none(
    two: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUDO_USER")
    monkeypatch.setenv("USER", "mallory")
    assert two.run("restart", "one").returncode == 0
    who = history(two, "one")[-1]["who"] or history(two, "one")[-2]["who"]
    assert who.startswith("shell: ")
    assert "mallory" not in who
    if os.geteuid() == 0:
        assert who == "shell: root"


def test_a_verb_waits_for_the_pass_under_way(two: ExampleHost) -> None:
    was = pid(two, "one")
    ended = threading.Event()
    with hold_lock(str(two.state_dir)):
        command = [sys.executable, "-m", "ya_salt.cli.main", "restart", "one"]
        waiting = subprocess.Popen(
            command, env=two.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        threading.Thread(target=lambda: (waiting.wait(), ended.set()), daemon=True).start()
        assert not ended.wait(3)
        assert pid(two, "one") == was
    waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert pid(two, "one") != was


def test_a_restart_waits_for_no_rest_of_a_daemon_that_keeps_dying(two: ExampleHost) -> None:
    path = write(two, "three", more=", respawn_delay: 100ms")
    text = path.read_text().replace("[sleep, '1000']", "[sh, -c, 'exit 3']")
    # Each pass is to see some deaths, and not to wait until it is ready after all.
    path.write_text(text.replace("min_ready_s: 0", "min_ready_s: 0, ready_timeout_s: 3"))
    give_up = time.monotonic() + 60
    while why(two, "three")["kind"] != "CrashLooping" and time.monotonic() < give_up:
        two.run("apply", "three")
    assert why(two, "three")["kind"] == "CrashLooping"
    done = two.run("restart", "three")
    assert "restart: asked for by shell: alice" in done.stdout


# -- why and describe ----------------------------------------------------------------------------


def why(host: ExampleHost, name: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(host.run("why", name, "-o", "json").stdout)
    return told


def test_why_leads_to_the_line_that_was_changed_by_whom(two: ExampleHost) -> None:
    path = write(two, "one", more=", env: {A: '1'}")
    assert two.run("apply", "one").returncode == 0
    path.write_text(path.read_text().replace("A: '1'", "\n    A: '2'"))
    told = why(two, "one")
    assert told["kind"] == "Pending"
    assert f"{path}:3: env[A]: 1 -> 2" in told["causes"]
    assert told["next"] == "ya-salt apply one"
    assert two.run("apply", "one").returncode == 0
    told = why(two, "one")
    assert (told["kind"], told["next"]) == ("Ready", "nothing")
    assert any("by shell: alice: restart: changed in the spec: env[A]" in c for c in told["causes"])
    assert f"{path}:3: env[A]: 1 -> 2" in told["causes"]
    shown = two.run("why", "one").stdout.splitlines()
    assert shown[0].startswith("one: it is ready since ")
    assert shown[-1] == "next: nothing"


def test_why_tells_how_a_daemon_died(two: ExampleHost) -> None:
    path = write(two, "three", more=", max_respawns: 0")
    path.write_text(path.read_text().replace("[sleep, '1000']", "[sh, -c, 'echo no >&2; exit 3']"))
    two.run("apply", "three")
    with two.client() as client:
        assert client.wait_dead("three", 10)
    told = why(two, "three")
    assert any("exited with code 3" in cause and "no" in cause for cause in told["causes"])
    # It has died but once: the next pass starts it at once.
    assert "ya-salt apply three" in told["next"]


def test_why_shows_no_secret(two: ExampleHost) -> None:
    path = write(two, "one", more=", env_secret: {TOKEN: hunter2}")
    assert two.run("apply", "one").returncode == 0
    path.write_text(path.read_text().replace("hunter2", "hunter3"))
    for command in ("why", "describe"):
        done = two.run(command, "one")
        assert done.returncode == 0
        assert "env_secret" in done.stdout
        assert "hunter" not in done.stdout


def test_why_of_a_broken_file_has_its_place(two: ExampleHost) -> None:
    (two.specs_dir / "one.yaml").write_text("meta: {name: one}\nspec: {nonsense: 1}\n")
    told = why(two, "one")
    assert told["kind"] == "FileRejected"
    assert f"{two.specs_dir}/one.yaml:2:8" in "\n".join(told["causes"])


def test_why_while_portod_is_gone(two: ExampleHost) -> None:
    two.portod.stop()
    told = why(two, "one")
    assert told["kind"] == "PortodSilent"


def test_describe_has_spec_status_history_and_why(two: ExampleHost) -> None:
    told = json.loads(two.run("describe", "one", "-o", "json").stdout)
    assert told["spec"]["meta"]["name"] == "one"
    assert told["status"]["state"] == "running"
    assert told["status"]["pid"] == pid(two, "one")
    assert told["status"]["history"][0]["who"] == "shell: alice"
    assert told["why"]["kind"] == "Ready"
    assert yaml.safe_load(two.run("describe", "one").stdout)["name"] == "one"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("3d", 259200)]
)
def test_spans_of_time(text: str, seconds: float) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "0h", "-1h", "2 hours", "2h30m", "1e3s"])
def test_what_is_no_span_of_time(text: str) -> None:
    with pytest.raises(UsageError):
        parse_span(text)


# -- orders ----------------------------------------------------------------------------------------


def test_stop_holds_over_passes_and_start_ends_it(two: ExampleHost) -> None:
    was = pid(two, "two")
    done = two.run("stop", "one", "--for", "2h", "--reason", "the disk is replaced", "--dry-run")
    assert (done.returncode, two.values("state", name="one")["state"]) == (4, "running")
    done = two.run("stop", "one", "--for", "2h", "--reason", "the disk is replaced")
    assert done.returncode == 0, done.stderr
    assert two.values("state", name="one")["state"] == "dead"
    assert two.run("apply").returncode == 0
    assert two.values("state", name="one")["state"] == "dead"
    told = why(two, "one")
    assert (told["kind"], told["next"]) == ("Held", "ya-salt start one")
    assert "the disk is replaced" in told["causes"][0]
    # A restart is no way around what somebody else has stopped on purpose.
    done = two.run("restart", "one")
    assert (done.returncode, two.values("state", name="one")["state"]) == (2, "dead")
    assert "ya-salt start one" in done.stderr
    assert two.run("start", "one").returncode == 0
    assert two.values("state", name="one")["state"] == "running"
    who = {item["what"].split()[0]: item["who"] for item in history(two, "one")}
    assert {who["stop:"], who["start:"], who["its"]} == {"shell: alice"}
    assert pid(two, "two") == was


def test_rollback_goes_back_until_retry_or_another_file(
    two: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert two.run("rollback", "one").returncode == 2
    write(two, "one", version="2", more=", cwd: /tmp")
    assert two.run("apply", "one").returncode == 0
    listed = json.loads(two.run("generations", "one", "-o", "json").stdout)["generations"]
    assert [(item["version"], item["state"]) for item in listed] == [("1", ""), ("2", "current")]
    number = str(listed[0]["number"])
    assert two.run("rollback", "one", "--to", "99").returncode == 2
    monkeypatch.setenv("SUDO_USER", "bob")
    done = two.run("rollback", "one", "--to", number)
    assert done.returncode == 0, done.stdout + done.stderr
    assert two.values("cwd", name="one")["cwd"] != "/tmp"
    asked = f"rollback to generation {number}: asked for"
    assert {"shell: bob"} == {i["who"] for i in history(two, "one") if i["what"] == asked}
    told = why(two, "one")
    assert (told["kind"], "ya-salt retry one" in told["next"]) == ("Pinned", True)
    assert two.run("plan").returncode == 0
    assert two.run("retry", "one").returncode == 0
    assert two.values("cwd", name="one")["cwd"] == "/tmp"
