"""A package that takes the place of one which only its daemon's earlier spec brought here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from helpers.package_host import Host, needs_apt, reasons, wanted

from ya_salt.packages.session import TransactionResult

pytestmark = needs_apt

RELATIONS = {
    "conflicts and replaces": {"conflicts": "agent", "replaces": "agent"},
    "a conflict alone": {"conflicts": "agent"},
    "breaks and replaces, as policy has it": {"breaks": "agent (<< 9)", "replaces": "agent (<< 9)"},
    "what the old one provides": {"conflicts": "some-agent", "provides": "some-agent"},
}


def arrange(host: Host, **relations: str) -> None:
    host.publish("agent", "1.0", provides="some-agent", files={"/opt/agent": "old"})
    host.publish("agent-ng", "2.0", files={"/opt/agent-ng": "new"}, **relations)
    host.publish("beta", "1.0")
    host.stand("agent=1.0")


def replace(
    host: Host,
    group: str,
    replaceable: Mapping[str, Sequence[str]],
    pinned: dict[str, str] | None = None,
) -> TransactionResult:
    host.progress.clear()
    work = host.new_pass(pinned, replaceable)
    return work.install({"d": wanted(group), "other": wanted("beta=1.0")})


@pytest.mark.parametrize("kind", RELATIONS)
def test_a_new_package_takes_the_place_of_its_daemons_earlier_one(kind: str, host: Host) -> None:
    arrange(host, **RELATIONS[kind])
    assert replace(host, "agent-ng=2.0", {"d": ["agent"]}).errors == {}
    assert host.state("agent-ng", "beta") == {"agent-ng": "2.0 installed", "beta": "1.0 installed"}
    assert "installed" not in host.state("agent").get("agent", "")


def test_and_back_again(host: Host) -> None:
    arrange(host, conflicts="agent", replaces="agent")
    assert replace(host, "agent-ng=2.0", {"d": ["agent"]}).errors == {}
    assert replace(host, "agent=1.0", {"d": ["agent-ng"]}).errors == {}
    assert host.state("agent") == {"agent": "1.0 installed"}


def test_the_old_one_is_kept_for_going_back_without_a_repository(host: Host) -> None:
    arrange(host, conflicts="agent", replaces="agent")
    assert replace(host, "agent-ng=2.0", {"d": ["agent"]}).errors == {}
    host.repository.remove("agent", "1.0")
    host.repository.write_index()
    assert host.apt.run("update", (), (), lambda _line: None).code == 0
    assert replace(host, "agent=1.0", {"d": ["agent-ng"]}).errors == {}


@pytest.mark.parametrize(
    ("replaceable", "pinned"),
    [
        pytest.param({}, {}, id="nobody's earlier spec brought it"),
        pytest.param({"other": ["agent"]}, {}, id="another daemon's did"),
        pytest.param({"d": ["agent"]}, {"agent": "1.0"}, id="another spec names it"),
    ],
)
def test_otherwise_it_is_refused_and_costs_others_nothing(
    replaceable: dict[str, list[str]], pinned: dict[str, str], host: Host
) -> None:
    arrange(host, conflicts="agent", replaces="agent")
    outcome = replace(host, "agent-ng=2.0", replaceable, pinned)
    assert reasons(outcome) == {"d": "WouldRemove"}
    assert host.state("agent", "agent-ng", "beta") == {
        "agent": "1.0 installed",
        "beta": "1.0 installed",
    }


def test_a_package_on_hold_is_not_replaced(host: Host) -> None:
    arrange(host, conflicts="agent", replaces="agent")
    host.apt.hold(["agent"])
    assert reasons(replace(host, "agent-ng=2.0", {"d": ["agent"]})) == {"d": "Conflict"}


def test_what_needs_the_old_one_is_not_taken_with_it(host: Host) -> None:
    arrange(host, conflicts="agent", replaces="agent")
    host.publish("user", "1.0", depends="agent")
    host.stand("user=1.0")
    outcome = replace(host, "agent-ng=2.0", {"d": ["agent"]})
    assert reasons(outcome) == {"d": "WouldRemove"}
    assert outcome.errors["d"].packages == ("user",)
    assert host.state("user", "agent") == {"user": "1.0 installed", "agent": "1.0 installed"}


def test_an_earlier_package_that_would_go_for_another_reason_stays(host: Host) -> None:
    """Only what cannot be beside the new one makes room for it."""
    host.publish("base", "1.0")
    host.publish("base", "2.0")
    host.publish("agent", "1.0", depends="base (<< 2)")
    host.stand("agent=1.0 base=1.0")
    work = host.new_pass({}, {"d": ["agent"]})
    assert reasons(work.install({"d": wanted("base=2.0")})) == {"d": "WouldRemove"}


def test_a_new_dependency_may_be_what_takes_the_place(host: Host) -> None:
    arrange(host, depends="agent-common")
    host.publish("agent-common", "2.0", conflicts="agent")
    assert replace(host, "agent-ng=2.0", {"d": ["agent"]}).errors == {}
    assert host.state("agent-common") == {"agent-common": "2.0 installed"}
