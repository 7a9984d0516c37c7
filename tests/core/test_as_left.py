"""What lies beside the store as a hint: whole, or nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ya_salt import as_left
from ya_salt.salt_api import laid_down

OLD, NEW = {"a": 1, "text": "the last one"}, {"a": 2, "text": "the next one"}


@pytest.fixture
def path(folder: Path) -> Path:
    found = folder / "hint"
    as_left.write_file(str(found), OLD)
    return found


def test_one_bit_that_is_another_makes_it_nothing(path: Path) -> None:
    """Also where what is left can be read: that the rest is right nobody knows."""
    whole = path.read_bytes()
    assert as_left.read_file(str(path)) == OLD
    for at in range(8 * len(whole)):
        data = bytearray(whole)
        data[at // 8] ^= 1 << at % 8
        path.write_bytes(data)
        assert as_left.read_file(str(path)) is None, at


def test_a_part_of_it_is_nothing(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert as_left.read_file(str(path)) is None, length


def test_a_writer_that_dies_half_way_leaves_the_last_one(path: Path) -> None:
    child = os.fork()
    if not child:
        real = os.fdopen

        def open_and_die(file: int, mode: str) -> object:
            out = real(file, mode, buffering=0)
            out.write(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
            return out

        try:
            as_left.os.fdopen = open_and_die
            as_left.write_file(str(path), NEW)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert as_left.read_file(str(path)) == OLD
    # What it has left there is in nobody's way.
    as_left.write_file(str(path), NEW)
    assert as_left.read_file(str(path)) == NEW
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_writer_that_fails_leaves_the_last_one_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_old: str, _new: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(as_left.os, "replace", fail)
        as_left.write_file(str(path), NEW)
    assert as_left.read_file(str(path)) == OLD
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_what_was_laid_down_is_not_known_by_a_file_that_was_changed(folder: Path) -> None:
    """Whole and readable it is all the same; only what stands in it is another."""
    entries = {"d.yaml": [1, 2, 3, 4, 5, 6, 7, 8]}
    sign = laid_down.digest("d", {"version": "1"})
    laid_down.remember(str(folder), as_left.Glimpse({}, {}, entries), {"/etc/d.yaml": sign})
    assert laid_down.read(str(folder)) == {"d.yaml": (entries["d.yaml"], sign)}
    path = folder / laid_down.FILE_NAME
    other = laid_down.digest("d", {"version": "2"})
    path.write_bytes(path.read_bytes().replace(sign.encode(), other.encode()))
    assert laid_down.read(str(folder)) == {}


@pytest.mark.parametrize(
    ("name", "is_other"),
    [("same", False), ("never was", False), ("written", True), ("gone", True), ("new", True)],
)
def test_an_entry_that_is_another_is_found_by_itself(
    folder: Path, name: str, is_other: bool
) -> None:
    for one in ("same", "written", "gone"):
        (folder / one).write_text("a")
    data = {"entries": as_left.identify_entries(str(folder))}
    assert not as_left.is_any_other(data, [str(folder / "same"), str(folder / name)])
    (folder / "written").write_text("bb")
    (folder / "gone").unlink()
    (folder / "new").write_text("a")
    assert as_left.is_any_other(data, [str(folder / "same"), str(folder / name)]) is is_other
    assert not as_left.is_any_other(data, [])
