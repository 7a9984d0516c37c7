"""Ask the rollout gate before a running daemon is disturbed, and tell it how that went.

Nothing here stops anything: what the gate does not let through waits, and is asked again by the
next pass.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ya_salt.errors import GateError
from ya_salt.gatestate import FACT, find_gate_facts, load_memory
from ya_salt.host import Host
from ya_salt.model import (
    Container,
    CreateContainer,
    DaemonPlan,
    DaemonSpec,
    DaemonStatus,
    Deferral,
    GateStanding,
    Observed,
    RemoveContainer,
    ReplaceContainer,
    Step,
)
from ya_salt.monitoring.hostname import HostName
from ya_salt.plan import defer
from ya_salt.rollout.asking import find_ask, find_sharing, make_ask
from ya_salt.rollout.gate import Ask, Gate, Held
from ya_salt.rollout.judging import describe_held, judge
from ya_salt.rollout.line import Line
from ya_salt.rollout.memory import GateMemory, encode_memory
from ya_salt.status import Outcome
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


def _make_line(host: Host, memory: GateMemory) -> Line:
    def connect() -> Gate:
        hostname = HostName(host.settings.hostname, memory.hostnames)
        gate = host.connect_gate(hostname.find(), lambda: tuple(memory.held.values()))
        memory.hostnames.update(hostname.resolved)
        if gate is None:
            raise GateError("this host has no gate", "GateRefused")
        return gate

    return Line(connect, memory, host.now)


def _list_asks(
    specs: Sequence[DaemonSpec], plans: Sequence[DaemonPlan], observed: Observed
) -> dict[str, Ask]:
    known = {spec.name: spec for spec in specs}
    found = {plan.name: find_ask(plan, known[plan.name], observed) for plan in plans if plan.steps}
    return {name: ask for name, ask in found.items() if ask is not None}


def _defer_all(
    plans: Sequence[DaemonPlan],
    asks: Mapping[str, Ask],
    deferrals: Mapping[str, Deferral],
    observed: Observed,
) -> tuple[DaemonPlan, ...]:
    every = {**deferrals, **find_sharing(plans, asks, deferrals)}
    return tuple(
        defer(plan, every[plan.name], observed) if plan.name in every else plan for plan in plans
    )


class Gatekeeper:
    """The gate of one pass. Used by the pass's own thread, but for `permit`."""

    def __init__(self, host: Host, store: Store, override: str = "") -> None:
        self._host = host
        self._store = store
        self._memory = load_memory(store)
        self._saved = encode_memory(self._memory)
        self._line = _make_line(host, self._memory)
        self._is_there = host.settings.gate.type != "none"
        self._override = override
        self._asks: dict[str, Ask] = {}
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
            if isinstance(found, Held):
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
            nothing = Held(daemon=name, id="", operation="update", target="", since=0.0)
            if self._line.release(nothing) is None:
                self._unknown.discard(name)

    def _ask(self, ask: Ask) -> Deferral | None:
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

    def _renew(self, held: Held) -> None:
        renewed = self._line.renew(held)
        if isinstance(renewed, Held):
            self._memory.held[held.daemon] = renewed
        elif renewed is None:
            self._lose(held)

    def _lose(self, held: Held) -> None:
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
        self, held: Held, status: DaemonStatus, container: Container | None, *, is_put_off: bool
    ) -> None:
        state, error = judge(held, status, container, is_put_off=is_put_off)
        if state == "over":
            self._give_back(held.daemon)
        elif state != held.state:
            told = self._line.tell(held, state, error)
            if isinstance(told, Held):
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
