"""Lock and unlock on a FleetLock server that may have several faces, all within one deadline."""

from __future__ import annotations

import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ya_salt.errors import GateError
from ya_salt.gate.posting import Answer, NotSentError, UnansweredError, post
from ya_salt.gate.secretfile import read_secret
from ya_salt.model import GateSettings

LIMIT_S = 3.0
"""For a question to all endpoints together."""

Path = Literal["/v1/pre-reboot", "/v1/steady-state"]
_LOCK: Path = "/v1/pre-reboot"
_UNLOCK: Path = "/v1/steady-state"

_FULL_STATUSES = {409, 423}
"""Conflict and Locked: there is nothing else that they could be about."""
_FULL_KINDS = {"failed_lock_semaphore_full", "failed_lock", "all_slots_full", "lock_held", "locked"}
"""The protocol's own example, and what servers say instead; airlock says failed_lock with a 500."""


class FleetLockServer:
    """The server of `settings.endpoints`, for one host. May be used by several threads at once."""

    def __init__(self, settings: GateSettings, host: str) -> None:
        self._settings = settings
        self._host = host
        self._context: ssl.SSLContext | None = None
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
            raise GateError(f"FleetLock says neither yes nor no to group {group}: {told}")
        return answer

    def _go_round(self, question: _Question, endpoints: Sequence[str], spare: int) -> Answer | None:
        """Each gets its part of the time left; `spare` parts are for later."""
        for index, endpoint in enumerate(endpoints):
            try:
                answer = question.put(endpoint, len(endpoints) - index + spare, self._load_context)
            except NotSentError as error:
                question.failures[endpoint] = self._tidy(str(error))
            except UnansweredError as error:
                question.failures[endpoint] = self._tidy(str(error))
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

    def _load_context(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = make_context(self._settings)
        return self._context

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
        """One line of at most 300 characters that cannot steer a terminal; a server may echo us."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        line = " ".join(text.split())[:300]
        return "".join(char if char.isprintable() else "?" for char in line)


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

    def put(self, endpoint: str, parts: int, context: Callable[[], ssl.SSLContext]) -> Answer:
        """Ask one endpoint, within its part of the time left."""
        now = time.monotonic()
        until = now + (self.deadline - now) / parts
        payload = {"client_params": {"id": self.host, "group": self.group}}
        return post(
            endpoint.rstrip("/") + self.path,
            payload,
            {"fleet-lock-protocol": "true", **self.login},
            until,
            context() if endpoint.startswith("https:") else None,
        )


def make_context(settings: GateSettings) -> ssl.SSLContext:
    """How https is spoken. Raises GateError (GateRefused) where a file cannot be used."""
    key = "gate.ca_file"
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if settings.cert_file:
            key = "gate.cert_file or gate.key_file"
            # Without a password OpenSSL would ask whoever sits at the terminal.
            key_file = settings.key_file or None
            context.load_cert_chain(settings.cert_file, key_file, password="")
    except OSError as error:
        words = error.strerror or str(error) or "what it holds cannot be used"
        raise GateError(f"{key}: {words}; it has to be PEM", "GateRefused") from error
    return context


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
