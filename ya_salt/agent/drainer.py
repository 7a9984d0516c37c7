"""Read what daemons say by sd_notify(3), in a process that does nothing else; keep the last of it.

A socket that nobody reads freezes whoever writes to it. So whoever reads must never wait: not for
portod, not for a disk, not for the agent. It asks nobody anything but the kernel, keeps one state
of fixed size for each daemon, and tells who connects to `control`. Killed, it takes its sockets
along, and senders are refused at once; its files tell the next one what was said.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import json
import os
import resource
import selectors
import signal
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ya_salt import __version__
from ya_salt.names import check_daemon_name
from ya_salt.quick_dataclass import dataclass, field, replace
from ya_salt.told import (
    MAX_BYTES,
    Told,
    decode,
    drop_before,
    encode,
    find_deadline,
    is_news,
    is_worth_keeping,
    note_missed,
    parse_message,
    take,
)
from ya_salt.trusted_files import explain, find_peer_problem, make_directory

LINGER_S = 60.0
"""How long it goes on without an agent, which may be on its way back."""

_BUFFER_BYTES = 8 << 20
_AT_ONCE = 64
"""Messages of one daemon in a row: another one's are not to wait for a flood."""
_AT_END = 1024
"""More than lie in a socket, even where systemd has made its queue longer: 512 then."""
_SAVE_S = 0.1
"""A daemon's file is written no more often."""
_NEWS_S = 0.2
"""The agent is told of a daemon no more often."""
_MAX_FDS = 253
"""What one message can bring along (SCM_MAX_FD)."""
_MAX_UIDS = 16
_MAX_REQUEST = 1 << 16
_COMPLAIN_S = 60.0
_MAX_COMPLAINTS = 20
_LATE_S = 1.0
"""Later than this the machine slept, or we were stopped: no daemon's fault."""
_ANCESTORS = 32
_MAX_NAMES = 500
_MAX_LOGS = 20

_CREDENTIALS = struct.Struct("3i")
CGROUPS = ("/sys/fs/cgroup/freezer/porto", "/sys/fs/cgroup/unified/porto", "/sys/fs/cgroup/porto")
"""Where portod keeps the processes of its containers."""


def read_clock() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


# -- who said it ---------------------------------------------------------------------------------


def find_container(cgroup: str) -> str:
    """The container that a process is in, by /proc/PID/cgroup; "" where that is none."""
    for line in cgroup.splitlines():
        _, controllers, path = ([*line.split(":", 2), "", ""])[:3]
        if controllers in {"", "freezer"} and path.startswith("/porto/"):
            return path.removeprefix("/porto/")
    return ""


@dataclass
class Members:
    """Whom to believe that he speaks for a daemon."""

    name: str
    uid: int | None = None
    """As whom the daemon runs, where that is known."""
    base: str = ""
    """The container that portod is asked from: names may be below it. "" for none."""
    seen: set[int] = field(default_factory=set)
    """Other users of processes that were found to be its."""

    def find_problem(self, pid: int, uid: int) -> str:
        """Why a message of this process is not the daemon's, or ""."""
        cgroup = read_process(pid, "cgroup")
        container = find_container(cgroup)
        names = self._list_names()
        if any(_is_at(container, name) for name in names):
            pass
        elif container and container != self.base:
            return f"it is a process of container {container}"
        elif cgroup and any(Path(place, name).is_dir() for place in CGROUPS for name in names):
            return "it is outside of its container"
        elif cgroup and not self._is_descendant(pid):
            return "it is no process of its container"
        elif not cgroup and uid != self.uid and uid not in self.seen:
            # Its number may be another's by now: what is left is the user, and the socket.
            return "it has ended already, and is of another user"
        if cgroup and len(self.seen) < _MAX_UIDS:
            self.seen.add(uid)
        return ""

    def _list_names(self) -> tuple[str, ...]:
        return (self.name, f"{self.base}/{self.name}") if self.base else (self.name,)

    def _is_descendant(self, pid: int) -> bool:
        """Of a portod without control groups (dev-portod): it or one before it says so."""
        for _ in range(_ANCESTORS):
            variables = read_process(pid, "environ").split("\0")
            told = [one.partition("=")[2] for one in variables if one.startswith("PORTO_NAME=")]
            if any(_is_at(container, self.name) for container in told):
                return True
            words = read_process(pid, "stat").rpartition(")")[2].split()
            pid = int(words[1]) if len(words) > 1 else 0
            if pid <= 1:
                break
        return False


def _is_at(container: str, name: str) -> bool:
    return container == name or container.startswith(f"{name}/")


def read_process(pid: int | str, file: str) -> str:
    """A file of /proc/PID; "" where there is no such process, or it may not be read."""
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes().decode(errors="replace")
    except OSError:
        return ""


# -- one daemon ----------------------------------------------------------------------------------


@dataclass
class _Line:
    """The socket of one daemon, and what came over it."""

    name: str
    socket: socket.socket
    place: tuple[int, int] | None
    """Which file it is: somebody may take it away."""
    members: Members
    told: Told
    watchdog_s: float = 0.0
    is_saved: bool = True
    saved_at: float = 0.0
    has_news: bool = False
    news_at: float = 0.0
    complained: dict[str, float] = field(default_factory=dict)


def _open_socket(path: str) -> socket.socket:
    """Bound in the place of whatever was there. Raises OSError."""
    found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        found.setblocking(False)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        force = getattr(socket, "SO_RCVBUFFORCE", 33)
        for option in (socket.SO_RCVBUF, force):
            with contextlib.suppress(OSError):
                found.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        # Never is there no file: a daemon that speaks just now is refused, or heard.
        draft = Path(path).with_name("new")
        draft.unlink(missing_ok=True)
        # Any user of the daemon's may speak: the umask leaves it 0666.
        found.bind(str(draft))
        draft.replace(path)
    except OSError:
        found.close()
        raise
    return found


@dataclass(frozen=True)
class _Message:
    data: bytes
    pid: int
    uid: int
    is_cut: bool


def _receive(source: socket.socket, look: Callable[[int, int], str]) -> tuple[_Message, str]:
    """One message and what `look` says of its sender. Raises BlockingIOError where there is none.

    What it brought along is closed only after that: sd_notify's barrier waits for it, and so keeps
    a short-lived sender alive until we have looked.
    """
    room = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(_MAX_FDS * 4)
    data, extras, flags, _ = source.recvmsg(MAX_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    pid, uid, fds = 0, -1, array.array("i")
    try:
        for level, kind, content in extras:
            if level != socket.SOL_SOCKET:
                continue
            if kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
            elif kind == socket.SCM_CREDENTIALS:
                pid, uid, _ = _CREDENTIALS.unpack(content[: _CREDENTIALS.size])
        problem = look(pid, uid) if pid > 0 else "nobody knows who sent it"
    finally:
        for fd in fds:
            with contextlib.suppress(OSError):
                os.close(fd)
    return _Message(data, pid, uid, bool(flags & socket.MSG_TRUNC)), problem


# -- who asks ------------------------------------------------------------------------------------


@dataclass
class _Peer:
    """Somebody at `control`."""

    socket: socket.socket
    is_agent: bool = False
    news: set[str] = field(default_factory=set)
    logs: list[str] = field(default_factory=list)


class Drainer:
    """Everything; `folder` is the setting `notify_dir`."""

    def __init__(self, folder: str, linger_s: float = LINGER_S) -> None:
        self._sockets = Path(folder, "daemons")
        self._own = Path(folder, "drainer")
        self._linger_s = linger_s
        self._lines: dict[str, _Line] = {}
        self._peers: list[_Peer] = []
        self._selector = selectors.DefaultSelector()
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._base = find_container(read_process("self", "cgroup"))
        self._is_over = False
        self._alone_since = self._awake_since = read_clock()

    def run(self) -> None:
        """Until nobody has wanted it for a while. Raises OSError."""
        for path, mode in ((self._sockets, 0o755), (self._own, 0o700)):
            make_directory(str(path), mode)
        lock = os.open(self._own / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        # Daemons that were told where to speak go on doing so, whoever looks after them.
        for entry in sorted(self._sockets.iterdir()):
            with contextlib.suppress(OSError):
                self._serve(entry.name, {})
        control = self._open_control()
        self._selector.register(control, selectors.EVENT_READ, control)
        place, looked_at = _identify(self._own / "control"), read_clock()
        while not self._is_over:
            self._turn()
            if read_clock() - looked_at >= 1.0:
                looked_at = read_clock()
                # Cleared away by somebody, nobody would find us.
                self._is_over |= _identify(self._own / "control") != place
        for line in self._lines.values():
            # What lies there unread goes with its socket.
            self._drain(line, _AT_END)
            self._save(line)

    def end(self) -> None:
        """From a handler of a signal, too."""
        self._is_over = True

    def _open_control(self) -> socket.socket:
        path = self._own / "control"
        found = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        found.setblocking(False)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        found.bind(str(path))
        found.listen(64)
        return found

    # -- the loop ------------------------------------------------------------------------------

    def _turn(self) -> None:
        pause_s = self._find_pause(read_clock())
        due = read_clock() + pause_s
        ready = self._selector.select(pause_s)
        now = read_clock()
        if now - due > _LATE_S:
            self._awake_since = now
        for key, _ in ready:
            if isinstance(key.data, _Line):
                self._drain(key.data)
            elif isinstance(key.data, _Peer):
                self._talk(key.data)
            else:
                self._accept(key.data)
        now = read_clock()
        for line in self._lines.values():
            self._look_after(line, now)
        for peer in list(self._peers):
            self._flush(peer)
        if any(peer.is_agent for peer in self._peers):
            self._alone_since = now
        elif now - self._alone_since > self._linger_s:
            self._is_over = True

    def _find_pause(self, now: float) -> float:
        times = [now + 1.0]
        for line in self._lines.values():
            deadline = find_deadline(line.told, line.watchdog_s, self._awake_since)
            if deadline:
                times.append(deadline)
            if not line.is_saved:
                times.append(line.saved_at + _SAVE_S)
            if line.has_news:
                times.append(line.news_at + _NEWS_S)
        return max(0.0, min(times) - now)

    def _look_after(self, line: _Line, now: float) -> None:
        if self._is_late(line, now):
            # What lies there unread is a sign of life still.
            self._drain(line)
            if self._is_late(line, now):
                self._note(line, note_missed(line.told))
        if not line.is_saved and now - line.saved_at >= _SAVE_S:
            self._save(line)
        if line.has_news and now - line.news_at >= _NEWS_S:
            line.has_news, line.news_at = False, now
            for peer in self._peers:
                if peer.is_agent:
                    peer.news.add(line.name)

    def _is_late(self, line: _Line, now: float) -> bool:
        deadline = find_deadline(line.told, line.watchdog_s, self._awake_since)
        return bool(deadline) and now >= deadline

    def _drain(self, line: _Line, most: int = _AT_ONCE) -> None:
        for _ in range(most):
            try:
                message, problem = _receive(line.socket, line.members.find_problem)
            except OSError:
                # Nothing left; or no memory for what it brings along: the next turn tries again.
                break
            if message.is_cut:
                problem = problem or f"it has more than {MAX_BYTES} bytes"
            if problem:
                self._complain(line, message, problem)
            else:
                self._note(line, take(line.told, parse_message(message.data), read_clock()))

    @staticmethod
    def _note(line: _Line, told: Told) -> None:
        line.has_news |= is_news(line.told, told)
        line.is_saved &= not is_worth_keeping(line.told, told)
        line.told = told

    def _complain(self, line: _Line, message: _Message, problem: str) -> None:
        now = read_clock()
        if now - line.complained.get(problem, -_COMPLAIN_S) < _COMPLAIN_S:
            return
        if len(line.complained) >= _MAX_COMPLAINTS:
            line.complained.clear()
        line.complained[problem] = now
        who = f"pid {message.pid}, uid {message.uid}"
        words = f"a message to its socket is not taken: {problem} ({who})"
        for peer in self._peers:
            if peer.is_agent and len(peer.logs) < 100:
                peer.logs.append(f"porto-daemon-{line.name}: {words}")

    # -- what is kept --------------------------------------------------------------------------

    def _serve(self, name: str, wanted: Mapping[str, Any]) -> None:
        """Have a socket for the daemon. Raises OSError."""
        line = self._lines.get(name)
        path = self._sockets / name / "socket"
        if line is not None and _identify(path) != line.place:
            # Somebody has taken it away.
            self._drop(name)
            line = None
        if line is None:
            make_directory(str(path.parent), 0o755)
            _check_folder(path.parent)
            kept = self._load(name)
            told = replace(kept.get("told", Told()), listened_since=read_clock())
            members = Members(name, kept.get("uid"), self._base)
            opened = _open_socket(str(path))
            watchdog_s = kept.get("watchdog_s", 0.0)
            line = _Line(name, opened, _identify(path), members, told, watchdog_s)
            self._lines[name] = line
            self._selector.register(line.socket, selectors.EVENT_READ, line)
            line.is_saved = False
        if wanted:
            uid, watchdog_s = wanted["uid"], float(wanted["watchdog_s"])
            if (uid, watchdog_s) != (line.members.uid, line.watchdog_s):
                line.members.uid, line.watchdog_s, line.is_saved = uid, watchdog_s, False

    def _drop(self, name: str) -> None:
        line = self._lines.pop(name, None)
        if line is not None:
            self._selector.unregister(line.socket)
            line.socket.close()

    def _forget(self, name: str) -> None:
        self._drop(name)
        for path in (self._sockets / name / "socket", self._own / f"{name}.json"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (self._sockets / name).rmdir()

    def _load(self, name: str) -> dict[str, Any]:
        """What the one before us has kept, in this boot."""
        try:
            data = json.loads((self._own / f"{name}.json").read_bytes())
            if data["boot"] != self._boot:
                return {}
            uid, watchdog_s = data["uid"], float(data["watchdog_s"])
            is_known = uid is None or isinstance(uid, int)
            return {
                "uid": uid if is_known else None,
                "watchdog_s": watchdog_s,
                "told": decode(data["told"]),
            }
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            return {}

    def _save(self, line: _Line) -> None:
        """A disk that takes nothing is no reason to stop: it is tried again."""
        line.saved_at = read_clock()
        data = {
            "boot": self._boot,
            "uid": line.members.uid,
            "watchdog_s": line.watchdog_s,
            "told": encode(line.told),
        }
        path = self._own / f"{line.name}.json"
        draft = self._own / f"{line.name}.json.new"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(draft, flags, 0o600), "w") as file:
                json.dump(data, file)
            draft.replace(path)
            line.is_saved = True
        except OSError:
            line.is_saved = False

    # -- who asks ------------------------------------------------------------------------------

    def _accept(self, control: socket.socket) -> None:
        try:
            connection, _ = control.accept()
        except OSError:
            return
        connection.setblocking(False)
        if find_peer_problem(connection):
            connection.close()
            return
        peer = _Peer(connection)
        self._peers.append(peer)
        self._selector.register(connection, selectors.EVENT_READ, peer)

    def _talk(self, peer: _Peer) -> None:
        try:
            data = peer.socket.recv(_MAX_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._part(peer)
            return
        try:
            answer = self._answer(peer, json.loads(data))
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            answer = {"problem": f"not understood: {error!r}"}
        self._send(peer, answer)

    def _answer(self, peer: _Peer, request: Mapping[str, Any]) -> dict[str, Any]:
        has_agent = any(one.is_agent for one in self._peers)
        match request["do"]:
            case "agent":
                peer.is_agent = True
                # What it has not heard of while it was away.
                peer.news |= self._lines.keys()
                return {"version": __version__}
            case "serve":
                return {"problems": self._serve_all(request["daemons"]), "agent": has_agent}
            case "ask":
                return {**self._describe(request["name"], request["started"]), "agent": has_agent}
            case "forget":
                for name in request["names"]:
                    if name in self._lines:
                        self._forget(name)
                return {}
            case "end":
                self._is_over = True
                return {}
        return {"agent": has_agent}

    def _serve_all(self, wanted: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        problems = {}
        for name, item in wanted.items():
            try:
                self._serve(check_daemon_name(name), item)
            except (OSError, ValueError) as error:
                problems[name] = explain(error) if isinstance(error, OSError) else str(error)
        return problems

    def _describe(self, name: str, started: float) -> dict[str, Any]:
        line = self._lines.get(name)
        if line is None:
            return {}
        # What the process before it wanted is nothing to this one.
        self._note(line, drop_before(line.told, started))
        return {"told": encode(line.told)}

    def _flush(self, peer: _Peer) -> None:
        """Tell the agent what it has to know; what it does not take now is kept for later."""
        if not peer.news and not peer.logs:
            return
        names = sorted(peer.news)[:_MAX_NAMES]
        packet = {"news": names, "logs": peer.logs[:_MAX_LOGS]}
        try:
            peer.socket.send(json.dumps(packet).encode(), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self._part(peer)
            return
        peer.news.difference_update(names)
        del peer.logs[:_MAX_LOGS]

    def _send(self, peer: _Peer, answer: Mapping[str, Any]) -> None:
        try:
            peer.socket.send(json.dumps(answer).encode(), socket.MSG_DONTWAIT)
        except OSError:
            self._part(peer)

    def _part(self, peer: _Peer) -> None:
        if peer in self._peers:
            self._peers.remove(peer)
            self._selector.unregister(peer.socket)
            peer.socket.close()


def _identify(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _check_folder(path: Path) -> None:
    """Raises OSError where somebody else could put a socket in."""
    found = path.lstat()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid in {0, os.geteuid()}
    if not is_ours or found.st_mode & 0o022:
        raise PermissionError(errno.EPERM, f"{path} is somebody else's, or others may write there")


def main(argv: Sequence[str]) -> None:
    """`python -m ya_salt.agent.drainer FOLDER`: until nobody wants it any more."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # Any user of a daemon's may speak to its socket; all else is made with its own mode.
    os.umask(0o111)
    # A descriptor for each daemon, and what one message brings along.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    drainer = Drainer(argv[0])
    signal.signal(signal.SIGTERM, lambda *_: drainer.end())
    try:
        drainer.run()
    except OSError as error:
        sys.exit(f"{error.filename or argv[0]}: {explain(error)}")


if __name__ == "__main__":
    main(sys.argv[1:])
