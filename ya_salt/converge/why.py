"""Why a daemon stands as it does: what blocks it, or what restarted it last. Pure.

A chain of sentences, the nearest cause first, and what to type next, which is another one for each
kind of cause.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ya_salt.converge.drift_policy import describe_drift
from ya_salt.life import Life
from ya_salt.messages import format_time
from ya_salt.model import (
    Condition,
    DaemonPlan,
    DaemonSpec,
    DaemonStatus,
    Event,
    Record,
    Rejected,
    describe_step,
)
from ya_salt.quick_dataclass import dataclass, field
from ya_salt.text import count


@dataclass(frozen=True)
class Evidence:
    """All that is known of one daemon at a moment."""

    name: str
    now: float
    status: DaemonStatus | None = None
    """How it stands; None where no pass has seen it."""
    record: Record | None = None
    spec: DaemonSpec | None = None
    """Its file's, where that can be used."""
    rejected: tuple[Rejected, ...] = ()
    """Files that would define it and cannot be used."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """What its file says -> in which line."""
    plan: DaemonPlan | None = None
    """What a pass would do; None where nobody can say."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What that would change, as `describe_changes` has it."""
    history: Sequence[Event] = ()
    """Of this daemon, newest last."""
    trouble: str = ""
    """Why portod could not be asked; "" where it was."""
    directory: str = ""
    log_file: str = ""

    @property
    def life(self) -> Life:
        return self.record.life if self.record else Life()

    @property
    def file(self) -> str:
        if self.spec is not None:
            return self.spec.path
        if self.rejected:
            return self.rejected[0].path
        return self.status.path if self.status else ""

    def find_place(self, name: str) -> str:
        """`FILE:LINE` of what a change is about; the file alone where the line is not known."""
        line = self.lines.get(name) or self.lines.get(name.partition("[")[0])
        return f"{self.file}:{line}" if line else self.file


@dataclass(frozen=True)
class Answer:
    """`kind` is one word for programs; `causes` begin with the nearest."""

    kind: str
    causes: tuple[str, ...]
    next: str
    """What to type, or to do; `nothing` where it is as it should be."""


def explain(evidence: Evidence) -> Answer:
    for find in _CASES:
        answer = find(evidence)
        if answer is not None:
            return answer
    return _say_well(evidence)


# -- the cases, in the order of what has to be seen to first --------------------------------------


def _say_silence(e: Evidence) -> Answer | None:
    if not e.trouble:
        return None
    since = f"when it was seen last it was {_describe_ready(e)}" if e.status else ""
    causes = (f"portod cannot be asked: {e.trouble}", *_some(since))
    return Answer(
        "PortodSilent", causes, "look at portod (its log, its service), then ya-salt status"
    )


def _say_broken(e: Evidence) -> Answer | None:
    if not e.rejected or e.spec is not None:
        return None
    problems = tuple(problem for item in e.rejected for problem in item.problems)
    stays = () if e.status is None else ("until that is put right it stays as it was",)
    step = f"correct the file, then: ya-salt validate {shlex.quote(e.file)}"
    return Answer("FileRejected", (*problems, *stays), step)


def _say_unseen(e: Evidence) -> Answer | None:
    if e.status is not None:
        return None
    causes = (f"no pass has seen it yet; its file is {e.file}", *_list_planned(e))
    return Answer("NeverApplied", causes, f"ya-salt apply {e.name}")


def _say_foreign(e: Evidence) -> Answer | None:
    if not e.status or e.status.phase != "Foreign":
        return None
    words = f"a container {e.name} exists that ya-salt did not make: it is left alone"
    step = f"ya-salt adopt {e.name}, or destroy that container, or rename the daemon in {e.file}"
    return Answer("Foreign", (words,), step)


def _say_held(e: Evidence) -> Answer | None:
    hold = e.life.hold
    if hold is None:
        return None
    until = f" until {format_time(hold.until)}" if hold.until else ""
    why = f": {hold.why}" if hold.why else ""
    who = hold.who or "somebody"
    words = f"stopped by {who} at {format_time(hold.since)}{until}{why}"
    return Answer("Held", (words,), f"ya-salt start {e.name}")


def _say_rejection(e: Evidence) -> Answer | None:
    rejection = e.life.rejection
    if rejection is None:
        return None
    version = rejection.version or "the file's version"
    words = f"{version} was rejected at {format_time(rejection.at)}: {rejection.why}"
    if rejection.problem:
        causes = (f"going back failed: {rejection.problem}", words, *_list_exit(e))
        step = f"ya-salt logs {e.name}; put {e.file} right, or: ya-salt retry {e.name}"
        return Answer("RollbackFailed", causes, step)
    back = next((g for g in e.life.generations if g.number == rejection.back_to), None)
    runs = f"{back.version or f'generation {back.number}'} runs again" if back else ""
    causes = (words, *_some(runs), *_list_edited(e), *_list_last(e))
    step = f"put {e.file} right; as it is it is tried again by: ya-salt retry {e.name}"
    return Answer("VersionRejected", causes, step)


def _say_unknown(e: Evidence) -> Answer | None:
    reason, message = _find_reason(e)
    if reason != "Unknown" and (e.status is None or e.status.state != "unknown"):
        return None
    words = f"portod answers, but does not tell how it stands: {message}"
    return Answer("Unknown", (words,), "look at portod's log; the next pass looks again")


def _say_bug(e: Evidence) -> Answer | None:
    reason, message = _find_reason(e)
    if reason != "Bug":
        return None
    return Answer("Bug", (message,), f"report it, with: {_grep(e)}")


_PACKAGE_STEPS: Mapping[str, str] = {
    "VersionNotFound": "apt-cache policy {package}; upload that version, or correct {place}",
    "RepositoryUnreachable": "apt-get update; look at /etc/apt/sources.list and the network",
    "HashMismatch": "upload the package again, or wait for the mirror; then ya-salt apply {name}",
    "UnmetDependency": "publish what it depends on, or name versions that go together in {file}",
    "Conflict": "dpkg -S the file, or apt-cache show {package}: one of the two has to go",
    "WouldRemove": "name those packages in a spec, or in the setting allow_removals",
    "WouldChange": "name those packages in a spec, or in the setting allow_removals",
    "PackageVersionConflict": "make both files agree about one version; then ya-salt apply",
    "Held": "apt-mark unhold {package}, or allow_held: true in {place}",
    "LockHeld": "see whose apt or dpkg it is: fuser -v /var/lib/dpkg/lock-frontend",
    "ScriptTimeout": "mend the package's script, or raise script_timeout_s; then ya-salt apply",
    "DiskFull": "df -h; df -i; make room, then ya-salt apply {name}",
    "BrokenPackages": "dpkg --configure -a; apt-get -f install",
    "AptTimeout": "look at the hooks in /etc/apt/apt.conf.d, and at the disk",
    "AptFailed": "read apt's words: {grep}",
    "InvalidPackage": "mend the package's name in {place}",
    "AptMissing": "install apt and dpkg on this host",
    "DpkgUnavailable": "dpkg --audit",
    "NotPermitted": "run it as root",
    "NotInstalled": "ya-salt apply {name}",
}
_SCRIPT = re.compile(r"(Pre|Post)(inst|rm)Failed")


def _say_packages(e: Evidence) -> Answer | None:
    reason, message = _find_reason(e)
    if reason == "NotInstalled" and e.status is not None and e.status.drift:
        # It was left so.
        return None
    step = _PACKAGE_STEPS.get(reason, "")
    if _SCRIPT.fullmatch(reason):
        step = "mend that script of the package, or name another version in {place}"
    if not step:
        return None
    package = _find_package(e)
    filled = step.format(
        package=package or "NAME",
        place=e.find_place(f"package {package}"),
        file=e.file,
        name=e.name,
        grep=_grep(e),
    )
    first, *excerpt = message.splitlines() or [""]
    # apt's own words stand below the sentence.
    said = (f"apt said: {' | '.join(excerpt)}",) if excerpt else ()
    return Answer(reason, (first, *said, *_list_edited(e)), filled)


def _say_refused(e: Evidence) -> Answer | None:
    reason, message = _find_reason(e)
    if reason != "Refused":
        return None
    step = f"change {e.file}, or try it as it is: ya-salt retry {e.name}"
    return Answer("Refused", (message, *_list_edited(e)), step)


_GATE_STEPS: Mapping[str, str] = {
    "Halted": "see who failed, and why: orlyctl status; then orlyctl resume, or put the file right",
    "Paused": "somebody paused the rule: orlyctl status says who; orlyctl resume",
    "Frozen": "the rule is frozen: orlyctl status says who, and until when",
    "OutsideWindow": "wait for the window of the rule; orlyctl status shows it",
    "NotSelected": "this host is in no group of the rule: look at the setting gate.facts",
    "RuleMissing": "orlyctl apply-rule -f RULE.yaml",
    "GateUnreachable": "look at the gate's servers, then: ya-salt plan",
    "GateRefused": "look at gate.username, its password and its certificate: ya-salt settings",
    "RateLimited": "wait: the rule lets so many begin in a while; orlyctl status",
    "Full": "wait for those who have a slot: orlyctl status says who",
}


def _say_gate(e: Evidence) -> Answer | None:
    gate = e.status.gate if e.status else None
    if gate is None or not (e.status and e.status.waits):
        return None
    words = f"its {gate.change} waits for the gate since {format_time(gate.since)}: {gate.reason}"
    step = _GATE_STEPS.get(gate.reason, "orlyctl status says who has a slot, and who failed")
    past = f"; past it: ya-salt apply {e.name} --override-gate REASON"
    return Answer(
        f"Gate{gate.reason}", (words, *_some(gate.message), *_list_edited(e)), step + past
    )


def _say_blocked(e: Evidence) -> Answer | None:
    reason, message = _find_reason(e)
    if reason != "WaitsFor":
        return None
    others = [name for name in (e.spec.after if e.spec else ()) if name in message]
    step = f"ya-salt why {(others or ['OTHER'])[0]}"
    return Answer("WaitsFor", (message,), step)


def _say_unheard(e: Evidence) -> Answer | None:
    reason, message = _find_reason(e)
    if reason != "NoAgent":
        return None
    return Answer("NoAgent", (message,), "systemctl start ya-salt; ya-salt status")


def _say_memory(e: Evidence) -> Answer | None:
    message = _find_exit(e)
    if "more memory than memory_limit" not in message:
        return None
    place = e.find_place("memory_limit")
    step = f"raise memory_limit in {place}, or see what it needs it for: ya-salt logs {e.name}"
    return Answer("OutOfMemory", (message, *_list_life(e)), step)


def _say_looping(e: Evidence) -> Answer | None:
    reason, message = _find_reason(e)
    crash = e.life.crash
    if reason != "CrashLooping" and not (crash is not None and crash.delay_s and _is_down(e)):
        return None
    step = f"ya-salt logs {e.name}; at once, without the rest: ya-salt restart {e.name}"
    return Answer("CrashLooping", (message, *_list_life(e)), step)


_SIGNAL = re.compile(r"killed by signal (\d+)")
_EXIT = re.compile(r"exited with code (\d+)")


def _say_exit(e: Evidence) -> Answer | None:
    message = _find_exit(e)
    if not message:
        return None
    signal, code = _SIGNAL.search(message), _EXIT.search(message)
    causes = (message, *_list_life(e))
    if e.plan is not None and e.plan.steps:
        # What is to be done about it is known, and does not wait for anybody.
        return Answer("Exited", (*causes, *_list_planned(e)), f"ya-salt apply {e.name}")
    if "start error" in message:
        step = f"put right what portod says, in {e.find_place('cmd')}, then ya-salt start {e.name}"
        return Answer("StartFailed", causes, step)
    if signal:
        step = f"see who sent it, or what it ran into: ya-salt logs {e.name}; dmesg"
        return Answer("Signalled", causes, step)
    if code and code[1] in {"126", "127"}:
        step = f"its program cannot be run: look at cmd in {e.find_place('cmd')}"
        return Answer("NoProgram", causes, step)
    step = f"ya-salt logs {e.name}; dead for good it is started by: ya-salt restart {e.name}"
    return Answer("Exited", causes, step)


def _say_probe(e: Evidence) -> Answer | None:
    reason, message = _find_reason(e)
    if reason != "ProbeFailed":
        return None
    step = f"ya-salt logs {e.name}; the question stands in {e.find_place('spec.readiness')}"
    return Answer("ProbeFailed", (message, *_list_life(e)), step)


def _say_starting(e: Evidence) -> Answer | None:
    reason, message = _find_reason(e)
    if reason != "Starting":
        return None
    return Answer("Starting", (message, *_list_life(e)), f"wait: ya-salt status {e.name} --watch")


def _say_portod(e: Evidence) -> Answer | None:
    """A value of the spec that portod does not take, or something else that failed."""
    if e.status is None or not e.status.error:
        return None
    reason, message = _find_reason(e)
    named = next((n for n in e.lines if re.search(rf"\b{re.escape(n)}\b", message)), "")
    step = f"put it right in {e.find_place(named)}, then: ya-salt apply {e.name}; more: {_grep(e)}"
    return Answer(reason or "Failed", (message, *_list_edited(e)), step)


def _say_orphan(e: Evidence) -> Answer | None:
    if not e.status or e.status.phase != "Orphaned":
        return None
    words = f"its file {e.file} is gone, so it is left as it is"
    step = "put the file back; with meta.delete_requested: true if it is to be removed"
    return Answer("Orphaned", (words,), step)


def _say_removed(e: Evidence) -> Answer | None:
    if not e.status or e.status.phase != "Removed":
        return None
    words = f"it was removed, as meta.delete_requested of {e.file} asks"
    return Answer("Removed", (words, *_list_last(e)), "nothing; the file may go")


def _say_drift(e: Evidence) -> Answer | None:
    """What somebody else has changed, where putting it right was given up or is not asked for."""
    drift = e.status.drift if e.status else ()
    if not drift:
        return None
    causes = tuple(describe_drift(item, e.name, format_time(item.until)) for item in drift)
    places = ", ".join(e.find_place(item.what) for item in drift)
    step = f"find who changes it; to have it put right once more: ya-salt retry {e.name}"
    if not any(item.until for item in drift):
        step = f"take it up in {places}, or have it put right: drift: correct there"
    return Answer("Drifted", causes, step)


def _say_pending(e: Evidence) -> Answer | None:
    if e.plan is None or not (e.plan.steps or e.plan.waiting):
        return None
    step = f"ya-salt apply {e.name}"
    return Answer("Pending", (*_list_planned(e), *_list_last(e)), step)


def _say_pin(e: Evidence) -> Answer | None:
    pin = e.life.pin
    if pin is None:
        return None
    words = (
        f"{pin.who or 'somebody'} went back to generation {pin.number} at {format_time(pin.at)}: "
        "that holds until the file changes"
    )
    step = f"change {e.file}, or take up what it says now: ya-salt retry {e.name}"
    return Answer("Pinned", (words, *_list_last(e)), step)


def _say_unready(e: Evidence) -> Answer | None:
    reason, message = _find_reason(e)
    if e.status is None or e.status.ready is None or e.status.ready.status:
        return None
    return Answer(reason, (message, *_list_life(e)), f"ya-salt logs {e.name}; {_grep(e)}")


def _say_well(e: Evidence) -> Answer:
    ready = e.status.ready if e.status else None
    since = f"it is ready since {format_time(ready.since)}" if ready else "nothing is known of it"
    return Answer("Ready", (since, *_list_last(e)), "nothing")


_CASES: Sequence[Callable[[Evidence], Answer | None]] = (
    _say_silence,
    _say_broken,
    _say_unseen,
    _say_foreign,
    _say_held,
    _say_rejection,
    _say_unknown,
    _say_bug,
    _say_removed,
    _say_packages,
    _say_refused,
    _say_gate,
    _say_blocked,
    _say_unheard,
    _say_memory,
    _say_looping,
    _say_exit,
    _say_probe,
    _say_portod,
    _say_orphan,
    _say_drift,
    _say_pending,
    _say_pin,
    _say_starting,
    _say_unready,
)

# -- pieces --------------------------------------------------------------------------------------


def _some(text: str) -> tuple[str, ...]:
    return (text,) if text else ()


def _grep(e: Evidence) -> str:
    return f"grep porto-daemon-{e.name} {e.log_file}"


def _find_reason(e: Evidence) -> tuple[str, str]:
    """Why it is not as it should be, one word and a sentence; "" where it is, or nobody knows."""
    if e.status is None:
        return "", ""
    ready: Condition | None = e.status.ready
    if ready is None or (ready.status and not e.status.error):
        return (ready.reason, ready.message) if ready else ("", e.status.error)
    return ready.reason, e.status.error or ready.message


def _describe_ready(e: Evidence) -> str:
    ready = e.status.ready if e.status else None
    if ready is None:
        return "of unknown readiness"
    return f"{'ready' if ready.status else 'not ready'} ({ready.reason})"


def _is_down(e: Evidence) -> bool:
    running = e.status.running if e.status else None
    return running is not None and not running.status


def _find_exit(e: Evidence) -> str:
    """What is known of how it ended; "" of one that runs."""
    running = e.status.running if e.status else None
    if running is None or running.status or (e.status and e.status.error):
        return ""
    ended = running.reason in {"Dead", "Respawning", "Stopped", "CrashLooping"}
    return running.message if ended else ""


def _find_package(e: Evidence) -> str:
    """The package that is in the way, as far as the sentence names one of the spec's."""
    _, message = _find_reason(e)
    names = [item.name for item in e.spec.packages] if e.spec else []
    return next((name for name in names if name in message), names[0] if names else "")


def _list_exit(e: Evidence) -> tuple[str, ...]:
    return _some(_find_exit(e))


def _list_life(e: Evidence) -> tuple[str, ...]:
    """How often it died, and what was done to it last."""
    times = e.status.respawn_count if e.status else 0
    respawned = f"portod has started it again {count(times, 'time')}" if times else ""
    return (*_some(respawned), *_list_last(e))


_DEEDS = ("restart: ", "create: ", "start: ", "stop: ", "live change: ", "install: ", "remove: ")


def _list_last(e: Evidence) -> tuple[str, ...]:
    """What was done to it last, by whom, what that changed, and what went before."""
    done = [item for item in e.history if item.what.startswith(_DEEDS)]
    if not done:
        return ()
    last = done[-1]
    by = f" by {last.who}" if last.who else ""
    before = [item for item in e.history if item.at <= last.at and item is not last]
    led = before[-1] if before and before[-1].what.startswith("not ready") else None
    return (
        f"last: {format_time(last.at)}{by}: {last.what}",
        *_list_changed(e, last),
        *_some(f"before that: {format_time(led.at)}: {led.what}" if led else ""),
    )


def _list_changed(e: Evidence, last: Event) -> tuple[str, ...]:
    """What the last change was from and to, where that is the deed that is told of."""
    change = e.record.change if e.record else None
    if change is None or change.what not in last.what:
        return ()
    return tuple(
        _describe_change(e, name, *values) for name, values in sorted(change.values.items())
    )


def _list_planned(e: Evidence) -> tuple[str, ...]:
    """What a pass would do, and what that changes."""
    plan = e.plan
    if plan is None:
        return ()
    steps = [f"a pass would {describe_step(step)}" for step in (*plan.steps, *plan.waiting)]
    return (*steps, *_list_edited(e), *plan.notes)


def _list_edited(e: Evidence) -> tuple[str, ...]:
    """What its file says otherwise than what runs, each with its place."""
    packages = {f"package {name}": item for name, item in e.changes.get("packages", {}).items()}
    if e.status is None or not e.status.state:
        # Of a new container everything is new, and stands in the file.
        return tuple(_describe_one(e, name, item) for name, item in packages.items())
    values = {**packages, **e.changes.get("container", {})}
    return tuple(_describe_one(e, name, item) for name, item in values.items())


def _describe_one(e: Evidence, name: str, change: Mapping[str, str]) -> str:
    return _describe_change(e, name, change["old"], change["new"])


def _describe_change(e: Evidence, name: str, old: str, new: str) -> str:
    return f"{e.find_place(name)}: {name}: {old or '(not set)'} -> {new or '(not set)'}"


def list_pending(e: Evidence) -> tuple[str, ...]:
    """What a pass would do about it; nothing where there is nothing to do."""
    plan = e.plan
    if plan is None or not (plan.steps or plan.waiting):
        return ()
    return _list_planned(e)


def to_data(answer: Answer) -> dict[str, Any]:
    return {"kind": answer.kind, "causes": list(answer.causes), "next": answer.next}


def render(name: str, answer: Answer) -> Iterable[str]:
    """As lines: the nearest cause first, what led to it below."""
    first, *rest = answer.causes
    return (f"{name}: {first}", *(f"  {line}" for line in rest), f"next: {answer.next}")
