"""A Debian of its own in a folder, with its systemd as init of its own namespaces. Needs root.

Of this machine it shares the kernel and the network, nothing else; `debootstrap` makes it from the
mirror that this machine's own apt uses.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from helpers.debs import Repository
from helpers.programs import wait_for

_SITE = "usr/lib/python3/dist-packages/ya_salt"
_TOOLS = ("debootstrap", "unshare", "nsenter", "setsid", "chroot")
_INCLUDED = "ca-certificates,dbus,logrotate,procps,systemd,systemd-sysv"
_BOOT_S = 60.0
ARCHIVE = "srv/archive"
"""Where the packages of Debian lie in an image that it needs for ours."""

# What would touch this machine's kernel and terminals.
_MASKED = (
    "console-getty",
    "e2scrub_reap",
    "getty@",
    "systemd-modules-load",
    "systemd-remount-fs",
    "systemd-sysctl",
    "systemd-tmpfiles-setup-dev",
    "systemd-tmpfiles-setup-dev-early",
    "systemd-udevd",
    "systemd-udev-trigger",
)
_IN_NAMESPACES = """\
echo $$ > {cgroup}/cgroup.procs
exec unshare --pid --mount --cgroup --ipc --uts --fork --kill-child sh {folder}/init.sh
"""
# Old kernels and containers have a hierarchy of systemd's own, newer ones have one for all.
_INIT = """\
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs {folder}
cd {folder}
mkdir work root upper upper/etc upper/etc/systemd upper/etc/systemd/system
for unit in {masked}; do
    ln -s /dev/null upper/etc/systemd/system/$unit.service
done
mount -t overlay -o lowerdir={image},upperdir=upper,workdir=work overlay root
cd root
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
if [ -d /sys/fs/cgroup/systemd ]; then
    mount -t tmpfs tmpfs sys/fs/cgroup
    mkdir sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
else
    mount -t cgroup2 cgroup2 sys/fs/cgroup
fi
exec chroot . /lib/systemd/systemd --system --unit={target} --show-status=no
"""


HERE = Path("/")
"""This machine itself as an image: quick, though not bare, and only where it is a Debian."""


class NoMachineError(Exception):
    """Why none can be made here."""


def find_mirror() -> str:
    """The archive that this machine's Debian itself comes from. Raises NoMachineError."""
    name = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    wanted = ("Identifier: Packages", f"Release: {name}", "Component: main")
    done = subprocess.run(
        ("apt-get", "indextargets", "--format", "$(SITE)", *wanted),
        capture_output=True,
        text=True,
        check=False,
    )
    sites = done.stdout.split()
    if not sites or platform.freedesktop_os_release()["ID"] != "debian":
        raise NoMachineError("apt's sources of this machine name no archive of Debian")
    return sites[0]


def make_image(suite: str, folder: Path, packages: Sequence[Path]) -> Path:
    """A bare Debian; what `packages` depend on lies in a repository in it. Made once, and kept.

    Raises NoMachineError.
    """
    _check_machine()
    if suite == "here":
        if not Path("/lib/systemd/systemd").exists():
            raise NoMachineError("this machine has no systemd")
        find_mirror()
        return HERE
    image = folder / suite
    if (image / "made").exists():
        return image
    shutil.rmtree(image, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    words = ("debootstrap", "--variant=minbase", f"--include={_INCLUDED}", suite, str(image))
    _call(*words, find_mirror())
    for package in packages:
        shutil.copy(package, image / "root")
    names = [f"/root/{package.name}" for package in packages]
    get = ("chroot", str(image), "apt-get", "-q", "-o", "APT::Update::Error-Mode=any")
    shutil.copy("/etc/resolv.conf", image / "etc/resolv.conf")
    _call(*get, "update")
    _call(*get, "install", "--yes", "--download-only", *names)
    for package in packages:
        (image / "root" / package.name).unlink()
    # From now on without a network: what was fetched is all that there is.
    archive = image / ARCHIVE
    archive.mkdir()
    for fetched in (image / "var/cache/apt/archives").glob("*.deb"):
        fetched.rename(archive / fetched.name)
    Repository(archive).write_index()
    (image / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:/{ARCHIVE} ./\n")
    shutil.rmtree(image / "var/lib/apt/lists")
    _call("chroot", str(image), "apt-get", "-q", "update")
    (image / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (image / "made").touch()
    return image


def _check_machine() -> None:
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        raise NoMachineError(f"not installed: {', '.join(missing)}")
    if os.geteuid() != 0:
        raise NoMachineError("only root may make a machine")


def _call(*command: str) -> None:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoMachineError(f"{' '.join(command)}: {(done.stdout + done.stderr)[-1500:]}")


class Machine:
    """A context manager: an image, up and running; what changes in it is in memory alone.

    Raises NoMachineError on entering.
    """

    def __init__(self, image: Path, folder: Path) -> None:
        self._image = image
        self._folder = folder
        self._log = folder / "systemd.log"
        own = Path("/sys/fs/cgroup/systemd")
        self._cgroup = (own if own.is_dir() else own.parent) / f"ya-salt-machine-{os.getpid()}"
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0

    def __enter__(self) -> Machine:
        self._cgroup.mkdir()
        memory = self._folder / "memory"
        memory.mkdir()
        # Of this machine's own services none.
        target = "sysinit.target" if self._image == HERE else "multi-user.target"
        masked = " ".join(_MASKED)
        script = _INIT.format(image=self._image, folder=memory, target=target, masked=masked)
        (self._folder / "init.sh").write_text(script)
        script = _IN_NAMESPACES.format(cgroup=self._cgroup, folder=self._folder)
        (self._folder / "boot.sh").write_text(script)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["sh", str(self._folder / "boot.sh")],
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "container": "test"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_for(self._is_up, "systemd is up", _BOOT_S)
        except (OSError, TimeoutError) as error:
            self.__exit__()
            raise NoMachineError(f"{error}: {self._log.read_text()[-500:]}") from error
        return self

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise OSError("it ended at once")
        if not self._init:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            self._init = int((children.read_text().split() or ["0"])[0])
        if not self._init:
            return False
        return self.run("systemctl", "is-system-running", code=None).strip() == "running"

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            if self._init:
                # With the first process of its namespace all others end.
                os.kill(self._init, signal.SIGKILL)
            self._process.kill()
            self._process.wait()
        give_up = time.monotonic() + 10
        while self._cgroup.exists() and time.monotonic() < give_up:
            for folder, _, _ in os.walk(self._cgroup, topdown=False):
                try:
                    Path(folder).rmdir()
                except OSError:
                    time.sleep(0.05)

    @property
    def root(self) -> Path:
        """Its files, seen from outside."""
        return Path(f"/proc/{self._init}/root")

    def run(self, *command: str, code: int | None = 0) -> str:
        """What a command says on stdout and stderr. Raises RuntimeError for another code."""
        done = subprocess.run(
            ["nsenter", f"--target={self._init}", "--all", "--root", "--wd", "--", *command],
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "DEBIAN_FRONTEND": "noninteractive",
                "LC_ALL": "C.UTF-8",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        if code is not None and done.returncode != code:
            raise RuntimeError(f"{' '.join(command)}: {done.returncode}: {done.stdout}")
        return done.stdout

    def install(self, *packages: Path) -> str:
        """`apt install ./PACKAGE…`, upgrades and downgrades too; what it says."""
        for package in packages:
            shutil.copy(package, self.root / "root")
        names = [f"/root/{package.name}" for package in packages]
        words = ("apt-get", "install", "--yes", "-q", "--allow-downgrades", *names)
        return self.run(*words)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", f"--property={name}", "--value", unit).strip()


def publish(machine: Machine) -> None:
    """Have apt offer what lies in the machine's repository."""
    Repository(machine.root / "srv/repository").write_index()


def repack(package: Path, version: str, folder: Path) -> Path:
    """The same package as another version of it, which ya-salt tells as its own, too."""
    tree = folder / f"{package.name}.{version}"
    folder.mkdir(exist_ok=True)
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN/control"
    lines = control.read_text().splitlines()
    lines = [f"Version: {version}" if line.startswith("Version:") else line for line in lines]
    control.write_text("\n".join([*lines, ""]))
    (tree / "DEBIAN/md5sums").unlink()
    if (tree / _SITE).exists():
        init = tree / _SITE / "__init__.py"
        text = init.read_text().replace('__version__ = "', f'__version__ = "{version}+', 1)
        assert f'"{version}+' in text
        init.write_text(text)
    name = package.name.partition("_")[0]
    made = folder / f"{name}_{version}_all.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, made]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(tree)
    return made
