"""`orlyctl simulate`: play a rollout by a rule file on a fleet that is not there. Asks no etcd."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from random import Random
from typing import TypeVar, get_args

from ya_salt.cli.orlyctl_simulated import render_result, result_to_data
from ya_salt.cli.render import render_data
from ya_salt.rollout.gate import Operation
from ya_salt.rollout.rule import Rule
from ya_salt.rollout.rulesource import load_rule_file
from ya_salt.rollout.ruletexts import find_epoch, parse_date, parse_duration, parse_fact
from ya_salt.rollout.simulate import simulate
from ya_salt.rollout.simulated import Scenario

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
    if options.output == "table":
        print(render_result(result))
    else:
        print(render_data(result_to_data(result, options.seed), options.output))
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
        raise ValueError(f"{text[:40]!r} is no number from 1 to {MAX_HOSTS}")
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
        raise ValueError(f"{text[:40]!r} is no share from 0 to 1, such as 0.05")
    return rate


def _parse_fact(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text[:40]!r} is no fact; write NAME=VALUE")
    return parse_fact(name), parse_fact(value)
