"""Salt's own Python in /opt/saltstack/salt finds ya_salt, and finds it again after its upgrade.

Salt's packages are not in Debian: one with a real Salt is made of what `make test-salt` works with.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.machine import Machine, repack

REPO = Path(__file__).parents[2]
SALT_VENV = Path(os.environ.get("SALT_VENV", REPO / ".venv-salt"))
ONE = """\
meta: {name: one, version: "1"}
spec: {min_ready_s: 0, properties: {cmd: [/bin/sleep, "100000"]}}
"""
PLACE = "opt/saltstack/salt"
# What Salt's packages lack, and what is of the tests.
LACKING = (
    "google",
    "protobuf*",
    "prometheus_client*",
    "ya_salt*",
    "_pytest",
    "grpc*",
    "__pycache__",
)

# As Salt's do: an upgrade takes away the whole folder with what others put there.
PREINST = f'#!/bin/sh\nset -e\n[ "$1" != upgrade ] || rm -rf /{PLACE}\n'
CONTROL = """\
Package: salt-common
Version: {version}
Architecture: all
Depends: python3
Maintainer: ya-salt tests <nobody@example.invalid>
Description: Salt for a test
"""


def build_salt(site: Path, version: str, folder: Path) -> Path:
    tree = folder / "salt"
    if not tree.exists():
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/preinst").write_text(PREINST)
        (tree / "DEBIAN/preinst").chmod(0o755)
        onedir = tree / PLACE
        (onedir / "bin").mkdir(parents=True)
        (onedir / "bin/python3").symlink_to("/usr/bin/python3")
        (onedir / "pyvenv.cfg").write_text(
            "home = /usr/bin\ninclude-system-site-packages = false\n"
        )
        target = onedir / "lib" / site.parent.name / site.name
        shutil.copytree(site, target, ignore=shutil.ignore_patterns(*LACKING), symlinks=True)
    (tree / "DEBIAN/control").write_text(CONTROL.format(version=version))
    deb = folder / f"salt-common_{version}_all.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, deb]
    subprocess.run(command, check=True, capture_output=True)
    return deb


@pytest.fixture
def salts(machine: Machine, folder: Path) -> Iterator[list[Path]]:
    """Two versions of Salt."""
    name = json.loads(
        machine.run("sh", "-c", "ls /srv/archive | sed -n 's/^\\(python3\\.[0-9]*\\)_.*/\"\\1\"/p'")
    )
    site = SALT_VENV / "lib" / name / "site-packages"
    if not (site / "salt").is_dir():
        how = f"PYTHON={name} SALT_VENV=FOLDER make test-salt installs one"
        pytest.skip(f"Salt's packages for {name}, this Debian's, are not in {SALT_VENV}: {how}")
    yield [build_salt(site, version, folder) for version in ("3008.1", "3008.2")]


def call(machine: Machine, *words: str) -> Any:
    code = "from salt.scripts import salt_call; salt_call()"
    told = machine.run(f"/{PLACE}/bin/python3", "-c", code, "--local", "--out=json", *words)
    return json.loads(told[told.index("{") :])["local"]


def test_salt_finds_ya_salt_and_finds_it_again_after_its_upgrade(
    machine: Machine, packages: list[Path], salts: list[Path], folder: Path
) -> None:
    machine.install(salts[0])
    told = machine.install(*packages)
    assert "systemctl restart salt-minion" in told
    first = call(machine, "porto_daemon.version")
    assert first["adapter"].startswith("/usr/lib/python3/dist-packages/ya_salt/ext/modules")
    told = machine.install(salts[1])
    assert "systemctl restart salt-minion" in told
    assert call(machine, "porto_daemon.version") == first
    # Grains, where they are asked for: no pass has been made yet.
    (machine.root / "etc/salt").mkdir(exist_ok=True)
    (machine.root / "etc/salt/minion").write_text("porto_daemons: {grain: true}\n")
    asked = ("porto_daemon_versions", "porto_daemons_unknown")
    assert call(machine, "grains.item", *asked) == dict(zip(asked, ({}, ""), strict=True))
    # Nothing else of Debian's is within its reach.
    reach = machine.run(f"/{PLACE}/bin/python3", "-c", "import sys; print(*sys.path)").split()
    assert "/usr/lib/python3/dist-packages" not in reach
    assert machine.run("ls", "/usr/share/ya-salt/onedir").split()[0] == "google"
    # An upgrade of ya-salt is one for Salt.
    machine.install(repack(packages[0], "9", folder / "p"))
    assert call(machine, "porto_daemon.version")["ya_salt"].startswith("9+")
    (machine.root / "etc/hostman/porto-daemons.d/one.yaml").write_text(ONE)
    root = "--file-root=/usr/share/ya-salt/file_root"
    done = call(machine, root, "state.apply", "porto_daemons", "test=True")
    (state,) = (state for tag, state in done.items() if "one.yaml" in tag)
    assert state["result"] is not False, state
    machine.run("apt-get", "remove", "--yes", "ya-salt")
    assert machine.run("find", f"/{PLACE}", "-name", "ya-salt*") == ""
