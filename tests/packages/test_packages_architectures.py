"""NAME:ARCH from the simulation to the purge: real packages of this host's architecture, of all and
of a foreign one.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from helpers.debs import recording_scripts
from helpers.package_host import Host, needs_apt, reasons, wanted

from ya_salt.model import Package

pytestmark = needs_apt


def ask_dpkg() -> str:
    argv = ("dpkg", "--print-architecture")
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


OWN = ask_dpkg()
FOREIGN = "i386" if OWN != "i386" else "amd64"


@pytest.fixture
def both(host: Host) -> Host:
    """A host that takes packages of a second architecture."""
    host.install("nothing=1")  # Makes the root.
    subprocess.run(("dpkg", f"--root={host.root}", "--add-architecture", FOREIGN), check=True)
    return host


def publish(host: Host, name: str, *versions: str, machine: str = OWN, **details: object) -> None:
    for version in versions:
        files = {f"/opt/{name}-{machine}": version}
        host.publish(name, version, architecture=machine, files=files, **details)


def test_an_own_package_is_one_and_the_same_with_its_architecture_and_without(both: Host) -> None:
    publish(both, "tool", "1.0", "2.0")
    both.publish("every", "1.0")
    for word in (f"tool:{OWN}=1.0", "tool=2.0", "every:all=1.0", f"every:{OWN}=1.0"):
        assert not both.install(word).errors
    names = ("tool", f"tool:{OWN}", "every", "every:all")
    assert both.state(*names) == {
        "tool": "2.0 installed",
        f"tool:{OWN}": "2.0 installed",
        "every": "1.0 installed",
        "every:all": "1.0 installed",
    }
    assert not both.purge(f"tool:{OWN}", "every:all").errors
    assert both.state(*names) == {}


def test_a_foreign_package_lives_its_whole_life(both: Host) -> None:
    name = f"only:{FOREIGN}"
    publish(both, "only", "1.0", "2.0", machine=FOREIGN, scripts=recording_scripts())
    for version in ("1.0", "2.0", "1.0"):
        assert not both.install(f"{name}={version}").errors
        assert both.state(name, "only") == {name: f"{version} installed"}
    assert not both.purge(name).errors
    assert both.state(name) == {}
    assert both.scripts()[-1] == "only postrm purge HOSTMAN=1"


def test_two_architectures_of_one_package_stand_side_by_side(both: Host) -> None:
    for machine in (OWN, FOREIGN):
        publish(both, "lib", "1.0", "2.0", machine=machine, multi_arch="same")
    own, foreign = "lib", f"lib:{FOREIGN}"
    for version in ("1.0", "2.0"):
        assert not both.install(f"{own}={version} {foreign}={version}").errors
    assert both.state(own, foreign) == {own: "2.0 installed", foreign: "2.0 installed"}
    assert not both.purge(own).errors
    assert both.state(own, foreign) == {foreign: "2.0 installed"}


def test_a_foreign_package_never_stands_for_the_own_one(both: Host) -> None:
    publish(both, "only", "1.0", machine=FOREIGN)
    both.stand(f"only:{FOREIGN}=1.0")
    outcome = both.install("only=1.0")
    assert reasons(outcome) == {"only": "VersionNotFound"}
    assert f"only:{FOREIGN} (1.0)" in str(outcome.errors["only"])


def test_an_own_package_that_would_take_a_foreign_ones_place_is_refused(both: Host) -> None:
    for machine in (OWN, FOREIGN):
        publish(both, "tool", "1.0", machine=machine)
    both.stand(f"tool:{FOREIGN}=1.0")
    outcome = both.install("tool=1.0")
    assert reasons(outcome) == {"tool": "WouldRemove"}
    assert outcome.errors["tool"].packages == (f"tool:{FOREIGN}",)


def test_pins_hold_whichever_way_the_package_is_spelled(both: Host) -> None:
    publish(both, "shared", "1.0", "2.0")
    both.publish("alpha", "1.0", depends="shared (>= 2.0)")
    both.stand("shared=1.0")
    work = both.new_pass({f"shared:{OWN}": "1.0"})
    outcome = work.install({"alpha": wanted("alpha=1.0")})
    assert reasons(outcome) == {"alpha": "WouldChange"}


def test_two_versions_under_two_spellings_are_refused_for_their_group_alone(both: Host) -> None:
    publish(both, "tool", "1.0", "2.0")
    both.publish("beta", "1.0")
    work = both.new_pass()
    outcome = work.install({"a": wanted(f"tool=1.0 tool:{OWN}=2.0"), "b": wanted("beta=1.0")})
    assert reasons(outcome) == {"a": "PackageVersionConflict"}
    assert both.state("beta") == {"beta": "1.0 installed"}


@pytest.mark.parametrize("machine", [OWN, FOREIGN])
def test_a_failing_script_is_blamed_on_its_package(machine: str, both: Host) -> None:
    bad = {"postinst": "#!/bin/sh\necho no moon\nexit 7\n"}
    publish(both, "lib", "1.0", machine=machine, multi_arch="same", scripts=bad)
    publish(both, "user", "1.0", machine=machine, depends="lib")
    both.publish("beta", "1.0")
    outcome = both.install(
        f"user:{machine}=1.0 lib:{machine}=1.0", f"lib:{machine}=1.0", "beta=1.0"
    )
    assert reasons(outcome) == {
        f"user:{machine}": "PostinstFailed",
        f"lib:{machine}": "PostinstFailed",
    }
    assert both.state("beta") == {"beta": "1.0 installed"}


@pytest.mark.parametrize("machine", [OWN, FOREIGN])
@pytest.mark.parametrize("script", ["preinst", "postinst"])
def test_a_hanging_script_is_known_by_its_package(machine: str, script: str, both: Host) -> None:
    hang = {script: "#!/bin/sh\nsleep 60\n"}
    publish(both, "lib", "1.0", machine=machine, multi_arch="same", scripts=hang)
    both.configure(script_timeout_s=1)
    outcome = both.install(f"lib:{machine}=1.0")
    assert reasons(outcome) == {f"lib:{machine}": "ScriptTimeout"}


@pytest.mark.parametrize("machine", [OWN, FOREIGN])
def test_a_hold_is_kept_whatever_the_spelling(machine: str, both: Host) -> None:
    name = f"lib:{machine}"
    publish(both, "lib", "1.0", "2.0", machine=machine, multi_arch="same")
    both.stand(f"{name}=1.0")
    both.apt.hold([name])
    assert reasons(both.install(f"{name}=2.0")) == {name: "Held"}
    outcome = both.new_pass().install({"d": [Package(name, "2.0", allow_held=True)]})
    assert not outcome.errors
    assert both.apt.query([name])[name].held


@pytest.mark.parametrize("machine", [OWN, FOREIGN])
@pytest.mark.parametrize("is_offered", [True, False])
def test_the_old_version_can_be_gone_back_to(machine: str, is_offered: bool, both: Host) -> None:
    name = f"lib:{machine}"
    for each in (OWN, FOREIGN):
        publish(both, "lib", "1.0", machine=each, multi_arch="same")
    both.stand(f"lib=1.0 lib:{FOREIGN}=1.0")
    for each in (OWN, FOREIGN):
        publish(both, "lib", "2.0", machine=each, multi_arch="same")
    if not is_offered:
        both.repository.remove("lib", "1.0")
        both.repository.write_index()
        for archive in both.apt.place.archives.glob("*.deb"):
            archive.unlink()
    assert not both.install(f"lib=2.0 lib:{FOREIGN}=2.0").errors
    assert len(list(Path(both.apt.cache_dir).glob("lib*.deb"))) == 2
    for old in both.repository.directory.glob("lib_*.deb"):
        old.unlink()
    both.repository.write_index()
    assert not both.install(f"lib=1.0 lib:{FOREIGN}=1.0").errors
    assert (both.root / f"opt/lib-{machine}").read_text() == "1.0"
    assert both.state(name) == {name: "1.0 installed"}


def test_an_interrupted_package_of_two_architectures_is_repaired(both: Host) -> None:
    """dpkg refuses to configure a name that fits two packages."""
    fail_once = '#!/bin/sh\n[ -e "$DPKG_ROOT/moon" ] || exit 7\n'
    for machine in (OWN, FOREIGN):
        publish(both, "lib", "1.0", machine=machine, multi_arch="same")
        scripts = {"postinst": fail_once} if machine == OWN else {}
        publish(both, "lib", "2.0", machine=machine, multi_arch="same", scripts=scripts)
    asked = (f"lib=1.0 lib:{FOREIGN}=1.0", f"lib=2.0 lib:{FOREIGN}=2.0")
    both.stand(asked[0])
    assert reasons(both.install(asked[1])) == {"lib": "PostinstFailed"}
    (both.root / "moon").touch()
    assert not both.install(asked[1]).errors
    assert both.state("lib", f"lib:{FOREIGN}") == {
        "lib": "2.0 installed",
        f"lib:{FOREIGN}": "2.0 installed",
    }
