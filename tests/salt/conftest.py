"""A host with Salt on it: the example's packages and portod, Salt's loaders over this checkout."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.example import ExampleHost

sys.path.insert(0, str(Path(__file__).parent))

from salt_minion import Minion


def pytest_sessionfinish() -> None:
    # Salt's handlers would tell at exit about a stream that pytest has closed.
    logging.raiseExceptions = False


@pytest.fixture
def host(folder: Path) -> Iterator[ExampleHost]:
    with ExampleHost(folder) as started:
        yield started


@pytest.fixture(scope="session")
def shared_minion() -> Iterator[Minion]:
    folder = Path(tempfile.mkdtemp(prefix="ys."))
    yield Minion(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def minion(shared_minion: Minion, host: ExampleHost) -> Minion:
    return shared_minion.serve(host)


@pytest.fixture
def make_minion(folder: Path) -> Callable[..., Minion]:
    """A minion with a configuration of its own."""

    def make(**more: Any) -> Minion:
        (folder / "salt").mkdir()
        return Minion(folder / "salt", **more)

    return make


@pytest.fixture(scope="session")
def salt_factories_config() -> Iterator[dict[str, str]]:
    """A root of its own: scripts in a shared one would run whichever Python wrote them first."""
    folder = Path(tempfile.mkdtemp(prefix="ys."))
    folder.chmod(0o755)
    yield {"root_dir": str(folder)}
    shutil.rmtree(folder, ignore_errors=True)
