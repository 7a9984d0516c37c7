"""A state's place in its run: who else is there, what was watched, which states go together. Pure.

Salt's chunks are mappings: `state`, `fun`, `name`, `__id__`, `__sls__`, the state's arguments and
Salt's own (`require`, `order`, …).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ya_salt.salt_api.converge import Declared
from ya_salt.salt_api.wishes import FIELDS, Wish

STATE = "porto_daemon"
FUNCTIONS = ("managed", "absent")
ARGUMENTS = frozenset({"source", "file", "lock_wait_s", "together", *FIELDS})

Chunk = Mapping[str, Any]

AGGREGATED = "__porto_daemons__"
"""Where `mod_aggregate` notes that Salt has called it."""

_HARMLESS = frozenset({"state", "fun", "name", "order", "aggregate", "fire_event", "check_cmd"})
"""What a state may say without wanting a turn of its own. Requisites, conditions, `parallel`,
`retry` and whatever comes up in Salt one day all do."""


def name_chunk(chunk: Chunk) -> str:
    """What tells it from all others of the run."""
    parts = (chunk.get("__id__", ""), chunk.get("name", ""), chunk.get("fun", ""))
    return "|".join(str(part) for part in parts)


def name_place(chunk: Chunk) -> str:
    """Where people find it."""
    if not chunk.get("__id__"):
        return f"state {chunk.get('name', '')}"
    where = f" in SLS {chunk['__sls__']}" if chunk.get("__sls__") else ""
    return f"ID {chunk['__id__']}{where}"


def make_wish(chunk: Chunk, source: str = "", restart: str = "") -> Wish:
    """What a chunk asks for; `source` is where its own was fetched to, if it had to be."""
    return Wish(
        key=name_chunk(chunk),
        name=str(chunk["name"]),
        place=name_place(chunk),
        source=source or str(chunk.get("source") or ""),
        fields={key: chunk[key] for key in FIELDS if chunk.get(key) is not None},
        file=str(chunk.get("file") or ""),
        absent=chunk.get("fun") == "absent",
        restart=restart,
    )


def list_declared(lowstate: Sequence[Chunk]) -> tuple[Declared, ...]:
    """Every daemon that the run is about."""
    wishes = [make_wish(chunk) for chunk in _list_ours(lowstate)]
    return tuple(Declared(wish.key, wish.name, wish.place, wish.path) for wish in wishes)


def _list_ours(lowstate: Sequence[Chunk]) -> list[Chunk]:
    return [
        chunk for chunk in lowstate if chunk.get("state") == STATE and chunk.get("fun") in FUNCTIONS
    ]


# -- going together --------------------------------------------------------------------------------


def list_companions(
    low: Chunk, lowstate: Sequence[Chunk], running: Mapping[str, Any], *, failhard: bool
) -> list[Chunk]:
    """The states whose work may be done with `low`'s: they wait for nobody, and nobody for them.

    With failhard each has its own turn: what comes after a failure must not have been done.
    Where Salt aggregates it has asked everybody, otherwise only those that say `together` go along.
    """
    aggregated = bool(low.get(AGGREGATED))
    if failhard or any(chunk.get("failhard") for chunk in lowstate):
        return []
    awaited = list(_list_prerequired(lowstate))
    return [
        chunk
        for chunk in _list_ours(lowstate)
        if name_chunk(chunk) != name_chunk(low)
        and (aggregated or chunk.get("together") is True)
        and tag_chunk(chunk) not in running
        and _is_free(chunk)
        and not any(_refers(ref, chunk) for ref in awaited)
    ]


def tag_chunk(chunk: Chunk) -> str:
    """Salt's own key of a chunk among the results."""
    return "_|-".join(str(chunk.get(key, "")) for key in ("state", "__id__", "name", "fun"))


def _is_free(chunk: Chunk) -> bool:
    if chunk.get("aggregate") is False or "__slot__:" in repr(chunk):
        return False
    return all(key in _HARMLESS or key in ARGUMENTS or key.startswith("__") for key in chunk)


def _list_prerequired(lowstate: Sequence[Chunk]) -> Iterator[Any]:
    """What other states want to come before: `prereq` looks at it before anything is done."""
    for chunk in lowstate:
        yield from chunk.get("prereq") or ()


def _refers(ref: Any, chunk: Chunk) -> bool:
    """Whether a requisite (`{file: /etc/x}`, or only an ID) means this chunk."""
    if isinstance(ref, Mapping):
        return any(_names(kind, value, chunk) for kind, value in ref.items())
    return ref in (chunk.get("__id__"), chunk.get("name"))


def _names(kind: Any, value: Any, chunk: Chunk) -> bool:
    if kind == "sls":
        return bool(value == chunk.get("__sls__"))
    return kind in ("id", chunk.get("state")) and value in (chunk.get("__id__"), chunk.get("name"))


# -- watching --------------------------------------------------------------------------------------


def find_watched(low: Chunk, running: Mapping[str, Any]) -> str:
    """Which watched state has changed something, in words; "" where none has.

    Salt calls `mod_watch` only where `managed` itself changes nothing, so a live change would
    otherwise hide a watched file that wants a new process.
    """
    refs = [*(low.get("watch") or ()), *(low.get("watch_any") or ())]
    for tag, result in running.items():
        chunk = _read_tag(tag, result)
        if result.get("changes") and any(_refers(ref, chunk) for ref in refs):
            return f"watched {chunk['state']} {chunk['name']} changed"
    return ""


def _read_tag(tag: str, result: Mapping[str, Any]) -> dict[str, Any]:
    parts = dict(zip(("state", "__id__", "name", "fun"), tag.split("_|-"), strict=False))
    return {"name": "", "state": "", **parts, "__sls__": result.get("__sls__")}
