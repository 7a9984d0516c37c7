"""Pure parts: what apt and dpkg say, read without apt or dpkg."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from ya_salt.errors import PackageError
from ya_salt.model import InstalledPackage, Package
from ya_salt.packages import command, dpkg, failures
from ya_salt.packages.keeping import make_control, parse_list
from ya_salt.packages.root import Root
from ya_salt.packages.simulation import Change, judge_install, judge_purge, parse_simulation

SIMULATION = """\
Reading package lists...
The following packages will be REMOVED:
  gone
Remv gone [1.0-1] [other:amd64 ]
Inst new (2.0 Debian:12/stable [amd64])
Inst up [1.0] (2.0 Debian:12/stable [amd64]) []
Inst foreign:i386 [1:1.0] (1:1.0 repo [i386])
Conf new (2.0 Debian:12/stable [amd64])
Purg conffiles [3.0]
"""


def test_a_simulation_is_read_line_by_line() -> None:
    assert parse_simulation(SIMULATION.splitlines()) == (
        Change("gone", "1.0-1", ""),
        Change("new", "", "2.0"),
        Change("up", "1.0", "2.0"),
        Change("foreign:i386", "1:1.0", "1:1.0"),
        Change("conffiles", "3.0", ""),
    )


NEW, UP, GONE = Change("a", "", "1"), Change("a", "1", "2"), Change("a", "1", "")


@pytest.mark.parametrize(
    ("change", "pinned", "allowed", "reason"),
    [
        pytest.param(NEW, {}, set(), "", id="a new dependency is free"),
        pytest.param(UP, {"a": "2"}, set(), "", id="a spec names the new version"),
        pytest.param(UP, {"a": "1"}, set(), "WouldChange", id="a spec names the old version"),
        pytest.param(UP, {"a": "1"}, {"a"}, "WouldChange", id="settings do not overrule a spec"),
        pytest.param(UP, {}, set(), "WouldChange", id="nobody names it"),
        pytest.param(UP, {}, {"a"}, "", id="settings allow a change"),
        pytest.param(GONE, {}, set(), "WouldRemove", id="a removal"),
        pytest.param(GONE, {}, {"a"}, "", id="settings allow a removal"),
        pytest.param(GONE, {"a": "1"}, {"a"}, "WouldRemove", id="what a spec names stays"),
        pytest.param(Change("a", "1", "1"), {}, set(), "", id="installed again"),
        pytest.param(NEW, {"a": "2"}, set(), "WouldChange", id="new, but at another version"),
    ],
)
def test_an_install_may(
    change: Change, pinned: dict[str, str], allowed: set[str], reason: str
) -> None:
    refusal = judge_install([change], pinned, allowed)
    assert (refusal.reason if refusal else "") == reason
    if refusal:
        assert refusal.packages == ("a",)
        assert str(change) in str(refusal)


def test_a_purge_takes_only_what_is_named_or_allowed() -> None:
    changes = [Change("a", "1", ""), Change("b", "1", "")]
    assert judge_purge(changes, {"a", "b"}, {}, set()) is None
    assert judge_purge(changes, {"a"}, {}, {"b"}) is None
    assert judge_purge(changes, {"a"}, {"b": "1.0"}, {"b"}) is not None
    refusal = judge_purge(changes, {"a"}, {}, set())
    assert refusal is not None
    assert refusal.packages == ("b",)


def query(text: str, *wanted: str, native: str = "amd64") -> dict[str, InstalledPackage]:
    found = dpkg.pick_entries(dpkg.parse_query(text), wanted, lambda: native)
    return {name: entry.installed for name, entry in found.items()}


def test_a_query_is_read_with_holds_and_leftovers() -> None:
    text = (
        "a\ta\tall\t1:1.0~x+y-z\tinstall\tok\tinstalled\n"
        "b\tb\tamd64\t2\thold\tok\thalf-configured\n"
        "c\tc\tall\t3\tdeinstall\tok\tconfig-files\n"
        "d\td\t\t\tunknown\tok\tnot-installed\n"
    )
    assert query(text, "a", "b", "c", "d") == {
        "a": InstalledPackage("a", "1:1.0~x+y-z"),
        "b": InstalledPackage("b", "2", "half-configured", held=True),
        "c": InstalledPackage("c", "3", "config-files"),
    }


BOTH = (
    "a:amd64\ta\tamd64\t1\tinstall\tok\tinstalled\n"
    "a:i386\ta\ti386\t2\tinstall\tok\thalf-configured\n"
    "b:i386\tb\ti386\t3\tinstall\tok\tinstalled\n"
    "c\tc\tall\t4\tinstall\tok\tinstalled\n"
)


@pytest.mark.parametrize(
    ("name", "native", "version"),
    [
        ("a", "amd64", "1"),
        ("a:amd64", "amd64", "1"),
        ("a:i386", "amd64", "2"),
        ("a", "i386", "2"),
        ("a", "arm64", None),
        ("b", "amd64", None),
        ("b:i386", "amd64", "3"),
        ("b:amd64", "amd64", None),
        ("c", "amd64", "4"),
        ("c:all", "amd64", "4"),
        ("c:amd64", "amd64", "4"),
        ("c:native", "amd64", "4"),
        ("c:i386", "amd64", None),
    ],
)
def test_a_foreign_architecture_is_another_package(
    name: str, native: str, version: str | None
) -> None:
    found = query(BOTH, name, native=native)
    assert [item.version for item in found.values()] == ([version] if version else [])
    assert set(found) == ({name} if version else set())


def test_an_architecture_is_asked_for_only_where_dpkg_leaves_it_open() -> None:
    def never() -> str:
        raise AssertionError

    assert dpkg.pick_entries(dpkg.parse_query(BOTH), ["c", "b:i386"], never)


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ("half-configured", "installed", "half-configured"),
        ("installed", "half-configured", "half-configured"),
        ("config-files", "installed", "installed"),
        ("installed", "config-files", "installed"),
    ],
)
def test_a_package_on_its_way_to_another_kind_is_as_bad_as_its_worst(
    first: str, second: str, status: str
) -> None:
    text = "".join(
        f"a\ta\t{machine}\t1\tinstall\tok\t{word}\n"
        for machine, word in (("amd64", first), ("all", second))
    )
    assert query(text, "a")["a"].status == status


def test_only_a_whole_package_at_the_exact_version_is_right() -> None:
    wanted = Package("a", "1.0")
    assert dpkg.is_right(wanted, {"a": InstalledPackage("a", "1.0")})
    assert not dpkg.is_right(wanted, {"a": InstalledPackage("a", "1.00")})
    assert not dpkg.is_right(wanted, {"a": InstalledPackage("a", "1.0", "unpacked")})
    assert not dpkg.is_right(wanted, {})


POSTINST = """\
Setting up a (1.0) ...
first line
last line
dpkg: error processing package a (--configure):
 installed a package post-installation script subprocess returned error exit status 7
dpkg: dependency problems prevent configuration of b:
 b depends on a; however:
  Package a is not configured yet.

dpkg: error processing package b (--configure):
 dependency problems - leaving unconfigured
E: Sub-process /usr/bin/dpkg returned an error code (1)
"""
KILLED = """\
Setting up a (1.0) ...
dpkg: error processing package a (--configure):
 installed a package post-installation script subprocess was killed by signal (Terminated)
"""
FULL = """\
Unpacking a (1.0) ...
dpkg: error processing archive /var/cache/apt/archives/a_1.0_all.deb (--unpack):
 cannot copy extracted data for './opt/big' to '/opt/big.dpkg-new': failed to write (No space left on device)
"""  # noqa: E501 - dpkg's own line
OVERWRITE = """\
dpkg: error processing archive /srv/a_1.0_all.deb (--unpack):
 trying to overwrite '/opt/x', which is also in package b 2
"""
NO_ROOM = """\
E: You don't have enough free space in /var/cache/apt/archives/.
"""
TIMEOUT = """\
E: Failed to fetch http://deb.example/a_1.0_all.deb  Connection timed out [IP: 1.2.3.4 80]
E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?
"""
NOT_FOUND = """\
E: Failed to fetch http://deb.example/pool/a_1.0_all.deb  404  Not Found [IP: 1.2.3.4 80]
"""
HASH = """\
E: Failed to fetch http://deb.example/pool/a_1.0_all.deb  Hash Sum mismatch
   Hashes of expected file:
"""
BREAKS = """\
The following packages have unmet dependencies:
 a : Breaks: b (< 2) but 1 is to be installed
E: Unable to correct problems, you have held broken packages.
"""
INTERRUPTED = """\
E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem.
"""
STRANGE = "E: The gods are against it\n"


@pytest.mark.parametrize(
    ("text", "reason", "package", "says"),
    [
        (POSTINST, "PostinstFailed", "a", "last line"),
        (POSTINST.replace("post-installation", "pre-removal"), "PrermFailed", "a", "prerm of a"),
        (FULL, "DiskFull", "a", "df -h"),
        (OVERWRITE, "Conflict", "a", "both it and b own /opt/x"),
        (NO_ROOM, "DiskFull", "", "df -h"),
        (TIMEOUT, "RepositoryUnreachable", "a", "Connection timed out"),
        (NOT_FOUND, "VersionNotFound", "a", "does not have it"),
        (HASH, "HashMismatch", "a", "index"),
        (BREAKS, "Conflict", "a", "Breaks: b"),
        (INTERRUPTED, "BrokenPackages", "", "dpkg --configure -a"),
        (STRANGE, "AptFailed", "", "The gods are against it"),
        ("", "AptFailed", "", "it said nothing"),
    ],
)
def test_failures_are_told_apart(text: str, reason: str, package: str, says: str) -> None:
    first = failures.find_failures(text.splitlines())[0]
    assert (first.reason, first.package) == (reason, package)
    assert says in first.message


def test_a_script_that_was_ended_is_a_timeout_and_not_a_failure() -> None:
    (found,) = failures.find_failures(KILLED.splitlines(), {"a"}, 900)
    assert found.reason == "ScriptTimeout"
    assert "900 s" in found.message
    (found,) = failures.find_failures(KILLED.splitlines())
    assert found.reason == "PostinstFailed"


def test_what_waits_for_a_broken_dependency_fails_with_its_reason() -> None:
    found = failures.find_failures(POSTINST.splitlines())
    assert [(f.package, f.reason) for f in found] == [
        ("a", "PostinstFailed"),
        ("b", "PostinstFailed"),
    ]
    assert "postinst of a" in found[1].message


def test_a_scripts_own_words_reach_the_error_and_no_more_than_ten_lines() -> None:
    talk = "".join(f"line {number}\n" for number in range(50))
    text = POSTINST.replace("first line\n", talk)
    (error, _) = failures.find_failures(text.splitlines())
    assert error.output.splitlines()[:2] == ["line 41", "line 42"]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("Unpacking a (2) over (1) ...", "unpacking a (2) over (1)"),
        ("Setting up a (1.0) ...", "setting up a (1.0)"),
        ("Get:1 file:/r ./ a 1.0 [918 B]", "fetching a 1.0 [918 B]"),
        ("Get:2 http://d/debian stable/main amd64 jq amd64 1.6 [65 kB]", "fetching jq 1.6 [65 kB]"),
        ("Get:2 http://d/debian stable/main amd64 tz all 2024a [6 kB]", "fetching tz 2024a [6 kB]"),
        ("Reading package lists...", ""),
    ],
)
def test_progress_is_short(line: str, text: str) -> None:
    assert command.describe_line(line) == text


def test_a_control_file_is_the_status_without_dpkgs_notes() -> None:
    status = [
        "Package: a",
        "Status: install ok installed",
        "Conffiles:",
        " /etc/a 0123",
        "Triggers-Awaited: b",
        "Description: short",
        " long",
    ]
    assert make_control(status) == "Package: a\nDescription: short\n long\n"


def test_a_diverted_file_is_taken_from_where_it_really_is() -> None:
    lines = ["/.", "/bin", "/bin/a", "diverted by b to: /bin/a.real", "/bin/c"]
    assert parse_list(lines) == {"/bin": "/bin", "/bin/a": "/bin/a.real", "/bin/c": "/bin/c"}


def test_scripts_see_a_plain_environment_with_proxies_and_no_secrets() -> None:
    ours = {"http_proxy": "http://p", "AWS_SECRET": "x", "LD_PRELOAD": "y"}
    environment = Root(Path("/")).environment(ours)
    assert environment["http_proxy"] == "http://p"
    assert environment["HOSTMAN"] == "1"
    assert environment["DEBIAN_FRONTEND"] == "noninteractive"
    assert not {"AWS_SECRET", "LD_PRELOAD", "APT_CONFIG"} & environment.keys()


def make_process(pid: int, name: str, parent: int, started: int = 0) -> command.Process:
    return command.Process(pid, name, parent, session=10, started=started)


def test_a_scripts_family_is_everything_it_started_and_nothing_older() -> None:
    everything = [
        command.Process(1, "init", 0, 1, 0),
        make_process(10, "apt-get", 2),
        make_process(11, "dpkg", 10),
        make_process(12, "postinst", 11, started=50),
        make_process(13, "sleep", 12, started=51),
        make_process(14, "orphan of this one", 1, started=52),
        make_process(15, "daemon of an earlier one", 1, started=40),
        make_process(16, "dpkg-deb", 11, started=50),
        command.Process(17, "setsid (it) left", 13, 17, 53),
    ]
    by_pid = {process.pid: process for process in everything}
    (script,) = command.find_scripts(by_pid, 10)
    assert script.pid == 12
    assert command.find_family(by_pid, script, 10) == {12, 13, 14, 17}


def test_a_process_name_may_hold_brackets_and_blanks() -> None:
    words = "S 5 6 7 " + " ".join(str(number) for number in range(8, 30))
    assert command.parse_stat(f"4 (a) b (c) {words}") == command.Process(4, "a) b (c", 5, 7, 23)


def run(code: str, quiet_s: float = 60.0) -> command.Finished:
    limits = command.Limits(60.0, quiet_s)
    worker = command.start_child([sys.executable, "-c", code], dict(os.environ))
    return command.follow(worker, _ignore, limits)


def _ignore(_: str) -> None:
    return


def test_a_command_that_says_nothing_is_ended() -> None:
    started = time.monotonic()
    done = run("import time; time.sleep(60)", quiet_s=0.3)
    assert done.went_quiet
    assert time.monotonic() - started < 10


def test_what_a_script_says_cannot_steer_a_terminal() -> None:
    code = "print('\\x1b]0;title\\x07\\x1b[2J a\\tb \\u202egnp.exe \\x9b31m plain')"
    done = run(code)
    assert done.lines == (r"\x1b]0;title\x07\x1b[2J a b \u202egnp.exe \x9b31m plain",)


def test_memory_stays_bounded_whatever_is_said() -> None:
    done = run("import sys\nfor n in range(30000): print(n)\nprint('x' * 5_000_000)\nprint('end')")
    assert len(done.lines) == 2000
    assert done.lines[-1] == "end"
    assert max(map(len, done.lines)) <= 1000


def test_a_command_that_we_leave_by_an_exception_is_ended() -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    code = "import time; print('x', flush=True); time.sleep(60)"
    started = time.monotonic()
    worker = command.start_child([sys.executable, "-c", code], dict(os.environ))
    with pytest.raises(KeyboardInterrupt):
        command.follow(worker, interrupt, command.Limits(60, 60, 60))
    assert time.monotonic() - started < 10


def test_a_command_that_says_nothing_is_told_of_each_second() -> None:
    told: list[str] = []
    code = "import time; time.sleep(2.6)"
    worker = command.start_child([sys.executable, "-c", code], dict(os.environ))
    assert command.follow(worker, _ignore, command.Limits(60, 60), on_quiet=told.append).code == 0
    assert len(told) == 2
    assert "at work for 2 s" in told[-1]


def test_a_tool_that_is_not_there_is_said_in_one_sentence() -> None:
    with pytest.raises(PackageError, match="no-such-tool is not on this host") as caught:
        command.run_short(["no-such-tool"], {})
    assert caught.value.reason == "AptMissing"
