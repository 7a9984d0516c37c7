"""The line to a gate: answers, or a Deferral where it cannot be asked; silent once it was dead."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ya_salt.errors import GateError
from ya_salt.model import Deferral
from ya_salt.rollout.gate import Allowed, Ask, Gate, Held, State
from ya_salt.rollout.memory import GateMemory

T = TypeVar("T")


class Line:
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

    def ask(self, ask: Ask) -> Allowed | Deferral:
        return self._call(lambda gate: gate.ask(ask))

    def foresee(self, ask: Ask) -> Allowed | Deferral:
        return self._call(lambda gate: gate.foresee(ask))

    def find(self, daemon: str) -> Held | Deferral | None:
        return self._call(lambda gate: gate.find(daemon), is_proof=False)

    def renew(self, held: Held) -> Held | Deferral | None:
        return self._call(lambda gate: gate.renew(held), is_proof=held.revision > 0)

    def tell(self, held: Held, state: State, error: str) -> Held | Deferral | None:
        return self._call(lambda gate: gate.tell(held, state, error), is_proof=held.revision > 0)

    def release(self, held: Held) -> Deferral | None:
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
