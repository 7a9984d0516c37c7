"""What a pass does never depends on who listens: terminals, pipes, disks, logs may be gone."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.example import ExampleHost

SLEEPER = "meta: {name: sleeper}\nspec: {min_ready_s: 0, properties: {cmd: [sleep, '1000']}}\n"
SLOW = "meta: {name: slow}\nspec: {min_ready_s: 1, properties: {cmd: [sleep, '1000']}}\n"
LOST = "meta: {name: lost}\nspec: {properties: {cmd: [/nonexistent/program]}}\n"
YA_SALT = f"{sys.executable} -m ya_salt.cli.main"


@pytest.fixture
def asleep(host: ExampleHost) -> ExampleHost:
    """Two daemons to start and a file that cannot be used, so that there is much to tell."""
    (host.specs_dir / "broken.yaml").write_text("meta: {name: broken}\nspec: {}\n")
    (host.specs_dir / "sleeper.yaml").write_text(SLEEPER)
    (host.specs_dir / "slow.yaml").write_text(SLOW)
    return host


def run_in_shell(host: ExampleHost, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script],
        env=host.environment,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def states(host: ExampleHost) -> dict[str, str]:
    with host.client() as client:
        found = client.get(["sleeper", "slow"], ["state"])
    return {name: values["state"] for name, values in found.items()}


RUNNING = {"sleeper": "running", "slow": "running"}


@pytest.mark.parametrize(
    "listeners",
    [
        ">&-",
        "2>&-",
        "<&- >&- 2>&-",
        ">/dev/full",
        "2>/dev/full",
        ">/dev/full 2>/dev/full",
        "| true",
        "2>&1 | true",
        "| head -1",
    ],
)
def test_a_pass_is_made_whoever_listens(asleep: ExampleHost, listeners: str) -> None:
    done = run_in_shell(asleep, f"{YA_SALT} apply {listeners}; exit ${{PIPESTATUS[0]}}")
    # As ever with a file that cannot be used.
    assert done.returncode == 1, done
    assert states(asleep) == RUNNING
    assert "Traceback" not in done.stderr
    last = json.loads(asleep.run("status", "-o", "json").stdout)["lastPass"]
    assert last["error"] == ""
    # Fine but for that file.
    (asleep.specs_dir / "broken.yaml").unlink()
    done = run_in_shell(asleep, f"{YA_SALT} apply {listeners}; exit ${{PIPESTATUS[0]}}")
    assert done.returncode == 0, done


def test_what_stdout_did_not_take_is_one_word_on_stderr(asleep: ExampleHost) -> None:
    for listeners, why in [(">/dev/full", "No space left on device"), (">&-", "closed")]:
        done = run_in_shell(asleep, f"{YA_SALT} apply {listeners}")
        (line,) = [line for line in done.stderr.splitlines() if "stdout" in line]
        assert why in line


@pytest.mark.parametrize("program", ["ya-salt", "orlyctl"])
def test_an_answer_that_nobody_got_is_no_success(folder: Path, program: str) -> None:
    rule = folder / "rule.yaml"
    rule.write_text("meta: {name: porto-daemon-x}\nspec: {max_concurrent: 2}\n")
    module = {
        "ya-salt": "ya_salt.cli.main settings",
        "orlyctl": f"ya_salt.cli.orlyctl validate -f {rule}",
    }
    script = f"{sys.executable} -m {module[program]} >/dev/full"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"{program}: stdout: No space left on device: the answer was not shown whole"
    ]


def test_a_reader_who_has_seen_enough_is_told_nothing(asleep: ExampleHost) -> None:
    asleep.run("apply")
    done = run_in_shell(asleep, f"{YA_SALT} history -o json | true; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (0, "")


def test_no_file_of_ours_gets_the_number_of_a_closed_stream(asleep: ExampleHost) -> None:
    run_in_shell(asleep, f"{YA_SALT} apply <&- >&- 2>&-")
    for line in asleep.log_file.read_text().splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ [A-Z]+ \[\d+\] ", line), line
    # Nor did the table go into the store.
    assert asleep.run("history").stdout.count("create: there is no container") == 2


def start_on_terminal(host: ExampleHost, *words: str) -> tuple[int, int]:
    """(pid, terminal's other end) of a ya-salt whose terminal is all of 0, 1 and 2."""
    child, fd = pty.fork()
    if not child:
        command = [sys.executable, "-m", "ya_salt.cli.main", *words]
        os.execve(sys.executable, command, host.environment)
    return child, fd


def read_until(fd: int, word: bytes) -> bytes:
    shown, give_up = b"", time.monotonic() + 30
    while word not in shown:
        assert time.monotonic() < give_up, shown
        if select.select([fd], [], [], 0.1)[0]:
            shown += os.read(fd, 65536)
    return shown


def test_a_pass_outlives_its_terminal(asleep: ExampleHost) -> None:
    (asleep.specs_dir / "broken.yaml").unlink()
    (asleep.specs_dir / "slow.yaml").write_text(SLOW.replace("min_ready_s: 1", "min_ready_s: 2"))
    child, fd = start_on_terminal(asleep, "apply")
    read_until(fd, b"waiting until ready")
    # The window is closed: a hang-up, and then every write is an error.
    os.close(fd)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert states(asleep) == RUNNING
    last = json.loads(asleep.run("status", "-o", "json").stdout)["lastPass"]
    assert (last["result"], last["error"]) == ("ok", "")


def test_a_pass_does_not_wait_for_a_terminal_that_was_stopped(asleep: ExampleHost) -> None:
    child, fd = start_on_terminal(asleep, "apply")
    # Ctrl-S: the terminal takes nothing more. What is done is not held up by it.
    os.write(fd, b"\x13")
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up and "slow: ready" not in read_log(asleep):
        time.sleep(0.1)
    assert "porto-daemon-slow: ready" in read_log(asleep)
    os.write(fd, b"\x11")
    read_until(fd, b"broken.yaml")
    os.close(fd)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1


def read_log(host: ExampleHost) -> str:
    return host.log_file.read_text() if host.log_file.exists() else ""


@pytest.mark.parametrize("kind", ["directory", "link", "full", "pipe", "below a file", "read-only"])
def test_a_log_that_cannot_be_written_stops_nothing(asleep: ExampleHost, kind: str) -> None:
    (asleep.specs_dir / "broken.yaml").unlink()
    path = asleep.folder / "the.log"
    target = asleep.folder / "target"
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(target)
    elif kind == "full":
        path = Path("/dev/full")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "below a file":
        path.write_text("")
        path = path / "ya-salt.log"
    else:
        path = Path("/proc/version")
    done = asleep.run("apply", "--log-file", str(path))
    assert done.returncode == 0, done.stderr
    assert states(asleep) == RUNNING
    (line,) = done.stderr.splitlines()
    assert f"the log {path} could not be written: " in line
    assert not target.exists()


def test_the_log_is_not_for_everybody_whatever_the_umask(asleep: ExampleHost) -> None:
    run_in_shell(asleep, f"umask 0; {YA_SALT} apply")
    assert asleep.log_file.stat().st_mode & 0o777 == 0o640
