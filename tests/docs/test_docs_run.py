"""What the documents show as typed is typed, on a host with apt, dpkg, a daemon and etcd."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.documents import DOCS, REPOSITORY, Command, find_blocks, list_documents
from helpers.etcd import EtcdServer, list_missing
from helpers.example import NAME, VERSION, ExampleHost
from helpers.programs import find_free_ports, wait_for

from ya_salt.store import LAST_PASS, read_store

NOT_RUN = {
    r"make |pip |git ": "about a checkout: CI itself begins with these",
    r"(sudo )?apt(-get)? |lintian |debootstrap ": "changes the machine: `make test-deb` installs",
    r"(sudo )?systemctl |journalctl ": "needs systemd as init: tests/agent/test_units.py",
    r"salt\S* ": "needs Salt: tests/salt",
    r"curl .*example\.org": "a server of nobody's: tests/gate/test_fleetlock.py",
    r"(for keys in .*\n\s+)?etcdctl ": "the whole block is run by tests/gate/test_etcd_auth.py",
    r".*--override-gate ": "wants root at a terminal: tests/e2e/test_rollout.py",
    r"\S+ [^\n]*\[": "a synopsis",
    r"mount |umount ": "changes the machine",
}
"""What begins so -> why it is not run here."""

ENDLESS = re.compile(r"ya-salt run\b")
"""Goes on until it is told to end."""

ENDS_WITH = {"ya-salt plan": {0, 4}, "orlyctl simulate": {0, 1}}
"""Exit codes of what may end with another one than 0: something to do; the rollout halts."""

MODULES = {
    "ya-salt": "ya_salt.cli.main",
    "orlyctl": "ya_salt.cli.orlyctl",
    "dev-portod": "devporto",
}


class World:
    """A host whose daemon was updated once, in a folder with the files that documents speak of."""

    def __init__(self, folder: Path, host: ExampleHost, etcd: EtcdServer) -> None:
        self.host = host
        self.home = folder / "home"
        self._etcd = etcd
        self._port = str(find_free_ports(1)[0])
        self._make_programs(folder / "bin")
        self._fill_home()
        host.release("2.4")
        shutil.copy(REPOSITORY / "tests/data/juggler-agent-rtc.yaml", host.spec_file)
        for version in (VERSION, "2.4"):
            text = host.spec_file.read_text().replace(VERSION, version)
            host.spec_file.write_text(text)
            done = host.run("apply")
            assert done.returncode == 0, done.stderr

    def _make_programs(self, folder: Path) -> None:
        folder.mkdir()
        for name, module in MODULES.items():
            program = folder / name
            program.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self._path = f"{folder}:{os.environ['PATH']}"

    def _fill_home(self) -> None:
        self.home.mkdir()
        shutil.copy(REPOSITORY / "tests/data/juggler-agent-rtc.yaml", self.home)
        shutil.copy(DOCS / "dashboards/porto-daemons.rules.yml", self.home)
        rule = (DOCS / "rules/porto-daemon-juggler-agent-rtc.yaml").read_text()
        (self.home / "rule.yaml").write_text(rule)
        other = rule.replace("porto-daemon-juggler-agent-rtc", "porto-daemon-juggler-client")
        (self.home / "porto-daemon-juggler-client.yaml").write_text(other)

    def type_in(self, text: str) -> subprocess.CompletedProcess[str]:
        """As its shell takes it, once the paths are this host's."""
        here = {
            "/etc/hostman/porto-daemons.d": str(self.host.specs_dir),
            "/var/log/ya-salt.log": str(self.host.log_file),
            "8080": self._port,
        }
        for path, own in here.items():
            text = text.replace(path, own)
        text = re.sub(r"\bNAME\b", NAME, text)
        text = re.sub(r"\bRULE\b", f"porto-daemon-{NAME}", text)
        environment = {
            **self.host.environment,
            "PATH": self._path,
            "ORLY_ENDPOINTS": self._etcd.url,
        }
        with subprocess.Popen(
            ["sh", "-ec", f"exec {text}" if ENDLESS.match(text) else text],
            cwd=self.home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            if ENDLESS.match(text):
                # It has to be at work first, however busy the machine is.
                wait_for(lambda: "agent:" in self.host.log_file.read_text(), text)
                assert process.poll() is None, process.communicate()
                process.terminate()
            out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(text, process.returncode, out, err)


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdServer]:
    missing = " ".join(list_missing())
    if missing and os.geteuid() == 0:
        pytest.fail(f"programs are missing that .ci/prepare-servers unpacks: {missing}")
    if missing:
        pytest.skip(f"Debian packages are missing: apt-get install {missing}")
    with EtcdServer() as server:
        yield server


@pytest.fixture(scope="module")
def world(etcd: EtcdServer) -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="ys."))
    folder.chmod(0o755)
    with ExampleHost(folder) as host:
        yield World(folder, host, etcd)
    shutil.rmtree(folder, ignore_errors=True)


def list_typed(path: Path) -> list[Command]:
    return [command for block in find_blocks(path) for command in block.list_commands()]


def find_reason(command: Command) -> str:
    """Why it is not run; "" where it is."""
    found = (why for pattern, why in NOT_RUN.items() if re.match(pattern, command.text, re.DOTALL))
    return next(found, "")


def list_run(path: Path) -> list[Command]:
    return [command for command in list_typed(path) if not find_reason(command)]


README = REPOSITORY / "README.md"
RUN = [path for path in list_documents() if list_run(path) and path != README]


def check(command: Command, done: subprocess.CompletedProcess[str]) -> None:
    allowed = next(
        (codes for text, codes in ENDS_WITH.items() if command.text.startswith(text)), {0}
    )
    assert done.returncode in allowed, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("path", RUN, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_what_a_document_shows_works_as_it_is_shown(path: Path, world: World) -> None:
    for command in list_run(path):
        check(command, world.type_in(command.text))


def test_what_the_readme_shows_works_beside_the_agent(world: World) -> None:
    def read(name: str) -> str:
        return world.host.values(name, name="hello").get(name, "")

    pids = {}
    with Agent(world.host):
        for command in list_run(README):
            before = time.time()
            done = world.type_in(command.text)
            check(command, done)
            if "porto-daemons.d" in command.text:
                wait_for_pass(world.host, before)
            if "64Mb" in command.text:
                pids[command.text[:3]] = read("root_pid")
            if "restart hello" in command.text:
                pids["restart"] = read("root_pid")
                assert read("memory_limit") == str(128 << 20)
            if command.text.startswith("ya-salt status hello"):
                assert "ready" in done.stdout
            if command.text.startswith("ya-salt history hello"):
                assert "to see how it is done" in done.stdout
    assert pids["cat"] == pids["sed"] != pids["restart"]
    assert not read("state")


class Agent:
    """`ya-salt run`, for as long as the block lasts."""

    def __init__(self, host: ExampleHost) -> None:
        self._host = host

    def __enter__(self) -> None:
        command = [sys.executable, "-m", "ya_salt.cli.main", "run"]
        began = time.time()
        self._process = subprocess.Popen(
            command, env=self._host.environment, stdin=subprocess.DEVNULL
        )
        wait_for_pass(self._host, began)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        assert self._process.wait(60) == 0


def wait_for_pass(host: ExampleHost, moment: float) -> None:
    wait_for(lambda: find_last_pass(host) >= moment, "a pass that began since")


def find_last_pass(host: ExampleHost) -> float:
    """When the last pass that is over began."""
    store = read_store(str(host.state_dir))
    if store is None:
        return 0.0
    try:
        return float((store.load_fact(LAST_PASS) or {}).get("started_at", 0.0))
    finally:
        store.close()


def test_what_is_typed_stands_in_a_block_that_is_looked_at() -> None:
    programs = tuple(f"    {name} " for name in MODULES)
    for path in list_documents():
        text = re.sub(r"^ *```.*?^ *```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        loose = [line for line in text.splitlines() if line.startswith(programs)]
        assert not loose, f"{path}: write ```sh around {loose}"


def test_most_is_run_and_what_is_not_has_a_reason_that_is_needed() -> None:
    typed = [command for path in list_documents() for command in list_typed(path)]
    assert sum(1 for command in typed if not find_reason(command)) > 20
