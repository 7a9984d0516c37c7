"""What all tests share: the helpers are importable as `helpers`, and shutil-safe short folders."""

from __future__ import annotations

import contextlib
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

# The environment with Salt has no hypothesis.
with contextlib.suppress(ImportError):
    from hypothesis import settings

    # How long an example takes is a matter of the machine and its other work.
    settings.register_profile("any-time", deadline=None)
    settings.load_profile("any-time")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: a unix socket's may have 107 bytes, and pytest's is longer."""
    path = Path(tempfile.mkdtemp(prefix="ys."))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)
