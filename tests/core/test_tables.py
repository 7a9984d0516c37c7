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

from ya_salt.cli.tables import format_bytes, paint_cell, render_statuses
from ya_salt.model import Condition, DaemonStatus
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


def test_the_last_cause_is_more_than_becoming_ready(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    with store.transaction():
        store.add_history(
            [
                (1.0, "a", "create: there is no container"),
                (2.0, "a", "restart: cwd changed"),
                (3.0, "a", "ready (Ready): running"),
                (4.0, "b", "ready (Ready): running"),
                (5.0, "c", "not ready (Dead): it exited with code 3"),
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
    return shown.decode()


def test_watch_shows_it_again_in_the_same_place(tmp_path: Path) -> None:
    environment = {"YA_SALT_STATE_DIR": str(tmp_path), "TERM": "xterm"}
    twice = "no pass over the daemons directory was made yet: ya-salt apply\r\n\x1b[H\x1b[J"
    assert "no daemons" in read_terminal(["status", "--watch", "0.1"], environment, twice)
