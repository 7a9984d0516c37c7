"""Our client against a Porto server, and against everything that can go wrong on the way."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.portod import DevPortod
from helpers.processes import listen_as

from ya_salt.errors import PortoError, PortoUnavailableError, PortoUnknownFateError
from ya_salt.porto.client import PortoClient, parse_labels
from ya_salt.porto.frames import FrameReader, FramingError, encode_frame
from ya_salt.proto import porto_pb2 as pb


@pytest.fixture(scope="module")
def server() -> Iterator[DevPortod]:
    with DevPortod() as portod:
        yield portod


@pytest.fixture
def client(server: DevPortod) -> Iterator[PortoClient]:
    with PortoClient(server.socket_path) as connected:
        yield connected


class Listener:
    """A peer that does one thing with each connection; for faults that no real server has."""

    def __init__(self, folder: Path, *behaviours: Callable[[socket.socket], None]) -> None:
        self.path = str(folder / "s")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(self.path)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, args=(behaviours,), daemon=True)
        self._thread.start()

    def _serve(self, behaviours: tuple[Callable[[socket.socket], None], ...]) -> None:
        for behave in behaviours:
            connection, _ = self._socket.accept()
            behave(connection)
            connection.close()


def hang_up(connection: socket.socket) -> None:
    connection.recv(4096)


def answer_version(connection: socket.socket) -> None:
    connection.recv(4096)
    answer = pb.TContainerResponse(error=pb.Success)
    answer.version.tag = "5.3"
    connection.sendall(encode_frame(answer))


def drip_version(connection: socket.socket) -> None:
    connection.recv(4096)
    answer = pb.TContainerResponse(error=pb.Success)
    answer.version.tag = "5.3"
    for byte in encode_frame(answer):
        connection.sendall(bytes([byte]))
        time.sleep(0.002)


def send_garbage(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b"\xff" * 20)


def say_nothing(connection: socket.socket) -> None:
    connection.recv(4096)
    time.sleep(2)


def drip_forever(connection: socket.socket) -> None:
    connection.recv(4096)
    try:
        connection.sendall(b"\xff\x7f")
        for _ in range(40):
            connection.sendall(b"a")
            time.sleep(0.05)
    except OSError:
        pass


def test_what_portod_refuses_carries_its_code_and_words(client: PortoClient) -> None:
    client.create_weak("c-refuse")
    with pytest.raises(PortoError) as caught:
        client.set_property("c-refuse", "nosuch", "1")
    assert caught.value.code == "InvalidProperty"
    assert "set c-refuse nosuch" in str(caught.value)


def test_get_leaves_out_what_is_not_there(client: PortoClient) -> None:
    client.create_weak("c-get")
    found = client.get(["c-get", "c-none"], ["state", "exit_code", "nosuch"])
    assert found == {"c-get": {"state": "stopped"}}


def test_a_weak_container_ends_with_its_connection(server: DevPortod, client: PortoClient) -> None:
    with PortoClient(server.socket_path) as other:
        other.create_weak("c-weak")
        assert client.get(["c-weak"], ["state"])
    give_up = time.monotonic() + 5
    while client.get(["c-weak"], ["state"]) and time.monotonic() < give_up:
        time.sleep(0.02)
    assert client.get(["c-weak"], ["state"]) == {}


def test_what_may_change_live_is_what_portod_says(client: PortoClient) -> None:
    dynamic = client.list_dynamic()
    assert {"memory_limit", "labels", "private", "respawn", "weak"} <= dynamic
    assert not dynamic & {"user", "command", "env", "state"}


def test_labelled_containers_are_found(client: PortoClient) -> None:
    assert client.find_labelled("CLIENT.test") == ()
    client.create_weak("c-label")
    client.set_property("c-label", "labels[CLIENT.test]", "1")
    assert client.find_labelled("CLIENT.test") == ("c-label",)


def test_output_is_read_from_where_one_left_off(client: PortoClient) -> None:
    assert client.read_output("c-none", "stdout", 0) is None
    client.create_weak("c-output")
    assert client.read_output("c-output", "stdout", 0) is None
    client.set_property("c-output", "command_argv", "printf\t0123456789")
    client.start("c-output")
    assert client.wait_dead("c-output", 10)
    identity = client.get_property("c-output", "id")
    assert client.read_output("c-output", "stdout", 0) == (identity, 0, b"0123456789")
    assert client.read_output("c-output", "stdout", 7) == (identity, 7, b"789")


def test_output_that_is_not_utf8_comes_back_as_it_was(client: PortoClient) -> None:
    client.create_weak("c-bytes")
    client.set_property("c-bytes", "command_argv", "printf\t\\377\\376abc")
    client.start("c-bytes")
    assert client.wait_dead("c-bytes", 10)
    identity = client.get_property("c-bytes", "id")
    assert client.read_output("c-bytes", "stdout", 0) == (identity, 0, b"\xff\xfeabc")
    assert client.get_property("c-bytes", "stdout") == "\ufffd\ufffdabc"


def test_a_portod_that_restarts_costs_a_read_nothing() -> None:
    with DevPortod() as portod, PortoClient(portod.socket_path) as client:
        client.version()
        portod.reload()
        assert client.version()


def test_a_connection_that_went_stale_while_idle_costs_a_write_nothing() -> None:
    with DevPortod() as portod, PortoClient(portod.socket_path) as client:
        client.version()
        portod.reload()
        client.create_weak("c-stale")
        assert client.get_property("c-stale", "state") == "stopped"


def test_no_portod_is_one_clear_sentence(folder: Path) -> None:
    with pytest.raises(PortoUnavailableError, match=r"no portod answers on .* is Porto installed"):
        PortoClient(str(folder / "none")).version()


def test_a_read_is_asked_once_more_on_a_new_connection(folder: Path) -> None:
    listener = Listener(folder, hang_up, answer_version)
    assert PortoClient(listener.path).version() == "5.3"


def test_a_write_is_never_sent_twice(folder: Path) -> None:
    listener = Listener(folder, hang_up, hang_up)
    client = PortoClient(listener.path)
    with pytest.raises(PortoUnknownFateError):
        client.create_weak("a")
    assert client.requests == ["create a"]


def test_an_answer_in_pieces_is_put_together(folder: Path) -> None:
    assert PortoClient(Listener(folder, drip_version).path).version() == "5.3"


def read_late(connection: socket.socket) -> None:
    time.sleep(0.2)
    frames = FrameReader()
    while not [*frames.feed(connection.recv(1 << 16))]:
        pass
    connection.sendall(encode_frame(pb.TContainerResponse(error=pb.Success)))


def read_never(connection: socket.socket) -> None:
    connection.recv(1)
    time.sleep(2)


def test_what_does_not_fit_into_the_socket_at_once_is_sent_in_pieces(folder: Path) -> None:
    PortoClient(Listener(folder, read_late).path).set_property("a", "private", "x" * (4 << 20))


def test_a_deadline_holds_where_nobody_reads_what_is_sent(folder: Path) -> None:
    client = PortoClient(Listener(folder, read_never).path, write_timeout_s=0.3)
    started = time.monotonic()
    with pytest.raises(PortoUnknownFateError, match="no answer in time"):
        client.set_property("a", "private", "x" * (4 << 20))
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("behave", [say_nothing, drip_forever])
def test_a_deadline_holds_whatever_the_peer_does(folder: Path, behave) -> None:
    client = PortoClient(Listener(folder, behave).path, read_timeout_s=0.3, write_timeout_s=0.3)
    started = time.monotonic()
    with pytest.raises(PortoUnknownFateError, match="no answer in time"):
        client.version()
    # The peer goes on for 2 s: only the deadline can have ended the call.
    assert time.monotonic() - started < 1.5


def test_an_answer_that_is_no_message_is_an_error(folder: Path) -> None:
    client = PortoClient(Listener(folder, send_garbage, send_garbage).path)
    with pytest.raises(PortoUnknownFateError, match=r"too long|more than 5 bytes"):
        client.version()


def test_an_error_code_from_the_future_is_an_error(folder: Path) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"\x03\x08\xe7\x07")

    with pytest.raises(PortoError) as caught:
        PortoClient(Listener(folder, answer).path).version()
    assert caught.value.code == "LostError"


def test_frames_are_cut_wherever_the_stream_was_cut() -> None:
    messages = [pb.TContainerRequest() for _ in range(4)]
    messages[0].create.name = "x" * 300
    messages[1].start.name = "y"
    messages[2].start.name = "z" * 123
    messages[3].version.SetInParent()
    stream = b"".join(encode_frame(message) for message in messages)
    for size in (1, 2, 3, 7, 128, 307, 1000):
        reader = FrameReader()
        chunks = [stream[i : i + size] for i in range(0, len(stream), size)]
        bodies = [body for chunk in chunks for body in reader.feed(chunk)]
        assert [pb.TContainerRequest.FromString(body) for body in bodies] == messages


def test_a_senseless_length_is_refused() -> None:
    with pytest.raises(FramingError):
        list(FrameReader(max_bytes=100).feed(b"\x65"))
    with pytest.raises(FramingError):
        list(FrameReader().feed(b"\x80\x80\x80\x80\x80\x01"))


def test_labels_are_read_as_porto_writes_them() -> None:
    assert parse_labels("A.b: 1; A.c: x:y") == {"A.b": "1", "A.c": "x:y"}
    assert parse_labels("") == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_socket_of_somebody_elses_is_not_asked(folder: Path) -> None:
    folder.chmod(0o777)
    child = listen_as(folder / "s", 1234)
    with pytest.raises(PortoUnavailableError) as caught, PortoClient(str(folder / "s")) as client:
        client.version()
    os.waitpid(child, 0)
    assert caught.value.code == "SocketUntrusted"
    assert "user 1234" in str(caught.value)
