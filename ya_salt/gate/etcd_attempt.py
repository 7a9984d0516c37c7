"""Whether one request may still be sent, and whether it has been: agreed on by two threads."""

from __future__ import annotations

import threading
from types import TracebackType

_of_thread = threading.local()


class AbandonedError(OSError):
    """Time was over before anything was sent, so nothing is."""


class Attempt:
    """A context manager for the thread that sends; the other one calls `abandon`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_over = False
        self.is_sent = False
        """That it may have been, at least in part."""

    def __enter__(self) -> Attempt:
        _of_thread.attempt = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        _of_thread.attempt = None

    def abandon(self) -> bool:
        """Whether it may have been sent; from here on, where it has not been, it never is."""
        with self._lock:
            self._is_over = True
            return self.is_sent

    def begin(self) -> None:
        """Called when somebody listens and right before the first byte."""
        with self._lock:
            if self._is_over:
                raise AbandonedError("there was no time left to send anything")
            self.is_sent = True


def begin_sending() -> None:
    """`begin` of this thread's attempt. Raises AbandonedError."""
    attempt: Attempt | None = getattr(_of_thread, "attempt", None)
    if attempt is not None:
        attempt.begin()
