"""The gate on etcd: rules of orlyctl, numbered slots, and nothing taken that is not given back."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ya_salt.model import Deferral
from ya_salt.rollout.decide import GoOn, Grant, NoSlotNeeded, decide
from ya_salt.rollout.etcd import Etcd, KeyValue, Range, absent, unchanged
from ya_salt.rollout.gate import RULE_PREFIX, Allowed, Ask, Held, Identity, State
from ya_salt.rollout.keys import Keys
from ya_salt.rollout.orly_hold import Holding
from ya_salt.rollout.orly_look import (
    Look,
    list_own_ranges,
    list_ranges,
    parse_held,
    parse_look,
    parse_rule_value,
)
from ya_salt.rollout.orly_take import Taking
from ya_salt.rollout.overview import Holder
from ya_salt.rollout.records import read_holder
from ya_salt.rollout.rule import Rule

_TRIES = 3

_log = logging.getLogger("ya_salt.rollout")


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

    def ask(self, ask: Ask) -> Allowed | Deferral:
        taking = Taking(self._etcd, self._keys(ask.daemon), self._host, ask)
        with self._etcd.deadline():
            # Where GateError ends it nothing is given back: it may be ours.
            answer = self._ask(ask, taking)
            taking.finish()
        return answer

    def foresee(self, ask: Ask) -> Allowed | Deferral:
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
        return answer if isinstance(answer, Deferral) else Allowed(look.view.held)

    def find(self, daemon: str) -> Held | None:
        keys = self._keys(daemon)
        ranges = (Range(keys.rule), *list_own_ranges(keys, self._host))
        rules, holders, alive = self._etcd.read(*ranges).found
        rule = parse_rule_value(keys, rules)
        return parse_held(keys, holders, alive, rule if isinstance(rule, Rule) else None)

    def tell(self, held: Held, state: State, error: str = "") -> Held | None:
        with self._etcd.deadline():
            return self._holding(held.daemon).tell(held, state, error, self._now())

    def release(self, held: Held) -> None:
        with self._etcd.deadline():
            self._holding(held.daemon).release(held)

    def renew(self, held: Held) -> Held | None:
        with self._etcd.deadline():
            return self._holding(held.daemon).renew(held)

    # -- one question --------------------------------------------------------------------------

    def _ask(self, ask: Ask, taking: Taking) -> Allowed | Deferral:
        for _ in range(_TRIES):
            answer = self._try(ask, taking)
            if answer is not None:
                return answer
        return Deferral(
            "Busy",
            f"other hosts were quicker with {ask.rule} {_TRIES} times; the next pass asks again",
        )

    def _try(self, ask: Ask, taking: Taking) -> Allowed | Deferral | None:
        """None where something changed meanwhile."""
        look = self._look(ask)
        if isinstance(look, Deferral):
            return look
        match decide(look.view, self._identity, ask, self._now()):
            case NoSlotNeeded():
                return Allowed()
            case GoOn():
                return self._keep(look.view.held)
            case Grant(slots, tokens):
                slot, token = self._pick(slots), self._pick(tokens)
                return self._keep(taking.take(look, slot, token, self._now()))
            case Deferral() as refusal:
                keys = self._keys(ask.daemon)
                return None if self._free_lost(keys, look.view.rule, refusal) else refusal

    def _look(self, ask: Ask) -> Look | Deferral:
        keys = self._keys(ask.daemon)
        read = self._etcd.read(*list_ranges(keys, self._host))
        return parse_look(keys, read.found, read.revision)

    def _keep(self, held: Held | None) -> Allowed | None:
        """Whoever goes on has to be known to be alive: the slots of others may be taken back."""
        if held is not None and not held.lease:
            held = self._holding(held.daemon).renew(held)
        return Allowed(held) if held is not None else None

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
                *(rule.name, holder.slot, holder.host, rule.lost_after_s),
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
        holders = ((item, _read_holder(keys, item)) for item in items)
        return [
            (item, holder)
            for item, holder in holders
            if holder.host not in living and holder.state != "failed" and holder.slot >= 0
        ]

    def _keys(self, daemon: str) -> Keys:
        return Keys(self._prefix, RULE_PREFIX + daemon)

    def _holding(self, daemon: str) -> Holding:
        return Holding(self._etcd, self._keys(daemon), self._host)


def _read_holder(keys: Keys, item: KeyValue) -> Holder:
    return read_holder(item.key.removeprefix(keys.holders), item.value, is_alive=False)
