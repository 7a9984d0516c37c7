"""This machine's processes, from /proc: a fresh Debian has no pgrep."""

from __future__ import annotations

import os
import re
import shutil
import socket
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def find_processes(pattern: str) -> list[int]:
    """Pids whose command line matches, the one that was started first in front; never our own."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            started = int((folder / "stat").read_text().rpartition(")")[2].split()[19])
        except OSError:
            continue
        if re.search(pattern, words) and int(folder.name) != os.getpid():
            found.append((started, int(folder.name)))
    return [pid for _, pid in sorted(found)]


def copy_for_everybody(folder: Path) -> Path:
    """Copy the code to where a user without rights may read it; the checkout may be root's own."""
    copy = folder / "checkout"
    ignore = shutil.ignore_patterns("__pycache__")
    for code in ("ya_salt", "devporto/src"):
        shutil.copytree(CHECKOUT / code, copy / code, ignore=ignore)
    shutil.copytree(CHECKOUT / "tests" / "helpers", copy / "tests" / "helpers", ignore=ignore)
    for path in (folder, copy, *copy.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return copy


def listen_as(path: Path, uid: int) -> int:
    """Let a process of that user take one connection at `path`; its id, once it listens."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.setuid(uid)
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.listen()
        os.write(tell, b"x")
        server.accept()[0].recv(1)
        os._exit(0)
    os.read(ready, 1)
    return child
