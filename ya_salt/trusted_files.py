"""Open files that decide what runs as root: nobody else may have written them, or change them now.

What is checked is what was opened, step by step from `/`: a link is followed only where root or the
user of the pass made it, and a directory that others can write only where it is sticky, as /tmp is.
"""

from __future__ import annotations

import errno
import os
import shlex
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ya_salt.errors import OperatorError
from ya_salt.processes import read_peer

_MAX_LINKS = 40
_OPEN = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW
_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class UntrustedError(OperatorError):
    """Somebody else owns it or can write it; the text names it and the remedy."""


def find_problem(
    found: os.stat_result, path: str, uid: int | None = None, *, owner_only: bool = False
) -> str:
    """How a file or directory is too open, with the remedy, or "".

    It has to be root's or the running user's (`uid`), and, unless `owner_only`, writable by nobody
    else. A group counts as somebody else, but for an ordinary user's own.
    """
    me = os.geteuid() if uid is None else uid
    if found.st_uid not in {0, me}:
        who = "root" if me == 0 else f"user {me}"
        return (
            f"is owned by user {found.st_uid}, who could run anything as {who};"
            f" chown {'root' if me == 0 else me} {shlex.quote(path)}"
        )
    if owner_only:
        return ""
    writers = []
    if found.st_mode & stat.S_IWGRP and (me == 0 or found.st_gid != os.getegid()):
        writers.append("its group")
    if found.st_mode & stat.S_IWOTH:
        writers.append("everybody")
    if writers:
        return f"can be written by {' and '.join(writers)}; chmod go-w {shlex.quote(path)}"
    return ""


def open_trusted(path: str, flags: int = os.O_RDONLY, uid: int | None = None) -> int:
    """Open a file, or a directory, that is there. The caller closes it.

    Raises UntrustedError where it, or a directory on the way to it, is too open or it is neither a
    regular file nor a directory; OSError where it cannot be opened.
    """
    fd, problem = open_path(path, flags, uid)
    if problem:
        os.close(fd)
        raise UntrustedError(" ".join(problem))
    return fd


Problem = tuple[str, str]
"""(what is too open, how and the remedy); the two are a sentence."""


def open_path(
    path: str, flags: int = os.O_RDONLY, uid: int | None = None
) -> tuple[int, Problem | None]:
    """Open it and say what is too open on the way or at its end.

    Links are followed wherever they are. Raises OSError.
    """
    problems: list[Problem] = []
    with _walk(os.path.abspath(path), problems, uid) as (folder, name):  # noqa: PTH100
        fd = os.open(name, flags | _OPEN, dir_fd=folder)
    problems += _judge_end(fd, path, uid)
    return fd, problems[0] if problems else None


def open_inside(folder: int, name: str, path: str) -> int:
    """As `open_trusted` of a directory in one that is open and trusted; `path` is for its words."""
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | _OPEN, dir_fd=folder)
    for problem in _judge_end(fd, path, None):
        os.close(fd)
        raise UntrustedError(" ".join(problem))
    return fd


def _judge_end(fd: int, path: str, uid: int | None) -> list[Problem]:
    found, problems = os.fstat(fd), []
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        problems.append((path, "is neither a regular file nor a directory"))
    words = find_problem(found, path, uid)
    return [*problems, (path, words)] if words else problems


@contextmanager
def _walk(path: str, problems: list[Problem], uid: int | None) -> Iterator[tuple[int, str]]:
    """Lend the open directory in which the last step of a path without links is taken."""
    rest = [part for part in path.split("/") if part]
    folder = os.open("/", _STEP)
    here, links = "", 0
    try:
        _judge_folder(folder, "/", problems, uid)
        while len(rest) > 1 or (rest and _is_link(folder, rest[0])):
            name = rest.pop(0)
            step = os.open(name, _STEP, dir_fd=folder)
            found = os.fstat(step)
            if not stat.S_ISLNK(found.st_mode):
                os.close(folder)
                folder, here = step, _join(here, name)
                _judge_folder(folder, here, problems, uid)
                continue
            links += 1
            target = os.readlink(name, dir_fd=folder)
            os.close(step)
            _judge_link(found, f"{here}/{name}", problems, uid)
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            rest = [part for part in target.split("/") if part not in {"", "."}] + rest
            if target.startswith("/"):
                os.close(folder)
                folder, here = os.open("/", _STEP), ""
        yield folder, rest[0] if rest else "."
    finally:
        os.close(folder)


def _join(here: str, name: str) -> str:
    return here.rpartition("/")[0] if name == ".." else f"{here}/{name}"


def _is_link(folder: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _judge_folder(folder: int, path: str, problems: list[Problem], uid: int | None) -> None:
    found = os.fstat(folder)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    # In a sticky directory others may add entries but not replace ours, and each is looked at.
    is_sticky = bool(found.st_mode & stat.S_ISVTX)
    words = find_problem(found, path or "/", uid, owner_only=is_sticky)
    if words:
        problems.append((path or "/", words))


def _judge_link(found: os.stat_result, path: str, problems: list[Problem], uid: int | None) -> None:
    # A link's mode means nothing: whose it is does.
    words = find_problem(found, path, uid, owner_only=True)
    if words:
        problems.append((f"the link {path}", words))


def make_directory(path: str, mode: int, parents_mode: int = 0o755) -> None:
    """Make a directory and what leads to it, with these modes whatever the umask.

    What is there already stays as it is. Raises OSError.
    """
    target = Path(path)
    missing = [folder for folder in (target, *target.parents) if not folder.exists()]
    for folder in reversed(missing):
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        folder.chmod(mode if folder == target else parents_mode)
    if not target.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)


def find_peer_problem(connection: socket.socket) -> str:
    """Why whoever listens at the other end of a unix socket is not to be trusted, or "".

    It has to run as root or as the running user: anybody else could have put a socket there.
    """
    pid, uid = read_peer(connection)
    if uid in {0, os.geteuid()}:
        return ""
    return f"who listens there (pid {pid}) runs as user {uid}, not as root"


def explain(error: OSError) -> str:
    """A system error in words, without Python's numbers."""
    return error.strerror or str(error)
