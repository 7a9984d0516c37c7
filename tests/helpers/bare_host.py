"""A host without packages, whose daemons do nothing, and passes over it that are waited for."""

from __future__ import annotations

import os
import time

from helpers.example import ExampleHost
from ya_salt.cli.main import main
from ya_salt.cli.quick import answer_quickly

SPEC = """\
meta: {{name: {name}, version: "1"}}
spec:
  min_ready_s: 0
  properties: {{cmd: [sleep, "1000"], memory_limit: 64Mb}}
"""


class BareHost(ExampleHost):
    """Without packages, whose building would take longer than the tests."""

    def __enter__(self) -> BareHost:
        self.folder.chmod(0o755)
        self.specs_dir.mkdir(mode=0o755)
        (self.root / "var/lib/dpkg/updates").mkdir(parents=True, exist_ok=True)
        (self.root / "var/lib/dpkg/status").touch()
        self.portod.start()
        return self


def settle() -> None:
    """Passes of this process's environment, until one has written down that all is as it was."""
    for _ in range(4):
        assert main(["apply"]) == 0
        if is_quick():
            return
        time.sleep(1.1)
    raise AssertionError("no pass was quick")


def is_quick() -> bool:
    return answer_quickly(["apply"]) == 0


def kill(host: ExampleHost, name: str) -> None:
    """End the daemon's process, and wait until portod has seen that."""
    pid = int(host.values("root_pid", name=name)["root_pid"])
    os.kill(pid, 9)
    give_up = time.monotonic() + 10
    while host.values("root_pid", name=name).get("root_pid") == str(pid):
        assert time.monotonic() < give_up
        time.sleep(0.05)
