"""Text from outside is shown in every locale, and speaks neither to a terminal nor to the log."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest
import yaml
from helpers.example import ExampleHost

SAID = "fire \U0001f525 \x1b[2J\x1b]0;owned\x07 \u202etxt.exe Größe"
SCRIPT = """printf 'first\\n%b\\n' "$1" >&2; exit 3"""
OCTAL = "".join(f"\\0{byte:03o}" for byte in SAID.encode())
DYING = {
    "meta": {"name": "dying"},
    "spec": {
        "properties": {"cmd": ["sh", "-c", SCRIPT, "sh", OCTAL], "max_respawns": 1},
    },
}
STEERING = ("\x1b", "\x07", "\u202e", "\x9b")


@pytest.fixture
def dead(host: ExampleHost) -> ExampleHost:
    (host.specs_dir / "dying.yaml").write_text(json.dumps(DYING))
    assert host.run("apply").returncode == 1
    return host


@pytest.mark.parametrize("encoding", ["koi8-r", "latin-1", "ascii", "utf-8"])
def test_an_emoji_on_stderr_breaks_nothing_in_any_locale(dead: ExampleHost, encoding: str) -> None:
    # As LC_ALL=ru_RU.KOI8-R does where that locale is there.
    bare = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    environment = {**dead.environment, **bare, "PYTHONIOENCODING": encoding}

    def run(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "ya_salt.cli.main", *words],
            env=environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert b"Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout.decode(encoding)

    for words, code in [(("status",), 1), (("history",), 0), (("apply",), 1)]:
        got, text = run(*words)
        assert got == code
        assert "exited with code 3" in text
        assert not any(char in text for char in STEERING)
        _, text = run(*words, "-o", "json")
        assert "fire \U0001f525 \\x1b[2J" in repr(json.loads(text))
        assert not any(char in text for char in STEERING)
        _, text = run(*words, "-o", "yaml")
        assert "fire \U0001f525 \\x1b[2J" in repr(yaml.safe_load(text))
        assert not any(char in text for char in STEERING)


def test_the_log_is_utf_8_and_each_line_names_its_daemon(dead: ExampleHost) -> None:
    log = dead.log_file.read_text(encoding="utf-8")
    (line,) = [line for line in log.splitlines() if "fire \U0001f525" in line]
    assert "porto-daemon-dying: " in line
    assert "Größe" in line
    assert "\\x1b[2J" in line
    assert not any(char in log for char in STEERING)


def test_logs_escape_on_a_terminal_and_are_raw_in_a_pipe(dead: ExampleHost) -> None:
    command = [sys.executable, "-m", "ya_salt.cli.main", "logs", "dying"]
    piped = subprocess.run(command, env=dead.environment, capture_output=True, check=False)
    assert piped.stderr.startswith(f"first\n{SAID}\n".encode())
    controller, terminal = pty.openpty()
    with subprocess.Popen(command, env=dead.environment, stdout=terminal, stderr=terminal) as child:
        os.close(terminal)
        shown = b""
        try:
            while data := os.read(controller, 4096):
                shown += data
        except OSError:
            pass  # Its last writer is gone.
        assert child.wait() == 0
    os.close(controller)
    assert not any(char in shown.decode() for char in STEERING)
    assert "fire \U0001f525 \\x1b[2J\\x1b]0;owned\\x07 \\u202etxt.exe Größe\r\n" in shown.decode()
