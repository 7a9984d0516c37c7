"""A host for the users' example: a local repository, a private root, a Porto server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from helpers.apart import name_variables
from helpers.contracts import check_output
from helpers.debs import Repository, make_root
from helpers.portod import DevPortod
from ya_salt.porto.client import PortoClient

NAME = "juggler-agent-rtc"
VERSION = "2.3.2001221352"
CONFIG_VERSION = "1.0-6238270"

# What the real client is to the example: something that runs, says so and ends on SIGTERM.
_CLIENT = """\
#!/bin/sh
trap 'echo "juggler-client {version}: bye" >&2; exit 0' TERM
echo "juggler-client {version} as $(id -u) with $*"
echo "juggler-client {version}: ready" >&2
while :; do sleep 1 & wait $!; done
"""

BAD_CLIENT = """\
#!/bin/sh
echo "juggler-client {version}: unknown option $1" >&2
exit 3
"""
"""A version that does not come up."""

# Debian's adduser needs a shell inside a private root; these two lines do what it would.
_POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = configure ] && ! grep -qs '^monitor:' "$DPKG_ROOT/etc/passwd"; then
    echo 'monitor:x:64321:64321::/nonexistent:/usr/sbin/nologin' >> "$DPKG_ROOT/etc/passwd"
    echo 'monitor:x:64321:' >> "$DPKG_ROOT/etc/group"
fi
echo "postinst $1 HOSTMAN=$HOSTMAN" >> "$DPKG_ROOT/var/log/juggler.log"
"""


def add_client(repository: Repository, version: str, program: str = _CLIENT) -> None:
    """The example's daemon; not yet in the index."""
    repository.add(
        "juggler-client-core",
        version,
        files={"usr/bin/juggler-client": (program.format(version=version), 0o755)},
        scripts={"postinst": _POSTINST},
    )


def add_config(repository: Repository) -> None:
    """The example's other package; not yet in the index."""
    files = {"etc/juggler/client.conf": "[client]\nhost = localhost\n"}
    repository.add("yandex-rtc-juggler-config", CONFIG_VERSION, files=files)


class ExampleHost:
    """`with ExampleHost(folder) as host`: everything below `folder`, gone with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.specs_dir = folder / "porto-daemons.d"
        self.state_dir = folder / "state"
        self.log_file = folder / "ya-salt.log"
        self.spec_file = self.specs_dir / "juggler-client.yaml"
        self.repository = Repository(folder / "repository")
        self.root = make_root(folder / "root", self.repository)
        self.portod = DevPortod(sysroot=str(self.root))

    def __enter__(self) -> ExampleHost:
        # The daemon's user has to reach the programs of the private root.
        self.folder.chmod(0o755)
        self.specs_dir.mkdir(mode=0o755)
        (self.root / "var/log").mkdir(parents=True)
        self.release(VERSION)
        add_config(self.repository)
        self.repository.write_index()
        self.portod.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.portod.stop()

    def release(self, version: str, program: str = _CLIENT) -> None:
        """Put a new version of the client into the repository."""
        add_client(self.repository, version, program)
        self.repository.write_index()

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "YA_SALT_SPECS_DIR": str(self.specs_dir),
            "YA_SALT_STATE_DIR": str(self.state_dir),
            "YA_SALT_PORTO_SOCKET": self.portod.socket_path,
            "YA_SALT_ROOT": str(self.root),
            "YA_SALT_LOG_FILE": str(self.log_file),
            **name_variables(self.folder),
        }

    def run(
        self, *words: str, capture: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `ya-salt WORDS…` as its user would; what it prints as JSON has to be as promised."""
        done = subprocess.run(
            [sys.executable, "-m", "ya_salt.cli.main", *words],
            env=self.environment,
            input=stdin,
            text=True,
            capture_output=capture,
            timeout=180,
            check=False,
        )
        if capture:
            check_output(words, done.stdout)
        return done

    def client(self) -> PortoClient:
        return PortoClient(self.portod.socket_path)

    def values(self, *variables: str, name: str = NAME) -> dict[str, str]:
        """Properties of a container; empty where it does not exist."""
        with self.client() as client:
            return client.get([name], variables).get(name, {})

    def pid(self) -> int:
        """Its main process, as this machine counts."""
        return int(self.values("root_pid")["root_pid"])

    def wait_respawned(self, timeout_s: float = 20, name: str = NAME) -> None:
        """Wait until portod has started the daemon again after a crash."""
        give_up = time.monotonic() + timeout_s
        while time.monotonic() < give_up:
            found = self.values("state", "respawn_count", name=name)
            if found.get("state") == "running" and int(found["respawn_count"]) > 0:
                return
            time.sleep(0.1)
        raise TimeoutError(f"no respawn: {found}")

    def installed(self) -> dict[str, str]:
        """Package -> version in the private root."""
        done = subprocess.run(
            ["dpkg-query", f"--admindir={self.root}/var/lib/dpkg", "-W"],
            text=True,
            capture_output=True,
            check=False,
        )
        lines = (line.split("\t") for line in done.stdout.splitlines())
        return {name: version for name, version in lines if version}
