"""Linearizable reads and transactions on etcd, over several endpoints, within a deadline.

A write is sent once: where its answer is lost, that is said, and nobody else is asked to do it too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from typing import Any

from ya_salt.errors import GateError
from ya_salt.gate.etcd_login import Login
from ya_salt.gate.etcd_server import AnsweredError, LostError, Server, Tls, UnsentError
from ya_salt.gate.etcd_values import (
    Compare,
    KeyValue,
    Put,
    Range,
    ReadResult,
    TxnResult,
    absent,
    absent_prefix,
    created,
    decode_ranges,
    decode_revision,
    encode_read,
    encode_txn,
    unchanged,
)
from ya_salt.model import GateSettings

__all__ = [
    "Compare",
    "Etcd",
    "KeyValue",
    "Put",
    "Range",
    "ReadResult",
    "TxnResult",
    "UnknownOutcomeError",
    "absent",
    "absent_prefix",
    "created",
    "unchanged",
]

_PAUSES_S = (0.1, 0.2, 0.4, 0.8)
"""Between rounds over all servers; each further one lasts as long as the last."""
_LEAST_S = 0.05
"""With less time left nothing is begun."""
_SPARE_S = 0.5
_UNCLEAR = {1, 2, 4, 13, 14}
"""gRPC: cancelled, unknown, deadline exceeded, internal, unavailable. It may have been done."""
_OVERLOADED = 8
_NOT_FOUND = 5


class UnknownOutcomeError(GateError):
    """The transaction was sent and its answer was lost: it may have been carried out, or not."""


class _AbsentError(GateError):
    """etcd has no such lease."""


class Etcd:
    """The client. May be used by several threads at once; each has a deadline of its own.

    Every method raises GateError: GateUnreachable where no endpoint answers within `deadline_s`,
    GateRefused where etcd does not let us.
    """

    def __init__(self, settings: GateSettings, *, deadline_s: float = 3.0) -> None:
        if not settings.endpoints:
            raise GateError("no server of etcd's is named; set gate.endpoints")
        tls = Tls(settings.ca_file, settings.cert_file, settings.key_file)
        self._servers = tuple(Server(url, tls) for url in settings.endpoints)
        """The one that answered last is first."""
        self._login = Login(settings.username, settings.password_file)
        self._deadline_s = deadline_s
        self._of_thread = threading.local()

    def close(self) -> None:
        for server in self._servers:
            server.close()

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
        answer = self._post("kv/txn", encode_read(ranges))
        return ReadResult(decode_ranges(answer), decode_revision(answer))

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
        payload = encode_txn(compares, puts, deletes, otherwise)
        answer = self._post("kv/txn", payload, is_write=True)
        succeeded = bool(answer.get("succeeded"))
        found = () if succeeded else decode_ranges(answer)
        return TxnResult(succeeded, decode_revision(answer), found)

    def grant_lease(self, ttl_s: int) -> int:
        """A new lease's number. Where the answer is lost, one stays behind that nothing uses."""
        return int(self._post("lease/grant", {"TTL": ttl_s, "ID": 0})["ID"])

    def keep_alive(self, lease: int) -> int:
        """Seconds that the lease lasts from now on; 0 where it is gone."""
        answer = self._post("lease/keepalive", {"ID": lease})
        return int(answer.get("result", {}).get("TTL", 0))

    def revoke_lease(self, lease: int) -> None:
        """End it, with its keys; fine where it is gone."""
        try:
            self._post("lease/revoke", {"ID": lease})
        except _AbsentError:
            return

    def drop_lease(self, lease: int) -> None:
        """Revoke it if there is time to spare: it ends by itself, too. Never raises GateError."""
        if lease and self.seconds_left() > _SPARE_S:
            with suppress(GateError):
                self.revoke_lease(lease)

    def _post(self, path: str, payload: object, *, is_write: bool = False) -> Mapping[str, Any]:
        failures: dict[Server, Exception] = {}
        with self.deadline():
            for server, within_s in self._take_turns(failures, keeps_time=is_write):
                try:
                    answer = self._login.post(server, path, payload, within_s)
                except (UnsentError, LostError, AnsweredError) as error:
                    failures[server] = error
                    self._judge(server, error, is_write=is_write)
                else:
                    self._prefer(server)
                    return answer
        raise self._give_up(failures)

    def _take_turns(
        self, failures: Mapping[Server, Exception], *, keeps_time: bool
    ) -> Iterator[tuple[Server, float]]:
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
            if all(isinstance(failure, UnsentError) for failure in failures.values()):
                return
            time.sleep(min(pause_s, self.seconds_left()))

    def _judge(self, server: Server, error: Exception, *, is_write: bool) -> None:
        """Raise where it is no use or no good to ask another server."""
        if isinstance(error, AnsweredError) and error.code not in {*_UNCLEAR, _OVERLOADED}:
            kind = _AbsentError if error.code == _NOT_FOUND else GateError
            raise kind(f"etcd on {server.url} answered: {error.message}") from error
        is_unclear = isinstance(error, LostError) or (
            isinstance(error, AnsweredError) and error.code in _UNCLEAR
        )
        if is_write and is_unclear:
            raise UnknownOutcomeError(
                f"whether etcd on {server.url} did what it was asked is not known: {error}"
            ) from error

    def _prefer(self, server: Server) -> None:
        if self._servers[0] is not server:
            self._servers = (server, *(other for other in self._servers if other is not server))

    def _give_up(self, failures: Mapping[Server, Exception]) -> GateError:
        words = "; ".join(f"{server.url}: {error}" for server, error in failures.items())
        # TLS says that it does not want our certificate by breaking the connection with an alert.
        is_refused = any(" alert " in str(error).lower() for error in failures.values())
        if is_refused:
            return GateError(
                f"etcd refuses our certificate (gate.cert_file): {words}", "GateRefused"
            )
        return GateError(f"etcd does not answer: {words or 'there was no time left to ask'}")
