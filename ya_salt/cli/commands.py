"""The commands: gather what each needs, call the core, print. Each returns an exit code.

What takes long to load (the pass, protobuf) is imported by those commands only that need it.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ya_salt import as_left
from ya_salt.cli.lines import (
    describe_gate_trouble,
    describe_last_pass,
    describe_sinks,
    paint_cell,
    paint_nothing,
    render_table,
)
from ya_salt.cli.logs import LogFile, open_log, show_output
from ya_salt.cli.output import (
    ProgressLine,
    answer,
    complain,
    find_break,
    find_paint,
    outlive_terminal,
    say,
    say_painted,
    watch,
)
from ya_salt.cli.quick import name_source
from ya_salt.cli.tables import (
    describe_line,
    describe_silence,
    plans_to_data,
    render_details,
    render_history,
    render_plans,
    render_statuses,
)
from ya_salt.converge.journal import (
    load_history,
    load_last_causes,
    load_last_pass,
    look_for_change,
)
from ya_salt.converge.quick import take_glimpse
from ya_salt.converge.readiness import find_warning
from ya_salt.converge.status import is_fine
from ya_salt.errors import PortoError, StoreError, UsageError
from ya_salt.life import Life
from ya_salt.messages import (
    Details,
    describe_portod,
    format_time,
    make_host_status,
    make_spec_list,
    read_last_pass,
    with_files,
)
from ya_salt.model import (
    DaemonPlan,
    DaemonSpec,
    DaemonStatus,
    Event,
    Loaded,
    Record,
    Rejected,
    Settings,
)
from ya_salt.quick_dataclass import dataclass, replace
from ya_salt.settings import SETTINGS, InForce
from ya_salt.specs.directory import (
    DaemonsDirectoryError,
    DaemonsDirectoryMissingError,
    load_files,
    load_specs,
)
from ya_salt.specs.kept import KeptSpecs
from ya_salt.store import Store, read_store
from ya_salt.text import printable
from ya_salt.trusted_files import UntrustedError

if TYPE_CHECKING:
    import argparse

    from ya_salt.converge.host import PassRequest, PassResult
    from ya_salt.porto.client import PortoClient

OK, FAILED, PENDING = 0, 1, 4


# -- changing ----------------------------------------------------------------------------------


def apply(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt apply [NAME…] [-f FILE…] [--dry-run]`."""
    glimpse = None
    if not (options.names or options.files or options.dry_run):
        glimpse = take_glimpse(in_force.settings, name_source(options))
    settings = in_force.settings
    kept = KeptSpecs(settings.state_dir, reads_anew=options.full)
    request, broken = _load_request(options, settings, kept)
    request = replace(request, glimpse=glimpse, is_full=options.full)
    code = make_pass(options, settings, request, broken)
    if request.whole and not options.dry_run:
        kept.save()
    return code


def make_pass(
    options: argparse.Namespace,
    settings: Settings,
    request: PassRequest,
    broken: Sequence[Rejected] = (),
    lock_wait_s: float = 0.0,
) -> int:
    """Make the pass, or with `--dry-run` say what it would do; print how its daemons stand."""
    from ya_salt.converge.host import make_host
    from ya_salt.converge.run import run_pass

    if options.dry_run:
        return _show_plan(options, settings, request, broken)
    override = check_override(options.override_gate)
    request = replace(
        request,
        override_gate=override,
        who=request.who or name_caller(),
        waits=not options.no_wait,
    )
    log = open_log(settings.log_file)
    # apt and its policy-rc.d are put away on the way out, as after Ctrl-C.
    signal.signal(signal.SIGTERM, _stop_on_signal)
    outlive_terminal()
    try:
        with ProgressLine(sys.stderr) as progress:
            if lock_wait_s:
                progress("waiting for another pass to end, should there be one")
            result = run_pass(make_host(settings, progress), request, lock_wait_s)
    except (KeyboardInterrupt, SystemExit):
        complain(
            "ya-salt: told to end: what had begun was brought to its end, the next pass does the "
            "rest; how the daemons stand now: ya-salt status"
        )
        raise
    finally:
        # Not before: a reader who takes his time must not hold the pass up.
        _say_rejected(broken)
        _say_log_problem(log)
    for problem in result.problems:
        complain(f"ya-salt: {problem}")
    if log.problem:
        # Each pass says so.
        as_left.forget(settings.state_dir)
    _print_statuses(result, options.output, settings)
    if broken or not result.ok:
        return FAILED
    return PENDING if any(item.waits for item in result.statuses) else OK


def run(options: argparse.Namespace, read_settings: Callable[[], InForce]) -> int:
    """`ya-salt run`."""
    from ya_salt.cli.agent import run_agent

    run_agent(read_settings, getattr(options, "config", None), name_source(options))
    return OK


def _stop_on_signal(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def report(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt report`."""
    from ya_salt.converge.host import make_host
    from ya_salt.converge.preview import report_now

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
    """`ya-salt plan [NAME…] [-f FILE…]`."""
    settings = in_force.settings
    request, broken = _load_request(options, settings, KeptSpecs(settings.state_dir))
    return _show_plan(options, settings, request, broken)


def _show_plan(
    options: argparse.Namespace,
    settings: Settings,
    request: PassRequest,
    broken: Sequence[Rejected],
) -> int:
    from ya_salt.converge.changes import describe_changes
    from ya_salt.converge.host import make_host
    from ya_salt.converge.preview import preview_pass

    _say_rejected(broken)
    looked = preview_pass(make_host(settings), request)
    observed, plans = looked.observed, looked.plans
    specs = {spec.name: spec for spec in looked.request.targets}
    changes = {
        plan.name: describe_changes(specs[plan.name], (*plan.steps, *plan.waiting), observed)
        for plan in plans
        if plan.name in specs
    }
    answer(
        options.output,
        lambda: render_plans(plans, changes),
        lambda: plans_to_data(plans, changes),
    )
    return _judge_plans(plans, broken)


def _judge_plans(plans: Sequence[DaemonPlan], broken: Sequence[Rejected]) -> int:
    if any(item.steps or item.waiting for item in plans):
        return PENDING
    return FAILED if broken or any(item.refusal for item in plans) else OK


def _load_request(
    options: argparse.Namespace, settings: Settings, kept: KeptSpecs
) -> tuple[PassRequest, tuple[Rejected, ...]]:
    """What a pass is about, and the files in its way that cannot be used."""
    from ya_salt.converge.host import PassRequest

    if not options.files and not options.names:
        loaded = load_specs(settings.specs_dir, kept=kept)
        return PassRequest(loaded.specs, loaded), loaded.rejected
    given = load_files(options.files) if options.files else Loaded()
    loaded = (
        load_specs(settings.specs_dir, kept=kept) if options.names else _load_rest(settings, kept)
    )
    named, broken = _pick_named(options.names, loaded, settings)
    ours = {spec.name for spec in given.specs}
    targets = (*given.specs, *(spec for spec in named if spec.name not in ours))
    return PassRequest(targets, loaded, whole=False), (*given.rejected, *broken)


def _pick_named(
    names: Iterable[str], loaded: Loaded, settings: Settings
) -> tuple[list[DaemonSpec], list[Rejected]]:
    """The daemons of these names, and the files of those that have none that can be used.

    Raises UsageError where no file has a daemon of such a name.
    """
    specs = {spec.name: spec for spec in loaded.specs}
    rejected = {item.name: item for item in loaded.rejected if item.name}
    for name in names:
        if name not in specs and name not in rejected:
            import difflib

            near = difflib.get_close_matches(name, sorted({*specs, *rejected}), 1)
            hint = f"did you mean {near[0]}?" if near else "ya-salt status lists those that are"
            raise UsageError(f"no file of {settings.specs_dir} has a daemon {name}; {hint}")
    wanted = dict.fromkeys(names)
    return (
        [specs[name] for name in wanted if name in specs],
        [rejected[name] for name in wanted if name not in specs],
    )


def name_caller() -> str:
    """Who typed the command, for the history: the login behind sudo, or whoever this is."""
    name = os.environ.get("SUDO_USER", "") or _name_login()
    # It may come from an environment that somebody else has set.
    return f"shell: {printable(name, 64)}"


def _name_login() -> str:
    """By the number that PAM gave the session, which outlives su; else by the process's own."""
    uid = os.getuid()
    with contextlib.suppress(OSError, ValueError):
        login = int(Path("/proc/self/loginuid").read_text())
        uid = login if 0 <= login < _NO_LOGIN else uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


_NO_LOGIN = (1 << 32) - 1
"""What the kernel says where nobody has logged in."""


def _load_rest(settings: Settings, kept: KeptSpecs) -> Loaded:
    """The daemons directory where it is only background: without one there is none."""
    try:
        return load_specs(settings.specs_dir, kept=kept)
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
    lives = _recall_lives(in_force.settings) if any(item.readiness for item in loaded.specs) else {}
    for item in loaded.specs:
        # How often passes are made here is known of what they left behind alone.
        if words := find_warning(item, lives.get(item.name, Life())):
            complain(f"{item.path}: {item.name}: warning: {words}")
    return FAILED if loaded.rejected else OK


def _recall_lives(settings: Settings) -> Mapping[str, Life]:
    """What is remembered of daemons; nothing where that cannot be read, as by other users."""
    try:
        store = read_store(settings.state_dir)
    except (StoreError, UntrustedError):
        return {}
    return {name: item.life for name, item in store.load_records().items()} if store else {}


def spec(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt spec [NAME]`."""
    store = read_store(in_force.settings.state_dir)
    records = store.load_records() if store else {}
    check_known(options.name, records, in_force.settings)
    chosen = [item for item in records.values() if options.name in (None, item.name)]
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


@dataclass(frozen=True)
class _Look:
    """What `status` shows."""

    statuses: Sequence[DaemonStatus]
    trouble: str
    """Why portod could not be asked, so that `statuses` are of the past; "" where it was."""
    last_pass: Mapping[str, Any] | None
    sinks: Sequence[Mapping[str, Any]]
    gate: Mapping[str, Any]
    causes: Mapping[str, tuple[float, str]]
    details: Details | None
    """Where one daemon was asked for."""
    is_asked: bool
    """Whether portod was asked at all."""
    is_blind: bool
    """Whether the daemons directory could not be read."""


def _show_status(options: argparse.Namespace, settings: Settings) -> int:
    store = read_store(settings.state_dir)
    try:
        look = _gather(options, settings, store)
    finally:
        if store is not None:
            store.close()
    if options.output == "table":
        _print_look(look)
    else:
        answer(options.output, str, lambda: _look_to_data(look))
    last = look.last_pass
    is_bad = look.trouble or look.is_blind or (last and (last["rejected"] or last["error"]))
    return OK if all(is_fine(item) for item in look.statuses) and not is_bad else FAILED


def _gather(options: argparse.Namespace, settings: Settings, store: Store | None) -> _Look:
    from ya_salt.converge.host import make_host
    from ya_salt.converge.inquiry import look_closely
    from ya_salt.converge.preview import judge_file
    from ya_salt.gate.client import load_memory as load_gate
    from ya_salt.gate.memory import describe_gate
    from ya_salt.monitoring.report import list_sinks, load_memory

    last_pass = read_last_pass(load_last_pass(store, settings.state_dir)) if store else None
    records = store.load_records() if store else {}
    check_known(options.name, records, settings)
    chosen = {name: item for name, item in records.items() if options.name in (None, name)}
    # Without daemons there is nothing to ask portod.
    is_asked = bool(chosen) and not options.saved
    statuses, trouble = _look(chosen, settings, is_saved=not is_asked)
    loaded = None if options.saved else _load_now(settings)
    details = None
    if store is not None and options.name is not None:
        lines = load_history(store, settings.state_dir, options.name, _HISTORY_LINES)
        details = look_closely(make_host(settings), chosen[options.name], lines, trouble)
    return _Look(
        statuses=statuses if loaded is None else [judge_file(item, loaded) for item in statuses],
        trouble=trouble,
        last_pass=last_pass if loaded is None else with_files(last_pass, loaded),
        sinks=list_sinks(load_memory(store)) if store else [],
        gate=describe_gate(settings.gate.type, load_gate(store)),
        causes=load_last_causes(store, settings.state_dir) if store else {},
        details=details,
        is_asked=is_asked,
        is_blind=loaded is None and not options.saved and last_pass is not None,
    )


def _print_look(look: _Look) -> None:
    now = time.time()
    paint, width = find_paint(paint_cell, paint_nothing)
    say_painted(render_statuses(look.statuses, now, causes=look.causes, paint=paint, width=width))
    if look.details is not None and look.statuses:
        say(render_details(look.statuses[0], look.details, now))
    for line in (
        *describe_last_pass(look.last_pass, now),
        *describe_sinks(look.sinks, now),
        *describe_gate_trouble(look.gate, now),
        *describe_silence(look.trouble, look.last_pass, now),
    ):
        complain(line)


def _look_to_data(look: _Look) -> dict[str, Any]:
    portod = describe_portod(look.trouble, look.last_pass) if look.is_asked else None
    return make_host_status(
        look.statuses, look.last_pass, look.sinks, look.gate, portod, look.details
    )


def _look(
    records: Mapping[str, Record], settings: Settings, *, is_saved: bool
) -> tuple[list[DaemonStatus], str]:
    """How they stand at this moment, or else as the last pass saw it, and why no newer is known."""
    from ya_salt.converge.host import make_host
    from ya_salt.converge.preview import look_now

    trouble = ""
    if records and not is_saved:
        try:
            return look_now(make_host(settings), records), ""
        except PortoError as error:
            trouble = str(error)
    return [item.status for item in records.values() if item.status is not None], trouble


_HISTORY_LINES = 10


def _load_now(settings: Settings) -> Loaded | None:
    """The daemons directory as it is; None, with a word on it, where it cannot be read."""
    try:
        loaded = load_specs(settings.specs_dir, kept=KeptSpecs(settings.state_dir))
    except DaemonsDirectoryError as error:
        complain(f"ya-salt: {error}")
        return None
    hidden = [item.path for item in loaded.rejected if item.is_hidden]
    if hidden:
        complain(f"not readable for you, shown as the last pass has it: {', '.join(hidden)}")
    return loaded


def history(options: argparse.Namespace, in_force: InForce) -> int:
    """`ya-salt history [NAME] [-n N] [-f]`."""
    state_dir, name = in_force.settings.state_dir, options.name or ""
    check_count(options.lines)
    # Before it is read: what is written meanwhile is read again.
    seen_at = look_for_change(state_dir)
    store = read_store(state_dir)
    events = load_history(store, state_dir, name, _EVERYTHING)
    if name and not events:
        records = store.load_records() if store else {}
        check_known(name, records, in_force.settings)
    newest = events[-options.lines :] if options.lines else []
    if options.follow:
        return _follow_history(options, in_force.settings, newest, events, seen_at)
    data = [_event_to_data(event) for event in newest]
    answer(options.output, lambda: render_history(newest), lambda: {"history": data})
    return OK


def _event_to_data(event: Event) -> dict[str, Any]:
    return {
        "time": format_time(event.at),
        "name": event.name,
        "what": event.what,
        "who": event.who,
    }


def _follow_history(
    options: argparse.Namespace,
    settings: Settings,
    newest: Iterable[Event],
    known: Iterable[Event],
    seen_at: object,
) -> int:
    """Print lines as they are written, by whichever process, until Ctrl-C."""
    if options.output == "yaml":
        raise UsageError("-f shows a line an event: as text, or with -o json as JSON")
    seen = set(known)
    _say_events(options, newest)
    while find_break(sys.stdout) is None:
        time.sleep(_FOLLOW_S)
        now = look_for_change(settings.state_dir)
        store = _read_quietly(settings) if now != seen_at else None
        if store is None:
            continue
        seen_at = now
        events = load_history(store, settings.state_dir, options.name or "", _EVERYTHING)
        _say_events(options, (event for event in events if event not in seen))
        # Of a store that began anew nothing that was shown before comes back.
        seen = set(events) if events else seen
    return OK


def _say_events(options: argparse.Namespace, events: Iterable[Event]) -> None:
    for event in events:
        is_json = options.output == "json"
        say(json.dumps(_event_to_data(event)) if is_json else describe_line(event))
    sys.stdout.flush()


def _read_quietly(settings: Settings) -> Store | None:
    """The store; None while there is none that can be read."""
    try:
        return read_store(settings.state_dir)
    except StoreError:
        return None


_FOLLOW_S = 0.5
_EVERYTHING = 1 << 30
"""Lines: more than the history keeps."""


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
    from ya_salt.porto.client import PortoClient

    check_count(options.lines)
    with PortoClient(in_force.settings.porto_socket) as client:
        if not _has_container(client, options.name):
            store = read_store(in_force.settings.state_dir)
            records = store.load_records() if store else {}
            check_known(options.name, records, in_force.settings)
            complain(
                f"ya-salt: {options.name} has no container at the moment, so there is no output; "
                f"ya-salt status {options.name} says why"
            )
            if not options.follow:
                return FAILED
        show_output(client, options.name, options.lines, follow=options.follow)
    return OK


def _has_container(client: PortoClient, name: str) -> bool:
    try:
        client.get_property(name, "state")
    except PortoError as error:
        if error.code != "ContainerDoesNotExist":
            raise
        return False
    return True


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
    import importlib.util
    import shutil

    spec = importlib.util.find_spec("devporto")
    # Without an origin it is a mere folder of that name, as a checkout has one.
    if spec is not None and spec.origin is not None:
        return [sys.executable, "-m", "devporto"]
    script = shutil.which("dev-portod")
    if script is None:
        raise UsageError(
            "dev-portod is not installed, as it is no part of ya-salt: install Debian's package "
            "ya-salt-dev-portod, or in a checkout of ya-salt type `pip install ./devporto`"
        )
    return [script]


def check_count(lines: int) -> None:
    if lines < 0:
        raise UsageError("-n counts from the end: it cannot be negative")


def check_known(name: str | None, seen: Collection[str], settings: Settings) -> None:
    """Raises UsageError where a name was given that is none of them."""
    from ya_salt.converge.inquiry import load_quietly
    from ya_salt.converge.single import say_unknown

    if name is not None and name not in seen:
        raise UsageError(say_unknown(name, load_quietly(settings.specs_dir), seen))


def _say_rejected(rejected: Sequence[Rejected]) -> None:
    for item in rejected:
        for problem in item.problems:
            complain(problem)


def _say_log_problem(log: LogFile) -> None:
    if log.problem:
        complain(f"ya-salt: {log.problem}")


def _print_statuses(result: PassResult, form: str, settings: Settings) -> None:
    statuses, coming = result.statuses, result.coming
    answer(
        form,
        lambda: render_statuses(statuses, time.time(), show_actions=True, coming=coming),
        lambda: make_host_status(statuses, None),
    )
    bad = [item.name for item in statuses if not is_fine(item, is_coming=item.name in coming)]
    if bad and form == "table":
        complain(
            f"what to look at: ya-salt status {bad[0]}; ya-salt logs {bad[0]}; "
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
