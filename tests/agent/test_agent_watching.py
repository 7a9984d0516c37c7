"""Directories, by inotify and without it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.agents import AgentHost
from helpers.programs import wait_for

from ya_salt.agent.daemons_directory import PATIENCE_S
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


@pytest.fixture
def no_inotify() -> list[str]:
    """A command line's beginning: the program is in a user namespace that has no inotify at all.

    What others on this machine use, and how much, is neither here nor there.
    """
    become = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'
    words = ["unshare", "--user", "--map-root-user", "sh", "-c", become, "sh"]
    try:
        done = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if done.returncode:
        pytest.skip(f"no user namespace can be made here: {done.stderr.strip()}")
    return words


def test_without_inotify_directories_are_looked_at_and_it_is_said_once(
    host: AgentHost, no_inotify: list[str]
) -> None:
    host.prefix = no_inotify
    host.start()
    host.drop("one")
    wait_for(lambda: host.is_running("one"), "one runs")
    host.drop("two")
    wait_for(lambda: host.is_running("two"), "two runs")
    assert host.log().count("directories are looked at every second instead") == 1


def ask_without_inotify(no_inotify: list[str], folder: Path, text: str) -> str:
    """What lines with a `watcher` of `folder`/a.yaml print, where there is no inotify."""
    begin = (
        "import sys\n"
        "from pathlib import Path\n"
        "from ya_salt.agent.watching import Target, Watcher\n"
        "folder, limit = Path(sys.argv[1]), Path('/proc/sys/user/max_inotify_instances')\n"
        "watcher, targets = Watcher(), [Target('watched', str(folder / 'a.yaml'))]\n"
        "watcher.watch(targets)\n"
        "assert watcher.trouble\n"
    )
    done = subprocess.run(
        [*no_inotify, sys.executable, "-c", begin + text, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_inotify_what_came_before_the_next_look_is_seen(
    no_inotify: list[str], tmp_path: Path
) -> None:
    """A pass, after which the directories are found again, comes between two looks."""
    text = (
        "(folder / 'a.yaml').touch()\n"
        "watcher.watch(targets)\n"
        "print({change.source for change in watcher.scan()})\n"
    )
    assert ask_without_inotify(no_inotify, tmp_path, text) == "{'watched'}"


def test_what_came_between_the_last_look_and_inotify_is_seen(
    no_inotify: list[str], tmp_path: Path
) -> None:
    text = (
        "(folder / 'a.yaml').touch()\n"
        "limit.write_text('8')\n"
        "print([change.source for change in watcher.watch(targets)], watcher.trouble)\n"
        "print([change.source for change in watcher.watch(targets)])\n"
    )
    assert ask_without_inotify(no_inotify, tmp_path, text) == "['watched'] \n[]"


def test_what_is_watched_only_now_may_have_changed_before(watcher: Watcher, tmp_path: Path) -> None:
    specs, conf = tmp_path / "specs", tmp_path / "conf"
    for folder in (specs, conf):
        folder.mkdir()
    targets = [Target("specs", str(specs), is_directory=True)]
    watcher.watch(targets)
    assert watcher.watch(targets) == []
    targets.append(Target("watched", str(conf / "app.conf")))
    assert watcher.watch(targets) == [Change("watched")]
    assert watcher.watch(targets) == []


def test_a_watched_file_that_changes_during_the_pass_that_is_the_first_to_know_of_it(
    host: AgentHost,
) -> None:
    file = host.folder / "conf" / "app.conf"
    file.parent.mkdir()
    file.write_text("1")
    host.start()
    text = host.text("one").replace(
        "min_ready_s: 0", f"min_ready_s: 4\n  ready_timeout_s: 60\n  watch: [{{path: {file}}}]"
    )
    draft = host.folder / "draft"
    draft.write_text(text)
    draft.rename(host.specs_dir / "one.yaml")
    wait_for(lambda: host.is_running("one"), "one runs")
    pid = host.value("one", "root_pid")
    # Its directory is watched when that pass is over.
    file.write_text("2")
    wait_for(lambda: host.value("one", "root_pid") not in {"", pid}, "one has read it anew")


# -- files that are being written ----------------------------------------------------------------


def sed(path: Path) -> None:
    subprocess.run(["sed", "-i", "s/100Mb/200Mb/", str(path)], check=True)


def vim(path: Path) -> None:
    """With backup and writebackup: a try whether files can be made, a backup, a new file."""
    text = path.read_text().replace("100Mb", "200Mb")
    attempt, backup = path.with_name("4913"), path.with_name(f"{path.name}~")
    attempt.touch()
    attempt.unlink()
    path.rename(backup)
    path.write_text(text)
    path.chmod(0o644)
    backup.unlink()


def rsync(path: Path) -> None:
    draft = path.with_name(f".{path.name}.Xy12Zw")
    text = path.read_text().replace("100Mb", "200Mb")
    with draft.open("w") as file:
        for part in (text[:20], text[20:]):
            file.write(part)
            file.flush()
    draft.chmod(0o644)
    draft.rename(path)


def library(path: Path) -> None:
    """One whose temporary file has a name like that of a spec file."""
    draft = path.with_name("tmpab12cd.yaml")
    draft.write_text(path.read_text().replace("100Mb", "200Mb"))
    draft.replace(path)


WRITERS = [sed, vim, rsync, library]


@pytest.mark.parametrize("write", WRITERS)
def test_what_is_said_last_of_a_file_holds(
    write: Callable[[Path], None], watcher: Watcher, tmp_path: Path
) -> None:
    path = tmp_path / "one.yaml"
    path.write_text("memory_limit: 100Mb\n")
    watcher.watch([Target("specs", str(tmp_path), is_directory=True)])
    write(path)
    last = {change.path: change.is_unfinished for change in watcher.read()}
    assert str(path) in last
    assert not any(last.values()), last


def test_a_file_that_is_opened_again_is_unfinished(watcher: Watcher, tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    watcher.watch([Target("specs", str(tmp_path), is_directory=True)])
    path.write_text("1")
    with path.open("a") as file:
        file.write("2")
        file.flush()
        assert watcher.read()[-1] == Change("specs", str(path), is_unfinished=True)


@pytest.mark.parametrize("write", WRITERS)
def test_a_temporary_file_that_is_gone_is_no_reason(
    write: Callable[[Path], None], host: AgentHost
) -> None:
    host.drop("one", "memory_limit: 100Mb")
    host.start()
    pid = host.value("one", "root_pid")
    write(host.specs_dir / "one.yaml")
    wait_for(lambda: host.value("one", "memory_limit") == str(200 << 20), "the new limit")
    assert host.value("one", "root_pid") == pid
    # As long as a file that is being written may be waited for.
    time.sleep(PATIENCE_S + 1)
    told = {line.partition("a pass, as ")[2] for line in host.log().splitlines()} - {""}
    assert told == {"one.yaml changed"}


def test_a_writer_that_dies_leaves_no_reason(host: AgentHost) -> None:
    host.start()
    path = host.specs_dir / "one.yaml"
    with path.open("w") as file:
        file.write("meta:")
        file.flush()
        time.sleep(0.3)
        path.unlink()
        host.drop("two")
        wait_for(lambda: host.is_running("two"), "two runs")
        time.sleep(PATIENCE_S + 1)
    assert "still being written" not in host.log()


def test_what_is_no_spec_file_and_stays_is_told_and_that_it_has_gone(host: AgentHost) -> None:
    host.start()
    path = host.specs_dir / "one.yaml.off"
    path.touch()

    def is_told() -> bool:
        told = json.loads(host.run("status", "--saved", "-o", "json").stdout)
        return any(item["path"] == str(path) for item in told.get("ignoredFiles", ()))

    wait_for(is_told, "it is told")
    path.unlink()
    wait_for(lambda: not is_told(), "it is told no more")
