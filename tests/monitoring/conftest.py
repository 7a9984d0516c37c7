from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.portod import DevPortod
from helpers.receiver import Receiver, make_juggler, make_yasm

from ya_salt.store import Store, open_store


@pytest.fixture
def yasm() -> Iterator[Receiver]:
    with make_yasm() as receiver:
        yield receiver


@pytest.fixture
def juggler() -> Iterator[Receiver]:
    with make_juggler() as receiver:
        yield receiver


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    opened = open_store(str(folder / "state"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def portod() -> Iterator[DevPortod]:
    with DevPortod() as server:
        yield server
