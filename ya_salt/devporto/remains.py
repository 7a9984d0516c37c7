"""What a run leaves behind: its directory, its exit status."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ya_salt.devporto.container import Container
from ya_salt.devporto.refusal import Refusal
from ya_salt.devporto.streams import remove_streams
from ya_salt.proto import porto_pb2 as pb

_SIGRTMIN = 34


def translate_status(status: int) -> int:
    """Turn 128 + signal into that signal: portod's init cannot die like its child, so it exits so.

    The same happens to a command that exits with such a code by itself.
    """
    code = status >> 8
    if status & 0xFF or not 128 < code < 128 + 2 * _SIGRTMIN:
        return status
    return code - (_SIGRTMIN if code > 128 + _SIGRTMIN else 128)


def make_workdir(container: Container) -> None:
    """Make a private directory for a run. Raises Refusal."""
    path = Path(container.workdir)
    shutil.rmtree(path, ignore_errors=True)
    try:
        path.mkdir(parents=True)
        path.chmod(0o775)
        if os.geteuid() == 0:
            os.chown(path, container.task.uid, container.task.gid)
    except OSError as error:
        raise Refusal(pb.Unknown, f"working directory: {error}") from error


def remove_workdir(container: Container) -> None:
    """Forget captured streams and the private directory."""
    remove_streams(container)
    shutil.rmtree(container.workdir, ignore_errors=True)
