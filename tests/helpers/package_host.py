"""A host for package tests: a repository and a private root, real apt-get, real dpkg."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from helpers.debs import Repository
from ya_salt.model import Package
from ya_salt.packages import command
from ya_salt.packages.apt import Apt
from ya_salt.packages.session import TransactionResult
from ya_salt.packages.transaction import PackagePass

needs_apt = pytest.mark.skipif(
    not (shutil.which("apt-get") and shutil.which("dpkg-deb")), reason="needs apt and dpkg"
)


def wanted(text: str, *, allow_held: bool = False) -> tuple[Package, ...]:
    """`"foo=1.0 bar=2"` as packages."""
    pairs = (word.split("=") for word in text.split())
    return tuple(Package(name, version, allow_held) for name, version in pairs)


@dataclass
class Host:
    """A private root and what was done with it."""

    directory: Path
    repository: Repository
    apt: Apt
    progress: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return Path(self.apt.root)

    def publish(self, name: str, version: str, **details: object) -> Path:
        """Build a package into the repository and renew the index."""
        deb = self.repository.add(name, version, **details)
        self.repository.write_index()
        return deb

    def configure(self, **settings: object) -> None:
        self.apt = replace(self.apt, **settings)  # type: ignore[arg-type]

    def new_pass(
        self,
        pinned: Mapping[str, str] | None = None,
        replaceable: Mapping[str, Sequence[str]] | None = None,
    ) -> PackagePass:
        self.progress.clear()
        return PackagePass(self.apt, self.progress.append, pinned, replaceable)

    def install(self, *groups: str) -> TransactionResult:
        """Install groups like `"foo=1.0 bar=2"`; a group is called by its first package."""
        return self.new_pass().install({_call(group): wanted(group) for group in groups})

    def go_back(
        self, *groups: str, pinned: Mapping[str, str] | None = None, allow_held: bool = False
    ) -> TransactionResult:
        """Take groups back to what they had, as a pass does whose update has failed."""
        named = {_call(group): wanted(group, allow_held=allow_held) for group in groups}
        self.progress.clear()
        work = PackagePass(self.apt, self.progress.append, pinned, None, tuple(named))
        return work.install(named)

    def stand(self, *groups: str) -> None:
        """Bring about what daemons run from before the story begins."""
        assert not self.install(*groups).errors

    def purge(self, *groups: str) -> TransactionResult:
        return self.new_pass().purge({_call(group): group.split() for group in groups})

    def state(self, *names: str) -> dict[str, str]:
        """`{"foo": "1.0 installed"}`; what is not there is left out."""
        found = self.apt.query(names)
        return {name: f"{p.version} {p.status}" for name, p in found.items()}

    def scripts(self) -> list[str]:
        log = self.root / "scripts.log"
        return log.read_text().splitlines() if log.exists() else []

    def apt_runs(self, verb: str) -> int:
        """How often apt-get changed something, by its own history."""
        log = self.root / "var/log/apt/history.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return sum(f" {verb} " in line for line in lines if line.startswith("Commandline:"))

    def updates(self) -> int:
        return sum("apt-get update" in line for line in self.progress)


def _call(group: str) -> str:
    return group.split("=", maxsplit=1)[0].split(maxsplit=1)[0]


def reasons(outcome: TransactionResult) -> dict[str, str]:
    return {group: error.reason for group, error in outcome.errors.items()}


LOCKS = ("var/lib/dpkg/lock-frontend", "var/lib/dpkg/lock", "var/cache/apt/archives/lock")


@contextmanager
def locked(path: Path, seconds: float = 60) -> Iterator[int]:
    """Another process that holds a lock as apt does (fcntl), for a while."""
    path.parent.mkdir(parents=True, exist_ok=True)
    code = (
        "import fcntl, sys, time\n"
        "file = open(sys.argv[1], 'w')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "time.sleep(float(sys.argv[2]))\n"
    )
    argv = [sys.executable, "-c", code, str(path), str(seconds)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield holder.pid
        holder.kill()


def kill_all_below(pid: int) -> None:
    for child in command.find_tree(command.read_processes(), pid):
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue


def wait_for(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def assert_nothing_runs(root: Path) -> None:
    """No process of a maintainer script outlives the call (their environment names the root)."""
    mark = f"DPKG_ROOT={root}".encode()
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            assert mark not in environ.read_bytes(), (environ.parent / "cmdline").read_bytes()
        except OSError:
            continue
