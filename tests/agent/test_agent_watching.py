"""Directories, by inotify and without it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.agents import AgentHost
from helpers.programs import wait_for

from ya_salt.agent.watching import Change, Target, Watcher


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    one = Watcher()
    yield one
    one.close()


def test_a_file_replaced_by_another_of_its_name_is_noticed_each_time(
    watcher: Watcher, tmp_path: Path
) -> None:
    file = tmp_path / "app.conf"
    file.write_text("1")
    watcher.watch([Target("watched", str(file))])
    for text in "234":
        new = tmp_path / "new"
        new.write_text(text)
        new.rename(file)
        assert Change("watched", str(file)) in watcher.read()
    (tmp_path / "other").write_text("x")
    assert watcher.read() == []


def test_a_pattern_and_a_directory_that_is_not_there_yet(watcher: Watcher, tmp_path: Path) -> None:
    watcher.watch([Target("watched", f"{tmp_path}/a/b/*.conf")])
    (tmp_path / "a").mkdir()
    assert watcher.read()
    (tmp_path / "a/b").mkdir()
    assert watcher.read()
    (tmp_path / "a/b/x.conf").write_text("1")
    found = watcher.read()
    assert Change("watched", f"{tmp_path}/a/b/x.conf") in found
    (tmp_path / "a/b/x.txt").write_text("1")
    assert watcher.read() == []


def test_a_directory_that_is_replaced_is_watched_anew(watcher: Watcher, tmp_path: Path) -> None:
    specs = tmp_path / "specs"
    specs.mkdir()
    watcher.watch([Target("specs", str(specs), is_directory=True)])
    specs.rename(tmp_path / "old")
    specs.mkdir()
    assert Change("specs") in [Change(item.source) for item in watcher.read()]
    watcher.read()
    (specs / "a.yaml").write_text("1")
    assert Change("specs", str(specs / "a.yaml")) in watcher.read()


def test_what_is_open_for_writing_is_unfinished(watcher: Watcher, tmp_path: Path) -> None:
    watcher.watch([Target("specs", str(tmp_path), is_directory=True)])
    path = tmp_path / "a.yaml"
    with path.open("w") as file:
        file.write("1")
        file.flush()
        assert all(item.is_unfinished for item in watcher.read())
    assert Change("specs", str(path)) in watcher.read()
    (tmp_path / "b.yaml").symlink_to(path)
    assert watcher.read() == [Change("specs", str(tmp_path / "b.yaml"))]


def test_more_events_than_the_kernel_keeps_are_a_look_at_everything(
    watcher: Watcher, tmp_path: Path
) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    watcher.watch([Target("specs", str(tmp_path), is_directory=True)])
    names = [tmp_path / "a", tmp_path / "b"]
    names[0].touch()
    for number in range(limit // 2 + 10):
        names[number % 2].rename(names[1 - number % 2])
    assert Change("specs") in watcher.read()
    (tmp_path / "c.yaml").write_text("1")
    assert Change("specs", str(tmp_path / "c.yaml")) in watcher.read()


def test_without_inotify_directories_are_looked_at_and_it_is_said_once(host: AgentHost) -> None:
    """The kernel's limit is for this user: others are used up before the agent starts."""
    code = (
        "import ctypes, sys\n"
        "libc = ctypes.CDLL(None)\n"
        "while libc.inotify_init1(0) >= 0: pass\n"
        "print('full', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as hog:
        assert hog.stdout is not None
        assert hog.stdout.readline() == b"full\n"
        host.start()
        host.drop("one")
        wait_for(lambda: host.is_running("one"), "one runs", 10)
        host.drop("two")
        wait_for(lambda: host.is_running("two"), "two runs", 10)
        assert host.log().count("directories are looked at every second instead") == 1
        hog.kill()
