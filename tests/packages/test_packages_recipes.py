"""Locks, holds, purges and interruptions, each lock and each state by itself.

The table of recipes is in helpers/package_recipes.py; tests/e2e/test_package_recipes.py takes it
through whole passes.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from helpers.package_host import (
    LOCKS,
    Host,
    kill_all_below,
    locked,
    needs_apt,
    reasons,
    wait_for,
    wanted,
)
from helpers.package_recipes import FAIL_ONCE, hold, set_status, touch

pytestmark = needs_apt


def test_a_failing_dependency_is_blamed_without_a_second_try(host: Host) -> None:
    count = '#!/bin/sh\necho once >> "$DPKG_ROOT/tries"; exit 1\n'
    host.publish("needed", "1.0", scripts={"postinst": count})
    host.publish("alpha", "1.0", depends="needed")
    host.publish("beta", "1.0", depends="alpha")
    host.publish("gamma", "1.0")
    outcome = host.install("alpha=1.0", "beta=1.0", "gamma=1.0")
    assert reasons(outcome) == {"alpha": "PostinstFailed", "beta": "PostinstFailed"}
    assert host.state("gamma") == {"gamma": "1.0 installed"}
    assert (host.root / "tries").read_text() == "once\n"
    assert host.apt_runs("install") == 1


def test_a_failed_postinst_is_not_run_again_by_later_installs_of_the_same_pass(host: Host) -> None:
    count = '#!/bin/sh\necho once >> "$DPKG_ROOT/tries"; exit 1\n'
    host.publish("alpha", "1.0", scripts={"postinst": count})
    host.publish("beta", "1.0")
    packages = host.new_pass()
    assert packages.install({"alpha": wanted("alpha=1.0")}).errors
    assert not packages.install({"beta": wanted("beta=1.0")}).errors
    assert host.state("beta") == {"beta": "1.0 installed"}
    assert (host.root / "tries").read_text() == "once\n"


# --- locks


@pytest.mark.parametrize("lock", [*LOCKS, "var/lib/apt/lists/lock"])
def test_a_lock_held_for_a_moment_is_waited_for_with_its_holders_name(
    lock: str, host: Host
) -> None:
    host.publish("alpha", "1.0")
    with locked(host.root / lock, seconds=1) as pid:
        assert not host.install("alpha=1.0").errors
    waits = [line for line in host.progress if line.startswith("waiting")]
    assert f"process {pid} (" in waits[0]
    assert "python" in waits[0]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_held_too_long_changes_nothing_and_the_next_pass_converges(
    lock: str, host: Host
) -> None:
    host.publish("alpha", "1.0")
    host.configure(lock_timeout_s=0.5)
    with locked(host.root / lock) as pid:
        outcome = host.install("alpha=1.0")
        assert reasons(outcome) == {"alpha": "LockHeld"}
        assert f"process {pid} (" in str(outcome.errors["alpha"])
        assert host.state("alpha") == {}
    assert not host.install("alpha=1.0").errors


def test_a_free_lock_is_not_waited_for(host: Host) -> None:
    host.publish("alpha", "1.0")
    host.configure(lock_timeout_s=0)
    assert not host.install("alpha=1.0").errors


def test_a_lock_held_during_a_purge_ends_cleanly(host: Host) -> None:
    host.publish("alpha", "1.0")
    host.install("alpha=1.0")
    host.configure(lock_timeout_s=0.3)
    with locked(host.root / LOCKS[0]):
        assert reasons(host.purge("alpha")) == {"alpha": "LockHeld"}
    assert not host.purge("alpha").errors


# --- holds


def test_a_held_package_is_changed_where_the_spec_allows_it_and_stays_held(host: Host) -> None:
    host.publish("alpha", "1.0")
    host.publish("alpha", "1.1")
    host.install("alpha=1.0")
    hold("alpha")(host)
    outcome = host.new_pass().install({"alpha": wanted("alpha=1.1", allow_held=True)})
    assert not outcome.errors
    assert (outcome.installed["alpha"].version, outcome.installed["alpha"].held) == ("1.1", True)


def test_a_held_package_is_purged_only_where_that_is_allowed(host: Host) -> None:
    host.publish("alpha", "1.0")
    host.install("alpha=1.0")
    hold("alpha")(host)
    assert reasons(host.purge("alpha")) == {"alpha": "Held"}
    outcome = host.new_pass().purge({"alpha": ["alpha"]}, allow_held=["alpha"])
    assert not outcome.errors
    assert host.state("alpha") == {}


# --- purges


def test_a_purge_never_takes_a_package_that_was_not_named(host: Host) -> None:
    host.publish("needed", "1.0")
    host.publish("alpha", "1.0", depends="needed")
    host.publish("beta", "1.0")
    host.install("alpha=1.0", "beta=1.0")
    outcome = host.purge("needed", "beta")
    assert reasons(outcome) == {"needed": "WouldRemove"}
    assert "alpha" in str(outcome.errors["needed"])
    assert set(host.state("alpha", "beta", "needed")) == {"alpha", "needed"}


def test_a_prerm_that_fails_stops_its_own_purge_only(host: Host) -> None:
    host.publish("alpha", "1.0", scripts={"prerm": FAIL_ONCE["postinst"]})
    host.publish("beta", "1.0")
    host.install("alpha=1.0", "beta=1.0")
    assert reasons(host.purge("alpha", "beta")) == {"alpha": "PrermFailed"}
    assert set(host.state("alpha", "beta")) == {"alpha"}
    touch("moon")(host)
    assert not host.purge("alpha", "beta").errors


@pytest.mark.parametrize(
    "status",
    ["install ok half-configured", "install ok unpacked", "install reinstreq half-installed"],
)
def test_a_broken_package_can_be_purged_even_with_its_archive_gone(status: str, host: Host) -> None:
    host.publish("alpha", "1.0")
    host.install("alpha=1.0")
    set_status("alpha", status)(host)
    host.repository.remove("alpha", "1.0")
    host.publish("beta", "1.0")
    host.install("beta=1.0")
    assert not host.purge("alpha").errors
    assert host.state("alpha") == {}


# --- killed, full, hanging


def test_dpkg_killed_in_the_middle_of_unpacking_is_put_right_by_the_next_pass(host: Host) -> None:
    wait = '#!/bin/sh\ntouch "$DPKG_ROOT/unpacking"; sleep 0.2\n'
    many = {f"/opt/alpha/{n}": os.urandom(2000) for n in range(1500)}
    host.publish("alpha", "1.0", files=many, scripts={"preinst": wait})
    host.publish("beta", "1.0")
    victim = subprocess.Popen(
        [sys.executable, "-c", _INSTALL_IN_CHILD, str(host.root), "alpha=1.0 beta=1.0"],
        start_new_session=True,
    )
    wait_for((host.root / "unpacking").exists)
    wait_for(lambda: len(list((host.root / "opt/alpha").glob("*"))) > 100)
    kill_all_below(victim.pid)
    victim.wait()
    assert not host.state("alpha").get("alpha", "").endswith(" installed")
    assert not host.install("alpha=1.0", "beta=1.0").errors
    whole = {"alpha": "1.0 installed", "beta": "1.0 installed"}
    assert host.state("alpha", "beta") == whole


_INSTALL_IN_CHILD = """
import sys
from ya_salt.model import Package
from ya_salt.packages.apt import Apt
from ya_salt.packages.transaction import PackagePass
packages = [Package(*word.split("=")) for word in sys.argv[2].split()]
PackagePass(Apt(sys.argv[1])).install({"all": packages})
"""


def test_the_policy_of_a_killed_pass_is_noticed_and_removed(host: Host) -> None:
    wait = '#!/bin/sh\ntouch "$DPKG_ROOT/working"; sleep 30\n'
    host.publish("alpha", "1.0", scripts={"postinst": wait})
    victim = subprocess.Popen(
        [sys.executable, "-c", _INSTALL_IN_CHILD, str(host.root), "alpha=1.0"]
    )
    wait_for((host.root / "working").exists)
    kill_all_below(victim.pid)
    victim.wait()
    assert host.apt.place.policy_rc.exists()
    # What was killed lets go of its lock when it is gone, which takes the kernel a moment.
    wait_for(host.apt.tidy)
    assert not host.apt.place.policy_rc.exists()
    assert not host.apt.tidy()
