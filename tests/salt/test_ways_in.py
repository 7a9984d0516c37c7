"""The four ways to bring ya-salt to Salt, each in an environment of its own; none needs two copies.

(a) `pip install .`, (b) the core installed and the adapters synchronised from a file root,
(c) `pip install -e .`, (d) the checkout as `module_dirs` and file root with nothing installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.example import NAME, VERSION, ExampleHost
from salt_minion import EXAMPLE, REPO, call_salt, make_settings

NOT_VERSIONED = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean checkout: what is under version control, and nothing that was built in it."""
    folder = tmp_path_factory.mktemp("made") / "checkout"
    shutil.copytree(REPO, folder, ignore=NOT_VERSIONED)
    return folder


class Environment:
    """A Python that has Salt and our dependencies, but not us."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.python = folder / "bin/python"
        scheme = {"base": str(folder), "platbase": str(folder)}
        self.packages = Path(sysconfig.get_path("purelib", vars=scheme))
        shared = sysconfig.get_path("purelib")
        (self.packages / "shared.pth").write_text(f"{shared}\n")

    def pip(self, *words: str) -> None:
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet"]
        command += ["--no-deps", "--no-build-isolation", *words]
        environment = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "venv")


class Caller:
    """`salt-call --local` in an environment, on the example's host."""

    def __init__(self, host: ExampleHost, python: Path, **config: Any) -> None:
        self.python = python
        self.folder = host.folder / "minion"
        self.folder.mkdir()
        config = {
            "id": "minion",
            "root_dir": str(self.folder),
            "file_client": "local",
            "porto_daemons": {"grain": True, **make_settings(host)},
            **config,
        }
        (self.folder / "minion").write_text(yaml.safe_dump(config))

    def __call__(self, *words: str, code: int | None = 0) -> Any:
        return call_salt(self.folder, *words, python=self.python, code=code)


def check_way_in(host: ExampleHost, call: Caller, adapter: Path) -> None:
    """The document's example: foretold, applied, converged, from the adapter that was meant."""
    assert Path(call("porto_daemon.version")["adapter"]).is_relative_to(adapter)
    shutil.copy(EXAMPLE, host.spec_file)
    tag = f"porto_daemon_|-porto-daemons:{host.spec_file}_|-{NAME}_|-managed"
    told = call("state.apply", "porto_daemons", "test=True")[tag]
    done = call("state.apply", "porto_daemons")[tag]
    assert (told["result"], done["result"]) == (None, True), done
    assert told["changes"] == done["changes"] != {}
    again = call("state.apply", "porto_daemons")[tag]
    assert (again["result"], again["changes"]) == (True, {})
    # Every call makes its grains anew.
    grains = ("porto_daemons", "porto_daemon_versions", "porto_daemons_unknown")
    assert call("grains.item", *grains) == {
        "porto_daemons": [NAME],
        "porto_daemon_versions": {NAME: VERSION},
        "porto_daemons_unknown": "",
    }


def test_a_installed_package_brings_everything(
    host: ExampleHost, environment: Environment, checkout: Path
) -> None:
    environment.pip(str(checkout))
    installed = environment.packages / "ya_salt/ext"
    call = Caller(host, environment.python, file_roots={"base": [str(installed / "file_root")]})
    assert call("porto_daemon.version")["file_root"] == str(installed / "file_root")
    check_way_in(host, call, installed / "modules")


def test_b_adapters_are_synchronised_to_an_installed_core(
    host: ExampleHost, environment: Environment, checkout: Path, tmp_path: Path
) -> None:
    shutil.copytree(checkout / "ya_salt", environment.packages / "ya_salt")
    root = tmp_path / "root"
    for name in ("_modules", "_states", "_beacons", "_grains", "porto_daemons"):
        shutil.copytree(checkout / name, root / name)
    call = Caller(host, environment.python, file_roots={"base": [str(root)]})
    synced = call("saltutil.sync_all")
    assert synced["modules"] == ["modules.porto_daemon"]
    assert synced["states"] == ["states.porto_daemon"]
    assert synced["beacons"] == ["beacons.porto_daemon"]
    assert synced["grains"] == ["grains.porto_daemon"]
    check_way_in(host, call, call.folder / "var/cache/salt/minion/extmods")


def test_c_an_editable_install_loads_the_checkout(
    host: ExampleHost, environment: Environment, checkout: Path
) -> None:
    environment.pip("--editable", str(checkout))
    call = Caller(host, environment.python, file_roots={"base": [str(checkout)]})
    check_way_in(host, call, checkout / "_modules")


def test_d_a_checkout_needs_no_installation(
    host: ExampleHost, environment: Environment, checkout: Path
) -> None:
    call = Caller(
        host,
        environment.python,
        module_dirs=[str(checkout)],
        file_roots={"base": [str(checkout)]},
    )
    check_way_in(host, call, checkout / "_modules")


def test_a_checkout_as_module_dirs_logs_no_error(
    host: ExampleHost, environment: Environment, checkout: Path
) -> None:
    call = Caller(host, environment.python, module_dirs=[str(checkout)], log_level_logfile="debug")
    # Each makes Salt look at every .py file that may hold one.
    assert "porto_daemon.status" in call("sys.list_functions")
    assert "porto_daemon.managed" in call("sys.list_state_functions")
    told = (call.folder / "var/log/salt/minion").read_text()
    assert "[DEBUG" in told
    assert [line for line in told.splitlines() if "[ERROR" in line or "[CRITICAL" in line] == []
    assert "Traceback" not in told


# -- what can be wrong with them -------------------------------------------------------------------


def find_failure(results: dict[str, Any]) -> str:
    (result,) = results.values()
    assert result["result"] is False
    return str(result["comment"])


def test_without_the_core_one_state_says_so(
    host: ExampleHost, environment: Environment, checkout: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    for name in ("_modules", "_states", "_beacons", "_grains", "porto_daemons"):
        shutil.copytree(checkout / name, root / name)
    call = Caller(host, environment.python, file_roots={"base": [str(root)]})
    call("saltutil.sync_all")
    for words in (("test=True",), ()):
        said = find_failure(call("state.apply", "porto_daemons", *words, code=None))
        assert "No module named 'ya_salt'" in said
        assert str(environment.python) in said
    told = call("grains.item", "porto_daemons", "porto_daemons_unknown")
    assert told["porto_daemons"] == ""
    assert "No module named 'ya_salt'" in told["porto_daemons_unknown"]


def test_without_the_adapters_one_state_says_so(
    host: ExampleHost, environment: Environment, checkout: Path, tmp_path: Path
) -> None:
    shutil.copytree(checkout / "porto_daemons", tmp_path / "root/porto_daemons")
    call = Caller(host, environment.python, file_roots={"base": [str(tmp_path / "root")]})
    said = find_failure(call("state.apply", "porto_daemons", "test=True", code=None))
    assert "porto_daemon.directory" in said


def test_without_the_execution_module_one_state_says_so(
    host: ExampleHost, environment: Environment, checkout: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    for name in ("ya_salt", "_states", "porto_daemons"):
        folder = environment.packages if name == "ya_salt" else root
        shutil.copytree(checkout / name, folder / name)
    call = Caller(host, environment.python, file_roots={"base": [str(root)]})
    call("saltutil.sync_all")
    said = find_failure(call("state.apply", "porto_daemons", "test=True", code=None))
    assert "there is no execution module porto_daemon" in said


def test_a_stale_copy_says_that_it_is_one(
    host: ExampleHost, environment: Environment, checkout: Path, tmp_path: Path
) -> None:
    environment.pip(str(checkout))
    root = tmp_path / "root"
    shutil.copytree(checkout / "porto_daemons", root / "porto_daemons")
    for name in ("_modules", "_states"):
        text = (checkout / name / "porto_daemon.py").read_text()
        (root / name).mkdir()
        (root / name / "porto_daemon.py").write_text(text.replace("api=3", "api=2"))
    call = Caller(host, environment.python, file_roots={"base": [str(root)]})
    call("saltutil.sync_all")
    said = find_failure(call("state.apply", "porto_daemons", code=None))
    assert "speaks API 2, but the ya-salt that is installed speaks 3" in said
    assert "saltutil.sync_all" in said


@pytest.mark.parametrize("kind", ["modules", "states", "beacons"])
def test_a_synchronised_copy_leaves_the_path_alone(
    environment: Environment, checkout: Path, tmp_path: Path, kind: str
) -> None:
    def load(path: Path) -> str:
        code = "import runpy, sys; old = [*sys.path]; runpy.run_path(sys.argv[1]); "
        code += "print(*[item for item in sys.path if item not in old])"
        done = subprocess.run(
            [environment.python, "-c", code, path],
            cwd=tmp_path,
            env={key: text for key, text in os.environ.items() if key != "PYTHONPATH"},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    extmods = tmp_path / "extmods"
    shutil.copytree(checkout / "ya_salt", extmods / "ya_salt")
    shutil.copytree(checkout / f"_{kind}", extmods / kind)
    assert load(extmods / kind / "porto_daemon.py") == ""
    assert load(checkout / f"_{kind}" / "porto_daemon.py") == str(checkout)


def test_grains_that_nobody_asked_for_load_nothing(
    environment: Environment, checkout: Path
) -> None:
    adapter = checkout / "_grains/porto_daemon.py"

    def ask(section: object) -> list[Any]:
        code = "import json, runpy, sys; asked = json.loads(sys.argv[2]); "
        code += "found = runpy.run_path(sys.argv[1], {'__opts__': {'porto_daemons': asked}}); "
        code += "told = found['porto_daemons'](); "
        code += "print(json.dumps([sorted(told), 'ya_salt' in sys.modules]))"
        done = subprocess.run(
            [environment.python, "-c", code, adapter, json.dumps(section)],
            cwd="/",
            env={key: text for key, text in os.environ.items() if key != "PYTHONPATH"},
            capture_output=True,
            text=True,
            check=True,
        )
        found: list[Any] = json.loads(done.stdout)
        return found

    for section in (None, [], {}, {"parallel": 2}, {"grain": False}):
        assert ask(section) == [[], False], section
    # From the checkout beside it, which says what is wrong.
    assert ask({"grain": 1}) == [["porto_daemons_unknown"], True]


def test_every_package_is_installed(environment: Environment, checkout: Path) -> None:
    environment.pip(str(checkout))
    installed = environment.packages / "ya_salt"
    here = {path.relative_to(REPO / "ya_salt") for path in (REPO / "ya_salt").rglob("*.py*")}
    here = {path for path in here if path.suffix in (".py", ".pyi")}
    there = {path.relative_to(installed) for path in installed.rglob("*.py*")}
    assert here - there == set()
    extra = {str(path) for path in there - here if path.suffix == ".py"}
    kinds = ("modules", "states", "beacons", "grains")
    assert extra == {f"ext/{kind}/porto_daemon.py" for kind in kinds}
