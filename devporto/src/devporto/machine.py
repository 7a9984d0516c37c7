"""What a container does: start, stop, pause, die, come back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import posixpath
import shutil
import signal
import time
from typing import Any

from devporto import porto_pb2 as pb
from devporto.containers import ALIVE, Container, Registry, Run, State, Usage
from devporto.kernel import is_stopped, list_descendants, signal_descendants
from devporto.refusal import Refusal, make_bad_state, make_denied, make_invalid
from devporto.runs import Spawner, make_workdir, remove_workdir, rotate_streams, translate_status
from devporto.users import Caller, Credentials
from devporto.waiters import Waiters

_MIN_RESPAWN_S = 0.05
_FREEZE_S = 2.0


class Machine:
    """Changes states and processes. Callers hold the registry's lock where it says so."""

    def __init__(self, registry: Registry, spawner: Spawner, waiters: Waiters) -> None:
        self._registry = registry
        self._spawner = spawner
        self._waiters = waiters
        self._tasks: set[asyncio.Task[None]] = set()

    def set_state(self, container: Container, state: State) -> None:
        if container.state is state:
            return
        container.state = state
        container.touch()
        if state is State.DEAD and container.respawn:
            self._schedule_respawn(container)
        label, value = "", ""
        if container.state in (State.STOPPED, State.DEAD, State.RESPAWNING):
            if container.start_error:
                label, value = "start_error", container.start_error
            elif container.state is not State.STOPPED:
                label, value = "exit_code", str(container.find_exit_code())
        for one in list(container.ancestors())[1:]:
            if one.state is State.META and not one.is_root and not one.has_running_child():
                self._waiters.notify(one)
        self._waiters.notify(container, label, value)

    async def start(self, caller: Caller, container: Container) -> None:
        """Needs the lock. Raises Refusal; the container is stopped then."""
        if container.state is not State.STOPPED:
            raise make_bad_state(f"Cannot start container in state {container.state.value}")
        await self._start_parents(caller, container)
        container.start_error = ""
        try:
            check_start(caller, container)
            self.set_state(container, State.STARTING)
            container.started_at = time.time()
            make_workdir(container)
            await self._execute(container)
        except Refusal as error:
            container.start_error = str(error)
            remove_workdir(container)
            self.set_state(container, State.STOPPED)
            raise

    async def _start_parents(self, caller: Caller, container: Container) -> None:
        parent = container.parent
        if parent is None or parent.state in ALIVE:
            return
        if parent.state is State.PAUSED:
            raise make_bad_state("Parent container is frozen")
        await self.start(caller, parent)

    async def _execute(self, container: Container) -> None:
        """Run the command, or be meta without one. Raises Refusal."""
        if container.is_meta:
            self.set_state(container, State.META)
            return
        run = await self._spawner.start(container)
        container.run = run
        container.usage = Usage()
        self.set_state(container, State.RUNNING)

    async def stop(self, container: Container, timeout_ms: int) -> None:
        """Needs the lock. SIGTERM, then after the timeout SIGKILL; 0 kills at once."""
        if container.state is State.STOPPED:
            return
        if container.parent and container.parent.state is State.PAUSED:
            raise make_bad_state("Parent container is paused")
        deadline = time.monotonic() + timeout_ms / 1000
        for one in container.subtree():
            if one.state is not State.STOPPED:
                await self._terminate(one, deadline)
        for one in container.subtree():
            if one.state is not State.STOPPED:
                self._lay_down(one)

    async def _terminate(self, container: Container, deadline: float) -> None:
        was_paused = container.state is State.PAUSED
        self._cancel_respawn(container)
        self.set_state(container, State.STOPPING)
        run = container.run
        if run is None:
            return
        left = deadline - time.monotonic()
        if left > 0 and not was_paused:
            self._signal(run, signal.SIGTERM)
            await asyncio.wait([run.finished], timeout=left)
        if not run.finished.done():
            self._spawner.end(run)
            await run.finished

    def _lay_down(self, container: Container) -> None:
        """Forget everything of the last run."""
        remove_workdir(container)
        container.run = None
        container.started_at = container.died_at = 0.0
        container.exit_status = 0
        container.usage = Usage()
        container.stdout.offset = container.stderr.offset = 0
        self.set_state(container, State.STOPPED)

    async def destroy(self, container: Container) -> None:
        """Needs the lock."""
        if container.state is not State.STOPPED:
            await self.stop(container, 0)
        for one in container.subtree():
            if one.state is not State.STOPPED:
                await self.stop(one, 0)
            shutil.rmtree(one.workdir, ignore_errors=True)
            self._registry.forget(one)
            self._waiters.notify(one)

    def kill(self, container: Container, sig: int) -> None:
        """Send a signal to the main process only. Raises Refusal."""
        if container.state is not State.RUNNING or container.run is None:
            raise make_bad_state(f"invalid container state={container.state.value}")
        try:
            os.kill(container.run.pid, sig)
        except (OSError, OverflowError) as error:
            raise Refusal(pb.Unknown, f"kill: {error}") from error

    @staticmethod
    def _signal(run: Run, sig: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(run.pid, sig)

    async def pause(self, container: Container) -> None:
        """Stop every process below, in whatever session. Needs the lock. Raises Refusal."""
        if container.state not in ALIVE:
            raise make_bad_state("Container not running")
        for one in container.subtree():
            if one.state in ALIVE:
                if one.run:
                    await self._freeze(one.run)
                self.set_state(one, State.PAUSED)

    @staticmethod
    async def _freeze(run: Run) -> None:
        """Stop all processes, and wait until they are: a freezer would have waited too."""
        deadline = time.monotonic() + _FREEZE_S
        signal_descendants(run.init, signal.SIGSTOP)
        while not all(map(is_stopped, list_descendants(run.init))):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.002)
            signal_descendants(run.init, signal.SIGSTOP)

    def resume(self, container: Container) -> None:
        """Undo `pause`. Raises Refusal."""
        if container.parent and container.parent.state is State.PAUSED:
            raise make_bad_state("Parent container is paused")
        if container.state is not State.PAUSED:
            raise make_bad_state("Container not paused")
        for one in container.subtree():
            if one.state is State.PAUSED:
                if one.run:
                    signal_descendants(one.run.init, signal.SIGCONT)
                self.set_state(one, State.META if one.is_meta else State.RUNNING)

    def on_exit(self, run: Run, message: dict[str, Any]) -> None:
        """Hear that a run is over and nothing of it is left."""
        container = run.owner
        cpu, faults = message.get("cpu", (0, 0)), message.get("faults", (0, 0))
        container.usage = Usage(cpu[0], cpu[1], faults[0], faults[1])
        status = translate_status(message.get("status", signal.SIGKILL))
        self.run_later(self._bury(container, run, status))

    def run_later(self, work: Any) -> None:
        """In the background; the machine keeps hold of the task."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bury(self, container: Container, run: Run, status: int) -> None:
        """Take in that the main process died by itself: all below it dies with it."""
        with contextlib.suppress(Refusal):
            await self._registry.lock(container)
            try:
                if container.run is not run:
                    return
                container.exit_status = status
                for one in container.subtree():
                    if one.state not in (State.STOPPED, State.DEAD):
                        await self._reap(one)
            finally:
                self._registry.unlock(container)

    async def _reap(self, container: Container) -> None:
        self._cancel_respawn(container)
        if container.run and not container.run.finished.done():
            self._spawner.end(container.run)
            await container.run.finished
        # portod keeps the first death until the container is stopped.
        container.died_at = container.died_at or time.time()
        container.run = None
        rotate_streams(container)
        self.set_state(container, State.DEAD)

    def _check_respawn(self, container: Container) -> None:
        parent = container.parent
        if container.state not in (State.DEAD, State.RESPAWNING):
            raise make_bad_state(f"Cannot respawn: container in state={container.state.value}")
        if parent is None or parent.state not in (*ALIVE, State.RESPAWNING):
            raise make_bad_state("Cannot respawn: parent container is not running")
        if 0 <= container.max_respawns <= container.respawn_count:
            raise Refusal(pb.ResourceNotAvailable, "Cannot respawn: reached max_respawns")

    def _schedule_respawn(self, container: Container) -> None:
        with contextlib.suppress(Refusal):
            self._check_respawn(container)
            container.state = State.RESPAWNING
            if container.parent and container.parent.state is not State.RESPAWNING:
                delay_s = max(_MIN_RESPAWN_S, container.respawn_delay_ns / 1e9)
                loop = asyncio.get_running_loop()
                container.respawn_timer = loop.call_later(
                    delay_s, lambda: self.run_later(self._respawn_later(container))
                )

    @staticmethod
    def _cancel_respawn(container: Container) -> None:
        if container.respawn_timer:
            container.respawn_timer.cancel()
            container.respawn_timer = None

    async def _respawn_later(self, container: Container) -> None:
        with contextlib.suppress(Refusal):
            await self._registry.lock(container)
            try:
                await self.respawn(container)
            finally:
                self._registry.unlock(container)

    async def respawn(self, container: Container, caller: Caller | None = None) -> None:
        """Needs the lock. Raises Refusal; the container is dead then."""
        try:
            self._check_respawn(container)
        except Refusal:
            if container.state is State.RESPAWNING:
                self.set_state(container, State.DEAD)
            raise
        self._cancel_respawn(container)
        container.respawn_count += 1
        container.start_error = ""
        try:
            check_start(caller or Caller(), container)
            container.started_at = time.time()
            await self._execute(container)
        except Refusal as error:
            container.start_error = str(error)
            container.died_at = time.time()
            self.set_state(container, State.DEAD)
            raise
        for child in container.children.values():
            if child.state is State.RESPAWNING or child.respawn:
                self._schedule_respawn(child)

    def tend(self) -> list[Container]:
        """Once a second: cut logs; which dead containers have been dead for too long."""
        now = time.time()
        aged = []
        for container in self._registry:
            if container.state is State.RUNNING:
                rotate_streams(container)
            elif container.state is State.DEAD and now >= container.died_at + container.aging_s:
                aged.append(container)
        return aged


_IPC_SYSCTLS = (
    *("fs.mqueue.queues_max", "fs.mqueue.msg_max", "fs.mqueue.msgsize_max"),
    *("fs.mqueue.msg_default", "fs.mqueue.msgsize_default", "kernel.shmmax", "kernel.shmall"),
    *("kernel.shmmni", "kernel.shm_rmid_forced", "kernel.msgmax", "kernel.msgmni"),
    *("kernel.msgmnb", "kernel.sem"),
)


def check_start(caller: Caller, container: Container) -> None:
    """Settle what the mode implies, and accept what is left. Raises Refusal."""
    caller.check_control(container.owner)
    _settle_os_mode(container)
    if container.values.get("net_rx_limit") and not _has_own_net(container):
        raise make_invalid("Net rx limit requires isolated network")
    _check_credentials(caller, container)
    _check_mode(container)
    _check_mounts(container)
    _check_sysctl(container)


def _settle_os_mode(container: Container) -> None:
    if container.mode != "os":
        return
    container.task = Credentials(0, 0, (0,))
    if "command" not in container.touched and not container.command:
        container.command = "/sbin/init"
    container.values.setdefault("cwd", "/")
    for name in ("stdout", "stderr"):
        if f"{name}_path" not in container.touched:
            getattr(container, name).path = "/dev/null"


def _check_credentials(caller: Caller, container: Container) -> None:
    at_root = container.values.get("root", "/") == "/"
    if at_root:
        caller.check_control(container.task)
        if not (caller.is_superuser or container.owner.is_member(container.task.gid)):
            raise make_denied("Cannot control the container's group")
        if container.task.uid == 0 and container.owner.uid != 0:
            raise make_denied("user=root requires chroot")


def _check_mode(container: Container) -> None:
    parent = container.parent
    if parent is None:
        return
    if container.mode == "host" and parent.mode != "host":
        raise make_denied("For virt_mode=host parent must be in the same mode")
    if container.mode == "job" and container.level == 1:
        raise make_invalid("Container in virt_mode=job without parent")
    if parent.mode == "job":
        raise make_invalid("Parent container in virt_mode=job")
    if container.mode == "job" and container.required:
        raise make_invalid("Cannot use cgroups in virt_mode=job")
    if container.mode == "job" and container.is_meta:
        raise make_invalid("Job container without command considered useless")


def _check_mounts(container: Container) -> None:
    values = container.values
    root = values.get("root", "/")
    named = ("bind", "hostname", "resolv_conf", "etc_hosts", "root_readonly")
    if container.mode in ("host", "job"):
        if posixpath.normpath(root) != "/":
            raise make_invalid("Cannot change root in this virt_mode")
        if any(values.get(name) for name in named):
            raise make_invalid("Cannot change mount-namespace in this virt_mode")
    if posixpath.normpath(root) != "/":
        raise Refusal(pb.NotSupported, "a root of its own takes mounts, which dev-portod has not")


def _has_own_net(container: Container) -> bool:
    rows = container.values.get("net", [["inherited"]])
    return bool(rows) and rows[0][0] not in ("inherited", "host")


def _check_sysctl(container: Container) -> None:
    for key in container.values.get("sysctl", {}):
        if key.startswith("net."):
            if not _has_own_net(container):
                raise make_denied(f"Sysctl {key} requires net isolation")
        elif key not in _IPC_SYSCTLS:
            raise make_denied(f"Sysctl {key} is not allowed")
        elif not container.isolate:
            raise make_denied(f"Sysctl {key} requires ipc isolation")
