"""apt's and dpkg's lines as progress for a person who waits. Pure."""

from __future__ import annotations

import re

_STEP = re.compile(
    r"(?P<step>Unpacking|Setting up|Removing|Purging configuration files for) (?P<what>.+?) ?\.*$"
)
# `Get:1 URI SUITE [ARCH] NAME [ARCH] VERSION [SIZE]`; the architecture is there or not, twice.
_FETCH = re.compile(
    r"Get:\d+ \S+ \S+(?: \S+)?? (?P<name>[a-z0-9][a-z0-9+.-]*)(?: \S+)? "
    r"(?P<version>\S+)(?: (?P<size>\[[^\]]+\]))?$"
)


def describe_line(line: str) -> str:
    """Say it in our words, short, or "" for what nobody needs to see."""
    if match := _STEP.match(line):
        return f"{match['step'].lower()} {match['what']}"
    if match := _FETCH.match(line):
        return f"fetching {match['name']} {match['version']} {match['size'] or ''}".rstrip()
    return ""
