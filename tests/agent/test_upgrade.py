"""ya-salt is upgraded while it runs: by a pass of its own, or by somebody else."""

from __future__ import annotations

from pathlib import Path

from helpers.agents import AgentHost
from helpers.programs import wait_for

import ya_salt

PLACE = "usr/lib/python3/dist-packages"


def publish(host: AgentHost, version: str, *, broken: bool = False) -> None:
    """Put a package of this checkout's ya-salt into the repository, under another version."""
    here = Path(ya_salt.__file__).parent
    files = {
        f"{PLACE}/ya_salt/{path.relative_to(here)}": path.read_text() for path in here.rglob("*.py")
    }
    init = (here / "__init__.py").read_text()
    assert f'"{ya_salt.__version__}"' in init
    files[f"{PLACE}/ya_salt/__init__.py"] = init.replace(ya_salt.__version__, version)
    if broken:
        files[f"{PLACE}/ya_salt/agent/loop.py"] = "raise ImportError('half an upgrade')\n"
    host.repository.add("ya-salt", version, files=files)
    host.repository.write_index()


def start(host: AgentHost) -> None:
    """Install 1.0 by the checkout, and start the agent from the package."""
    publish(host, "1.0")
    host.drop("one", package="ya-salt=1.0")
    assert host.run("apply").returncode == 0
    host.variables["PYTHONPATH"] = str(host.root / PLACE)
    # Debian's packages clear away what Python has compiled. Ours do not, and as all their files are
    # of one time and often of one size, Python would take what it has compiled of the old version.
    host.variables["PYTHONDONTWRITEBYTECODE"] = "1"
    host.start()
    assert "agent: started version=1.0" in host.log()


def test_a_pass_that_upgrades_ya_salt_goes_on_as_the_new_one(host: AgentHost) -> None:
    start(host)
    assert host.process is not None
    pid = host.process.pid
    publish(host, "2.0")
    host.drop("one", package="ya-salt=2.0")
    wait_for(lambda: f"agent: started version=2.0 pid={pid}" in host.log(), "the new one", 40)
    host.drop("two")
    wait_for(lambda: host.is_running("two"), "the new one works", 10)
    assert host.is_running("one")
    assert host.end() == 0


def test_a_new_one_that_does_not_start_leaves_the_old_one_at_work(host: AgentHost) -> None:
    start(host)
    publish(host, "2.0", broken=True)
    host.drop("one", package="ya-salt=2.0")
    wait_for(lambda: "the new one does not start: ImportError" in host.log(), "it is told", 40)
    host.drop("two")
    wait_for(lambda: host.is_running("two"), "the old one works", 10)
