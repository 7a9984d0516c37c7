"""What portod does not tell is unknown: nothing is done to that daemon, and others go on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.passes import DoomedClient, Passes
from helpers.porto_proxy import PortoProxy, as_it_is
from helpers.portod import DevPortod

from ya_salt.converge import judging, observe, plan, preview, recording
from ya_salt.porto.client import PortoClient
from ya_salt.proto import porto_pb2 as pb

Entry = pb.TContainerGetResponse.TContainerGetListResponse


@pytest.fixture(scope="module")
def portod() -> Iterator[DevPortod]:
    with DevPortod() as server:
        yield server


@pytest.fixture
def proxy(folder: Path, portod: DevPortod) -> Iterator[PortoProxy]:
    with PortoProxy(folder, portod.socket_path) as made:
        yield made


@pytest.fixture
def host(folder: Path, proxy: PortoProxy) -> Iterator[Passes]:
    made = Passes(folder, proxy.path)
    yield made
    proxy.change = as_it_is
    made.remove_all()


def spoil(name: str, how: Callable[[Entry], bool]):
    """Changes what `get` tells of `name`; where `how` gives False, leaves it out altogether."""

    def change(request: pb.TContainerRequest, answer: pb.TContainerResponse):
        if request.HasField("get") and name in request.get.name:
            kept = [entry for entry in answer.get.list if entry.name != name or how(entry)]
            fresh = pb.TContainerResponse()
            fresh.CopyFrom(answer)
            del fresh.get.list[:]
            fresh.get.list.extend(kept)
            return fresh
        return answer

    return change


def fail_all(code: int) -> Callable[[Entry], bool]:
    def how(entry: Entry) -> bool:
        for kv in entry.keyval:
            kv.error, kv.errorMsg = code, b"portod is not well\x1b[31m"
            kv.ClearField("value")
        return True

    return how


def fail_one(variable: str, code: int = pb.Unknown) -> Callable[[Entry], bool]:
    def how(entry: Entry) -> bool:
        for kv in entry.keyval:
            if kv.variable == variable:
                kv.error, kv.errorMsg = code, b"portod is not well"
                kv.ClearField("value")
        return True

    return how


def leave_out(variable: str) -> Callable[[Entry], bool]:
    def how(entry: Entry) -> bool:
        kept = [kv for kv in entry.keyval if kv.variable != variable]
        del entry.keyval[:]
        entry.keyval.extend(kept)
        return True

    return how


def empty(entry: Entry) -> bool:
    del entry.keyval[:]
    return True


def only_new_fields(entry: Entry) -> bool:
    names = [kv.variable for kv in entry.keyval]
    del entry.keyval[:]
    for name in names:
        # Field 15 of a portod to come, and nothing that we know.
        entry.keyval.add().MergeFromString(b"\x7a\x01x")
        entry.keyval[-1].variable = name
    return True


ODD = {
    "Unknown": fail_all(pb.Unknown),
    "Permission": fail_all(pb.Permission),
    "Busy": fail_all(pb.Busy),
    "ResourceNotAvailable": fail_all(pb.ResourceNotAvailable),
    "SocketError": fail_all(pb.SocketError),
    "PortoFrozen": fail_all(pb.PortoFrozen),
    "no entry": lambda _entry: False,
    "an empty entry": empty,
    "only new fields": only_new_fields,
    "state unreadable": fail_one("state"),
    "labels unreadable": fail_one("labels", pb.Permission),
    "state left out": leave_out("state"),
    "private left out": leave_out("private"),
    "a declared property unreadable": fail_one("memory_limit", pb.Busy),
    "gone, but for one variable": fail_all(pb.ContainerDoesNotExist),
}


def find_pid(host: Passes, portod: DevPortod, name: str) -> str:
    with PortoClient(portod.socket_path) as client:
        return client.get([name], ["root_pid"]).get(name, {}).get("root_pid", "")


@pytest.mark.parametrize("odd", [key for key in ODD if not key.startswith("gone")])
@pytest.mark.parametrize("change", ["none", "restart", "removal"])
def test_nothing_is_done_to_a_daemon_that_portod_does_not_tell_of(
    host: Passes, proxy: PortoProxy, portod: DevPortod, odd: str, change: str
) -> None:
    host.write("d", "memory_limit: 64Mb")
    host.write("other", "")
    assert host.run().ok
    pid = find_pid(host, portod, "d")
    proxy.change = spoil("d", ODD[odd])
    proxy.requests.clear()
    if change == "restart":
        host.write("d", "memory_limit: 64Mb\nenv: {A: '1'}")
    if change == "removal":
        host.write("d", "memory_limit: 64Mb", delete=True)
    with PortoClient(portod.socket_path) as client:
        client.destroy("other")

    assert not host.plan()["d"].steps
    result = host.run()

    told = {status.name: status for status in result.statuses}
    assert not result.ok
    assert told["d"].ready is not None and told["d"].ready.reason == "Unknown"
    assert told["d"].phase == "Managed"
    assert told["d"].state == "unknown"
    assert told["other"].ready is not None and told["other"].ready.status
    assert find_pid(host, portod, "d") == pid
    assert not any(
        getattr(request, field).name == "d"
        for request in proxy.requests
        for field in ("create", "createWeak", "destroy", "setProperty", "kill", "start", "stop")
        if request.HasField(field)
    )
    # As soon as portod tells again, the rest is done.
    proxy.change = as_it_is
    assert host.run().ok
    assert (find_pid(host, portod, "d") == pid) == (change == "none")


def test_only_a_container_that_does_not_exist_is_absent(host: Passes, proxy: PortoProxy) -> None:
    host.write("d", "")
    assert host.run().ok
    proxy.change = spoil("d", fail_all(pb.ContainerDoesNotExist))
    assert [type(step).__name__ for step in host.plan()["d"].steps] == ["CreateContainer"]


def test_an_orphan_that_portod_does_not_tell_of_is_not_forgotten(
    host: Passes, proxy: PortoProxy
) -> None:
    host.write("d", "")
    assert host.run().ok
    text = (host.specs_dir / "d.yaml").read_text()
    (host.specs_dir / "d.yaml").unlink()
    proxy.change = spoil("d", fail_all(pb.Busy))
    (status,) = host.run().statuses
    assert (status.phase, status.running and status.running.reason) == ("Orphaned", "Unknown")
    proxy.change = as_it_is
    (status,) = host.run().statuses
    assert (status.phase, status.running and status.running.status) == ("Orphaned", True)
    (host.specs_dir / "d.yaml").write_text(text)


def test_what_only_shows_use_may_be_unreadable(host: Passes, proxy: PortoProxy) -> None:
    host.write("d", "")
    assert host.run().ok
    proxy.change = spoil("d", fail_one("memory_usage"))
    (status,) = host.run().statuses
    assert status.memory_bytes is None
    assert status.ready is not None and status.ready.status


def test_a_portod_that_hangs_ends_the_pass_within_the_limit_of_one_read(
    host: Passes, proxy: PortoProxy
) -> None:
    for number in range(5):
        host.write(f"d{number}", "")
    proxy.change = lambda _request, _answer: None
    started = time.monotonic()
    with pytest.raises(Exception, match="no answer in time"):
        host.run(lambda path: PortoClient(path, read_timeout_s=0.3, write_timeout_s=0.3))
    assert time.monotonic() - started < 5


def test_after_one_unanswered_write_nobody_else_waits_for_another(
    host: Passes, proxy: PortoProxy, portod: DevPortod
) -> None:
    names = [f"d{number}" for number in range(6)]
    for name in names:
        host.write(name, "")

    def hang(request: pb.TContainerRequest, answer: pb.TContainerResponse):
        return None if request.HasField("createWeak") else answer

    proxy.change = hang
    made = host.make_host()
    result = host.run(
        lambda path: PortoClient(
            path, read_timeout_s=5.0, write_timeout_s=1.0, patience=made.patience
        )
    )
    created = [request for request in proxy.requests if request.HasField("createWeak")]
    assert len(created) == 1, "one write at a time, and the first went unanswered"
    assert not any(status.ready and status.ready.status for status in result.statuses)
    assert {status.ready.reason for status in result.statuses if status.ready} <= {
        "SocketError",
        "SocketTimeout",
    }
    proxy.change = as_it_is
    assert host.run().ok


# -- one call of portod's fails, and no other ------------------------------------------------------


def fail_call(field: str, code: int = pb.Unknown):
    def change(request: pb.TContainerRequest, answer: pb.TContainerResponse):
        if request.HasField(field):
            return pb.TContainerResponse(error=code, errorMsg=b"portod is not well")
        return answer

    return change


@pytest.mark.parametrize("call", ["propertyList", "version"])
def test_without_the_list_of_properties_dead_daemons_are_started_and_others_left_alone(
    host: Passes, proxy: PortoProxy, portod: DevPortod, call: str
) -> None:
    for name in ("changed", "dead"):
        host.write(name, "")
    assert host.run().ok
    pid = find_pid(host, portod, "changed")
    host.write("changed", "env: {A: '1'}")
    host.write("new", "")
    with PortoClient(portod.socket_path) as client:
        client.stop("dead", timeout_s=1)
    proxy.change = fail_call(call)

    assert host.plan()["changed"].refusal_reason == "Unknown"
    told = {status.name: status for status in host.run().statuses}

    ready = {name: bool(status.ready and status.ready.status) for name, status in told.items()}
    assert ready == {"changed": False, "dead": True, "new": True}
    assert "portod is not well" in told["changed"].error
    assert find_pid(host, portod, "changed") == pid
    proxy.change = as_it_is
    assert host.run().ok
    assert find_pid(host, portod, "changed") != pid


def test_a_new_store_that_cannot_ask_for_its_daemons_starts_the_dead_and_asks_again(
    host: Passes, proxy: PortoProxy, portod: DevPortod
) -> None:
    for name in ("dead", "orphan"):
        host.write(name, "")
    assert host.run().ok
    (host.specs_dir / "orphan.yaml").unlink()
    (Path(host.settings.state_dir) / "store.sqlite3").unlink()
    with PortoClient(portod.socket_path) as client:
        client.stop("dead", timeout_s=1)

    proxy.change = fail_call("FindLabel", pb.Permission)
    (status,) = host.run().statuses
    assert (status.name, status.ready and status.ready.status) == ("dead", True)

    # The store is there by now, and still knows that it does not know everybody.
    proxy.change = as_it_is
    phases = {status.name: status.phase for status in host.run().statuses}
    assert phases == {"dead": "Managed", "orphan": "Orphaned"}
    assert len(host.requests) > 0
    assert "find label HOSTMAN.spec" in host.requests
    host.run()
    assert "find label HOSTMAN.spec" not in host.requests
    host.write("orphan", "")


def test_a_new_store_forgets_nobody_whose_first_pass_was_killed(
    host: Passes, portod: DevPortod
) -> None:
    for name in ("d", "orphan"):
        host.write(name, "")
    assert host.run().ok
    (host.specs_dir / "orphan.yaml").unlink()
    (Path(host.settings.state_dir) / "store.sqlite3").unlink()
    host.write("d", "env: {A: '1'}")
    child = os.fork()
    if not child:
        try:
            DoomedClient.writes_left = 2
            host.run(DoomedClient)
        finally:
            os._exit(0)
    _, ended = os.waitpid(child, 0)
    assert os.WIFSIGNALED(ended)
    time.sleep(0.2)
    phases = {status.name: status.phase for status in host.run().statuses}
    assert phases == {"d": "Managed", "orphan": "Orphaned"}
    host.write("orphan", "")


# -- a bug of ours ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "function"),
    [
        (plan, "_plan_daemon"),
        (observe, "wanted_properties"),
        (observe, "_parse_container"),
        (judging, "make_status"),
        (recording, "_make_record"),
        (preview, "describe_trouble"),
    ],
    ids=lambda item: item if isinstance(item, str) else "",
)
def test_a_bug_met_by_one_daemon_is_that_daemons_failure(
    host: Passes,
    portod: DevPortod,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    function: str,
) -> None:
    for name in ("bad", "good"):
        host.write(name, "", min_ready_s=1 if name == "bad" else 0)
    assert host.run().ok
    pid = find_pid(host, portod, "bad")
    with PortoClient(portod.socket_path) as client:
        client.stop("good", timeout_s=1)
        if function == "describe_trouble":
            client.stop("bad", timeout_s=1)
            command, update = "cmd: ['false']", "on_failure: keep"
            host.write("bad", "max_respawns: 0", command=command, update=update)
    honest = getattr(module, function)

    def fall_over(*arguments: Any, **more: Any) -> Any:
        said = [getattr(item, "name", item) for item in arguments]
        if "bad" in said:
            raise ValueError("nobody thought of that")
        return honest(*arguments, **more)

    with monkeypatch.context() as broken:
        broken.setattr(module, function, fall_over)
        told = {status.name: status for status in host.run().statuses}
    assert told["good"].ready is not None and told["good"].ready.status
    if function != "_make_record":
        assert told["bad"].ready is not None and not told["bad"].ready.status
        words = [told["bad"].error, told["bad"].running and told["bad"].running.message]
        assert any("nobody thought of that" in str(text) for text in words), words
    if function != "describe_trouble":
        assert find_pid(host, portod, "bad") == pid
        assert host.run().ok
