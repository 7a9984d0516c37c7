from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.example import ExampleHost

EXAMPLE = Path(__file__).parent.parent / "data" / "juggler-agent-rtc.yaml"


@pytest.fixture
def host(folder: Path) -> Iterator[ExampleHost]:
    """The example's host: nothing dropped into the daemons directory yet."""
    with ExampleHost(folder) as started:
        yield started


@pytest.fixture
def running(host: ExampleHost) -> ExampleHost:
    """The example dropped in and applied: its daemon runs."""
    shutil.copy(EXAMPLE, host.spec_file)
    done = host.run("apply")
    assert done.returncode == 0, done.stdout + done.stderr
    return host
