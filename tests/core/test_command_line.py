"""What the command line says of itself, and of what was mistyped; when it paints."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.exit_codes_table import PAGE, rewrite

from ya_salt.cli import orlyctl
from ya_salt.cli.main import main
from ya_salt.cli.parser import EXIT_CODES, list_exit_codes, make_parser
from ya_salt.cli.running import read_apply

CODES = list_exit_codes()
YA_SALT = [sys.executable, "-m", "ya_salt.cli.main"]


def help_of(program: str, *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        (main if program == "ya-salt" else orlyctl.main)([*words, "--help"])
    assert ended.value.code == 0
    return program


@pytest.mark.parametrize("name", CODES)
def test_help_lists_the_exit_codes_that_the_command_has(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    help_of("ya-salt", name)
    shown = re.findall(r"^  (\d+)  ", capsys.readouterr().out.partition("exit codes:")[2], re.M)
    assert [int(code) for code in shown] == list(CODES[name])
    assert set(CODES[name]) <= set(EXIT_CODES)


def test_only_passes_wait_for_the_gate_or_for_another_pass() -> None:
    assert {name for name, codes in CODES.items() if 4 in codes} == {
        *("apply", "plan", "restart", "stop", "start", "retry", "rollback", "adopt")
    }
    assert "plan" not in {name for name, codes in CODES.items() if 3 in codes}


@pytest.mark.parametrize(("name", "codes"), [("list", "0123"), ("simulate", "012")])
def test_help_of_orlyctl_lists_them_too(
    name: str, codes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    help_of("orlyctl", name)
    shown = re.findall(r"^  (\d+)  ", capsys.readouterr().out.partition("exit codes:")[2], re.M)
    assert "".join(shown) == codes


def test_the_table_of_exit_codes_in_the_documents_is_up_to_date() -> None:
    page = PAGE.read_text()
    assert page == rewrite(page), "make docs-tables"
    assert "`dev-portod`" in page


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["staus"], "did you mean status?"),
        (["Restart", "d"], "did you mean restart?"),
        (["status", "--ouput", "json"], "did you mean --output?"),
        (["apply", "--overide-gate=x"], "did you mean --override-gate?"),
        (["apply", "--spec-dir", "/x"], "did you mean --specs-dir?"),
        (["schema", "specs"], "did you mean spec?"),
        (["status", "-o", "jsn"], "did you mean json?"),
        (["status", "--color", "alwys"], "did you mean always?"),
    ],
)
def test_what_was_mistyped_is_told_with_the_nearest(
    words: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err.rstrip().endswith(meant)


def test_what_is_like_nothing_gets_no_advice(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["zzzzzz"])
    assert "did you mean" not in capsys.readouterr().err


def test_orlyctl_says_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        orlyctl.main(["aply-rule"])
    assert capsys.readouterr().err.rstrip().endswith("did you mean apply-rule?")


# -- colours -------------------------------------------------------------------------------------

PAINT = (
    "import sys; from ya_salt.cli.output import choose_color, find_paint, say_painted;"
    "choose_color(sys.argv[1]);"
    "paint, width = find_paint(lambda text, kind: 'PAINTED', lambda text, kind: 'plain');"
    "say_painted(paint('', ''))"
)


def shown(color: str, *, on_terminal: bool, **environment: str) -> str:
    clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM")}
    command = [sys.executable, "-c", PAINT, color]
    if not on_terminal:
        return subprocess.run(
            command, env={**clean, **environment}, capture_output=True, text=True, check=True
        ).stdout.strip()
    ours, theirs = pty.openpty()
    try:
        subprocess.run(command, env={**clean, **environment}, stdout=theirs, check=True)
        return os.read(ours, 100).decode().strip()
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    ("color", "on_terminal", "environment", "expected"),
    [
        ("auto", True, {"TERM": "xterm"}, "PAINTED"),
        ("auto", True, {"TERM": "xterm", "NO_COLOR": "1"}, "plain"),
        ("auto", True, {"TERM": "xterm", "NO_COLOR": ""}, "PAINTED"),
        ("auto", True, {"TERM": "dumb"}, "plain"),
        ("auto", False, {"TERM": "xterm"}, "plain"),
        ("always", False, {"NO_COLOR": "1"}, "PAINTED"),
        ("never", True, {"TERM": "xterm"}, "plain"),
    ],
)
def test_when_it_paints(
    color: str, on_terminal: bool, environment: dict[str, str], expected: str
) -> None:
    assert shown(color, on_terminal=on_terminal, **environment) == expected


@pytest.mark.parametrize("words", [["--color", "always", "status"], ["status", "--color=always"]])
def test_color_stands_before_or_after_the_command(words: list[str], tmp_path: Path) -> None:
    command = [*YA_SALT, *words, "--state-dir", str(tmp_path), "--specs-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "unrecognized" not in done.stderr
    assert done.returncode in (0, 1)


PLAIN = [
    "apply",
    "apply --full",
    "apply --dry-run --no-wait",
    "--state-dir /a apply --specs-dir=/b --root /c",
    "--config=/a apply --config /b",
    "apply --log-file= --full --full",
    "--porto-socket /a --state-dir /b apply",
]


@pytest.mark.parametrize("line", PLAIN)
def test_a_plain_apply_is_read_as_the_parser_reads_it(line: str) -> None:
    found = read_apply(line.split())
    assert found is not None
    assert vars(found) == vars(make_parser().parse_args(line.split()))


@pytest.mark.parametrize(
    "line",
    [
        *("", "status", "apply web", "apply apply", "apply -f x", "apply -o json", "apply --help"),
        *("--full apply", "apply --state-dir", "apply --state-dir --full", "apply --state /a"),
        *("--state-dir apply", "apply --override-gate x", "apply --color always", "--version"),
        *("apply --full=1", "apply --", "--dry-run", "--root -1 apply"),
    ],
)
def test_anything_else_is_left_to_the_parser(line: str) -> None:
    assert read_apply(line.split()) is None
