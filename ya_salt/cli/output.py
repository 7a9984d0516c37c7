"""What is shown: to people on a terminal, to programs as JSON and YAML, to nobody if need be.

Nothing here raises because nobody listens. A stream that cannot be written is remembered, and at
the end one word about it goes to stderr, if that is there.
"""

from __future__ import annotations

import errno
import io
import json
import os
import select
import signal
import sys
import time

from ya_salt.text import escape, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, TextIO

    from ya_salt.cli.lines import Paint

# -- the streams of the process ------------------------------------------------------------------


class Unfeeling(io.RawIOBase):
    """A descriptor to write to, which takes everything; `error` is why it ceased to pass it on."""

    def __init__(self, fd: int, error: OSError | None = None) -> None:
        super().__init__()
        self._fd = fd
        self.error = error

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return self.error is None and os.isatty(self._fd)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """All of it, or nothing more from here on."""
        try:
            if self.error is None:
                self._pass_on(memoryview(data))
        except OSError as error:
            self.error = error
        return len(data)

    def _pass_on(self, left: memoryview) -> None:
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:
                # Somebody who shares the descriptor made it non-blocking.
                select.select([], [self._fd], [])


def own_streams() -> None:
    """Make 0, 1 and 2 of this process usable whatever became of them, and never raise on writing.

    Those that are closed become /dev/null, so that no file opened later gets their number and then
    what was meant for a person. Characters that the locale lacks are written as escapes.
    """
    for fd in (0, 1, 2):
        error = _claim(fd)
        if fd == 0:
            sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - a descriptor
        elif fd == 1:
            sys.stdout = _wrap(fd, error, sys.stdout)
        else:
            sys.stderr = _wrap(fd, error, sys.stderr)


def _claim(fd: int) -> OSError | None:
    """Put /dev/null where a descriptor is closed, and give the error that told so."""
    try:
        os.fstat(fd)
    except OSError as error:
        null = os.open(os.devnull, os.O_RDWR)
        if null == fd:
            os.set_inheritable(fd, True)
        else:
            os.dup2(null, fd)
            os.close(null)
        return OSError(error.errno, "it is closed")
    return None


def _wrap(fd: int, error: OSError | None, old: TextIO | None) -> io.TextIOWrapper:
    raw = Unfeeling(fd, error)
    return io.TextIOWrapper(
        # It has all that BufferedWriter asks for.
        io.BufferedWriter(raw),
        encoding=old.encoding if old else None,
        errors="backslashreplace",
        line_buffering=fd == 2 or raw.isatty(),
    )


def find_break(stream: TextIO) -> OSError | None:
    """Why nothing written to the stream arrives any more; None where it does, for all we know."""
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", None)
    if not isinstance(raw, Unfeeling):
        return None
    stream.flush()
    return raw.error


def end_streams(program: str, *, is_deed: bool) -> bool:
    """Flush, and say on stderr if stdout did not take what was written. Whether it took it.

    Whoever reads the first lines only (head, less) needs no word, but after a deed.
    """
    if callable(signal.getsignal(signal.SIGHUP)):
        # Python takes our handler away before the process is gone.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    error = find_break(sys.stdout)
    if error is not None and (is_deed or error.errno != errno.EPIPE):
        done = "; what was done is done" if is_deed else ""
        complain(f"{program}: stdout: {error.strerror}: the answer was not shown whole{done}")
    find_break(sys.stderr)
    return error is None or error.errno == errno.EPIPE


def outlive_terminal() -> None:
    """From here on neither a hang-up nor a background terminal stops this process."""
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        # A handler, as what is ignored would be ignored by programs that we start, too.
        signal.signal(signal.SIGHUP, lambda _number, _frame: None)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)


# -- words ---------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Lines for stdout; what could steer a terminal is written out."""
    sys.stdout.write(_clean(text) + "\n")


def complain(text: str) -> None:
    """Lines for stderr, in the same way; what stdout has so far goes before them."""
    sys.stdout.flush()
    sys.stderr.write(_clean(text) + "\n")
    sys.stderr.flush()


def _clean(text: str) -> str:
    return "\n".join(escape(line) for line in text.split("\n"))


def say_painted(text: str) -> None:
    """A line for stdout as it is: its parts were cleaned before we put colours around them."""
    sys.stdout.write(text + "\n")


def answer(form: str, table: Callable[[], str], data: Callable[[], object]) -> None:
    """`form` is table, json or yaml."""
    if form == "table":
        say(table())
    else:
        say_painted(render_data(data(), form, sys.stdout.encoding or "ascii"))


def render_data(data: object, form: str, encoding: str = "utf-8") -> str:
    """`form` is json or yaml. What cannot be printed, or not in `encoding`, is written as escapes.

    So a program reads the same whatever the locale is, and a terminal is not steered.
    """
    return _render_json(data, encoding) if form == "json" else _render_yaml(data, encoding)


def _render_json(data: object, encoding: str) -> str:
    text = json.dumps(data, indent=2, ensure_ascii=False)
    if not _is_encodable(text, encoding):
        text = json.dumps(data, indent=2)
    # Outside of strings nothing but line ends is unprintable.
    return "\n".join(
        line if line.isprintable() else "".join(map(_escape_in_json, line))
        for line in text.split("\n")
    )


def _escape_in_json(char: str) -> str:
    if char.isprintable():
        return char
    return json.dumps(char)[1:-1] if char > "\x7f" else f"\\u{ord(char):04x}"


def _render_yaml(data: object, encoding: str) -> str:
    # Loaded where it is used: it takes a while.
    import yaml

    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    if not (_is_encodable(text, encoding) and text.replace("\n", "").isprintable()):
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=False)
    return text.rstrip()


def _is_encodable(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


# -- a terminal ----------------------------------------------------------------------------------


_color = "auto"


def choose_color(color: str) -> None:
    """For the rest of the process: auto, always or never."""
    global _color  # noqa: PLW0603 - a process has one stdout
    _color = color


def find_paint(paint: Paint, plain: Paint) -> tuple[Paint, int]:
    """How to paint for stdout, and how wide it is: a width only on a terminal."""
    width = _find_width() if sys.stdout.isatty() else 0
    return paint if _is_painted() else plain, width


def _find_width() -> int:
    import shutil

    return shutil.get_terminal_size().columns


def _is_painted() -> bool:
    if _color != "auto":
        return _color == "always"
    # no-color.org: set to anything but nothing.
    is_off = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not is_off


def watch(show_once: Callable[[], int], every_s: float) -> int:
    """Show again and again until Ctrl-C, or nobody looks; on a terminal in the same place."""
    if every_s <= 0:
        from ya_salt.errors import UsageError

        raise UsageError("--watch wants a number of seconds over 0")
    code = 0
    try:
        while find_break(sys.stdout) is None:
            if sys.stdout.isatty():
                # Home, and clear from there on: flickers less than an empty screen.
                sys.stdout.write("\x1b[H\x1b[J")
            code = show_once()
            sys.stdout.flush()
            time.sleep(every_s)
    except KeyboardInterrupt:
        pass
    return code


class ProgressLine:
    """Call it with a sentence; leaving the `with` block clears the line. Waits for no reader."""

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
        if self._is_watched and self._is_taken():
            self._write(text)
            self._is_dirty = True

    def _is_taken(self) -> bool:
        """Whether the terminal takes more: one that was stopped (Ctrl-S) would hold us up."""
        poll = select.poll()
        poll.register(self._stream.fileno(), select.POLLOUT)
        return bool(poll.poll(0))

    def _write(self, text: str) -> None:
        width = _find_width() - 1
        self._stream.write(f"\r\x1b[K{printable(text, max(0, width))}")
        self._stream.flush()
