"""Make true what states ask for, or say what would be done: one look and one pass for all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ya_salt.converge.changes import Changes
from ya_salt.converge.host import PassRequest, make_host
from ya_salt.converge.preview import preview_pass
from ya_salt.converge.run import run_pass
from ya_salt.errors import LockHeldError, YaSaltError
from ya_salt.model import DaemonSpec, Loaded, Settings
from ya_salt.salt_api.telling import Narrator, log_to
from ya_salt.salt_api.verdicts import Verdict, done, foresee, report
from ya_salt.salt_api.wishes import Wish, WishError, find_file_change, read_wish, write_file
from ya_salt.specs.directory import DaemonsDirectoryMissingError, load_specs

LOCK_WAIT_S = 600.0
"""How long another pass is waited for; a first installation may take minutes."""

_log = logging.getLogger("ya_salt.salt")


@dataclass(frozen=True)
class Mode:
    """How to go about it."""

    test: bool = False
    lock_wait_s: float = LOCK_WAIT_S


REAL = Mode()


@dataclass(frozen=True)
class Declared:
    """A state of the run, whether it is this one's turn or not: enough to find contradictions."""

    key: str
    name: str
    place: str
    path: str


def converge(
    wishes: Sequence[Wish],
    settings: Settings,
    mode: Mode = REAL,
    declared: Sequence[Declared] = (),
) -> dict[str, Verdict]:
    """The verdict on every wish, by its key. Raises nothing that is ya-salt's own."""
    try:
        return _Round(wishes, settings, mode, declared).run()
    except YaSaltError as error:
        return {wish.key: Verdict(False, f"{wish.name}: {error}") for wish in wishes}


class _Round:
    """The wishes of one turn, from arguments to verdicts."""

    def __init__(
        self,
        wishes: Sequence[Wish],
        settings: Settings,
        mode: Mode,
        declared: Sequence[Declared],
    ) -> None:
        self._wishes = wishes
        self._settings = settings
        self._mode = mode
        self._declared = declared
        self._verdicts: dict[str, Verdict] = {}
        self._file_changes: dict[str, Changes] = {}
        self._specs: dict[str, DaemonSpec] = {}

    def run(self) -> dict[str, Verdict]:
        loaded = self._load()
        for wish in self._wishes:
            self._judged(wish, self._lay_down, loaded)
        if self._file_changes and not self._mode.test:
            loaded = self._load()
        for wish in self._wishes:
            if wish.key not in self._verdicts:
                self._judged(wish, self._read, loaded)
        if self._specs:
            self._pass(loaded)
        return self._verdicts

    def _load(self) -> Loaded:
        try:
            return load_specs(self._settings.specs_dir)
        except DaemonsDirectoryMissingError:
            # A state that needs a file of it says so itself.
            return Loaded()

    def _judged(self, wish: Wish, act: Callable[[Wish, Loaded], None], loaded: Loaded) -> None:
        try:
            act(wish, loaded)
        except WishError as error:
            self._verdicts[wish.key] = Verdict(False, str(error))

    # -- reading -----------------------------------------------------------------------------------

    def _lay_down(self, wish: Wish, loaded: Loaded) -> None:
        if not wish.file:
            return
        spec = read_wish(wish, loaded)
        self._check_alone(wish, spec, loaded)
        change = find_file_change(wish)
        if change:
            self._file_changes[wish.key] = {"file": {wish.file: change}}
            if not self._mode.test:
                write_file(wish)

    def _read(self, wish: Wish, loaded: Loaded) -> None:
        from_disk = bool(wish.file) and not self._mode.test
        spec = read_wish(replace(wish, source=wish.file) if from_disk else wish, loaded)
        self._check_alone(wish, spec, loaded)
        self._specs[wish.key] = spec

    def _check_alone(self, wish: Wish, spec: DaemonSpec, loaded: Loaded) -> None:
        """Refuse a daemon that somebody else defines too. Raises WishError."""
        files = [(item.path, item.name) for item in loaded.specs]
        files += [(item.path, item.name) for item in loaded.rejected]
        others = [
            path
            for path, name in files
            if name == spec.name and path != spec.path and not _agrees(wish, path, loaded)
        ]
        others += [
            f"{item.place} ({item.path})" if item.path != item.place else item.place
            for item in self._declared
            if item.key != wish.key and item.name == spec.name and item.path != wish.path
        ]
        if others:
            raise WishError(
                f"{spec.name} is defined twice: by {wish.path} and by "
                f"{', '.join(dict.fromkeys(others))}; nothing is done about it until one is gone"
            )

    # -- acting ------------------------------------------------------------------------------------

    def _pass(self, loaded: Loaded) -> None:
        targets = tuple({spec.name: spec for spec in self._specs.values()}.values())
        restarts = {
            self._specs[wish.key].name: wish.restart
            for wish in self._wishes
            if wish.restart and wish.key in self._specs
        }
        known = {spec.name for spec in targets}
        # A pass over the whole directory also judges what is left over; one over states alone has
        # no business to.
        whole = bool(loaded.specs) and all(spec.name in known for spec in loaded.specs)
        scope = PassRequest(targets, loaded, whole=whole, restarts=restarts)
        told = self._preview(scope) if self._mode.test else self._run(scope)
        for key, spec in self._specs.items():
            # The second state of one file finds the work done.
            self._verdicts[key] = self._add_file(key, told.pop(spec.name, done(spec)))

    def _add_file(self, key: str, verdict: Verdict) -> Verdict:
        change = self._file_changes.get(key)
        if not change:
            return verdict
        result = None if self._mode.test and verdict.result else verdict.result
        return replace(verdict, result=result, changes={**change, **verdict.changes})

    def _preview(self, scope: PassRequest) -> dict[str, Verdict]:
        host = make_host(self._settings)
        observed, plans = preview_pass(host, scope)
        specs = {spec.name: spec for spec in scope.targets}
        return {plan.name: foresee(specs[plan.name], plan, observed, host.now()) for plan in plans}

    def _run(self, scope: PassRequest) -> dict[str, Verdict]:
        with log_to(self._settings.log_file):
            host = make_host(self._settings, Narrator())
            try:
                result = run_pass(host, scope)
            except LockHeldError as error:
                _log.info("pass: waiting for another one to end: %s", error)
                result = run_pass(host, scope, self._mode.lock_wait_s)
        statuses = {status.name: status for status in result.statuses}
        return {
            spec.name: report(spec, statuses[spec.name], result.outcomes[spec.name], result.before)
            for spec in scope.targets
        }


def _agrees(wish: Wish, path: str, loaded: Loaded) -> bool:
    """Whether the file asks for the same removal as the state."""
    return wish.absent and any(s.path == path and s.delete_requested for s in loaded.specs)


def plan_all(settings: Settings) -> Mapping[str, Verdict]:
    """What a pass over the whole directory would do, by daemon. Raises YaSaltError."""
    return _all(settings, "", Mode(test=True))


def apply_all(settings: Settings, name: str = "", mode: Mode = REAL) -> Mapping[str, Verdict]:
    """Make the daemons directory true, or one daemon of it. Raises YaSaltError."""
    return _all(settings, name, mode)


def _all(settings: Settings, name: str, mode: Mode) -> Mapping[str, Verdict]:
    loaded = load_specs(settings.specs_dir)
    if not loaded.specs and not name and not mode.test:
        # Nothing to make true, but what is rejected or left over is to be noted.
        with log_to(settings.log_file):
            run_pass(make_host(settings), PassRequest((), loaded), mode.lock_wait_s)
    wishes = [
        Wish(key=spec.path, name=spec.name, place=spec.path, source=spec.path)
        for spec in loaded.specs
        if name in ("", spec.name)
    ]
    found = converge(wishes, settings, mode)
    return {wish.name: found[wish.key] for wish in wishes}
