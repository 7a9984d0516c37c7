"""A fleet on a real etcd does, pass by pass, what the simulator says of it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from random import Random

import pytest

from ya_salt.gate.etcd_gate import OrlyGate
from ya_salt.gate.protocol import Granted, Slot, SlotRequest
from ya_salt.gate.rule_file import parse_rule
from ya_salt.gate.simulation.result import Result, Scenario
from ya_salt.gate.simulation.rollout import simulate

SPEC = "max_concurrent: 4, max_failures: 2, min_healthy_time: 90s"
RULE = parse_rule(f"meta: {{name: porto-daemon-web}}\nspec: {{{SPEC}}}\n", "rule.yaml")
START = 1_800_000_000
INTERVAL_S, OP_S, HOSTS = 60, 25, 20
PHASES = tuple(float(number * 7 % INTERVAL_S) for number in range(HOSTS))
SCENARIO = Scenario(
    RULE,
    HOSTS,
    START,
    op_time_s=(OP_S, OP_S),
    pass_interval_s=INTERVAL_S,
    failure_rate=0.3,
    repair_after_s=200.0,
    phases_s=PHASES,
)
SEED = 3


@dataclass
class RealHost:
    """Makes its passes as ya-salt does, on a clock of the test's."""

    name: str
    phase: int
    gate: OrlyGate
    held: Slot | None = None
    target: str = ""
    ends_at: int | None = None
    ready_at: int | None = None
    has: str = ""

    def end(self, at: int, log: list, bad: Collection[str]) -> None:
        """What is over at this moment, before anybody begins."""
        if self.ends_at == at:
            self.ends_at = None
            assert self.held is not None
            if (self.name, self.target) in bad:
                self.held = self.gate.tell(self.held, "failed", "not ready")
                log.append((at, self.name, "failed", self.target))
            else:
                self.has, self.ready_at = self.target, at
                if self.held.state != "failed":
                    self.held = self.gate.tell(self.held, "settling")
                log.append((at, self.name, "succeeded", self.target))
        is_pass = at % INTERVAL_S == self.phase and self.ends_at is None
        if is_pass and self.ready_at is not None and at - self.ready_at >= RULE.min_healthy_s:
            assert self.held is not None
            self.gate.release(self.held)
            self.held = self.ready_at = None
            log.append((at, self.name, "released", self.has))

    def begin(self, at: int, log: list, target: str) -> None:
        if at % INTERVAL_S != self.phase or self.ends_at is not None or self.has == target:
            return
        answer = self.gate.ask(SlotRequest("web", "update", target))
        if isinstance(answer, Granted):
            is_retry = self.held is not None and self.target == target
            log.append((at, self.name, "retried" if is_retry else "started", target))
            self.held, self.target, self.ends_at = answer.held, target, at + OP_S
            self.ready_at = None


def find_bad(scenario: Scenario) -> set[tuple[str, str]]:
    """Hosts on which the version is bad: with so many slots everybody tries, in whatever order."""
    wide = replace(RULE, max_concurrent=HOSTS, max_failures=None)
    result = simulate(replace(scenario, rule=wide, repair_after_s=None), Random(SEED))
    return {(item.host, item.target) for item in result.log if item.what == "failed"}


def play_for_real(
    make_gate: Callable[..., OrlyGate], expected: Result, bad: set[tuple[str, str]]
) -> list[tuple[int, str, str, str]]:
    at = 0
    hosts = [
        RealHost(f"host-{number + 1:02}", int(phase), make_gate(f"host-{number + 1:02}", now=now))
        for number, phase in enumerate(PHASES)
        for now in [lambda: float(START + at)]
    ]
    log: list[tuple[int, str, str, str]] = []
    last = int(expected.log[-1].at_s)
    for at in range(last + 2 * INTERVAL_S):
        repaired = expected.repaired_at_s is not None and at >= expected.repaired_at_s
        for host in hosts:
            host.end(at, log, bad)
        for host in hosts:
            host.begin(at, log, "repaired" if repaired else "new")
    return log


@pytest.mark.parametrize("failure_rate", [0.3, 1.0])
def test_a_halt_and_a_repair_go_on_etcd_as_in_the_simulator(
    make_gate: Callable[..., OrlyGate], put_rule: Callable[[str], None], failure_rate: float
) -> None:
    put_rule(SPEC)
    scenario = replace(SCENARIO, failure_rate=failure_rate)
    expected = simulate(scenario, Random(SEED))
    assert (expected.outcome, len(expected.halts)) == ("done", 1)
    real = play_for_real(make_gate, expected, find_bad(scenario))
    # Tries that must fail again are not played by the simulator: they change nothing.
    retried = {(host, at + OP_S) for at, host, what, _ in real if what == "retried"}
    seen = [
        item
        for item in real
        if item[2] != "retried" and not (item[2] == "failed" and (item[1], item[0]) in retried)
    ]
    assert [item[2] for item in seen].count("failed") >= RULE.max_failures
    assert sorted(seen) == sorted(
        (int(at), host, what, target) for at, host, what, target in expected.log
    )
