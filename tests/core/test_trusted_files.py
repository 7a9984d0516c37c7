"""Who may have written what decides what runs, and who listens where we knock."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from helpers.processes import listen_as

from ya_salt.trusted_files import (
    UntrustedError,
    find_peer_problem,
    find_problem,
    make_directory,
    open_trusted,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def _stat(mode: int, uid: int = 0, gid: int = 0) -> os.stat_result:
    return os.stat_result((0o100000 | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("sentence", "found", "uid", "remedy"),
    [
        ("root's, for root", _stat(0o644), 0, ""),
        ("root's, for anybody", _stat(0o644), 1000, ""),
        ("one's own", _stat(0o600, 1000), 1000, ""),
        ("somebody's, for root", _stat(0o600, 1000), 0, "chown root /x"),
        ("somebody's, for another", _stat(0o600, 1000), 1001, "chown 1001 /x"),
        ("of a group, for root", _stat(0o664), 0, "chmod go-w /x"),
        ("of everybody, for root", _stat(0o646), 0, "chmod go-w /x"),
        ("of everybody, for its owner", _stat(0o646, 1000), 1000, "chmod go-w /x"),
        ("of another group, for its owner", _stat(0o660, 1000, 999), 1000, "chmod go-w /x"),
        ("of his own group, for its owner", _stat(0o660, 1000, os.getegid()), 1000, ""),
    ],
)
def test_it_is_ours_or_roots_and_nobody_else_writes_it(
    sentence: str, found: os.stat_result, uid: int, remedy: str
) -> None:
    problem = find_problem(found, "/x", uid)
    assert problem.endswith(remedy)
    assert bool(problem) == bool(remedy)


def test_a_loop_of_links_comes_to_an_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        open_trusted(str(tmp_path / "a"))


@pytest.mark.parametrize("way", ["../x/./f", "x/../x/f", "link/f", "deep/link/f", "absolute/f"])
def test_every_way_to_a_file_is_walked(tmp_path: Path, way: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "f").write_text("found")
    (tmp_path / "link").symlink_to("x")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "link").symlink_to("../link")
    (tmp_path / "absolute").symlink_to(tmp_path / "x")
    start = tmp_path / "x" if way.startswith("..") else tmp_path
    with os.fdopen(open_trusted(f"{start}/{way}")) as file:
        assert file.read() == "found"


def test_the_root_directory_can_be_opened() -> None:
    os.close(open_trusted("/"))


def test_a_file_on_the_way_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(NotADirectoryError):
        open_trusted(str(tmp_path / "f" / "g"))
    with pytest.raises(NotADirectoryError):
        make_directory(str(tmp_path / "f"), 0o700)


@needs_root
def test_what_is_behind_links_of_others_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    (tmp_path / "theirs").symlink_to("f")
    os.chown(tmp_path / "theirs", 1234, 1234, follow_symlinks=False)
    with pytest.raises(UntrustedError, match="chown root"):
        open_trusted(str(tmp_path / "theirs"))


@needs_root
@pytest.mark.parametrize(("uid", "is_trusted"), [(0, True), (1234, False)])
def test_a_socket_that_somebody_else_has_put_there_is_known(
    folder: Path, uid: int, is_trusted: bool
) -> None:
    folder.chmod(0o777)
    child = listen_as(folder / "s", uid)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(folder / "s"))
        problem = find_peer_problem(connection)
    os.waitpid(child, 0)
    assert bool(problem) != is_trusted
    assert is_trusted or "user 1234" in problem
