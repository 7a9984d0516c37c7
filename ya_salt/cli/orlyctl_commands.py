"""The commands of orlyctl: read the rules, ask etcd, print. Each returns an exit code."""

from __future__ import annotations

import argparse
import os
import pwd
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ya_salt.cli import orlyctl_render as render
from ya_salt.cli.output import answer, complain, say
from ya_salt.errors import OperatorError, UsageError
from ya_salt.gate.decide import Pause
from ya_salt.gate.overview import RuleStatus
from ya_salt.gate.rule import Rule
from ya_salt.gate.rule_change import RuleResult
from ya_salt.gate.rule_file import load_rule_file
from ya_salt.model import GateSettings
from ya_salt.quick_dataclass import replace
from ya_salt.settings import SETTINGS, load_settings, parse_text

if TYPE_CHECKING:
    from ya_salt.gate.admin import RuleAdmin

OK, NO, PENDING = 0, 1, 4
DEADLINE_S = 5.0
"""For a request: thousands of holders are some megabytes, and a person waits a little longer."""


class RuleFilesError(OperatorError):
    """Rule files that cannot be used: a line a problem, each with its place."""


# -- rules -------------------------------------------------------------------------------------


def apply_rule(options: argparse.Namespace) -> int:
    """`orlyctl apply-rule -f FILE… [--dry-run]`."""
    rules = _load_rules(options.files)
    applied: list[RuleResult] = []
    with _open_admin(options) as admin:
        try:
            for rule in rules.values():
                applied.append(admin.apply(rule, is_dry=options.dry_run))
        finally:
            # Those before the one that could not be applied are, and somebody has to know.
            if applied:
                _say_applied(applied, options)
    return PENDING if options.dry_run and any(item.is_change for item in applied) else OK


def _say_applied(applied: Sequence[RuleResult], options: argparse.Namespace) -> None:
    is_dry = options.dry_run
    answer(
        options.output,
        lambda: "\n".join(render.render_applied(item, is_dry=is_dry) for item in applied),
        lambda: render.applied_to_data(applied, is_dry=is_dry),
    )


def validate(options: argparse.Namespace) -> int:
    """`orlyctl validate -f FILE…`."""
    for path, rule in _load_rules(options.files).items():
        say(f"{path}: {rule.name}: valid")
    return OK


def _load_rules(paths: Sequence[str]) -> dict[str, Rule]:
    """Path -> rule, of all; or RuleFilesError with all that is wrong with any."""
    rules: dict[str, Rule] = {}
    problems: list[str] = []
    for path in dict.fromkeys(paths):
        try:
            rule = load_rule_file(path)
        except OperatorError as error:
            problems.append(str(error))
            continue
        twin = next((other for other in rules if rules[other].name == rule.name), None)
        if twin is not None:
            problems.append(f"{path}: {rule.name} is also in {twin}; keep it in one file")
        rules[path] = rule
    if problems:
        raise RuleFilesError("\n".join(problems))
    return rules


def get(options: argparse.Namespace) -> int:
    """`orlyctl get RULE`."""
    with _open_admin(options) as admin:
        status = admin.read(options.rule)
    if status.rule is None:
        complain(f"orlyctl: {status.problem}")
        return NO
    rule = status.rule
    answer(options.output, lambda: "", lambda: render.rule_to_file(rule))
    return OK


def list_rules(options: argparse.Namespace) -> int:
    """`orlyctl list`."""
    with _open_admin(options) as admin:
        statuses = admin.read_all()
    answer(
        options.output,
        lambda: render.render_rules(statuses, time.time()),
        lambda: render.rules_to_data(statuses),
    )
    return OK


def delete_rule(options: argparse.Namespace) -> int:
    """`orlyctl delete-rule RULE`."""
    with _open_admin(options) as admin:
        admin.delete(options.rule)
    say(f"{options.rule}: deleted; without a rule its daemon is changed nowhere")
    return OK


# -- how they stand ----------------------------------------------------------------------------


def status(options: argparse.Namespace) -> int:
    """`orlyctl status [RULE]`."""
    with _open_admin(options) as admin:
        statuses = (admin.read(options.rule),) if options.rule else admin.read_all()
    now = time.time()
    answer(
        options.output,
        lambda: _render_status(statuses, now, is_one=bool(options.rule)),
        lambda: render.statuses_to_data(statuses, now),
    )
    return OK


def _render_status(statuses: Sequence[RuleStatus], now: float, *, is_one: bool) -> str:
    return (
        render.render_status(statuses[0], now) if is_one else render.render_overview(statuses, now)
    )


# -- by hand -----------------------------------------------------------------------------------


def release(options: argparse.Namespace) -> int:
    """`orlyctl release RULE HOST --reason TEXT`."""
    by, now = name_operator(os.environ), time.time()
    with _open_admin(options) as admin:
        released = admin.release(options.rule, options.host, options.reason, by, now)
    say(render.render_released(options.rule, options.host, released))
    return OK


def pause(options: argparse.Namespace) -> int:
    """`orlyctl pause RULE --reason TEXT`."""
    wanted = Pause(options.reason, name_operator(os.environ), time.time())
    with _open_admin(options) as admin:
        before = admin.pause(options.rule, wanted)
    say(render.render_paused(options.rule, wanted, before))
    return OK


def resume(options: argparse.Namespace) -> int:
    """`orlyctl resume RULE`."""
    with _open_admin(options) as admin:
        before = admin.resume(options.rule)
    say(render.render_resumed(options.rule, before))
    return OK


# -- pieces ------------------------------------------------------------------------------------


@contextmanager
def _open_admin(options: argparse.Namespace) -> Iterator[RuleAdmin]:
    settings = find_gate_settings(options, os.environ)
    # Its libraries take a moment to load, and validate needs none of them.
    from ya_salt.gate.admin import RuleAdmin  # noqa: PLC0415
    from ya_salt.gate.etcd import Etcd  # noqa: PLC0415

    etcd = Etcd(settings, deadline_s=DEADLINE_S)
    try:
        yield RuleAdmin(etcd, settings.prefix)
    finally:
        etcd.close()


ENDPOINTS_VARIABLE = "ORLY_ENDPOINTS"
FLAGS = {
    "endpoints": ("URL[,URL…]", "etcd's members, over ORLY_ENDPOINTS and gate.endpoints"),
    "prefix": ("PREFIX", "begins all keys in etcd (gate.prefix)"),
    "username": ("NAME", "etcd's user (gate.username)"),
    "password_file": ("FILE", "file with the user's password (gate.password_file)"),
    "ca_file": ("FILE", "CA certificates for https (gate.ca_file)"),
    "cert_file": ("FILE", "our certificate (gate.cert_file)"),
    "key_file": ("FILE", "our certificate's key (gate.key_file)"),
}
"""Field of GateSettings -> its flag's metavar and help."""


def find_gate_settings(options: argparse.Namespace, environment: Mapping[str, str]) -> GateSettings:
    """Where etcd is: a flag goes over ORLY_ENDPOINTS, and that over the settings of ya-salt.

    Raises SettingsError, UsageError where nothing says it.
    """
    gate = load_settings({}, environment, getattr(options, "config", None)).settings.gate
    kind = gate.type
    if kind == "fleetlock":
        # Another server's address and password: not etcd's.
        gate = GateSettings()
    if environment.get(ENDPOINTS_VARIABLE):
        gate = _put(gate, "endpoints", environment[ENDPOINTS_VARIABLE], ENDPOINTS_VARIABLE)
    for name in FLAGS:
        if hasattr(options, name):
            gate = _put(gate, name, getattr(options, name), f"--{name.replace('_', '-')}")
    if not gate.endpoints:
        raise UsageError(_explain_missing(kind))
    return replace(gate, type="orly")


def _put(gate: GateSettings, name: str, text: str, origin: str) -> GateSettings:
    setting = next(item for item in SETTINGS if item.name == f"gate.{name}")
    return replace(gate, **{name: parse_text(setting, text, origin)})


def _explain_missing(kind: str) -> str:
    remedy = (
        f"give --endpoints http://HOST:2379, set {ENDPOINTS_VARIABLE}, or write gate.endpoints "
        "into the settings file"
    )
    if kind == "fleetlock":
        return f"gate.type is fleetlock, whose server knows no rules; for another gate's: {remedy}"
    return f"etcd's address is not set: {remedy}"


def name_operator(environment: Mapping[str, str]) -> str:
    """USER@HOST of who typed the command, the one before sudo, for others to ask."""
    return f"{environment.get('SUDO_USER') or _find_login()}@{socket.gethostname()}"


def _find_login() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
