"""Clients that wait for a container to change: `wait` and `AsyncWait`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from devporto import porto_pb2 as pb
from devporto.containers import Container, Registry, State
from devporto.users import Caller
from devporto.values import match_mask

_SETTLED = (State.STOPPED, State.DEAD, State.RESPAWNING)
Send = Callable[[pb.TContainerResponse], None]


@dataclass(eq=False)
class Waiter:
    """One question. A synchronous one is answered once, an asynchronous one until replaced."""

    caller: Caller
    send: Send
    is_async: bool
    names: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    target: str = ""
    timer: asyncio.TimerHandle | None = None

    def key(self) -> tuple[object, ...]:
        return (self.is_async, self.target, self.names, self.masks, self.labels)

    def wants(self, container: Container) -> bool:
        """Tell whether the container is one of ours, in a state worth a report."""
        if not self.is_async and not _is_settled(container):
            return False
        if self.is_async and self.target and self.target != container.state.value:
            return False
        if container.name in self.names:
            return True
        return not container.is_root and any(match_mask(container.name, m) for m in self.masks)

    def wants_label(self, label: str) -> bool:
        # Lower case are start_error and exit_code, which come with a state.
        return not label or label[0].islower() or any(match_mask(label, m) for m in self.labels)

    def report(self, name: str, state: str, label: str = "", value: str = "") -> None:
        answer = pb.TContainerResponse(error=pb.Success)
        wait = answer.AsyncWait if self.is_async else answer.wait
        wait.name, wait.state, wait.when = name, state, int(time.time())
        if label:
            wait.label = label
            if value:
                wait.value = value
        self.send(answer)


def _is_settled(container: Container) -> bool:
    if container.state is State.META:
        return not container.has_running_child()
    return container.state in _SETTLED


class Waiters:
    """The waiters of one server."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._active: list[Waiter] = []

    def add(self, waiter: Waiter, timeout_ms: int) -> None:
        if timeout_ms:
            loop = asyncio.get_running_loop()
            waiter.timer = loop.call_later(timeout_ms / 1000, self._time_out, waiter)
        self._active.append(waiter)

    def remove(self, waiter: Waiter | None) -> None:
        if waiter in self._active:
            self._active.remove(waiter)
        if waiter is not None and waiter.timer:
            waiter.timer.cancel()

    def is_active(self, waiter: Waiter) -> bool:
        return waiter in self._active

    def _time_out(self, waiter: Waiter) -> None:
        if waiter in self._active:
            self._active.remove(waiter)
            waiter.report("", "timeout")

    def notify(self, container: Container, label: str = "", value: str = "") -> None:
        """Tell everybody who waits for this container."""
        for waiter in self._active.copy():
            if not waiter.wants(container) or not waiter.wants_label(label):
                continue
            name = self._registry.compose(waiter.caller, container)
            if name is None:
                continue
            if not waiter.is_async or waiter.target:
                self.remove(waiter)
            waiter.report(name, container.state.value, label, value)
