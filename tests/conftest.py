"""What all tests share: the helpers are importable as `helpers`, and shutil-safe short folders."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
# Whatever runs the tests may have them ignore SIGINT; what they start must not inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: a unix socket's may have 107 bytes, and pytest's is longer."""
    path = Path(tempfile.mkdtemp(prefix="ys."))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)
