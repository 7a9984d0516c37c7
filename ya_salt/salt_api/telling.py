"""Tell of a pass under way: in the minion's log, and in ya-salt's own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ya_salt.cli.logs import LogFile

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
    handler = LogFile(path)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
        if handler.problem:
            _log.warning("%s", handler.problem)
