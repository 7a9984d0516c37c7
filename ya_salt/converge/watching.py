"""What is to be done about files that daemons watch, and what is remembered of them. Pure.

Remembered is what the process that runs has seen: a change stays one until the process was started
after it, or told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping

from ya_salt.life import Life, SeenFile
from ya_salt.model import (
    CreateContainer,
    DaemonSpec,
    FileNow,
    Observed,
    Outcome,
    ReplaceContainer,
    SignalContainer,
    StartContainer,
    WatchedFiles,
)
from ya_salt.quick_dataclass import dataclass, replace
from ya_salt.text import count

_SHOWN = 5
_HEARS = frozenset({"running", "paused"})


@dataclass(frozen=True)
class FileChange:
    """A file that the process has not seen as it is now."""

    path: str
    old: str
    """Hash of what it was; "" where it was not there."""
    new: str
    signals: frozenset[str]
    """How the process is told; none: it is started anew."""
    splay_s: float = 0.0


@dataclass(frozen=True)
class Wish:
    """What the files ask for one daemon."""

    restart: str = ""
    """Why it is to be started anew; ""."""
    signals: tuple[SignalContainer, ...] = ()
    notes: tuple[str, ...] = ()
    """What waits, and what cannot be told."""
    due_at: float = 0.0
    """When the next signal that waits is to be sent; 0: none waits."""


def find_changes(spec: DaemonSpec, observed: Observed) -> dict[str, FileChange]:
    """Path -> what changed since its process was started or told; nothing on a first look."""
    changes: dict[str, FileChange] = {}
    life, files = observed.lives.get(spec.name, Life()), observed.files.get(spec.name)
    for watch in spec.watch:
        seen = life.watched.get(watch.name)
        found = files.found.get(watch.name) if files is not None else None
        if seen is None or found is None:
            continue
        for path, file in found.items():
            old = seen[path].hash if path in seen else ""
            if old == file.hash or _has_seen(spec, observed, file):
                continue
            other = changes.get(path)
            signals = frozenset({watch.signal} if watch.signal else ())
            # Starting anew goes before telling.
            if other is not None:
                signals = signals | other.signals if signals and other.signals else frozenset()
            splay_s = max(watch.splay_s, other.splay_s if other else 0.0)
            changes[path] = FileChange(path, old, file.hash, signals, splay_s)
    return changes


def list_news(spec: DaemonSpec, observed: Observed) -> list[str]:
    """Files that changed since a pass looked last, whether or not its process has seen them."""
    life, files = observed.lives.get(spec.name, Life()), observed.files.get(spec.name)
    return [
        path
        for watch in spec.watch
        if files is not None and watch.name in life.watched
        for path, file in files.found.get(watch.name, {}).items()
        for seen in [life.watched[watch.name].get(path)]
        if file.hash != (seen.hash if seen else "") and path not in life.noticed
    ]


def _has_seen(spec: DaemonSpec, observed: Observed, file: FileNow) -> bool:
    """Whether the process was started after the file had become what it is."""
    container, files = observed.containers.get(spec.name), observed.files.get(spec.name)
    if container is None or not container.started_at or not file.changed_at:
        return False
    started_at = (files.started_at if files else 0.0) or container.started_at
    return started_at >= file.changed_at


def find_wish(spec: DaemonSpec, observed: Observed, now: float) -> Wish:
    """What its files ask of the plan. A daemon that does not run has them at its next start."""
    files, container = observed.files.get(spec.name), observed.containers.get(spec.name)
    if files is None or spec.delete_requested:
        return Wish()
    unknown = tuple(
        f"{path}: not watched now: {why}" for path, why in sorted(files.unknown.items())
    )
    if container is None or container.state not in _HEARS:
        return Wish(notes=unknown)
    changes = find_changes(spec, observed).values()
    anew = [change for change in changes if not change.signals]
    if anew:
        # The new process has the others, too.
        return Wish(restart=describe_changes(changes), notes=unknown)
    life = observed.lives.get(spec.name, Life())
    signals: list[SignalContainer] = []
    notes: list[str] = []
    late: list[float] = []
    for signal in sorted({name for change in changes for name in change.signals}):
        told = [change for change in changes if signal in change.signals]
        noticed = min(life.noticed.get(change.path, now) for change in told)
        due = noticed + _find_delay(spec.name, observed.hostname, signal, told)
        reason = describe_changes(told)
        if due <= now:
            hashes = {change.path: change.new for change in told}
            signals.append(SignalContainer(spec.name, signal, reason, hashes))
        else:
            late.append(due)
            notes.append(f"{reason}: {signal} in {count(round(due - now) or 1, 'second')}")
    due_at = min(late, default=0.0)
    return Wish(signals=tuple(signals), notes=(*unknown, *notes), due_at=due_at)


def _find_delay(name: str, hostname: str, signal: str, changes: Collection[FileChange]) -> float:
    """Seconds that this host waits of `splay_s`: the same whenever it is asked."""
    splay_s = max(change.splay_s for change in changes)
    words = [name, hostname, signal, *(f"{item.path} {item.new}" for item in changes)]
    digest = hashlib.sha256("\n".join(sorted(words)).encode(errors="surrogateescape")).digest()
    return splay_s * int.from_bytes(digest[:4], "big") / (1 << 32)


def describe_changes(changes: Iterable[FileChange]) -> str:
    """`changed: /etc/a, /etc/b (new), /etc/c (gone)`."""
    ordered = sorted(changes, key=lambda change: change.path)
    shown = [change.path + describe_kind(change.old, change.new) for change in ordered[:_SHOWN]]
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return f"changed: {', '.join(shown)}{more}"


def describe_kind(old: str, new: str) -> str:
    return " (gone)" if not new else "" if old else " (new)"


# -- remembering ---------------------------------------------------------------------------------


def remember(spec: DaemonSpec, after: Observed, outcome: Outcome | None, now: float) -> Life:
    """The daemon's life with what its process has seen by now.

    `after.files` are as they were right before the process was started, where it was.
    """
    life, files = after.lives.get(spec.name, Life()), after.files.get(spec.name)
    if not spec.watch or spec.delete_requested:
        return replace(life, watched={}, noticed={}, signal_at=0.0)
    if files is None:
        return life
    done = [item.step for item in outcome.results if item.is_done] if outcome else []
    told = {path for step in done if isinstance(step, SignalContainer) for path in step.files}
    pending = find_changes(spec, after).keys() - told if not is_renewed(done) else set()
    watched = {
        watch.name: _remember_one(watch.name, life, files, pending)
        for watch in spec.watch
        if watch.name in life.watched or watch.name in files.found
    }
    noticed = {path: life.noticed.get(path, now) for path in sorted(pending)}
    life = replace(life, watched=watched, noticed=noticed)
    seen = replace(after, lives={spec.name: life})
    return replace(life, signal_at=find_wish(spec, seen, now).due_at)


def is_renewed(steps: Iterable[object]) -> bool:
    """Whether there is a new process: a paused one is only woken."""
    return any(
        isinstance(step, CreateContainer | ReplaceContainer)
        or (isinstance(step, StartContainer) and step.state != "paused")
        for step in steps
    )


def _remember_one(
    name: str, life: Life, files: WatchedFiles, pending: Collection[str]
) -> dict[str, SeenFile]:
    seen, found = life.watched.get(name, {}), files.found.get(name)
    if found is None:
        return dict(seen)
    kept = {path: file for path, file in seen.items() if path in pending or path in files.unknown}
    fresh = {
        path: SeenFile(file.hash, file.stamp)
        for path, file in found.items()
        if file.hash and path not in pending
    }
    return dict(sorted({**kept, **fresh}.items()))


def note_told(life: Life, files: Mapping[str, str]) -> Life:
    """The life of a daemon that was told of these, by a pass that did not see its own end."""
    watched = {
        name: {path: file for path, file in seen.items() if files.get(path) != ""}
        | {path: SeenFile(files[path]) for path in seen if files.get(path)}
        for name, seen in life.watched.items()
    }
    return replace(life, watched=watched)
