"""The socket, its connections, the signals, the clock."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import struct
import sys
import tempfile
from collections import deque
from pathlib import Path

from google.protobuf.message import DecodeError

from devporto import porto_pb2 as pb
from devporto.containers import Container, Registry
from devporto.counting import make_room
from devporto.kernel import become_subreaper, kill_descendants, read_parent
from devporto.machine import Machine
from devporto.refusal import Refusal
from devporto.requests import Desk, Queued, answer, finish
from devporto.runs import Spawner
from devporto.users import READ_ONLY, Caller, Credentials, UserBook, find_level
from devporto.waiters import Waiter, Waiters
from devporto.wire import FrameReader, FramingError, encode_frame

_LOG = logging.getLogger(__name__)
_SOCKET_MODE = 0o666
_BACKLOG = 512


def read_peer(sock: socket.socket) -> tuple[int, Credentials]:
    """(pid, uid and gid) of the process at the other end."""
    size = struct.calcsize("3i")
    pid, uid, gid = struct.unpack(
        "3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return pid, Credentials(uid, gid)


def _describe_bug(error: Exception) -> Refusal:
    """Log what should not have happened; the client hears Unknown."""
    _LOG.error("request failed", exc_info=error)
    return Refusal(pb.Unknown, repr(error))


class Connection(asyncio.Protocol):
    """A connected client. A frame that is no request closes the connection, as portod does."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._frames = FrameReader()
        self._waiting: deque[bytes] = deque()
        self._busy = False
        self._transport: asyncio.Transport | None = None
        self.caller = Caller()
        self.weak: list[Container] = []
        self.sync_waiter: Waiter | None = None
        self.async_waiter: Waiter | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a stream server's
        self._transport = transport
        pid, credentials = read_peer(transport.get_extra_info("socket"))
        caller = self._server.identify(pid, credentials)
        if caller is None:
            transport.abort()
            return
        self.caller = caller
        self._server.clients[self] = None

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        self._waiting.clear()
        self._server.forget(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._waiting.extend(self._frames.feed(data))
        except FramingError:
            self.close()
            return
        if self._waiting and self._transport:
            self.work()

    def work(self) -> None:
        """Answer what has arrived, until one request has to wait for something."""
        while self._waiting and not self._busy and self._transport and not self._server.is_burying:
            request = pb.TContainerRequest()
            try:
                request.ParseFromString(self._waiting.popleft())
            except DecodeError:
                self.close()
                return
            if not request.IsInitialized():
                self.close()
                return
            self._handle(request)

    def _handle(self, request: pb.TContainerRequest) -> None:
        out = pb.TContainerResponse()
        self._busy = True
        try:
            later = answer(self._server.desk, self, request, out)
        except Queued:
            return
        except Refusal as error:
            self._complete(out, error)
            return
        except Exception as error:  # noqa: BLE001 - one bad request must not end the others
            self._complete(out, _describe_bug(error))
            return
        if later is None:
            self._complete(out, None)
        else:
            self._server.machine.run_later(self._finish_later(later, out))

    async def _finish_later(
        self, later: asyncio.Future[None] | object, out: pb.TContainerResponse
    ) -> None:
        error = None
        try:
            await later  # type: ignore[misc]
        except Refusal as refusal:
            error = refusal
        except Exception as bug:  # noqa: BLE001 - one bad request must not end the others
            error = _describe_bug(bug)
        self._complete(out, error)
        self.work()

    def _complete(self, out: pb.TContainerResponse, error: Refusal | None) -> None:
        self._busy = False
        self.send(finish(out, error))

    def send(self, out: pb.TContainerResponse) -> None:
        if self._transport:
            self._transport.write(encode_frame(out))

    def answer_wait(self, out: pb.TContainerResponse) -> None:
        """Send the answer to a `wait`, whenever it comes."""
        self._busy = False
        self.send(out)
        asyncio.get_running_loop().call_soon(self.work)

    def replace_waiter(self, waiter: Waiter) -> None:
        """Keep one waiter of each kind; the older one hears nothing more."""
        name = "async_waiter" if waiter.is_async else "sync_waiter"
        self._server.waiters.remove(getattr(self, name))
        setattr(self, name, waiter)

    def close(self) -> None:
        if self._transport:
            # Now, not a turn of the loop later: whoever sees the newest go has lost them all.
            with contextlib.suppress(OSError):
                self._transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            self._transport.abort()


class Server:
    """One dev-portod: everything hangs here and dies with it."""

    def __init__(self, socket_path: str, sysroot: str | None) -> None:
        self._path = socket_path
        self._is_bound = False
        self._burials: set[asyncio.Task[None]] = set()
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
        self.clients: dict[Connection, None] = {}
        """In the order in which they came."""
        self._stopping = asyncio.Event()

    async def serve(self) -> None:
        """Until SIGTERM or SIGINT. Raises OSError where the socket cannot be made."""
        loop = asyncio.get_running_loop()
        # The keeper has been started by now: its processes have what they had.
        make_room()
        self._spawner.listen(self.machine.on_exit)
        # Without a keeper there are no processes to serve.
        self._spawner.on_lost = self._stopping.set
        await self._open()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
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
            lambda: Connection(self), sock=sock, backlog=_BACKLOG
        )

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
        for client in list(self.clients):
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

    def forget(self, client: Connection) -> None:
        """Bury a connection, and its weak containers with it."""
        for container in self._drop(client):
            self.machine.run_later(self._destroy_weak(container))

    def _drop(self, client: Connection) -> list[Container]:
        """Take a connection out of everything; what is to die with it."""
        self.clients.pop(client, None)
        for waiter in (client.sync_waiter, client.async_waiter):
            self.waiters.remove(waiter)
        doomed = [container for container in client.weak if container.weak]
        client.weak.clear()
        return doomed

    def _reload(self) -> None:
        """SIGHUP: look like a portod whose server died and was started again by its master.

        The master keeps the socket, so who connects is served as ever; connections are gone, and
        weak containers with them before anybody is answered again.
        """
        for client in list(self.clients):
            client.close()
            for container in self._drop(client):
                task = asyncio.get_running_loop().create_task(self._destroy_weak(container))
                self._burials.add(task)
                task.add_done_callback(self._resume_answers)

    def _resume_answers(self, task: asyncio.Task[None]) -> None:
        self._burials.discard(task)
        if not self._burials:
            for client in list(self.clients):
                client.work()

    @property
    def is_burying(self) -> bool:
        """Whether what was weak before a reload is still to go."""
        return bool(self._burials)

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
