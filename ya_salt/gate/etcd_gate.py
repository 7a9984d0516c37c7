"""The gate on etcd: rules of orlyctl, numbered slots, and nothing taken that is not given back."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Literal, cast
from uuid import uuid4

from ya_salt.errors import GateError, SpecError
from ya_salt.gate.decide import GoOn, Grant, NoSlotNeeded, View, decide
from ya_salt.gate.etcd import (
    Compare,
    Etcd,
    KeyValue,
    Put,
    Range,
    UnknownOutcomeError,
    absent,
    created,
    unchanged,
    untouched_since,
)
from ya_salt.gate.overview import Holder
from ya_salt.gate.protocol import (
    RULE_PREFIX,
    Granted,
    Identity,
    Operation,
    Slot,
    SlotRequest,
    State,
)
from ya_salt.gate.records import (
    Keys,
    is_text,
    read_object,
    read_pause,
    require_failure,
    require_holder,
    require_numbers,
)
from ya_salt.gate.rule import Rule
from ya_salt.gate.rule_file import parse_rule
from ya_salt.model import Deferral
from ya_salt.quick_dataclass import dataclass, replace
from ya_salt.text import printable

_TRIES = 3

_log = logging.getLogger("ya_salt.gate")


class OrlyGate:
    """A Gate. Each call is over within the deadline of `etcd`.

    While a rule lets nobody start, asking costs etcd one read and no write.
    """

    def __init__(
        self,
        etcd: Etcd,
        prefix: str,
        identity: Identity,
        *,
        now: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._etcd = etcd
        self._prefix = prefix
        self._host = identity.host
        self._identity = replace(identity, facts={"hostname": identity.host, **identity.facts})
        self._now = now
        self._rng = rng or random.Random()  # noqa: S311 - only spreads hosts over free numbers

    def close(self) -> None:
        self._etcd.close()

    def ask(self, ask: SlotRequest) -> Granted | Deferral:
        taking = Taking(self._etcd, self._keys(ask.daemon), self._host, ask)
        with self._etcd.deadline():
            # Where GateError ends it nothing is given back: it may be ours.
            answer = self._ask(ask, taking)
            taking.finish()
        return answer

    def preview(self, ask: SlotRequest) -> Granted | Deferral:
        with self._etcd.deadline():
            look = self._look(ask)
            if isinstance(look, Deferral):
                return look
            answer = decide(look.view, self._identity, ask, self._now())
            lost = self._find_lost(self._keys(ask.daemon), look.view.rule, answer)
            if lost:
                freed = frozenset(holder.slot for _, holder in lost)
                view = replace(look.view, slots=look.view.slots - freed)
                answer = decide(view, self._identity, ask, self._now())
        return answer if isinstance(answer, Deferral) else Granted(look.view.held)

    def find(self, daemon: str) -> Slot | None:
        keys = self._keys(daemon)
        ranges = (Range(keys.rule), *list_own_ranges(keys, self._host))
        rules, holders, alive = self._etcd.read(*ranges).found
        rule = parse_rule_value(keys, rules)
        return parse_held(keys, holders, alive, rule if isinstance(rule, Rule) else None)

    def tell(self, held: Slot, state: State, error: str = "") -> Slot | None:
        with self._etcd.deadline():
            return self._holding(held.daemon).tell(held, state, error, self._now())

    def blame(self, returned: Slot, error: str) -> Slot | None:
        ask = SlotRequest(returned.daemon, returned.operation, returned.target)
        taking = Taking(self._etcd, self._keys(ask.daemon), self._host, ask)
        with self._etcd.deadline():
            for _ in range(_TRIES):
                look = self._look(ask)
                if isinstance(look, Deferral):
                    return None
                # A slot that this host does not know of is about something else by now.
                held = look.view.held or taking.fail(look, error, self._now())
                if held is not None:
                    taking.finish()
                    return held
        raise GateError(f"{ask.rule} does not stay as it is read; try again")

    def release(self, held: Slot) -> None:
        with self._etcd.deadline():
            self._holding(held.daemon).release(held)

    def renew(self, held: Slot) -> Slot | None:
        with self._etcd.deadline():
            return self._holding(held.daemon).renew(held)

    # -- one question --------------------------------------------------------------------------

    def _ask(self, ask: SlotRequest, taking: Taking) -> Granted | Deferral:
        for _ in range(_TRIES):
            answer = self._try(ask, taking)
            if answer is not None:
                return answer
        return Deferral(
            "Busy",
            f"other hosts were quicker with {ask.rule} {_TRIES} times; the next pass asks again",
        )

    def _try(self, ask: SlotRequest, taking: Taking) -> Granted | Deferral | None:
        """None where something changed meanwhile."""
        look = self._look(ask)
        if isinstance(look, Deferral):
            return look
        match decide(look.view, self._identity, ask, self._now()):
            case NoSlotNeeded():
                return Granted()
            case GoOn():
                return self._keep(look.view.held)
            case Grant(slots, tokens):
                slot, token = self._pick(slots), self._pick(tokens)
                return self._keep(taking.take(look, slot, token, self._now()))
            case Deferral() as refusal:
                keys = self._keys(ask.daemon)
                return None if self._free_lost(keys, look.view.rule, refusal) else refusal

    def _look(self, ask: SlotRequest) -> RuleLook | Deferral:
        keys = self._keys(ask.daemon)
        read = self._etcd.read(*list_ranges(keys, self._host))
        return parse_look(keys, read.found, read.revision)

    def _keep(self, held: Slot | None) -> Granted | None:
        """Whoever goes on has to be known to be alive: the slots of others may be taken back."""
        if held is not None and not held.lease:
            held = self._holding(held.daemon).renew(held)
        return Granted(held) if held is not None else None

    def _pick(self, numbers: Sequence[int]) -> int | None:
        return self._rng.choice(numbers) if numbers else None

    # -- lost hosts ----------------------------------------------------------------------------

    def _free_lost(self, keys: Keys, rule: Rule, refusal: Deferral) -> bool:
        """Take a slot back from one host, picked by chance: many look for one at the same time."""
        lost = self._find_lost(keys, rule, refusal)
        if not lost:
            return False
        item, holder = self._rng.choice(lost)
        deletes = (item.key, keys.slot(holder.slot), keys.failed(holder.host))
        is_lost = (unchanged(item.key, item.mod_revision), absent(keys.alive(holder.host)))
        if self._etcd.transact(is_lost, deletes=deletes).succeeded:
            _log.warning(
                "%s: slot %d taken back from %s, not heard of for %d s, at %s of %s",
                *(rule.name, holder.slot, printable(holder.host), rule.lost_after_s),
                *(holder.operation, holder.target),
            )
        return True

    def _find_lost(self, keys: Keys, rule: Rule, answer: object) -> list[tuple[KeyValue, Holder]]:
        """Holders that stand in the way and that the rule gives up.

        What failed is no lost host: it counts until somebody looks into it.
        """
        if not isinstance(answer, Deferral) or answer.reason != "Full" or rule.on_lost != "free":
            return []
        alive_keys = Range(keys.alives, is_prefix=True, keys_only=True)
        items, alive = self._etcd.read(Range(keys.holders, is_prefix=True), alive_keys).found
        living = {item.key.removeprefix(keys.alives) for item in alive}
        holders = ((item, _find_holder(keys, item)) for item in items)
        return [
            (item, holder)
            for item, holder in holders
            if holder is not None and holder.host not in living and holder.slot >= 0
            if holder.state != "failed"
        ]

    def _keys(self, daemon: str) -> Keys:
        return Keys(self._prefix, RULE_PREFIX + daemon)

    def _holding(self, daemon: str) -> Holding:
        return Holding(self._etcd, self._keys(daemon), self._host)


def _find_holder(keys: Keys, item: KeyValue) -> Holder | None:
    """None where it cannot be read: what it holds is not taken from it, then."""
    try:
        host = item.key.removeprefix(keys.holders)
        return require_holder(keys, host, item.value, is_alive=False)
    except GateError:
        return None


# -- one look at a rule --------------------------------------------------------------------------

_MAX_ERROR_BYTES = 512
_MAX_WORDS = 500
_Found = tuple[tuple[KeyValue, ...], ...]


@dataclass(frozen=True)
class RuleLook:
    """What there is to decide on, and at which revision the rule was so."""

    view: View
    rule_revision: int
    holder_revision: int
    """When the own holder's record was written last; 0: there is none."""
    revision: int
    """etcd's at the look."""


def list_ranges(keys: Keys, host: str) -> tuple[Range, ...]:
    """What `parse_look` needs. Little, however many hosts hold: a whole fleet reads it at once."""
    return (
        Range(keys.rule),
        Range(keys.pause),
        *list_own_ranges(keys, host),
        Range(keys.slots, is_prefix=True, keys_only=True),
        Range(keys.starts, is_prefix=True, keys_only=True),
        Range(keys.failures, is_prefix=True),
    )


def list_own_ranges(keys: Keys, host: str) -> tuple[Range, Range]:
    return Range(keys.holder(host)), Range(keys.alive(host))


def parse_look(keys: Keys, found: _Found, revision: int) -> RuleLook | Deferral:
    """`found` is for the ranges of `list_ranges`. Raises GateError for what no host writes."""
    rules, pauses, holders, alive, slots, starts, failed = found
    rule = parse_rule_value(keys, rules)
    if isinstance(rule, Deferral):
        return rule
    hosts = {item.key.removeprefix(keys.failures): item.value for item in failed}
    failures = {host: require_failure(keys, host, value) for host, value in hosts.items()}
    view = View(
        rule=rule,
        slots=require_numbers(keys.slots, [item.key for item in slots]),
        starts=require_numbers(keys.starts, [item.key for item in starts]),
        failures={host: target for host, (target, _) in failures.items()},
        aside=frozenset(host for host, (_, is_aside) in failures.items() if is_aside),
        pause=read_pause(pauses[0].value) if pauses else None,
        held=parse_held(keys, holders, alive, rule),
    )
    own = holders[0].mod_revision if holders else 0
    return RuleLook(view, rules[0].mod_revision, own, revision)


def parse_rule_value(keys: Keys, rules: tuple[KeyValue, ...]) -> Rule | Deferral:
    if not rules:
        return Deferral(
            "RuleMissing", f"there is no rule {keys.name}; orlyctl apply-rule -f FILE makes it"
        )
    text = rules[0].value
    if not is_text(text):
        return _refuse(f"what is kept as {keys.name} is no UTF-8")
    try:
        rule = parse_rule(text, keys.name, is_json=True)
    except SpecError as error:
        return _refuse(f"{error.problems[0]}; this host's ya-salt may be older than the rule")
    if rule.name != keys.name:
        return _refuse(f"what is kept as {keys.name} is the rule {rule.name}")
    return rule


def _refuse(words: str) -> Deferral:
    words = printable(words, _MAX_WORDS)
    return Deferral("RuleUnreadable", f"{words}; orlyctl apply-rule -f FILE puts it right")


def parse_held(
    keys: Keys,
    holders: tuple[KeyValue, ...],
    alive: tuple[KeyValue, ...],
    rule: Rule | None,
) -> Slot | None:
    """The own slot, from the own holder's key and sign of life. Without a rule it need not wait.

    Raises GateError where the record is none that a host writes: whose slot it is nobody knows.
    """
    if not holders:
        return None
    (item,) = holders
    host = item.key.removeprefix(keys.holders)
    holder = require_holder(keys, host, item.value, is_alive=bool(alive))
    return Slot(
        daemon=keys.name.removeprefix(RULE_PREFIX),
        id=holder.id,
        operation=cast(Operation, holder.operation),
        target=holder.target,
        since=holder.since,
        state=cast(State, holder.state),
        error=printable(holder.error, _MAX_ERROR_BYTES),
        slot=holder.slot,
        revision=item.create_revision,
        lease=alive[0].lease if alive else 0,
        min_healthy_s=rule.min_healthy_s if rule else None,
        lost_after_s=rule.lost_after_s if rule else 0,
    )


def is_same(held: Slot, other: Slot | None) -> bool:
    """Whether it is the very same slot, not one taken later."""
    return other is not None and (held.id, held.revision) == (other.id, other.revision)


def put_state(held: Slot, state: State, error: str) -> Slot:
    """The slot in another state; `error` is kept with `failed` alone, cut to a bounded length.

    Who has failed has no number any more: what it keeps counts for its version alone.
    """
    if state != "failed":
        return replace(held, state=state, error="")
    words = error.encode(errors="replace")[:_MAX_ERROR_BYTES].decode(errors="ignore")
    return replace(held, state=state, error=words, slot=-1)


def encode_holder(host: str, held: Slot, ask: SlotRequest) -> str:
    return encode(
        host=host,
        id=held.id,
        slot=held.slot,
        operation=held.operation,
        target=held.target,
        reason=ask.reason[:_MAX_ERROR_BYTES],
        since=held.since,
        state=held.state,
        error=held.error,
    )


def encode_failure(held: Slot, now: float) -> str:
    return encode(target=held.target, error=held.error, since=now, aside=True)


def encode_change(old: str, held: Slot) -> str:
    """A holder's value with another state."""
    changed = {"slot": held.slot, "state": held.state, "error": held.error}
    return encode(**{**read_object(old), **changed})


def encode(**values: object) -> str:
    return json.dumps(values, separators=(",", ":"))


# -- taking a slot -------------------------------------------------------------------------------

TOKEN_MARGIN_S = 10
"""A token's lease begins before its transaction, and at most the deadline of a question before."""

_Lease = Literal["alive", "token"]


class Taking:
    """The tries of one question. `finish` gives back the leases of which nothing came."""

    def __init__(self, etcd: Etcd, keys: Keys, host: str, ask: SlotRequest) -> None:
        self._etcd = etcd
        self._keys = keys
        self._host = host
        self._ask = ask
        self._unused: dict[tuple[_Lease, int], int] = {}

    def take(self, look: RuleLook, slot: int | None, token: int | None, now: float) -> Slot | None:
        """The slot as it is then ours; None where somebody else was quicker.

        `slot` of None keeps the one that we have; `token` of None: there is no rate.
        """
        old = look.view.held
        held = self._make_held(look, slot, now)
        puts = self._list_puts(look, held, slot, token)
        try:
            # What failed before was another operation.
            deletes = [self._keys.failed(self._host)] if old else []
            done = self._etcd.transact(self._list_compares(look, slot, token), puts, deletes)
        except UnknownOutcomeError:
            return self._resolve(look, held, puts)
        if not done.succeeded:
            return None
        self._note_used(puts)
        if old is None:
            return replace(held, revision=done.revision)
        self._etcd.drop_lease(old.lease)
        return held

    def fail(self, look: RuleLook, error: str, now: float) -> Slot | None:
        """The slot of an operation that has failed by now; None where something changed meanwhile.

        It needs no number, so it can be had whoever is at it.
        """
        keys = self._keys
        held = put_state(self._make_held(look, None, now), "failed", error)
        puts = (
            Put(keys.holder(self._host), encode_holder(self._host, held, self._ask)),
            Put(keys.failed(self._host), encode_failure(held, now)),
            Put(keys.alive(self._host), encode(host=self._host), held.lease),
        )
        compares = [
            unchanged(keys.rule, look.rule_revision),
            absent(keys.holder(self._host)),
        ]
        try:
            done = self._etcd.transact(compares, puts)
        except UnknownOutcomeError:
            return self._resolve(look, held, puts)
        if not done.succeeded:
            return None
        self._note_used(puts)
        return replace(held, revision=done.revision)

    def finish(self) -> None:
        for lease in self._unused.values():
            self._etcd.drop_lease(lease)
        self._unused.clear()

    def _make_held(self, look: RuleLook, slot: int | None, now: float) -> Slot:
        rule, old = look.view.rule, look.view.held
        return Slot(
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

    def _list_compares(self, look: RuleLook, slot: int | None, token: int | None) -> list[Compare]:
        keys, old = self._keys, look.view.held
        holder = keys.holder(self._host)
        compares = [
            unchanged(keys.rule, look.rule_revision),
            absent(keys.pause),
            created(holder, old.revision) if old else absent(holder),
            # Whoever fails meanwhile may be the one at whom the rule halts, and leaves a number.
            untouched_since(keys.failures, look.revision),
        ]
        if slot is not None:
            compares.append(absent(keys.slot(slot)))
            if old is not None:
                # A host of the same name must not take a second one.
                compares.append(unchanged(holder, look.holder_revision))
        if token is not None:
            compares.append(absent(keys.start(token)))
        return compares

    def _list_puts(
        self, look: RuleLook, held: Slot, slot: int | None, token: int | None
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

    def _resolve(self, look: RuleLook, held: Slot, puts: Sequence[Put]) -> Slot | None:
        """What became of it; where it was not done, it is not done later either."""
        mine = self._find(look, held)
        if mine is None:
            # It may be on its way yet: etcd refuses a transaction that names a lease that is gone.
            self._etcd.revoke_lease(held.lease)
            mine = self._find(look, held)
        self._note_used(puts if mine else [put for put in puts if put.lease == held.lease])
        return mine

    def _find(self, look: RuleLook, held: Slot) -> Slot | None:
        holders, alive = self._etcd.read(*list_own_ranges(self._keys, self._host)).found
        mine = parse_held(self._keys, holders, alive, look.view.rule)
        return mine if mine is not None and mine.id == held.id else None

    def _note_used(self, puts: Sequence[Put]) -> None:
        used = {put.lease for put in puts}
        self._unused = {key: lease for key, lease in self._unused.items() if lease not in used}


# -- a slot that is taken ------------------------------------------------------------------------


@dataclass(frozen=True)
class _HolderRecord:
    """The own holder's key, the slot's number, the lease of the sign of life (0: there is none)."""

    item: KeyValue
    slot: int
    lease: int


class Holding:
    """The slot of `host` under one rule. Methods raise GateError."""

    def __init__(self, etcd: Etcd, keys: Keys, host: str) -> None:
        self._etcd = etcd
        self._keys = keys
        self._host = host

    def tell(self, held: Slot, state: State, error: str, now: float) -> Slot | None:
        for _ in range(_TRIES):
            record = self._find(held)
            if record is None:
                return None
            wanted = put_state(replace(held, slot=record.slot), state, error)
            value = encode_change(record.item.value, wanted)
            if value == record.item.value or self._tell(record, wanted, value, now):
                return replace(wanted, lease=record.lease)
        raise self._complain()

    def _tell(self, record: _HolderRecord, wanted: Slot, value: str, now: float) -> bool:
        puts, deletes = [Put(record.item.key, value)], []
        failed = self._keys.failed(self._host)
        if wanted.state == "failed":
            puts.append(Put(failed, encode_failure(wanted, now)))
            deletes += self._list_slot(record)
        else:
            deletes.append(failed)
        return self._change(record, puts, deletes)

    def release(self, held: Slot) -> None:
        for _ in range(_TRIES):
            record = self._find(held)
            if record is None:
                return
            if self._change(record, (), self._list_all(record)):
                self._etcd.drop_lease(record.lease)
                return
        raise self._complain()

    def _list_all(self, record: _HolderRecord) -> list[str]:
        keys = self._keys
        own = [keys.holder(self._host), keys.alive(self._host), keys.failed(self._host)]
        return [*own, *self._list_slot(record)]

    def _list_slot(self, record: _HolderRecord) -> list[str]:
        """By the record: what the host remembers may be a number that another one has by now."""
        return [self._keys.slot(record.slot)] if record.slot >= 0 else []

    def renew(self, held: Slot) -> Slot | None:
        for _ in range(_TRIES):
            record = self._find(held)
            if record is None:
                return None
            held = replace(held, slot=record.slot)
            if not held.lost_after_s:
                return replace(held, lease=record.lease)
            if record.lease and self._etcd.keep_alive(record.lease):
                return replace(held, lease=record.lease)
            lease = self._etcd.grant_lease(held.lost_after_s)
            alive = Put(self._keys.alive(self._host), encode(host=self._host), lease)
            if self._change(record, [alive], ()):
                return replace(held, lease=lease)
        raise self._complain()

    def _find(self, held: Slot) -> _HolderRecord | None:
        """None where the slot is ours no more."""
        holders, alive = self._etcd.read(*list_own_ranges(self._keys, self._host)).found
        mine = parse_held(self._keys, holders, alive, None)
        if mine is None or not is_same(held, mine):
            return None
        return _HolderRecord(holders[0], mine.slot, mine.lease)

    def _change(self, record: _HolderRecord, puts: Sequence[Put], deletes: Sequence[str]) -> bool:
        """Whether it was done; not where the record changed meanwhile, or where nobody knows."""
        is_so = unchanged(record.item.key, record.item.mod_revision)
        try:
            return self._etcd.transact([is_so], puts, deletes).succeeded
        except UnknownOutcomeError:
            return False

    def _complain(self) -> GateError:
        return GateError(f"{self._keys.holder(self._host)} does not stay as it is read; try again")
