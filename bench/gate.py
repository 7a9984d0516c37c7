"""Measure what the rollout gate costs on a real etcd, beside bare requests through the same client.

Latency: one host asks, is refused, releases; its peers are one bare write and one bare linearizable
read. Throughput: a fleet asks at once; its peers are one bare write a host, and the plainer way to
limit hosts, one key that lists all holders (bench/one_key.py). What is reported is the ratio, as
seconds of one machine tell nothing about another.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from helpers.etcd import EtcdCluster, list_missing  # noqa: E402 - not installed

from bench.crowd import KINDS, Crowd, Kind, Outcome, run_crowd  # noqa: E402 - after the path above
from ya_salt.gate.admin import RuleAdmin  # noqa: E402 - after the path above
from ya_salt.gate.etcd import Etcd, Put, Range  # noqa: E402 - after the path above
from ya_salt.gate.etcd_gate import OrlyGate  # noqa: E402 - after the path above
from ya_salt.gate.protocol import Granted, Identity, Slot, SlotRequest  # noqa: E402 - after the path above
from ya_salt.gate.records import Keys  # noqa: E402 - after the path above
from ya_salt.gate.rule_file import parse_rule  # noqa: E402 - after the path above
from ya_salt.model import Deferral, GateSettings  # noqa: E402 - after the path above

PREFIX = "/bench/"
_PUTS_AT_ONCE = 100
"""etcd takes 128 in one transaction."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m bench.gate")
    parser.add_argument("--nodes", type=int, default=1, help="members of the etcd cluster")
    parser.add_argument("--rounds", type=int, default=300, help="samples of each latency")
    parser.add_argument("--hosts", type=int, default=1000, help="hosts, and slots for them")
    parser.add_argument("--at-once", type=int, default=100, help="how many of them ask at once")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60, help="the most one of them may take")
    options = parser.parse_args()
    if list_missing():
        raise SystemExit(f"Debian packages are missing: {' '.join(list_missing())}")
    with EtcdCluster(options.nodes) as cluster:
        with closing(Etcd(make_settings(cluster))) as etcd:
            print(f"\netcd of {options.nodes} on this machine")
            report_latencies(measure_latencies(etcd, options.hosts, options.rounds))
        report_crowds(measure_crowds(cluster, make_crowd(cluster, options)))


def make_crowd(cluster: EtcdCluster, options: argparse.Namespace) -> Crowd:
    return Crowd(
        endpoints=cluster.endpoints,
        hosts=options.hosts,
        at_once=min(options.at_once, options.hosts),
        processes=options.processes,
        within_s=options.seconds,
    )


def make_settings(cluster: EtcdCluster) -> GateSettings:
    return GateSettings(endpoints=cluster.endpoints)


def apply(etcd: Etcd, prefix: str, daemon: str, spec: str) -> None:
    text = f"meta: {{name: porto-daemon-{daemon}}}\nspec: {{{spec}}}\n"
    RuleAdmin(etcd, prefix).apply(parse_rule(text, "rule.yaml"))


# -- latency -----------------------------------------------------------------------------------


class Measured:
    """One host and its rules; each method is one thing to measure, and sets up nothing itself."""

    def __init__(self, etcd: Etcd, hosts: int) -> None:
        self._etcd = etcd
        self._gate = OrlyGate(etcd, PREFIX, Identity("host"))
        self._held: Slot | None = None
        apply(etcd, PREFIX, "free", "max_concurrent: 100")
        apply(etcd, PREFIX, "rated", "max_concurrent: 100, rate: {count: 1000, window: 2s}")
        apply(etcd, PREFIX, "full", "max_concurrent: 10")
        apply(etcd, PREFIX, "crowded", f"max_concurrent: {hosts}")
        self._fill("full", 10)
        self._fill("crowded", hosts)

    def _fill(self, daemon: str, count: int) -> None:
        keys = Keys(PREFIX, f"porto-daemon-{daemon}")
        puts = [Put(keys.slot(number), f'{{"host":"other-{number}"}}') for number in range(count)]
        for start in range(0, count, _PUTS_AT_ONCE):
            self._etcd.transact([], puts[start : start + _PUTS_AT_ONCE])

    def write(self) -> None:
        self._etcd.transact([], [Put(f"{PREFIX}bare", "x" * 200)])

    def read(self) -> None:
        self._etcd.read(Range(f"{PREFIX}bare"))

    def ask(self, daemon: str) -> None:
        answer = self._gate.ask(SlotRequest(daemon, "update", "1"))
        if not isinstance(answer, Granted) or answer.held is None:
            raise SystemExit(f"{daemon}: {answer}")
        self._held = answer.held

    def release(self) -> None:
        if self._held is not None:
            self._gate.release(self._held)

    def be_refused(self, daemon: str) -> None:
        answer = self._gate.ask(SlotRequest(daemon, "update", "1"))
        if not isinstance(answer, Deferral) or answer.reason != "Full":
            raise SystemExit(f"{daemon}: {answer}")


def measure_latencies(etcd: Etcd, hosts: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each round, interleaved."""
    measured = Measured(etcd, hosts)
    actions: dict[str, Callable[[], None]] = {
        "peer: bare write": measured.write,
        "peer: bare linearizable read": measured.read,
        "ask, granted": lambda: measured.ask("free"),
        "release": measured.release,
        "ask, granted, with a rate": lambda: measured.ask("rated"),
        "release, with a rate": measured.release,
        "ask, full (10 slots)": lambda: measured.be_refused("full"),
        f"ask, full ({hosts} slots)": lambda: measured.be_refused("crowded"),
    }
    samples: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            with clock(samples[name]):
                action()
    return samples


@contextmanager
def clock(samples: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    samples.append(time.perf_counter() - started)


def report_latencies(samples: dict[str, list[float]]) -> None:
    write = statistics.median(samples["peer: bare write"])
    print(f"  {'':32} {'median':>10} {'99 %':>10}   bare writes (median)")
    for name, values in samples.items():
        median = statistics.median(values)
        high = statistics.quantiles(values, n=100)[98]
        print(f"  {name:32} {median * 1e3:7.1f} ms {high * 1e3:7.1f} ms {median / write:8.1f} x")


# -- throughput --------------------------------------------------------------------------------


def measure_crowds(cluster: EtcdCluster, crowd: Crowd) -> dict[Kind, Outcome]:
    print(f"\n{crowd.hosts} hosts, {crowd.at_once} at once from {crowd.processes} processes")
    with closing(Etcd(make_settings(cluster))) as etcd:
        apply(etcd, f"{PREFIX}numbered/", "web", f"max_concurrent: {crowd.hosts}")
    return {kind: run_crowd(kind, crowd, f"{PREFIX}{kind}/") for kind in KINDS}


def report_crowds(outcomes: dict[Kind, Outcome]) -> None:
    bare = outcomes["bare"].per_second
    print(f"  {'':32} {'done':>10} {'in':>10} {'each s':>10}   bare writes")
    for kind, outcome in outcomes.items():
        print(
            f"  {KINDS[kind]:32} {outcome.granted:10} {outcome.seconds:8.1f} s "
            f"{outcome.per_second:10.1f} {outcome.per_second / bare:8.3f} x"
            f"   {outcome.tries} tries, {outcome.failures} without an answer"
        )
    ratio = outcomes["numbered"].per_second / outcomes["single"].per_second
    print(f"  numbered slots let {ratio:.1f} times as many hosts a second through as one key")


if __name__ == "__main__":
    main()
