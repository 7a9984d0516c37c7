"""Packages that have to be packed again for going back hold nobody up: the rest is packed later."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.crowd import Crowd
from helpers.debs import read_control
from helpers.package_host import needs_apt
from helpers.portod import DevPortod

from ya_salt.converge import kept_packages

pytestmark = needs_apt


@pytest.fixture
def portod() -> Iterator[DevPortod]:
    with DevPortod() as server:
        yield server


def list_kept(crowd: Crowd) -> list[str]:
    folder = Path(crowd.settings.state_dir, "debs")
    return sorted(path.name.partition("_")[0] for path in folder.glob("*.deb"))


def test_what_took_too_long_is_packed_by_a_pass_with_nothing_to_do(
    tmp_path: Path, portod: DevPortod, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = Crowd(tmp_path / "host", portod.socket_path, 3)
    monkeypatch.setattr(kept_packages, "_KEEPING_FEW", 3)
    monkeypatch.setattr(kept_packages, "_KEEPING_IDLE_S", 60.0)
    crowd.run()
    assert list_kept(crowd) == []
    crowd.run()
    assert list_kept(crowd) == [], "once a minute"
    crowd.write_all(limit=65)
    crowd.run(now=lambda: time.time() + 61)
    assert list_kept(crowd) == [], "it has something to do"
    crowd.run(now=lambda: time.time() + 61)
    assert list_kept(crowd) == ["package-0", "package-1", "package-2", "package-common"]
    folder = Path(crowd.settings.state_dir, "debs")
    for path in folder.glob("*.deb"):
        assert "Version: 1.0" in read_control(path)


def test_a_few_are_packed_at_once(tmp_path: Path, portod: DevPortod) -> None:
    crowd = Crowd(tmp_path / "host", portod.socket_path, 1)
    crowd.run()
    assert list_kept(crowd) != []
