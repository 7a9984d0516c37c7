"""What is handed on: an sdist with everything, and a wheel that knows what it was built from."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from email.parser import HeaderParser
from pathlib import Path
from zipfile import ZipFile

import pytest
from helpers.documents import REPOSITORY

TAG = "v0.1.0-rc1"


def call(*command: str | Path, cwd: Path) -> str:
    environment = {
        **os.environ,
        "PIP_NO_BUILD_ISOLATION": "0",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        **{
            f"GIT_{who}_{what}": "t@t"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
    }
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a history of its own: a tag, and one commit after it."""
    folder = tmp_path_factory.mktemp("made") / "checkout"
    words = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = [name for name in call(*words, cwd=REPOSITORY).split("\0") if name]
    for name in names:
        if (REPOSITORY / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((REPOSITORY / name).read_bytes())
    for command in (
        ("init", "-q"),
        ("add", "-A"),
        ("commit", "-qm", "one"),
        ("tag", "-am", "one", TAG),
        ("commit", "-qm", "two", "--allow-empty"),
    ):
        call("git", *command, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def sdist(checkout: Path) -> Path:
    call(sys.executable, "-m", "build", "--sdist", "--no-isolation", cwd=checkout)
    (made,) = (checkout / "dist").glob("*.tar.gz")
    return made


def test_everything_under_version_control_is_in_the_sdist(checkout: Path) -> None:
    call(sys.executable, "-m", "check_manifest", "--no-build-isolation", cwd=checkout)


def test_what_is_built_from_an_sdist_tells_the_commit_and_its_licence(
    sdist: Path, checkout: Path, tmp_path: Path
) -> None:
    described = call("git", "describe", "--tags", cwd=checkout).strip()
    assert described.startswith(f"{TAG}-1-g")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path, filter="data")
    assert {"LICENSE", "proto/ya_salt.proto", "docs/specs.md", "packaging/debian/rules"} <= names
    assert "tests/core/test_distribution.py" in names
    (unpacked,) = tmp_path.iterdir()
    assert not (unpacked / ".git").exists()
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", cwd=unpacked)
    (made,) = (unpacked / "dist").glob("*.whl")
    wheel = ZipFile(made)
    (metadata,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    found = HeaderParser().parsestr(wheel.read(metadata).decode())
    assert "Apache-2.0" in {found["License"], found["License-Expression"]}
    assert (found["Author"], found["License-File"]) == ("ya-salt maintainers", "LICENSE")
    assert "salt-extension" in re.split(", *", found["Keywords"])
    assert [name for name in wheel.namelist() if re.search(r"dist-info/(.*/)?LICENSE$", name)]
    wheel.extractall(tmp_path / "installed")
    told = call(sys.executable, "-m", "ya_salt.cli.main", "--version", cwd=tmp_path / "installed")
    assert told == f"ya-salt {found['Version']} ({described})\n"
    call(sys.executable, "-m", "twine", "check", "--strict", made, sdist, cwd=tmp_path)


def test_a_checkout_is_left_as_it_was(sdist: Path, checkout: Path) -> None:
    assert not (checkout / "ya_salt/built_from").exists()
    assert call("git", "status", "--porcelain", cwd=checkout) == ""


def test_nobody_is_told_to_install_a_name_from_an_index() -> None:
    # On an index the name is whoever's took it first; root would run it.
    wrong = re.compile(r"pip3?\s+install\s+(?:-\S+\s+)*[\"']?(?:ya[-_]salt|devporto|orly)")
    names = call("git", "ls-files", "-z", cwd=REPOSITORY).split("\0")
    paths = [REPOSITORY / name for name in names if name and "test_distribution" not in name]
    texts = {path: path.read_bytes().decode(errors="replace") for path in paths if path.is_file()}
    assert [str(path) for path, text in texts.items() if wrong.search(text)] == []
