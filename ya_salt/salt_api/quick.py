"""Salt's own pass where everything is as the last full one left it: what that would return.

As for a command (`ya_salt.converge.quick`) nothing is decided here but whether the long way may be
spared. None is the answer wherever it may not. Loads next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ya_salt import as_left
from ya_salt.converge import quick
from ya_salt.errors import YaSaltError
from ya_salt.salt_api.configuration import find_state_dir, name_source
from ya_salt.salt_api.speech import speak
from ya_salt.salt_api.turn import FIELDS, Chunk, StateReturn, name_chunk, say_ready
from ya_salt.text import escape_all

_TAKEN_LONG = (*FIELDS, "file", "lock_wait_s")
"""Arguments whose states are read and judged by the long way alone."""
_UNTOLD = (OSError, ValueError, LookupError, TypeError, AttributeError)
"""What a snapshot raises that is not as it should be."""


def list_specs(opts: Mapping[str, Any], pillar: Mapping[str, Any]) -> dict[str, Any] | None:
    """The daemons directory, as `porto_daemon.specs` tells it."""
    found = _look_at_files(opts, pillar)
    if found is None:
        return None
    directory, more = found
    keys = ("path", "name", "version", "digest")
    specs = [
        {**dict(zip(keys, item, strict=True)), "delete_requested": False} for item in more["specs"]
    ]
    ignored = [{"path": path, "reason": reason} for path, reason in more["ignored"]]
    told = {"directory": directory, "specs": specs, "rejected": [], "ignored": ignored}
    answer: dict[str, Any] = speak(escape_all(told))
    return answer


def look_at_directory(
    opts: Mapping[str, Any], pillar: Mapping[str, Any]
) -> tuple[str, int, list[tuple[str, str]]] | None:
    """The daemons directory, how many daemons it has, and each ignored entry with the reason."""
    found = _look_at_files(opts, pillar)
    if found is None:
        return None
    directory, more = found
    return directory, len(more["specs"]), [(path, reason) for path, reason in more["ignored"]]


def _look_at_files(
    opts: Mapping[str, Any], pillar: Mapping[str, Any]
) -> tuple[str, dict[str, Any]] | None:
    """The daemons directory and what was written down of it, while all files are as they were."""
    source = find_source(opts, pillar)
    if source is None:
        return None
    state_dir = find_state_dir(opts, pillar)
    data = as_left.read_of(state_dir, source)
    try:
        if data is None or not as_left.is_host_as_left(data, state_dir):
            return None
        return data["specs_dir"], as_left.read_more(data)
    except _UNTOLD:
        return None


def find_source(opts: Mapping[str, Any], pillar: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the settings are made of; None where that cannot be said, as they cannot be used."""
    try:
        return name_source(opts, pillar)
    except (YaSaltError, TypeError, ValueError):
        return None


# -- states ----------------------------------------------------------------------------------------


def answer(
    chunks: Sequence[Chunk],
    lowstate: Iterable[Chunk],
    opts: Mapping[str, Any],
    pillar: Mapping[str, Any],
) -> dict[str, StateReturn] | None:
    """What the states of one turn return, by their keys, if they are a pass over the directory.

    That pass is then made and remembered; in test mode it is only found that it would be quick.
    `lowstate` are our states of the whole run.
    """
    source = find_source(opts, pillar)
    if source is None or not all(map(_is_plain, chunks)):
        return None
    state_dir, turn = find_state_dir(opts, pillar), _Turn(chunks, lowstate)
    if opts.get("test"):
        data = as_left.read_of(state_dir, source)
        if data is None or not turn.suits(data) or not quick.is_as_left(data, state_dir):
            return None
    elif quick.make_quick_pass(state_dir, source, suits=turn.suits) is None:
        return None
    return turn.returns


def _is_plain(chunk: Chunk) -> bool:
    """Whether it names a file and nothing else that the long way would have to look at."""
    return (
        chunk.get("fun") == "managed"
        and isinstance(chunk.get("source"), str)
        and all(chunk.get(key) is None for key in _TAKEN_LONG)
    )


class _Turn:
    """States that each name a file, beside a snapshot."""

    def __init__(self, chunks: Sequence[Chunk], lowstate: Iterable[Chunk]) -> None:
        self._chunks = chunks
        self._lowstate = lowstate
        self.returns: dict[str, StateReturn] = {}

    def suits(self, data: Mapping[str, Any]) -> bool:
        """Whether they are what the snapshot is about, no more and no less, and nobody objects."""
        try:
            more = as_left.read_more(data)
            names = {path: name for path, name, *_ in more["specs"]}
            warnings = {name: tuple(told) for name, told in more["warnings"].items()}
        except _UNTOLD:
            return False
        if {chunk["source"] for chunk in self._chunks} != names.keys():
            return False
        for chunk in self._chunks:
            name = names[chunk["source"]]
            if chunk["name"] not in (name, chunk["source"]):
                return False
            returned = StateReturn(True, say_ready(name), {}, warnings.get(name, ()))
            self.returns[name_chunk(chunk)] = returned
        return not self._is_contradicted({name: path for path, name in names.items()})

    def _is_contradicted(self, paths: Mapping[str, str]) -> bool:
        """Whether another state of the run defines one of the daemons, too."""
        named = [chunk for chunk in self._lowstate if str(chunk.get("name")) in paths]
        return any(
            str(chunk.get("source") or chunk.get("file") or "") != paths[str(chunk["name"])]
            for chunk in named
        )
