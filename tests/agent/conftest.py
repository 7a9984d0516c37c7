from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.agents import AgentHost


@pytest.fixture
def host(folder: Path) -> Iterator[AgentHost]:
    """A host with an agent that makes passes only when something happens; not started yet."""
    with AgentHost(folder) as started:
        yield started
