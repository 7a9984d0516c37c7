"""`orlyctl simulate`: play a rollout by a rule file on a fleet that is not there. Asks no etcd."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import Any, TypeVar, get_args
from zoneinfo import ZoneInfo

from ya_salt.cli.lines import render_table
from ya_salt.cli.output import answer
from ya_salt.gate.protocol import Operation
from ya_salt.gate.rule import Rule
from ya_salt.gate.rule_file import (
    find_epoch,
    load_rule_file,
    parse_date,
    parse_duration,
    parse_fact,
    show_duration,
)
from ya_salt.gate.simulation.result import Halt, Result, Scenario
from ya_salt.gate.simulation.rollout import simulate
from ya_salt.quick_dataclass import asdict
from ya_salt.text import count

MAX_HOSTS = 100_000
_Value = TypeVar("_Value")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", "--file", metavar="FILE", required=True, help="the rule file; - is standard input"
    )
    _add_fleet(parser)
    _add_luck(parser)
    _add_course(parser)
    parser.add_argument(
        "-o",
        "--output",
        choices=("table", "json", "yaml"),
        default="table",
        help="form of the answer (table)",
    )


def _add_fleet(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the fleet (times such as 30s, 5m, 1h30m)")
    group.add_argument(
        "--hosts",
        metavar="N",
        type=_checked(_parse_hosts),
        default=1000,
        help=f"how many, up to {MAX_HOSTS} (1000)",
    )
    group.add_argument(
        "--op-time",
        metavar="TIME",
        type=_checked(_parse_span),
        default=(30, 30),
        help="what the operation takes on a host, or from-to such as 20s-90s (30s)",
    )
    group.add_argument(
        "--pass-interval",
        metavar="TIME",
        type=_checked(_parse_time),
        default=300,
        help="between two passes of a host (5m)",
    )
    group.add_argument(
        "--watch",
        metavar="TIME",
        type=_checked(parse_duration),
        default=600,
        help="the spec's update.watch_s: an update keeps its slot for so long once it is ready, "
        "where the rule has no min_healthy_time (10m)",
    )
    group.add_argument(
        "--facts",
        metavar="NAME=VALUE",
        type=_checked(_parse_fact),
        action="append",
        help="of all hosts, for the rule's selector; may be given more than once (what it wants)",
    )
    group.add_argument(
        "--operation", choices=get_args(Operation), default="update", help="what they do (update)"
    )


def _add_luck(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what befalls it (rates are shares from 0 to 1)")
    rates = {
        "--failure-rate": "hosts on which the version fails, at every try (0)",
        "--retry-success-rate": "further tries of such a host that succeed even so (0)",
        "--lost-rate": "hosts that die half-way and are not heard of again (0)",
        "--repaired-failure-rate": "hosts on which the version of --repair-after fails (0)",
    }
    for flag, text in rates.items():
        group.add_argument(flag, metavar="P", type=_checked(_parse_rate), default=0.0, help=text)
    group.add_argument(
        "--repair-after",
        metavar="TIME",
        type=_checked(parse_duration),
        help="so long after the rollout has stopped another version comes (never)",
    )


def _add_course(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the course")
    group.add_argument(
        "--start",
        metavar="DATE",
        type=_checked(parse_date),
        help='"2026-12-30 18:00" in the rule\'s time zone, for its freeze and windows (now)',
    )
    group.add_argument(
        "--max-time",
        metavar="TIME",
        type=_checked(_parse_time),
        default=30 * 86400,
        help="look no further than that (30d)",
    )
    group.add_argument(
        "--seed", metavar="N", type=int, default=1, help="other numbers draw other luck (1)"
    )


def run(options: argparse.Namespace) -> int:
    """0: everybody had it or failed; 1: the rollout halts, gets stuck or goes on for too long.

    Raises OperatorError or SpecError where the rule file cannot be used.
    """
    result = simulate(
        _make_scenario(options, load_rule_file(options.file)),
        Random(options.seed),  # noqa: S311 - a simulation is no secret
    )
    answer(
        options.output,
        lambda: render_result(result),
        lambda: result_to_data(result, options.seed),
    )
    return 0 if result.outcome == "done" else 1


def _make_scenario(options: argparse.Namespace, rule: Rule) -> Scenario:
    wall = options.start
    return Scenario(
        rule=rule,
        hosts=options.hosts,
        start=float(int(time.time()))
        if wall is None
        else find_epoch(wall, rule.time_zone, is_end=False),
        operation=options.operation,
        op_time_s=options.op_time,
        pass_interval_s=options.pass_interval,
        failure_rate=options.failure_rate,
        retry_success_rate=options.retry_success_rate,
        lost_rate=options.lost_rate,
        repair_after_s=options.repair_after,
        repaired_failure_rate=options.repaired_failure_rate,
        max_time_s=options.max_time,
        watch_s=options.watch,
        facts=None if options.facts is None else dict(options.facts),
    )


# -- values ------------------------------------------------------------------------------------


def _checked(parse: Callable[[str], _Value]) -> Callable[[str], _Value]:
    """As argparse wants it: a ValueError's own words are what is said."""

    def check(text: str) -> _Value:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return check


def _parse_hosts(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MAX_HOSTS:
        raise ValueError(f"{text[:40]!r} is not a number from 1 to {MAX_HOSTS}")
    return int(text)


def _parse_time(text: str) -> int:
    return parse_duration(text, 1)


def _parse_span(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    span = _parse_time(low), _parse_time(high if dash else low)
    if span[0] > span[1]:
        raise ValueError(f"{text[:40]!r} ends before it begins; write {high}-{low}")
    return span


def _parse_rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    # Also refuses what is no number to compare with.
    if not 0 <= rate <= 1:
        raise ValueError(f"{text[:40]!r} is not a share from 0 to 1, such as 0.05")
    return rate


def _parse_fact(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text[:40]!r} is not a fact; write NAME=VALUE")
    return parse_fact(name), parse_fact(value)


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


def _count_hosts(number: int) -> str:
    return count(number, "host")


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
    """Hosts that never get the version, though no host waits any more."""
    words = [
        f"{result.states[state]} {state}" for state in ("failed", "lost") if result.states[state]
    ]
    return f", but for {' and '.join(words)}" if words else ""


def _describe_states(result: Result) -> str:
    return ", ".join(f"{number} {state}" for state, number in result.states.items() if number)


def _describe_halt(result: Result, halt: Halt) -> str:
    untouched = result.scenario.hosts - halt.disturbed
    return (
        f"halts after {_count_hosts(halt.disturbed)}: {halt.failed} failed, {halt.working} were "
        f"at work; {untouched} untouched, {_show_time(halt.at_s)} after the start"
    )


def _describe_limits(result: Result) -> str:
    rate = result.scenario.rule.rate
    starts = ""
    if rate:
        starts = f"; at most {count(result.max_starts, 'start')} in {show_duration(rate.window_s)}"
    return f"at most {result.max_at_once} at once{starts}"


def _list_course(result: Result) -> list[str]:
    """Halts and what came after them; not what the first line has said already."""
    halts = result.halts[:-1] if result.outcome == "halted" else result.halts
    lines = [_describe_halt_and_after(result, halt) for halt in halts[:_MAX_HALTS]]
    if len(halts) > _MAX_HALTS:
        lines.append(f"and {count(len(halts) - _MAX_HALTS, 'more halt')}")
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
            f"{count(result.robbed, 'time')} a slot was taken from a host that was alive: "
            f"lost_after {show_duration(rule.lost_after_s)} is shorter than between two passes"
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
