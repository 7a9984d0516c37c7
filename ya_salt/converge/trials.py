"""Whether an update proves itself, and which version is in effect where one did not. Pure.

An update is on trial from right before it is carried out until it has stayed ready for
`update.watch_s`. One that fails is rejected by its mark: while the file says the same, the spec of
the generation before is in effect in the file's place, and everything else follows from that.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence

from ya_salt.codec import to_data
from ya_salt.converge.drift import has_secrets, is_current, name_key
from ya_salt.life import Generation, Life, Order, Pin, Rejection, Trial
from ya_salt.model import (
    ChangeLive,
    Container,
    DaemonPlan,
    DaemonSpec,
    InstallPackages,
    Observed,
    Outcome,
    ReplaceContainer,
)
from ya_salt.porto.properties import is_secret
from ya_salt.quick_dataclass import dataclass, replace
from ya_salt.text import count

REJECTED = "Rejected"
"""The reason of a plan that does nothing as the update was given up just now."""

ROLLED_BACK = "RolledBack"
ROLLBACK_FAILED = "RollbackFailed"
PINNED = "Pinned"

KEPT = 5
"""Generations of a daemon that are remembered, the newest."""

_FULL_DISK = ("no space left on device", "disk quota exceeded")

_SCRIPT = re.compile(r"(Pre|Post)instFailed")
"""Reasons of a package whose own script failed; prerm and postrm are the old version's."""

_NOT_ITS_OWN = frozenset(
    {"ResourceNotAvailable", "NoSpace", "Busy", "PortoFrozen", "PortodReloaded", "Queued", "Bug"}
    | {"DataNotCopied", "LostError", "SocketError", "SocketUnavailable", "SocketTimeout"}
)
"""Why a container cannot be started now, whatever its version."""


# -- marks ---------------------------------------------------------------------------------------


_PUBLIC, _KEY = 16, 8
"""Digits of a mark: what anybody may know, and which key the rest was hashed with."""


def make_version_mark(spec: DaemonSpec, key: bytes) -> str:
    """What names a version: what runs, secrets and all, and when it counts as ready.

    Letters and digits, the same from one version of ya-salt to the next.
    """
    asked = to_data(spec.readiness, is_sparse=True) if spec.readiness is not None else None
    public = json.dumps(
        [spec.digest, asked, float(spec.min_ready_s), float(spec.ready_deadline_s)],
        separators=(",", ":"),
        sort_keys=True,
    )
    mark = hashlib.sha256(public.encode()).hexdigest()[:_PUBLIC]
    if not has_secrets(spec) or not key:
        return mark
    import hmac

    secrets = sorted([name, text] for name, text in spec.properties.items() if is_secret(name))
    text = json.dumps(secrets, separators=(",", ":"))
    return f"{mark}{name_key(key)}{hmac.digest(key, text.encode(), 'sha256').hex()[:16]}"


def is_same_version(one: str, other: str) -> bool:
    """Whether two marks name the same; of secrets hashed with different keys nobody knows."""
    if one[:_PUBLIC] != other[:_PUBLIC]:
        return False
    key, other_key = one[_PUBLIC : _PUBLIC + _KEY], other[_PUBLIC : _PUBLIC + _KEY]
    return one == other or key != other_key


# -- what people ask for, and what a changed file lifts --------------------------------------------


def follow_orders(
    spec: DaemonSpec, life: Life, order: Order | None, key: bytes, now: float
) -> Life:
    """The life before anybody has looked: with orders taken, and without what a new file lifts."""
    if spec.generation and order is None:
        # There is no file to go by: it stays as the last pass had it.
        return life
    rejection, pin, trial = life.rejection, life.pin, life.trial
    if order is None and rejection is None and pin is None and trial is None:
        return life
    mark = make_version_mark(spec, key)
    if rejection is not None and (
        not is_same_version(rejection.mark, mark) or spec.update.on_failure == "keep"
    ):
        rejection = None
    if pin is not None and not is_same_version(pin.mark, mark):
        pin = None
    if trial is not None and not is_same_version(trial.mark, mark):
        trial = None
    if order is not None and order.kind == "retry":
        rejection = pin = None
    if order is not None and order.kind == "rollback":
        number = order.number or find_number_before(life, mark)
        if any(item.number == number for item in life.generations):
            pin, trial = Pin(number, mark, order.who, now), None
    if spec.delete_requested:
        rejection = pin = trial = None
    return replace(life, rejection=rejection, pin=pin, trial=trial)


def find_number_before(life: Life, mark: str) -> int:
    """The generation that `rollback` without a number leads to; 0: there is none."""
    now = find_number_in_effect(life, mark)
    earlier = [item.number for item in life.generations if not item.rejected]
    return max((number for number in earlier if not now or number < now), default=0)


def find_number_in_effect(life: Life, mark: str) -> int:
    """The generation that runs, or is to; 0: the file's, which was not ready yet."""
    chosen = find_chosen(life)
    if chosen:
        return chosen
    found = (item.number for item in life.generations if is_same_version(item.mark, mark))
    return next(found, 0)


def find_chosen(life: Life) -> int:
    """The generation whose spec is in effect in the file's place; 0: the file's own is."""
    if life.pin is not None:
        return life.pin.number
    return life.rejection.back_to if life.rejection is not None else 0


@dataclass(frozen=True)
class InEffect:
    """Specs as they are in effect, and why one that should be is not."""

    specs: tuple[DaemonSpec, ...]
    unreadable: Mapping[str, str]
    """Daemon -> why its generation cannot be had: it is left as it is."""
    kept: Mapping[str, str]
    """Daemon -> why it is not taken back though it failed: others run well on its packages."""


def choose_specs(
    specs: Sequence[DaemonSpec],
    lives: Mapping[str, Life],
    known: Mapping[str, DaemonSpec | str],
    observed: Observed,
) -> InEffect:
    """The specs in effect. `known`: daemon -> its generation's spec, or why it cannot be read."""
    back: dict[str, DaemonSpec] = {}
    unreadable: dict[str, str] = {}
    for spec in specs:
        found = known.get(spec.name)
        if isinstance(found, str):
            unreadable[spec.name] = found
        elif found is not None and not spec.delete_requested:
            back[spec.name] = _put_in_place(found, spec, find_chosen(lives[spec.name]))
    kept: dict[str, str] = {}
    while True:
        now = {spec.name: back.get(spec.name, spec) for spec in specs}
        more = {
            name: why
            for name in back
            if (why := _find_shared(now[name], now.values(), back, observed))
        }
        if not more:
            return InEffect(tuple(now.values()), unreadable, kept)
        kept |= more
        for name in more:
            del back[name]


def _put_in_place(generation: DaemonSpec, spec: DaemonSpec, number: int) -> DaemonSpec:
    return replace(
        generation,
        path=spec.path,
        delete_requested=False,
        generation=number,
        file_version=spec.version,
    )


def _find_shared(
    spec: DaemonSpec,
    others: Iterable[DaemonSpec],
    back: Mapping[str, DaemonSpec],
    observed: Observed,
) -> str:
    """Why `spec` cannot have its packages back: who runs from another version of one, or ""."""
    wanted = {item.name: item.version for item in spec.packages}
    for other in others:
        if other.name == spec.name or other.name in back or other.delete_requested:
            continue
        for item in other.packages:
            there = observed.packages.get(item.name)
            is_there = there is not None and there.version == item.version
            if wanted.get(item.name, item.version) != item.version and is_there:
                return (
                    f"package {item.name} is not taken back from {item.version} to "
                    f"{wanted[item.name]}: {other.name} runs from it, too; make the specs agree"
                )
    return ""


# -- an update begins ------------------------------------------------------------------------------


def find_way_back(life: Life, mark: str) -> Generation | None:
    """The generation that an update to `mark` would be undone to."""
    known = [
        item
        for item in life.generations
        if not item.rejected and not is_same_version(item.mark, mark)
    ]
    return known[-1] if known else None


def begin_trial(  # noqa: PLR0913, PLR0917 - what is wanted, was, is to be done, is there; where, when
    spec: DaemonSpec, life: Life, plan: DaemonPlan, observed: Observed, host: str, now: float
) -> Life:
    """The life with the trial of an update that the plan is about to carry out, if it is one."""
    mark = make_version_mark(spec, observed.key)
    is_over = spec.generation or spec.delete_requested or life.rejection is not None
    if is_over or plan.is_held or not plan.steps or plan.deferral is not None or plan.refusal:
        return life
    if spec.update.on_failure == "keep" or life.trial is not None:
        return life
    known = [item for item in life.generations if not item.rejected]
    if not known or is_same_version(known[-1].mark, mark):
        return life
    container = observed.containers.get(spec.name)
    trial = Trial(
        mark,
        spec.version,
        known[-1].number,
        begun_at=now,
        host=host,
        covers_data=bool(spec.update.state),
    )
    return replace(life, trial=_see(trial, container))


def is_update(
    spec: DaemonSpec, life: Life, plan: DaemonPlan, observed: Observed, mark: str
) -> bool:
    """Whether the plan, or what of it waits, takes a daemon that was there to another version."""
    container = observed.containers.get(spec.name)
    if spec.generation or spec.delete_requested or container is None or not container.is_ours:
        return False
    steps = (*plan.steps, *plan.waiting)
    changes = any(
        isinstance(step, InstallPackages | ReplaceContainer | ChangeLive) for step in steps
    )
    if life.generations:
        return changes and not is_same_version(life.generations[-1].mark, mark)
    is_installed = any(isinstance(step, InstallPackages) for step in steps)
    return changes and (is_installed or not is_current(spec, container))


def describe_way_back(spec: DaemonSpec, life: Life, mark: str, lost: Mapping[str, str]) -> str:
    """A sentence: whether an update could be undone, and if not, why not.

    `lost`: package -> why it could not be had without a repository.
    """
    if spec.update.on_failure == "keep":
        return "cannot be undone: update.on_failure is keep"
    back = find_way_back(life, mark)
    if back is None:
        return "cannot be undone: no version of it was ready yet"
    if lost:
        return f"cannot be undone without a repository: {'; '.join(lost.values())}"
    data = "its data, too" if spec.update.state else "data not covered (update.state)"
    return f"can be undone: back to {describe_generation(back)}, {data}"


# -- an update is judged ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Sight:
    """How a version on trial stands, and what may excuse it."""

    container: Container | None
    is_current: bool = True
    """Whether the container is the new version's, and its packages are there."""
    is_ready: bool = False
    host: str = ""
    excuse: str = ""
    """What is no failure of a version and happened to it: its probation begins anew."""
    error: str = ""
    """Why it could not even be put in place, where that is the version's own fault."""
    ending: str = "died"
    """How it ends, as far as that is known: `exited with 3`."""
    words: str = ""
    """What it said last."""
    answer: str = ""
    """What came of the last question whether it is ready."""
    until: float = 0.0
    """It asked for time until then."""


@dataclass(frozen=True)
class Verdict:
    """What comes of a trial: it goes on, is over (None), or is lost (`why`)."""

    trial: Trial | None
    why: str = ""


def judge(trial: Trial, spec: DaemonSpec, sight: Sight, now: float) -> Verdict:
    """What comes of a trial by how its version stands at this moment."""
    container = sight.container
    if sight.error:
        return Verdict(None, sight.error)
    is_paused = container is not None and container.state == "paused"
    if trial.host != sight.host or sight.excuse or is_paused:
        return Verdict(_begin_anew(trial, sight, now))
    if container is None or not sight.is_current:
        return Verdict(_see(trial, container))
    if _was_restarted(trial, container):
        trial = _begin_anew(trial, sight, now)
    died = count_deaths(trial, container)
    trial = _go_on(trial, container, died, now)
    if trial.ready_at:
        return _judge_probation(trial, spec, sight, died, now)
    return _judge_start(trial, spec, sight, died, now)


def _go_on(trial: Trial, container: Container, died: int, now: float) -> Trial:
    begun_at = trial.begun_at
    if not trial.is_carried_out and trial.container != _identify(container):
        # What was to be installed first may have taken long.
        begun_at = max(begun_at, min(container.created_at, now))
    return replace(
        _see(trial, container),
        is_carried_out=True,
        begun_at=begun_at,
        deaths=trial.deaths + died,
    )


def _judge_start(trial: Trial, spec: DaemonSpec, sight: Sight, died: int, now: float) -> Verdict:
    """Of a version that was not ready yet."""
    if died and trial.deaths > spec.update.max_failures:
        return Verdict(None, _say_deaths(trial, sight, now))
    if sight.container is not None and sight.container.state == "dead":
        why = _say_deaths(trial, sight, now)
        return Verdict(None, f"{why}, and portod does not start it again (max_respawns)")
    if sight.is_ready:
        return _judge_probation(replace(trial, ready_at=now), spec, sight, 0, now)
    if now >= max(trial.begun_at + spec.ready_deadline_s, sight.until):
        said = f" ({sight.answer})" if sight.answer else ""
        why = f"not ready within {spec.ready_deadline_s:g} s{said}"
        died_too = f", {_say_deaths(trial, sight, now)}" if trial.deaths else ""
        return Verdict(None, _with_words(why + died_too, sight))
    return Verdict(trial)


def _judge_probation(
    trial: Trial, spec: DaemonSpec, sight: Sight, died: int, now: float
) -> Verdict:
    """Of a version that was ready: it has to stay so for `watch_s`."""
    after = f"{max(0.0, now - trial.ready_at):.0f} s after it had become ready"
    if died:
        return Verdict(None, _with_words(f"{sight.ending} {after}", sight))
    state = sight.container.state if sight.container else ""
    if not sight.is_ready:
        if state == "running":
            return Verdict(None, _with_words(f"not ready any more {after}", sight))
        # Somebody stopped or paused it, or it is on its way.
        return Verdict(replace(trial, host=""))
    if now - trial.ready_at >= spec.update.watch_s:
        return Verdict(None)
    return Verdict(trial)


def _begin_anew(trial: Trial, sight: Sight, now: float) -> Trial:
    fresh = Trial(
        trial.mark,
        trial.version,
        trial.back_to,
        begun_at=now,
        host=sight.host,
        covers_data=trial.covers_data,
    )
    seen = _see(fresh, sight.container)
    is_carried_out = sight.container is not None and sight.is_current
    return replace(seen, is_carried_out=is_carried_out)


def _was_restarted(trial: Trial, container: Container) -> bool:
    """Whether somebody, and not portod after a death, gave the new version another process."""
    if not trial.is_carried_out or trial.was_dead:
        return False
    if trial.container != _identify(container):
        return True
    return (
        container.respawn_count == trial.respawns
        and container.started_at != trial.started_at
        and container.state not in {"dead", "respawning"}
    )


def count_deaths(trial: Trial, container: Container) -> int:
    """How often the version died since it was looked at last."""
    is_same = trial.container == _identify(container)
    # One that was seen to be down was counted then, before portod did.
    counted = trial.respawns + trial.was_respawning if is_same else 0
    if is_same and container.respawn_count < trial.respawns:
        # Somebody set portod's count back.
        counted = 0
    died = _count_respawns(trial, container) + (container.state == "respawning") - counted
    is_counted = is_same and trial.was_dead and trial.started_at == container.started_at
    return max(0, died + (container.state == "dead" and not is_counted))


def _count_respawns(trial: Trial, container: Container) -> int:
    """What portod has counted, but for a start that it is about to make: that death is counted."""
    is_counted_only = (
        trial.container == _identify(container)
        and container.respawn_count > trial.respawns
        and container.started_at == trial.started_at
    )
    is_being_started = is_counted_only or 0 < container.changed_at < container.started_at
    return container.respawn_count - (container.state == "respawning" and is_being_started)


def is_hopeless(life: Life, spec: DaemonSpec, container: Container) -> bool:
    """Whether a version on trial has died so often that there is nothing to wait for."""
    trial = life.trial
    if trial is None or not is_current(spec, container):
        return False
    return trial.deaths + count_deaths(trial, container) > spec.update.max_failures


def is_lost(life: Life, spec: DaemonSpec, container: Container | None, now: float) -> bool:
    """Whether a version on trial that is not ready at this moment is given up by the next look.

    As far as that can be said by its container alone: something else may excuse it.
    """
    trial = life.trial
    if trial is None or container is None or not is_current(spec, container):
        return False
    if trial.ready_at and not _was_restarted(trial, container):
        return False
    return bool(judge(trial, spec, Sight(container, host=trial.host), now).why)


def _see(trial: Trial, container: Container | None) -> Trial:
    """The trial with how the container stands now as what was seen of it last."""
    if container is None:
        return replace(
            trial, container="", respawns=0, started_at=0, was_dead=False, was_respawning=False
        )
    return replace(
        trial,
        container=_identify(container),
        respawns=_count_respawns(trial, container),
        started_at=container.started_at,
        was_dead=container.state == "dead",
        was_respawning=container.state == "respawning",
    )


def _identify(container: Container) -> str:
    return f"{container.id}:{container.created_at}"


def _say_deaths(trial: Trial, sight: Sight, now: float) -> str:
    seconds = max(1.0, now - trial.begun_at)
    return _with_words(f"{sight.ending} {_say_times(trial.deaths)} in {seconds:.0f} s", sight)


_TIMES = ("never", "once", "twice", "three times", "four times", "five times", "six times")


def _say_times(number: int) -> str:
    return _TIMES[number] if number < len(_TIMES) else count(number, "time")


def _with_words(text: str, sight: Sight) -> str:
    return f"{text} ({sight.words})" if sight.words else text


def split_words(trouble: str) -> tuple[str, str]:
    """(how it ended, what it said) of a container's last words."""
    first, _, rest = trouble.partition("; ")
    if first.startswith("it exited with code "):
        return f"exited with {first.removeprefix('it exited with code ')}", rest
    if first.startswith("it was killed "):
        return first.removeprefix("it "), rest
    return "died", trouble


def is_full_disk(words: str) -> bool:
    """Whether last words blame the disk, which is no version's fault."""
    return any(sign in words.lower() for sign in _FULL_DISK)


def find_excuse(spec: DaemonSpec, before: Life, after: Life, observed: Observed, words: str) -> str:
    """What happened to a version that is none of its failures, or ""."""
    if is_full_disk(words):
        return "the disk is full"
    changed = [
        path for path, found in after.watched.items() if before.watched.get(path, found) != found
    ]
    if changed and before.trial is not None and before.trial.is_carried_out:
        return f"{changed[0]} has changed"
    for name in spec.after:
        container = observed.containers.get(name)
        if name in observed.lives and (container is None or container.state != "running"):
            return f"{name} does not run"
    return ""


def find_own_error(outcome: Outcome | None) -> str:
    """Why the version could not be put in place, where it is to blame itself; ""."""
    failed = next((item for item in outcome.results if item.error), None) if outcome else None
    if outcome is None or failed is None:
        return ""
    if isinstance(failed.step, InstallPackages):
        is_own = failed.reason == "ScriptTimeout" or _SCRIPT.fullmatch(failed.reason) is not None
    else:
        # Where no package has changed the old container was left, or brought back, as it was.
        is_installed = any(
            isinstance(item.step, InstallPackages) and item.is_done for item in outcome.results
        )
        is_own = is_installed and failed.reason not in _NOT_ITS_OWN
    # That it is tried again, as the error says, is not so.
    words = failed.error.splitlines()[0].partition("; mend the package")[0]
    return words if is_own else ""


def lose(life: Life, trial: Trial, why: str, now: float) -> Life:
    """The life after a trial that was lost."""
    rejection = Rejection(
        trial.mark, trial.version, why, now, trial.back_to, covers_data=trial.covers_data
    )
    generations = tuple(
        replace(item, rejected=why) if is_same_version(item.mark, trial.mark) else item
        for item in life.generations
    )
    return replace(life, trial=None, rejection=rejection, generations=generations)


def describe_rejection(rejection: Rejection | None, life: Life) -> str:
    """A sentence: what was rejected, why, and what becomes of the daemon."""
    if rejection is None:
        return ""
    what = f"{_name_version(rejection)} rejected: {rejection.why}"
    back = find_generation(life, rejection.back_to)
    if back is None:
        return what
    return f"{what}; going back to {describe_generation(back)}"


def find_generation(life: Life, number: int) -> Generation | None:
    return next((item for item in life.generations if item.number == number), None)


def describe_generation(item: Generation) -> str:
    return f"{item.version or item.digest[:12]} (generation {item.number})"


def find_rollback_problem(  # noqa: PLR0913, PLR0917 - each may say so
    spec: DaemonSpec,
    rejection: Rejection,
    outcome: Outcome | None,
    container: Container | None,
    is_whole: bool,
    words: str,
    now: float,
) -> str:
    """Why the generation that came back is not ready either; "" where it is or may come to be."""
    if outcome is not None and outcome.error:
        return outcome.error
    if is_whole:
        return ""
    is_late = now - rejection.at >= spec.ready_deadline_s
    is_down = container is None or container.state in {"dead", "stopped", "respawning"}
    if not (is_late or is_down or rejection.problem):
        return ""
    said = f": {words}" if words else ""
    return f"{spec.version or spec.digest[:12]} does not become ready either{said}"


def describe_rolled_back(spec: DaemonSpec, rejection: Rejection) -> str:
    """A sentence of a daemon that runs again from what it ran before."""
    now = spec.version or f"generation {spec.generation}"
    told = f"{_name_version(rejection)} rejected: {rejection.why}; {now} runs again"
    return told if rejection.covers_data else f"{told}, data not covered (update.state)"


def describe_failed_rollback(spec: DaemonSpec, rejection: Rejection) -> str:
    now = spec.version or f"generation {spec.generation}"
    back = f"going back to {now} failed" if spec.generation else "it was not taken back"
    return f"{back}: {rejection.problem}; {_name_version(rejection)} rejected: {rejection.why}"


def _name_version(rejection: Rejection) -> str:
    return rejection.version or "the new version"


def describe_pin(spec: DaemonSpec, pin: Pin) -> str:
    now = (
        f"{spec.version} (generation {pin.number})" if spec.version else f"generation {pin.number}"
    )
    by = f" by {pin.who}" if pin.who else ""
    return f"{now} runs, as it was gone back to{by}; the file is followed again once it changes"


def describe_in_effect(spec: DaemonSpec, life: Life) -> tuple[str, ...]:
    """Why this generation is in effect, and not the file; nothing where nothing keeps it."""
    again = f"as the file has it: ya-salt retry {spec.name}"
    if life.rejection is not None:
        failed = life.rejection.problem
        say = describe_failed_rollback if failed else describe_rolled_back
        return (f"{say(spec, life.rejection)}; {again}",)
    return (f"{describe_pin(spec, life.pin)}; {again}",) if life.pin is not None else ()


# -- generations -----------------------------------------------------------------------------------


def add_generation(
    life: Life, spec: DaemonSpec, mark: str, now: float
) -> tuple[Life, Generation | None]:
    """The life of a daemon that is ready, and the generation that is to be written down, if new.

    The one that is ready stands last.
    """
    known = [item for item in life.generations if is_same_version(item.mark, mark)]
    others = [item for item in life.generations if item not in known]
    if known:
        if life.generations[-1] == known[-1] and not known[-1].rejected:
            return life, None
        again = replace(known[-1], ready_at=now, rejected="")
        return replace(life, generations=(*others, again)), None
    fresh = Generation(
        number=max((item.number for item in life.generations), default=0) + 1,
        mark=mark,
        version=spec.version,
        digest=spec.digest,
        packages={item.name: item.version for item in spec.packages},
        ready_at=now,
    )
    return replace(life, generations=(*others, fresh)), fresh


def forget_old(life: Life) -> tuple[Life, tuple[int, ...]]:
    """The life with the newest generations only, and the numbers of those that go."""
    in_use = {find_chosen(life), life.trial.back_to if life.trial else 0}
    spare = [item for item in life.generations[:-KEPT] if item.number not in in_use]
    kept = tuple(item for item in life.generations if item not in spare)
    return replace(life, generations=kept), tuple(item.number for item in spare)
