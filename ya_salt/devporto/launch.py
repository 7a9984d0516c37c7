"""Turn a freshly forked process into a container's main process. Standard library only.

The order is portod's own: streams of its choosing, limits, session, directory, credentials, streams
of the user's choosing, umask, environment, words of the command, exec.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from pathlib import Path
from typing import Any, NoReturn

from ya_salt.devporto.syscalls import WordExpError, die_with_parent, split_words

Spec = dict[str, Any]
"""What the server sends: see `ya_salt.devporto.spawning.make_spec`."""


class LaunchError(Exception):
    """The command was not started. `code` is the name of an EError."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def launch(spec: Spec) -> NoReturn:
    """Never returns. Raises LaunchError, or OSError for what has no code of its own."""
    for stream in range(3):
        _open_stream(stream, spec, inside=False)
    _apply_limits(spec["ulimits"])
    os.setsid()
    os.umask(0)
    _enter_directory(spec["cwd"])
    _write_oom_score(spec["oom_score_adj"])
    if spec["credentials"] is not None:
        _become(*spec["credentials"])
    for stream in range(3):
        _open_stream(stream, spec, inside=True)
    os.umask(spec["umask"])
    # After the change of user: that clears the request.
    die_with_parent(signal.SIGKILL)
    _reset_signals()
    os.environ.clear()
    os.environ.update(spec["env"])
    _execute(_find_words(spec), spec["sysroot"])


def _open_stream(stream: int, spec: Spec, *, inside: bool) -> None:
    path, is_inside = spec["streams"][stream]
    if is_inside != inside:
        return
    try:
        fd = _open(stream, path, spec["stream_owner"])
    except OSError as error:
        raise LaunchError("InvalidValue", f"open {path}: {error.strerror}") from error
    if fd != stream:
        os.dup2(fd, stream)
        os.close(fd)
    else:
        os.set_inheritable(fd, True)


def _open(stream: int, path: str, owner: tuple[int, int] | None) -> int:
    if stream == 0:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        os.set_blocking(fd, True)
        return fd
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOCTTY
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o660)
    if owner is not None:
        with contextlib.suppress(PermissionError):  # created by the user itself
            os.fchown(fd, *owner)
    return fd


def _apply_limits(ulimits: list[tuple[str, int, int]]) -> None:
    for name, soft, hard in ulimits:
        kind = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if kind is None:
            continue
        limits = tuple(resource.RLIM_INFINITY if n >= 2**64 - 1 else n for n in (soft, hard))
        # Raising a hard limit takes root; a development server goes on without.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (limits[0], limits[1]))


def _enter_directory(cwd: str) -> None:
    try:
        os.chdir(cwd)
    except OSError as error:
        raise LaunchError("InvalidPath", f"chdir {cwd}: {error.strerror}") from error


def _write_oom_score(value: int) -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(value), encoding="ascii")


def _become(uid: int, gid: int, groups: list[int]) -> None:
    os.setgid(gid)
    os.setgroups(groups)
    os.setuid(uid)


def _reset_signals() -> None:
    for sig in signal.valid_signals():
        with contextlib.suppress(OSError, ValueError):
            signal.signal(sig, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _find_words(spec: Spec) -> list[bytes]:
    if spec["argv"] is not None:
        words = [os.fsencode(word) for word in spec["argv"]]
    else:
        try:
            words = split_words(spec["command"])
        except WordExpError as error:
            raise LaunchError("InvalidCommand", f"wordexp(): {error}") from error
    if not words:
        raise LaunchError("InvalidCommand", "nothing to execute")
    return words


def _execute(words: list[bytes], sysroot: str | None) -> NoReturn:
    worst = errno.ENOENT
    for path in _list_candidates(words[0], os.fsencode(sysroot or "")):
        try:
            os.execve(path, words, os.environb)  # noqa: S606 - this is the command itself
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                # As execvp(3): a text without #! is a script of the shell.
                os.execve(b"/bin/sh", [b"/bin/sh", path, *words[1:]], os.environb)  # noqa: S606
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                worst = error.errno or worst
    raise _describe_failure(worst, words[0])


def _describe_failure(number: int, program: bytes) -> LaunchError:
    code = "ResourceNotAvailable" if number == errno.EAGAIN else "InvalidCommand"
    return LaunchError(code, f"{os.strerror(number)}: cannot exec {os.fsdecode(program)}")


def _list_candidates(program: bytes, sysroot: bytes) -> list[bytes]:
    if not program:
        return []
    if b"/" in program:
        paths = [program]
    else:
        directories = os.environb.get(b"PATH", b"/bin:/usr/bin").split(b":")
        paths = [os.path.join(directory or b".", program) for directory in directories]  # noqa: PTH118
    if not sysroot:
        return paths
    return [one for path in paths for one in _prefer_sysroot(path, sysroot)]


def _prefer_sysroot(path: bytes, sysroot: bytes) -> list[bytes]:
    return [sysroot + path, path] if path.startswith(b"/") else [path]
