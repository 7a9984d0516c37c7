"""What a daemon tells of itself by sd_notify(3), and what that comes to. Pure.

All times are seconds of CLOCK_BOOTTIME, by which the kernel tells when a process was started.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ya_salt.quick_dataclass import asdict, dataclass, fields, replace
from ya_salt.text import printable

MAX_BYTES = 4096
"""Of one message: systemd takes no longer ones either."""

ENDING = "it is ending (STOPPING=1)"
"""Begins what is said of a daemon that is on its way out."""

_MAX_STATUS = 200
_DAY_S = 86400.0


@dataclass(frozen=True)
class Told:
    """The last word on each matter and when it came, 0.0: never. Whose process said it is open."""

    listened_since: float = 0.0
    """Nobody knows what was said before."""
    ready_at: float = 0.0
    reloading_at: float = 0.0
    """RELOADING=1 that no READY=1 has followed."""
    stopping_at: float = 0.0
    """STOPPING=1, the same."""
    until: float = 0.0
    """It asked for time until then."""
    until_at: float = 0.0
    """When it did."""
    alive_at: float = 0.0
    """WATCHDOG=1."""
    failed_at: float = 0.0
    """WATCHDOG=trigger that no WATCHDOG=1 has followed."""
    watchdog_s: float = 0.0
    """As the daemon itself wants it, told by WATCHDOG_USEC."""
    watchdog_at: float = 0.0
    status: str = ""
    status_at: float = 0.0
    missed_since: float = 0.0
    """The last sign of life before those that did not come in time."""


@dataclass(frozen=True)
class Word:
    """What it comes to: as `model.Answer` has it; `until` is of CLOCK_BOOTTIME."""

    says: str
    words: str
    until: float = 0.0


def parse_message(data: bytes) -> dict[str, str]:
    """The assignments of one message, the last of each name; what is none is left out."""
    text = data.decode(errors="replace")
    pairs = (line.partition("=") for line in text.split("\n"))
    return {name: value for name, is_one, value in pairs if name and is_one}


def take(told: Told, message: Mapping[str, str], now: float) -> Told:
    """What is known after a message that came at `now`."""
    found = told
    if message.get("RELOADING") == "1":
        found = replace(found, reloading_at=now)
    if message.get("STOPPING") == "1":
        found = replace(found, stopping_at=now, reloading_at=0.0)
    if message.get("READY") == "1":
        found = replace(found, ready_at=now, reloading_at=0.0, stopping_at=0.0, until=0.0)
    if message.get("WATCHDOG") == "1":
        found = replace(found, alive_at=now, failed_at=0.0, missed_since=0.0)
    elif message.get("WATCHDOG") == "trigger":
        found = replace(found, failed_at=now)
    if "STATUS" in message:
        found = replace(found, status=printable(message["STATUS"], _MAX_STATUS), status_at=now)
    asked_s = _read_usec(message.get("EXTEND_TIMEOUT_USEC", ""))
    if asked_s:
        found = replace(found, until=now + min(asked_s, _DAY_S), until_at=now)
    own_s = _read_usec(message.get("WATCHDOG_USEC", ""))
    if own_s:
        found = replace(found, watchdog_s=own_s, watchdog_at=now, alive_at=now, missed_since=0.0)
    return found


def _read_usec(text: str) -> float:
    return int(text) / 1e6 if text.isascii() and text.isdecimal() and len(text) < 20 else 0.0


def find_deadline(told: Told, watchdog_s: float, awake_since: float) -> float:
    """When its next sign of life is late; 0.0 where none is waited for.

    As with systemd that begins with READY=1. Nobody could hear it before `awake_since`.
    """
    if not watchdog_s or not told.ready_at or told.stopping_at or told.missed_since:
        return 0.0
    patience_s = told.watchdog_s or watchdog_s
    return max(_find_sign(told), told.listened_since, awake_since) + patience_s


def note_missed(told: Told) -> Told:
    """That its sign of life did not come in time."""
    return replace(told, missed_since=_find_sign(told))


def _find_sign(told: Told) -> float:
    return max(told.ready_at, told.alive_at)


def is_news(was: Told, now: Told) -> bool:
    """Whether it may be judged otherwise by that."""
    return _pick(was) != _pick(now)


def _pick(told: Told) -> tuple[object, ...]:
    states = (told.reloading_at, told.stopping_at, told.failed_at, told.missed_since)
    # READY=1 once more may be another process's.
    return told.ready_at, told.until, *(bool(at) for at in states)


def is_worth_keeping(was: Told, now: Told) -> bool:
    """Whether there is more to it than a sign of life, which is of use for a moment only."""
    return replace(was, alive_at=0.0) != replace(now, alive_at=0.0)


def drop_before(told: Told, started: float) -> Told:
    """Without what another process than the one that was started then has said."""
    changed: dict[str, Any] = {
        name: 0.0
        for name in ("ready_at", "reloading_at", "stopping_at", "alive_at", "failed_at")
        if getattr(told, name) < started
    }
    if told.until_at < started:
        changed |= {"until": 0.0, "until_at": 0.0}
    if told.watchdog_at < started:
        changed |= {"watchdog_s": 0.0, "watchdog_at": 0.0}
    if told.status_at < started:
        changed |= {"status": "", "status_at": 0.0}
    if told.missed_since < started:
        changed["missed_since"] = 0.0
    return replace(told, **changed)


def judge(  # noqa: PLR0911 - a return a rule
    told: Told, started: float, now: float, watchdog_s: float, patience_s: float
) -> Word:
    """What its process that was started at `started` says of itself.

    `patience_s` is how long it may take to come up, to read its settings anew, or to end.
    """
    told = drop_before(told, started)
    said = f": {told.status}" if told.status else ""
    if told.stopping_at:
        is_late = now > max(told.stopping_at + patience_s, told.until)
        words = f"{ENDING}{said}"
        return Word("no" if is_late else "wait", words, told.until)
    if not told.ready_at:
        return _judge_start(told, started, now, said)
    if told.failed_at:
        return Word("no", f"it says that it does not work any more (WATCHDOG=trigger){said}")
    if told.missed_since:
        wanted_s = told.watchdog_s or watchdog_s
        return Word("no", f"no WATCHDOG=1 within {wanted_s:g} s{said}")
    if told.reloading_at:
        if now > max(told.reloading_at + patience_s, told.until):
            words = f"RELOADING=1 without READY=1 for more than {patience_s:g} s"
            return Word("no", words + said, told.until)
        return Word("yes", f"RELOADING=1{said}", told.until)
    return Word("yes", f"READY=1{said}")


def _judge_start(told: Told, started: float, now: float, said: str) -> Word:
    if told.until > now:
        words = f"it asked for more time (EXTEND_TIMEOUT_USEC){said}"
        return Word("wait", words, told.until)
    if told.listened_since > started + _SLACK_S:
        return Word(
            "unknown",
            "it was started before anybody listened, so it may have said READY=1 unheard",
        )
    return Word("no", f"it has not said READY=1{said}")


_SLACK_S = 0.02
"""The kernel tells a start in hundredths of a second."""


def encode(told: Told) -> dict[str, Any]:
    return asdict(told)


def decode(data: Any) -> Told:
    """What `encode` made, in any version. Raises ValueError."""
    if not isinstance(data, dict):
        raise ValueError("no mapping")  # noqa: TRY004 - as promised
    known = {item.name: type(item.default) for item in fields(Told)}
    found = {name: value for name, value in data.items() if name in known}
    for name, value in found.items():
        wanted: tuple[type, ...] = (str,) if known[name] is str else (int, float)
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise ValueError(f"{name} is no {known[name].__name__}")  # noqa: TRY004 - as above
    return Told(**found)
