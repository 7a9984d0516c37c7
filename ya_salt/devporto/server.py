"""The socket, the signals, the clock."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

from ya_salt.devporto.client import Client
from ya_salt.devporto.container import Container
from ya_salt.devporto.desk import Desk
from ya_salt.devporto.machine import Machine
from ya_salt.devporto.refusal import Refusal
from ya_salt.devporto.registry import Registry
from ya_salt.devporto.spawning import Spawner
from ya_salt.devporto.syscalls import become_subreaper
from ya_salt.devporto.tree import kill_descendants, read_parent
from ya_salt.devporto.users import READ_ONLY, Caller, Credentials, UserBook, find_level
from ya_salt.devporto.waiters import Waiters

_REOPEN_S = 0.2
_SETTLE_S = 0.05
_SOCKET_MODE = 0o666
_BACKLOG = 512


class Server:
    """One dev-portod: everything hangs here and dies with it."""

    def __init__(self, socket_path: str, sysroot: str | None) -> None:
        self._path = socket_path
        self._is_bound = False
        self._is_reopening = False
        self._listener: asyncio.Server | None = None
        self._users = UserBook(sysroot)
        self._scratch = tempfile.mkdtemp(prefix="devporto-")
        # Commands run as other users and have to reach their directories below.
        Path(self._scratch).chmod(0o711)
        self.registry = Registry(self._scratch)
        self._spawner = Spawner(self._users, self._scratch, sysroot)
        self.waiters = Waiters(self.registry)
        self.machine = Machine(self.registry, self._spawner, self.waiters)
        self.desk = Desk(self.registry, self.machine, self.waiters, self._users, self._spawner.pid)
        self.clients: set[Client] = set()
        self._stopping = asyncio.Event()

    async def serve(self) -> None:
        """Until SIGTERM or SIGINT. Raises OSError where the socket cannot be made."""
        loop = asyncio.get_running_loop()
        self._spawner.listen(self.machine.on_exit)
        # Without a keeper there are no processes to serve.
        self._spawner.on_lost = self._stopping.set
        await self._open()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self.machine.run_later(self._reopen()))
        self.machine.run_later(self._tick())
        announce(self._path)
        await self._stopping.wait()

    async def _open(self) -> None:
        _remove_dead_socket(self._path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(self._path)
        except OSError:
            sock.close()
            raise
        self._is_bound = True
        Path(self._path).chmod(_SOCKET_MODE)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_unix_server(
            lambda: Client(self), sock=sock, backlog=_BACKLOG
        )

    async def _reopen(self) -> None:
        """SIGHUP: look like a portod that restarts. Containers stay, weak ones go."""
        if self._is_reopening:
            return
        self._is_reopening = True
        try:
            self._remove_socket()
            # Whoever was accepted a moment ago is no client yet; asyncio would neither serve nor
            # drop a connection whose server is closed in between.
            await asyncio.sleep(_SETTLE_S)
            self._close_socket()
            await asyncio.sleep(_REOPEN_S)
            if not self._stopping.is_set():
                await self._open()
        finally:
            self._is_reopening = False

    def _remove_socket(self) -> None:
        """Nobody else can come from here on."""
        if self._is_bound:
            self._is_bound = False
            Path(self._path).unlink(missing_ok=True)

    def _close_socket(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._remove_socket()
        for client in self.clients.copy():
            client.close()

    def close(self) -> None:
        """End every process; nothing of this server is left afterwards."""
        self._close_socket()
        self._spawner.close()
        while kill_descendants(os.getpid()):
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
        shutil.rmtree(self._scratch, ignore_errors=True)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._users.forget()
            for container in self.machine.tend():
                await self._destroy(container)

    def identify(self, pid: int, credentials: Credentials) -> Caller | None:
        """Who connects; None for somebody whose container may not talk to portod."""
        container = self._find_container(pid)
        access = [one.values.get("enable_porto", "true") for one in container.ancestors()]
        if "false" in access:
            return None
        if not container.is_root:
            credentials = container.owner
        credentials = self._users.add_groups(credentials)
        rank = find_level(credentials)
        if any(level.startswith("read") for level in access):
            rank = READ_ONLY
        namespace = self.registry.find_namespace(container)
        return Caller(pid, credentials, rank, container.name, namespace)

    def _find_container(self, pid: int) -> Container:
        """Find the container whose init is above `pid`, else the root."""
        inits = {one.run.init: one for one in self.registry if one.run}
        while pid > 1 and inits:
            if pid in inits:
                return inits[pid]
            pid = read_parent(pid)
        return self.registry.root

    def forget(self, client: Client) -> None:
        """Bury a connection, and its weak containers with it."""
        self.clients.discard(client)
        for waiter in (client.sync_waiter, client.async_waiter):
            self.waiters.remove(waiter)
        for container in client.weak:
            if container.weak:
                self.machine.run_later(self._destroy_weak(container))

    async def _destroy_weak(self, container: Container) -> None:
        await self._destroy(container, only_weak=True)

    async def _destroy(self, container: Container, *, only_weak: bool = False) -> None:
        with contextlib.suppress(Refusal):
            await self.registry.lock(container)
            try:
                if container.weak or not only_weak:
                    await self.machine.destroy(container)
            finally:
                self.registry.unlock(container)


def _remove_dead_socket(path: str) -> None:
    """Clear away what a killed server left; a living one keeps its socket."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()


def announce(path: str) -> None:
    """Say that clients may come, and what this is not."""
    who = "" if os.geteuid() == 0 else " Not root: every command runs as the user of this server."
    sys.stderr.write(
        f"dev-portod: listening on {path}. NOT A SECURITY BOUNDARY: no namespaces, no limits, "
        f"for development and tests only.{who}\n"
    )
    sys.stderr.flush()


async def serve(socket_path: str, sysroot: str | None) -> None:
    """Serve until a signal ends it; leaves no process behind."""
    become_subreaper()
    server = Server(socket_path, sysroot)
    try:
        await server.serve()
    finally:
        server.close()
