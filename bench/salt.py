"""The same from Salt: our states, Salt's own, and states that do nothing.

Salt starts for all of them, so what ours add is the difference to one that does nothing; as many
that do nothing are what Salt itself takes for a state a daemon.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.host import ROOT
from bench.measure import Command
from bench.peers import NotHereError, Place, sleepers
from bench.promises import SALT_FULL, SALT_MANY, SALT_NOTHING, SALT_OURS, SALT_OWN
from ya_salt.as_left import FILE_NAME

_OWN_STATES = """\
#!yaml
packages:
  pkg.installed:
    - refresh: false
    - pkgs: {packages}
processes:
  cmd.run:
    - name: "false"
    - unless: kill -0 $(cat {folder}/*.pid)
"""


@contextlib.contextmanager
def run_salt(place: Place) -> Iterator[list[Command]]:
    """Raises NotHereError. $SALT_VENV is the environment that `make test-salt` makes."""
    program = Path(os.environ.get("SALT_VENV", ROOT / ".venv-salt"), "bin/salt-call").resolve()
    if not program.exists():
        raise NotHereError("not here: salt-call (`make test-salt` makes .venv-salt)")
    config = _write_config(place)
    words = [str(program), "-c", str(config), "--local", "--retcode-passthrough", "state.apply"]
    environment = {**place.environment, "PYTHONPATH": str(place.folder / "lib")}
    # The long way, which leaves a snapshot for the one who comes next.
    forget = ["sh", "-c", f'rm -f {place.folder}/state/{FILE_NAME} && exec "$@"', "sh"]
    ours = [*words, "porto_daemons"]
    commands = [
        Command(SALT_NOTHING, [*words, "trivial"], environment, checks="nothing"),
        Command(SALT_MANY, [*words, "many"], environment, checks="nothing"),
        Command(SALT_FULL, [*forget, *ours], environment, checks="as ya-salt --full"),
        Command(SALT_OURS, ours, environment, checks="as ya-salt"),
    ]
    with contextlib.ExitStack() as stack:
        if os.geteuid() == 0 and shutil.which("unshare"):
            stack.enter_context(sleepers(place))
            # pkg.installed knows no other root: it sees the daemons' packages where dpkg's are.
            mounted = f'mount --bind {place.host.dpkg_dir} /var/lib/dpkg && exec "$@"'
            way = ["unshare", "--mount", "sh", "-c", mounted, "sh"]
            own = Command(SALT_OWN, [*way, *words, "own"], environment, checks="runs, package")
            commands.append(own)
        yield commands


def _write_config(place: Place) -> Path:
    files = place.folder / "files"
    for name in ("files", "pillar", "lib"):
        (place.folder / name).mkdir()
    (files / "porto_daemons").symlink_to(ROOT / "porto_daemons")
    (place.folder / "lib/ya_salt").symlink_to(ROOT / "ya_salt")
    (files / "trivial.sls").write_text("#!yaml\nnothing:\n  test.nop\n")
    many = "".join(f"nothing-{number}:\n  test.nop\n" for number in range(place.count))
    (files / "many.sls").write_text(f"#!yaml\n{many}")
    packages = [{f"package-{number}": "1.0"} for number in range(place.count)]
    own = _OWN_STATES.format(packages=json.dumps(packages), folder=place.folder)
    (files / "own.sls").write_text(own)
    host = place.host
    places = {
        name: host.environment[f"YA_SALT_{name.upper()}"]
        for name in ("specs_dir", "state_dir", "porto_socket", "root", "log_file")
    }
    # Two ways to say what the settings are would find nothing quick of each other.
    shutil.copytree(host.state_dir, place.folder / "state")
    places["state_dir"] = str(place.folder / "state")
    nobody = {"url": host.environment["YA_SALT_MONITORING_YASM_URL"]}
    textfile = host.environment["YA_SALT_MONITORING_PROMETHEUS_TEXTFILE_DIR"]
    monitoring = {"yasm": nobody, "juggler": nobody, "prometheus": {"textfile_dir": textfile}}
    text = {
        "id": "minion",
        "root_dir": str(place.folder),
        "cachedir": str(place.folder / "cache"),
        "pki_dir": str(place.folder / "pki"),
        "log_file": str(place.folder / "minion.log"),
        "file_client": "local",
        "local": True,
        "module_dirs": [str(ROOT)],
        "file_roots": {"base": [str(files)]},
        "pillar_roots": {"base": [str(place.folder / "pillar")]},
        "porto_daemons": {**places, "monitoring": monitoring},
    }
    (place.folder / "minion").write_text(json.dumps(text))
    return place.folder
