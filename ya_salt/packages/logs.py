"""Who changed a package, as apt and dpkg have written it down. Reads only."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator
from pathlib import Path

_MAX_BYTES = 1 << 20
"""Of each log, its end: what matters happened lately."""


def find_who(root: Path, package: str, version: str) -> str:
    """Who brought a package to `version` ("": removed it) last, and when; "" where none tells."""
    return _ask_apt(root, package, version) or _ask_dpkg(root, package, version)


def _ask_apt(root: Path, package: str, version: str) -> str:
    name = re.escape(package.partition(":")[0])
    # `juggler:amd64 (1.0, 1.1)` of an upgrade, `juggler:amd64 (1.1)` of an installation.
    target = (
        rf"\((?:[^(),]*, )?{re.escape(version)}(?:, automatic)?\)" if version else r"\([^()]*\)"
    )
    kinds = "Install|Upgrade|Downgrade|Reinstall" if version else "Remove|Purge"
    wanted = re.compile(rf"^(?:{kinds}): (?:.*, )?{name}(?::[a-z0-9-]+)? {target}", re.MULTILINE)
    for text in _read_logs(root / "var/log/apt", "history.log"):
        for block in reversed(text.split("\n\n")):
            if wanted.search(block):
                return _describe_block(block)
    return ""


def _describe_block(block: str) -> str:
    pairs = (line.partition(": ") for line in block.splitlines())
    facts = {key: " ".join(value.split()) for key, _, value in pairs}
    who = f" of {facts['Requested-By']}" if facts.get("Requested-By") else ""
    command = facts.get("Commandline", "apt")
    return f"`{command[:200]}`{who} at {facts.get('Start-Date', 'a time that apt did not note')}"


def _ask_dpkg(root: Path, package: str, version: str) -> str:
    name = package.partition(":")[0]
    for text in _read_logs(root / "var/log", "dpkg.log"):
        for line in reversed(text.splitlines()):
            # `2026-11-25 06:12:03 upgrade juggler:amd64 1.0 1.1`
            words = line.split()
            if len(words) < 6 or words[3].partition(":")[0] != name:
                continue
            is_it = (
                words[2] in {"install", "upgrade"} and words[5] == version
                if version
                else words[2] in {"remove", "purge"}
            )
            if is_it:
                return f"dpkg, without apt, at {words[0]} {words[1]}"
    return ""


def _read_logs(folder: Path, name: str) -> Iterator[str]:
    """The log and the ones before it, the newest first; what cannot be read tells nothing."""
    for each in (name, f"{name}.1", f"{name}.1.gz"):
        try:
            if each.endswith(".gz"):
                with gzip.open(folder / each) as file:
                    data = file.read(_MAX_BYTES)
            else:
                with (folder / each).open("rb") as file:
                    size = file.seek(0, os.SEEK_END)
                    file.seek(max(0, size - _MAX_BYTES))
                    data = file.read(_MAX_BYTES)
        except (OSError, EOFError):
            continue
        yield data.decode(errors="replace")
