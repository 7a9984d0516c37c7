"""docs/monitoring.md lists each metric, each signal and each problem that there is."""

from __future__ import annotations

import re
from dataclasses import replace

from helpers.documents import DOCS
from made import ANSWERED, GOOD, NOW, make

from ya_salt.life import Hold, Rejection
from ya_salt.model import ProbeStanding, YasmSettings
from ya_salt.monitoring.render import prometheus, yasm

TEXT = (DOCS / "monitoring.md").read_text()
PROBED = replace(GOOD, probe=ProbeStanding("tcp 80", True, 1, 0, "it answered", NOW, NOW))


def read_table(head: str, pattern: str) -> set[str]:
    """What stands in the first column of a table."""
    table = TEXT.partition(f"\n| {head} |")[2].partition("\n\n")[0]
    return {
        name
        for row in table.splitlines()
        for name in re.findall(pattern, row.strip("| ").partition(" |")[0])
    }


def test_every_metric_stands_in_its_table() -> None:
    text = prometheus.render_text(make(PROBED, gate=ANSWERED)).decode()
    written = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    assert "porto_daemons_gate_up" in written
    assert read_table("metric", r"`(porto_daemons?_\w+)`") == written


def test_every_signal_stands_in_its_table() -> None:
    (body,) = yasm.render_push(make(PROBED), YasmSettings())
    pushed = {item["name"].replace("-daemon-d-", "-daemon-{name}-") for item in body["values"]}
    assert read_table("signal", r"`(porto-daemons?-\S+_thhh)`") == pushed


def test_every_problem_stands_among_those_of_alertmanager() -> None:
    told = TEXT.partition("`problem` is ")[2].partition(". ")[0]
    hold = Hold("me", "why", NOW - 1e6)
    worst = make(
        replace(GOOD, phase="Orphaned", hold=hold, rejection=Rejection("m", "1.3", "why", NOW)),
        now=NOW + 1e6,
        error="x",
        rejected=[["/x", ["y"]]],
        gate={**ANSWERED, "state": "failed", "override": "why"},
    )
    assert set(re.findall(r"`(\w+)`", told)) == {item.kind for item in worst.host.problems}
