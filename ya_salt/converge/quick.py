"""The quick way of a pass: whether the host still is as the last full pass has left it.

It goes by what that pass wrote down (`ya_salt.as_left`) and one question to portod. Nothing is
decided here but whether the long way may be spared: only a host on which every daemon is fine,
nothing waits and nothing will come due by itself is written down at all. Loads next to nothing.
"""

from __future__ import annotations

import fcntl
import os
import time

from ya_salt import as_left, quick_socket
from ya_salt.porto import glance
from ya_salt.quick_dataclass import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Any

    from ya_salt.converge.host import PassRequest, PassResult
    from ya_salt.life import Trial
    from ya_salt.model import DaemonSpec, DaemonStatus, Observed, Outcome, Readiness, Settings
    from ya_salt.porto.glance import Use

    Answers = Mapping[str, Sequence[Any]]
    """As `as_left.note_asked` has them."""

_CLOCK_STEP_S = 2
"""portod tells whole seconds."""
_CONNECT_S = 0.2
_GROUPS = "/etc/group"
_KEPT = ("store.sqlite3", "journal", "secret.key")
"""What a pass keeps beside the snapshot and goes by."""


def take_glimpse(settings: Settings, source: Mapping[str, Any]) -> as_left.Glimpse | None:
    """Look at the files before they are read, so that no change meanwhile is missed.

    None where they cannot be seen, or one that is no daemon's has changed so lately that another
    change may not show.
    """
    now = time.time()
    dpkg = os.path.join(settings.root, "var/lib/dpkg")
    paths = [
        source["config"],
        *(os.path.join(dpkg, name) for name in as_left.DPKG_FILES),
        # Whose group may read: one that is new is let in by a full pass.
        *([_GROUPS] if settings.read_group else []),
    ]
    try:
        files = as_left.identify_all(paths)
        entries = as_left.identify_entries(settings.specs_dir)
    except OSError:
        return None
    if not all(as_left.is_settled(identity, now) for _, identity in files.values()):
        return None
    # A change of the directory itself shows in its mode, its owner or its entries.
    fresh = {
        name for name, item in entries.items() if name != "." and not as_left.is_settled(item, now)
    }
    return as_left.Glimpse(source, files, entries, fresh)


def look_before(settings: Settings, request: PassRequest) -> glance.Glance | None:
    """Ask portod, before the pass looks, when each container changed; None where that is no use."""
    if request.glimpse is None or not is_plain_request(request):
        return None
    try:
        return glance.look(settings.porto_socket, sorted(spec.name for spec in request.targets))
    except glance.NoGlanceError:
        return None


# -- after a full pass ---------------------------------------------------------------------------


def leave(
    settings: Settings,
    request: PassRequest,
    seen: glance.Glance | None,
    result: PassResult,
    tell: Callable[[], Mapping[str, Any]],
) -> None:
    """Write down how the pass has left the host, if little of it is out of the ordinary.

    Call it under the pass lock, when everything else is written. `tell` is called only where no
    daemon is, for what `status` shows besides the daemons: when the pass was ("passed"), "sinks",
    "gate", "causes"; and "steady", what keeps the sinks told, None where that takes a full pass.
    What it raises of OSError and ValueError leaves nothing.
    """
    gone = _find_gone(request, seen, result)
    aside = _list_aside(request, seen, result, gone)
    if seen is None or request.glimpse is None or aside is None:
        return
    from ya_salt.text import printable

    glimpse, rest, state_dir = request.glimpse, request.rest, settings.state_dir
    changed = {**({} if rest is None else rest.changed), **glance.parse_changes(seen.told)}
    plain = {name: when for name, when in changed.items() if name not in aside}
    probed = {name: said for name, said in _list_probed(request, result).items() if name in plain}
    data = {
        "source": glimpse.source,
        "who": request.who,
        "code": as_left.name_code(),
        "uid": os.geteuid(),
        "boot": as_left.name_boot(),
        "host": os.uname().nodename,
        "full_at": _find_full_at(request, result),
        "step": glimpse.step if rest is None else rest.step,
        "on_trial": any(life.trial is not None for life in result.after.lives.values()),
        "state_dir": state_dir,
        "specs_dir": settings.specs_dir,
        "guarded": [settings.specs_dir, *glimpse.files],
        "entries": glimpse.entries,
        "porto_socket": settings.porto_socket,
        "peer": seen.peer,
        "porto_step": seen.step if rest is None else rest.porto_step,
        "changed": plain,
        "aside": sorted(aside),
        "asked": glance.encode_names(plain),
        "unchanged": glance.say_unchanged(plain),
        "gone": sorted(gone),
        "gone_asked": glance.encode_names(sorted(gone)),
        "gone_told": b"".join(gone[name] for name in sorted(gone)),
        "probed": probed,
        # Of the spec, or of what portod took of it: they stand as long as nothing changes.
        "warnings": [
            printable(f"{item.name}: warning: {words}")
            for item in result.statuses
            for words in item.warnings
        ],
        "daemons": [
            [
                item.name,
                item.version,
                item.phase,
                item.state,
                "yes" if item.ready and item.ready.status else "no",
                item.ready.since if item.ready else 0.0,
                item.respawn_count,
                item.restart_count,
            ]
            for item in result.statuses
        ],
    }
    try:
        told = None if aside else tell()
        if told is not None and told["steady"] is None:
            return
        kept = as_left.identify_all(os.path.join(state_dir, name) for name in _KEPT)
        files = {**glimpse.files, **kept}
        as_left.write(
            state_dir, {**data, "told": told, "files": files}, _list_more(result, request)
        )
        if not probed:
            as_left.remove_file(os.path.join(state_dir, as_left.ASKED_FILE_NAME))
    except (OSError, ValueError):
        as_left.forget(state_dir)


def _find_full_at(request: PassRequest, result: PassResult) -> float:
    """When all daemons are looked at again, in seconds since the boot: a probation is over then."""
    rest, specs = request.rest, {spec.name: spec for spec in result.targets}
    ends = [
        life.trial.ready_at + specs[name].update.watch_s
        for name, life in result.after.lives.items()
        if life.trial is not None and name in specs
    ]
    ever = as_left.find_full_at(os.uname().nodename) if rest is None else rest.full_at
    return min([ever, *(as_left.find_boottime(at) for at in ends)])


def _list_more(result: PassResult, request: PassRequest) -> dict[str, Any]:
    """The daemons directory file by file, and the warnings of each daemon, as Salt tells them."""
    return {
        "specs": [
            [item.path, item.name, item.version, item.digest, item.delete_requested]
            for item in request.loaded.specs
        ],
        "ignored": [[item.path, item.reason] for item in request.loaded.ignored],
        "warnings": {item.name: list(item.warnings) for item in result.statuses if item.warnings},
    }


def is_plain_request(request: PassRequest) -> bool:
    return request.whole and not (request.restarts or request.orders or request.override_gate)


def _find_gone(
    request: PassRequest, seen: glance.Glance | None, result: PassResult
) -> dict[str, bytes]:
    """Daemon -> what portod tells of it, of those that are removed as their files ask."""
    if seen is None or request.glimpse is None:
        return {}
    statuses = {status.name: status for status in result.statuses}
    try:
        absent = glance.find_absent(seen.told)
    except glance.NoGlanceError:
        return {}
    return {
        spec.name: absent[spec.name]
        for spec in result.targets
        if spec.name in absent
        and os.path.basename(spec.path) not in request.glimpse.unsettled
        and spec.name in statuses
        and _is_gone(spec, statuses[spec.name], result)
    }


def _is_gone(spec: DaemonSpec, status: DaemonStatus, result: PassResult) -> bool:
    """Whether nothing of it was left to be removed, and nothing keeps it from being."""
    from ya_salt.life import Life

    name, after = spec.name, result.after
    return (
        spec.delete_requested
        and status.phase == "Removed"
        and status.gate is None
        and name not in after.containers
        and name not in after.unknown
        and name not in result.touched
        and _is_plain_outcome(result.outcomes[name])
        and after.lives.get(name, Life()) == Life()
    )


def _list_aside(
    request: PassRequest,
    seen: glance.Glance | None,
    result: PassResult,
    gone: Mapping[str, bytes],
) -> set[str] | None:
    """Daemons that are out of the ordinary, so that the next pass has to look at them.

    None where the next pass has to look at all of them.
    """
    rest, glimpse = request.rest, request.glimpse
    known = {spec.name for spec in request.targets} | ({*rest.changed} if rest else set())
    statuses = {status.name: status for status in result.statuses}
    if seen is None or glimpse is None or request.loaded.rejected or result.problems:
        return None
    fresh = {
        spec.name for spec in request.context if os.path.basename(spec.path) in glimpse.unsettled
    }
    if statuses.keys() != known or len(fresh) != len(glimpse.unsettled):
        return None
    if rest is not None and rest.peer != seen.peer:
        return None
    changed = glance.parse_changes(seen.told)
    # What was seen after the question is what the answer was about, and a change from here on
    # cannot have the same time.
    latest = seen.clock - as_left.SETTLED_S - _CLOCK_STEP_S
    plain = {
        name
        for spec in result.targets
        for name in [spec.name]
        if changed.get(name, latest + 1) <= latest
        and _is_plain(spec, statuses[name], result, changed[name])
    }
    aside = {spec.name for spec in request.targets} - plain - gone.keys() | fresh
    if not aside:
        is_over = result.ok and result.due_at is None
        return aside if is_over else None
    return aside if 2 * len(aside) <= len(known) else None


def _is_plain(spec: DaemonSpec, status: DaemonStatus, result: PassResult, changed_at: int) -> bool:
    """Whether nothing was done to it, waits, or will come due by itself, and it is fine."""
    name = spec.name
    container = result.after.containers.get(name)
    return (
        container is not None
        and container.changed_at == changed_at
        and name not in result.touched
        and _is_plain_outcome(result.outcomes[name])
        and _is_plain_life(spec, result.after)
        and status.phase == "Managed"
        and status.ready is not None
        and status.ready.reason == "Ready"
        and status.gate is None
        and status.wanted_version == status.version
    )


def _is_plain_outcome(outcome: Outcome) -> bool:
    from ya_salt.model import DaemonPlan, Outcome

    return outcome == Outcome(DaemonPlan(outcome.plan.name))


def _is_plain_life(spec: DaemonSpec, after: Observed) -> bool:

    from ya_salt.life import Life

    life = after.lives.get(spec.name)
    if life is None or (life.crash is not None and life.crash.deaths):
        return False
    if life.trial is not None and not _is_plain_trial(life.trial):
        return False
    if spec.readiness is not None and not _is_plain_yes(spec, spec.readiness, after):
        return False
    # What it could go back to, and what was put right, is of no matter while nothing is to be done.
    plain = replace(
        life, generations=(), crash=None, corrections={}, corrected="", trial=None, probes=None
    )
    return plain == Life() and (spec.readiness is not None or life.probes is None)


def _is_plain_yes(spec: DaemonSpec, readiness: Readiness, after: Observed) -> bool:
    """Whether it was asked and says yes. What says itself how it stands may say more than that."""
    from ya_salt.converge.readiness import find_probes, find_warning

    life = after.lives[spec.name]
    probes = find_probes(after.containers.get(spec.name), life)
    return (
        not readiness.notify
        and probes is not None
        and probes.is_ready
        and not probes.failures
        and not find_warning(spec, life)
    )


def _list_probed(request: PassRequest, result: PassResult) -> dict[str, list[str]]:
    """Daemon -> its process, and its last answer, of those that are asked if they are ready."""
    found = {spec.name: result.after.lives[spec.name].probes for spec in request.targets}
    return {name: [item.start, item.answer] for name, item in found.items() if item is not None}


def _is_plain_trial(trial: Trial) -> bool:
    """Whether nothing can become of it before its end while its container stays as it is."""
    is_shaken = bool(trial.deaths or trial.was_dead or trial.was_respawning)
    return bool(trial.ready_at and trial.host) and trial.is_carried_out and not is_shaken


# -- the quick way -------------------------------------------------------------------------------


class Reader:
    """Reads the snapshot, and for who asks again what it has read, while that is the same file."""

    def __init__(self) -> None:
        self._identity: as_left.Identity | None = None
        self._data: dict[str, Any] | None = None

    def read(self, state_dir: str) -> dict[str, Any] | None:
        """As `as_left.read`. Raises OSError."""
        now, path = time.time(), os.path.join(state_dir, as_left.FILE_NAME)
        identity = as_left.identify(path)
        if identity is None or identity != self._identity or not as_left.is_settled(identity, now):
            self._data = as_left.read(state_dir)
            self._identity = identity
        return self._data


def ask_nobody(probed: Mapping[str, Sequence[str]]) -> Answers | None:
    """For a pass of who has not asked daemons meanwhile: where there are such, it has to."""
    return None if probed else {}


def make_quick_pass(  # noqa: PLR0913, PLR0917 - who asks names what is special about it
    state_dir: str,
    source: Mapping[str, Any],
    reader: Reader | None = None,
    suits: Callable[[Mapping[str, Any]], bool] = lambda _data: True,
    find_part: Callable[[], Collection[str] | None] = lambda: None,
    confirm: Callable[[Mapping[str, Sequence[str]]], Answers | None] = ask_nobody,
) -> dict[str, Any] | None:
    """The snapshot, where a pass finds everything as it has it, and that pass is remembered.

    None where there has to be a full one, be it that the snapshot does not suit who asks. `reader`
    spares who makes many passes reading it each time. A pass over a part of the daemons, which
    `find_part` names once the snapshot suits (None: all of them), looks at no other containers, and
    is not remembered. `confirm` is given the daemons that are asked if they are ready (their
    process, their last answer), and tells what they have said meanwhile; None where that was no
    yes, or is too long ago. Raises nothing.
    """
    started, reader = time.time(), reader or Reader()
    if not os.path.exists(os.path.join(state_dir, as_left.FILE_NAME)):
        return None
    try:
        folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # The lock of every pass, without a word on who holds it: it is over in a moment.
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        data = reader.read(state_dir)
        if data is None or not (as_left.is_of_all(data, source) and suits(data)):
            return None
        part = find_part()
        data, noted = take_part(data, part), part is None
        answers = confirm(data["probed"])
        if answers is None or not _repeat(data, state_dir, started, noted):
            return None
        if answers:
            as_left.note_asked(state_dir, answers)
        if noted:
            as_left.note_pass(state_dir, started, time.time())
    except (OSError, LookupError, TypeError):
        return None
    finally:
        os.close(folder)
    return data


def take_part(data: Mapping[str, Any], part: Collection[str] | None) -> dict[str, Any]:
    """The snapshot as it is about these daemons' containers alone; None: about all.

    Files stay those of all: what a daemon is, others have a say in. Raises LookupError.
    """
    if part is None:
        return dict(data)
    names = sorted({*part}.difference(data["gone"]))
    changed = {name: data["changed"][name] for name in names}
    return {
        **data,
        "changed": changed,
        "asked": glance.encode_names(names),
        "unchanged": glance.say_unchanged(changed),
        "gone": data["gone"] if len(names) < len({*part}) else [],
        "probed": {name: said for name, said in data["probed"].items() if name in changed},
    }


def _repeat(data: Mapping[str, Any], state_dir: str, started: float, noted: bool) -> bool:
    """Whether a pass finds everything as it was, and has told so to all who watch."""
    # When the last pass was, and what was used then, are told by one over all.
    textfile = data["told"]["steady"]["textfile"] if noted else None
    use = look(data, state_dir, ("memory_usage", "cpu_usage") if textfile else ())
    return use is not None and _tell(data, textfile, use, started)


def is_as_left(data: Mapping[str, Any], state_dir: str) -> bool:
    """Whether a pass would find nothing to do or to tell, and nobody to ask. Raises nothing."""
    return not data["probed"] and look(data, state_dir) is not None


def look(data: Mapping[str, Any], state_dir: str, variables: Sequence[str] = ()) -> Use | None:
    """What containers use, by `variables`, where a pass would find nothing to do; else None.

    That is by what daemons said when they were asked last, should they be.
    Who does not tell is not in it. Call it under the pass lock if it is to stand in for a pass, and
    after everything was read that is to be shown. Raises nothing.
    """
    try:
        call = None
        if data["changed"]:
            # The files are looked at while portod thinks: whatever is as it was has not been
            # anything else meanwhile, so it does not matter which is seen first.
            request = glance.encode_question(data["asked"], variables)
            call = glance.Call(data["porto_socket"], request)
        try:
            if not as_left.is_host_as_left(data, state_dir):
                return None
            if not all(map(_is_absent, data["told"]["steady"]["absent"])):
                return None
            use = {} if call is None else _read_use(data, call.receive(), variables)
            return use if use is None or _is_still_gone(data) else None
        finally:
            if call is not None:
                call.close()
    except (OSError, glance.NoGlanceError, LookupError, TypeError, ValueError, AttributeError):
        return None


def _read_use(data: Mapping[str, Any], seen: glance.Glance, variables: Sequence[str]) -> Use | None:
    """What portod tells of the use of containers, none of which has changed; else None."""
    if not is_timed(data, seen) or seen.peer != data["peer"]:
        return None
    if variables:
        return glance.read_use(seen.told, data["unchanged"], variables)
    return {} if seen.told == data["unchanged"] else None


def _is_still_gone(data: Mapping[str, Any]) -> bool:
    """Whether there are no containers of daemons that were removed. Raises NoGlanceError."""
    if not data["gone"]:
        return True
    request = glance.encode_question(data["gone_asked"])
    seen = glance.Call(data["porto_socket"], request).receive()
    return bool(seen.peer == data["peer"] and seen.told == data["gone_told"])


def is_timed(data: Mapping[str, Any], seen: glance.Glance) -> bool:
    """Whether portod's clock goes as it did, so that its change times tell."""
    return bool(abs(seen.step - data["porto_step"]) <= _CLOCK_STEP_S)


def _tell(data: Mapping[str, Any], textfile: Any, use: Use, started: float) -> bool:
    """Whether all who watch were told as by the last full pass, as far as anybody was."""
    pushes = data["told"]["steady"]["pushes"]
    if not pushes and textfile is None:
        return True
    from ya_salt.monitoring import steady

    try:
        if textfile is not None:
            path, name, sign = textfile
            if not steady.renew_file(path, name, sign, use, started):
                return False
        return steady.push_all(pushes)
    except (OSError, ValueError, TypeError):
        return False


def _is_absent(where: Any) -> bool:
    if isinstance(where, str):
        return not os.path.isdir(where)
    try:
        quick_socket.connect(where[0], where[1], _CONNECT_S).close()
    except ConnectionRefusedError:
        return True
    return False
