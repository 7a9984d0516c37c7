"""Take a slot in one transaction, and know afterwards whether it was taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal
from uuid import uuid4

from ya_salt.rollout.etcd import (
    Compare,
    Etcd,
    Put,
    UnknownOutcomeError,
    absent,
    created,
    unchanged,
)
from ya_salt.rollout.etcd_values import untouched_since
from ya_salt.rollout.gate import Ask, Held
from ya_salt.rollout.keys import Keys
from ya_salt.rollout.orly_look import Look, encode, encode_holder, list_own_ranges, parse_held

TOKEN_MARGIN_S = 10
"""A token's lease begins before its transaction, and at most the deadline of a question before."""

_Lease = Literal["alive", "token"]


class Taking:
    """The tries of one question. `finish` gives back the leases of which nothing came."""

    def __init__(self, etcd: Etcd, keys: Keys, host: str, ask: Ask) -> None:
        self._etcd = etcd
        self._keys = keys
        self._host = host
        self._ask = ask
        self._unused: dict[tuple[_Lease, int], int] = {}

    def take(self, look: Look, slot: int | None, token: int | None, now: float) -> Held | None:
        """The slot as it is then ours; None where somebody else was quicker.

        `slot` of None keeps the one that we have; `token` of None: there is no rate.
        """
        held = self._make_held(look, slot, now)
        puts = self._list_puts(look, held, slot, token)
        try:
            # What failed on the slot that is kept was another operation.
            deletes = [self._keys.failed(self._host)] if slot is None else []
            done = self._etcd.transact(self._list_compares(look, slot, token), puts, deletes)
        except UnknownOutcomeError:
            return self._resolve(look, held, puts)
        if not done.succeeded:
            return None
        self._note_used(puts)
        if slot is not None:
            return replace(held, revision=done.revision)
        self._etcd.drop_lease(look.view.held.lease if look.view.held else 0)
        return held

    def finish(self) -> None:
        for lease in self._unused.values():
            self._etcd.drop_lease(lease)
        self._unused.clear()

    def _make_held(self, look: Look, slot: int | None, now: float) -> Held:
        rule, old = look.view.rule, look.view.held
        return Held(
            daemon=self._ask.daemon,
            id=uuid4().hex,
            operation=self._ask.operation,
            target=self._ask.target,
            since=now,
            slot=old.slot if slot is None and old else slot or 0,
            revision=old.revision if old else 0,
            lease=self._grant("alive", rule.lost_after_s),
            min_healthy_s=rule.min_healthy_s,
            lost_after_s=rule.lost_after_s,
        )

    def _grant(self, kind: _Lease, ttl_s: int) -> int:
        lease = self._unused.get((kind, ttl_s))
        if lease is None:
            lease = self._unused[kind, ttl_s] = self._etcd.grant_lease(ttl_s)
        return lease

    def _list_compares(self, look: Look, slot: int | None, token: int | None) -> list[Compare]:
        keys, old = self._keys, look.view.held
        holder = keys.holder(self._host)
        compares = [
            unchanged(keys.rule, look.rule_revision),
            absent(keys.pause),
            created(holder, old.revision) if old else absent(holder),
        ]
        if look.view.rule.max_failures is not None:
            # Whoever fails meanwhile may be the one at whom the rule halts.
            compares.append(untouched_since(keys.failures, look.revision))
        if slot is not None:
            compares.append(absent(keys.slot(slot)))
        if token is not None:
            compares.append(absent(keys.start(token)))
        return compares

    def _list_puts(
        self, look: Look, held: Held, slot: int | None, token: int | None
    ) -> tuple[Put, ...]:
        keys, rule = self._keys, look.view.rule
        host = encode(host=self._host)
        puts = [
            Put(keys.holder(self._host), encode_holder(self._host, held, self._ask)),
            Put(keys.alive(self._host), host, held.lease),
        ]
        if slot is not None:
            puts.append(Put(keys.slot(slot), encode(host=self._host, id=held.id)))
        if token is not None and rule.rate is not None:
            lease = self._grant("token", rule.rate.window_s + TOKEN_MARGIN_S)
            puts.append(Put(keys.start(token), host, lease))
        return tuple(puts)

    def _resolve(self, look: Look, held: Held, puts: Sequence[Put]) -> Held | None:
        """What became of it; where it was not done, it is not done later either."""
        mine = self._find(look, held)
        if mine is None:
            # It may be on its way yet: etcd refuses a transaction that names a lease that is gone.
            self._etcd.revoke_lease(held.lease)
            mine = self._find(look, held)
        self._note_used(puts if mine else [put for put in puts if put.lease == held.lease])
        return mine

    def _find(self, look: Look, held: Held) -> Held | None:
        holders, alive = self._etcd.read(*list_own_ranges(self._keys, self._host)).found
        mine = parse_held(self._keys, holders, alive, look.view.rule)
        return mine if mine is not None and mine.id == held.id else None

    def _note_used(self, puts: Sequence[Put]) -> None:
        used = {put.lease for put in puts}
        self._unused = {key: lease for key, lease in self._unused.items() if lease not in used}
