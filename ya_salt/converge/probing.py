"""Ask daemons whether they are ready, several side by side. Decides nothing.

A command runs in a container inside the daemon's own, so with its limits and its file system. That
container is made once and lies there stopped between two questions: to make it and to destroy it
each time would cost portod more than everything else it does. It is not weak: a weak one would be
gone with each pass. So whoever dies while it runs leaves it running, until the next question or the
end of the daemon: either stops it, with everything that it has started.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ya_salt.converge.drift import base_name
from ya_salt.converge.listening import Listening, ListeningError, find_start, read_clock
from ya_salt.converge.readiness import (
    advance,
    find_restart,
    find_wait,
    is_due,
    is_overdue,
    is_ready,
    is_to_be_asked,
    name_process,
    name_start,
)
from ya_salt.errors import PortoError, describe_bug
from ya_salt.http import Client, Deadline, HttpError, NotSentError, forget_on_close
from ya_salt.life import Life, Probes
from ya_salt.model import NOTIFY_DIR, Answer, Container, DaemonSpec, Observed, Progress, Readiness
from ya_salt.names import PROBE_CONTAINER
from ya_salt.porto.client import PortoClient
from ya_salt.porto.properties import is_secret
from ya_salt.quick_dataclass import replace
from ya_salt.specs.sockets import is_notify
from ya_salt.text import count, printable
from ya_salt.told import Word, judge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

AT_ONCE = 10
"""Questions at a time on a host: a hundred daemons that hang must not cost more than ten."""

ROUND_S = 30.0
"""After this a pass asks no more daemons: those that are left come first in the next."""

_LOOK_S = 0.5
"""How often somebody who waits for a command looks whether the whole is to end."""
_POLL_S = 0.1
_LONG_S = 3600.0
_MAX_BODY_BYTES = 1 << 14
_STDERR = "stderr[:300]"
_SHARED = frozenset({"user", "group", "cwd", "umask", "env", "env_secret"})
"""What the command has in common with the daemon, as far as portod does not see to it."""

_REFUSED = frozenset({"InvalidCommand", "InvalidPath"})
"""portod's words for a command that cannot be run: as good as one that fails."""

_PROCESS = (*("state", "root_pid", "id", "creation_time[raw]", "start_time[raw]", "respawn_count"),)
"""What tells a process: `readiness.name_start`."""

_DEFAULT = Listening(NOTIFY_DIR)

_Verdict = tuple[bool | None, str]
"""(yes, no or None where it could not be asked; in words)"""


class Prober:
    """A context manager: at its end nothing is asked any more, and no command runs on."""

    def __init__(
        self,
        connect: Callable[[], PortoClient],
        now: Callable[[], float],
        listening: Listening = _DEFAULT,
    ) -> None:
        self._connect = connect
        self._now = now
        self._listening = listening
        self._pool: ThreadPoolExecutor | None = None
        self._asked: dict[str, Future[Answer]] = {}
        self._idle: list[PortoClient] = []
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._deadlines: set[Deadline] = set()

    def __enter__(self) -> Prober:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, spec: DaemonSpec, container: Container) -> None:
        """Ask that daemon, unless it is being asked already."""
        if spec.name in self._asked or spec.readiness is None:
            return
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="probe")
        self._asked[spec.name] = self._pool.submit(self._ask, spec, spec.readiness, container)

    def take(self) -> dict[str, Answer]:
        """The answers that have come since the last time, by daemon."""
        names = [name for name, asked in self._asked.items() if asked.done()]
        return {name: self._asked.pop(name).result() for name in names}

    def take_all(
        self, within_s: float = ROUND_S, progress: Progress = lambda _text: None
    ) -> dict[str, Answer]:
        """Wait for the answers; who has not been asked by then is not asked any more.

        What `progress` raises ends the waiting.
        """
        if not self._asked:
            return {}
        from concurrent.futures import wait

        give_up = time.monotonic() + within_s
        while left := wait(self._asked.values(), _LOOK_S).not_done:
            if time.monotonic() >= give_up:
                for asked in left:
                    asked.cancel()
            progress(f"waiting for {count(len(left), 'daemon')} to say whether they are ready")
        for name in [name for name, asked in self._asked.items() if asked.cancelled()]:
            del self._asked[name]
        return self.take()

    @property
    def is_busy(self) -> bool:
        return bool(self._asked)

    def is_asking(self, name: str) -> bool:
        return name in self._asked

    def close(self) -> None:
        self._is_over.set()
        with self._lock:
            deadlines = tuple(self._deadlines)
        for deadline in deadlines:
            deadline.abort()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        for client in self._idle:
            client.close()
        self._idle.clear()

    # -- one question, in a thread of its own ------------------------------------------------------

    def _ask(self, spec: DaemonSpec, readiness: Readiness, container: Container) -> Answer:
        until = 0.0
        try:
            if readiness.notify:
                word = self._listen(spec, readiness, container)
                says, words, until = word.says, word.words, word.until
            else:
                verdict, words = self._ask_one(spec, readiness, container)
                says = {True: "yes", False: "no", None: "unknown"}[verdict]
        except (PortoError, ListeningError) as error:
            says, words = "unknown", str(error)
        except Exception as error:  # noqa: BLE001 - a bug met by one daemon must not stop the others
            says, words = "unknown", describe_bug(error)
        if says == "unknown":
            words = f"it could not be {'heard' if readiness.notify else 'asked'}: {words}"
        start, now = name_start(container), self._now()
        return Answer(start, says, printable(words, 500), now, until)  # type: ignore[arg-type]  # one of its words

    def _listen(self, spec: DaemonSpec, readiness: Readiness, container: Container) -> Word:
        """What it has said itself; `until` is seconds since 1970."""
        with self._borrow() as client:
            found = client.get([spec.name], _PROCESS).get(spec.name, {})
        pid = found.get("root_pid", "")
        started = find_start(int(pid)) if pid.isdecimal() else None
        if found.get("state") != "running" or started is None:
            return Word("unknown", "it does not run any more")
        if name_process(found) != name_start(container):
            return Word("unknown", "it was started anew just now")
        now = read_clock()
        told = self._listening.ask(spec.name, started)
        word = judge(told, started, now, readiness.watchdog_s, spec.ready_deadline_s)
        if word.says == "unknown":
            word = replace(word, words=f"{word.words}; if it works: ya-salt restart {spec.name}")
        return replace(word, until=self._now() + word.until - now if word.until > now else 0.0)

    def _ask_one(self, spec: DaemonSpec, readiness: Readiness, container: Container) -> _Verdict:
        if readiness.exec:
            with self._borrow() as client:
                return _Command(client, spec, readiness, container, self._is_over).ask()
        with self._limit(readiness.timeout_s) as deadline:
            ask = _ask_tcp if readiness.tcp else _ask_http
            return ask(readiness, list_addresses(spec.properties), deadline)

    @contextmanager
    def _limit(self, seconds: float) -> Iterator[Deadline]:
        deadline = Deadline.after(seconds)
        with self._lock:
            self._deadlines.add(deadline)
        try:
            if self._is_over.is_set():
                deadline.abort()
            yield deadline
        finally:
            with self._lock:
                self._deadlines.discard(deadline)

    @contextmanager
    def _borrow(self) -> Iterator[PortoClient]:
        """A connection that nobody else uses meanwhile; used again, as a host has many daemons."""
        with self._lock:
            client = self._idle.pop() if self._idle else None
        client = client or self._connect()
        try:
            yield client
        finally:
            with self._lock:
                self._idle.append(client)


class Rounds:
    """Asks daemons between passes, for a program that lives on. Nothing here waits.

    Not while a pass is under way: that asks them itself.
    """

    def __init__(
        self,
        connect: Callable[[], PortoClient],
        now: Callable[[], float],
        listening: Listening = _DEFAULT,
    ) -> None:
        self._prober = Prober(connect, now, listening)
        self._now = now
        self._asked: dict[str, tuple[DaemonSpec, Container, Life]] = {}
        self._said: set[str] = set()
        self._learnt_at = 0.0

    def learn(self, specs: Sequence[DaemonSpec], after: Observed) -> None:
        """Whom to ask from now on: `after` is how the host was when the last pass ended."""
        self._prober.take()
        self._learnt_at = self._now()
        found = {
            spec.name: (spec, container, after.lives.get(spec.name, Life()))
            for spec in specs
            if (container := after.containers.get(spec.name)) is not None
        }
        self._asked = {name: item for name, item in found.items() if is_to_be_asked(*item)}

    def step(self) -> frozenset[str]:
        """Ask whose time has come; the daemons whose answers make a pass about them worth while."""
        news, now = set(), self._now()
        for name, answer in self._prober.take().items():
            if name not in self._asked:
                continue
            spec, seen, life = self._asked[name]
            container = self._grow(seen, now)
            after = replace(life, probes=advance(spec, container, life.probes, answer, now))
            self._asked[name] = spec, seen, after
            was, is_now = (_weigh(spec, container, item, now) for item in (life, after))
            if was != is_now:
                news.add(name)
        for spec, container, life in self._asked.values():
            has_said = spec.name in self._said and not self._prober.is_asking(spec.name)
            if has_said or is_due(spec, container, life, now):
                self._said.discard(spec.name)
                self._prober.begin(spec, container)
        self._said &= self._asked.keys()
        return frozenset(news)

    def hear(self, names: Iterable[str]) -> None:
        """Those have said something: what it comes to is asked at the next step."""
        self._said.update(names)

    def _grow(self, container: Container, now: float) -> Container:
        """As old as it is by now: whether it is another process its answers say."""
        older_s = max(0, int(now - self._learnt_at))
        return replace(container, running_s=container.running_s + older_s)

    def find_pause(self) -> float:
        """Seconds until `step` may have something to do."""
        if self._prober.is_busy:
            return _POLL_S
        now = self._now()
        return min((find_wait(*item, now) for item in self._asked.values()), default=_LONG_S)

    @property
    def probes(self) -> dict[str, Probes]:
        """What is known by now: for `PassRequest.probes`."""
        found = {name: life.probes for name, (_, _, life) in self._asked.items()}
        return {name: probes for name, probes in found.items() if probes is not None}

    def confirm(self, probed: Mapping[str, Sequence[str]]) -> dict[str, list[Any]] | None:
        """What `as_left.note_asked` is given of these; None where one has not said yes in due time.

        `probed`: daemon -> its process and its last answer, of all who are asked.
        """
        if probed.keys() != self._asked.keys():
            return None
        now, told = self._now(), {}
        for name, (start, answer) in probed.items():
            spec, _, life = self._asked[name]
            probes = life.probes
            if probes is None or (probes.start, probes.answer) != (start, answer):
                return None
            if not probes.is_ready or probes.failures or is_overdue(spec, probes, now):
                return None
            told[name] = [start, probes.asked_at, probes.gap_s]
        return told

    def close(self) -> None:
        self._prober.close()


def _weigh(spec: DaemonSpec, container: Container, life: Life, now: float) -> tuple[bool, ...]:
    """What a pass would tell, or do, otherwise than before."""
    found = is_ready(spec, container, life), bool(find_restart(spec, container, life, now))
    if life.probes is None or not is_notify(spec):
        return found
    # It says itself that something is wrong: that is no chance that may be over in a moment.
    probes = life.probes
    return *found, probes.failures > 0, probes.is_unheard, probes.until > 0


# -- a command -----------------------------------------------------------------------------------


class _Command:
    """One run of the daemon's command in its container for that."""

    def __init__(
        self,
        client: PortoClient,
        spec: DaemonSpec,
        readiness: Readiness,
        container: Container,
        is_over: threading.Event,
    ) -> None:
        self._client = client
        self._spec = spec
        self._timeout_s = readiness.timeout_s
        self._wanted = list_probe_properties(spec, readiness)
        self._container = container
        self._is_over = is_over
        self._name = f"{spec.name}/{PROBE_CONTAINER}"

    def ask(self) -> _Verdict:
        problem = self._prepare()
        if problem:
            return None, problem
        try:
            self._client.start(self._name)
        except PortoError as error:
            return (False if error.code in _REFUSED else None), f"{error.code}: {error.message}"
        try:
            return self._wait()
        finally:
            # Whatever it was: with it goes all that the command has started.
            self._client.stop(self._name, 0)

    def _prepare(self) -> str:
        """Have the container stopped and as it should be; why it is not to be started, or "".

        A child that is started would start a daemon that somebody has just stopped.
        """
        own, name = self._spec.name, self._name
        found = self._client.get([own, name], ["state", "id", "private"])
        daemon, there = found.get(own, {}), found.get(name)
        if daemon.get("state") != "running" or daemon.get("id") != self._container.id:
            return "it does not run any more"
        if there is not None and there.get("private") != _make_mark(self._wanted):
            self._client.destroy(name)
            there = None
        if there is None:
            self._make()
        elif there.get("state") != "stopped":
            # Whoever has started it did not live to stop it.
            self._client.stop(name, 0)
        return ""

    def _make(self) -> None:
        self._client.create(self._name)
        for name, text in self._wanted.items():
            self._client.set_property(self._name, name, text)
        # Last: what is not whole is made anew.
        self._client.set_property(self._name, "private", _make_mark(self._wanted))

    def _wait(self) -> _Verdict:
        deadline, is_over = time.monotonic() + self._timeout_s, False
        while not is_over and (left_s := deadline - time.monotonic()) > 0:
            if self._is_over.is_set():
                return None, "whoever asked was told to end"
            is_over = self._client.wait_dead(self._name, min(left_s, _LOOK_S))
        names = [self._spec.name, self._name]
        found = self._client.get(names, ["state", "exit_code", _STDERR])
        daemon, told = (found.get(name, {}) for name in names)
        if daemon.get("state") != "running":
            # The command died, or was paused, with the daemon.
            return None, "the daemon runs no more"
        if told.get("state") == "running":
            if is_over:
                return None, "somebody else asks it, too"
            return False, f"no answer within {self._timeout_s:g} s, killed"
        return self._judge_end(told)

    @staticmethod
    def _judge_end(told: Mapping[str, str]) -> _Verdict:
        code = told.get("exit_code", "")
        if code == "0":
            return True, "exited with 0"
        if not code:
            return None, "somebody else stopped it"
        said = " ".join(told.get(_STDERR, "").split())
        how = f"was killed by signal {code[1:]}" if code.startswith("-") else f"exited with {code}"
        how = "was killed for using more memory than memory_limit" if code == "-99" else how
        return False, f"{how}: {said}" if said else how


def list_probe_properties(spec: DaemonSpec, readiness: Readiness) -> dict[str, str]:
    """What the container of its command is made from; portod gives it the rest of the daemon's."""
    properties = spec.properties
    shared = {name: text for name, text in properties.items() if base_name(name) in _SHARED}
    mode = {"virt_mode": "host"} if properties.get("virt_mode") == "host" else {}
    return {
        **mode,
        # It sees the daemon's processes, and has its environment.
        "isolate": "false",
        "command_argv": "\t".join(readiness.exec),
        "respawn": "false",
        "stdout_limit": "4096",
        **shared,
    }


def _make_mark(properties: Mapping[str, str]) -> str:
    """Anybody may read it, so of secrets it has the names: they change with the daemon only."""
    shown = {name: "" if is_secret(name) else text for name, text in properties.items()}
    text = json.dumps(shown, sort_keys=True)
    return f"ya-salt probe {hashlib.sha256(text.encode()).hexdigest()[:32]}"


# -- a port --------------------------------------------------------------------------------------


def list_addresses(properties: Mapping[str, str]) -> tuple[str, ...]:
    """Where a daemon's ports are to be found from the host; a spec without such is refused."""
    net = properties.get("net", "inherited").split(" ")[0]
    if net in {"inherited", "host"}:
        return "127.0.0.1", "::1"
    entries = [entry.split(" ") for entry in properties.get("ip", "").split(";") if entry]
    return tuple(words[1].partition("/")[0] for words in entries)


def _ask_tcp(readiness: Readiness, addresses: Iterable[str], deadline: Deadline) -> _Verdict:
    problems = []
    for address in addresses:
        try:
            connected = socket.create_connection((address, readiness.tcp), deadline.require())
        except TimeoutError:
            return False, f"no connection within {readiness.timeout_s:g} s"
        except OSError as error:
            problems.append(error.strerror or str(error))
        else:
            forget_on_close(connected)
            connected.close()
            return True, "it takes connections"
    return False, _say_refused(problems)


def _ask_http(readiness: Readiness, addresses: Iterable[str], deadline: Deadline) -> _Verdict:
    problems = []
    for address in addresses:
        host = f"[{address}]" if ":" in address else address
        url = f"http://{host}:{readiness.http_port}{readiness.http_path}"
        client = Client(max_answer_bytes=_MAX_BODY_BYTES, is_forgetful=True)
        try:
            answer = client.get(url, deadline)
        except NotSentError as error:
            problems.append(str(error))
        except HttpError as error:
            return False, f"no answer: {error}"
        else:
            if answer.status == readiness.http_status:
                return True, f"it answered {answer.status}"
            return False, f"{answer.describe()}".rstrip()
    return False, _say_refused(problems)


def _say_refused(problems: Iterable[str]) -> str:
    """The first is told: where nobody listens on IPv4 the host need not have IPv6."""
    return next(iter(problems), "it has no address")
