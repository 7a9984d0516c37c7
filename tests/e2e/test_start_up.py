"""What is not needed is not loaded: a program that starts each minute is mostly its imports.

What the interpreter loads by itself on this machine is not counted.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from helpers.example import ExampleHost
from helpers.imported import ALWAYS_HEAVY, NOT_FOR_A_PASS, NOT_FOR_AN_ANSWER, list_loaded

ONLY_PARSED = NOT_FOR_AN_ANSWER - {"argparse", "shutil"} | {"socket"}
"""What a command does not need that only says something about itself."""

AS_LONG_AS_A_PASS = {"collections", "enum", "functools", "json", "re", "socket"}
"""What takes as long to load as a quick pass takes."""

FOR_THE_PARSER = {"argparse", "bz2", "gettext", "shutil", "ya_salt.cli.parser"}
"""Who types more than the plain command has the parser loaded, and what it takes with it."""

CASES = {
    "apply": (["apply"], NOT_FOR_AN_ANSWER | AS_LONG_AS_A_PASS),
    "status": (["status"], NOT_FOR_AN_ANSWER | AS_LONG_AS_A_PASS),
    "status --saved": (["status", "--saved"], set()),
    "apply --full": (["apply", "--full"], NOT_FOR_A_PASS | {"concurrent.futures"}),
    "apply --no-wait --dry-run": (["apply", "--no-wait", "--dry-run"], NOT_FOR_A_PASS | {"yaml"}),
    "history": (["history"], NOT_FOR_A_PASS - FOR_THE_PARSER | {"google.protobuf", "yaml"}),
    "--version": (["--version"], NOT_FOR_AN_ANSWER | ONLY_PARSED),
    "--help": (["--help"], ONLY_PARSED),
    "apply --help": (["apply", "--help"], ONLY_PARSED),
}

SPEC = """\
meta: {name: sleeper, version: "1"}
spec: {min_ready_s: 0, properties: {cmd: [sleep, "1000"], isolate: false}}
"""

_SETTLED_S = 6.0


@pytest.fixture(scope="module")
def at_rest() -> Iterator[ExampleHost]:
    """Its one daemon has been running for a while, and a pass has found nothing to do."""
    with tempfile.TemporaryDirectory(prefix="ys.") as folder, ExampleHost(Path(folder)) as host:
        (host.specs_dir / "sleeper.yaml").write_text(SPEC)
        assert host.run("apply").returncode == 0
        # What has changed just now may change again without its times showing it.
        time.sleep(_SETTLED_S)
        assert host.run("apply").returncode == 0
        yield host


@pytest.mark.parametrize(("words", "forbidden"), CASES.values(), ids=CASES)
def test_what_is_not_needed_is_not_loaded(
    at_rest: ExampleHost, words: Sequence[str], forbidden: set[str]
) -> None:
    bare = list_loaded(["-c", "pass"], at_rest.environment)
    loaded = list_loaded(["-m", "ya_salt.cli.main", *words], at_rest.environment) - bare
    assert "ya_salt" in loaded
    assert loaded & (ALWAYS_HEAVY | forbidden) == set()


@pytest.fixture
def with_two(tmp_path: Path) -> Iterator[ExampleHost]:
    """Two daemons that have been running for a while."""
    with tempfile.TemporaryDirectory(prefix="ys.") as folder, ExampleHost(Path(folder)) as host:
        for name in ("one", "other"):
            (host.specs_dir / f"{name}.yaml").write_text(SPEC.replace("sleeper", name))
        assert host.run("apply").returncode == 0
        time.sleep(_SETTLED_S)
        assert host.run("apply").returncode == 0
        yield host


def test_a_live_change_loads_what_it_needs(with_two: ExampleHost) -> None:
    file = with_two.specs_dir / "one.yaml"
    file.write_text(file.read_text().replace("isolate: false", "isolate: false, max_respawns: 7"))
    bare = list_loaded(["-c", "pass"], with_two.environment)
    loaded = list_loaded(["-m", "ya_salt.cli.main", "apply"], with_two.environment) - bare
    assert "ya_salt.specs.yaml_tree" in loaded
    assert loaded & (ALWAYS_HEAVY | NOT_FOR_A_PASS) == set()
    assert "changed" in with_two.run("history", "one").stdout


def test_an_explanation_loads_what_it_needs(at_rest: ExampleHost) -> None:
    bare = list_loaded(["-c", "pass"], at_rest.environment)
    loaded = list_loaded(["-m", "ya_salt.cli.main", "why", "sleeper"], at_rest.environment) - bare
    heavy = ALWAYS_HEAVY - {"ya_salt.cli.verbs"}
    assert loaded & (heavy | NOT_FOR_A_PASS - FOR_THE_PARSER) == set()


_COUNT_SEARCHES = """\
import atexit, gc, sys
from ya_salt.cli.main import main
before = gc.get_stats()[0]["collections"]
atexit.register(lambda: print(gc.get_stats()[0]["collections"] - before, file=sys.stderr))
sys.argv = ["ya-salt", *sys.argv[1:]]
sys.exit(main())
"""


def test_a_command_hardly_looks_for_garbage(at_rest: ExampleHost) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _COUNT_SEARCHES, "apply", "--full"],
        env=at_rest.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    # Parsing what was typed takes some.
    assert int(done.stderr.split()[-1]) < 20
