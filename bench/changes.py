"""Measure what a change costs: one live, one restart, all daemons made anew.

Each is held against what the portod alone takes for the very same requests: they are recorded on
their way, and sent once more by a bare loop over as many connections.

    python -m bench.changes --n 500 --rounds 5
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.host import BenchHost
from ya_salt.porto.frames import FrameReader, encode_frame
from ya_salt.proto import porto_pb2 as pb

_CONNECTIONS = 4
"""Daemons that a pass works on side by side by default."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m bench.changes")
    parser.add_argument("--n", type=int, default=500, help="daemons")
    parser.add_argument("--packages", type=int, default=0, help="on the host (default: as daemons)")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with (
        tempfile.TemporaryDirectory(prefix="ysb.") as folder,
        BenchHost(Path(folder) / "h", options.n, options.packages) as host,
    ):
        print(describe_changes(measure_changes(host, options.rounds)))


def measure_changes(host: BenchHost, rounds: int) -> dict[str, float]:
    """Medians in ms, ratios pair by pair; the host is left as it was found, all daemons up."""
    return {**_measure_one(host, rounds), **_measure_cold(host, rounds)}


# -- one among many ------------------------------------------------------------------------------


def _measure_one(host: BenchHost, rounds: int) -> dict[str, float]:
    """A no-op, a live change and a restart of one daemon, in turns."""
    path = host.specs_dir / "0.yaml"
    text = path.read_text()
    changes = {
        "live change": [text.replace("64Mb", f"{size}Mb") for size in (65, 66, 67)],
        "restart": [text.replace("LANG: C", f"LANG: {word}") for word in "DEF"],
    }
    wall: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    requests: dict[str, float] = {}
    alone: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, contents in changes.items():
            path.write_text(contents[0])
            host.run("apply")
            _time(host, wall, cpu, "no-op, the long way", "apply", "--full")
            path.write_text(contents[1])
            _time(host, wall, cpu, f"one {name}", "apply")
            path.write_text(contents[2])
            with _recording(host) as recorder:
                env = {**host.environment, "YA_SALT_PORTO_SOCKET": recorder.path}
                host.run("apply", env=env)
            writing = [item for item in recorder.conversations if _has_writes(item)]
            requests[f"requests of one {name}"] = sum(map(len, recorder.conversations))
            requests[f"requests of one {name}, about it alone"] = sum(map(len, writing))
            alone.setdefault(name, []).append(_replay(host, writing))
    found: dict[str, float] = {}
    for name, values in wall.items():
        found[f"{name}, ms"] = statistics.median(values) * 1e3
        found[f"{name}, CPU ms"] = statistics.median(cpu[name]) * 1e3
    base = wall["no-op, the long way"]
    for name in ("live change", "restart"):
        pairs = zip(wall[f"one {name}"], base[name == "restart" :: 2], strict=True)
        more = statistics.median(one - nothing for one, nothing in pairs) * 1e3
        found[f"one {name}, ms more than the no-op"] = more
        found[f"one {name}, portod's own share, ms"] = statistics.median(alone[name]) * 1e3
    path.write_text(text)
    host.run("apply")
    return {**found, **requests}


def _time(
    host: BenchHost,
    wall: dict[str, list[float]],
    cpu: dict[str, list[float]],
    name: str,
    *words: str,
) -> None:
    started = time.perf_counter()
    process = subprocess.Popen(
        [str(host.program), *words],
        env=host.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    wall.setdefault(name, []).append(time.perf_counter() - started)
    cpu.setdefault(name, []).append(used.ru_utime + used.ru_stime)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{name}: exit code {process.returncode}")


# -- all of them ---------------------------------------------------------------------------------


def _measure_cold(host: BenchHost, rounds: int) -> dict[str, float]:
    """All daemons made and started, packages in place; and the same requests by a bare loop."""
    _forget_all(host)
    with _recording(host) as recorder:
        host.run("apply", env={**host.environment, "YA_SALT_PORTO_SOCKET": recorder.path})
    conversations = recorder.conversations
    wall: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    bare = []
    for _ in range(max(1, rounds // 2)):
        _forget_all(host)
        bare.append(_replay(host, conversations))
        _forget_all(host)
        _time(host, wall, cpu, "cold", "apply")
    pairs = zip(wall["cold"], bare, strict=True)
    return {
        "cold start, ms": statistics.median(wall["cold"]) * 1e3,
        "cold start, CPU ms": statistics.median(cpu["cold"]) * 1e3,
        "cold start, the same requests alone, ms": statistics.median(bare) * 1e3,
        "cold start to the same requests alone, x": statistics.median(a / b for a, b in pairs),
        "requests of a cold start": float(sum(map(len, conversations))),
    }


def _forget_all(host: BenchHost) -> None:
    with host.portod.connect() as wire:
        for number in range(host.count):
            wire.call(destroy={"name": f"daemon-{number}"})
    shutil.rmtree(host.state_dir, ignore_errors=True)


def _replay(host: BenchHost, conversations: Sequence[Sequence[bytes]]) -> float:
    """Seconds that the portod takes for them: reads of the whole host first, then daemon by daemon.

    A connection's requests are sent one after another, as its answers come.
    """
    first = [item for item in conversations if not _has_writes(item)]
    rest = [item for item in conversations if _has_writes(item)][::-1]
    started = time.perf_counter()
    for conversation in first:
        _send_all(host, [conversation])

    def work() -> None:
        with contextlib.suppress(IndexError):
            while True:
                _send_all(host, [rest.pop()])

    threads = [threading.Thread(target=work) for _ in range(_CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def _send_all(host: BenchHost, conversations: Sequence[Sequence[bytes]]) -> None:
    with socket.socket(socket.AF_UNIX) as wire:
        wire.connect(host.portod.socket_path)
        for conversation in conversations:
            frames = FrameReader()
            for frame in conversation:
                wire.sendall(frame)
                while not any(True for _ in frames.feed(wire.recv(1 << 20))):
                    pass


def _has_writes(conversation: Sequence[bytes]) -> bool:
    return any(_is_write(frame) for frame in conversation)


def _is_write(frame: bytes) -> bool:
    for body in FrameReader().feed(frame):
        (found, _), *_ = pb.TContainerRequest.FromString(body).ListFields()
        return found.name in {"create", "createWeak", "setProperty", "start", "destroy", "kill"}
    return False


# -- on their way --------------------------------------------------------------------------------


class _Recorder:
    """Stands between ya-salt and the portod, and keeps what is asked, connection by connection."""

    def __init__(self, path: str, upstream: str) -> None:
        self.path = path
        self.conversations: list[list[bytes]] = []
        self._upstream = upstream
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(path)
        self._door.listen(64)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self._thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._door.accept()
                conversation: list[bytes] = []
                self.conversations.append(conversation)
                threading.Thread(
                    target=self._forward, args=(client, conversation), daemon=True
                ).start()

    def _forward(self, client: socket.socket, conversation: list[bytes]) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._upstream)
            asked, told = FrameReader(), FrameReader()
            while data := client.recv(1 << 20):
                for body in asked.feed(data):
                    request = pb.TContainerRequest.FromString(body)
                    conversation.append(encode_frame(request))
                    server.sendall(conversation[-1])
                    while not (answers := [*told.feed(server.recv(1 << 20))]):
                        pass
                    for answer in answers:
                        client.sendall(encode_frame(pb.TContainerResponse.FromString(answer)))


@contextlib.contextmanager
def _recording(host: BenchHost) -> Iterator[_Recorder]:
    path = host.folder / "recorder"
    path.unlink(missing_ok=True)
    recorder = _Recorder(str(path), host.portod.socket_path)
    try:
        yield recorder
    finally:
        recorder.close()


def describe_changes(figures: Mapping[str, float]) -> str:
    return "\n".join(f"  {name:48} {figure:10.2f}" for name, figure in figures.items())


if __name__ == "__main__":
    main()
