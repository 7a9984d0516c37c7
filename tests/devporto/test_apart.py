"""dev-portod is a distribution of its own; ya-salt only knows how to become it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from email.parser import HeaderParser
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.helpers.portod import Wire

REPO = Path(__file__).parents[2]


def build_wheel(folder: Path, out: Path) -> ZipFile:
    """Build what is under version control, without what earlier builds left beside it."""
    words = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout
    source = out / "source"
    for name in listed.split("\0"):
        if name and (folder / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = out.glob("*.whl")
    return ZipFile(wheel)


def list_tops(wheel: ZipFile) -> set[str]:
    return {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name}


def test_wheel_of_ya_salt_has_nothing_of_the_server(tmp_path: Path) -> None:
    wheel = build_wheel(REPO, tmp_path)
    assert list_tops(wheel) == {"ya_salt"}
    assert not [name for name in wheel.namelist() if "devporto" in name]
    (scripts,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert b"dev-portod" not in wheel.read(scripts)


def test_wheel_of_the_server_is_whole_and_wants_protobuf_alone(tmp_path: Path) -> None:
    wheel = build_wheel(REPO / "devporto", tmp_path)
    assert list_tops(wheel) == {"devporto"}
    modules = {path.name for path in (REPO / "devporto/src/devporto").iterdir() if path.is_file()}
    assert {Path(name).name for name in wheel.namelist() if "dist-info" not in name} == modules
    (metadata,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    wanted = HeaderParser().parsestr(wheel.read(metadata).decode()).get_all("Requires-Dist", [])
    assert [re.split(r"[^\w-]", one)[0] for one in wanted] == ["protobuf"]
    (scripts,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert b"dev-portod = " in wheel.read(scripts)


@pytest.mark.parametrize("name", ["porto_pb2.py", "porto_pb2.pyi"])
def test_both_speak_the_same_wire(name: str) -> None:
    ours, theirs = REPO / "ya_salt/proto" / name, REPO / "devporto/src/devporto" / name
    assert ours.read_bytes() == theirs.read_bytes()


def become_server(socket: str, paths: Sequence[Path], path: str) -> subprocess.Popen[str]:
    """`ya-salt dev-portod` of a Python that finds packages in `paths` only."""
    code = "import sys; from ya_salt.cli.main import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-S", "-c", code, "dev-portod", "--socket", socket],
        env={"PYTHONPATH": os.pathsep.join(map(str, paths)), "PATH": path},
        # A folder of that name which is no package: the checkout's own.
        cwd=REPO,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("way", ["package", "script"])
def test_ya_salt_becomes_the_server_where_it_is_installed(way: str, tmp_path: Path) -> None:
    packages = [REPO, Path(sysconfig.get_path("purelib"))]
    if way == "package":
        packages.append(REPO / "devporto/src")
    script = tmp_path / "dev-portod"
    script.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.append({str(REPO / 'devporto/src')!r})\n"
        "from devporto.__main__ import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        server = become_server(f"{short}/s", packages, str(tmp_path) if way == "script" else "")
        try:
            assert server.stderr is not None
            assert f"listening on {short}/s" in server.stderr.readline()
            with Wire(f"{short}/s") as wire:
                assert wire.code(version={}) == "Success"
            # The server itself: whoever supervises the command supervises it.
            server.send_signal(signal.SIGTERM)
            assert server.wait(20) == 0
        finally:
            server.kill()
            server.communicate()


def test_ya_salt_says_how_to_get_the_server(tmp_path: Path) -> None:
    packages = [REPO, Path(sysconfig.get_path("purelib"))]
    with become_server(str(tmp_path / "s"), packages, str(tmp_path)) as server:
        _, told = server.communicate(timeout=60)
    assert server.returncode == 2
    assert "pip install ./devporto" in told
    assert len(told.splitlines()) == 1
