"""What we did to a container, and what it differs in from its spec now. Pure.

What was sent and read back is remembered in the container's own `private` text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ya_salt.model import Container, DaemonSpec, LastApplied, Observed, Package

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


def encode_last_applied(applied: LastApplied) -> str:
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


def decode_last_applied(text: str) -> LastApplied | None:
    """What `encode_last_applied` wrote; None for anything else (somebody overwrote it)."""
    try:
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("v") != _VERSION:
            return None
        return LastApplied(
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


OUR_PROPERTIES: Mapping[str, str] = {"respawn": "true"}
"""What ya-salt itself sets on every container, beside the label and `private`."""

_EMPTIED = frozenset({"labels", "symlink"})
"""Maps whose entries go with an empty value; others' entries only with the whole map set anew."""

_SET_BY_KEY = frozenset({"controllers", "env", "env_secret", "sysctl"})
"""Maps that need a new container anyway."""

_SET_WHEN_DEAD = frozenset({"respawn", "max_respawns", "respawn_delay", "labels"})
"""All that portod lets anybody set on a dead container."""


def wanted_properties(spec: DaemonSpec) -> dict[str, str]:
    """Everything that is set on the daemon's container, but for our label and `private`."""
    return {**OUR_PROPERTIES, **spec.properties}


def find_differences(
    spec: DaemonSpec, container: Container, applied: LastApplied
) -> tuple[frozenset[str], frozenset[str]]:
    """Names that differ from what was sent, in the spec or no longer in it; and those that drifted.

    A map that cannot change live stands under its one name, see `group_sent`.
    """
    changed, gone = _find_changed(wanted_properties(spec), applied)
    return changed | gone, find_drift(spec, container, applied)


def _find_changed(
    wanted: Mapping[str, str], applied: LastApplied
) -> tuple[frozenset[str], frozenset[str]]:
    """Names whose text is another than was sent, and names that were sent and are not wanted."""
    hashes = hash_values(group_sent(wanted))
    changed = {name for name, digest in hashes.items() if applied.sent.get(name) != digest}
    gone = applied.sent.keys() - hashes.keys() - set(applied.unsupported)
    return frozenset(changed), frozenset(gone)


def compare(
    spec: DaemonSpec, applied: LastApplied, dynamic: frozenset[str]
) -> tuple[dict[str, str], set[str]]:
    """What differs from what was sent: (texts to send, names that only a new container has)."""
    wanted = wanted_properties(spec)
    changed, gone = _find_changed(wanted, applied)
    changes = {
        name: text for name, text in wanted.items() if name in changed or base_name(name) in changed
    }
    resets: dict[str, str] = {}
    static: set[str] = set()
    for name in sorted(gone):
        reset = _reset(name, wanted, applied) if _is_dynamic(name, dynamic) else {}
        resets |= reset
        if not reset:
            static.add(name)
    return {**resets, **changes}, static


def _reset(name: str, wanted: Mapping[str, str], applied: LastApplied) -> dict[str, str]:
    """What to set so that a property that left the spec is gone; nothing where that is unknown."""
    base = base_name(name)
    if base in _EMPTIED:
        return {name: ""}
    if base != name:
        return {base: _write_whole(base, wanted)}
    return {name: applied.defaults[name]} if name in applied.defaults else {}


def _write_whole(base: str, wanted: Mapping[str, str]) -> str:
    """A map with all its wanted entries, as Porto takes it whole; "" where there are none."""
    prefix = f"{base}["
    return "; ".join(
        f"{name[len(prefix) : -1]}: {text}"
        for name, text in wanted.items()
        if name.startswith(prefix)
    )


def restore(drifted: Iterable[str], wanted: Mapping[str, str]) -> dict[str, str]:
    """What to set where somebody else did; a map whole, as they may have added entries."""
    changes = {}
    for name in drifted:
        base = base_name(name)
        if base == name or base in _EMPTIED or base in _SET_BY_KEY:
            changes[name] = wanted[name]
        else:
            changes[base] = _write_whole(base, wanted)
    return changes


def find_drift(spec: DaemonSpec, container: Container, applied: LastApplied) -> frozenset[str]:
    """Wanted properties, flattened, that read back otherwise than right after we set them.

    Labels are compared one by one: others may keep labels of their own on our container.
    """
    now = hash_values(container.values)
    bases = {name for name, digest in applied.read.items() if now.get(name, digest) != digest}
    return frozenset(
        name
        for name, text in wanted_properties(spec).items()
        if name not in applied.unsupported
        and (name_read_back(name) in bases or _is_label_lost(name, text, container, applied))
    )


def _is_label_lost(name: str, text: str, container: Container, applied: LastApplied) -> bool:
    return (
        base_name(name) == "labels"
        and applied.sent.get(name) == hash_values({name: text})[name]
        and container.labels.get(name[len("labels[") : -1]) != text
    )


def find_relearned(
    drifted: frozenset[str], container: Container, applied: LastApplied, observed: Observed
) -> frozenset[str]:
    """Static properties that read back otherwise since portod was upgraded.

    Nobody can have changed them: the container runs.
    """
    if container.state != "running" or observed.portod in {"", applied.portod}:
        return frozenset()
    return frozenset(name for name in drifted if not _is_dynamic(name, observed.dynamic))


def is_settable(name: str, container: Container, observed: Observed) -> bool:
    if container.state == "dead":
        return base_name(name) in _SET_WHEN_DEAD
    return _is_dynamic(name, observed.dynamic)


def _is_dynamic(name: str, dynamic: frozenset[str]) -> bool:
    # Where the kernel has no support for a guarantee portod does not even list it; where it has,
    # all guarantees change live.
    return base_name(name) in dynamic or name.endswith("_guarantee")
