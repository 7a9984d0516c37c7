"""Whatever happens to containers, sinks and ourselves: what was accepted is what happened."""

from __future__ import annotations

from collections import Counter as Tally
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from helpers.receiver import check_yasm
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from made import GOOD, make_news

from ya_salt.errors import StoreError
from ya_salt.http import Answer, Client, Deadline, NotSentError, RefusedError, UnansweredError
from ya_salt.model import (
    LABEL,
    Container,
    DaemonStatus,
    JugglerSettings,
    MonitoringSettings,
    PrometheusSettings,
    Settings,
)
from ya_salt.monitoring.report import load_memory, report, save_memory
from ya_salt.store import open_store

NAMES = ("a", "b", "c:d")
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where writing a store hundreds of times does not wait for a disk."""

SETTINGS = Settings(
    monitoring=MonitoringSettings(
        juggler=JugglerSettings(enabled=False), prometheus=PrometheusSettings(enabled=False)
    )
)


@dataclass
class Daemon:
    container: Container | None
    restart_count: int = 0
    phase: str = "Managed"


@dataclass
class World:
    """Daemons in containers, a store on disk, and an agent; `happened` is the truth."""

    state_dir: str
    daemons: dict[str, Daemon] = field(default_factory=dict)
    happened: Tally[tuple[str, str]] = field(default_factory=Tally)
    accepted: Tally[tuple[str, str]] = field(default_factory=Tally)
    ids: int = 0
    clock: int = 1_000

    # -- what happens --------------------------------------------------------------------------

    def create(self, name: str) -> None:
        self.ids += 1
        # portod numbers from the beginning again after a reboot: the time tells them apart.
        container = Container(
            name, "running", {LABEL: "x"}, id=str(self.ids % 3), created_at=self.clock
        )
        self.clock += 1
        old = self.daemons.get(name)
        self.daemons[name] = Daemon(container, old.restart_count if old else 0)

    def respawn(self, name: str, times: int) -> None:
        daemon = self.daemons.get(name)
        if daemon and daemon.container:
            count = daemon.container.respawn_count + times
            daemon.container = replace(daemon.container, respawn_count=count)
            self.happened[name, "respawn"] += times

    # -- a pass, in the order of converge.run ---------------------------------------------------

    def run(self, *, restart: str = "", mode: str = "accept", dies: str = "") -> None:
        """Dies: `half-way` (after restarting), `unsaved` (told, not written), `untold`."""
        store = open_store(self.state_dir)
        try:
            memory = load_memory(store)
            for name in memory.see_containers(self.containers()):
                self.daemons[name].restart_count += 1
            memory.mark_restarts([restart] if restart in self.daemons else [])
            with store.transaction():
                save_memory(store, memory)
            if restart in self.daemons:
                self.restart(restart, is_counted=dies != "half-way")
            if dies == "half-way":
                return
            memory.drop_marks([restart])
            memory.see_containers(self.containers())
            memory.see_statuses(self.statuses(), {}, {}, 0.0)
            with store.transaction():
                save_memory(store, memory)
            if dies != "untold":
                self.tell(store, memory, mode, is_saved=dies != "unsaved")
        finally:
            store.close()

    def restart(self, name: str, *, is_counted: bool) -> None:
        daemon = self.daemons[name]
        if daemon.container is None:
            return
        self.create(name)
        self.happened[name, "restart"] += 1
        self.daemons[name].restart_count = daemon.restart_count + is_counted

    def reset(self, name: str, times: int) -> None:
        """Somebody sets portod's total back right after a pass, and the next one sees less."""
        self.run(mode="absent")
        daemon = self.daemons.get(name)
        if daemon and daemon.container and daemon.container.respawn_count:
            less = min(times, daemon.container.respawn_count - 1)
            daemon.container = replace(daemon.container, respawn_count=0)
            self.respawn(name, less)
            self.run(mode="absent")

    def containers(self) -> list[Container]:
        return [daemon.container for daemon in self.daemons.values() if daemon.container]

    def statuses(self) -> list[DaemonStatus]:
        return [
            replace(GOOD, name=name, phase=daemon.phase, restart_count=daemon.restart_count)
            for name, daemon in self.daemons.items()
        ]

    def tell(self, store: Any, memory: Any, mode: str, *, is_saved: bool) -> None:
        told: list[Any] = []

        def post(
            _: Client, url: str, render: Any, deadline: Deadline, *, before_send: Any = None
        ) -> Answer:
            if mode == "absent":
                raise NotSentError(url)
            payload = render()
            if before_send is not None:
                before_send()
            told.append(payload)
            assert check_yasm(payload) == []
            if mode == "unread":
                raise RefusedError("it did not read the request")
            if mode == "unanswered":
                raise UnansweredError("no answer in time")
            if mode == "accept":
                self.take(payload)
            return Answer(200 if mode == "accept" else 503, "", b"")

        real = store.transaction

        @contextmanager
        def transaction(**asked: bool) -> Any:
            # The mark before sending is written; what comes after the answer is not.
            if not is_saved and told:
                raise StoreError("we are dead")
            with real(**asked):
                yield

        with (
            mock.patch.object(Client, "post", post),
            mock.patch.object(store, "transaction", transaction),
        ):
            report(store, SETTINGS, memory, make_news(*self.statuses()))

    def take(self, payload: Any) -> None:
        for item in payload:
            for value in item["values"]:
                for kind in ("respawn", "restart"):
                    suffix = f"-{kind}_count_thhh"
                    if value["name"].endswith(suffix):
                        name = value["name"][len("porto-daemon-") : -len(suffix)]
                        self.accepted[name.replace("/3a", ":"), kind] += value["val"]


names = st.sampled_from(NAMES)
modes = st.sampled_from(["accept", "accept", "absent", "unread", "unanswered", "503"])
events = st.one_of(
    st.tuples(st.just("respawn"), names, st.integers(1, 4)),
    st.tuples(st.just("pass"), modes, st.sampled_from(["", "", "untold", "unsaved"])),
    st.tuples(st.just("restart"), names, st.sampled_from(["", "half-way", "untold", "unsaved"])),
    st.tuples(st.just("recreate"), names),
    st.tuples(st.just("reset"), names, st.integers(0, 3)),
    st.tuples(st.just("remove"), names),
)


@example([("restart", "a", "half-way"), ("remove", "a"), ("recreate", "a"), ("restart", "a", "")])
@given(st.lists(events, max_size=25))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_sums_that_were_accepted_are_what_happened(story: list[tuple[Any, ...]]) -> None:
    with TemporaryDirectory(dir=MEMORY) as folder:
        world = World(str(Path(folder, "state")))
        for name in NAMES:
            world.create(name)
        for what, *more in story:
            match what:
                case "respawn":
                    world.respawn(*more)
                case "pass":
                    mode, dies = more
                    # Who dies unsaved had its yes: silence is another case.
                    world.run(mode="accept" if dies == "unsaved" else mode, dies=dies)
                case "restart":
                    name, dies = more
                    world.run(restart=name, dies=dies)
                case "recreate":
                    # Between two passes, by somebody else; unseen respawns would be nobody's.
                    world.run(mode="absent")
                    world.create(more[0])
                case "reset":
                    world.reset(*more)
                case "remove":
                    world.run(mode="absent")
                    world.daemons.pop(more[0], None)
        world.run()
        world.run()
        assert +world.accepted == +world.happened


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_a_delta_is_never_negative(first: int, then: int, told: int, is_new: bool) -> None:
    with TemporaryDirectory(dir=MEMORY) as folder:
        store = open_store(folder)
        memory = load_memory(store)
        memory.see_containers(
            [Container("a", "running", {LABEL: "x"}, respawn_count=first, id="1")]
        )
        memory.accept("yasm", {"a": (told, told)})
        after = "2" if is_new else "1"
        memory.see_containers(
            [Container("a", "running", {LABEL: "x"}, respawn_count=then, id=after)]
        )
        assert min(memory.list_news("yasm")["a"]) >= 0
        store.close()
