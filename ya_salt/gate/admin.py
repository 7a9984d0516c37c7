"""What an operator does to rules. Every change is one transaction on what was read before it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence

from ya_salt.errors import GateError, RetryError
from ya_salt.gate.decide import Pause
from ya_salt.gate.etcd import (
    Compare,
    Etcd,
    KeyValue,
    Put,
    Range,
    UnknownOutcomeError,
    absent_prefix,
    created,
    unchanged,
)
from ya_salt.gate.overview import Released, RuleStatus, find_released
from ya_salt.gate.records import Keys, make_statuses, read_pause
from ya_salt.gate.rule import Rule
from ya_salt.gate.rule_change import RuleResult, compare_rule
from ya_salt.quick_dataclass import dataclass
from ya_salt.text import printable

RELEASED_TTL_S = 7 * 24 * 3600
"""How long it can be seen who released a host."""


class NotPossibleError(RetryError):
    """What was asked for cannot be as things stand: no such rule or holder, held, a conflict."""


@dataclass(frozen=True)
class _Look:
    keys: Keys
    status: RuleStatus
    found: Mapping[str, KeyValue]

    def same(self, key: str) -> Compare:
        """The key is as it was seen, absence included."""
        item = self.found.get(key)
        return unchanged(key, item.mod_revision if item else 0)

    def created_at(self, key: str) -> int:
        return self.found[key].create_revision


@dataclass(frozen=True)
class _Change:
    compares: Sequence[Compare]
    puts: Sequence[Put] = ()
    deletes: Sequence[str | Range] = ()


class RuleAdmin:
    """Rules on etcd, below `prefix`. Methods raise GateError where etcd cannot be asked."""

    def __init__(self, etcd: Etcd, prefix: str) -> None:
        self._etcd = etcd
        self._prefix = prefix

    # -- reading -------------------------------------------------------------------------------

    def read_all(self) -> tuple[RuleStatus, ...]:
        """All rules at one moment, by name."""
        (found,) = self._etcd.read(Range(self._prefix, is_prefix=True)).found
        return make_statuses(self._prefix, [(item.key, item.value) for item in found])

    def read(self, name: str) -> RuleStatus:
        """All that there is of a rule, at one moment. Raises NotPossibleError: there is none."""
        return self._look(name).status

    def _look(self, name: str) -> _Look:
        keys = self._keys(name)
        parts = self._etcd.read(*keys.list_ranges()).found
        found = {item.key: item for part in parts for item in part}
        statuses = make_statuses(self._prefix, [(k, item.value) for k, item in found.items()])
        if not statuses:
            raise NotPossibleError(self._explain_missing(name))
        return _Look(keys, statuses[0], found)

    def _look_at_rule(self, name: str) -> _Look:
        """As _look, but without a rule that can be read there is none."""
        look = self._look(name)
        if look.keys.rule not in look.found:
            raise NotPossibleError(look.status.problem)
        return look

    def _explain_missing(self, name: str) -> str:
        start = self._keys("").rule
        (found,) = self._etcd.read(Range(start, is_prefix=True, keys_only=True)).found
        known = [item.key.removeprefix(start) for item in found]
        near = difflib.get_close_matches(name, known, n=1)
        near += [other for other in known if other.endswith(f"-{name}")]
        hint = (
            f"did you mean {printable(near[0])}?"
            if near
            else "orlyctl list shows those that there are"
        )
        return f"there is no rule {name}; {hint}"

    def _keys(self, name: str) -> Keys:
        return Keys(self._prefix, name)

    # -- rules ---------------------------------------------------------------------------------

    def apply(self, rule: Rule, *, is_dry: bool = False) -> RuleResult:
        """Make the rule what `rule` says; a pause stays. Raises NotPossibleError on a conflict."""
        keys = self._keys(rule.name)
        parts = self._etcd.read(Range(keys.rule), Range(keys.pause)).found
        old, pause = (part[0] if part else None for part in parts)
        paused = read_pause(pause.value if pause else None)
        applied = compare_rule(old.value if old else None, rule, paused)
        if applied.is_change and not is_dry:
            self._commit(
                rule.name,
                _Change(
                    [unchanged(keys.rule, old.mod_revision if old else 0)],
                    [Put(keys.rule, rule.document)],
                ),
                is_done=lambda: self._read_value(keys.rule) == rule.document,
            )
        return applied

    def delete(self, name: str) -> None:
        """Remove a rule that nobody holds. Raises NotPossibleError with who holds it."""
        look = self._look_at_rule(name)
        if look.status.held:
            raise NotPossibleError(_explain_held(look.status))
        keys = look.keys
        # Records without a slot would count as failures of a later rule of that name.
        rest = (keys.holders, keys.failures, keys.alives, keys.releases)
        self._commit(
            name,
            _Change(
                [look.same(keys.rule), absent_prefix(keys.slots)],
                deletes=[keys.rule, keys.pause, *(Range(key, is_prefix=True) for key in rest)],
            ),
            is_done=lambda: self._read_value(keys.rule) is None,
        )

    # -- slots ---------------------------------------------------------------------------------

    def release(self, name: str, host: str, reason: str, by: str, now: float) -> Released:
        """Give back what the host holds, and say so for a week. Raises NotPossibleError."""
        look = self._look(name)
        released = find_released(look.status, host)
        if released is None:
            hosts = {*look.status.slots.values(), *look.status.aside}
            holders = ", ".join(sorted(hosts)) or "nobody"
            raise NotPossibleError(f"{host} holds no slot of {name}; {printable(holders)} does")
        keys = look.keys
        held = [keys.holder(host), *(keys.slot(number) for number in released.slots)]
        lease = self._etcd.grant_lease(RELEASED_TTL_S)
        note = json.dumps({"reason": reason, "by": by, "at": now}, ensure_ascii=False)
        put = Put(keys.released(host), note, lease)
        try:
            self._commit(
                f"{host}'s slot of {name}",
                _Change(
                    [look.same(key) for key in held],
                    [put],
                    [*held, keys.failed(host), keys.alive(host)],
                ),
                is_done=lambda: self._read_value(put.key) == note,
            )
        except NotPossibleError:
            self._etcd.revoke_lease(lease)
            raise
        return released

    # -- pauses --------------------------------------------------------------------------------

    def pause(self, name: str, pause: Pause) -> Pause | None:
        """Let nobody start from now on. Gives the pause that was in force; the same one stays."""
        look = self._look_at_rule(name)
        before = look.status.pause
        if before is not None and before.reason == pause.reason:
            return before
        key = look.keys.pause
        data = {"reason": pause.reason, "by": pause.by, "since": pause.since}
        value = json.dumps(data, ensure_ascii=False)
        self._commit(
            name,
            # Whoever edits the rule at this moment must not keep it from being paused.
            _Change(
                [created(look.keys.rule, look.created_at(look.keys.rule)), look.same(key)],
                [Put(key, value)],
            ),
            is_done=lambda: self._read_value(key) == value,
        )
        return before

    def resume(self, name: str) -> Pause | None:
        """End the pause. Gives the one that was in force."""
        look = self._look(name)
        key = look.keys.pause
        if look.status.pause is not None:
            self._commit(
                name,
                _Change([look.same(key)], deletes=[key]),
                is_done=lambda: self._read_value(key) is None,
            )
        return look.status.pause

    # -- pieces --------------------------------------------------------------------------------

    def _commit(self, what: str, change: _Change, is_done: Callable[[], bool]) -> None:
        """Carry it out once. Where the answer is lost it is sent again.

        If it was carried out, what is compared is no more as it was: it is not done twice, and what
        is there tells that it was done.
        """
        for _ in range(2):
            try:
                result = self._etcd.transact(change.compares, change.puts, change.deletes)
            except UnknownOutcomeError:
                continue
            if result.succeeded or is_done():
                return
            raise NotPossibleError(
                f"somebody changed {what} at the same moment: nothing was done; look at it "
                "(orlyctl status), and give the command again"
            )
        if is_done():
            return
        raise GateError(
            f"whether {what} was changed is not known: etcd's answer was lost twice; look at it "
            "(orlyctl status), and give the command again"
        )

    def _read_value(self, key: str) -> str | None:
        (found,) = self._etcd.read(Range(key)).found
        return found[0].value if found else None


def _explain_held(status: RuleStatus) -> str:
    known = {item.host: item for item in status.holders}
    hosts = [
        f"{host} ({known[host].doing}, {known[host].state})" if host in known else host
        for host in (*status.slots.values(), *sorted(status.aside))
    ]
    shown = ", ".join(hosts[:5]) + (f" and {len(hosts) - 5} more" if len(hosts) > 5 else "")
    return (
        f"{status.name} is held by {printable(shown)}: wait for them (orlyctl pause keeps others "
        f"out), or orlyctl release {status.name} HOST"
    )
