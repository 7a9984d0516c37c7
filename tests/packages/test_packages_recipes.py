"""Broken and awkward states of packages: each ends as documented, holds nobody else back, and once
its cause is gone the next pass converges by itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from helpers.debs import build_deb
from package_host import Host, needs_apt, reasons, wanted

from ya_salt.packages import procs

pytestmark = needs_apt

FAIL = {"postinst": "#!/bin/sh\necho cannot reach the moon\nexit 7\n"}
FAIL_ONCE = {
    "postinst": '#!/bin/sh\n[ -e "$DPKG_ROOT/moon" ] || { echo no moon; exit 7; }\n',
}
HANG = {"postinst": '#!/bin/sh\n[ -e "$DPKG_ROOT/moon" ] || { sleep 71 & setsid sleep 72; }\n'}
OTHER = "other=1.0"


@dataclass(frozen=True)
class Recipe:
    """What is broken (`arrange`), what is asked, how it ends, and what makes it whole (`mend`)."""

    arrange: Callable[[Host], object]
    asked: tuple[str, ...]
    errors: dict[str, str]
    says: str = ""
    mend: Callable[[Host], object] = lambda host: None
    then_asked: tuple[str, ...] = ()
    settings: dict[str, object] = field(default_factory=dict)
    state: dict[str, str] = field(default_factory=dict)
    pinned: dict[str, str] = field(default_factory=dict)


def publish(*packages: str, **details: object) -> Callable[[Host], None]:
    """A step that publishes `name=version` packages, all with the same details."""

    def step(host: Host) -> None:
        for package in packages:
            name, version = package.split("=")
            host.publish(name, version, **details)

    return step


def steps(*every: Callable[[Host], object]) -> Callable[[Host], None]:
    def run(host: Host) -> None:
        for step in every:
            step(host)

    return run


def install(*groups: str) -> Callable[[Host], object]:
    return lambda host: host.install(*groups)


def set_status(name: str, status: str) -> Callable[[Host], object]:
    """Leave a package as an interrupted dpkg leaves it."""

    def step(host: Host) -> None:
        file = host.root / "var/lib/dpkg/status"
        head, mark, tail = file.read_text().partition(f"Package: {name}\n")
        rest = tail.partition("\n")[2]
        file.write_text(f"{head}{mark}Status: {status}\n{rest}")

    return step


def touch(name: str) -> Callable[[Host], object]:
    return lambda host: (host.root / name).touch()


def spoil(name: str) -> Callable[[Host], object]:
    """Change one byte of a published .deb: same name, same size, another content."""

    def step(host: Host) -> None:
        (deb,) = host.repository.directory.glob(f"{name}_*.deb")
        content = bytearray(deb.read_bytes())
        content[-1] ^= 1
        deb.write_bytes(content)

    return step


def dpkg(host: Host, *words: str, **options: object) -> None:
    subprocess.run(  # type: ignore[call-overload]
        ["dpkg", *host.apt.place.dpkg_options(), *words],
        env=host.apt.place.environment(),
        check=True,
        capture_output=True,
        **options,
    )


def hold(name: str) -> Callable[[Host], object]:
    return lambda host: dpkg(host, "--set-selections", input=f"{name} hold\n".encode())


def unhold(name: str) -> Callable[[Host], object]:
    return lambda host: dpkg(host, "--set-selections", input=f"{name} install\n".encode())


def break_source(host: Host) -> None:
    sources = host.root / "etc/apt/sources.list"
    sources.write_text(sources.read_text() + "deb [trusted=yes] http://127.0.0.1:9/gone ./\n")


def mend_source(host: Host) -> None:
    sources = host.root / "etc/apt/sources.list"
    sources.write_text(sources.read_text().splitlines()[0] + "\n")


def remove_deb(name: str, version: str) -> Callable[[Host], object]:
    return lambda host: host.repository.remove(name, version)


def unpack_by_hand(name: str, version: str, **details: object) -> Callable[[Host], object]:
    def step(host: Host) -> None:
        host.apt.require()
        deb = build_deb(host.directory / "elsewhere", name, version, **details)
        dpkg(host, "--unpack", str(deb))

    return step


def interrupt_upgrade(host: Host) -> None:
    """What dpkg leaves when it dies with its journal unwritten: updates/0000."""
    (host.root / "var/lib/dpkg/updates/0000").write_text(
        "Package: alpha\nStatus: install ok half-configured\nArchitecture: all\nVersion: 1.0\n"
        "Maintainer: x\nDescription: x\n"
    )


RECIPES = {
    "a version that no repository has": Recipe(
        arrange=publish("alpha=1.0"),
        asked=("alpha=2.0",),
        errors={"alpha": "VersionNotFound"},
        says="alpha 2.0 is in no repository",
        mend=publish("alpha=2.0"),
    ),
    "a package that nobody has ever heard of": Recipe(
        arrange=lambda host: None,
        asked=("alpha=2.0",),
        errors={"alpha": "VersionNotFound"},
        mend=publish("alpha=2.0"),
    ),
    "the repository is unreachable and the version not known from before": Recipe(
        arrange=break_source,
        asked=("alpha=1.0",),
        errors={"alpha": "RepositoryUnreachable"},
        says="http://127.0.0.1:9/gone",
        mend=steps(mend_source, publish("alpha=1.0")),
    ),
    "one repository is unreachable but another has the version": Recipe(
        arrange=steps(break_source, publish("alpha=1.0")), asked=("alpha=1.0",), errors={}
    ),
    "the archive is not what the index promises": Recipe(
        arrange=steps(publish("alpha=1.0"), spoil("alpha")),
        asked=("alpha=1.0",),
        errors={"alpha": "HashMismatch"},
        mend=publish("alpha=1.0"),
    ),
    "the index promises an archive that is gone": Recipe(
        arrange=steps(publish("alpha=1.0"), remove_deb("alpha", "1.0")),
        asked=("alpha=1.0",),
        errors={"alpha": "VersionNotFound"},
        mend=publish("alpha=1.0"),
    ),
    "apt's lists are older than the repository": Recipe(
        arrange=steps(
            publish("alpha=1.0", "beta=1.0"),
            install("beta=1.0"),
            remove_deb("alpha", "1.0"),
            publish("alpha=1.0", section="rebuilt"),
        ),
        asked=("alpha=1.0",),
        errors={},
    ),
    "a postinst that fails": Recipe(
        arrange=publish("alpha=1.0", scripts=FAIL_ONCE),
        asked=("alpha=1.0",),
        errors={"alpha": "PostinstFailed"},
        says="no moon",
        mend=touch("moon"),
        state={"alpha": "1.0 half-configured"},
    ),
    "a postinst that fails until a new version mends it": Recipe(
        arrange=publish("alpha=1.0", scripts=FAIL),
        asked=("alpha=1.0",),
        errors={"alpha": "PostinstFailed"},
        says="cannot reach the moon",
        mend=publish("alpha=1.1"),
        then_asked=("alpha=1.1",),
    ),
    "a postinst that hangs is ended with everything it started": Recipe(
        arrange=publish("alpha=1.0", scripts=HANG),
        asked=("alpha=1.0",),
        errors={"alpha": "ScriptTimeout"},
        says="still running after 1 s",
        mend=touch("moon"),
        settings={"script_timeout_s": 1},
    ),
    "a preinst that fails": Recipe(
        arrange=publish("alpha=1.0", scripts={"preinst": FAIL_ONCE["postinst"]}),
        asked=("alpha=1.0",),
        errors={"alpha": "PreinstFailed"},
        mend=touch("moon"),
        state={},
    ),
    "a prerm that fails keeps the old version": Recipe(
        arrange=steps(
            publish("alpha=1.0", scripts={"prerm": FAIL_ONCE["postinst"]}),
            publish("alpha=1.1", scripts={"prerm": FAIL_ONCE["postinst"]}),
            install("alpha=1.0"),
        ),
        asked=("alpha=1.1",),
        errors={"alpha": "PrermFailed"},
        mend=touch("moon"),
    ),
    "a dependency whose postinst fails": Recipe(
        arrange=steps(
            publish("needed=1.0", scripts=FAIL_ONCE), publish("alpha=1.0", depends="needed")
        ),
        asked=("alpha=1.0",),
        errors={"alpha": "PostinstFailed"},
        says="postinst of needed failed",
        mend=touch("moon"),
    ),
    "a dependency that nobody has": Recipe(
        arrange=publish("alpha=1.0", depends="needed (>= 2)"),
        asked=("alpha=1.0",),
        errors={"alpha": "UnmetDependency"},
        says="needed",
        mend=publish("needed=2.0"),
        then_asked=("alpha=1.0", "needed=2.0"),
    ),
    "half-configured is repaired": Recipe(
        arrange=steps(
            publish("alpha=1.0"),
            install("alpha=1.0"),
            set_status("alpha", "install ok half-configured"),
        ),
        asked=("alpha=1.0",),
        errors={},
    ),
    "unpacked is configured": Recipe(
        arrange=steps(
            publish("alpha=1.0"), install("alpha=1.0"), set_status("alpha", "install ok unpacked")
        ),
        asked=("alpha=1.0",),
        errors={},
    ),
    "half-installed is installed again": Recipe(
        arrange=steps(
            publish("alpha=1.0"),
            install("alpha=1.0"),
            set_status("alpha", "install reinstreq half-installed"),
        ),
        asked=("alpha=1.0",),
        errors={},
    ),
    "half-installed at a version that no repository has any more": Recipe(
        arrange=steps(
            publish("alpha=1.0"),
            install("alpha=1.0"),
            set_status("alpha", "install reinstreq half-installed"),
            remove_deb("alpha", "1.0"),
            publish("alpha=2.0"),
        ),
        asked=("alpha=2.0",),
        errors={},
    ),
    "triggers-pending is repaired": Recipe(
        arrange=steps(
            publish("alpha=1.0", scripts={"postinst": "#!/bin/sh\nexit 0\n"}),
            install("alpha=1.0"),
            set_status("alpha", "install ok triggers-pending\nTriggers-Pending: /x"),
        ),
        asked=("alpha=1.0",),
        errors={},
    ),
    "dpkg's journal was left behind": Recipe(
        arrange=steps(publish("alpha=1.0", "alpha=1.1"), install("alpha=1.0"), interrupt_upgrade),
        asked=("alpha=1.1",),
        errors={},
    ),
    "a stranger's package was unpacked without its dependency": Recipe(
        arrange=steps(
            publish("alpha=1.0", "needed=1.0"),
            unpack_by_hand("strange", "1.0", depends="needed"),
        ),
        asked=("alpha=1.0",),
        errors={},
    ),
    "a held package is left alone": Recipe(
        arrange=steps(publish("alpha=1.0", "alpha=1.1"), install("alpha=1.0"), hold("alpha")),
        asked=("alpha=1.1",),
        errors={"alpha": "Held"},
        says="apt-mark unhold alpha",
        mend=unhold("alpha"),
        state={"alpha": "1.0 installed"},
    ),
    "a held package at the right version is fine": Recipe(
        arrange=steps(publish("alpha=1.0"), install("alpha=1.0"), hold("alpha")),
        asked=("alpha=1.0",),
        errors={},
    ),
    "a conflict with an installed package would remove it": Recipe(
        arrange=steps(
            publish("strange=1.0"),
            install("strange=1.0"),
            publish("alpha=1.0", conflicts="strange"),
        ),
        asked=("alpha=1.0",),
        errors={"alpha": "WouldRemove"},
        says="remove strange 1.0",
        mend=lambda host: host.purge("strange"),
        state={"strange": "1.0 installed"},
    ),
    "a removal that settings allow": Recipe(
        arrange=steps(
            publish("strange=1.0"),
            install("strange=1.0"),
            publish("alpha=1.0", conflicts="strange"),
        ),
        asked=("alpha=1.0",),
        errors={},
        settings={"allow_removals": frozenset({"strange"})},
    ),
    "an upgrade of a package that no spec names": Recipe(
        arrange=steps(
            publish("strange=1.0"),
            install("strange=1.0"),
            publish("strange=2.0"),
            publish("alpha=1.0", depends="strange (>= 2.0)"),
        ),
        asked=("alpha=1.0",),
        errors={"alpha": "WouldChange"},
        says="change strange from 1.0 to 2.0",
        mend=lambda host: host.install("strange=2.0"),
        state={"strange": "1.0 installed"},
    ),
    "two daemons that conflict: the first one wins": Recipe(
        arrange=steps(publish("alpha=1.0"), publish("beta=1.0", conflicts="alpha")),
        asked=("alpha=1.0", "beta=1.0"),
        errors={"beta": "Conflict"},
        says="Conflicts: alpha",
        mend=lambda host: host.purge("alpha"),
        then_asked=("beta=1.0",),
    ),
    "two packages that own one file": Recipe(
        arrange=steps(
            publish("alpha=1.0", files={"/opt/one": "a"}),
            install("alpha=1.0"),
            publish("beta=1.0", files={"/opt/one": "b"}),
        ),
        asked=("beta=1.0",),
        errors={"beta": "Conflict"},
        says="/opt/one",
        mend=publish("beta=1.1"),
        then_asked=("beta=1.1",),
    ),
    "a downgrade to the exact version": Recipe(
        arrange=steps(publish("alpha=1.0", "alpha=1.1"), install("alpha=1.1")),
        asked=("alpha=1.0",),
        errors={},
    ),
    "a changed list of packages": Recipe(
        arrange=steps(publish("alpha=1.0", "beta=1.0"), install("alpha=1.0")),
        asked=("alpha=1.0 beta=1.0",),
        errors={},
    ),
    "a package shared by two daemons, one of them broken": Recipe(
        arrange=steps(publish("shared=1.0"), publish("alpha=1.0", "beta=1.0")),
        asked=("alpha=1.0 shared=1.0", "beta=9 shared=1.0"),
        errors={"beta": "VersionNotFound"},
        mend=publish("beta=9"),
    ),
    "only conffiles are left of an earlier life": Recipe(
        arrange=steps(
            publish("alpha=1.0", files={"/etc/alpha": "x"}, conffiles=["/etc/alpha"]),
            install("alpha=1.0"),
            lambda host: dpkg(host, "--remove", "alpha"),
        ),
        asked=("alpha=1.0",),
        errors={},
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name: str, host: Host) -> None:
    recipe = RECIPES[name]
    host.publish("other", "1.0")
    recipe.arrange(host)
    host.configure(**recipe.settings)
    outcome = host.install(*recipe.asked, OTHER)
    assert reasons(outcome) == recipe.errors
    assert recipe.says in " ".join(str(error) for error in outcome.errors.values())
    assert host.state("other") == {"other": "1.0 installed"}
    assert host.state(*recipe.state) == recipe.state
    assert host.updates() <= 1
    assert_nothing_runs(host)
    recipe.mend(host)
    again = recipe.then_asked or recipe.asked
    assert reasons(host.install(*again, OTHER)) == {}
    assert_installed(host, *again)


def assert_installed(host: Host, *groups: str) -> None:
    for package in " ".join(groups).split():
        name, version = package.split("=")
        assert host.state(name) == {name: f"{version} installed"}


def assert_nothing_runs(host: Host) -> None:
    """No process of a maintainer script outlives the call (their environment names the root)."""
    mark = f"DPKG_ROOT={host.root}".encode()
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            assert mark not in environ.read_bytes(), (environ.parent / "cmdline").read_bytes()
        except OSError:
            continue


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


@contextmanager
def locked(path: Path, seconds: float = 60) -> Iterator[int]:
    """Another process that holds a lock as apt does (fcntl), for a while."""
    path.parent.mkdir(parents=True, exist_ok=True)
    code = (
        "import fcntl, sys, time\n"
        "file = open(sys.argv[1], 'w')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "time.sleep(float(sys.argv[2]))\n"
    )
    argv = [sys.executable, "-c", code, str(path), str(seconds)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield holder.pid
        holder.kill()


LOCKS = ["var/lib/dpkg/lock-frontend", "var/lib/dpkg/lock", "var/cache/apt/archives/lock"]


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
    assert_installed(host, "alpha=1.0", "beta=1.0")


_INSTALL_IN_CHILD = """
import sys
from ya_salt.model import Package
from ya_salt.packages import Apt, PackagePass
packages = [Package(*word.split("=")) for word in sys.argv[2].split()]
PackagePass(Apt(sys.argv[1])).install({"all": packages})
"""


def kill_all_below(pid: int) -> None:
    for child in procs.find_tree(procs.read_processes(), pid):
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue


def wait_for(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_the_shield_of_a_killed_pass_is_noticed_and_removed(host: Host) -> None:
    wait = '#!/bin/sh\ntouch "$DPKG_ROOT/working"; sleep 30\n'
    host.publish("alpha", "1.0", scripts={"postinst": wait})
    victim = subprocess.Popen(
        [sys.executable, "-c", _INSTALL_IN_CHILD, str(host.root), "alpha=1.0"]
    )
    wait_for((host.root / "working").exists)
    kill_all_below(victim.pid)
    victim.wait()
    assert host.apt.place.policy_rc.exists()
    assert host.apt.tidy()
    assert not host.apt.place.policy_rc.exists()
    assert not host.apt.tidy()


@pytest.fixture
def small_disk(host: Host) -> Iterator[Path]:
    """A disk of one megabyte below the root's /opt."""
    place = host.root / "opt"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)],
        check=False,
        capture_output=True,
    )
    if done.returncode:
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_fails_its_daemon_and_the_next_pass_converges(
    host: Host, small_disk: Path
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 900_000)
    host.publish("alpha", "1.0", files={"/opt/big": os.urandom(300_000)})
    host.publish("beta", "1.0")
    outcome = host.install("alpha=1.0", "beta=1.0")
    assert reasons(outcome) == {"alpha": "DiskFull"}
    assert host.state("beta") == {"beta": "1.0 installed"}
    ballast.unlink()
    assert not host.install("alpha=1.0", "beta=1.0").errors
