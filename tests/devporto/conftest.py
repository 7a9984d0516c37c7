"""One server for a module of tests, one connection and a clean slate for a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.portod import DevPortod, Wire


@pytest.fixture(scope="module")
def portod() -> Iterator[DevPortod]:
    with DevPortod() as server:
        yield server


@pytest.fixture
def wire(portod: DevPortod) -> Iterator[Wire]:
    """A connection; what the test created is destroyed after it."""
    with portod.connect() as connection:
        yield connection
    with portod.connect() as connection:
        for name in connection.call(list={"mask": "*"}).get("list", {}).get("name", []):
            connection.call(destroy={"name": name})
