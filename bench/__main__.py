"""Measure a pass that finds nothing to do, beside the bare questions that it cannot do without.

The peers are what any tool has to ask: dpkg-query for the packages and portod for the containers,
each alone, in the same run on the same host. What is reported is the ratio to them, as seconds of
one machine tell nothing about another; medians of several runs, interleaved.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from helpers.apart import set_apart  # noqa: E402 - the tests' helpers are not installed
from helpers.example import ExampleHost  # noqa: E402 - the tests' helpers are not installed

from ya_salt.converge.host import Host, PassRequest  # noqa: E402 - after the path above
from ya_salt.converge.observe import look_at_containers  # noqa: E402 - after the path above
from ya_salt.converge.run import run_pass  # noqa: E402 - after the path above
from ya_salt.model import Settings  # noqa: E402 - after the path above
from ya_salt.packages.apt import Apt  # noqa: E402 - after the path above
from ya_salt.specs.directory import load_specs  # noqa: E402 - after the path above

SPEC = """\
meta: {{name: daemon-{number}, version: "1"}}
spec:
  min_ready_s: 0
  properties:
    cmd: [sleep, "100000"]
    user: "{user}"
    memory_limit: 64Mb
    cpu_limit: 1c
    env: {{NUMBER: "{number}", LANG: C}}
  packages:
    - {{name: package-{number}, version: "1.0"}}
"""


class Measured:
    """A host with `count` daemons that all run, and one thing to measure on it after another."""

    def __init__(self, host: ExampleHost, count: int) -> None:
        self._example = host
        self.settings = Settings(
            specs_dir=str(host.specs_dir),
            state_dir=str(host.state_dir),
            root=str(host.root),
            monitoring=set_apart(host.folder),
        )
        self.host = Host(self.settings, Apt(root=self.settings.root), host.client)
        for number in range(count):
            host.repository.add(f"package-{number}", "1.0")
            text = SPEC.format(number=number, user="root" if _is_root() else "nobody")
            (host.specs_dir / f"{number}.yaml").write_text(text)
        host.repository.write_index()
        self.first_s = self.time(self.run_pass)
        loaded = load_specs(self.settings.specs_dir)
        self.specs = loaded.specs
        self.names = [package.name for spec in self.specs for package in spec.packages]

    @staticmethod
    def time(action: Callable[[], object]) -> float:
        started = time.perf_counter()
        action()
        return time.perf_counter() - started

    def run_pass(self) -> None:
        loaded = load_specs(self.settings.specs_dir)
        result = run_pass(self.host, PassRequest(loaded.specs, loaded))
        if not result.ok:
            raise SystemExit(str([item for item in result.statuses if item.error][:3]))

    def run_command(self) -> None:
        done = self._example.run("apply")
        if done.returncode:
            raise SystemExit(done.stderr)

    def ask_dpkg(self) -> None:
        command = ["dpkg-query", f"--admindir={self._example.root}/var/lib/dpkg", "-W"]
        subprocess.run([*command, *self.names], stdout=subprocess.DEVNULL, check=True)

    def ask_porto(self) -> None:
        with self._example.client() as client:
            look_at_containers(client, self.specs, [spec.name for spec in self.specs])

    def load(self) -> None:
        load_specs(self.settings.specs_dir)

    def start_python(self) -> None:
        subprocess.run([sys.executable, "-c", "import yaml, google.protobuf.message"], check=True)


def _is_root() -> bool:
    return Path("/proc/self").stat().st_uid == 0


def measure(count: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="ysb.") as folder, ExampleHost(Path(folder)) as host:
        measured = Measured(host, count)
        actions = {
            "pass, nothing to do": measured.run_pass,
            "  reading the files": measured.load,
            "  peer: dpkg-query": measured.ask_dpkg,
            "  peer: Porto get": measured.ask_porto,
            "command `ya-salt apply`": measured.run_command,
            "  peer: python -c 'import …'": measured.start_python,
        }
        samples: dict[str, list[float]] = {name: [] for name in actions}
        for _ in range(rounds):
            for name, action in actions.items():
                samples[name].append(measured.time(action))
    report(count, measured.first_s, {name: statistics.median(s) for name, s in samples.items()})


def report(count: int, first_s: float, medians: dict[str, float]) -> None:
    peers = medians["  peer: dpkg-query"] + medians["  peer: Porto get"]
    print(f"\n{count} daemons (the first pass, with one apt transaction: {first_s:.1f} s)")
    for name, seconds in medians.items():
        print(f"  {name:32} {seconds * 1000:8.1f} ms  {seconds / peers:5.2f} x both peers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m bench")
    parser.add_argument("--daemons", type=int, nargs="+", default=[10, 100, 300])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for count in options.daemons:
        measure(count, options.rounds)


main()
