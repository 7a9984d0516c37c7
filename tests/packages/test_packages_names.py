"""What comes out of packages for one group is that group's failure; nothing stops a pass."""

from __future__ import annotations

import logging

import pytest
from helpers.package_host import Host, needs_apt, reasons, wanted

from ya_salt.model import Package
from ya_salt.names import check_daemon_name, check_package_name, shorten_package_name
from ya_salt.packages.apt import Apt
from ya_salt.packages.transaction import PackagePass

pytestmark = needs_apt


@pytest.mark.parametrize(
    "name", ["agent-", "agent:", ":i386", "a", "-o", "agent:any", "agent:i386:i386", "ag ent", ""]
)
def test_a_name_that_cannot_be_costs_its_own_group_alone(name: str, host: Host) -> None:
    host.publish("alpha", "1.0")
    assert host.apt.query([name, "alpha"]) == {}
    work = host.new_pass({name: "1.0"}, {"good": [name]})
    outcome = work.install({"bad": [Package(name, "1.0")], "good": wanted("alpha=1.0")})
    assert reasons(outcome) == {"bad": "InvalidPackage"}
    assert set(host.apt.query([name, "alpha"])) == {"alpha"}
    done = host.new_pass().purge({"bad": [name], "good": ["alpha"]}, allow_held=[name])
    assert done.errors == {}
    assert host.state("alpha") == {}


def test_a_bug_of_ours_is_a_failure_of_its_groups_and_no_end_of_the_pass(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def query(*_: object) -> object:
        raise ValueError("nobody thought of that")

    monkeypatch.setattr(Apt, "query", query)
    with caplog.at_level(logging.ERROR):
        assert reasons(host.install("alpha=1.0")) == {"alpha": "Bug"}
        assert reasons(host.purge("alpha")) == {"alpha": "Bug"}
    assert "nobody thought of that" in caplog.text


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("a1", "a1"),
        ("a1:amd64", "a1"),
        ("a1:all", "a1"),
        ("a1:native", "a1"),
        ("a1:i386", "a1:i386"),
    ],
)
def test_a_package_has_one_spelling_on_a_host(name: str, short: str) -> None:
    assert shorten_package_name(name, "amd64") == short


@pytest.mark.parametrize("name", ["g++", "libstdc++6", "0ad", "libfoo:i386", "a1:kfreebsd-amd64"])
def test_names_that_debian_has_are_taken(name: str) -> None:
    assert check_package_name(name) == name


@pytest.mark.parametrize("name", ["a", "A_b@c:d.e-f", "_", "x" * 100, "ya-salt-rehearsal", "0"])
def test_names_that_porto_takes_are_taken(name: str) -> None:
    assert check_daemon_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-", "-x", "a/b", ".", "..", "self", "x" * 101, "ya-salt-rehearsal.x", "a b", "ы"]
)
def test_names_that_mean_something_else_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"; |\w"):
        check_daemon_name(name)


def test_a_pass_that_is_ended_leaves_a_whole_package_and_its_hold(host: Host) -> None:
    for version in ("1.0", "2.0"):
        host.publish("alpha", version, scripts={"postinst": "#!/bin/sh\nsleep 0.5\n"})
    host.stand("alpha=1.0")
    host.apt.hold(["alpha"])

    def interrupt(text: str) -> None:
        if text.startswith("setting up"):
            raise KeyboardInterrupt

    work = PackagePass(host.apt, interrupt)
    with pytest.raises(KeyboardInterrupt):
        work.install({"d": [Package("alpha", "2.0", allow_held=True)]})
    assert host.state("alpha") == {"alpha": "2.0 installed"}
    assert host.apt.query(["alpha"])["alpha"].held
    assert not host.apt.place.policy_rc.exists()
