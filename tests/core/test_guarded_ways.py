"""Whether what leads to several files is guarded is found by looking at each folder once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ya_salt import as_left


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    """Files in two folders below one."""
    found = {name: tmp_path / name for name in ("a/one", "a/two", "b/one")}
    for path in found.values():
        path.parent.mkdir(exist_ok=True)
        path.touch(mode=0o600)
    return found


def are_guarded(*paths: Path) -> bool:
    return as_left.are_guarded(map(str, paths))


def test_all_are_where_each_is(paths: dict[str, Path], tmp_path: Path) -> None:
    assert are_guarded(*paths.values(), tmp_path / "a/missing", tmp_path / "missing/one")
    assert are_guarded()


@pytest.mark.parametrize("order", [1, -1])
def test_a_way_that_others_may_write_is_found_wherever_it_stands(
    paths: dict[str, Path], order: int
) -> None:
    paths["b/one"].parent.chmod(0o777)
    assert are_guarded(paths["a/one"], paths["a/two"])
    assert not are_guarded(*list(paths.values())[::order])


def test_a_way_to_all_of_them_is_looked_at(paths: dict[str, Path], tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert not any(are_guarded(path) for path in paths.values())
    assert not are_guarded(*paths.values())


def test_where_a_link_leads_counts(paths: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "a/link").symlink_to(paths["b/one"])
    assert are_guarded(paths["a/one"], tmp_path / "a/link")
    paths["b/one"].parent.chmod(0o777)
    assert not are_guarded(paths["a/one"], tmp_path / "a/link")


def test_each_folder_is_looked_at_once(
    paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = os.lstat

    def look(path: str) -> os.stat_result:
        seen.append(path)
        return real(path)

    monkeypatch.setattr(os.path, "realpath", str)
    monkeypatch.setattr(as_left.os, "lstat", look)
    assert are_guarded(*paths.values(), *paths.values())
    assert len(seen) == len(set(seen))
