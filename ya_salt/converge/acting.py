"""The stage of a pass that changes the host: the steps of all plans, and what they need."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from ya_salt.converge.daemon_data import carry_state, drop_state, find_going_back, find_obstacle
from ya_salt.converge.execute import Tools, execute
from ya_salt.converge.host import Host
from ya_salt.converge.journal import Journal
from ya_salt.converge.observe import Look, look_at_containers
from ya_salt.converge.ordering import Standing, has_start, list_order, stand
from ya_salt.converge.package_users import find_replaceable
from ya_salt.converge.probing import Prober
from ya_salt.converge.readiness import advance, is_due, is_to_be_asked
from ya_salt.converge.stages import Seen, Start
from ya_salt.converge.trials import is_lost
from ya_salt.converge.watched_files import look_once
from ya_salt.errors import PortoError
from ya_salt.gate.client import Permits
from ya_salt.gate.requests import pin_waiting
from ya_salt.life import Life
from ya_salt.model import Answer, DaemonPlan, DaemonSpec, Observed, Outcome, RemoveContainer
from ya_salt.packages.cache import find_protected
from ya_salt.quick_dataclass import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ya_salt.packages.transaction import PackagePass


def do_work(  # noqa: PLR0913, PLR0917 - what is done, upon what, and with what
    start: Start,
    plans: Sequence[DaemonPlan],
    before: Observed,
    permits: Permits,
    journal: Journal,
    prober: Prober,
) -> tuple[dict[str, Outcome], Seen]:
    """The outcome by daemon, and what was seen meanwhile."""
    seen = Seen({}, [])
    if not any(plan.steps for plan in plans):
        return {plan.name: Outcome(plan) for plan in plans}, seen
    host = start.host
    watching = {spec.name: spec for spec in start.request.targets if spec.watch}

    def see_files(name: str) -> None:
        if name in watching:
            life = before.lives.get(name, Life())
            seen.files[name] = look_once(watching[name], life, host.apt)

    state_dir, specs = host.settings.state_dir, _list_specs(start)
    tools = Tools(
        packages=cache(lambda: _make_package_pass(start, plans, before)),
        connect=host.connect,
        progress=host.progress,
        journal=journal,
        mark_restarts=start.mark_restarts,
        parallel=host.settings.parallel,
        order=list_order(specs.values()),
        look=_Others(start, specs, plans, before, prober).look,
        insistent=start.request.left,
        permit=permits.check,
        see_last=seen.lasts.append,
        see_files=see_files,
        while_down=lambda spec: carry_state(state_dir, spec, before.lives[spec.name]),
        find_obstacle=lambda spec: find_obstacle(state_dir, spec, before.lives[spec.name]),
        roots=("/", host.settings.root),
    )
    return execute(plans, before, tools), seen


def _make_package_pass(start: Start, plans: Sequence[DaemonPlan], before: Observed) -> PackagePass:
    from ya_salt.packages.transaction import PackagePass

    return PackagePass(
        replace(start.host.apt, protected=find_protected(before.lives.values())),
        start.host.progress,
        {**_pin_versions(start), **pin_waiting(plans, before)},
        find_replaceable(start.request.targets, start.request.context, before),
        find_going_back(before.lives),
    )


def forget_gone(host: Host, outcomes: Mapping[str, Outcome]) -> None:
    """Nobody speaks any more for a daemon that was removed."""
    for name, outcome in outcomes.items():
        for item in outcome.results:
            if isinstance(item.step, RemoveContainer) and item.is_done:
                host.listening.forget(name)


def drop_copies(start: Start, after: Mapping[str, Life]) -> None:
    """What was kept for going back and is of no use any more."""
    for name, record in start.records.items():
        if _is_open(record.life) and not _is_open(after.get(name, Life())):
            drop_state(start.host.settings.state_dir, name)
    apt, now = start.host.apt, start.host.now()
    if apt.cache.is_due(now):
        replace(apt, protected=find_protected(after.values())).cache.expire(now)


def _is_open(life: Life) -> bool:
    """Whether it may still come to going back, or has and stays so."""
    return not (life.trial is None and life.rejection is None and life.pin is None)


def _list_specs(start: Start) -> dict[str, DaemonSpec]:
    """Of every daemon: of one whose file is gone or broken what was remembered."""
    remembered = {name: item.spec for name, item in start.records.items() if item.spec is not None}
    return {**remembered, **{spec.name: spec for spec in start.request.context}}


class _Others:
    """How daemons stand that others wait for, looked at while they are worked on."""

    def __init__(
        self,
        start: Start,
        specs: Mapping[str, DaemonSpec],
        plans: Iterable[DaemonPlan],
        before: Observed,
        prober: Prober,
    ) -> None:
        self._start, self._specs, self._prober = start, specs, prober
        renewed = {plan.name for plan in plans if has_start(plan)}
        self._lives = dict(before.lives)
        for name in renewed & before.lives.keys():
            self._lives[name] = replace(before.lives[name], probes=None)
        self._answers: dict[str, Answer] = {}
        """Those that came while somebody else was looked at."""
        self._lock = threading.Lock()

    def look(self, names: Iterable[str]) -> dict[str, Standing]:
        """For any thread. What portod does not tell is nothing that is waited for."""
        names, host = tuple(names), self._start.host
        with self._lock:
            try:
                with host.connect() as client:
                    look = look_at_containers(client, (), names)
            except PortoError as error:
                look = Look(unknown={name: str(error) for name in names})
            self._answers |= self._prober.take()
            return {name: self._judge(name, look, self._answers.pop(name, None)) for name in names}

    def _judge(self, name: str, look: Look, answer: Answer | None) -> Standing:
        spec, container = self._specs.get(name), look.containers.get(name)
        life, now = self._lives.get(name, Life()), self._start.host.now()
        if spec is not None:
            life = replace(life, probes=advance(spec, container, life.probes, answer, now))
            self._lives[name] = life
            is_asked = container is not None and is_to_be_asked(spec, container, life)
            if container is not None and is_asked and is_due(spec, container, life, now):
                self._prober.begin(spec, container)
        standing = stand(name, spec, container, life, look.unknown.get(name, ""))
        if spec is None or standing.is_ready:
            return standing
        return replace(standing, is_lost=is_lost(life, spec, container, now))


def _pin_versions(start: Start) -> dict[str, str]:
    """Versions that daemons which stand need: apt may not change them as a side effect.

    A valid file goes before what a daemon without one had.
    """
    context = start.request.context
    known = {spec.name for spec in context}
    others = (item.spec for item in start.records.values() if item.name not in known)
    specs = [*(spec for spec in others if spec), *context]
    return {
        package.name: package.version
        for spec in specs
        if not spec.delete_requested
        for package in spec.packages
    }
