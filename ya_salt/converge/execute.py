"""Carry out a plan. The only module that changes the host.

Packages of all daemons first, in one transaction, while the old daemons run; then each daemon's
container, several side by side, those that are started `after` others behind them; then what has to
be purged. A daemon's first error ends its own steps and nobody else's.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from ya_salt.converge import containers
from ya_salt.converge.host_checks import find_obstacle
from ya_salt.converge.journal import Journal
from ya_salt.converge.observe import look_at_containers
from ya_salt.converge.package_users import describe_kept, find_users, list_packages_ever
from ya_salt.converge.trials import find_own_error
from ya_salt.converge.turns import LeftError, Look, Turns
from ya_salt.converge.watching import is_renewed
from ya_salt.copies import CopyError
from ya_salt.errors import (
    PackageError,
    PortoError,
    PortoUnavailableError,
    PortoUnknownFateError,
)
from ya_salt.model import (
    ChangeLive,
    Container,
    CreateContainer,
    DaemonPlan,
    DaemonSpec,
    Deferral,
    InstallPackages,
    Observed,
    Outcome,
    Progress,
    PurgePackages,
    RemoveContainer,
    ReplaceContainer,
    SignalContainer,
    StartContainer,
    Step,
    StepResult,
    StopContainer,
    describe_step,
)
from ya_salt.porto.client import PortoClient
from ya_salt.quick_dataclass import dataclass, field, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ya_salt.packages.transaction import PackagePass

_log = logging.getLogger("ya_salt.execute")


@dataclass(frozen=True)
class Tools:
    """What a step may need of the world."""

    packages: Callable[[], PackagePass]
    """The same each time it is called. Not made where no plan has packages."""
    connect: Callable[[], PortoClient]
    """Each daemon's steps have a connection of their own: weak containers live and die with it."""
    progress: Progress
    journal: Journal
    """Told of every step right before it is taken, and what came of it."""
    mark_restarts: Callable[[Iterable[str]], None]
    """Remember, before apt runs, whose process it will leave outdated."""
    parallel: int = 4
    order: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Daemon -> those that it is started after, without circles."""
    look: Look = lambda _names: {}
    """How daemons stand that others wait for; by any thread. Raises nothing."""
    insistent: Collection[str] = ()
    """Daemons that this pass has stopped before: they are started whoever is not ready."""
    permit: Callable[[Step], Deferral | None] = lambda _step: None
    """Asked by any thread right before a step that stops a daemon; a reason not to, or None."""
    see_last: Callable[[Container], None] = lambda _last: None
    """Shown a container right before it is destroyed, and its counters with it; by any thread."""
    see_files: Callable[[str], None] = lambda _name: None
    """Told the name of a daemon right before its process is started; by any thread."""
    while_down: Callable[[DaemonSpec], None] = lambda _spec: None
    """Called where a daemon is down, right before it is made from its spec; raises CopyError."""
    find_obstacle: Callable[[DaemonSpec], str] = lambda _spec: ""
    """Why `while_down` would fail; asked before anything of the daemon is touched."""
    roots: Sequence[str] = ("/",)
    """Where a daemon's program may be: the host's root, and the one that apt fills."""


def execute(plans: Sequence[DaemonPlan], observed: Observed, tools: Tools) -> dict[str, Outcome]:
    """Carry out every plan; the outcome by daemon. Raises nothing for a daemon that fails."""
    results: dict[str, list[StepResult]] = {plan.name: [] for plan in plans}
    _check_data(plans, results, tools)
    _install(plans, results, tools)
    busy = [plan for plan in plans if any(_is_container_step(step) for step in plan.steps)]
    if busy:
        _run_all(busy, results, observed, tools)
    _purge(plans, results, tools)
    return {plan.name: Outcome(plan, tuple(results[plan.name])) for plan in plans}


def _run_all(
    plans: Sequence[DaemonPlan],
    results: Mapping[str, list[StepResult]],
    observed: Observed,
    tools: Tools,
) -> None:
    """Several side by side. Where we are told to end, who has begun comes to its end."""
    turns = Turns(plans, tools.order, tools.look, tools.progress, tools.parallel)
    for plan in plans:
        _note_lost(plan, results[plan.name], observed, turns)
    if len(plans) == 1 and threading.current_thread() is not threading.main_thread():
        # Nobody works beside it, and only the main thread is interrupted within a step.
        _run_containers(plans[0], results[plans[0].name], observed, tools, turns)
        return
    from concurrent.futures import ThreadPoolExecutor

    # One may wait for any other: all that may have a thread, if seldom a place at the work.
    waiting = {plan.name for plan in plans if _may_wait(plan, tools)}
    with (
        ThreadPoolExecutor(max(1, len(waiting))) as own,
        ThreadPoolExecutor(max(1, tools.parallel)) as shared,
    ):
        work = [
            (own if plan.name in waiting else shared).submit(
                _run_containers, plan, results[plan.name], observed, tools, turns
            )
            for plan in plans
        ]
        try:
            for item in work:
                item.result()
        except BaseException:
            turns.end()
            raise


def _may_wait(plan: DaemonPlan, tools: Tools) -> bool:
    """Whether it may give its place at the work back, and go on later."""
    alone = CreateContainer | StartContainer | SignalContainer
    steps = [step for step in plan.steps if _is_container_step(step)]
    return bool(tools.order.get(plan.name)) or not all(isinstance(step, alone) for step in steps)


def _check_data(
    plans: Sequence[DaemonPlan], results: Mapping[str, list[StepResult]], tools: Tools
) -> None:
    """Whose data could not be copied is left as it is, packages and all."""
    for plan in plans:
        for step in plan.steps:
            if isinstance(step, CreateContainer | ReplaceContainer):
                if words := tools.find_obstacle(step.spec):
                    _log.error("porto-daemon-%s: not updated: %s", plan.name, words)
                    first = StepResult(plan.steps[0], error=words, reason=containers.DATA)
                    results[plan.name].append(first)
                break


def _is_container_step(step: Step) -> bool:
    return not isinstance(step, InstallPackages | PurgePackages)


# -- packages ----------------------------------------------------------------------------------


def _install(
    plans: Sequence[DaemonPlan], results: Mapping[str, list[StepResult]], tools: Tools
) -> None:
    plans = [plan for plan in plans if not _is_stuck(results[plan.name])]
    steps = [step for plan in plans for step in plan.steps if isinstance(step, InstallPackages)]
    if not steps:
        return
    tools.mark_restarts(
        plan.name
        for plan in plans
        if any(isinstance(step, InstallPackages) for step in plan.steps)
        and any(isinstance(step, ReplaceContainer) for step in plan.steps)
    )
    for step in steps:
        _begin(step, tools)
    done = tools.packages().install({step.name: step.packages for step in steps})
    for step in steps:
        result = _package_result(step, done.errors.get(step.name))
        landing = done.landed.get(step.name)
        if landing is not None and landing.is_back:
            # Its files are all there: going back is of no use to anybody before it runs from them.
            result = replace(result, goes_on=True)
        _end(result, results[step.name], tools)


def _purge(
    plans: Sequence[DaemonPlan], results: Mapping[str, list[StepResult]], tools: Tools
) -> None:
    steps = [
        step
        for plan in plans
        for step in plan.steps
        if isinstance(step, PurgePackages) and not _is_stuck(results[plan.name])
    ]
    if not steps:
        return
    for step in steps:
        _begin(step, tools)
    free = {name for step in steps for name in step.allow_held}
    in_use = find_users((), (), _list_staying(plans, results))
    groups = {step.name: [name for name in step.packages if name not in in_use] for step in steps}
    done = tools.packages().purge(groups, free)
    for step in steps:
        result = _package_result(step, done.errors.get(step.name))
        kept = describe_kept(step.packages, in_use)
        _end(replace(result, warnings=kept), results[step.name], tools)


def _begin(step: Step, tools: Tools) -> None:
    tools.journal.begin(step)
    _log.info("porto-daemon-%s: %s", step.name, describe_step(step))


def _end(result: StepResult, results: list[StepResult], tools: Tools) -> None:
    tools.journal.end(result)
    results.append(result)


def _list_staying(
    plans: Sequence[DaemonPlan], results: Mapping[str, list[StepResult]]
) -> dict[str, tuple[str, ...]]:
    """Daemons that were to go and still stand -> the packages that were to go with them."""
    return {
        plan.name: step.packages
        for plan in plans
        if plan.waiting or _is_stuck(results[plan.name])
        for step in (*plan.steps, *plan.waiting)
        if isinstance(step, PurgePackages)
    }


def _package_result(
    step: InstallPackages | PurgePackages, error: PackageError | None
) -> StepResult:
    if error is None:
        return StepResult(step)
    words = f"\n{error.output}" if error.output else ""
    _log.error(
        "porto-daemon-%s: packages failed reason=%s: %s%s", step.name, error.reason, error, words
    )
    return StepResult(step, error=f"{error}{words}", reason=error.reason)


def _is_stuck(results: Iterable[StepResult]) -> bool:
    return any(not (result.is_done or result.goes_on) for result in results)


# -- containers --------------------------------------------------------------------------------


def _run_containers(
    plan: DaemonPlan,
    results: list[StepResult],
    observed: Observed,
    tools: Tools,
    turns: Turns,
) -> None:
    with turns.work(plan.name) as is_wanted, tools.connect() as client:
        if not is_wanted or _is_stuck(results):
            return
        for step in filter(_is_container_step, plan.steps):
            if isinstance(step, SignalContainer) and is_renewed(item.step for item in results):
                # A live change that became a restart: the new process has seen the files.
                continue
            for result in _run_step(client, step, observed, tools, turns):
                _end(result, results, tools)
            if _is_stuck(results):
                _note_lost(plan, results, observed, turns)
                return


def _note_lost(
    plan: DaemonPlan, results: Sequence[StepResult], observed: Observed, turns: Turns
) -> None:
    """Say that its update is to be undone, to those who wait for it."""
    life = observed.lives.get(plan.name)
    if life is not None and life.trial is not None and find_own_error(Outcome(plan, (*results,))):
        turns.lose(plan.name)


def _run_step(
    client: PortoClient, step: Step, observed: Observed, tools: Tools, turns: Turns
) -> tuple[StepResult, ...]:
    """What came of it: of a restart that failed half-way, that the old one was stopped, too."""
    work = _Work(client, step, tools, turns)
    error: Exception
    try:
        waiting = _await_turn(work)
        if waiting is not None:
            return (waiting,)
        tools.progress(f"porto-daemon-{step.name}: {describe_step(step)}")
        _begin(step, tools)
        _do(work, observed)
    except LeftError as left:
        return _leave(work, f"waits for {left}")
    except PortoError as caught:
        error = caught
        instead = _find_alternative(step, error)
        if instead is not None:
            tools.journal.drop(step)
            return _run_step(client, instead, observed, tools, turns)
        _log.error("porto-daemon-%s: %s failed: %s", step.name, describe_step(step), error)
        failed = StepResult(step, error=str(error), reason=error.code)
    except Exception as caught:  # noqa: BLE001 - a bug met by one daemon must not stop the others
        error = caught
        _log.exception(
            "porto-daemon-%s: %s failed: a bug in ya-salt", step.name, describe_step(step)
        )
        failed = StepResult(step, error=f"a bug in ya-salt: {error!r}; see the log", reason="Bug")
    else:
        return (StepResult(step, warnings=tuple(work.warnings)),)
    if work.was_stopped.is_set() and isinstance(step, ReplaceContainer):
        return (StepResult(_describe_stop(step, error)), failed)
    return (failed,)


def _await_turn(work: _Work) -> StepResult | None:
    """What keeps the step from being taken now, if anything does."""
    step, tools = work.step, work.tools
    insists = step.name in tools.insistent
    waits = work.turns.await_start(step, insists=insists)
    if waits and not insists:
        return StepResult(step, blocked=f"waits for {waits}")
    if waits:
        work.start_all_the_same(waits)
    deferral = tools.permit(step)
    return StepResult(step, deferral=deferral) if deferral is not None else None


def _leave(work: _Work, waits: str) -> tuple[StepResult, ...]:
    """What came of a restart that is left for later in this pass."""
    step = work.step
    waiting = StepResult(step, blocked=waits)
    if not work.was_stopped.is_set() or not isinstance(step, ReplaceContainer):
        return (waiting,)
    return (StepResult(StopContainer(step.name, f"{step.reason}; it {waits}")), waiting)


@dataclass(frozen=True)
class _Work:
    """One step, while it is taken."""

    client: PortoClient
    step: Step
    tools: Tools
    turns: Turns
    was_stopped: threading.Event = field(default_factory=threading.Event)
    warnings: list[str] = field(default_factory=list)

    def make_turn(self) -> containers.Turn:
        return containers.Turn(
            before_stop=lambda: self.turns.before_stop(self.step.name),
            before_destroy=self._look_for_the_last_time,
            before_start=self._await_others,
            grace=self.turns.grace,
        )

    def _look_for_the_last_time(self) -> None:
        self.was_stopped.set()
        # What cannot be counted is no reason to keep it.
        with contextlib.suppress(PortoError):
            look = look_at_containers(self.client, (), [self.step.name])
            for last in look.containers.values():
                self.tools.see_last(last)

    def _await_others(self) -> None:
        waits = self.turns.before_start(self.step.name)
        if waits:
            self.start_all_the_same(waits)
        self.tools.see_files(self.step.name)
        if isinstance(self.step, ReplaceContainer):
            _carry_data(self.step.spec, self.tools)

    def start_all_the_same(self, waits: str) -> None:
        self.warnings.append(f"started all the same, as it ran before: it waits for {waits}")


def _describe_stop(step: ReplaceContainer, error: Exception) -> Step:
    """What became of the daemon by a restart that failed after the stop."""
    if isinstance(error, containers.BroughtBackError):
        return StartContainer(step.name, "stopped", "brought back, as the new one did not start")
    return StopContainer(step.name, step.reason)


def _find_alternative(step: Step, error: PortoError) -> Step | None:
    """A restart where portod does not change live what its list of properties says it does.

    Whatever its word for that: the new values are tried before the old process is stopped. What
    the host has not got enough of, a restart would not find either.
    """
    if not isinstance(step, ChangeLive) or error.code in containers.HELD_BY_OLD:
        return None
    is_about_value = error.code != "ContainerDoesNotExist"
    if isinstance(error, PortoUnavailableError | PortoUnknownFateError) or not is_about_value:
        return None
    return ReplaceContainer(step.spec, f"{step.reason}; not while it runs: {error.message}")


def _do(work: _Work, observed: Observed) -> None:
    client, step, tools, turn = work.client, work.step, work.tools, work.make_turn()
    match step:
        case CreateContainer(spec=spec):
            names = list_packages_ever(spec, observed)
            tools.see_files(spec.name)
            _carry_data(spec, tools)
            containers.create_container(client, spec, observed, names)
        case ReplaceContainer(spec=spec):
            names = list_packages_ever(spec, observed)
            _check_host(spec, tools)
            containers.replace_container(client, spec, observed, names, turn)
        case ChangeLive(spec=spec):
            names = list_packages_ever(spec, observed)
            containers.change_live(client, step, observed, names)
        case StartContainer(name=name, state=state):
            if state != "paused":
                tools.see_files(name)
            containers.start_container(client, name, state)
        case SignalContainer(name=name, signal=word):
            client.kill(name, signal.Signals[word])
        case RemoveContainer(name=name):
            containers.remove_container(client, name, turn)
        case StopContainer(name=name, respawn=respawn):
            containers.stop_container(client, name, respawn, turn)
        case InstallPackages() | PurgePackages():
            raise AssertionError("packages have stages of their own")


def _carry_data(spec: DaemonSpec, tools: Tools) -> None:
    try:
        tools.while_down(spec)
    except CopyError as error:
        raise PortoError(containers.DATA, str(error), f"data of {spec.name}") from error


def _check_host(spec: DaemonSpec, tools: Tools) -> None:
    """Raise PortoError for what portod would only say after the old one was stopped."""
    obstacle = find_obstacle(spec, tools.roots)
    if obstacle is not None:
        words = f"{obstacle.message}; the old one runs on"
        raise PortoError(obstacle.code, words, f"check {spec.name}")
