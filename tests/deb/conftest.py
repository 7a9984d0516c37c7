"""Debian machines that know nothing of ya-salt, and the packages that `make deb` has built.

YA_SALT_TEST_SUITES says which: "bookworm trixie" unless told otherwise, "here" is this machine's
own Debian, quick but not bare.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.debs import Repository
from helpers.example import VERSION, add_client, add_config
from helpers.machine import Machine, NoMachineError, make_image, publish

REPO = Path(__file__).parents[2]
SUITES = os.environ.get("YA_SALT_TEST_SUITES", "bookworm trixie").split()
NAMES = ("ya-salt", "ya-salt-dev-portod")


@pytest.fixture(scope="session")
def packages() -> list[Path]:
    """ya-salt first, then dev-portod."""
    found = [sorted((REPO / "dist").glob(f"{name}_*_all.deb")) for name in NAMES]
    assert [len(debs) for debs in found] == [1, 1], "make deb builds one of each into dist/"
    return [deb for (deb,) in found]


@pytest.fixture(scope="session", params=SUITES)
def image(request: pytest.FixtureRequest, packages: list[Path]) -> Path:
    folder = Path(os.environ.get("YA_SALT_TEST_IMAGES", REPO / "build/machines"))
    try:
        return make_image(request.param, folder, packages)
    except NoMachineError as error:
        pytest.skip(f"no Debian of one's own on this machine: {error}")


@pytest.fixture
def machine(image: Path, folder: Path) -> Iterator[Machine]:
    """A Debian with a repository that has the packages of the document's example."""
    with contextlib.ExitStack() as stack:
        try:
            machine = stack.enter_context(Machine(image, folder))
        except NoMachineError as error:
            pytest.skip(f"no Debian of one's own on this machine: {error}")
        _prepare(machine)
        yield machine


def _prepare(machine: Machine) -> None:
    repository = Repository(machine.root / "srv/repository")
    add_client(repository, VERSION)
    add_config(repository)
    publish(machine)
    sources = machine.root / "etc/apt/sources.list"
    shutil.rmtree(sources.with_suffix(".list.d"))
    with sources.open("a") as file:
        file.write("deb [trusted=yes] file:/srv/repository ./\n")
    # As images of containers have one: here services are to start.
    (machine.root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)
