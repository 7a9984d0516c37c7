"""setuptools' own build backend, and what `git describe` says of the checkout that is built.

It goes as `ya_salt/built_from` into wheel and sdist, which have no git to ask any more. Only for
the time of the build: of a checkout that goes on changing it would soon be untrue.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

FILE = "ya_salt/built_from"


def build_wheel(
    wheel_directory: str,
    config_settings: Mapping[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    # What an earlier build has left there, of modules that are gone, would be packed again.
    shutil.rmtree("build/lib", ignore_errors=True)
    with _described(Path()):
        return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: Mapping[str, Any] | None = None) -> str:
    with _described(Path()):
        return build_meta.build_sdist(sdist_directory, config_settings)


@contextlib.contextmanager
def _described(tree: Path) -> Iterator[None]:
    """Have the file there; one that an sdist brings along stays as it is."""
    text = describe(tree)
    file = tree / FILE
    if text:
        file.write_text(f"{text}\n")
    try:
        yield
    finally:
        if text:
            file.unlink()


def describe(tree: Path) -> str:
    """Which commit the checkout stands at, "" where it is none or there is no git."""
    if not (tree / ".git").exists():
        return ""
    with contextlib.suppress(OSError):
        done = subprocess.run(
            ("git", "describe", "--tags", "--always", "--dirty"),  # noqa: S607 - the builder's own git
            cwd=tree,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()
    return ""


if __name__ == "__main__":
    sys.stdout.write(describe(Path(sys.argv[1])) + "\n")
