"""etcd over the HTTP gateway that every server of it has, within a deadline.

Linearizable reads and transactions, over several endpoints. A write is sent once: where its answer
is lost, that is said, and nobody else is asked to do it too. Of an answer nothing is believed that
is not of the form that etcd gives it.
"""

from __future__ import annotations

import binascii
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from typing import Any, Generic, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

from ya_salt.errors import GateError
from ya_salt.gate.secretfile import read_secret
from ya_salt.http import (
    Answer,
    Client,
    Deadline,
    NotSentError,
    RefusedError,
    Tls,
    TlsFileError,
    UnansweredError,
)
from ya_salt.model import GateSettings
from ya_salt.quick_dataclass import dataclass
from ya_salt.text import printable, redact

T = TypeVar("T")

PORT = 2379
"""Where a URL names none."""
MAX_ANSWER_BYTES = 8 << 20
_MAX_WORDS = 300

_PAUSES_S = (0.1, 0.2, 0.4, 0.8)
"""Between rounds over all servers; each further one lasts as long as the last."""
_LEAST_S = 0.05
"""No request is sent with less time than this left before the deadline."""
_SPARE_S = 0.5

_MUTE = (NotSentError, type(None))
"""What is known of a server that has not answered yet."""

# gRPC's status codes.
_UNCLEAR = {1, 2, 4, 13, 14}
"""Cancelled, unknown, deadline exceeded, internal, unavailable. It may have been done."""
_NOT_FOUND = 5
_PERMISSION_DENIED = 7
_OVERLOADED = 8
_FAILED_PRECONDITION = 9
_UNAUTHENTICATED = 16

_NO_TOKEN = ("user name is empty", "auth store is old")
"""With these it answers whoever has no token or one from before somebody changed the roles."""


class UnknownOutcomeError(GateError):
    """The transaction was sent and its answer was lost: it may have been carried out, or not."""


class _AbsentError(GateError):
    """etcd has no such lease."""


class _SaidNoError(Exception):
    """etcd answered with an error: gRPC's status code and etcd's own words."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


_FAILURES = (NotSentError, UnansweredError, _SaidNoError)
"""How one question to one server can end."""


# -- what is asked and answered --------------------------------------------------------------------


@dataclass(frozen=True)
class KeyValue:
    """A key of etcd's; no `value` where only keys were asked for, `lease` 0 where it has none.

    Bytes that are no UTF-8 are lone surrogates in key and value, as in names of files.
    """

    key: str
    value: str
    create_revision: int
    mod_revision: int
    lease: int


@dataclass(frozen=True)
class Range:
    """A key, or all keys that begin with it; the first `limit` of them (0: all), by key."""

    key: str
    is_prefix: bool = False
    keys_only: bool = False
    limit: int = 0

    def covers(self, key: str) -> bool:
        return key.startswith(self.key) if self.is_prefix else key == self.key


@dataclass(frozen=True)
class Compare:
    """What has to be so for a transaction to be carried out; made by the functions below."""

    key: str
    target: Literal["CREATE", "MOD"]
    revision: int
    is_prefix: bool = False
    result: Literal["EQUAL", "LESS"] = "EQUAL"


def absent(key: str) -> Compare:
    return Compare(key, "CREATE", 0)


def absent_prefix(prefix: str) -> Compare:
    """No key begins with it: etcd takes an empty range for a key that was created at 0."""
    return Compare(prefix, "CREATE", 0, is_prefix=True)


def created(key: str, revision: int) -> Compare:
    """It is there, and has been ever since it was created at `revision`."""
    return Compare(key, "CREATE", revision)


def untouched_since(prefix: str, revision: int) -> Compare:
    """No key that begins with it was written after `revision`; deleted ones do not count."""
    return Compare(prefix, "MOD", revision + 1, is_prefix=True, result="LESS")


def unchanged(key: str, mod_revision: int) -> Compare:
    return Compare(key, "MOD", mod_revision)


@dataclass(frozen=True)
class Put:
    """A key to write; the lease of 0 is none."""

    key: str
    value: str
    lease: int = 0


class ReadResult(NamedTuple):
    """What was found for each range, in order, and etcd's revision at that moment."""

    found: tuple[tuple[KeyValue, ...], ...]
    revision: int


@dataclass(frozen=True)
class TxnResult:
    """Whether it was carried out; where not, what `otherwise` asked for."""

    succeeded: bool
    revision: int
    found: tuple[tuple[KeyValue, ...], ...] = ()


# -- the client ------------------------------------------------------------------------------------


class Etcd:
    """The client. May be used by several threads at once; each has a deadline of its own.

    Every method raises GateError: GateUnreachable where no endpoint answers within `deadline_s`,
    GateRefused where etcd does not let us.
    """

    def __init__(self, settings: GateSettings, *, deadline_s: float = 3.0) -> None:
        if not settings.endpoints:
            raise GateError("no server of etcd's is named; set gate.endpoints")
        self._client = Client(
            Tls(settings.ca_file, settings.cert_file, settings.key_file, "gate."),
            max_answer_bytes=MAX_ANSWER_BYTES,
            keeps_connections=True,
        )
        self._servers = tuple(_Server(self._client, url) for url in settings.endpoints)
        """The one that answered last is first."""
        self._login = _Login(settings.username, settings.password_file)
        self._deadline_s = deadline_s
        self._of_thread = threading.local()

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def deadline(self) -> Iterator[None]:
        """All requests of this thread inside share one deadline, the outermost one's."""
        if getattr(self._of_thread, "until", None) is not None:
            yield
            return
        self._of_thread.until = time.monotonic() + self._deadline_s
        try:
            yield
        finally:
            self._of_thread.until = None

    def seconds_left(self) -> float:
        """Until this thread's deadline."""
        until: float | None = getattr(self._of_thread, "until", None)
        return self._deadline_s if until is None else max(0.0, until - time.monotonic())

    def read(self, *ranges: Range) -> ReadResult:
        """One consistent, linearizable look at all ranges."""
        return self._ask(
            _Question("kv/txn", _encode_read(ranges), lambda data: _decode_read(data, ranges))
        )

    def transact(
        self,
        compares: Sequence[Compare],
        puts: Sequence[Put] = (),
        deletes: Sequence[str | Range] = (),
        otherwise: Sequence[Range] = (),
    ) -> TxnResult:
        """Write if everything is as compared, at one moment; else read `otherwise` at that moment.

        Raises UnknownOutcomeError where the answer was lost: read what is so now.
        """
        payload = _encode_txn(compares, puts, deletes, otherwise)
        return self._ask(
            _Question(
                "kv/txn",
                payload,
                lambda data: _decode_txn(data, len(puts), len(deletes), otherwise),
                is_write=True,
            )
        )

    def grant_lease(self, ttl_s: int) -> int:
        """A new lease's number. Where the answer is lost, one stays behind that nothing uses."""
        return self._ask(_Question("lease/grant", {"TTL": ttl_s, "ID": 0}, _decode_lease))

    def keep_alive(self, lease: int) -> int:
        """Seconds that the lease lasts from now on; 0 where it is gone."""
        return self._ask(
            _Question("lease/keepalive", {"ID": lease}, lambda data: _decode_ttl(data, lease))
        )

    def revoke_lease(self, lease: int) -> None:
        """End it, with its keys; fine where it is gone."""
        with suppress(_AbsentError):
            self._ask(_Question("lease/revoke", {"ID": lease}, _decode_revision))

    def drop_lease(self, lease: int) -> None:
        """Revoke it if there is time to spare: it ends by itself, too. Never raises GateError."""
        if lease and self.seconds_left() > _SPARE_S:
            with suppress(GateError):
                self.revoke_lease(lease)

    def _ask(self, question: _Question[T]) -> T:
        failures: dict[_Server, Exception] = {}
        with self.deadline():
            for server, within_s in self._take_turns(failures, keeps_time=question.is_write):
                deadline = Deadline.after(within_s)
                try:
                    answer = self._login.ask(server, question, deadline)
                except TlsFileError as error:
                    raise GateError(str(error), "GateRefused") from error
                except _FAILURES as error:
                    # One that was cut short says less than an answer before it.
                    if deadline.seconds_left() or isinstance(failures.get(server), _MUTE):
                        failures[server] = error
                    _judge(server, error, is_write=question.is_write)
                else:
                    self._prefer(server)
                    return answer
        raise _give_up(failures)

    def _take_turns(
        self, failures: Mapping[_Server, Exception], *, keeps_time: bool
    ) -> Iterator[tuple[_Server, float]]:
        """Servers, and the seconds each may take so that the others get their share.

        A write leaves a share to the read that has to follow where its answer is lost. Round and
        round while there is time, as after a leader is gone it takes about a second to have
        another; but not where nobody listens at all.
        """
        for pause_s in chain(_PAUSES_S, repeat(_PAUSES_S[-1])):
            servers = self._servers
            for place, server in enumerate(servers):
                left_s = self.seconds_left()
                if left_s < _LEAST_S:
                    return
                yield server, left_s / (len(servers) - place + keeps_time)
            if all(isinstance(failure, NotSentError) for failure in failures.values()):
                return
            time.sleep(min(pause_s, self.seconds_left()))

    def _prefer(self, server: _Server) -> None:
        if self._servers[0] is not server:
            self._servers = (server, *(other for other in self._servers if other is not server))


def _judge(server: _Server, error: Exception, *, is_write: bool) -> None:
    """Raise where it is no use or no good to ask another server."""
    is_unclear = isinstance(error, UnansweredError)
    if isinstance(error, _SaidNoError):
        is_unclear = error.code in _UNCLEAR
        if not is_unclear and error.code != _OVERLOADED:
            kind = _AbsentError if error.code == _NOT_FOUND else GateError
            raise kind(f"etcd on {server.url} answered: {error.message}") from error
    if is_write and is_unclear:
        raise UnknownOutcomeError(
            f"whether etcd on {server.url} did what it was asked is not known: {error}"
        ) from error


def _give_up(failures: Mapping[_Server, Exception]) -> GateError:
    words = "; ".join(f"{server.url}: {error}" for server, error in failures.items())
    refusals = [error for error in failures.values() if isinstance(error, RefusedError)]
    if any(error.wants_certificate for error in refusals):
        return GateError(f"etcd refuses our certificate (gate.cert_file): {words}", "GateRefused")
    return GateError(f"etcd does not answer: {words or 'there was no time left to ask'}")


@dataclass(frozen=True)
class _Question(Generic[T]):
    """What is posted to /v3/`path`, and what reads the answer, which raises _MalformedError."""

    path: str
    payload: object
    decode: Callable[[_Object], T]
    is_write: bool = False


class _Server:
    """One endpoint."""

    def __init__(self, client: Client, url: str) -> None:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._base = f"{parts.scheme}://{host}:{parts.port or PORT}/v3/"
        self._client = client

    def ask(self, question: _Question[T], token: str, deadline: Deadline, password: str = "") -> T:
        """The answer. Raises what _FAILURES lists, without the token and the password in it."""
        headers = {"Authorization": token} if token else {}
        answer = self._client.post(self._base + question.path, question.payload, deadline, headers)
        try:
            data = _read_object(answer)
            if "error" in data:
                raise _decode_error(data, (token, password))
            return question.decode(data)
        except _MalformedError as error:
            words = redact(str(error), (token, password))
            failure = UnansweredError(f"what answered is not etcd: {words}")
        raise failure


class _Login:
    """Ask as etcd's user: a token for all requests, a new one where etcd no longer knows it.

    `username` of "" asks as nobody; the password is read whenever it is needed.
    """

    def __init__(self, username: str, password_file: str) -> None:
        self._username = username
        self._password_file = password_file
        self._token: str | None = None
        """Good on all servers. "" where etcd has no users at all; None where not yet known."""

    def ask(self, server: _Server, question: _Question[T], deadline: Deadline) -> T:
        """Like `_Server.ask`; GateError where etcd refuses who we are."""
        token = self._token
        if token is None:
            token = self._renew(server, deadline)
        try:
            return server.ask(question, token, deadline)
        except _SaidNoError as error:
            if not self._username or not _is_about_token(error):
                raise self._judge(server, error) from error
        token = self._renew(server, deadline)
        try:
            return server.ask(question, token, deadline)
        except _SaidNoError as error:
            raise self._judge(server, error) from error

    def _renew(self, server: _Server, deadline: Deadline) -> str:
        self._token = self._fetch(server, deadline) if self._username else ""
        return self._token

    def _fetch(self, server: _Server, deadline: Deadline) -> str:
        password = read_secret(self._password_file) if self._password_file else ""
        payload = {"name": self._username, "password": password}
        try:
            question = _Question("auth/authenticate", payload, _decode_token)
            return server.ask(question, "", deadline, password)
        except UnansweredError as error:
            # What was to be asked has not been sent yet.
            raise NotSentError(f"no token for {self._username}: {error}") from None
        except _SaidNoError as error:
            if error.code == _FAILED_PRECONDITION:
                # Authentication is off.
                return ""
            raise self._judge(server, error) from None

    def _judge(self, server: _Server, error: _SaidNoError) -> Exception:
        if not _is_refusal(error):
            return error
        who = f"user {self._username}" if self._username else "a caller without gate.username"
        return GateError(
            f"etcd on {server.url} refuses {who}: {error.message}; "
            "see gate.username, gate.password_file and the role's permissions",
            "GateRefused",
        )


def _is_about_token(error: _SaidNoError) -> bool:
    return error.code == _UNAUTHENTICATED or any(words in error.message for words in _NO_TOKEN)


def _is_refusal(error: _SaidNoError) -> bool:
    return (
        error.code == _PERMISSION_DENIED
        or _is_about_token(error)
        or "authentication failed" in error.message
    )


# -- how the gateway writes it ---------------------------------------------------------------------


def _encode_read(ranges: Sequence[Range]) -> dict[str, Any]:
    return {"success": [_encode_range(wanted) for wanted in ranges]}


def _encode_txn(
    compares: Sequence[Compare],
    puts: Sequence[Put],
    deletes: Sequence[str | Range],
    otherwise: Sequence[Range],
) -> dict[str, Any]:
    return {
        "compare": [_encode_compare(compare) for compare in compares],
        "success": [
            *(_encode_put(put) for put in puts),
            *(_encode_delete(deleted) for deleted in deletes),
        ],
        "failure": [_encode_range(wanted) for wanted in otherwise],
    }


def _encode_range(wanted: Range) -> dict[str, Any]:
    data = _encode_keys(wanted.key, wanted.is_prefix)
    if wanted.keys_only:
        data["keys_only"] = True
    if wanted.limit:
        data["limit"] = wanted.limit
    return {"request_range": data}


def _encode_compare(compare: Compare) -> dict[str, Any]:
    field = "create_revision" if compare.target == "CREATE" else "mod_revision"
    return {
        **_encode_keys(compare.key, compare.is_prefix),
        "target": compare.target,
        "result": compare.result,
        field: compare.revision,
    }


def _encode_put(put: Put) -> dict[str, Any]:
    value = _encode(put.value.encode(errors=_NO_TEXT))
    data = {**_encode_keys(put.key, is_prefix=False), "value": value}
    return {"request_put": {**data, "lease": put.lease} if put.lease else data}


def _encode_delete(deleted: str | Range) -> dict[str, Any]:
    wanted = Range(deleted) if isinstance(deleted, str) else deleted
    return {"request_delete_range": _encode_keys(wanted.key, wanted.is_prefix)}


def _encode_keys(key: str, is_prefix: bool) -> dict[str, Any]:
    data = key.encode(errors=_NO_TEXT)
    if not is_prefix:
        return {"key": _encode(data)}
    # All keys of ours are UTF-8, so the last byte is never 255.
    return {"key": _encode(data), "range_end": _encode(data[:-1] + bytes([data[-1] + 1]))}


_NO_TEXT = "surrogateescape"


def _encode(data: bytes) -> str:
    return b64encode(data).decode("ascii")


# -- how it is read --------------------------------------------------------------------------------
# The gateway leaves out what is empty, false or 0, and writes 64-bit numbers as text.

_Object = Mapping[str, Any]
_MAX_INT = (1 << 63) - 1


class _MalformedError(Exception):
    """It is not of the form that etcd gives it. Says where, and nothing of what is there."""


def _read_object(answer: Answer) -> _Object:
    if answer.missing:
        raise _MalformedError(answer.missing)
    data = answer.parse()
    if answer.ok and isinstance(data, dict):
        return data
    if isinstance(data, dict) and "error" in data:
        return data
    if answer.location:
        where = printable(answer.location, _MAX_WORDS)
        raise _MalformedError(f"it redirects to {where}, which is not followed")
    raise _MalformedError(f"HTTP status {answer.status}, and no JSON object of etcd's")


def _decode_error(data: _Object, secrets: Sequence[str]) -> _SaidNoError:
    """{"code", "message" or "error"}, or for streams {"error": {"grpc_code", "message"}}."""
    error = data["error"]
    if isinstance(error, dict):
        code, message = error.get("grpc_code"), error.get("message")
    else:
        code, message = data.get("code"), data.get("message") or error
    if isinstance(code, bool) or not isinstance(code, int) or not isinstance(message, str):
        raise _MalformedError("an error without code and message")
    return _SaidNoError(code, printable(redact(message, secrets), _MAX_WORDS))


def _decode_read(data: _Object, ranges: Sequence[Range]) -> ReadResult:
    if data.get("succeeded") is not True:
        raise _MalformedError("succeeded is not true, though nothing was compared")
    return ReadResult(_decode_ranges(data, ranges), _decode_revision(data))


def _decode_txn(data: _Object, puts: int, deletes: int, otherwise: Sequence[Range]) -> TxnResult:
    succeeded = data.get("succeeded", False)
    if not isinstance(succeeded, bool):
        raise _MalformedError("succeeded is neither true nor false")
    if not succeeded:
        return TxnResult(False, _decode_revision(data), _decode_ranges(data, otherwise))
    wanted = ["response_put"] * puts + ["response_delete_range"] * deletes
    parts = _get_list(data, "responses")
    if len(parts) != len(wanted):
        raise _MalformedError(f"{len(parts)} responses to {len(wanted)} writes")
    for part, name in zip(parts, wanted, strict=True):
        _get_object(_check_object(part, "a response"), name)
    return TxnResult(True, _decode_revision(data))


def _decode_revision(data: _Object) -> int:
    return _get_int(_get_object(data, "header"), "revision", least=1)


def _decode_lease(data: _Object) -> int:
    return _get_int(data, "ID", least=1)


def _decode_ttl(data: _Object, lease: int) -> int:
    result = _get_object(data, "result")
    if _get_int(result, "ID", least=1) != lease:
        raise _MalformedError("ID is another lease's")
    return _get_int(result, "TTL")


def _decode_token(data: _Object) -> str:
    token = data.get("token")
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise _MalformedError("token is none that can be sent")
    return token


def _decode_ranges(data: _Object, ranges: Sequence[Range]) -> tuple[tuple[KeyValue, ...], ...]:
    parts = _get_list(data, "responses")
    if len(parts) != len(ranges):
        raise _MalformedError(f"{len(parts)} responses to {len(ranges)} ranges")
    return tuple(map(_decode_range, parts, ranges))


def _decode_range(part: object, wanted: Range) -> tuple[KeyValue, ...]:
    data = _get_object(_check_object(part, "a response"), "response_range")
    found = tuple(_decode_key_value(item, wanted) for item in _get_list(data, "kvs"))
    count = _get_int(data, "count", default=len(found))
    if len(found) != min(count, wanted.limit or count):
        raise _MalformedError(f"{len(found)} kvs where count is {count}")
    return found


def _decode_key_value(item: object, wanted: Range) -> KeyValue:
    data = _check_object(item, "one of kvs")
    key = _get_text(data, "key")
    if not wanted.covers(key):
        raise _MalformedError("a key that was not asked for")
    return KeyValue(
        key,
        _get_text(data, "value"),
        _get_int(data, "create_revision", least=1),
        _get_int(data, "mod_revision", least=1),
        _get_int(data, "lease"),
    )


def _get_object(data: _Object, name: str) -> _Object:
    return _check_object(data.get(name), name)


def _check_object(value: object, name: str) -> _Object:
    if not isinstance(value, dict):
        raise _MalformedError(f"{name} is no object")
    return value


def _get_list(data: _Object, name: str) -> Sequence[object]:
    value = data.get(name, ())
    if not isinstance(value, list | tuple):
        raise _MalformedError(f"{name} is no list")
    return value


def _get_int(data: _Object, name: str, *, default: int = 0, least: int = 0) -> int:
    if name not in data and default >= least:
        return default
    value = data.get(name)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MAX_INT:
        raise _MalformedError(f"{name} is not a whole number from {least} to 2^63 - 1")
    return value


def _get_text(data: _Object, name: str) -> str:
    if name not in data:
        return ""
    value = data[name]
    try:
        return b64decode(value, validate=True).decode(errors=_NO_TEXT)
    except (TypeError, ValueError, binascii.Error):
        raise _MalformedError(f"{name} is no base64") from None
