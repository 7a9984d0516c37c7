"""Keep what must outlive a pass: last applied specs, status, counters, a bounded history.

Nothing here decides anything that cannot be found out again from the spec files, the containers'
labels and dpkg. So a record that cannot be read is one record lost, a store that cannot be is
set aside, and one that cannot be written is kept in memory: none of it stops a pass
or harms a daemon.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from ya_salt import as_left
from ya_salt.codec import DamagedError, from_data, to_data
from ya_salt.errors import StoreError
from ya_salt.model import Event, Portod, Record
from ya_salt.porto.properties import mask_secrets
from ya_salt.quick_dataclass import dataclass, replace
from ya_salt.store_file import (
    Content,
    Found,
    Mark,
    WeatherError,
    check_place,
    create_file,
    find_mark,
    read_file,
    update_file,
)
from ya_salt.trusted_files import explain, make_directory, open_trusted

FILE_NAME = "store.sqlite3"
HISTORY_LIMIT = 1000
"""Lines of history kept for the whole host; the oldest go first."""

LAST_PASS = "last_pass"  # noqa: S105 - a pass over the host, no password
"""The fact with the last pass's times, result, rejected and ignored files."""

_PORTOD = "portod"
_COMING_UP = ("ready (", "not ready (Starting)")
"""So begin events that tell of a start how it went on, and not why there was one."""

_log = logging.getLogger("ya_salt.store")


class Store:
    """What is remembered, in memory; each transaction brings the file up to date where it can.

    May be used from any thread. `path` None is a store that is never written.
    """

    def __init__(
        self,
        path: Path | None,
        found: Found,
        *,
        is_new: bool = False,
        asked: Mapping[str, Any] | None = None,
        kept: KeptStore | None = None,
    ) -> None:
        self._path = path
        self._kept = kept
        self._writes = 0
        """How often the file was written since it was read."""
        self._asked = asked or {}
        """When daemons said yes last, by passes that wrote no record (`as_left.load_asked`)."""
        self._content = found.content
        self._damage = found.damage
        is_whole = not (is_new or found.damage or found.lost or found.is_old)
        self._saved = found.content.copy() if is_whole else None
        """What the file holds; None where it has to be written as a whole."""
        self._lock = threading.RLock()
        self.rebuilt = is_new or bool(found.damage or found.lost)
        """Whether something may be missing: containers and the gate have to be asked for it."""
        self.lost = found.lost
        """How many rows of the file could not be read."""
        self.trouble = ""
        """Why what this pass learns is forgotten when it ends; "" where it is on the disk."""

    def close(self) -> None:
        """Nothing is left open between transactions; what could not be written is gone."""
        if self._kept is not None and self._path is not None and self._saved is not None:
            self._kept.keep(self._path, self._writes, self._saved)

    def lacks(self, fact: str) -> bool:
        """Whether a fact may have been there and is lost."""
        return self.rebuilt and fact not in self._content.facts

    @contextmanager
    def transaction(self, *, must_last: bool = False) -> Iterator[None]:
        """All writes inside become true together, or not at all.

        Where the disk cannot be written they are true for this pass, `trouble` says why, and the
        next transaction tries again; with `must_last` they are undone. Raises StoreError then only.
        """
        with self._lock:
            before = self._content.copy()
            try:
                yield
                self._write(must_last=must_last)
            except BaseException:
                self._content = before
                raise

    # -- daemons -------------------------------------------------------------------------------

    def load_records(self) -> dict[str, Record]:
        """Every daemon that we know, by name."""
        with self._lock:
            texts = sorted(self._content.records.items())
        return {
            name: _freshen(_read_record(text), self._asked.get(name, ())) for name, text in texts
        }

    def save_records(self, records: Iterable[Record]) -> None:
        for record in records:
            self._content.records[record.name] = _encode(mask_record(record))

    def forget(self, names: Iterable[str]) -> None:
        for name in names:
            self._content.records.pop(name, None)

    # -- facts about the host as a whole -------------------------------------------------------

    def load_fact(self, name: str) -> Any:
        """What `save_fact` was given under this name (JSON data), or None."""
        text = self.load_text(name)
        return None if text is None else json.loads(text)

    def load_text(self, name: str) -> str | None:
        """A fact as JSON, or None."""
        with self._lock:
            return self._content.facts.get(name)

    def save_fact(self, name: str, data: object) -> None:
        """What is there already costs no write: a transaction compares before it goes to disk."""
        self.save_text(name, _encode(data))

    def save_text(self, name: str, text: str) -> None:
        """A fact that is JSON already."""
        self._content.facts[name] = text

    # -- history -------------------------------------------------------------------------------

    def add_history(self, events: Sequence[Event]) -> None:
        """Append them, in their order."""
        if not events:
            return
        history = self._content.history
        first = max(history, default=0) + 1
        for number, event in enumerate(events, first):
            history[number] = Event(float(event[0]), *event[1:])
        for number in sorted(history)[:-HISTORY_LIMIT]:
            del history[number]

    def load_history(self, daemon: str = "", limit: int = 100) -> list[Event]:
        """The newest events, oldest first."""
        events = [event for event in self._list_events() if daemon in {"", event.name}]
        return events[-limit:] if limit > 0 else []

    def load_last_causes(self) -> dict[str, tuple[float, str]]:
        """Daemon -> the newest event that was more than its coming up: (time, sentence)."""
        events = self._list_events()
        return {
            event.name: (event.at, event.what)
            for event in events
            if not event.what.startswith(_COMING_UP)
        }

    def _list_events(self) -> list[Event]:
        with self._lock:
            return [event for _, event in sorted(self._content.history.items())]

    # -- the disk ------------------------------------------------------------------------------

    def _write(self, *, must_last: bool = False) -> None:
        if self._saved == self._content:
            return
        try:
            self._write_file()
        except (WeatherError, OSError, sqlite3.Error) as error:
            words = _explain(error)
            if must_last:
                raise StoreError(f"the store cannot be written: {words}") from error
            self.tell_trouble(words)
            return
        if self.trouble:
            _log.info("the store is written again")
        self.trouble = ""
        self._saved = self._content.copy()

    def tell_trouble(self, why: str) -> None:
        """Log, once, that the disk does not take what is learnt."""
        if not self.trouble:
            _log.error(
                "the store cannot be written: %s; the pass goes on, and what it learns is "
                "forgotten when it ends: make room, or see to the disk",
                why,
            )
        self.trouble = why

    def _write_file(self) -> None:
        if self._path is None:
            raise WeatherError(self.trouble or "it was opened for reading")
        if self._saved is None:
            _prepare(self._path)
            self._write_anew(self._path)
            return
        try:
            update_file(self._path, self._saved, self._content)
            self._writes += 1
        except sqlite3.Error:
            # Damage that only writing shows; all that the file held is in memory.
            self._damage = "it cannot be written"
            self._write_anew(self._path)

    def _write_anew(self, path: Path) -> None:
        self._kept = None
        aside = create_file(path, self._content, keep_old=bool(self._damage))
        if aside is not None:
            _log.error(
                "the store could not be used (%s): it is set aside as %s; what could not be read "
                "of it is learnt anew from files, labels and dpkg",
                self._damage,
                aside,
            )
        self._damage = ""


class KeptStore:
    """What was in the store when a process closed it, for its next pass. For one pass at a time.

    As long as nobody else has written it, it need not be read and checked again.
    """

    def __init__(self) -> None:
        self._mark: Mark | None = None
        self._content: Content | None = None

    def find(self, path: Path) -> Content | None:
        """What the file holds; None where that is not known, so that it has to be read now."""
        mark, known, content = find_mark(path), self._mark, self._content
        self._mark, self._content = mark, None
        return content if mark is not None and mark == known else None

    def keep(self, path: Path, writes: int, content: Content) -> None:
        """`writes`: how often the file was written since `find`; somebody else's write is more."""
        was, self._mark = self._mark, find_mark(path)
        is_ours = was is not None and self._mark is not None and self._mark.is_after(was, writes)
        self._content = content if is_ours else None


def open_store(state_dir: str, kept: KeptStore | None = None) -> Store:
    """Open the store for writing, making it where there is none that can be used.

    `kept`: what this process knows of it from the pass before.

    A disk that is full or broken is no error: the store then lives as long as the pass. Raises
    StoreError where the directory cannot be ours, UntrustedError where it may be somebody else's.
    """
    path = Path(state_dir) / FILE_NAME
    try:
        _prepare(path)
        return _open(path, as_left.load_asked(state_dir), kept)
    except OSError as error:
        if is_operators(error):
            raise StoreError(_describe_refusal("use", path, error)) from error
        return _make_unsaved(path, explain(error))
    except WeatherError as error:
        # What lies there may be good: it is not written over.
        return _make_unsaved(None, str(error))


def read_store(state_dir: str) -> Store | None:
    """Open the store for reading only; None where no pass has made one yet.

    Raises StoreError where it cannot be read, UntrustedError where it may be somebody else's.
    """
    path = Path(state_dir) / FILE_NAME
    try:
        os.close(open_trusted(state_dir, os.O_PATH))
        if not check_place(path):
            return None
        found = _decode(read_file(path, thoroughly=False))
    except FileNotFoundError:
        return None
    except (OSError, WeatherError) as error:
        raise StoreError(_describe_refusal("read", path, error)) from error
    if found.damage and found.content == Content():
        raise StoreError(f"{path} cannot be used: {found.damage}; the next pass begins it anew")
    if found.damage or found.lost:
        _log.warning("%s is damaged: the next pass learns anew what is lost of it", path)
    return Store(None, found, asked=as_left.load_asked(state_dir))


def _prepare(path: Path) -> None:
    make_directory(str(path.parent), 0o700)
    os.close(open_trusted(str(path.parent)))


def _open(path: Path, asked: Mapping[str, Any], kept: KeptStore | None) -> Store:
    if check_place(path):
        content = None if kept is None else kept.find(path)
        found = Found(content) if content else _decode(read_file(path, thoroughly=True))
        store = Store(path, found, asked=asked, kept=kept)
    else:
        store = Store(path, Found(), is_new=True)
    if store.lost:
        _log.error(
            "the store: %d row%s cannot be read: learnt anew from files, labels and dpkg",
            store.lost,
            "" if store.lost == 1 else "s",
        )
    with store.transaction():
        pass
    return store


def _make_unsaved(path: Path | None, why: str) -> Store:
    store = Store(path, Found(), is_new=True)
    store.tell_trouble(why)
    return store


def _decode(found: Found) -> Found:
    """Drop what has a right checksum, or never had one, and is no record of ours all the same."""
    bad = [name for name, text in found.content.records.items() if not _is_record(name, text)]
    for name in bad:
        del found.content.records[name]
    lost = len(bad)
    if not _is_last_pass(found.content.facts.get(LAST_PASS)):
        del found.content.facts[LAST_PASS]
        lost += 1
    return replace(found, lost=found.lost + lost)


@dataclass(frozen=True)
class _LastPass:
    """What every reader of that fact relies on."""

    started_at: float
    duration_s: float
    result: str
    error: str
    rejected: tuple[tuple[str, tuple[str, ...]], ...]
    ignored: tuple[tuple[str, str], ...]


def _is_last_pass(text: str | None) -> bool:
    """Other facts are judged by whoever reads them: a bad one is none."""
    try:
        return text is None or bool(from_data(_LastPass, json.loads(text)))
    except DamagedError:
        return False


def _is_record(name: str, text: str) -> bool:
    try:
        return _read_record(text).name == name
    except (DamagedError, ValueError, RecursionError):
        return False


@lru_cache(maxsize=4096)
def _read_record(text: str) -> Record:
    """Once for each text: it is asked for when the store is opened and again by every reader."""
    return from_data(Record, json.loads(text))


def _freshen(record: Record, asked: Sequence[Any]) -> Record:
    """With when its daemon said yes last, where that was after the record was written."""
    probes = record.life.probes
    if probes is None or not asked:
        return record
    start, asked_at, gap_s = asked
    is_same = probes.start == start and probes.is_ready and not probes.failures
    if not is_same or asked_at <= probes.asked_at:
        return record
    life = replace(record.life, probes=replace(probes, asked_at=asked_at, gap_s=gap_s))
    status = record.status
    if status is not None and status.probe is not None:
        status = replace(status, probe=replace(status.probe, asked_at=asked_at))
    return replace(record, life=life, status=status)


def load_portod(store: Store | None) -> Portod:
    """What portod said of itself when it was asked last; nothing where that cannot be read."""
    try:
        return from_data(Portod, store.load_fact(_PORTOD)) if store else Portod()
    except DamagedError:
        return Portod()


def save_portod(store: Store, portod: Portod) -> None:
    store.save_fact(_PORTOD, to_data(portod))


def is_operators(error: OSError) -> bool:
    """Whether somebody has to put it right; the rest is weather (a full or broken disk)."""
    is_mistake = error.errno in {errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR}
    return is_mistake or (isinstance(error, PermissionError) and os.geteuid() != 0)


def _describe_refusal(what: str, path: Path, error: Exception) -> str:
    known = " or as a member of the settings' read_group" if what == "read" else ""
    return f"cannot {what} {path}: {_explain(error)}; run as root{known}, or give --state-dir"


def _explain(error: Exception) -> str:
    # sqlite3's own words may quote what lies in the file.
    if isinstance(error, OSError):
        return explain(error)
    return str(error) if isinstance(error, WeatherError) else "its file is damaged"


def mask_record(record: Record) -> Record:
    spec = record.spec
    if spec is None:
        return record
    return replace(record, spec=replace(spec, properties=mask_secrets(spec.properties)))


def _encode(data: object) -> str:
    # Of what is plain already, as facts are, nothing is copied first.
    make_plain = partial(to_data, is_sparse=True)
    return json.dumps(data, default=make_plain, separators=(",", ":"), sort_keys=True)
