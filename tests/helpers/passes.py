"""Whole passes over a daemons directory without packages, in this process, on a DevPortod."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from helpers.apart import set_apart
from ya_salt.converge.host import Host, PassRequest, PassResult
from ya_salt.converge.preview import plan_pass
from ya_salt.converge.run import run_pass
from ya_salt.gate.factory import make_gate
from ya_salt.model import DaemonPlan, DaemonStatus, GateSettings, Settings
from ya_salt.packages.apt import Apt
from ya_salt.porto.client import PortoClient
from ya_salt.specs.directory import load_specs

NO_GATE = GateSettings()


class DoomedClient(PortoClient):
    """Dies, as from kill -9, instead of sending its process's n-th write."""

    writes_left = 0

    def _write(self, *arguments, **more):
        DoomedClient.writes_left -= 1
        if DoomedClient.writes_left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._write(*arguments, **more)


class Passes:
    """A daemons directory and a state directory below `folder`; `run` makes one pass."""

    def __init__(self, folder: Path, socket_path: str, gate: GateSettings = NO_GATE) -> None:
        self.folder = folder
        self.socket_path = socket_path
        self.specs_dir = folder / "specs"
        self.specs_dir.mkdir(mode=0o755)
        self.settings = Settings(
            specs_dir=str(self.specs_dir),
            state_dir=str(folder / "state"),
            porto_socket=socket_path,
            parallel=1,
            hostname="" if gate is NO_GATE else folder.name,
            monitoring=set_apart(folder),
            gate=gate,
        )
        self.requests: list[str] = []
        self.now: Callable[[], float] = time.time

    def write(
        self,
        name: str,
        properties: str,
        *,
        delete: bool = False,
        command: str = "cmd: [sleep, '1000']",
        version: str = "1",
        min_ready_s: int = 0,
        update: str = "",
    ) -> None:
        """Drop the daemon's file; `properties` are YAML lines. It is ready at once, or soon.

        `update` is what stands in the braces of its `update`.
        """
        lines = "".join(f"    {line}\n" for line in properties.splitlines())
        (self.specs_dir / f"{name}.yaml").write_text(
            f"meta: {{name: '{name}', version: '{version}', "
            f"delete_requested: {str(delete).lower()}}}\n"
            f"spec:\n  min_ready_s: {min_ready_s}\n  ready_timeout_s: 5\n  update: {{{update}}}\n"
            f"  properties:\n    {command}\n{lines}"
        )

    def run(
        self,
        make: Callable[[str], PortoClient] = PortoClient,
        *,
        is_strict: bool = True,
        **scope: Any,
    ) -> PassResult:
        """One pass; with `is_strict` no file may be broken."""
        loaded = load_specs(str(self.specs_dir))
        assert not (is_strict and loaded.rejected), loaded.rejected
        clients: list[PortoClient] = []

        def connect() -> PortoClient:
            clients.append(make(self.socket_path))
            return clients[-1]

        result = run_pass(self.make_host(connect), PassRequest(loaded.specs, loaded, **scope))
        self.requests = [request for client in clients for request in client.requests]
        return result

    def make_host(self, connect: Callable[[], PortoClient] | None = None) -> Host:
        gate = partial(make_gate, self.settings.gate)
        connect = connect or self.client
        return Host(self.settings, Apt(), connect, now=self.now, connect_gate=gate)

    def plan(self) -> dict[str, DaemonPlan]:
        """What a pass would do, by daemon."""
        loaded = load_specs(str(self.specs_dir))
        plans = plan_pass(self.make_host(), PassRequest(loaded.specs, loaded))
        return {plan.name: plan for plan in plans}

    def run_one(self) -> DaemonStatus:
        """A pass over exactly one daemon that has to end well; its status."""
        result = self.run()
        assert result.ok, result.statuses
        (status,) = result.statuses
        return status

    def client(self) -> PortoClient:
        return PortoClient(self.socket_path)

    def remove_all(self) -> None:
        for path in self.specs_dir.iterdir():
            self.write(path.stem, "", delete=True)
        self.run()
