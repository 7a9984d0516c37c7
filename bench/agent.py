"""Measure what `ya-salt run` costs: a pass with nothing to do, one live change, one restart.

Processor time of the whole agent, all of its threads, in ns as the kernel counts it: what a pass
waits for is nothing that a host pays for.

    python -m bench.agent --n 500
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.host import BenchHost
from bench.promises import (
    AGENT_LIVE,
    AGENT_PASS,
    AGENT_RESTART,
    describe_verdicts,
    judge_figures,
    list_agent_promises,
)

_PASSES_S = 6.0
"""A round, once a second."""
_QUIET_S = 1.5
"""So long without any work, and what was begun is over."""
_PATIENCE_S = 60.0
_LEAST_S = 2e-4
"""What an agent takes that only waits."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m bench.agent")
    parser.add_argument("--n", type=int, default=500, help="daemons")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with (
        tempfile.TemporaryDirectory(prefix="ysb.") as folder,
        BenchHost(Path(folder) / "h", options.n) as host,
    ):
        figures = measure_agent(host, options.rounds)
        for name, figure in figures.items():
            print(f"  {name:48} {figure:10.2f}")
        print(describe_verdicts(judge_figures(list_agent_promises(options.n), figures)))


def measure_agent(host: BenchHost, rounds: int) -> Mapping[str, float]:
    """Medians in ms of processor time; the host is left as it was found."""
    return {AGENT_PASS: _measure_passes(host, rounds), **_measure_changes(host, rounds)}


def _measure_passes(host: BenchHost, rounds: int) -> float:
    with _running(host, interval_s=1) as agent:
        _let_it_rest(agent, within_s=1.0)
        began, passes, last = agent.cpu_s, 0, ""
        until = time.monotonic() + _PASSES_S * rounds
        while time.monotonic() < until or not passes:
            with contextlib.suppress(FileNotFoundError):
                told = (host.state_dir / "as-left.pass").read_text()
                passes += told != last
                last = told
            time.sleep(0.05)
        return (agent.cpu_s - began) / passes * 1e3


def _measure_changes(host: BenchHost, rounds: int) -> dict[str, float]:
    path = host.specs_dir / "0.yaml"
    text = path.read_text()
    changes = {
        AGENT_LIVE: ("memory_limit: 64Mb", "memory_limit: {}Mb"),
        AGENT_RESTART: ("LANG: C", "LANG: C{}"),
    }
    found: dict[str, list[float]] = {}
    with _running(host, interval_s=60) as agent:
        for number in range(rounds):
            for name, (old, new) in changes.items():
                _let_it_rest(agent)
                began = agent.cpu_s
                path.write_text(text.replace(old, new.format(65 + number)))
                agent.await_work(began)
                _let_it_rest(agent)
                found.setdefault(name, []).append(agent.cpu_s - began)
        path.write_text(text)
        agent.await_work(agent.cpu_s)
        _let_it_rest(agent)
    return {name: statistics.median(values) * 1e3 for name, values in found.items()}


class _Agent:
    """`ya-salt run`, and what it has used so far."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        # As clock_getcpuclockid(3) makes it: all threads, those that have ended among them.
        self._clock = ((~process.pid) << 3) | 2

    @property
    def cpu_s(self) -> float:
        if self._process.poll() is not None:
            raise SystemExit(f"ya-salt run: exit code {self._process.returncode}")
        return time.clock_gettime(self._clock)

    def await_work(self, before_s: float) -> None:
        """Wait until it has used more than one does that only waits."""
        until = time.monotonic() + _PATIENCE_S
        while self.cpu_s - before_s < 20 * _LEAST_S:
            if time.monotonic() > until:
                raise SystemExit("ya-salt run: it does nothing about a change")
            time.sleep(0.01)


@contextlib.contextmanager
def _running(host: BenchHost, interval_s: int) -> Iterator[_Agent]:
    process = subprocess.Popen(
        [str(host.program), "run"],
        env={**host.environment, "YA_SALT_INTERVAL_S": str(interval_s)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        agent = _Agent(process)
        # Its first pass is a full one; the next ones see what that has left settle.
        until = time.monotonic() + _PATIENCE_S
        while not (host.state_dir / "as-left").exists() and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(8)
        yield agent
    finally:
        process.terminate()
        process.wait()


def _let_it_rest(agent: _Agent, within_s: float = _QUIET_S) -> None:
    """Wait until it has nothing to do for so long."""
    until, since, used = time.monotonic() + _PATIENCE_S, time.monotonic(), agent.cpu_s
    while time.monotonic() - since < within_s and time.monotonic() < until:
        time.sleep(0.05)
        now = agent.cpu_s
        if now - used > _LEAST_S:
            since = time.monotonic()
        used = now


if __name__ == "__main__":
    main()
