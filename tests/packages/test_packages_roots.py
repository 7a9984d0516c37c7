"""A private root, and a folder for going back, wherever people put them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.debs import make_root, recording_scripts
from helpers.package_host import Host, needs_apt

pytestmark = needs_apt

NAMES = [
    """with blank, "quotes" and 'more'""",
    "100%25 #hash // [square] {semi;colon}",
    "back\\slash $HOME `id` &",
    "-dash --root=x, a: colon, ünïcode~",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_root_may_be_called_anything_that_a_folder_may(name: str, host: Host) -> None:
    root = make_root(host.directory / name / "root", host.repository)
    cache = host.directory / name / "cache"
    host.apt = replace(host.apt, root=str(root), cache_dir=str(cache))
    for version in ("1.0", "2.0"):
        host.publish("alpha", version, scripts=recording_scripts(), files={"/opt/alpha": version})
    for version in ("1.0", "2.0"):
        outcome = host.install(f"alpha={version}")
        assert not outcome.errors, outcome.errors["alpha"]
    assert host.state("alpha") == {"alpha": "2.0 installed"}
    assert (root / "opt/alpha").read_text() == "2.0"
    assert (root / "var/log/apt/history.log").exists()
    host.repository.remove("alpha", "1.0")
    host.repository.write_index()
    assert host.apt.run("update", (), (), lambda _line: None).code == 0
    outcome = host.install("alpha=1.0")
    assert not outcome.errors, outcome.errors["alpha"]
    assert (root / "opt/alpha").read_text() == "1.0"
    assert not host.purge("alpha").errors
    assert not (root / "opt/alpha").exists()
    assert len((root / "scripts.log").read_text().splitlines()) == 13


def test_nothing_is_written_beside_a_root_with_a_strange_name(host: Host) -> None:
    folder = host.directory / "only"
    root = make_root(folder / 'a "b" c', host.repository)
    host.apt = replace(host.apt, root=str(root))
    host.publish("alpha", "1.0")
    assert not host.install("alpha=1.0").errors
    assert list(folder.iterdir()) == [root]
    assert Path("/var/lib/dpkg/info/alpha.list").exists() is False
