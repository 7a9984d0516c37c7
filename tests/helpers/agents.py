"""A `ya-salt run` of one's own, on a DevPortod, in a folder. Needs no pytest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from helpers.apart import name_variables
from helpers.debs import Repository, make_root
from helpers.portod import DevPortod
from helpers.programs import wait_for
from ya_salt.converge.journal import load_last_pass
from ya_salt.porto.client import PortoClient
from ya_salt.store import read_store

LONG_S = 3000
"""No test lasts that long: what it sees is no pass of the clock."""


class AgentHost:
    """A daemons directory, a state directory and a Porto server below `folder`."""

    def __init__(self, folder: Path, *, interval_s: int = LONG_S) -> None:
        self.folder = folder
        self.specs_dir = folder / "specs"
        self.state_dir = folder / "state"
        self.log_file = folder / "log"
        self.settings_file = folder / "settings.yaml"
        self.root = folder / "root"
        self.repository = Repository(folder / "repository")
        self.settings_file.write_text(f"interval_s: {interval_s}\n")
        self.portod = DevPortod()
        self.process: subprocess.Popen[bytes] | None = None
        self.variables: dict[str, str] = {}
        self.prefix: Sequence[str] = ()
        """What the agent's command line begins with: a program that becomes it."""

    def __enter__(self) -> AgentHost:
        self.specs_dir.mkdir(mode=0o755)
        self.repository.write_index()
        make_root(self.root, self.repository)
        (self.root / "var/lib/dpkg").mkdir(parents=True)
        (self.root / "var/lib/dpkg/status").touch()
        self.portod.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        # Of a test that failed pytest shows it.
        print(self.log())
        self.portod.stop()

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "YA_SALT_CONFIG": str(self.settings_file),
            "YA_SALT_SPECS_DIR": str(self.specs_dir),
            "YA_SALT_STATE_DIR": str(self.state_dir),
            "YA_SALT_PORTO_SOCKET": self.portod.socket_path,
            "YA_SALT_ROOT": str(self.root),
            "YA_SALT_LOG_FILE": str(self.log_file),
            **name_variables(self.folder),
            **self.variables,
        }

    # -- the agent -----------------------------------------------------------------------------

    def start(self) -> None:
        """Start the agent, and wait until its first pass is over."""
        before = self.last_pass()
        self.begin()
        wait_for(lambda: self.last_pass() != before, "the agent's first pass")

    def begin(self) -> None:
        """Start the agent, and wait until it listens."""
        before = self.log().count("agent: started")
        self.process = subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "ya_salt.cli.main", "run"],
            env=self.environment,
            # Python looks there first.
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
        )
        wait_for(lambda: self.log().count("agent: started") > before, "the agent listens")

    def end(self, number: int = signal.SIGTERM, within_s: float = 20) -> int:
        """Signal it, and give its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(within_s)
        self.process = None
        return code

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `ya-salt WORDS…` beside it."""
        return subprocess.run(
            [sys.executable, "-m", "ya_salt.cli.main", *words],
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        )

    def last_pass(self) -> float:
        """When the last pass began; 0.0 before the first one."""
        store = read_store(str(self.state_dir)) if self.state_dir.exists() else None
        if store is None:
            return 0.0
        try:
            told = load_last_pass(store, str(self.state_dir))
        finally:
            store.close()
        return float(told["started_at"]) if isinstance(told, dict) else 0.0

    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def passes(self) -> int:
        """How many passes something has woken, by the log."""
        return self.log().count("agent: a pass, as ")

    # -- daemons -------------------------------------------------------------------------------

    def text(self, name: str, *lines: str, package: str = "") -> str:
        """The file of a daemon that sleeps; `lines` are further properties.

        `package` is NAME=VERSION.
        """
        more = "".join(f"    {line}\n" for line in lines)
        named, _, version = package.partition("=")
        needs = f"  packages: [{{name: {named}, version: '{version}'}}]\n" if package else ""
        return (
            f"meta: {{name: {name}, version: '1'}}\nspec:\n{needs}  min_ready_s: 0\n  properties:\n"
            f"    cmd: [sleep, '1000']\n{more}"
        )

    def drop(self, name: str, *lines: str, package: str = "") -> None:
        """As a person or a tool that renames a finished file does."""
        draft = self.folder / f"{name}.draft"
        draft.write_text(self.text(name, *lines, package=package))
        draft.rename(self.specs_dir / f"{name}.yaml")

    def value(self, name: str, variable: str) -> str:
        """A property of a container; "" where there is none."""
        with PortoClient(self.portod.socket_path) as client:
            return client.get([name], [variable]).get(name, {}).get(variable, "")

    def is_running(self, name: str) -> bool:
        return self.value(name, "state") == "running"

    def kill_daemon(self, name: str) -> None:
        os.kill(int(self.value(name, "root_pid")), signal.SIGKILL)


def measure(act: Callable[[], None], is_so: Callable[[], bool], what: str) -> float:
    """Seconds from the beginning of `act` until it is so."""
    started = time.monotonic()
    act()
    give_up = started + 30
    while not is_so():
        if time.monotonic() > give_up:
            raise TimeoutError(f"in vain waited for: {what}")
        time.sleep(0.01)
    return time.monotonic() - started
