"""A daemon that is asked whether it is ready: it answers on a port as a file says at that moment.

`python answering.py PORT FOLDER`. FOLDER/answer holds a status, or `hang`, `endless`, `redirect`,
`drop` (the connection, once it has answered 200); FOLDER/asked gets a line for each question.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from pathlib import Path


def answer(connected: socket.socket, folder: Path) -> None:
    request = b""
    while b"\r\n\r\n" not in request:
        try:
            data = connected.recv(4096)
        except OSError:
            return
        if not data:
            return
        request += data
    with (folder / "asked").open("ab") as asked:
        asked.write(request.partition(b"\r\n")[0] + b"\n")
    word = (folder / "answer").read_text().strip()
    status = int(word) if word.isdigit() else 302 if word == "redirect" else 200
    head = f"HTTP/1.1 {status} so\r\n"
    if word == "redirect":
        head += f"Location: http://127.0.0.1:{connected.getsockname()[1]}/moved\r\n"
    try:
        match word:
            case "hang":
                time.sleep(1000)
            case "endless":
                connected.sendall(f"{head}\r\n".encode())
                while True:
                    connected.sendall(b"x" * 4096)
            case _:
                connected.sendall(f"{head}Content-Length: 7\r\n\r\nso said".encode())
                if word != "drop":
                    connected.recv(1)
    except OSError:
        pass
    finally:
        connected.close()


def main() -> None:
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(100)
    while True:
        connected, _ = listener.accept()
        threading.Thread(target=answer, args=(connected, folder), daemon=True).start()


if __name__ == "__main__":
    main()
