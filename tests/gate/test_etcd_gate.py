"""The gate on real etcd: what hosts are told, what they leave there, and what failures come to."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from helpers.etcd import EtcdServer
from helpers.etcd_proxy import EtcdProxy, find_dead_url

from ya_salt.errors import GateError
from ya_salt.gate.etcd import Etcd, KeyValue, Put, Range
from ya_salt.gate.etcd_gate import OrlyGate
from ya_salt.gate.protocol import Granted, Slot, SlotRequest
from ya_salt.gate.records import Keys
from ya_salt.model import Deferral

UPDATE = SlotRequest("web", "update", "2.0", "package web 1.0 -> 2.0")
NEWER = replace(UPDATE, target="2.1")

PutRule = Callable[..., None]
MakeGate = Callable[..., OrlyGate]


class Keep:
    """What etcd keeps of the rule."""

    def __init__(self, client: Etcd, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    def read(self) -> dict[str, KeyValue]:
        """By the key without the prefix and the rule's name: `slots/00000`, `alive/h1`."""
        found = self._client.read(Range(self._keys.prefix, is_prefix=True)).found[0]
        names = (item.key.removeprefix(self._keys.prefix) for item in found)
        return {
            name.replace(f"/{self._keys.name}", "", 1): item
            for name, item in zip(names, found, strict=True)
        }

    def list(self, kind: str) -> list[str]:
        """The ends of the keys of a kind: hosts or numbers."""
        return [name.partition("/")[2] for name in self.read() if name.startswith(f"{kind}/")]

    def parse(self, name: str) -> Any:
        return json.loads(self.read()[name].value)

    def revision(self) -> int:
        return self._client.read().revision

    def end_lease(self, name: str) -> None:
        """What time does to a lease that nobody keeps up."""
        self._client.revoke_lease(self.read()[name].lease)


@pytest.fixture
def keep(client: Etcd, keys: Keys) -> Keep:
    return Keep(client, keys)


@pytest.fixture
def proxy(etcd_server: EtcdServer) -> Iterator[EtcdProxy]:
    with EtcdProxy(etcd_server.ports[0]) as made:
        yield made


def take(gate: OrlyGate, ask: SlotRequest = UPDATE) -> Slot:
    answer = gate.ask(ask)
    assert isinstance(answer, Granted), answer
    assert answer.held is not None
    return answer.held


def refuse(gate: OrlyGate, ask: SlotRequest = UPDATE) -> Deferral:
    answer = gate.ask(ask)
    assert isinstance(answer, Deferral), answer
    return answer


# -- taking a slot ---------------------------------------------------------------------------------


def test_taking_a_slot_leaves_it_with_holder_token_and_sign_of_life(
    make_gate: MakeGate, put_rule: PutRule, keep: Keep
) -> None:
    put_rule(
        "max_concurrent: 3, rate: {count: 4, window: 1m}, min_healthy_time: 5m, lost_after: 2h"
    )
    held = take(make_gate("h1", now=lambda: 1000.5))

    kept = keep.read()
    (slot,), (start,) = keep.list("slots"), keep.list("starts")
    assert re.fullmatch(r"0000[0-2]", slot)
    assert re.fullmatch(r"0000[0-3]", start)
    assert keep.parse(f"slots/{slot}") == {"host": "h1", "id": held.id}
    assert keep.parse("holders/h1") == {
        "host": "h1",
        "id": held.id,
        "slot": int(slot),
        "operation": "update",
        "target": "2.0",
        "reason": "package web 1.0 -> 2.0",
        "since": 1000.5,
        "state": "working",
        "error": "",
    }
    # Nothing that holds has a lease: an expiring slot would let a bad version creep on.
    assert (kept[f"slots/{slot}"].lease, kept["holders/h1"].lease) == (0, 0)
    assert kept["alive/h1"].lease == held.lease != kept[f"starts/{start}"].lease != 0
    assert held == Slot(
        daemon="web",
        id=held.id,
        operation="update",
        target="2.0",
        since=1000.5,
        slot=int(slot),
        revision=kept["holders/h1"].create_revision,
        lease=held.lease,
        min_healthy_s=300,
        lost_after_s=7200,
    )


def test_leases_last_as_long_as_the_rule_says(
    make_gate: MakeGate, put_rule: PutRule, keep: Keep, client: Etcd
) -> None:
    put_rule("rate: {count: 1, window: 30m}, lost_after: 2h")
    take(make_gate("h1"))
    kept = keep.read()
    # A token may never be back before its window is over, so it has a margin.
    assert client.keep_alive(kept["starts/00000"].lease) == 1810
    assert client.keep_alive(kept["alive/h1"].lease) == 7200


def test_asking_again_takes_and_writes_nothing_more(
    make_gate: MakeGate, put_rule: PutRule, keep: Keep
) -> None:
    put_rule("max_concurrent: 3, rate: {count: 4, window: 1m}")
    gate = make_gate("h1")
    held = take(gate)
    before = keep.revision()
    assert take(gate) == held
    assert gate.preview(UPDATE) == Granted(held)
    assert keep.revision() == before


def test_slot_is_known_again_after_the_host_forgot_it(
    make_gate: MakeGate, put_rule: PutRule
) -> None:
    put_rule("min_healthy_time: 5m")
    held = take(make_gate("h1"))
    anew = make_gate("h1")
    assert anew.find("web") == held
    assert take(anew) == held
    assert make_gate("h2").find("web") is None
    assert anew.find("db") is None


def test_slot_is_known_again_where_the_rule_is_gone(
    make_gate: MakeGate, put_rule: PutRule, client: Etcd, keys: Keys
) -> None:
    put_rule("min_healthy_time: 5m")
    held = take(make_gate("h1"))
    client.transact([], deletes=[keys.rule])
    assert make_gate("h1").find("web") == replace(held, min_healthy_s=None, lost_after_s=0)


def test_another_version_goes_on_where_one_failed(
    make_gate: MakeGate, put_rule: PutRule, keep: Keep
) -> None:
    put_rule("rate: {count: 2, window: 1m}")
    gate = make_gate("h1")
    held = take(gate)
    failed = gate.tell(held, "failed", "exit 1")
    assert failed is not None
    assert keep.list("slots") == []

    again = take(gate, NEWER)

    assert again.id != held.id
    assert (again.slot, again.revision, again.state) == (held.slot, held.revision, "working")
    assert keep.list("slots") == ["00000"]
    assert keep.list("failed") == []
    # It is another start.
    assert len(keep.list("starts")) == 2
    assert gate.renew(again) == again
    assert gate.tell(failed, "settling") is None
    assert refuse(gate, replace(NEWER, target="2.2")).reason == "RateLimited"


def test_first_install_needs_no_slot_where_the_rule_says_so(
    make_gate: MakeGate, put_rule: PutRule, keep: Keep
) -> None:
    put_rule("first_install: allow")
    assert make_gate("h1").ask(replace(UPDATE, operation="install")) == Granted()
    assert keep.list("slots") == []


# -- every reason to wait --------------------------------------------------------------------------


def test_full_until_somebody_gives_a_slot_back(make_gate: MakeGate, put_rule: PutRule) -> None:
    put_rule("max_concurrent: 2")
    gates = [make_gate(f"h{number}") for number in range(3)]
    first, second = take(gates[0]), take(gates[1])
    assert {first.slot, second.slot} == {0, 1}
    assert refuse(gates[2]).reason == "Full"
    previewed = gates[2].preview(UPDATE)
    assert isinstance(previewed, Deferral)
    assert previewed.reason == "Full"

    gates[0].release(first)

    assert gates[2].preview(UPDATE) == Granted()
    assert take(gates[2]).slot == first.slot


def test_rate_limits_starts_until_a_token_is_back(
    make_gate: MakeGate, put_rule: PutRule, keep: Keep
) -> None:
    put_rule("max_concurrent: 9, rate: {count: 2, window: 1m}")
    for host in ("h1", "h2"):
        gate = make_gate(host)
        # Giving the slot back gives no token back.
        gate.release(take(gate))
    assert refuse(make_gate("h3")).reason == "RateLimited"
    keep.end_lease("starts/00001")
    take(make_gate("h3"))
    assert keep.list("starts") == ["00000", "00001"]


def test_version_that_fails_halts_and_another_goes_on(
    make_gate: MakeGate, put_rule: PutRule
) -> None:
    put_rule("max_concurrent: 3, max_failures: 1")
    gate = make_gate("h1")
    gate.tell(take(gate), "failed", "exit 1")
    halted = refuse(make_gate("h2"))
    assert halted.reason == "Halted"
    assert "2.0 failed on h1" in halted.message
    # The one on which it failed may try on.
    assert take(gate).state == "failed"
    take(make_gate("h2"), NEWER)


def test_pause_stops_also_who_holds_until_it_is_gone(
    make_gate: MakeGate, put_rule: PutRule, client: Etcd, keys: Keys
) -> None:
    put_rule("max_concurrent: 3")
    holder = make_gate("h1")
    held = take(holder)
    client.transact([], [Put(keys.pause, '{"reason": "burns", "by": "ann", "since": 1}')])
    for gate in (holder, make_gate("h2")):
        assert refuse(gate).message.startswith("porto-daemon-web is paused by ann: burns")
    client.transact([], deletes=[keys.pause])
    assert take(holder) == held


def test_pause_written_by_hand_pauses_too(
    make_gate: MakeGate, put_rule: PutRule, client: Etcd, keys: Keys
) -> None:
    put_rule()
    client.transact([], [Put(keys.pause, "stop!")])
    assert refuse(make_gate("h1")).reason == "Paused"


@pytest.mark.parametrize(
    ("spec", "now", "reason"),
    [
        ("freeze: [{from: 2030-01-01, to: 2030-01-02}]", 1893500000, "Frozen"),
        ("windows: [{days: [mon], from: '10:00', to: '11:00'}]", 1893500000, "OutsideWindow"),
        ("selector: {dc: [sas, vla]}", 0, "NotSelected"),
        ("selector: {hostname: h2}", 0, "NotSelected"),
    ],
)
def test_rule_closed_to_this_host_or_now(
    make_gate: MakeGate, put_rule: PutRule, keep: Keep, spec: str, now: int, reason: str
) -> None:
    put_rule(spec)
    before = keep.revision()
    assert refuse(make_gate("h1", now=lambda: float(now), facts={"dc": "man"})).reason == reason
    assert keep.revision() == before


def test_selectors_see_facts_and_the_name_of_the_host(
    make_gate: MakeGate, put_rule: PutRule
) -> None:
    put_rule("max_concurrent: 2, selector: {dc: [sas, vla], hostname: [h1, h2]}")
    take(make_gate("h1", facts={"dc": "vla"}))
    take(make_gate("h2", facts={"dc": "sas", "more": "facts"}))


def test_without_a_rule_nobody_starts(make_gate: MakeGate) -> None:
    missing = refuse(make_gate("h1"))
    assert missing.reason == "RuleMissing"
    assert "orlyctl apply-rule -f FILE" in missing.message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        '{"meta": {"name": "porto-daemon-web"}, "spec": {"maxConcurrent": "many"}}',
        '{"meta": {"name": "porto-daemon-other"}, "spec": {"maxConcurrent": 1}}',
    ],
)
def test_rule_that_cannot_be_read_lets_nobody_start(
    make_gate: MakeGate, client: Etcd, keys: Keys, text: str
) -> None:
    client.transact([], [Put(keys.rule, text)])
    assert refuse(make_gate("h1")).reason == "RuleUnreadable"


def test_asking_a_rule_that_lets_nobody_start_is_one_read(
    make_gate: MakeGate, put_rule: PutRule, proxy: EtcdProxy
) -> None:
    put_rule("max_concurrent: 1, max_failures: 1")
    holder, asker = make_gate("h1"), make_gate("h2", proxy.url)
    held = take(holder)
    assert refuse(asker).reason == "Full"
    holder.tell(held, "failed", "exit 1")
    assert refuse(asker).reason == "Halted"
    assert [path for path, _ in proxy.seen] == ["/v3/kv/txn"] * 2
    assert proxy.writes == []


# -- other hosts at the same time ------------------------------------------------------------------


def interleave(proxy: EtcdProxy, *meanwhile: Callable[[], object]) -> None:
    """Right before each of the next transactions that write, one of these happens."""
    left = list(meanwhile)

    def decide(path: str, payload: Any) -> Any:
        if left and len(proxy.writes) > len(meanwhile) - len(left):
            left.pop(0)()
        return "pass"

    proxy.decide = decide


def test_slot_taken_between_look_and_transaction_is_not_taken_twice(
    make_gate: MakeGate, put_rule: PutRule, proxy: EtcdProxy, keep: Keep
) -> None:
    put_rule("max_concurrent: 2")
    # Both would pick slot 1 first.
    slow, quick = (
        make_gate("h1", proxy.url, rng=random.Random(1)),
        make_gate("h2", rng=random.Random(1)),
    )
    interleave(proxy, lambda: take(quick))
    held = take(slow)
    assert len(proxy.writes) == 2
    assert sorted(keep.list("slots")) == ["00000", "00001"]
    assert keep.parse(f"slots/{held.slot:05}")["host"] == "h1"


def test_failure_that_halts_between_look_and_transaction_lets_nobody_start(
    make_gate: MakeGate, put_rule: PutRule, proxy: EtcdProxy, keep: Keep
) -> None:
    put_rule("max_concurrent: 3, max_failures: 1")
    first = make_gate("h1")
    held = take(first)
    interleave(proxy, lambda: first.tell(held, "failed", "exit 1"))
    assert refuse(make_gate("h2", proxy.url)).reason == "Halted"
    assert keep.list("holders") == ["h1"]


def test_failure_that_halts_nothing_only_makes_one_look_again(
    make_gate: MakeGate, put_rule: PutRule, proxy: EtcdProxy
) -> None:
    put_rule("max_concurrent: 3, max_failures: 2")
    first = make_gate("h1")
    held = take(first)
    interleave(proxy, lambda: first.tell(held, "failed", "exit 1"))
    take(make_gate("h2", proxy.url))
    assert len(proxy.writes) == 2


def test_failure_that_fills_the_rule_between_look_and_transaction_lets_nobody_start(
    make_gate: MakeGate, put_rule: PutRule, proxy: EtcdProxy, keep: Keep
) -> None:
    """It leaves a number, and with its own version it counts all the same."""
    put_rule("max_concurrent: 1, halt_on_failure: false")
    first = make_gate("h1")

    def fail() -> None:
        first.tell(take(first), "failed", "exit 1")

    interleave(proxy, fail)
    assert refuse(make_gate("h2", proxy.url)).reason == "Full"
    assert keep.list("holders") == ["h1"]


def test_host_that_failed_is_in_no_other_version_s_way(
    make_gate: MakeGate, put_rule: PutRule, keep: Keep
) -> None:
    put_rule("max_concurrent: 1, halt_on_failure: false")
    bad, other, third = (make_gate(host) for host in ("h1", "h2", "h3"))
    failed = bad.tell(take(bad), "failed", "exit 1")
    assert failed is not None
    assert refuse(other).reason == "Full"
    assert take(other, NEWER).slot == 0
    # As many as may be are at it now, wherever it failed before.
    assert refuse(third, NEWER).reason == "Full"
    assert refuse(bad, NEWER).reason == "Full"
    assert bad.find("web") == failed
    # What this host remembers from before it failed is another one's number by now.
    bad.release(replace(failed, slot=0))
    assert keep.list("holders") == ["h2"]
    assert keep.list("slots") == ["00000"]


def test_failure_that_comes_after_the_slot_was_given_back_halts_the_rule(
    make_gate: MakeGate, put_rule: PutRule, keep: Keep
) -> None:
    put_rule("max_concurrent: 1, min_healthy_time: 0s")
    late, other = make_gate("h1", now=lambda: 1000.0), make_gate("h2")
    held = take(late)
    late.release(held)
    take(other)
    # Whoever is at it now: a host that has failed needs no number.
    failed = late.blame(held, "exited with 3")
    assert failed is not None
    assert (failed.state, failed.error, failed.slot) == ("failed", "exited with 3", -1)
    assert late.find("web") == failed
    assert keep.parse("failed/h1")["target"] == "2.0"
    assert keep.list("alive") == ["h1", "h2"]
    assert refuse(make_gate("h3")).reason == "Halted"
    assert late.blame(held, "exited with 3") == failed
    late.release(failed)
    assert keep.list("failed") == []


def test_failure_of_a_rule_that_is_gone_is_nobody_s(make_gate: MakeGate, keep: Keep) -> None:
    held = Slot("web", "id", "update", "2.0", 1.0)
    assert make_gate("h1").blame(held, "exited with 3") is None
    assert keep.read() == {}


def test_hosts_of_one_name_take_one_slot_where_a_version_failed(
    make_gate: MakeGate, put_rule: PutRule, proxy: EtcdProxy, keep: Keep
) -> None:
    put_rule("max_concurrent: 2")

    class Last(random.Random):
        def choice(self, numbers: Any) -> Any:
            return numbers[-1]

    class First(random.Random):
        def choice(self, numbers: Any) -> Any:
            return numbers[0]

    host, twin = make_gate("h1", proxy.url, rng=First()), make_gate("h1", rng=Last())
    twin.tell(take(twin), "failed", "exit 1")
    interleave(proxy, lambda: take(twin, NEWER))
    held = take(host, NEWER)
    assert keep.list("slots") == [f"{held.slot:05}"]


def test_failure_that_an_earlier_version_told_keeps_its_number_until_it_is_told_again(
    make_gate: MakeGate, put_rule: PutRule, keep: Keep, client: Etcd, keys: Keys
) -> None:
    put_rule("max_concurrent: 1")
    gate, other = make_gate("h1"), make_gate("h2")
    held = take(gate)
    holder = {**keep.parse("holders/h1"), "state": "failed", "error": "exit 1"}
    failure = {"target": "2.0", "error": "exit 1", "since": 1.5}
    puts = [
        Put(keys.holder("h1"), json.dumps(holder)),
        Put(keys.failed("h1"), json.dumps(failure)),
    ]
    client.transact([], puts)
    assert refuse(other, NEWER).reason == "Full"
    assert gate.tell(held, "failed", "exit 1") == replace(
        held, state="failed", error="exit 1", slot=-1
    )
    assert take(other, NEWER).slot == held.slot


def test_token_taken_between_look_and_transaction_is_not_taken_twice(
    make_gate: MakeGate, put_rule: PutRule, proxy: EtcdProxy, keep: Keep
) -> None:
    put_rule("max_concurrent: 100, rate: {count: 1, window: 1m}")
    interleave(proxy, lambda: take(make_gate("h2")))
    assert refuse(make_gate("h1", proxy.url)).reason == "RateLimited"
    assert keep.list("holders") == ["h2"]


@pytest.mark.parametrize("reason", ["Paused", "Full", "RuleMissing"])
def test_rule_that_changes_between_look_and_transaction_is_looked_at_again(
    make_gate: MakeGate,
    put_rule: PutRule,
    proxy: EtcdProxy,
    keep: Keep,
    client: Etcd,
    keys: Keys,
    reason: str,
) -> None:
    put_rule("max_concurrent: 2")
    take(make_gate("h2"))

    def change() -> None:
        if reason == "Paused":
            client.transact([], [Put(keys.pause, "{}")])
        elif reason == "Full":
            put_rule("max_concurrent: 1")
        else:
            client.transact([], deletes=[keys.rule])

    interleave(proxy, change)
    assert refuse(make_gate("h1", proxy.url)).reason == reason
    assert keep.list("holders") == ["h2"]


def test_whoever_is_always_too_slow_asks_again_later_and_leaves_nothing(
    make_gate: MakeGate, put_rule: PutRule, proxy: EtcdProxy, keep: Keep, etcd_server: EtcdServer
) -> None:
    put_rule("max_concurrent: 4, rate: {count: 9, window: 1m}")
    interleave(proxy, *(lambda: put_rule("max_concurrent: 4") for _ in range(3)))
    assert refuse(make_gate("h1", proxy.url)).reason == "Busy"
    assert len(proxy.writes) == 3
    assert list(keep.read()) == ["rules"]
    granted = [payload for path, payload in proxy.seen if path == "/v3/lease/grant"]
    revoked = [payload for path, payload in proxy.seen if path == "/v3/lease/revoke"]
    assert len(granted) == len({payload["ID"] for payload in revoked}) == 2


def test_limit_that_shrinks_is_kept_by_whoever_starts_afterwards(
    make_gate: MakeGate, put_rule: PutRule, keep: Keep
) -> None:
    put_rule("max_concurrent: 4")
    gates = {f"h{number}": make_gate(f"h{number}") for number in range(5)}
    held = {host: take(gates[host]) for host in list(gates)[:4]}

    put_rule("max_concurrent: 2")
    for number in (0, 1):
        assert refuse(gates["h4"]).reason == "Full"
        host = next(host for host in held if held[host].slot == number)
        gates[host].release(held.pop(host))

    # Two slots are free below the limit, but those above it are still held.
    assert sorted(keep.list("slots")) == ["00002", "00003"]
    assert refuse(gates["h4"]).reason == "Full"
    host = next(iter(held))
    gates[host].release(held[host])
    assert take(gates["h4"]).slot == 0


# -- with the slot ---------------------------------------------------------------------------------


def test_telling_changes_the_holder_and_the_failure_together(
    make_gate: MakeGate, put_rule: PutRule, keep: Keep
) -> None:
    put_rule()
    gate = make_gate("h1", now=lambda: 1000.0)
    held = take(gate)

    failed = gate.tell(held, "failed", "é" * 400)

    assert failed == replace(held, state="failed", error="é" * 256, slot=-1)
    failure = {"target": "2.0", "error": "é" * 256, "since": 1000.0, "aside": True}
    assert keep.parse("failed/h1") == failure
    assert keep.list("slots") == []
    kept = keep.parse("holders/h1")
    assert (kept["state"], kept["error"], kept["reason"]) == ("failed", "é" * 256, UPDATE.reason)
    both = keep.read()
    assert both["failed/h1"].mod_revision == both["holders/h1"].mod_revision
    assert gate.find("web") == failed

    before = keep.revision()
    assert gate.tell(failed, "failed", "é" * 400) == failed
    assert keep.revision() == before

    settling = gate.tell(failed, "settling", "forgotten")
    assert settling == replace(held, state="settling", slot=-1)
    assert keep.list("failed") == []
    assert keep.parse("holders/h1")["error"] == ""


def test_giving_back_leaves_nothing_and_may_be_said_twice(
    make_gate: MakeGate, put_rule: PutRule, keep: Keep, client: Etcd
) -> None:
    put_rule()
    gate = make_gate("h1")
    held = take(gate)
    gate.tell(held, "failed", "exit 1")
    gate.release(held)
    assert list(keep.read()) == ["rules"]
    assert client.keep_alive(held.lease) == 0
    gate.release(held)


def test_slot_that_is_ours_no_more_is_left_to_whoever_has_it(
    make_gate: MakeGate, put_rule: PutRule, keep: Keep
) -> None:
    put_rule()
    gate = make_gate("h1")
    old = take(gate)
    gate.release(old)
    assert gate.find("web") is None
    assert (gate.renew(old), gate.tell(old, "failed", "x")) == (None, None)
    # Also where it is this very host, which has taken another one.
    new = take(gate)
    before = keep.revision()
    gate.release(old)
    assert (gate.renew(old), gate.tell(old, "failed", "x")) == (None, None)
    assert keep.revision() == before
    assert gate.renew(new) == new


def test_sign_of_life_is_kept_up_and_given_again_where_it_ran_out(
    make_gate: MakeGate, put_rule: PutRule, keep: Keep, client: Etcd
) -> None:
    put_rule("lost_after: 1h")
    gate = make_gate("h1")
    held = take(gate)
    before = keep.revision()
    assert gate.renew(held) == held
    assert keep.revision() == before

    keep.end_lease("alive/h1")
    renewed = gate.renew(held)

    assert renewed == replace(held, lease=keep.read()["alive/h1"].lease)
    assert renewed.lease not in {0, held.lease}
    assert client.keep_alive(renewed.lease) == 3600


def test_whoever_goes_on_without_a_sign_of_life_gives_one(
    make_gate: MakeGate, put_rule: PutRule, keep: Keep
) -> None:
    put_rule("on_lost: free")
    gate = make_gate("h1")
    take(gate)
    keep.end_lease("alive/h1")
    assert take(gate).lease == keep.read()["alive/h1"].lease != 0


# -- lost hosts ------------------------------------------------------------------------------------


def test_lost_host_holds_its_slot(make_gate: MakeGate, put_rule: PutRule, keep: Keep) -> None:
    put_rule()
    take(make_gate("h1"))
    keep.end_lease("alive/h1")
    assert refuse(make_gate("h2")).reason == "Full"
    assert keep.list("holders") == ["h1"]


def test_lost_host_gives_way_where_the_rule_says_so(
    make_gate: MakeGate, put_rule: PutRule, keep: Keep
) -> None:
    put_rule("max_concurrent: 2, on_lost: free")
    lost, living, asker = (make_gate(host) for host in ("h1", "h2", "h3"))
    held = take(lost)
    take(living)
    assert refuse(asker).reason == "Full"
    keep.end_lease("alive/h1")

    assert asker.preview(UPDATE) == Granted()
    assert keep.list("holders") == ["h1", "h2"]
    assert take(asker).slot == held.slot

    assert keep.list("holders") == ["h2", "h3"]
    assert lost.renew(held) is None
    assert refuse(lost).reason == "Full"


def test_lost_host_that_failed_holds_on(make_gate: MakeGate, put_rule: PutRule, keep: Keep) -> None:
    put_rule("on_lost: free")
    gate = make_gate("h1")
    gate.tell(take(gate), "failed", "kernel panic")
    keep.end_lease("alive/h1")
    assert refuse(make_gate("h2")).reason == "Halted"
    assert keep.list("failed") == ["h1"]


def test_host_heard_of_in_the_last_moment_keeps_its_slot(
    make_gate: MakeGate, put_rule: PutRule, proxy: EtcdProxy, keep: Keep
) -> None:
    put_rule("on_lost: free")
    gate = make_gate("h1")
    held = take(gate)
    keep.end_lease("alive/h1")
    interleave(proxy, lambda: gate.renew(held))
    assert refuse(make_gate("h2", proxy.url)).reason == "Full"
    assert keep.list("holders") == ["h1"]


def test_silence_makes_a_host_lost(make_gate: MakeGate, put_rule: PutRule, keep: Keep) -> None:
    put_rule("max_concurrent: 2, on_lost: free, lost_after: 10s")
    silent, living, asker = (make_gate(host) for host in ("h1", "h2", "h3"))
    take(silent)
    held = take(living)
    give_up = time.monotonic() + 60
    while isinstance(asker.ask(UPDATE), Deferral):
        assert time.monotonic() < give_up
        assert living.renew(held) == held
        time.sleep(0.5)
    assert keep.list("holders") == ["h2", "h3"]


# -- answers that are lost -------------------------------------------------------------------------


@pytest.mark.parametrize("fate", ["lose-answer", "break-answer"])
def test_slot_taken_without_an_answer_is_known_to_be_taken(
    make_gate: MakeGate, put_rule: PutRule, proxy: EtcdProxy, keep: Keep, fate: str
) -> None:
    put_rule("max_concurrent: 3, rate: {count: 3, window: 1m}")
    gate = make_gate("h1", proxy.url)
    proxy.lose_once(fate)
    held = take(gate)
    assert len(proxy.writes) == 1
    assert (len(keep.list("slots")), len(keep.list("starts"))) == (1, 1)
    assert gate.renew(held) == held == gate.find("web")


@pytest.mark.parametrize("fate", ["lose-request", "refuse"])
def test_slot_not_taken_without_an_answer_is_taken_by_another_try(
    make_gate: MakeGate, put_rule: PutRule, proxy: EtcdProxy, keep: Keep, fate: str
) -> None:
    put_rule("max_concurrent: 3, rate: {count: 3, window: 1m}")
    gate = make_gate("h1", proxy.url)
    proxy.lose_once(fate)
    held = take(gate)
    assert len(proxy.writes) == 2
    assert (len(keep.list("slots")), len(keep.list("starts"))) == (1, 1)
    assert gate.renew(held) == held


def test_request_that_was_on_its_way_for_long_takes_nothing_any_more(
    make_gate: MakeGate, put_rule: PutRule, proxy: EtcdProxy, keep: Keep
) -> None:
    put_rule("max_concurrent: 3")
    gate = make_gate("h1", proxy.url)
    proxy.lose_once("lose-request")
    held = take(gate)
    gate.release(held)

    late = json.dumps(proxy.writes[0]).encode()
    status, answer = proxy.ask("/v3/kv/txn", late, {"Content-Length": str(len(late))})

    assert (status, b"lease not found" in answer) == (404, True)
    assert keep.list("slots") == keep.list("holders") == []


def test_gate_that_is_gone_in_the_middle_is_an_error_and_no_answer(
    make_gate: MakeGate, put_rule: PutRule, proxy: EtcdProxy, keep: Keep
) -> None:
    put_rule("max_concurrent: 3")
    gate = make_gate("h1", proxy.url)
    proxy.decide = lambda path, payload: "lose-answer" if proxy.writes else "pass"
    began = time.monotonic()
    with pytest.raises(GateError):
        gate.ask(UPDATE)
    assert time.monotonic() - began < 5
    # It was taken, though nobody could know, and it is found as soon as etcd answers again.
    proxy.decide = lambda path, payload: "pass"
    assert take(gate) == gate.find("web")
    assert len(keep.list("slots")) == 1


@pytest.mark.parametrize("fate", ["lose-answer", "lose-request"])
def test_telling_and_giving_back_without_an_answer_are_done_in_the_end(
    make_gate: MakeGate, put_rule: PutRule, proxy: EtcdProxy, keep: Keep, fate: str
) -> None:
    put_rule()
    gate = make_gate("h1", proxy.url)
    held = take(gate)
    proxy.lose_once(fate)
    failed = replace(held, state="failed", error="exit 1", slot=-1)
    assert gate.tell(held, "failed", "exit 1") == failed
    assert keep.parse("failed/h1")["error"] == "exit 1"

    proxy.lose_once(fate)
    gate.release(held)
    assert list(keep.read()) == ["rules"]


@pytest.mark.parametrize("fate", ["lose-answer", "lose-request"])
def test_sign_of_life_without_an_answer_is_given_in_the_end(
    make_gate: MakeGate, put_rule: PutRule, proxy: EtcdProxy, keep: Keep, fate: str
) -> None:
    put_rule()
    gate = make_gate("h1", proxy.url)
    held = take(gate)
    keep.end_lease("alive/h1")
    proxy.lose_once(fate)
    renewed = gate.renew(held)
    assert renewed is not None
    assert renewed.lease == keep.read()["alive/h1"].lease != 0


def test_gate_that_cannot_be_reached_is_an_error_of_every_method(
    make_gate: MakeGate, put_rule: PutRule
) -> None:
    put_rule()
    held = take(make_gate("h1"))
    gate = make_gate("h1", find_dead_url())
    for call in (
        lambda: gate.ask(UPDATE),
        lambda: gate.preview(UPDATE),
        lambda: gate.find("web"),
        lambda: gate.tell(held, "failed"),
        lambda: gate.renew(held),
        lambda: gate.release(held),
    ):
        with pytest.raises(GateError, match="Connection refused") as raised:
            call()
        assert raised.value.reason == "GateUnreachable"
