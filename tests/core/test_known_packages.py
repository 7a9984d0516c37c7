"""A process that asks dpkg again goes by what it was told only while dpkg's files are as then."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
from helpers.package_host import needs_apt

from ya_salt import as_left
from ya_salt.converge.known_packages import KnownPackages
from ya_salt.errors import PackageError
from ya_salt.model import InstalledPackage
from ya_salt.packages.apt import Apt

pytestmark = needs_apt

ALL = ("alpha", "beta", "nowhere")
PARAGRAPH = """\
Package: {name}
Status: install ok installed
Maintainer: nobody <nobody@example.invalid>
Architecture: all
Version: {version}
Description: nothing

"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What dpkg was asked about, question by question."""
    found: list[list[str]] = []
    query = Apt.query

    def ask(apt: Apt, names: Collection[str]) -> dict[str, InstalledPackage]:
        found.append(sorted(names))
        return query(apt, names)

    monkeypatch.setattr(Apt, "query", ask)
    return found


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Apt:
    """Of a host with two packages, whose dpkg was not at work lately."""
    monkeypatch.setattr(as_left, "SETTLED_S", 0.05)
    (tmp_path / "var/lib/dpkg/updates").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/info").mkdir()
    (tmp_path / "var/lib/dpkg/info/format").write_text("1\n")
    write_status(tmp_path / "var/lib/dpkg", alpha="1.0", beta="1.0")
    wait()
    return Apt(root=str(tmp_path))


def write_status(folder: Path, **versions: str) -> None:
    (folder / "status").write_text(
        "".join(PARAGRAPH.format(name=name, version=item) for name, item in versions.items())
    )


def wait() -> None:
    time.sleep(0.1)


def ask(known: KnownPackages, apt: Apt, *names: str) -> dict[str, str]:
    return {name: item.version for name, item in known.query(apt, names).items()}


def test_each_is_asked_about_once(apt: Apt, asked: list[list[str]]) -> None:
    known = KnownPackages()
    assert ask(known, apt, "alpha", "nowhere") == {"alpha": "1.0"}
    for _ in range(2):
        assert ask(known, apt, *ALL) == {"alpha": "1.0", "beta": "1.0"}
        assert ask(known, apt, "nowhere") == {}
    assert asked == [["alpha", "nowhere"], ["beta"]]


def update_unseen(folder: Path) -> None:
    """Its size and time of change are as they were."""
    found = (folder / "status").stat()
    write_status(folder, alpha="1.1", beta="1.0")
    os.utime(folder / "status", ns=(found.st_atime_ns, found.st_mtime_ns))


def update_in_its_journal(folder: Path) -> None:
    (folder / "updates/0000").write_text(PARAGRAPH.format(name="alpha", version="1.1"))


DEEDS: list[Callable[[Path], None]] = [update_unseen, update_in_its_journal]


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("settles", [True, False])
def test_what_dpkg_does_is_seen(
    apt: Apt, asked: list[list[str]], deed: Callable[[Path], None], *, settles: bool
) -> None:
    known = KnownPackages()
    ask(known, apt, *ALL)
    deed(apt.place.admin_dir)
    if settles:
        wait()
    assert ask(known, apt, *ALL) == {"alpha": "1.1", "beta": "1.0"}
    assert len(asked) == 2


def test_what_may_change_in_the_same_tick_is_asked_each_time(
    apt: Apt, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(as_left, "SETTLED_S", 60.0)
    known = KnownPackages()
    for _ in range(2):
        assert ask(known, apt, "alpha") == {"alpha": "1.0"}
    assert asked == [["alpha"], ["alpha"]]


def test_no_answer_is_kept_for_long(
    apt: Apt, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = KnownPackages()
    for later_s, questions in ((0.0, 1), (300.0, 1), (as_left.FULL_EVERY_S, 2), (1000.0, 2)):
        at = time.monotonic() + later_s
        with monkeypatch.context() as patch:
            patch.setattr(time, "monotonic", lambda at=at: at)
            ask(known, apt, "alpha")
        assert len(asked) == questions


def test_what_dpkg_could_not_tell_is_no_absence(
    apt: Apt, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = KnownPackages()
    with monkeypatch.context() as patch:
        patch.setattr(Apt, "_find_entries", _fail)
        with pytest.raises(PackageError):
            ask(known, apt, "alpha")
    assert ask(known, apt, "alpha") == {"alpha": "1.0"}


def _fail(_apt: Apt, _names: Collection[str]) -> None:
    raise PackageError("AptFailed", "dpkg-query failed")


def test_what_changes_while_it_is_asked_shows_the_next_time(
    apt: Apt, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = KnownPackages()
    query = Apt.query

    def answer_late(apt: Apt, names: Collection[str]) -> dict[str, InstalledPackage]:
        found = query(apt, names)
        write_status(apt.place.admin_dir, alpha="1.1", beta="1.0")
        wait()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Apt, "query", answer_late)
        assert ask(known, apt, "alpha") == {"alpha": "1.0"}
    assert ask(known, apt, "alpha") == {"alpha": "1.1"}
