"""A private root belongs to whoever keeps it: the demo runs for everybody."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.package_host import needs_apt
from helpers.processes import copy_for_everybody

pytestmark = needs_apt

NOBODY = 65534

LIFE = """
import os, pathlib, sys
sys.path.insert(0, sys.argv[2])
from helpers.debs import Repository, make_root, recording_scripts
from ya_salt.model import Package
from ya_salt.packages.apt import Apt
from ya_salt.packages.transaction import PackagePass
assert os.geteuid() != 0
folder = pathlib.Path(sys.argv[1])
repository = Repository(folder / "repository")
for version in ("1.0", "2.0"):
    repository.add("alpha", version, scripts=recording_scripts(),
                   files={"/opt/alpha": version, "/etc/alpha": "x"}, conffiles=["/etc/alpha"])
repository.write_index()
root = make_root(folder / "root", repository)
apt = Apt(str(root), cache_dir=str(folder / "cache"))
for version in ("1.0", "2.0", "1.0"):
    outcome = PackagePass(apt).install({"daemon": [Package("alpha", version)]})
    assert not outcome.errors, outcome.errors["daemon"].output
    assert (root / "opt/alpha").read_text() == version
    if version == "2.0":
        repository.remove("alpha", "1.0")
        repository.write_index()
outcome = PackagePass(apt).purge({"daemon": ["alpha"]})
assert not outcome.errors, outcome.errors["daemon"].output
assert apt.query(["alpha"]) == {}
print("".join((root / "scripts.log").read_text()))
"""


@pytest.fixture
def checkout(folder: Path) -> Path:
    return copy_for_everybody(folder / "code")


def run_as_nobody(checkout: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """With the first Python that nobody may use: this one may live in root's home."""
    identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    for python in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(PermissionError, FileNotFoundError):
            return subprocess.run(  # type: ignore[call-overload, no-any-return]
                [python, "-c", code, *arguments],
                capture_output=True,
                text=True,
                check=False,
                cwd="/",
                env={**os.environ, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"},
                **identity,
            )
    raise AssertionError("neither this Python nor Debian's can be run by nobody")


def test_a_whole_life_of_a_package_without_root(folder: Path, checkout: Path) -> None:
    if os.geteuid() == 0:
        shutil.chown(folder, NOBODY, NOBODY)
    done = run_as_nobody(checkout, LIFE, str(folder), str(checkout / "tests"))
    assert done.returncode == 0, done.stderr
    assert "HOSTMAN=1" in done.stdout


def test_the_hosts_own_packages_are_for_root_only(checkout: Path) -> None:
    code = (
        "from ya_salt.model import Package; from ya_salt.packages.apt import Apt\n"
        "from ya_salt.packages.transaction import PackagePass\n"
        "packages = {'daemon': [Package('no-such-package', '1.0')]}\n"
        "print(PackagePass(Apt()).install(packages).errors['daemon'].reason)\n"
    )
    assert run_as_nobody(checkout, code).stdout.strip() == "NotPermitted"


def test_a_root_that_belongs_to_somebody_else_is_refused_in_one_sentence(
    tmp_path: Path, checkout: Path
) -> None:
    tmp_path.chmod(0o555)
    code = (
        "import sys; from ya_salt.model import Package\n"
        "from ya_salt.packages.apt import Apt\n"
        "from ya_salt.packages.transaction import PackagePass\n"
        "packages = {'daemon': [Package('no-such-package', '1.0')]}\n"
        "print(PackagePass(Apt(sys.argv[1])).install(packages).errors['daemon'].reason)\n"
    )
    assert run_as_nobody(checkout, code, f"{tmp_path}/root").stdout.strip() == "NotPermitted"
