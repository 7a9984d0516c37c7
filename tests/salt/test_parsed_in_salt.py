"""Salt's runs with something to do go by specs that were parsed before, and read each file once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from helpers.example import ExampleHost
from salt_minion import Minion, write_spec

from ya_salt import as_left
from ya_salt.salt_api import converge, queries
from ya_salt.specs.directory import parse_spec
from ya_salt.specs.kept import FILE_NAME, KeptSpecs, Parsed
from ya_salt.specs.tree import START


def plant(host: ExampleHost, name: str) -> bytes:
    """Let what is kept say something else than the file, so that it shows who goes by it."""
    path = host.specs_dir / f"{name}.yaml"
    memory = KeptSpecs(str(host.state_dir), reads_anew=True)
    spec = replace(parse_spec(path.read_text(), str(path)), version="kept")
    memory.keep(str(path), path.read_bytes(), Parsed(str(path), name, START, START, spec, ()))
    memory.save()
    return (host.state_dir / FILE_NAME).read_bytes()


def find_version(minion: Minion, name: str) -> str:
    return str(minion.status(name)["wantedVersion"])


ACTS: list[Callable[[Minion], Any]] = [
    lambda minion: minion.run("porto_daemons"),
    lambda minion: minion.apply(),
    lambda minion: minion.apply("one"),
    lambda minion: minion.restart("one"),
    lambda minion: minion.stop("one"),
]


@pytest.mark.parametrize("act", ACTS, ids=["run", "apply", "apply one", "restart", "stop"])
def test_who_acts_goes_by_it_and_leaves_it_to_the_next(
    minion: Minion, host: ExampleHost, act: Callable[[Minion], Any]
) -> None:
    write_spec(host, "one")
    minion.apply()
    plant(host, "one")
    as_left.forget(str(host.state_dir))
    act(minion)
    assert find_version(minion, "one") == "kept"
    (host.state_dir / FILE_NAME).unlink()
    as_left.forget(str(host.state_dir))
    act(minion)
    assert (host.state_dir / FILE_NAME).exists()


def test_who_only_looks_writes_nothing(minion: Minion, host: ExampleHost) -> None:
    write_spec(host, "one")
    minion.apply()
    planted = plant(host, "one")
    write_spec(host, "two")
    assert {item["version"] for item in minion.specs()["specs"]} == {"kept", ""}
    minion.run("porto_daemons", test=True)
    minion.apply(test=True)
    minion.restart("one", test=True)
    minion.plan()
    minion.status()
    assert (host.state_dir / FILE_NAME).read_bytes() == planted


def test_apply_by_hand_reads_the_directory_once(
    minion: Minion, host: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        write_spec(host, name)
    read: list[str] = []

    def load(directory: str, **more: Any) -> Any:
        read.append(directory)
        return real(directory, **more)

    real = converge.load_specs
    for module in (converge, queries):
        monkeypatch.setattr(module, "load_specs", load)
    for act in (minion.apply, minion.plan):
        for name in ("one", None):
            as_left.forget(str(host.state_dir))
            read.clear()
            act(name)
            assert read == [str(host.specs_dir)]
