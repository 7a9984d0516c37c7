"""Progress is for a person who looks: on a terminal it is there, into a pipe it is not."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.example import ExampleHost
from helpers.programs import wait_for

SLOW = "meta: {name: slow}\nspec: {min_ready_s: 2, properties: {cmd: [sleep, '1000']}}\n"


def run_on_terminal(host: ExampleHost) -> str:
    """What a terminal shows of `ya-salt apply`'s stderr."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ya_salt.cli.main", "apply"],
        env=host.environment,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    try:
        while data := os.read(controller, 4096):
            shown += data
    except OSError:
        pass  # Linux ends a terminal whose last writer is gone with EIO.
    finally:
        os.close(controller)
    assert process.wait() == 0
    return shown.decode()


def test_a_person_sees_what_is_going_on(host: ExampleHost) -> None:
    (host.specs_dir / "slow.yaml").write_text(SLOW)
    shown = run_on_terminal(host)
    assert "porto-daemon-slow: create: there is no container" in shown
    assert "waiting until ready: slow (running" in shown
    # The line is cleared at the end: what follows starts on an empty one.
    assert shown.endswith("\r\x1b[K")


def test_nobody_sees_it_in_a_pipe(host: ExampleHost) -> None:
    Path(host.specs_dir, "slow.yaml").write_text(SLOW)
    assert host.run("apply").stderr == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_told_to_end_a_pass_says_so_and_what_to_type_next(
    host: ExampleHost, number: int, code: int
) -> None:
    Path(host.specs_dir, "slow.yaml").write_text(SLOW.replace("_s: 2", "_s: 60"))
    process = subprocess.Popen(
        [sys.executable, "-m", "ya_salt.cli.main", "apply"],
        env=host.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )

    def is_running() -> bool:
        with host.client() as client:
            found = client.get(["slow"], ["state", "weak"])
        return found.get("slow") == {"state": "running", "weak": "false"}

    with process:
        wait_for(is_running, "it is started, and waited for")
        process.send_signal(number)
        _, said = process.communicate()
    assert process.returncode == code
    assert b"the next pass does the rest" in said
    assert b"ya-salt status" in said
    told = json.loads(host.run("status", "-o", "json").stdout)
    assert told["lastPass"]["result"] == "interrupted"
