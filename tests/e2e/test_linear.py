"""What a pass or a look at a host does grows no faster than its daemons and its packages.

Operations are counted, never seconds: every line of ya-salt that runs, a comprehension's once for
each of its items, and every request to portod and statement of SQLite. Going from N to 2N may cost
what going from N/2 to N did, twice.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from helpers.apart import name_variables
from helpers.crowd import Crowd
from helpers.package_host import needs_apt
from helpers.portod import DevPortod

import ya_salt
from ya_salt import as_left
from ya_salt.cli.main import main
from ya_salt.cli.quick import answer_quickly
from ya_salt.converge import quick
from ya_salt.porto.client import PortoClient

pytestmark = needs_apt

ASKED = "requests to portod"
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


def count_operations(act: Callable[[], object]) -> Mapping[str, int]:
    """By function."""
    clients: list[PortoClient] = []
    make_client = PortoClient.__init__

    def remember(client: PortoClient, *words: Any, **named: Any) -> None:
        make_client(client, *words, **named)
        clients.append(client)

    statements: list[str] = []

    def open_database(*words: Any, **named: Any) -> sqlite3.Connection:
        database = sqlite3.Connection(*words, **named)
        database.set_trace_callback(statements.append)
        return database

    with pytest.MonkeyPatch.context() as patch, Lines() as lines:
        patch.setattr(sqlite3, "connect", open_database)
        patch.setattr(PortoClient, "__init__", remember)
        act()
    asked = sum(len(client.requests) for client in clients)
    told = {ASKED: asked, "statements of SQLite": len(statements)}
    return {**lines.counted, **told}


def make_pass(crowd: Crowd) -> Mapping[str, int]:
    counted = count_operations(crowd.run)
    assert counted["statements of SQLite"]
    return counted


def change_live(crowd: Crowd) -> Mapping[str, int]:
    crowd.write_all(limit=65)
    return make_pass(crowd)


def restart(crowd: Crowd) -> Mapping[str, int]:
    crowd.write_all(limit=65, word="D")
    return make_pass(crowd)


def ask(crowd: Crowd, *words: str, code: int = 0) -> Mapping[str, int]:
    """A command over it that only looks, the long way."""
    codes: list[int] = []
    as_left.forget(crowd.settings.state_dir)
    counted = count_operations(lambda: codes.append(main([*list_flags(crowd), *words])))
    assert codes == [code]
    return counted


def list_flags(crowd: Crowd) -> list[str]:
    settings = crowd.settings
    return [
        f"--specs-dir={settings.specs_dir}",
        f"--state-dir={settings.state_dir}",
        f"--porto-socket={settings.porto_socket}",
        f"--root={settings.root}",
    ]


def plan_restart(crowd: Crowd) -> Mapping[str, int]:
    crowd.write_all(limit=65, word="D")
    counted = ask(crowd, "plan", code=4)
    crowd.write_all(limit=65)
    return counted


def go_the_quick_way(crowd: Crowd, command: str) -> Mapping[str, int]:
    """A pass, or a look at its state, that goes by what the last pass has left."""
    words, done = [*list_flags(crowd), command], []
    with pytest.MonkeyPatch.context() as patch:
        for name, text in name_variables(crowd.folder).items():
            patch.setenv(name, text)
        # What is waited for here is a new second, not five.
        patch.setattr(as_left, "SETTLED_S", 0.05)
        patch.setattr(quick, "_CLOCK_STEP_S", 1)
        for _ in range(5):
            assert main([*list_flags(crowd), "apply"]) == 0
            if answer_quickly(words) is not None:
                break
            time.sleep(1.1)
        counted = count_operations(lambda: done.append(answer_quickly(words)))
    assert done == [0]
    assert counted[ASKED] == 0
    return counted


STORY: Mapping[str, Callable[[Crowd], Mapping[str, int]]] = {
    "cold start": make_pass,
    "nothing to do": make_pass,
    "status": lambda crowd: ask(crowd, "status"),
    "status of one": lambda crowd: ask(crowd, "status", "daemon-1"),
    "why": lambda crowd: ask(crowd, "why", "daemon-1"),
    "plan": lambda crowd: ask(crowd, "plan"),
    "a quick pass": lambda crowd: go_the_quick_way(crowd, "apply"),
    "a quick status": lambda crowd: go_the_quick_way(crowd, "status"),
    "all live": change_live,
    "plan, all restarted": plan_restart,
    "all restarted": restart,
}
"""What is done to a host, in this order, and its operations, by function."""

ASK_NO_MORE = ("nothing to do", "status", "status of one", "why", "plan", "plan, all restarted")

Costs = Mapping[str, list[Mapping[str, int]]]


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> Costs:
    """What is done -> its operations, by function, for each of `COUNTS`."""
    found: dict[str, list[Mapping[str, int]]] = {}
    folder = tmp_path_factory.mktemp("linear")
    # What is made once in a process, whatever the number of daemons.
    for count in (2, *COUNTS):
        with DevPortod() as portod:
            crowd = Crowd(folder / str(count), portod.socket_path, count)
            for name, act in STORY.items():
                found.setdefault(name, []).append(act(crowd))
    return {name: counted[1:] for name, counted in found.items()}


@pytest.mark.parametrize("name", STORY)
def test_no_step_grows_faster_than_the_daemons(costs: Costs, name: str) -> None:
    least, half, whole = costs[name]
    steep = {
        function: (least.get(function, 0), half.get(function, 0), count)
        for function, count in whole.items()
        if count - half.get(function, 0)
        # What is made once in a process, and first needed here, is no growth backwards.
        > 2 * ROOM * max(0, half.get(function, 0) - least.get(function, 0)) + SLACK
    }
    assert not steep


@pytest.mark.parametrize("name", ASK_NO_MORE)
def test_portod_is_asked_no_more_where_nothing_is_done(costs: Costs, name: str) -> None:
    (asked,) = {counted[ASKED] for counted in costs[name]}
    assert asked
