"""A minion over the example's host, in this process or beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from helpers.apart import NOBODY
from helpers.example import ExampleHost
from salt.config import minion_config
from saltfactories.utils.functional import Loaders

REPO = Path(__file__).parent.parent.parent
EXAMPLE = REPO / "tests/data/juggler-agent-rtc.yaml"

# dev-portod and the like are started from wherever a test runs.
os.environ["PYTHONPATH"] = str(REPO)


def sleeper(name: str, **more: Any) -> dict[str, Any]:
    """Arguments of a daemon without packages, which is ready at once."""
    properties = {"cmd": ["sleep", "1000"], "isolate": False, **more.pop("properties", {})}
    return {"name": name, "min_ready_s": 0, "properties": properties, **more}


def write_spec(host: ExampleHost, name: str, **more: Any) -> Path:
    """Put a sleeper's file into the daemons directory."""
    fields = sleeper(name, **more)
    removed = {"delete_requested": True} if fields.pop("delete_requested", False) else {}
    document = {"meta": {"name": fields.pop("name"), **removed}, "spec": fields}
    path = host.specs_dir / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def make_settings(host: ExampleHost) -> dict[str, Any]:
    """`porto_daemons:` as a minion of this host has it."""
    return {
        "specs_dir": str(host.specs_dir),
        "state_dir": str(host.state_dir),
        "porto_socket": host.portod.socket_path,
        "root": str(host.root),
        "log_file": str(host.log_file),
        # Away from whoever listens on this machine, and from its node_exporter.
        "monitoring": {
            "yasm": {"url": NOBODY},
            "juggler": {"url": NOBODY},
            "prometheus": {"textfile_dir": str(host.folder / "textfile")},
        },
    }


def make_minion_config(folder: Path, **more: Any) -> dict[str, Any]:
    (folder / "files").mkdir(parents=True, exist_ok=True)
    (folder / "pillar").mkdir(parents=True, exist_ok=True)
    if not (folder / "files/porto_daemons").exists():
        # Not the whole checkout: Salt lists every file below a file root, those of .venv too.
        (folder / "files/porto_daemons").symlink_to(REPO / "porto_daemons")
    return {
        "id": "minion",
        "root_dir": str(folder),
        "cachedir": str(folder / "cache"),
        "pki_dir": str(folder / "pki"),
        "log_file": str(folder / "minion.log"),
        "file_client": "local",
        "local": True,
        "module_dirs": [str(REPO)],
        "file_roots": {"base": [str(folder / "files")]},
        "pillar_roots": {"base": [str(folder / "pillar")]},
        **more,
    }


class Minion:
    """Salt's loaders in this process, as `salt-call --local` would have them.

    Making them takes seconds, so tests share one, whose settings file is each test's own.
    """

    def __init__(self, folder: Path, **more: Any) -> None:
        self.settings_file = folder / "ya-salt.yaml"
        self.files = folder / "files"
        self.pillar = folder / "pillar"
        section = {"config": str(self.settings_file), **more.pop("porto_daemons", {})}
        self.settings_file.write_text("{}")
        config = folder / "minion.yaml"
        config.write_text(yaml.safe_dump(make_minion_config(folder, porto_daemons=section, **more)))
        opts = minion_config(str(config))
        opts.update({"file_client": "local", "local": True})
        self.loaders = Loaders(opts)

    def serve(self, host: ExampleHost) -> Minion:
        """Be the minion of this host from now on."""
        self.host = host
        self.settings_file.write_text(yaml.safe_dump(make_settings(host)))
        for folder in (self.files, self.pillar):
            for path in folder.iterdir():
                if path.name != "porto_daemons":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.loaders.reset_state()
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loaders.modules.porto_daemon, name)

    @property
    def functions(self) -> Any:
        return self.loaders.modules

    def state(self, function: str, *, test: bool = False, **arguments: Any) -> Any:
        """One state, through `state.single`."""
        return getattr(self.loaders.states.porto_daemon, function)(test=test, **arguments)

    def run(self, sls: dict[str, Any] | str, *, test: bool = False, **more: Any) -> Run:
        """A run over an SLS that is given as data, or by the name that it has."""
        name = sls
        if not isinstance(sls, str):
            name = "given"
            (self.files / "given.sls").write_text(f"#!yaml\n{yaml.safe_dump(sls, sort_keys=False)}")
        raw = self.loaders.modules.state.apply(name, test=test, **more)
        return Run(raw)


class Run:
    """The results of one run, by ID."""

    def __init__(self, raw: Any) -> None:
        data = getattr(raw, "raw", raw)
        self.errors = data if isinstance(data, list) else []
        found = {} if self.errors else data
        self.results: dict[str, dict[str, Any]] = {
            item["__id__"]: {**item, "state": tag.partition("_|-")[0]}
            for tag, item in found.items()
        }

    def __getitem__(self, key: str) -> dict[str, Any]:
        found = [name for name in self.results if name == key or name.endswith(f"/{key}")]
        assert len(found) == 1, (key, list(self.results), self.errors)
        return self.results[found[0]]

    def __len__(self) -> int:
        return len(self.results)


def call_salt(config: Path, *words: str, python: Path | None = None, code: int | None = 0) -> Any:
    """`salt-call --local WORDS…`; what it returned."""
    program = [
        str(python or sys.executable),
        "-c",
        "from salt.scripts import salt_call; salt_call()",
    ]
    environment = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [*program, "-c", str(config), "--local", "--out=json", "--log-level=warning", *words],
        capture_output=True,
        text=True,
        cwd="/",
        env=environment,
        timeout=180,
        check=False,
    )
    if code is not None:
        assert done.returncode == code, done.stdout + done.stderr
    try:
        return json.loads(done.stdout)["local"]
    except (ValueError, KeyError):
        raise AssertionError(done.stdout + done.stderr) from None
