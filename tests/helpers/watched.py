"""etcd's own history: every change of every key, in order, as its watch tells it.

It shares no code with what it is to judge.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_ALL_KEYS = base64.b64encode(b"\0").decode()
"""As first and last key: every key that there is."""
_SILENCE_S = 5.0
"""Who says nothing for this long is left for another; it may be dead or apart from the others."""


@dataclass(frozen=True)
class Event:
    """One key written, or deleted (`value` is then None)."""

    revision: int
    key: str
    value: str | None
    lease: int
    arrived_at: float
    """Seconds since 1970, not before it was so."""


class Watcher:
    """A context manager: collects from then on, over whichever member answers, and misses nothing.

    What a member has not told when it dies another one tells, from the revision after the last.
    """

    def __init__(self, endpoints: Sequence[str]) -> None:
        self._addresses = [urlsplit(url).netloc for url in endpoints]
        self._events: list[Event] = []
        self._seen = 0
        """The last revision of which all is known."""
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watcher:
        self.first_revision = self._seen = self._mark("begin")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(2 * _SILENCE_S)

    def read(self, within_s: float = 30.0) -> list[Event]:
        """All that has happened until now. Raises TimeoutError."""
        until = self._mark("until")
        with self._changed:
            if not self._changed.wait_for(lambda: self._seen >= until, within_s):
                raise TimeoutError(f"etcd's watch is at {self._seen}, not at {until}")
            return list(self._events)

    def list_present(self, prefix: str, revision: int) -> dict[str, str]:
        """The keys and values below `prefix` as etcd has them at that revision: what a replay of
        the history up to there has to give, too."""
        last = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        wanted = {"key": _encode(prefix), "range_end": _encode(last), "revision": revision}
        found = self._post("/v3/kv/range", wanted).get("kvs", [])
        return {_decode(item["key"]): _decode(item.get("value", "")) for item in found}

    def _mark(self, name: str) -> int:
        """The revision of a change of our own."""
        put = {"key": _encode(f"watched/{name}"), "value": _encode(str(time.time()))}
        return int(self._post("/v3/kv/put", put)["header"]["revision"])

    # -- the wire ------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._over.is_set():
            for address in self._addresses:
                try:
                    self._watch_one(address)
                except (OSError, http.client.HTTPException, ValueError, KeyError):
                    self._over.wait(0.05)
                if self._over.is_set():
                    return

    def _watch_one(self, address: str) -> None:
        connection = http.client.HTTPConnection(address, timeout=_SILENCE_S)
        wanted = {
            "key": _ALL_KEYS,
            "range_end": _ALL_KEYS,
            "start_revision": self._seen + 1,
        }
        try:
            connection.request("POST", "/v3/watch", json.dumps({"create_request": wanted}))
            self._socket = connection.sock
            answer = connection.getresponse()
            while not self._over.is_set():
                line = answer.readline()
                if not line:
                    return
                self._take(json.loads(line)["result"], time.time())
        finally:
            connection.close()

    def _take(self, result: dict[str, Any], arrived_at: float) -> None:
        if result.get("canceled"):
            raise ValueError(result.get("cancel_reason", "the watch was cancelled"))
        found = [_parse(item, arrived_at) for item in result.get("events", [])]
        with self._changed:
            # etcd sends all changes of one revision in one piece, if not asked to do otherwise.
            fresh = [event for event in found if event.revision > self._seen]
            self._events += fresh
            self._seen = max((event.revision for event in fresh), default=self._seen)
            self._changed.notify_all()

    def _post(self, path: str, payload: object) -> dict[str, Any]:
        give_up = time.monotonic() + 30
        while True:
            for address in self._addresses:
                connection = http.client.HTTPConnection(address, timeout=_SILENCE_S)
                try:
                    connection.request("POST", path, json.dumps(payload))
                    answer = connection.getresponse()
                    data = json.loads(answer.read())
                    if answer.status == 200:
                        return dict(data)
                except (OSError, http.client.HTTPException, ValueError):
                    pass
                finally:
                    connection.close()
            if time.monotonic() > give_up:
                raise TimeoutError(f"nobody answers {path}")
            time.sleep(0.1)


def _parse(item: dict[str, Any], arrived_at: float) -> Event:
    pair = item["kv"]
    is_deleted = item.get("type") == "DELETE"
    return Event(
        revision=int(pair["mod_revision"]),
        key=_decode(pair["key"]),
        value=None if is_deleted else _decode(pair.get("value", "")),
        lease=int(pair.get("lease", 0)),
        arrived_at=arrived_at,
    )


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decode(text: str) -> str:
    return base64.b64decode(text).decode()
