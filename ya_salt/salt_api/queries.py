"""Answer Salt's questions about a host in plain data. Changes nothing but where it says so."""

from __future__ import annotations

import difflib
import platform
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import google.protobuf

import ya_salt
from ya_salt.converge.adopt import read_container, say_blocked, take_over
from ya_salt.converge.host import PassRequest, make_host
from ya_salt.converge.inquiry import describe_all, gather, load_quietly
from ya_salt.converge.journal import load_history, load_last_pass
from ya_salt.converge.preview import look_now, report_now
from ya_salt.converge.single import (
    ask_apply,
    ask_order,
    ask_restart,
    parse_span,
    say_unknown,
)
from ya_salt.converge.status import is_fine
from ya_salt.converge.why import explain as find_causes
from ya_salt.converge.why import list_pending as find_pending
from ya_salt.converge.why import to_data as why_to_data
from ya_salt.errors import PortoError, UsageError, YaSaltError
from ya_salt.gate.client import load_memory as load_gate
from ya_salt.gate.memory import describe_gate
from ya_salt.life import Order
from ya_salt.messages import format_time, make_daemon_status, make_generations
from ya_salt.model import DaemonStatus, Event, Loaded, Record, Rejected, Settings, is_state
from ya_salt.porto.client import PortoClient
from ya_salt.salt_api import API, find_file_root
from ya_salt.salt_api.converge import apply_all, make_true, read_files
from ya_salt.salt_api.speech import speak
from ya_salt.salt_api.turn import LOCK_WAIT_S, REAL, Mode, StateReturn
from ya_salt.settings import SETTINGS, InForce
from ya_salt.specs.directory import load_files, load_specs
from ya_salt.specs.kept import KeptSpecs
from ya_salt.store import read_store
from ya_salt.text import escape_all

_Query = TypeVar("_Query", bound=Callable[..., Any])


def _harmless(query: _Query) -> _Query:
    """What daemons, portod and others said goes to somebody's terminal: it must not steer it."""

    @wraps(query)
    def ask(*arguments: Any, **more: Any) -> Any:
        return speak(escape_all(query(*arguments, **more)))

    return cast("_Query", ask)


Kind = Literal["stop", "start", "retry", "rollback"]

_SHOWN = 20
"""Names in a summary: enough to act on, few enough for a thousand hosts at once."""


@_harmless
def list_specs(settings: Settings) -> dict[str, Any]:
    """The daemons directory as it is now: its path, and {specs, rejected, ignored}, each a list."""
    loaded = load_specs(settings.specs_dir, kept=KeptSpecs(settings.state_dir))
    return {
        "directory": settings.specs_dir,
        "specs": [
            {
                "name": spec.name,
                "version": spec.version,
                "path": spec.path,
                "delete_requested": spec.delete_requested,
                "digest": spec.digest,
            }
            for spec in loaded.specs
        ],
        "rejected": [_plain_rejected(item) for item in loaded.rejected],
        "ignored": [{"path": item.path, "reason": item.reason} for item in loaded.ignored],
    }


def _plain_rejected(item: Rejected) -> dict[str, Any]:
    return {"path": item.path, "name": item.name, "problems": list(item.problems)}


@_harmless
def check_path(path: str) -> dict[str, Any]:
    """What is wrong with a spec file, or with every file of a directory: {valid, problems}."""
    found = load_specs(path) if Path(path).is_dir() else load_files([path])
    return {
        "valid": [spec.path for spec in found.specs],
        "problems": [problem for item in found.rejected for problem in item.problems],
    }


# -- how daemons stand -----------------------------------------------------------------------------


@_harmless
def show_status(
    settings: Settings, name: str = "", *, summary: bool = False, details: bool = False
) -> dict[str, Any]:
    """All daemons in a line each, or with `details` in a mapping each; one in full; only counts.

    A file that cannot be used now is told of whether a pass has seen it or not.
    """
    statuses, last_pass = _look(settings)
    rejected = load_quietly(settings.specs_dir, KeptSpecs(settings.state_dir)).rejected
    if summary:
        return _summarise(statuses, last_pass, rejected)
    if not name:
        told = {item.name: shorten_status(item) for item in statuses}
        for item in rejected:
            told.setdefault(item.name or item.path, dict(_UNSEEN)).update(_plain_problems([item]))
        return told if details else {key: describe_shortly(item) for key, item in told.items()}
    mine = [item for item in rejected if name in (item.name, item.path)]
    if mine and not any(item.name == name for item in statuses):
        return {"name": name, **_UNSEEN} | _plain_problems(mine)
    return make_daemon_status(_pick(statuses, name, settings)) | _plain_problems(mine)


_UNSEEN = {"ready": False, "phase": "Rejected", "state": "", "version": ""}


def _plain_problems(rejected: Sequence[Rejected]) -> dict[str, Any]:
    """What there is to tell of files that define one daemon and cannot be used."""
    if not rejected:
        return {}
    problems = [problem for item in rejected for problem in item.problems]
    return {"phase": "Rejected", "path": rejected[0].path, "problems": problems}


def is_ready_now(settings: Settings, name: str) -> bool:
    status = _pick(_look(settings)[0], name, settings)
    return status.ready is not None and status.ready.status


def list_statuses(settings: Settings) -> list[DaemonStatus]:
    """How every daemon that a pass has seen stands now."""
    return _look(settings)[0]


def _look(settings: Settings) -> tuple[list[DaemonStatus], Mapping[str, Any] | None]:
    store = read_store(settings.state_dir)
    if store is None:
        return [], None
    try:
        records = store.load_records()
        last_pass = load_last_pass(store, settings.state_dir)
    finally:
        store.close()
    return look_now(make_host(settings), records), last_pass


def _pick(statuses: Iterable[DaemonStatus], name: str, settings: Settings) -> DaemonStatus:
    known = {status.name: status for status in statuses}
    _check_known(name, known, settings)
    return known[name]


def _check_known(name: str, seen: Collection[str], settings: Settings) -> None:
    """Raises UsageError where no pass has seen a daemon of that name."""
    if name not in seen:
        raise UsageError(say_unknown(name, load_quietly(settings.specs_dir), seen))


def shorten_status(status: DaemonStatus) -> dict[str, Any]:
    ready = status.ready
    short: dict[str, Any] = {
        "ready": ready is not None and ready.status,
        "phase": status.phase,
        "state": status.state,
        "version": status.version,
    }
    if ready is not None and ready.reason != "Ready":
        # Also of one that is ready: it waits, went back, or is kept at what it was.
        short |= {"reason": ready.reason, "message": ready.message}
    if status.warnings and not is_fine(status):
        short["warnings"] = list(status.warnings)
    return short


def describe_shortly(short: Mapping[str, Any]) -> str:
    """What `shorten_status` tells, in one line: `ready, running, version 1.2`."""
    ready, reason = "ready" if short["ready"] else "not ready", short.get("reason")
    words = [
        *([short["phase"]] if short["phase"] != "Managed" else []),
        f"{ready} ({reason})" if reason else ready,
        *([short["state"]] if short["state"] else []),
        *([f"version {short['version']}"] if short["version"] else []),
    ]
    more = [short["message"]] if short.get("message") else []
    more += [*short.get("warnings", ()), *short.get("problems", ())]
    line = ": ".join((", ".join(words), *(["; ".join(more)] if more else [])))
    return " ".join(line.split())


def _summarise(
    statuses: Sequence[DaemonStatus],
    last_pass: Mapping[str, Any] | None,
    rejected: Sequence[Rejected],
) -> dict[str, Any]:
    bad = [item.name for item in statuses if not is_fine(item)]
    bad += [item.name or item.path for item in rejected if item.name not in bad]
    told: dict[str, Any] = {
        "daemons": len(statuses),
        "ready": sum(1 for item in statuses if item.ready and item.ready.status),
        "phases": dict(Counter(item.phase for item in statuses)),
        "to_look_at": bad[:_SHOWN],
        "to_look_at_count": len(bad),
        "waiting_for_the_gate": sum(item.waits for item in statuses),
        "rejected_files": len(rejected),
        "last_pass": "never",
    }
    if last_pass:
        told["last_pass"] = f"{format_time(last_pass['started_at'])} {last_pass['result']}"
    return told


@_harmless
def show_gate(settings: Settings, name: str = "") -> dict[str, Any]:
    """How the gate and what concerns it stood in the last pass.

    {type, state, message, since, daemons: {name: {state, reason, message, since, …}}}
    """
    store = read_store(settings.state_dir)
    memory, statuses = load_gate(store), []
    if store is not None:
        try:
            records = store.load_records().values()
            statuses = [item.status for item in records if item.status is not None]
        finally:
            store.close()
    chosen = [_pick(statuses, name, settings)] if name else statuses
    told = describe_gate(settings.gate.type, memory)
    since = {"since": "" if told["since"] is None else format_time(told["since"])}
    daemons = {item.name: make_daemon_status(item).get("gate") for item in chosen}
    return {**told, **since, "daemons": {key: gate for key, gate in daemons.items() if gate}}


@_harmless
def show_history(settings: Settings, name: str = "", limit: int = 50) -> list[dict[str, str]]:
    """What was done, oldest first."""
    store = read_store(settings.state_dir)
    if store is None:
        if name:
            _check_known(name, (), settings)
        return []
    try:
        events = load_history(store, settings.state_dir, name, limit)
        if name and not events:
            _check_known(name, store.load_records(), settings)
    finally:
        store.close()
    return [
        {"time": format_time(item.at), "name": item.name, "what": item.what, "who": item.who}
        for item in events
    ]


@_harmless
def show_logs(settings: Settings, name: str, lines: int = 20) -> dict[str, str]:
    """The last lines of the container's {stdout, stderr}."""
    if lines < 0:
        raise UsageError("lines are counted from the end: it cannot be negative")
    with PortoClient(settings.porto_socket) as client:
        try:
            client.get_property(name, "state")
        except PortoError as error:
            if error.code != "ContainerDoesNotExist":
                raise
            _check_known(name, _load_records(settings), settings)
            raise YaSaltError(
                f"{name} has no container at the moment, so there is no output; "
                f"ya-salt status {name} says why"
            ) from error
        return {stream: _tail(client, name, stream, lines) for stream in ("stdout", "stderr")}


def _tail(client: PortoClient, name: str, stream: str, lines: int) -> str:
    found = client.read_output(name, stream, 0)
    text = found[2].decode(errors="replace") if found else ""
    return "".join(text.splitlines(keepends=True)[-lines:] if lines else [])


# -- acting ----------------------------------------------------------------------------------------


@_harmless
def show_plan(settings: Settings, name: str = "") -> dict[str, Any]:
    """What a pass would do, for the daemons that it would do anything about."""
    files = read_files(settings, _TEST)
    _check_defined(name, files.loaded, settings)
    return {
        key: _plain_return(returned)
        for key, returned in apply_all(settings, files, name, _TEST).items()
        if returned.result is not True
    }


_TEST = Mode(test=True)


def _check_defined(name: str, loaded: Loaded, settings: Settings) -> None:
    """Raises UsageError where a name was given, and no file has a daemon of that name."""
    known = {item.name for item in loaded.specs} | {item.name for item in loaded.rejected}
    if name and name not in known:
        near = difflib.get_close_matches(name, sorted(known), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"no file of {settings.specs_dir} defines a daemon {name}{hint}")


@_harmless
def apply_now(
    settings: Settings,
    name: str = "",
    mode: Mode = REAL,
    source: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Make the directory, or one daemon of it, true: {ok, daemons: {name: …}, rejected}.

    `source` is what the settings are made of, where a next pass may be quick for it.
    """
    files = read_files(settings, mode, source)
    _check_defined(name, files.loaded, settings)
    rejected = [item for item in files.loaded.rejected if name in ("", item.name)]
    returns = apply_all(settings, files, name, mode)
    return {
        "ok": not rejected and all(returned.result is not False for returned in returns.values()),
        "daemons": {key: _plain_return(returned) for key, returned in returns.items()},
        "rejected": [_plain_rejected(item) for item in rejected],
    }


@_harmless
def restart_now(settings: Settings, name: str, mode: Mode = REAL, why: str = "") -> dict[str, Any]:
    """Give a daemon a new process, as gently as an update does."""
    kept = KeptSpecs(settings.state_dir)
    loaded, records = _recall(settings, kept)
    return _act(settings, ask_restart(name, loaded, records, mode.who, why), mode, kept)


@_harmless
def give_order(  # noqa: PLR0913 - each says more exactly what is asked for
    settings: Settings,
    name: str,
    kind: Kind,
    mode: Mode = REAL,
    *,
    why: str = "",
    span: str = "",
    number: int = 0,
) -> dict[str, Any]:
    """Stop a daemon (for a `span`, as `2h`), start it, try again what was rejected, go back."""
    until = time.time() + parse_span(span) if span else 0.0
    order = Order(kind, mode.who, " ".join(why.split()), until, number)
    kept = KeptSpecs(settings.state_dir)
    loaded, records = _recall(settings, kept)
    return _act(settings, ask_order(name, loaded, records, order), mode, kept)


def _act(settings: Settings, request: PassRequest, mode: Mode, kept: KeptSpecs) -> dict[str, Any]:
    """Make the pass about one daemon that somebody asks for; `kept` is what its files meant."""
    (spec,) = request.targets
    done = _plain_return(make_true(settings, request, mode)[spec.name])
    if request.loaded.specs and not mode.test:
        kept.save()
    return done


@_harmless
def adopt_now(
    settings: Settings, name: str, mode: Mode = REAL, *, write: bool = False
) -> dict[str, Any]:
    """The spec of somebody's container; with `write` its file is laid down and it is taken over.

    {result, changes, comment, warnings, spec}
    """
    host = make_host(settings)
    adoption = read_container(host, name, load_quietly(settings.specs_dir))
    warnings = [*adoption.notes, *adoption.blockers]
    told: dict[str, Any] = {"result": True, "changes": {}, "warnings": warnings}
    if not write:
        return {**told, "comment": f"{name} was only looked at", "spec": adoption.text}
    path = adoption.spec.path
    written = {"file": {path: {"old": "absent", "new": "written"}}}
    changes: dict[str, Any] = {} if adoption.is_written else written
    if mode.test:
        file = f"{path} is there already" if adoption.is_written else f"{path} would be written"
        comment = f"{file}, and {name} would be taken over as it runs"
        told |= {"result": None, "changes": changes, "comment": comment}
        if adoption.blockers:
            told |= {"result": False, "changes": {}, "comment": say_blocked(adoption)}
        return {**told, "spec": adoption.text}
    take_over(host, adoption, mode.who, mode.lock_wait_s)
    kept = KeptSpecs(settings.state_dir)
    loaded, records = _recall(settings, kept)
    done = _act(settings, ask_apply(name, loaded, records, mode.who), mode, kept)
    done["changes"] = {**changes, **done["changes"]}
    return {**done, "warnings": [*warnings, *done["warnings"]], "spec": adoption.text}


@_harmless
def list_generations(settings: Settings, name: str) -> list[dict[str, Any]]:
    """What a daemon can go back to, oldest first."""
    records = _load_records(settings)
    _check_known(name, records, settings)
    return make_generations(records[name])


def _recall(settings: Settings, kept: KeptSpecs) -> tuple[Loaded, Mapping[str, Record]]:
    return load_quietly(settings.specs_dir, kept), _load_records(settings)


def _load_records(settings: Settings) -> Mapping[str, Record]:
    store = read_store(settings.state_dir)
    try:
        return store.load_records() if store else {}
    finally:
        if store is not None:
            store.close()


def _plain_return(returned: StateReturn) -> dict[str, Any]:
    return {
        "result": returned.result,
        "changes": returned.changes,
        "comment": returned.comment,
        "warnings": list(returned.warnings),
    }


# -- about ourselves -------------------------------------------------------------------------------


def show_versions() -> dict[str, str]:
    return {
        "ya_salt": ya_salt.__version__,
        "api": str(API),
        "core": str(Path(ya_salt.__file__).parent),
        "file_root": find_file_root(),
        "protobuf": google.protobuf.__version__,
        "python": platform.python_version(),
    }


def show_settings(in_force: InForce) -> dict[str, dict[str, Any]]:
    """Every setting with its value and where it comes from."""
    return {
        item.name: {
            "value": item.read(in_force.settings),
            "origin": in_force.origins[item.name],
        }
        for item in SETTINGS
    }


@_harmless
def tell_monitoring(settings: Settings) -> list[dict[str, str]]:
    """Tell every sink how the daemons stand now: what became of each."""
    return [
        {"name": item.sink, "state": item.state, "message": item.message}
        for item in report_now(make_host(settings), LOCK_WAIT_S)
    ]


# -- why a daemon stands as it does ----------------------------------------------------------------


@_harmless
def explain(settings: Settings, name: str) -> dict[str, Any]:
    """Everything that bears on how one daemon stands, and what to type next."""
    found = gather(make_host(settings), name)
    status, spec = found.status, found.spec
    told: dict[str, Any] = {"name": name}
    unseen = {"ready": False, "message": found.trouble or _NEVER}
    told |= shorten_status(status) if status else unseen
    told["file"] = spec.path if spec else ", ".join(item.path for item in found.rejected)
    told["file"] = told["file"] or _name_state(status) or "none"
    told["problems"] = [problem for item in found.rejected for problem in item.problems]
    told["error"] = status.error if status else found.trouble
    told["warnings"] = list(status.warnings) if status else []
    told["pending"] = list(find_pending(found))
    told["history"] = [_describe_event(item) for item in found.history[-5:]]
    answer = why_to_data(find_causes(found))
    # What is to be typed is Salt's own here; elsewhere the shell's `logs -f` goes on.
    step = answer["next"].replace("ya-salt logs ", "salt-call porto_daemon.logs ")
    return {**told, **answer, "next": step}


def _describe_event(event: Event) -> str:
    by = f" by {event.who}" if event.who else ""
    return f"{format_time(event.at)}{by}: {event.what}"


def _name_state(status: DaemonStatus | None) -> str:
    """The state of an SLS that defines a daemon without a file; "" where none does."""
    return f"none: {status.path}" if status and is_state(status.path) else ""


_NEVER = "no pass has seen it yet"


@_harmless
def describe(settings: Settings, name: str) -> dict[str, Any]:
    """Everything about one daemon."""
    return describe_all(make_host(settings), name)
