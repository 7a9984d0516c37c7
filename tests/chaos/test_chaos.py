"""Anything may happen between two passes; the next one makes the files true, and touches no more.

`make test` plays some dozens of such stories, `make chaos` thousands.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.passes import DoomedClient, Passes
from helpers.portod import DevPortod
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ya_salt.converge.crash import find_rest
from ya_salt.converge.host import PassResult
from ya_salt.errors import PortoError
from ya_salt.life import Order
from ya_salt.model import LABEL, DaemonStatus
from ya_salt.porto.client import PortoClient, parse_labels
from ya_salt.store import FILE_NAME

NAMES = st.sampled_from(["red", "green", "blue"])
PROPERTIES = st.sampled_from(
    [
        "",
        "memory_limit: 64Mb",
        "memory_limit: 1Gb",
        "cpu_limit: 1c\nthread_limit: 99",
        "env: {A: '1'}",
        "env: {A: '2'}\nmemory_limit: 64Mb",
        "labels: {TEAM.owner: me}",
        "ulimit: {nofile: 10 20}\ncwd: /tmp",
        "memory_guarantee: 1Mb",
    ]
)
BY_HAND = st.sampled_from(
    [("memory_limit", "99999744"), ("respawn", "false"), ("labels[TEAM.owner]", "you")]
)
STORIES = int(os.environ.get("YA_SALT_TEST_STORIES", "25"))


class Story(RuleBasedStateMachine):
    """What people, crashes and portod do to a host; the files say what has to come of it."""

    server: DevPortod

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="ysc."))
        self.passes = Passes(self.folder, self.server.socket_path)
        self.wanted: dict[str, bool] = {}
        """Daemon -> whether its file, which is valid, wants it to run."""
        self.left_alone: dict[str, str] = {}
        """Daemon whose file is gone or broken -> the pid it had, "" where it did not run."""
        self.crashes: Counter[str] = Counter()
        self.statuses: dict[str, DaemonStatus] = {}
        """What the last pass that had to make the files true said in the end."""

    def teardown(self) -> None:
        # Those of a pass that was killed go by themselves.
        self.wait_for_weak_ones()
        with self.passes.client() as client:
            for name in client.get(["*"], ["state"]):
                client.destroy(name)
        shutil.rmtree(self.folder)

    def file(self, name: str) -> Path:
        return self.passes.specs_dir / f"{name}.yaml"

    def pid(self, name: str) -> str:
        with self.passes.client() as client:
            return client.get([name], ["root_pid"]).get(name, {}).get("root_pid", "")

    @initialize()
    def make_a_neighbour(self) -> None:
        """A container that is none of our business."""
        with self.passes.client() as client:
            client.create_weak("neighbour")
            client.set_property("neighbour", "weak", "false")
            client.set_property("neighbour", "command", "sleep 1000")
            client.start("neighbour")
        self.neighbour = self.pid("neighbour")

    # -- what people do --------------------------------------------------------------------------

    @rule(name=NAMES, properties=PROPERTIES)
    def write_a_file(self, name: str, properties: str) -> None:
        self.passes.write(name, properties)
        self.wanted[name] = True
        self.left_alone.pop(name, None)

    @rule(name=NAMES)
    def ask_for_removal(self, name: str) -> None:
        self.passes.write(name, "", delete=True)
        self.wanted[name] = False
        self.left_alone.pop(name, None)

    @rule(name=NAMES, how=st.sampled_from(["gone", "broken"]))
    def lose_a_file(self, name: str, how: str) -> None:
        # One that a killed pass was making goes by itself: it is not what runs.
        self.wait_for_weak_ones()
        if how == "gone":
            self.file(name).unlink(missing_ok=True)
        elif self.file(name).exists():
            self.file(name).write_text("meta: {name: [}\n")
        if self.wanted.pop(name, None) is not None:
            self.left_alone[name] = self.pid(name)

    @rule(name=NAMES, change=BY_HAND)
    def set_something_by_hand(self, name: str, change: tuple[str, str]) -> None:
        self.by_hand(lambda client: client.set_property(name, *change))

    @rule(name=NAMES)
    def stop_by_hand(self, name: str) -> None:
        self.by_hand(lambda client: client.stop(name, 1))
        self.forget_pid(name)

    @rule(name=NAMES)
    def destroy_by_hand(self, name: str) -> None:
        self.by_hand(lambda client: client.destroy(name))
        self.forget_pid(name)

    def by_hand(self, action) -> None:
        with self.passes.client() as client:
            try:
                action(client)
            except PortoError as error:
                if error.code not in {"ContainerDoesNotExist", "InvalidState"}:
                    raise

    def forget_pid(self, name: str) -> None:
        if name in self.left_alone:
            self.left_alone[name] = ""

    # -- what happens ----------------------------------------------------------------------------

    @rule(name=NAMES)
    def crash(self, name: str) -> None:
        """The daemon dies and portod is not told to start it again."""
        self.by_hand(lambda client: client.set_property(name, "respawn", "false"))
        self.by_hand(lambda client: client.kill(name, 9))
        self.crashes[name] += 1
        with self.passes.client() as client:
            if client.get([name], ["state"]):
                client.wait_dead(name, 5)
        self.forget_pid(name)

    @rule()
    def restart_portod(self) -> None:
        self.server.reload()

    @rule(how=st.sampled_from(["lost", "corrupt"]))
    def lose_the_store(self, how: str) -> None:
        store = self.folder / "state" / FILE_NAME
        if not store.exists():
            return
        if how == "lost":
            store.unlink()
        else:
            store.write_bytes(b"not a database " * 100)

    @precondition(lambda self: self.wanted)
    @rule(writes=st.integers(0, 20))
    def kill_a_pass(self, writes: int) -> None:
        """`kill -9` when it is about to send its n-th write."""
        child = os.fork()
        if not child:
            try:
                DoomedClient.writes_left = writes
                self.run_pass(DoomedClient)
            finally:
                os._exit(0)
        os.waitpid(child, 0)

    # -- and what has to come of it ----------------------------------------------------------------

    def run_pass(self, make=PortoClient, **scope):
        return self.passes.run(make, is_strict=False, **scope)

    def try_those_who_rest(self, result: PassResult) -> PassResult:
        """One that died more than once in a row rests; asked for it is started at once."""
        resting = {
            name
            for name, life in result.after.lives.items()
            if self.wanted.get(name) and find_rest(life.crash, self.passes.now())
        }
        assert all(self.crashes[name] > 1 for name in resting), resting
        if not resting:
            return result
        return self.run_pass(orders={name: Order("retry", "me") for name in resting})

    @rule()
    def pass_makes_the_files_true(self) -> None:
        self.wait_for_weak_ones()
        result = self.try_those_who_rest(self.run_pass())
        with self.passes.client() as client:
            found = client.get(["*"], ["state", "labels", "weak", "respawn"])
        statuses = {status.name: status for status in result.statuses}
        for name, runs in self.wanted.items():
            status = statuses[name]
            assert not status.error, status
            assert (name in found) == runs
            if runs:
                assert status.ready.status, status
                assert found[name]["state"] == "running"
                assert (found[name]["weak"], found[name]["respawn"]) == ("false", "true")
                assert parse_labels(found[name]["labels"])[LABEL] == status.digest
        assert set(found) <= {*self.wanted, *self.left_alone, "neighbour"}
        again = self.run_pass()
        assert [status.actions for status in again.statuses if status.actions] == []
        assert not [item for item in self.passes.requests if item.split()[0] in WRITES]
        self.statuses = {status.name: status for status in again.statuses}

    def wait_for_weak_ones(self) -> None:
        with self.passes.client() as client:
            give_up = time.monotonic() + 5
            while "true" in {v["weak"] for v in client.get(["*"], ["weak"]).values()}:
                assert time.monotonic() < give_up
                time.sleep(0.01)

    @invariant()
    def what_has_no_valid_file_is_left_alone(self) -> None:
        for name, pid in self.left_alone.items():
            assert self.pid(name) == pid, name

    @invariant()
    def others_are_left_alone(self) -> None:
        if hasattr(self, "neighbour"):
            assert self.pid("neighbour") == self.neighbour


WRITES = frozenset({"create", "set", "start", "stop", "kill", "resume", "destroy"})


@pytest.fixture(scope="module")
def portod() -> Iterator[DevPortod]:
    with DevPortod() as server:
        yield server


def test_whatever_happens_the_next_pass_makes_the_files_true(portod: DevPortod) -> None:
    Story.server = portod
    # A pass in a fork may write to what pytest captured: nothing of the child may survive it.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    run_state_machine_as_test(
        Story,
        settings=settings(
            max_examples=STORIES,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
