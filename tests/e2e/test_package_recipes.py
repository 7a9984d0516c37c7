"""Packages at three in the morning: every recipe goes through whole passes, beside other daemons.

The broken one says why and keeps its old process, all others converge in the same pass, and once
the cause is gone the next pass converges by itself.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.debs import Repository, make_root, recording_scripts
from helpers.package_host import (
    LOCKS,
    assert_nothing_runs,
    kill_all_below,
    locked,
    needs_apt,
    wait_for,
    wanted,
)
from helpers.package_pass import FIRST_PACKAGE_LINE, OTHER, PLAIN, PassHost
from helpers.package_recipes import FAIL_ONCE, HANG, RECIPES, hold, publish, touch
from helpers.portod import DevPortod

from ya_salt.errors import PortoError
from ya_salt.packages.apt import Apt
from ya_salt.porto.client import PortoClient

pytestmark = needs_apt

WORKING = '#!/bin/sh\n[ -e "$DPKG_ROOT/moon" ] || { touch "$DPKG_ROOT/working"; exec sleep 60; }\n'
"""A postinst that is at work unless somebody has touched `moon`."""
STUBBORN = """\
#!/bin/sh
[ -e "$DPKG_ROOT/moon" ] && exit 0
trap 'sleep 61 & exit 1' TERM
touch "$DPKG_ROOT/working"
while :; do sleep 0.1; done
"""
"""One that starts something more when it is told to end."""


@pytest.fixture(scope="module")
def portod() -> Iterator[DevPortod]:
    with DevPortod() as server:
        yield server


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The command line of every process that this one starts."""
    started: list[tuple[str, ...]] = []
    real = subprocess.Popen.__init__

    def start(process: subprocess.Popen, args, *rest, **more) -> None:
        started.append(tuple(args))
        real(process, args, *rest, **more)

    monkeypatch.setattr(subprocess.Popen, "__init__", start)
    return started


@pytest.fixture
def host(folder: Path, portod: DevPortod, programs: list[tuple[str, ...]]) -> Iterator[PassHost]:
    repository = Repository(folder / "repository")
    root = make_root(folder / "root", repository)
    apt = Apt(str(root), lock_timeout_s=20, script_timeout_s=60, cache_dir=str(folder / "debs"))
    made = PassHost(folder, repository, apt, portod=portod, programs=programs)
    made.specs_dir.mkdir(mode=0o755)
    made.publish("other", "1.0")
    yield made
    made.remove_containers()
    assert_nothing_runs(root)
    assert list((root / "usr/sbin").glob("*policy-rc.d*")) == []


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name: str, host: PassHost) -> None:
    recipe = RECIPES[name]
    recipe.arrange(host)
    pids, packages = host.pids(), host.state(*ALL)
    host.configure(**recipe.settings)
    host.ask(*recipe.asked, OTHER, PLAIN, allow_held=recipe.allow_held)
    statuses = host.fail(recipe.errors)
    for daemon, reason in recipe.errors.items():
        installed = statuses[daemon].installed
        assert installed
        assert (installed.status, installed.reason) == (False, reason)
        assert recipe.says in statuses[daemon].error
        assert statuses[daemon].error in installed.message
    assert host.state("other") == {"other": "1.0 installed"}
    assert host.state(*recipe.state) == recipe.state
    assert recipe.check(host)
    assert host.updates() <= 1
    assert_nothing_runs(host.root)
    recipe.mend(host)
    again = recipe.then_asked or recipe.asked
    host.ask(*again, OTHER, PLAIN, allow_held=recipe.allow_held)
    host.converge()
    assert [argv[0] for argv in host.programs] == ["dpkg-query"]
    for group in again:
        assert_made_true(host, group, pids, packages)


ALL = ("alpha", "beta", "needed", "shared", "strange")


def assert_made_true(host: PassHost, group: str, pids: dict, packages: dict) -> None:
    """Its packages are as asked; its process is a new one if, and only if, they changed."""
    asked = {package.name: f"{package.version} installed" for package in wanted(group)}
    assert host.state(*asked) == asked
    daemon = group.partition("=")[0]
    same = all(packages.get(name) == state for name, state in asked.items())
    assert (host.pids()[daemon] == pids.get(daemon)) == same


def test_there_are_enough_recipes() -> None:
    assert len(RECIPES) >= 25


# --- locks


def test_locks_that_nobody_holds_are_not_waited_for(host: PassHost) -> None:
    host.configure(lock_timeout_s=0)
    host.ask(OTHER)
    host.converge()


def test_a_lock_held_for_a_moment_is_waited_for_and_its_holder_named(
    host: PassHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.ask(OTHER, PLAIN)
    with caplog.at_level(logging.INFO), locked(host.root / LOCKS[0], seconds=1) as pid:
        host.fail({})
    told = re.compile(rf"waiting up to \d+ s: process {pid} \(.*python.* holds .*/lock-frontend")
    assert any(map(told.search, host.progress))
    assert any(map(told.search, caplog.messages))
    host.converge()


def test_a_lock_held_too_long_fails_the_pass_cleanly(
    host: PassHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.publish("alpha", "1.0")
    host.publish("alpha", "1.1")
    host.stand("alpha=1.0")
    host.configure(lock_timeout_s=0.4)
    host.ask("alpha=1.1", OTHER, PLAIN)
    with locked(host.root / LOCKS[1]) as pid:
        statuses = host.fail({"alpha": "LockHeld", "other": "LockHeld"})
    assert host.state("alpha", "other") == {"alpha": "1.0 installed"}
    assert f"process {pid} (" in statuses["alpha"].error
    assert "nothing was changed" in statuses["alpha"].error
    assert any("porto-daemon-alpha" in text and str(pid) in text for text in caplog.messages)
    host.converge()


def test_a_lock_held_during_a_removal_is_made_up_for(host: PassHost) -> None:
    host.stand(OTHER, PLAIN)
    host.configure(lock_timeout_s=0.3)
    host.ask_removal("other", OTHER)
    with locked(host.root / LOCKS[0]):
        statuses = {status.name: status for status in host.run().statuses}
    assert statuses["other"].ready
    assert statuses["other"].ready.reason == "LockHeld"
    assert host.state("other") == {"other": "1.0 installed"}
    assert host.converge()["other"].phase == "Removed"
    assert host.state("other") == {}


# --- one host, many specs


def test_two_specs_with_different_versions_are_both_refused_and_name_each_other(
    host: PassHost,
) -> None:
    publish("shared=1.0", "shared=2.0", "alpha=1.0")(host)
    host.stand("alpha=1.0 shared=1.0")
    host.write_spec("beta", *wanted("shared=2.0"))
    host.write_spec("plain")
    statuses = host.fail({"alpha": "PackageVersionConflict", "beta": "PackageVersionConflict"})
    alpha = f"{host.specs_dir}/alpha.yaml:{FIRST_PACKAGE_LINE + 1} wants"
    beta = f"{host.specs_dir}/beta.yaml:{FIRST_PACKAGE_LINE} wants"
    assert f"{alpha} shared 1.0, but {beta} 2.0;" in statuses["alpha"].error
    assert f"{beta} shared 2.0, but {alpha} 1.0;" in statuses["beta"].error
    assert host.state("shared") == {"shared": "1.0 installed"}
    assert host.count_apt("install") == 0
    host.write_spec("alpha", *wanted("alpha=1.0 shared=2.0"))
    host.converge()
    assert host.state("shared") == {"shared": "2.0 installed"}


def test_an_update_of_a_shared_package_restarts_all_of_its_users(host: PassHost) -> None:
    publish("shared=1.0", "shared=2.0", "alpha=1.0", "beta=1.0")(host)
    host.stand("alpha=1.0 shared=1.0", "beta=1.0 shared=1.0", OTHER)
    before = host.pids()
    host.ask("alpha=1.0 shared=2.0", "beta=1.0 shared=2.0", OTHER)
    host.run()
    assert host.count_apt("install") == 1
    after = host.pids()
    assert {name for name in after if after[name] != before[name]} == {"alpha", "beta"}
    host.converge()


def test_a_package_that_another_spec_pins_is_not_opened_by_settings(host: PassHost) -> None:
    publish("shared=1.0")(host)
    host.stand("shared=1.0")
    publish("shared=2.0")(host)
    publish("alpha=1.0", depends="shared (>= 2.0)")(host)
    host.configure(allow_removals=frozenset({"shared"}))
    host.ask("alpha=1.0", "shared=1.0", OTHER)
    statuses = host.fail({"alpha": "WouldChange"})
    assert "another spec names that package" in statuses["alpha"].error
    host.ask("alpha=1.0", "shared=2.0", OTHER)
    host.converge()


def test_fifty_new_daemons_are_one_transaction_and_those_that_fail_cost_no_second(
    host: PassHost,
) -> None:
    for number in range(48):
        host.repository.add(f"many-{number}", "1.0")
    host.publish("broken", "1.0", scripts=FAIL_ONCE)
    host.publish("unmet", "1.0", depends="needed")
    many = [f"many-{number}=1.0" for number in range(48)]
    host.ask(*many, "broken=1.0", "unmet=1.0")
    statuses = host.fail({"broken": "PostinstFailed", "unmet": "UnmetDependency"})
    assert len(statuses) == 50
    assert host.count_apt("install") == 1
    touch("moon")(host)
    publish("needed=1.0")(host)
    host.ask(*many, "broken=1.0", "unmet=1.0", "needed=1.0")
    host.converge()


# --- removals


def test_a_package_that_was_dropped_from_a_spec_goes_with_its_daemon(host: PassHost) -> None:
    publish("alpha=1.0", "beta=1.0", "never-ours=1.0")(host)
    host.install("never-ours=1.0")
    host.stand("alpha=1.0 beta=1.0", OTHER)
    before = host.pids()
    host.stand("alpha=1.0", OTHER)
    assert host.pids()["alpha"] != before["alpha"]
    assert host.state("beta") == {"beta": "1.0 installed"}
    host.ask_removal("alpha", "alpha=1.0")
    assert host.converge()["alpha"].phase == "Removed"
    assert host.count_apt("purge") == 0
    assert set(host.state("alpha", "beta", "other", "never-ours")) == {"other", "never-ours"}
    # What it had is forgotten with it: a later removal does not take the package from a new owner.
    host.install("beta=1.0")
    host.converge()
    assert set(host.state("beta")) == {"beta"}


def test_a_shared_package_stays_until_its_last_user_goes(host: PassHost) -> None:
    publish("shared=1.0", "alpha=1.0", "beta=1.0")(host)
    host.stand("alpha=1.0 shared=1.0", "beta=1.0 shared=1.0", OTHER)
    before = host.pids()
    host.ask_removal("alpha", "alpha=1.0", "shared=1.0")
    statuses = host.converge()
    assert statuses["alpha"].warnings == ("package shared is kept: beta needs it",)
    assert set(host.state("alpha", "beta", "shared")) == {"beta", "shared"}
    assert host.pids() == {name: pid for name, pid in before.items() if name != "alpha"}
    host.ask_removal("beta", "beta=1.0", "shared=1.0")
    host.converge()
    assert host.state("alpha", "beta", "shared") == {}
    assert set(host.pids()) == {"other"}


def test_all_users_of_a_package_may_go_in_one_pass(host: PassHost) -> None:
    publish("shared=1.0")(host)
    for name in ("alpha", "beta"):
        host.write_spec(name, *wanted("shared=1.0"))
    host.converge()
    for name in ("alpha", "beta"):
        host.ask_removal(name, "shared=1.0")
    host.run()
    assert host.count_apt("purge") == 1
    host.converge()
    assert host.state("shared") == {}


def test_a_package_of_a_daemon_that_only_its_container_remembers_is_not_purged(
    host: PassHost,
) -> None:
    publish("shared=1.0", "alpha=1.0", "beta=1.0")(host)
    host.stand("alpha=1.0 shared=1.0", "beta=1.0 shared=1.0")
    shutil.rmtree(host.directory / "state")
    (host.specs_dir / "beta.yaml").unlink()
    host.ask_removal("alpha", "alpha=1.0", "shared=1.0")
    statuses = host.converge()
    assert statuses["alpha"].warnings == ("package shared is kept: beta needs it",)
    assert statuses["beta"].phase == "Orphaned"
    assert set(host.state("alpha", "beta", "shared")) == {"beta", "shared"}


class Stubborn(PortoClient):
    """portod does not destroy beta."""

    def destroy(self, name: str) -> None:
        if name == "beta":
            raise PortoError("Busy", "not now")
        super().destroy(name)


def test_a_package_stays_as_long_as_a_container_that_needs_it_could_not_be_removed(
    host: PassHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("shared=1.0", "alpha=1.0", "beta=1.0")(host)
    host.stand("alpha=1.0 shared=1.0", "beta=1.0 shared=1.0")
    for name in ("alpha", "beta"):
        host.ask_removal(name, f"{name}=1.0", "shared=1.0")
    with monkeypatch.context() as refusing:
        refusing.setattr(PassHost, "client", lambda self: Stubborn(self.portod.socket_path))
        statuses = {status.name: status for status in host.run().statuses}
    assert statuses["alpha"].phase == "Removed"
    assert "package shared is kept" in " ".join(statuses["alpha"].warnings)
    assert statuses["beta"].phase == "Managed"
    assert set(host.state("alpha", "beta", "shared")) == {"beta", "shared"}
    host.converge()
    assert host.state("alpha", "beta", "shared") == {}


def test_a_removal_that_would_take_a_strangers_package_is_refused(host: PassHost) -> None:
    publish("alpha=1.0", OTHER)(host)
    publish("strange=1.0", depends="alpha")(host)
    host.stand("alpha=1.0", OTHER)
    host.install("strange=1.0")
    host.ask_removal("alpha", "alpha=1.0")
    host.ask_removal("other", OTHER)
    statuses = {status.name: status for status in host.run().statuses}
    assert statuses["alpha"].ready
    assert (statuses["alpha"].phase, statuses["alpha"].ready.reason) == ("Managed", "WouldRemove")
    assert "remove strange 1.0" in statuses["alpha"].error
    assert statuses["other"].phase == "Removed"
    assert set(host.state("alpha", "strange", "other")) == {"alpha", "strange"}
    host.configure(allow_removals=frozenset({"strange"}))
    assert host.converge()["alpha"].phase == "Removed"
    assert host.state("alpha", "strange") == {}


def test_a_setting_opens_a_change_of_a_named_package(host: PassHost) -> None:
    publish("strange=1.0")(host)
    host.install("strange=1.0")
    publish("alpha=1.0", conflicts="strange")(host)
    host.ask("alpha=1.0", OTHER)
    command = host.start_command("apply")
    said, _ = command.communicate(timeout=60)
    assert command.returncode == 1
    assert "packages_policy.allow_removals" in said
    assert set(host.state("alpha", "other", "strange")) == {"other", "strange"}
    settings = host.directory / "ya-salt.yaml"
    settings.write_text("packages_policy: {allow_removals: [strange]}\n")
    assert_applied(host, "apply", "--config", str(settings))
    assert set(host.state("alpha", "other", "strange")) == {"alpha", "other"}
    host.converge()


def test_settings_never_open_a_removal_of_what_another_spec_needs(host: PassHost) -> None:
    publish("alpha=1.0")(host)
    publish("beta=1.0", depends="alpha")(host)
    host.stand("alpha=1.0", "beta=1.0")
    pid = host.pids()["beta"]
    host.configure(allow_removals=frozenset({"beta"}))
    host.ask_removal("alpha", "alpha=1.0")
    statuses = {status.name: status for status in host.run().statuses}
    assert statuses["alpha"].ready
    assert statuses["alpha"].ready.reason == "WouldRemove"
    assert "another spec names that package" in statuses["alpha"].error
    assert set(host.state("alpha", "beta")) == {"alpha", "beta"}
    assert host.pids() == {"beta": pid}
    host.ask_removal("beta", "beta=1.0")
    host.converge()
    assert host.state("alpha", "beta") == {}


def test_a_held_package_is_only_purged_where_its_spec_allows_it(host: PassHost) -> None:
    host.stand(OTHER, PLAIN)
    hold("other")(host)
    host.ask_removal("other", OTHER)
    (_, status) = sorted(host.run().statuses, key=lambda item: item.error)
    assert status.ready
    assert (status.name, status.ready.reason) == ("other", "Held")
    host.write_spec("other", *wanted(OTHER, allow_held=True), delete=True)
    assert host.converge()["other"].phase == "Removed"


@pytest.mark.parametrize(
    ("script", "text", "reason"),
    [
        ("prerm", FAIL_ONCE["postinst"], "PrermFailed"),
        ("postrm", FAIL_ONCE["postinst"], "PostrmFailed"),
        ("prerm", HANG["postinst"], "ScriptTimeout"),
    ],
    ids=["prerm fails", "postrm fails", "prerm hangs"],
)
def test_a_purge_whose_script_fails_is_made_up_for(
    script: str, text: str, reason: str, host: PassHost
) -> None:
    publish("alpha=1.0", scripts={script: text})(host)
    host.stand("alpha=1.0", OTHER)
    host.configure(script_timeout_s=1)
    for package in ("alpha=1.0", OTHER):
        host.ask_removal(package.split("=")[0], package)
    statuses = {status.name: status for status in host.run().statuses}
    assert statuses["alpha"].ready
    assert statuses["alpha"].ready.reason == reason
    assert statuses["other"].phase == "Removed"
    assert host.pids() == {}
    # What is left half-way holds nobody else back.
    publish("beta=1.0")(host)
    host.write_spec("beta", *wanted("beta=1.0"))
    statuses = {status.name: status for status in host.run().statuses}
    assert statuses["beta"].ready
    assert statuses["beta"].ready.status, statuses["beta"]
    assert statuses["alpha"].ready.reason == reason
    touch("moon")(host)
    assert host.converge()["alpha"].phase == "Removed"


def test_a_removal_that_failed_may_be_taken_back(host: PassHost) -> None:
    publish("alpha=1.0", scripts={"postrm": FAIL_ONCE["postinst"]})(host)
    publish("beta=1.0")(host)
    host.stand("alpha=1.0", OTHER)
    host.ask_removal("alpha", "alpha=1.0")
    assert not host.run().ok
    assert host.state("alpha") == {"alpha": "1.0 half-installed"}
    # Not yet: another version is asked for, and nobody has it. That holds nobody else back.
    host.ask("alpha=1.1", "beta=1.0", OTHER)
    host.fail({"alpha": "VersionNotFound"})
    host.ask("alpha=1.0", "beta=1.0", OTHER)
    # dpkg asks the old script before it unpacks anew.
    host.fail({"alpha": "PostrmFailed"})
    touch("moon")(host)
    host.converge()
    assert host.state("alpha") == {"alpha": "1.0 installed"}
    assert not host.apt.query(["alpha"])["alpha"].held


# --- a host in trouble


def test_a_full_disk_fails_its_daemon_only(host: PassHost, small_disk: Path) -> None:
    host.publish("alpha", "1.0")
    host.publish("alpha", "1.1", files={"/opt/big": os.urandom(300_000)})
    host.stand("alpha=1.0")
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 900_000)
    host.ask("alpha=1.1", OTHER, PLAIN)
    assert "df -h" in host.fail({"alpha": "DiskFull"})["alpha"].error
    ballast.unlink()
    host.converge()


def test_a_full_disk_below_dpkgs_database(host: PassHost, small_disk: Path) -> None:
    host.stand(PLAIN)
    host.apt.require()
    admin = host.apt.place.admin_dir
    subprocess.run(["cp", "-a", f"{admin}/.", str(small_disk)], check=True)
    subprocess.run(["mount", "--bind", str(small_disk), str(admin)], check=True)
    try:
        ballast = small_disk / "ballast"
        with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        host.ask(OTHER, PLAIN)
        host.fail({"other": "DiskFull"})
        ballast.unlink()
        host.converge()
    finally:
        subprocess.run(["umount", "-l", str(admin)], check=True)


@pytest.fixture
def small_disk(host: PassHost) -> Iterator[Path]:
    """A disk of one megabyte below the root's /opt."""
    place = host.root / "opt"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_without_dpkg_only_daemons_without_packages_are_made_true(
    host: PassHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.stand(OTHER)
    host.ask(OTHER, PLAIN)
    with monkeypatch.context() as missing:
        missing.setattr(Apt, "_path", "/nowhere")
        statuses = host.fail({"other": "DpkgUnavailable"})
    assert statuses["other"].installed
    assert statuses["other"].installed.reason == "DpkgUnavailable"
    assert "dpkg-query is not on this host" in statuses["other"].error
    host.converge()


def test_a_removal_without_dpkg_forgets_no_package(
    host: PassHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.stand(OTHER)
    host.ask_removal("other")
    with monkeypatch.context() as missing:
        missing.setattr(Apt, "_path", "/nowhere")
        (status,) = host.run().statuses
    assert status.ready
    assert (status.phase, status.ready.reason) == ("Managed", "DpkgUnavailable")
    host.converge()
    assert host.state("other") == {}


def test_without_apt_what_is_installed_stays_managed(
    host: PassHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.publish("alpha", "1.0")
    host.stand(OTHER)
    host.ask("alpha=1.0", OTHER, PLAIN)
    tools = host.directory / "bin"
    tools.mkdir()
    (tools / "dpkg-query").symlink_to("/usr/bin/dpkg-query")
    with monkeypatch.context() as missing:
        missing.setattr(Apt, "_path", str(tools))
        host.fail({"alpha": "AptMissing"})
    host.converge()


def test_going_back_works_with_the_repository_gone(host: PassHost, folder: Path) -> None:
    publish("alpha=1.0", "alpha=1.1", depends="needed")(host)
    publish("needed=1.0")(host)
    host.stand("alpha=1.0", PLAIN)
    host.stand("alpha=1.1", PLAIN)
    pids = host.pids()
    shutil.rmtree(host.repository.directory)
    shutil.rmtree(host.root / "var/lib/apt/lists")
    host.write_spec("alpha", *wanted("alpha=1.0"))
    host.run()
    assert host.state("alpha") == {"alpha": "1.0 installed"}
    assert {name for name, pid in host.pids().items() if pid != pids[name]} == {"alpha"}
    host.converge()


def test_the_command_goes_back_to_a_file_with_the_old_version(host: PassHost) -> None:
    publish("alpha=1.0", "alpha=1.1")(host)
    for version in ("1.0", "1.1"):
        host.ask(f"alpha={version}")
        assert_applied(host, "apply")
    shutil.rmtree(host.repository.directory)
    elsewhere = host.directory / "elsewhere"
    elsewhere.mkdir()
    old = host.write_spec("alpha", *wanted("alpha=1.0"), directory=elsewhere)
    assert_applied(host, "apply", "-f", str(old))
    assert host.state("alpha") == {"alpha": "1.0 installed"}
    shutil.copy(old, host.specs_dir)
    host.converge()


def assert_applied(host: PassHost, *words: str) -> None:
    command = host.start_command(*words)
    said, _ = command.communicate(timeout=60)
    assert command.returncode == 0, said


# --- interrupted


def start_and_wait(host: PassHost, ready: Callable[[], bool]) -> subprocess.Popen[str]:
    command = host.start_command("apply")
    wait_for(ready, timeout_s=30)
    return command


def reap(command: subprocess.Popen[str]) -> int:
    command.communicate(timeout=30)
    return command.returncode


def test_kill_9_in_the_middle_of_unpacking_is_put_right(host: PassHost) -> None:
    pause = '#!/bin/sh\ntouch "$DPKG_ROOT/unpacking"; sleep 0.2\n'
    many = {f"/opt/alpha/{n}": os.urandom(2000) for n in range(1500)}
    host.publish("alpha", "1.0")
    host.publish("alpha", "1.1", files=many, scripts={"preinst": pause})
    host.stand("alpha=1.0", PLAIN)
    pid = host.pids()["alpha"]
    host.ask("alpha=1.1", OTHER, PLAIN)
    unpacked = host.root / "opt/alpha"
    command = start_and_wait(host, lambda: len(list(unpacked.glob("*"))) > 100)
    kill_all_below(command.pid)
    reap(command)
    assert not host.state("alpha").get("alpha", "").endswith(" installed")
    assert host.pids()["alpha"] == pid
    host.converge()
    assert host.pids()["alpha"] != pid


def test_kill_9_leaves_a_policy_that_the_next_pass_notices_though_it_has_nothing_else_to_do(
    host: PassHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.publish("alpha", "1.0", scripts={"postinst": WORKING})
    host.stand(OTHER)
    host.write_spec("alpha", *wanted("alpha=1.0"))
    command = start_and_wait(host, (host.root / "working").exists)
    kill_all_below(command.pid)
    reap(command)
    policy = host.apt.place.policy_rc
    assert policy.exists()
    host.ask(OTHER)
    host.converge()
    assert not policy.exists()
    assert any(str(policy) in text for text in caplog.messages)
    touch("moon")(host)
    host.ask(OTHER, "alpha=1.0")
    host.converge()


def test_apt_that_outlives_its_pass_keeps_its_policy_and_is_waited_for(host: PassHost) -> None:
    until = '#!/bin/sh\ntouch "$DPKG_ROOT/working"; sleep 2\n'
    answer = '"$DPKG_ROOT/usr/sbin/policy-rc.d" alpha start; echo $? >> "$DPKG_ROOT/answers"\n'
    host.publish("alpha", "1.0", scripts={"postinst": until + answer})
    host.ask("alpha=1.0", OTHER)
    command = start_and_wait(host, (host.root / "working").exists)
    command.kill()
    reap(command)
    host.converge()
    assert set((host.root / "answers").read_text().split()) == {"101"}


SLOW = '#!/bin/sh\ntouch "$DPKG_ROOT/working"; sleep 3; touch "$DPKG_ROOT/ended"\n'


def limit_stop(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    monkeypatch.setenv("YA_SALT_STOP_TIMEOUT_S", str(seconds))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("script", ["preinst", "postinst"])
def test_a_pass_that_is_told_to_stop_lets_dpkg_end_what_it_began(
    number: signal.Signals, script: str, host: PassHost
) -> None:
    host.publish("alpha", "1.0", scripts={script: SLOW})
    host.ask("alpha=1.0", PLAIN)
    command = start_and_wait(host, (host.root / "working").exists)
    command.send_signal(number)
    assert reap(command) == 128 + number
    assert host.state("alpha") == {"alpha": "1.0 installed"}
    log = (host.directory / "ya-salt.log").read_text()
    assert re.search(rf"told to stop: waiting up to \d+ s for {script} of alpha", log)
    assert not host.apt.place.policy_rc.exists()
    assert_nothing_runs(host.root)
    host.converge()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_pass_that_is_told_to_stop_leaves_nothing_behind(
    number: signal.Signals, host: PassHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_stop(monkeypatch, 1)
    host.publish("alpha", "1.0", scripts={"postinst": STUBBORN})
    host.ask("alpha=1.0", OTHER, PLAIN)
    command = start_and_wait(host, (host.root / "working").exists)
    assert host.apt.place.policy_rc.exists()
    command.send_signal(number)
    assert reap(command) == 128 + number
    assert not host.apt.place.policy_rc.exists()
    assert_nothing_runs(host.root)
    touch("moon")(host)
    host.converge()


def test_a_second_signal_waits_no_longer(host: PassHost) -> None:
    host.publish("alpha", "1.0", scripts={"postinst": WORKING})
    host.ask("alpha=1.0", PLAIN)
    command = start_and_wait(host, (host.root / "working").exists)
    command.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert command.poll() is None
    started = time.monotonic()
    command.send_signal(signal.SIGTERM)
    assert reap(command) == 128 + signal.SIGTERM
    assert time.monotonic() - started < 10
    assert_nothing_runs(host.root)
    touch("moon")(host)
    host.converge()


# --- what takes the place of an earlier package


def test_a_daemon_may_move_to_a_package_that_replaces_its_own_and_back(host: PassHost) -> None:
    host.publish("alpha", "1.0")
    host.publish("alpha-ng", "2.0", conflicts="alpha", replaces="alpha")
    host.stand("alpha=1.0", OTHER)
    pid = host.pids()["alpha"]
    for package in ("alpha-ng=2.0", "alpha=1.0"):
        host.write_spec("alpha", *wanted(package))
        host.converge()
        assert host.pids()["alpha"] != pid
        pid = host.pids()["alpha"]
        name, _, version = package.partition("=")
        assert host.state(name) == {name: f"{version} installed"}
    host.ask_removal("alpha", "alpha=1.0")
    host.converge()
    assert host.state("alpha", "alpha-ng") == {}


@pytest.mark.parametrize("whole", [True, False])
def test_a_package_that_another_daemon_needs_is_not_replaced(whole: bool, host: PassHost) -> None:
    host.publish("alpha", "1.0")
    host.publish("alpha-ng", "2.0", conflicts="alpha", replaces="alpha")
    host.write_spec("alpha", *wanted("alpha=1.0"))
    host.write_spec("second", *wanted("alpha=1.0"))
    host.converge()
    if not whole:
        (host.specs_dir / "second.yaml").unlink()  # An orphan still stands.
        host.run()
    host.write_spec("alpha", *wanted("alpha-ng=2.0"))
    result = {status.name: status for status in host.run().statuses}
    assert result["alpha"].installed
    assert result["alpha"].installed.reason == "WouldRemove"
    assert host.state("alpha", "alpha-ng") == {"alpha": "1.0 installed"}


# --- foreseeing


def test_a_plan_says_what_apt_has_not_heard_of(host: PassHost) -> None:
    host.publish("alpha", "1.0")
    host.stand("alpha=1.0", OTHER)
    host.ask("alpha=2.0", "fresh=1", OTHER)
    notes = {plan.name: plan.notes for plan in host.plan()}
    assert notes["other"] == ()
    assert "alpha 2.0 is in no list that apt has read so far, those have 1.0" in notes["alpha"][0]
    assert "fresh 1 is in no list that apt has read so far" in notes["fresh"][0]
    host.ask("alpha=1.0", OTHER)
    programs = list(host.programs)
    assert [plan.notes for plan in host.plan()] == [(), ()]
    started = [argv[0] for argv in host.programs[len(programs) :]]
    assert started == ["dpkg-query"], "where nothing is installed apt is not asked"


# --- names


def test_one_package_in_two_spellings_is_one_to_all_daemons(host: PassHost) -> None:
    own = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    ).stdout.strip()
    for version in ("1.0", "2.0"):
        host.publish("tool", version, architecture=own)
    host.write_spec("alpha", *wanted(f"tool:{own}=1.0"))
    host.write_spec("beta", *wanted("tool=1.0"))
    host.converge()
    host.write_spec("beta", *wanted("tool=2.0"))
    plans = {plan.name: plan for plan in host.plan()}
    assert {plan.refusal_reason for plan in plans.values()} == {"PackageVersionConflict"}
    host.write_spec("beta", *wanted("tool=1.0"), delete=True)
    host.run()
    assert host.state("tool") == {"tool": "1.0 installed"}, "alpha still needs it"
    pid = host.pids()["alpha"]
    host.write_spec("alpha", *wanted("tool=1.0"))
    host.run()
    assert host.pids()["alpha"] == pid, "the same package, spelled otherwise"


def test_a_foreign_package_in_a_spec_is_one_of_its_own(host: PassHost) -> None:
    own = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    ).stdout.strip()
    foreign = "i386" if own != "i386" else "amd64"
    host.converge()
    host.install("nothing=1")  # Makes the root.
    subprocess.run(["dpkg", f"--root={host.root}", "--add-architecture", foreign], check=True)
    for machine in (own, foreign):
        host.publish("lib", "1.0", architecture=machine, multi_arch="same")
    host.write_spec("alpha", *wanted(f"lib:{foreign}=1.0"))
    host.write_spec("beta", *wanted("lib=1.0"))
    host.converge()
    assert set(host.state("lib", f"lib:{foreign}")) == {"lib", f"lib:{foreign}"}
    host.write_spec("alpha", *wanted(f"lib:{foreign}=1.0"), delete=True)
    host.converge()
    assert host.state("lib", f"lib:{foreign}") == {"lib": "1.0 installed"}


# --- HOSTMAN


def test_maintainer_scripts_know_who_calls_through_a_whole_life(host: PassHost) -> None:
    for version in ("1.0", "2.0"):
        host.publish("alpha", version, scripts=recording_scripts())
    for version in ("1.0", "2.0", "1.0"):
        host.stand(f"alpha={version}")
    host.ask_removal("alpha", "alpha=1.0")
    host.converge()
    lines = host.scripts()
    assert {line.rsplit(" ", 1)[1] for line in lines} == {"HOSTMAN=1"}
    change = ["alpha prerm upgrade", "alpha preinst upgrade", "alpha postrm upgrade"]
    configure = "alpha postinst configure"
    assert [line.rsplit(" ", 1)[0] for line in lines] == [
        *("alpha preinst install", configure),
        *(*change, configure),
        *(*change, configure),
        *("alpha prerm remove", "alpha postrm remove", "alpha postrm purge"),
    ]
