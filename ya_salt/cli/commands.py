"""The commands: gather what each needs, call the core, print. Each returns an exit code."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ya_salt.cli.logs import LogFile, open_log, show_output
from ya_salt.cli.output import (
    ProgressLine,
    answer,
    complain,
    find_paint,
    outlive_terminal,
    say,
    say_painted,
    watch,
)
from ya_salt.cli.tables import (
    describe_gate_trouble,
    describe_sinks,
    format_age,
    paint_cell,
    paint_nothing,
    plans_to_data,
    render_plans,
    render_statuses,
    render_table,
)
from ya_salt.converge.host import PassRequest, is_fine, make_host
from ya_salt.converge.preview import look_now, plan_pass, report_now
from ya_salt.converge.run import run_pass
from ya_salt.errors import PortoError, UsageError
from ya_salt.gate.client import load_memory as load_gate
from ya_salt.gate.memory import describe_gate
from ya_salt.messages import format_time, make_host_status, make_spec_list
from ya_salt.model import DaemonPlan, DaemonStatus, Loaded, Rejected, Settings
from ya_salt.monitoring.report import FACT as MONITORING
from ya_salt.monitoring.report import list_sinks
from ya_salt.porto.client import PortoClient
from ya_salt.settings import SETTINGS, InForce
from ya_salt.specs.directory import DaemonsDirectoryMissingError, load_files, load_specs
from ya_salt.store import LAST_PASS, Store, read_store

OK, FAILED, PENDING = 0, 1, 4


# -- changing ----------------------------------------------------------------------------------


def apply(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt apply [-f FILE…] [--dry-run]`."""
    if options.dry_run:
        return plan(options, in_force)
    settings = in_force.settings
    override = check_override(options.override_gate)
    scope, broken = _load_scope(options.files, settings)
    scope = replace(scope, override_gate=override)
    log = open_log(settings.log_file)
    # apt and its policy-rc.d are put away on the way out, as after Ctrl-C.
    signal.signal(signal.SIGTERM, _stop_on_signal)
    outlive_terminal()
    try:
        with ProgressLine(sys.stderr) as progress:
            result = run_pass(make_host(settings, progress), scope)
    finally:
        # Not before: a reader who takes his time must not hold the pass up.
        _say_rejected(broken)
        _say_log_problem(log)
    _print_statuses(result.statuses, options.output, settings)
    if broken or not result.ok:
        return FAILED
    return PENDING if any(item.waits for item in result.statuses) else OK


def _stop_on_signal(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def report(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt report`."""
    log = open_log(in_force.settings.log_file)
    outlive_terminal()
    told = report_now(make_host(in_force.settings))
    _say_log_problem(log)
    rows = [(item.sink, item.state, item.message or "-") for item in told]
    data = [{"name": item.sink, "state": item.state, "message": item.message} for item in told]
    head = ("SINK", "STATE", "MESSAGE")
    answer(
        options.output,
        lambda: render_table(head, rows) if rows else "nobody is told: every sink is off",
        lambda: {"sinks": data},
    )
    return FAILED if any(item.state in {"refused", "unanswered"} for item in told) else OK


def plan(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt plan [-f FILE…]`."""
    scope, broken = _load_scope(options.files, in_force.settings)
    _say_rejected(broken)
    plans = plan_pass(make_host(in_force.settings), scope)
    answer(options.output, lambda: render_plans(plans), lambda: plans_to_data(plans))
    return _judge_plans(plans, broken)


def _judge_plans(plans: Sequence[DaemonPlan], broken: Sequence[Rejected]) -> int:
    if any(item.steps or item.waiting for item in plans):
        return PENDING
    return FAILED if broken or any(item.refusal for item in plans) else OK


def _load_scope(
    files: Sequence[str], settings: Settings
) -> tuple[PassRequest, tuple[Rejected, ...]]:
    """What a pass is about, and the files in its way that cannot be used."""
    if not files:
        loaded = load_specs(settings.specs_dir)
        return PassRequest(loaded.specs, loaded), loaded.rejected
    given = load_files(files)
    return PassRequest(given.specs, _load_rest(settings), whole=False), given.rejected


def _load_rest(settings: Settings) -> Loaded:
    """The daemons directory where it is only background: without one there is none."""
    try:
        return load_specs(settings.specs_dir)
    except DaemonsDirectoryMissingError:
        return Loaded()


# -- reading -----------------------------------------------------------------------------------


def validate(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt validate [FILE…]`."""
    files = options.files
    loaded = load_files(files) if files else load_specs(in_force.settings.specs_dir)
    _say_rejected(loaded.rejected)
    for ignored in loaded.ignored:
        complain(f"{ignored.path}: ignored: {ignored.reason}")
    for item in loaded.specs:
        say(f"{item.path}: {item.name}: valid")
    return FAILED if loaded.rejected else OK


def spec(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt spec [NAME]`."""
    store = _open_for_reading(in_force.settings)
    records = store.load_records().values() if store else ()
    chosen = [item for item in records if options.name in (None, item.name)]
    _check_found(options.name, chosen)
    data = make_spec_list(chosen)
    rows = [
        (item.name, item.spec.version or "-", item.spec.path, item.spec.digest[:12])
        for item in chosen
        if item.spec is not None
    ]
    head = ("NAME", "VERSION", "FILE", "DIGEST")
    answer(options.output, lambda: render_table(head, rows) if rows else "no daemons", lambda: data)
    return OK


def status(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt status [NAME] [--watch [SECONDS]]`."""
    if options.watch is None:
        return _show_status(options, in_force.settings)
    if options.output != "table":
        raise UsageError("--watch shows the table and nothing else")
    return watch(lambda: _show_status(options, in_force.settings), options.watch)


def _show_status(options: argparse.Namespace, settings: Settings) -> int:
    store = _open_for_reading(settings)
    statuses = _look(store, settings, options.saved) if store else []
    chosen = [item for item in statuses if options.name in (None, item.name)]
    _check_found(options.name, chosen)
    last_pass = store.load_fact(LAST_PASS) if store else None
    sinks = list_sinks(store.load_fact(MONITORING)) if store else []
    causes = store.load_last_causes() if store else {}
    gate = describe_gate(settings.gate.type, load_gate(store))
    if options.output == "table":
        paint, width = find_paint(paint_cell, paint_nothing)
        say_painted(render_statuses(chosen, time.time(), causes=causes, paint=paint, width=width))
        _say_last_pass(last_pass)
        for line in (
            *describe_sinks(sinks, time.time()),
            *describe_gate_trouble(gate, time.time()),
        ):
            complain(line)
    else:
        answer(options.output, str, lambda: make_host_status(chosen, last_pass, sinks, gate))
    if store:
        store.close()
    failed = last_pass is not None and (last_pass["rejected"] or last_pass["error"])
    return OK if all(is_fine(item) for item in chosen) and not failed else FAILED


def _look(store: Store, settings: Settings, saved: bool) -> list[DaemonStatus]:
    records = store.load_records()
    if not saved:
        try:
            return look_now(make_host(settings), records)
        except PortoError as error:
            complain(f"ya-salt: {error}\nya-salt: below is what the last pass saw")
    return [item.status for item in records.values() if item.status is not None]


def _say_last_pass(last_pass: Mapping[str, Any] | None) -> None:
    if last_pass is None:
        complain("no pass over the daemons directory was made yet: ya-salt apply")
        return
    for path, problems in last_pass["rejected"]:
        _say_rejected([Rejected(path, tuple(problems))])
    age = format_age(time.time() - last_pass["started_at"])
    said = f": {last_pass['error']}" if last_pass["error"] else ""
    complain(f"last pass: {age} ago, {last_pass['result']}{said}")


def history(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt history [NAME] [-n N]`."""
    store = _open_for_reading(in_force.settings)
    events = store.load_history(options.name or "", max(0, options.lines)) if store else []
    rows = [(format_time(at), name, what) for at, name, what in events]
    data = [{"time": at, "name": name, "what": what} for at, name, what in rows]
    answer(
        options.output,
        lambda: render_table(("TIME", "NAME", "WHAT"), rows) if rows else "no history",
        lambda: {"history": data},
    )
    return OK


def settings(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt settings`."""
    data = {
        item.name: {
            "value": item.read(in_force.settings),
            "origin": in_force.origins[item.name],
        }
        for item in SETTINGS
    }
    rows = [(name, _show(item["value"]), item["origin"]) for name, item in data.items()]
    head = ("SETTING", "VALUE", "FROM")
    answer(options.output, lambda: render_table(head, rows), lambda: {"settings": data})
    return OK


def _show(value: object) -> str:
    if isinstance(value, dict):
        value = [f"{key}={text}" for key, text in value.items()]
    if isinstance(value, list):
        return ", ".join(value) or "-"
    return str(value).lower() if isinstance(value, bool) else str(value) or "-"


def logs(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt logs NAME [-n N] [-f]`."""
    if options.lines < 0:
        raise UsageError("-n counts lines: it cannot be negative")
    with PortoClient(in_force.settings.porto_socket) as client:
        show_output(client, options.name, options.lines, follow=options.follow)
    return OK


def dev_portod(options: argparse.Namespace) -> int:
    """`ya-salt dev-portod --socket PATH`: becomes the server, a distribution of its own."""
    command = [*_find_dev_portod(), "--socket", options.socket]
    if options.sysroot is not None:
        command += ["--sysroot", options.sysroot]
    sys.stderr.flush()
    os.execv(command[0], command)  # noqa: S606 - no shell has a part in it


# -- pieces ------------------------------------------------------------------------------------


def _find_dev_portod() -> list[str]:
    """Find the server in this Python's packages, else on PATH. Raises UsageError."""
    spec = importlib.util.find_spec("devporto")
    # Without an origin it is a mere folder of that name, as a checkout has one.
    if spec is not None and spec.origin is not None:
        return [sys.executable, "-m", "devporto"]
    script = shutil.which("dev-portod")
    if script is None:
        raise UsageError(
            "dev-portod is not installed, as it is no part of ya-salt: in a checkout of "
            "ya-salt type `pip install ./devporto`"
        )
    return [script]


def _open_for_reading(settings: Settings) -> Store | None:
    return read_store(settings.state_dir)


def _check_found(name: str | None, found: Sequence[object]) -> None:
    if name is not None and not found:
        raise UsageError(f"no daemon {name} is known; ya-salt status lists them")


def _say_rejected(rejected: Sequence[Rejected]) -> None:
    for item in rejected:
        for problem in item.problems:
            complain(problem)


def _say_log_problem(log: LogFile) -> None:
    if log.problem:
        complain(f"ya-salt: {log.problem}")


def _print_statuses(statuses: Sequence[DaemonStatus], form: str, settings: Settings) -> None:
    answer(
        form,
        lambda: render_statuses(statuses, time.time(), show_actions=True),
        lambda: make_host_status(statuses, None),
    )
    bad = [item.name for item in statuses if not is_fine(item)]
    if bad and form == "table":
        complain(
            f"what to look at: ya-salt logs {bad[0]}; "
            f"grep porto-daemon-{bad[0]} {settings.log_file}"
        )


def check_override(reason: str | None) -> str:
    """The reason to go past the gate, or "". Raises UsageError: only root at a terminal may."""
    if reason is None:
        return ""
    if os.geteuid() != 0 or not sys.stdin.isatty():
        raise UsageError(
            "--override-gate is for root at a terminal only: nothing that runs by itself may go "
            "past the gate"
        )
    words = " ".join(reason.split())
    if not words:
        raise UsageError("--override-gate wants a reason: it is logged and reported")
    return words
