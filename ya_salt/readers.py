"""Who may read what passes have left, beside root: the members of one group."""

from __future__ import annotations

import grp
import logging
import os
import stat
from collections.abc import Iterable

_DIRECTORY_MODE = 0o2750
"""New files get its group; which of them it may read is in the mode of each."""
_FILE_MODE = 0o640
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_log = logging.getLogger("ya_salt.readers")


def share(state_dir: str, files: Iterable[str], group: str) -> None:
    """Let a group list the state directory and read these files of it, and nobody else.

    Where there is no such group, or "" is asked for, what another one was given is taken back.
    Only root can; nothing is raised, as no pass may fail for who reads.
    """
    if os.geteuid() != 0:
        return
    try:
        gid = grp.getgrnam(group).gr_gid if group else 0
    except KeyError:
        gid = 0
    try:
        folder = os.open(state_dir, _FLAGS | os.O_DIRECTORY)
        try:
            if gid or os.fstat(folder).st_mode & stat.S_ISGID:
                _give(folder, gid, _DIRECTORY_MODE if gid else 0o700)
                for name in files:
                    _share_file(folder, name, gid)
        finally:
            os.close(folder)
    except OSError as error:
        _log.warning("%s stays root's alone: %s", state_dir, error.strerror)


def _share_file(folder: int, name: str, gid: int) -> None:
    try:
        file = os.open(name, _FLAGS, dir_fd=folder)
    except FileNotFoundError:
        return
    try:
        if stat.S_ISREG(os.fstat(file).st_mode):
            _give(file, gid, _FILE_MODE if gid else 0o600)
    finally:
        os.close(file)


def _give(file: int, gid: int, mode: int) -> None:
    """Only where it is not so yet: who watches a file's times sees no change."""
    found = os.fstat(file)
    if found.st_gid != gid:
        os.fchown(file, -1, gid)
    if stat.S_IMODE(found.st_mode) != mode:
        os.fchmod(file, mode)
