"""Make true what states ask for, or say what would be done: one look and one pass for all."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ya_salt import as_left
from ya_salt.cli.logs import LogFile
from ya_salt.converge.changes import Changes, describe_changes
from ya_salt.converge.holds import end_when_due
from ya_salt.converge.host import PassRequest, make_host
from ya_salt.converge.preview import preview_pass
from ya_salt.converge.quick import take_glimpse
from ya_salt.converge.run import run_pass
from ya_salt.converge.status import is_fine, make_status
from ya_salt.converge.trials import PINNED
from ya_salt.errors import LockHeldError, YaSaltError
from ya_salt.model import (
    HELD,
    DaemonPlan,
    DaemonSpec,
    DaemonStatus,
    Deferral,
    Loaded,
    Observed,
    Outcome,
    Settings,
    describe_step,
)
from ya_salt.quick_dataclass import dataclass, replace
from ya_salt.salt_api import laid_down
from ya_salt.salt_api.desired_state import find_file_change, read_spec, write_file
from ya_salt.salt_api.turn import (
    REAL,
    Declared,
    DesiredState,
    DesiredStateError,
    Mode,
    StateReturn,
    say_gone,
    say_ready,
)
from ya_salt.specs.directory import DaemonsDirectoryMissingError, load_specs
from ya_salt.specs.kept import KeptSpecs
from ya_salt.store import read_store

_PROGRESS_EVERY_S = 5.0

_log = logging.getLogger("ya_salt.salt")


def converge(
    desired: Sequence[DesiredState],
    settings: Settings,
    mode: Mode = REAL,
    declared: Sequence[Declared] = (),
    source: Mapping[str, Any] | None = None,
) -> dict[str, StateReturn]:
    """What every state returns, by its key. Raises nothing that is ya-salt's own.

    `source` is what the settings are made of, where a next pass may be quick for it.
    """
    try:
        files = _read_any(settings, mode, source)
    except YaSaltError as error:
        return _fail(desired, error)
    return _converge(desired, settings, mode, declared, files)


def _converge(
    desired: Sequence[DesiredState],
    settings: Settings,
    mode: Mode,
    declared: Sequence[Declared],
    files: Files,
) -> dict[str, StateReturn]:
    try:
        return _Round(desired, settings, mode, declared, files).run()
    except YaSaltError as error:
        return _fail(desired, error)


def _fail(desired: Sequence[DesiredState], error: YaSaltError) -> dict[str, StateReturn]:
    return {state.key: StateReturn(False, f"{state.name}: {error}") for state in desired}


@dataclass(frozen=True)
class Files:
    """The daemons directory as a turn begins."""

    loaded: Loaded
    kept: KeptSpecs
    """What was parsed before is not parsed again."""
    glimpse: as_left.Glimpse | None
    """Of the files before they were read, where a next pass may be quick for it."""


def read_files(settings: Settings, mode: Mode, source: Mapping[str, Any] | None = None) -> Files:
    """Read the daemons directory; `source` as for `converge`. Raises DaemonsDirectoryError."""
    glimpse = None if source is None or mode.test else take_glimpse(settings, source)
    kept = KeptSpecs(settings.state_dir)
    return Files(load_specs(settings.specs_dir, kept=kept), kept, glimpse)


def _read_any(settings: Settings, mode: Mode, source: Mapping[str, Any] | None) -> Files:
    """The same, where a state that needs a file of a directory that is missing says so itself."""
    try:
        return read_files(settings, mode, source)
    except DaemonsDirectoryMissingError:
        return Files(Loaded(), KeptSpecs(settings.state_dir), None)


class _Round:
    """The states of one turn, from arguments to what they return."""

    def __init__(
        self,
        desired: Sequence[DesiredState],
        settings: Settings,
        mode: Mode,
        declared: Sequence[Declared],
        files: Files,
    ) -> None:
        self._desired = desired
        self._settings = settings
        self._mode = mode
        self._declared = declared
        self._returns: dict[str, StateReturn] = {}
        self._file_changes: dict[str, Changes] = {}
        self._laid: dict[str, str] = {}
        self._specs: dict[str, DaemonSpec] = {}
        self._files = files

    def run(self) -> dict[str, StateReturn]:
        loaded, glimpse = self._files.loaded, self._files.glimpse
        for state in self._desired:
            self._attempt(state, self._lay_down, loaded)
        if glimpse is not None and self._laid:
            laid_down.remember(self._settings.state_dir, glimpse, self._laid)
        if self._file_changes and not self._mode.test:
            loaded = self._load_anew()
        for state in self._desired:
            if state.key not in self._returns:
                self._attempt(state, self._read, loaded)
        if self._specs:
            self._pass(loaded)
        if loaded.specs and not self._mode.test:
            self._files.kept.save()
        return self._returns

    def _load_anew(self) -> Loaded:
        """After files were written, here or elsewhere."""
        try:
            return load_specs(self._settings.specs_dir, kept=self._files.kept)
        except DaemonsDirectoryMissingError:
            return Loaded()

    def _attempt(
        self, state: DesiredState, act: Callable[[DesiredState, Loaded], None], loaded: Loaded
    ) -> None:
        try:
            act(state, loaded)
        except DesiredStateError as error:
            self._returns[state.key] = StateReturn(False, str(error))

    # -- reading -----------------------------------------------------------------------------------

    def _lay_down(self, state: DesiredState, loaded: Loaded) -> None:
        if not state.file:
            return
        spec = read_spec(state, loaded)
        self._check_alone(state, spec, loaded)
        change = find_file_change(state)
        if change:
            self._file_changes[state.key] = {"file": {state.file: change}}
            if not self._mode.test:
                write_file(state)
        elif str(Path(state.file).parent) == self._settings.specs_dir:
            with contextlib.suppress(TypeError):
                self._laid[state.file] = laid_down.digest(state.name, state.fields)

    def _read(self, state: DesiredState, loaded: Loaded) -> None:
        from_disk = bool(state.file) and not self._mode.test
        spec = read_spec(replace(state, source=state.file) if from_disk else state, loaded)
        self._check_alone(state, spec, loaded)
        if state.source and all(spec.path != item.path for item in loaded.specs):
            # A file that no pass of the directory finds: it is the state that defines the daemon.
            spec = replace(spec, path=f"{state.place} ({spec.path})")
        self._specs[state.key] = spec

    def _check_alone(self, state: DesiredState, spec: DaemonSpec, loaded: Loaded) -> None:
        """Refuse a daemon that somebody else defines too. Raises DesiredStateError."""
        files = [(item.path, item.name) for item in loaded.specs]
        files += [(item.path, item.name) for item in loaded.rejected]
        others = [
            path
            for path, name in files
            if name == spec.name and path != spec.path and not _agrees(state, path, loaded)
        ]
        others += [
            f"{item.place} ({item.path})" if item.path != item.place else item.place
            for item in self._declared
            if item.key != state.key and item.name == spec.name and item.path != state.path
        ]
        if others:
            raise DesiredStateError(
                f"{spec.name} is defined twice: by {state.path} and by "
                f"{', '.join(dict.fromkeys(others))}; nothing is done about it until one is gone"
            )

    # -- acting ------------------------------------------------------------------------------------

    def _pass(self, loaded: Loaded) -> None:
        targets = tuple({spec.name: spec for spec in self._specs.values()}.values())
        restarts = {
            self._specs[state.key].name: state.restart
            for state in self._desired
            if state.restart and state.key in self._specs
        }
        if restarts:
            # That it was stopped is no failure: what it watches its next process sees anyway.
            held = _find_held(self._settings)
            restarts = {name: why for name, why in restarts.items() if name not in held}
        known = {spec.name for spec in targets}
        # A pass over the whole directory also judges what is left over; one over states alone has
        # no business to.
        whole = bool(loaded.specs) and all(spec.name in known for spec in loaded.specs)
        # What no file of the directory says is no part of what the next pass goes by.
        paths = {item.path for item in loaded.specs}
        is_plain = whole and not self._file_changes and all(item.path in paths for item in targets)
        request = PassRequest(
            targets,
            loaded,
            whole=whole,
            restarts=restarts,
            who=self._mode.who,
            glimpse=self._files.glimpse if is_plain else None,
        )
        told = make_true(self._settings, request, self._mode)
        for key, spec in self._specs.items():
            # The second state of one file finds the work done.
            self._returns[key] = self._add_file(key, told.pop(spec.name, done(spec)))

    def _add_file(self, key: str, returned: StateReturn) -> StateReturn:
        change = self._file_changes.get(key)
        if not change:
            return returned
        result = None if self._mode.test and returned.result else returned.result
        return replace(returned, result=result, changes={**change, **returned.changes})


def make_true(settings: Settings, request: PassRequest, mode: Mode) -> dict[str, StateReturn]:
    """Make the pass, or in test mode foresee it: what each of its daemons returns, by name.

    Raises YaSaltError.
    """
    return _preview(settings, request) if mode.test else _run(settings, request, mode)


def _preview(settings: Settings, request: PassRequest) -> dict[str, StateReturn]:
    host = make_host(settings)
    looked = preview_pass(host, request)
    specs = {spec.name: spec for spec in looked.request.targets}
    return {
        plan.name: preview_state(specs[plan.name], plan, looked.observed, host.now())
        for plan in looked.plans
    }


def _run(settings: Settings, request: PassRequest, mode: Mode) -> dict[str, StateReturn]:
    with log_to(settings.log_file) as log:
        host = make_host(settings, Narrator())
        try:
            result = run_pass(host, request)
        except LockHeldError as error:
            _log.info("pass: waiting for another one to end: %s", error)
            result = run_pass(host, request, mode.lock_wait_s)
        if log.problem:
            # Each pass says so.
            as_left.forget(settings.state_dir)
    statuses = {status.name: status for status in result.statuses}
    return {
        spec.name: make_return(
            spec,
            statuses[spec.name],
            result.outcomes.get(spec.name) or Outcome(DaemonPlan(spec.name)),
            result.before,
        )
        for spec in request.targets
    }


def _find_held(settings: Settings) -> set[str]:
    """Daemons that somebody has stopped, and that are to stay so."""
    store = read_store(settings.state_dir)
    if store is None:
        return set()
    try:
        records, now = store.load_records(), time.time()
    finally:
        store.close()
    return {name for name, item in records.items() if end_when_due(item.life, now).hold}


def _agrees(state: DesiredState, path: str, loaded: Loaded) -> bool:
    """Whether the file asks for the same removal as the state."""
    return state.absent and any(s.path == path and s.delete_requested for s in loaded.specs)


def apply_all(
    settings: Settings, files: Files, name: str = "", mode: Mode = REAL
) -> Mapping[str, StateReturn]:
    """Make the daemons directory true, or one daemon of it; in test mode only foresee it.

    Raises YaSaltError where there is no daemon that could tell of it.
    """
    loaded = files.loaded
    if not loaded.specs and not name and not mode.test:
        # Nothing to make true, but what is rejected or left over is to be noted.
        with log_to(settings.log_file):
            request = PassRequest((), loaded, who=mode.who)
            run_pass(make_host(settings), request, mode.lock_wait_s)
    desired = [
        DesiredState(key=spec.path, name=spec.name, place=spec.path, source=spec.path)
        for spec in loaded.specs
        if name in ("", spec.name)
    ]
    found = _converge(desired, settings, mode, (), files)
    return {state.name: found[state.key] for state in desired}


# -- what a state returns --------------------------------------------------------------------------


def done(spec: DaemonSpec) -> StateReturn:
    """Of a second state about a daemon."""
    return StateReturn(True, f"{spec.name}: another state of this run has seen to it")


def preview_state(
    spec: DaemonSpec, plan: DaemonPlan, observed: Observed, now: float
) -> StateReturn:
    if plan.refusal:
        return StateReturn(False, f"{spec.name}: {plan.refusal}")
    if plan.deferral:
        return _preview_waiting(spec, plan, plan.deferral, observed)
    if plan.steps:
        steps = "\n".join(f"  {describe_step(step)}" for step in plan.steps)
        changes = describe_changes(spec, plan.steps, observed)
        return StateReturn(
            None, f"{spec.name} would be changed:\n{steps}", changes, tuple(plan.notes)
        )
    record = observed.records.get(spec.name)
    previous = record.status if record else None
    # What kept it from being changed is in the comment.
    outcome = Outcome(replace(plan, notes=()) if spec.generation else plan)
    status = make_status(spec, observed, outcome, previous, now)
    return StateReturn(is_fine(status), _say(spec, status), {}, status.warnings)


def _preview_waiting(
    spec: DaemonSpec, plan: DaemonPlan, why: Deferral, observed: Observed
) -> StateReturn:
    words = f"{spec.name} would wait for the gate: {why.reason}: {why.message}"
    waiting = "".join(f"\n  would wait: {describe_step(step)}" for step in plan.waiting)
    steps = "".join(f"\n  {describe_step(step)}" for step in plan.steps)
    changes = describe_changes(spec, plan.steps, observed)
    return StateReturn(None, f"{words}{waiting}{steps}", changes, tuple(plan.notes))


def make_return(
    spec: DaemonSpec, status: DaemonStatus, outcome: Outcome, before: Observed
) -> StateReturn:
    done = [item.step for item in outcome.results if item.is_done]
    changes = describe_changes(spec, done, before)
    waits = (describe_waiting(status),) if status.waits else ()
    return StateReturn(is_fine(status), _say(spec, status), changes, (*status.warnings, *waits))


def describe_waiting(status: DaemonStatus) -> str:
    """What of a daemon waits for the gate, and why; "" where nothing does."""
    gate = status.gate
    if gate is None or not status.waits:
        return ""
    return f"its {gate.change} waits for the gate: {gate.reason}: {gate.message}"


def _say(spec: DaemonSpec, status: DaemonStatus) -> str:  # noqa: PLR0911 - a return a way to stand
    actions = "\n".join(f"  {action}" for action in status.actions)
    did = f"; done:\n{actions}" if actions else ""
    ready = status.ready
    if status.error:
        return (
            f"{spec.name}: {status.error}{did}\n"
            f"more: ya-salt logs {spec.name}; salt-call --local porto_daemon.why {spec.name}"
        )
    if status.waits:
        return f"{spec.name}: {describe_waiting(status)}{did}"
    if status.phase == "Removed":
        return f"{spec.name} is removed{did}" if did else say_gone(spec.name)
    if ready is not None and ready.reason == HELD:
        return f"{spec.name} is {ready.message}{did}"
    if ready is None or not ready.status:
        why = f"{ready.reason}: {ready.message}" if ready else "unknown"
        return f"{spec.name} is not ready: {why}{did}\nmore: ya-salt logs {spec.name}"
    if status.rejection is not None or ready.reason == PINNED:
        # It is ready, but not from what the file says.
        more = f"more: salt-call --local porto_daemon.why {spec.name}"
        return f"{spec.name}: {ready.message}{did}\n{more}"
    return say_ready(spec.name, did)


# -- progress of a pass under way ------------------------------------------------------------------


class Narrator:
    """Progress of a pass as lines of the minion's log, every few seconds while one thing lasts."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._last = ("", float("-inf"))

    def __call__(self, text: str) -> None:
        what, said = self._last
        topic = text.partition(":")[0]
        if topic == what and self._now() - said < _PROGRESS_EVERY_S:
            return
        self._last = (topic, self._now())
        _log.info("%s", text)


@contextmanager
def log_to(path: str) -> Iterator[LogFile]:
    """Write ya-salt's own log as well, as the command does; Salt's handlers go on as they are."""
    root = logging.getLogger("ya_salt")
    level = root.level
    handler = LogFile(path)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
        if handler.problem:
            _log.warning("%s", handler.problem)
