"""What a pass does grows no faster than the daemons that it is about, and the packages of the host.

Operations are counted, never seconds: every line of ya-salt that runs, a comprehension's once for
each of its items, and every request to portod and statement of SQLite. Going from N to 2N may cost
what going from N/2 to N did, twice.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from helpers.crowd import Crowd
from helpers.package_host import needs_apt
from helpers.portod import DevPortod

import ya_salt
from ya_salt.porto.client import PortoClient

pytestmark = needs_apt

HOME = str(Path(ya_salt.__file__).parent)
COUNTS = (8, 16, 32)
ROOM = 1.25
"""What comes and goes with time and threads: a poll more, another way to take turns."""
SLACK = 60
"""Lines of one function that do not count."""


class Lines:
    """Counts the lines of ya-salt that run, by function, on every thread."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()

    def __enter__(self) -> Lines:
        threading.settrace(self._begin)
        sys.settrace(self._begin)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]

    def _begin(self, frame: FrameType, _event: str, _arg: object) -> Callable[..., Any] | None:
        code = frame.f_code
        if not code.co_filename.startswith(HOME):
            return None
        name = f"{code.co_filename.removeprefix(HOME)}:{code.co_qualname}"
        counted = self.counted

        def take(_frame: FrameType, event: str, _arg: object) -> Callable[..., Any]:
            if event == "line":
                counted[name] += 1
            return take

        counted[name] += 1
        return take


def count_operations(crowd: Crowd) -> Mapping[str, int]:
    """Of a pass, by function."""
    clients: list[PortoClient] = []

    def connect(path: str) -> PortoClient:
        clients.append(PortoClient(path))
        return clients[-1]

    statements: list[str] = []

    def open_database(*words: Any, **named: Any) -> sqlite3.Connection:
        database = sqlite3.Connection(*words, **named)
        database.set_trace_callback(statements.append)
        return database

    with pytest.MonkeyPatch.context() as patch, Lines() as lines:
        patch.setattr(sqlite3, "connect", open_database)
        crowd.run(connect)
    assert statements
    asked = sum(len(client.requests) for client in clients)
    told = {"requests to portod": asked, "statements of SQLite": len(statements)}
    return {**lines.counted, **told}


def change_nothing(_crowd: Crowd) -> None:
    pass


def change_live(crowd: Crowd) -> None:
    crowd.write_all(limit=65)


def restart(crowd: Crowd) -> None:
    crowd.write_all(limit=65, word="D")


STORY: Mapping[str, Callable[[Crowd], None]] = {
    "cold start": change_nothing,
    "nothing to do": change_nothing,
    "all live": change_live,
    "all restarted": restart,
}
"""What is done to a host, in this order."""

Costs = Mapping[str, list[Mapping[str, int]]]


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> Costs:
    """What is done -> the operations of a pass over it, by function, for each of `COUNTS`."""
    found: dict[str, list[Mapping[str, int]]] = {}
    folder = tmp_path_factory.mktemp("linear")
    # What is made once in a process, whatever the number of daemons.
    for count in (2, *COUNTS):
        with DevPortod() as portod:
            crowd = Crowd(folder / str(count), portod.socket_path, count)
            for name, change in STORY.items():
                change(crowd)
                found.setdefault(name, []).append(count_operations(crowd))
    return {name: counted[1:] for name, counted in found.items()}


@pytest.mark.parametrize("name", STORY)
def test_no_step_grows_faster_than_the_daemons(costs: Costs, name: str) -> None:
    least, half, whole = costs[name]
    steep = {
        function: (least.get(function, 0), half.get(function, 0), count)
        for function, count in whole.items()
        if count - half.get(function, 0)
        > 2 * ROOM * (half.get(function, 0) - least.get(function, 0)) + SLACK
    }
    assert not steep


def test_a_pass_asks_portod_no_more_where_nothing_changed(costs: Costs) -> None:
    assert len({counted["requests to portod"] for counted in costs["nothing to do"]}) == 1
