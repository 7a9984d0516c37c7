"""The oldest and the newest libraries that setup.cfg allows do the same.

PyYAML's oldest is on PyPI as source alone, so it is not among them.
"""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARIES = ("protobuf", "prometheus_client")
# Messages and descriptors as JSON, a real dev-portod and odd peers on the wire, the metrics' file.
SLICE = (
    "tests/specs/test_spec_contract.py",
    "tests/core/test_status.py",
    "tests/porto/test_client.py",
    "tests/monitoring/test_rendering.py",
)


def find_requirements() -> dict[str, str]:
    """Name and versions of each library that setup.cfg asks for."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options"]["install_requires"].split()
    return dict(re.fullmatch(r"([\w-]+)(.*)", line).groups() for line in lines)


@pytest.mark.parametrize("end", ["oldest", "newest"])
def test_both_ends_of_what_is_allowed_do_the_same(end: str, tmp_path: Path) -> None:
    allowed = {name: find_requirements()[name] for name in LIBRARIES}
    if end == "oldest":
        allowed = {
            name: re.sub(r">=([\d.]+).*", r"==\1", versions) for name, versions in allowed.items()
        }
    wanted = [name + versions for name, versions in allowed.items()]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*pip, tmp_path, *wanted], check=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    where = "import google.protobuf as g, prometheus_client as p; print(g.__file__, p.__file__)"
    loaded = subprocess.run(
        [sys.executable, "-c", where], env=environment, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.count(str(tmp_path)) == 2

    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SLICE]
    done = subprocess.run(
        tests, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:]
