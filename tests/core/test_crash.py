"""Deaths in a row: what is counted between two looks, how long it rests, when it is forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ya_salt.converge.crash import (
    Look,
    find_delay,
    find_quiet,
    find_respawn_delay,
    find_rest,
    is_looping,
    note_failure,
    read_delay,
    see,
    see_outcome,
    try_at_once,
)
from ya_salt.life import CrashLoop, Life
from ya_salt.model import Container, DaemonPlan, DaemonSpec, Outcome, StartContainer, StepResult

BORN = 1_000_000


def look(state: str = "running", respawns: int = 0, started: int = BORN, **more: object) -> Look:
    container = Container(
        "d",
        state,
        respawn_count=respawns,
        id=str(more.pop("id", "7")),
        created_at=BORN,
        started_at=started,
        changed_at=int(str(more.pop("changed", started))),
        running_s=int(str(more.pop("running_s", 0))),
    )
    after = more.pop("after", {})
    assert isinstance(after, dict)
    return Look(container, str(more.pop("mark", "m")), float(str(more.pop("delay", 1))), after)


def spec(**properties: str) -> DaemonSpec:
    return DaemonSpec("d", "1", "/d.yaml", "0" * 64, properties, ())


def see_all(*looks: tuple[Look, float]) -> CrashLoop:
    crash: CrashLoop | None = None
    for seen, now in looks:
        crash = see(crash, seen, BORN + now)
    assert crash is not None
    return crash


@pytest.mark.parametrize(
    ("deaths", "delay_s"),
    [(0, 0), (1, 0), (2, 2), (3, 4), (4, 8), (9, 256), (10, 300), (10**9, 300)],
)
def test_the_delay_doubles_with_each_death(deaths: int, delay_s: int) -> None:
    assert find_delay(deaths) == delay_s


@pytest.mark.parametrize(("delay_s", "quiet_s"), [(0, 60), (8, 60), (64, 128), (300, 600)])
def test_quiet_is_a_minute_or_twice_the_delay(delay_s: int, quiet_s: int) -> None:
    assert find_quiet(delay_s) == quiet_s


# -- what is counted -----------------------------------------------------------------------------

ALIVE = (look(), 1.0)


@pytest.mark.parametrize(
    ("looks", "deaths"),
    [
        pytest.param([ALIVE, ALIVE], 0, id="it lives"),
        pytest.param([ALIVE, (look("dead"), 3)], 1, id="it is dead"),
        pytest.param([ALIVE, (look("dead"), 3), (look("dead"), 3)], 1, id="two looks, one death"),
        pytest.param([ALIVE, (look("respawning"), 3)], 1, id="it waits for portod"),
        pytest.param(
            [ALIVE, (look("respawning"), 3), (look("running", 1, BORN + 4), 5)],
            1,
            id="portod started it again",
        ),
        pytest.param(
            [ALIVE, (look("respawning"), 3), (look("respawning", 1, BORN + 4), 5)],
            2,
            id="started again, and dead again",
        ),
        pytest.param(
            [ALIVE, (look("respawning", 1), 3), (look("running", 1, BORN + 4), 5)],
            1,
            id="counted by portod, which has not started it again yet",
        ),
        pytest.param(
            [ALIVE, (look("respawning", 1, BORN + 4, changed=BORN + 3), 4)] * 2,
            1,
            id="portod is starting it again",
        ),
        pytest.param(
            [
                ALIVE,
                (look("respawning", changed=BORN + 3), 3),
                (look("respawning", 1, BORN + 4, changed=BORN + 3), 4),
                (look("running", 1, BORN + 4), 5),
                (look("respawning", 1, BORN + 4, changed=BORN + 6), 6),
            ],
            2,
            id="seen before, during and after its start, and dead again",
        ),
        pytest.param(
            [
                (look("respawning", 40, changed=BORN + 3), 3),
                (look("respawning", 41, BORN + 4, changed=BORN + 3), 4),
                (look("running", 41, BORN + 4), 5),
            ],
            1,
            id="a lost store, and portod starts it again",
        ),
        pytest.param([ALIVE, (look("dead", 3, BORN + 9), 10)], 4, id="max_respawns used up"),
        pytest.param([(look("running", 40), 50)], 0, id="a lost store does not know when"),
        pytest.param([(look("respawning", 40), 50)], 1, id="a lost store sees that it is down"),
        pytest.param(
            [ALIVE, (look("running", 5, BORN + 9), 10), (look("running", 0, BORN + 9), 11)],
            5,
            id="somebody set the total back",
        ),
        pytest.param(
            [ALIVE, (look("running", 5, BORN + 9), 10), (look("running", 2, BORN + 14), 15)],
            7,
            id="set back, and died since",
        ),
        pytest.param(
            [ALIVE, (look("dead", 3, BORN + 9), 10), (look(id="8"), 11)], 0, id="a new container"
        ),
        pytest.param([ALIVE, (look("running", 2, id="8"), 11)], 2, id="a new one that died"),
        pytest.param([ALIVE, (look("stopped", 0, 0), 3)], 0, id="somebody stopped it"),
        pytest.param(
            [ALIVE, (look("dead"), 3), (look("running", 0, BORN + 5), 6)],
            0,
            id="somebody started it",
        ),
        pytest.param(
            [ALIVE, (look("dead"), 3), (look("dead", 0, BORN + 5), 6)],
            1,
            id="somebody started it, and it died",
        ),
        pytest.param(
            [ALIVE, (look("dead", 2), 3), (look("dead", 2, mark="n"), 6)], 0, id="another spec"
        ),
        pytest.param([ALIVE, (look("paused"), 3)], 0, id="somebody paused it"),
    ],
)
def test_deaths_between_looks(looks: list[tuple[Look, float]], deaths: int) -> None:
    assert see_all(*looks).deaths == deaths


def test_a_start_of_ours_goes_on_counting() -> None:
    crash = see_all(ALIVE, (look("dead"), 3.0))
    again = look("dead", 0, BORN + 5)
    started = StepResult(StartContainer("d", "dead", "it is dead"))
    known = see_outcome(crash, Outcome(DaemonPlan("d"), (started,)), again)

    assert see(known, again, BORN + 6).deaths == 2
    lives = look("running", 0, BORN + 5)
    known = see_outcome(crash, Outcome(DaemonPlan("d"), (started,)), lives)
    assert see(see(known, lives, BORN + 6), lives, BORN + 7).deaths == 1


def test_a_respawn_that_we_asked_for_is_no_death() -> None:
    crash = see_all(ALIVE, (look("respawning"), 3.0))
    lives = look("running", 1, BORN + 5)
    started = StepResult(StartContainer("d", "respawning", "its spec changed"))
    known = see_outcome(crash, Outcome(DaemonPlan("d"), (started,)), lives)

    assert see(known, lives, BORN + 6).deaths == 1


# -- resting and forgetting ----------------------------------------------------------------------


def test_it_rests_until_its_time_and_not_when_the_clock_was_set_back() -> None:
    crash = see_all(ALIVE, (look("dead", 3, BORN + 9, changed=BORN + 10), 12))

    assert crash.last_at == BORN + 10
    assert crash.next_at == BORN + 18
    assert is_looping(crash)
    assert find_rest(crash, BORN + 17.9) == BORN + 18
    assert find_rest(crash, BORN + 18) == 0
    assert find_rest(crash, BORN - 5000) == 0


def test_a_delay_under_way_is_as_long_as_it_was() -> None:
    crash = see_all(ALIVE, (look("respawning", 3, BORN + 9, delay=2, changed=BORN + 10), 12))

    assert crash.delay_s == 8
    assert crash.next_at == BORN + 12


@pytest.mark.parametrize(("later", "deaths"), [(60, 4), (70, 0)])
def test_it_is_forgotten_once_it_has_lived_long_enough(later: int, deaths: int) -> None:
    looks = [ALIVE, (look("running", 4, BORN + 9), 10), (look("running", 4, BORN + 9), later)]

    assert see_all(*looks).deaths == deaths


def test_one_that_waits_lives_not() -> None:
    assert see_all(ALIVE, (look("dead"), 3), (look("dead"), 9000)).deaths == 1


def test_deaths_far_apart_that_nobody_looked_between_are_no_row() -> None:
    looks = [ALIVE, (look("running", 1, BORN + 9), 10), (look("running", 2, BORN + 4000), 4001)]

    assert see_all(*looks).deaths == 1


def test_rests_are_not_taken_for_life() -> None:
    """By its spec it rests for 700 s, so the deaths of one that dies at once are as far apart."""
    crash = see_all(ALIVE, (look("respawning", changed=BORN + 2, delay=700), 3))
    for number in range(1, 5):
        at = BORN + 2 + 700 * number
        crash = see(crash, look("respawning", number, at, changed=at, delay=700), at + 1)

    assert crash.deaths == 5


# -- tried at once -------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["dead", "respawning"])
def test_another_spec_is_tried_at_once(state: str) -> None:
    crash = see_all(ALIVE, (look(state, 5), 3), (look(state, 5, mark="n"), 4))

    assert crash.retry == "its spec changed"
    assert find_rest(crash, BORN + 4) == 0
    assert see(crash, look("running", 5, BORN + 5, mark="n"), BORN + 6).retry == ""


def test_what_it_comes_after_is_ready_again() -> None:
    """One that it comes after and that was there all the time is no reason."""
    gone, there = {"db": "", "log": "1"}, {"db": "2", "log": "1"}
    crash = see_all(ALIVE, (look("dead", 5, after=gone), 3))

    assert see(crash, look("dead", 5, after=gone), BORN + 4).retry == ""
    assert see(crash, look("dead", 5, after=there), BORN + 4).retry == "db is ready"


def test_who_lives_is_not_tried_again() -> None:
    crash = try_at_once(see_all(ALIVE, (look("running", 5, BORN + 3), 4)), "asked for")

    assert (crash.deaths, crash.retry) == (0, "")


# -- what it asks of portod ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("", 1), ("100ms", 0.1), ("90s", 90), ("1500", 0), ("700s", 700)]
)
def test_the_delay_of_the_spec_is_read(text: str, seconds: float) -> None:
    assert read_delay(spec(respawn_delay=text) if text else spec()) == seconds


@pytest.mark.parametrize(
    ("delay_s", "properties", "respawns", "text"),
    [
        (0, {}, 3, ""),
        (8, {}, 3, "8s"),
        (300, {"respawn_delay": "100ms"}, 30, "300s"),
        (8, {"respawn_delay": "9s"}, 3, ""),
        (8, {"max_respawns": "-1"}, 3, "8s"),
        (8, {"max_respawns": "4"}, 3, "8s"),
        (8, {"max_respawns": "3"}, 3, ""),
    ],
)
def test_the_delay_that_takes_the_place_of_the_specs(
    delay_s: int, properties: dict[str, str], respawns: int, text: str
) -> None:
    crash = CrashLoop(deaths=4, delay_s=delay_s)
    container = look("respawning", respawns).container

    assert find_respawn_delay(crash, spec(**properties), container) == text


# -- failures of one that runs -------------------------------------------------------------------


def test_a_failure_counts_as_a_death_and_outlives_its_container() -> None:
    life = Life(crash=see_all(ALIVE))
    for moment in (100.0, 101.0):
        life = note_failure(life, BORN + moment)
    assert life.crash is not None
    assert life.crash.deaths == 2
    assert find_rest(life.crash, BORN + 102) == BORN + 103
    fresh = replace(look(id="8").container, started_at=BORN + 103)

    crash = see(life.crash, Look(fresh, "m", 1.0, {}), BORN + 104)

    assert crash.deaths == 2
    assert see(crash, look(id="9"), BORN + 105).deaths == 0
