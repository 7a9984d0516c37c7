"""The store on the disk: rows with checksums in SQLite; what can be read of it, however damaged.

Nothing of a row's content is ever in an error. Tables, and columns with defaults, may be added by
newer versions, and none is taken away: then any version reads what any other has written.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ya_salt import as_left
from ya_salt.model import Event
from ya_salt.quick_dataclass import dataclass, field, replace
from ya_salt.trusted_files import UntrustedError, find_problem

FORMAT = 3
_SCHEMA = (
    "CREATE TABLE daemon (name TEXT PRIMARY KEY, data TEXT NOT NULL, checksum TEXT)",
    "CREATE TABLE fact (name TEXT PRIMARY KEY, data TEXT NOT NULL, checksum TEXT)",
    "CREATE TABLE history (id INTEGER PRIMARY KEY, at REAL NOT NULL, daemon TEXT NOT NULL,"
    " what TEXT NOT NULL, checksum TEXT)",
    # Beside the history, as earlier versions make their checksums of its columns as they are.
    "CREATE TABLE author (id INTEGER PRIMARY KEY, who TEXT NOT NULL, checksum TEXT)",
)
_COLUMNS = {
    "daemon": ("name", "data"),
    "fact": ("name", "data"),
    "history": ("at", "daemon", "what"),
    "author": ("who",),
}
_NUMBERED = frozenset({"history", "author"})
"""Tables whose rows are known by number: who had a line of the history done has its number."""
_LATER = frozenset({"author"})
"""Tables that a store of an earlier version lacks."""
_MAGIC = b"SQLite format 3\0"
_COUNTER = slice(24, 28)
"""Where the header has how often the file was written: https://sqlite.org/fileformat2.html"""
_QUOTE = json.encoder.encode_basestring_ascii
_KEPT_ASIDE = 3
"""Unusable stores kept for somebody to look at; the oldest go first."""


@dataclass(frozen=True)
class Content:
    """Everything that the store holds, as text that was checked."""

    records: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    history: dict[int, Event] = field(default_factory=dict)

    def copy(self) -> Content:
        return Content(dict(self.records), dict(self.facts), dict(self.history))


@dataclass(frozen=True)
class Found:
    """What could be read of a store's file."""

    content: Content = field(default_factory=Content)
    damage: str = ""
    """Why the file as a whole cannot go on being used."""
    lost: int = 0
    """Rows that are there and cannot be trusted."""
    is_old: bool = False
    """It is whole, but made by an earlier version, without checksums or a table of ours."""


@dataclass(frozen=True)
class Mark:
    """A content of the file. Who writes it with SQLite counts, so no clock has to be trusted."""

    identity: as_left.Identity
    writes: int
    """How often it was written; SQLite keeps that in its header."""

    def is_after(self, mark: Mark, writes: int) -> bool:
        """Whether nothing was written since `mark` but these."""
        is_same_file = self.identity[:2] == mark.identity[:2]
        return is_same_file and self.writes == mark.writes + writes


class WeatherError(Exception):
    """The disk is full, broken or locked by somebody: nothing is known about what lies on it."""


# -- reading -----------------------------------------------------------------------------------


def read_file(path: Path, *, thoroughly: bool) -> Found:
    """Everything that can be trusted of the file; a write that was cut off is undone first.

    `thoroughly` looks for damage that would only show when writing. Raises WeatherError, OSError.
    """
    damage = _look_at_header(path)
    if damage:
        return Found(damage=damage)
    try:
        return _read_database(path, thoroughly=thoroughly)
    except WeatherError:
        journal = _journal(path)
        if thoroughly or not journal.exists():
            raise
    # Nobody can undo the cut-off write where the file lies (read-only for us): elsewhere, then.
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ya-salt-") as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        try:
            shutil.copyfile(journal, _journal(copy))
        except FileNotFoundError:
            # Somebody could, meanwhile.
            return _read_database(path, thoroughly=False)
        return _read_database(copy, thoroughly=False)


def find_mark(path: Path) -> Mark | None:
    """What tells this content of the file from any other; None where nothing does."""
    try:
        if _journal(path).exists():
            return None
        identity = as_left.identify(str(path))
        with path.open("rb") as file:
            head = file.read(_COUNTER.stop)
    except OSError:
        return None
    if identity is None or len(head) < _COUNTER.stop or identity != as_left.identify(str(path)):
        return None
    return Mark(identity, int.from_bytes(head[_COUNTER], "big"))


def check_place(path: Path) -> bool:
    """Whether the store's file is there.

    Raises UntrustedError where it may be somebody else's, OSError.
    """
    for file in (path, _journal(path)):
        with contextlib.suppress(FileNotFoundError):
            found = file.lstat()
            if stat.S_ISLNK(found.st_mode):
                raise OSError(errno.ELOOP, "it is a symbolic link, which is not followed", file)
            problem = find_problem(found, str(file))
            if problem:
                raise UntrustedError(f"{file} {problem}")
    return path.exists()


def _look_at_header(path: Path) -> str:
    for file in (path, _journal(path)):
        # One look: a journal goes when its writer is done, between any two.
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(file.stat().st_mode):
                return f"{file.name} is no file"
    with path.open("rb") as opened:
        head = opened.read(20)
    if not head.startswith(_MAGIC):
        return "it is no database"
    # Byte 18 and 19: how it is written and read; 1 is the only way that is ours.
    return "" if head[18:20] == b"\1\1" else "its header is damaged"


def _read_database(path: Path, *, thoroughly: bool) -> Found:
    try:
        return _read_connected(path, thoroughly=thoroughly)
    except sqlite3.Error:
        return Found(damage="its structure is damaged")


def _read_connected(path: Path, *, thoroughly: bool) -> Found:
    with _connected(path) as db, closing(db):
        # Rows as bytes: what is no text must not end up in Python's error about it.
        db.text_factory = bytes
        db.execute("PRAGMA trusted_schema = OFF")
        if not thoroughly:
            db.execute("PRAGMA query_only = ON")
        damage, has_checksums, lacking = _examine(db, thoroughly=thoroughly)
        if damage and not has_checksums:
            # Without a checksum nothing tells what is whole.
            return Found(damage=damage)
        found = _read_rows(db, lacking, has_checksums=has_checksums)
        is_old = not has_checksums or bool(lacking)
        return replace(found, damage=damage or found.damage, is_old=is_old)


def _examine(db: sqlite3.Connection, *, thoroughly: bool) -> tuple[str, bool, frozenset[str]]:
    """(what is wrong with the whole, whether its rows have checksums, tables that are not yet)."""
    damage, has_checksums, lacking = "", False, set[str]()
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        schema = db.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        made = {sql.decode(errors="replace") for _, _, sql in schema if sql}
        if any(kind in {b"trigger", b"view"} for kind, _, _ in schema):
            damage = "it holds what no version of ya-salt puts there"
        if version == FORMAT and not made >= set(_SCHEMA):
            damage = "its tables are damaged"
        has_checksums = True
        for table, wanted in _COLUMNS.items():
            there = {row[1].decode() for row in db.execute(f"PRAGMA table_info({table})")}
            if not there and table in _LATER:
                lacking.add(table)
                continue
            has_checksums = has_checksums and "checksum" in there
            if not there >= set(wanted):
                damage = "it lacks tables"
        if thoroughly and not damage:
            verdicts = db.execute("PRAGMA integrity_check(1)").fetchone()
            damage = "" if verdicts == (b"ok",) else "its structure is damaged"
    except (sqlite3.DatabaseError, UnicodeDecodeError, AttributeError, TypeError) as error:
        _raise_weather(error)
        damage = "its structure is damaged"
    return damage, has_checksums, frozenset(lacking)


def _read_rows(db: sqlite3.Connection, lacking: frozenset[str], *, has_checksums: bool) -> Found:
    content, lost, damage = Content(), 0, ""
    for table, columns in _COLUMNS.items():
        if table in lacking:
            continue
        key = "id" if table in _NUMBERED else "name"
        names = ", ".join((key, *columns, *(("checksum",) if has_checksums else ())))
        try:
            for row in db.execute(f"SELECT {names} FROM {table} NOT INDEXED"):  # noqa: S608 - ours
                lost += not _take_row(content, table, row, has_checksums=has_checksums)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            _raise_weather(error)
            damage = "its structure is damaged"
    return Found(content, damage, lost)


def _take_row(content: Content, table: str, row: tuple[Any, ...], *, has_checksums: bool) -> bool:
    """Put a row into `content` if it is what was written."""
    try:
        key, *values = [item.decode() if isinstance(item, bytes) else item for item in row]
        if has_checksums and values.pop() != checksum(table, key, values):
            return False
        _put(content, table, key, values)
    except (ValueError, TypeError, RecursionError):
        return False
    return True


def _put(content: Content, table: str, key: Any, values: list[Any]) -> None:
    """Raises TypeError or ValueError where a row is none of ours, as one without a checksum may."""
    if table == "history":
        at, daemon, what = values
        if not (isinstance(at, float) and 0 <= at < 1e11) or not isinstance(daemon + what, str):
            raise TypeError
        content.history[int(key)] = Event(at, daemon, what)
        return
    if table == "author":
        (who,) = values
        # Of a line that an earlier version has dropped nobody is the author any more.
        if int(key) in content.history:
            content.history[int(key)] = content.history[int(key)]._replace(who=str(who))
        return
    name, data = values
    if table == "fact":
        # Of records each reader finds out.
        json.loads(data)
    if key != name:
        raise TypeError
    (content.records if table == "daemon" else content.facts)[name] = data


def checksum(table: str, key: object, values: Iterable[object]) -> str:
    """16 hex digits over a row, its key and its table: no row passes for another one."""
    row = (table, key, *values)
    # As json.dumps has a list of them, which takes three times as long to begin with.
    text = ", ".join(_QUOTE(item) if type(item) is str else json.dumps(item) for item in row)
    return hashlib.sha256(f"[{text}]".encode()).hexdigest()[:16]


# -- writing -----------------------------------------------------------------------------------


def create_file(path: Path, content: Content, *, keep_old: bool) -> Path | None:
    """Put a new file with this content into the place of whatever was there: whole, or not at all.

    With `keep_old` that is set aside; the name that it has now. Raises WeatherError, OSError.
    """
    draft = path.with_name(f".{path.name}.new")
    for stale in (draft, _journal(draft)):
        stale.unlink(missing_ok=True)
    try:
        # Specs may hold what is not for everybody's eyes: the file is root's from its first byte.
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o600))
        with _connected(draft) as db, closing(db), db:
            # Else each statement goes to the disk for itself.
            db.execute("BEGIN")
            for statement in _SCHEMA:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {FORMAT}")
            _write_rows(db, Content(), content)
        aside = _set_aside(path) if keep_old and os.path.lexists(path) else None
        # What was begun in the old file must not be ended in the new one.
        _journal(path).unlink(missing_ok=True)
        draft.replace(path)
    except BaseException:
        for stale in (draft, _journal(draft)):
            stale.unlink(missing_ok=True)
        raise
    return aside


def update_file(path: Path, old: Content, new: Content) -> None:
    """Write what is new. Raises WeatherError; sqlite3.Error where the file is damaged."""
    with _connected(path) as db, closing(db), db:
        _write_rows(db, old, new)


def _write_rows(db: sqlite3.Connection, old: Content, new: Content) -> None:
    # Of a thousand lines few are new, which is seen sooner than what each has in which table.
    dropped, added = _pick_changed(old.history, new.history)
    parts: tuple[tuple[str, dict[Any, Any], dict[Any, Any]], ...] = (
        ("daemon", old.records, new.records),
        ("fact", old.facts, new.facts),
        ("history", _list_lines(dropped), _list_lines(added)),
        ("author", _list_authors(dropped), _list_authors(added)),
    )
    for table, was, now in parts:
        key = "id" if table in _NUMBERED else "name"
        columns = _COLUMNS[table]
        rows = []
        for name, value in now.items():
            if was.get(name) != value:
                values = [*value] if isinstance(value, tuple) else [name, value]
                rows.append(_make_row(table, name, values))
        names = (*(("id",) if table in _NUMBERED else ()), *columns, "checksum")
        marks = ", ".join("?" * len(names))
        gone = [(name,) for name in was if name not in now]
        # A statement for no row is read all the same.
        if gone:
            db.executemany(f"DELETE FROM {table} WHERE {key} = ?", gone)  # noqa: S608 - names are ours
        if rows:
            db.executemany(f"REPLACE INTO {table} ({', '.join(names)}) VALUES ({marks})", rows)  # noqa: S608


def _pick_changed(
    old: dict[int, Event], new: dict[int, Event]
) -> tuple[dict[int, Event], dict[int, Event]]:
    """Of both what is not the same in both."""
    return (
        {key: event for key, event in old.items() if new.get(key) != event},
        {key: event for key, event in new.items() if old.get(key) != event},
    )


def _make_row(table: str, key: object, values: list[object]) -> tuple[object, ...]:
    own = (key,) if table in _NUMBERED else ()
    return (*own, *values, checksum(table, key, values))


def _list_lines(events: dict[int, Event]) -> dict[int, tuple[float, str, str]]:
    return {key: (item.at, item.name, item.what) for key, item in events.items()}


def _list_authors(events: dict[int, Event]) -> dict[int, tuple[str]]:
    return {key: (item.who,) for key, item in events.items() if item.who}


def _set_aside(path: Path) -> Path:
    """Give an unusable file another name; the newest few are kept."""
    aside = path.with_name(f"{path.name}.unusable-{time.time_ns() // 10**6}")
    journal = _journal(path)
    if journal.exists():
        journal.rename(_journal(aside))
    path.rename(aside)
    import shutil

    older = sorted(path.parent.glob(f"{path.name}.unusable-*[0-9]"), reverse=True)[_KEPT_ASIDE:]
    for old in older:
        for file in (old, _journal(old)):
            if file.is_dir():
                shutil.rmtree(file, ignore_errors=True)
            else:
                file.unlink(missing_ok=True)
    return aside


# -- pieces ------------------------------------------------------------------------------------


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=10)
        # NORMAL may lose the last pass at a power cut; the next pass finds it all out again.
        db.execute("PRAGMA synchronous = NORMAL")
        yield db
    except sqlite3.Error as error:
        _raise_weather(error)
        raise
    except UnicodeDecodeError:
        # SQLite quotes what it stumbles over, which need not be text; not chained: that shows it.
        raise sqlite3.DatabaseError("it holds what is no text") from None


_WEATHER = (
    "database is locked",
    "database or disk is full",
    "disk I/O error",
    "attempt to write a readonly database",
    "unable to open database file",
    "out of memory",
)


def _raise_weather(error: Exception) -> None:
    """Raise WeatherError where the error says nothing about the file itself."""
    if str(error) in _WEATHER:
        raise WeatherError(str(error)) from error
