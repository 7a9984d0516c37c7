"""Real .deb files, a real repository and a private dpkg root, built with dpkg-deb alone.

Works as root and as anybody else; needs neither dpkg-scanpackages nor apt-ftparchive, which a
fresh Debian does not have.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

Content: TypeAlias = "str | bytes"
Files: TypeAlias = "Mapping[str, Content | tuple[Content, int]]"

NO_FILES: Files = MappingProxyType({})
NO_SCRIPTS: Mapping[str, str] = MappingProxyType({})

RECORD = """\
#!/bin/sh
echo "$DPKG_MAINTSCRIPT_PACKAGE {script} $1 HOSTMAN=$HOSTMAN" >> "$DPKG_ROOT/scripts.log"
"""
"""A maintainer script that leaves a trace: which one, why, and whether it knew of HOSTMAN."""


def recording_scripts(*names: str) -> dict[str, str]:
    """Maintainer scripts that write to `scripts.log` in the root; all four unless named."""
    every = names or ("preinst", "postinst", "prerm", "postrm")
    return {name: RECORD.format(script=name) for name in every}


def build_deb(
    directory: Path,
    name: str,
    version: str,
    *,
    files: Files = NO_FILES,
    scripts: Mapping[str, str] = NO_SCRIPTS,
    conffiles: Sequence[str] = (),
    architecture: str = "all",
    **fields: str,
) -> Path:
    """Build `NAME_VERSION_ARCH.deb` in `directory` and return its path.

    `files` maps a path in the package to its content, or to (content, mode). `fields` are control
    fields with `_` for `-`: `depends="a (>= 1), b"`, `conflicts="c"`, `pre_depends="d"`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / f"{name}_{version.replace(':', '%3a')}_{architecture}.deb"
    with _staging() as tree:
        for path, content in files.items():
            _put(tree / path.lstrip("/"), content, 0o644)
        for script, text in scripts.items():
            _put(tree / "DEBIAN" / script, text, 0o755)
        if conffiles:
            _put(tree / "DEBIAN" / "conffiles", "".join(f"{path}\n" for path in conffiles), 0o644)
        _put(tree / "DEBIAN" / "control", _control(name, version, architecture, fields), 0o644)
        # An identical package gives an identical file: hashes in tests may be compared.
        _dpkg_deb("--root-owner-group", "-Zgzip", "-z1", "--build", str(tree), str(target))
    return target


def read_control(deb: Path) -> str:
    """The control paragraph of a .deb, as dpkg-deb prints it."""
    return _dpkg_deb("-f", str(deb))


@contextlib.contextmanager
def _staging() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="deb-") as folder:
        tree = Path(folder) / "tree"
        tree.mkdir(mode=0o755)
        yield tree


def _put(path: Path, content: Content | tuple[Content, int], mode: int) -> None:
    if isinstance(content, tuple):
        content, mode = content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    while path != path.parent and (path := path.parent).name != "tree":
        path.chmod(0o755)


def _control(name: str, version: str, architecture: str, fields: Mapping[str, str]) -> str:
    known = {
        "Package": name,
        "Version": version,
        "Architecture": architecture,
        "Maintainer": "ya-salt tests <nobody@example.invalid>",
        "Description": f"{name} for a test or a demonstration",
    }
    more = {key.title().replace("_", "-"): value for key, value in fields.items()}
    return "".join(f"{key}: {value}\n" for key, value in (known | more).items())


def _dpkg_deb(*arguments: str) -> str:
    environment = dict(os.environ, LC_ALL="C", SOURCE_DATE_EPOCH="1700000000")
    done = subprocess.run(
        ("dpkg-deb", *arguments), capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise RuntimeError(f"dpkg-deb {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@dataclass
class Repository:
    """A directory that apt reads with `deb [trusted=yes] file:DIR ./`."""

    directory: Path

    def add(self, name: str, version: str, **details: object) -> Path:
        """Build a package straight into the repository (see `build_deb`); not yet in the index."""
        return build_deb(self.directory, name, version, **details)  # type: ignore[arg-type]

    def remove(self, name: str, version: str) -> None:
        """Take a version away; the index still promises it until `write_index`."""
        for deb in self.directory.glob(f"{name}_{version.replace(':', '%3a')}_*.deb"):
            deb.unlink()

    def write_index(self) -> None:
        """Write `Packages`, with sizes and hashes, over every .deb in the directory."""
        self.directory.mkdir(parents=True, exist_ok=True)
        records = [self._describe(deb) for deb in sorted(self.directory.glob("*.deb"))]
        index = self.directory / "Packages.new"
        index.write_text("\n".join(records))
        index.replace(self.directory / "Packages")

    def _describe(self, deb: Path) -> str:
        content = deb.read_bytes()
        return (
            f"{read_control(deb)}Filename: ./{deb.name}\nSize: {len(content)}\n"
            f"MD5sum: {hashlib.md5(content, usedforsecurity=False).hexdigest()}\n"
            f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
        )

    @property
    def source(self) -> str:
        """The line for a sources.list."""
        return f"deb [trusted=yes] file:{self.directory} ./\n"


def make_root(directory: Path, *repositories: Repository) -> Path:
    """Give a private dpkg root its sources; everything else in it ya-salt makes by itself."""
    sources = directory / "etc/apt/sources.list"
    sources.parent.mkdir(parents=True, exist_ok=True)
    sources.write_text("".join(repository.source for repository in repositories))
    return directory


def remove_root(directory: Path) -> None:
    """Remove a root with everything in it, whatever modes its packages have left behind."""
    shutil.rmtree(directory, ignore_errors=True)
