from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.agents import AgentHost
from helpers.systemd import NoSystemdError, Systemd, list_variables, name_python


@pytest.fixture
def host(folder: Path) -> Iterator[AgentHost]:
    """A host with an agent that makes passes only when something happens; not started yet."""
    with AgentHost(folder) as started:
        yield started


@pytest.fixture
def systemd(folder: Path) -> Iterator[Systemd]:
    try:
        with Systemd(folder) as started:
            yield started
    except NoSystemdError as error:
        pytest.skip(f"no systemd of one's own on this machine: {error}")


@pytest.fixture
def service(host: AgentHost, systemd: Systemd) -> Systemd:
    """The agent's unit, installed and not started."""
    systemd.install("ya-salt.service", name_python(), list_variables(host.environment))
    systemd.systemctl("daemon-reload")
    return systemd
