"""A fleet of hosts that update one daemon through the real gate, in worker processes.

What happens is written down by each worker as it happens, so nothing is lost where one is killed;
another one that takes over its hosts reads there what they have, as hosts do from their disks.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from helpers.processes import CHECKOUT


@dataclass(frozen=True)
class Orders:
    """What a worker is told as it starts; JSON on its command line."""

    endpoints: tuple[str, ...]
    prefix: str
    daemon: str
    first: int
    """Number of its first host."""
    count: int
    log: str
    target: str
    bad: tuple[str, ...] = ()
    """Targets that fail on every host."""
    work_s: tuple[float, float] = (0.005, 0.02)
    """How long an operation takes, from and to."""
    pause_s: tuple[float, float] = (0.5, 1.5)
    """How long after a refusal the host asks again."""
    threads: int = 6
    deadline_s: float = 3.0


@dataclass(frozen=True)
class Note:
    """A line of a worker's log."""

    at: float
    began: float
    """When the call that this is the end of was begun; both seconds since 1970."""
    host: str
    what: str
    """refused, allowed, failed, done, released, lost; unreachable: the call raised GateError."""
    target: str = ""
    id: str = ""
    detail: str = ""
    """Why it was refused, or could not be asked."""


def name_host(number: int) -> str:
    return f"host-{number:04}"


class Fleet:
    """A context manager; whatever of it runs is killed at its end."""

    def __init__(
        self,
        folder: Path,
        endpoints: Sequence[str],
        prefix: str,
        *,
        hosts: int = 1000,
        processes: int = 4,
        daemon: str = "web",
        target: str = "1",
        **rest: Any,
    ) -> None:
        self.size = hosts
        firsts = [hosts * number // processes for number in range(processes + 1)]
        self._orders = [
            Orders(
                tuple(endpoints),
                prefix,
                daemon,
                first,
                after - first,
                str(folder / f"worker-{number}.log"),
                target,
                **rest,
            )
            for number, (first, after) in enumerate(pairwise(firsts))
        ]
        self._workers: list[subprocess.Popen[str] | None] = [None] * processes
        self._words: list[str] = []
        """All that workers were told since they started."""
        self._notes: list[Note] = []
        self._read_bytes = [0] * processes

    def __enter__(self) -> Fleet:
        for number in range(len(self._orders)):
            self.start(number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in range(len(self._workers)):
            self.kill(number)

    @property
    def hosts(self) -> list[str]:
        return [name_host(number) for number in range(self.size)]

    def start(self, number: int) -> None:
        """Start a worker, also in the place of one that was killed."""
        # Not a directory above: a folder of this name may be anywhere.
        paths = [str(CHECKOUT), str(CHECKOUT / "tests")]
        error_log = Path(self._orders[number].log).with_suffix(".err")
        with error_log.open("a") as errors:
            worker = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "helpers.fleet_worker",
                    json.dumps(asdict(self._orders[number])),
                ],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                stdin=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._workers[number] = worker
        for line in self._words:
            self._say(worker, line)

    def kill(self, number: int) -> None:
        """SIGKILL: its hosts keep what they hold."""
        worker, self._workers[number] = self._workers[number], None
        if worker is not None:
            worker.kill()
            worker.wait()
            if worker.stdin is not None:
                worker.stdin.close()

    def want(self, target: str) -> None:
        """From now on every host is to have this."""
        line = json.dumps({"target": target})
        self._words.append(line)
        for worker in self._workers:
            if worker is not None:
                self._say(worker, line)

    @staticmethod
    def _say(worker: subprocess.Popen[str], line: str) -> None:
        assert worker.stdin is not None
        worker.stdin.write(f"{line}\n")
        worker.stdin.flush()

    # -- what they say -------------------------------------------------------------------------

    def list_notes(self) -> list[Note]:
        """All lines of all workers, by time."""
        for number, orders in enumerate(self._orders):
            found, size = read_notes(Path(orders.log), self._read_bytes[number])
            self._notes += found
            self._read_bytes[number] += size
        self._notes.sort(key=lambda note: note.at)
        return list(self._notes)

    def count(self, what: str, target: str | None = None) -> int:
        """How many hosts have said so."""
        notes = self.list_notes()
        return len(
            {note.host for note in notes if note.what == what and target in {None, note.target}}
        )

    def count_refusals(self) -> Counter[str]:
        """Reason -> how often it was heard."""
        return Counter(note.detail for note in self.list_notes() if note.what == "refused")

    def wait_for(self, is_so: Callable[[], bool], what: str, within_s: float) -> None:
        """Raises TimeoutError, and RuntimeError where a worker has died by itself."""
        give_up = time.monotonic() + within_s
        while not is_so():
            self._check_workers()
            if time.monotonic() > give_up:
                tail = [str(note) for note in self.list_notes()[-5:]]
                raise TimeoutError(f"in vain waited for: {what}; at last: {tail}")
            time.sleep(0.3)

    def wait_until_all_have(self, target: str, within_s: float) -> None:
        self.wait_for(
            lambda: self.count("released", target) == self.size,
            f"all hosts with {target}; there are {self.count('released', target)}",
            within_s,
        )

    def _check_workers(self) -> None:
        for worker, orders in zip(self._workers, self._orders, strict=True):
            if worker is not None and worker.poll() is not None:
                raise RuntimeError(Path(orders.log).with_suffix(".err").read_text())


def read_notes(log: Path, start: int = 0) -> tuple[list[Note], int]:
    """The lines from byte `start` on, and how many bytes they are.

    Only whole ones: who is killed may leave half a one.
    """
    if not log.exists():
        return [], 0
    with log.open("rb") as stream:
        stream.seek(start)
        whole, newline, _ = stream.read().rpartition(b"\n")
    notes = []
    for line in whole.split(b"\n"):
        with contextlib.suppress(ValueError, TypeError):
            notes.append(Note(**json.loads(line)))
    return notes, len(whole) + len(newline)
