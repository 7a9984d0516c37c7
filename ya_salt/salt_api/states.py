"""What the state functions do: from arguments and the run around them to Salt's mapping.

Salt's chunks are mappings: `state`, `fun`, `name`, `__id__`, `__sls__`, the state's arguments and
Salt's own (`require`, `order`, …).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from ya_salt.errors import YaSaltError
from ya_salt.quick_dataclass import dataclass, field
from ya_salt.salt_api import quick
from ya_salt.salt_api.configuration import read_settings
from ya_salt.salt_api.speech import SOMEBODY, speak
from ya_salt.salt_api.turn import (
    FIELDS,
    LOCK_WAIT_S,
    Chunk,
    Declared,
    DesiredState,
    DesiredStateError,
    Mode,
    StateReturn,
    check_fields,
    name_chunk,
)
from ya_salt.text import count, escape_all, escape_lines

STATE = "porto_daemon"
FUNCTIONS = ("managed", "absent")
ARGUMENTS = frozenset({"source", "file", "lock_wait_s", "together", *FIELDS})
_NO_FIELDS = frozenset({"name", *ARGUMENTS}) - frozenset(FIELDS)

AGGREGATED = "__porto_daemons__"
"""Where `mod_aggregate` notes that Salt has called it."""

_HARMLESS = frozenset({"state", "fun", "name", "order", "aggregate", "fire_event", "check_cmd"})
"""What a state may say without wanting a turn of its own. Requisites, conditions, `parallel`,
`retry` and whatever comes up in Salt one day all do."""

_BUSY_BETWEEN = ("check_cmd", "failhard", "parallel", "retry", "__prereq__")
"""With any of these other things are done between a state and the next, or not in this process."""

_STASH = "porto_daemon.returns"
_ALONE = "porto_daemon.alone"
"""States of the run that were foreseen together, and of which one has something to do."""
_READER = "porto_daemon.reader"
_SALTS_OWN = frozenset({"aggregate", "no_log"})
"""What some versions of Salt hand through to a state that takes any argument."""


@dataclass(frozen=True)
class Run:
    """What Salt tells a state function about itself, its neighbours and the host."""

    opts: Mapping[str, Any]
    pillar: Mapping[str, Any] = field(default_factory=dict)
    context: MutableMapping[str, Any] = field(default_factory=dict)
    low: Chunk = field(default_factory=dict)
    lowstate: Sequence[Chunk] = ()
    running: Mapping[str, Any] = field(default_factory=dict)
    find_who: Callable[[], str] = lambda: SOMEBODY
    """For the history."""
    fetch: Callable[[str], str] = str
    """Bring a file of the master (`salt://…`) here; its path, or "" where there is none."""

    @property
    def test(self) -> bool:
        return bool(self.opts.get("test"))


Return = dict[str, Any]


def run_daemon(function: str, arguments: Mapping[str, Any], run: Run) -> Return:
    """`managed` and `absent`; what is no argument of theirs comes in `unknown`."""
    unknown = arguments.get("unknown") or {}
    own = {key: value for key, value in arguments.items() if key != "unknown"} | {
        key: value
        for key, value in unknown.items()
        if key not in _SALTS_OWN and not key.startswith("__")
    }
    chunk = {**_keep_identity(run.low), **own, "state": "porto_daemon", "fun": function}
    name = str(own["name"])
    try:
        # Taken before it is checked: none is left for a run to come.
        stashed = run.context.get(_STASH, {}).pop((name_chunk(chunk), run.test), None)
        _check(name, own)
        returned = stashed or _take_turn(chunk, run)
    except YaSaltError as error:
        returned = StateReturn(False, str(error))
    return _answer(name, returned)


def run_restart(arguments: Mapping[str, Any], run: Run) -> Return:
    """`mod_watch`: what was watched has changed, and the daemon itself was as it should be."""
    function = str(arguments.get("sfun") or "managed")
    own = {key: value for key, value in arguments.items() if key in {"name", *ARGUMENTS}}
    chunk = {**_keep_identity(run.low), **own, "state": "porto_daemon", "fun": function}
    if function == "absent":
        return _answer(
            own["name"], StateReturn(True, f"{own['name']} is not there to be restarted")
        )
    reason = find_watched(run.low, run.running) or "something that it watches changed"
    try:
        returned = _converge([(chunk, reason)], run)[name_chunk(chunk)]
    except YaSaltError as error:
        returned = StateReturn(False, str(error))
    return _answer(str(own["name"]), returned)


def run_directory(
    name: str, run: Run, *, makedirs: bool = False, problem: str | None = None
) -> Return:
    """`directory`: the daemons directory can be read; every file speaks for itself elsewhere."""
    if problem:
        return _answer(name, StateReturn(False, problem))
    try:
        returned = _look_at_directory(run, makedirs=makedirs)
    except YaSaltError as error:
        returned = StateReturn(False, str(error))
    return _answer(name, returned)


def mark_aggregate(low: dict[str, Any]) -> dict[str, Any]:
    """`mod_aggregate`: whoever comes first may do the work of all that are free to go with it."""
    low[AGGREGATED] = True
    return low


def _keep_identity(low: Chunk) -> dict[str, Any]:
    return {key: low[key] for key in ("__id__", "__sls__") if key in low}


def _check(name: str, own: Mapping[str, Any]) -> None:
    if not isinstance(own["name"], str):
        raise DesiredStateError(f"name: {name} is not text; quote it as it is meant")
    given = {key: own[key] for key in own if key not in _NO_FIELDS and own[key] is not None}
    check_fields(name, str(own.get("source") or ""), given)


def _take_turn(chunk: Chunk, run: Run) -> StateReturn:
    restart = "" if chunk["fun"] == "absent" else find_watched(run.low, run.running)
    others: list[Chunk] = []
    failhard = bool(run.opts.get("failhard"))
    wanted = run.low.get(AGGREGATED) or chunk.get("together") is True
    if wanted and not run.low.get("parallel"):
        others = list_companions(run.low, run.lowstate, run.running, failhard=failhard)
    returns = None
    if not restart:
        more = list_followers(run.low, run.lowstate, run.running, others, failhard=failhard)
        returns = _converge_at_rest([chunk, *others, *more], run) if more else None
    if returns is None:
        returns = _converge([(chunk, restart), *((other, "") for other in others)], run)
    mine = returns.pop(name_chunk(chunk))
    stash = run.context.setdefault(_STASH, {})
    stash.update({(key, run.test): returned for key, returned in returns.items()})
    return mine


def _converge_at_rest(chunks: Sequence[Chunk], run: Run) -> dict[str, StateReturn] | None:
    """What states that come one after another return if nothing is to be done about any of them.

    One look then stands for as many as there are states; None where each has to have its own.
    """
    found = _answer_quickly(chunks, run)
    alone = run.context.setdefault(_ALONE, set())
    if found is not None or name_chunk(chunks[0]) in alone:
        return found
    turns = [(chunk, "") for chunk in chunks]
    found = _converge_fully(turns, run, test=True)
    if all(item.result is True and not item.changes for item in found.values()):
        return found if run.test else _converge_fully(turns, run)
    alone.update(map(name_chunk, chunks))
    return None


def _answer_quickly(chunks: Sequence[Chunk], run: Run) -> dict[str, StateReturn] | None:
    reader = run.context.setdefault(_READER, quick.make_reader())
    return quick.answer(chunks, _list_ours(run.lowstate), run.opts, run.pillar, reader)


def _converge(turns: Sequence[tuple[Chunk, str]], run: Run) -> dict[str, StateReturn]:
    """What the states of one turn return, by their keys, each with why it is a restart or ""."""
    if not any(restart for _, restart in turns):
        found = _answer_quickly([chunk for chunk, _ in turns], run)
        if found is not None:
            return found
    return _converge_fully(turns, run)


def _converge_fully(
    turns: Sequence[tuple[Chunk, str]], run: Run, *, test: bool = False
) -> dict[str, StateReturn]:
    from ya_salt.salt_api.converge import converge

    desired, failed = [], {}
    for chunk, restart in turns:
        try:
            desired.append(_make_desired(chunk, restart, run))
        except DesiredStateError as error:
            failed[name_chunk(chunk)] = StateReturn(False, str(error))
    wait_s = turns[0][0].get("lock_wait_s")
    mode = Mode(
        test or run.test, LOCK_WAIT_S if wait_s is None else _read_seconds(wait_s), run.find_who()
    )
    settings = read_settings(run.opts, run.pillar)
    source = None if failed else quick.find_source(run.opts, run.pillar)
    return failed | converge(desired, settings, mode, list_declared(run.lowstate), source)


def _read_seconds(value: Any) -> float:
    try:
        return max(0.0, float(value))
    except (TypeError, ValueError) as error:
        raise DesiredStateError(f"lock_wait_s: {value!r} is not a number of seconds") from error


def _make_desired(chunk: Chunk, restart: str, run: Run) -> DesiredState:
    # What has its turn with others is not done first and refused afterwards.
    _check(str(chunk["name"]), {key: chunk[key] for key in ("name", *ARGUMENTS) if key in chunk})
    source = str(chunk.get("source") or "")
    if not source.startswith("salt://"):
        return make_desired(chunk, restart=restart)
    path = run.fetch(source)
    if not path:
        raise DesiredStateError(f"{chunk['name']}: {source}: the master has no such file")
    return make_desired(chunk, source=path, restart=restart)


def _look_at_directory(run: Run, *, makedirs: bool) -> StateReturn:
    known = quick.look_at_directory(run.opts, run.pillar)
    if known is not None:
        directory, daemons, ignored = known
        return _describe_directory(directory, daemons, 0, ignored)
    from ya_salt.specs.directory import load_specs
    from ya_salt.specs.kept import KeptSpecs

    settings = read_settings(run.opts, run.pillar)
    folder = Path(settings.specs_dir)
    if makedirs and not folder.exists():
        return _make_directory(folder, test=run.test)
    loaded = load_specs(str(folder), kept=KeptSpecs(settings.state_dir))
    entries = [(item.path, item.reason) for item in loaded.ignored]
    return _describe_directory(str(folder), len(loaded.specs), len(loaded.rejected), entries)


def _describe_directory(
    directory: str, daemons: int, rejected: int, ignored: Iterable[tuple[str, str]]
) -> StateReturn:
    words = f"{directory}: {count(daemons, 'daemon')}"
    if rejected:
        words += f", {count(rejected, 'file')} that cannot be used (each fails as its own state)"
    entries = (f"{path} is ignored: {reason}" for path, reason in ignored)
    return StateReturn(True, "\n".join((words, *entries)))


def _make_directory(directory: Path, *, test: bool) -> StateReturn:
    change = {"directory": {str(directory): {"old": "absent", "new": "created"}}}
    if test:
        return StateReturn(None, f"{directory} would be made", change)
    try:
        directory.mkdir(mode=0o755, parents=True)
    except OSError as error:
        return StateReturn(False, f"{directory} cannot be made: {error.strerror}")
    return StateReturn(True, f"{directory} was made", change)


def _answer(name: str, returned: StateReturn) -> Return:
    answer: Return = {
        "name": name,
        "result": returned.result,
        "changes": escape_all(returned.changes),
        "comment": speak(escape_lines(returned.comment)),
    }
    if returned.warnings:
        answer["warnings"] = speak(escape_all(returned.warnings))
    return answer


# -- a state's place in its run --------------------------------------------------------------------


def name_place(chunk: Chunk) -> str:
    """Where people find it; kept as the path of a daemon that no file defines."""
    where = f" of SLS {chunk['__sls__']}" if chunk.get("__sls__") else ""
    return f"state {chunk.get('__id__') or chunk.get('name', '')}{where}"


def make_desired(chunk: Chunk, source: str = "", restart: str = "") -> DesiredState:
    """What a chunk asks for; `source` is where its own was fetched to, if it had to be."""
    return DesiredState(
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
    desired = [make_desired(chunk) for chunk in _list_ours(lowstate)]
    return tuple(Declared(state.key, state.name, state.place, state.path) for state in desired)


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


def list_followers(
    low: Chunk,
    lowstate: Sequence[Chunk],
    running: Mapping[str, Any],
    companions: Sequence[Chunk],
    *,
    failhard: bool,
) -> list[Chunk]:
    """The states that Salt runs right after `low` and its companions, with nothing in between.

    Where nothing is to be done about any of them it does not matter who looks, or when.
    """
    if failhard or "fun" not in low or any(low.get(key) for key in _BUSY_BETWEEN):
        return []
    taken = {tag_chunk(chunk) for chunk in (low, *companions)}
    awaited = list(_list_prerequired(lowstate))
    mine, name = tag_chunk(low), low.get("__id__")
    # Each state of a run looks for itself: of most the ID tells that it is another.
    places = [
        number
        for number, chunk in enumerate(lowstate)
        if chunk.get("__id__") == name and tag_chunk(chunk) == mine
    ]
    found: list[Chunk] = []
    for chunk in lowstate[places[-1] + 1 :] if places else ():
        tag = tag_chunk(chunk)
        if tag in taken or tag in running:
            continue
        if not _is_follower(chunk) or any(_refers(ref, chunk) for ref in awaited):
            break
        found.append(chunk)
    return found


def _is_follower(chunk: Chunk) -> bool:
    return (
        chunk.get("state") == STATE
        and chunk.get("fun") == "managed"
        and not any(chunk.get(key) for key in _BUSY_BETWEEN)
        and _is_free(chunk)
    )


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
