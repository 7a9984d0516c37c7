"""What Salt is told: in the words of its own functions, and by whom something was asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_COMMAND = re.compile(
    r"\bya-salt (adopt|apply|describe|generations|history|plan|restart|retry|rollback|start|status"
    r"|stop|why)\b"
    # Not where options follow, which a function of Salt's has otherwise.
    r"(?! (?:[^\s-]\S* )?-)"
)
_MAX_BYTES = 1 << 20

SOMEBODY = "Salt"
"""Who asks where no job is known: masterless, or in a test."""


def speak(told: Any) -> Any:
    """Plain data with `ya-salt VERB` as Salt's function wherever it stands in a text."""
    if isinstance(told, str):
        return _COMMAND.sub(r"salt-call porto_daemon.\1", told)
    if isinstance(told, dict):
        return {key: speak(item) for key, item in told.items()}
    return [speak(item) for item in told] if isinstance(told, list | tuple) else told


def name_job(opts: Mapping[str, Any], load: Callable[[bytes], Any]) -> str:
    """`Salt job ID` of the job that runs in this process, by the minion's notes of those under way.

    `load` reads such a note, which is in Salt's own form.
    """
    ours = {os.getpid(), os.getppid()}
    folder = Path(str(opts.get("cachedir") or "/nonexistent"), "proc")
    try:
        notes = [_read_note(path, load) for path in sorted(folder.iterdir())]
    except OSError:
        return SOMEBODY
    jobs = {str(note["jid"]) for note in notes if note.get("pid") in ours and note.get("jid")}
    # Of jobs that run as threads of one process nobody can say which this one is.
    return f"Salt job {jobs.pop()}" if len(jobs) == 1 else SOMEBODY


def _read_note(path: Path, load: Callable[[bytes], Any]) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            note = load(file.read(_MAX_BYTES))
    except Exception:  # noqa: BLE001 - whatever is wrong with somebody else's note
        return {}
    return note if isinstance(note, Mapping) else {}
