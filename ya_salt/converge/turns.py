"""Let the threads that work on daemons take turns: some wait for others, few talk at once.

Everybody has a thread of their own; a place at the work is given back while there is nothing to do
but wait, for a daemon that ends slowly or for another one to become ready.
"""

from __future__ import annotations

import itertools
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
from ya_salt.quick_dataclass import dataclass, field
from ya_salt.text import join_words

_POLL_S = 0.25
_MAX_GRACES = 64
"""Daemons that are given time to end at once: each is a connection to portod."""

_STOPS = (ReplaceContainer, RemoveContainer, StopContainer)

Look = Callable[[Collection[str]], Mapping[str, Standing]]


class LeftError(Exception):
    """A restart is left for the round that undoes the update of one before it: for whom it waits.

    Where it was stopped already it stays so until then.
    """


class _Stage(IntEnum):
    """How far one has come with its steps."""

    WAITING = 0
    REHEARSED = 1
    """It could be stopped now."""
    STOPPED = 2
    OVER = 3


@dataclass
class _Wait:
    """Somebody who waits for others."""

    missing: dict[str, _Stage]
    """How far those have to come that have not."""
    is_until_end: bool
    is_over: threading.Event = field(default_factory=threading.Event)


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
        self._lock = threading.Lock()
        self._waits: dict[str, list[_Wait]] = {}
        """Daemon -> who waits for it to come further: nobody else is woken by that."""
        self._stages = {plan.name: _Stage.WAITING for plan in plans}
        self._stopped = {plan.name for plan in plans if _has(plan.steps, _STOPS)}
        self._followers: dict[str, list[str]] = {}
        """Daemon -> those that are stopped in this pass and were started after it."""
        for name in sorted(self._stopped):
            for other in set(order.get(name, ())):
                self._followers.setdefault(other, []).append(name)
        self._renewed = {plan.name for plan in plans if _has(plan.steps, (ReplaceContainer,))}
        self._started = {plan.name for plan in plans if _has(plan.steps, STARTS)}
        self._is_ended = False
        self._lost: set[str] = set()
        """Whose update could not be put in place, by the update's own fault."""
        self._left: dict[str, str] = {}
        """Whose start or restart is left for later in this pass -> what that waits for."""

    def lose(self, name: str) -> None:
        """Its update is about to be undone, whatever runs of it now."""
        self._lost.add(name)

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
        with self._lock:
            self._is_ended = True
            for wait in itertools.chain(*self._waits.values()):
                if wait.is_until_end:
                    wait.is_over.set()

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
        with self._lock:
            stage = max(stage, self._stages.get(name, stage))
            self._stages[name] = stage
            still = []
            for wait in self._waits.pop(name, ()):
                if wait.missing.get(name, stage) <= stage:
                    wait.missing.pop(name, None)
                else:
                    still.append(wait)
                if not wait.missing:
                    wait.is_over.set()
            if still:
                self._waits[name] = still

    def _await_past(self, needs: Mapping[str, _Stage], *, is_until_end: bool = False) -> None:
        """Returns when each has come so far, or with `is_until_end` when the work ends."""
        with self._lock:
            missing = {name: stage for name, stage in needs.items() if not self._is_at(name, stage)}
            if not missing or (is_until_end and self._is_ended):
                return
            wait = _Wait(missing, is_until_end)
            for name in missing:
                self._waits.setdefault(name, []).append(wait)
        wait.is_over.wait()

    def _is_at(self, name: str, stage: _Stage) -> bool:
        return self._stages.get(name, _Stage.OVER) >= stage

    def _is_past(self, names: Iterable[str], stage: _Stage) -> bool:
        return all(self._is_at(name, stage) for name in names)

    def await_start(self, step: Step, *, insists: bool = False) -> str:
        """Wait until it may be started; for whom it cannot wait any longer, or "".

        One that is to be restarted waits here for those only that are not: in between it is down.
        `insists`: it is started whoever is not ready, and so waits for all that may still be.
        """
        if not isinstance(step, STARTS):
            return ""
        others = self._order.get(step.name, ())
        if isinstance(step, ReplaceContainer):
            others = [name for name in others if name not in self._renewed]
        return self._say(self._await_ready(step.name, others, all if insists else any))

    def before_stop(self, name: str) -> None:
        """Called where nothing stands in the way of its stop any more.

        Its own turn comes when those that it is started after could be stopped, too, and when those
        that are started after it are. Raises LeftError where an update of those is lost already.
        """
        first = self._list_renewed(name) if name in self._renewed else []
        self._leave_where_lost(name, first)
        self._move(name, _Stage.REHEARSED)
        last = self._followers.get(name, ())

        def is_due() -> bool:
            return self._is_past(first, _Stage.REHEARSED) and self._is_past(last, _Stage.STOPPED)

        if is_due():
            return
        needs = dict.fromkeys(first, _Stage.REHEARSED) | dict.fromkeys(last, _Stage.STOPPED)
        with self._pause():
            self._await_past(needs)
        self._leave_where_lost(name, first)

    def before_start(self, name: str) -> str:
        """Called where it is stopped and is to be started anew, once those before it are ready.

        Returns who is not: it is started all the same, as it ran before. Raises LeftError where
        one of those is about to go back: it is to be started after that.
        """
        self._move(name, _Stage.STOPPED)
        late = self._await_ready(name, self._list_renewed(name), all)
        if not self._is_ended and any(self._goes_back(*item) for item in late.items()):
            self._leave(name, self._say(late))
        return self._say(late)

    def _leave_where_lost(self, name: str, others: Iterable[str]) -> None:
        late = {other: Standing(True) for other in others if self._goes_back(other, Standing(True))}
        if late and not self._is_ended:
            self._leave(name, self._say(late))

    def _leave(self, name: str, words: str) -> None:
        self._left[name] = words
        raise LeftError(words)

    def _goes_back(self, name: str, standing: Standing) -> bool:
        """Whether it is another one at the end of this pass than it is now."""
        return name in self._lost or name in self._left or standing.is_lost

    def _say(self, late: Mapping[str, Standing]) -> str:
        return join_words(self._say_one(*item) for item in late.items()) if late else ""

    def _say_one(self, name: str, standing: Standing) -> str:
        if name in self._left:
            return f"{name}, which waits for {self._left[name]}"
        words = standing.words or name
        return f"{words}, whose update fails" if self._goes_back(name, standing) else words

    def _list_renewed(self, name: str) -> list[str]:
        """Those before it that are restarted in this pass, too."""
        return [other for other in self._order.get(name, ()) if other in self._renewed]

    def _await_ready(
        self, name: str, others: Sequence[str], is_enough: Callable[[Iterable[bool]], bool]
    ) -> dict[str, Standing]:
        """Those that are not ready; `is_enough`: how many are in vain where none is waited for."""
        if not others:
            return {}
        if self._is_past(self._list_started(others), _Stage.OVER) and not self._find_late(others):
            return {}
        with self._pause():
            return self._poll(name, others, is_enough)

    def _list_started(self, others: Iterable[str]) -> list[str]:
        return [name for name in others if name in self._started]

    def _poll(
        self, name: str, others: Sequence[str], is_enough: Callable[[Iterable[bool]], bool]
    ) -> dict[str, Standing]:
        started = self._list_started(others)
        self._progress(f"porto-daemon-{name}: waits for {join_words(others)}")
        self._await_past(dict.fromkeys(started, _Stage.OVER), is_until_end=True)
        began = time.monotonic()
        while True:
            late = self._find_late(others)
            elapsed = time.monotonic() - began
            in_vain = (
                item.is_hopeless or elapsed > item.timeout_s or self._goes_back(other, item)
                for other, item in late.items()
            )
            if not late or self._is_ended or is_enough(in_vain):
                return late
            time.sleep(_POLL_S)

    def _find_late(self, others: Collection[str]) -> dict[str, Standing]:
        """Those that are not ready, or are and go back all the same."""
        return {
            name: item
            for name, item in self._look(others).items()
            if not item.is_ready or self._goes_back(name, item)
        }


def _has(steps: Iterable[Step], kinds: tuple[type[Step], ...]) -> bool:
    return any(isinstance(step, kinds) for step in steps)
