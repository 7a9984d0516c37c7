"""How the daemons stand, for a person: a table in the terminal's width and colours."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ya_salt.cli.render import Causes, format_age, paint_cell, paint_nothing, render_statuses
from ya_salt.errors import UsageError
from ya_salt.model import DaemonStatus


def render_for_terminal(statuses: Sequence[DaemonStatus], causes: Causes) -> str:
    """The table; in colours and cut to the width only where a terminal shows it."""
    is_watched = sys.stdout.isatty()
    is_plain = not is_watched or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return render_statuses(
        statuses,
        time.time(),
        causes=causes,
        paint=paint_nothing if is_plain else paint_cell,
        width=shutil.get_terminal_size().columns if is_watched else 0,
    )


def watch(show: Callable[[], int], every_s: float) -> int:
    """Show again and again until Ctrl-C; on a terminal always in the same place."""
    if every_s <= 0:
        raise UsageError("--watch wants a number of seconds over 0")
    code = 0
    try:
        while True:
            if sys.stdout.isatty():
                # Home, and clear from there on: flickers less than an empty screen.
                sys.stdout.write("\x1b[H\x1b[J")
            code = show()
            sys.stdout.flush()
            time.sleep(every_s)
    except KeyboardInterrupt:
        return code


def say_sinks(sinks: Sequence[Mapping[str, Any]]) -> None:
    """Who is not told how the daemons stand: in one line those that are not there at all."""
    absent = ", ".join(item["name"] for item in sinks if item["state"] == "absent")
    if absent:
        sys.stderr.write(f"monitoring: not on this host: {absent}\n")
    for item in sinks:
        if item["state"] in {"refused", "unanswered"}:
            age = format_age(time.time() - item["since"])
            told = f"{item['name']} {item['state']} for {age}: {item['message']}"
            sys.stderr.write(f"monitoring: {told}\n")


def say_gate(gate: Mapping[str, Any]) -> None:
    """That there is none, or that it could not be asked; one that answers needs no word."""
    if gate["type"] == "none":
        sys.stderr.write(f"gate: {gate['message']}\n")
    elif gate["state"] == "failed":
        age = format_age(time.time() - gate["since"])
        sys.stderr.write(f"gate: {gate['type']} cannot be asked for {age}: {gate['message']}\n")
