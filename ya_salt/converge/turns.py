"""Let the threads that work on daemons take turns: some wait for others, few talk at once.

Everybody has a thread of their own; a place at the work is given back while there is nothing to do
but wait, for a daemon that ends slowly or for another one to become ready.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum

from ya_salt.converge.ordering import STARTS, Standing
from ya_salt.model import (
    DaemonPlan,
    Progress,
    RemoveContainer,
    ReplaceContainer,
    Step,
    StopContainer,
)
from ya_salt.text import join_words

_POLL_S = 0.25
_MAX_GRACES = 64
"""Daemons that are given time to end at once: each is a connection to portod."""

_STOPS = (ReplaceContainer, RemoveContainer, StopContainer)

Look = Callable[[Collection[str]], Mapping[str, Standing]]


class _Stage(IntEnum):
    """How far one has come with its steps."""

    WAITING = 0
    REHEARSED = 1
    """It could be stopped now."""
    STOPPED = 2
    OVER = 3


class Turns:
    """Of one pass. Methods are for any thread."""

    def __init__(
        self,
        plans: Sequence[DaemonPlan],
        order: Mapping[str, Sequence[str]],
        look: Look,
        progress: Progress,
        parallel: int,
    ) -> None:
        self._order, self._look, self._progress = order, look, progress
        self._work = threading.Semaphore(max(1, parallel))
        self._graces = threading.Semaphore(_MAX_GRACES)
        self._moved = threading.Condition()
        self._stages = {plan.name: _Stage.WAITING for plan in plans}
        self._stopped = {plan.name for plan in plans if _has(plan.steps, _STOPS)}
        self._renewed = {plan.name for plan in plans if _has(plan.steps, (ReplaceContainer,))}
        self._started = {plan.name for plan in plans if _has(plan.steps, STARTS)}
        self._is_ended = False

    @contextmanager
    def work(self, name: str) -> Iterator[bool]:
        """A place at the work, in its turn; whether there is still anything to be done."""
        try:
            with self._work:
                yield not self._is_ended
        finally:
            self._move(name, _Stage.OVER)

    def end(self) -> None:
        """Who has not begun does not; nobody waits for readiness any more."""
        with self._moved:
            self._is_ended = True
            self._moved.notify_all()

    @contextmanager
    def grace(self) -> Iterator[None]:
        """Give the place back while a daemon is given time to end."""
        with self._pause(), self._graces:
            yield

    @contextmanager
    def _pause(self) -> Iterator[None]:
        self._work.release()
        try:
            yield
        finally:
            self._work.acquire()

    def _move(self, name: str, stage: _Stage) -> None:
        with self._moved:
            self._stages[name] = max(stage, self._stages.get(name, stage))
            self._moved.notify_all()

    def _is_past(self, names: Iterable[str], stage: _Stage) -> bool:
        return all(self._stages.get(name, _Stage.OVER) >= stage for name in names)

    def await_start(self, step: Step) -> str:
        """Wait until it may be started; why it may not within this pass, or "".

        One that is to be restarted waits here for those only that are not: in between it is down.
        """
        if not isinstance(step, STARTS):
            return ""
        others = self._order.get(step.name, ())
        if isinstance(step, ReplaceContainer):
            others = [name for name in others if name not in self._renewed]
        return self._await_ready(step.name, others)

    def before_stop(self, name: str) -> None:
        """Called where nothing stands in the way of its stop any more.

        Its own turn comes when those that it is started after could be stopped, too, and when those
        that are started after it are.
        """
        self._move(name, _Stage.REHEARSED)
        first = self._list_renewed(name) if name in self._renewed else []
        last = [other for other in self._stopped if name in self._order.get(other, ())]

        def is_due() -> bool:
            return self._is_past(first, _Stage.REHEARSED) and self._is_past(last, _Stage.STOPPED)

        if is_due():
            return
        with self._pause(), self._moved:
            self._moved.wait_for(is_due)

    def before_start(self, name: str) -> str:
        """Called where it is stopped and is to be started anew, once those before it are ready.

        Returns who is not: it is started all the same, as it ran before.
        """
        self._move(name, _Stage.STOPPED)
        return self._await_ready(name, self._list_renewed(name))

    def _list_renewed(self, name: str) -> list[str]:
        """Those before it that are restarted in this pass, too."""
        return [other for other in self._order.get(name, ()) if other in self._renewed]

    def _await_ready(self, name: str, others: Sequence[str]) -> str:
        if not others:
            return ""
        is_over = self._is_past(self._list_started(others), _Stage.OVER)
        if is_over and all(item.is_ready for item in self._look(others).values()):
            return ""
        with self._pause():
            return self._poll(name, others)

    def _list_started(self, others: Iterable[str]) -> list[str]:
        return [name for name in others if name in self._started]

    def _poll(self, name: str, others: Sequence[str]) -> str:
        started = self._list_started(others)
        self._progress(f"porto-daemon-{name}: waits for {join_words(others)}")
        with self._moved:
            self._moved.wait_for(lambda: self._is_ended or self._is_past(started, _Stage.OVER))
        began = time.monotonic()
        while True:
            late = [item for item in self._look(others).values() if not item.is_ready]
            elapsed = time.monotonic() - began
            if not late:
                return ""
            if self._is_ended or any(item.is_hopeless or elapsed > item.timeout_s for item in late):
                return f"waits for {join_words(item.words for item in late)}"
            time.sleep(_POLL_S)


def _has(steps: Iterable[Step], kinds: tuple[type[Step], ...]) -> bool:
    return any(isinstance(step, kinds) for step in steps)
