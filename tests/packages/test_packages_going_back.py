"""The versions in use are kept before an update, so that going back needs no repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.debs import read_control, recording_scripts
from helpers.package_host import Host, needs_apt, reasons

from ya_salt.model import Package
from ya_salt.packages.apt import Apt
from ya_salt.packages.cache import Cache
from ya_salt.packages.keeping import keep_generations

pytestmark = needs_apt

DETAILS: dict[str, object] = {
    "files": {
        "/etc/alpha.conf": "as shipped\n",
        "/opt/alpha/run": ("#!/bin/sh\n", 0o750),
        "/opt/alpha/empty": "",
    },
    "conffiles": ["/etc/alpha.conf"],
    "scripts": recording_scripts("postinst", "prerm"),
    "depends": "needed",
    "section": "misc",
}


def arrange(host: Host) -> None:
    """Two versions published, the first one installed."""
    host.publish("needed", "1.0")
    for version in ("1:1.0", "1:2.0"):
        host.publish("alpha", version, **DETAILS)
    assert not host.install("alpha=1:1.0").errors


def lose_repository(host: Host) -> None:
    shutil.rmtree(host.repository.directory)


def kept(host: Host) -> list[str]:
    return sorted(path.name for path in Path(host.apt.cache_dir).glob("*"))


def test_the_old_version_is_taken_from_the_repository_and_works_offline(host: Host) -> None:
    arrange(host)
    assert kept(host) == []
    assert not host.install("alpha=1:2.0").errors
    assert kept(host) == ["alpha_1%3a1.0_all.deb"]
    lose_repository(host)
    assert not host.install("alpha=1:1.0").errors
    assert host.state("alpha") == {"alpha": "1:1.0 installed"}


def test_an_archive_that_apt_kept_is_used_first(host: Host) -> None:
    arrange(host)
    (deb,) = host.repository.directory.glob("alpha_1%3a1.0_all.deb")
    shutil.move(deb, host.apt.place.archives)
    host.repository.write_index()
    assert not host.install("alpha=1:2.0").errors
    assert kept(host) == ["alpha_1%3a1.0_all.deb"]


def test_where_apt_has_kept_nothing_dpkg_is_not_asked_which_machine_this_is(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrange(host)
    for file in host.apt.place.archives.glob("*.deb"):
        file.unlink()

    def ask(_: Apt) -> str:
        raise AssertionError

    monkeypatch.setattr(Apt, "architecture", property(ask))
    done = keep_generations(host.apt, {"alpha": "1:1.0"}, lambda _: None, (), 0.0)
    assert (done.problems, done.left) == ({}, {"alpha": "1:1.0"})


def test_without_any_archive_the_old_version_is_packed_again(host: Host) -> None:
    arrange(host)
    (host.root / "etc/alpha.conf").write_text("as changed here\n")
    host.repository.remove("alpha", "1:1.0")
    host.repository.write_index()
    host.install("other=1")  # Reads the lists: the old version is unknown from here on.
    assert not host.install("alpha=1:2.0").errors
    assert kept(host) == ["alpha_1%3a1.0_all.repacked.deb"]
    lose_repository(host)
    assert not host.install("alpha=1:1.0").errors
    assert host.state("alpha") == {"alpha": "1:1.0 installed"}
    assert (host.root / "etc/alpha.conf").read_text() == "as changed here\n"
    assert (host.root / "opt/alpha/run").stat().st_mode & 0o777 == 0o750


def test_a_repacked_package_has_the_fields_and_files_of_the_original(host: Host) -> None:
    arrange(host)
    (original,) = host.repository.directory.glob("alpha_1%3a1.0_all.deb")
    fields = set(read_control(original).splitlines())
    host.repository.remove("alpha", "1:1.0")
    host.repository.write_index()
    host.install("other=1")
    host.install("alpha=1:2.0")
    (repacked,) = Path(host.apt.cache_dir).glob("*.deb")
    assert set(read_control(repacked).splitlines()) == fields


def test_a_repository_that_is_gone_but_still_in_apts_lists_does_no_harm(host: Host) -> None:
    arrange(host)
    host.install("alpha=1:2.0")
    lose_repository(host)
    host.repository.write_index()
    assert not host.install("alpha=1:1.0").errors


def test_a_repacked_file_helps_when_the_repository_promises_what_it_no_longer_has(
    host: Host,
) -> None:
    arrange(host)
    host.repository.remove("alpha", "1:1.0")  # The index still lists it.
    assert not host.install("alpha=1:2.0").errors
    assert kept(host) == ["alpha_1%3a1.0_all.repacked.deb"]
    assert not host.install("alpha=1:1.0").errors
    assert host.state("alpha") == {"alpha": "1:1.0 installed"}


def test_what_can_neither_be_found_nor_packed_does_not_stop_the_update(host: Host) -> None:
    arrange(host)
    host.configure(cache_dir="/proc/nowhere")
    assert not host.install("alpha=1:2.0").errors


def test_a_bound_of_nothing_keeps_nothing(host: Host) -> None:
    arrange(host)
    host.configure(cache_max_bytes=0)
    assert not host.install("alpha=1:2.0").errors
    assert not Path(host.apt.cache_dir).exists()


def test_nothing_is_kept_for_a_first_installation(host: Host) -> None:
    host.publish("alpha", "1.0")
    host.install("alpha=1.0")
    assert kept(host) == []


def test_a_version_that_nobody_has_kept_is_not_found_offline(host: Host) -> None:
    arrange(host)
    lose_repository(host)
    assert reasons(host.install("alpha=1:3.0")) == {"alpha": "RepositoryUnreachable"}


def test_only_the_owner_may_read_the_cache(host: Host) -> None:
    arrange(host)
    host.install("alpha=1:2.0")
    (deb,) = Path(host.apt.cache_dir).glob("*.deb")
    assert Path(host.apt.cache_dir).stat().st_mode & 0o777 == 0o700
    assert deb.stat().st_mode & 0o777 == 0o600


def fill(cache: Cache, folder: Path, versions: range, size: int) -> None:
    for number in versions:
        file = folder / f"x_{number}_all.deb"
        file.write_bytes(b"x" * size)
        cache.add(Package("x", str(number)), file)
        ((target,)) = (cache.directory or folder).glob(f"x_{number}_all.deb")
        recently = time.time() - 1000 + number
        os.utime(target, (recently, recently))


def versions_in(cache: Cache) -> list[int]:
    assert cache.directory is not None
    return sorted(int(file.name.split("_")[1]) for file in cache.directory.glob("*.deb"))


def test_the_oldest_files_go_when_the_count_is_reached(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", max_files=3)
    fill(cache, tmp_path, range(1, 6), size=1)
    assert versions_in(cache) == [3, 4, 5]


def test_the_oldest_files_go_when_the_bytes_are_reached(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", max_bytes=250)
    fill(cache, tmp_path, range(1, 6), size=100)
    assert versions_in(cache) == [4, 5]


def test_a_file_in_use_is_the_last_to_go(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", max_files=3)
    fill(cache, tmp_path, range(1, 4), size=1)
    assert cache.find(Package("x", "1"))
    fill(cache, tmp_path, range(4, 5), size=1)
    assert versions_in(cache) == [1, 3, 4]


def test_drafts_of_a_killed_pass_are_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    stale = tmp_path / "drafts-4194999-abc"
    stale.mkdir()
    (stale / "half.deb").touch()
    with cache.drafts():
        assert not stale.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_control_file_is_utf_8_in_every_locale(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from ya_salt.packages import keeping; "
        "keeping._write_control(Path(sys.argv[1]), ['Maintainer: Jos\\u00e9 \\u042f'], [])"
    )
    # As under KOI8-R or Latin-1, which need not be there.
    bare = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", script, str(tmp_path / "control")]
    subprocess.run(command, env={**os.environ, **bare}, check=True)
    written = (tmp_path / "control" / "control").read_text(encoding="utf-8")
    assert written == "Maintainer: José Я\n"
