"""Daemons that somebody stopped: they stay so until started, or until their time is over. Pure."""

from __future__ import annotations

from ya_salt.converge.crash import try_at_once
from ya_salt.life import Hold, Life, Order
from ya_salt.messages import format_time
from ya_salt.quick_dataclass import replace

_NOBODY = "somebody"


def take_order(life: Life, order: Order, now: float) -> Life:
    """The life with what a person asks for; whatever it is but a stop, it does not rest any more.

    A daemon that is held and stopped once more has the newer terms, since the older moment.
    """
    if order.kind == "stop":
        since = life.hold.since if life.hold is not None else now
        return replace(life, hold=Hold(order.who or _NOBODY, order.why, since, order.until))
    crash = life.crash
    if crash is not None:
        crash = try_at_once(crash, f"{order.who or _NOBODY} asks for it")
    return replace(life, hold=None if order.kind == "start" else life.hold, crash=crash)


def end_when_due(life: Life, now: float) -> Life:
    """The life without a hold whose time is over."""
    hold = life.hold
    return replace(life, hold=None) if hold is not None and 0 < hold.until <= now else life


def describe_hold(hold: Hold) -> str:
    """A sentence: by whom, since and until when, why."""
    until = f" until {format_time(hold.until)}" if hold.until else ", until somebody starts it"
    why = f": {hold.why}" if hold.why else ""
    return f"held by {hold.who} since {format_time(hold.since)}{until}{why}"


def describe_end(hold: Hold, now: float) -> str:
    """What became of a hold that is there no more."""
    if 0 < hold.until <= now:
        return f"its hold by {hold.who} is over, as it was to be at {format_time(hold.until)}"
    return f"its hold by {hold.who} of {format_time(hold.since)} was ended"
