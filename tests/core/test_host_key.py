"""The host's key: made once, for its owner alone, not trusted where somebody else could have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ya_salt.converge.host_key import FILE_NAME, load_key, make_key


def test_it_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    assert load_key(str(tmp_path)) == b""
    key = make_key(str(tmp_path))
    assert len(key) == 32
    assert make_key(str(tmp_path)) == load_key(str(tmp_path)) == key
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("spoil", ["open", "short", "link", "directory"])
def test_one_that_cannot_be_trusted_is_none_and_made_anew(tmp_path: Path, spoil: str) -> None:
    key = make_key(str(tmp_path))
    path = tmp_path / FILE_NAME
    if spoil == "open":
        path.chmod(0o640)
    elif spoil == "short":
        path.write_bytes(key[:5])
    else:
        path.unlink()
        if spoil == "link":
            (tmp_path / "other").write_bytes(b"x" * 32)
            (tmp_path / "other").chmod(0o600)
            path.symlink_to(tmp_path / "other")
        else:
            path.mkdir()
    assert load_key(str(tmp_path)) == b""
    fresh = make_key(str(tmp_path))
    assert fresh != key
    assert len(fresh) == (0 if spoil == "directory" else 32)
    if spoil == "link":
        assert (tmp_path / "other").read_bytes() == b"x" * 32


def test_without_a_place_there_is_none(tmp_path: Path) -> None:
    assert make_key(str(tmp_path / "nowhere")) == b""
