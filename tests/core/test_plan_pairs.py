"""What is planned for every pair of what changed and how the daemon stands, and again after that.

A plan comes of the spec in effect, the lives, what they ask for, and the gate, as in a pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from test_plan import DYNAMIC, GOOD, make_container, make_spec, parse_packages

from ya_salt.converge.lives import find_intents, look_back
from ya_salt.converge.plan import add_restarts, defer, make_plan
from ya_salt.converge.readiness import name_start
from ya_salt.converge.trials import choose_specs, make_version_mark
from ya_salt.gate.requests import list_requests
from ya_salt.life import Generation, Hold, Life, Probes, Rejection, SeenFile, Trial
from ya_salt.model import (
    ChangeLive,
    CreateContainer,
    DaemonPlan,
    DaemonSpec,
    Deferral,
    FileNow,
    InstalledPackage,
    InstallPackages,
    Observed,
    Outcome,
    PurgePackages,
    Readiness,
    Record,
    RemoveContainer,
    ReplaceContainer,
    SignalContainer,
    StartContainer,
    Step,
    StepResult,
    StopContainer,
    Watch,
    WatchedFiles,
)

NAME = "juggler"
NOW = 1000.0
FULL = Deferral("Full", "1 of 1 slots in use")

LETTERS = {
    InstallPackages: "I",
    CreateContainer: "C",
    ReplaceContainer: "R",
    ChangeLive: "L",
    SignalContainer: "G",
    StartContainer: "S",
    StopContainer: "X",
    RemoveContainer: "D",
    PurgePackages: "P",
}
"""The table's; small ones wait for the gate, `-` is nothing."""

STATES = (
    *("absent", "running", "ready", "unready", "respawning", "dead", "paused", "held"),
    *("gate", "dead+gate", "held+gate", "trial", "rejected"),
)
TABLE = """\
nothing                   | C    -    -    -    -    S    S    X    -    S    x    -    -
its version alone         | C    -    -    -    -    S    S    X    -    S    x    -    -
a limit                   | C    L    L    L    L    R    LS   X    L    Sr   x    L    -
a static property         | C    R    R    R    R    R    R    X    r    Sr   x    R    -
a package                 | IC   IR   IR   IR   IR   IR   IR   X    ir   Sir  x    IR   -
a package less            | C    R    R    R    R    R    R    X    r    Sr   x    R    -
a limit by hand           | C    L    L    L    L    R    LS   X    L    Sr   x    L    L
a static property by hand | C    R    R    R    R    R    R    X    r    Sr   x    R    R
a package by hand         | IC   IR   IR   IR   IR   IR   IR   X    ir   Sir  x    IR   IR
a package under it        | C    R    R    R    R    R    R    X    r    Sr   x    R    R
a file that restarts      | C    R    R    R    -    S    R    X    r    S    x    R    R
a file that signals       | C    G    G    G    -    S    SG   X    G    S    x    G    G
on_failure restart        | C    -    -    R    -    S    S    X    -    S    x    -    -
somebody asks             | C    R    R    R    R    S    R    X    r    S    x    R    R
it is to go               | P    DP   DP   DP   DP   DP   DP   DP   dp   DP   dp   DP   DP
"""

REFUSED = {("somebody asks", "held"): "Held", ("somebody asks", "held+gate"): "Held"}
"""Where a person is told so."""

LATER = {("a limit", "dead+gate"): "L", ("a limit by hand", "dead+gate"): "L"}
"""What comes after the plan: a dead one cannot take it live; started as it was, it can."""


@dataclass(frozen=True)
class Pair:
    """A host with one daemon, and what its file says."""

    spec: DaemonSpec
    observed: Observed
    restarts: dict[str, str] = field(default_factory=dict)
    is_full: bool = False
    """Whether the gate has no slot left."""

    @property
    def in_effect(self) -> DaemonSpec:
        back = {NAME: GENERATION} if self.observed.lives[NAME].rejection else {}
        chosen = choose_specs((self.spec,), self.observed.lives, back, self.observed)
        return chosen.specs[0]

    def plan(self) -> DaemonPlan:
        spec = self.in_effect
        intents = find_intents((spec,), self.observed, NOW)
        plans = make_plan((spec,), (spec,), self.observed, intents)
        plans = add_restarts(plans, (spec,), self.observed, self.restarts)
        asked = list_requests((spec,), plans, self.observed)
        return defer(plans[0], FULL, self.observed) if asked and self.is_full else plans[0]


GENERATION = replace(make_spec({}), watch=(Watch("/etc/a"), Watch("/etc/b", "SIGHUP")))


def begin(state: str) -> Pair:
    """A daemon that stands so and has nothing to be changed."""
    stands = {
        "held+gate": "running",
        "held": "running",
        "gate": "running",
        "trial": "running",
        "rejected": "running",
    }
    stands |= {"ready": "running", "unready": "running", "dead+gate": "dead"}
    container = replace(make_container(GENERATION), state=stands.get(state, state))
    if state == "running":
        container = replace(container, running_s=0)
    files = {path: FileNow("old") for path in ("/etc/a", "/etc/b")}
    life = Life(watched={path: {path: SeenFile("old")} for path in files})
    observed = Observed(
        packages=parse_packages(GOOD["packages"]),
        containers={} if state == "absent" else {NAME: container},
        dynamic=DYNAMIC,
        portod="5.3",
        records={NAME: Record(NAME, was_created=True)},
        lives={NAME: replace(life, **LIVES.get(state, {}))},
        files={NAME: WatchedFiles({path: {path: file} for path, file in files.items()})},
    )
    is_full = "gate" in state
    return _ask(Pair(GENERATION, observed, is_full=is_full), is_ready=state != "unready")


HELD = Hold("eve", "a debugger", NOW - 60)
LIVES: dict[str, dict[str, Any]] = {
    "held": {"hold": HELD},
    "held+gate": {"hold": HELD},
    "trial": {"trial": Trial(make_version_mark(GENERATION, b""), "1", 1, NOW - 60, NOW - 50)},
}


def _ask(pair: Pair, *, is_ready: bool, on_failure: str = "none") -> Pair:
    """The daemon is asked whether it is ready, and was."""
    spec = replace(pair.spec, readiness=Readiness(tcp=80, on_failure=on_failure))
    container = pair.observed.containers.get(NAME)
    if container is None:
        return replace(pair, spec=spec)
    probes = Probes(name_start(container), "", is_ready, 0 if is_ready else 3, "no")
    return replace(see_life(pair, probes=probes), spec=spec)


def reject(pair: Pair) -> Pair:
    """What the file says has failed; a file that says what ran before cannot."""
    properties = {**pair.spec.properties, "env[BAD]": "1"}
    spec = replace(pair.spec, properties=properties, digest="b" * 64)
    rejection = Rejection(make_version_mark(spec, b""), "1", "exited with 3", NOW - 5, 1)
    generation = Generation(1, make_version_mark(GENERATION, b""), "1", GENERATION.digest)
    pair = see_life(pair, rejection=rejection, generations=(generation,))
    return replace(pair, spec=spec)


def see_life(pair: Pair, **more: Any) -> Pair:
    life = replace(pair.observed.lives[NAME], **more)
    return replace(pair, observed=replace(pair.observed, lives={NAME: life}))


def say(**patch: Any) -> Callable[[Pair], Pair]:
    """The file says something else."""

    def change(pair: Pair) -> Pair:
        new = make_spec(patch)
        kept = {"readiness": pair.spec.readiness, "watch": pair.spec.watch}
        return replace(pair, spec=replace(new, **kept))

    return change


def set_by_hand(**values: str) -> Callable[[Pair], Pair]:
    def change(pair: Pair) -> Pair:
        changed = {
            name: replace(item, values={**item.values, **values})
            for name, item in pair.observed.containers.items()
        }
        return replace(pair, observed=replace(pair.observed, containers=changed))

    return change


def install_by_hand(pair: Pair) -> Pair:
    packages = {**pair.observed.packages, NAME: InstalledPackage(NAME, "0.9")}
    return replace(pair, observed=replace(pair.observed, packages=packages))


def leave_pending(pair: Pair) -> Pair:
    record = replace(pair.observed.records[NAME], restart_pending=True)
    return replace(pair, observed=replace(pair.observed, records={NAME: record}))


def write(path: str) -> Callable[[Pair], Pair]:
    def change(pair: Pair) -> Pair:
        found = {**pair.observed.files[NAME].found, path: {path: FileNow("new")}}
        return replace(pair, observed=replace(pair.observed, files={NAME: WatchedFiles(found)}))

    return change


def ask_for_restart(pair: Pair) -> Pair:
    return replace(pair, restarts={NAME: "asked for"})


def restart_when_unready(pair: Pair) -> Pair:
    probes = pair.observed.lives[NAME].probes
    return _ask(pair, is_ready=probes is None or probes.is_ready, on_failure="restart")


def remove(pair: Pair) -> Pair:
    return replace(pair, spec=replace(pair.spec, delete_requested=True))


CHANGES: dict[str, Callable[[Pair], Pair]] = {
    "nothing": lambda pair: pair,
    "its version alone": say(version="2"),
    "a limit": say(properties={"memory_limit": "3221225472"}),
    "a static property": say(properties={"user": "nobody"}),
    "a package": say(packages={"juggler": "1.1"}),
    "a package less": say(packages={"config": None}),
    "a limit by hand": set_by_hand(memory_limit="1"),
    "a static property by hand": set_by_hand(user="root"),
    "a package by hand": install_by_hand,
    "a package under it": leave_pending,
    "a file that restarts": write("/etc/a"),
    "a file that signals": write("/etc/b"),
    "on_failure restart": restart_when_unready,
    "somebody asks": ask_for_restart,
    "it is to go": remove,
}


def make_pair(change: str, state: str) -> Pair:
    pair = CHANGES[change](begin(state))
    return reject(pair) if state == "rejected" else pair


def carry_out(pair: Pair, plan: DaemonPlan) -> Pair:
    """The host after the plan's steps, and the life as a pass would leave it."""
    observed, spec = pair.observed, pair.in_effect
    for step in plan.steps:
        observed = _take(step, observed)
    outcome = Outcome(plan, tuple(StepResult(step) for step in plan.steps))
    lives = look_back((spec,), observed, {NAME: outcome}, NOW)
    restarts = {} if outcome.touched else pair.restarts
    return replace(pair, observed=replace(observed, lives=lives), restarts=restarts)


def _take(step: Step, observed: Observed) -> Observed:
    container = observed.containers.get(NAME)
    match step:
        case InstallPackages(packages=packages):
            done = {item.name: InstalledPackage(item.name, item.version) for item in packages}
            return replace(observed, packages={**observed.packages, **done})
        case CreateContainer(spec=spec) | ReplaceContainer(spec=spec) | ChangeLive(spec=spec):
            made = make_container(spec)
            if isinstance(step, ChangeLive) and container is not None:
                made = replace(made, state=container.state)
                return replace(observed, containers={NAME: made})
            records = {NAME: replace(observed.records[NAME], restart_pending=False)}
            made = replace(made, id="new", running_s=0)
            return replace(observed, containers={NAME: made}, records=records)
        case StartContainer() | StopContainer() if container is not None:
            state = "running" if isinstance(step, StartContainer) else "stopped"
            return replace(observed, containers={NAME: replace(container, state=state)})
        case RemoveContainer():
            return replace(observed, containers={})
        case PurgePackages(packages=names):
            rest = {name: item for name, item in observed.packages.items() if name not in names}
            return replace(observed, packages=rest)
    return observed


def spell(plan: DaemonPlan) -> str:
    now = "".join(LETTERS[type(step)] for step in plan.steps)
    return now + "".join(LETTERS[type(step)].lower() for step in plan.waiting) or "-"


ROWS = {
    change.strip(): dict(zip(STATES, cells.split(), strict=True))
    for line in TABLE.strip().splitlines()
    for change, cells in [line.split("|")]
}
PAIRS = [(change, state) for change in CHANGES for state in STATES]


def test_no_pair_is_left_out() -> None:
    assert list(ROWS) == list(CHANGES)


@pytest.mark.parametrize(("change", "state"), PAIRS)
def test_pair(change: str, state: str) -> None:
    plan = make_pair(change, state).plan()
    assert plan.refusal_reason == REFUSED.get((change, state), "")
    assert spell(plan) == ROWS[change][state]


@pytest.mark.parametrize(("change", "state"), PAIRS)
def test_planned_again_there_is_nothing_to_do(change: str, state: str) -> None:
    """But for what waits: that waits on."""
    pair = make_pair(change, state)
    plan = pair.plan()
    pair = carry_out(pair, plan)
    if (change, state) in LATER:
        plan = pair.plan()
        assert spell(plan) == LATER[change, state]
        pair = carry_out(pair, plan)
    again = pair.plan()
    assert (again.steps, again.waiting) == ((), plan.waiting)
