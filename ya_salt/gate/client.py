"""Ask the rollout gate before a running daemon is disturbed, and tell it how that went.

Nothing here stops anything: what the gate does not let through waits, and is asked again by the
next pass.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeVar, get_args

from ya_salt.converge.host import Host
from ya_salt.converge.plan import defer
from ya_salt.errors import GateError
from ya_salt.gate.protocol import REMOVAL, Gate, Granted, Operation, Slot, SlotRequest, State
from ya_salt.hostname import HostName
from ya_salt.model import (
    LABEL,
    Container,
    CreateContainer,
    DaemonPlan,
    DaemonSpec,
    DaemonStatus,
    Deferral,
    GateStanding,
    InstallPackages,
    Observed,
    Outcome,
    RemoveContainer,
    ReplaceContainer,
    Step,
)
from ya_salt.store import Store

_ASK_AGAIN_AFTER_S = 2.0
"""An answer older than this is asked for again right before the daemon is stopped."""

_log = logging.getLogger("ya_salt.gate")


def foresee(
    host: Host,
    memory: GateMemory,
    specs: Sequence[DaemonSpec],
    plans: Sequence[DaemonPlan],
    observed: Observed,
) -> tuple[DaemonPlan, ...]:
    """The plans as a pass would find them: with what would wait for the gate. Reads only."""
    asks = _list_asks(specs, plans, observed)
    if not asks or host.settings.gate.type == "none":
        return tuple(plans)
    line = _make_line(host, memory)
    try:
        deferrals = {
            name: answer
            for name, ask in asks.items()
            if isinstance(answer := line.foresee(ask), Deferral)
        }
    finally:
        line.close()
    return _defer_all(plans, asks, deferrals, observed)


def _make_line(host: Host, memory: GateMemory) -> GateConnection:
    def connect() -> Gate:
        hostname = HostName(host.settings.hostname, memory.hostnames)
        gate = host.connect_gate(hostname.find(), lambda: tuple(memory.held.values()))
        memory.hostnames.update(hostname.resolved)
        if gate is None:
            raise GateError("this host has no gate", "GateRefused")
        return gate

    return GateConnection(connect, memory, host.now)


def _list_asks(
    specs: Sequence[DaemonSpec], plans: Sequence[DaemonPlan], observed: Observed
) -> dict[str, SlotRequest]:
    known = {spec.name: spec for spec in specs}
    found = {plan.name: find_ask(plan, known[plan.name], observed) for plan in plans if plan.steps}
    return {name: ask for name, ask in found.items() if ask is not None}


def _defer_all(
    plans: Sequence[DaemonPlan],
    asks: Mapping[str, SlotRequest],
    deferrals: Mapping[str, Deferral],
    observed: Observed,
) -> tuple[DaemonPlan, ...]:
    every = {**deferrals, **find_sharing(plans, asks, deferrals)}
    return tuple(
        defer(plan, every[plan.name], observed) if plan.name in every else plan for plan in plans
    )


class GateClient:
    """The gate of one pass. Used by the pass's own thread, but for `permit`."""

    def __init__(self, host: Host, store: Store, override: str = "") -> None:
        self._host = host
        self._store = store
        self._memory = load_memory(store)
        self._saved = encode_memory(self._memory)
        self._line = _make_line(host, self._memory)
        self._is_there = host.settings.gate.type != "none"
        self._override = override
        self._asks: dict[str, SlotRequest] = {}
        self._answered_at: dict[str, float] = {}
        self._unknown: set[str] = set()
        """Daemons that we may have a slot for: the gate did not come to an answer."""
        self._lock = threading.RLock()
        self._memory.override = override
        self.went_past: frozenset[str] = frozenset()
        """Daemons that would have been asked for."""

    # -- before ------------------------------------------------------------------------------------

    def begin(self, names: Iterable[str]) -> None:
        """Say that this host is alive, and learn of slots that it may have without knowing."""
        if not self._is_there:
            return
        if self._store.rebuilt:
            self._memory.asked |= set(names)
        for held in list(self._memory.held.values()):
            self._renew(held)
        for name in sorted(self._memory.asked - set(self._memory.held)):
            found = self._line.find(name)
            if isinstance(found, Slot):
                self._memory.held[name] = found
            else:
                self._unknown.add(name)

    def admit(
        self, specs: Sequence[DaemonSpec], plans: Sequence[DaemonPlan], observed: Observed
    ) -> tuple[DaemonPlan, ...]:
        """The plans with what the gate does not let through now put off."""
        self._asks = _list_asks(specs, plans, observed)
        self._clear_up()
        if self._override and self._is_there:
            self._go_past()
        if self._override or not self._is_there or not any(plan.steps for plan in plans):
            return tuple(plans)
        # Any step may turn out to need a slot: should we die now, the next pass looks for one.
        self._memory.asked |= {plan.name for plan in plans if plan.steps}
        with self._store.transaction():
            self._save()
        had = set(self._memory.held)
        answers = {name: self._ask(ask) for name, ask in self._asks.items()}
        deferrals = {name: answer for name, answer in answers.items() if answer is not None}
        put_off = _defer_all(plans, self._asks, deferrals, observed)
        for plan in put_off:
            if plan.deferral is not None and plan.name not in deferrals and plan.name not in had:
                self._give_back(plan.name)
        return put_off

    def _clear_up(self) -> None:
        """Give back what we may have without knowing, where it is not wanted any more."""
        for name in sorted(self._unknown - set(self._asks)):
            nothing = Slot(daemon=name, id="", operation="update", target="", since=0.0)
            if self._line.release(nothing) is None:
                self._unknown.discard(name)

    def _ask(self, ask: SlotRequest) -> Deferral | None:
        self._host.progress(f"porto-daemon-{ask.daemon}: asking the gate")
        was_dead = self._line.is_dead
        answer = self._line.ask(ask)
        if isinstance(answer, Deferral):
            if self._line.is_dead and not was_dead:
                self._unknown.add(ask.daemon)
            elif not was_dead:
                self._unknown.discard(ask.daemon)
            return answer
        self._unknown.discard(ask.daemon)
        self._answered_at[ask.daemon] = time.monotonic()
        if answer.held is not None:
            self._memory.held[ask.daemon] = answer.held
        return None

    def _go_past(self) -> None:
        self.went_past = frozenset(self._asks)
        for name, ask in self._asks.items():
            _log.warning(
                "porto-daemon-%s: %s goes past the gate: %s", name, ask.operation, self._override
            )

    # -- meanwhile ---------------------------------------------------------------------------------

    def permit(self, step: Step) -> Deferral | None:
        """Ask again right before a daemon is stopped: the slot may have been taken away meanwhile.

        Also what only turns out to be disruptive is asked here. May be called from any thread.
        """
        if self._override or not self._is_there:
            return None
        with self._lock:
            ask = self._asks.get(step.name)
            if ask is None and isinstance(step, ReplaceContainer):
                ask = self._asks[step.name] = make_ask(step.spec, "restart", step.reason)
            is_asked = isinstance(step, ReplaceContainer | RemoveContainer | CreateContainer)
            if ask is None or not is_asked or self._is_fresh(step.name):
                return None
            return self._ask(ask)

    def _is_fresh(self, name: str) -> bool:
        at = self._answered_at.get(name)
        return at is not None and time.monotonic() - at < _ASK_AGAIN_AFTER_S

    @contextmanager
    def keep_alive(self) -> Iterator[None]:
        """Say that this host is alive as long as the work takes."""
        limits = [held.lost_after_s for held in self._memory.held.values() if held.lost_after_s]
        if limits:
            with self._living(min(limits) / 3):
                yield
        else:
            yield
        # However it was before the work: what became of it is to be told.
        self._line.mend()

    @contextmanager
    def _living(self, every_s: float) -> Iterator[None]:
        over = threading.Event()
        thread = threading.Thread(
            target=self._live, args=(over, every_s), name="ya-salt-alive", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _live(self, over: threading.Event, every_s: float) -> None:
        while not over.wait(every_s):
            with self._lock:
                for held in list(self._memory.held.values()):
                    self._renew(held)

    def _renew(self, held: Slot) -> None:
        renewed = self._line.renew(held)
        if isinstance(renewed, Slot):
            self._memory.held[held.daemon] = renewed
        elif renewed is None:
            self._lose(held)

    def _lose(self, held: Slot) -> None:
        _log.warning("porto-daemon-%s: the slot of %s is ours no more", held.daemon, held.rule)
        self._memory.held.pop(held.daemon, None)
        self._answered_at.pop(held.daemon, None)

    # -- after -------------------------------------------------------------------------------------

    def settle(
        self, status: DaemonStatus, container: Container | None, outcome: Outcome | None
    ) -> GateStanding | None:
        """Tell the gate how a daemon stands now; its standing with the gate, but for `since`."""
        held = self._memory.held.get(status.name)
        deferral = outcome.deferral if outcome else None
        if held is not None and self._is_there:
            self._settle(held, status, container, is_put_off=deferral is not None)
        if deferral is not None:
            return self._stand(status.name, "waiting", deferral)
        held = self._memory.held.get(status.name)
        if held is None:
            return None
        return self._stand(held.daemon, held.state, Deferral("", describe_held(held)))

    def _settle(
        self, held: Slot, status: DaemonStatus, container: Container | None, *, is_put_off: bool
    ) -> None:
        state, error = judge(held, status, container, is_put_off=is_put_off)
        if state == "over":
            self._give_back(held.daemon)
        elif state != held.state:
            told = self._line.tell(held, state, error)
            if isinstance(told, Slot):
                self._memory.held[held.daemon] = told
            elif told is None:
                self._lose(held)

    def _stand(self, name: str, state: str, why: Deferral) -> GateStanding:
        ask, held = self._asks.get(name), self._memory.held.get(name)
        about = ask or held
        return GateStanding(
            state=state,
            reason=why.reason,
            message=why.message,
            since=self._host.now(),
            operation=about.operation if about else "",
            target=about.target if about else "",
        )

    def release_rest(self, known: Iterable[str]) -> None:
        """Give back the slots of daemons that nobody knows any more."""
        for name in set(self._memory.held) - set(known):
            self._give_back(name)

    def _give_back(self, name: str) -> None:
        held = self._memory.held.get(name)
        if held is not None and self._line.release(held) is None:
            _log.info("porto-daemon-%s: the slot of %s is given back", name, held.rule)
            del self._memory.held[name]

    def tell_facts(self) -> dict[str, Any]:
        """What monitoring is told of the gate, as of now."""
        return find_gate_facts(self._host.settings.gate.type, self._memory)

    def save(self) -> None:
        """Write at the pass's end what is new, in the caller's transaction."""
        self._memory.asked = self._unknown - set(self._memory.held)
        self._save()

    def _save(self) -> None:
        data = encode_memory(self._memory)
        if data != self._saved:
            self._store.save_fact(FACT, data)
            self._saved = data

    def close(self) -> None:
        """Let go of the line, whatever became of the pass."""
        self._line.close()


T = TypeVar("T")


class GateConnection:
    """Every call gives what the gate's method of that name gives, or why it could not be asked.

    Once it could not it is left alone: a pass over many daemons must not wait for each of them.
    """

    def __init__(
        self, connect: Callable[[], Gate], memory: GateMemory, now: Callable[[], float]
    ) -> None:
        self._connect = connect
        self._memory = memory
        self._now = now
        self._gate: Gate | None = None
        self._broken: Deferral | None = None

    @property
    def is_dead(self) -> bool:
        return self._broken is not None

    def ask(self, ask: SlotRequest) -> Granted | Deferral:
        return self._call(lambda gate: gate.ask(ask))

    def foresee(self, ask: SlotRequest) -> Granted | Deferral:
        return self._call(lambda gate: gate.foresee(ask))

    def find(self, daemon: str) -> Slot | Deferral | None:
        return self._call(lambda gate: gate.find(daemon), is_proof=False)

    def renew(self, held: Slot) -> Slot | Deferral | None:
        return self._call(lambda gate: gate.renew(held), is_proof=held.revision > 0)

    def tell(self, held: Slot, state: State, error: str) -> Slot | Deferral | None:
        return self._call(lambda gate: gate.tell(held, state, error), is_proof=held.revision > 0)

    def release(self, held: Slot) -> Deferral | None:
        return self._call(lambda gate: gate.release(held))

    def mend(self) -> None:
        """Try it again, however it was before."""
        self._broken = None

    def close(self) -> None:
        if self._gate is not None:
            self._gate.close()

    def _call(self, question: Callable[[Gate], T], *, is_proof: bool = True) -> T | Deferral:
        """`is_proof`: an answer shows that the gate was asked; FleetLock knows few questions."""
        if self._broken is not None:
            return self._broken
        try:
            if self._gate is None:
                self._gate = self._connect()
            answer = question(self._gate)
        except GateError as error:
            self._broken = Deferral(error.reason, str(error))
            self._memory.note("failed", str(error), self._now())
            return self._broken
        if is_proof:
            self._memory.note("answered", "", self._now())
        return answer


_DOWN = frozenset({"dead", "stopped"})


def find_ask(plan: DaemonPlan, spec: DaemonSpec, observed: Observed) -> SlotRequest | None:
    """The question for the gate; None where the plan disturbs no running daemon.

    A dead daemon may be removed and started again as it is; changing it is asked, too, or a bad
    version would pass the gate wherever a daemon has crashed.
    """
    for step in plan.steps:
        operation = _find_operation(step, plan, spec, observed)
        if operation is not None:
            return make_ask(spec, operation, _describe(step, plan))
    return None


def make_ask(spec: DaemonSpec, operation: Operation, reason: str) -> SlotRequest:
    removal = operation == "remove"
    return SlotRequest(
        daemon=spec.name,
        operation=operation,
        target=REMOVAL if removal else spec.version or spec.digest[:12],
        reason=reason,
    )


def _find_operation(
    step: Step, plan: DaemonPlan, spec: DaemonSpec, observed: Observed
) -> Operation | None:
    container = observed.containers.get(plan.name)
    match step:
        case ReplaceContainer():
            updates = any(isinstance(item, InstallPackages) for item in plan.steps)
            current = container is not None and container.labels.get(LABEL) == spec.digest
            return "restart" if current and not updates else "update"
        case RemoveContainer():
            return None if container is not None and container.state in _DOWN else "remove"
        case CreateContainer():
            record = observed.records.get(plan.name)
            return None if record is not None and record.was_created else "install"
    return None


def _describe(step: Step, plan: DaemonPlan) -> str:
    return next((item.reason for item in plan.steps if isinstance(item, InstallPackages)), "") or (
        step.reason
    )


def find_sharing(
    plans: Sequence[DaemonPlan], asks: Mapping[str, SlotRequest], deferrals: Mapping[str, Deferral]
) -> dict[str, Deferral]:
    """Further plans that have to wait: their packages are to be changed under one that waits.

    Only those that were asked for: a daemon that is down is repaired whoever waits.
    """
    known = dict(deferrals)
    while True:
        waiting = _list_waiting_packages(plans, known)
        more = {
            plan.name: _share(package, waiting[package], known)
            for plan in plans
            if plan.name in asks and plan.name not in known
            # The first package that they share is the one that is named.
            for package in reversed(_list_installed(plan.steps))
            if package in waiting
        }
        if not more:
            return {name: why for name, why in known.items() if name not in deferrals}
        known |= more


def pin_waiting(plans: Sequence[DaemonPlan], observed: Observed) -> dict[str, str]:
    """Package -> version that it keeps, as the change to another one waits for the gate.

    What somebody else's steps install is not among them.
    """
    wanted = {package for plan in plans for package in _list_installed(plan.steps)}
    waiting = {package for plan in plans for package in _list_installed(plan.waiting)}
    return {
        name: observed.packages[name].version
        for name in waiting - wanted
        if name in observed.packages and observed.packages[name].status == "installed"
    }


def _list_installed(steps: Iterable[Step]) -> tuple[str, ...]:
    found = (step for step in steps if isinstance(step, InstallPackages))
    return tuple(package.name for step in found for package in step.packages)


def _list_waiting_packages(
    plans: Sequence[DaemonPlan], deferrals: Mapping[str, Deferral]
) -> dict[str, str]:
    """Package -> a daemon that runs from it and waits."""
    return {
        package: plan.name
        for plan in plans
        if plan.name in deferrals and _replaces(plan)
        for package in _list_installed(plan.steps)
    }


def _replaces(plan: DaemonPlan) -> bool:
    return any(isinstance(step, ReplaceContainer) for step in plan.steps)


def _share(package: str, other: str, deferrals: Mapping[str, Deferral]) -> Deferral:
    why = deferrals[other]
    return Deferral(
        "SharedPackage",
        f"package {package} is also {other}'s, and that waits: {why.reason}: {why.message}",
    )


def judge(
    held: Slot, status: DaemonStatus, container: Container | None, *, is_put_off: bool
) -> tuple[State | Literal["over"], str]:
    """(state, error) of the operation that the slot was taken for; `over`: give it back.

    `is_put_off`: what is to be done about the daemon now waits.
    """
    if status.phase == "Removed":
        return "over", ""
    if status.error and status.phase == "Managed":
        return "failed", status.error
    if is_put_off and held.state == "working":
        # It has not been carried out yet: how the daemon stands says nothing about it.
        return "working", ""
    ready = status.ready
    if ready is None or not ready.status:
        return "failed", f"{ready.reason}: {ready.message}" if ready else "nobody has looked at it"
    healthy_s = container.running_s if container else 0
    return ("over" if healthy_s >= held.min_healthy_s else "settling"), ""


def describe_held(held: Slot) -> str:
    match held.state:
        case "failed":
            return f"it keeps its slot of {held.rule} until it is ready or released: {held.error}"
        case "settling":
            s = held.min_healthy_s
            return f"it keeps its slot of {held.rule} until it has been ready for {s} s"
        case "working":
            return f"it has a slot of {held.rule}"


def keep_since(new: GateStanding | None, old: GateStanding | None) -> GateStanding | None:
    """The standing with the time since when it has been in its state."""
    if new is None or old is None or new.state != old.state:
        return new
    return replace(new, since=old.since)


FACT = "gate"


def load_memory(store: Store | None) -> GateMemory:
    """What was remembered; what cannot be read, or no store, is an empty memory."""
    if store is None:
        return GateMemory()
    try:
        return decode_memory(store.load_fact(FACT))
    except ValueError:
        return GateMemory()


def describe_gate(kind: str, memory: GateMemory) -> dict[str, Any]:
    """How the gate stood in the last pass: type, state, message, since (None: not asked yet).

    `kind` is the setting gate.type.
    """
    if kind == "none":
        memory = GateMemory(message="no gate is configured: every change is made at once")
    return {"type": kind, "state": memory.state, "message": memory.message, "since": memory.since}


def find_gate_facts(kind: str, memory: GateMemory) -> dict[str, Any]:
    """`describe_gate`, with what monitoring is told besides.

    `override`: why the last pass went past the gate, or ""; `slots`: daemon -> state of the slot
    that we have for it.
    """
    held = {} if kind == "none" else memory.held
    slots = {name: item.state for name, item in held.items()}
    override = "" if kind == "none" else memory.override
    return {**describe_gate(kind, memory), "override": override, "slots": slots}


_EXAMPLE = Slot(daemon="", id="", operation="update", target="", since=0.0)


@dataclass
class GateMemory:
    """A fact of the store; lost with it, and then learnt again from the gate."""

    held: dict[str, Slot] = field(default_factory=dict)
    """Daemon -> the slot that we have for it."""
    asked: set[str] = field(default_factory=set)
    """Daemons that we may have a slot for without knowing: we did not live to see the answer."""
    state: str = "unasked"
    """answered or failed, since `since`; `message` says why it failed."""
    message: str = ""
    since: float | None = None
    override: str = ""
    """Why somebody let the last pass go past the gate."""
    hostnames: dict[str, str] = field(default_factory=dict)
    """Node name -> FQDN, as the resolver told it once: the gate has to know us by one name."""

    def note(self, state: str, message: str, now: float) -> None:
        if state != self.state:
            self.since = now
        self.state, self.message = state, message


def encode_memory(memory: GateMemory) -> dict[str, Any]:
    return {**asdict(memory), "asked": sorted(memory.asked)}


def decode_memory(data: Any) -> GateMemory:
    """The inverse; anything that is not a memory is an empty one."""
    try:
        held = {name: _check(Slot(**item)) for name, item in data["held"].items()}
        asked = {_check_text(name) for name in data["asked"]}
        hostnames = {name: _check_text(text) for name, text in data["hostnames"].items()}
        return GateMemory(
            held=held,
            asked=asked,
            state=_check_text(data["state"]),
            message=_check_text(data["message"]),
            since=None if data["since"] is None else float(data["since"]),
            override=_check_text(data["override"]),
            hostnames=hostnames,
        )
    except (TypeError, LookupError, ValueError, AttributeError, OverflowError):
        return GateMemory()


def _check(held: Slot) -> Slot:
    """Raises TypeError where a field is of another kind than a slot's."""
    for name, value in asdict(held).items():
        wanted = {"since": (int, float)}.get(name, type(getattr(_EXAMPLE, name)))
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise TypeError(f"{name} is {value!r}")
    if held.operation not in get_args(Operation) or held.state not in get_args(State):
        raise TypeError(f"{held.operation}, {held.state}")
    return held


def _check_text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
