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

ALWAYS_HEAVY = {
    "asyncio",
    "email",
    "http.client",
    "http.server",
    "logging.handlers",
    "multiprocessing",
    "prometheus_client",
    "ssl",
    "urllib.request",
    "xml",
    "zoneinfo",
    "ya_salt.cli.orlyctl",
    "ya_salt.cli.verbs",
    "ya_salt.converge.adopt",
    "ya_salt.gate.etcd",
    "ya_salt.gate.etcd_gate",
    "ya_salt.gate.simulation",
}

NOT_FOR_AN_ANSWER = {
    "argparse",
    "dataclasses",
    "google.protobuf",
    "inspect",
    "logging",
    "pathlib",
    "shutil",
    "sqlite3",
    "subprocess",
    "tempfile",
    "threading",
    "typing",
    "yaml",
    "ya_salt.cli.commands",
    "ya_salt.cli.tables",
    "ya_salt.converge.plan",
    "ya_salt.converge.run",
    "ya_salt.http",
    "ya_salt.model",
    "ya_salt.monitoring",
    "ya_salt.packages",
    "ya_salt.porto.client",
    "ya_salt.proto",
    "ya_salt.settings",
    "ya_salt.specs",
    "ya_salt.store",
}
"""What nobody needs who finds that nothing has changed, and says so."""

ONLY_PARSED = NOT_FOR_AN_ANSWER - {"argparse", "shutil"} | {"socket"}
"""What a command does not need that only says something about itself."""

CASES = {
    "apply": (["apply"], NOT_FOR_AN_ANSWER),
    "status": (["status"], NOT_FOR_AN_ANSWER),
    "status --saved": (["status", "--saved"], set()),
    "apply --full": (["apply", "--full"], set()),
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
    bare = list_loaded(at_rest, ["-c", "pass"])
    loaded = list_loaded(at_rest, ["-m", "ya_salt.cli.main", *words]) - bare
    assert "ya_salt" in loaded
    assert loaded & (ALWAYS_HEAVY | forbidden) == set()


def list_loaded(host: ExampleHost, words: Sequence[str]) -> set[str]:
    """Modules that the interpreter imports on its way."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words],
        env=host.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split("|") for line in done.stderr.splitlines()]
    return {row[2].strip() for row in rows if row[0].startswith("import time:")}
