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


@pytest.fixture
def host(folder: Path) -> Iterator[ExampleHost]:
    with ExampleHost(folder) as started:
        yield started


@pytest.fixture(scope="session")
def shared_minion() -> Iterator[Minion]:
    # Salt's handlers would tell at exit about a stream that pytest has closed.
    logging.raiseExceptions = False
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
