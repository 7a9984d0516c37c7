"""The least that a pass in Python could do; run as a program, `floor.py KNOWN`.

It starts, reads what it knew of the specs, sees by their stat that neither they nor dpkg's status
file have changed, and asks portod one question. KNOWN is made by `host.BenchHost`.
"""

import json
import os
import socket
import sys


def main(path: str) -> int:
    with open(path, "rb") as file:  # noqa: PTH123 - pathlib alone costs milliseconds
        known = json.load(file)
    for name, stamp in known["stamps"].items():
        found = os.stat(name)  # noqa: PTH116 - as above
        if [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns] != stamp:
            print(f"{name} has changed", file=sys.stderr)
            return 1
    with socket.socket(socket.AF_UNIX) as portod:
        portod.connect(known["socket"])
        portod.sendall(bytes.fromhex(known["request"]))
        return 0 if portod.recv(1 << 16) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
