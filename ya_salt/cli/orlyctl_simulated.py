"""Tell what came of a simulated rollout, to people and to programs. Pure."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from ya_salt.cli.render import render_table
from ya_salt.rollout.ruletexts import show_duration
from ya_salt.rollout.simulated import Halt, Result

_MAX_HALTS = 3


def result_to_data(result: Result, seed: int) -> dict[str, Any]:
    """All but the log; times are seconds since the start."""
    return {
        "rule": result.scenario.rule.name,
        "hosts": result.scenario.hosts,
        "seed": seed,
        "start": _show_moment(result, 0),
        "outcome": result.outcome,
        "reason": result.refusal.reason if result.refusal else "",
        "message": result.refusal.message if result.refusal else "",
        "duration_s": result.duration_s,
        "hosts_by_state": dict(result.states),
        "disturbed": result.disturbed,
        "max_at_once": result.max_at_once,
        "max_starts_in_window": result.max_starts,
        "robbed": result.robbed,
        "repaired_at_s": result.repaired_at_s,
        "halts": [asdict(halt) for halt in result.halts],
        "timeline": [{"percent": percent, "at_s": at_s} for at_s, percent in result.timeline],
        "advice": _list_advice(result),
    }


def render_result(result: Result) -> str:
    """What came of it in one sentence, how it went, what to do about it."""
    lines = [f"{_count_hosts(result.scenario.hosts)}: {_describe_outcome(result)}"]
    if result.disturbed:
        lines.append(_describe_limits(result))
    lines += _list_course(result)
    lines += ["", _render_timeline(result)] if result.timeline else []
    advice = _list_advice(result)
    return "\n".join([*lines, *([""] if advice else []), *advice])


def _count_hosts(count: int) -> str:
    return f"{count} host{'s' * (count != 1)}"


def _describe_outcome(result: Result) -> str:
    took, words = _show_time(result.duration_s), result.refusal.message if result.refusal else ""
    match result.outcome:
        case "done":
            return f"done in {took}{_describe_rest(result)}"
        case "halted":
            return _describe_halt(result, result.halts[-1])
        case "stuck":
            return f"stuck {took} after the start with no slot left; {_describe_states(result)}"
        case "closed" | "unselected":
            if not result.disturbed:
                return f"nobody may start: {words}"
            states = _describe_states(result)
            return f"nobody starts any more {took} after the start; {states}; {words}"
        case "unfinished":
            waits = f"; those who wait: {words}" if words else ""
            return f"not done after {took}; {_describe_states(result)}{waits}"


def _describe_rest(result: Result) -> str:
    """Who will not have it though nobody waits."""
    words = [
        f"{result.states[state]} {state}" for state in ("failed", "lost") if result.states[state]
    ]
    return f", but for {' and '.join(words)}" if words else ""


def _describe_states(result: Result) -> str:
    return ", ".join(f"{count} {state}" for state, count in result.states.items() if count)


def _describe_halt(result: Result, halt: Halt) -> str:
    untouched = result.scenario.hosts - halt.disturbed
    return (
        f"halts after {_count_hosts(halt.disturbed)}: {halt.failed} failed, {halt.working} were at "
        f"it; {untouched} untouched, {_show_time(halt.at_s)} after the start"
    )


def _describe_limits(result: Result) -> str:
    rate = result.scenario.rule.rate
    starts = (
        f"; at most {result.max_starts} starts in {show_duration(rate.window_s)}" if rate else ""
    )
    return f"at most {result.max_at_once} at once{starts}"


def _list_course(result: Result) -> list[str]:
    """Halts and what came after, but for what the first line says."""
    halts = result.halts[:-1] if result.outcome == "halted" else result.halts
    lines = [_describe_halt_and_after(result, halt) for halt in halts[:_MAX_HALTS]]
    if len(halts) > _MAX_HALTS:
        lines.append(f"and {len(halts) - _MAX_HALTS} halts more")
    if result.repaired_at_s is not None:
        lines.append(f"another version comes {_show_time(result.repaired_at_s)} after the start")
    return lines


def _describe_halt_and_after(result: Result, halt: Halt) -> str:
    again = halt.resumed_at_s
    goes_on = "" if again is None else f"; goes on by itself at {_show_time(again)}"
    return f"{_describe_halt(result, halt)}{goes_on}"


def _render_timeline(result: Result) -> str:
    rows = [
        (f"{percent}%", _show_time(at_s), _show_moment(result, at_s))
        for at_s, percent in result.timeline
    ]
    return render_table(("DONE", "AFTER", "AT"), rows)


def _show_time(seconds: float) -> str:
    """To the second, from an hour on to the minute."""
    step = 60 if seconds >= 3600 else 1
    whole = round(seconds / step) * step
    return show_duration(whole) if whole or not seconds else "under 1s"


def _show_moment(result: Result, at_s: float) -> str:
    zone = ZoneInfo(result.scenario.rule.time_zone)
    moment = datetime.fromtimestamp(result.scenario.start + at_s, zone)
    return moment.strftime("%Y-%m-%d %H:%M %Z")


def _list_advice(result: Result) -> list[str]:
    """What to type or to change next."""
    rule, advice = result.scenario.rule, list[str]()
    if result.outcome == "halted":
        advice.append(
            "the rule has done its work: another version goes on by itself, as --repair-after shows"
        )
    if result.outcome == "stuck":
        advice += _advise_stuck(result)
    if result.outcome == "closed":
        advice.append(
            f"no start is possible within --max-time: see freeze and windows of {rule.name}"
        )
    if result.outcome == "unselected":
        advice.append(
            "give the facts of your hosts with --facts NAME=VALUE, or change the selector"
        )
    if result.outcome == "unfinished":
        advice.append(
            "give more time (--max-time), or let more start: max_concurrent, rate, windows"
        )
    if result.outcome == "done" and (result.states["failed"] or result.states["lost"]):
        advice.append(
            f"their slots stay taken: orlyctl status {rule.name} names them, orlyctl release frees"
        )
    if result.robbed:
        advice.append(
            f"{result.robbed} times a slot was taken from a host that was alive: lost_after "
            f"{show_duration(rule.lost_after_s)} is shorter than between two passes"
        )
    return advice


def _advise_stuck(result: Result) -> list[str]:
    rule, advice = result.scenario.rule, list[str]()
    if result.states["failed"]:
        limit = "any number" if rule.max_failures is None else str(rule.max_failures)
        advice.append(
            f"failed hosts hold their slots, and max_failures ({limit}) does not halt before "
            f"max_concurrent ({rule.max_concurrent}) is used up: lower the one or raise the other"
        )
    if result.states["lost"] and rule.on_lost == "hold":
        advice.append(
            "lost hosts hold their slots until orlyctl release; on_lost: free gives them on"
        )
    return advice
