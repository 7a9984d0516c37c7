"""`orlyctl simulate`, as an operator runs it: what it says, to whom, with which exit code."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

import pytest
import yaml

from ya_salt.cli.orlyctl import main
from ya_salt.cli.orlyctl_simulate import add_arguments

RULE = """
meta: {name: porto-daemon-web}
spec:
  max_concurrent: 8
  max_failures: 3
  rate: {count: 40, window: 10m}
  min_healthy_time: 1m
"""
FRIDAY = ("--start", "2027-03-05 17:00")


@pytest.fixture
def rule_file(tmp_path: Path) -> Path:
    path = tmp_path / "rule.yaml"
    path.write_text(RULE)
    return path


def write_rule(path: Path, more: str) -> str:
    path.write_text(RULE + more)
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    try:
        code = main(["simulate", *map(str, words)])
    except SystemExit as error:
        code = int(error.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_a_rollout_that_ends_says_how_long_it_took(capsys, rule_file: Path) -> None:
    code, out, err = run(capsys, "-f", rule_file, "--hosts", 100, *FRIDAY)
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].startswith("100 hosts: done in 1h")
    assert lines[1] == "at most 8 at once; at most 16 starts in 10m"
    assert [line.split()[0] for line in lines[3:]] == [
        *("DONE", "1%", "10%", "25%", "50%", "75%", "90%", "100%")
    ]
    assert "2027-03-05 18:" in lines[-1]


def test_a_rollout_that_halts_says_so_and_exits_with_one(capsys, rule_file: Path) -> None:
    code, out, _ = run(capsys, "-f", rule_file, "--failure-rate", "1", "--op-time", "20s-40s")
    assert code == 1
    first = "1000 hosts: halts after 8 hosts: 3 failed, 5 were at work; 992 untouched, "
    assert out.startswith(first)
    assert "another version goes on by itself" in out


def test_a_repaired_version_is_seen_to_go_on(capsys, rule_file: Path) -> None:
    words = ("-f", rule_file, "--hosts", 50, "--failure-rate", "1", "--repair-after", "2h")
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert "50 hosts: done in " in out
    assert "halts after 8 hosts" in out
    assert "; goes on by itself at 2h" in out
    assert "another version comes 2h" in out


def test_programs_get_the_same_in_numbers(capsys, rule_file: Path) -> None:
    words = ("-f", rule_file, "--hosts", 50, "--failure-rate", "1", *FRIDAY)
    code, out, _ = run(capsys, *words, "-o", "json")
    data = json.loads(out)
    assert code == 1
    assert (data["rule"], data["hosts"], data["seed"]) == ("porto-daemon-web", 50, 1)
    assert (data["outcome"], data["reason"]) == ("halted", "Halted")
    assert data["start"] == "2027-03-05 17:00 UTC"
    assert data["hosts_by_state"]["failed"] == 8
    assert data["halts"][0]["disturbed"] == data["disturbed"] == 8
    assert data["duration_s"] == data["halts"][0]["at_s"]
    assert yaml.safe_load(run(capsys, *words, "-o", "yaml")[1]) == data


def test_the_seed_makes_it_the_same_again(capsys, rule_file: Path) -> None:
    words = ("-f", rule_file, "--hosts", 50, "-o", "json", *FRIDAY, "--seed")
    assert run(capsys, *words, 5) == run(capsys, *words, 5)
    assert run(capsys, *words, 5)[1].replace('"seed": 5', "") != run(capsys, *words, 6)[1].replace(
        '"seed": 6', ""
    )


@pytest.mark.parametrize(
    ("more", "words", "said", "advice"),
    [
        (
            "  freeze: [{from: '2026-01-01', to: '2099-01-01', reason: audit}]\n",
            (),
            "100 hosts: nobody may start: porto-daemon-web is frozen until 2099-01-01",
            "see freeze and windows",
        ),
        (
            "  selector: {dc: [sas]}\n",
            ("--facts", "dc=man"),
            "100 hosts: nobody may start: porto-daemon-web is for hosts with dc: sas",
            "--facts NAME=VALUE",
        ),
        (
            "  windows: [{days: [sat], from: '10:00', to: '10:20'}]\n",
            ("--max-time", "3d"),
            "100 hosts: nobody starts any more 17h17m after the start; 68 waiting, 32 done; ",
            "no start is possible within --max-time",
        ),
        (
            "",
            ("--max-time", "10m"),
            "100 hosts: not done after 10m; ",
            "give more time",
        ),
        (
            "",
            ("--lost-rate", "1"),
            "100 hosts: stuck ",
            "on_lost: free",
        ),
        (
            "  on_lost: free\n  lost_after: 10s\n",
            (),
            "100 hosts: done",
            "lost_after 10s is shorter than between two passes",
        ),
    ],
    ids=["frozen", "selector", "windows", "time", "lost", "robbed"],
)
def test_what_can_never_end_is_explained(
    capsys, tmp_path: Path, more: str, words: tuple[str, ...], said: str, advice: str
) -> None:
    path = write_rule(tmp_path / "rule.yaml", more)
    code, out, _ = run(capsys, "-f", path, "--hosts", 100, *FRIDAY, *words)
    assert code == (0 if "done in" in out else 1)
    assert out.startswith(said), out
    assert advice in out.splitlines()[-1]


def test_slots_that_failures_fill_before_the_rule_halts_are_explained(
    capsys, tmp_path: Path
) -> None:
    path = tmp_path / "rule.yaml"
    path.write_text("meta: {name: porto-daemon-web}\nspec: {max_concurrent: 2, max_failures: 3}\n")
    code, out, _ = run(capsys, "-f", path, "--failure-rate", "1")
    assert code == 1
    assert "stuck" in out.splitlines()[0]
    assert "max_failures (3) does not halt before max_concurrent (2) is used up" in out


def test_those_who_failed_are_named_as_a_remainder(capsys, tmp_path: Path) -> None:
    path = tmp_path / "rule.yaml"
    path.write_text(
        "meta: {name: porto-daemon-web}\nspec: {max_concurrent: 20, halt_on_failure: false}\n"
    )
    code, out, _ = run(capsys, "-f", path, "--hosts", 200, "--failure-rate", "0.03")
    assert code == 0
    assert ", but for " in out.splitlines()[0]
    assert "orlyctl release" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--hosts", "0"), "'0' is not a number from 1 to 100000"),
        (("--hosts", "1000000000000"), "is not a number from 1 to 100000"),
        (("--failure-rate", "1.5"), "'1.5' is not a share from 0 to 1"),
        (("--failure-rate", "nan"), "'nan' is not a share from 0 to 1"),
        (("--op-time", "30"), "has no unit"),
        (("--op-time", "90s-20s"), "write 20s-90s"),
        (("--op-time", "0s"), "out of range"),
        (("--pass-interval", "0s"), "out of range"),
        (("--facts", "dc"), "write NAME=VALUE"),
        (("--start", "tomorrow"), "is not a date"),
    ],
)
def test_bad_input_is_refused_with_what_would_be_right(
    capsys, rule_file: Path, words: tuple[str, ...], said: str
) -> None:
    code, out, err = run(capsys, "-f", rule_file, *words)
    assert (code, out) == (2, "")
    assert said in err


def test_a_broken_rule_file_is_refused_as_validate_does(capsys, tmp_path: Path) -> None:
    path = tmp_path / "rule.yaml"
    path.write_text("meta: {name: porto-daemon-web}\nspec: {max_concurent: 2}\n")
    code, out, err = run(capsys, "-f", path)
    assert (code, out) == (2, "")
    assert f"{path}:2:" in err
    assert "max_concurrent" in err
    assert run(capsys, "-f", tmp_path / "none.yaml")[0] == 2


DOCUMENT = Path(__file__).parents[2] / "docs/simulate.md"


def test_the_document_shows_what_is_printed(capsys, tmp_path: Path) -> None:
    text = DOCUMENT.read_text()
    rule, console = (text.split(f"```{kind}\n")[1].split("```")[0] for kind in ("yaml", "console"))
    (tmp_path / "rule.yaml").write_text(rule)
    shown = ["$ " + part for part in console.split("$ ")[1:]]
    assert len(shown) == 2
    for part in shown:
        command, _, printed = part.partition("\n")
        words = shlex.split(command.replace("rule.yaml", str(tmp_path / "rule.yaml")))
        assert run(capsys, *words[3:])[1] == printed


def test_the_document_has_every_flag() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `-")]
    named = {row.split("`")[1].split()[0] for row in rows}
    assert named == {action.option_strings[0] for action in parser._actions}
