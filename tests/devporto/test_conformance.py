"""Every scenario recorded from a real portod, step by step."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.portod import DevPortod, Wire

SCENARIOS = sorted((Path(__file__).parents[1] / "conformance").glob("*.json"))
UNCOMPARED = ("errorMsg", "timestamp")


@pytest.fixture(scope="module")
def server() -> Iterator[DevPortod]:
    with DevPortod() as portod:
        yield portod


def strip(answer: Any) -> Any:
    """Without what the recordings leave out."""
    if isinstance(answer, list):
        return [strip(one) for one in answer]
    if not isinstance(answer, dict):
        return answer
    kept = {key: strip(value) for key, value in answer.items() if key not in UNCOMPARED}
    for key in ("label", "value"):
        kept.get("wait", {}).pop(key, None)
        kept.get("AsyncWait", {}).pop(key, None)
    return kept


def matches(answer: Any, expected: Any) -> bool:
    if expected == "*":
        return True
    if isinstance(expected, dict) and isinstance(answer, dict):
        return answer.keys() == expected.keys() and all(
            matches(answer[key], expected[key]) for key in expected
        )
    if isinstance(expected, list) and isinstance(answer, list):
        return len(answer) == len(expected) and all(map(matches, answer, expected))
    return bool(answer == expected)


def play(wire: Wire, step: dict[str, Any]) -> None:
    if "sleep_s" in step:
        time.sleep(step["sleep_s"])
        return
    request = step.get("call") or step["until"]
    # Ten times what the recording allows: the machine is slower than the one it was made on.
    deadline = time.monotonic() + 10 * step.get("within_s", 0)
    while True:
        answer = strip(wire.call(**request))
        if matches(answer, step["expect"]):
            return
        if time.monotonic() >= deadline:
            pytest.fail(f"{request}\n answered {answer}\n  instead of {step['expect']}")
        time.sleep(0.05)


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario_is_answered_as_portod_answers(server: DevPortod, path: Path) -> None:
    scenario = json.loads(path.read_text())
    with server.connect() as wire:
        for step in scenario["steps"]:
            play(wire, step)


def test_every_scenario_is_found() -> None:
    assert len(SCENARIOS) >= 26
