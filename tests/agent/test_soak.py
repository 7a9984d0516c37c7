"""The agent over many events, a thousand files at once, a full disk: it works on and does not grow.

`make soak` makes thirty thousand events; YA_SALT_TEST_EVENTS is a third of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.agents import AgentHost
from helpers.programs import wait_for

from ya_salt.porto.client import PortoClient

EVENTS = int(os.environ.get("YA_SALT_TEST_EVENTS", "1000"))


def read_memory(pid: int) -> int:
    """Resident, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def count_descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def make_events(host: AgentHost, count: int) -> None:
    """Of every kind, as fast as the agent's passes are made, and some faster."""
    status = host.root / "var/lib/dpkg/status"
    with PortoClient(host.portod.socket_path) as client:
        for number in range(count // 5):
            host.drop("one", f"memory_limit: {100 + number % 7}Mb")
            (host.specs_dir / f"broken{number % 3}.yaml").write_text(f"meta: {{name: x{number}\n")
            (host.specs_dir / f"broken{number % 3}.yaml").unlink()
            new = status.with_name("status-new")
            shutil.copy(status, new)
            new.rename(status)
            client.create_weak(f"foreign{number % 11}")
            client.destroy(f"foreign{number % 11}")
            if number % 20 == 0 and host.is_running("two"):
                # One that keeps dying rests for a while.
                host.kill_daemon("two")


def measure_rounds(host: AgentHost, pid: int, events: int) -> list[int]:
    """The agent's memory after each third of so many events."""
    found = []
    for _ in range(3):
        make_events(host, events // 3)
        time.sleep(1)
        found.append(read_memory(pid))
    return found


def test_many_events_cost_no_memory_and_no_descriptors(host: AgentHost) -> None:
    host.drop("one", "memory_limit: 100Mb")
    host.drop("two", "max_respawns: 0")
    host.start()
    assert host.process is not None
    pid = host.process.pid
    descriptors = count_descriptors(pid)
    # Between and within passes it differs by a megabyte, and what is remembered fills up first.
    memory = max(measure_rounds(host, pid, EVENTS))
    make_events(host, EVENTS)
    after = min(measure_rounds(host, pid, EVENTS))
    # A megabyte for ten thousand; a short run tells less, as pages come in lumps.
    allowed = max(2 << 20, 2 * (EVENTS << 20) // 10_000)
    assert after - memory <= allowed, (memory, after)
    time.sleep(2)
    assert count_descriptors(pid) <= descriptors + 1
    assert len(host.log().splitlines()) < 2000
    host.drop("three")
    wait_for(lambda: host.is_running("three"), "it works on")


def test_a_thousand_files_dropped_at_once_are_a_few_passes(host: AgentHost) -> None:
    host.start()
    for number in range(1000):
        host.drop(f"d{number}")
    wait_for(lambda: all(host.is_running(f"d{n}") for n in (0, 500, 999)), "all run", 180)
    assert host.passes() <= 10


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = folder / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "tmpfs", str(place)], check=False
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_survived(small_disk: Path, folder: Path) -> None:
    home = folder / "home"
    home.mkdir(mode=0o755)
    with AgentHost(home) as host:
        host.state_dir = small_disk / "state"
        host.log_file = small_disk / "log"
        host.drop("one", "max_respawns: 0")
        host.start()
        with (small_disk / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"x" * 4096)
            except OSError:
                pass
        old = host.value("one", "root_pid")
        host.kill_daemon("one")
        wait_for(lambda: host.value("one", "root_pid") not in {"", old}, "one runs again", 10)
        host.drop("two")
        wait_for(lambda: host.is_running("two"), "two runs", 10)
        (small_disk / "filler").unlink()
        host.drop("three")
        wait_for(lambda: host.is_running("three"), "three runs", 10)
        assert host.end() == 0
