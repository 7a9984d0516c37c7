"""Connections: framing, rights, restarts."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.portod import DevPortod, Wire
from tests.helpers.processes import copy_for_everybody
from ya_salt.porto.frames import encode_frame
from ya_salt.proto import porto_pb2 as pb

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="being somebody else takes root")
ASK_AS = """
import os, sys, json
from tests.helpers.portod import Wire
os.setgroups([]); os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[2]))
with Wire(sys.argv[1]) as wire:
    print(json.dumps([wire.call(**request) for request in json.loads(sys.argv[4])]))
"""


def is_closed(wire: Wire) -> bool:
    try:
        wire.receive()
    except ConnectionError:
        return True
    return False


def test_greeting_warns(portod: DevPortod) -> None:
    assert "NOT A SECURITY BOUNDARY" in portod.greeting
    assert stat.S_IMODE(Path(portod.socket_path).stat().st_mode) == 0o666


@pytest.mark.parametrize("body", [b"\x00", b"\x03\x98\x06\x01", b"\x03\x9a\x3f\x00"])
def test_request_without_a_known_method(wire: Wire, body: bytes) -> None:
    wire.sock.sendall(body)
    assert wire.receive()["error"] == "InvalidMethod"
    assert wire.code(version={}) == "Success"


@pytest.mark.parametrize(
    "body",
    [
        b"\x03\xff\xff\xff",  # no protobuf
        b"\x02\x0a\x00",  # create without its required name
        b"\xff\xff\xff\xff\x7f",  # far too long
    ],
)
def test_what_is_no_request_ends_the_connection(portod: DevPortod, wire: Wire, body: bytes) -> None:
    wire.sock.sendall(body)
    assert is_closed(wire)
    with portod.connect() as other:
        assert other.code(version={}) == "Success"


def test_request_may_come_in_pieces_and_together(wire: Wire) -> None:
    request = pb.TContainerRequest()
    request.version.SetInParent()
    frame = encode_frame(request)
    for index in range(len(frame)):
        wire.sock.sendall(frame[index : index + 1])
        time.sleep(0.01)
    assert wire.receive()["version"]["tag"] == "5.3.59"
    wire.sock.sendall(frame * 50)
    assert [wire.receive()["error"] for _ in range(50)] == ["Success"] * 50


def test_answer_carries_the_time(wire: Wire) -> None:
    answer = wire.call(version={})
    assert abs(int(answer["timestamp"]) - time.time()) < 60
    assert answer["errorMsg"] == ""


def test_large_answer_is_delivered_whole(wire: Wire) -> None:
    for index in range(50):
        wire.create(f"p{index}", private="x" * 4096)
    answer = wire.call(get={"name": ["*"], "variable": ["private"] * 20})
    assert len(answer["get"]["list"]) == 50
    assert sum(len(one["keyval"]) for one in answer["get"]["list"]) == 1000


def test_many_connections(portod: DevPortod) -> None:
    wires = [portod.connect() for _ in range(100)]
    try:
        assert [wire.code(version={}) for wire in wires] == ["Success"] * 100
    finally:
        for wire in wires:
            wire.close()


def ask_as(portod: DevPortod, uid: int, gid: int, requests: str) -> str:
    command = [sys.executable, "-c", ASK_AS, portod.socket_path, str(uid), str(gid), requests]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@ROOT_ONLY
def test_anybody_may_read_and_nobody_else_may_write(portod: DevPortod, wire: Wire) -> None:
    wire.create("p", private="seen")
    out = ask_as(
        portod,
        65534,
        65534,
        '[{"getProperty": {"name": "p", "property": "private"}}, {"create": {"name": "x"}},'
        ' {"setProperty": {"name": "nosuch", "property": "x", "value": "1"}},'
        ' {"kill": {"name": "p", "sig": 9}}, {"list": {}}, {}]',
    )
    for part in ('"seen"', '"list": {"name": ["p"]}'):
        assert part in out
    assert out.count('"error": "Permission"') == 4
    assert wire.get("x", "state") == "error: ContainerDoesNotExist"


@ROOT_ONLY
def test_client_inside_a_container_acts_for_its_owner(portod: DevPortod, wire: Wire) -> None:
    script = Path(portod.socket_path).with_name("inside.py")
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "from tests.helpers.portod import Wire\n"
        f"wire = Wire({portod.socket_path!r})\n"
        "print(wire.get('self', 'absolute_name'), wire.code(create={'name': 'self/sub'}))\n"
    )
    wire.create("p", command_argv=f"{sys.executable}\t{script}")
    wire.must(start={"name": "p"})
    wire.wait_for("p", "state", "dead")
    assert wire.get("p", "stdout") == "/porto/p Success\n", wire.get("p", "stderr")
    assert wire.get("p/sub", "state") == "stopped"
    wire.must(stop={"name": "p"})
    wire.set("p", enable_porto="isolate")
    wire.must(start={"name": "p"})
    wire.wait_for("p", "state", "dead")
    assert wire.get("p", "stdout") == "/porto/p ContainerAlreadyExists\n"
    wire.must(stop={"name": "p"})
    wire.set("p", enable_porto="read-only")
    wire.must(start={"name": "p"})
    wire.wait_for("p", "state", "dead")
    assert wire.get("p", "stdout") == "/porto/p Permission\n"
    wire.must(stop={"name": "p"})
    wire.set("p", enable_porto="false")
    wire.must(start={"name": "p"})
    wire.wait_for("p", "state", "dead")
    assert wire.get("p", "exit_code") == "1"


def connect_again(portod: DevPortod) -> Wire:
    deadline = time.monotonic() + 20
    while True:
        try:
            return portod.connect()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_reload_keeps_containers_and_drops_clients() -> None:
    with DevPortod() as server:
        wire = server.connect()
        wire.create("p", command="sleep 100", private="x", labels="CF.a: 1")
        wire.must(start={"name": "p"})
        wire.must(createWeak={"name": "w"})
        pid = wire.get("p", "root_pid")
        server.reload()
        assert is_closed(wire)
        with connect_again(server) as again:
            assert again.get("p", "state") == "running"
            assert again.get("p", "root_pid") == pid
            assert again.get("p", "labels[CF.a]") == "1"
            again.wait_for("w", "state", "error: ContainerDoesNotExist")


def test_reload_keeps_the_socket_and_the_weak_are_gone_at_once() -> None:
    """As with portod, whose master listens on while its server is started again."""
    with DevPortod() as server:
        assert server.process is not None
        socket_file = Path(server.socket_path).stat().st_ino
        for _ in range(20):
            wire = server.connect()
            wire.must(createWeak={"name": "w"})
            wire.set("w", command="sleep 100")
            wire.must(start={"name": "w"})
            wire.send({"wait": {"name": ["w"]}})
            server.process.send_signal(signal.SIGHUP)
            assert is_closed(wire)
            with server.connect(5) as fresh:
                assert fresh.get("w", "state") == "error: ContainerDoesNotExist"
        assert Path(server.socket_path).stat().st_ino == socket_file


def test_socket_in_use_is_refused_and_a_dead_one_replaced(
    portod: DevPortod, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="in use"):
        DevPortod(socket_path=portod.socket_path).start()
    with portod.connect() as wire:
        assert wire.code(version={}) == "Success"
    server = DevPortod()
    server.start()
    server.kill()
    assert Path(server.socket_path).exists()
    try:
        server.start()
    finally:
        server.stop()
    assert not Path(server.socket_path).exists()


def can_nobody_run(python: str, checkout: Path) -> bool:
    """Interpreters below /root are out of reach for others."""
    probe = [python, "-S", "-c", "import json, ctypes, devporto.keeper"]
    env = {"PYTHONPATH": str(checkout / "devporto/src")}
    try:
        subprocess.run(probe, user=65534, group=65534, extra_groups=[], env=env, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@ROOT_ONLY
def test_server_of_a_plain_user(folder: Path) -> None:
    """It obeys the user who runs it, and runs everything as that user."""
    checkout = copy_for_everybody(folder)
    pythons = (sys.executable, "/usr/bin/python3")
    python = next(path for path in pythons if can_nobody_run(path, checkout))
    # The keeper is a second interpreter, started after the change of user.
    code = (
        "import os, sys; from devporto import run, server; os.setgroups([]);"
        "os.setgid(65534); os.setuid(65534); sys.executable = sys.argv[2];"
        "sys.exit(run(sys.argv[1]))"
    )
    with DevPortod() as frame:
        directory = Path(frame.socket_path).parent
        directory.chmod(0o777)
        path = str(directory / "u")
        server = subprocess.Popen(
            [sys.executable, "-c", code, path, python],
            stderr=subprocess.PIPE,
            text=True,
            # Python looks into the current folder first.
            cwd=checkout,
            env={
                **os.environ,
                "PYTHONPATH": str(checkout / "devporto/src"),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        )
        try:
            assert server.stderr is not None
            assert "runs as the user of this server" in server.stderr.readline()
            with Wire(path) as wire:
                wire.create("p", command="id -un", user="root")
                wire.must(start={"name": "p"})
                wire.wait_for("p", "state", "dead")
                assert wire.get("p", "stdout") == "nobody\n"
                assert wire.get("p", "user") == "root"
            asked = '[{"create": {"name": "own"}}]'
            argv = [sys.executable, "-c", ASK_AS, path, "65534", "65534", asked]
            out = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
            assert '"Success"' in out
        finally:
            server.terminate()
            server.wait(20)
            server.stderr.close()


def test_nobody_who_comes_during_a_reload_is_left_without_an_answer() -> None:
    """Each is answered or dropped; one in some forty was neither while the machine was busy."""
    with DevPortod() as server:
        assert server.process is not None
        for _ in range(40):
            server.process.send_signal(signal.SIGHUP)
            while True:
                try:
                    with server.connect(5) as wire:
                        wire.must(version={})
                    break
                except TimeoutError:
                    raise
                except OSError:
                    time.sleep(0.02)
