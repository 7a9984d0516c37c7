"""A simulated rollout: it keeps the rule's limits, halts, goes on by itself, and always ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ya_salt.gate.decide import Grant, decide
from ya_salt.gate.etcd_gate import TOKEN_MARGIN_S
from ya_salt.gate.protocol import SlotRequest
from ya_salt.gate.rule import Freeze, Rate, Rule, Window
from ya_salt.gate.simulation import rollout as module
from ya_salt.gate.simulation.result import Result, Scenario
from ya_salt.gate.simulation.rollout import simulate

NAME = "porto-daemon-web"
MOSCOW = ZoneInfo("Europe/Moscow")
START = datetime(2027, 3, 1, 9, 0, tzinfo=MOSCOW).timestamp()  # a Monday


def make_rule(**fields: object) -> Rule:
    return Rule(NAME, time_zone="Europe/Moscow", **fields)  # type: ignore[arg-type]


def play(rule: Rule, seed: int = 1, **fields: object) -> Result:
    scenario = Scenario(**{"rule": rule, "hosts": 10, "start": START, **fields})  # type: ignore[arg-type]
    return simulate(scenario, Random(seed))


def list_times(result: Result, what: str) -> list[float]:
    return [item.at_s for item in result.log if item.what == what]


def list_hosts(result: Result, what: str) -> list[str]:
    return [item.host for item in result.log if item.what == what]


# -- what is counted from the log by itself -----------------------------------------------------


def check_slots(result: Result) -> None:
    """At no moment do more hosts hold a slot than the rule lets; who failed holds its version's."""
    holding: set[str] = set()
    failed: dict[str, str] = {}
    retrying: set[str] = set()
    limit, most = result.scenario.rule.max_concurrent, 0
    for item in result.log:
        retrying.discard(item.host)
        if item.what == "started":
            failed.pop(item.host, None)
            holding.add(item.host)
            assert len(holding) + list(failed.values()).count(item.target) <= limit, item
        elif item.what == "retried":
            retrying.add(item.host)
        elif item.what == "failed":
            failed[item.host] = item.target
            holding.discard(item.host)
        elif item.what in {"released", "freed"}:
            holding.discard(item.host)
            failed.pop(item.host, None)
        most = max(most, len(holding | retrying))
    assert most == result.max_at_once


def check_rate(result: Result) -> None:
    """In no window do more hosts start than the rule lets, wherever it begins."""
    rate = result.scenario.rule.rate
    if rate is None:
        return
    starts = list_times(result, "started")
    counts = [sum(at <= other < at + rate.window_s for other in starts) for at in starts]
    assert max(counts, default=0) <= rate.count
    assert max(counts, default=0) == result.max_starts


def check_failures(result: Result) -> None:
    """Nobody starts with a version that has failed on as many hosts as the rule lets."""
    limit = result.scenario.rule.max_failures
    bad: dict[str, str] = {}
    for item in result.log:
        if item.what == "failed":
            bad[item.host] = item.target
        elif item.what == "started":
            bad.pop(item.host, None)
            assert limit is None or list(bad.values()).count(item.target) < limit, item
        elif item.what in {"succeeded", "freed"}:
            bad.pop(item.host, None)


def check_calendar(result: Result) -> None:
    rule = result.scenario.rule
    for at_s in list_times(result, "started"):
        moment = result.scenario.start + at_s
        assert not any(freeze.start <= moment < freeze.end for freeze in rule.freeze)
        if rule.windows:
            local = datetime.fromtimestamp(moment, MOSCOW)
            minute = local.hour * 60 + local.minute
            assert any(
                local.weekday() in window.days and window.start_minute <= minute < window.end_minute
                for window in rule.windows
            )


def check_story(result: Result) -> None:
    """Each host does one thing after the other, and the counts at the end are those of the log."""
    after = {
        "": {"started"},
        "started": {"succeeded", "failed", "died"},
        "retried": {"succeeded", "failed"},
        "failed": {"retried", "started"},
        "succeeded": {"released", "started"},
        "released": {"started"},
        "died": {"freed"},
        "freed": set(),
    }
    last: dict[str, str] = {}
    for item in result.log:
        assert item.what in after[last.get(item.host, "")], (item, last.get(item.host))
        last[item.host] = item.what
    ends = Counter(last.values())
    assert sum(result.states.values()) == result.scenario.hosts
    assert result.states["lost"] == ends["died"] + ends["freed"]
    assert result.states["failed"] == ends["failed"]
    assert result.states["working"] == ends["started"] + ends["retried"]
    assert [item.at_s for item in result.log] == sorted(item.at_s for item in result.log)


def check_all(result: Result) -> None:
    for check in (check_slots, check_rate, check_failures, check_calendar, check_story):
        check(result)


rates = st.sampled_from([0.0, 0.1, 0.5, 1.0])
rules = st.builds(
    make_rule,
    max_concurrent=st.integers(1, 12),
    rate=st.none() | st.builds(Rate, count=st.integers(1, 8), window_s=st.integers(2, 4000)),
    max_failures=st.none() | st.integers(1, 5),
    min_healthy_s=st.sampled_from([0, 0, 45, 900]),
    on_lost=st.sampled_from(["hold", "free"]),
    lost_after_s=st.sampled_from([600, 3600]),
    windows=st.sampled_from([(), (Window(frozenset({0, 1, 4}), 600, 660),)]),
    freeze=st.sampled_from([(), (Freeze(START + 3600, START + 9000),)]),
)
fleets = st.fixed_dictionaries(
    {
        "hosts": st.integers(1, 40),
        "op_time_s": st.sampled_from([(30.0, 30.0), (5.0, 400.0), (300.0, 300.0)]),
        "pass_interval_s": st.sampled_from([60.0, 300.0]),
        "failure_rate": rates,
        "retry_success_rate": st.sampled_from([0.0, 0.0, 0.3]),
        "lost_rate": rates,
        "repair_after_s": st.none() | st.sampled_from([0.0, 100.0, 7200.0]),
        "repaired_failure_rate": rates,
        "max_time_s": st.just(3 * 86400.0),
    }
)


@settings(max_examples=150, deadline=None)
@given(rules, fleets, st.integers(0, 1000))
def test_no_limit_of_any_rule_is_ever_exceeded(rule: Rule, fleet: dict, seed: int) -> None:
    check_all(play(rule, seed, **fleet))


@settings(max_examples=60, deadline=None)
@given(rules, fleets, st.integers(0, 1000), st.booleans())
def test_letting_refused_hosts_sleep_changes_nothing(
    rule: Rule, fleet: dict, seed: int, is_crowded: bool
) -> None:
    """The same as asking at each pass of each host, also where many passes fall together."""
    hosts = fleet["hosts"]
    fleet |= {"max_time_s": 6 * 3600.0, "repair_after_s": None}
    fleet["phases_s"] = tuple(float(number % 3 * 20) for number in range(hosts)) * is_crowded
    clever = play(rule, seed, **fleet)

    def ask_each_time(self, queue, at, refusal):
        queue.refusal = refusal
        self._note_halt(refusal)
        self._wake(queue, at + 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module._Rollout, "_sleep", ask_each_time)
        plain = play(rule, seed, **fleet)
    assert clever.log == plain.log
    assert clever.halts == plain.halts
    assert clever.asked <= plain.asked


# -- it is the gate's own decision ---------------------------------------------------------------


def break_limit(view, identity, ask, now):
    return decide(replace(view, rule=replace(view.rule, max_concurrent=12)), identity, ask, now)


def break_rate(view, identity, ask, now):
    return decide(replace(view, starts=frozenset()), identity, ask, now)


def break_halt(view, identity, ask, now):
    return decide(replace(view, failures={}), identity, ask, now)


def break_calendar(view, identity, ask, now):
    return decide(replace(view, rule=replace(view.rule, windows=())), identity, ask, now)


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (break_limit, check_slots),
        (break_rate, check_rate),
        (break_halt, check_failures),
        (break_calendar, check_calendar),
    ],
)
def test_a_decision_that_forgets_a_limit_is_seen(
    monkeypatch: pytest.MonkeyPatch, broken, check
) -> None:
    rule = make_rule(
        max_concurrent=10,
        max_failures=2,
        rate=Rate(8, 600),
        windows=(Window(frozenset(range(5)), 600, 660),),
    )
    scenario = {"hosts": 300, "failure_rate": 0.1, "op_time_s": (100.0, 200.0)}
    check_all(play(rule, **scenario))
    monkeypatch.setattr(module, "decide", broken)
    if broken is break_limit:
        # The rate and the halt would hold it up before the limit does.
        rule = replace(rule, rate=None, max_failures=None)
    with pytest.raises(AssertionError):
        check(play(rule, **scenario))


def test_the_question_is_the_one_that_hosts_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def listen(view, identity, ask, now):
        asked.append((view.rule, ask, identity.facts, now))
        return decide(view, identity, ask, now)

    monkeypatch.setattr(module, "decide", listen)
    rule = make_rule(selector={"dc": ("sas", "vla")})
    play(rule, hosts=1, operation="restart", phases_s=(7.0,))
    facts = {"hostname": "host-1", "dc": "sas"}
    assert asked[0] == (rule, SlotRequest("web", "restart", "new"), facts, START + 7)


# -- a bad version -------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1.0, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_a_bad_version_halts_after_those_that_may_fail_and_those_at_it(
    rate: float, seed: int
) -> None:
    rule = make_rule(max_concurrent=50, max_failures=10, min_healthy_s=60)
    result = play(rule, seed, hosts=1000, failure_rate=rate, op_time_s=(20.0, 90.0))
    check_all(result)
    assert result.outcome == "halted"
    halted_at = list_times(result, "failed")[9]
    assert result.halted_at_s == halted_at == result.duration_s
    assert max(list_times(result, "started")) <= halted_at
    ended = [item for item in result.log if item.what in {"failed", "succeeded"}]
    running = len(list_hosts(result, "started")) - sum(item.at_s <= halted_at for item in ended)
    assert (result.halts[0].failed, result.halts[0].working) == (10, running)
    assert result.halts[0].disturbed == len(set(list_hosts(result, "started"))) == result.disturbed
    assert running <= 50 - 10
    assert 10 <= result.states["failed"] <= 10 + running
    assert result.states["waiting"] == 1000 - result.disturbed >= 800


def test_a_repaired_version_resumes_by_itself_and_reaches_everybody() -> None:
    rule = make_rule(max_concurrent=20, max_failures=3)
    result = play(rule, hosts=1000, failure_rate=0.3, repair_after_s=7200.0)
    check_all(result)
    assert result.outcome == "done"
    assert result.states["done"] == 1000
    (halt,) = result.halts
    assert result.repaired_at_s == halt.at_s + 7200
    assert result.repaired_at_s <= result.resumed_at_s < result.repaired_at_s + 300
    quiet = [at for at in list_times(result, "started") if halt.at_s < at < result.resumed_at_s]
    assert quiet == []
    having = {
        item.host for item in result.log if (item.what, item.target) == ("succeeded", "repaired")
    }
    assert len(having) == 1000
    assert result.timeline[-1] == (result.duration_s, 100)


def test_a_repaired_version_that_is_bad_as_well_halts_again() -> None:
    rule = make_rule(max_concurrent=20, max_failures=3)
    result = play(rule, hosts=500, failure_rate=1.0, repair_after_s=60.0, repaired_failure_rate=0.5)
    check_all(result)
    assert result.outcome == "halted"
    assert len(result.halts) == 2
    assert result.halts[1].at_s > result.repaired_at_s


def test_failures_that_fill_all_slots_before_the_rule_halts_are_told_from_a_halt() -> None:
    rule = make_rule(max_concurrent=3, max_failures=5)
    result = play(rule, hosts=50, failure_rate=1.0)
    assert (result.outcome, result.halted_at_s) == ("stuck", None)
    assert result.refusal is not None
    assert result.refusal.reason == "Full"
    assert (result.states["failed"], result.disturbed) == (3, 3)
    repaired = play(rule, hosts=50, failure_rate=1.0, repair_after_s=600.0)
    assert repaired.outcome == "done"
    assert repaired.repaired_at_s == result.duration_s + 600


def test_the_clock_does_not_go_back_for_the_repaired_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moments = []

    def listen(view, identity, ask, now):
        moments.append(now)
        return decide(view, identity, ask, now)

    monkeypatch.setattr(module, "decide", listen)
    # That it is stuck is only seen when the rate lets somebody ask again.
    rule = make_rule(rate=Rate(1, 3600), max_failures=None)
    result = play(rule, hosts=2, failure_rate=1.0, repair_after_s=0.0)
    assert result.outcome == "done"
    assert moments == sorted(moments)
    assert result.repaired_at_s > 3600


def test_few_failures_do_not_keep_the_others_from_the_version() -> None:
    rule = make_rule(max_concurrent=10, max_failures=None)
    result = play(rule, hosts=300, failure_rate=0.02)
    failed = result.states["failed"]
    assert 0 < failed < 10
    assert (result.outcome, result.states["done"]) == ("done", 300 - failed)


def test_tries_that_succeed_end_a_halt() -> None:
    rule = make_rule(max_concurrent=1, max_failures=1)
    result = play(
        rule,
        hosts=2,
        failure_rate=1.0,
        retry_success_rate=1.0,
        op_time_s=(60.0, 60.0),
        phases_s=(0.0, 100.0),
    )
    # The first fails at 60, tries again at 300 and is done at 360; then the second likewise.
    assert [(item.at_s, item.what) for item in result.log] == [
        *((0, "started"), (60, "failed"), (300, "retried"), (360, "succeeded"), (360, "released")),
        *((400, "started"), (460, "failed"), (700, "retried"), (760, "succeeded")),
        (760, "released"),
    ]
    assert (result.halted_at_s, result.resumed_at_s) == (60, 400)


# -- small fleets, worked out by hand ------------------------------------------------------------


def test_all_passes_at_once_one_host_a_pass() -> None:
    result = play(make_rule(), op_time_s=(60.0, 60.0), phases_s=(0.0,) * 10)
    # The slot is free after 60 s, but nobody asks before the next pass: 9 x 300 + 60.
    assert result.duration_s == 2760
    assert list_times(result, "started") == [300.0 * number for number in range(10)]
    assert result.max_at_once == 1


def test_spread_passes_hand_the_slot_on_at_once() -> None:
    phases = tuple(30.0 * number for number in range(10))
    result = play(make_rule(), op_time_s=(60.0, 60.0), phases_s=phases)
    # Each ends as the pass of the next but one begins; after a round, those in between.
    assert list_times(result, "started") == [0, 60, 120, 180, 240, 330, 390, 450, 510, 570]
    assert result.duration_s == 630
    assert result.timeline[1:4] == ((60, 10), (180, 25), (300, 50))


def test_a_slot_is_given_back_in_the_first_pass_after_the_healthy_time() -> None:
    rule = make_rule(min_healthy_s=300)
    result = play(rule, hosts=2, op_time_s=(60.0, 60.0), phases_s=(0.0, 10.0))
    # Ready at 60, healthy from 360 on, next pass at 600; the other one's is at 610.
    assert list_times(result, "released")[0] == 600
    assert list_times(result, "started") == [0, 610]
    assert result.duration_s == 670


@pytest.mark.parametrize(("slack_s", "third"), [(0.0, 602), (10.0, 902)])
def test_starts_count_for_the_window_and_the_slack_of_leases(slack_s: float, third: float) -> None:
    rule = make_rule(max_concurrent=4, rate=Rate(2, 600))
    result = play(rule, hosts=4, phases_s=(0.0, 1.0, 2.0, 3.0), token_slack_s=slack_s)
    assert list_times(result, "started") == [0, 1, third, third + 1]
    assert result.duration_s == third + 31
    assert result.max_starts == 2


def test_starts_count_as_long_as_on_etcd() -> None:
    assert Scenario(make_rule(), 1, START).token_slack_s == TOKEN_MARGIN_S


def test_the_slot_of_a_lost_host_is_others_after_its_time() -> None:
    rule = make_rule(on_lost="free", lost_after_s=600)
    lost = {"lost_rate": 1.0, "op_time_s": (60.0, 60.0), "phases_s": (0.0, 10.0)}
    result = play(rule, hosts=2, **lost)
    # Dead at 30, lost at 630, and the other one's pass is at 910.
    assert [(item.at_s, item.what) for item in result.log] == [
        *((0, "started"), (30, "died"), (910, "freed"), (910, "started"), (940, "died")),
    ]
    assert (result.outcome, result.states["lost"], result.robbed) == ("done", 2, 0)
    held = play(replace(rule, on_lost="hold"), hosts=2, **lost)
    assert (held.outcome, held.states["lost"], held.states["waiting"]) == ("stuck", 1, 1)


def test_hosts_that_are_heard_of_too_rarely_are_robbed_of_their_slots() -> None:
    rule = make_rule(on_lost="free", lost_after_s=60, min_healthy_s=900)
    result = play(rule, hosts=2, phases_s=(0.0, 75.0))
    # The first is ready at 30 and lost at 90, but nobody asks then; heard of at 300, lost at 360.
    assert list_times(result, "started") == [0, 375]
    assert (result.robbed, result.outcome, result.states["done"]) == (1, "done", 2)


def test_a_failed_host_that_was_robbed_asks_for_another_slot() -> None:
    rule = make_rule(on_lost="free", lost_after_s=60, max_failures=None)
    result = play(rule, hosts=2, failure_rate=1.0, phases_s=(0.0, 200.0), max_time_s=1000.0)
    assert list_hosts(result, "started")[:4] == ["host-1", "host-2", "host-1", "host-2"]
    assert result.outcome == "unfinished"


def test_a_first_install_that_needs_no_slot_waits_for_nobody() -> None:
    rule = make_rule(first_install="allow")
    result = play(rule, operation="install", phases_s=(0.0,) * 10)
    assert (result.duration_s, result.max_at_once) == (30, 10)
    assert play(rule, operation="update", phases_s=(0.0,) * 10).max_at_once == 1


# -- the calendar --------------------------------------------------------------------------------


def test_nobody_starts_outside_the_windows_and_all_have_it_in_the_end() -> None:
    rule = make_rule(windows=(Window(frozenset(range(5)), 600, 1080),))
    friday = datetime(2027, 3, 5, 17, 0, tzinfo=MOSCOW).timestamp()
    result = play(rule, hosts=300, start=friday, op_time_s=(60.0, 60.0))
    check_all(result)
    assert result.outcome == "done"
    gaps = [
        (datetime.fromtimestamp(friday + one, MOSCOW), datetime.fromtimestamp(friday + two, MOSCOW))
        for one, two in zip(
            list_times(result, "started"), list_times(result, "started")[1:], strict=False
        )
        if two - one > 86400
    ]
    # Nothing over the weekend, and on at once on Monday.
    assert len(gaps) == 1
    assert f"{gaps[0][0]:%a %H} {gaps[0][1]:%a %H:%M}" == "Fri 17 Mon 10:00"


def test_a_freeze_holds_the_fleet_for_as_long_as_it_lasts() -> None:
    freeze = Freeze(START + 600, START + 86400, "a holiday")
    result = play(make_rule(freeze=(freeze,)), hosts=50)
    check_all(result)
    starts = list_times(result, "started")
    assert any(at < 600 for at in starts)
    assert min(at for at in starts if at >= 600) < 86400 + 300
    assert result.outcome == "done"


def test_a_freeze_without_an_end_in_sight_is_said_and_nobody_starts() -> None:
    forever = Freeze(START - 1, START + 1000 * 86400, "a holiday")
    result = play(make_rule(freeze=(forever,)))
    assert (result.outcome, result.disturbed, result.log) == ("closed", 0, ())
    assert result.refusal is not None
    assert result.refusal.reason == "Frozen"


def test_a_rule_for_other_hosts_is_said_and_nobody_starts() -> None:
    rule = make_rule(selector={"dc": ("sas",)})
    result = play(rule, facts={"dc": "man"})
    assert (result.outcome, result.disturbed) == ("unselected", 0)
    assert play(rule, facts={"dc": "sas"}).outcome == "done"
    assert play(rule).outcome == "done"


# -- it ends, and is the same each time ----------------------------------------------------------


def test_the_same_seed_gives_the_same_rollout() -> None:
    rule = make_rule(max_concurrent=5, max_failures=None, min_healthy_s=60)
    luck = {"hosts": 100, "failure_rate": 0.2, "retry_success_rate": 0.5, "lost_rate": 0.01}
    luck["op_time_s"] = (5.0, 50.0)
    assert play(rule, 7, **luck) == play(rule, 7, **luck)
    assert play(rule, 7, **luck).log != play(rule, 8, **luck).log


def test_time_that_is_over_ends_it() -> None:
    result = play(make_rule(), op_time_s=(60.0, 60.0), phases_s=(0.0,) * 10, max_time_s=1000.0)
    assert (result.outcome, result.duration_s) == ("unfinished", 1000)
    assert (result.states["done"], result.states["waiting"]) == (4, 6)


def test_work_that_is_too_much_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EVENTS", 500)
    rule = make_rule(max_concurrent=10, max_failures=None)
    result = play(rule, hosts=10, failure_rate=1.0, retry_success_rate=1e-12)
    assert result.outcome == "unfinished"
    assert len(result.log) <= 500
    assert result.log[-1].at_s <= result.duration_s < 30 * 86400


@pytest.mark.parametrize(
    "rule",
    [
        make_rule(),
        make_rule(max_concurrent=100, rate=Rate(50, 600)),
        make_rule(max_concurrent=200, min_healthy_s=600),
        make_rule(max_concurrent=200, windows=(Window(frozenset({1}), 600, 720),)),
    ],
    ids=["one by one", "rate", "healthy time", "windows"],
)
def test_ten_thousand_hosts_ask_a_few_times_each(
    monkeypatch: pytest.MonkeyPatch, rule: Rule
) -> None:
    calls = 0

    def count(*args):
        nonlocal calls
        calls += 1
        return decide(*args)

    monkeypatch.setattr(module, "decide", count)
    result = play(rule, hosts=10_000)
    assert (result.outcome, result.states["done"]) == ("done", 10_000)
    assert calls == result.asked <= 30_000


def test_a_halted_fleet_of_ten_thousand_asks_no_more() -> None:
    rule = make_rule(max_concurrent=100, max_failures=3)
    result = play(rule, hosts=10_000, failure_rate=1.0)
    assert result.outcome == "halted"
    assert result.asked < 1000


def test_the_first_free_slot_and_token_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot in use is never offered twice: the memory shows what was taken."""
    taken: list[frozenset[int]] = []

    def listen(view, identity, ask, now):
        answer = decide(view, identity, ask, now)
        if isinstance(answer, Grant):
            assert not set(answer.slots) & view.slots
            assert not set(answer.tokens) & view.starts
            taken.append(view.slots)
        return answer

    monkeypatch.setattr(module, "decide", listen)
    play(make_rule(max_concurrent=3, rate=Rate(3, 60)), op_time_s=(500.0, 500.0))
    assert max(map(len, taken)) == 2
