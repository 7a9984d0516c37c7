"""Who runs below apt: finds maintainer scripts, and ends them with everything they started."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# What dpkg starts itself besides maintainer scripts; a fork that has not yet become one is "dpkg".
_DPKG_HELPERS = frozenset({"dpkg", "dpkg-deb", "dpkg-split", "rm", "tar", "dpkg-query"})
_ROUNDS = 5
_SCRIPT = re.compile(r"(?:/info/(?P<name>[^/\s:]+)(?::\w+)?\.|/tmp\.ci/)(?P<script>p\w+)\b")


@dataclass(frozen=True)
class Process:
    """One line of /proc/PID/stat (proc(5)); `started` tells two users of one pid apart."""

    pid: int
    name: str
    parent: int
    session: int
    started: int


@dataclass(frozen=True)
class Script:
    """A maintainer script at work. `package` is "" where its command does not tell."""

    process: Process
    package: str
    script: str


def read_processes() -> dict[int, Process]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):  # It ended while we looked.
                process = parse_stat((entry / "stat").read_text(errors="replace"))
                found[process.pid] = process
    return found


def parse_stat(text: str) -> Process:
    """Read one stat line; a name may hold spaces and brackets: the last bracket ends it."""
    head, _, tail = text.rpartition(")")
    pid, _, name = head.partition("(")
    words = tail.split()
    return Process(int(pid), name, int(words[1]), int(words[3]), int(words[19]))


def find_tree(processes: Mapping[int, Process], top: int) -> set[int]:
    """`top` and everything below it."""
    tree = {top}
    while more := {p.pid for p in processes.values() if p.parent in tree and p.pid not in tree}:
        tree |= more
    return tree


def find_scripts(processes: Mapping[int, Process], top: int) -> list[Process]:
    """Find what dpkg, at or below `top`, has started other than its own helpers."""
    tree = find_tree(processes, top)
    masters = {pid for pid in tree if pid in processes and processes[pid].name == "dpkg"}
    return [
        process
        for process in processes.values()
        if process.parent in masters and process.name not in _DPKG_HELPERS
    ]


def find_family(processes: Mapping[int, Process], script: Process, session: int) -> set[int]:
    """Find a script, everything below it, and what it left behind in its session.

    An orphan that is older than the script belongs to another one, which ended well.
    """
    orphans = {
        p.pid
        for p in processes.values()
        if p.session == session and p.pid != session and p.started >= script.started
        if p.parent not in processes or processes[p.parent].session != session
    }
    return find_tree(processes, script.pid) | orphans


def describe_script(process: Process) -> Script:
    """Which package and script it is, from its command line."""
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{process.pid}/cmdline").read_bytes().replace(b"\0", b" ")
        if match := _SCRIPT.search(command.decode(errors="replace")):
            return Script(process, match["name"] or "", match["script"])
    return Script(process, "", process.name)


def end_all(find: Callable[[], Collection[int]], grace_s: float = 2.0) -> None:
    """End what `find` finds until nothing of it is alive: a script may start more meanwhile."""
    for _ in range(_ROUNDS):
        if not (left := list(_living(find()))):
            return
        end_processes(left, grace_s)


def end_processes(pids: Collection[int], grace_s: float = 2.0) -> None:
    """SIGTERM, a short time to go, SIGKILL."""
    _send(pids, signal.SIGTERM)
    until = time.monotonic() + grace_s
    while (left := list(_living(pids))) and time.monotonic() < until:
        time.sleep(0.05)
    _send(left, signal.SIGKILL)


def _send(pids: Collection[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _living(pids: Collection[int]) -> Iterator[int]:
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2][1] != "Z":
                yield pid
