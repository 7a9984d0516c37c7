"""A daemon that tells what a test writes into a file, by sd_notify(3); run as a script.

`telling.py FOLDER`: TELL_FIRST of its environment and FOLDER/greeting are sent at its start, and
each message of FOLDER/say (a file that is renamed there) once; then FOLDER/done has its number and
what came of it. Those that begin with ! are for this script: `obey`.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path


def send(data: bytes, fds: tuple[int, ...] = ()) -> None:
    extras = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        # As a daemon does: it waits where there is no room.
        sender.sendmsg([data], extras, 0, os.environ["NOTIFY_SOCKET"])


def flood(folder: Path, count: int) -> None:
    for number in range(1, count + 1):
        with contextlib.suppress(ConnectionRefusedError):
            send(f"STATUS=message {number}\nWATCHDOG=1".encode())
        if number % 100 == 0:
            note(folder / "flooded", str(number))


def note(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.rename(path)


def obey(folder: Path, text: str) -> None:
    word, _, rest = text.partition(" ")
    if word == "!flood":
        flood(folder, int(rest))
    elif word == "!as":
        uid, _, message = rest.partition(" ")
        child = os.fork()
        if child == 0:
            os.setuid(int(uid))
            send(message.encode())
            # As one that works does not end at once.
            time.sleep(0.5)
            os._exit(0)
        os.waitpid(child, 0)
    elif word == "!tool":
        subprocess.run(["systemd-notify", *rest.split(" ")], check=True)
    elif word == "!fds":
        send(rest.encode(), tuple([os.open("/dev/null", os.O_RDONLY)] * 100))
    else:
        send(text.encode())


def main(folder: Path) -> None:
    number = 0
    greeting = folder / "greeting"
    if greeting.exists():
        send(greeting.read_bytes())
    if "TELL_FIRST" in os.environ:
        send(os.environ["TELL_FIRST"].encode())
    while True:
        order = folder / "say"
        if not order.exists():
            time.sleep(0.01)
            continue
        text = order.read_text()
        order.unlink()
        number += 1
        try:
            obey(folder, text)
            said = "sent"
        except OSError as error:
            said = error.strerror or str(error)
        note(folder / "done", f"{os.getpid()}.{number} {said}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
