"""An update that is undone with its data, its conffiles and its scripts, in whole passes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.debs import Repository, make_root
from helpers.killed import die_at
from helpers.package_host import needs_apt
from helpers.package_pass import PassHost
from helpers.portod import DevPortod

from ya_salt.converge import daemon_data
from ya_salt.model import DaemonStatus
from ya_salt.packages.apt import Apt

pytestmark = needs_apt

READS = """\
#!/bin/sh
echo 1.0 >> "{data}/log"
exec sleep 1000
"""
SPOILS = """\
#!/bin/sh
rm -rf "{data}/table"
echo 1.1 > "{data}/log"
exit 3
"""


class DataHost(PassHost):
    """One daemon whose program, conffile and data lie below the root."""

    @property
    def data(self) -> Path:
        return self.directory / "var/alpha"

    def publish_alpha(self, version: str, program: str, **more: object) -> None:
        files = {
            "/opt/alpha/run": (program.format(data=self.data), 0o755),
            "/etc/alpha.conf": f"of {version}\n",
        }
        self.publish("alpha", version, files=files, conffiles=["/etc/alpha.conf"], **more)

    def want(self, version: str, *state: Path) -> None:
        spec = {
            "min_ready_s": 1,
            "ready_timeout_s": 30,
            "update": {"max_failures": 0, "state": [str(path) for path in state]},
            "properties": {"cmd": [str(self.root / "opt/alpha/run")]},
            "packages": [{"name": "alpha", "version": version}],
        }
        file = self.specs_dir / "alpha.yaml"
        file.write_text(json.dumps({"meta": {"name": "alpha", "version": version}, "spec": spec}))

    def judge(self) -> DaemonStatus:
        (status,) = self.run().statuses
        return status

    @property
    def conffile(self) -> str:
        return (self.root / "etc/alpha.conf").read_text()

    def list_saved(self) -> list[str]:
        folder = Path(self.settings.state_dir, "generations/alpha")
        return [path.name for path in folder.glob("state-*")]


@pytest.fixture
def host(folder: Path) -> Iterator[DataHost]:
    repository = Repository(folder / "repository")
    root = make_root(folder / "root", repository)
    state = folder / "state"
    apt = Apt(
        str(root),
        lock_timeout_s=20,
        script_timeout_s=60,
        cache_dir=f"{state}/debs",
        notes_dir=f"{state}/generations",
    )
    with DevPortod() as portod:
        made = DataHost(folder, repository, apt, portod=portod, programs=[])
        made.specs_dir.mkdir(mode=0o755)
        (made.data / "table").mkdir(parents=True)
        (made.data / "table/rows").write_text("precious")
        made.publish_alpha("1.0", READS)
        yield made


def reason(status: DaemonStatus) -> str:
    assert status.ready
    return status.ready.reason


def test_data_and_conffiles_go_back_with_the_version(host: DataHost) -> None:
    host.publish_alpha("1.1", SPOILS)
    host.want("1.0", host.data)
    host.converge()
    log = (host.data / "log").read_text()
    shutil.rmtree(host.apt.place.archives)
    host.want("1.1", host.data)
    status = host.judge()
    assert reason(status) == "RolledBack", status
    assert host.state("alpha") == {"alpha": "1.0 installed"}
    assert host.conffile == "of 1.0\n"
    assert (host.data / "table/rows").read_text() == "precious"
    assert (host.data / "log").read_text() == log + "1.0\n"
    assert host.list_saved() == []
    host.run()
    assert (host.data / "log").read_text() == log + "1.0\n"


@pytest.mark.parametrize(("name", "nth"), [("copy", 1), ("move", 1), ("move", 2), ("move", 3)])
def test_a_pass_that_is_killed_over_the_data_is_ended_by_the_next_ones(
    host: DataHost, name: str, nth: int
) -> None:
    host.publish_alpha("1.1", SPOILS)
    host.want("1.0", host.data)
    host.converge()
    log = (host.data / "log").read_text()
    host.want("1.1", host.data)
    # Moved beside what is there, that out of the way, and into its place.
    assert die_at(host.run, daemon_data.copies, (name,), nth)
    status = host.judge()
    assert reason(status) == "RolledBack", status
    assert host.state("alpha") == {"alpha": "1.0 installed"}
    assert host.conffile == "of 1.0\n"
    assert (host.data / "table/rows").read_text() == "precious"
    assert (host.data / "log").read_text() == log + "1.0\n"
    assert host.list_saved() == []
    assert [path.name for path in host.data.parent.iterdir()] == ["alpha"]


def test_without_paths_the_data_stay(host: DataHost) -> None:
    host.publish_alpha("1.1", SPOILS)
    host.want("1.0")
    host.converge()
    host.want("1.1")
    assert reason(host.judge()) == "RolledBack"
    assert (host.data / "log").read_text() == "1.1\n1.0\n"
    assert not (host.data / "table").exists()


def test_copies_of_an_update_that_goes_well_stay_for_its_probation(host: DataHost) -> None:
    host.publish_alpha("1.1", READS)
    host.want("1.0", host.data)
    host.converge()
    host.want("1.1", host.data)
    assert reason(host.judge()) not in {"RolledBack", "RollbackFailed"}
    (saved,) = host.list_saved()
    kept = Path(host.settings.state_dir, "generations/alpha", saved, "0/table/rows")
    assert kept.read_text() == "precious"
    host.run()
    assert host.list_saved() == [saved]


def test_data_that_cannot_be_copied_keep_the_update_back(host: DataHost) -> None:
    host.publish_alpha("1.1", SPOILS)
    host.want("1.0", host.data)
    host.converge()
    pid = host.pids()
    link = host.directory / "way"
    link.symlink_to(host.data.parent)
    host.want("1.1", link / "alpha")
    for _ in range(2):
        status = host.judge()
        assert reason(status) == "DataNotCopied", status
        assert str(link) in status.error
        assert host.state("alpha") == {"alpha": "1.0 installed"}
        assert host.pids() == pid
        assert status.rejection is None
    host.want("1.1", host.data)
    assert reason(host.judge()) == "RolledBack"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can fill a file system of its own")
def test_a_full_disk_keeps_the_update_back(host: DataHost) -> None:
    state = Path(host.settings.state_dir)
    state.mkdir(mode=0o700)
    mount = ("mount", "-t", "tmpfs", "-o", "size=100m,mode=700", "tmpfs", str(state))
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        host.publish_alpha("1.1", SPOILS)
        host.want("1.0", host.data)
        host.converge()
        pid = host.pids()
        (host.data / "big").write_bytes(b"x" * (60 << 20))
        host.want("1.1", host.data)
        status = host.judge()
        assert reason(status) == "DataNotCopied", status
        assert "60 MiB" in status.error
        assert host.state("alpha") == {"alpha": "1.0 installed"}
        assert host.pids() == pid
        assert host.list_saved() == []
    finally:
        subprocess.run(("umount", "-l", str(state)), check=True)


def test_a_script_that_fails_on_the_way_down_leaves_the_old_version_running(host: DataHost) -> None:
    marker = '#!/bin/sh\n[ -e "$DPKG_ROOT/down" ] && { echo no >&2; exit 3; }\nexit 0\n'
    host.publish_alpha("1.0", READS, scripts={"postinst": marker})
    host.publish_alpha("1.1", SPOILS)
    host.want("1.0", host.data)
    host.converge()
    host.want("1.1", host.data)
    (host.root / "down").touch()
    status = host.judge()
    assert reason(status) == "RollbackFailed", status
    assert status.ready
    for words in ("postinst of alpha failed", "alpha 1.0 are whole", "1.1 rejected"):
        assert words in f"{status.ready.message} {status.error}", words
    assert host.state("alpha") == {"alpha": "1.0 half-configured"}
    assert host.conffile == "of 1.0\n"
    assert "alpha" in host.pids()
    assert (host.data / "table/rows").read_text() == "precious"
    (host.root / "down").unlink()
    assert reason(host.judge()) == "RolledBack"
    assert host.state("alpha") == {"alpha": "1.0 installed"}


def test_a_script_of_the_newer_version_that_fails_leaves_that_one(host: DataHost) -> None:
    marker = '#!/bin/sh\n[ "$1" = upgrade ] && { echo no >&2; exit 3; }\nexit 0\n'
    host.publish_alpha("1.1", SPOILS, scripts={"prerm": marker})
    host.want("1.0")
    host.converge()
    host.want("1.1")
    status = host.judge()
    assert reason(status) == "RollbackFailed", status
    assert status.ready
    for words in ("prerm of alpha failed", "alpha 1.1 is installed", "1.1 rejected"):
        assert words in f"{status.ready.message} {status.error}", words
    assert host.conffile == "of 1.1\n"
