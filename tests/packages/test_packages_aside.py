"""What is held for the time of a transaction only is on hold no longer, whoever kills the pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.killed import die_at
from helpers.package_host import Host, locked, needs_apt

from ya_salt.packages.apt import Apt
from ya_salt.packages.session import Session

pytestmark = needs_apt

FAIL = "#!/bin/sh\nexit 1\n"


@pytest.fixture
def half_removed(host: Host) -> Host:
    """A stranger's package whose removal failed, and one that is to come."""
    host.publish("strange", "1.0", scripts={"postrm": FAIL})
    host.stand("strange=1.0")
    host.publish("alpha", "1.0")
    host.apt.remove_half_installed("strange", lambda _text: None)
    assert host.state("strange") == {"strange": "1.0 half-installed"}
    host.configure(notes_dir=str(host.directory / "notes"))
    return host


def is_held(host: Host) -> bool:
    return host.apt.query(["strange"])["strange"].held


def test_a_pass_that_was_killed_leaves_no_hold(half_removed: Host) -> None:
    host = half_removed
    assert die_at(lambda: host.install("alpha=1.0"), Apt, ("take_back",), 1)
    assert host.state("alpha") == {"alpha": "1.0 installed"}
    assert is_held(host)
    host.apt.tidy()
    assert not is_held(host)
    assert [*Path(host.apt.notes_dir).iterdir()] == []


def test_a_hold_that_cannot_be_ended_now_is_ended_by_the_next_pass(half_removed: Host) -> None:
    host = half_removed
    session = Session(host.apt, lambda _text: None, {}, {})
    assert session.set_aside({"strange"})
    assert is_held(host)
    with locked(host.root / "var/lib/dpkg/lock"):
        # As while a dpkg in its unit works on.
        session._take_back()
        assert is_held(host)
        host.apt.tidy()
        assert is_held(host)
    host.apt.tidy()
    assert not is_held(host)


def test_a_package_that_is_gone_by_then_is_forgotten(half_removed: Host) -> None:
    host = half_removed
    host.apt.put_aside(["strange", "nowhere"])
    host.apt.tidy()
    assert not is_held(host)
    assert [*Path(host.apt.notes_dir).iterdir()] == []


def test_what_a_person_holds_stays_on_hold(half_removed: Host) -> None:
    host = half_removed
    host.apt.hold(["strange"])
    assert not host.install("alpha=1.0").errors
    assert is_held(host)
    assert not Path(host.apt.notes_dir, ".aside").exists()
    assert replace(host.apt, notes_dir="").tidy() is False
