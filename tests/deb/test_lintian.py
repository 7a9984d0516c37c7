"""Debian's own checker of packages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.mark.skipif(shutil.which("lintian") is None, reason="lintian is not installed")
def test_lintian_finds_no_error_and_no_warning(packages: list[Path]) -> None:
    command = ["lintian", "--allow-root", "--tag-display-limit=0", "--fail-on=error,warning"]
    done = subprocess.run([*command, *packages], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
