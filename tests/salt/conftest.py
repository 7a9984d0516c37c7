"""A host with Salt on it: the example's packages and portod, and Salt's loaders over this checkout."""

from __future__ import annotations

import sys
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


@pytest.fixture
def make_minion(host: ExampleHost) -> Callable[..., Minion]:
    def make(**more: Any) -> Minion:
        return Minion(host, **more)

    return make


@pytest.fixture
def minion(host: ExampleHost) -> Minion:
    return Minion(host)
