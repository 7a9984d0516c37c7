"""Each test has its own repository and its own private root: real apt-get, real dpkg."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.debs import Repository, make_root
from helpers.package_host import Host

from ya_salt.packages.apt import Apt


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    repository = Repository(tmp_path / "repository")
    repository.write_index()
    root = make_root(tmp_path / "root", repository)
    apt = Apt(
        str(root),
        lock_timeout_s=5,
        script_timeout_s=30,
        cache_dir=str(tmp_path / "cache"),
        notes_dir=str(tmp_path / "generations"),
    )
    yield Host(tmp_path, repository, apt)
    leftovers = [path.name for path in (root / "usr/sbin").glob("*policy-rc.d*")]
    assert not leftovers or "kept-by-test" in (root / "usr/sbin" / leftovers[0]).read_text()
