"""A host with N daemons that all run, a package each, in a private root on a dev-portod.

ya-salt is there as on a host: in an environment that has it and what it depends on and nothing
else. A checkout's own environment, with its hooks for editable installs, takes 20 ms more to start
whatever it runs, which would flatter everybody.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from bench.measure import Command

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from helpers.apart import NOBODY  # noqa: E402 - the tests' helpers are not installed
from helpers.debs import Repository, make_root  # noqa: E402 - as above
from helpers.portod import DevPortod  # noqa: E402 - as above
from helpers.receiver import Receiver, make_juggler, make_yasm  # noqa: E402 - as above

from ya_salt.porto.frames import encode_frame  # noqa: E402 - after the path above
from ya_salt.proto import porto_pb2 as pb  # noqa: E402 - after the path above

FLOOR = Path(__file__).with_name("floor.py")

_SETTLED_S = 6.0

SPEC = """\
meta: {{name: daemon-{number}, version: "1"}}
spec:
  min_ready_s: 0
  properties:
    cmd: [sleep, "100000"]
    user: "{user}"
    group: "{group}"
    memory_limit: 64Mb
    cpu_limit: 1c
    env: {{NUMBER: "{number}", LANG: C}}
  packages:
    - {{name: package-{number}, version: "1.0"}}
"""

_PARAGRAPH = """\
Package: {name}
Status: install ok installed
Priority: optional
Section: misc
Installed-Size: 1
Maintainer: ya-salt benchmark <nobody@example.invalid>
Architecture: all
Version: 1.0
Description: nothing

"""

_IMPORTED = (
    "ya_salt",
    "yaml",
    "_yaml",
    "google.protobuf",
    "google._upb",
    "prometheus_client",
    "tzdata",
)
"""ya-salt and what it depends on, by the names of their folders."""

# What pip writes for a console script.
_SCRIPT = """\
#!{python}
import sys
from ya_salt.cli.main import main
if __name__ == '__main__':
    sys.argv[0] = sys.argv[0].removesuffix('.exe')
    sys.exit(main())
"""


class BenchHost:
    """A context manager: everything below `folder`, which has to be short, gone with it.

    dpkg's database has `packages` packages, at least one for each daemon. They are entered into
    it, not installed: a pass that finds nothing to do looks no further.
    """

    def __init__(self, folder: Path, count: int, packages: int = 0) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.count = count
        self.specs_dir = folder / "porto-daemons.d"
        self.state_dir = folder / "state"
        self.dpkg_dir = folder / "root/var/lib/dpkg"
        self.root = make_root(folder / "root", Repository(folder / "repository"))
        self.python = _make_environment(folder / "venv")
        self.program = self.python.with_name("ya-salt")
        self.portod = DevPortod(sysroot=str(self.root))
        self.receivers: Mapping[str, Receiver] = {"yasm": make_yasm(), "juggler": make_juggler()}
        self.first_s = 0.0
        """How long the first pass took: `count` containers to make and start."""
        self._packages = max(packages, count)

    def __enter__(self) -> BenchHost:
        self.folder.chmod(0o755)
        Repository(self.folder / "repository").write_index()
        self.specs_dir.mkdir(mode=0o755)
        user, group = ("root", "root") if os.geteuid() == 0 else ("nobody", "nogroup")
        for number in range(self.count):
            text = SPEC.format(number=number, user=user, group=group)
            (self.specs_dir / f"{number}.yaml").write_text(text)
        self._fill_dpkg()
        for receiver in self.receivers.values():
            receiver.__enter__()
        self.portod.start()
        try:
            started = time.perf_counter()
            self.run("apply")
            self.first_s = time.perf_counter() - started
            # What has changed just now may change again without its times showing it.
            time.sleep(_SETTLED_S)
            self.run("apply")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.portod.stop()
        for receiver in self.receivers.values():
            receiver.__exit__()

    def _fill_dpkg(self) -> None:
        (self.dpkg_dir / "info").mkdir(parents=True)
        (self.dpkg_dir / "updates").mkdir()
        names = [f"package-{number}" for number in range(self._packages)]
        for name in names:
            (self.dpkg_dir / f"info/{name}.list").write_text("/.\n")
        (self.dpkg_dir / "status").write_text("".join(_PARAGRAPH.format(name=n) for n in names))

    @property
    def environment(self) -> dict[str, str]:
        """Default settings but for places; nobody listens where signals are sent to."""
        return {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "YA_SALT_SPECS_DIR": str(self.specs_dir),
            "YA_SALT_STATE_DIR": str(self.state_dir),
            "YA_SALT_PORTO_SOCKET": self.portod.socket_path,
            "YA_SALT_ROOT": str(self.root),
            "YA_SALT_LOG_FILE": str(self.folder / "ya-salt.log"),
            "YA_SALT_MONITORING_YASM_URL": NOBODY,
            "YA_SALT_MONITORING_JUGGLER_URL": NOBODY,
            "YA_SALT_MONITORING_PROMETHEUS_TEXTFILE_DIR": str(self.folder / "nowhere"),
        }

    @property
    def sinks(self) -> dict[str, str]:
        """The same host with somebody at each end: YASM's agent, Juggler's client, node_exporter.

        With a store of its own: where settings come and go with each pass, all is new each time.
        """
        textfile, state = self.folder / "textfile", self.folder / "state-sinks"
        if not state.exists():
            textfile.mkdir()
            shutil.copytree(self.state_dir, state)
        return {
            **self.environment,
            "YA_SALT_STATE_DIR": str(state),
            "YA_SALT_MONITORING_YASM_URL": self.receivers["yasm"].url,
            "YA_SALT_MONITORING_JUGGLER_URL": self.receivers["juggler"].url,
            "YA_SALT_MONITORING_PROMETHEUS_TEXTFILE_DIR": str(textfile),
        }

    def run(self, *words: str, env: Mapping[str, str] | None = None) -> str:
        """What `ya-salt WORDS…` printed. Raises SystemExit where it failed."""
        done = subprocess.run(
            [str(self.program), *words],
            env=env or self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"ya-salt {' '.join(words)}: {done.stdout[-2000:]}{done.stderr}")
        return done.stdout

    def command(
        self, name: str, *words: str, env: Mapping[str, str] | None = None, checks: str = ""
    ) -> Command:
        return Command(name, [str(self.program), *words], env or self.environment, checks=checks)

    def make_floor(self) -> Command:
        """bench/floor.py, over what it has to know."""
        request = pb.TContainerRequest()
        request.list.changed_since = int(time.time()) + 3600
        known = {
            "stamps": {
                str(path): _stamp(path)
                for path in [*sorted(self.specs_dir.iterdir()), self.dpkg_dir / "status"]
            },
            "specs": [json.dumps(yaml.safe_load(p.read_text())) for p in self.specs_dir.iterdir()],
            "socket": self.portod.socket_path,
            "request": encode_frame(request).hex(),
        }
        path = self.folder / "known.json"
        path.write_text(json.dumps(known))
        return Command("floor", [str(self.python), str(FLOOR), str(path)], self.environment)

    def time_requests(self, rounds: int = 30) -> dict[str, float]:
        """Best of so many, in ms: what this portod takes for what a pass may ask."""
        names = [f"daemon-{number}" for number in range(self.count)]
        requests: dict[str, dict[str, Any]] = {
            "list, changed_since": {"list": {"changed_since": str(int(time.time()) + 3600)}},
            "FindLabel": {"FindLabel": {"label": "HOSTMAN.spec"}},
            "get of 3 properties": {
                "get": {"name": names, "variable": ["state", "respawn_count", "labels"]}
            },
        }
        with self.portod.connect() as wire:
            return {
                name: min(_time(partial(wire.must, **request)) for _ in range(rounds))
                for name, request in requests.items()
            }


def _time(action: Callable[[], object]) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1e3


def _stamp(path: Path) -> Sequence[int]:
    found = path.stat()
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _make_environment(folder: Path) -> Path:
    """A Python with ya-salt and its dependencies, by links to where this one has them."""
    base = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([base, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for name in _IMPORTED:
        spec = importlib.util.find_spec(name)
        places = list(spec.submodule_search_locations or ()) if spec else []
        if places:
            link = packages / name.replace(".", "/")
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(places[0])
    python = folder / "bin/python"
    script = folder / "bin/ya-salt"
    script.write_text(_SCRIPT.format(python=python))
    script.chmod(0o755)
    return python
