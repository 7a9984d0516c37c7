"""Prometheus' own servers are asked what arrived, and run every query of dashboards and rules."""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from helpers.apart import NOBODY, set_apart
from helpers.passes import Passes
from helpers.portod import DevPortod
from helpers.servers import (
    Alertmanager,
    NodeExporter,
    Prometheus,
    list_missing,
    run_promtool,
    wait_for,
)

from ya_salt.model import AlertmanagerSettings, GateSettings

DASHBOARDS = Path(__file__).parent.parent.parent / "docs/dashboards"
RULES = DASHBOARDS / "porto-daemons.rules.yml"

VARIABLES = {
    "daemon": ".+",
    "instance": ".+",
    "__rate_interval": "1m",
    "__range": "1h",
}


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    missing = " ".join(list_missing())
    if missing and os.geteuid() == 0:
        pytest.fail(f"programs are missing that .ci/prepare unpacks: {missing}")
    if missing:
        pytest.skip(f"Debian packages are missing: apt-get install {missing}")


class Host:
    """One host: passes, and the directory that its node_exporter reads."""

    def __init__(self, folder: Path, portod: DevPortod, **alerting: str) -> None:
        folder.mkdir(exist_ok=True)
        self.textfiles = folder / "textfile"
        self.textfiles.mkdir()
        self.passes = Passes(folder, portod.socket_path)
        told = replace(set_apart(folder), alertmanager=AlertmanagerSettings(**alerting))
        self.passes.settings = replace(
            self.passes.settings, monitoring=told, hostname="h.example.org"
        )
        self.file = self.textfiles / "ya-salt.prom"

    def run(self) -> None:
        self.passes.run(is_strict=False)

    def write_raw(self, name: str, text: str) -> Path:
        path = self.passes.specs_dir / f"{name}.yaml"
        path.write_text(text)
        return path

    def make_trouble(self) -> Path:
        """A daemon that is well, one that is asked, one that is dead, one broken file."""
        self.passes.write("good", "respawn_delay: 100ms")
        self.write_raw(
            "dead",
            "meta: {name: dead, version: '1'}\n"
            "spec: {min_ready_s: 2, properties: {cmd: [sh, -c, "
            "'echo no licence >&2; exit 3'], max_respawns: 1, respawn_delay: 10ms}}\n",
        )
        self.write_raw(
            "asked",
            "meta: {name: asked, version: '1'}\n"
            "spec: {min_ready_s: 0, readiness: {exec: ['true']}, "
            "properties: {cmd: [sleep, '1000']}}\n",
        )
        broken = self.write_raw("broken", "meta: {name: broken}\n")
        self.run()
        return broken

    def make_wait(self) -> None:
        """A change of the daemon that is well has to wait: no gate answers."""
        gate = GateSettings(type="orly", endpoints=(NOBODY,))
        self.passes.settings = replace(self.passes.settings, gate=gate)
        self.passes.write("good", "respawn_delay: 100ms", version="2", command="cmd: [cat]")
        self.run()


@pytest.fixture(scope="module")
def scene(
    tmp_path_factory: pytest.TempPathFactory, portod: DevPortod
) -> Iterator[tuple[Host, NodeExporter, Prometheus]]:
    """A host with every kind of trouble, scraped by real servers."""
    folder = tmp_path_factory.mktemp("scene")
    host = Host(folder / "host", portod)
    host.make_trouble()
    host.make_wait()
    with (
        NodeExporter(folder / "exporter", host.textfiles) as exporter,
        Prometheus(
            folder / "prometheus", {"h.example.org": f"127.0.0.1:{exporter.port}"}, RULES
        ) as prometheus,
    ):
        yield host, exporter, prometheus
        (host.passes.specs_dir / "broken.yaml").unlink()
        host.passes.settings = replace(host.passes.settings, gate=GateSettings())
        host.passes.remove_all()


def test_the_file_is_what_promtool_likes_and_node_exporter_can_read(
    scene: tuple[Host, NodeExporter, Prometheus],
) -> None:
    host, exporter, _ = scene
    text = host.file.read_text()
    done = run_promtool("check", "metrics", text=text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stat.S_IMODE(host.file.stat().st_mode) == 0o644
    served = exporter.get("/metrics")
    assert "node_textfile_scrape_error 0" in served
    assert 'porto_daemon_ready{daemon="good"} 1' in served
    assert 'porto_daemon_probe_failures{daemon="asked"} 0' in served
    assert 'porto_daemon_probe_failures{daemon="good"}' not in served
    assert run_promtool("check", "metrics", text=served).returncode == 0


def test_prometheus_knows_what_the_pass_saw(
    scene: tuple[Host, NodeExporter, Prometheus],
) -> None:
    host, _, prometheus = scene
    read = prometheus.read
    wait_for(lambda: read('porto_daemon_ready{daemon="good"}') == 1, "the first scrape")
    assert read('porto_daemon_ready{daemon="dead"}') == 0
    assert read('porto_daemon_running{daemon="dead"}') == 0
    assert (read('porto_daemon_respawns_total{daemon="dead"}') or 0) >= 1
    assert (read('porto_daemon_memory_usage_bytes{daemon="good"}') or 0) > 0
    assert (read('porto_daemon_start_duration_seconds{daemon="good"}') or 0) < 5
    (rejected,) = prometheus.query("porto_daemon_spec_rejected")
    assert rejected["metric"]["file"] == str(host.passes.specs_dir / "broken.yaml")
    (info,) = prometheus.query('porto_daemon_info{daemon="dead"}')
    assert info["metric"]["version"] == "1"
    assert abs(time.time() - (read("porto_daemons_pass_timestamp_seconds") or 0)) < 120
    assert read("porto_daemons_pass_result") == 0
    assert read("porto_daemons_pass_failed") == 0
    assert (read("porto_daemons_pass_duration_seconds") or 0) > 0
    assert read('porto_daemon_gate_waiting{daemon="good"}') == 1
    assert read('porto_daemon_gate_waiting{daemon="dead"}') == 0
    assert read("porto_daemons_gate_queue_length") == 1
    assert read("porto_daemons_gate_up") == 0
    (info,) = prometheus.query('porto_daemon_info{daemon="good"}')
    assert info["metric"]["version"] == "1"


def list_queries() -> list[tuple[str, str]]:
    """(where, expression) of every panel, variable and rule."""
    found = []
    for path in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                found.append((f"{path.name}: {panel['title']}", target["expr"]))
    return found


def fill(expression: str) -> str:
    """The expression as Grafana sends it, with every variable on "all"."""
    exact = expression.replace('daemon="$daemon"', 'daemon=~"$daemon"')
    filled = re.sub(r"\$(\w+)", lambda name: VARIABLES[name[1]], exact)
    assert "$" not in filled
    return filled


def test_every_query_of_the_dashboards_returns_series(
    scene: tuple[Host, NodeExporter, Prometheus],
) -> None:
    _, _, prometheus = scene
    queries = list_queries()
    assert len(queries) > 30

    def find_empty() -> list[tuple[str, str]]:
        return [item for item in queries if not prometheus.query(fill(item[1]))]

    # An increase takes two scrapes.
    wait_for(lambda: not find_empty(), f"series of {find_empty()}", within_s=20)


def test_every_metric_of_the_dashboards_and_rules_is_one_of_ours(
    scene: tuple[Host, NodeExporter, Prometheus],
) -> None:
    host, _, _ = scene
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    used = " ".join([query for _, query in list_queries()] + [rule["expr"] for rule in rules])
    named = set(re.findall(r"porto_daemons?_\w+", used))
    written = set(re.findall(r"^# TYPE (\S+)", host.file.read_text(), re.MULTILINE))
    assert named <= written
    # And nothing is written that nobody looks at.
    assert written <= named


def test_the_rules_fire_on_what_a_pass_saw(
    scene: tuple[Host, NodeExporter, Prometheus],
) -> None:
    _, _, prometheus = scene

    def list_pending() -> set[str]:
        alerts = prometheus.get_json("/api/v1/alerts")["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts}

    wanted = {
        "PortoDaemonNotReady",
        "PortoDaemonSpecRejected",
        "PortoDaemonGateWaiting",
        "PortoDaemonsGateDown",
    }
    wait_for(lambda: wanted <= list_pending(), "pending alerts")
    assert list_pending() == wanted


def test_promtool_tests_the_rules() -> None:
    done = run_promtool("check", "rules", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr
    done = run_promtool("test", "rules", str(DASHBOARDS / "porto-daemons.rules.test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_has_a_test() -> None:
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    tests = yaml.safe_load((DASHBOARDS / "porto-daemons.rules.test.yml").read_text())["tests"]
    fired = {
        case["alertname"]
        for item in tests
        for case in item["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert {rule["alert"] for rule in rules} == fired


def test_alertmanager_hears_of_daemons_and_of_their_recovery(folder: Path) -> None:
    with Alertmanager(folder / "alertmanager") as alertmanager, DevPortod() as portod:
        host = Host(folder / "host", portod, url=alertmanager.url)
        broken = host.make_trouble()
        wanted = [
            "porto-daemon-dead is not ready on h.example.org",
            "porto-daemons: rejected_files on h.example.org",
        ]
        wait_for(lambda: sorted(alertmanager.alerts()) == wanted, f"alerts {wanted}")
        alerts = alertmanager.alerts()
        dead = alerts["porto-daemon-dead is not ready on h.example.org"]
        assert dead["labels"] == {
            "alertname": "PortoDaemonNotReady",
            "daemon": "dead",
            "instance": "h.example.org",
            "severity": "critical",
        }
        assert "no licence" in dead["annotations"]["description"]
        host.run()
        again = alertmanager.alerts()["porto-daemon-dead is not ready on h.example.org"]
        assert again["startsAt"] == dead["startsAt"]
        host.passes.write("dead", "")
        broken.unlink()
        host.run()
        wait_for(lambda: not alertmanager.alerts(), "the alerts' end")
        host.passes.remove_all()
