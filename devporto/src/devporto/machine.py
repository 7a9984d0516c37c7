"""What a container does: start, stop, pause, die, come back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from typing import Any

from devporto import porto_pb2 as pb
from devporto.containers import ALIVE, Container, Registry, Run, State, Usage
from devporto.kernel import is_stopped, list_descendants, signal_descendants
from devporto.refusal import Refusal, make_bad_state
from devporto.runs import Spawner, make_workdir, remove_workdir, rotate_streams, translate_status
from devporto.starting import check_start, has_mount_namespace
from devporto.symlinks import place_symlink
from devporto.users import Caller
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
            self._prepare(caller, container)
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

    def _prepare(self, caller: Caller, container: Container) -> None:
        """Settle and check what has to be right before there is any process. Raises Refusal."""
        container.task = self._spawner.users.add_groups(container.task)
        check_start(caller, container)
        self._check_network(caller, container)

    def _check_network(self, caller: Caller, container: Container) -> None:
        if container.network.container:
            target = self._registry.find_for(caller, container.network.container)
            self._registry.check_control(caller, target)
            if target.state not in ALIVE:
                raise make_bad_state(f"Cannot share the network of {target.name}: not running")

    async def _execute(self, container: Container) -> None:
        """Run the command, or be meta without one. Raises Refusal."""
        if has_mount_namespace(container):
            for link, target in sorted(container.values.get("symlink", {}).items()):
                # As who started it; on a container that runs, as its user.
                place_symlink(container.find_cwd(), link, target, container.owner)
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
            self._prepare(caller or Caller(), container)
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
