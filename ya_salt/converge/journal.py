"""Write down what a pass does, as it does it, so that neither a failure nor a kill hides it.

A file of lines beside the store: appending costs microseconds, and the page cache outlives whoever
wrote it. A pass that comes to its end tells the store and empties the file; what is found in it
otherwise was left by a pass that was cut short, or is written by one under way, which locks it.
Readers tell of both as if the store had it already.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ya_salt import as_left
from ya_salt.model import Event, Step, StepResult, describe_deed
from ya_salt.quick_dataclass import dataclass, replace
from ya_salt.store import FILE_NAME as STORE
from ya_salt.store import LAST_PASS, Store

FILE_NAME = "journal"
_NOTE = "Note"
"""The kind of the line that tells what was done before."""
SAVED = "journal"
"""The fact that says up to when the journal's lines are in the history."""
_PASS = "Pass"  # noqa: S105 - a pass over the host, no password
"""The kind of the line that says that a pass has something to do."""
_LAST_MOMENT = 1e11
"""Seconds since 1970 beyond which a clock has gone mad."""
_MAX_BYTES = 4 << 20
"""Nothing beyond is read: a thousand daemons' steps are some hundred kilobytes."""


@dataclass(frozen=True)
class Deed:
    """A step that was begun; `ended` says how, "" while nobody knows."""

    at: float
    name: str
    what: str
    kind: str
    """The step's class."""
    ended: str = ""
    error: str = ""
    who: str = ""
    """Who makes the pass."""

    @property
    def said(self) -> str:
        match self.ended:
            case "done":
                return self.what
            case "failed":
                return f"{self.what}: failed: {self.error}"
            case "under way":
                return f"{self.what}: under way"
        return f"{self.what}: interrupted, its end was not seen"


class Journal:
    """The deeds of the pass under way. Methods are for any thread, and raise nothing."""

    def __init__(self, state_dir: str, now: Callable[[], float], who: str = "") -> None:
        self._path = Path(state_dir) / FILE_NAME
        self._now = now
        self._who = who
        self.started = now()
        self.left = read_journal(state_dir)
        """What passes before this one left behind."""
        self._lock = threading.Lock()
        self._file: int | None = None
        self._is_locked = False
        self._began: dict[int, Deed] = {}
        self._ended: list[Deed] = []
        self.results: dict[str, list[StepResult]] = {}
        """What came of the steps that ended, by daemon."""

    def open(self) -> None:
        """Note that there is something to do: should this pass be killed, that is known."""
        with self._lock:
            self._write(Deed(self.started, "", "a pass", _PASS))

    def begin(self, step: Step) -> None:
        with self._lock:
            deed = Deed(
                self._now(), step.name, describe_deed(step), type(step).__name__, who=self._who
            )
            self._began[id(step)] = deed
            self._write(deed)

    def end(self, result: StepResult) -> None:
        with self._lock:
            self.results.setdefault(result.step.name, []).append(result)
            if result.deferral is not None or result.blocked:
                self._drop(result.step)
                return
            begun = self._began.pop(id(result.step), None)
            deed = Deed(
                begun.at if begun else self._now(),
                result.step.name,
                describe_deed(result.step),
                type(result.step).__name__,
                "done" if result.is_done else "failed",
                result.error,
                self._who,
            )
            self._ended.append(deed)
            self._write(deed)

    def note(self, name: str, what: str) -> None:
        """Something that was done to a daemon before this pass, and has become known now."""
        with self._lock:
            deed = Deed(self._now(), name, what, _NOTE, "done")
            self._ended.append(deed)
            self._write(deed)

    def drop(self, step: Step) -> None:
        """Nothing was done after all: another step is taken in its place, or it waits."""
        with self._lock:
            self._drop(step)

    def _drop(self, step: Step) -> None:
        begun = self._began.pop(id(step), None)
        if begun is not None:
            self._write(replace(begun, ended="dropped"))

    def _write(self, deed: Deed) -> None:
        with contextlib.suppress(OSError):
            if self._file is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                # What is no file must not hold the pass up.
                flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
                # For root, and for the group of the directory: see `readers`.
                self._file = os.open(self._path, flags, 0o640)
            if not self._is_locked:
                self._is_locked = _try_lock(self._file, fcntl.LOCK_SH)
            os.write(self._file, json.dumps(vars(deed)).encode() + b"\n")

    def list_deeds(self) -> list[Deed]:
        """The deeds of this pass so far, in the order in which they were begun."""
        with self._lock:
            return sorted([*self._ended, *self._began.values()], key=lambda deed: deed.at)

    def clear(self) -> None:
        """Forget the deeds: the store has them."""
        with contextlib.suppress(OSError):
            self._path.unlink()

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def read_journal(state_dir: Path | str) -> tuple[Deed, ...]:
    """What a pass that was cut short has left behind; what cannot be read was not written whole."""
    return _read(state_dir)[0]


def _read(state_dir: Path | str) -> tuple[tuple[Deed, ...], bool]:
    """The deeds, and whether a pass is adding to them."""
    path = Path(state_dir) / FILE_NAME
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return (), False
    try:
        is_under_way = not _try_lock(file, fcntl.LOCK_EX)
        text = os.read(file, _MAX_BYTES).decode(errors="replace")
    except OSError:
        return (), False
    finally:
        os.close(file)
    return _parse(text.splitlines()), is_under_way


def _try_lock(file: int, kind: int) -> bool:
    """The writer shares it, so that only readers ever fail, and they do not wait."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _parse(lines: Iterable[str]) -> tuple[Deed, ...]:
    """A line of the end takes the place of its beginning."""
    open_: dict[tuple[float, str], int] = {}
    """(when, daemon) of a step without an end yet -> its place in `order`."""
    order: list[Deed] = []
    for line in lines:
        try:
            data = json.loads(line)
            deed = Deed(
                float(data["at"]),
                str(data["name"]),
                str(data["what"]),
                str(data["kind"]),
                str(data["ended"]),
                str(data["error"]),
                # Earlier versions wrote none.
                str(data.get("who", "")),
            )
            _check(deed)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
        key = (deed.at, deed.name)
        begun = open_.pop(key, None)
        if begun is not None and deed.ended:
            order[begun] = deed
        else:
            order.append(deed)
        if not deed.ended:
            open_[key] = len(order) - 1
    return tuple(deed for deed in order if deed.ended != "dropped")


def _check(deed: Deed) -> None:
    """Raise ValueError for what no clock tells, and for what no file can be given as text."""
    if not 0 <= deed.at <= _LAST_MOMENT:
        raise ValueError("no moment of ours")
    "".join((deed.name, deed.what, deed.kind, deed.ended, deed.error, deed.who)).encode()


def list_events(deeds: Iterable[Deed]) -> list[Event]:
    return [Event(deed.at, deed.name, deed.said, deed.who) for deed in deeds if deed.kind != _PASS]


def list_renewed(deeds: Iterable[Deed]) -> frozenset[str]:
    """Daemons that were given a new process after their packages were changed for the last time."""
    renewed: set[str] = set()
    for deed in deeds:
        if deed.kind == "InstallPackages":
            renewed.discard(deed.name)
        elif deed.ended == "done" and deed.kind in {"CreateContainer", "ReplaceContainer"}:
            renewed.add(deed.name)
    return frozenset(renewed)


def list_left_to_apt(deeds: Iterable[Deed]) -> list[tuple[str, str]]:
    """(daemon, what) of steps that apt was at work on when their pass ended."""
    kinds = {"InstallPackages", "PurgePackages"}
    return [(deed.name, deed.what) for deed in deeds if deed.kind in kinds and not deed.ended]


# -- for readers ---------------------------------------------------------------------------------


def list_unsaved(deeds: Iterable[Deed], store: Store) -> tuple[Deed, ...]:
    """Those that the store's history does not have."""
    until = store.load_fact(SAVED)
    told = until if isinstance(until, int | float) else 0.0
    return tuple(deed for deed in deeds if deed.at > told)


def load_history(
    store: Store | None, state_dir: str, daemon: str = "", limit: int = 100
) -> list[Event]:
    """The newest events, oldest first, with those that no pass has lived to save."""
    if store is None:
        return []
    events = [*store.load_history(daemon, limit), *_list_late(store, state_dir, daemon)]
    return events[-limit:] if limit > 0 else []


def look_for_change(state_dir: str) -> tuple[object, ...]:
    """Something that is another as soon as the history may be: it costs two looks at files."""
    marks: list[object] = []
    for name in (STORE, FILE_NAME):
        try:
            found = Path(state_dir, name).stat()
        except OSError:
            marks.append(None)
        else:
            marks.append((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))
    return tuple(marks)


def load_last_causes(store: Store, state_dir: str) -> dict[str, tuple[float, str]]:
    """Daemon -> the newest event that was more than its coming up: (time, sentence)."""
    late = {event.name: (event.at, event.what) for event in _list_late(store, state_dir)}
    return {**store.load_last_causes(), **late}


def _list_late(store: Store, state_dir: str, daemon: str = "") -> list[Event]:
    deeds, is_under_way = _read(state_dir)
    if is_under_way:
        deeds = tuple(replace(deed, ended=deed.ended or "under way") for deed in deeds)
    events = list_events(list_unsaved(deeds, store))
    return [event for event in events if daemon in {"", event.name}]


def load_last_pass(store: Store, state_dir: str) -> Any:
    """The store's fact of the last pass; of one that was killed, that it was."""
    fact = store.load_fact(LAST_PASS)
    quick = as_left.load_pass(state_dir)
    if quick is not None and isinstance(fact, dict):
        # It found everything as the last full one has left it.
        fact = {**fact, "started_at": quick[0], "duration_s": round(quick[1] - quick[0], 3)}
    deeds, is_under_way = _read(state_dir)
    begun = [deed for deed in list_unsaved(deeds, store) if deed.kind == _PASS]
    if is_under_way or not begun:
        return fact
    return {
        "rejected": [],
        "ignored": [],
        **(fact if isinstance(fact, dict) else {}),
        "started_at": begun[-1].at,
        "duration_s": 0.0,
        "result": "interrupted",
        "error": "its end was not written down: it was killed, or the disk could not be written; "
        "the next pass makes up for it",
    }
