"""The stage after the work: what became of those that were worked on, once they are ready."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from ya_salt.converge.observe import Look, look_at_containers, look_at_packages
from ya_salt.converge.probing import Prober
from ya_salt.converge.readiness import advance, is_due, is_ready, is_to_be_asked
from ya_salt.converge.stages import Start
from ya_salt.converge.trials import is_lost
from ya_salt.errors import PortoError
from ya_salt.life import Life
from ya_salt.model import (
    DOWN,
    Answer,
    Container,
    DaemonPlan,
    DaemonSpec,
    InstallPackages,
    Observed,
    Outcome,
    Progress,
    PurgePackages,
    StepResult,
)
from ya_salt.porto.client import PortoClient
from ya_salt.quick_dataclass import dataclass, field, replace
from ya_salt.text import join_words

_log = logging.getLogger("ya_salt.pass")

_POLL_S = 0.25


def look_again(
    start: Start,
    client: PortoClient,
    before: Observed,
    outcomes: Mapping[str, Outcome],
    prober: Prober,
) -> tuple[Observed, dict[str, Outcome]]:
    """The host after the work, and the outcomes: where portod is silent, with that as an error."""
    awaited = start.request.awaited
    acted = {name: item for name, item in outcomes.items() if item.results or name in awaited}
    if not acted:
        return before, dict(outcomes)
    after, targets = before, start.request.targets
    if any(_changed_packages(outcome) for outcome in acted.values()):
        after = look_at_packages(before, targets, start.host.query_packages)
    try:
        specs = [spec for spec in targets if spec.name in acted]
        host = start.host
        is_hurried = host.is_hurried if start.request.waits else lambda: True
        wait = ReadyWait(client, prober, host.progress, host.now, is_hurried)
        look, lives = wait.run(specs, acted, before.lives, awaited)
    except PortoError as error:
        _log.error("pass: portod stopped answering: %s", error)
        blind = {name: _blind(item, error) for name, item in acted.items()}
        return after, {**outcomes, **blind}
    rest = {name: item for name, item in before.containers.items() if name not in acted}
    unknown = {name: why for name, why in before.unknown.items() if name not in acted}
    return replace(
        after,
        containers={**rest, **look.containers},
        unknown={**unknown, **look.unknown},
        lives={**before.lives, **lives},
    ), dict(outcomes)


def _changed_packages(outcome: Outcome) -> bool:
    return any(isinstance(item.step, InstallPackages | PurgePackages) for item in outcome.results)


def _blind(outcome: Outcome, error: PortoError) -> Outcome:
    last = outcome.results[-1]
    told = StepResult(last.step, error=f"cannot see how it stands: {error}", reason=error.code)
    return replace(outcome, results=(*outcome.results, told))


@dataclass(frozen=True)
class ReadyWait:
    """Waits for daemons that were worked on, and asks them meanwhile."""

    client: PortoClient
    prober: Prober
    progress: Progress
    now: Callable[[], float]
    is_hurried: Callable[[], bool] = lambda: False
    _early: dict[str, Answer] = field(default_factory=dict)
    """What was said by daemons that are not looked at until the end."""

    def run(
        self,
        specs: Sequence[DaemonSpec],
        outcomes: Mapping[str, Outcome],
        before: Mapping[str, Life],
        awaited: Collection[str] = (),
    ) -> tuple[Look, dict[str, Life]]:
        """The look at which none was worth waiting for any more, and what they said until then.

        `awaited` were started earlier. Raises PortoError.
        """
        started = time.monotonic()
        is_pressing = bool(list_left(outcomes))
        # Of a new process nothing is known, whatever portod's whole seconds say.
        lives = {
            spec.name: replace(life, probes=None) if outcomes[spec.name].touched else life
            for spec in specs
            for life in [before.get(spec.name, Life())]
        }
        candidates = [
            spec
            for spec in specs
            if (outcomes[spec.name].touched or spec.name in awaited)
            and not outcomes[spec.name].error
        ]
        look, asked = Look(), specs
        while True:
            look = self._look(look, asked, lives)
            elapsed = time.monotonic() - started
            waiting = [
                spec
                for spec in candidates
                if elapsed < spec.ready_timeout_s
                and _is_worth_waiting(spec, look, lives[spec.name], self.now())
            ]
            if is_pressing:
                # Somebody is down until the next round: it waits for the rest.
                waiting = _list_going_along(waiting, specs, look, lives, self.now())
            is_over = not waiting or self.is_hurried()
            if is_over and asked is specs:
                return look, lives
            if is_over:
                # What became of the others meanwhile.
                asked = specs
                continue
            asked = specs if len(waiting) == len(specs) else waiting
            self._ask(waiting, look, lives)
            self.progress(_describe_waiting(waiting, look.containers))
            time.sleep(_POLL_S)

    def _look(self, last: Look, asked: Sequence[DaemonSpec], lives: dict[str, Life]) -> Look:
        """`last` with how these stand now; all answers that came meanwhile are taken."""
        names = {spec.name for spec in asked}
        now = look_at_containers(self.client, asked, names)
        containers = {name: item for name, item in last.containers.items() if name not in names}
        unknown = {name: why for name, why in last.unknown.items() if name not in names}
        look = Look({**containers, **now.containers}, {**unknown, **now.unknown})
        answers = self.prober.take()
        self._early.update({name: item for name, item in answers.items() if name not in names})
        for spec in asked:
            life, container = lives[spec.name], look.containers.get(spec.name)
            answer = answers.get(spec.name) or self._early.pop(spec.name, None)
            probes = advance(spec, container, life.probes, answer, self.now())
            lives[spec.name] = replace(life, probes=probes)
        return look

    def _ask(self, specs: Sequence[DaemonSpec], look: Look, lives: Mapping[str, Life]) -> None:
        for spec in specs:
            life, container = lives[spec.name], look.containers.get(spec.name)
            if container is None or not is_to_be_asked(spec, container, life):
                continue
            if is_due(spec, container, life, self.now()):
                self.prober.begin(spec, container)


def list_left(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """Daemon -> why it was stopped, of those that wait for another round to be started."""
    return {
        name: f"{stopped.reason}; it waited for {outcome.blocked.removeprefix('waits for ')}"
        for name, outcome in outcomes.items()
        if outcome.is_down and outcome.blocked
        for stopped in [item.step for item in outcome.results if item.blocked]
    }


def leave_again(
    plans: Iterable[DaemonPlan], left: Collection[str], lost: Iterable[str]
) -> tuple[DaemonPlan, ...]:
    """The plans without a start of those that were left for this round: the next one goes back."""
    words = f"waits for {join_words(sorted(lost))}, whose update fails"
    return tuple(
        replace(plan, steps=(), waiting=plan.steps, blocked=words) if plan.name in left else plan
        for plan in plans
    )


def list_awaited(start: Start, outcomes: Mapping[str, Outcome], after: Observed) -> frozenset[str]:
    return frozenset(
        spec.name
        for spec in start.request.targets
        for container in [after.containers.get(spec.name)]
        if (outcomes[spec.name].touched or spec.name in start.request.awaited)
        and container is not None
        and container.state not in DOWN
        and not is_ready(spec, container, after.lives.get(spec.name, Life()))
    )


def list_coming(awaited: Iterable[str], after: Observed) -> frozenset[str]:
    """Those of them that have not died so far."""
    found = {name: after.containers[name] for name in awaited}
    return frozenset(
        name
        for name, item in found.items()
        if item.state in {"starting", "running"} and not item.respawn_count
    )


def _list_going_along(
    waiting: Iterable[DaemonSpec],
    specs: Iterable[DaemonSpec],
    look: Look,
    lives: Mapping[str, Life],
    now: float,
) -> list[DaemonSpec]:
    """Those that go back together with one that is lost, should they fail, too: of its packages."""
    shared = {
        package.name
        for spec in specs
        if is_lost(lives[spec.name], spec, look.containers.get(spec.name), now)
        for package in spec.packages
    }
    return [spec for spec in waiting if any(item.name in shared for item in spec.packages)]


def _is_worth_waiting(spec: DaemonSpec, look: Look, life: Life, now: float) -> bool:
    container = look.containers.get(spec.name)
    if container is None:
        return spec.name in look.unknown
    # Whoever is down is waited for in vain.
    if container.state in DOWN or is_ready(spec, container, life):
        return False
    return not is_lost(life, spec, container, now)


def _describe_waiting(specs: Sequence[DaemonSpec], containers: Mapping[str, Container]) -> str:
    shown = ", ".join(_describe_start(spec.name, containers.get(spec.name)) for spec in specs[:3])
    rest = f" and {len(specs) - 3} more" if len(specs) > 3 else ""
    return f"waiting until ready: {shown}{rest}"


def _describe_start(name: str, container: Container | None) -> str:
    if container is None:
        return f"{name} (portod does not tell its state)"
    return f"{name} ({container.state} {container.running_s} s)"
