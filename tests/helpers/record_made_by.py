"""Record what a version of ya-salt leaves behind, for versions to come: labels, notes, store.

    python tests/helpers/record_made_by.py NAME CHECKOUT

applies tests/data/made-by/specs with the version in CHECKOUT and writes
tests/data/made-by/NAME.json. To be run once for each version that is given away, as root and where
there is no daemons directory: the store has its path.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

HERE = Path(__file__).parent.parent
sys.path.append(str(HERE))

from helpers.apart import name_variables  # noqa: E402 - they lie beside this script
from helpers.portod import DevPortod  # noqa: E402

DATA = HERE / "data/made-by"
SPECS_DIR = Path("/etc/hostman/porto-daemons.d")
READ = ("labels", "private", "respawn")


def record(name: str, checkout: str) -> None:
    SPECS_DIR.mkdir(parents=True)
    folder = Path(tempfile.mkdtemp(prefix="mb-", dir="/tmp"))
    try:
        for path in (DATA / "specs").iterdir():
            shutil.copy(path, SPECS_DIR)
            (SPECS_DIR / path.name).chmod(0o600)
        with DevPortod() as portod:
            environment = {
                **os.environ,
                **name_variables(folder),
                "YA_SALT_STATE_DIR": str(folder / "state"),
                "YA_SALT_PORTO_SOCKET": portod.socket_path,
                "YA_SALT_LOG_FILE": str(folder / "log"),
                "YA_SALT_HOSTNAME": "host.example",
                "PYTHONPATH": checkout,
            }
            command = [sys.executable, "-m", "ya_salt.cli.main", "apply"]
            subprocess.run(command, env=environment, cwd=checkout, check=True)
            names = [path.stem for path in sorted((DATA / "specs").iterdir())]
            with portod.connect() as wire:
                made = {each: {key: wire.get(each, key) for key in READ} for each in names}
        told = {"containers": made, **_read_state(folder / "state")}
        (DATA / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")
    finally:
        shutil.rmtree(folder)
        shutil.rmtree(SPECS_DIR)
        SPECS_DIR.parent.rmdir()


def _read_state(state_dir: Path) -> dict[str, object]:
    with closing(sqlite3.connect(state_dir / "store.sqlite3")) as db:
        store = list(db.iterdump())
        (version,) = db.execute("PRAGMA user_version").fetchone()
    key = state_dir / "secret.key"
    secret = base64.b64encode(key.read_bytes()).decode() if key.exists() else ""
    return {"store": [*store, f"PRAGMA user_version = {version};"], "key": secret}


if __name__ == "__main__":
    record(*sys.argv[1:])
