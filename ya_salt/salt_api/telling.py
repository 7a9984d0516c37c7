"""Tell of a pass under way: in the minion's log, and in ya-salt's own."""

from __future__ import annotations

import logging
import logging.handlers
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ya_salt.cli.logs import make_formatter

_PROGRESS_EVERY_S = 5.0

_log = logging.getLogger("ya_salt.salt")


class Narrator:
    """Progress of a pass as lines of the minion's log, every few seconds while one thing lasts."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._last = ("", float("-inf"))

    def __call__(self, text: str) -> None:
        what, said = self._last
        topic = text.partition(":")[0]
        if topic == what and self._now() - said < _PROGRESS_EVERY_S:
            return
        self._last = (topic, self._now())
        _log.info("%s", text)


@contextmanager
def log_to(path: str) -> Iterator[None]:
    """Write ya-salt's own log as well, as the command does; Salt's handlers go on as they are."""
    root = logging.getLogger("ya_salt")
    level = root.level
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.WatchedFileHandler(path, encoding="utf-8")
    except OSError as error:
        _log.warning("cannot write the log %s: %s", path, error.strerror)
        yield
        return
    handler.setFormatter(make_formatter())
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
