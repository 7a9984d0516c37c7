"""What a host does with the slot that it has: each change on the record as it was just read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ya_salt.errors import GateError
from ya_salt.rollout.etcd import Etcd, Put, UnknownOutcomeError, unchanged
from ya_salt.rollout.etcd_values import KeyValue
from ya_salt.rollout.gate import Held, State
from ya_salt.rollout.keys import Keys
from ya_salt.rollout.orly_look import (
    encode,
    encode_change,
    is_same,
    list_own_ranges,
    parse_held,
    put_state,
)

_TRIES = 3


@dataclass(frozen=True)
class _Record:
    """The own holder's key, and the lease of the sign of life (0: there is none)."""

    item: KeyValue
    lease: int


class Holding:
    """The slot of `host` under one rule. Methods raise GateError."""

    def __init__(self, etcd: Etcd, keys: Keys, host: str) -> None:
        self._etcd = etcd
        self._keys = keys
        self._host = host

    def tell(self, held: Held, state: State, error: str, now: float) -> Held | None:
        wanted = put_state(held, state, error)
        for _ in range(_TRIES):
            record = self._find(held)
            if record is None:
                return None
            value = encode_change(record.item.value, wanted)
            if value == record.item.value or self._tell(record, wanted, value, now):
                return replace(wanted, lease=record.lease)
        raise self._complain()

    def _tell(self, record: _Record, wanted: Held, value: str, now: float) -> bool:
        puts, deletes = [Put(record.item.key, value)], []
        failed = self._keys.failed(self._host)
        if wanted.state == "failed":
            failure = encode(target=wanted.target, error=wanted.error, since=now)
            puts.append(Put(failed, failure))
        else:
            deletes.append(failed)
        return self._change(record, puts, deletes)

    def release(self, held: Held) -> None:
        for _ in range(_TRIES):
            record = self._find(held)
            if record is None:
                return
            if self._change(record, (), self._list_all(held)):
                self._etcd.drop_lease(record.lease)
                return
        raise self._complain()

    def _list_all(self, held: Held) -> list[str]:
        keys = self._keys
        own = [keys.holder(self._host), keys.alive(self._host), keys.failed(self._host)]
        return [*own, keys.slot(held.slot)] if held.slot >= 0 else own

    def renew(self, held: Held) -> Held | None:
        for _ in range(_TRIES):
            record = self._find(held)
            if record is None:
                return None
            if not held.lost_after_s:
                return replace(held, lease=record.lease)
            if record.lease and self._etcd.keep_alive(record.lease):
                return replace(held, lease=record.lease)
            lease = self._etcd.grant_lease(held.lost_after_s)
            alive = Put(self._keys.alive(self._host), encode(host=self._host), lease)
            if self._change(record, [alive], ()):
                return replace(held, lease=lease)
        raise self._complain()

    def _find(self, held: Held) -> _Record | None:
        """None where the slot is ours no more."""
        holders, alive = self._etcd.read(*list_own_ranges(self._keys, self._host)).found
        if not is_same(held, parse_held(self._keys, holders, alive, None)):
            return None
        return _Record(holders[0], alive[0].lease if alive else 0)

    def _change(self, record: _Record, puts: Sequence[Put], deletes: Sequence[str]) -> bool:
        """Whether it was done; not where the record changed meanwhile, or where nobody knows."""
        is_so = unchanged(record.item.key, record.item.mod_revision)
        try:
            return self._etcd.transact([is_so], puts, deletes).succeeded
        except UnknownOutcomeError:
            return False

    def _complain(self) -> GateError:
        return GateError(f"{self._keys.holder(self._host)} does not stay as it is read; try again")
