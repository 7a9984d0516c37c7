"""Who changed a package, from logs as apt and dpkg write them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ya_salt.packages.logs import find_who

APT = """
Start-Date: 2026-11-24  06:12:01
Commandline: /usr/bin/unattended-upgrade
Upgrade: libjug:amd64 (1.0, 1.1), juggler:amd64 (1.0, 1.1-2+b1)
End-Date: 2026-11-24  06:12:09

Start-Date: 2026-11-25  09:00:00
Commandline: apt-get install juggler=1.2
Requested-By: alice (1000)
Upgrade: juggler:amd64 (1.1-2+b1, 1.2)
End-Date: 2026-11-25  09:00:03

Start-Date: 2026-11-25  10:00:00
Commandline: apt install fresh
Install: dep:amd64 (3, automatic), fresh:amd64 (2.0)
End-Date: 2026-11-25  10:00:03

Start-Date: 2026-11-25  11:00:00
Commandline: apt purge fresh
Purge: fresh:amd64 (2.0)
End-Date: 2026-11-25  11:00:03
"""
DPKG = """\
2026-11-25 12:00:00 startup archives unpack
2026-11-25 12:00:00 upgrade juggler:amd64 1.2 1.3
2026-11-25 12:00:00 status half-configured juggler:amd64 1.2
2026-11-25 12:00:01 status installed juggler:amd64 1.3
2026-11-25 12:30:00 remove tool:all 5 <none>
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "var/log/apt"
    folder.mkdir(parents=True)
    (folder / "history.log").write_text(APT)
    (tmp_path / "var/log/dpkg.log").write_text(DPKG)
    return tmp_path


@pytest.mark.parametrize(
    ("package", "version", "said"),
    [
        ("juggler", "1.1-2+b1", ("/usr/bin/unattended-upgrade", "2026-11-24 06:12:01")),
        ("juggler:amd64", "1.2", ("apt-get install juggler=1.2", "alice (1000)")),
        ("juggler", "1.3", ("dpkg, without apt", "2026-11-25 12:00:00")),
        ("dep", "3", ("apt install fresh",)),
        ("fresh", "", ("apt purge fresh",)),
        ("tool", "", ("dpkg, without apt", "12:30:00")),
    ],
)
def test_the_command_and_who_asked_for_it(
    root: Path, package: str, version: str, said: tuple[str, ...]
) -> None:
    found = find_who(root, package, version)
    assert all(word in found for word in said), found


@pytest.mark.parametrize(("package", "version"), [("jug", "1.1"), ("juggler", "1"), ("other", "")])
def test_another_package_or_version_is_nobodys(root: Path, package: str, version: str) -> None:
    assert find_who(root, package, version) == ""


def test_yesterdays_log_is_read_too(root: Path) -> None:
    log = root / "var/log/apt/history.log"
    (log.parent / "history.log.1.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.write_text("")
    assert "alice" in find_who(root, "juggler", "1.2")


def test_without_logs_nobody_is_named(tmp_path: Path) -> None:
    assert find_who(tmp_path, "juggler", "1.2") == ""
