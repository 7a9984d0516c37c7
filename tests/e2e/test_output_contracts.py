"""Each command's `-o json` is as docs/schemas has it, through the states that a daemon comes by."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from helpers.contracts import FOLDER, check_output, read_schema
from helpers.example import BAD_CLIENT, NAME, VERSION, ExampleHost

EXAMPLE = Path(__file__).parent.parent / "data" / "juggler-agent-rtc.yaml"
READERS = ("status", "plan", "spec", "history")
OF_ONE = ("status", "spec", "history", "why", "describe", "generations")
RULE = Path(__file__).parents[2] / "docs/rules/porto-daemon-juggler-agent-rtc.yaml"


def read_all(host: ExampleHost, name: str = NAME) -> dict[str, Any]:
    """What every reader says; `host.run` has held it against its schema."""
    told = {}
    for command in READERS:
        told[command] = host.run(command, "-o", "json")
    for command in OF_ONE:
        told[f"{command} NAME"] = host.run(command, name, "-o", "json")
    assert not any("Traceback" in done.stderr for done in told.values())
    return {key: json.loads(done.stdout) for key, done in told.items() if done.stdout}


def test_from_an_empty_host_to_a_rollback(host: ExampleHost) -> None:
    for command in READERS:
        assert "Traceback" not in host.run(command, "-o", "json").stderr
    shutil.copy(EXAMPLE, host.spec_file)
    (host.specs_dir / "broken.yaml").write_text("meta: {name: broken}\nspec: {}\n")
    (host.specs_dir / "notes.txt").write_text("\n")
    host.run("plan", "-o", "json")
    assert json.loads(host.run("apply", "-o", "json").stdout)["portoDaemons"]
    told = read_all(host)
    assert set(told) == {*READERS, *(f"{name} NAME" for name in OF_ONE)}
    assert told["status"]["rejectedFiles"]
    assert told["status NAME"]["portoDaemons"][0]["pid"]
    assert told["describe NAME"]["life"]

    host.run("stop", NAME, "--for", "1h", "--reason", "a look", "-o", "json")
    assert read_all(host)["status"]["portoDaemons"][0]["hold"]["why"] == "a look"
    host.run("start", NAME, "--dry-run", "-o", "json")
    host.run("start", NAME, "-o", "json")
    host.run("restart", NAME, "-o", "json")
    host.run("report", "-o", "json")

    host.release("9.9", BAD_CLIENT)
    host.spec_file.write_text(host.spec_file.read_text().replace(VERSION, "9.9"))
    host.run("apply", "-o", "json")
    told = read_all(host)
    assert told["status"]["portoDaemons"][0]["rejected"]["version"]
    assert told["why NAME"]["kind"]
    host.run("retry", NAME, "--dry-run", "-o", "json")
    host.run("rollback", NAME, "-o", "json")
    read_all(host)


def test_what_needs_no_host(host: ExampleHost) -> None:
    host.run("settings", "-o", "json")
    for field in ((), ("spec.properties.cpu_weight",), ("settings.gate",), ("isolate",)):
        assert host.run("explain", *field, "-o", "json").returncode == 0
    words = ["simulate", "-f", str(RULE), "--hosts", "50", "-o", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "ya_salt.cli.orlyctl", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    check_output(words, done.stdout, "orlyctl-")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("output-*.json")), ids=lambda path: path.stem)
def test_a_contract_refuses_what_is_not_listed(path: Path) -> None:
    schema = read_schema(path.stem)
    jsonschema.Draft7Validator.check_schema(schema.schema)
    for wrong in ({"noSuchField": 1}, "text", 3, None):
        assert not schema.is_valid(wrong)
