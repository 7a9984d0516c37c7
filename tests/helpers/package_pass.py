"""A host for whole passes over packages: spec files on disk, real apt and dpkg in a private root, a
real Porto server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from helpers.apart import set_apart
from helpers.package_host import Host, wanted
from helpers.portod import DevPortod
from ya_salt.converge.host import Host as WholeHost
from ya_salt.converge.host import PassRequest, PassResult
from ya_salt.converge.preview import plan_pass
from ya_salt.converge.run import run_pass
from ya_salt.model import DaemonPlan, DaemonStatus, Package, Settings
from ya_salt.porto.client import PortoClient
from ya_salt.specs.directory import load_specs

OTHER = "other=1.0"
PLAIN = "plain"
"""A daemon without packages."""

_SPEC = """\
meta: {{name: {name}, delete_requested: {delete}}}
spec:
  min_ready_s: 0
  properties: {{cmd: [sleep, '1000']}}
  packages:\
"""
FIRST_PACKAGE_LINE = _SPEC.count("\n") + 2


@dataclass
class PassHost(Host):
    """A daemons directory with one file for each group: `"alpha=1.0 shared=1.0"` is daemon alpha's.

    `programs` are the command lines of every process that passes in this process have started.
    """

    portod: DevPortod = field(kw_only=True)
    programs: list[tuple[str, ...]] = field(kw_only=True)

    @property
    def specs_dir(self) -> Path:
        return self.directory / "specs"

    def write_spec(
        self, name: str, *packages: Package, delete: bool = False, directory: Path | None = None
    ) -> Path:
        """Write `NAME.yaml`; packages have lines of their own from FIRST_PACKAGE_LINE on."""
        head = _SPEC.format(name=name, delete=json.dumps(delete))
        lines = [
            f"  - {json.dumps({'name': p.name, 'version': p.version, 'allow_held': p.allow_held})}"
            for p in packages
        ]
        file = (directory or self.specs_dir) / f"{name}.yaml"
        file.write_text("\n".join([head, *lines, ""] if lines else [f"{head} []\n"]))
        return file

    def ask(self, *groups: str, allow_held: bool = False) -> None:
        """Make the daemons directory exactly these groups; PLAIN has no packages."""
        for old in self.specs_dir.glob("*.yaml"):
            old.unlink()
        for group in groups:
            name = group.split("=", maxsplit=1)[0]
            packages = wanted(group, allow_held=allow_held) if "=" in group else ()
            self.write_spec(name, *packages)

    def ask_removal(self, name: str, *packages: str) -> None:
        self.write_spec(name, *wanted(" ".join(packages)), delete=True)

    def stand(self, *groups: str) -> None:
        self.ask(*groups)
        self.converge()

    @property
    def settings(self) -> Settings:
        return Settings(
            specs_dir=str(self.specs_dir),
            state_dir=str(self.directory / "state"),
            porto_socket=self.portod.socket_path,
            root=str(self.root),
            monitoring=set_apart(self.directory),
        )

    def run(self) -> PassResult:
        """One pass over the daemons directory."""
        self.progress.clear()
        self.programs.clear()
        return run_pass(self._make_host(), self._load())

    def plan(self) -> tuple[DaemonPlan, ...]:
        return plan_pass(self._make_host(), self._load())

    def _load(self) -> PassRequest:
        loaded = load_specs(str(self.specs_dir))
        assert not loaded.rejected, loaded.rejected
        return PassRequest(loaded.specs, loaded)

    def _make_host(self) -> WholeHost:
        return WholeHost(self.settings, self.apt, self.client, self.progress.append)

    def client(self) -> PortoClient:
        return PortoClient(self.portod.socket_path)

    def converge(self) -> dict[str, DaemonStatus]:
        """A pass after which everything is as asked, and one more, which has nothing to do."""
        result = self.run()
        assert result.ok, [(s.name, s.phase, s.error, s.ready) for s in result.statuses]
        assert not any(plan.steps for plan in self.plan())
        again = self.run()
        assert again.ok
        assert again.touched == frozenset()
        assert [argv[0] for argv in self.programs] in (["dpkg-query"], [])
        return {status.name: status for status in result.statuses}

    def fail(self, errors: Mapping[str, str]) -> dict[str, DaemonStatus]:
        """A pass in which these daemons fail for these reasons, and no other one fails.

        Those that fail are not started: there is none, or the old process goes on.
        """
        before = self.pids()
        result = self.run()
        statuses = {status.name: status for status in result.statuses}
        after = self.pids()
        for name, status in statuses.items():
            assert status.ready
            if name in errors:
                assert (status.ready.status, status.ready.reason) == (False, errors[name])
                assert status.ready.message
                assert after.get(name) == before.get(name), f"{name} was started"
            elif status.phase == "Managed":
                assert status.ready.status, (name, status.ready)
                assert name in after
        assert errors.keys() <= statuses.keys()
        return statuses

    def pids(self) -> dict[str, str]:
        """Daemon -> its main process, for those that run."""
        with self.client() as client:
            found = client.get(["*"], ["state", "root_pid"])
        return {
            name: values["root_pid"]
            for name, values in found.items()
            if values["state"] == "running"
        }

    def count_apt(self, verb: str) -> int:
        """How many apt-get processes the last pass started to change something."""
        return sum(
            argv[0] == "apt-get" and verb in argv and "-s" not in argv for argv in self.programs
        )

    def start_command(self, *words: str) -> subprocess.Popen[str]:
        """`ya-salt WORDS…` in a process of its own."""
        in_force = {
            "YA_SALT_SPECS_DIR": self.settings.specs_dir,
            "YA_SALT_STATE_DIR": self.settings.state_dir,
            "YA_SALT_PORTO_SOCKET": self.settings.porto_socket,
            "YA_SALT_ROOT": self.settings.root,
            "YA_SALT_LOG_FILE": str(self.directory / "ya-salt.log"),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "ya_salt.cli.main", *words],
            env={**os.environ, **in_force},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def remove_containers(self) -> None:
        with self.client() as client:
            for name in client.get(["*"], ["state"]):
                client.destroy(name)
