"""What there is instead of a version that nobody has."""

from __future__ import annotations

import pytest
from helpers.package_host import Host, needs_apt, reasons, wanted

from ya_salt.model import Package
from ya_salt.packages.failures import describe_offer, find_near_names

pytestmark = needs_apt


def test_a_missing_version_is_told_with_the_versions_there_are(host: Host) -> None:
    for version in ("1.9", "1.10", "1:0.1"):
        host.publish("alpha", version)
    outcome = host.install("alpha=1.1")
    assert reasons(outcome) == {"alpha": "VersionNotFound"}
    assert "the versions of alpha are 1:0.1, 1.10, 1.9;" in str(outcome.errors["alpha"])


def test_a_missing_package_is_told_with_names_that_are_near(host: Host) -> None:
    for name in ("juggler-agent", "juggler-agent-rtc", "other-thing"):
        host.publish(name, "1.0")
    outcome = host.install("jugler-agent=1.0", "juggler=1.0", "zzz=1.0")
    assert reasons(outcome) == dict.fromkeys(outcome.errors, "VersionNotFound")
    texts = {name: str(error) for name, error in outcome.errors.items()}
    assert (
        "no package jugler-agent is there, names like it are juggler-agent" in texts["jugler-agent"]
    )
    assert "names like it are juggler-agent, juggler-agent-rtc;" in texts["juggler"]
    assert "no package zzz is there;" in texts["zzz"]


def test_many_versions_are_bounded() -> None:
    versions = [f"1.{n}" for n in range(500, 0, -1)]
    text = describe_offer(Package("a1", "9"), {"a1": versions}, ())
    assert "1.500, 1.499, 1.498" in text
    assert "and 492 more" in text
    assert len(text) < 200


def test_names_of_a_whole_archive_are_searched_in_no_time() -> None:
    names = [f"lib{a}{b}{c}-dev" for a in "abcdefghij" for b in "klmnopqrst" for c in range(500)]
    assert "libak77-dev" in find_near_names("libak777-dev", names)
    assert len(find_near_names("libak", names)) <= 4


@pytest.mark.parametrize(
    ("name", "known", "near"),
    [
        ("agnet", ["agent", "zebra"], ["agent"]),
        ("agent", ["agent-server", "agenda-x"], ["agent-server"]),
        ("agent", ["agent"], []),
        ("ab", ["zz", "yy"], []),
    ],
)
def test_near_is_what_may_have_been_meant(name: str, known: list[str], near: list[str]) -> None:
    assert find_near_names(name, known) == near


def test_what_no_list_of_apt_offers_is_known_without_a_pass(host: Host) -> None:
    asked = wanted("alpha=1.0 alpha2=7 gone=1 beta=2.0")
    assert host.apt.find_unavailable(asked) == {}, "nothing was read yet: nothing is known"
    host.publish("gone", "1")
    host.publish("gone", "2")
    host.publish("alpha", "1.0")
    host.publish("beta", "1.0")
    host.stand("gone=1", "alpha=1.0")
    host.stand("gone=2")
    host.repository.remove("gone", "1")
    host.publish("beta", "1.1")
    host.apt.run("update", (), (), lambda _line: None)
    missing = {item.name: text for item, text in host.apt.find_unavailable(asked).items()}
    assert set(missing) == {"alpha2", "beta"}
    assert "beta 2.0 is in no list that apt has read so far" in missing["beta"]
    assert "1.1, 1.0" in missing["beta"]


def test_foreseeing_makes_nothing_in_a_root_that_was_never_used(host: Host) -> None:
    before = sorted(host.root.rglob("*"))
    host.apt.find_unavailable(wanted("alpha=1.0"))
    assert sorted(host.root.rglob("*")) == before
