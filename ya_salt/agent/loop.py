"""`ya-salt run`: make a pass when something has changed, and once every interval.

One thread hears (files, containers, signals) and decides when; another makes the pass. What wakes
the agent only says when to look: what is done depends on what the pass then finds.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import random
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ya_salt import __version__
from ya_salt.agent import itself
from ya_salt.agent.daemons_directory import PATIENCE_S, DaemonsDirectory
from ya_salt.agent.draining import Draining
from ya_salt.agent.repeats import Repeats
from ya_salt.agent.service_manager import ServiceManager
from ya_salt.agent.watching import Change, Target, Watcher
from ya_salt.agent.wishes import Wishes, describe
from ya_salt.as_left import is_any_other
from ya_salt.converge import quick
from ya_salt.converge.host import Host, PassRequest, PassResult, make_host
from ya_salt.converge.probing import Rounds
from ya_salt.converge.run import run_pass
from ya_salt.errors import LockHeldError, PortoError, SettingsError, StoreError, YaSaltError
from ya_salt.model import DaemonSpec, InstallPackages, Loaded, PurgePackages, Settings
from ya_salt.packages.locks import find_holder
from ya_salt.packages.unit import find_obstacle
from ya_salt.porto.listener import StateChange, StateListener
from ya_salt.quick_dataclass import dataclass, field, replace
from ya_salt.specs.files import why_ignored
from ya_salt.trusted_files import explain, make_directory

WHO = "agent"
_DAEMON = "porto-daemon-"
"""Begins what a pass says of a daemon."""
_LOCK = "agent.lock"

_SCAN_S = 1.0
_DUE = "a rest or a hold is over, or a signal due"
_LOCK_RETRY_S = 1.0
_CONNECT_S = (0.2, 5.0)
"""The first and the longest pause before portod is asked for events again."""
_REST_S = 1.0
"""A pass is followed by a rest as long as it was at work, but no longer than this."""
_LOOK_AGAIN_S = 2.0
_SETTLE_S = 1.0
"""What is no spec file and stays for so long is told."""
_HOUSEKEEPING_S = 30.0

_log = logging.getLogger("ya_salt.agent")


class StoppedError(BaseException):
    """Told to end: raised between two steps of a pass, and no failure of any of them."""


@dataclass(frozen=True)
class Surroundings:
    """What the agent is given by whoever starts it."""

    read_settings: Callable[[], Settings]
    """Raises SettingsError."""
    settings_file: str
    source: Mapping[str, Any]
    """What the settings are made of, as the quick way has it."""
    manager: ServiceManager
    repeats: Repeats
    take_settings: Callable[[Settings], None] = lambda _settings: None
    """Told of the settings in force, first and after each change."""


@dataclass
class _Pass:
    """A pass that is being made, or was."""

    told: frozenset[str] = frozenset()
    """Entries of the daemons directory that it is made for: somebody told that they changed."""
    thread: threading.Thread | None = None
    is_over: bool = False
    is_told: bool = False
    """Whether it was told to end: once, as a second time would end dpkg at once."""
    worked_s: float = 0.0
    """Processor time of its thread: waiting is no work."""
    error: BaseException | None = None
    result: PassResult | None = None
    """None also of a quick one: everything is as the one before has left it."""
    specs: tuple[DaemonSpec, ...] = ()
    again_in_s: float | None = None
    states: dict[str, str] = field(default_factory=dict)
    """Container -> the last state that portod told of meanwhile."""
    respawned: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    """Daemons that the pass has begun to work on."""
    paths: frozenset[str] = frozenset()
    """All that lies in the daemons directory."""
    is_hurried: bool = False
    """Whether something has happened that the next pass is wanted for."""
    has_package_news: bool = False
    """Whether dpkg's status file changed meanwhile."""


def run(surroundings: Surroundings) -> None:
    """Until SIGTERM or SIGINT. Raises LockHeldError where there is an agent already."""
    settings = surroundings.read_settings()
    with contextlib.ExitStack() as stack:
        agent = Agent(surroundings, settings)
        stack.callback(agent.close)
        agent.run()


@contextlib.contextmanager
def _hold_agent_lock(state_dir: str) -> Iterator[None]:
    """One agent a host. On a disk that takes no file at all the lock of each pass has to do."""
    path = Path(state_dir) / _LOCK
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        make_directory(state_dir, 0o700)
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        _log.warning("agent: %s cannot be written: %s", path, explain(error))
        yield
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            who = os.pread(fd, 32, 0).decode(errors="replace").strip()
            raise LockHeldError(
                f"an agent is running already (pid {who if who.isdecimal() else 'unknown'} holds "
                f"{path}); it makes the passes of this host"
            ) from error
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


class Agent:
    """The loop, and what it hears with."""

    def __init__(self, surroundings: Surroundings, settings: Settings) -> None:
        self._around = surroundings
        self._settings = settings
        self._lock = contextlib.ExitStack()
        self._lock.enter_context(_hold_agent_lock(settings.state_dir))
        self._host = self._make_host(settings)
        self._directory = DaemonsDirectory(settings.specs_dir)
        self._watcher = Watcher()
        self._listener = StateListener(settings.porto_socket)
        self._rounds = Rounds(self._host.connect, self._host.now, self._host.listening)
        self._drainer = Draining(settings.notify_dir)
        self._said: set[str] = set()
        """Daemons that have said something of themselves, which nobody has looked at yet."""
        self._wishes = Wishes()
        self._snapshots = quick.Reader()
        self._pass: _Pass | None = None
        self._known: frozenset[str] = frozenset()
        """Daemons: only what becomes of them is news."""
        self._writing: dict[str, float] = {}
        """Spec files that are open for writing, and since when."""
        self._files: dict[str, str] = {}
        """Why there is to be a pass, where that is a file -> its path."""
        self._paths: frozenset[str] = frozenset()
        """What lay in the daemons directory when it was read last."""
        self._specs: tuple[DaemonSpec, ...] = ()
        self._unready: dict[str, float] = {}
        """Daemons that no pass has waited for to its end, and until when they may take."""
        self._beats = 0
        """Grows with every step forward of a pass."""
        self._beats_told = -1
        self._is_stopping = False
        self._is_reloading = False
        self._has_looked = False
        """Whether a pass has looked at the host that these settings are about."""
        self._full_at = 0.0
        self._not_before = 0.0
        self._connect_at = 0.0
        self._connect_pause_s = _CONNECT_S[0]
        self._scan_at = 0.0
        self._tidy_at = 0.0
        self._trouble_told = ""
        self._signature: itself.Signature = {}
        self._ears, self._mouth = socket.socketpair()
        for end in (self._ears, self._mouth):
            end.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._ears, selectors.EVENT_READ)
        self._heard: dict[str, int] = {}
        """The descriptors that the selector waits on, by whose they are."""

    def close(self) -> None:
        self._rounds.close()
        self._drainer.close()
        self._selector.close()
        self._watcher.close()
        self._listener.close()
        self._ears.close()
        self._mouth.close()
        self._lock.close()

    # -- the loop ------------------------------------------------------------------------------

    def run(self) -> None:
        self._around.take_settings(self._settings)
        signal.set_wakeup_fd(self._mouth.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_reload)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        self._watch()
        self._connect(time.monotonic())
        self._signature = itself.sign_files()
        _log.info(
            "agent: started version=%s pid=%d, a pass each %d s and when something changes",
            __version__,
            os.getpid(),
            self._settings.interval_s,
        )
        if obstacle := find_obstacle():
            _log.warning("agent: whoever kills the agent ends apt with it: %s", obstacle)
        self._around.manager.tell("READY=1", "STATUS=the first pass is being made")
        try:
            while not (self._is_stopping and self._pass is None):
                self._turn()
        finally:
            signal.set_wakeup_fd(-1)
        self._around.manager.tell("STOPPING=1")
        _log.info("agent: ended, as it was told to; the daemons live on")

    def _turn(self) -> None:
        """Wait until something comes or is due, and see to it."""
        self._register()
        timeout_s = self._find_pause(time.monotonic())
        if self._selector.select(timeout_s):
            with contextlib.suppress(BlockingIOError):
                while self._ears.recv(4096):
                    pass
        now = time.monotonic()
        self._hear(now)
        if self._pass is not None and self._has_ended(self._pass):
            self._settle(self._pass, time.monotonic())
        if self._is_reloading and self._pass is None:
            self._is_reloading = False
            self._reload(now)
        self._keep_house(now)
        self._feed_watchdog()
        if self._pass is None and not self._is_stopping:
            self._ask(time.monotonic())
            self._begin_if_due(time.monotonic())
        elif self._pass is not None:
            # What was put off until later does not hurry it.
            burst = self._wishes.find_burst_end()
            self._pass.is_hurried |= burst is not None and now >= burst

    def _ask(self, now: float) -> None:
        """Ask daemons whether they are ready; what changes by their answers is for a pass."""
        self._rounds.hear(self._said)
        self._said.clear()
        for name in sorted(self._rounds.step()):
            self._wishes.add_paced(f"porto-daemon-{name}: what its readiness probe says", now)

    def _find_pause(self, now: float) -> float:
        times = [self._tidy_at, now + self._drainer.find_pause(now)]
        burst = self._wishes.find_burst_end()
        if self._pass is None:
            due = self._wishes.find_due()
            if due is not None:
                times.append(max(due, self._not_before))
            times.append(self._full_at)
            times.append(now + self._rounds.find_pause())
        elif burst is not None and not self._pass.is_hurried:
            times.append(burst)
        if not self._listener.is_open:
            times.append(self._connect_at)
        if self._watcher.must_scan:
            times.append(self._scan_at)
        if self._around.manager.watchdog_s:
            times.append(now + self._around.manager.watchdog_s / 4)
        return max(0.0, min(times) - now)

    def _register(self) -> None:
        """Wait on what is open now: both ears may close and open again."""
        for name, fd in (
            ("files", self._watcher.fileno()),
            ("portod", self._listener.fileno()),
            ("drainer", self._drainer.fileno()),
        ):
            old = self._heard.get(name, -1)
            if old != fd:
                if old >= 0:
                    # Its number may have been given to the new one.
                    with contextlib.suppress(KeyError, ValueError, OSError):
                        self._selector.unregister(old)
                if fd >= 0:
                    self._selector.register(fd, selectors.EVENT_READ)
                self._heard[name] = fd

    def _on_stop(self, _number: int, _frame: object) -> None:
        self._is_stopping = True

    def _on_reload(self, _number: int, _frame: object) -> None:
        self._is_reloading = True

    # -- hearing -------------------------------------------------------------------------------

    def _hear(self, now: float) -> None:
        changes = self._watcher.read()
        if self._watcher.must_scan and now >= self._scan_at:
            changes += self._watcher.scan()
            self._scan_at = now + _SCAN_S
        for change in changes:
            self._take_change(change, now)
        for state in self._listener.read():
            self._take_state(state, now)
        self._connect(now)
        news = self._drainer.step(now)
        self._said |= news.names
        if news.is_lost:
            self._drop_ear("drainer")

    def _drop_ear(self, name: str) -> None:
        """A descriptor that was closed is in the selector's books still."""
        fd = self._heard.pop(name, -1)
        with contextlib.suppress(KeyError, ValueError, OSError):
            self._selector.unregister(fd)

    def _take_change(self, change: Change, now: float) -> None:
        name = Path(change.path).name or change.source
        match change.source:
            case "specs":
                self._take_spec_change(change, name, now)
            case "settings" if not change.is_unfinished:
                self._is_reloading = True
            case "packages":
                if self._pass is not None:
                    self._pass.has_package_news = True
                elif not change.is_unfinished:
                    self._wishes.add_paced("dpkg's status file changed", now)
            case "watched" if not change.is_unfinished:
                self._wishes.add(f"{change.path or 'a watched file'} changed", now)
            case "portod" if not change.is_unfinished:
                self._connect_at = now
                self._wishes.add_paced("portod's socket changed", now)

    def _take_spec_change(self, change: Change, name: str, now: float) -> None:
        waits, reason = _name_wait(name), f"{name} changed"
        if change.path and why_ignored(name):
            self._take_ignored(change, reason, now)
            return
        if change.is_unfinished:
            if change.path not in self._writing:
                self._writing[change.path] = now
                self._wishes.add_later(waits, now + PATIENCE_S)
            return
        if change.path:
            self._writing.pop(change.path, None)
            self._wishes.drop_later(waits)
            self._files[reason] = change.path
        self._wishes.add(reason, now)

    def _take_ignored(self, change: Change, reason: str, now: float) -> None:
        """No pass reads it: only that it stays, or has gone, is told. An editor's is soon gone."""
        is_there = os.path.lexists(change.path)
        if is_there == (change.path in self._paths):
            self._wishes.drop_later(reason)
            return
        self._files[reason] = change.path
        if not is_there:
            self._wishes.add(reason, now)
        elif not change.is_unfinished:
            self._wishes.add_later(reason, now + _SETTLE_S)

    def _forget_gone(self) -> None:
        """Nobody writes to what is gone: that it went is another change, or a look at all."""
        for path in [path for path in self._writing if not os.path.lexists(path)]:
            del self._writing[path]
            self._wishes.drop_later(_name_wait(Path(path).name))

    def _is_passing(self, reason: str) -> bool:
        """Whether it is about a file that came and is gone, as an editor's."""
        path = self._files.get(reason, "")
        return bool(path) and path not in self._paths and not os.path.lexists(path)

    def _take_state(self, change: StateChange, now: float) -> None:
        if self._pass is not None:
            # Whose it is is known when the pass is over.
            self._note_state(self._pass, change)
            if change.name in self._known and change.name not in self._pass.begun:
                self._pass.is_hurried = True
        elif change.name in self._known:
            self._wishes.add_paced(f"porto-daemon-{change.name}: {change.state}", now)

    def _note_state(self, making: _Pass, change: StateChange) -> None:
        making.states[change.name] = change.state
        if change.state == "respawning":
            making.respawned.add(change.name)

    def _connect(self, now: float) -> None:
        if self._listener.is_open:
            return
        if self._heard.get("portod", -1) >= 0:
            # Before another descriptor gets its number.
            self._drop_ear("portod")
            _log.warning("agent: portod has gone: %s", self._listener.trouble)
        if now < self._connect_at:
            return
        was_lost = bool(self._listener.trouble)
        if self._listener.open():
            self._connect_pause_s = _CONNECT_S[0]
            if was_lost:
                _log.info("agent: portod is back")
                self._wishes.add_paced("portod is back", now)
            return
        self._connect_at = now + self._connect_pause_s
        self._connect_pause_s = min(2 * self._connect_pause_s, _CONNECT_S[1])

    # -- passes --------------------------------------------------------------------------------

    def _begin_if_due(self, now: float) -> None:
        self._forget_gone()
        self._wishes.ripen(now)
        if now < self._full_at and not (now >= self._not_before and self._is_wanted(now)):
            return
        reasons = [one for one in self._wishes.take() if not self._is_passing(one)]
        making = _Pass(frozenset(self._files.values()))
        self._files.clear()
        if reasons:
            _log.info("agent: a pass, as %s", describe(reasons))
        unfinished = frozenset(self._writing)
        making.thread = threading.Thread(
            target=self._make_pass, args=(making, unfinished), name="pass", daemon=True
        )
        self._pass = making
        self._full_at = now + self._find_interval()
        making.thread.start()

    def _is_wanted(self, now: float) -> bool:
        due = self._wishes.find_due()
        return now >= self._full_at or (due is not None and now >= due)

    def _find_interval(self) -> float:
        """The hosts of a fleet do not all ask the gate in the same second."""
        return self._settings.interval_s * random.uniform(0.9, 1.1)  # noqa: S311 - no secret

    def _make_pass(self, making: _Pass, unfinished: frozenset[str]) -> None:
        """In a thread of its own."""
        try:
            source, settings = self._around.source, self._settings
            if (
                self._has_looked
                and not unfinished
                and quick.make_quick_pass(
                    settings.state_dir,
                    source,
                    self._snapshots,
                    # What another's pass has found, its daemons and their files, was not learnt.
                    suits=lambda data: data["who"] == WHO and not is_any_other(data, making.told),
                    confirm=self._rounds.confirm,
                )
            ):
                return
            glimpse = quick.take_glimpse(settings, source)
            reading = self._directory.read(unfinished, glimpse)
            making.specs, making.again_in_s = reading.loaded.specs, reading.again_in_s
            making.paths = frozenset(_list_paths(reading.loaded))
            if self._drainer.is_wanted_by(making.specs):
                self._wake()
                self._drainer.have()
            request = PassRequest(
                reading.loaded.specs,
                reading.loaded,
                who=WHO,
                asks_all=False,
                probes=self._rounds.probes,
                glimpse=glimpse if reading.again_in_s is None else None,
                is_full=not self._has_looked,
            )
            making.result = run_pass(self._host, request)
        except BaseException as error:  # noqa: BLE001 - told by the loop, whatever it is
            making.error = error
        finally:
            making.worked_s = time.thread_time()
            making.is_over = True
            self._wake()

    def _wake(self) -> None:
        """Have the loop turn, from another thread."""
        with contextlib.suppress(OSError):
            self._mouth.send(b"\0")

    def _make_host(self, settings: Settings) -> Host:
        return replace(make_host(settings, self._on_progress), is_hurried=self._is_hurried)

    def _is_hurried(self) -> bool:
        return self._pass is not None and self._pass.is_hurried

    def _on_progress(self, text: str) -> None:
        """Called by a pass between its steps, by any of its threads."""
        self._beats += 1
        making = self._pass
        if making is not None and text.startswith(_DAEMON):
            making.begun.add(text[len(_DAEMON) :].partition(":")[0])
        if self._is_stopping and making is not None and not making.is_told:
            making.is_told = True
            raise StoppedError

    def _has_ended(self, making: _Pass) -> bool:
        return making.thread is not None and (making.is_over or not making.thread.is_alive())

    def _settle(self, made: _Pass, now: float) -> None:
        """Remember what the pass has found, and see what it could not have seen."""
        assert made.thread is not None  # noqa: S101 - it has run
        made.thread.join()
        self._pass = None
        self._beats += 1
        self._not_before = now + min(made.worked_s, _REST_S)
        if made.error is not None:
            self._tell_error(made.error, now)
        result = made.result
        if result is not None:
            self._has_looked = True
            self._specs, self._paths = made.specs, made.paths
            self._rounds.learn(result.targets, result.after)
            self._known = frozenset(status.name for status in result.statuses) | {
                spec.name for spec in made.specs
            }
            for problem in result.problems:
                _log.error("agent: %s", problem)
            self._wishes.drop_later(_DUE)
            if result.due_at is not None:
                self._wishes.add_later(_DUE, now + max(0.0, result.due_at - self._host.now()))
            self._wait_on(made, result, now)
            if made.again_in_s is not None:
                self._wishes.add_later("a file was not whole yet", now + made.again_in_s)
        self._take_news(made, now)
        self._tell_manager(made)
        if result is not None or made.error is not None:
            if self._watch():
                self._wishes.add("more is watched now, which may have changed before", now)
            # A quick pass loads nothing more.
            self._signature = itself.sign_files(self._signature)
        self._renew_itself(now)

    def _wait_on(self, made: _Pass, result: PassResult, now: float) -> None:
        """What a hurried pass did not wait for the next ones look at, until it is over."""
        if made.is_hurried:
            timeouts = {spec.name: spec.ready_timeout_s for spec in made.specs}
            for name in result.touched & timeouts.keys():
                self._unready[name] = now + timeouts[name]
        ready = {item.name for item in result.statuses if item.ready and item.ready.status}
        self._unready = {
            name: until
            for name, until in self._unready.items()
            if name not in ready and until > now
        }
        if self._unready:
            self._wishes.add_later("not all daemons are ready yet", now + _LOOK_AGAIN_S)

    def _take_news(self, made: _Pass, now: float) -> None:
        """What happened during the pass, but for what it did itself, is worth another one."""
        result = made.result
        for change in self._listener.read():
            self._note_state(made, change)
        seen = {status.name: status.state for status in result.statuses} if result else {}
        touched = result.touched if result else frozenset()
        for name in made.states.keys() & self._known:
            state = made.states[name]
            is_own = name in touched and name not in made.respawned and state == seen.get(name)
            if not is_own:
                self._wishes.add_paced(f"porto-daemon-{name}: {state}", now)
        if made.has_package_news and not (result and _has_used_apt(result)):
            self._wishes.add_paced("dpkg's status file changed", now)

    def _tell_error(self, error: BaseException, now: float) -> None:
        if isinstance(error, LockHeldError):
            _log.info("agent: %s", error)
            self._wishes.add_later("another pass was running", now + _LOCK_RETRY_S)
        elif isinstance(error, PortoError):
            # The pass has said so itself.
            pass
        elif isinstance(error, YaSaltError):
            for line in str(error).splitlines():
                _log.error("agent: no pass: %s", line)
        elif not isinstance(error, StoppedError):
            _log.error("agent: a pass failed: a bug in ya-salt", exc_info=error)

    def _tell_manager(self, made: _Pass) -> None:
        if made.result is not None:
            count = len(made.result.statuses)
            word = "ok" if made.result.ok else "not all is well: ya-salt status"
            daemons = "1 daemon" if count == 1 else f"{count} daemons"
            self._around.manager.tell(f"STATUS={daemons}, last pass: {word}")
        elif made.error is not None:
            first = (str(made.error).splitlines() or [type(made.error).__name__])[0]
            self._around.manager.tell(f"STATUS=no pass: {first[:200]}")

    def _feed_watchdog(self) -> None:
        """A pass that gets no further, or a loop that does not turn, is not fed."""
        if self._around.manager.watchdog_s and (
            self._pass is None or self._beats != self._beats_told
        ):
            self._beats_told = self._beats
            self._around.manager.tell("WATCHDOG=1")

    # -- everything else -----------------------------------------------------------------------

    def _watch(self) -> bool:
        """Whether something may have changed before it was watched."""
        unheard = self._watcher.watch(self._list_targets())
        if self._watcher.trouble and not self._trouble_told:
            _log.warning("agent: %s", self._watcher.trouble)
        elif self._trouble_told and not self._watcher.trouble:
            _log.info("agent: inotify tells of changes again")
        self._trouble_told = self._watcher.trouble
        return bool(unheard)

    def _list_targets(self) -> Iterator[Target]:
        place = self._host.apt.place
        yield Target("specs", self._settings.specs_dir, is_directory=True)
        yield Target("settings", os.path.abspath(self._around.settings_file))  # noqa: PTH100 - as settings do
        yield Target("packages", str(place.status_file))
        yield Target("portod", self._settings.porto_socket)
        for path in sorted(set(_list_watched(self._specs, place.admin_dir))):
            yield Target("watched", path)

    def _keep_house(self, now: float) -> None:
        if now < self._tidy_at:
            return
        self._tidy_at = now + _HOUSEKEEPING_S
        for line in self._around.repeats.take_over():
            _log.warning("%s", line)
        self._writing = {
            path: since for path, since in self._writing.items() if now - since < PATIENCE_S
        }

    def _reload(self, now: float) -> None:
        self._around.manager.tell_reloading()
        try:
            settings = self._around.read_settings()
            if settings != self._settings:
                self._take_settings(settings)
                self._wishes.add("the settings changed", now)
                _log.info("agent: the settings were read anew")
        except (SettingsError, StoreError, LockHeldError) as error:
            for line in str(error).splitlines():
                _log.error("agent: the settings stay as they were: %s", line)
        self._around.manager.tell("READY=1")

    def _take_settings(self, settings: Settings) -> None:
        """Raises LockHeldError where the new state directory has an agent."""
        if settings.state_dir != self._settings.state_dir:
            lock = contextlib.ExitStack()
            lock.enter_context(_hold_agent_lock(settings.state_dir))
            self._lock.close()
            self._lock = lock
        if settings.porto_socket != self._settings.porto_socket:
            self._drop_ear("portod")
            self._listener.close()
            self._listener = StateListener(settings.porto_socket)
            self._connect_at = 0.0
        if settings.notify_dir != self._settings.notify_dir:
            self._drop_ear("drainer")
            self._drainer.close()
            self._drainer = Draining(settings.notify_dir)
        if settings.specs_dir != self._settings.specs_dir:
            self._directory = DaemonsDirectory(settings.specs_dir)
        self._settings = settings
        self._has_looked = False
        self._host = self._make_host(settings)
        self._rounds.close()
        self._rounds = Rounds(self._host.connect, self._host.now, self._host.listening)
        self._around.take_settings(settings)
        self._full_at = 0.0
        self._watch()

    def _renew_itself(self, now: float) -> None:
        """Go on as the ya-salt that is installed now, where that is another one."""
        if self._is_stopping:
            return
        if not itself.is_changed(self._signature):
            return
        if find_holder(self._host.apt.place.transaction_locks):
            # Half of it may be the old one still; and its package may restart this service.
            self._wishes.add_later("ya-salt is being upgraded", now + _LOCK_RETRY_S)
            return
        problem = itself.find_problem()
        if problem:
            _log.error("agent: ya-salt was upgraded and the new one does not start: %s", problem)
            return
        _log.info("agent: ya-salt was upgraded: going on as the new one")
        self._rounds.close()
        itself.execute_anew()


def _name_wait(name: str) -> str:
    return f"{name} is still being written"


def _list_paths(loaded: Loaded) -> Iterator[str]:
    yield from (spec.path for spec in loaded.specs)
    yield from (one.path for one in loaded.rejected)
    yield from (one.path for one in loaded.ignored)


def _has_used_apt(result: PassResult) -> bool:
    return any(
        isinstance(item.step, InstallPackages | PurgePackages)
        for outcome in result.outcomes.values()
        for item in outcome.results
    )


def _list_watched(specs: Iterable[DaemonSpec], admin_dir: Path) -> Iterator[str]:
    """The files whose change the specs want to be acted on."""
    for spec in specs:
        for watch in spec.watch:
            if watch.path:
                yield watch.path
            else:
                for package in spec.packages:
                    yield from _list_conffiles(admin_dir, package.name)


def _list_conffiles(admin_dir: Path, package: str) -> Iterator[str]:
    """Of an installed package; dpkg names the list with the architecture where it has several."""
    for path in (admin_dir / "info").glob(f"{package}*.conffiles"):
        if path.stem.partition(":")[0] == package.partition(":")[0]:
            with contextlib.suppress(OSError):
                yield from (line for line in path.read_text().splitlines() if line[:1] == "/")
