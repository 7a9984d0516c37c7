"""What the state functions return: Salt's mapping of name, result, changes, comment, warnings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ya_salt.errors import YaSaltError
from ya_salt.model import Settings
from ya_salt.salt_api.configuration import read_settings
from ya_salt.salt_api.converge import LOCK_WAIT_S, Mode, converge
from ya_salt.salt_api.runs import (
    AGGREGATED,
    ARGUMENTS,
    Chunk,
    find_watched,
    list_companions,
    list_declared,
    make_wish,
    name_chunk,
)
from ya_salt.salt_api.verdicts import Verdict
from ya_salt.salt_api.wishes import FIELDS, Wish, WishError, check_fields
from ya_salt.specs.directory import load_specs

_STASH = "porto_daemon.verdicts"
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
    fetch: Callable[[str], str] = str
    """Bring a file of the master (`salt://…`) here; its path, or "" where there is none."""

    @property
    def test(self) -> bool:
        return bool(self.opts.get("test"))

    def settings(self) -> Settings:
        return read_settings(self.opts, self.pillar)


Return = dict[str, Any]


def run_daemon(function: str, arguments: Mapping[str, Any], run: Run) -> Return:
    """`managed` and `absent`."""
    own = {
        key: value
        for key, value in arguments.items()
        if key not in _SALTS_OWN and not key.startswith("__")
    }
    chunk = {**_keep_identity(run.low), **own, "state": "porto_daemon", "fun": function}
    name = str(own["name"])
    try:
        _check(name, own)
        stashed = run.context.get(_STASH, {}).pop((name_chunk(chunk), run.test), None)
        verdict = stashed or _take_turn(chunk, run)
    except YaSaltError as error:
        verdict = Verdict(False, str(error))
    return _answer(name, verdict)


def run_restart(arguments: Mapping[str, Any], run: Run) -> Return:
    """`mod_watch`: what was watched has changed, and the daemon itself was as it should be."""
    function = str(arguments.get("sfun") or "managed")
    own = {key: value for key, value in arguments.items() if key in {"name", *ARGUMENTS}}
    chunk = {**_keep_identity(run.low), **own, "state": "porto_daemon", "fun": function}
    if function == "absent":
        return _answer(own["name"], Verdict(True, f"{own['name']} is not there to be restarted"))
    reason = find_watched(run.low, run.running) or "something that it watches changed"
    try:
        verdict = _converge([(chunk, reason)], run)[name_chunk(chunk)]
    except YaSaltError as error:
        verdict = Verdict(False, str(error))
    return _answer(str(own["name"]), verdict)


def run_directory(name: str, run: Run, *, makedirs: bool = False) -> Return:
    """`directory`: the daemons directory can be read; every file speaks for itself elsewhere."""
    try:
        verdict = _look_at_directory(run, makedirs=makedirs)
    except YaSaltError as error:
        verdict = Verdict(False, str(error))
    return _answer(name, verdict)


def mark_aggregate(low: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """`mod_aggregate`: whoever comes first may do the work of all that are free to go with it."""
    low[AGGREGATED] = True
    return low


def _keep_identity(low: Chunk) -> dict[str, Any]:
    return {key: low[key] for key in ("__id__", "__sls__") if key in low}


def _check(name: str, own: Mapping[str, Any]) -> None:
    known = {"name", *ARGUMENTS} - set(FIELDS)
    given = {key: own[key] for key in own if key not in known and own[key] is not None}
    check_fields(name, str(own.get("source") or ""), given)


def _take_turn(chunk: Chunk, run: Run) -> Verdict:
    restart = "" if chunk["fun"] == "absent" else find_watched(run.low, run.running)
    turns = [(chunk, restart)]
    wanted = run.low.get(AGGREGATED) or chunk.get("together") is True
    if wanted and not run.low.get("parallel"):
        failhard = bool(run.opts.get("failhard"))
        others = list_companions(run.low, run.lowstate, run.running, failhard=failhard)
        turns += [(other, "") for other in others]
    verdicts = _converge(turns, run)
    mine = verdicts.pop(name_chunk(chunk))
    stash = run.context.setdefault(_STASH, {})
    stash.update({(key, run.test): verdict for key, verdict in verdicts.items()})
    return mine


def _converge(turns: Sequence[tuple[Chunk, str]], run: Run) -> dict[str, Verdict]:
    wishes, failed = [], {}
    for chunk, restart in turns:
        try:
            wishes.append(_make_wish(chunk, restart, run))
        except WishError as error:
            failed[name_chunk(chunk)] = Verdict(False, str(error))
    wait_s = turns[0][0].get("lock_wait_s")
    mode = Mode(run.test, LOCK_WAIT_S if wait_s is None else _read_seconds(wait_s))
    return failed | converge(wishes, run.settings(), mode, list_declared(run.lowstate))


def _read_seconds(value: Any) -> float:
    try:
        return max(0.0, float(value))
    except (TypeError, ValueError) as error:
        raise WishError(f"lock_wait_s: {value!r} is no number of seconds") from error


def _make_wish(chunk: Chunk, restart: str, run: Run) -> Wish:
    source = str(chunk.get("source") or "")
    if not source.startswith("salt://"):
        return make_wish(chunk, restart=restart)
    path = run.fetch(source)
    if not path:
        raise WishError(f"{chunk['name']}: {source}: the master has no such file")
    return make_wish(chunk, source=path, restart=restart)


def _look_at_directory(run: Run, *, makedirs: bool) -> Verdict:
    directory = Path(run.settings().specs_dir)
    if makedirs and not directory.exists():
        return _make_directory(directory, test=run.test)
    loaded = load_specs(str(directory))
    words = f"{directory}: {len(loaded.specs)} daemons"
    if loaded.rejected:
        words += f", {len(loaded.rejected)} files that cannot be used (each fails as its own state)"
    ignored = tuple(f"{item.path} is ignored: {item.reason}" for item in loaded.ignored)
    return Verdict(True, "\n".join((words, *ignored)))


def _make_directory(directory: Path, *, test: bool) -> Verdict:
    change = {"directory": {str(directory): {"old": "absent", "new": "created"}}}
    if test:
        return Verdict(None, f"{directory} would be made", change)
    try:
        directory.mkdir(mode=0o755, parents=True)
    except OSError as error:
        return Verdict(False, f"{directory} cannot be made: {error.strerror}")
    return Verdict(True, f"{directory} was made", change)


def _answer(name: str, verdict: Verdict) -> Return:
    answer: Return = {
        "name": name,
        "result": verdict.result,
        "changes": verdict.changes,
        "comment": verdict.comment,
    }
    if verdict.warnings:
        answer["warnings"] = list(verdict.warnings)
    return answer
