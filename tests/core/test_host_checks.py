"""What is seen on the host before a daemon is stopped; what cannot be seen for sure is no news."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ya_salt.converge.host_checks import (
    find_harmless_program,
    find_missing_account,
    find_obstacle,
)
from ya_salt.model import DaemonSpec


def make_spec(**properties: str) -> DaemonSpec:
    named = {
        name.replace("__", "[") + "]" if "__" in name else name: text
        for name, text in properties.items()
    }
    return DaemonSpec("d", "1", "d.yaml", "0" * 64, named, ())


def find_code(**properties: str) -> str:
    found = find_obstacle(make_spec(**properties))
    return found.code if found else ""


@pytest.fixture
def root(folder: Path) -> Path:
    """A root of its own, with a program, links in it and a script without its interpreter."""
    folder.chmod(0o755)
    for name in ("usr/bin", "work"):
        (folder / name).mkdir(parents=True)
    (folder / "bin").symlink_to("usr/bin")
    program = folder / "usr/bin/program"
    program.write_text("#!/usr/bin/program2\n")
    program.chmod(0o755)
    (folder / "usr/bin/program2").symlink_to("/usr/bin/program3")
    (folder / "usr/bin/program3").write_bytes(b"\x7fELF")
    (folder / "usr/bin/program3").chmod(0o755)
    (folder / "usr/bin/lost").write_text("#!/usr/bin/nosuch -x\n")
    (folder / "usr/bin/lost").chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("properties", "code"),
    [
        ({"command_argv": "/bin/sh\t-c\ttrue"}, ""),
        ({"command_argv": "sh"}, ""),
        ({"command_argv": "nosuch-program"}, "InvalidCommand"),
        ({"command_argv": "/nonexistent"}, "InvalidCommand"),
        ({"command_argv": "/tmp"}, "InvalidCommand"),
        ({"command_argv": "/etc/passwd"}, "InvalidCommand"),
        ({"command_argv": "sh", "env__PATH": "/nonexistent"}, "InvalidCommand"),
        ({"command": "sh -c 'exit 0'"}, ""),
        ({"command": "$PROGRAM x"}, ""),
        ({"command": "/nonexistent x"}, "InvalidCommand"),
        ({"command_argv": "sh", "cwd": "/nonexistent"}, "InvalidPath"),
        ({"command_argv": "sh", "cwd": "/etc/passwd"}, "InvalidPath"),
        ({"command_argv": "bin/sh", "cwd": "/usr"}, ""),
        ({"command_argv": "bin/nosuch", "cwd": "/usr"}, "InvalidCommand"),
        ({"command_argv": "sh", "stdin_path": "/nonexistent"}, "InvalidValue"),
        ({"command_argv": "sh", "root": "/nonexistent"}, "InvalidPath"),
        ({"command_argv": "sh", "root": "/etc/passwd"}, ""),
        ({"command_argv": "sh", "stdout_path": "/nonexistent/log"}, "InvalidValue"),
        ({"command_argv": "sh", "stderr_path": "/etc/passwd/log"}, "InvalidValue"),
        ({"command_argv": "sh", "stdout_path": "/tmp"}, "InvalidValue"),
        ({"command_argv": "sh", "stdout_path": "/tmp/no-such-log"}, ""),
        ({"command_argv": "sh", "stdout_path": "/srv/logs/log", "bind": "/a /srv"}, ""),
        ({"command_argv": "sh", "symlink__/tmp": "/var"}, "InvalidValue"),
        ({"command_argv": "sh", "symlink__passwd": "/var", "cwd": "/etc"}, "InvalidValue"),
        ({"command_argv": "sh", "symlink__passwd": "/var"}, ""),
        ({"command_argv": "sh", "symlink__/nonexistent/x": "/var"}, ""),
        ({"command_argv": "sh", "symlink__/etc/nosuch": "/var", "user": "nobody"}, ""),
        # What is mounted over cannot be seen from here.
        ({"command_argv": "/mnt/x", "bind": "/srv /mnt ro"}, ""),
        ({"command_argv": "sh", "cwd": "/mnt/x", "bind": "/a /b;/srv /mnt"}, ""),
        ({"command_argv": "/mnt2/x", "bind": "/srv /mnt ro"}, "InvalidCommand"),
    ],
)
def test_what_is_there_and_what_is_not(properties: dict[str, str], code: str) -> None:
    assert find_code(**properties) == code


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        ("/usr/bin/program", ""),
        ("/bin/program", ""),
        ("program", ""),
        ("/usr/bin/lost", "InvalidCommand"),
        ("/bin/sh", "InvalidCommand"),
        ("/usr/bin/../bin/program3", ""),
    ],
)
def test_a_root_of_its_own_is_looked_into(root: Path, argv: str, code: str) -> None:
    assert find_code(command_argv=argv, root=str(root)) == code


def test_any_of_several_roots_will_do(root: Path) -> None:
    spec = make_spec(command_argv="/usr/bin/program3")
    assert find_obstacle(spec) is not None
    assert find_obstacle(spec, ("/", str(root))) is None


@pytest.mark.parametrize(
    ("mode", "user", "code"),
    [
        (0o755, "nobody", ""),
        (0o700, "nobody", "InvalidCommand"),
        (0o750, "nobody", "InvalidCommand"),
        (0o644, "root", "InvalidCommand"),
        (0o100, "root", ""),
    ],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="files of root's are looked at")
def test_the_user_must_be_allowed_to(root: Path, mode: int, user: str, code: str) -> None:
    program = root / "usr/bin/program3"
    program.chmod(mode)
    assert (
        find_code(command_argv=str(program), user=user, group=user.replace("nobody", "nogroup"))
        == code
    )
    program.chmod(0o755)
    (root / "usr").chmod(0o700)
    assert find_code(command_argv=str(program), user="nobody") == "InvalidCommand"


@pytest.mark.parametrize(
    ("net", "is_started"),
    [
        ("inherited", True),
        ("none", True),
        ("container x", True),
        ("L3 veth", False),
        ("steal eth0", False),
    ],
)
def test_nothing_is_started_aside_where_it_would_take_a_network(net: str, is_started: bool) -> None:
    assert bool(find_harmless_program(make_spec(net=net))) == is_started


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"user": "root", "group": "root"}, ""),
        ({"user": "4711", "group": "4711"}, ""),
        ({"user": "no-such-user"}, "this host has no user no-such-user"),
        ({"group": "no_such.group"}, "this host has no group no_such.group"),
        ({"user": "theirs", "group": "theirs"}, ""),
        ({"user": "their"}, "this host has no user their"),
        # In a root of the spec's own only portod can tell.
        ({"user": "no-such-user", "root": "/srv/root"}, ""),
    ],
)
def test_who_is_not_on_this_host_is_foretold(
    folder: Path, properties: dict[str, str], words: str
) -> None:
    (folder / "etc").mkdir()
    (folder / "etc/passwd").write_text("theirs:x:64321:64321::/:/bin/false\n")
    (folder / "etc/group").write_text("theirs:x:64321:\n")
    found = find_missing_account(make_spec(**properties), ("/", str(folder)))
    assert words in (found.message if found else "")
    assert bool(found) == bool(words)


@pytest.mark.parametrize(
    ("mode", "user", "code"),
    [(0o755, "nobody", "Permission"), (0o757, "nobody", ""), (0o700, "root", "")],
)
def test_links_of_host_mode_are_made_as_the_user(
    folder: Path, mode: int, user: str, code: str
) -> None:
    folder.chmod(mode)
    link = {f"symlink__{folder}/missing/link": "/tmp"}
    group = user.replace("nobody", "nogroup")
    given = {"command_argv": "sh", "user": user, "group": group, **link}
    assert find_code(virt_mode="host", **given) == code
    assert find_code(**given) == ""


@pytest.mark.parametrize(
    ("name", "mode", "user", "code"),
    [
        ("stdout_path", 0o600, "nobody", "InvalidValue"),
        ("stdout_path", 0o602, "nobody", ""),
        ("stderr_path", 0o600, "root", ""),
        ("stdin_path", 0o600, "nobody", "InvalidValue"),
        ("stdin_path", 0o604, "nobody", ""),
    ],
)
def test_streams_are_opened_as_the_user(
    folder: Path, name: str, mode: int, user: str, code: str
) -> None:
    folder.chmod(0o755)
    file = folder / "file"
    file.touch()
    file.chmod(mode)
    group = user.replace("nobody", "nogroup")
    given = {"command_argv": "sh", "user": user, "group": group, name: str(file)}
    assert find_code(**given) == code
    assert find_code(**given, capabilities_ambient="KILL;DAC_OVERRIDE") == ""
    assert find_code(**given, virt_mode="os") == ""
    # A file that is not there yet is made.
    made = {**given, name: str(folder / "other")}
    if name != "stdin_path":
        assert find_code(**made) == ("InvalidValue" if user == "nobody" else "")
