"""Measure what ya-salt costs where nothing has changed, beside the floor and its peers.

The floor is the least that a program in Python could do (bench/floor.py). Peers are other tools
with as many daemons of their own, on the same machine in the same run (bench/peers.py). All are
whole programs, run in turns; ratios are medians of the ratios of the same rounds.
docs/performance.md says what came out.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.agent import measure_agent
from bench.changes import describe_changes, measure_changes
from bench.facts import describe, gather_facts
from bench.host import BenchHost
from bench.measure import Command, Samples, run_in_turns
from bench.peers import PEERS, NotHereError, Place
from bench.promises import (
    APPLY,
    FLOOR,
    FULL,
    HELP,
    IMPORTS,
    SAVED,
    SINKS,
    STATUS,
    VERSION,
    describe_verdicts,
    judge,
    judge_figures,
    list_agent_promises,
    list_promises,
)
from bench.salt import run_salt

_MOST = 2000
"""Daemons: each has a process, and each peer as many."""
_CHANGES_ROUNDS = 5
_AGENT_ROUNDS = 3


def main() -> None:
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    facts = gather_facts()
    print(describe(facts))
    measured: list[Mapping[str, Any]] = []
    for count in options.n:
        with tempfile.TemporaryDirectory(prefix="ysb.") as folder:
            measured.append(measure(Path(folder), count, options))
    print_slopes(measured)
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "measured": measured}, indent=1))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m bench")
    parser.add_argument("--n", type=int, nargs="+", default=[1, 100, 500], help="daemons")
    parser.add_argument("--packages", type=int, default=0, help="on the host (default: as daemons)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--changes", action="store_true", help="also what one change costs, and a cold start"
    )
    parser.add_argument(
        "--agent",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also what `ya-salt run` takes, a minute for each N",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to it too")
    names = [*PEERS, "salt"]
    parser.add_argument("--peers", nargs="*", choices=names, default=names, metavar="PEER")
    options = parser.parse_args()
    if not all(1 <= count <= _MOST for count in options.n):
        parser.error(f"--n: 1 to {_MOST}")
    return options


def measure(folder: Path, count: int, options: argparse.Namespace) -> Mapping[str, Any]:
    """Print the table for `count` daemons; its figures."""
    with ExitStack() as stack:
        host = stack.enter_context(BenchHost(folder / "h", count, options.packages))
        commands = [*list_own(host), *enter_peers(stack, host, options.peers)]
        requests = host.time_requests()
        samples = run_in_turns(commands, options.rounds)
        agent = measure_agent(host, _AGENT_ROUNDS) if options.agent else {}
        # Last: it makes all containers anew.
        changes = measure_changes(host, _CHANGES_ROUNDS) if options.changes else {}
    verdicts = judge(list_promises(count), samples)
    if agent:
        verdicts += judge_figures(list_agent_promises(count), agent)
    print(f"\n{count} daemons, {max(count, options.packages)} packages on the host")
    print_table(commands, samples)
    print(describe_verdicts(verdicts))
    if changes:
        print(describe_changes(changes))
    print(f"  dev-portod alone, ms: {', '.join(f'{k} {v:.2f}' for k, v in requests.items())}")
    return {
        "daemons": count,
        "packages": max(count, options.packages),
        "first_pass_s": host.first_s,
        "commands": {
            name: describe_samples(found, samples[FLOOR]) for name, found in samples.items()
        },
        "promises": [
            {
                **asdict(one.promise),
                "measured": one.measured,
                "least": one.least,
                "kept": one.is_kept,
            }
            for one in verdicts
        ],
        "changes": changes,
        "agent_cpu_ms": agent,
        "dev_portod_ms": requests,
    }


def list_own(host: BenchHost) -> Iterator[Command]:
    """ya-salt's commands, and what they are measured by."""
    python = str(host.python)
    yield host.make_floor()
    yield Command("python -c pass", [python, "-c", "pass"], host.environment)
    yield Command(IMPORTS, [python, "-c", "import json, socket"], host.environment)
    checks = "all that the spec says"
    yield host.command(APPLY, "apply", checks=checks)
    host.run("apply", env=host.sinks)
    yield host.command(SINKS, "apply", env=host.sinks, checks=f"{checks}, and tells 3 sinks")
    if "--full" in host.run("apply", "--help"):
        yield host.command(FULL, "apply", "--full", checks=checks)
    yield host.command(STATUS, "status", checks="how each stands")
    yield host.command(SAVED, "status", "--saved")
    yield host.command(VERSION, "--version")
    yield host.command(HELP, "--help")


def enter_peers(stack: ExitStack, host: BenchHost, names: Sequence[str]) -> Iterator[Command]:
    """Those that are here, with all their daemons running; the others are named."""
    for name in names:
        folder = host.folder / f"p-{name}"
        folder.mkdir()
        place = Place(host, folder, host.count)
        try:
            if name == "salt":
                yield from stack.enter_context(run_salt(place))
            else:
                yield stack.enter_context(PEERS[name](place))
        except NotHereError as error:
            print(f"  {name}: {error}")


def print_table(commands: Sequence[Command], samples: Mapping[str, Samples]) -> None:
    head = ("ms: median", "min", "CPU", "MB", "x floor")
    print(f"  {'':40} {' '.join(f'{title:>10}' for title in head)}  looks at")
    floor = samples[FLOOR]
    for command in sorted(commands, key=lambda command: samples[command.name].ratio_to(floor)):
        found = samples[command.name]
        figures = (found.median_s * 1e3, found.min_s * 1e3, found.cpu_s * 1e3, found.rss_mb)
        cells = [*(f"{figure:10.1f}" for figure in figures), f"{found.ratio_to(floor):10.2f}"]
        print(f"  {command.name:40} {' '.join(cells)}  {command.checks}")


def print_slopes(measured: Sequence[Mapping[str, Any]]) -> None:
    """What each further daemon adds, from the least to the most of them."""
    if len(measured) < 2:
        return
    first, last = measured[0], measured[-1]
    more = last["daemons"] - first["daemons"]
    print(f"\nus a daemon more, from {first['daemons']} to {last['daemons']}, best runs")
    for name in last["commands"]:
        if name in first["commands"]:
            added = last["commands"][name]["min_ms"] - first["commands"][name]["min_ms"]
            print(f"  {name:40} {added * 1e3 / more:10.1f}")


def describe_samples(found: Samples, floor: Samples) -> Mapping[str, object]:
    return {
        "median_ms": found.median_s * 1e3,
        "min_ms": found.min_s * 1e3,
        "cpu_ms": found.cpu_s * 1e3,
        "rss_mb": found.rss_mb,
        "runs": len(found.wall),
        "to_floor": found.ratio_to(floor),
        "to_floor_least": found.least_ratio_to(floor),
    }


if __name__ == "__main__":
    main()
