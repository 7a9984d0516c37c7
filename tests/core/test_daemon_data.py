"""Data that are copied before an update and go back with it: what is kept, what is refused."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.killed import die_at

from ya_salt import copies
from ya_salt.converge import daemon_data
from ya_salt.converge.daemon_data import (
    carry_state,
    drop_state,
    find_going_back,
    find_obstacle,
    find_obstacle_to_copy,
    has_state,
    restore_state,
    save_state,
)
from ya_salt.copies import CopyError
from ya_salt.life import Life, Pin, Rejection, Trial
from ya_salt.model import DaemonSpec, UpdatePolicy

KEY = "abc123"


@pytest.fixture
def state_dir(tmp_path: Path) -> str:
    folder = tmp_path / "state-dir"
    folder.mkdir(mode=0o700)
    return str(folder)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Everything that a tree may hold, for two accounts where we may."""
    top = tmp_path / "lib/alpha"
    (top / "deep/er").mkdir(parents=True)
    (top / "db").write_bytes(b"1.0")
    (top / "db").chmod(0o4750)
    (top / "deep/er/file").write_bytes(b"x" * 5000)
    (top / "twice").write_bytes(b"one")
    os.link(top / "twice", top / "deep/again")
    (top / "link").symlink_to("/etc/passwd")
    (top / "nowhere").symlink_to("no such file")
    with (top / "holes").open("wb") as file:
        file.truncate(1 << 24)
        file.seek(1 << 23)
        file.write(b"here")
    if os.geteuid() == 0:
        os.chown(top / "db", 1234, 2345)
        os.chown(top, 1234, 2345)
        os.chown(top / "link", 1234, 2345, follow_symlinks=False)
    os.setxattr(top / "db", "user.colour", b"blue")
    (top / "deep").chmod(0o500)
    for path in (top / "db", top / "deep", top / "link", top):
        os.utime(path, ns=(10**18, 10**18 + 7), follow_symlinks=False)
    return top


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another file system."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def describe(top: Path) -> dict[str, object]:
    """All that a copy has to keep."""
    found: dict[str, object] = {}
    for path in sorted([top, *top.rglob("*")]):
        seen = path.lstat()
        kind = stat.S_IFMT(seen.st_mode)
        content: object = None
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = (path.read_bytes(), sorted(os.listxattr(path)), seen.st_nlink)
        owner = (seen.st_uid, seen.st_gid)
        found[str(path.relative_to(top))] = (
            kind, stat.S_IMODE(seen.st_mode), owner, seen.st_mtime_ns, content
        )  # fmt: skip
    return found


def spoil(top: Path) -> None:
    """What a version does that fails."""
    shutil.rmtree(top / "deep")
    (top / "db").write_bytes(b"1.1, and unreadable for 1.0")
    (top / "new").write_bytes(b"new")
    (top / "link").unlink()


def list_ours(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if ".ya-salt" in path.name]


# -- copying and putting back --------------------------------------------------------------------


def test_all_of_a_tree_comes_back(state_dir: str, data: Path) -> None:
    before = describe(data)
    assert save_state(state_dir, "alpha", KEY, [str(data)]) == ()
    assert describe(data) == before
    spoil(data)
    assert restore_state(state_dir, "alpha", KEY) == (str(data),)
    assert describe(data) == before
    assert (data / "holes").stat().st_blocks * 512 < 1 << 20
    assert (data / "twice").stat().st_ino == (data / "deep/again").stat().st_ino
    assert list_ours(data.parent) == []
    assert list(Path(state_dir, "generations/alpha").iterdir()) == []


def test_data_of_another_file_system_come_back(state_dir: str, data: Path, elsewhere: Path) -> None:
    top = elsewhere / "lib/alpha"
    subprocess.run(("cp", "-a", "--sparse=always", str(data.parent), str(elsewhere)), check=True)
    before = describe(top)
    save_state(state_dir, "alpha", KEY, [str(top)])
    spoil(top)
    restore_state(state_dir, "alpha", KEY)
    assert describe(top) == before
    assert list_ours(elsewhere) == []
    assert list(Path(state_dir, "generations/alpha").iterdir()) == []


def test_what_was_not_there_is_gone_again(state_dir: str, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    paths = [str(tmp_path / "lib/fresh"), str(tmp_path / "lib/never"), str(tmp_path / "no/way")]
    save_state(state_dir, "alpha", KEY, paths)
    (tmp_path / "lib/fresh").mkdir()
    (tmp_path / "lib/fresh/x").touch()
    restore_state(state_dir, "alpha", KEY)
    assert list((tmp_path / "lib").iterdir()) == []


def test_one_file_and_a_link_come_back(state_dir: str, tmp_path: Path) -> None:
    file, link = tmp_path / "a file", tmp_path / "current"
    file.write_text("old")
    link.symlink_to("releases/1.0")
    save_state(state_dir, "alpha", KEY, [str(file), str(link)])
    file.unlink()
    link.unlink()
    link.symlink_to("releases/1.1")
    restore_state(state_dir, "alpha", KEY)
    assert file.read_text() == "old"
    assert str(link.readlink()) == "releases/1.0"


def test_what_lies_in_the_way_from_earlier_does_no_harm(state_dir: str, tmp_path: Path) -> None:
    lib = tmp_path / "lib"
    (lib / "a").mkdir(parents=True)
    save_state(state_dir, "alpha", KEY, [str(lib / "a"), str(lib / "b")])
    (lib / "b").mkdir()
    for name in ("a", "b"):
        for way in ("old", "fresh"):
            (lib / f".ya-salt-{way}-{name}").mkdir()
            (lib / f".ya-salt-{way}-{name}/stale").touch()
    restore_state(state_dir, "alpha", KEY)
    assert [path.name for path in lib.iterdir() if "fresh" not in path.name] == ["a"]
    assert list((lib / "a").iterdir()) == []


def test_it_is_put_back_once(state_dir: str, data: Path) -> None:
    save_state(state_dir, "alpha", KEY, [str(data)])
    restore_state(state_dir, "alpha", KEY)
    (data / "db").write_text("written since by 1.0")
    assert restore_state(state_dir, "alpha", KEY) == ()
    assert (data / "db").read_text() == "written since by 1.0"


def test_what_was_saved_first_stays_for_the_same_update(state_dir: str, data: Path) -> None:
    save_state(state_dir, "alpha", KEY, [str(data)])
    (data / "db").write_text("1.1")
    save_state(state_dir, "alpha", KEY, [str(data)])
    restore_state(state_dir, "alpha", KEY)
    assert (data / "db").read_bytes() == b"1.0"


def test_another_update_forgets_the_one_before(state_dir: str, data: Path) -> None:
    save_state(state_dir, "alpha", KEY, [str(data)])
    save_state(state_dir, "alpha", "def456", [str(data)])
    assert not has_state(state_dir, "alpha", KEY)
    assert has_state(state_dir, "alpha", "def456")


def test_sockets_devices_and_fifos_are_told_and_left_out(state_dir: str, data: Path) -> None:
    os.mkfifo(data / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(data / "socket"))
    said = save_state(state_dir, "alpha", KEY, [str(data)])
    assert len(said) == 2
    assert "fifo is a FIFO" in " ".join(said)
    assert "socket is a socket" in " ".join(said)
    restore_state(state_dir, "alpha", KEY)
    assert not (data / "fifo").exists()


def test_copies_are_for_root_alone(state_dir: str, data: Path) -> None:
    save_state(state_dir, "alpha", KEY, [str(data)])
    for folder in ("generations", "generations/alpha", f"generations/alpha/state-{KEY}"):
        assert Path(state_dir, folder).stat().st_mode & 0o777 == 0o700


def test_it_is_removed_when_the_update_is_over(state_dir: str, data: Path) -> None:
    save_state(state_dir, "alpha", KEY, [str(data)])
    Path(state_dir, "generations/alpha/7.json").touch()
    drop_state(state_dir, "alpha")
    drop_state(state_dir, "nobody")
    assert [path.name for path in Path(state_dir, "generations/alpha").iterdir()] == ["7.json"]


# -- killed --------------------------------------------------------------------------------------


def test_putting_back_is_killed_at_every_step(state_dir: str, tmp_path: Path) -> None:
    _kill_everywhere(state_dir, tmp_path / "lib")


def test_putting_back_on_another_file_system_is_killed_at_every_step(
    state_dir: str, elsewhere: Path
) -> None:
    _kill_everywhere(state_dir, elsewhere / "lib")


def _kill_everywhere(state_dir: str, lib: Path) -> None:
    nth = 1
    while True:
        shutil.rmtree(lib, ignore_errors=True)
        (lib / "a").mkdir(parents=True)
        (lib / "a/db").write_text("1.0")
        (lib / "b").write_text("1.0")
        paths = [str(lib / "a"), str(lib / "b"), str(lib / "c")]
        save_state(state_dir, "alpha", KEY, paths)
        for path in ("a/db", "a/more", "b", "c"):
            (lib / path).write_text("1.1")

        def put_back() -> None:
            restore_state(state_dir, "alpha", KEY)

        was_killed = die_at(put_back, copies, ("copy", "move", "remove", "exists"), nth)
        restore_state(state_dir, "alpha", KEY)
        found = {str(path.relative_to(lib)): path for path in lib.rglob("*")}
        assert found.keys() == {"a", "a/db", "b"}, nth
        assert found["a/db"].read_text() == found["b"].read_text() == "1.0", nth
        assert not has_state(state_dir, "alpha", KEY)
        if not was_killed:
            break
        nth += 1
    assert nth > 20


def test_saving_is_killed_at_every_step(state_dir: str, data: Path) -> None:
    before = describe(data)
    nth = 1

    def save() -> None:
        save_state(state_dir, "alpha", KEY, [str(data)])

    while die_at(save, copies, ("_copy", "exists"), nth):
        nth += 1
        assert not has_state(state_dir, "alpha", KEY)
        save()
        spoil(data)
        restore_state(state_dir, "alpha", KEY)
        assert describe(data) == before
    assert nth > 8


# -- refused -------------------------------------------------------------------------------------


def test_links_on_the_way_are_not_followed(state_dir: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(data.parent)
    path = str(tmp_path / "way/alpha")
    assert f"{tmp_path}/way is a link to {data.parent}" in find_obstacle_to_copy(state_dir, [path])
    with pytest.raises(CopyError, match="is a link"):
        save_state(state_dir, "alpha", KEY, [path])
    assert not has_state(state_dir, "alpha", KEY)


def test_a_parent_that_was_swapped_for_a_link_is_not_followed(
    state_dir: str, data: Path, tmp_path: Path
) -> None:
    save_state(state_dir, "alpha", KEY, [str(data)])
    victim = tmp_path / "victim"
    (victim / "alpha").mkdir(parents=True)
    data.parent.rename(tmp_path / "moved")
    data.parent.symlink_to(victim)
    with pytest.raises(CopyError, match="is a link"):
        restore_state(state_dir, "alpha", KEY)
    assert list((victim / "alpha").iterdir()) == []
    assert has_state(state_dir, "alpha", KEY)


@pytest.mark.parametrize("path", ["/var/lib", "/usr/bin/", "/etc/./ssl", "/srv", "//var//log"])
def test_places_of_the_whole_host_are_refused(state_dir: str, path: str) -> None:
    assert "not a daemon's own" in find_obstacle_to_copy(state_dir, [path])
    with pytest.raises(CopyError, match="not a daemon's own"):
        save_state(state_dir, "alpha", KEY, [path])


def test_the_state_directory_is_no_daemons_data(state_dir: str) -> None:
    for path in (state_dir, f"{state_dir}/debs", str(Path(state_dir).parent)):
        assert "state directory" in find_obstacle_to_copy(state_dir, [path])


def test_mount_points_are_refused(state_dir: str) -> None:
    mounted = [place for place in ("/dev/shm", "/dev/pts", "/proc/sys") if os.path.ismount(place)]
    assert mounted
    for path in mounted:
        assert "a file system is mounted at" in find_obstacle_to_copy(state_dir, [path])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can fill a file system of its own")
def test_a_full_disk_refuses_before_anything_is_done(state_dir: str, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(small))
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        data = tmp_path / "much"
        data.write_bytes(b"x" * (40 << 20))
        words = find_obstacle_to_copy(str(small), [str(data)])
        assert "40 MiB" in words
        assert str(small) in words
        data.write_bytes(b"x" * (20 << 20))
        assert find_obstacle_to_copy(str(small), [str(data)]) == ""
        # It filled up meanwhile: nothing is left of a copy that failed.
        (small / "filler").write_bytes(b"x" * (80 << 20))
        with pytest.raises(CopyError, match="No space left"):
            save_state(str(small), "alpha", KEY, [str(data)])
        assert list((small / "generations/alpha").iterdir()) == []
        # Put back it has to find room beside what is there.
        (small / "filler").unlink()
        big = small / "big"
        big.write_bytes(b"x" * (40 << 20))
        words = find_obstacle_to_copy(state_dir, [str(big)])
        assert "put back" in words
    finally:
        subprocess.run(("umount", str(small)), check=True)


def test_too_much_is_refused(state_dir: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "MAX_ENTRIES", 5)
    assert "name fewer" in find_obstacle_to_copy(state_dir, [str(data)])
    with pytest.raises(CopyError, match="name fewer"):
        save_state(state_dir, "alpha", KEY, [str(data)])
    monkeypatch.undo()
    deep = data
    for _ in range(copies.MAX_DEPTH + 1):
        deep /= "d"
    deep.mkdir(parents=True)
    assert "deep" in find_obstacle_to_copy(state_dir, [str(data)])


# -- when ----------------------------------------------------------------------------------------


def make_spec(*paths: str) -> DaemonSpec:
    return DaemonSpec("alpha", "1.1", "/x", "d", {}, (), update=UpdatePolicy(state=paths))


def test_a_trial_copies_and_a_rejection_puts_back(state_dir: str, data: Path) -> None:
    spec = make_spec(str(data))
    trial = Life(trial=Trial(KEY, back_to=1))
    carry_state(state_dir, spec, Life())
    assert not has_state(state_dir, "alpha", KEY)
    carry_state(state_dir, spec, Life(trial=Trial(KEY)))
    assert not has_state(state_dir, "alpha", KEY), "a first installation has nothing to go back to"
    carry_state(state_dir, spec, trial)
    assert has_state(state_dir, "alpha", KEY)
    spoil(data)
    carry_state(state_dir, make_spec(), Life(rejection=Rejection(KEY, "1.1", "died", 1.0, 1)))
    assert (data / "db").read_bytes() == b"1.0"


def test_somebody_who_goes_back_by_hand_has_the_data_back(state_dir: str, data: Path) -> None:
    carry_state(state_dir, make_spec(str(data)), Life(trial=Trial(KEY, back_to=1)))
    spoil(data)
    carry_state(state_dir, make_spec(), Life(pin=Pin(1, KEY, "me", 1.0)))
    assert (data / "db").read_bytes() == b"1.0"


def test_an_obstacle_is_looked_for_before_an_update_alone(state_dir: str) -> None:
    spec, trial = make_spec("/var/lib"), Life(trial=Trial(KEY, back_to=1))
    assert find_obstacle(state_dir, spec, trial)
    assert find_obstacle(state_dir, spec, Life()) == ""
    assert find_obstacle(state_dir, make_spec(), trial) == ""


def test_who_goes_back_is_whose_update_is_over_and_was_not_good() -> None:
    rejection = Rejection(KEY, "1.1", "died", 1.0, 1)
    lives = {
        "plain": Life(),
        "tried": Life(trial=Trial(KEY, back_to=1)),
        "rejected": Life(rejection=rejection),
        "pinned": Life(pin=Pin(1, KEY, "me", 1.0)),
    }
    assert set(find_going_back(lives)) == {"rejected", "pinned"}


def test_a_key_names_no_path(state_dir: str) -> None:
    for key in ("", "../x", "a/b", "."):
        with pytest.raises(CopyError):
            daemon_data.has_state(state_dir, "alpha", key)
