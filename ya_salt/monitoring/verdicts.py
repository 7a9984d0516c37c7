"""What the answers of YASM's agent and Juggler's client mean. Pure, and loads next to nothing."""

from __future__ import annotations

from ya_salt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    Event: TypeAlias = dict[str, Any]


def says_no(answer: Any) -> bool:
    """Whether YASM's agent refuses what it was sent, be it with status 200."""
    return isinstance(answer, dict) and answer.get("status") == "error"


def find_refused(
    events: Sequence[dict[str, Any]], answer: Any
) -> list[tuple[dict[str, Any], int, str]]:
    """(event, code, words) of every event that the answer's `events[].code` does not accept.

    Code 0 stands for an answer that says nothing about the event: that is no yes either.
    """
    told = answer.get("events") if isinstance(answer, dict) else None
    verdicts = told if isinstance(told, list) else []
    refused = []
    for index, event in enumerate(events):
        verdict = verdicts[index] if index < len(verdicts) else None
        code, words = _read_verdict(verdict)
        if code != 200:
            refused.append((event, code, words))
    return refused


def _read_verdict(verdict: Any) -> tuple[int, str]:
    if not isinstance(verdict, dict) or not isinstance(verdict.get("code"), int):
        return 0, "the answer says nothing about it"
    words = verdict.get("error") or verdict.get("message")
    return verdict["code"], printable(words, 200) if isinstance(words, str) else ""
