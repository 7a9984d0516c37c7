"""Files that asked for a removal, and got it, keep no pass busy; whatever comes back is noticed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.bare_host import SPEC, BareHost, is_quick, settle
from helpers.example import ExampleHost

from ya_salt import as_left
from ya_salt.cli.main import main
from ya_salt.cli.quick import answer_quickly
from ya_salt.converge import quick

GONE = "meta: {name: gone, delete_requested: true}\n"


@pytest.fixture
def host(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExampleHost]:
    """One daemon that runs and one that was removed; a pass has written down that that is so."""
    # What is waited for here is a new second, not five.
    monkeypatch.setattr(as_left, "SETTLED_S", 0.05)
    monkeypatch.setattr(quick, "_CLOCK_STEP_S", 1)
    with BareHost(folder) as started:
        for name, text in started.environment.items():
            monkeypatch.setenv(name, text)
        for name in ("gone", "one"):
            (started.specs_dir / f"{name}.yaml").write_text(SPEC.format(name=name))
        assert main(["apply"]) == 0
        (started.specs_dir / "gone.yaml").write_text(GONE)
        settle()
        yield started


def test_a_pass_and_status_say_what_the_long_way_says(
    host: ExampleHost, capfd: pytest.CaptureFixture[str]
) -> None:
    for words in (["apply"], ["status"]):
        capfd.readouterr()
        assert answer_quickly(words) == 0
        short = capfd.readouterr()
        as_left.forget(str(host.state_dir))
        full = host.run(*words)
        assert strip(short.out) == strip(full.stdout)
        (gone,) = (line for line in short.out.splitlines() if line.startswith("gone "))
        assert gone.split()[2:5] == ["Removed", "-", "no"]
        settle()


def strip(text: str) -> list[list[str]]:
    """Ages and memory go on."""
    rows = [line.split() for line in text.splitlines()]
    return [[word for word in row if not word[:1].isdigit()] for row in rows]


def make_container(host: ExampleHost) -> None:
    with host.client() as client:
        client.create("gone")


def put_back(host: ExampleHost) -> None:
    (host.specs_dir / "gone.yaml").write_text(SPEC.format(name="gone"))


def restart_portod(host: ExampleHost) -> None:
    host.portod.stop()
    Path(host.portod.socket_path).parent.mkdir()
    host.portod.start()


def change_packages(host: ExampleHost) -> None:
    with (host.root / "var/lib/dpkg/status").open("a") as file:
        file.write("\n")


CHANGES: dict[str, Callable[[ExampleHost], object]] = {
    "made by hand": make_container,
    "its file is put back": put_back,
    "its file goes": lambda host: (host.specs_dir / "gone.yaml").unlink(),
    "its file asks for packages to go": lambda host: (host.specs_dir / "gone.yaml").write_text(
        GONE + 'spec: {packages: [{name: any, version: "1"}]}\n'
    ),
    "another file of that name": lambda host: (host.specs_dir / "more.yaml").write_text(
        SPEC.format(name="gone")
    ),
    "packages change": change_packages,
    "the store goes": lambda host: (host.state_dir / "store.sqlite3").unlink(),
    "portod is another one": restart_portod,
    "portod is gone": lambda host: host.portod.stop(),
}


@pytest.mark.parametrize("is_alone", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_is_noticed(host: ExampleHost, change: str, *, is_alone: bool) -> None:
    if is_alone:
        (host.specs_dir / "one.yaml").write_text(GONE.replace("gone", "one"))
        settle()
    CHANGES[change](host)
    assert not is_quick()
    assert answer_quickly(["status"]) is None


def test_what_is_put_back_is_started_and_what_was_made_by_hand_is_not_touched(
    host: ExampleHost,
) -> None:
    put_back(host)
    assert main(["apply"]) == 0
    assert host.values("state", name="gone") == {"state": "running"}
    with host.client() as client:
        client.destroy("gone")
    (host.specs_dir / "gone.yaml").write_text(GONE)
    settle()
    make_container(host)
    for _ in range(2):
        # It is somebody else's: told of each time.
        assert main(["apply"]) == 1
        assert not is_quick()
    assert host.values("state", name="gone") == {"state": "stopped"}


def test_who_is_gone_is_looked_at_where_another_changes(host: ExampleHost) -> None:
    for number in range(4):
        (host.specs_dir / f"{number}.yaml").write_text(SPEC.format(name=f"more-{number}"))
    settle()
    make_container(host)
    (host.specs_dir / "0.yaml").write_text(SPEC.format(name="more-0").replace("64", "65"))
    assert main(["apply"]) == 1


def test_a_file_that_was_removed_with_the_daemon_is_forgotten(host: ExampleHost) -> None:
    (host.specs_dir / "gone.yaml").unlink()
    settle()
    assert "gone" not in host.run("status").stdout


def test_another_directory_of_the_same_files_is_another_one(host: ExampleHost) -> None:
    shutil.copytree(host.specs_dir, host.folder / "copy")
    shutil.rmtree(host.specs_dir)
    (host.folder / "copy").rename(host.specs_dir)
    assert not is_quick()


def test_a_part_is_about_its_own_containers_and_those_that_are_gone_alone(
    host: ExampleHost,
) -> None:
    state_dir = str(host.state_dir)
    data = as_left.read(state_dir) or {}
    parts = {name: quick.take_part(data, [name]) for name in ("gone", "one")}
    assert quick.take_part(data, None) == data
    assert quick.take_part(data, ["one", "gone"]) == data
    with pytest.raises(LookupError):
        quick.take_part(data, ["one", "unheard-of"])
    assert all(quick.is_as_left(part, state_dir) for part in parts.values())
    make_container(host)
    assert [quick.is_as_left(parts[name], state_dir) for name in parts] == [False, True]
    with host.client() as client:
        client.destroy("gone")
        client.destroy("one")
    assert [quick.is_as_left(parts[name], state_dir) for name in parts] == [True, False]
