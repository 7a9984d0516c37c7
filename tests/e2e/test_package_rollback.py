"""Packages and container that go back together, with real .deb files and a real Porto server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from helpers.debs import Repository, make_root
from helpers.package_host import kill_all_below, needs_apt
from helpers.package_pass import PassHost
from helpers.passes import DoomedClient
from helpers.portod import DevPortod

from ya_salt.model import DaemonStatus
from ya_salt.packages.apt import Apt
from ya_salt.porto.client import PortoClient

pytestmark = needs_apt

RUNS = "#!/bin/sh\nexec sleep 1000\n"
DIES = "#!/bin/sh\necho out of tune >&2\nexit 3\n"


class RollbackHost(PassHost):
    """Daemons whose program comes with their package."""

    make_client: type[PortoClient] = PortoClient

    def client(self) -> PortoClient:
        return self.make_client(self.portod.socket_path)

    def publish_program(self, name: str, version: str, text: str, **more: object) -> None:
        self.publish(name, version, files={f"/opt/{name}/run": (text, 0o755)}, **more)

    def want(
        self, name: str, version: str, *packages: str, after: Sequence[str] = (), **update: object
    ) -> None:
        """The file of a daemon that runs `/opt/NAME/run` of its first package."""
        wanted = [pair.split("=") for pair in packages]
        program = self.root / "opt" / wanted[0][0].partition(":")[0] / "run"
        spec = {
            "min_ready_s": 1,
            "ready_timeout_s": 30,
            "update": update,
            "after": list(after),
            "properties": {"cmd": [str(program)], "max_respawns": "0"},
            "packages": [{"name": item, "version": number} for item, number in wanted],
        }
        file = self.specs_dir / f"{name}.yaml"
        file.write_text(json.dumps({"meta": {"name": name, "version": version}, "spec": spec}))


@pytest.fixture
def host(folder: Path) -> Iterator[RollbackHost]:
    repository = Repository(folder / "repository")
    root = make_root(folder / "root", repository)
    apt = Apt(str(root), lock_timeout_s=20, script_timeout_s=60, cache_dir=str(folder / "debs"))
    with DevPortod() as portod:
        made = RollbackHost(folder, repository, apt, portod=portod, programs=[])
        made.specs_dir.mkdir(mode=0o755)
        yield made


def find(host: RollbackHost, name: str) -> DaemonStatus:
    result = host.run()
    return next(status for status in result.statuses if status.name == name)


def test_packages_and_container_go_back_together_without_the_network(host: RollbackHost) -> None:
    host.publish_program("tuner", "1.0", RUNS)
    host.publish_program("tuner", "1.1", DIES)
    host.want("tuner", "1.0", "tuner=1.0")
    host.converge()
    host.want("tuner", "1.1", "tuner=1.1")
    status = find(host, "tuner")
    assert status.ready
    assert (status.ready.status, status.ready.reason) == (True, "RolledBack"), status
    assert (status.version, status.wanted_version) == ("1.0", "1.1")
    assert host.state("tuner") == {"tuner": "1.0 installed"}
    assert status.rejection
    assert "out of tune" in status.rejection.why
    again = host.run()
    assert not again.ok
    assert again.touched == frozenset()


def test_version_whose_own_script_fails_is_undone(host: RollbackHost) -> None:
    host.publish_program("tuner", "1.0", RUNS)
    host.publish_program("tuner", "1.1", RUNS, scripts={"postinst": "#!/bin/sh\nexit 7\n"})
    host.want("tuner", "1.0", "tuner=1.0")
    host.converge()
    shutil.rmtree(host.repository.directory / "nothing", ignore_errors=True)
    host.want("tuner", "1.1", "tuner=1.1")
    status = find(host, "tuner")
    assert status.ready
    assert (status.ready.status, status.ready.reason) == (True, "RolledBack"), status
    assert host.state("tuner") == {"tuner": "1.0 installed"}


def test_a_package_of_a_foreign_architecture_goes_back(host: RollbackHost) -> None:
    foreign = "i386" if host.apt.architecture == "amd64" else "amd64"
    argv = ("dpkg", f"--root={host.root}", "--add-architecture", foreign)
    subprocess.run(argv, check=True)
    host.publish_program("tuner", "1.0", RUNS, architecture=foreign)
    host.publish_program("tuner", "1.1", DIES, architecture=foreign)
    name = f"tuner:{foreign}"
    host.want("tuner", "1.0", f"{name}=1.0")
    host.converge()
    host.want("tuner", "1.1", f"{name}=1.1")
    status = find(host, "tuner")
    assert status.ready
    assert (status.version, status.ready.reason) == ("1.0", "RolledBack"), status
    assert host.state(name) == {name: "1.0 installed"}
    assert host.run().touched == frozenset()


def arrange_shared(host: RollbackHost, *bad: str) -> None:
    """alpha and beta run from a package each and share `common`; those in `bad` die on 1.1."""
    for version in ("1.0", "1.1"):
        host.publish("common", version)
        for name in ("alpha", "beta"):
            program = DIES if name in bad and version == "1.1" else RUNS
            host.publish_program(name, version, program)
    for name in ("alpha", "beta"):
        host.want(name, "1.0", f"{name}=1.0", "common=1.0")
    host.converge()
    for name in ("alpha", "beta"):
        host.want(name, "1.1", f"{name}=1.1", "common=1.1")


def test_package_that_another_daemon_runs_well_on_is_not_taken_back(host: RollbackHost) -> None:
    arrange_shared(host, "alpha")
    for _ in range(2):
        statuses = {status.name: status for status in host.run().statuses}
        assert host.state("common", "beta") == {"common": "1.1 installed", "beta": "1.1 installed"}
        beta, alpha = statuses["beta"], statuses["alpha"]
        assert beta.ready
        assert (beta.version, beta.ready.status, beta.error) == ("1.1", True, "")
        assert alpha.rejection
        assert alpha.ready
        assert (alpha.ready.status, alpha.ready.reason) == (False, "RollbackFailed")
        assert "package common is not taken back from 1.1 to 1.0: beta" in alpha.ready.message
        assert "out of tune" in alpha.ready.message


def test_daemons_that_share_a_package_and_both_fail_go_back_together(host: RollbackHost) -> None:
    arrange_shared(host, "alpha", "beta")
    result = host.run()
    for status in result.statuses:
        assert status.ready
        assert (status.version, status.ready.reason) == ("1.0", "RolledBack"), status
    packages = ("common", "alpha", "beta")
    assert host.state(*packages) == dict.fromkeys(packages, "1.0 installed")
    assert not host.run().touched


def test_plan_says_whether_an_update_can_be_undone(host: RollbackHost) -> None:
    host.publish_program("tuner", "1.0", RUNS)
    host.publish_program("tuner", "1.1", RUNS)
    host.want("tuner", "1.0", "tuner=1.0")
    host.run()
    host.want("tuner", "1.1", "tuner=1.1")
    (plan,) = host.plan()
    assert [note for note in plan.notes if "undone" in note] == [
        "can be undone: back to 1.0 (generation 1), data not covered (update.state)"
    ]
    host.want("tuner", "1.1", "tuner=1.1", on_failure="keep")
    (plan,) = host.plan()
    assert "cannot be undone: update.on_failure is keep" in plan.notes
    host.want("tuner", "1.1", "tuner=1.1", state=["/var/lib/tuner"])
    (plan,) = host.plan()
    assert "can be undone: back to 1.0 (generation 1), its data, too" in plan.notes


def test_update_that_cannot_be_had_rejects_nothing(host: RollbackHost) -> None:
    host.publish_program("tuner", "1.0", RUNS)
    host.want("tuner", "1.0", "tuner=1.0")
    host.converge()
    host.want("tuner", "1.1", "tuner=1.1", max_failures=0)
    for _ in range(2):
        status = find(host, "tuner")
        assert (status.version, status.rejection) == ("1.0", None)
        assert status.ready
        assert status.ready.reason == "VersionNotFound"
    host.publish_program("tuner", "1.1", RUNS)
    assert find(host, "tuner").version == "1.1"


# -- killed on the way back ------------------------------------------------------------------------

HANGS = """#!/bin/sh
if [ -e "$DPKG_ROOT/hang-{name}" ]; then
    touch "$DPKG_ROOT/hangs"
    while [ -e "$DPKG_ROOT/hang-{name}" ]; do sleep 0.1; done
fi
exit 0
"""


def arrange_bad_update(host: RollbackHost) -> None:
    """Scripts that are run on the way back alone hang where a test says so."""
    for version, text, names in (
        ("1.0", RUNS, ("preinst", "postinst")),
        ("1.1", DIES, ("prerm", "postrm")),
    ):
        scripts = {name: HANGS.format(name=name) for name in names}
        host.publish_program("tuner", version, text, scripts=scripts)
    host.want("tuner", "1.0", "tuner=1.0")
    host.converge()
    host.want("tuner", "1.1", "tuner=1.1")


def begin_pass(host: RollbackHost) -> int:
    child = os.fork()
    if not child:
        try:
            host.run()
        finally:
            os._exit(0)
    return child


def check_went_back(host: RollbackHost) -> None:
    """The next pass ends what was begun, and the one after it finds nothing to do."""
    status = find(host, "tuner")
    assert status.ready
    assert (status.ready.status, status.ready.reason) == (True, "RolledBack"), status
    assert (status.version, status.wanted_version) == ("1.0", "1.1")
    assert host.state("tuner") == {"tuner": "1.0 installed"}
    assert "tuner" in host.pids()
    assert host.run().touched == frozenset()


@pytest.mark.parametrize("with_apt", [False, True], ids=["apt lives on", "apt dies, too"])
@pytest.mark.parametrize("script", ["prerm", "preinst", "postrm", "postinst"])
def test_killed_while_packages_go_back_the_next_pass_ends_it(
    host: RollbackHost, script: str, with_apt: bool
) -> None:
    arrange_bad_update(host)
    hang, hangs = host.root / f"hang-{script}", host.root / "hangs"
    hang.touch()
    child = begin_pass(host)
    give_up = time.monotonic() + 60
    while not hangs.exists():
        assert time.monotonic() < give_up, f"{script} was not run"
        time.sleep(0.05)
    if with_apt:
        kill_all_below(child)
    else:
        os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    hang.unlink()
    check_went_back(host)


@pytest.mark.parametrize("writes", range(6, 40, 6))
def test_killed_at_its_containers_the_next_pass_ends_it(host: RollbackHost, writes: int) -> None:
    arrange_bad_update(host)
    child = os.fork()
    if not child:
        try:
            DoomedClient.writes_left = writes
            host.make_client = DoomedClient
            host.run()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    check_went_back(host)


# -- with another one that is started after it ----------------------------------------------------


def describe_program(host: RollbackHost, name: str, version: str, last: str = "") -> str:
    """A program that notes when it starts and stops, and ends at `last`."""
    log = host.directory / "log"
    loop = last or "while :; do sleep 0.05; done"
    return (
        f"#!/bin/sh\ntrap 'echo stop {name} {version} >> {log}; exit 0' TERM\n"
        f"echo start {name} {version} >> {log}\n{loop}\n"
    )


def update_both(host: RollbackHost, **bad: object) -> list[str]:
    """aide after tuner, and both change in one pass, tuner to something bad; what happened then."""
    for version in ("1.0", "1.1"):
        host.publish_program("aide", version, describe_program(host, "aide", version))
    host.publish_program("tuner", "1.0", describe_program(host, "tuner", "1.0"))
    if "text" in bad:
        host.publish_program("tuner", "1.1", **bad)
    else:
        host.publish("tuner", "1.1", **bad)
    for version in ("1.0", "1.1"):
        host.want("aide", version, f"aide={version}", after=["tuner"])
        host.want("tuner", version, f"tuner={version}")
        if version == "1.0":
            host.converge()
            (host.directory / "log").unlink()
    aide, tuner = host.run().statuses
    time.sleep(0.2)
    assert tuner.ready
    assert (tuner.version, tuner.ready.reason) == ("1.0", "RolledBack"), tuner
    assert aide.ready
    assert (aide.version, aide.ready.reason) == ("1.1", "Ready"), aide
    assert host.state("aide", "tuner") == {"aide": "1.1 installed", "tuner": "1.0 installed"}
    again = host.run()
    assert again.touched == frozenset()
    return (host.directory / "log").read_text().splitlines()


def test_who_comes_after_it_is_started_when_its_packages_are_back(host: RollbackHost) -> None:
    text = describe_program(host, "tuner", "1.1", "exit 3")
    assert update_both(host, text=text) == [
        "stop aide 1.0",
        "stop tuner 1.0",
        "start tuner 1.1",
        "start tuner 1.0",
        "start aide 1.1",
    ]


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"scripts": {"postinst": "#!/bin/sh\nexit 7\n"}}, id="its script fails"),
        pytest.param({"files": {"/opt/tuner/other": ("", 0o644)}}, id="its program is gone"),
    ],
)
def test_who_comes_after_it_runs_on_until_its_packages_are_back(
    host: RollbackHost, bad: dict[str, object]
) -> None:
    """Nothing of it could be started, so it was not even stopped: nobody is down for that."""
    assert update_both(host, **bad) == [
        "stop aide 1.0",
        "stop tuner 1.0",
        "start tuner 1.0",
        "start aide 1.1",
    ]
