"""Every scenario recorded from a real portod, step by step."""

from __future__ import annotations

import json
import time
from collections import deque
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


class Player:
    """Plays one recording; keeps what comes unasked until a step wants to hear it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._events: deque[dict[str, Any]] = deque()

    def play(self, step: dict[str, Any]) -> None:
        # Ten times what the recording allows: the machine is slower than the one it was made on.
        within_s = 10 * step.get("within_s", 0)
        if "sleep_s" in step:
            time.sleep(step["sleep_s"])
        elif "event" in step and step["event"] is None:
            assert self._hear(step["within_s"]) is None
        elif "event" in step:
            assert self._hear(within_s) == step["event"]
        else:
            self._ask(step.get("call") or step["until"], step["expect"], within_s)

    def _ask(self, request: dict[str, Any], expected: dict[str, Any], within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while True:
            answer = strip(self._call(request))
            if matches(answer, expected):
                return
            if time.monotonic() >= deadline:
                pytest.fail(f"{request}\n answered {answer}\n  instead of {expected}")
            time.sleep(0.05)

    def _call(self, request: dict[str, Any]) -> dict[str, Any]:
        self._wire.send(request)
        while "AsyncWait" in (answer := self._wire.receive()):
            self._events.append(answer["AsyncWait"])
        return answer

    def _hear(self, within_s: float) -> dict[str, str] | None:
        """The next message that comes unasked: its name and its state."""
        if not self._events:
            usual_s = self._wire.sock.gettimeout()
            self._wire.sock.settimeout(within_s)
            try:
                self._events.append(self._wire.receive()["AsyncWait"])
            except TimeoutError:
                return None
            finally:
                self._wire.sock.settimeout(usual_s)
        event = self._events.popleft()
        return {"name": event["name"], "state": event["state"]}


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario_is_answered_as_portod_answers(server: DevPortod, path: Path) -> None:
    scenario = json.loads(path.read_text())
    with server.connect() as wire, server.connect() as broom:
        player = Player(wire)
        try:
            for step in scenario["steps"]:
                player.play(step)
        finally:
            # A scenario that fails must not spoil the next: each wants an empty server.
            for name in broom.call(list={}).get("list", {}).get("name", []):
                broom.call(destroy={"name": name})


def test_every_scenario_is_found() -> None:
    assert len(SCENARIOS) >= 43
