"""Who may read how daemons stand: root, and the members of one group; secrets are nobody's."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.contracts import check_output
from helpers.example import ExampleHost

from ya_salt.readers import share

GROUP, GID = "games", 60
"""Debian has it on every machine."""
SECRET = "never-to-be-seen"
SPEC = "meta: {{name: {0}}}\nspec: {{min_ready_s: 0, properties: {{cmd: [sleep, '1000']{1}}}}}\n"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to a group")


@pytest.fixture
def shared(host: ExampleHost, monkeypatch: pytest.MonkeyPatch) -> ExampleHost:
    """Two daemons that run; the file of `secret` is root's alone."""
    monkeypatch.setenv("YA_SALT_READ_GROUP", GROUP)
    (host.specs_dir / "open.yaml").write_text(SPEC.format("open", ""))
    hidden = host.specs_dir / "secret.yaml"
    hidden.write_text(SPEC.format("secret", f", env_secret: {{A: {SECRET}}}"))
    hidden.chmod(0o600)
    done = host.run("apply")
    assert done.returncode == 0, done.stdout + done.stderr
    return host


def run_as(
    host: ExampleHost, *words: str, is_member: bool = True
) -> subprocess.CompletedProcess[str]:
    """As user nobody, who is a member of the group or not."""
    groups = ["--groups", str(GID)] if is_member else ["--clear-groups"]
    command = ["setpriv", "--reuid=65534", "--regid=65534", *groups]
    done = subprocess.run(
        [*command, sys.executable, "-m", "ya_salt.cli.main", *words],
        env=host.environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    check_output(words, done.stdout)
    return done


def test_a_member_reads_how_daemons_stand_without_root(shared: ExampleHost) -> None:
    done = run_as(shared, "status", "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert {item["name"]: item["phase"] for item in told["portoDaemons"]} == {
        "open": "Managed",
        "secret": "Managed",
    }
    assert told["rejectedFiles"] == []
    assert "not readable for you" in done.stderr
    assert str(shared.specs_dir / "secret.yaml") in done.stderr
    for words in (["history"], ["spec"], ["plan", "open"], ["generations", "open"]):
        done = run_as(shared, *words)
        assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(run_as(shared, "why", "secret", "-o", "json").stdout)["kind"] == "Ready"


def test_plan_says_which_file_it_could_not_read(shared: ExampleHost) -> None:
    done = run_as(shared, "plan")
    assert done.returncode == 1
    assert "secret.yaml: cannot be read: Permission denied" in done.stderr


def test_secrets_and_what_guards_them_stay_roots_alone(shared: ExampleHost) -> None:
    for words in (
        *(["status", "secret"], ["spec"], ["history"], ["describe", "secret"], ["plan"]),
        *(["why", "secret"], ["generations", "secret"]),
    ):
        for form in ("json", "yaml"):
            done = run_as(shared, *words, "-o", form)
            assert SECRET not in done.stdout + done.stderr
    readable = {
        path.name for path in shared.state_dir.rglob("*") if path.stat().st_mode & stat.S_IRGRP
    }
    assert readable <= {"store.sqlite3", "journal"}
    assert "store.sqlite3" in readable
    assert SECRET.encode() not in (shared.state_dir / "store.sqlite3").read_bytes()
    writable = [
        path
        for path in (shared.state_dir, *shared.state_dir.rglob("*"))
        if path.stat().st_mode & (stat.S_IWGRP | stat.S_IRWXO)
    ]
    assert writable == []


def test_who_is_no_member_reads_nothing(shared: ExampleHost) -> None:
    for command in ("status", "history", "spec", "plan"):
        done = run_as(shared, command, is_member=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert "Permission denied" in done.stderr
        assert "or as a member of the settings' read_group" in done.stderr


def test_a_member_changes_nothing(shared: ExampleHost) -> None:
    before = {path: path.stat().st_mtime_ns for path in shared.state_dir.rglob("*")}
    for words in (["apply"], ["restart", "open"], ["stop", "open"], ["report"]):
        done = run_as(shared, *words)
        assert done.returncode in (1, 2), done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in shared.state_dir.rglob("*")} == before


def test_what_a_group_was_given_is_taken_back(
    shared: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YA_SALT_READ_GROUP", "")
    assert shared.run("apply", "--full").returncode == 0
    assert run_as(shared, "status").returncode == 1
    assert stat.S_IMODE(shared.state_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((shared.state_dir / "store.sqlite3").stat().st_mode) == 0o600


def test_a_group_that_is_not_there_is_no_reason_to_fail(
    host: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YA_SALT_READ_GROUP", "no-such-group")
    (host.specs_dir / "open.yaml").write_text(SPEC.format("open", ""))
    assert host.run("apply").returncode == 0
    assert stat.S_IMODE(host.state_dir.stat().st_mode) == 0o700


def test_a_link_in_the_place_of_a_file_is_given_to_nobody(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("")
    victim.chmod(0o600)
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    (folder / "store.sqlite3").symlink_to(victim)
    share(str(folder), ["store.sqlite3"], GROUP)
    assert (stat.S_IMODE(victim.stat().st_mode), victim.stat().st_gid) == (0o600, 0)
    shutil.rmtree(folder)
