"""Who may go past the rollout gate, and how."""

from __future__ import annotations

import os
import sys

from ya_salt.errors import UsageError


def check_override(reason: str | None) -> str:
    """The reason to go past the gate, or "". Raises UsageError: only root at a terminal may."""
    if reason is None:
        return ""
    if os.geteuid() != 0 or not sys.stdin.isatty():
        raise UsageError(
            "--override-gate is for root at a terminal only: nothing that runs by itself may go "
            "past the gate"
        )
    words = " ".join(reason.split())
    if not words:
        raise UsageError("--override-gate wants a reason: it is logged and reported")
    return words
