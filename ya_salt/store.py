"""Keep what must outlive a pass: last applied specs, status, counters, a bounded history.

SQLite in the state directory. Nothing here decides anything that cannot be found out again from the
spec files, the containers' labels and dpkg, so a store that is lost or corrupt is set aside and
begun anew; it never causes a removal.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ya_salt.errors import StoreError
from ya_salt.model import Condition, DaemonSpec, DaemonStatus, GateStanding, Package, Record

FILE_NAME = "store.sqlite3"
HISTORY_LIMIT = 1000
"""Lines of history kept for the whole host; the oldest go first."""

LAST_PASS = "last_pass"  # noqa: S105 - a pass over the host, no password
"""The fact with the last pass's times, result, rejected and ignored files."""

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE daemon (name TEXT PRIMARY KEY, data TEXT NOT NULL);
CREATE TABLE fact (name TEXT PRIMARY KEY, data TEXT NOT NULL);
CREATE TABLE history (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, daemon TEXT NOT NULL, what TEXT NOT NULL
);
"""

_log = logging.getLogger("ya_salt.store")


class Store:
    """The open store. `rebuilt` is true where there was none, or none that could be used."""

    def __init__(self, connection: sqlite3.Connection, rebuilt: bool) -> None:
        self._db = connection
        self.rebuilt = rebuilt

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside become true together, or not at all."""
        try:
            with self._db:
                yield
        except sqlite3.Error as error:
            raise StoreError(f"cannot write the store: {error}; is the disk full?") from error

    # -- daemons -------------------------------------------------------------------------------

    def load_records(self) -> dict[str, Record]:
        """Every daemon that we know, by name."""
        rows = self._db.execute("SELECT data FROM daemon ORDER BY name")
        records = (_decode_record(json.loads(data)) for (data,) in rows)
        return {record.name: record for record in records}

    def save_records(self, records: Iterable[Record]) -> None:
        self._db.executemany(
            "INSERT INTO daemon (name, data) VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET data = excluded.data",
            [(record.name, _encode(_encode_record(record))) for record in records],
        )

    def forget(self, names: Iterable[str]) -> None:
        self._db.executemany("DELETE FROM daemon WHERE name = ?", [(name,) for name in names])

    # -- facts about the host as a whole -------------------------------------------------------

    def load_fact(self, name: str) -> Any:
        """What `save_fact` was given under this name (JSON data), or None."""
        row = self._db.execute("SELECT data FROM fact WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def save_fact(self, name: str, data: object) -> None:
        self._db.execute(
            "INSERT INTO fact (name, data) VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET data = excluded.data",
            (name, _encode(data)),
        )

    # -- history -------------------------------------------------------------------------------

    def add_history(self, events: Sequence[tuple[float, str, str]]) -> None:
        """Append (seconds since 1970, daemon, sentence)."""
        if not events:
            return
        self._db.executemany("INSERT INTO history (at, daemon, what) VALUES (?, ?, ?)", events)
        self._db.execute(
            "DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?", (HISTORY_LIMIT,)
        )

    def load_history(self, daemon: str = "", limit: int = 100) -> list[tuple[float, str, str]]:
        """The newest events, oldest first."""
        rows = self._db.execute(
            "SELECT at, daemon, what FROM history WHERE ? IN ('', daemon) ORDER BY id DESC LIMIT ?",
            (daemon, limit),
        ).fetchall()
        return [(at, name, what) for at, name, what in reversed(rows)]

    def load_last_causes(self) -> dict[str, tuple[float, str]]:
        """Daemon -> the newest event that was more than its becoming ready: (time, sentence)."""
        rows = self._db.execute(
            "SELECT daemon, at, what FROM history WHERE id IN "
            "(SELECT max(id) FROM history WHERE what NOT LIKE 'ready (%' GROUP BY daemon)"
        )
        return {name: (at, what) for name, at, what in rows}


def open_store(state_dir: str) -> Store:
    """Open the store for writing, making it where there is none that can be used.

    Raises StoreError where the directory cannot be written.
    """
    path = Path(state_dir) / FILE_NAME
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            return _create(path)
        try:
            return _open(path)
        except _UnusableError as error:
            _set_aside(path, error)
            return _create(path)
    except (OSError, sqlite3.OperationalError) as error:
        raise StoreError(f"cannot use {path}: {error}; run as root, or give --state-dir") from error


def read_store(state_dir: str) -> Store | None:
    """Open the store for reading only; None where no pass has made one yet.

    Raises StoreError where it cannot be read.
    """
    path = Path(state_dir) / FILE_NAME
    try:
        path.stat()
        return _open(path, mode="ro")
    except FileNotFoundError:
        return None
    except _UnusableError as error:
        raise StoreError(f"{path} cannot be used: {error}; the next pass begins it anew") from error
    except (OSError, sqlite3.DatabaseError) as error:
        raise StoreError(
            f"cannot read {path}: {error}; run as root, or give --state-dir"
        ) from error


class _UnusableError(Exception):
    """It is there and can be read, but it is no store of ours."""


def _create(path: Path) -> Store:
    # Specs may hold what is not for everybody's eyes: the file is root's from its first byte.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600))
    db = _connect(path, "rw")
    _tune(db)
    db.executescript(f"{_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION};")
    return Store(db, rebuilt=True)


def _open(path: Path, mode: str = "rw") -> Store:
    """Raises _UnusableError where the file is corrupt or in another format."""
    db = _connect(path, mode)
    try:
        _tune(db)
        _check(db)
    except (sqlite3.OperationalError, _UnusableError):
        db.close()
        raise
    except (sqlite3.DatabaseError, ValueError, TypeError, KeyError) as error:
        db.close()
        raise _UnusableError(str(error)) from error
    return Store(db, rebuilt=False)


def _check(db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version != _SCHEMA_VERSION:
        raise _UnusableError(f"its format is {version}, this program's is {_SCHEMA_VERSION}")
    (verdict,) = db.execute("PRAGMA quick_check").fetchone()
    if verdict != "ok":
        raise _UnusableError(verdict)
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"daemon", "fact", "history"} <= tables:
        raise _UnusableError("it lacks tables")
    store = Store(db, rebuilt=False)
    store.load_records()
    store.load_fact(LAST_PASS)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=10, check_same_thread=False
    )


def _tune(db: sqlite3.Connection) -> None:
    # NORMAL may lose the last pass at a power cut; the next pass finds it all out again.
    db.execute("PRAGMA synchronous = NORMAL")


def _set_aside(path: Path, error: Exception) -> None:
    aside = path.with_name(f"{path.name}.unusable-{int(time.time())}")
    path.rename(aside)
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
    _log.error(
        "the store cannot be used (%s): set aside as %s, begun anew from files, labels and dpkg",
        error,
        aside,
    )


def _encode_record(record: Record) -> dict[str, Any]:
    # Mappings of the model may be read-only proxies, which asdict cannot copy.
    spec = record.spec
    data = dataclasses.asdict(dataclasses.replace(record, spec=None))
    if spec is not None:
        plain = dataclasses.replace(
            spec, properties=mask_secrets(spec.properties), annotations=dict(spec.annotations)
        )
        data["spec"] = dataclasses.asdict(plain)
    return data


def mask_secrets(properties: Mapping[str, str]) -> dict[str, str]:
    """The same properties with the values of secret environment variables left out."""
    return {
        name: "***" if name.startswith("env_secret") else text for name, text in properties.items()
    }


def _encode(data: object) -> str:
    return json.dumps(data, separators=(",", ":"), sort_keys=True)


def _decode_record(data: dict[str, Any]) -> Record:
    spec, status = data.pop("spec", None), data.pop("status", None)
    data["package_names"] = tuple(data.get("package_names", ()))
    return Record(
        **data,
        spec=_decode_spec(spec) if spec else None,
        status=_decode_status(status) if status else None,
    )


def _decode_spec(data: dict[str, Any]) -> DaemonSpec:
    packages = tuple(Package(**item) for item in data.pop("packages"))
    return DaemonSpec(**data, packages=packages)


def _decode_status(data: dict[str, Any]) -> DaemonStatus:
    for name in ("installed", "running", "ready"):
        data[name] = Condition(**data[name]) if data.get(name) else None
    data["gate"] = GateStanding(**data["gate"]) if data.get("gate") else None
    data["packages"] = tuple(tuple(item) for item in data.get("packages", ()))
    for name in ("warnings", "actions"):
        data[name] = tuple(data.get(name, ()))
    return DaemonStatus(**data)
