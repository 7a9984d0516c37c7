"""Three hosts, each with packages, state and portod of its own, share one etcd."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.etcd import EtcdServer, list_missing
from helpers.example import NAME, VERSION, ExampleHost

from ya_salt.converge.host import PassRequest, make_host
from ya_salt.converge.run import run_pass
from ya_salt.gate import client
from ya_salt.porto.client import PortoClient
from ya_salt.settings import load_settings
from ya_salt.specs.directory import load_specs

RULE = f"""\
meta: {{name: porto-daemon-{NAME}}}
spec:
  max_concurrent: 1
  max_failures: 1
  min_healthy_time: 2s
"""
SPEC = """\
meta: {{name: {name}, version: "{version}"}}
spec:
  min_ready_s: 1
  ready_timeout_s: 8
  properties:
    cmd: ["/usr/bin/juggler-client"{argument}]
    user: "{user}"
    cwd: /
    max_respawns: "0"
  packages:
    - {{name: juggler-client-core, version: "{package}"}}
"""
DIES = "#!/bin/sh\necho no config >&2\nexit 3\n"
USER = "root" if os.geteuid() == 0 else Path.home().owner()


class GatedHost(ExampleHost):
    """An ExampleHost that has to ask."""

    endpoint = ""

    @property
    def environment(self) -> dict[str, str]:
        return {
            **super().environment,
            "YA_SALT_GATE_TYPE": "orly",
            "YA_SALT_GATE_ENDPOINTS": self.endpoint,
            "YA_SALT_HOSTNAME": self.folder.name,
        }

    def want(self, version: str, package: str, argument: str = "") -> None:
        self.spec_file.write_text(
            SPEC.format(name=NAME, version=version, package=package, argument=argument, user=USER)
        )

    def update(self, words: str) -> None:
        """Say how updates are to be undone."""
        text = self.spec_file.read_text()
        update = f"spec:\n  update: {{{words}}}\n"
        self.spec_file.write_text(text.replace("spec:\n", update))

    def orlyctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ya_salt.cli.orlyctl", *words],
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        )

    def status(self) -> dict[str, object]:
        (daemon,) = json.loads(self.run("status", "-o", "json").stdout)["portoDaemons"]
        return daemon


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdServer]:
    missing = " ".join(list_missing())
    if missing:
        pytest.skip(f"Debian packages are missing: apt-get install {missing}")
    with EtcdServer() as server:
        yield server


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, etcd: EtcdServer) -> Iterator[list[GatedHost]]:
    tmp_path = tmp_path_factory.mktemp("hosts")
    tmp_path.chmod(0o755)
    with ExitStack() as stack:
        made = []
        for name in ("web1", "web2", "web3"):
            (tmp_path / name).mkdir()
            host = stack.enter_context(GatedHost(tmp_path / name))
            host.endpoint = etcd.url
            made.append(host)
        yield made


@pytest.fixture
def hosts(fleet: list[GatedHost]) -> list[GatedHost]:
    """All of them run version 1, and nobody holds a slot."""
    first, *_ = fleet
    first.orlyctl("resume", f"porto-daemon-{NAME}")
    apply_rule(first, RULE.replace("1\n", "9\n", 1).replace("2s", "0s"))
    for host in fleet:
        (host.specs_dir / "second.yaml").unlink(missing_ok=True)
        host.want("1", VERSION)
        done = host.run("apply")
        assert done.returncode == 0, done.stdout + done.stderr
    for name in ("web1", "web2", "web3"):
        first.orlyctl("release", f"porto-daemon-{NAME}", name, "--reason", "the next test")
    apply_rule(first, RULE)
    return fleet


def apply_rule(host: GatedHost, text: str) -> None:
    path = host.folder / "rule.yaml"
    path.write_text(text)
    done = host.orlyctl("apply-rule", "-f", str(path))
    assert done.returncode == 0, done.stderr


def apply_all(hosts: list[GatedHost]) -> dict[int, list[GatedHost]]:
    """All hosts make a pass at the same time; exit code -> hosts."""
    with ThreadPoolExecutor(len(hosts)) as pool:
        codes = list(pool.map(lambda host: host.run("apply").returncode, hosts))
    return {code: [h for h, c in zip(hosts, codes, strict=True) if c == code] for code in codes}


def test_three_hosts_take_an_update_one_by_one(hosts: list[GatedHost]) -> None:
    for host in hosts:
        host.release("2.4")
        host.want("2", "2.4")
    before = {host: host.pid() for host in hosts}
    assert "would wait for the gate" not in hosts[0].run("plan").stdout
    left = list(hosts)
    while left:
        found = apply_all(left)
        (updated,) = found[0]
        waiting = found.get(4, [])
        assert len(waiting) == len(left) - 1
        assert updated.installed()["juggler-client-core"] == "2.4"
        assert updated.pid() != before[updated]
        for host in waiting:
            assert host.pid() == before[host]
            assert host.installed()["juggler-client-core"] == VERSION
            status = host.status()
            assert status["version"] == "1"
            assert status["conditions"]["ready"]["status"] is True
            assert status["gate"]["reason"] == "Full"
            assert "would wait for the gate: Full" in host.run("plan").stdout
        time.sleep(2.5)
        assert updated.run("apply").returncode == 0
        left = waiting
    shown = hosts[0].orlyctl("status", f"porto-daemon-{NAME}", "-o", "json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)


def test_a_bad_version_that_is_kept_stops_at_the_first_host_and_the_next_one_goes_on(
    hosts: list[GatedHost],
) -> None:
    bad, *others = hosts
    for host in hosts:
        host.release("2.5")
        add_version(host, "3.0-bad", DIES)
        host.want("3", "3.0-bad")
        host.update("on_failure: keep")
    before = {host: host.pid() for host in others}
    assert bad.run("apply").returncode == 1
    found = apply_all(others)
    assert set(found) == {4}
    for host in others:
        assert host.pid() == before[host]
    shown = bad.orlyctl("status", f"porto-daemon-{NAME}").stdout
    assert "web1" in shown
    assert "failed" in shown
    assert bad.installed()["juggler-client-core"] == "3.0-bad"
    # The repaired version goes on by itself, where the bad one failed as everywhere.
    for host in hosts:
        host.want("4", "2.5")
    left = set(hosts)
    while left:
        # The one that is down stays down while it waits, and that is a failure of the pass.
        (updated,) = apply_all(sorted(left, key=lambda host: host.folder))[0]
        time.sleep(2.5)
        assert updated.run("apply").returncode == 0
        left.remove(updated)
    assert {host.installed()["juggler-client-core"] for host in hosts} == {"2.5"}


def test_a_bad_update_is_undone_on_one_host_and_touches_no_other(hosts: list[GatedHost]) -> None:
    """By a rule without a time: the slot is kept for the update's probation, and no longer."""
    apply_rule(hosts[0], RULE.replace("  min_healthy_time: 2s\n", ""))
    for host in hosts:
        add_version(host, "3.5-bad", DIES)
        host.want("3.5", "3.5-bad")
        host.update("watch_s: 3")
    before = {host: host.pid() for host in hosts}
    found = apply_all(hosts)
    (bad,) = found[1]
    others = found[4]
    assert len(others) == 2
    assert bad.installed()["juggler-client-core"] == VERSION
    status = bad.status()
    assert (status["version"], status["wantedVersion"]) == ("1", "3.5")
    assert status["conditions"]["ready"]["reason"] == "RolledBack"
    assert status["conditions"]["ready"]["status"] is True
    assert (status["gate"]["state"], status["gate"]["target"]) == ("failed", "3.5")
    assert bad.pid() != before[bad]
    # Nothing changes any more, and nobody else gets it.
    again = bad.pid()
    assert {code: set(found) for code, found in apply_all(hosts).items()} == {
        1: {bad},
        4: set(others),
    }
    assert bad.pid() == again
    for host in others:
        assert host.pid() == before[host]
        assert host.installed()["juggler-client-core"] == VERSION
        assert host.status()["gate"]["reason"] == "Halted"
    holder = show_rule(bad)["holders"]
    assert [(item["host"], item["state"]) for item in holder] == [(bad.folder.name, "failed")]
    assert "no config" in holder[0]["error"]

    # The repaired one goes on everywhere, first where the bad one never was.
    for host in hosts:
        host.release("3.6")
        host.want("3.6", "3.6")
        host.update("watch_s: 3")
    left = [others[0], bad, others[1]]
    while left:
        updated, *waiting = left
        assert updated.run("apply").returncode == 0
        assert updated.installed()["juggler-client-core"] == "3.6"
        assert updated.status()["gate"]["state"] == "settling"
        if waiting:
            assert waiting[0].run("apply").returncode == 4
            assert waiting[0].status()["gate"]["reason"] == "Full"
        time.sleep(3.5)
        assert updated.run("apply").returncode == 0
        assert "gate" not in updated.status()
        left = waiting
    assert show_rule(bad)["holders"] == []


def test_a_version_that_dies_after_its_slot_was_given_back_is_told_and_halts(
    hosts: list[GatedHost],
) -> None:
    late, other, _ = hosts
    apply_rule(late, RULE.replace("2s", "0s"))
    flag = late.folder / "die"
    for host in (late, other):
        wait = f"while [ ! -e {host.folder}/die ]; do sleep 0.2; done\necho no config >&2; exit 3"
        add_version(host, "3.7-late", f"#!/bin/sh\n{wait}\n")
        host.want("3.7", "3.7-late")
    assert late.run("apply").returncode == 0
    assert show_rule(late)["holders"] == []
    flag.touch()
    wait_until_dead(late)
    assert late.run("apply").returncode == 1
    assert late.installed()["juggler-client-core"] == VERSION
    holders = show_rule(late)["holders"]
    assert [(item["host"], item["state"]) for item in holders] == [(late.folder.name, "failed")]
    assert other.run("apply").returncode == 4
    assert other.status()["gate"]["reason"] == "Halted"


def add_version(host: GatedHost, version: str, script: str) -> None:
    files = {"usr/bin/juggler-client": (script, 0o755)}
    host.repository.add("juggler-client-core", version, files=files)
    host.repository.write_index()


def wait_until_dead(host: GatedHost) -> None:
    give_up = time.monotonic() + 20
    while host.values("state")["state"] != "dead":
        assert time.monotonic() < give_up
        time.sleep(0.2)


def show_rule(host: GatedHost) -> dict[str, Any]:
    shown = host.orlyctl("status", f"porto-daemon-{NAME}", "-o", "json")
    (rule,) = json.loads(shown.stdout)["rules"]
    return rule


def test_going_past_the_gate_is_for_root_at_a_terminal(hosts: list[GatedHost]) -> None:
    host = hosts[0]
    host.orlyctl("pause", f"porto-daemon-{NAME}", "--reason", "hands off")
    host.release("2.6")
    host.want("6", "2.6")
    assert host.run("apply").returncode == 4
    refused = host.run("apply", "--override-gate", "INC-1")
    assert refused.returncode == 2
    assert "root at a terminal only" in refused.stderr
    if os.geteuid() != 0:
        pytest.skip("going past the gate is for root")
    master, slave = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "ya_salt.cli.main", "apply", "--override-gate", "INC-1: leaks"],
        env=host.environment,
        stdin=slave,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(master)
    os.close(slave)
    assert done.returncode == 0, done.stderr
    assert host.installed()["juggler-client-core"] == "2.6"
    assert "goes past the gate: INC-1: leaks" in host.log_file.read_text()
    assert "went past the gate: INC-1: leaks" in host.run("history").stdout
    host.orlyctl("resume", f"porto-daemon-{NAME}")


def test_daemons_that_share_a_package_wait_together(hosts: list[GatedHost]) -> None:
    host, *_ = hosts
    second = host.specs_dir / "second.yaml"

    def want(version: str) -> None:
        host.release(version)
        host.want(version, version)
        text = host.spec_file.read_text()
        second.write_text(text.replace(NAME, "second"))

    apply_rule(host, RULE.replace(NAME, "second"))
    want("7.0")
    assert host.run("apply").returncode == 0
    time.sleep(2.5)
    assert host.run("apply").returncode == 0
    before = host.values("root_pid", name="second")
    host.orlyctl("pause", f"porto-daemon-{NAME}", "--reason", "hands off")
    want("7.1")
    assert host.run("apply").returncode == 4
    told = json.loads(host.run("status", "second", "-o", "json").stdout)["portoDaemons"][0]
    assert told["gate"]["reason"] == "SharedPackage"
    assert "package juggler-client-core is also" in told["gate"]["message"]
    assert host.values("root_pid", name="second") == before
    assert host.installed()["juggler-client-core"] == "7.0"
    # The slot that it was given meanwhile is not kept.
    assert "0 of 1 slots held" in host.orlyctl("status", "porto-daemon-second").stdout
    host.orlyctl("resume", f"porto-daemon-{NAME}")
    assert host.run("apply").returncode == 0
    assert host.installed()["juggler-client-core"] == "7.1"
    assert host.values("root_pid", name="second") != before


def test_a_removal_that_has_to_wait_at_the_last_moment_purges_nothing(
    hosts: list[GatedHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = hosts[2]
    before = host.pid(), host.installed()
    text = host.spec_file.read_text()
    host.spec_file.write_text(text.replace("meta: {", "meta: {delete_requested: true, "))
    monkeypatch.setattr(client, "_ASK_AGAIN_AFTER_S", 0.0)
    settings = load_settings({}, host.environment).settings
    connections = []

    def connect() -> PortoClient:
        connections.append(1)
        # The second is the one of the daemon's own steps.
        if len(connections) == 2:
            host.orlyctl("pause", f"porto-daemon-{NAME}", "--reason", "not this one")
        return host.client()

    loaded = load_specs(settings.specs_dir)
    made = replace(make_host(settings), connect=connect)
    (status,) = run_pass(made, PassRequest(loaded.specs, loaded)).statuses
    host.orlyctl("resume", f"porto-daemon-{NAME}")
    assert status.gate is not None
    assert (status.phase, status.gate.reason) == ("Managed", "Paused")
    assert (host.pid(), host.installed()) == before
    assert host.run("apply").returncode == 0
    assert host.installed() == {}


def test_without_a_gate_status_says_that_there_is_none(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "alone").mkdir()
    with ExampleHost(tmp_path / "alone") as host:
        done = host.run("status")
        assert "gate: no gate is configured: every change is made at once" in done.stderr
        told = json.loads(host.run("status", "-o", "json").stdout)["gate"]
    assert told["type"] == "none"
