"""The table of `ya-salt status`: what it shows, in which width, in which colours."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ya_salt.cli.lines import format_bytes, paint_cell
from ya_salt.cli.sizes import show_sizes
from ya_salt.cli.tables import (
    describe_event,
    describe_line,
    render_details,
    render_history,
    render_plans,
    render_statuses,
    summarize,
)
from ya_salt.messages import Details
from ya_salt.model import Condition, DaemonPlan, DaemonStatus, Event, GateStanding
from ya_salt.store import open_store

NOW = 1_700_000_000.0
GOOD = DaemonStatus(
    "good",
    version="1.2",
    state="running",
    ready=Condition(True, "Ready", "", NOW - 7200),
    respawn_count=3,
    restart_count=1,
    memory_bytes=37 << 20,
)
DEAD = replace(
    GOOD,
    name="dead",
    state="dead",
    ready=Condition(False, "Dead", "it exited with code 3", NOW - 300),
    memory_bytes=None,
)
CAUSES = {"good": (NOW - 3600, "restart: cwd changed from / to /tmp,\n which cannot change live")}


def test_a_line_says_all_that_one_asks_first() -> None:
    head, good, dead, note = render_statuses([GOOD, DEAD], NOW, causes=CAUSES).splitlines()
    assert re.split(r"  +", head) == [
        "NAME",
        "VERSION",
        "PHASE",
        "STATE",
        "READY",
        "SINCE",
        "RESPAWNS",
        "RESTARTS",
        "MEMORY",
        "LAST CAUSE",
    ]
    cause = "1h ago: restart: cwd changed from / to /tmp, which cannot change live"
    assert re.split(r"  +", good) == [
        "good",
        "1.2",
        "Managed",
        "running",
        "yes",
        "2h",
        "3",
        "1",
        "37M",
        cause,
    ]
    assert re.split(r"  +", dead)[3:6] == ["dead", "no", "5m"]
    assert note == "dead: not ready: Dead: it exited with code 3"


@pytest.mark.parametrize("width", [100, 120])
def test_no_line_of_the_table_is_wider_than_the_terminal(width: int) -> None:
    table = render_statuses([GOOD, DEAD], NOW, causes=CAUSES, width=width)
    *lines, _note = table.splitlines()
    assert max(map(len, lines)) == width
    assert any(line.endswith("…") for line in lines)


def test_colours_change_no_letter() -> None:
    plain = render_statuses([GOOD, DEAD], NOW, causes=CAUSES)
    painted = render_statuses([GOOD, DEAD], NOW, causes=CAUSES, paint=paint_cell)
    assert "\x1b[32myes" in painted
    assert "\x1b[31mno" in painted
    assert "\x1b" not in plain
    bare = re.sub(r"\x1b\[\d*m", "", painted)
    assert [line.rstrip() for line in bare.splitlines()] == plain.splitlines()


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1.0K"),
        (1 << 20, "1.0M"),
        (37 << 20, "37M"),
        (3 << 29, "1.5G"),
        (1 << 50, "1024.0T"),
    ],
)
def test_bytes_are_short(count: int, text: str) -> None:
    assert format_bytes(count) == text


def test_the_last_cause_is_more_than_coming_up(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    with store.transaction():
        store.add_history(
            [
                Event(1.0, "a", "create: there is no container"),
                Event(2.0, "a", "restart: cwd changed"),
                Event(2.5, "a", "not ready (Starting): running for 4 s of 5 s"),
                Event(3.0, "a", "ready (Ready): running"),
                Event(4.0, "b", "ready (Ready): running"),
                Event(5.0, "c", "not ready (Dead): it exited with code 3"),
            ]
        )
    assert store.load_last_causes() == {
        "a": (2.0, "restart: cwd changed"),
        "c": (5.0, "not ready (Dead): it exited with code 3"),
    }
    store.close()


def read_terminal(words: list[str], environment: dict[str, str], until: str) -> str:
    """What the command shows on a terminal, up to a text; then Ctrl-C."""
    child, fd = pty.fork()
    if not child:
        os.execve(
            sys.executable,
            [sys.executable, "-m", "ya_salt.cli.main", *words],
            {**os.environ, **environment},
        )
    shown = b""
    give_up = time.monotonic() + 20
    while until.encode() not in shown and time.monotonic() < give_up:
        if select.select([fd], [], [], 0.1)[0]:
            shown += os.read(fd, 65536)
    os.kill(child, signal.SIGINT)
    _, status = os.waitpid(child, 0)
    os.close(fd)
    assert os.waitstatus_to_exitcode(status) == 0
    assert until in shown.decode()
    return shown.decode()


def test_watch_shows_it_again_in_the_same_place(tmp_path: Path) -> None:
    environment = {"YA_SALT_STATE_DIR": str(tmp_path), "TERM": "xterm"}
    twice = "gate: no gate is configured: every change is made at once\r\n\x1b[H\x1b[J"
    assert "no daemons" in read_terminal(["status", "--watch", "0.1"], environment, twice)


# -- the words after a pass ----------------------------------------------------------------------

RESTARTED = replace(GOOD, name="restarted", actions=("restart: cwd changed",))
DOWN = replace(
    GOOD,
    name="down",
    state="",
    actions=("stop: cwd changed",),
    error="start down: InvalidCommand",
    running=Condition(False, "NoContainer", "", NOW),
    ready=Condition(False, "InvalidCommand", "", NOW),
)
AS_BEFORE = replace(
    DOWN, name="old", state="running", actions=(), running=Condition(True, "Running", "", NOW)
)
NEVER = replace(DOWN, name="never", actions=())
WAITING = replace(
    GOOD,
    name="waiting",
    ready=Condition(True, "Deferred", "", NOW),
    gate=GateStanding("waiting", "Full", "1 of 1 slots in use", NOW, "update", "2"),
)


@pytest.mark.parametrize(
    ("statuses", "lines"),
    [
        ([], ["nothing had to be done"]),
        ([GOOD], ["nothing had to be done"]),
        ([GOOD, RESTARTED], ["1 done, 0 failed, 0 waiting"]),
        ([DEAD], ["0 done, 1 failed, 0 waiting"]),
        ([WAITING], ["0 done, 0 failed, 1 waiting"]),
        (
            [RESTARTED, DOWN, WAITING, AS_BEFORE],
            [
                "1 done, 2 failed, 1 waiting",
                "down is DOWN: the old one was stopped, the new one did not start",
                "old runs as before",
            ],
        ),
        ([NEVER], ["0 done, 1 failed, 0 waiting", "never is DOWN: it does not run"]),
        (
            [replace(DOWN, state="unknown")],
            ["0 done, 1 failed, 0 waiting", "down may run or not: portod does not tell"],
        ),
    ],
)
def test_a_pass_ends_with_what_came_of_it(statuses: list[DaemonStatus], lines: list[str]) -> None:
    assert summarize(statuses) == lines


def test_version_is_what_runs_and_what_is_wanted_stands_beside_it() -> None:
    behind = replace(GOOD, name="behind", wanted_version="1.3")
    first = replace(GOOD, name="first", version="", wanted_version="1.3")
    same = replace(GOOD, name="same", wanted_version="1.2")
    _, *rows = render_statuses([behind, first, same], NOW).splitlines()
    assert [re.split(r"  +", row)[1] for row in rows] == ["1.2 -> 1.3", "- -> 1.3", "1.2"]


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("memory_limit", str(2 << 30), "2G"),
        ("memory_guarantee", str(1536 << 20), "1536M"),
        ("anon_limit", "1000000", "1000000 (977K)"),
        ("memory_limit", "0", "0"),
        ("io_limit[/dev/sda r]", str(5 << 20), "5M"),
        ("net_limit[default]", "1023", "1023"),
        ("ulimit[memlock]", f"{64 << 20} unlimited", "64M unlimited"),
        # No bytes.
        ("ulimit[nofile]", "65536 65536", "65536 65536"),
        ("io_ops_limit[/dev/sda]", "1024", "1024"),
        ("thread_limit", "10240", "10240"),
        ("cpu_limit", "1.5c", "1.5c"),
    ],
)
def test_a_limit_is_shown_as_people_write_it(name: str, text: str, shown: str) -> None:
    lines = render_details(GOOD, Details(limits={name: text}), NOW).splitlines()
    assert f"limits     {name} {shown}" in lines


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f"d: memory_limit: {64 << 20} -> {2 << 30}", "d: memory_limit: 64M -> 2G"),
        ("memory_limit: (not set) -> 100000000", "memory_limit: (not set) -> 100000000 (95M)"),
        (
            f"change live: memory_limit 100000000 -> {64 << 20}, thread_limit 10240 -> 20480",
            "change live: memory_limit 100000000 (95M) -> 64M, thread_limit 10240 -> 20480",
        ),
        (
            f"memory_limit is {1 << 30}, not {64 << 20}: changed by somebody else",
            "memory_limit is 1G, not 64M: changed by somebody else",
        ),
        (
            f"/etc/d.yaml:9: ulimit[memlock]: {1 << 20} {1 << 20} -> {1 << 20} unlimited",
            "/etc/d.yaml:9: ulimit[memlock]: 1M 1M -> 1M unlimited",
        ),
        # Nothing of ours, or no change of it.
        ("package memory_limit: 1024 -> 2048.1", "package memory_limit: 1024 -> 2048.1"),
        ("env[memory_limit]: 1024 -> 2048", "env[memory_limit]: 1024 -> 2048"),
        ("says memory_limit 1048576", "says memory_limit 1048576"),
        ("ulimit[nofile]: 65536 65536 -> 1024 1024", "ulimit[nofile]: 65536 65536 -> 1024 1024"),
    ],
)
def test_changes_of_limits_are_shown_as_people_write_them(line: str, shown: str) -> None:
    assert show_sizes(line) == shown
    told = Event(NOW, "d", line)
    assert shown in render_history([told])
    assert shown in describe_line(told)
    assert shown in describe_event(told)


def test_text_from_outside_cannot_steer_a_terminal() -> None:
    evil = "\x1b[2J\u202e\r\n\x9bx"
    said = replace(
        DEAD, version=evil, error=f"no {evil}", actions=(f"start: {evil}",), warnings=(evil,)
    )
    details = Details(
        7,
        {"memory_limit": evil},
        (Event(NOW, "dead", evil, evil),),
        f"one\n{evil}\tthree\x1b]0;x\x07",
    )
    shown = [
        render_statuses([said], NOW, causes={"dead": (NOW, evil)}, show_actions=True),
        render_details(said, details, NOW),
        render_history(details.history),
        describe_line(details.history[0]),
        render_plans(
            [DaemonPlan("d", refusal=evil, notes=(evil,))],
            {"d": {"container": {"cwd": {"old": evil, "new": ""}}}},
        ),
    ]
    for text in shown:
        assert not set(text) & set("\x1b\u202e\r\x9b\x07")
