"""Updates that fail and are undone, on a real Porto socket with real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.passes import Passes
from helpers.portod import DevPortod

from ya_salt.model import DaemonStatus

DIES = "cmd: ['/bin/sh', '-c', 'echo no config >&2; exit 3']"


@pytest.fixture
def passes(folder: Path) -> Iterator[Passes]:
    with DevPortod() as portod:
        yield Passes(folder, portod.socket_path)


def the_one(statuses: tuple[DaemonStatus, ...]) -> DaemonStatus:
    (status,) = statuses
    return status


def test_update_that_dies_is_undone_in_the_same_pass(passes: Passes) -> None:
    passes.write("web", "", version="1.0", min_ready_s=1)
    passes.run_one()
    passes.write("web", "", version="1.1", min_ready_s=1, command=DIES)
    result = passes.run()
    status = the_one(result.statuses)
    assert not result.ok
    assert status.ready
    assert (status.ready.status, status.ready.reason) == (True, "RolledBack")
    assert (status.version, status.wanted_version, status.state) == ("1.0", "1.1", "running")
    assert status.rejection
    assert "four times" in status.rejection.why
    assert "no config" in status.rejection.why
    again = passes.run()
    assert not again.ok
    assert again.touched == frozenset()
    assert not any(plan.steps for plan in passes.plan().values())
