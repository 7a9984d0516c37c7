"""An update is undone: packages, what came along, and conffiles, without a network."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.debs import recording_scripts
from helpers.killed import die_at
from helpers.package_host import Host, needs_apt, reasons, wanted

from ya_salt.life import Generation, Life, Pin, Rejection, Trial
from ya_salt.model import InstalledPackage, Package
from ya_salt.packages import going_back, transaction
from ya_salt.packages.cache import Cache, find_protected
from ya_salt.packages.going_back import finish_going_back
from ya_salt.packages.keeping import can_go_back, keep_generation

pytestmark = needs_apt


def publish(host: Host, version: str, conffiles: dict[str, str], **details: object) -> None:
    files = {f"/etc/{name}": content for name, content in conffiles.items()}
    host.publish(
        "alpha", version, files={"/opt/alpha": version, **files}, conffiles=[*files], **details
    )


def conffiles(host: Host) -> dict[str, str]:
    found = (host.root / "etc").glob("*.conf*")
    return {path.name: path.read_text().strip() for path in found if path.is_file()}


def edit(host: Host, name: str, content: str) -> None:
    (host.root / "etc" / name).write_text(content)


def program(host: Host) -> str:
    return (host.root / "opt/alpha").read_text()


def fail_when(*words: str, script: str = "") -> str:
    """A maintainer script that fails for these first arguments."""
    return f'#!/bin/sh\n{script}\ncase "$1" in {"|".join(words)}) echo no >&2; exit 3;; esac\n'


# -- without a network ---------------------------------------------------------------------------


def test_nothing_is_asked_of_any_repository(host: Host) -> None:
    for version in ("1.0", "1.1"):
        publish(host, version, {})
    host.publish("beta", "1:1.0~rc1-2")
    host.publish("beta", "1:1.0-1")
    host.stand("alpha=1.0", "beta=1:1.0~rc1-2")
    host.stand("alpha=1.1", "beta=1:1.0-1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked = []

        def listen() -> None:
            while True:
                try:
                    asked.append(server.accept())
                except OSError:
                    return

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        port = server.getsockname()[1]
        sources = host.root / "etc/apt/sources.list"
        sources.write_text(f"deb [trusted=yes] http://127.0.0.1:{port}/ ./\n")
        before = host.apt_runs("install")
        assert not host.go_back("alpha=1.0", "beta=1:1.0~rc1-2").errors
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    assert asked == []
    assert host.updates() == 0
    assert host.apt_runs("install") - before == 1
    assert host.state("alpha", "beta") == {
        "alpha": "1.0 installed",
        "beta": "1:1.0~rc1-2 installed",
    }


def test_the_version_that_failed_is_not_packed_on_the_way_back(host: Host) -> None:
    for version in ("1.0", "1.1"):
        publish(host, version, {})
    host.stand("alpha=1.0")
    host.stand("alpha=1.1")
    shutil.rmtree(host.repository.directory)
    assert not host.go_back("alpha=1.0").errors
    assert [file.name for file in Path(host.apt.cache_dir).iterdir()] == ["alpha_1.0_all.deb"]


def test_what_is_not_kept_may_still_come_from_a_repository(host: Host) -> None:
    for version in ("1.0", "1.1"):
        publish(host, version, {})
    host.stand("alpha=1.0")
    host.stand("alpha=1.1")
    shutil.rmtree(host.apt.cache_dir)
    assert not host.go_back("alpha=1.0").errors
    assert host.state("alpha") == {"alpha": "1.0 installed"}


def test_a_held_package_goes_back_and_stays_held(host: Host) -> None:
    for version in ("1.0", "1.1"):
        publish(host, version, {})
    host.stand("alpha=1.0")
    host.stand("alpha=1.1")
    host.apt.hold(["alpha"])
    assert reasons(host.go_back("alpha=1.0")) == {"alpha": "Held"}
    assert program(host) == "1.1"
    assert not host.go_back("alpha=1.0", allow_held=True).errors
    assert host.apt.query(["alpha"])["alpha"] == InstalledPackage("alpha", "1.0", held=True)


def test_a_package_of_a_foreign_architecture_goes_back(host: Host) -> None:
    foreign = "i386" if host.apt.architecture == "amd64" else "amd64"
    arch = host.root / "var/lib/dpkg/arch"
    arch.parent.mkdir(parents=True, exist_ok=True)
    arch.write_text(f"{host.apt.architecture}\n{foreign}\n")
    for version in ("1.0", "1.1"):
        host.publish("lib", version, architecture=foreign, multi_arch="same")
    name = f"lib:{foreign}"
    assert not host.new_pass().install({"d": (Package(name, "1.0"),)}).errors
    assert not host.new_pass().install({"d": (Package(name, "1.1"),)}).errors
    shutil.rmtree(host.repository.directory)
    work = transaction.PackagePass(host.apt, back=["d"])
    assert not work.install({"d": (Package(name, "1.0"),)}).errors
    assert host.apt.query([name])[name].version == "1.0"


# -- what came along -----------------------------------------------------------------------------


def arrange_side(host: Host, **needs: str) -> None:
    """alpha 1.1 takes a library to 2.0 that no spec names, and that may be changed."""
    host.publish("lib", "1.0")
    host.publish("lib", "2.0")
    host.publish("alpha", "1.0", depends=needs.get("old", "lib"))
    host.publish("alpha", "1.1", depends="lib (>= 2.0)")
    host.configure(allow_removals=frozenset({"lib"}))
    host.stand("lib=1.0")
    host.stand("alpha=1.0")
    host.apt.mark_automatic(["lib"])
    host.stand("alpha=1.1")
    assert host.state("lib") == {"lib": "2.0 installed"}
    shutil.rmtree(host.repository.directory)


@pytest.mark.parametrize("needs", ["lib", "lib (<< 2.0)"])
def test_a_dependency_that_came_along_goes_back_too(host: Host, needs: str) -> None:
    arrange_side(host, old=needs)
    host.configure(allow_removals=frozenset())
    done = host.go_back("alpha=1.0")
    assert not done.errors
    assert host.state("alpha", "lib") == {"alpha": "1.0 installed", "lib": "1.0 installed"}
    assert {str(change) for change in done.changes} == {
        "change alpha from 1.1 to 1.0",
        "change lib from 2.0 to 1.0",
    }
    assert host.apt.read_automatic(["lib"]) == ("lib",)


def test_a_dependency_that_another_spec_names_stays(host: Host) -> None:
    arrange_side(host)
    assert not host.go_back("alpha=1.0", pinned={"lib": "2.0"}).errors
    assert host.state("alpha", "lib") == {"alpha": "1.0 installed", "lib": "2.0 installed"}


def test_a_dependency_that_somebody_changed_since_stays(host: Host) -> None:
    arrange_side(host)
    (host.repository.directory).mkdir()
    host.publish("lib", "3.0")
    host.stand("lib=3.0")
    assert not host.go_back("alpha=1.0").errors
    assert host.state("lib") == {"lib": "3.0 installed"}


def test_a_dependency_that_something_new_needs_stays(host: Host) -> None:
    arrange_side(host)
    host.repository.directory.mkdir()
    host.publish("other", "1.0", depends="lib (>= 2.0)")
    host.stand("other=1.0")
    assert not host.go_back("alpha=1.0").errors
    assert host.state("alpha", "lib", "other") == {
        "alpha": "1.0 installed",
        "lib": "2.0 installed",
        "other": "1.0 installed",
    }


def test_a_new_dependency_stays_unless_it_is_in_the_way(host: Host) -> None:
    host.publish("fresh", "1.0")
    host.publish("rival", "1.0")
    host.publish("alpha", "1.0", conflicts="rival")
    host.publish("alpha", "1.1", depends="fresh, rival")
    host.stand("alpha=1.0")
    host.stand("alpha=1.1")
    shutil.rmtree(host.repository.directory)
    assert not host.go_back("alpha=1.0").errors
    assert host.state("alpha", "fresh", "rival") == {
        "alpha": "1.0 installed",
        "fresh": "1.0 installed",
    }


def test_a_package_that_was_replaced_comes_back(host: Host) -> None:
    host.publish("alpha", "1.0")
    host.publish("old", "1.0")
    host.publish("new", "1.0", conflicts="old", replaces="old")
    host.stand("alpha=1.0 old=1.0")
    work = host.new_pass(replaceable={"alpha": ["old", "alpha"]})
    assert not work.install({"alpha": wanted("alpha=1.0 new=1.0")}).errors
    assert host.state("old", "new") == {"new": "1.0 installed"}
    shutil.rmtree(host.repository.directory)
    host.progress.clear()
    work = transaction.PackagePass(
        host.apt, host.progress.append, None, {"alpha": ["new"]}, ["alpha"]
    )
    assert not work.install({"alpha": wanted("alpha=1.0 old=1.0")}).errors
    assert host.state("old", "new") == {"old": "1.0 installed"}


# -- conffiles -----------------------------------------------------------------------------------

OLD = {"same.conf": "s", "plain.conf": "1", "edited.conf": "1", "later.conf": "1", "gone.conf": "g"}
NEW = {"same.conf": "s", "plain.conf": "2", "edited.conf": "2", "later.conf": "2", "new.conf": "n"}


def update(host: Host, **scripts: str) -> None:
    """1.0, with a conffile edited, goes to 1.1; one is edited then."""
    publish(host, "1.0", OLD)
    publish(host, "1.1", NEW, scripts=scripts)
    host.stand("alpha=1.0")
    edit(host, "edited.conf", "mine")
    host.stand("alpha=1.1")
    edit(host, "later.conf", "mine, too")


def test_conffiles_go_back_unless_they_were_edited(host: Host) -> None:
    update(host)
    assert conffiles(host)["edited.conf.dpkg-dist"] == "2"
    shutil.rmtree(host.repository.directory)
    assert not host.go_back("alpha=1.0").errors
    assert conffiles(host) == {**OLD, "edited.conf": "mine", "later.conf": "mine, too"}
    assert [*Path(host.apt.notes_dir, "alpha").iterdir()] == []


def test_an_edit_that_equals_the_new_version_stays(host: Host) -> None:
    publish(host, "1.0", {"a.conf": "1"})
    publish(host, "1.1", {"a.conf": "2"})
    host.stand("alpha=1.0")
    edit(host, "a.conf", "2")
    host.stand("alpha=1.1")
    assert not host.go_back("alpha=1.0").errors
    assert conffiles(host) == {"a.conf": "2"}


def test_what_scripts_of_the_update_did_to_conffiles_is_undone(host: Host) -> None:
    update(
        host,
        postinst="#!/bin/sh\nrm -f $DPKG_ROOT/etc/gone.conf\necho x >> $DPKG_ROOT/etc/same.conf\n",
    )
    (host.root / "etc/edited.conf").chmod(0o640)
    assert "gone.conf" not in conffiles(host)
    assert not host.go_back("alpha=1.0").errors
    assert conffiles(host) == {**OLD, "edited.conf": "mine", "later.conf": "mine, too"}
    assert (host.root / "etc/edited.conf").stat().st_mode & 0o777 == 0o640


def test_a_conffile_deleted_by_hand_stays_deleted(host: Host) -> None:
    update(host)
    for name in ("plain.conf", "gone.conf"):
        (host.root / "etc" / name).unlink()
    assert not host.go_back("alpha=1.0").errors
    left = {name: text for name, text in OLD.items() if name not in {"plain.conf", "gone.conf"}}
    assert conffiles(host) == {**left, "edited.conf": "mine", "later.conf": "mine, too"}


def test_a_new_conffile_that_was_edited_stays(host: Host) -> None:
    update(host)
    edit(host, "new.conf", "mine")
    assert not host.go_back("alpha=1.0").errors
    assert conffiles(host)["new.conf"] == "mine"


def test_a_file_that_was_there_before_the_package_had_it_stays(host: Host) -> None:
    publish(host, "1.0", {})
    publish(host, "1.1", {"new.conf": "n"})
    host.stand("alpha=1.0")
    edit(host, "new.conf", "mine")
    host.stand("alpha=1.1")
    assert not host.go_back("alpha=1.0").errors
    assert conffiles(host)["new.conf"] == "mine"


def test_a_new_conffile_comes_again_with_the_next_update(host: Host) -> None:
    update(host)
    assert not host.go_back("alpha=1.0").errors
    publish(host, "1.2", {**NEW, "new.conf": "n2"})
    host.stand("alpha=1.2")
    assert conffiles(host)["new.conf"] == "n2"


def test_two_updates_are_taken_back_at_once(host: Host) -> None:
    update(host)
    publish(host, "1.2", {**NEW, "plain.conf": "3", "third.conf": "3"})
    host.stand("alpha=1.2")
    shutil.rmtree(host.repository.directory)
    assert not host.go_back("alpha=1.0").errors
    assert conffiles(host) == {**OLD, "edited.conf": "mine", "later.conf": "mine, too"}


def test_leftovers_from_before_the_update_stay(host: Host) -> None:
    publish(host, "1.0", {"a.conf": "1"})
    publish(host, "1.1", {"a.conf": "2"})
    host.stand("alpha=1.0")
    edit(host, "a.conf.dpkg-dist", "somebody's")
    edit(host, "a.conf.dpkg-old", "somebody's")
    host.stand("alpha=1.1")
    assert not host.go_back("alpha=1.0").errors
    assert conffiles(host) == {
        "a.conf": "1",
        "a.conf.dpkg-dist": "somebody's",
        "a.conf.dpkg-old": "somebody's",
    }


def test_a_conffile_that_is_a_link_is_left_to_dpkg(host: Host, tmp_path: Path) -> None:
    publish(host, "1.0", {"a.conf": "1"})
    publish(host, "1.1", {"a.conf": "2"})
    host.stand("alpha=1.0")
    (tmp_path / "elsewhere").write_text("1")
    (host.root / "etc/a.conf").unlink()
    (host.root / "etc/a.conf").symlink_to(tmp_path / "elsewhere")
    host.stand("alpha=1.1")
    assert not host.go_back("alpha=1.0").errors
    assert (host.root / "etc/a.conf").is_symlink()
    assert (tmp_path / "elsewhere").read_text() == "1"


def test_notes_are_for_their_owner_alone(host: Host) -> None:
    update(host)
    for path in Path(host.apt.notes_dir, "alpha").rglob("*"):
        if path.is_dir():
            assert path.stat().st_mode & 0o077 == 0, path
    assert Path(host.apt.notes_dir, "alpha").stat().st_mode & 0o777 == 0o700


def test_an_update_that_changes_nothing_leaves_no_note(host: Host) -> None:
    publish(host, "1.0", OLD)
    publish(host, "1.1", NEW, scripts={"preinst": fail_when("upgrade")})
    host.stand("alpha=1.0")
    assert not Path(host.apt.notes_dir).exists()
    assert reasons(host.install("alpha=1.1")) == {"alpha": "PreinstFailed"}
    assert [*Path(host.apt.notes_dir, "alpha").iterdir()] == []


def test_an_update_whose_postinst_fails_is_undone(host: Host) -> None:
    publish(host, "1.0", OLD)
    publish(host, "1.1", NEW, scripts={"postinst": fail_when("configure")})
    host.stand("alpha=1.0")
    assert reasons(host.install("alpha=1.1")) == {"alpha": "PostinstFailed"}
    assert not host.go_back("alpha=1.0").errors
    assert host.state("alpha") == {"alpha": "1.0 installed"}
    assert conffiles(host) == OLD


# -- scripts that fail on the way down -----------------------------------------------------------


@pytest.mark.parametrize(
    ("of_old", "of_new", "runs", "state", "reason"),
    [
        pytest.param(
            {}, {"prerm": ["upgrade"]}, "1.1", "1.1 installed", "PrermFailed", id="prerm"
        ),
        pytest.param(
            {"preinst": ["upgrade"]}, {}, "1.1", "1.1 installed", "PreinstFailed", id="preinst"
        ),
        pytest.param(
            {}, {"postrm": ["upgrade"]}, "1.1", "1.1 installed", "PostrmFailed", id="postrm"
        ),
        pytest.param(
            {}, {"prerm": ["upgrade"], "postinst": ["abort-upgrade"]},
            "1.1", "1.1 half-configured", "PrermFailed", id="prerm, and back again",
        ),
        pytest.param(
            {"postinst": ["configure"]}, {},
            "1.0", "1.0 half-configured", "PostinstFailed", id="postinst",
        ),
    ],
)  # fmt: skip
def test_a_script_that_fails_leaves_one_version_whole_and_says_which(
    host: Host,
    of_old: dict[str, list[str]],
    of_new: dict[str, list[str]],
    runs: str,
    state: str,
    reason: str,
) -> None:
    marker = '[ -e "$DPKG_ROOT/going-down" ] || exit 0'
    old = {name: fail_when(*words, script=marker) for name, words in of_old.items()}
    new = {name: fail_when(*words, script=marker) for name, words in of_new.items()}
    publish(host, "1.0", OLD, scripts=old)
    publish(host, "1.1", NEW, scripts=new)
    host.stand("alpha=1.0")
    host.stand("alpha=1.1")
    (host.root / "going-down").touch()
    done = host.go_back("alpha=1.0")
    assert reasons(done) == {"alpha": reason}
    assert host.state("alpha") == {"alpha": state}
    assert program(host) == runs
    landed = done.landed["alpha"]
    assert (landed.is_back, landed.is_unchanged) == (runs == "1.0", runs == "1.1")
    assert f"alpha {runs}" in str(done.errors["alpha"])
    wanted_conffiles = OLD if runs == "1.0" else {**NEW, "gone.conf": "g"}
    found = conffiles(host)
    assert {name: found[name] for name in found if "dpkg" not in name} == wanted_conffiles


def test_a_script_that_only_the_newer_version_fails_is_overcome(host: Host) -> None:
    publish(host, "1.0", OLD, scripts=recording_scripts("prerm"))
    publish(host, "1.1", NEW, scripts={"prerm": fail_when("upgrade")})
    host.stand("alpha=1.0")
    host.stand("alpha=1.1")
    assert not host.go_back("alpha=1.0").errors
    assert conffiles(host) == OLD
    assert any("prerm failed-upgrade" in line for line in host.scripts())


def test_neither_version_is_called_whole_where_dpkg_knows_none(host: Host) -> None:
    marker = '[ -e "$DPKG_ROOT/going-down" ] || exit 0'
    scripts = {
        "preinst": fail_when("upgrade", script=marker),
        "postrm": fail_when("abort-upgrade", script=marker),
    }
    publish(host, "1.0", {}, scripts=scripts)
    publish(host, "1.1", {})
    host.stand("alpha=1.0")
    host.stand("alpha=1.1")
    (host.root / "going-down").touch()
    landed = host.go_back("alpha=1.0").landed["alpha"]
    assert (landed.is_back, landed.is_unchanged) == (False, False)
    assert "half-installed" in landed.words


def test_one_daemon_that_cannot_go_back_stops_no_other(host: Host) -> None:
    for version in ("1.0", "1.1"):
        publish(host, version, {}, scripts={"prerm": fail_when("upgrade")} if version > "1" else {})
        host.publish("beta", version)
    publish(host, "1.0", {})
    host.stand("alpha=1.0", "beta=1.0")
    host.stand("alpha=1.1", "beta=1.1")
    assert reasons(host.go_back("alpha=1.0", "beta=1.0")) == {"alpha": "PrermFailed"}
    assert host.state("alpha", "beta") == {"alpha": "1.1 installed", "beta": "1.0 installed"}


# -- killed on the way ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["begin_going_back", "end_going_back"])
def test_a_pass_that_is_killed_is_ended_by_the_next_one(host: Host, name: str) -> None:
    update(host, postinst="#!/bin/sh\nrm -f $DPKG_ROOT/etc/gone.conf\n")
    assert die_at(lambda: host.go_back("alpha=1.0"), transaction, (name,), 1)
    finish_going_back(host.apt)
    assert not host.go_back("alpha=1.0").errors
    assert conffiles(host) == {**OLD, "edited.conf": "mine", "later.conf": "mine, too"}
    assert [*Path(host.apt.notes_dir, "alpha").iterdir()] == []
    assert not Path(host.apt.notes_dir, ".going-back").exists()


def test_going_back_is_killed_at_every_file(host: Host) -> None:
    update(host, postinst="#!/bin/sh\nrm -f $DPKG_ROOT/etc/gone.conf\n")
    names = ("copy", "move", "remove")
    nth = 1
    while die_at(lambda: host.go_back("alpha=1.0"), going_back.copies, names, nth):
        nth += 1
        finish_going_back(host.apt)
        assert not host.go_back("alpha=1.0").errors
        assert conffiles(host) == {**OLD, "edited.conf": "mine", "later.conf": "mine, too"}, nth
        assert [*Path(host.apt.notes_dir, "alpha").iterdir()] == []
        edit(host, "later.conf", "1")
        host.stand("alpha=1.1")
        edit(host, "later.conf", "mine, too")
    assert nth > 4


def test_an_update_that_is_killed_before_its_end_is_known_is_taken_back(host: Host) -> None:
    publish(host, "1.0", OLD)
    publish(host, "1.1", NEW)
    host.stand("alpha=1.0")
    edit(host, "edited.conf", "mine")
    assert die_at(lambda: host.install("alpha=1.1"), transaction, ("complete_notes",), 1)
    assert host.state("alpha") == {"alpha": "1.1 installed"}
    edit(host, "later.conf", "mine, too")
    assert not host.go_back("alpha=1.0").errors
    assert conffiles(host) == {**OLD, "edited.conf": "mine", "later.conf": "mine, too"}


def test_notes_that_cannot_be_read_or_written_stop_nothing(host: Host) -> None:
    update(host)
    (note,) = Path(host.apt.notes_dir, "alpha").glob("*/note.json")
    note.write_text("{")
    assert not host.go_back("alpha=1.0").errors
    host.configure(notes_dir="/proc/nowhere")
    finish_going_back(host.apt)
    host.stand("alpha=1.1")
    assert not host.go_back("alpha=1.0").errors


# -- what is kept --------------------------------------------------------------------------------


def test_a_generation_that_became_ready_is_kept(host: Host) -> None:
    publish(host, "1.0", OLD)
    host.stand("alpha=1.0")
    assert keep_generation(host.apt, {"alpha": "1.0"}, host.progress.append) == {}
    kept = [file.name for file in Path(host.apt.cache_dir).iterdir()]
    assert kept == ["alpha_1.0_all.deb"]


def test_what_could_not_be_kept_is_told(host: Host) -> None:
    publish(host, "1.0", OLD)
    host.stand("alpha=1.0")
    told = keep_generation(host.apt, {"alpha": "1.0", "nothing": "2"}, host.progress.append)
    assert told.keys() == {"nothing"}
    host.configure(cache_max_bytes=0)
    assert keep_generation(host.apt, {"alpha": "1.0"}, host.progress.append).keys() == {"alpha"}
    host.configure(cache_max_bytes=1, cache_dir="/proc/nowhere")
    assert keep_generation(host.apt, {"alpha": "1.0"}, host.progress.append).keys() == {"alpha"}


def test_whether_going_back_is_possible_is_known_before(host: Host) -> None:
    for version in ("1.0", "1.1"):
        publish(host, version, {})
    host.stand("alpha=1.0")
    old = {"alpha": "1.0"}
    # What is installed is kept right before an update.
    assert can_go_back(host.apt, old, host.apt.query(old)) == {}
    host.stand("alpha=1.1")
    assert can_go_back(host.apt, old, host.apt.query(old)) == {}
    shutil.rmtree(host.apt.cache_dir)
    (why,) = can_go_back(host.apt, old, host.apt.query(old)).values()
    assert "alpha=1.0" in why
    assert "1.1 is installed" in why
    host.configure(cache_max_bytes=0)
    (why,) = can_go_back(host.apt, {"alpha": "1.1"}, host.apt.query(old)).values()
    assert "package_cache_bytes" in why


def generation(number: int, version: str) -> Generation:
    return Generation(number, f"m{number}", packages={"alpha": version})


def test_what_may_be_gone_back_to_is_protected() -> None:
    past = tuple(generation(number, f"1.{number}") for number in range(1, 5))

    def versions(life: Life) -> set[str]:
        return {package.version for package in find_protected([life])}

    assert versions(Life()) == set()
    assert versions(Life(generations=past)) == {"1.4"}
    failed = (*past, replace(generation(5, "1.5"), rejected="died"))
    assert versions(Life(generations=failed)) == {"1.4"}
    assert versions(Life(generations=past, trial=Trial("m", back_to=3))) == {"1.3", "1.4"}
    rejected = Rejection("m", "1.9", "w", 1.0, back_to=2)
    assert versions(Life(generations=past, rejection=rejected)) == {"1.2", "1.4"}
    assert versions(Life(generations=past, pin=Pin(1, "m", "me", 1.0))) == {"1.1", "1.4"}


def fill(folder: Path, ages: dict[str, float], now: float, size: int = 1) -> None:
    folder.mkdir(exist_ok=True)
    for version, age in ages.items():
        file = folder / f"x_{version}_all.deb"
        file.write_bytes(b"x" * size)
        os.utime(file, (now - age, now - age))


def versions_in(folder: Path) -> set[str]:
    return {file.name.split("_")[1] for file in folder.glob("*.deb")}


DAY = 86400.0


def test_files_go_after_seven_days_but_not_what_is_protected(tmp_path: Path) -> None:
    folder, now = tmp_path / "cache", 2e9
    fill(folder, {"1%3a1.0": 100 * DAY, "2": 6.9 * DAY, "3": 7.1 * DAY}, now)
    os.utime(folder, (now - 2 * DAY, now - 2 * DAY))
    cache = Cache(folder, protected={Package("x", "1:1.0")})
    assert cache.expire(now)
    assert versions_in(folder) == {"1%3a1.0", "2"}
    assert not cache.expire(now + DAY / 2), "once a day"
    assert cache.expire(now + 1.1 * DAY)
    assert versions_in(folder) == {"1%3a1.0"}


def test_what_is_protected_stays_over_every_bound(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    source = tmp_path / "x_9_all.deb"
    source.write_bytes(b"x" * 100)
    cache = Cache(folder, 2, 150, {Package("x", "1"), Package("x", "2")})
    fill(folder, {"1": 50, "2": 40, "3": 30}, time.time(), 100)
    cache.add(Package("x", "9"), source)
    assert versions_in(folder) == {"1", "2"}


def test_the_database_of_dpkg_is_as_before(host: Host) -> None:
    update(host)
    assert not host.go_back("alpha=1.0").errors
    argv = ("dpkg-query", f"--admindir={host.root}/var/lib/dpkg", "-W", "-f=${Conffiles}", "alpha")
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "new.conf" not in said
    assert "obsolete" not in said
