"""A dev-portod of one's own, for tests and the demo. Needs no pytest."""

from __future__ import annotations

import base64
import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from ya_salt.porto.frames import FrameReader, encode_frame
from ya_salt.proto import porto_pb2 as pb

READY_TIMEOUT_S = 20.0


class DevPortod:
    """A server subprocess on a socket in a short temporary directory; a context manager.

    Unix socket paths end at about 107 bytes, so it does not live below pytest's tmp_path.
    """

    def __init__(self, sysroot: str | None = None, socket_path: str | None = None) -> None:
        self._directory = None if socket_path else tempfile.mkdtemp(prefix="dp-", dir="/tmp")
        if self._directory:
            Path(self._directory).chmod(0o755)
        self.socket_path = socket_path or str(Path(str(self._directory), "s"))
        self._sysroot = sysroot
        self.process: subprocess.Popen[str] | None = None
        self.greeting = ""

    def __enter__(self) -> DevPortod:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns once the server has said that it listens."""
        command = [sys.executable, "-m", "devporto", "--socket", self.socket_path]
        if self._sysroot:
            command += ["--sysroot", self._sysroot]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.greeting = self.process.stderr.readline()
        if "listening" not in self.greeting:
            rest = self.process.stderr.read()
            self.stop()
            raise RuntimeError(f"dev-portod did not start: {self.greeting}{rest}")

    def stop(self) -> None:
        """SIGTERM, and wait until it and everything it started is gone."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(READY_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            if self.process.stderr is not None:
                self.process.stderr.close()
            self.process = None
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def reload(self) -> None:
        """Drop every connection, as a portod that restarts; returns when it is back."""
        assert self.process is not None
        with self.connect(READY_TIMEOUT_S) as witness:
            # One answer first: a connection that nobody accepted yet would see nothing.
            witness.call(version={})
            self.process.send_signal(signal.SIGHUP)
            with contextlib.suppress(ConnectionError):
                while witness.sock.recv(4096):
                    pass
        give_up = time.monotonic() + READY_TIMEOUT_S
        while True:
            try:
                self.connect().close()
            except OSError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.01)
            else:
                return

    def connect(self, timeout_s: float = 60.0) -> Wire:
        return Wire(self.socket_path, timeout_s)


class Wire:
    """A bare client: requests and answers as dictionaries of the protobuf JSON mapping."""

    def __init__(self, socket_path: str, timeout_s: float = 60.0) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout_s)
        self.sock.connect(socket_path)
        self._frames = FrameReader()
        self._ready: list[bytes] = []

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def send(self, request: dict[str, Any]) -> None:
        message = json_format.ParseDict(request, pb.TContainerRequest())
        self.sock.sendall(encode_frame(message))

    def receive(self) -> dict[str, Any]:
        """The next answer. Raises ConnectionError where the server closed."""
        while not self._ready:
            data = self.sock.recv(1 << 20)
            if not data:
                raise ConnectionResetError("the server closed the connection")
            self._ready += self._frames.feed(data)
        answer = pb.TContainerResponse.FromString(self._ready.pop(0))
        decoded: dict[str, Any] = json_format.MessageToDict(
            answer, preserving_proto_field_name=True
        )
        return _decode_bytes(decoded)

    def call(self, **request: Any) -> dict[str, Any]:
        self.send(request)
        return self.receive()

    def code(self, **request: Any) -> str:
        """Only the error code of an answer."""
        return str(self.call(**request)["error"])

    def create(self, name: str, **properties: str) -> None:
        """Create a container and set properties. Raises RuntimeError where portod refuses."""
        self.must(create={"name": name})
        self.set(name, **properties)

    def set(self, name: str, **properties: str) -> None:
        for key, value in properties.items():
            self.must(setProperty={"name": name, "property": key, "value": value})

    def must(self, **request: Any) -> dict[str, Any]:
        answer = self.call(**request)
        if answer["error"] != "Success":
            raise RuntimeError(f"{request}: {answer}")
        return answer

    def get(self, name: str, key: str) -> str:
        """A value, or `error: CODE`."""
        answer = self.call(getProperty={"name": name, "property": key})
        if answer["error"] != "Success":
            return f"error: {answer['error']}"
        return str(answer["getProperty"]["value"])

    def wait_for(self, name: str, key: str, value: str, within_s: float = 20.0) -> None:
        """Poll until a property has a value. Raises TimeoutError."""
        deadline = time.monotonic() + within_s
        while (seen := self.get(name, key)) != value:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} {key} is {seen!r}, not {value!r}")
            time.sleep(0.02)


def _decode_bytes(answer: dict[str, Any]) -> dict[str, Any]:
    """JSON has bytes as base64; here they are texts."""
    entries = answer.get("get", {}).get("list", [])
    values = [item for entry in entries for item in entry.get("keyval", [])]
    for item in (answer, answer.get("getProperty", {}), *values):
        for name in item.keys() & {"errorMsg", "value"}:
            item[name] = base64.b64decode(item[name]).decode(errors="replace")
    return answer
