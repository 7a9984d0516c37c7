"""Run whole programs, in turns, and say how long each took beside the others.

In turns, as whatever else the machine does then hits all of them alike; pair by pair, as a ratio
of two medians would compare runs that were minutes apart.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

_TIMEOUT_S = 300
_SLOW_S = 1.0
"""A command that takes longer is run in every third round only."""


@dataclass(frozen=True)
class Command:
    """One program, as its user would type it."""

    name: str
    words: Sequence[str]
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    codes: Collection[int] = (0,)
    """Exit codes that mean that it found nothing to do."""
    forbidden: str = ""
    """What it must not say, where its exit code does not tell."""
    checks: str = ""
    """What it looks at, for the reader of the table."""


@dataclass
class Samples:
    """What one command took, by round, in seconds."""

    wall: dict[int, float] = field(default_factory=dict)
    cpu: dict[int, float] = field(default_factory=dict)
    """User and system together, its children's included."""
    rss_mb: float = 0.0

    @property
    def median_s(self) -> float:
        return statistics.median(self.wall.values())

    @property
    def min_s(self) -> float:
        return min(self.wall.values())

    @property
    def cpu_s(self) -> float:
        return statistics.median(self.cpu.values())

    def ratio_to(self, other: Samples) -> float:
        """Median of the ratios of the same rounds."""
        return statistics.median(self._ratios(other))

    def least_ratio_to(self, other: Samples) -> float:
        """What is left of a ratio where the machine was busy with others.

        The smallest of that of both minima and those of the same rounds.
        """
        return min(self.min_s / other.min_s, *self._ratios(other))

    def ms_more_than(self, other: Samples) -> float:
        """Median of the differences of the same rounds."""
        return statistics.median(self._differences_ms(other))

    def least_ms_more_than(self, other: Samples) -> float:
        """As `least_ratio_to` has it."""
        return min((self.min_s - other.min_s) * 1e3, *self._differences_ms(other))

    def _differences_ms(self, other: Samples) -> list[float]:
        shared = self.wall.keys() & other.wall.keys()
        return [(self.wall[number] - other.wall[number]) * 1e3 for number in shared]

    def _ratios(self, other: Samples) -> list[float]:
        return [s / other.wall[number] for number, s in self.wall.items() if number in other.wall]


def try_out(command: Command) -> float:
    """Run it once, for its answer; seconds. Raises SystemExit where it did not find all well."""
    started = time.perf_counter()
    done = subprocess.run(
        command.words,
        env=command.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    said = done.stdout + done.stderr
    if done.returncode not in command.codes or (command.forbidden and command.forbidden in said):
        raise SystemExit(f"{command.name}: exit code {done.returncode}\n{said[-3000:]}")
    return time.perf_counter() - started


def run_in_turns(commands: Sequence[Command], rounds: int) -> dict[str, Samples]:
    """By name. Each is tried once before, which warms what there is to warm."""
    slow = {command.name: try_out(command) > _SLOW_S for command in commands}
    samples = {command.name: Samples() for command in commands}
    for number in range(rounds):
        # Nobody is always the one who comes after the one that leaves the caches cold.
        turn = number % len(commands)
        for command in [*commands[turn:], *commands[:turn]]:
            if slow[command.name] and number % 3:
                continue
            wall, cpu = _run(command)
            samples[command.name].wall[number] = wall
            samples[command.name].cpu[number] = cpu
    for command in commands:
        samples[command.name].rss_mb = _find_peak(command)
    return samples


def _run(command: Command) -> tuple[float, float]:
    started = time.perf_counter()
    process = subprocess.Popen(
        command.words,
        env=command.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in command.codes:
        raise SystemExit(f"{command.name}: exit code {process.returncode}")
    return wall, used.ru_utime + used.ru_stime


# The kernel counts what a process had before exec as its own: this has 8 MB where a benchmark has
# many more.
_LAUNCHER = """\
import json, os, sys
words = json.loads(sys.argv[1])
null = os.open(os.devnull, os.O_RDWR)
pid = os.fork()
if not pid:
    for number in range(3):
        os.dup2(null, number)
    os.execvp(words[0], words)
print(os.wait4(pid, 0)[2].ru_maxrss)
"""


def _find_peak(command: Command) -> float:
    """The most memory that one process of it had, in MB (10^6 bytes)."""
    words = [sys.executable, "-S", "-c", _LAUNCHER, json.dumps(list(command.words))]
    done = subprocess.run(words, env=command.env, capture_output=True, text=True, check=True)
    return int(done.stdout) * 1024 / 1e6
