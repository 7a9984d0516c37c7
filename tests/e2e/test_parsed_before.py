"""Who goes by specs that were parsed before: who acts or looks, and never one that reads anew."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from helpers.example import ExampleHost

from ya_salt.specs.directory import parse_spec
from ya_salt.specs.kept import FILE_NAME, KeptSpecs, Parsed
from ya_salt.specs.tree import START

SPEC = """\
meta: {name: sleeper, version: "1"}
spec: {min_ready_s: 0, properties: {cmd: [sleep, "1000"], isolate: false}}
"""
BROKEN = "meta: {name: sleeper"


def start(host: ExampleHost) -> None:
    (host.specs_dir / "sleeper.yaml").write_text(SPEC)
    assert host.run("apply").returncode == 0


def plant(host: ExampleHost, text: str = SPEC) -> bytes:
    """Let what is kept say something else than the file, so that it shows who goes by it."""
    path = str(host.specs_dir / "sleeper.yaml")
    memory = KeptSpecs(str(host.state_dir), reads_anew=True)
    spec = replace(parse_spec(SPEC, path), version="kept")
    memory.keep(path, text.encode(), Parsed(path, spec.name, START, START, spec, ()))
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


@pytest.mark.parametrize("verb", ["restart", "stop"])
def test_what_is_asked_for_one_daemon_goes_by_it(host: ExampleHost, verb: str) -> None:
    start(host)
    plant(host)
    host.run(verb, "sleeper")
    assert find_version(host) == "kept"


def test_what_is_asked_for_one_daemon_leaves_it_to_the_next(host: ExampleHost) -> None:
    start(host)
    kept = host.state_dir / FILE_NAME
    for broken in (b"", b"1 0\n"):
        kept.write_bytes(broken)
        assert host.run("restart", "sleeper").returncode == 0
        assert kept.read_bytes().count(b"\n") == 4
    before = kept.read_bytes()
    host.specs_dir.rename(host.folder / "elsewhere")
    assert host.run("restart", "sleeper").returncode == 0
    # Where no file was read nothing is known of any.
    assert kept.read_bytes() == before


def test_who_only_looks_goes_by_it(host: ExampleHost) -> None:
    start(host)
    (host.specs_dir / "sleeper.yaml").write_text(BROKEN)
    looks = (["status"], ["status", "sleeper"], ["why", "sleeper"], ["plan"], ["plan", "sleeper"])
    for words in looks:
        assert is_broken(host, words), words
    plant(host, BROKEN)
    for words in looks:
        assert not is_broken(host, words), words
    assert is_broken(host, ["validate"])


def is_broken(host: ExampleHost, words: list[str]) -> bool:
    """Whether the command says what is wrong with the file."""
    done = host.run(*words)
    return "is not YAML here" in done.stdout + done.stderr


def test_who_only_looks_writes_nothing(host: ExampleHost) -> None:
    start(host)
    planted = plant(host)
    (host.specs_dir / "other.yaml").write_text(SPEC.replace("sleeper", "other"))
    looks = (["validate"], ["plan"], ["apply", "--dry-run"], ["apply", "--dry-run", "other"])
    for words in (*looks, ["status"], ["why", "sleeper"]):
        host.run(*words)
        assert (host.state_dir / FILE_NAME).read_bytes() == planted
