"""Run apt and dpkg: never a shell, bounded memory, an end to everything that hangs.

Maintainer scripts are found below apt, and ended with everything that they started.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from ya_salt.errors import PackageError
from ya_salt.quick_dataclass import dataclass
from ya_salt.text import escape

_MAX_LINES = 2000
_MAX_LINE = 1000
_TICK_S = 0.5
_REMIND_S = 10.0
_QUIET_S = 1.0


@dataclass(frozen=True)
class Finished:
    """A command that ended. `lines` are its last ones, stdout and stderr together.

    `hung` are the maintainer scripts that were ended for taking too long, `went_quiet` says that
    the whole command was, for saying nothing at all.
    """

    code: int
    lines: tuple[str, ...]
    hung: tuple[Script, ...] = ()
    went_quiet: bool = False


@dataclass(frozen=True)
class Limits:
    """How long a maintainer script, silence, and dpkg after we were told to stop may take."""

    script_s: float
    quiet_s: float
    stop_s: float = 0


class Worker(Protocol):
    """A command at work, whoever its parent is; the leader of a session of its own."""

    outlives_us: bool
    """Whether it goes on, and its result can be had, when this process ends."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None:
        """Its exit code, minus a signal's number; None while it is at work."""

    def pause(self, seconds: float) -> None:
        """Wait at most so long for it to say something, or to end."""

    def read(self) -> bytes:
        """More of what it has said: b"" where nobody can say more. Raises BlockingIOError."""

    def close(self) -> None:
        """When it has ended: keep nothing of it."""


class _Child:
    outlives_us = False

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        try:
            # Its own session: a Ctrl-C meant for us does not stop dpkg half-way through a file.
            self._process = subprocess.Popen(
                argv,
                env=dict(environment),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o022,
            )
        except FileNotFoundError as error:
            raise missing(argv[0]) from error
        assert self._process.stdout is not None  # noqa: S101 - asked for in Popen
        self._pipe = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.poll()

    def pause(self, seconds: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            selector.select(seconds)

    def read(self) -> bytes:
        return os.read(self._pipe, 65536)

    def close(self) -> None:
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def start_child(argv: Sequence[str], environment: Mapping[str, str]) -> Worker:
    """As a child of this process. Raises PackageError (AptMissing)."""
    return _Child(argv, environment)


def run_short(
    argv: Sequence[str], environment: Mapping[str, str], timeout_s: float = 120, cwd: str = "/"
) -> Finished:
    """For commands that only read. Raises PackageError (AptMissing, AptFailed)."""
    try:
        done = subprocess.run(
            argv,
            env=dict(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise missing(argv[0]) from error
    except subprocess.TimeoutExpired as error:
        raise PackageError(
            "AptFailed", f"{argv[0]} gave no answer in {timeout_s:.0f} s: is a disk hanging?"
        ) from error
    return Finished(done.returncode, tuple(done.stdout.decode(errors="replace").splitlines()))


def has_tool(name: str, path: str) -> bool:
    """Whether a program of that name is in one of the folders of a PATH."""
    files = (Path(folder, name) for folder in path.split(":"))
    return any(os.access(file, os.X_OK) and file.is_file() for file in files)


def missing(tool: str) -> PackageError:
    return PackageError(
        "AptMissing",
        f"{tool} is not on this host: ya-salt installs Debian packages and needs apt and dpkg",
    )


def follow(
    worker: Worker,
    on_line: Callable[[str], None],
    limits: Limits,
    on_wait: Callable[[str], None] = lambda _text: None,
    on_quiet: Callable[[str], None] = lambda _text: None,
) -> Finished:
    """Until it ends; `on_line` gets every line as it comes.

    While it says nothing, `on_quiet` is told each second what is at work.

    A maintainer script that is too old is ended with everything it started, and dpkg goes on; a
    command that says nothing for too long is ended as a whole, and so is one that we leave by an
    exception, such as that of a signal: but dpkg, once it has begun to change something, first has
    a time to end it, and `on_wait` is told what for. A second exception in that time ends it at
    once. One that outlives us goes on.
    """
    run = _Run(worker, on_line, limits, on_quiet)
    try:
        return run.follow()
    except BaseException:
        run.let_end(on_wait)
        raise
    finally:
        run.close()


def _silenced(on_line: Callable[[str], None]) -> Callable[[str], None]:
    """What failed once may fail again; signals still come through."""

    def tell(line: str) -> None:
        with contextlib.suppress(Exception):
            on_line(line)

    return tell


class _Run:
    def __init__(
        self,
        process: Worker,
        on_line: Callable[[str], None],
        limits: Limits,
        on_quiet: Callable[[str], None],
    ) -> None:
        self._process = process
        self._on_line = on_line
        self._on_quiet = on_quiet
        self._is_left = False
        self._limits = limits
        self._lines: deque[str] = deque(maxlen=_MAX_LINES)
        self._rest = b""
        self._first_seen: dict[Process, float] = {}
        self._hung: list[Script] = []
        self._looked = 0.0
        self._has_begun = False
        """Whether dpkg was heard to change something."""

    def follow(self) -> Finished:
        """Until the command itself ends: a daemon it left behind may keep the pipe open."""
        heard = told = time.monotonic()
        went_quiet = False
        while (code := self._process.poll()) is None:
            if self._wait_and_read():
                heard = told = time.monotonic()
            if time.monotonic() - told >= _QUIET_S:
                told = time.monotonic()
                self._on_quiet(f"{self._describe_work()}: at work for {told - heard:.0f} s")
            if time.monotonic() - heard > self._limits.quiet_s and not went_quiet:
                went_quiet = True
                self._end_everything()
        self._read()
        self._take(b"\n")
        return Finished(code, tuple(self._lines), tuple(self._hung), went_quiet)

    def let_end(self, on_wait: Callable[[str], None]) -> None:
        """Wait until dpkg has ended what it began. A download or a plan is not waited for."""
        self._on_line, on_wait = _silenced(self._on_line), _silenced(on_wait)
        if not (self._has_begun or is_dpkg_at_work(read_processes(), self._process.pid)):
            return
        if self._process.outlives_us:
            self._is_left = True
            on_wait(
                f"told to stop: {self._describe_work()} goes on, the next pass takes its result"
            )
            return
        told, told_at = "", 0.0
        until = time.monotonic() + self._limits.stop_s
        while self._process.poll() is None and (left := until - time.monotonic()) > 0:
            what = self._describe_work()
            if what != told or time.monotonic() - told_at >= _REMIND_S:
                on_wait(f"told to stop: waiting up to {left:.0f} s for {what} to end")
                told, told_at = what, time.monotonic()
            self._wait_and_read()
        if self._process.poll() is None:
            on_wait(f"told to stop {self._limits.stop_s:.0f} s ago: ending {self._describe_work()}")

    def _describe_work(self) -> str:
        scripts = find_scripts(read_processes(), self._process.pid)
        found = [describe_script(script) for script in scripts]
        return ", ".join(f"{s.script} of {s.package or 'a package'}" for s in found) or "dpkg"

    def close(self) -> None:
        if self._is_left:
            return
        if self._process.poll() is None:
            self._end_everything()
        self._process.close()

    def _wait_and_read(self) -> bool:
        """One turn of waiting; True if something was said."""
        self._process.pause(self._tick_s())
        heard = self._read()
        self._end_old_scripts()
        return heard

    def _tick_s(self) -> float:
        return min(_TICK_S, self._limits.script_s / 4)

    def _read(self) -> bool:
        """Take what is there; False at the end or when there was nothing."""
        got = False
        try:
            while chunk := self._process.read():
                got = True
                self._take(chunk)
        except BlockingIOError:
            return got
        time.sleep(0.02)  # The pipe is closed: select() would return at once, again and again.
        return got

    def _take(self, chunk: bytes) -> None:
        *lines, rest = (self._rest + chunk).replace(b"\r", b"\n").split(b"\n")
        self._rest = rest[:_MAX_LINE]
        for line in lines:
            # What a script says goes into logs and onto terminals.
            text = escape(line[:_MAX_LINE].decode(errors="replace").expandtabs(1).rstrip())
            if text:
                self._lines.append(text)
                self._has_begun |= bool(re.match(_STEP, text) or re.match(_BEGUN, text))
                self._on_line(text)

    def _end_old_scripts(self) -> None:
        now = time.monotonic()
        if now - self._looked < self._tick_s():
            return
        self._looked = now
        processes = read_processes()
        scripts = find_scripts(processes, self._process.pid)
        self._first_seen = {p: self._first_seen.get(p, now) for p in scripts}
        for script, since in self._first_seen.items():
            if now - since > self._limits.script_s:
                self._hung.append(describe_script(script))
                end_all(partial(self._find_family, script))

    def _end_everything(self) -> None:
        end_all(self._find_all, grace_s=5.0)

    def _find_family(self, script: Process) -> set[int]:
        return find_family(read_processes(), script, self._process.pid)

    def _find_all(self) -> set[int]:
        processes = read_processes()
        mine = {p.pid for p in processes.values() if p.session == self._process.pid}
        return find_tree(processes, self._process.pid) | mine


# -- what apt says, in our words ---------------------------------------------------------------

# Compiled where they are used: a pass that asks dpkg-query does not.
_STEP = (
    r"(?P<step>Unpacking|Setting up|Removing|Purging configuration files for) (?P<what>.+?) ?\.*$"
)
_BEGUN = r"\(Reading database|Preparing to unpack|Processing triggers"
# `Get:1 URI SUITE [ARCH] NAME [ARCH] VERSION [SIZE]`; the architecture is there or not, twice.
_FETCH = (
    r"Get:\d+ \S+ \S+(?: \S+)?? (?P<name>[a-z0-9][a-z0-9+.-]*)(?: \S+)? "
    r"(?P<version>\S+)(?: (?P<size>\[[^\]]+\]))?$"
)


def describe_line(line: str) -> str:
    """Say it in our words, short, or "" for what nobody needs to see."""
    if match := re.match(_STEP, line):
        return f"{match['step'].lower()} {match['what']}"
    if match := re.match(_FETCH, line):
        return f"fetching {match['name']} {match['version']} {match['size'] or ''}".rstrip()
    return ""


# -- processes below dpkg -----------------------------------------------------------------------

# What dpkg starts itself besides maintainer scripts; a fork that has not yet become one is "dpkg".
_DPKG_HELPERS = frozenset({"dpkg", "dpkg-deb", "dpkg-split", "rm", "tar", "dpkg-query"})
_ROUNDS = 5
_SCRIPT = r"(?:/info/(?P<name>[^/\s]+)\.|/tmp\.ci/)(?P<script>p\w+)\b"
# dpkg at work, unlike one that only answers a question of apt.
_ACTIONS = frozenset(
    {"--unpack", "--install", "--configure", "--remove", "--purge", "--triggers-only"}
)


@dataclass(frozen=True)
class Process:
    """One line of /proc/PID/stat (proc(5)); `started` tells two users of one pid apart."""

    pid: int
    name: str
    parent: int
    session: int
    started: int


@dataclass(frozen=True)
class Script:
    """A maintainer script at work. `package` is NAME or NAME:ARCH, "" where nothing tells."""

    process: Process
    package: str
    script: str


def read_processes() -> dict[int, Process]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):  # It ended while we looked.
                process = parse_stat((entry / "stat").read_text(errors="replace"))
                found[process.pid] = process
    return found


def parse_stat(text: str) -> Process:
    """Read one stat line; a name may hold spaces and brackets: the last bracket ends it."""
    head, _, tail = text.rpartition(")")
    pid, _, name = head.partition("(")
    words = tail.split()
    return Process(int(pid), name, int(words[1]), int(words[3]), int(words[19]))


def find_tree(processes: Mapping[int, Process], top: int) -> set[int]:
    """`top` and everything below it."""
    tree = {top}
    while more := {p.pid for p in processes.values() if p.parent in tree and p.pid not in tree}:
        tree |= more
    return tree


def find_scripts(processes: Mapping[int, Process], top: int) -> list[Process]:
    """Find what dpkg, at or below `top`, has started other than its own helpers."""
    tree = find_tree(processes, top)
    masters = {pid for pid in tree if pid in processes and processes[pid].name == "dpkg"}
    return [
        process
        for process in processes.values()
        if process.parent in masters and process.name not in _DPKG_HELPERS
    ]


def find_family(processes: Mapping[int, Process], script: Process, session: int) -> set[int]:
    """Find a script, everything below it, and what it left behind in its session.

    An orphan that is older than the script belongs to another one, which ended well.
    """
    orphans = {
        p.pid
        for p in processes.values()
        if p.session == session and p.pid != session and p.started >= script.started
        if p.parent not in processes or processes[p.parent].session != session
    }
    return find_tree(processes, script.pid) | orphans


def describe_script(process: Process) -> Script:
    """Which package and script it is: dpkg tells the script itself, its command line else."""
    told = dict(entry.partition("=")[::2] for entry in _read_proc(process.pid, "environ"))
    match = re.search(_SCRIPT, " ".join(_read_proc(process.pid, "cmdline")))
    package = told.get("DPKG_MAINTSCRIPT_PACKAGE", "")
    if package and (architecture := told.get("DPKG_MAINTSCRIPT_ARCH", "")):
        package = f"{package}:{architecture}"
    script = told.get("DPKG_MAINTSCRIPT_NAME") or (match["script"] if match else process.name)
    return Script(process, package or (match and match["name"]) or "", script)


def _read_proc(pid: int, what: str) -> list[str]:
    """The words of a process's command line, or the entries of its environment."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{what}").read_bytes().decode(errors="replace").split("\0")
    return []


def is_dpkg_at_work(processes: Mapping[int, Process], top: int) -> bool:
    """Whether dpkg, at or below `top`, is changing something."""
    tree = find_tree(processes, top)
    masters = (pid for pid in tree if pid in processes and processes[pid].name == "dpkg")
    return any(not _ACTIONS.isdisjoint(_read_proc(pid, "cmdline")) for pid in masters)


def end_all(find: Callable[[], Collection[int]], grace_s: float = 2.0) -> None:
    """End what `find` finds until nothing of it is alive: a script may start more meanwhile."""
    for _ in range(_ROUNDS):
        if not (left := list(_living(find()))):
            return
        end_processes(left, grace_s)


def end_processes(pids: Collection[int], grace_s: float = 2.0) -> None:
    """SIGTERM, a short time to go, SIGKILL."""
    _send(pids, signal.SIGTERM)
    until = time.monotonic() + grace_s
    while (left := list(_living(pids))) and time.monotonic() < until:
        time.sleep(0.05)
    _send(left, signal.SIGKILL)


def _send(pids: Collection[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _living(pids: Collection[int]) -> Iterator[int]:
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2][1] != "Z":
                yield pid
