"""When an update is given up, when it is over, and what is none of its failures: a pure table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ya_salt.converge.trials import (
    Sight,
    add_generation,
    count_deaths,
    find_way_back,
    follow_orders,
    forget_old,
    is_same_version,
    judge,
    lose,
    make_version_mark,
    split_words,
)
from ya_salt.life import Generation, Life, Order, Pin, Rejection, Trial
from ya_salt.model import Container, DaemonSpec, Package, Readiness, UpdatePolicy

SPEC = DaemonSpec(
    name="web",
    version="1.1",
    path="/specs/web.yaml",
    digest="ab" * 32,
    properties={"command_argv": "sleep\t1000"},
    packages=(Package("web", "1.1"),),
    min_ready_s=5.0,
    ready_timeout_s=60.0,
)
KEY, OTHER_KEY = b"k" * 32, b"o" * 32
MARK = make_version_mark(SPEC, KEY)
HOST = "boot 1:2"
RUNNING = Container(
    "web", "running", id="7", created_at=1000, started_at=1000, respawn_count=0, running_s=1
)
FRESH = Trial(MARK, "1.1", back_to=1, begun_at=1000.0, host=HOST, container="6:900")
STARTED = replace(FRESH, container="7:1000", started_at=1000, is_carried_out=True)
READY = replace(STARTED, ready_at=1010.0)


def died(times: int, **more: object) -> Container:
    return replace(RUNNING, respawn_count=times, started_at=1000 + times, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("trial", "sight", "now", "why", "after"),
    [
        (FRESH, Sight(RUNNING, host=HOST), 1001, "", {"deaths": 0, "is_carried_out": True}),
        (FRESH, Sight(died(3), host=HOST), 1004, "", {"deaths": 3}),
        (FRESH, Sight(died(4), host=HOST), 1020, "died four times in 20 s", None),
        (
            FRESH,
            Sight(died(4), host=HOST, ending="exited with 3", words="no config"),
            1020,
            "exited with 3 four times in 20 s (no config)",
            None,
        ),
        (STARTED, Sight(died(2), host=HOST), 1004, "", {"deaths": 2}),
        # portod's count was set back by somebody.
        (
            replace(STARTED, respawns=3, deaths=3),
            Sight(died(2), host=HOST),
            1004,
            "died five",
            None,
        ),
        (STARTED, Sight(died(0, state="dead"), host=HOST), 1004, "died once in 4 s", None),
        (STARTED, Sight(RUNNING, host=HOST), 1059, "", {"ready_at": 0.0}),
        (STARTED, Sight(RUNNING, host=HOST), 1060, "not ready within 60 s", None),
        (STARTED, Sight(RUNNING, is_ready=True, host=HOST), 1008, "", {"ready_at": 1008}),
        (READY, Sight(RUNNING, is_ready=True, host=HOST), 1600, "", {"ready_at": 1010.0}),
        (READY, Sight(RUNNING, is_ready=True, host=HOST), 1610, "", None),
        (READY, Sight(died(1), is_ready=True, host=HOST), 1200, "190 s after", None),
        (READY, Sight(died(0, state="dead"), host=HOST), 1200, "190 s after", None),
        # portod is about to start it again, and counts the death only then.
        (READY, Sight(died(0, state="respawning"), host=HOST), 1200, "190 s after", None),
        (STARTED, Sight(died(0, state="respawning"), host=HOST), 1004, "", {"deaths": 1}),
        (READY, Sight(RUNNING, host=HOST), 1200, "not ready any more 190 s after", None),
        # Somebody stopped it, or paused it.
        (READY, Sight(died(0, state="paused"), host=HOST), 1200, "", {"ready_at": 0.0}),
        (READY, Sight(died(0, state="stopped"), host=HOST), 1200, "", {"host": ""}),
        # None of its failures: it begins anew.
        (READY, Sight(died(1), host="boot 3:4"), 1200, "", {"begun_at": 1200, "ready_at": 0.0}),
        (READY, Sight(died(1), host=HOST, excuse="the disk is full"), 1200, "", {"deaths": 0}),
        (
            replace(STARTED, deaths=3),
            Sight(replace(RUNNING, id="8", created_at=1050, started_at=1050), host=HOST),
            1055,
            "",
            {"deaths": 0, "begun_at": 1055},
        ),
        (READY, Sight(replace(RUNNING, started_at=1100), host=HOST), 1101, "", {"ready_at": 0.0}),
        # Not carried out yet.
        (FRESH, Sight(RUNNING, is_current=False, host=HOST), 9000, "", {"begun_at": 1000.0}),
        (FRESH, Sight(None, is_current=False, host=HOST), 9000, "", {"container": ""}),
        (
            FRESH,
            Sight(RUNNING, False, host=HOST, error="its postinst failed"),
            1001,
            "postinst",
            None,
        ),
        # The old one's deaths are not the new one's.
        (
            replace(FRESH, container="7:1000"),
            Sight(died(9), is_current=False, host=HOST),
            1001,
            "",
            {"deaths": 0, "respawns": 9},
        ),
        # What was installed first took long.
        (
            FRESH,
            Sight(replace(RUNNING, id="8", created_at=1300), host=HOST),
            1301,
            "",
            {"begun_at": 1300},
        ),
    ],
)
def test_judging(
    trial: Trial, sight: Sight, now: float, why: str, after: dict[str, object] | None
) -> None:
    found = judge(trial, SPEC, sight, now)
    assert bool(found.why) == bool(why)
    assert why in found.why
    if after is None:
        assert found.trial is None
    else:
        assert found.trial is not None
        assert {name: getattr(found.trial, name) for name in after} == after


def test_each_death_is_counted_once_however_often_it_is_looked_at() -> None:
    """Down, up again and down once more, each seen twice."""
    trial: Trial | None = STARTED
    for number, (respawns, state) in enumerate(
        [(0, "respawning"), (1, "running"), (1, "respawning"), (2, "running")]
    ):
        for _ in range(2):
            assert trial
            started = 1000 + 10 * respawns
            container = replace(RUNNING, respawn_count=respawns, state=state, started_at=started)
            trial = judge(trial, SPEC, Sight(container, host=HOST), 1010).trial
            assert trial
            assert trial.deaths == number // 2 + 1, (number, trial)


@pytest.mark.parametrize("is_seen_down", [True, False])
def test_a_death_is_counted_once_where_portod_is_just_starting_it(is_seen_down: bool) -> None:
    """It counts first, then notes the time, and `respawning` is left last."""
    looks = [(0, "respawning", 1000, 1004)] if is_seen_down else []
    looks += [
        *((1, "respawning", 1000, 1004), (1, "respawning", 1005, 1004)),
        (1, "running", 1005, 1005),
    ]
    trial: Trial | None = STARTED
    for respawns, state, started_at, changed_at in looks:
        assert trial
        container = replace(
            RUNNING,
            respawn_count=respawns,
            state=state,
            started_at=started_at,
            changed_at=changed_at,
        )
        trial = judge(trial, SPEC, Sight(container, host=HOST), 1010).trial
        assert trial
        assert trial.deaths == 1, (respawns, state)


def test_one_that_portod_is_just_starting_is_not_dead_anew() -> None:
    starting = replace(
        RUNNING, respawn_count=1, state="respawning", started_at=1005, changed_at=1004
    )
    seen = replace(STARTED, was_respawning=True, deaths=1)
    assert count_deaths(seen, starting) == 0
    assert count_deaths(STARTED, starting) == 1
    assert count_deaths(STARTED, replace(starting, changed_at=1006)) == 2


def test_a_dead_one_that_is_started_again_is_counted_once() -> None:
    patient = replace(SPEC, update=UpdatePolicy(max_failures=5))
    seen = replace(STARTED, was_dead=True, deaths=1)
    again = replace(RUNNING, started_at=1010)
    found = judge(seen, patient, Sight(again, host=HOST), 1011).trial
    assert found is not None
    assert (found.deaths, found.was_dead, found.begun_at) == (1, False, 1000.0)


# -- marks ---------------------------------------------------------------------------------------


def test_a_mark_stays_the_same_from_version_to_version() -> None:
    """What is rejected on a host stays so when ya-salt is upgraded; change nothing here."""
    asked = Readiness(http_port=80, http_path="/health", period_s=5.0)
    secret = {**SPEC.properties, "env_secret[TOKEN]": "t"}
    assert [
        make_version_mark(SPEC, KEY),
        make_version_mark(replace(SPEC, readiness=asked), b""),
        make_version_mark(replace(SPEC, properties=secret), KEY),
    ] == ["331d9da4c881c81b", "4ccc4c517e02796c", "331d9da4c881c81bd39b8c5e01aa8de6b82f82af"]


def test_what_is_another_version_and_what_is_not() -> None:
    assert (
        make_version_mark(replace(SPEC, version="9", path="/x", annotations={"a": "b"}), KEY)
        == MARK
    )
    assert make_version_mark(replace(SPEC, update=UpdatePolicy(watch_s=1.0)), KEY) == MARK
    for other in (
        replace(SPEC, digest="cd" * 32),
        replace(SPEC, min_ready_s=6.0),
        replace(SPEC, ready_timeout_s=61.0),
        replace(SPEC, readiness=Readiness(tcp=80)),
    ):
        assert not is_same_version(make_version_mark(other, KEY), MARK)


def test_secrets_count_as_far_as_they_are_known() -> None:
    one = replace(SPEC, properties={"env_secret[TOKEN]": "one"})
    two = replace(SPEC, properties={"env_secret[TOKEN]": "two"})
    mark = make_version_mark(one, KEY)
    assert not is_same_version(mark, make_version_mark(two, KEY))
    # Another key, or none: nobody knows, and nothing is tried again for that.
    assert is_same_version(mark, make_version_mark(one, OTHER_KEY))
    assert is_same_version(mark, make_version_mark(one, b""))
    # A key that is made for another daemon's secrets changes nothing here.
    assert make_version_mark(SPEC, KEY) == make_version_mark(SPEC, b"")
    assert mark.isalnum()


# -- what lifts a rejection or a pin ---------------------------------------------------------------

GENERATIONS = (Generation(1, "one", "1.0"), Generation(2, MARK, "1.1"))
LIFE = Life(
    generations=GENERATIONS,
    rejection=Rejection(MARK, "1.1", "died", 1.0, 1),
    pin=Pin(1, MARK, "shell: a", 1.0),
)


@pytest.mark.parametrize(
    ("spec", "order", "left"),
    [
        (SPEC, None, (True, True)),
        (replace(SPEC, version="1.1 again", path="/other"), None, (True, True)),
        (replace(SPEC, digest="cd" * 32), None, (False, False)),
        (replace(SPEC, update=UpdatePolicy(on_failure="keep")), None, (False, True)),
        (SPEC, Order("retry", "shell: a"), (False, False)),
        (SPEC, Order("start", "shell: a"), (True, True)),
        (replace(SPEC, delete_requested=True), None, (False, False)),
    ],
)
def test_what_lifts_them(spec: DaemonSpec, order: Order | None, left: tuple[bool, bool]) -> None:
    life = follow_orders(spec, LIFE, order, KEY, 2.0)
    assert (life.rejection is not None, life.pin is not None) == left


def test_going_back_by_hand_leads_to_the_one_before_the_present() -> None:
    life = Life(generations=(*GENERATIONS, Generation(3, "three", "0.9", rejected="died")))
    pinned = follow_orders(SPEC, life, Order("rollback", "shell: a"), KEY, 2.0).pin
    assert pinned == Pin(1, MARK, "shell: a", 2.0)
    chosen = follow_orders(SPEC, life, Order("rollback", "shell: a", number=3), KEY, 2.0).pin
    assert chosen is not None
    assert chosen.number == 3


# -- generations -----------------------------------------------------------------------------------


def test_a_generation_is_new_once_and_the_one_that_is_ready_stands_last() -> None:
    life, fresh = add_generation(Life(), SPEC, MARK, 5.0)
    assert fresh == Generation(1, MARK, "1.1", SPEC.digest, {"web": "1.1"}, 5.0)
    assert add_generation(life, SPEC, MARK, 6.0) == (life, None)
    life, second = add_generation(life, SPEC, "other", 7.0)
    assert second is not None
    assert second.number == 2
    life, again = add_generation(life, SPEC, MARK, 8.0)
    assert again is None
    assert [item.number for item in life.generations] == [2, 1]


def test_the_newest_five_are_kept_and_those_in_use() -> None:
    many = tuple(Generation(number, str(number)) for number in range(1, 9))
    life, gone = forget_old(Life(generations=many, pin=Pin(2, "x", "", 0.0)))
    assert gone == (1, 3)
    assert [item.number for item in life.generations] == [2, 4, 5, 6, 7, 8]


def test_a_version_that_was_ready_and_failed_is_none_to_go_back_to() -> None:
    lost = lose(Life(generations=GENERATIONS), READY, "died 190 s after", 9.0)
    assert lost.rejection == Rejection(MARK, "1.1", "died 190 s after", 9.0, 1)
    assert [bool(item.rejected) for item in lost.generations] == [False, True]
    back = find_way_back(lost, "three")
    assert back is not None
    assert back.number == 1


@pytest.mark.parametrize(
    ("trouble", "ending", "words"),
    [
        ("it exited with code 3; stderr ends with: no", "exited with 3", "stderr ends with: no"),
        ("it was killed by signal 9", "was killed by signal 9", ""),
        ("stderr ends with: no", "died", "stderr ends with: no"),
        ("", "died", ""),
    ],
)
def test_last_words_are_told_apart(trouble: str, ending: str, words: str) -> None:
    assert split_words(trouble) == (ending, words)
