"""What of a plan is asked of the rollout gate, and who waits along with whom."""

from __future__ import annotations

import pytest

from ya_salt.converge.plan import defer
from ya_salt.gate.protocol import SlotRequest
from ya_salt.gate.requests import find_request, find_sharing, pin_waiting
from ya_salt.model import (
    LABEL,
    ChangeLive,
    Container,
    CreateContainer,
    DaemonPlan,
    DaemonSpec,
    Deferral,
    InstalledPackage,
    InstallPackages,
    Observed,
    Package,
    PurgePackages,
    Record,
    RemoveContainer,
    ReplaceContainer,
    StartContainer,
    Step,
)

SPEC = DaemonSpec("a", "2.0", "/a.yaml", "d" * 64, {}, (Package("p", "2.0"),))
NEW = InstallPackages("a", (Package("p", "2.0"),), "p 1.0 -> 2.0")
REPLACE = ReplaceContainer(SPEC, "packages: p 1.0 -> 2.0")
FULL = Deferral("Full", "8 of 8 slots in use")


def look(state: str = "running", digest: str = "e" * 64, *, was_created: bool = True) -> Observed:
    """A host with one container, or none where `state` is empty."""
    there = {"a": Container("a", state, {LABEL: digest})} if state else {}
    return Observed(containers=there, records={"a": Record("a", was_created=was_created)})


@pytest.mark.parametrize(
    ("steps", "observed", "operation"),
    [
        ((NEW, REPLACE), look(), "update"),
        ((ReplaceContainer(SPEC, "changed in the spec: user"),), look(), "update"),
        ((ReplaceContainer(SPEC, "asked for"),), look(digest=SPEC.digest), "restart"),
        ((NEW, REPLACE), look(digest=SPEC.digest), "update"),
        ((NEW, REPLACE), look("dead"), "update"),
        ((NEW, REPLACE), look("respawning"), "update"),
        ((RemoveContainer("a", "asked"), PurgePackages("a", ("p",), (), "")), look(), "remove"),
        ((NEW, CreateContainer(SPEC, "none")), look("", was_created=False), "install"),
    ],
)
def test_what_disturbs_a_running_daemon_is_asked(
    steps: tuple[Step, ...], observed: Observed, operation: str
) -> None:
    ask = find_request(DaemonPlan("a", steps), SPEC, observed)
    assert ask is not None
    assert ask.operation == operation
    assert ask.target == ("removal" if operation == "remove" else "2.0")
    assert ask.rule == "porto-daemon-a"


@pytest.mark.parametrize(
    ("steps", "observed"),
    [
        ((ChangeLive(SPEC, {"memory_limit": "1"}, "changed"),), look()),
        ((StartContainer("a", "dead", "it is dead"),), look("dead")),
        ((CreateContainer(SPEC, "there is no container"),), look("")),
        ((NEW, CreateContainer(SPEC, "there is no container")), look("")),
        ((RemoveContainer("a", "asked"),), look("dead")),
        ((RemoveContainer("a", "asked"),), look("stopped")),
        ((PurgePackages("a", ("p",), (), ""),), look("")),
        ((), look()),
    ],
)
def test_live_changes_and_repair_are_not_asked(steps: tuple[Step, ...], observed: Observed) -> None:
    assert find_request(DaemonPlan("a", steps), SPEC, observed) is None


def test_a_host_without_a_record_installs_for_the_first_time() -> None:
    plan = DaemonPlan("a", (CreateContainer(SPEC, "there is no container"),))
    ask = find_request(plan, SPEC, Observed())
    assert ask is not None
    assert ask.operation == "install"


def test_without_a_version_failures_are_counted_by_the_digest() -> None:
    spec = DaemonSpec("a", "", "/a.yaml", "0123456789abcdef" * 4, {}, ())
    ask = find_request(DaemonPlan("a", (ReplaceContainer(spec, "x"),)), spec, look())
    assert ask is not None
    assert ask.target == "0123456789ab"


# -- waiting -------------------------------------------------------------------------------------


def test_of_a_plan_that_waits_nothing_is_done() -> None:
    plan = defer(DaemonPlan("a", (NEW, REPLACE)), FULL, look())
    assert (plan.steps, plan.waiting, plan.deferral) == ((), (NEW, REPLACE), FULL)


@pytest.mark.parametrize("state", ["dead", "stopped", "paused"])
def test_a_dead_daemon_whose_update_waits_is_started_as_it_was(state: str) -> None:
    plan = defer(DaemonPlan("a", (NEW, REPLACE)), FULL, look(state))
    assert plan.steps == (StartContainer("a", state, f"it is {state}"),)
    assert plan.waiting == (NEW, REPLACE)


def test_a_dead_daemon_that_is_to_go_is_not_started() -> None:
    steps = (RemoveContainer("a", "asked"),)
    assert defer(DaemonPlan("a", steps), FULL, look("paused")).steps == ()


# -- shared packages -----------------------------------------------------------------------------


def make_update(name: str, *packages: str) -> DaemonPlan:
    spec = DaemonSpec(name, "2.0", "", "d", {}, ())
    install = InstallPackages(name, tuple(Package(item, "2.0") for item in packages), "new")
    return DaemonPlan(name, (install, ReplaceContainer(spec, "new")))


def ask_for(*names: str) -> dict[str, SlotRequest]:
    return {name: SlotRequest(name, "update", "2.0") for name in names}


def test_who_shares_a_package_with_one_that_waits_waits_too() -> None:
    plans = [make_update("a", "p", "q"), make_update("b", "q", "r"), make_update("c", "s")]
    found = find_sharing(plans, ask_for("a", "b", "c"), {"a": FULL})
    assert set(found) == {"b"}
    assert found["b"].reason == "SharedPackage"
    assert "package q is also a's" in found["b"].message
    assert "Full: 8 of 8 slots in use" in found["b"].message


def test_waiting_goes_on_from_one_to_the_next() -> None:
    plans = [make_update("c", "r"), make_update("b", "q", "r"), make_update("a", "q")]
    assert set(find_sharing(plans, ask_for("a", "b", "c"), {"a": FULL})) == {"b", "c"}


def test_a_repair_waits_for_nobody() -> None:
    repair = DaemonPlan("b", (make_update("b", "p").steps[0], CreateContainer(SPEC, "gone")))
    plans = [make_update("a", "p"), repair]
    assert find_sharing(plans, ask_for("a"), {"a": FULL}) == {}


def test_nobody_waits_for_a_first_installation() -> None:
    first = DaemonPlan("a", (make_update("a", "p").steps[0], CreateContainer(SPEC, "none")))
    plans = [first, make_update("b", "p")]
    assert find_sharing(plans, ask_for("a", "b"), {"a": FULL}) == {}


def test_what_waits_keeps_its_version_unless_somebody_else_installs_it() -> None:
    there = {
        "p": InstalledPackage("p", "1.0"),
        "q": InstalledPackage("q", "1.0"),
        "r": InstalledPackage("r", "1.0", "config-files"),
    }
    waiting = defer(make_update("a", "p", "q", "r", "s"), FULL, Observed())
    repair = DaemonPlan("b", (make_update("b", "q").steps[0], CreateContainer(SPEC, "gone")))
    assert pin_waiting([waiting, repair], Observed(packages=there)) == {"p": "1.0"}
