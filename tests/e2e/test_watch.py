"""`spec.watch` on a Porto server: what a changed file does to the process that reads it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.example import ExampleHost
from helpers.package_host import needs_apt
from helpers.passes import DoomedClient, Passes
from helpers.portod import DevPortod

from ya_salt.converge import watched_files
from ya_salt.model import GateSettings, ReplaceContainer, SignalContainer
from ya_salt.porto.client import PortoClient
from ya_salt.store import open_store

NAME = "watching"
LISTENS = "trap 'date +%s%N >> {heard}' HUP USR1; while :; do sleep 0.05; done"


@pytest.fixture(scope="module")
def portod() -> Iterator[DevPortod]:
    with DevPortod() as server:
        yield server


class Watching(Passes):
    """A daemon that notes each signal, and files that it watches."""

    def __init__(self, folder: Path, socket_path: str) -> None:
        super().__init__(folder, socket_path)
        self.conf = folder / "conf"
        self.conf.mkdir()
        self.heard = folder / "heard"
        self.file = self.conf / "a.conf"
        self.file.write_text("one")

    def write_watch(self, *entries: str, properties: str = "", more: str = "") -> None:
        argv = ["/bin/sh", "-c", LISTENS.format(heard=self.heard)]
        watch = "".join(f"    - {entry}\n" for entry in entries)
        lines = "".join(f"    {line}\n" for line in properties.splitlines())
        (self.specs_dir / f"{NAME}.yaml").write_text(
            f"meta: {{name: {NAME}, version: '1'}}\n"
            f"spec:\n  min_ready_s: 0\n  ready_timeout_s: 5\n{more}"
            f"  watch:\n{watch}"
            f"  properties:\n    cmd: {argv}\n{lines}"
        )

    def pid(self) -> str:
        with self.client() as client:
            return client.get_property(NAME, "root_pid")

    def count_heard(self, expected: int) -> int:
        """How many signals it noted, a moment given to hear them."""
        give_up = time.monotonic() + 3
        while True:
            count = len(self.heard.read_text().splitlines()) if self.heard.exists() else 0
            if count >= expected or time.monotonic() > give_up:
                return count
            time.sleep(0.05)

    def close(self) -> None:
        for path in self.specs_dir.iterdir():
            path.write_text(
                path.read_text().replace("version:", "delete_requested: true, version:")
            )
        self.run(is_strict=False)


@pytest.fixture
def host(folder: Path, portod: DevPortod) -> Iterator[Watching]:
    made = Watching(folder, portod.socket_path)
    yield made
    made.close()


def test_a_changed_file_starts_it_anew_once(host: Watching) -> None:
    host.write_watch(f"path: {host.file}")
    assert host.run_one().actions == ("create: there is no container",)
    process = host.pid()
    # The first look only learns.
    assert host.run_one().actions == ()
    host.file.write_text("two")
    assert [type(step) for step in host.plan()[NAME].steps] == [ReplaceContainer]
    status = host.run_one()
    assert status.actions == (f"restart: changed: {host.file}",)
    assert status.restart_count == 1
    assert host.pid() != process
    assert host.run_one().actions == ()


def test_a_signal_tells_it_and_leaves_it_running(host: Watching) -> None:
    host.write_watch(f"{{path: '{host.conf}/*.conf', signal: SIGHUP}}")
    host.run_one()
    process = host.pid()
    host.file.write_text("two")
    (host.conf / "b.conf").write_text("new")
    (host.conf / ".hidden.conf").write_text("new")
    status = host.run_one()
    assert status.actions == (f"signal SIGHUP: changed: {host.file}, {host.conf}/b.conf (new)",)
    assert status.restart_count == 0
    assert host.count_heard(1) == 1
    host.file.unlink()
    assert host.run_one().actions == (f"signal SIGHUP: changed: {host.file} (gone)",)
    assert host.run_one().actions == ()
    assert host.pid() == process
    assert host.count_heard(2) == 2


def test_a_restart_goes_before_a_signal_for_one_file(host: Watching) -> None:
    host.write_watch(f"{{path: {host.file}, signal: SIGHUP}}", f"path: '{host.conf}/*'")
    host.run_one()
    host.file.write_text("two")
    assert host.run_one().actions == (f"restart: changed: {host.file}",)
    assert host.run_one().actions == ()
    assert host.count_heard(0) == 0


def test_a_restart_for_another_reason_covers_it(host: Watching) -> None:
    host.write_watch(f"path: {host.file}")
    host.run_one()
    host.file.write_text("two")
    host.write_watch(f"path: {host.file}", properties="cwd: /tmp")
    status = host.run_one()
    assert status.actions == (f"restart: changed in the spec: cwd; changed: {host.file}",)
    assert host.run_one().actions == ()
    assert host.run_one().restart_count == 1


def test_a_live_change_in_the_same_pass_does_not_swallow_a_signal(host: Watching) -> None:
    host.write_watch(f"{{path: {host.file}, signal: SIGUSR1}}")
    host.run_one()
    host.file.write_text("two")
    host.write_watch(f"{{path: {host.file}, signal: SIGUSR1}}", properties="memory_limit: 64Mb")
    kinds = [action.split(":")[0] for action in host.run_one().actions]
    assert kinds == ["live change", "signal SIGUSR1"]
    assert host.count_heard(1) == 1


def test_a_file_changed_while_it_was_down_is_seen_by_its_start(host: Watching) -> None:
    host.write_watch(f"path: {host.file}", properties="max_respawns: 0")
    host.run_one()
    with host.client() as client:
        client.set_property(NAME, "respawn", "false")
        client.kill(NAME, signal.SIGKILL)
        assert client.wait_dead(NAME, 10)
    host.file.write_text("two")
    kinds = [action.split(":")[0] for action in host.run_one().actions]
    assert kinds == ["live change", "start"]
    assert host.run_one().actions == ()


def test_what_is_changed_back_is_no_change(host: Watching) -> None:
    host.write_watch(f"path: {host.file}")
    host.run_one()
    host.file.write_text("two")
    host.file.write_text("one")
    assert host.run_one().actions == ()


def test_a_file_briefly_missing_is_not_gone(
    host: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.write_watch(f"path: {host.file}")
    host.run_one()
    host.file.unlink()

    def come_back(_seconds: float) -> None:
        host.file.write_text("one")

    monkeypatch.setattr(watched_files.time, "sleep", come_back)
    assert host.plan()[NAME].steps == ()


def test_unreadable_is_not_gone(host: Watching) -> None:
    link = host.conf / "link.conf"
    link.symlink_to(host.file)
    host.write_watch(f"path: {link}")
    host.run_one()
    host.file.unlink()
    host.file.symlink_to(host.file)
    status = host.run_one()
    assert status.actions == ()
    assert any(str(link) in warning for warning in status.warnings)


def test_a_link_counts_by_what_it_leads_to(host: Watching) -> None:
    other = host.conf / "other"
    other.write_text("two")
    link = host.conf / "link"
    link.symlink_to(host.file)
    host.write_watch(f"path: {link}")
    host.run_one()
    link.unlink()
    link.symlink_to(other)
    assert host.run_one().actions == (f"restart: changed: {link}",)


def test_a_directory_swapped_after_the_start_is_a_change(host: Watching) -> None:
    new = host.folder / "conf.new"
    new.mkdir()
    (new / "a.conf").write_text("two")
    host.write_watch(f"path: {host.file}")
    host.run_one()
    host.conf.rename(host.folder / "conf.old")
    new.rename(host.conf)
    assert host.run_one().actions == (f"restart: changed: {host.file}",)


def test_a_lost_store_learns_anew(host: Watching) -> None:
    host.write_watch(f"path: {host.file}")
    host.run_one()
    for path in (host.folder / "state").iterdir():
        if path.name.startswith("store"):
            path.unlink()
    host.file.write_text("two")
    assert host.run_one().actions == ()
    time.sleep(0.02)
    host.file.write_text("three")
    assert host.run_one().actions == (f"restart: changed: {host.file}",)


def test_an_entry_that_is_new_only_learns(host: Watching) -> None:
    host.write_watch(f"path: {host.conf}/none")
    host.run_one()
    host.write_watch(f"path: {host.conf}/none", f"path: {host.file}")
    assert host.run_one().actions == ()
    host.file.write_text("two")
    assert [action.split(":")[0] for action in host.run_one().actions] == ["restart"]


def test_a_pass_with_nothing_to_do_reads_no_file(
    host: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(host.file, (1, 1))
    time.sleep(1.1)
    host.write_watch(f"path: '{host.conf}/*'")
    host.run_one()
    read: list[str] = []
    hash_ = watched_files._hash
    monkeypatch.setattr(
        watched_files, "_hash", lambda path, found: read.append(path) or hash_(path, found)
    )
    assert host.run_one().actions == ()
    assert read == []
    assert host.requests == ["get"]
    # The same with another size cannot be taken for it.
    host.file.write_text("another")
    host.run_one()
    assert str(host.file) in read


def test_a_signal_waits_its_turn_and_is_not_lost(
    host: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.settings = replace(host.settings, hostname="host-1")
    host.write_watch(f"{{path: {host.file}, signal: SIGHUP, splay_s: 1000}}")
    host.run_one()
    host.file.write_text("two")
    changed_at = time.time()
    result = host.run()
    assert result.ok
    (status,) = result.statuses
    assert status.actions == ()
    # The agent makes a pass then.
    assert result.due_at is not None
    assert changed_at < result.due_at < changed_at + 1001
    assert any(str(host.file) in warning and "SIGHUP in" in warning for warning in status.warnings)
    assert any("SIGHUP in" in note for note in host.plan()[NAME].notes)
    make_host = host.make_host
    monkeypatch.setattr(
        host,
        "make_host",
        lambda connect=None: replace(make_host(connect), now=lambda: changed_at + 1001),
    )
    assert [type(step) for step in host.plan()[NAME].steps] == [SignalContainer]
    assert host.run_one().actions == (f"signal SIGHUP: changed: {host.file}",)
    assert host.run_one().actions == ()
    assert host.count_heard(1) == 1


class FailingKill(PortoClient):
    """A portod that does not pass a signal on."""

    def kill(self, name: str, signal: int) -> None:
        self.start(name)


def test_a_signal_that_failed_is_sent_again(host: Watching) -> None:
    host.write_watch(f"{{path: {host.file}, signal: SIGHUP}}")
    host.run_one()
    host.file.write_text("two")
    result = host.run(FailingKill)
    assert not result.ok
    assert host.run_one().actions == (f"signal SIGHUP: changed: {host.file}",)
    assert host.count_heard(1) == 1


@pytest.mark.parametrize("writes", range(0, 30, 3))
def test_a_killed_pass_neither_loses_it_nor_does_it_twice(host: Watching, writes: int) -> None:
    host.write_watch(f"path: {host.file}")
    host.run_one()
    process = host.pid()
    host.file.write_text("two")

    child = os.fork()
    if child == 0:
        DoomedClient.writes_left = writes
        host.run(DoomedClient)
        os._exit(0)
    os.waitpid(child, 0)
    # portod notices the broken connection a moment later and removes what was weak.
    time.sleep(0.2)
    with host.client() as client:
        after = client.get([NAME], ["root_pid"]).get(NAME, {}).get("root_pid")
    host.run_one()
    assert host.pid() != process
    if after not in {None, process}:
        assert host.pid() == after
    assert host.run_one().actions == ()


def close_gate(host: Watching) -> None:
    gate = GateSettings(type="orly", endpoints=("http://127.0.0.1:1",))
    host.settings = replace(host.settings, gate=gate)


def test_a_restart_waits_for_the_gate_and_is_not_lost(host: Watching) -> None:
    host.write_watch(f"path: {host.file}")
    host.run_one()
    process, none = host.pid(), host.settings
    close_gate(host)
    host.file.write_text("two")
    for _ in range(2):
        (status,) = host.run().statuses
        assert status.waits
        assert status.actions == ()
    assert host.pid() == process
    host.settings = none
    assert host.run_one().actions == (f"restart: changed: {host.file}",)
    assert host.run_one().actions == ()


def test_a_signal_does_not_wait_for_the_gate(host: Watching) -> None:
    entry = f"{{path: {host.file}, signal: SIGHUP}}"
    host.write_watch(entry)
    host.run_one()
    process = host.pid()
    close_gate(host)
    host.file.write_text("two")
    # Not even where something else does.
    host.write_watch(entry, properties="cwd: /tmp")
    for actions in ((f"signal SIGHUP: changed: {host.file}",), ()):
        (status,) = host.run().statuses
        assert status.waits
        assert status.actions == actions
    assert host.pid() == process
    assert host.count_heard(1) == 1


def test_a_crash_while_the_gate_says_wait_brings_the_file_along(host: Watching) -> None:
    host.write_watch(f"path: {host.file}")
    host.run_one()
    close_gate(host)
    host.file.write_text("two")
    host.run()
    with host.client() as client:
        client.set_property(NAME, "respawn_delay", "100ms")
        client.kill(NAME, signal.SIGKILL)
    time.sleep(1.2)
    assert not any("restart" in step.reason for step in host.plan()[NAME].steps)
    (status,) = host.run().statuses
    assert not any(action.startswith("restart") for action in status.actions)


@needs_apt
def test_the_conffiles_of_its_packages(folder: Path) -> None:
    with ExampleHost(folder) as host:
        conf = {"etc/agent/agent.conf": "port 1\n", "etc/agent/plain": "x"}
        for version in ("1", "2"):
            host.repository.add(
                "agent-conf", version, files=conf, conffiles=["/etc/agent/agent.conf"]
            )
            conf = {**conf, "etc/agent/agent.conf": "port 2\n"}
        host.repository.write_index()
        text = (
            "meta: {{name: agent}}\nspec:\n  min_ready_s: 0\n  watch: [conffiles: true]\n"
            "  packages: [{{name: agent-conf, version: '{}'}}]\n"
            "  properties: {{cmd: [sleep, '1000']}}\n"
        )
        host.spec_file.write_text(text.format(1))

        def apply() -> list[str]:
            done = host.run("apply", "-o", "json")
            assert done.returncode == 0, done.stdout + done.stderr
            return list(json.loads(done.stdout)["portoDaemons"][0]["actions"])

        assert [action.split(":")[0] for action in apply()] == ["install", "create"]
        assert apply() == []
        # The upgrade brings another one along, and is one restart.
        host.spec_file.write_text(text.format(2))
        assert [action.split(":")[0] for action in apply()] == ["install", "restart"]
        assert (host.root / "etc/agent/agent.conf").read_text() == "port 2\n"
        assert apply() == []
        (host.root / "etc/agent/plain").write_text("y")
        assert apply() == []
        (host.root / "etc/agent/agent.conf").write_text("port 3\n")
        said = json.loads(host.run("plan", "-o", "json").stdout)["plans"][0]
        assert said["changes"]["files"] == {
            f"{host.root}/etc/agent/agent.conf": {"old": "there", "new": "changed"}
        }
        assert apply() == [f"restart: changed: {host.root}/etc/agent/agent.conf"]
        assert apply() == []


def test_history_and_the_record_name_the_file(host: Watching) -> None:
    host.write_watch(f"path: {host.file}")
    host.run_one()
    host.file.write_text("two")
    host.run_one()
    store = open_store(host.settings.state_dir)
    said = [item.what for item in store.load_history(NAME, 100)]
    assert f"restart: changed: {host.file}" in said
    store.close()
