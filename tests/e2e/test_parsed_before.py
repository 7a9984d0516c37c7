"""Who goes by specs that were parsed before: a pass over files, and never one that reads anew."""

from __future__ import annotations

import json
from dataclasses import replace

from helpers.example import ExampleHost

from ya_salt.specs.directory import parse_spec
from ya_salt.specs.kept import FILE_NAME, KeptSpecs, Parsed
from ya_salt.specs.tree import START

SPEC = """\
meta: {name: sleeper, version: "1"}
spec: {min_ready_s: 0, properties: {cmd: [sleep, "1000"], isolate: false}}
"""


def start(host: ExampleHost) -> None:
    (host.specs_dir / "sleeper.yaml").write_text(SPEC)
    assert host.run("apply").returncode == 0


def plant(host: ExampleHost) -> bytes:
    """Let what is kept say something else than the file, so that it shows who goes by it."""
    path = str(host.specs_dir / "sleeper.yaml")
    memory = KeptSpecs(str(host.state_dir), reads_anew=True)
    spec = replace(parse_spec(SPEC, path), version="kept")
    memory.keep(path, SPEC.encode(), Parsed(path, spec.name, START, START, spec, ()))
    memory.save()
    return (host.state_dir / FILE_NAME).read_bytes()


def find_version(host: ExampleHost) -> str:
    (daemon,) = json.loads(host.run("status", "--saved", "-o", "json").stdout)["portoDaemons"]
    return str(daemon["wantedVersion"])


def test_a_pass_goes_by_it_and_a_full_one_replaces_it(host: ExampleHost) -> None:
    start(host)
    planted = plant(host)
    assert host.run("apply", "sleeper").returncode == 0
    assert find_version(host) == "kept"
    assert host.run("apply", "--full").returncode == 0
    assert find_version(host) == "1"
    assert (host.state_dir / FILE_NAME).read_bytes() != planted
    assert host.run("apply", "sleeper").returncode == 0
    assert find_version(host) == "1"


def test_who_only_looks_parses_and_writes_nothing(host: ExampleHost) -> None:
    start(host)
    planted = plant(host)
    (host.specs_dir / "other.yaml").write_text(SPEC.replace("sleeper", "other"))
    for words in (["validate"], ["plan"], ["apply", "--dry-run"], ["apply", "--dry-run", "other"]):
        host.run(*words)
        assert (host.state_dir / FILE_NAME).read_bytes() == planted
