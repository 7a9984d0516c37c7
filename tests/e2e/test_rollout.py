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


def test_a_bad_version_stops_at_the_first_host_and_the_next_one_goes_on(
    hosts: list[GatedHost],
) -> None:
    bad, *others = hosts
    for host in hosts:
        host.release("2.5")
        host.repository.add(
            "juggler-client-core",
            "3.0-bad",
            files={"usr/bin/juggler-client": ("#!/bin/sh\nexit 3\n", 0o755)},
        )
        host.repository.write_index()
        host.want("3", "3.0-bad")
    before = {host: host.pid() for host in others}
    assert bad.run("apply").returncode == 1
    found = apply_all(others)
    assert set(found) == {4}
    for host in others:
        assert host.pid() == before[host]
    shown = bad.orlyctl("status", f"porto-daemon-{NAME}").stdout
    assert "web1" in shown
    assert "failed" in shown
    # The repaired version goes first where the bad one failed.
    for host in hosts:
        host.want("4", "2.5")
    assert set(apply_all(others)) == {4}
    assert bad.run("apply").returncode == 0
    time.sleep(2.5)
    assert bad.run("apply").returncode == 0
    left = list(others)
    while left:
        found = apply_all(left)
        (updated,) = found[0]
        time.sleep(2.5)
        assert updated.run("apply").returncode == 0
        left = found.get(4, [])
    assert {host.installed()["juggler-client-core"] for host in hosts} == {"2.5"}


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
