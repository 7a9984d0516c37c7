"""What is not needed is not loaded: a program that starts each minute is mostly its imports.

What the interpreter loads by itself on this machine is not counted.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

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

ONLY_PARSED = {
    "google.protobuf",
    "logging",
    "sqlite3",
    "subprocess",
    "ya_salt.cli.commands",
    "ya_salt.converge",
    "ya_salt.monitoring",
    "ya_salt.porto",
    "ya_salt.proto",
    "ya_salt.store",
}
"""What a command needs that only says something about itself."""

CASES = {
    "apply": (["apply"], ALWAYS_HEAVY),
    "status --saved": (["status", "--saved"], ALWAYS_HEAVY),
    "--version": (["--version"], ALWAYS_HEAVY | ONLY_PARSED),
    "--help": (["--help"], ALWAYS_HEAVY | ONLY_PARSED),
    "apply --help": (["apply", "--help"], ALWAYS_HEAVY | ONLY_PARSED),
}


@pytest.mark.parametrize(("words", "forbidden"), CASES.values(), ids=CASES)
def test_what_is_not_needed_is_not_loaded(
    running: ExampleHost, words: Sequence[str], forbidden: set[str]
) -> None:
    # The pass before this one changed something; that there is nothing to do is seen once first.
    assert running.run("apply").returncode == 0
    bare = list_loaded(running, ["-c", "pass"])
    loaded = list_loaded(running, ["-m", "ya_salt.cli.main", *words]) - bare
    assert "ya_salt" in loaded
    assert loaded & forbidden == set()


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
