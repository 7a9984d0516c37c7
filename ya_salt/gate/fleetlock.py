"""The gate on a FleetLock server: a counting lock for each group, one for a host, and no more.

The protocol is that of https://coreos.github.io/zincati/development/fleetlock/protocol; what can
be had of a gate over it is in docs/fleetlock.md.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from ya_salt.errors import GateError
from ya_salt.gate.protocol import Granted, Identity, Slot, SlotRequest, State
from ya_salt.gate.secretfile import read_secret
from ya_salt.http import Answer, Client, Deadline, NotSentError, Tls, TlsFileError, UnansweredError
from ya_salt.model import Deferral, GateSettings
from ya_salt.quick_dataclass import dataclass, field, replace
from ya_salt.text import printable, redact

LIMIT_S = 3.0
"""For a question to all endpoints together."""

Path = Literal["/v1/pre-reboot", "/v1/steady-state"]
_LOCK: Path = "/v1/pre-reboot"
_UNLOCK: Path = "/v1/steady-state"

_FULL_STATUSES = {409, 423}
"""Conflict and Locked: there is nothing else that they could be about."""
_FULL_KINDS = {"failed_lock_semaphore_full", "failed_lock", "all_slots_full", "lock_held", "locked"}
"""The protocol's own example, and what servers say instead; airlock says failed_lock with a 500."""


class FleetLockGate:
    """A Gate.

    `held` says what the host remembers to hold at this moment: the server cannot be asked, and
    where daemons share a group only the last of them may unlock. `Slot.id` is GROUP/HEX, so that a
    lock is given back where it was taken though the settings have changed since.
    """

    def __init__(
        self,
        settings: GateSettings,
        identity: Identity,
        *,
        held: Callable[[], Collection[Slot]] = lambda: (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._group = settings.group
        self._server = FleetLockServer(settings, identity.host)
        self._remember = held
        self._clock = clock
        self._taken: dict[str, Slot] = {}
        """Daemon -> what was allowed here; whoever asked may not have remembered it yet."""
        self._returned: set[str] = set()
        """Ids that were released here; whoever did may not have forgotten them yet."""
        self._turns: dict[str, threading.Lock] = {}

    def ask(self, ask: SlotRequest) -> Granted | Deferral:
        """Lock, whatever is remembered: the server may have been told to forget it."""
        known = self._find(ask.daemon)
        group = self._find_group(known, ask.rule)
        with self._take_turn(group) as deadline:
            full = self._server.lock(group, deadline)
            if full:
                return Deferral("Full", full)
            held = known if known and _is_same(known, ask, group) else self._make(ask, group)
            self._taken[ask.daemon] = held
        return Granted(held)

    def preview(self, ask: SlotRequest) -> Granted | Deferral:
        """Always yes: FleetLock tells nothing without locking."""
        return Granted(self._find(ask.daemon))

    def find(self, daemon: str) -> Slot | None:  # noqa: ARG002 - the protocol of all gates
        """Always None, which means that nobody knows: FleetLock cannot be asked."""
        return None

    def tell(self, held: Slot, state: State, error: str = "") -> Slot | None:
        """Nothing is sent: to the server a lock is a lock. A host that failed simply keeps it."""
        told = replace(held, state=state, error=error)
        if held.daemon in self._taken:
            self._taken[held.daemon] = told
        return told

    def blame(self, returned: Slot, error: str) -> None:
        """Nothing is sent: a lock that was given back says nothing about the host any more."""

    def release(self, held: Slot) -> None:
        """Unlock, unless another daemon of this host still holds in the same group.

        A lock that we do not have is unlocked without a word, so it is right to release after an
        `ask` whose outcome nobody knows; any Slot of the daemon does, with or without an id.
        """
        group = self._find_group(held, held.rule)
        with self._take_turn(group) as deadline:
            if not self._is_needed(group, held.daemon):
                self._server.unlock(group, deadline)
            self._taken.pop(held.daemon, None)
            self._returned.add(held.id)

    def renew(self, held: Slot) -> Slot | None:
        """Nothing to do: a lock of FleetLock never ends by itself."""
        return held

    def close(self) -> None:
        """Nothing to do: each request has a connection of its own."""

    @contextmanager
    def _take_turn(self, group: str) -> Iterator[float]:
        """Let in one daemon of a group at a time, and give the deadline for all of it.

        Otherwise the unlock of one and the lock of another could cross on their way: the second
        would find the host's lock still there, and then lose it.
        """
        deadline = time.monotonic() + LIMIT_S
        # Whoever has it is at its own deadline soon.
        with self._turns.setdefault(group, threading.Lock()):
            yield deadline

    def _find(self, daemon: str) -> Slot | None:
        return self._list_held().get(daemon)

    def _list_held(self) -> dict[str, Slot]:
        known = {held.daemon: held for held in self._remember()} | self._taken
        return {name: held for name, held in known.items() if held.id not in self._returned}

    def _find_group(self, held: Slot | None, rule: str) -> str:
        return (_read_group(held) if held else "") or self._group or name_group(rule)

    def _is_needed(self, group: str, daemon: str) -> bool:
        return any(
            name != daemon and _read_group(held) == group
            for name, held in self._list_held().items()
        )

    def _make(self, ask: SlotRequest, group: str) -> Slot:
        id_ = f"{group}/{uuid.uuid4().hex}"
        return Slot(ask.daemon, id_, ask.operation, ask.target, since=self._clock())


def name_group(rule: str) -> str:
    """A group of FleetLock's alphabet, letters, digits, dots and dashes; never one for two rules.

    Any other character becomes .xHH for each of its bytes in UTF-8 (`a_b` is `a.x5Fb`), and so does
    a dot in front of what would read as such.
    """
    return re.sub(r"[^a-zA-Z0-9.-]|\.(?=x[0-9A-F]{2})", _escape, rule)


def _escape(match: re.Match[str]) -> str:
    return "".join(f".x{byte:02X}" for byte in match[0].encode())


def _read_group(held: Slot) -> str:
    """The group of an id that was made here; "" for one of another gate."""
    return held.id.rpartition("/")[0]


def _is_same(held: Slot, ask: SlotRequest, group: str) -> bool:
    """Whether what was started goes on; what came to its end is another operation the next time."""
    same = (_read_group(held), held.operation, held.target) == (group, ask.operation, ask.target)
    return same and held.state != "settling"


# -- the server ----------------------------------------------------------------------------------


class FleetLockServer:
    """The server of `settings.endpoints`, for one host. May be used by several threads at once."""

    def __init__(self, settings: GateSettings, host: str) -> None:
        self._settings = settings
        self._host = host
        tls = Tls(settings.ca_file, settings.cert_file, settings.key_file, "gate.")
        # A 200 is a yes, whatever follows.
        self._client = Client(tls, unread=frozenset({200}))
        self._secrets: tuple[str, ...] = ()
        self._good = ""
        """The endpoint that answered last."""

    def lock(self, group: str, deadline: float) -> str:
        """Nothing ("") where this host has a lock of the group now, else why none is free.

        Raises GateError (the lock may have been taken all the same). `deadline` is a moment of
        `time.monotonic`. A host that has the lock already has it once.
        """
        answer = self._post(_LOCK, group, deadline)
        if answer.status == 200:
            return ""
        if _is_full(answer):
            return f"FleetLock has no free slot in group {group}: {self._describe(answer)}"
        raise self._refuse("lock", group, answer)

    def unlock(self, group: str, deadline: float) -> None:
        """Give the lock back; fine where this host has none. Raises GateError."""
        answer = self._post(_UNLOCK, group, deadline)
        if answer.status != 200:
            raise self._refuse("unlock", group, answer)

    def _refuse(self, verb: str, group: str, answer: Answer) -> GateError:
        hint = ""
        if answer.status in {401, 403}:
            hint = "; see the settings gate.username, gate.password_file and gate.cert_file"
        if answer.status == 404:
            hint = "; is gate.endpoints the address of a FleetLock server?"
        words = self._describe(answer)
        return GateError(f"FleetLock refuses to {verb} group {group}: {words}{hint}", "GateRefused")

    def _post(self, path: Path, group: str, deadline: float) -> Answer:
        """The first answer that settles it.

        Where it broke off after it was sent nobody knows whether it was done. Doing it once more
        changes nothing then and brings an answer, so those are asked again, if time is left.
        """
        endpoints = sorted(self._list_endpoints(), key=lambda endpoint: endpoint != self._good)
        question = _Question(path, group, self._host, self._make_login(), deadline)
        answer = self._go_round(question, endpoints, spare=1)
        if answer is None and question.doubtful:
            answer = self._go_round(question, question.doubtful.copy(), spare=0)
        if answer is None:
            told = "; ".join(f"{where}: {words}" for where, words in question.failures.items())
            raise GateError(f"FleetLock gave no answer that can be used for group {group}: {told}")
        return answer

    def _go_round(self, question: _Question, endpoints: Sequence[str], spare: int) -> Answer | None:
        """Each gets its part of the time left; `spare` parts are for later."""
        for index, endpoint in enumerate(endpoints):
            try:
                answer = question.put(self._client, endpoint, len(endpoints) - index + spare)
            except TlsFileError as error:
                raise GateError(str(error), "GateRefused") from error
            except NotSentError as error:
                question.failures[endpoint] = f"no connection: {error}"
            except UnansweredError as error:
                question.failures[endpoint] = f"no answer: {error}"
                question.doubtful.append(endpoint)
            else:
                if _is_settled(question.path, answer):
                    self._good = endpoint
                    return answer
                question.failures[endpoint] = self._describe(answer)
        return None

    def _list_endpoints(self) -> Sequence[str]:
        if not self._settings.endpoints:
            raise GateError("gate.endpoints names no FleetLock server; add its URL", "GateRefused")
        return self._settings.endpoints

    def _make_login(self) -> Mapping[str, str]:
        """Read anew for each question: somebody may have put another password there."""
        settings = self._settings
        if not settings.username:
            return {}
        password = read_secret(settings.password_file) if settings.password_file else ""
        encoded = b64encode(f"{settings.username}:{password}".encode()).decode()
        self._secrets = tuple(word for word in (encoded, password) if word)
        return {"Authorization": f"Basic {encoded}"}

    # -- what a person is told -----------------------------------------------------------------

    def _describe(self, answer: Answer) -> str:
        """The server's own words where it has any, else what it did."""
        value = _read_text(answer, "value")
        if value:
            return self._tidy(value)
        if 300 <= answer.status < 400:
            where = self._tidy(answer.location) or "nowhere"
            return f"it redirects to {where}, which is not followed; see gate.endpoints"
        return f"it answered {answer.status}"

    def _tidy(self, text: str) -> str:
        """One line of at most 300 characters; a server may echo us."""
        return printable(redact(text, self._secrets), 300)


@dataclass
class _Question:
    """What is asked of every endpoint, and what became of it."""

    path: Path
    group: str
    host: str
    login: Mapping[str, str]
    deadline: float
    failures: dict[str, str] = field(default_factory=dict)
    """Endpoint -> why it did not settle it."""
    doubtful: list[str] = field(default_factory=list)
    """Endpoints that may have done it and did not say so."""

    def put(self, client: Client, endpoint: str, parts: int) -> Answer:
        """Ask one endpoint, within its part of the time left."""
        now = time.monotonic()
        until = now + (self.deadline - now) / parts
        return client.post(
            endpoint.rstrip("/") + self.path,
            {"client_params": {"id": self.host, "group": self.group}},
            Deadline(until),
            {"fleet-lock-protocol": "true", **self.login},
        )


def _is_settled(path: Path, answer: Answer) -> bool:
    return (
        answer.status == 200 or 400 <= answer.status < 500 or (path == _LOCK and _is_full(answer))
    )


def _is_full(answer: Answer) -> bool:
    return answer.status in _FULL_STATUSES or (
        answer.status >= 400 and _read_text(answer, "kind") in _FULL_KINDS
    )


def _read_text(answer: Answer, key: str) -> str:
    """A field of {"kind", "value"}; "" where there is none."""
    data = answer.parse()
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, str) else ""
