"""A real systemd of one's own, as init of its own namespaces, with no units but ours. Needs root.

The file system is this machine's, but for /run; nothing of this machine's systemd is touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from helpers.programs import wait_for

UNITS = Path(__file__).parents[2] / "packaging/systemd"
_INIT = Path("/lib/systemd/systemd")
_TOOLS = ("systemctl", "systemd-run", "unshare", "nsenter", "setsid")
_BOOT_S = 30.0

# Old kernels and containers have a hierarchy of systemd's own, newer ones have one for all.
_BOOT = """\
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
if [ -d /sys/fs/cgroup/systemd ]; then
    mount -t tmpfs tmpfs /sys/fs/cgroup
    mkdir /sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
else
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
exec /lib/systemd/systemd --system --unit=test.target --show-status=no
"""
_BARE = "[Unit]\nDescription={0}\nDefaultDependencies=no\n"


class NoSystemdError(Exception):
    """Why none can be started on this machine."""


class Systemd:
    """A context manager. Raises NoSystemdError on entering."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._units = folder / "units"
        self._journal = folder / "systemd.log"
        self._said = folder / "services.log"
        self._cgroups = [place / f"ya-salt-test-{os.getpid()}" for place in _list_hierarchies()]
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0

    def __enter__(self) -> Systemd:
        if os.geteuid() != 0:
            raise NoSystemdError("only root may make namespaces")
        missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
        if missing or not _INIT.exists():
            raise NoSystemdError(f"not installed: {', '.join(missing) or _INIT}")
        self._units.mkdir()
        for name in ("test", "sysinit", "basic", "shutdown", "multi-user", "timers"):
            (self._units / f"{name}.target").write_text(_BARE.format(name))
        try:
            self._boot()
        except (OSError, TimeoutError) as error:
            self.__exit__()
            said = self._journal.read_text()[-500:] if self._journal.exists() else ""
            raise NoSystemdError(f"{error}: {said}") from error
        return self

    def _boot(self) -> None:
        for group in self._cgroups:
            group.mkdir()
        script = self._folder / "boot.sh"
        enter = "".join(f"echo $$ > {group}/cgroup.procs\n" for group in self._cgroups)
        script.write_text(f"set -e\n{enter}{_IN_NAMESPACES}")
        inner = self._folder / "init.sh"
        inner.write_text(_BOOT)
        environment = {
            "PATH": os.environ["PATH"],
            "container": "test",
            "SYSTEMD_UNIT_PATH": str(self._units),
            "SYSTEMD_LOG_TARGET": "console",
        }
        with self._journal.open("wb") as log:
            self._process = subprocess.Popen(
                ["sh", str(script), str(inner)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._is_up, "systemd is up", _BOOT_S)

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise OSError("it ended at once")
        if not self._init:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            found = children.read_text().split()
            if not found:
                return False
            self._init = int(found[0])
        return self.systemctl("is-system-running", check=False).stdout.strip() == "running"

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            if self._init:
                # With the first process of its namespace all others end.
                os.kill(self._init, signal.SIGKILL)
            self._process.kill()
            self._process.wait()
        give_up = time.monotonic() + 10
        for group in self._cgroups:
            while group.exists() and time.monotonic() < give_up:
                for folder, _folders, _files in os.walk(group, topdown=False):
                    try:
                        Path(folder).rmdir()
                    except OSError:
                        time.sleep(0.05)

    # -- units -----------------------------------------------------------------------------------

    def install(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Put a service of packaging/systemd in place, its program and settings replaced."""
        self.copy(name)
        text = (UNITS / name).read_text()
        (old,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
        words = old.split()[1:]
        lines = [f'Environment="{key}={value}"' for key, value in environment.items()]
        self.add_lines(name, "Service", ("ExecStart=", f"ExecStart={' '.join([*command, *words])}"))
        self.add_lines(name, "Service", [*lines, f"StandardError=append:{self._said}"])

    def copy(self, name: str) -> None:
        """Put a unit of packaging/systemd in place as it is."""
        shutil.copy(UNITS / name, self._units / name)

    def add_lines(self, name: str, section: str, lines: Sequence[str]) -> None:
        """A drop-in more for a unit."""
        folder = self._units / f"{name}.d"
        folder.mkdir(exist_ok=True)
        file = folder / f"{len(list(folder.iterdir()))}.conf"
        file.write_text("\n".join([f"[{section}]", *lines, ""]))

    def add_unit(self, name: str, text: str) -> None:
        (self._units / name).write_text(text)

    def enter(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in its namespaces; one that fails says why."""
        done = subprocess.run(
            [*self.name_way("--all"), *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check and done.returncode:
            said = f"{done.stdout}{done.stderr}{self.log()}"
            raise AssertionError(f"{' '.join(command)}: exit code {done.returncode}: {said}")
        return done

    def name_way(self, *namespaces: str) -> list[str]:
        """What a command begins with that shall run there; systemctl wants --mount and --pid."""
        return ["nsenter", f"--target={self._init}", *namespaces, "--"]

    def systemctl(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.enter("systemctl", "--no-pager", *words, check=check)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.systemctl("show", f"--property={name}", "--value", unit).stdout.strip()

    def log(self) -> str:
        """What systemd and the services have said."""
        return "".join(one.read_text() for one in (self._journal, self._said) if one.exists())


_IN_NAMESPACES = (
    'exec unshare --pid --mount --cgroup --ipc --uts --fork --mount-proc --kill-child sh "$1"\n'
)


def _list_hierarchies() -> list[Path]:
    """Where a cgroup for everything has to be made: systemd mounts every hierarchy of the kernel.

    In one of which it saw the root, several would share the groups of services of one name: kill
    each other's, and take each other's away.
    """
    top = Path("/sys/fs/cgroup")
    found = [place for place in sorted(top.iterdir()) if (place / "cgroup.procs").exists()]
    if (top / "cgroup.procs").exists() or not found:
        return [top]
    # A link is another name of one of them; a group of cpusets takes nobody in before it is set up.
    return [
        place
        for place in found
        if not place.is_symlink()
        and "cpuset" not in place.name.split(",")
        and os.access(place, os.W_OK)
    ]


def name_python() -> list[str]:
    """The command that runs this checkout's ya-salt."""
    return [sys.executable, "-m", "ya_salt.cli.main"]


def list_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Those of an environment that are ya-salt's settings."""
    return {name: value for name, value in environment.items() if name.startswith("YA_SALT_")}
