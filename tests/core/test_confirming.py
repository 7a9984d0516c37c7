"""Whether a pass may rely on what daemons have said to who asks them between passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ya_salt.converge.probing import Rounds
from ya_salt.converge.readiness import name_start
from ya_salt.life import Hold, Life, Probes
from ya_salt.model import LABEL, Container, DaemonSpec, Observed, Readiness
from ya_salt.porto.client import PortoClient

NOW = 1_795_000_000.0
READINESS = Readiness(tcp=80, period_s=10.0, timeout_s=5.0)
SPEC = DaemonSpec("d", "1", "/specs/d.yaml", "digest", {}, (), readiness=READINESS)
CONTAINER = Container("d", "running", labels={LABEL: "digest"}, id="5", running_s=100)
START = name_start(CONTAINER)
YES = Probes(START, "tcp 80", is_ready=True, answer="it takes connections", asked_at=NOW, gap_s=9.0)
PROBED = {"d": [START, "it takes connections"]}


def learn(life: Life, container: Container = CONTAINER, later_s: float = 0.0) -> Rounds:
    """Rounds that asked last when the pass did; it is so much later now."""
    rounds = Rounds(PortoClient, lambda: NOW + later_s)
    rounds.learn([SPEC], Observed(packages={}, containers={"d": container}, lives={"d": life}))
    return rounds


@pytest.mark.parametrize("later_s", [0.0, 9.0, 15.9])
def test_who_said_yes_in_time_is_confirmed_with_when_that_was(later_s: float) -> None:
    assert learn(Life(YES), later_s=later_s).confirm(PROBED) == {"d": [START, NOW, 9.0]}


@pytest.mark.parametrize("later_s", [16.1, 3600.0, -0.5])
def test_who_was_not_asked_in_time_is_not(later_s: float) -> None:
    assert learn(Life(YES), later_s=later_s).confirm(PROBED) is None


CHANGES: dict[str, Callable[[Probes], Probes | None]] = {
    "nothing known": lambda _: None,
    "another process": lambda probes: replace(probes, start="6.0.0.0"),
    "a no that does not count yet": lambda probes: replace(probes, failures=1),
    "not ready": lambda probes: replace(probes, is_ready=False),
    "could not be asked": lambda probes: replace(probes, answer="it could not be asked: why"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whoever_did_not_just_say_yes_is_not(change: str) -> None:
    assert learn(Life(CHANGES[change](YES))).confirm(PROBED) is None


def test_all_who_are_asked_are_meant_and_nobody_else() -> None:
    rounds = learn(Life(YES))
    assert rounds.confirm({}) is None
    assert rounds.confirm({**PROBED, "e": PROBED["d"]}) is None
    held = replace(Life(YES), hold=Hold("somebody", "why", NOW))
    assert learn(held).confirm(PROBED) is None
    assert learn(Life(YES), replace(CONTAINER, state="dead")).confirm(PROBED) is None
    assert Rounds(PortoClient, lambda: NOW).confirm({}) == {}
