"""One host's side of the rollout gate in a pass: ask, keep what was granted, tell how it went.

The stages follow each other as values: `recall_slots` -> GateMemory -> `admit` -> Permits ->
`Permits.close` -> GateMemory -> `report_results` -> Settlement. Nothing here stops anything: what
the gate does not let through waits, and is asked again by the next pass.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

from ya_salt.errors import GateError
from ya_salt.gate.memory import FACT, GateMemory, decode_memory
from ya_salt.gate.protocol import Gate, Granted, Slot, SlotRequest, State
from ya_salt.gate.requests import (
    assess,
    describe_rejection,
    describe_slot,
    find_sharing,
    is_rejected,
    list_requests,
    make_request,
)
from ya_salt.life import Life
from ya_salt.model import (
    Container,
    CreateContainer,
    DaemonPlan,
    DaemonSpec,
    DaemonStatus,
    Deferral,
    GateStanding,
    Observed,
    Outcome,
    RemoveContainer,
    ReplaceContainer,
    Step,
    StopContainer,
)
from ya_salt.quick_dataclass import dataclass, field, replace
from ya_salt.store import Store

_ASK_AGAIN_AFTER_S = 2.0
"""An answer older than this is asked for again right before the daemon is stopped."""

_log = logging.getLogger("ya_salt.gate")

T = TypeVar("T")


def load_memory(store: Store | None) -> GateMemory:
    """What was remembered; what cannot be read, or no store, is an empty memory."""
    if store is None:
        return GateMemory()
    try:
        return decode_memory(store.load_fact(FACT))
    except ValueError:
        return GateMemory()


# -- the connection ------------------------------------------------------------------------------


class GateConnection:
    """Each call gives what the gate's method of that name gives, or why it could not be asked.

    After a call that failed the gate is left alone until `mend`: a pass over many daemons must not
    wait for each of them. Whatever goes wrong in a gate is a Deferral here, a bug of ours too.
    """

    def __init__(
        self,
        connect: Callable[[], Gate],
        memory: GateMemory,
        now: Callable[[], float],
        *,
        is_configured: bool = True,
    ) -> None:
        self._connect = connect
        self._now = now
        self._health = memory
        self.held: Mapping[str, Slot] = memory.held
        """What this host has at the moment, for a gate whose server cannot be asked."""
        self._gate: Gate | None = None
        self._broken: Deferral | None = None
        self.is_configured = is_configured

    def __enter__(self) -> GateConnection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._gate is not None:
            self._gate.close()

    @property
    def is_broken(self) -> bool:
        return self._broken is not None

    def note_health(self, memory: GateMemory) -> GateMemory:
        """The memory with how the gate answered last."""
        health = self._health
        return replace(
            memory,
            state=health.state,
            message=health.message,
            since=health.since,
        )

    def ask(self, request: SlotRequest) -> Granted | Deferral:
        return self._call(lambda gate: gate.ask(request))

    def preview(self, request: SlotRequest) -> Granted | Deferral:
        return self._call(lambda gate: gate.preview(request))

    def find(self, daemon: str) -> Slot | Deferral | None:
        return self._call(lambda gate: gate.find(daemon), is_proof=False)

    def renew(self, slot: Slot) -> Slot | Deferral | None:
        return self._call(lambda gate: gate.renew(slot), is_proof=slot.revision > 0)

    def tell(self, slot: Slot, state: State, error: str) -> Slot | Deferral | None:
        return self._call(lambda gate: gate.tell(slot, state, error), is_proof=slot.revision > 0)

    def blame(self, returned: Slot, error: str) -> Slot | Deferral | None:
        return self._call(lambda gate: gate.blame(returned, error), is_proof=returned.revision > 0)

    def release(self, slot: Slot) -> Deferral | None:
        return self._call(lambda gate: gate.release(slot))

    def mend(self) -> None:
        """Ask the gate again from now on, also after a call that failed."""
        self._broken = None

    def _call(self, question: Callable[[Gate], T], *, is_proof: bool = True) -> T | Deferral:
        """`is_proof`: an answer shows that the gate was asked; FleetLock knows few questions."""
        if self._broken is not None:
            return self._broken
        try:
            if self._gate is None:
                self._gate = self._connect()
            answer = question(self._gate)
        except GateError as error:
            return self._break(error.reason, str(error))
        except Exception as error:  # noqa: BLE001 - an odd answer must not keep a dead daemon down
            _log.exception("the gate's answer cannot be used: a bug in ya-salt")
            return self._break("GateUnreachable", f"its answer cannot be used: {error!r}")
        if is_proof:
            self._health = self._health.with_answer("answered", "", self._now())
        return answer

    def _break(self, reason: str, message: str) -> Deferral:
        self._broken = Deferral(reason, message)
        self._health = self._health.with_answer("failed", message, self._now())
        return self._broken


# -- looking only --------------------------------------------------------------------------------


def preview_deferrals(
    connection: GateConnection,
    specs: Sequence[DaemonSpec],
    plans: Sequence[DaemonPlan],
    observed: Observed,
) -> dict[str, Deferral]:
    """Daemon -> why its plan would wait now. Reads only."""
    requests = list_requests(specs, plans, observed, connection.held)
    if not requests or not connection.is_configured:
        return {}
    answers = {name: connection.preview(request) for name, request in requests.items()}
    deferrals = {name: said for name, said in answers.items() if isinstance(said, Deferral)}
    return {**deferrals, **find_sharing(plans, requests, deferrals)}


# -- before the work -----------------------------------------------------------------------------


def recall_slots(
    connection: GateConnection, memory: GateMemory, names: Iterable[str], *, is_store_new: bool
) -> GateMemory:
    """Say that this host is alive, and learn of slots that it may have without knowing.

    `asked` are then the daemons for which the gate did not tell. With a new store all of `names`
    are looked for.
    """
    if not connection.is_configured:
        return memory
    asked = memory.asked | (frozenset(names) if is_store_new else frozenset())
    held = connection.held = dict(memory.held)
    for slot in memory.held.values():
        _keep(held, slot, connection.renew(slot))
    unknown = set()
    for name in sorted(asked - set(held)):
        found = connection.find(name)
        if isinstance(found, Slot):
            held[name] = found
        else:
            unknown.add(name)
    return replace(memory, held=held, asked=frozenset(unknown))


def _keep(held: dict[str, Slot], slot: Slot, answer: Slot | Deferral | None) -> bool:
    """Put the gate's answer about a slot into `held`; False where the slot is ours no more."""
    if isinstance(answer, Slot):
        held[slot.daemon] = answer
    elif answer is None:
        _log.warning("porto-daemon-%s: the slot of %s is not ours any more", slot.daemon, slot.rule)
        held.pop(slot.daemon, None)
        return False
    return True


@dataclass(frozen=True)
class Work:
    """What a pass is about to do."""

    specs: Sequence[DaemonSpec]
    plans: Sequence[DaemonPlan]
    observed: Observed
    override: str = ""
    """Why the gate is not asked this time; "" asks it."""


def admit(
    connection: GateConnection,
    memory: GateMemory,
    work: Work,
    save: Callable[[GateMemory], None],
    progress: Callable[[str], None],
) -> Permits:
    """Tell of versions that were rejected, and ask for every slot that the work needs.

    `save` is called before the first question: should we die then, the next pass looks for them.
    """
    lives = work.observed.lives.items()
    rejected = {name: life.rejection for name, life in lives if life.rejection is not None}
    memory = _tell_failures(
        connection,
        memory,
        {
            name: describe_rejection(rejection)
            for name, rejection in rejected.items()
            if name in memory.held and is_rejected(memory.held[name], work.observed.lives[name])
        },
    )
    requests = list_requests(work.specs, work.plans, work.observed, memory.held)
    memory = replace(memory, override=work.override)
    memory = _clear_up(connection, memory, requests)
    if not connection.is_configured or work.override:
        went_past = frozenset(requests) if connection.is_configured else frozenset()
        for name in sorted(went_past):
            words = f"{requests[name].operation} goes past the gate: {work.override}"
            _log.warning("porto-daemon-%s: %s", name, words)
        return Permits(connection, memory, went_past=went_past)
    busy = frozenset(plan.name for plan in work.plans if plan.steps)
    if busy:
        # Any step may turn out to need a slot.
        save(replace(memory, asked=memory.asked | busy))
    permits = Permits(connection, memory, requests)
    permits.ask_all(work.plans, progress)
    return permits


def _tell_failures(
    connection: GateConnection, memory: GateMemory, failures: Mapping[str, str]
) -> GateMemory:
    """Tell that what daemons have slots for has failed: daemon -> why. Before it is undone.

    Where the gate cannot be told it is undone all the same, and `report_results` tells it.
    """
    if not connection.is_configured:
        return memory
    held = connection.held = dict(memory.held)
    for name, why in failures.items():
        if name in held and held[name].state != "failed":
            _keep(held, held[name], connection.tell(held[name], "failed", why))
    return replace(memory, held=held)


def _clear_up(
    connection: GateConnection, memory: GateMemory, requests: Collection[str]
) -> GateMemory:
    """Give back what we may have without knowing, where it is not wanted any more."""
    released = {
        name
        for name in sorted(memory.asked - set(requests))
        if connection.release(Slot(daemon=name, id="", operation="update", target="", since=0.0))
        is None
    }
    return replace(memory, asked=memory.asked - released)


# -- during the work -----------------------------------------------------------------------------


class Permits:
    """What the gate lets a pass do, kept true while the work lasts. `check` is for any thread."""

    def __init__(
        self,
        connection: GateConnection,
        memory: GateMemory,
        requests: Mapping[str, SlotRequest] | None = None,
        *,
        went_past: frozenset[str] = frozenset(),
    ) -> None:
        """Without `requests` (None) nobody is asked."""
        self._connection = connection
        self._memory = memory
        self._held = connection.held = dict(memory.held)
        self._unknown = set(memory.asked)
        """Daemons that we may have a slot for: the gate did not come to an answer."""
        self._requests = dict(requests or {})
        self._is_open = requests is None
        self._answered_at: dict[str, float] = {}
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._alive: threading.Thread | None = None
        self.went_past = went_past
        """Daemons that would have been asked for."""
        self.deferrals: Mapping[str, Deferral] = {}
        """Daemon -> why its plan waits."""

    def ask_all(self, plans: Sequence[DaemonPlan], progress: Callable[[str], None]) -> None:
        had = set(self._held)
        refused: dict[str, Deferral] = {}
        for name, request in self._requests.items():
            progress(f"porto-daemon-{name}: asking the gate")
            said = self._ask(request)
            if said is not None:
                refused[name] = said
        along = find_sharing(plans, self._requests, refused)
        for name in along:
            if name not in had and name in self._held:
                _give_back(self._connection, self._held, self._held[name])
        self.deferrals = {**refused, **along}

    def check(self, step: Step) -> Deferral | None:
        """Ask again right before a daemon is stopped: the slot may have been taken away meanwhile.

        What only turns out to be disruptive is asked for here, too.
        """
        if self._is_open:
            return None
        with self._lock:
            request = self._requests.get(step.name)
            if request is None and isinstance(step, ReplaceContainer) and not step.spec.generation:
                request = make_request(step.spec, "restart", step.reason)
                self._requests[step.name] = request
            disturbing = ReplaceContainer | RemoveContainer | CreateContainer | StopContainer
            disturbs = isinstance(step, disturbing)
            if request is None or not disturbs or self._is_fresh(step.name):
                return None
            return self._ask(request)

    def _is_fresh(self, name: str) -> bool:
        at = self._answered_at.get(name)
        return at is not None and time.monotonic() - at < _ASK_AGAIN_AFTER_S

    def _ask(self, request: SlotRequest) -> Deferral | None:
        was_broken = self._connection.is_broken
        answer = self._connection.ask(request)
        if isinstance(answer, Deferral):
            if self._connection.is_broken and not was_broken:
                self._unknown.add(request.daemon)
            elif not was_broken:
                self._unknown.discard(request.daemon)
            return answer
        self._unknown.discard(request.daemon)
        self._answered_at[request.daemon] = time.monotonic()
        if answer.held is not None:
            self._held[request.daemon] = answer.held
            self._start_living()
        return None

    @contextmanager
    def keep_alive(self) -> Iterator[None]:
        """Say that this host is alive as long as the work takes, also for slots taken meanwhile."""
        self._start_living()
        try:
            yield
        finally:
            self._over.set()
            if self._alive is not None:
                self._alive.join()
            # However it was before the work: what became of it is to be told.
            self._connection.mend()

    def _start_living(self) -> None:
        if self._alive is None and self._find_pause_s() and not self._over.is_set():
            self._alive = threading.Thread(target=self._live, name="ya-salt-alive", daemon=True)
            self._alive.start()

    def _find_pause_s(self) -> float:
        """A third of the time within which the gate has to hear of us; 0 where it need not."""
        limits = [slot.lost_after_s for slot in self._held.values() if slot.lost_after_s]
        return min(limits) / 3 if limits else 0.0

    def _live(self) -> None:
        while not self._over.wait(self._find_pause_s() or 1.0):
            with self._lock:
                for slot in list(self._held.values()):
                    if not _keep(self._held, slot, self._connection.renew(slot)):
                        self._answered_at.pop(slot.daemon, None)

    def close(self) -> GateMemory:
        """What is to be remembered now that the work is over."""
        with self._lock:
            return replace(
                self._memory,
                held=dict(self._held),
                asked=frozenset(self._unknown - set(self._held)),
            )

    def find_request(self, name: str) -> SlotRequest | None:
        return self._requests.get(name)


# -- after the work ------------------------------------------------------------------------------


@dataclass(frozen=True)
class DaemonResult:
    """How one daemon stands after the work; without an outcome nothing was planned about it."""

    status: DaemonStatus
    container: Container | None
    outcome: Outcome | None = None
    life: Life = field(default_factory=Life)
    is_coming: bool = False
    """Whether it was just started, and this very pass is about to wait until it is ready."""


@dataclass(frozen=True)
class Settlement:
    """What the gate was told: the memory after it, and each daemon's standing, but for `since`."""

    memory: GateMemory
    standings: Mapping[str, GateStanding]


def report_results(
    connection: GateConnection,
    permits: Permits,
    results: Sequence[DaemonResult],
    now: float,
    *,
    is_whole: bool,
) -> Settlement:
    """Tell the gate how each operation went; with `is_whole` nobody else has slots any more."""
    memory = permits.close()
    held = connection.held = dict(memory.held)
    returned = dict(memory.returned)
    for result in results:
        slot = held.get(result.status.name)
        if slot is None or not connection.is_configured or _is_unknown(result.status):
            continue
        if _report(connection, held, slot, result) and result.life.trial is not None:
            returned[slot.daemon] = slot
    _report_returned(connection, held, returned, {item.status.name: item.life for item in results})
    if is_whole:
        for name in set(held) - {result.status.name for result in results}:
            _give_back(connection, held, held[name])
    standings = {
        result.status.name: standing
        for result in results
        if (standing := _describe_standing(result, held, permits, now)) is not None
    }
    memory = replace(memory, held=held, returned=returned, asked=memory.asked - set(held))
    return Settlement(connection.note_health(memory), standings)


def _is_unknown(status: DaemonStatus) -> bool:
    """Nobody could look: that is no verdict on what was done."""
    return status.ready is not None and status.ready.reason == "Unknown"


def _report(
    connection: GateConnection, held: dict[str, Slot], slot: Slot, result: DaemonResult
) -> bool:
    """Whether the slot was given back."""
    outcome = result.outcome
    is_put_off = outcome is not None and bool(outcome.deferral or outcome.blocked)
    is_put_off |= result.is_coming
    state, error = assess(slot, result.status, result.container, result.life, is_put_off=is_put_off)
    if state == "over":
        return _give_back(connection, held, slot)
    if state != slot.state or (state == "failed" and slot.slot >= 0):
        # An earlier version left a slot that failed in the way of others.
        _keep(held, slot, connection.tell(slot, state, error))
    return False


def _report_returned(
    connection: GateConnection,
    held: dict[str, Slot],
    returned: dict[str, Slot],
    lives: Mapping[str, Life],
) -> None:
    """Tell of updates that failed on trial, after the rule had the slot given back.

    Once: who releases the failed slot that comes of it has looked into it.
    """
    if not connection.is_configured:
        return
    for name in sorted(returned.keys() & lives.keys()):
        rejection, is_on_trial = lives[name].rejection, lives[name].trial is not None
        if rejection is not None and name not in held:
            said = connection.blame(returned[name], describe_rejection(rejection))
            if isinstance(said, Slot):
                held[name] = said
            is_on_trial = isinstance(said, Deferral)
        if not is_on_trial or name in held:
            # What it has now is a slot for something else, or this very failure.
            del returned[name]


def _give_back(connection: GateConnection, held: dict[str, Slot], slot: Slot) -> bool:
    if connection.release(slot) is not None:
        return False
    _log.info("porto-daemon-%s: the slot of %s is given back", slot.daemon, slot.rule)
    del held[slot.daemon]
    return True


def _describe_standing(
    result: DaemonResult, held: Mapping[str, Slot], permits: Permits, now: float
) -> GateStanding | None:
    name = result.status.name
    slot = held.get(name)
    deferral = result.outcome.deferral if result.outcome else None
    if deferral is None and slot is None:
        return None
    about = permits.find_request(name) or slot
    told = deferral or (Deferral("", describe_slot(slot)) if slot else Deferral("", ""))
    return GateStanding(
        state="waiting" if deferral or slot is None else slot.state,
        reason=told.reason,
        message=told.message,
        since=now,
        operation=about.operation if about else "",
        target=about.target if about else "",
    )
