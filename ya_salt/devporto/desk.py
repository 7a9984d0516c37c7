"""What the answering functions share: the server's parts, and how to hold one container still."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ya_salt.devporto.container import Container
from ya_salt.devporto.machine import Machine
from ya_salt.devporto.processes import Census
from ya_salt.devporto.property import Question
from ya_salt.devporto.registry import Registry
from ya_salt.devporto.users import Caller, UserBook
from ya_salt.devporto.waiters import Waiters

if TYPE_CHECKING:
    from ya_salt.devporto.client import Client


class Queued(Exception):  # noqa: N818 - no error: somebody answers later
    """The answer comes from a waiter."""


@dataclass(frozen=True)
class Desk:
    """Where requests are answered."""

    registry: Registry
    machine: Machine
    waiters: Waiters
    users: UserBook
    keeper_pid: int

    def ask(self, caller: Caller, containers: list[Container] | None = None) -> Question:
        chosen = list(self.registry) if containers is None else containers
        inits = [
            one.run.init
            for container in chosen
            for one in ([container] if not container.children else container.subtree())
            if one.run
        ]
        return Question(caller, self.registry, self.users, Census(inits), self.keeper_pid)

    async def change(
        self, client: Client, name: str, work: Callable[[Container], Awaitable[None]]
    ) -> None:
        """Do `work` on a container nobody else is changing."""
        container = self.registry.find_writable(client.caller, name)
        await self.registry.lock(container)
        try:
            await work(container)
        finally:
            self.registry.unlock(container)
