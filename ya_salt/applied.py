"""Remember in the container what we did to it. Pure.

The text lives in Porto's `private` (4096 bytes of anything, survives portod's and our own loss of
memory). See docs/adr/0001-memory-in-the-container.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ya_salt.model import Applied, Package

PRIVATE_MAX_BYTES = 4096
_VERSION = 1
_WHOLE_MAPS = frozenset({"env", "env_secret", "sysctl", "controllers"})


def hash_text(text: str) -> str:
    """12 hex digits that stand for `text`."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def hash_packages(packages: Iterable[Package]) -> str:
    """12 hex digits that stand for these exact packages, in any order."""
    return hash_text("\n".join(sorted(f"{item.name}={item.version}" for item in packages)))


def hash_values(values: Mapping[str, str]) -> dict[str, str]:
    return {name: hash_text(text) for name, text in values.items()}


def group_sent(properties: Mapping[str, str]) -> dict[str, str]:
    """Texts to remember: those of a map that cannot change live stand under its one name.

    Sixty environment variables would not fit into `private` one by one, and any change of one
    needs a new process anyway.
    """
    grouped: dict[str, str] = {}
    for name, text in properties.items():
        base = base_name(name)
        if base in _WHOLE_MAPS:
            grouped[base] = grouped.get(base, "") + f"{name}={text}\n"
        else:
            grouped[name] = text
    return grouped


def base_name(name: str) -> str:
    """`ulimit[nofile]` -> `ulimit`."""
    return name.partition("[")[0]


def name_read_back(name: str) -> str:
    """Under which name a property is read back: maps whole, but for those that portod adds to."""
    base = base_name(name)
    return name if base == "controllers" else base


def encode_applied(applied: Applied) -> str:
    """`private`'s text. Where it would not fit, what can be done without goes first."""
    for smaller in (
        applied,
        replace(applied, defaults={}),
        replace(applied, defaults={}, package_names=()),
    ):
        text = json.dumps(
            {
                "v": _VERSION,
                "sent": dict(smaller.sent),
                "read": dict(smaller.read),
                "defaults": dict(smaller.defaults),
                "unsupported": list(smaller.unsupported),
                "packages": smaller.packages,
                "names": list(smaller.package_names),
                "portod": smaller.portod,
            },
            separators=(",", ":"),
        )
        if len(text.encode()) <= PRIVATE_MAX_BYTES:
            return text
    return json.dumps({"v": _VERSION, "packages": applied.packages}, separators=(",", ":"))


def decode_applied(text: str) -> Applied | None:
    """What `encode_applied` wrote; None for anything else (somebody overwrote it)."""
    try:
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("v") != _VERSION:
            return None
        return Applied(
            sent=_strings(data.get("sent")),
            read=_strings(data.get("read")),
            defaults=_strings(data.get("defaults")),
            unsupported=tuple(str(item) for item in data.get("unsupported", ())),
            packages=str(data["packages"]),
            package_names=tuple(str(item) for item in data.get("names", ())),
            portod=str(data.get("portod", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _strings(data: Mapping[str, object] | None) -> dict[str, str]:
    return {str(key): str(value) for key, value in (data or {}).items()}
