"""The same stories on a host that has to ask, and whose gate is closed, cut off and robbed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import pytest
from helpers.etcd import EtcdServer, list_missing
from helpers.portod import DevPortod
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test
from test_chaos import NAMES, STORIES, Story

from ya_salt.errors import RetryError
from ya_salt.gate.admin import RuleAdmin
from ya_salt.gate.decide import Pause
from ya_salt.gate.etcd import Etcd
from ya_salt.gate.factory import make_gate
from ya_salt.gate.protocol import Granted, Slot, SlotRequest
from ya_salt.gate.rule_file import parse_rule
from ya_salt.model import GateSettings, UpdatePolicy

DAEMONS = ("red", "green", "blue")


class GatedStory(Story):
    """Whatever becomes of the gate: it stops nothing, and open again it lets everything through."""

    etcd: EtcdServer

    def __init__(self) -> None:
        super().__init__()
        prefix = f"/{uuid4().hex}/"
        self.gate = GateSettings(type="orly", endpoints=(self.etcd.url,), prefix=prefix)
        self.passes.settings = replace(self.passes.settings, gate=self.gate, hostname="host")
        self.client = Etcd(self.gate)
        self.admin = RuleAdmin(self.client, prefix)
        self.others: dict[str, Slot] = {}
        self.ahead_s = 0.0
        self.passes.now = lambda: time.time() + self.ahead_s
        for name in DAEMONS:
            text = f"meta: {{name: porto-daemon-{name}}}\nspec: {{max_concurrent: 1}}"
            self.admin.apply(parse_rule(text, "rule"))

    def teardown(self) -> None:
        self.client.close()
        super().teardown()

    def list_pids(self) -> dict[str, str]:
        """Of all that runs, but the neighbour."""
        with self.passes.client() as client:
            found = client.get(["*"], ["root_pid", "state"])
        return {
            name: values["root_pid"]
            for name, values in found.items()
            if values["state"] == "running" and name in DAEMONS
        }

    # -- what becomes of the gate ------------------------------------------------------------------

    @rule(name=NAMES)
    def pause(self, name: str) -> None:
        self.admin.pause(f"porto-daemon-{name}", Pause("wait", "me", 0.0))

    @rule(name=NAMES)
    def let_another_host_in(self, name: str) -> None:
        gate = make_gate(self.gate, "other")
        assert gate is not None
        answer = gate.ask(SlotRequest(name, "update", "1"))
        if isinstance(answer, Granted) and answer.held is not None:
            self.others[name] = answer.held
        gate.close()

    @rule(name=NAMES)
    def release_by_hand(self, name: str) -> None:
        with suppress(RetryError):
            self.admin.release(f"porto-daemon-{name}", "host", "robbed", "me", 0.0)

    @rule()
    def cut_the_line(self) -> None:
        nobody = replace(self.gate, endpoints=("http://127.0.0.1:1",))
        self.passes.settings = replace(self.passes.settings, gate=nobody)

    @rule()
    def mend_the_line(self) -> None:
        self.passes.settings = replace(self.passes.settings, gate=self.gate)

    def open(self) -> None:
        self.mend_the_line()
        gate = make_gate(self.gate, "other")
        assert gate is not None
        for held in self.others.values():
            gate.release(held)
        gate.close()
        self.others.clear()
        for name in DAEMONS:
            self.admin.resume(f"porto-daemon-{name}")

    # -- and what has to come of it ----------------------------------------------------------------

    @precondition(lambda self: self.wanted)
    @rule(how=st.sampled_from(["paused", "cut off"]))
    def pass_stops_nothing_while_the_gate_is_closed(self, how: str) -> None:
        if how == "cut off":
            self.cut_the_line()
        for name in DAEMONS:
            self.admin.pause(f"porto-daemon-{name}", Pause("wait", "me", 0.0))
        self.wait_for_weak_ones()
        before = self.list_pids()
        self.run_pass()
        after = self.list_pids()
        assert {name: after.get(name) for name in before} == before

    @rule()
    def pass_makes_the_files_true(self) -> None:
        self.open()
        super().pass_makes_the_files_true()
        self.check_slots()
        self.ahead_s += UpdatePolicy().watch_s + 1
        super().pass_makes_the_files_true()
        assert [name for name in self.wanted if self.statuses[name].trial] == []
        self.check_slots()

    def check_slots(self) -> None:
        """Whoever is on probation, or failed, keeps its slot unless it is robbed; nobody else."""
        for name in self.wanted:
            status = self.statuses[name]
            holders = self.admin.read(f"porto-daemon-{name}").holders
            found = [(holder.host, holder.state) for holder in holders]
            kept = "settling" if status.trial else "failed" if status.rejection else ""
            assert found in ([], [("host", kept)]), (name, kept)


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdServer]:
    missing = " ".join(list_missing())
    if missing and os.geteuid() == 0:
        pytest.fail(f"programs are missing that .ci/prepare-servers unpacks: {missing}")
    if missing:
        pytest.skip(f"Debian packages are missing: apt-get install {missing}")
    with EtcdServer() as server:
        yield server


def test_whatever_becomes_of_the_gate_it_stops_nothing(etcd: EtcdServer) -> None:
    GatedStory.etcd = etcd
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with DevPortod() as server:
        GatedStory.server = server
        run_state_machine_as_test(
            GatedStory,
            settings=settings(
                max_examples=STORIES,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
