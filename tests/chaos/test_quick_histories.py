"""Whatever happens between two passes: a pass that goes the quick way had nothing to find.

Hosts live through random histories side by side, each with a portod, a package root and a clock
of its own. Before each pass the long way says what there is to do; if the pass spared itself that
way, it must have been nothing, with every daemon as the last pass has written it down. What a pass
loads tells which way it went: the long one is another module.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from helpers.apart import name_variables
from helpers.debs import Repository, make_root
from helpers.porto_proxy import PortoProxy
from helpers.portod import DevPortod

from ya_salt.cli.main import main
from ya_salt.errors import PortoError
from ya_salt.model import LABEL
from ya_salt.porto.client import PortoClient
from ya_salt.proto import porto_pb2 as pb

HOSTS = 6
ROUNDS = 3
STORIES = max(1, int(os.environ.get("YA_SALT_TEST_STORIES", "25")) // 25)
SETTLED_S = 6.0
"""After so long nothing that happened counts as just now: neither for files nor for portod."""

SPEC = """\
meta: {{name: {name}, version: "1"}}
spec:
  min_ready_s: 0
  properties:
    cmd: [sleep, "100000"]
    isolate: false
    memory_limit: {limit}Mb
  packages: [{{name: {package}, version: "1.0"}}]
"""
NAMES = ("red", "green", "white", "black")


class Clock:
    """Between a host and its portod: the clock that portod tells may be set."""

    def __init__(self) -> None:
        self.step = 0
        self.pretend: dict[str, int] = {}
        """Container -> when it has changed, as portod is made to tell."""

    def change(
        self, _request: pb.TContainerRequest, answer: pb.TContainerResponse
    ) -> pb.TContainerResponse:
        # A portod that has gone says nothing.
        if answer.timestamp:
            answer.timestamp += self.step
        for entry in answer.get.list:
            if entry.name in self.pretend:
                entry.change_time = self.pretend[entry.name]
        return answer


@dataclass
class Host:
    """One host, below `folder`."""

    folder: Path
    debs: Path
    is_behind_clock: bool
    chance: random.Random
    told: list[str] = field(default_factory=list)
    """What has happened, for whoever reads a failure."""
    old_snapshots: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.chmod(0o755)
        self.specs_dir = self.folder / "specs"
        self.specs_dir.mkdir(mode=0o755)
        self.state_dir = self.folder / "state"
        self.root = make_root(self.folder / "root", Repository(self.debs))
        self.portod = DevPortod(sysroot=str(self.root))
        self.clock = Clock()
        self.socket_path = self.portod.socket_path
        for name in NAMES:
            self.write(name)

    @contextlib.contextmanager
    def run(self) -> Iterator[Host]:
        self.portod.start()
        with contextlib.ExitStack() as stack:
            stack.callback(self.portod.stop)
            if self.is_behind_clock:
                proxy = stack.enter_context(PortoProxy(self.folder, self.portod.socket_path))
                proxy.change = self.clock.change
                self.socket_path = proxy.path
            yield self

    def write(self, name: str, limit: int = 64) -> None:
        text = SPEC.format(name=name, limit=limit, package=f"{name}-package")
        self.file(name).write_text(text)

    def file(self, name: str) -> Path:
        return self.specs_dir / f"{name}.yaml"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "YA_SALT_SPECS_DIR": str(self.specs_dir),
            "YA_SALT_STATE_DIR": str(self.state_dir),
            "YA_SALT_PORTO_SOCKET": self.socket_path,
            "YA_SALT_ROOT": str(self.root),
            "YA_SALT_LOG_FILE": str(self.folder / "log"),
            **name_variables(self.folder),
        }

    def apply(self, *words: str) -> tuple[int, bool]:
        """(exit code, whether it spared itself the long way)."""
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "ya_salt.cli.main", "apply", *words],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "| ya_salt" in done.stderr, done.stderr
        return done.returncode, "ya_salt.converge.run\n" not in done.stderr

    def look(self, *words: str) -> tuple[int, str]:
        """What a command that only looks answers, the long way."""
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
            for name, text in self.environment.items():
                patch.setenv(name, text)
            with contextlib.redirect_stderr(said):
                code = main(words)
        return code, said.getvalue()

    def find_pending(self) -> str:
        """What there is to do, or to tell, in words; "" where that is nothing."""
        code, plan = self.look("plan")
        return plan if code else ""

    def read_standing(self) -> dict[str, dict[str, Any]]:
        """How the daemons stand by the last pass, and what it did."""
        _, text = self.look("status", "--saved", "-o", "json")
        kept = ("phase", "conditions", "state", "version", "actions", "error", "warnings")
        return {
            status["name"]: {key: status[key] for key in (*kept, "respawnCount", "restartCount")}
            for status in json.loads(text)["portoDaemons"]
        }

    def dpkg(self, *words: str) -> None:
        options = ["--force-not-root", "--force-all", f"--root={self.root}"]
        subprocess.run(
            ["dpkg", *options, *words], capture_output=True, check=True, stdin=subprocess.DEVNULL
        )

    @contextlib.contextmanager
    def client(self) -> Iterator[PortoClient]:
        """portod itself, as `portoctl` asks it."""
        with PortoClient(self.portod.socket_path) as client, contextlib.suppress(PortoError):
            yield client

    @property
    def snapshot(self) -> Path:
        return self.state_dir / "as-left"


# -- what may happen -----------------------------------------------------------------------------


def nothing(host: Host, name: str) -> None:
    """It is a quiet night."""


def rewrite_in_place(host: Host, name: str) -> None:
    """Other content, the same size and times as far as anybody can set them."""
    if not host.file(name).exists():
        return
    before = host.file(name).stat()
    host.write(name, host.chance.choice([65, 66, 67]))
    os.utime(host.file(name), ns=(before.st_atime_ns, before.st_mtime_ns))


def rewrite_beside(host: Host, name: str) -> None:
    """The same by a rename, as editors do it."""
    if not host.file(name).exists():
        return
    before = host.file(name).stat()
    host.write(name, host.chance.choice([68, 69, 70]))
    beside = host.specs_dir / ".new"
    shutil.copy(host.file(name), beside)
    os.utime(beside, ns=(before.st_atime_ns, before.st_mtime_ns))
    beside.replace(host.file(name))


def touch(host: Host, name: str) -> None:
    host.file(name).touch()


def lose_file(host: Host, name: str) -> None:
    host.file(name).unlink(missing_ok=True)


def break_file(host: Host, name: str) -> None:
    host.file(name).write_text("meta: {name: [}\n")


def open_file(host: Host, name: str) -> None:
    """Anybody may write to it."""
    if host.file(name).exists():
        host.file(name).chmod(0o666)


def add_file(host: Host, name: str) -> None:
    host.write("blue")


def swap_directory(host: Host, name: str) -> None:
    """Another directory of that name, with other files in it."""
    beside = host.folder / "other"
    shutil.rmtree(beside, ignore_errors=True)
    host.specs_dir.rename(beside)
    shutil.copytree(beside, host.specs_dir)
    host.write(name, 71)


def install_by_hand(host: Host, name: str) -> None:
    host.dpkg("--install", str(host.debs / f"{name}-package_2.0_all.deb"))


def remove_by_hand(host: Host, name: str) -> None:
    host.dpkg("--remove", f"{name}-package")


def edit_dpkg(host: Host, name: str) -> None:
    """Not through dpkg at all, and with the old times."""
    status = host.root / "var/lib/dpkg/status"
    before = status.stat()
    text = status.read_text().replace("Version: 1.0", "Version: 1.1", 1)
    status.write_text(text)
    os.utime(status, ns=(before.st_atime_ns, before.st_mtime_ns))


def set_property(host: Host, name: str) -> None:
    with host.client() as client:
        client.set_property(name, "memory_limit", "99999744")


def set_label(host: Host, name: str) -> None:
    with host.client() as client:
        client.set_property(name, f"labels[{LABEL}]", "0000")


def stop(host: Host, name: str) -> None:
    with host.client() as client:
        client.stop(name, 1)


def kill(host: Host, name: str) -> None:
    """It dies; portod starts it again."""
    with host.client() as client:
        client.kill(name, 9)


def destroy(host: Host, name: str) -> None:
    with host.client() as client:
        client.destroy(name)


def replace_container(host: Host, name: str) -> None:
    """Destroyed, and made anew by somebody with the same label, within the same second."""
    with host.client() as client:
        label = client.get_property(name, f"labels[{LABEL}]")
        client.destroy(name)
        client.create_weak(name)
        client.set_property(name, "command", "sleep 99999")
        client.set_property(name, f"labels[{LABEL}]", label)
        client.set_property(name, "weak", "false")
        client.start(name)


def reload_portod(host: Host, name: str) -> None:
    host.portod.reload()


def restart_portod(host: Host, name: str) -> None:
    """It dies with all its containers, and is back."""
    host.portod.kill()
    host.portod.start()


def move_root(host: Host, name: str) -> None:
    """The settings name another root, in which nothing is installed."""
    host.root = make_root(host.folder / f"root-{len(host.told)}", Repository(host.debs))


def set_clock(host: Host, name: str) -> None:
    host.clock.step += host.chance.choice([-86400, -60, -7, 7, 60, 86400])


def set_clock_back_and_change(host: Host, name: str) -> None:
    """Back to the second of the last change, and then a change."""
    if not host.is_behind_clock:
        return
    with host.client() as client:
        reading = client.look([name], ["state"])[name]
        if reading.is_gone:
            return
        then = host.clock.pretend.get(name, reading.changed_at)
        host.clock.step = then - int(time.time())
        host.clock.pretend[name] = then
        client.set_property(name, "memory_limit", "88887296")


def damage_snapshot(host: Host, name: str) -> None:
    if host.snapshot.exists():
        data = bytearray(host.snapshot.read_bytes())
        match host.chance.randrange(3):
            case 0:
                data[host.chance.randrange(len(data))] ^= 1 << host.chance.randrange(8)
            case 1:
                del data[host.chance.randrange(len(data)) :]
            case _:
                data = bytearray(os.urandom(50))
        host.snapshot.write_bytes(data)


def bring_back_old_snapshot(host: Host, name: str) -> None:
    if host.old_snapshots and host.snapshot.exists():
        host.snapshot.write_bytes(host.chance.choice(host.old_snapshots))


def lose_store(host: Host, name: str) -> None:
    for path in host.state_dir.glob("*.sqlite3*"):
        path.unlink()


Deed = Callable[[Host, str], None]
DEEDS: tuple[Deed, ...] = (
    nothing,
    rewrite_in_place,
    rewrite_beside,
    touch,
    lose_file,
    break_file,
    open_file,
    add_file,
    swap_directory,
    install_by_hand,
    remove_by_hand,
    edit_dpkg,
    set_property,
    set_label,
    stop,
    kill,
    destroy,
    replace_container,
    reload_portod,
    restart_portod,
    move_root,
    set_clock,
    set_clock_back_and_change,
    damage_snapshot,
    bring_back_old_snapshot,
    lose_store,
)


def live(host: Host, deeds: list[Deed]) -> None:
    for deed in deeds:
        name = host.chance.choice(NAMES)
        host.told.append(f"{deed.__name__} {name}")
        deed(host, name)
        time.sleep(host.chance.choice([0, 0, 0.01, 0.3]))


def settle(hosts: list[Host]) -> None:
    """Passes until nothing is to be done and nothing is new: the next one may be quick."""
    for host in hosts:
        for name in NAMES:
            # Whatever was done to a host is over, so that there is something to lose again.
            host.write(name)
            host.file(name).chmod(0o644)
        host.clock.step = 0
        host.clock.pretend.clear()
        host.told.append("settle")
        host.apply()
        if host.snapshot.exists():
            host.old_snapshots.append(host.snapshot.read_bytes())
    time.sleep(SETTLED_S)
    for host in hosts:
        host.apply()


def make_pass(host: Host) -> bool:
    """A pass, and whether it was a quick one; the long way is then gone too, to compare."""
    pending, is_left = host.find_pending(), host.snapshot.exists()
    code, is_quick = host.apply()
    host.told.append(f"pending: {bool(pending)}, {code}, quick: {is_quick}")
    if is_left and not is_quick:
        # However few it has looked at, no more is left to do than one leaves that looks at all.
        pending, before = host.find_pending(), host.read_standing()
        host.apply("--full")
        assert pending == host.find_pending(), host.told
        if not code:
            # Else somebody may still be on his way.
            assert drop_actions(before) == drop_actions(host.read_standing()), host.told
    if is_quick:
        assert not pending, (host.told, pending)
        before = host.read_standing()
        assert (code, False) == host.apply("--full"), host.told
        assert before == host.read_standing(), host.told
        assert not [one for one in before.values() if one["actions"]], host.told
    return is_quick


def drop_actions(standing: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        name: {key: told for key, told in one.items() if key != "actions"}
        for name, one in standing.items()
    }


@pytest.fixture(scope="module")
def debs() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ysd."))
    folder.chmod(0o755)
    repository = Repository(folder)
    for name in (*NAMES, "blue"):
        for version in ("1.0", "2.0"):
            repository.add(f"{name}-package", version)
    repository.write_index()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("story", range(STORIES))
def test_a_pass_that_goes_the_quick_way_had_nothing_to_find(debs: Path, story: int) -> None:
    chance = random.Random(story)
    # Each thing happens alone at least once in a while, and with others.
    left: list[Deed] = []
    with contextlib.ExitStack() as stack:
        hosts = []
        for number in range(HOSTS):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ysq.")))
            host = Host(folder, debs, number % 2 == 1, random.Random(chance.randrange(1 << 32)))
            hosts.append(stack.enter_context(host.run()))
        settle(hosts)
        assert make_pass(hosts[0]), "a quiet night is quick, or nothing is shown here"
        for _ in range(ROUNDS):
            settle(hosts)
            for host in hosts:
                if not left:
                    left = chance.sample(DEEDS, len(DEEDS))
                deeds = [left.pop(), *chance.sample(DEEDS, chance.choice([0, 0, 0, 1, 2]))]
                live(host, deeds)
                make_pass(host)
