"""docs/runbook.md has a section for each alert and each reason, and none of what is not there."""

from __future__ import annotations

import re

import pytest
import yaml
from helpers.documents import DOCS, find_sections
from helpers.reasons import ROOM, read_status_codes

RUNBOOK = DOCS / "runbook.md"
RULES = DOCS / "dashboards/porto-daemons.rules.yml"
PROBLEM = re.compile(r'\bProblem\(\s*"(\w+)"')


def read_alerts() -> dict[str, dict[str, str]]:
    """Alert -> its annotations."""
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    return {rule["alert"]: rule["annotations"] for rule in rules}


def read_problems() -> set[str]:
    return set(PROBLEM.findall((ROOM / "monitoring/metrics.py").read_text()))


def read_headings() -> tuple[set[str], set[str]]:
    """Those of alerts, those of reasons; several may share a section."""
    alerts, *reasons = re.split(r"^## (?:Reasons|Codes)", RUNBOOK.read_text(), flags=re.MULTILINE)
    found = [
        {
            name
            for line in re.findall(r"^### (.+)$", text, re.MULTILINE)
            for name in line.split(", ")
        }
        for text in (alerts, *reasons)
    ]
    return found[0], set().union(*found[1:])


def test_every_alert_and_problem_has_a_section_and_every_section_is_of_one() -> None:
    headings, _ = read_headings()
    problems = read_problems()
    assert {"pass_failed", "orphans", "gate_unreachable"} <= problems
    assert set(read_alerts()) <= headings
    assert headings - set(read_alerts()) <= problems
    told = set(re.findall(r"Problem `(\w+)`", RUNBOOK.read_text()))
    assert told == problems


def test_every_reason_has_a_section_and_every_section_is_of_one() -> None:
    _, headings = read_headings()
    assert headings == read_status_codes()


def test_the_reading_finds_reasons_of_every_kind() -> None:
    known = {"Ready", "Held", "CrashLooping", "PostrmFailed", "Meta", "Halted", "SharedPackage"}
    known |= {"GateRefused", "SocketUntrusted", "OrderCircle", "ProbeFailed", "InvalidValue"}
    assert known <= read_status_codes()


@pytest.mark.parametrize("section", find_sections(RUNBOOK, "###").items(), ids=lambda item: item[0])
def test_a_section_says_what_to_look_at_and_what_to_type(section: tuple[str, str]) -> None:
    _, text = section
    meaning, look, kind = text.partition("- Look: ")
    assert meaning.strip()
    _, typed, what = kind.partition("- Type: ")
    assert look and typed
    assert "`" in what or what.startswith("nothing")


def test_every_alert_links_its_section() -> None:
    for alert, notes in read_alerts().items():
        assert notes["runbook_url"] == f"docs/runbook.md#{alert.lower()}"


def test_links_within_the_runbook_lead_somewhere() -> None:
    text = RUNBOOK.read_text()
    anchors = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors
