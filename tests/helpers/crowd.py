"""A host with many daemons that need packages, which are entered into dpkg's database."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from helpers.apart import set_apart
from helpers.debs import Repository, make_root
from ya_salt.converge.host import PassRequest, PassResult, make_host
from ya_salt.converge.run import run_pass
from ya_salt.model import Settings
from ya_salt.porto.client import PortoClient
from ya_salt.specs.directory import load_specs

PARAGRAPH = """\
Package: {name}
Status: install ok installed
Priority: optional
Section: misc
Installed-Size: 1
Maintainer: Nobody <nobody@example.invalid>
Architecture: all
Version: 1.0
Description: nothing

"""


class Crowd:
    """A host of `count` daemons with a package each, and one that all of them need.

    They are started after the first; as many packages are nobody's.
    """

    def __init__(self, folder: Path, socket_path: str, count: int) -> None:
        folder.mkdir()
        self.folder, self.count = folder, count
        self.root = make_root(folder / "root", Repository(folder / "repository"))
        Repository(folder / "repository").write_index()
        self.specs_dir = folder / "specs"
        self.specs_dir.mkdir(mode=0o755)
        self.settings = Settings(
            specs_dir=str(self.specs_dir),
            state_dir=str(folder / "state"),
            porto_socket=socket_path,
            root=str(self.root),
            parallel=1,
            monitoring=set_apart(folder),
        )
        self._enter_packages()
        self.write_all()

    def write_all(self, limit: int = 64, word: str = "C") -> None:
        for number in range(self.count):
            (self.specs_dir / f"{number}.yaml").write_text(
                f"meta: {{name: daemon-{number}, version: '1'}}\n"
                f"spec:\n  min_ready_s: 0\n  after: [{'daemon-0' if number else ''}]\n"
                "  properties:\n    cmd: [sleep, '1000']\n    isolate: false\n"
                f"    memory_limit: {limit}Mb\n    env: {{LANG: {word}}}\n"
                f"  packages:\n    - {{name: package-{number}, version: '1.0'}}\n"
                "    - {name: package-common, version: '1.0'}\n"
            )

    def _enter_packages(self) -> None:
        folder = self.root / "var/lib/dpkg"
        (folder / "info").mkdir(parents=True)
        (folder / "updates").mkdir()
        names = ["package-common", *(f"package-{number}" for number in range(2 * self.count))]
        for name in names:
            (folder / f"info/{name}.list").write_text("/.\n")
        (folder / "status").write_text("".join(PARAGRAPH.format(name=name) for name in names))

    def run(
        self, make: Callable[[str], PortoClient] = PortoClient, now: Callable[[], float] = time.time
    ) -> PassResult:
        """A pass that has to end well, from its files to its result."""
        host = make_host(self.settings)
        host = replace(host, connect=lambda: make(self.settings.porto_socket), now=now)
        loaded = load_specs(str(self.specs_dir))
        result = run_pass(host, PassRequest(loaded.specs, loaded))
        assert result.ok, [status for status in result.statuses if status.error]
        return result
