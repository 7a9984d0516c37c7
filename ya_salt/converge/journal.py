"""Write down what a pass does, as it does it, so that neither a failure nor a kill hides it.

A file of lines beside the store: appending costs microseconds, and the page cache outlives whoever
wrote it. A pass that comes to its end tells the store and empties the file; what is found in it
otherwise was left by a pass that was cut short.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ya_salt.model import Step, StepResult, describe_step

FILE_NAME = "journal"
_MAX_BYTES = 4 << 20
"""Nothing beyond is read: a thousand daemons' steps are some hundred kilobytes."""

Event = tuple[float, str, str]
"""(seconds since 1970, daemon, sentence), as the store's history has it."""


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

    @property
    def said(self) -> str:
        match self.ended:
            case "done":
                return self.what
            case "failed":
                return f"{self.what}: failed: {self.error}"
        return f"{self.what}: interrupted, its end was not seen"


class Journal:
    """The deeds of the pass under way. Methods are for any thread, and raise nothing."""

    def __init__(self, state_dir: str, now: Callable[[], float]) -> None:
        self._path = Path(state_dir) / FILE_NAME
        self._now = now
        self.started = now()
        self._lock = threading.Lock()
        self._file: int | None = None
        self._began: dict[int, Deed] = {}
        self._ended: list[Deed] = []
        self.results: dict[str, list[StepResult]] = {}
        """What came of the steps that ended, by daemon."""

    def begin(self, step: Step) -> None:
        with self._lock:
            deed = Deed(self._now(), step.name, describe_step(step), type(step).__name__)
            self._began[id(step)] = deed
            self._write(asdict(deed))

    def end(self, result: StepResult) -> None:
        with self._lock:
            self.results.setdefault(result.step.name, []).append(result)
            if result.deferral is not None:
                self._drop(result.step)
                return
            begun = self._began.pop(id(result.step), None)
            deed = Deed(
                begun.at if begun else self._now(),
                result.step.name,
                describe_step(result.step),
                type(result.step).__name__,
                "done" if result.is_done else "failed",
                result.error,
            )
            self._ended.append(deed)
            self._write(asdict(deed))

    def drop(self, step: Step) -> None:
        """Nothing was done after all: another step is taken in its place, or it waits."""
        with self._lock:
            self._drop(step)

    def _drop(self, step: Step) -> None:
        begun = self._began.pop(id(step), None)
        if begun is not None:
            self._write(asdict(replace(begun, ended="dropped")))

    def _write(self, line: object) -> None:
        with contextlib.suppress(OSError):
            if self._file is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
                self._file = os.open(self._path, flags, 0o600)
            os.write(self._file, json.dumps(line).encode() + b"\n")

    def list_deeds(self) -> list[Deed]:
        """The deeds of this pass so far, in the order in which they were begun."""
        with self._lock:
            return sorted([*self._ended, *self._began.values()], key=lambda deed: deed.at)

    def clear(self) -> None:
        """The store knows it all."""
        clear_journal(self._path.parent)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def read_journal(state_dir: Path | str) -> tuple[Deed, ...]:
    """What a pass that was cut short has left behind; what cannot be read was not written whole."""
    path = Path(state_dir) / FILE_NAME
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ()
    try:
        text = os.read(file, _MAX_BYTES).decode(errors="replace")
    except OSError:
        return ()
    finally:
        os.close(file)
    return tuple(_parse(text.splitlines()))


def clear_journal(state_dir: Path | str) -> None:
    with contextlib.suppress(OSError):
        (Path(state_dir) / FILE_NAME).unlink()


def _parse(lines: Iterable[str]) -> Iterator[Deed]:
    """A line of the end takes the place of its beginning."""
    open_: dict[tuple[float, str], Deed] = {}
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
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
        key = (deed.at, deed.name)
        begun = open_.pop(key, None)
        if begun is not None and deed.ended:
            order[order.index(begun)] = deed
        else:
            order.append(deed)
        if not deed.ended:
            open_[key] = deed
    return iter([deed for deed in order if deed.ended != "dropped"])


def list_events(deeds: Iterable[Deed]) -> list[Event]:
    return [(deed.at, deed.name, deed.said) for deed in deeds]


def list_renewed(deeds: Iterable[Deed]) -> frozenset[str]:
    """Daemons that were given a new process after their packages were changed for the last time."""
    renewed: set[str] = set()
    for deed in deeds:
        if deed.kind == "InstallPackages":
            renewed.discard(deed.name)
        elif deed.ended == "done" and deed.kind in {"CreateContainer", "ReplaceContainer"}:
            renewed.add(deed.name)
    return frozenset(renewed)
