"""What each panel says of a fleet whose two hours are known, asked of a real Prometheus."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.documents import DOCS
from helpers.servers import HttpServer, list_missing, run_promtool

BOARDS = DOCS / "dashboards"
BEGIN = 1767261600
"""2026-01-01 10:00 UTC."""
NOW = BEGIN + 7200
STEP_S = 30
UPDATE, TROUBLE = BEGIN + 3600, BEGIN + 5400

Value = Callable[[int], float | None]
"""Of a moment; None where there is no sample."""


def always(value: float) -> Value:
    return lambda _: value


def since(moment: int, value: float, before: float = 0) -> Value:
    return lambda now: value if now >= moment else before


def growing(per_s: float, begin: int = BEGIN) -> Value:
    return lambda now: round(max(0.0, (now - begin) * per_s), 3)


# Three hosts. 1.1 of the agent came to h1 and h2 at 11:00. On h2 it has been dying once a minute
# since 11:30, so it is failed there and h3 waits. h3 makes no passes since 11:50, and has a broken
# file.
FLEET: Mapping[str, Mapping[str, Value]] = {
    "porto_daemon_ready": {
        'daemon="agent",instance="h1"': always(1),
        'daemon="agent",instance="h2"': since(TROUBLE, 0, before=1),
        'daemon="agent",instance="h3"': always(1),
        'daemon="shipper",instance="h1"': always(1),
    },
    "porto_daemon_running": {
        'daemon="agent",instance="h1"': always(1),
        'daemon="agent",instance="h2"': since(TROUBLE, 0, before=1),
        'daemon="agent",instance="h3"': always(1),
    },
    "porto_daemon_info": {
        'daemon="agent",version="1.0",instance="h1"': lambda now: 1 if now < UPDATE else None,
        'daemon="agent",version="1.1",instance="h1"': lambda now: 1 if now >= UPDATE else None,
        'daemon="agent",version="1.1",instance="h2"': lambda now: 1 if now >= UPDATE else None,
        'daemon="agent",version="1.0",instance="h3"': always(1),
        'daemon="shipper",version="7",instance="h1"': always(1),
    },
    "porto_daemon_respawns_total": {
        'daemon="agent",instance="h1"': always(0),
        'daemon="agent",instance="h2"': growing(1 / 60, TROUBLE),
        'daemon="agent",instance="h3"': always(4),
    },
    "porto_daemon_restarts_total": {
        'daemon="agent",instance="h1"': since(NOW - 60, 6, before=5),
        'daemon="agent",instance="h2"': always(2),
    },
    "porto_daemon_last_transition_timestamp_seconds": {
        'daemon="agent",instance="h1"': always(BEGIN),
        'daemon="agent",instance="h2"': since(TROUBLE, TROUBLE, before=BEGIN),
    },
    "porto_daemon_start_duration_seconds": {
        'daemon="agent",instance="h1"': always(2),
        'daemon="agent",instance="h2"': always(3),
        'daemon="shipper",instance="h1"': always(4),
    },
    "porto_daemon_probe_failures": {'daemon="agent",instance="h2"': since(TROUBLE, 2)},
    "porto_daemon_memory_usage_bytes": {
        'daemon="agent",instance="h1"': always(1e8),
        'daemon="agent",instance="h3"': always(2e8),
        'daemon="shipper",instance="h1"': always(5e7),
    },
    "porto_daemon_cpu_usage_seconds_total": {
        'daemon="agent",instance="h1"': growing(0.1),
        'daemon="agent",instance="h3"': growing(0.2),
        'daemon="shipper",instance="h1"': growing(0.01),
    },
    "porto_daemon_crash_looping": {
        'daemon="agent",instance="h1"': always(0),
        'daemon="agent",instance="h2"': since(TROUBLE, 1),
    },
    "porto_daemon_version_rejected": {
        'daemon="agent",instance="h2"': always(0),
        'daemon="shipper",instance="h1"': always(1),
    },
    "porto_daemon_held": {
        'daemon="agent",instance="h1"': always(0),
        'daemon="shipper",instance="h1"': always(0),
    },
    "porto_daemon_drifted": {'daemon="shipper",instance="h1"': since(TROUBLE, 3)},
    "porto_daemon_spec_rejected": {'file="/etc/x.yaml",instance="h3"': since(TROUBLE, 1)},
    "porto_daemons_rejected_files": {
        'instance="h1"': always(0),
        'instance="h3"': since(TROUBLE, 1),
    },
    "porto_daemons_orphans": {'instance="h1"': always(2), 'instance="h2"': always(0)},
    "porto_daemons_pass_timestamp_seconds": {
        'instance="h1"': float,
        'instance="h2"': lambda now: float(now - 20),
        'instance="h3"': lambda now: float(min(now, NOW - 600)),
    },
    "porto_daemons_pass_duration_seconds": {
        'instance="h1"': always(0.1),
        'instance="h2"': always(0.5),
        'instance="h3"': always(0.3),
    },
    "porto_daemons_pass_result": {
        'instance="h1"': always(1),
        'instance="h2"': since(TROUBLE, 0, before=1),
        'instance="h3"': since(TROUBLE, 0, before=1),
    },
    "porto_daemons_pass_failed": {'instance="h1"': always(0), 'instance="h3"': always(1)},
    "porto_daemon_gate_waiting": {
        'daemon="agent",instance="h1"': always(0),
        'daemon="agent",instance="h2"': always(0),
        'daemon="agent",instance="h3"': since(UPDATE, 1),
    },
    "porto_daemon_gate_slot": {
        'daemon="agent",instance="h1"': always(0),
        'daemon="agent",instance="h2"': since(UPDATE, 1),
        'daemon="agent",instance="h3"': always(0),
    },
    "porto_daemon_gate_failed": {
        'daemon="agent",instance="h1"': always(0),
        'daemon="agent",instance="h2"': since(TROUBLE, 1),
        'daemon="agent",instance="h3"': always(0),
    },
    "porto_daemons_gate_queue_length": {'instance="h1"': always(0), 'instance="h3"': always(1)},
    "porto_daemons_gate_up": {'instance="h1"': always(1), 'instance="h3"': always(0)},
    "porto_daemons_gate_overridden": {'instance="h1"': always(0), 'instance="h2"': always(1)},
}

# Panel -> what each of its queries says at 12:00: the value of each series, by the labels that tell
# it from the others.
ANSWERS: Mapping[str, Mapping[str, list[dict[str, float]]]] = {
    "porto-daemons.json": {
        "Ready": [{"": 3 / 4}],
        "Not ready": [{"": 1}],
        "Daemons": [{"": 4}],
        "Hosts": [{"": 3}],
        "Rejected files": [{"": 1}],
        "Orphans": [{"": 2}],
        "Crash-looping": [{"": 1}],
        "Versions rejected": [{"": 1}],
        "Held": [{"": 0}],
        "Drifted": [{"": 1}],
        "Ready and total": [{"agent": 2, "shipper": 1}, {"agent": 3, "shipper": 1}],
        "Worst daemons": [{"agent": 1 / 3, "shipper": 0}],
        "Not ready now": [{"agent h2": 0}],
        "Rejected files now": [{"/etc/x.yaml h3": 1}],
        "Respawns": [{"agent": 2}],
        "Restarts": [{"agent": 1}],
        "Versions rolling out": [{"agent 1.0": 1, "agent 1.1": 2, "shipper 7": 1}],
        "Slowest to start": [{"agent": 3, "shipper": 4}],
        "Memory": [{"agent": 3e8, "shipper": 5e7}],
        "CPU": [{"agent": 0.3, "shipper": 0.01}],
        "Oldest pass": [{"": 600}],
        "Hosts whose pass failed": [{"": 1}],
        "Hosts with something to look at": [{"": 2}],
        "Passes": [{"": 0.5}, {"": 0.3}],
        "Changes that wait for their turn": [{"": 1}],
        "At the gate": [{"agent": 1}, {"agent": 1}, {"agent": 1}],
        "Slots kept by failures": [{"": 1}],
        "Hosts that cannot ask the gate": [{"": 1}],
        "Hosts past the gate": [{"": 1}],
        "Waiting now": [{"agent h3": 1}],
    },
    "porto-daemon.json": {
        "Ready": [{"": 2}],
        "Not ready": [{"": 1}],
        "Not running": [{"": 1}],
        "Versions": [{"": 2}, {"1.0": 1, "1.1": 2}],
        "Respawns": [{"": 30}, {"agent h1": 0, "agent h2": 2, "agent h3": 0}],
        "Restarts": [{"": 1}, {"agent h1": 1, "agent h2": 0}],
        "Ready, by host": [{"agent h1": 1, "agent h2": 0, "agent h3": 1}],
        "Memory": [{"agent h1": 1e8, "agent h3": 2e8}],
        "CPU": [{"agent h1": 0.1, "agent h3": 0.2}],
        "Time to start": [{"agent h1": 2, "agent h2": 3}],
        "In this state since": [{"agent h1": 7200, "agent h2": 1800}],
        "At the gate, by host": [{"agent h1": 0, "agent h2": 4, "agent h3": 1}],
        "At the gate": [{"": 1}, {"": 1}, {"": 1}],
        "Failed probes in a row": [{"agent h2": 2}],
    },
}

VARIABLES = {"instance": ".+", "__rate_interval": "2m", "__range": "1h"}


def record() -> str:
    """The two hours as OpenMetrics."""
    lines = []
    for name, series in FLEET.items():
        family = name.removesuffix("_total")
        lines.append(f"# TYPE {family} {'gauge' if family == name else 'counter'}")
        for labels, value in series.items():
            for now in range(BEGIN, NOW + 1, STEP_S):
                told = value(now)
                if told is not None:
                    lines.append(f"{name}{{{labels}}} {told} {now}")
    return "\n".join([*lines, "# EOF", ""])


class Recorded(HttpServer):
    """A Prometheus that scrapes nobody and has what was recorded."""

    def __init__(self, folder: Path) -> None:
        super().__init__("prometheus", "/-/ready", folder)

    def arguments(self) -> list[str]:
        (self.folder / "nobody.yml").write_text("{}")
        keep = "--storage.tsdb.retention.time=100y"
        return ["--config.file=nobody.yml", "--storage.tsdb.path=data", keep]

    def ask(self, expression: str) -> dict[str, float]:
        answer = self.get_json("/api/v1/query", query=expression, time=str(NOW))
        return {
            name_series(item["metric"]): float(item["value"][1])
            for item in answer["data"]["result"]
        }

    def list_series(self, selector: str) -> list[dict[str, str]]:
        query = {"match[]": selector, "start": str(BEGIN), "end": str(NOW)}
        found: list[dict[str, str]] = self.get_json("/api/v1/series", **query)["data"]
        return found


def name_series(labels: Mapping[str, str]) -> str:
    known = ("daemon", "file", "version", "instance")
    return " ".join(labels[name] for name in known if name in labels)


@dataclass(frozen=True)
class Panel:
    board: str
    title: str
    queries: tuple[str, ...]


def list_panels() -> list[Panel]:
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted(BOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            queries = found.setdefault((path.name, panel["title"]), [])
            queries += [target["expr"] for target in panel["targets"]]
    return [Panel(*key, tuple(queries)) for key, queries in found.items()]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    missing = " ".join(list_missing())
    if missing and os.geteuid() == 0:
        pytest.fail(f"programs are missing that .ci/prepare-servers unpacks: {missing}")
    if missing:
        pytest.skip(f"Debian packages are missing: apt-get install {missing}")
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "fleet.txt").write_text(record())
    blocks = [str(folder / "fleet.txt"), str(folder / "data")]
    done = run_promtool("tsdb", "create-blocks-from", "openmetrics", *blocks)
    assert done.returncode == 0, done.stderr
    with Recorded(folder) as prometheus:
        yield prometheus


def fill(expression: str, board: str) -> str:
    names = {**VARIABLES, "daemon": "agent" if board == "porto-daemon.json" else ".+"}
    filled = re.sub(r"\$(\w+)", lambda found: names[found[1]], expression)
    assert "$" not in filled
    return filled


@pytest.mark.parametrize("panel", list_panels(), ids=lambda panel: f"{panel.board}: {panel.title}")
def test_a_panel_says_what_happened(panel: Panel, recorded: Recorded) -> None:
    wanted: list[dict[str, float]] = ANSWERS[panel.board][panel.title]
    said: list[Any] = [recorded.ask(fill(query, panel.board)) for query in panel.queries]
    assert said == [pytest.approx(item, rel=0.05, abs=0.001) for item in wanted]


def test_every_panel_is_asked() -> None:
    panels = {(panel.board, panel.title) for panel in list_panels()}
    assert panels == {(board, title) for board, titles in ANSWERS.items() for title in titles}


def test_variables_have_values(recorded: Recorded) -> None:
    for path in sorted(BOARDS.glob("*.json")):
        for variable in json.loads(path.read_text())["templating"]["list"]:
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable.get("definition", ""))
            assert asked or variable["type"] == "datasource"
            if asked:
                selector = fill(asked[1], path.name)
                assert any(asked[2] in item for item in recorded.list_series(selector))
