"""Show how daemons stand to people: tables and lines. Pure.

What comes from outside is written so that it cannot steer a terminal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ya_salt.cli.lines import (
    HEAD,
    cut,
    describe_cause,
    format_age,
    format_memory,
    paint_nothing,
    render_table,
)
from ya_salt.cli.sizes import show_limit, show_sizes
from ya_salt.converge.holds import describe_hold
from ya_salt.converge.readiness import describe_question, describe_rhythm
from ya_salt.converge.status import is_fine
from ya_salt.messages import Details, find_silence, format_time
from ya_salt.model import (
    HELD,
    Condition,
    CrashStanding,
    CreateContainer,
    DaemonPlan,
    DaemonStatus,
    Event,
    ProbeStanding,
    ReplaceContainer,
    describe_step,
    is_state,
)
from ya_salt.quick_dataclass import asdict
from ya_salt.text import count, escape, printable

if TYPE_CHECKING:
    from ya_salt.cli.lines import Paint

Causes: TypeAlias = "Mapping[str, tuple[float, str]]"
"""Daemon -> when and why something was done to it last."""

_TAIL_LINES = 10
"""Of stderr, as much as one reads at once."""


# -- how the daemons stand -----------------------------------------------------------------------


def render_statuses(  # noqa: PLR0913 - each but the first two is a way of showing it
    statuses: Sequence[DaemonStatus],
    now: float,
    *,
    causes: Causes | None = None,
    show_actions: bool = False,
    coming: Collection[str] = (),
    paint: Paint = paint_nothing,
    width: int = 0,
) -> str:
    """The table, then lines for what was done and for what somebody has to look at.

    Causes are cut so that a line is at most `width` long, if that is given. `coming` were started
    and not waited for.
    """
    if not statuses:
        return "no daemons"
    head: tuple[str, ...] = HEAD
    rows = [_list_cells(item, now) for item in statuses]
    if not show_actions:
        # What it uses is no part of what was done.
        head = (*head, "MEMORY")
        rows = [
            (*row, format_memory(item.memory_bytes))
            for row, item in zip(rows, statuses, strict=True)
        ]
    if any(item.gate for item in statuses):
        head = (*head, "GATE")
        states = [item.gate.state if item.gate else "-" for item in statuses]
        rows = [(*row, state) for row, state in zip(rows, states, strict=True)]
    if causes is not None:
        used = sum(max(map(len, column)) + 2 for column in zip(head, *rows, strict=True))
        room = max(20, width - used) if width else 0
        head = (*head, "LAST CAUSE")
        rows = [
            (*row, cut(describe_cause(causes.get(item.name), now), room))
            for row, item in zip(rows, statuses, strict=True)
        ]
    notes = [note for item in statuses for note in _list_notes(item, item.name in coming)]
    if show_actions:
        done = [f"{item.name}: {action}" for item in statuses for action in item.actions]
        notes = [*done, *summarize(statuses, coming), *notes]
    lines = [printable(show_sizes(note)) for note in notes]
    return "\n".join([render_table(head, rows, paint), *lines])


def summarize(statuses: Sequence[DaemonStatus], coming: Collection[str] = ()) -> list[str]:
    """What came of a pass: how many daemons are done, failed or waiting, and which are down.

    `actions` of each are those of that pass. What is fine and had nothing done is not counted.
    """
    failed, waiting, done = [], [], []
    for item in statuses:
        if not is_fine(item, is_coming=item.name in coming):
            failed.append(item)
        elif item.waits:
            waiting.append(item)
        elif item.actions:
            done.append(item)
    if not (failed or waiting or done):
        return ["nothing had to be done"]
    counts = f"{len(done)} done, {len(failed)} failed, {len(waiting)} waiting"
    return [counts, *(f"{item.name} {_describe_failed(item)}" for item in failed if item.error)]


def _describe_failed(item: DaemonStatus) -> str:
    """Whether anything of it runs: what one has to know first."""
    if item.state == "unknown":
        return "may run or not: portod does not tell"
    if item.running is not None and item.running.status:
        return "runs as before"
    if any(action.startswith("stop: ") for action in item.actions):
        return "is DOWN: the old one was stopped, the new one did not start"
    return "is DOWN: it does not run"


def _list_cells(item: DaemonStatus, now: float) -> tuple[str, ...]:
    return (
        item.name,
        _describe_version(item),
        item.phase,
        item.state or "-",
        _describe_ready(item),
        format_age(now - item.ready.since) if item.ready else "-",
        str(item.respawn_count),
        str(item.restart_count),
    )


def _describe_ready(item: DaemonStatus) -> str:
    if item.ready is None or item.ready.status:
        return "yes" if item.ready else "no"
    return "held" if item.ready.reason == HELD else "no"


def _describe_version(item: DaemonStatus) -> str:
    """What runs; what is wanted stands beside it where that is another."""
    version = item.version or "-"
    if item.phase == "Removed" or item.wanted_version in ("", item.version):
        return version
    return f"{version} -> {item.wanted_version}"


def _list_notes(status: DaemonStatus, is_coming: bool) -> list[str]:
    notes = []
    if status.error:
        notes.append(f"{status.name}: error: {status.error}")
    elif status.waits:
        notes.append(f"{status.name}: {_describe_gate(status)}")
    elif status.hold is not None and status.ready and status.ready.reason == HELD:
        notes.append(f"{status.name}: {status.ready.message}")
    elif status.ready and not status.ready.status and status.phase != "Removed":
        how = "not waited for" if is_coming else "not ready"
        notes.append(f"{status.name}: {how}: {status.ready.reason}: {status.ready.message}")
    elif status.ready and (status.rejection is not None or status.pin is not None):
        notes.append(f"{status.name}: {status.ready.message}")
    if status.rejection is not None:
        notes.append(
            f"{status.name}: put another version into {status.path}, or try this one again: "
            f"ya-salt retry {status.name}"
        )
    if status.phase == "Orphaned":
        notes.append(
            f"{status.name}: its file is gone, so it is left as it is; put the file back, with "
            "meta.delete_requested: true if the daemon is to be removed"
        )
    elif is_state(status.path):
        notes.append(f"{status.name}: defined by {status.path}")
    notes += [f"{status.name}: warning: {warning}" for warning in status.warnings]
    return notes


def _describe_gate(status: DaemonStatus) -> str:
    gate = status.gate
    if gate is None:
        return ""
    return f"its {gate.change} waits for the gate: {gate.reason}: {gate.message}"


# -- plans ---------------------------------------------------------------------------------------

Changes: TypeAlias = "Mapping[str, Mapping[str, Any]]"
"""packages, container and process of one daemon, each what changes: {name: {old, new}}."""


def render_plans(plans: Sequence[DaemonPlan], changes: Mapping[str, Changes]) -> str:
    """A line a step, then what it changes; what is refused stands there with its reason."""
    lines = []
    for plan in plans:
        lines += [f"{plan.name}: {describe_step(step)}" for step in plan.steps]
        if plan.deferral:
            waits = f"{plan.deferral.reason}: {plan.deferral.message}"
            lines.append(f"{plan.name}: would wait for the gate: {waits}")
        if plan.blocked:
            lines.append(f"{plan.name}: {plan.blocked}")
        if plan.deferral or plan.blocked:
            lines += [f"{plan.name}: would wait: {describe_step(step)}" for step in plan.waiting]
        if not any(isinstance(step, CreateContainer) for step in (*plan.steps, *plan.waiting)):
            # Of a new container everything is new, and stands in the file.
            values = changes.get(plan.name, {}).get("container", {})
            lines += [f"{plan.name}:     {_describe_change(*item)}" for item in values.items()]
        lines += [f"{plan.name}:     {said}" for said in _list_probes(plan)]
        lines += [f"{plan.name}: {note}" for note in plan.notes]
        if plan.rests and not plan.steps:
            lines.append(f"{plan.name}: not started: {plan.rests}")
        if plan.refusal:
            lines.append(f"{plan.name}: refused: {plan.refusal}")
    return "\n".join(escape(show_sizes(line)) for line in lines) or "nothing to do"


def _list_probes(plan: DaemonPlan) -> list[str]:
    """How a daemon that is to be started will be asked whether it is ready."""
    specs = [
        step.spec
        for step in (*plan.steps, *plan.waiting)
        if isinstance(step, CreateContainer | ReplaceContainer)
    ]
    return [
        f"then asked if it is ready: {describe_question(spec.readiness)}, "
        f"{describe_rhythm(spec.readiness)}; at most {spec.ready_deadline_s:g} s from the start"
        for spec in specs
        if spec.readiness is not None
    ]


def _describe_change(name: str, change: Mapping[str, str]) -> str:
    old, new = (change[key] or "(not set)" for key in ("old", "new"))
    return f"{name}: {old} -> {new}"


def plans_to_data(plans: Sequence[DaemonPlan], changes: Mapping[str, Changes]) -> dict[str, Any]:
    return {
        "plans": [
            {
                "name": plan.name,
                "steps": [describe_step(step) for step in plan.steps],
                "waiting": [describe_step(step) for step in plan.waiting],
                "changes": changes.get(plan.name, {}),
                "gate": asdict(plan.deferral) if plan.deferral else None,
                "waitsFor": plan.blocked,
                "refusal": plan.refusal,
                "notes": list(plan.notes),
                "rests": plan.rests,
            }
            for plan in plans
        ]
    }


# -- around the daemons --------------------------------------------------------------------------


def describe_silence(trouble: str, last_pass: Mapping[str, Any] | None, now: float) -> list[str]:
    """That portod cannot be asked, since when, and what is shown instead; nothing where it can."""
    if not trouble:
        return []
    lines = [f"portod cannot be asked now: {trouble}"]
    since, is_known = find_silence(last_pass)
    if since is None:
        return lines
    when = f"{format_time(since)}, {format_age(now - since)} ago"
    known = (
        f"it has answered no pass since {when}; shown is what the last pass before that saw"
        if is_known
        else f"shown is what the last pass saw at {when}, when it still answered"
    )
    return [*lines, known]


# -- one daemon ----------------------------------------------------------------------------------


def render_details(item: DaemonStatus, details: Details, now: float) -> str:
    """Everything about one daemon, below its line of the table."""
    limits = ", ".join(f"{name} {show_limit(name, text)}" for name, text in details.limits.items())
    wanted = item.wanted_version if item.wanted_version != item.version else ""
    facts = [
        ("file", item.path or "-"),
        ("version", f"{item.version or '-'}{f', wanted is {wanted}' if wanted else ''}"),
        ("digest", item.digest or "-"),
        ("pid", str(details.pid) if details.pid else "-"),
        ("limits", limits or "none are set"),
        *(
            ("package", f"{name} {there or 'is not installed'}, declared {version}")
            for name, version, there in item.packages
        ),
        *(
            (name, _describe_condition(condition, now))
            for name, condition in (
                ("installed", item.installed),
                ("running", item.running),
                ("ready", item.ready),
            )
            if condition is not None
        ),
        *([("probe", _describe_probe(item.probe, now))] if item.probe else []),
    ]
    if item.hold is not None:
        facts.append(("hold", describe_hold(item.hold)))
    if item.crash is not None:
        facts.append(("dies", _describe_crash(item.crash)))
    lines = [f"{name:<10} {printable(text)}" for name, text in facts]
    if details.history:
        lines.append("last actions, newest last (more: ya-salt history):")
        lines += [f"  {describe_event(item)}" for item in details.history]
    tail = details.stderr.rstrip().splitlines()[-_TAIL_LINES:]
    if tail:
        lines.append(f"stderr ends with (more: ya-salt logs {item.name}):")
        lines += [f"  {escape(line)}" for line in tail]
    return "\n".join(lines)


def render_history(events: Sequence[Event]) -> str:
    head = ("TIME", "NAME", "WHO", "WHAT")
    rows = [
        (format_time(item.at), item.name, item.who or "-", show_sizes(item.what)) for item in events
    ]
    return render_table(head, rows) if rows else "no history"


def describe_line(event: Event) -> str:
    """A line of the history of all daemons, by itself."""
    who = printable(event.who) or "-"
    what = printable(show_sizes(event.what))
    return f"{format_time(event.at)}  {printable(event.name)}  {who}  {what}"


def describe_event(event: Event) -> str:
    """When, what, and by whom where somebody had it done."""
    by = f"  ({printable(event.who)})" if event.who else ""
    return f"{format_time(event.at)}  {printable(show_sizes(event.what))}{by}"


def _describe_probe(probe: ProbeStanding, now: float) -> str:
    if not probe.answer:
        return f"{probe.question}: not asked yet"
    failed = f", failed {probe.failures} of {probe.threshold} times" if probe.failures else ""
    word = "ready" if probe.is_ready else "not ready"
    age = format_age(now - probe.asked_at)
    return f"{probe.question}: {word}{failed}; asked {age} ago: {probe.answer}"


def _describe_crash(crash: CrashStanding) -> str:
    times = count(crash.deaths, "time")
    next_try = f", next try {format_time(crash.next_at)}" if crash.next_at else ", it runs now"
    words = f": {crash.last_words}" if crash.last_words else ""
    rest = f"it rests {crash.delay_s:g} s after a death"
    return f"{times} in a row since {format_time(crash.since)}; {rest}{next_try}{words}"


def _describe_condition(condition: Condition, now: float) -> str:
    word = "yes" if condition.status else "no"
    age = format_age(now - condition.since)
    since = f"since {format_time(condition.since)} ({age})"
    return f"{word} {since}: {condition.reason}: {condition.message}"
