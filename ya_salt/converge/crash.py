"""How often a daemon died in a row, and how long it rests before it is started again. Pure.

Deaths are counted between two looks by portod's total of respawns and by whether it is down now, so
that two looks in one second count none twice. What is not known is not counted: a lost store, a new
container, a total that was set back begin anew, and a start that we did not make was a person's.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from ya_salt.life import CrashLoop, Life
from ya_salt.messages import format_time
from ya_salt.model import Container, DaemonSpec, Outcome, StartContainer
from ya_salt.porto import values
from ya_salt.quick_dataclass import dataclass, replace
from ya_salt.text import count

MAX_DELAY_S = 300
MIN_QUIET_S = 60
LOOP_DEATHS = 3
"""Deaths in a row from which on it is told as one that keeps dying."""

DELAY = "respawn_delay"
DEFAULT_DELAY = "1s"
"""portod's own."""

_BY_DEATH = frozenset({"dead", "respawning"})


def find_delay(deaths: int) -> int:
    """Seconds of rest after so many deaths in a row; after the first it comes back at once."""
    return min(MAX_DELAY_S, 2 ** min(deaths - 1, 9)) if deaths > 1 else 0


def find_quiet(delay_s: float) -> float:
    """Seconds without a death after which the deaths before are forgotten."""
    return max(MIN_QUIET_S, 2 * delay_s)


def is_looping(crash: CrashLoop | None) -> bool:
    return crash is not None and crash.deaths >= LOOP_DEATHS


def find_rest(crash: CrashLoop | None, now: float) -> float:
    """Until when one that died is not started again; 0 where nothing keeps it.

    A clock that was set back keeps nobody waiting.
    """
    if crash is None or crash.retry or not crash.last_at <= now < crash.next_at:
        return 0.0
    return crash.next_at


@dataclass(frozen=True)
class Look:
    """What bears on the count: the container, of which spec, and whom it comes after."""

    container: Container
    mark: str
    spec_delay_s: float
    after: Mapping[str, str]


def see(crash: CrashLoop | None, look: Look, now: float) -> CrashLoop:
    """The count after a look; the first look at a daemon counts only that it is down."""
    container = look.container
    identity = f"{container.id}@{container.created_at}"
    same = crash if crash is not None and crash.container == identity else None
    respawns, is_down = _count_begun(same, container), container.state in _BY_DEATH
    if crash is None:
        # Nobody knows when portod counted what it has.
        known = CrashLoop(identity, container.started_at, respawns)
    elif crash.container != identity:
        kept = crash if crash.is_carried else CrashLoop(mark=crash.mark)
        known = replace(kept, container=identity, respawns=0, is_down=False, is_carried=False)
    elif _is_started_by_hand(crash, container):
        known = forget(replace(crash, is_down=False, retry=""))
    else:
        known = crash
    again = respawns - known.respawns if respawns >= known.respawns else respawns
    known = _add(known, again + is_down - known.is_down, again, look, now)
    known = replace(
        known,
        started_at=container.started_at,
        respawns=respawns,
        is_down=is_down,
        retry=known.retry if is_down else "",
    )
    if known.deaths and _is_quiet(known, container, now):
        known = forget(known)
    return _notice_change(known, look)


def _count_begun(crash: CrashLoop | None, container: Container) -> int:
    """What portod has counted, without a start that is not there yet: no death follows it.

    portod counts a respawn first, then notes its time, and is `respawning` until it runs.
    """
    total, started_at = container.respawn_count, container.started_at
    known = crash.respawns if crash is not None else 0
    if container.state != "respawning" or total <= known:
        return total
    is_old = crash is not None and started_at == crash.started_at
    return total - 1 if is_old or 0 < container.changed_at < started_at else total


def _is_started_by_hand(crash: CrashLoop, container: Container) -> bool:
    """Whether somebody else started it: a start of ours or of portod's is known."""
    return container.started_at not in {0, crash.started_at} and (
        container.respawn_count == crash.respawns
    )


def _add(crash: CrashLoop, new: int, again: int, look: Look, now: float) -> CrashLoop:
    if new <= 0:
        return crash
    moment = _find_death(look.container, now)
    rested_s = max(crash.delay_s, look.spec_delay_s)
    begun = max(crash.started_at, crash.last_at)
    lived_s = (moment - begun - again * rested_s) / new
    if crash.deaths and lived_s >= find_quiet(crash.delay_s):
        # Nobody looked while it was quiet.
        crash, new = forget(crash), 1
    deaths = crash.deaths + new
    first = look.container.created_at if new > 1 and not crash.started_at else 0
    delay_s = find_delay(deaths)
    # A delay under way is not cut short by a new value, nor made longer.
    next_s = delay_s if look.container.state == "dead" else rested_s
    return replace(
        crash,
        deaths=deaths,
        since=crash.since or (first if 0 < first <= moment else moment),
        last_at=moment,
        delay_s=delay_s,
        next_at=moment + next_s,
        after=dict(look.after) if not crash.deaths else crash.after,
        retry="",
    )


def _find_death(container: Container, now: float) -> float:
    """When it died last, as portod's clock tells; portod keeps the first death of several."""
    known = max(container.started_at, container.died_at)
    if container.state in _BY_DEATH:
        known = max(known, container.changed_at)
    return float(known) if 0 < known <= now else now


def _is_quiet(crash: CrashLoop, container: Container, now: float) -> bool:
    if container.state != "running":
        return False
    begun = max(container.started_at, crash.last_at)
    lived_s = now - begun if now >= begun else container.running_s
    return lived_s >= find_quiet(crash.delay_s)


def forget(crash: CrashLoop) -> CrashLoop:
    """What was seen without what was counted."""
    return replace(
        crash, deaths=0, since=0.0, last_at=0.0, delay_s=0, next_at=0.0, after={}, is_carried=False
    )


def _notice_change(crash: CrashLoop, look: Look) -> CrashLoop:
    """Another spec, other packages, a daemon it comes after that is ready now: tried at once."""
    if crash.mark != look.mark:
        known = replace(crash, mark=look.mark)
        return try_at_once(known, "its spec changed") if crash.mark else known
    came = sorted(
        name for name, process in look.after.items() if process and crash.after.get(name) != process
    )
    if not crash.deaths or not came:
        return crash
    are = "is" if len(came) == 1 else "are"
    return try_at_once(crash, f"{', '.join(came)} {are} ready")


def try_at_once(crash: CrashLoop, why: str) -> CrashLoop:
    """Counting begins anew, and if it is down it does not rest."""
    return replace(forget(crash), retry=why if crash.is_down and crash.deaths else "")


def see_outcome(crash: CrashLoop | None, outcome: Outcome, look: Look) -> CrashLoop | None:
    """What is to be known of our own deeds before the look that follows them."""
    container = look.container
    identity = f"{container.id}@{container.created_at}"
    if outcome.touched and crash is None:
        # Made by us a moment ago: all that portod has counted is its own.
        return CrashLoop(container=identity, started_at=container.started_at, mark=look.mark)
    if crash is None or crash.container != identity:
        return crash
    for step in (item.step for item in outcome.results if item.is_done):
        if isinstance(step, StartContainer):
            # portod's own total counts a start from `respawning`.
            is_down = crash.is_down and step.state == "respawning"
            crash = replace(crash, started_at=container.started_at, is_down=is_down)
    return crash


def note_failure(life: Life, now: float) -> Life:
    """It is to be started anew because it failed though it runs: that counts as a death.

    `find_rest` says whether it is time for that; the container made for it goes on counting.
    """
    crash = life.crash or CrashLoop()
    deaths = crash.deaths + 1
    delay_s = find_delay(deaths)
    return replace(
        life,
        crash=replace(
            crash,
            deaths=deaths,
            since=crash.since or now,
            last_at=now,
            delay_s=delay_s,
            next_at=now + delay_s,
            is_carried=True,
        ),
    )


# -- what it asks of the plan ----------------------------------------------------------------------


def read_delay(spec: DaemonSpec) -> float:
    """Seconds that its spec has portod wait before it starts the daemon again."""
    return _parse_delay(spec.properties.get(DELAY, DEFAULT_DELAY))


@lru_cache(maxsize=256)
def _parse_delay(text: str) -> float:
    """Most daemons have the same."""
    try:
        return int(values.parse_duration(text).removesuffix("ns")) / 1e9
    except ValueError:
        return 0.0


def find_respawn_delay(crash: CrashLoop | None, spec: DaemonSpec, container: Container) -> str:
    """`respawn_delay` in place of the spec's, as portod takes it; "" where the spec's is right."""
    if crash is None or crash.delay_s <= read_delay(spec):
        return ""
    limit = spec.properties.get("max_respawns", "-1")
    # One that portod does not start again any more needs no delay of portod's.
    is_used_up = limit.isdecimal() and container.respawn_count >= int(limit)
    return "" if is_used_up else f"{crash.delay_s}s"


def describe_loop(crash: CrashLoop) -> str:
    """A sentence: how often it died, since when."""
    times = count(crash.deaths, "time")
    return f"it has died {times} in a row since {format_time(crash.since)}"


def describe_rest(crash: CrashLoop) -> str:
    return f"{describe_loop(crash)}: it is started again at {format_time(crash.next_at)}"
