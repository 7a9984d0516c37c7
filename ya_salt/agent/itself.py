"""Notice that ya-salt was upgraded, and execute the new one in place of this process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from types import MappingProxyType

_CHECK_S = 30.0

Signature = Mapping[str, tuple[int, int, int]]


def sign_files(known: Signature = MappingProxyType({})) -> Signature:
    """The files that this process was loaded from, and which they are: `known` as it is there."""
    found = {**known}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and path not in found and (name == "ya_salt" or name.startswith("ya_salt.")):
            with contextlib.suppress(OSError):
                one = os.stat(path)  # noqa: PTH116 - some fifty files, each time
                found[path] = (one.st_ino, one.st_size, one.st_mtime_ns)
    return found


def is_changed(before: Signature) -> bool:
    """Whether any of these files is another one now, or gone."""
    for path, was in before.items():
        try:
            one = os.stat(path)  # noqa: PTH116 - as above
        except OSError:
            return True
        if (one.st_ino, one.st_size, one.st_mtime_ns) != was:
            return True
    return False


def find_problem() -> str:
    """Why the ya-salt that is installed now cannot be started, or ""."""
    argv = [sys.executable, "-c", "import ya_salt.cli.main, ya_salt.agent.loop"]
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_CHECK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return "" if done.returncode == 0 else (lines or [f"exit code {done.returncode}"])[-1]


def execute_anew() -> None:
    """Become the new one: the same process for systemd, the same arguments. Raises OSError."""
    # Until it has its handlers, what asks it to read its settings anew must not end it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    argv = [sys.executable, *sys.orig_argv[1:]]
    try:
        os.execv(sys.executable, argv)  # noqa: S606 - our own arguments, no shell
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
