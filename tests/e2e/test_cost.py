"""A pass in which nothing changed costs one dpkg-query and one Porto `get`; counted, not timed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.apart import set_apart
from helpers.example import NAME, ExampleHost
from helpers.programs import wait_for

from ya_salt import as_left
from ya_salt.converge import preview, quick
from ya_salt.converge.host import PassRequest, make_host
from ya_salt.converge.known_packages import KnownPackages
from ya_salt.converge.plan import make_plan
from ya_salt.converge.run import run_pass
from ya_salt.model import Observed, Settings
from ya_salt.porto.client import PortoClient
from ya_salt.quick_dataclass import replace
from ya_salt.specs.directory import load_specs

EXAMPLE = Path(__file__).parent.parent / "data" / "juggler-agent-rtc.yaml"


class Counter:
    """The host as a pass sees it, with every Porto request and every process counted."""

    def __init__(self, example: ExampleHost, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clients: list[PortoClient] = []
        self.programs: list[str] = []
        self.known = KnownPackages()
        """Of a process that makes pass after pass."""
        self._example = example
        real = subprocess.Popen.__init__

        def start(process: subprocess.Popen, args, *rest, **more) -> None:
            self.programs.append(Path(args[0]).name)
            real(process, args, *rest, **more)

        monkeypatch.setattr(subprocess.Popen, "__init__", start)

    def connect(self) -> PortoClient:
        self.clients.append(PortoClient(self._example.portod.socket_path))
        return self.clients[-1]

    def run(self) -> None:
        self.clients.clear()
        self.programs.clear()
        settings = Settings(
            specs_dir=str(self._example.specs_dir),
            state_dir=str(self._example.state_dir),
            root=str(self._example.root),
            porto_socket=self._example.portod.socket_path,
            monitoring=set_apart(self._example.folder),
        )
        host = replace(make_host(settings), connect=self.connect, known_packages=self.known)
        glimpse = quick.take_glimpse(settings, {"config": str(self._example.folder / "none")})
        loaded = load_specs(settings.specs_dir)
        self.result = run_pass(host, PassRequest(loaded.specs, loaded, glimpse=glimpse))

    @property
    def requests(self) -> list[str]:
        return [request for client in self.clients for request in client.requests]


def test_a_pass_without_changes_asks_dpkg_once_and_porto_once(
    running: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(running, monkeypatch)
    counter.run()
    assert counter.result.ok
    assert counter.requests == ["get"]
    assert counter.programs in (["dpkg-query"], [])
    assert counter.result.touched == frozenset()


def test_whoever_makes_pass_after_pass_asks_dpkg_about_one_among_many_once(
    running: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(as_left, "SETTLED_S", 0.05)
    monkeypatch.setattr(quick, "_CLOCK_STEP_S", 1)
    text = running.spec_file.read_text()
    for name in ("second", "third"):
        (running.specs_dir / f"{name}.yaml").write_text(text.replace(NAME, name))
    counter = Counter(running, monkeypatch)

    def is_at_rest() -> bool:
        counter.run()
        assert "dpkg-query" in counter.programs, "all are looked at"
        return as_left.read(str(running.state_dir)) is not None

    wait_for(is_at_rest, "a pass has left all as it was")
    change_memory(running, "2Gb", "3Gb")
    counter.run()
    assert f"set {NAME} memory_limit" in counter.requests
    assert counter.programs == []
    (running.root / "var/lib/dpkg/status").write_text("")
    counter.run()
    assert counter.programs[0] == "dpkg-query"
    assert "apt-get" in counter.programs, "they are put in again"
    assert counter.result.ok


def test_a_live_change_asks_portod_what_is_dynamic_and_touches_nothing_else(
    running: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_memory(running, "2Gb", "3Gb")
    counter = Counter(running, monkeypatch)
    counter.run()
    writes = [request for request in counter.requests if request.startswith(("set", "kill", "des"))]
    assert writes == [
        f"set {NAME} memory_limit",
        f"set {NAME} private",
        f"set {NAME} labels[HOSTMAN.spec]",
    ]
    assert counter.requests.count("propertyList") == 1
    assert set(counter.programs) <= {"dpkg-query"}


def test_a_plan_is_made_once_unless_portod_has_changed_its_mind(
    running: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Observed] = []

    def plan(specs, context, observed, intents):
        made.append(observed)
        return make_plan(specs, context, observed, intents)

    monkeypatch.setattr(preview, "make_plan", plan)
    counter = Counter(running, monkeypatch)
    change_memory(running, "2Gb", "3Gb")
    counter.run()
    assert [bool(item.dynamic) for item in made] == [True]
    assert counter.result.touched
    made.clear()
    monkeypatch.setattr(PortoClient, "version", lambda _client: "9.9")
    change_memory(running, "3Gb", "2Gb")
    counter.run()
    assert [item.portod == "9.9" for item in made] == [False, True]
    made.clear()
    change_memory(running, "2Gb", "3Gb")
    counter.run()
    assert [item.portod for item in made] == ["9.9"]


def change_memory(host: ExampleHost, old: str, new: str) -> None:
    text = host.spec_file.read_text()
    assert f'memory_limit: "{old}"' in text
    host.spec_file.write_text(text.replace(f'memory_limit: "{old}"', f'memory_limit: "{new}"'))


def test_an_update_stops_the_old_one_as_documented(
    running: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = running.spec_file.read_text().replace('virt_mode: "host"', 'virt_mode: "app"')
    running.spec_file.write_text(text)
    counter = Counter(running, monkeypatch)
    counter.run()
    order = [item for item in counter.requests if item.split()[0] in {"kill", "wait", "destroy"}]
    stop = [f"kill {NAME} 15", f"wait {NAME}", f"destroy {NAME}"]
    assert [item for item in order if "rehearsal" not in item] == stop
    assert counter.requests.index(f"set {NAME} respawn") < counter.requests.index(stop[0])
    created = counter.requests.index(f"create {NAME}")
    assert created > counter.requests.index(stop[2])
    assert counter.requests.index(f"start {NAME}") < counter.requests.index(f"set {NAME} weak")


def test_fifty_daemons_are_looked_at_with_one_get(
    host: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(EXAMPLE, host.spec_file)
    for number in range(49):
        (host.specs_dir / f"{number}.yaml").write_text(
            f"meta: {{name: d{number}}}\n"
            "spec:\n"
            "  min_ready_s: 0\n"
            "  properties: {cmd: [sleep, '1000'], isolate: false}\n"
            "  packages: [{name: juggler-client-core, version: 2.3.2001221352}]\n"
        )
    counter = Counter(host, monkeypatch)
    counter.run()
    assert counter.result.ok, [item for item in counter.result.statuses if item.error]
    counter.run()
    assert counter.result.ok
    assert counter.requests == ["get"]
    assert counter.programs in (["dpkg-query"], [])
