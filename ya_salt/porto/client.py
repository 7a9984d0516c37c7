"""Talk to portod. The only module that knows the socket.

One request at a time on one connection. A read that finds the connection gone is sent once more on
a new one (portod drops connections when it restarts, its containers live on); a write never is: its
fate is unknown, and only a look at the container tells.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType

from google.protobuf.message import DecodeError

from ya_salt.errors import PortoError, PortoUnavailableError, PortoUnknownFateError
from ya_salt.porto.frames import FrameReader, FramingError, encode_frame
from ya_salt.processes import find_peer
from ya_salt.proto import quick_porto as pb
from ya_salt.quick_dataclass import dataclass, field
from ya_salt.text import printable
from ya_salt.trusted_files import find_peer_problem

DEFAULT_SOCKET = "/run/portod.socket"
READ_TIMEOUT_S = 5.0
"""A portod that is well answers a read in milliseconds, also for hundreds of containers."""

WRITE_TIMEOUT_S = 30.0
"""portod may hold a write while it creates or frees cgroups; its own clients wait 300 s."""

RECONNECT_S = 3.0

Values = dict[str, str]

_GONE = "ContainerDoesNotExist"

_NO_VALUE = frozenset(
    {"InvalidState", "InvalidProperty", "NotSupported", "NoValue", "LabelNotFound"}
)
"""portod's ways to say that a container has no such value now: an answer like any other."""


@dataclass(frozen=True)
class Reading:
    """What portod told of one container. Only `is_gone` means that there is none.

    A variable that has no value in the container's state, or none on that host, is in neither map.
    """

    values: Values = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Variable -> portod's code and words, or that it was left out of the answer."""
    is_gone: bool = False
    changed_at: int = 0
    """Seconds since 1970 by the host's clock: the last change of a property or of its state."""


class Patience:
    """Shared by the connections of one pass: who waits in vain for a write once, waits no more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lost = ""

    def lose(self, call: str) -> None:
        with self._lock:
            self._lost = self._lost or call

    def renew(self) -> None:
        """A new pass tries again."""
        with self._lock:
            self._lost = ""

    def check(self, call: str) -> None:
        """Raise PortoUnavailableError where portod has left a write of this pass unanswered."""
        if self._lost:
            raise PortoUnavailableError(
                "SocketTimeout",
                f"not sent, as portod has not answered `{self._lost}` within its time; "
                "the next pass tries again (`portoctl list` shows whether portod hangs)",
                call,
            )


class PortoClient:
    """A connection to portod, opened by the first request.

    Every call raises PortoError with portod's own code and words, PortoUnavailableError where no
    portod answers the door, PortoUnknownFateError where a write's answer did not come.
    """

    def __init__(
        self,
        path: str = DEFAULT_SOCKET,
        *,
        read_timeout_s: float = READ_TIMEOUT_S,
        write_timeout_s: float = WRITE_TIMEOUT_S,
        patience: Patience | None = None,
    ) -> None:
        self._path = path
        self._read_timeout_s = read_timeout_s
        self._write_timeout_s = write_timeout_s
        self._patience = patience or Patience()
        self._socket: socket.socket | None = None
        self._answers = select.poll()
        """Tells that something came on the socket."""
        self._frames = FrameReader()
        self.requests: list[str] = []
        """The names of the requests sent, in order, for tests and for `--debug`."""

    def __enter__(self) -> PortoClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up: weak containers that this connection made are gone then."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._frames = FrameReader()

    def name_peer(self) -> str:
        """Which portod answers: its process id, and when that process was started.

        "" where the connection does not tell. Raises PortoUnavailableError.
        """
        if self._socket is None:
            self.version()
        return find_peer(self._socket) if self._socket is not None else ""

    # -- reads ---------------------------------------------------------------------------------

    def look(self, names: Sequence[str], variables: Iterable[str]) -> dict[str, Reading]:
        """What portod tells of each of `names`, one reading for every name that was asked for."""
        wanted = tuple(variables)
        request = pb.TContainerRequest()
        request.get.name.extend(names)
        request.get.variable.extend(wanted)
        answer = self._read(request, "get")
        entries = {entry.name: entry for entry in answer.get.list}
        return {name: _parse_entry(entries.get(name), wanted) for name in names}

    def get(self, names: Sequence[str], variables: Iterable[str]) -> dict[str, Values]:
        """{container: {variable: value}}, also for masks; what cannot be read is left out.

        For callers to whom "no value" and "unreadable" are the same; the others call `look`.
        """
        request = pb.TContainerRequest()
        request.get.name.extend(names)
        request.get.variable.extend(variables)
        answer = self._read(request, "get")
        found = {
            entry.name: {
                kv.variable: _text(kv.value)
                for kv in entry.keyval
                if not kv.error and kv.HasField("value")
            }
            for entry in answer.get.list
        }
        return {name: values for name, values in found.items() if values}

    def read_output(self, name: str, stream: str, start: int) -> tuple[str, int, bytes] | None:
        """(container's id, offset of the first byte, bytes) of `stdout` or `stderr` from `start`.

        Old bytes may be lost, the offset is then beyond `start`. None where nothing can be read: no
        such container, or it has not been started.
        """
        text, lost = f"{stream}[{start}:]", f"{stream}_offset"
        request = pb.TContainerRequest()
        request.get.name.append(name)
        request.get.variable.extend(("id", lost, text))
        answer = self._read(request, f"get {name} {stream}")
        found = {
            kv.variable: kv.value
            for entry in answer.get.list
            for kv in entry.keyval
            if not kv.error
        }
        if text not in found:
            return None
        offset = _text(found.get(lost, b"0"))
        begin = int(offset) if offset.isdecimal() and len(offset) < 20 else 0
        return _text(found.get("id", b"")), max(start, begin), found[text]

    def get_property(self, name: str, variable: str) -> str:
        request = pb.TContainerRequest()
        request.getProperty.name = name
        request.getProperty.property = variable
        return _text(self._read(request, f"get {name} {variable}").getProperty.value)

    def list_dynamic(self) -> frozenset[str]:
        """The properties that may change while a container runs."""
        request = pb.TContainerRequest()
        request.propertyList.SetInParent()
        answer = self._read(request, "propertyList")
        return frozenset(entry.name for entry in answer.propertyList.list if entry.dynamic)

    def find_labelled(self, label: str) -> tuple[str, ...]:
        """Names of all containers that carry `label`."""
        request = pb.TContainerRequest()
        request.FindLabel.label = label
        try:
            answer = self._read(request, f"find label {label}")
        except PortoError as error:
            if error.code == "LabelNotFound":
                return ()
            raise
        return tuple(entry.name for entry in answer.FindLabel.list)

    def version(self) -> str:
        request = pb.TContainerRequest()
        request.version.SetInParent()
        return self._read(request, "version").version.tag

    def wait_dead(self, name: str, timeout_s: float) -> bool:
        """Wait until the container runs no more; False where it still does after `timeout_s`."""
        request = pb.TContainerRequest()
        request.wait.name.append(name)
        request.wait.timeout_ms = round(timeout_s * 1000)
        answer = self._read(request, f"wait {name}", self._read_timeout_s + timeout_s)
        return bool(answer.wait.name)

    # -- writes --------------------------------------------------------------------------------

    def create_weak(self, name: str) -> None:
        request = pb.TContainerRequest()
        request.createWeak.name = name
        self._write(request, f"create {name}")

    def create(self, name: str) -> None:
        """Make a container that outlives this connection."""
        request = pb.TContainerRequest()
        request.create.name = name
        self._write(request, f"create {name}")

    def set_property(self, name: str, variable: str, value: str) -> None:
        request = pb.TContainerRequest()
        request.setProperty.name = name
        request.setProperty.property = variable
        request.setProperty.value = value
        self._write(request, f"set {name} {variable}")

    def start(self, name: str) -> None:
        request = pb.TContainerRequest()
        request.start.name = name
        self._write(request, f"start {name}")

    def stop(self, name: str, timeout_s: float) -> None:
        request = pb.TContainerRequest()
        request.stop.name = name
        request.stop.timeout_ms = round(timeout_s * 1000)
        self._write(request, f"stop {name}", self._write_timeout_s + timeout_s)

    def kill(self, name: str, signal: int) -> None:
        request = pb.TContainerRequest()
        request.kill.name = name
        request.kill.sig = signal
        self._write(request, f"kill {name} {signal}")

    def resume(self, name: str) -> None:
        request = pb.TContainerRequest()
        request.resume.name = name
        self._write(request, f"resume {name}")

    def respawn(self, name: str) -> None:
        """Start one that waits for its respawn, or died, at once; portod counts it as its own."""
        request = pb.TContainerRequest()
        request.Respawn.name = name
        self._write(request, f"respawn {name}")

    def destroy(self, name: str) -> None:
        request = pb.TContainerRequest()
        request.destroy.name = name
        self._write(request, f"destroy {name}")

    # -- the socket ----------------------------------------------------------------------------

    def _read(
        self, request: pb.TContainerRequest, call: str, timeout_s: float | None = None
    ) -> pb.TContainerResponse:
        limit_s = timeout_s or self._read_timeout_s
        try:
            return self._ask(request, call, limit_s)
        except PortoUnknownFateError as error:
            if isinstance(error.__cause__, TimeoutError):
                raise
            self._reconnect()
            return self._ask(request, call, limit_s)

    def _write(
        self, request: pb.TContainerRequest, call: str, timeout_s: float | None = None
    ) -> pb.TContainerResponse:
        self._patience.check(call)
        try:
            return self._ask(request, call, timeout_s or self._write_timeout_s)
        except PortoUnknownFateError as error:
            if isinstance(error.__cause__, TimeoutError):
                self._patience.lose(call)
            raise

    def _ask(
        self, request: pb.TContainerRequest, call: str, timeout_s: float
    ) -> pb.TContainerResponse:
        self._drop_stale()
        connection = self._socket or self._connect()
        self.requests.append(call)
        deadline = time.monotonic() + timeout_s
        try:
            answer = self._exchange(connection, encode_frame(request), deadline)
        except (OSError, FramingError, DecodeError, UnicodeDecodeError) as error:
            self.close()
            words = (
                f"no answer in time ({timeout_s:g} s)"
                if isinstance(error, TimeoutError)
                else str(error)
            )
            raise PortoUnknownFateError("SocketError", words, call) from error
        if answer.error != pb.Success:
            raise PortoError(pb.EError.Name(answer.error), _say(answer.errorMsg), call)
        return answer

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self._read_timeout_s)
        try:
            connection.connect(self._path)
        except OSError as error:
            connection.close()
            raise PortoUnavailableError(
                "SocketUnavailable",
                f"no portod answers on {self._path} ({error.strerror or error}); "
                "is Porto installed and running? (`portoctl version`)",
            ) from error
        problem = find_peer_problem(connection)
        if problem:
            connection.close()
            raise PortoUnavailableError(
                "SocketUntrusted",
                f"{self._path}: {problem}; somebody else has put a socket there: remove it, or "
                "set porto_socket",
            )
        # From here on `poll` waits: a time limit of the socket's own would be set anew each time.
        connection.settimeout(0)
        self._answers = select.poll()
        self._answers.register(connection, select.POLLIN)
        self._socket = connection
        return connection

    def _drop_stale(self) -> None:
        """Notice that portod hung up while we were idle, when nothing is in flight."""
        if self._socket is not None and self._answers.poll(0):
            # Closed, or bytes that nobody asked for: either way no answer could be matched.
            self.close()

    def _reconnect(self) -> None:
        """Connect again to a portod that is restarting; it is back after some 0.2 s."""
        give_up = time.monotonic() + RECONNECT_S
        while True:
            try:
                self._connect()
            except PortoUnavailableError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.05)
            else:
                return

    def _exchange(
        self, connection: socket.socket, frame: bytes, deadline: float
    ) -> pb.TContainerResponse:
        _send(connection, frame, deadline)
        while True:
            while not self._answers.poll(_find_left_ms(deadline)):
                pass
            data = connection.recv(1 << 18)
            if not data:
                raise ConnectionResetError("portod closed the connection")
            for body in self._frames.feed(data):
                return pb.TContainerResponse.FromString(body)


def _send(connection: socket.socket, frame: bytes, deadline: float) -> None:
    """Most fit into what the kernel takes at once."""
    rest = memoryview(frame)
    while rest:
        try:
            rest = rest[connection.send(rest) :]
        except BlockingIOError:
            room = select.poll()
            room.register(connection, select.POLLOUT)
            room.poll(_find_left_ms(deadline))


def _parse_entry(
    entry: pb.TContainerGetResponse.TContainerGetListResponse | None, wanted: Sequence[str]
) -> Reading:
    """Unknown is not absent: a variable has a value, is known to have none, or is unreadable."""
    if entry is None:
        return Reading(unreadable=dict.fromkeys(wanted, "portod left it out of its answer"))
    told = {kv.variable: kv for kv in entry.keyval if kv.error or kv.HasField("value")}
    codes = {name: pb.EError.Name(kv.error) for name, kv in told.items() if kv.error}
    if wanted and all(codes.get(name) == _GONE for name in wanted):
        return Reading(is_gone=True)
    unreadable = {
        name: "portod left it out of its answer"
        if name not in told
        else f"{codes[name]}: {_say(told[name].errorMsg)}"
        for name in wanted
        if name not in told or codes.get(name, "InvalidState") not in _NO_VALUE
    }
    values = {name: _text(kv.value) for name, kv in told.items() if name not in codes}
    return Reading(values, unreadable, changed_at=entry.change_time)


def _find_left_ms(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left * 1000


def _text(value: bytes) -> str:
    """A daemon's output, and what portod quotes of it, need not be UTF-8."""
    return value.decode(errors="replace")


def _say(message: bytes) -> str:
    """What portod says of an error may quote anything: it goes to logs of many kinds."""
    return printable(_text(message))


def parse_labels(text: str) -> Mapping[str, str]:
    """Porto's `A.b: 1; A.c: 2` as a mapping."""
    pairs = (item.partition(": ") for item in text.split("; ") if item)
    return {key: value for key, _, value in pairs}
