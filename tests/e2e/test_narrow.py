"""Where a few daemons may not be as they were left, a pass looks at those, and misses nothing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.bare_host import SPEC, BareHost, is_quick, kill, settle
from helpers.porto_proxy import PortoProxy

from ya_salt import as_left
from ya_salt.cli.main import main
from ya_salt.converge import quick
from ya_salt.converge.host import PassRequest
from ya_salt.model import LABEL
from ya_salt.proto import porto_pb2 as pb
from ya_salt.salt_api.configuration import read_settings
from ya_salt.salt_api.converge import make_true, read_files
from ya_salt.salt_api.quick import find_source
from ya_salt.salt_api.turn import REAL

NAMES = ("one", "two", "three", "four", "five")
GLANCES = ([], ["state"], ["memory_usage", "cpu_usage"])
"""What is asked of many: whether they have changed, and what they use."""


class Host(BareHost):
    """Its portod is asked by way of somebody who writes down what."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.proxy: PortoProxy | None = None

    @property
    def environment(self) -> dict[str, str]:
        known = super().environment
        return {**known, "YA_SALT_PORTO_SOCKET": self.proxy.path} if self.proxy else known

    def path(self, name: str) -> Path:
        return self.specs_dir / f"{name}.yaml"

    def write(self, name: str, change: Callable[[str], str] = str) -> None:
        self.path(name).write_text(change(SPEC.format(name=name)))

    def list_looked_at(self) -> set[str]:
        """Containers that a pass has asked more about than whether they have changed."""
        assert self.proxy is not None
        asked = [item.get for item in self.proxy.requests if item.HasField("get")]
        self.proxy.requests.clear()
        return {name for get in asked if list(get.variable) not in GLANCES for name in get.name}

    def find_aside(self) -> list[str] | None:
        """Daemons that the next pass looks at in any case; None: at all."""
        data = as_left.read(str(self.state_dir))
        return None if data is None else data["aside"]


@pytest.fixture
def host(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Five daemons that run, and a pass that has written down that nothing is to be done."""
    with Host(folder) as started, PortoProxy(folder, started.portod.socket_path) as proxy:
        started.proxy = proxy
        # What is waited for here is a new second, not five.
        monkeypatch.setattr(as_left, "SETTLED_S", 0.05)
        monkeypatch.setattr(quick, "_CLOCK_STEP_S", 1)
        for name, text in started.environment.items():
            monkeypatch.setenv(name, text)
        for name in NAMES:
            started.write(name)
        settle()
        proxy.requests.clear()
        yield started


def more_memory(text: str) -> str:
    return text.replace("64Mb", "96Mb")


def another_command(text: str) -> str:
    return text.replace('"1000"', '"1001"')


# -- what is looked at ---------------------------------------------------------------------------


@pytest.mark.parametrize("change", [more_memory, another_command])
def test_a_change_of_one_is_all_that_is_looked_at(
    host: Host, change: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: host.values("root_pid", name=name)["root_pid"] for name in NAMES}
    host.write("two", change)
    capsys.readouterr()
    assert main(["apply"]) == 0
    assert host.list_looked_at() == {"two"}
    shown = capsys.readouterr().out
    assert {line.split()[0] for line in shown.splitlines()[1:6]} == set(NAMES)
    assert "changed in the spec" in shown
    after = {name: host.values("root_pid", name=name)["root_pid"] for name in NAMES}
    changed = {name for name in NAMES if before[name] != after[name]}
    assert changed == ({"two"} if change is another_command else set())
    assert host.values("memory_limit", name="two")["memory_limit"] == str(
        (96 if change is more_memory else 64) << 20
    )


def test_it_is_left_as_a_pass_over_all_leaves_it(host: Host) -> None:
    """Right after a change the daemon is looked at once more, and then nobody is."""
    host.write("two", more_memory)
    assert main(["apply"]) == 0
    assert host.find_aside() == ["two"]
    assert not is_quick()
    host.list_looked_at()
    time.sleep(2.2)
    assert main(["apply"]) == 0
    assert host.list_looked_at() == {"two"}
    assert host.find_aside() == []
    assert is_quick()


def test_states_of_those_that_are_not_looked_at_have_nothing_to_tell(host: Host) -> None:
    host.write("two", more_memory)
    settings, source = read_settings({}, {}), find_source({}, {})
    files = read_files(settings, REAL, source)
    request = PassRequest(files.loaded.specs, files.loaded, glimpse=files.glimpse)
    told = make_true(settings, request, REAL)
    assert host.list_looked_at() == {"two"}
    assert [name for name, returned in told.items() if returned.changes] == ["two"]
    assert told.keys() == {*NAMES}
    assert all(returned.result for returned in told.values())


def _destroy(host: Host) -> None:
    with host.client() as client:
        client.destroy("two")


def _stop(host: Host) -> None:
    with host.client() as client:
        client.stop("two", 1.0)


def _set_limit(host: Host) -> None:
    with host.client() as client:
        client.set_property("two", "memory_limit", "32Mb")


ONE_CHANGED: dict[str, Callable[[Host], object]] = {
    "destroyed": _destroy,
    "stopped": _stop,
    "a property set": _set_limit,
    "killed": lambda host: kill(host, "two"),
    "its file touched": lambda host: os.utime(host.path("two")),
    "its file moved": lambda host: host.path("two").rename(host.specs_dir / "b.yaml"),
    "its file put in place of the old one": lambda host: (
        (host.specs_dir / ".new").write_text(SPEC.format(name="two")),
        (host.specs_dir / ".new").rename(host.path("two")),
    ),
}


@pytest.mark.parametrize("change", ONE_CHANGED)
def test_what_became_of_one_is_seen_and_put_right(host: Host, change: str) -> None:
    ONE_CHANGED[change](host)
    host.list_looked_at()
    main(["apply"])
    assert host.list_looked_at() == {"two"}
    assert host.values("state", name="two")["state"] in {"running", "respawning"}
    assert host.values("memory_limit", name="two")["memory_limit"] == str(64 << 20)


def test_one_that_is_new_is_made_alone(host: Host) -> None:
    host.write("six")
    assert main(["apply"]) == 0
    assert host.list_looked_at() == {"six"}
    assert host.values("state", name="six")["state"] == "running"


def test_whom_it_comes_after_is_looked_at_with_it(host: Host) -> None:
    host.write("two", lambda text: text.replace("  min", "  after: [three]\n  min"))
    assert main(["apply"]) == 0
    assert host.list_looked_at() == {"two", "three"}
    host.write(
        "two", lambda text: another_command(text).replace("  min", "  after: [three]\n  min")
    )
    with host.client() as client:
        client.stop("three", 1.0)
    main(["apply"])
    assert host.values("state", name="three")["state"] == "running"
    time.sleep(2.2)
    assert main(["apply"]) == 0
    assert host.values("command", name="two")["command"].split() == ["'sleep'", "'1001'"]


def test_one_that_is_held_keeps_nobody_else_busy(host: Host) -> None:
    assert host.run("stop", "two", "--reason", "a test").returncode == 0
    assert main(["apply"]) == 0
    host.list_looked_at()
    host.write("four", more_memory)
    assert main(["apply"]) == 0
    assert host.list_looked_at() == {"two", "four"}
    assert host.values("state", name="two")["state"] in {"dead", "stopped"}


# -- what is told --------------------------------------------------------------------------------


def test_all_are_told_of_and_what_they_use_is_of_now(host: Host, tmp_path: Path) -> None:
    textfile = tmp_path / "textfile"
    textfile.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YA_SALT_MONITORING_PROMETHEUS_TEXTFILE_DIR", str(textfile))
        settle()
        host.list_looked_at()
        host.write("two", more_memory)
        with host.client() as client:
            used = {name: client.get([name], ("cpu_usage",))[name] for name in NAMES}
        assert main(["apply"]) == 0
        assert host.list_looked_at() == {"two"}
        told = (textfile / "ya-salt.prom").read_text()
    for name in NAMES:
        lines = [line for line in told.splitlines() if f'daemon="{name}"' in line]
        cpu = [line for line in lines if line.startswith("porto_daemon_cpu_usage_seconds_total")]
        assert float(cpu[0].split()[-1]) * 1e9 >= int(used[name]["cpu_usage"])


def change_two(host: Host, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """How all stand, as the pass that puts the change in effect prints it."""
    host.write("two", more_memory)
    capsys.readouterr()
    assert main(["apply", "-o", "json"]) == 0
    told: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["portoDaemons"]
    return told


def test_what_portod_does_not_tell_they_use_is_not_told(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    assert host.proxy is not None

    def refuse(
        request: pb.TContainerRequest, answer: pb.TContainerResponse
    ) -> pb.TContainerResponse:
        if list(request.get.variable) == ["memory_usage", "cpu_usage"]:
            return pb.TContainerResponse(error=pb.Unknown, timestamp=answer.timestamp)
        return answer

    host.proxy.change = refuse
    told = change_two(host, capsys)
    assert {item["name"] for item in told if item.get("memoryUsageBytes")} == {"two"}
    assert all(item["conditions"]["ready"]["status"] for item in told)


def test_what_they_use_is_told_also_where_one_has_changed_meanwhile(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    assert host.proxy is not None
    asked = []

    def change(
        request: pb.TContainerRequest, answer: pb.TContainerResponse
    ) -> pb.TContainerResponse:
        if list(request.get.variable) == ["memory_usage", "cpu_usage"]:
            asked.append(list(request.get.name))
            answer.get.list[0].change_time += len(asked)
        return answer

    host.proxy.change = change
    told = change_two(host, capsys)
    assert {item["name"] for item in told if item.get("memoryUsageBytes")} == {*NAMES}
    assert sorted(asked[0]) == sorted(set(NAMES) - {"two"})


def test_a_pass_over_a_few_is_the_last_pass_over_all(host: Host) -> None:
    host.write("two", more_memory)
    assert main(["apply"]) == 0
    told = json.loads(host.run("status", "-o", "json").stdout)
    assert told["lastPass"]["result"] == "ok"
    assert {item["name"] for item in told["portoDaemons"]} == set(NAMES)


# -- what takes a look at all --------------------------------------------------------------------


def _write_more_than_half(host: Host) -> None:
    for name in ("one", "two", "three"):
        host.write(name, more_memory)


def _damage_the_store(host: Host) -> None:
    (host.state_dir / "store.sqlite3").write_bytes(b"no store")


LOOKED_AT_ALL: dict[str, Callable[[Host], object]] = {
    "more than half of them changed": _write_more_than_half,
    "one without a file": lambda host: host.path("five").unlink(),
    "one whose file is broken": lambda host: host.path("five").write_text("meta: {}\n"),
    "one defined twice": lambda host: (host.specs_dir / "z.yaml").write_text(
        SPEC.format(name="five")
    ),
    "dpkg's status file": lambda host: (host.root / "var/lib/dpkg/status").write_text("\n"),
    "the store": _damage_the_store,
    "the snapshot": lambda host: (host.state_dir / as_left.FILE_NAME).write_bytes(b"0 {}\n"),
    "the daemons directory's mode": lambda host: host.specs_dir.chmod(0o700),
}


@pytest.mark.parametrize("change", LOOKED_AT_ALL)
def test_where_it_may_be_about_all_they_are_looked_at(host: Host, change: str) -> None:
    host.write("two", more_memory)
    LOOKED_AT_ALL[change](host)
    main(["apply"])
    assert host.list_looked_at() >= set(NAMES)


def test_one_that_goes_takes_a_look_at_all(host: Host) -> None:
    host.write("two", lambda text: text.replace('"1"', '"1", delete_requested: true'))
    assert main(["apply"]) == 0
    assert host.list_looked_at() >= set(NAMES)
    with host.client() as client:
        assert set(client.find_labelled(LABEL)) == set(NAMES) - {"two"}


def test_whoever_asks_for_all_gets_all(host: Host) -> None:
    host.write("two", more_memory)
    assert main(["apply", "--full"]) == 0
    assert host.list_looked_at() >= set(NAMES)


def test_about_every_tenth_minute_all_are_looked_at(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many passes there were in between over a few."""
    data = as_left.read(str(host.state_dir))
    assert data is not None
    for size in ("96Mb", "97Mb"):
        host.write("two", lambda text, size=size: text.replace("64Mb", size))
        assert main(["apply"]) == 0
        assert host.list_looked_at() == {"two"}
    later = as_left.read(str(host.state_dir))
    assert later is not None
    assert later["full_at"] <= data["full_at"]
    real = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda clock: real(clock) + 700)
    monkeypatch.setattr(time, "time", lambda: real(time.CLOCK_REALTIME) + 700)
    main(["apply"])
    assert host.list_looked_at() >= set(NAMES)


# -- an update on probation ----------------------------------------------------------------------


@pytest.fixture
def on_probation(host: Host) -> Host:
    """The second daemon has another memory limit, and 20 s to prove that it lives with it."""
    host.write("two", lambda text: more_memory(text) + "  update: {watch_s: 20}\n")
    assert main(["apply"]) == 0
    time.sleep(2.2)
    assert main(["apply"]) == 0
    assert find_status(host)["update"]["state"] == "probation"
    return host


def test_while_nothing_becomes_of_it_passes_are_quick(on_probation: Host) -> None:
    assert on_probation.find_aside() == []
    assert is_quick()


def test_when_it_is_over_a_pass_sees_to_it(host: Host) -> None:
    host.write("two", lambda text: more_memory(text) + "  update: {watch_s: 4}\n")
    assert main(["apply"]) == 0
    give_up = time.monotonic() + 60
    while "update" in find_status(host):
        assert time.monotonic() < give_up
        assert is_quick() or main(["apply"]) == 0
        time.sleep(0.5)


def find_status(host: Host) -> dict[str, Any]:
    told: dict[str, Any]
    (told,) = json.loads(host.run("status", "two", "-o", "json").stdout)["portoDaemons"]
    return told


def test_what_dies_of_it_is_undone(on_probation: Host) -> None:
    kill(on_probation, "two")
    assert not is_quick()
    main(["apply"])
    assert on_probation.values("memory_limit", name="two")["memory_limit"] == str(64 << 20)


def test_a_full_disk_makes_it_begin_anew(
    on_probation: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(as_left, "is_disk_full", lambda _folder: True)
    assert not is_quick()


def test_a_full_disk_is_of_no_matter_to_others(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_left, "is_disk_full", lambda _folder: True)
    assert is_quick()
