"""What we did to a container, and what it differs in from its spec now. Pure.

What was sent and read back is remembered in the container's own `private` text.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ya_salt.model import LABEL, Container, DaemonSpec, LastApplied, Observed, Package
from ya_salt.porto.properties import LIVE_IN_NAME_ONLY, PROPERTIES, UNLISTED, is_secret
from ya_salt.quick_dataclass import dataclass, replace
from ya_salt.specs.digest import make_digest_with_secrets

PRIVATE_MAX_BYTES = 4096
_VERSION = 1
_WHOLE_MAPS = ("env", "env_secret", "sysctl", "controllers")
"""Maps that cannot change live: remembered whole, compared as maps."""

_SECRET = "env_secret"  # noqa: S105 - the name of a property
_KEYLESS = "-"
"""Stands for a hash of secrets where the host's key could not be read: nothing is known then."""

_ENTRIES_KEPT = (_SECRET, "controllers")
"""Whole maps that do not read back whole, so that hashes of single entries are kept."""

_MAX_SHUFFLED = 6
"""Entries of a map whose every order is tried against a hash that earlier versions made."""


# -- hashes --------------------------------------------------------------------------------------


def hash_text(text: str) -> str:
    """12 hex digits that stand for `text`."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def hash_packages(packages: Iterable[Package]) -> str:
    """12 hex digits that stand for these exact packages, in any order."""
    return hash_text("\n".join(sorted(f"{item.name}={item.version}" for item in packages)))


def hash_values(values: Mapping[str, str]) -> dict[str, str]:
    return {name: hash_text(text) for name, text in values.items()}


def _hash_secret(text: str, key: bytes) -> str:
    """12 hex digits that tell nothing to anybody without the host's key."""
    if not key:
        return _KEYLESS
    import hmac

    return hmac.digest(key, text.encode(), "sha256").hex()[:12]


def name_key(key: bytes) -> str:
    """8 hex digits by which hashes made with another key are known."""
    return _hash_secret("name of the key", key)[:8]


def hash_sent(properties: Mapping[str, str], key: bytes = b"") -> dict[str, str]:
    """What to remember of texts: those of a map that cannot change live under its one name.

    Sixty environment variables would not fit into `private` one by one, and any change of one
    needs a new process anyway.
    """
    hashes: dict[str, str] = {}
    maps: dict[str, dict[str, str]] = {}
    for name, text in properties.items():
        base = base_name(name)
        if base not in _WHOLE_MAPS:
            hashes[name] = hash_text(text)
        elif base != name:
            maps.setdefault(base, {})[entry_name(name)] = text
    return hashes | {base: _hash_map(base, maps[base], key) for base in _WHOLE_MAPS if base in maps}


def hash_entries(properties: Mapping[str, str], key: bytes = b"") -> dict[str, dict[str, str]]:
    """Hashes of single entries of the maps that do not read back whole."""
    kept = {base: pick_entries(base, properties) for base in _ENTRIES_KEPT}
    return {
        base: {name: _hash_entry(base, text, key) for name, text in entries.items()}
        for base, entries in kept.items()
        if entries
    }


def _hash_map(base: str, entries: Mapping[str, str], key: bytes) -> str:
    text = _write_lines(base, sorted(entries.items()))
    return _hash_secret(text, key) if is_secret(base) else hash_text(text)


def _hash_entry(base: str, text: str, key: bytes) -> str:
    return (_hash_secret(text, key) if is_secret(base) else hash_text(text))[:8]


def _write_lines(base: str, entries: Iterable[tuple[str, str]]) -> str:
    return "".join(f"{base}[{name}]={text}\n" for name, text in entries)


# -- names of entries ----------------------------------------------------------------------------


def base_name(name: str) -> str:
    """`ulimit[nofile]` -> `ulimit`."""
    return name.partition("[")[0]


def entry_name(name: str) -> str:
    """`ulimit[nofile]` -> `nofile`."""
    return name.partition("[")[2][:-1]


def pick_entries(base: str, properties: Mapping[str, str]) -> dict[str, str]:
    """The entries of one map, by their own names."""
    return {
        entry_name(name): text for name, text in properties.items() if name.startswith(f"{base}[")
    }


def read_entries(base: str, text: str) -> dict[str, str]:
    r"""A map as portod prints it: `A: 1; B: 2`, or `A=1;B=2` for variables, with `\` before `;`."""
    if base in {"env", _SECRET}:
        items = re.findall(r"(?:\\.|[^;\\])+", text, re.DOTALL)
        pairs = (re.sub(r"\\(.)", r"\1", item, flags=re.DOTALL).partition("=") for item in items)
        return {name: value for name, _, value in pairs}
    pairs = (item.strip().partition(":") for item in text.split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs if name}


def name_read_back(name: str) -> str:
    """Under which name a property is read back: maps whole, but for those that portod adds to."""
    base = base_name(name)
    return name if base == "controllers" else base


# -- what a container remembers ------------------------------------------------------------------


_DONE_WITHOUT: Mapping[str, Any] = {"entries": {}, "defaults": {}, "package_names": ()}
"""What goes first from `private` where it would not fit, one after another."""


def encode_last_applied(applied: LastApplied) -> str:
    """`private`'s text. Where it would not fit, what can be done without goes first."""
    text = _dump(_list_fields(applied))
    for name, nothing in _DONE_WITHOUT.items():
        if len(text.encode()) <= PRIVATE_MAX_BYTES:
            return text
        applied = replace(applied, **{name: nothing})
        text = _dump(_list_fields(applied))
    if len(text.encode()) <= PRIVATE_MAX_BYTES:
        return text
    return _dump({"v": _VERSION, "packages": applied.packages})


def _dump(data: Mapping[str, object]) -> str:
    return json.dumps(data, separators=(",", ":"))


def _list_fields(applied: LastApplied) -> dict[str, object]:
    fields: dict[str, object] = {
        "v": _VERSION,
        "sent": dict(applied.sent),
        "read": dict(applied.read),
        "defaults": dict(applied.defaults),
        "unsupported": list(applied.unsupported),
        "packages": applied.packages,
        "names": list(applied.package_names),
        "portod": applied.portod,
    }
    rare = {
        "key": applied.key,
        "entries": {base: dict(entries) for base, entries in applied.entries.items()},
        "refused": applied.refused,
        "because": applied.refused_because,
    }
    return fields | {name: value for name, value in rare.items() if value}


def decode_last_applied(text: str) -> LastApplied | None:
    """What `encode_last_applied` wrote, in any version; None for anything else."""
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
            key=str(data.get("key", "")),
            entries={str(base): _strings(item) for base, item in data.get("entries", {}).items()},
            refused=str(data.get("refused", "")),
            refused_because=str(data.get("because", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _strings(data: Mapping[str, object] | None) -> dict[str, str]:
    return {str(key): str(value) for key, value in (data or {}).items()}


# -- what is wanted ------------------------------------------------------------------------------

OUR_PROPERTIES: Mapping[str, str] = {"respawn": "true"}
"""What ya-salt itself sets on every container, beside the label and `private`."""

GUARDED = ("weak", "aging_time")
"""What decides whether portod itself removes the container: put right whoever set it."""

_EMPTIED = frozenset({"labels", "symlink"})
"""Maps whose entries go with an empty value; others' entries only with the whole map set anew."""

_OURS_MEANWHILE = frozenset({"respawn_delay"})
"""What is not as the spec says while a daemon keeps dying."""

_PORTODS: Mapping[str, str] = {"respawn_delay": "1s"}
"""Defaults that need not be remembered."""

_SET_WHEN_DEAD = frozenset({"respawn", "max_respawns", "respawn_delay", "labels"})
"""All that portod lets anybody set on a dead container."""


def wanted_properties(spec: DaemonSpec) -> dict[str, str]:
    """Everything that is set on the daemon's container, but for our label and `private`."""
    return {**OUR_PROPERTIES, **spec.properties}


def has_secrets(spec: DaemonSpec) -> bool:
    return any(is_secret(name) for name in spec.properties)


def is_current(spec: DaemonSpec, container: Container) -> bool:
    """Whether the label says that the container was made from `spec`, in any version's words."""
    label = container.labels.get(LABEL)
    if label == spec.digest:
        return True
    return label == make_digest_with_secrets(spec.name, spec.properties, spec.packages)


def make_mark(spec: DaemonSpec, key: bytes) -> str:
    """What names a spec that was refused, secrets and all: another one is tried again."""
    whole = make_digest_with_secrets(spec.name, spec.properties, spec.packages)
    return _hash_secret(whole, key) if key else spec.digest[:12]


# -- what differs ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """Flattened names in which a container differs from its spec."""

    changed: frozenset[str] = frozenset()
    """Wanted with another text than was sent."""
    gone: frozenset[str] = frozenset()
    """Sent and not wanted; a map whose entries nobody knows stands under its one name."""
    drifted: frozenset[str] = frozenset()
    """Wanted as it was sent, but reads back otherwise than right after."""


def find_differences(
    spec: DaemonSpec, container: Container, applied: LastApplied, key: bytes = b""
) -> Difference:
    """What the spec changed since the container was made, and what somebody else did."""
    current = is_current(spec, container)
    # The same spec says the same; only ours is what a daemon that keeps dying has in its place.
    among = _OURS_MEANWHILE if current else None
    changed, gone = _compare_sent(wanted_properties(spec), applied, among)
    whole_maps = _WHOLE_MAPS if not current else (_SECRET,)
    # A label of an earlier version covers the secrets, too.
    if not current or container.labels.get(LABEL) == spec.digest:
        for base in whole_maps:
            more, less = _compare_map(base, spec.properties, container, applied, key)
            changed |= more
            gone |= less
    return Difference(
        frozenset(changed), frozenset(gone), find_drift(spec, container, applied) - changed
    )


def _compare_sent(
    wanted: Mapping[str, str], applied: LastApplied, among: frozenset[str] | None
) -> tuple[set[str], set[str]]:
    """(names with another text than was sent, names no longer wanted), without whole maps.

    Of those in `among` alone, unless that is None.
    """
    names = wanted if among is None else wanted.keys() & among
    hashes = hash_values({n: wanted[n] for n in names if base_name(n) not in _WHOLE_MAPS})
    changed = {name for name, digest in hashes.items() if applied.sent.get(name) != digest}
    sent = applied.sent.keys() if among is None else applied.sent.keys() & among
    gone = sent - hashes.keys() - set(applied.unsupported) - set(_WHOLE_MAPS)
    return changed, set(gone)


def _compare_map(
    base: str,
    properties: Mapping[str, str],
    container: Container,
    applied: LastApplied,
    key: bytes,
) -> tuple[set[str], set[str]]:
    """(entries that are new or other, entries that are gone) of a map remembered whole."""
    entries = pick_entries(base, properties)
    was = applied.sent.get(base)
    if was is None:
        return {f"{base}[{name}]" for name in entries}, set()
    if not entries:
        return set(), {f"{base}[{name}]" for name in applied.entries.get(base, ())} or {base}
    if _is_same_map(base, entries, applied, key):
        return set(), set()
    changed, gone = _compare_entries(base, entries, container, applied, key)
    return {f"{base}[{name}]" for name in changed}, {f"{base}[{name}]" for name in gone}


def _is_same_map(base: str, entries: Mapping[str, str], applied: LastApplied, key: bytes) -> bool:
    was = applied.sent[base]
    if base == _SECRET and (applied.key or was == _KEYLESS):
        known = applied.entries.get(base)
        if known is not None and known.keys() != entries.keys():
            return False
        # Hashes of another key tell nothing; a lost key must not restart anything.
        return not key or applied.key != name_key(key) or was == _hash_map(base, entries, key)
    if was == hash_text(_write_lines(base, sorted(entries.items()))):
        return True
    # Earlier versions hashed the entries in the order of the file.
    return was == hash_text(_write_lines(base, entries.items())) or _is_shuffled(base, entries, was)


def _is_shuffled(base: str, entries: Mapping[str, str], was: str) -> bool:
    if len(entries) > _MAX_SHUFFLED:
        return False
    orders = itertools.permutations(entries.items())
    return any(was == hash_text(_write_lines(base, order)) for order in orders)


def _compare_entries(
    base: str,
    entries: Mapping[str, str],
    container: Container,
    applied: LastApplied,
    key: bytes,
) -> tuple[set[str], set[str]]:
    """Which entries of a map that is not the same are other, and which are gone.

    From hashes of single entries, or from what portod reads back; all of them where neither says.
    """
    known = applied.entries.get(base)
    if known is not None:
        is_comparable = base != _SECRET or (bool(key) and applied.key == name_key(key))
        changed = {
            name
            for name, text in entries.items()
            if name not in known or (is_comparable and known[name] != _hash_entry(base, text, key))
        }
        return changed, known.keys() - entries.keys()
    text = container.values.get(base)
    if text is None or base in _ENTRIES_KEPT:
        return set(entries), set()
    now = read_entries(base, text)
    changed = {name for name, wanted in entries.items() if now.get(name) != wanted}
    return changed, now.keys() - entries.keys()


def find_drift(spec: DaemonSpec, container: Container, applied: LastApplied) -> frozenset[str]:
    """Wanted properties, flattened, that read back otherwise than right after we set them.

    Labels are compared one by one: others may keep labels of their own on our container.
    """
    now = container.values
    bases = {
        name
        for name, digest in applied.read.items()
        if name in now and hash_text(now[name]) != digest
    }
    return frozenset(
        name
        for name, text in wanted_properties(spec).items()
        # Where all reads back as it did, which is nearly always, only a label can be lost.
        if (bases or name.startswith("labels"))
        and name not in applied.unsupported
        and (name_read_back(name) in bases or _is_label_lost(name, text, container, applied))
    )


def _is_label_lost(name: str, text: str, container: Container, applied: LastApplied) -> bool:
    return (
        base_name(name) == "labels"
        and applied.sent.get(name) == hash_text(text)
        and container.labels.get(entry_name(name)) != text
    )


def find_guarded(container: Container, applied: LastApplied) -> dict[str, str]:
    """What to set so that portod does not remove the container by itself.

    `aging_time` of a container that an earlier version made is not known, and left alone.
    """
    if container.state == "dead":
        return {}
    right = {"weak": "false", "aging_time": applied.defaults.get("aging_time", "")}
    return {
        name: text
        for name, text in right.items()
        if text and container.values.get(name, text) != text
    }


# -- what to do about it -----------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """What it takes to make a container as its spec says."""

    changes: Mapping[str, str]
    """Texts to send, in the order of sending."""
    static: frozenset[str]
    """What only a new container has."""
    by_hand: frozenset[str]
    """Which of all these somebody else changed."""
    relearned: frozenset[str]
    """What reads back otherwise since portod was upgraded."""
    left: frozenset[str] = frozenset()
    """What somebody else changed and is left as it is."""


def compare(
    spec: DaemonSpec, container: Container, applied: LastApplied, observed: Observed
) -> Comparison:
    """Sort what differs into what can be set live and what only a new container has."""
    wanted = wanted_properties(spec)
    difference = find_differences(spec, container, applied, observed.key)

    def is_live(name: str, text: str) -> bool:
        return _is_dynamic(name, observed.dynamic) and _reaches_process(
            name, text, spec, container, applied
        )

    changes: dict[str, str] = {}
    static: set[str] = set()
    for name in sorted(difference.gone):
        reset = _reset(name, wanted, applied)
        if reset and all(is_live(item, text) for item, text in reset.items()):
            changes |= reset
        else:
            static.add(name)
    for name, text in wanted.items():
        if name not in difference.changed:
            continue
        if is_live(name, text):
            changes[name] = text
        elif base_name(name) in LIVE_IN_NAME_ONLY or not _is_in_force(name, text, container):
            static.add(name)
    relearned = _find_relearned(difference.drifted, container, applied, observed)
    drifted = difference.drifted - relearned
    guarded = find_guarded(container, applied)
    restored = restore(drifted, wanted, container) | guarded
    changes |= restored
    static |= {
        name for name in changes if not (is_settable(name, container, observed) or name in guarded)
    }
    by_hand = frozenset(drifted | restored.keys())
    left = frozenset(name for name in by_hand if _is_left(name, spec, observed))
    return Comparison(
        {name: text for name, text in changes.items() if name not in left},
        frozenset(static) - left,
        by_hand - left,
        relearned,
        left,
    )


def _is_left(name: str, spec: DaemonSpec, observed: Observed) -> bool:
    return spec.drift == "report" or base_name(name) in observed.left.get(spec.name, {})


def _reaches_process(
    name: str, text: str, spec: DaemonSpec, container: Container, applied: LastApplied
) -> bool:
    """Whether the process that runs has a dynamic property's new value right away."""
    base = base_name(name)
    if base in LIVE_IN_NAME_ONLY:
        return False
    if base == "symlink" and text and spec.properties.get("virt_mode") == "host":
        # There links are made in a container that runs, and at no start: conformance/symlink-live.
        return container.state in {"running", "paused"}
    if base != "resolv_conf":
        return True
    # portod switches overriding on and off only at rest: conformance/set-while-running.
    at_root = spec.properties.get("root", "/") == "/"
    was = applied.sent.get(name)
    was_off = (
        was in {hash_text(word) for word in _list_off_words(at_root)}
        if was is not None
        else container.values.get(name, "keep") in _list_off_words(at_root)
    )
    if at_root and text == "default":
        # None there, which portod takes for some while it runs: the old lines would stay.
        return False
    return was_off == (text in _list_off_words(at_root))


def _list_off_words(at_root: bool) -> tuple[str, ...]:
    return ("keep", "", "inherit", "default") if at_root else ("keep", "")


def _is_in_force(name: str, text: str, container: Container) -> bool:
    """Whether a property that only a new container could change has this value already."""
    base, now = base_name(name), container.values.get(name_read_back(name))
    if now is None or base == _SECRET:
        return False
    if base not in {name, "controllers"}:
        return read_entries(base, now).get(entry_name(name)) == text
    if base == "resolv_conf" and {now, text} <= {"default", "inherit"}:
        return True
    row = PROPERTIES.get(base)
    if row is not None and row.is_unordered:
        return _sort_items(now) == _sort_items(text)
    return now == text or (text.isdecimal() and _find_credential(base, container) == text)


def _sort_items(text: str) -> list[str]:
    return sorted({item.strip() for item in text.split(";") if item.strip()})


def _find_credential(name: str, container: Container) -> str | None:
    """User or group as a number, which portod tells apart from how it is written."""
    numbers = container.values.get("task_cred", "").split()
    position = {"user": 0, "group": 1}.get(name, 2)
    return numbers[position] if position < 2 and len(numbers) > 1 else None


def _reset(name: str, wanted: Mapping[str, str], applied: LastApplied) -> dict[str, str]:
    """What to set so that a property that left the spec is gone; nothing where that is unknown."""
    base = base_name(name)
    if base in _EMPTIED:
        return {name: ""}
    if base != name:
        return {base: _write_whole(base, wanted)}
    defaults = {**_PORTODS, **applied.defaults}
    return {name: defaults[name]} if name in defaults else {}


def _write_whole(base: str, wanted: Mapping[str, str]) -> str:
    """A map with all its wanted entries, as Porto takes it whole; "" where there are none."""
    return "; ".join(f"{name}: {text}" for name, text in pick_entries(base, wanted).items())


def find_now(name: str, container: Container) -> str:
    """What a property, flattened, reads back as; "" where it is not there, or cannot be read."""
    base = base_name(name)
    if base == "labels" and base != name:
        return container.labels.get(entry_name(name), "")
    text = container.values.get(name, container.values.get(base, ""))
    return text if name == base else read_entries(base, text).get(entry_name(name), "")


def restore(
    drifted: Iterable[str], wanted: Mapping[str, str], container: Container
) -> dict[str, str]:
    """What to set where somebody else did; a map whole, as they may have added entries."""
    changes: dict[str, str] = {}
    for name in sorted(drifted):
        base = base_name(name)
        if base == "symlink":
            there = read_entries(base, container.values.get(base, ""))
            added = there.keys() - pick_entries(base, wanted).keys()
            changes |= {f"{base}[{entry}]": "" for entry in sorted(added)}
        if base == name or base in _EMPTIED or base in _WHOLE_MAPS:
            changes[name] = wanted[name]
        else:
            changes[base] = _write_whole(base, wanted)
    return changes


def set_anew(spec: DaemonSpec, container: Container, observed: Observed) -> dict[str, str]:
    """Everything that can be set live, where nobody knows what was set before."""
    return {
        name: text
        for name, text in wanted_properties(spec).items()
        if is_settable(name, container, observed) and base_name(name) != "resolv_conf"
    }


def has_old_hashes(
    spec: DaemonSpec, container: Container, applied: LastApplied, key: bytes
) -> bool:
    """Whether hashes of secrets are there that were not made with the host's key."""
    if container.labels.get(LABEL) != spec.digest:
        return True
    return bool(key) and _SECRET in applied.sent and applied.key != name_key(key)


def _find_relearned(
    drifted: frozenset[str], container: Container, applied: LastApplied, observed: Observed
) -> frozenset[str]:
    """Static properties that read back otherwise since portod was upgraded.

    Nobody can have changed them: the container runs.
    """
    if container.state != "running" or observed.portod in {"", applied.portod}:
        return frozenset()
    return frozenset(name for name in drifted if not _is_dynamic(name, observed.dynamic))


def is_settable(name: str, container: Container, observed: Observed) -> bool:
    """Whether portod lets it be set in the container's state, whatever its process sees of it."""
    if container.state == "dead":
        return base_name(name) in _SET_WHEN_DEAD
    return _is_dynamic(name, observed.dynamic)


def _is_dynamic(name: str, dynamic: frozenset[str]) -> bool:
    # What depends on the kernel is not always in portod's list, not even where it is there; a
    # refusal ends in a restart.
    base = base_name(name)
    return base in dynamic or (base in UNLISTED and PROPERTIES[base].live)
