"""Salt's own pass where everything is as the last full one left it: what that would return.

As for a command (`ya_salt.converge.quick`) nothing is decided here but whether the long way may be
spared. None is the answer wherever it may not. Loads next to nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ya_salt import as_left
from ya_salt.converge import quick
from ya_salt.errors import YaSaltError
from ya_salt.quick_dataclass import dataclass
from ya_salt.salt_api import laid_down
from ya_salt.salt_api.configuration import find_state_dir, name_source
from ya_salt.salt_api.speech import speak
from ya_salt.salt_api.turn import (
    FIELDS,
    Chunk,
    StateReturn,
    name_chunk,
    say_gone,
    say_ready,
)
from ya_salt.text import escape_all

_UNTOLD = (OSError, ValueError, LookupError, TypeError, AttributeError)
"""What a snapshot raises that is not as it should be."""


def list_specs(opts: Mapping[str, Any], pillar: Mapping[str, Any]) -> dict[str, Any] | None:
    """The daemons directory, as `porto_daemon.specs` tells it."""
    found = _look_at_files(opts, pillar)
    if found is None:
        return None
    directory, more = found
    keys = ("path", "name", "version", "digest", "delete_requested")
    specs = [dict(zip(keys, item, strict=True)) for item in more["specs"]]
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


# -- what is applied by hand -----------------------------------------------------------------------


def apply_now(
    opts: Mapping[str, Any], pillar: Mapping[str, Any], name: str, *, test: bool
) -> dict[str, Any] | None:
    """The directory, or one daemon of it, made true, as `porto_daemon.apply` tells it."""
    asked = _Asked(name)
    if not _pass_quickly(opts, pillar, asked, test=test):
        return None
    told = {"ok": True, "daemons": asked.returns, "rejected": []}
    answer: dict[str, Any] = speak(escape_all(told))
    return answer


class _Asked:
    """Daemons that somebody asks for by name, "" for all, beside a snapshot."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.part = [name] if name else None
        self.returns: dict[str, dict[str, Any]] = {}

    def suits(self, data: Mapping[str, Any]) -> bool:
        """Whether the snapshot knows them."""
        known = _read_known(data)
        if known is None:
            return False
        names = [name for name in known.paths.values() if self._name in ("", name)]
        self.returns = {
            name: {
                "result": True,
                "changes": {},
                "comment": known.say(name),
                "warnings": list(known.warnings.get(name, ())),
            }
            for name in names
        }
        return bool(names)


# -- states ----------------------------------------------------------------------------------------


def make_reader() -> quick.Reader:
    """For the states of one run, which ask one after another."""
    return quick.Reader()


def answer(
    chunks: Sequence[Chunk],
    lowstate: Iterable[Chunk],
    opts: Mapping[str, Any],
    pillar: Mapping[str, Any],
    reader: quick.Reader | None = None,
) -> dict[str, StateReturn] | None:
    """What the states of one turn return, by their keys, if each is about a file of the directory.

    A pass is then made, and remembered if it is over the whole directory; in test mode it is only
    found that it would be quick. `lowstate` are our states of the whole run.
    """
    if not all(map(_is_plain, chunks)):
        return None
    turn = _Turn(chunks, lowstate, find_state_dir(opts, pillar))
    is_quick = _pass_quickly(opts, pillar, turn, test=bool(opts.get("test")), reader=reader)
    return turn.returns if is_quick else None


def _pass_quickly(
    opts: Mapping[str, Any],
    pillar: Mapping[str, Any],
    asked: _Asked | _Turn,
    *,
    test: bool,
    reader: quick.Reader | None = None,
) -> bool:
    """Make the pass, or in test mode only see that it would be quick; whether it was."""
    source = find_source(opts, pillar)
    if source is None:
        return False
    state_dir = find_state_dir(opts, pillar)
    if test:
        data = as_left.read_of(state_dir, source)
        return data is not None and asked.suits(data) and _is_as_left(data, state_dir, asked.part)
    made = quick.make_quick_pass(
        state_dir, source, reader, suits=asked.suits, find_part=lambda: asked.part
    )
    return made is not None


def _is_as_left(data: Mapping[str, Any], state_dir: str, part: Collection[str] | None) -> bool:
    try:
        return quick.is_as_left(quick.take_part(data, part), state_dir)
    except LookupError:
        return False


def _is_plain(chunk: Chunk) -> bool:
    """Whether it names a file, and says no more than what that has to be."""
    file, source, wait_s = (chunk.get(key) for key in ("file", "source", "lock_wait_s"))
    if not (wait_s is None or type(wait_s) in (int, float)):
        return False
    if source is None:
        return isinstance(file, str)
    return isinstance(source, str) and file is None and not _list_fields(chunk)


def _list_fields(chunk: Chunk) -> dict[str, Any]:
    """The spec that stands in the state itself."""
    return {key: chunk[key] for key in FIELDS if chunk.get(key) is not None}


@dataclass(frozen=True)
class _Known:
    """What a snapshot has of the daemons directory."""

    paths: Mapping[str, str]
    """Path -> the daemon's name."""
    warnings: Mapping[str, Sequence[str]]
    gone: Sequence[str]
    """Daemons that are removed, as their files ask."""

    def say(self, name: str) -> str:
        return say_gone(name) if name in self.gone else say_ready(name)


def _read_known(data: Mapping[str, Any]) -> _Known | None:
    try:
        return _Known(*_read_files(data["more"]), data["gone"])
    except _UNTOLD:
        return None


@lru_cache(maxsize=1)
def _read_files(more: bytes) -> tuple[Mapping[str, str], Mapping[str, Sequence[str]]]:
    """Paths and warnings; of the same snapshot once for all states of a run."""
    told = as_left.read_more({"more": more})
    return {path: name for path, name, *_ in told["specs"]}, told["warnings"]


class _Turn:
    """States that are each about a file, beside a snapshot."""

    def __init__(self, chunks: Sequence[Chunk], lowstate: Iterable[Chunk], state_dir: str) -> None:
        self._chunks = chunks
        self._lowstate = lowstate
        self._state_dir = state_dir
        self.part: Sequence[str] | None = ()
        """Their daemons; None where they are all that the snapshot is about."""
        self.returns: dict[str, StateReturn] = {}

    def suits(self, data: Mapping[str, Any]) -> bool:
        """Whether each is as the snapshot has it, none comes twice, and nobody objects."""
        known = _read_known(data)
        if known is None:
            return False
        wanted = {chunk.get("source") or chunk["file"]: chunk for chunk in self._chunks}
        if len(wanted) != len(self._chunks) or not wanted.keys() <= known.paths.keys():
            return False
        for path, chunk in wanted.items():
            name = known.paths[path]
            # A state about a file may have its path in the place of the daemon's name.
            if chunk["name"] not in (name, chunk.get("source")):
                return False
            if chunk["fun"] == "absent" and name not in known.gone:
                return False
            told = tuple(known.warnings.get(name, ()))
            self.returns[name_chunk(chunk)] = StateReturn(True, known.say(name), {}, told)
        if not self._is_laid_down(data) or self._is_contradicted(
            {known.paths[path]: path for path in wanted}
        ):
            return False
        is_whole = wanted.keys() == known.paths.keys()
        self.part = None if is_whole else [known.paths[path] for path in wanted]
        return True

    def _is_laid_down(self, data: Mapping[str, Any]) -> bool:
        """Whether each file that Salt writes is known to be what it would write."""
        written = [chunk for chunk in self._chunks if chunk.get("file")]
        if not written:
            return True
        laid, entries = laid_down.read(self._state_dir), data["entries"]
        for chunk in written:
            name = Path(chunk["file"]).name
            identity, sign = laid.get(name, (None, ""))
            if identity is None or entries.get(name) != identity:
                return False
            try:
                if laid_down.digest(chunk["name"], _list_fields(chunk)) != sign:
                    return False
            except TypeError:
                return False
        return True

    def _is_contradicted(self, paths: Mapping[str, str]) -> bool:
        """Whether another state of the run defines one of the daemons, too."""
        named = [chunk for chunk in self._lowstate if chunk.get("name") in paths]
        return any(
            str(chunk.get("source") or chunk.get("file") or "") != paths[str(chunk["name"])]
            for chunk in named
        )
