"""Progress for a person who looks: one line on the terminal that is written over, else nothing."""

from __future__ import annotations

import shutil
from types import TracebackType
from typing import TextIO


class ProgressLine:
    """Call it with a sentence; leaving the `with` block clears the line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_watched = stream.isatty()
        self._is_dirty = False

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._is_dirty:
            self._write("")

    def __call__(self, text: str) -> None:
        if self._is_watched:
            self._write(text)
            self._is_dirty = True

    def _write(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        shown = " ".join(text.split())[:width]
        self._stream.write(f"\r\x1b[K{shown}")
        self._stream.flush()
