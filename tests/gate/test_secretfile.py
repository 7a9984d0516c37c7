"""A password is read from a file that is its owner's alone, and never told."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from ya_salt.errors import GateError
from ya_salt.gate.secretfile import MAX_BYTES, read_secret

SECRET = "hunter2"


def write(folder: Path, data: bytes = SECRET.encode(), mode: int = 0o600) -> Path:
    path = folder / "password"
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("data", "secret"),
    [
        (b"hunter2", "hunter2"),
        (b"hunter2\n", "hunter2"),
        (b"hunter2\r\n", "hunter2"),
        (b" two words \n", " two words "),
        ("p\u00e4ss\n".encode(), "p\u00e4ss"),
        (b"x" * (MAX_BYTES - 1) + b"\n", "x" * (MAX_BYTES - 1)),
    ],
)
def test_the_line_is_the_password(tmp_path: Path, data: bytes, secret: str) -> None:
    assert read_secret(str(write(tmp_path, data))) == secret


def test_the_owner_may_be_unable_to_write_it(tmp_path: Path) -> None:
    assert read_secret(str(write(tmp_path, mode=0o400))) == SECRET


def make_link(folder: Path) -> Path:
    (folder / "link").symlink_to(write(folder))
    return folder / "link"


def make_fifo(folder: Path) -> Path:
    os.mkfifo(folder / "fifo", 0o600)
    return folder / "fifo"


def give_away(folder: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to somebody else")
    path = write(folder)
    os.chown(path, 12345, 12345)
    return path


def in_an_open_folder(folder: Path) -> Path:
    path = write(folder)
    folder.chmod(0o777)
    return path


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: folder / "absent", "No such file"),
        (lambda folder: folder, "no regular file"),
        (make_link, "symbolic link"),
        (make_fifo, "no regular file"),
        (give_away, "belongs to user 12345"),
        (in_an_open_folder, "chmod go-w"),
        (lambda folder: write(folder, mode=0o640), "chmod 600"),
        (lambda folder: write(folder, mode=0o620), "chmod 600"),
        (lambda folder: write(folder, mode=0o604), "chmod 600"),
        (lambda folder: write(folder, b""), "is empty"),
        (lambda folder: write(folder, b"\n"), "is empty"),
        (lambda folder: write(folder, b"hunter2\nmore\n"), "more than one line"),
        (lambda folder: write(folder, b"hunter2\0"), "more than one line"),
        (lambda folder: write(folder, b"hunter2" * 1000), "more than one line"),
        (lambda folder: write(folder, b"hunter2\xff"), "no UTF-8"),
    ],
)
def test_any_other_file_is_refused(tmp_path: Path, make: Callable[[Path], Path], told: str) -> None:
    path = make(tmp_path)
    with pytest.raises(GateError) as caught:
        read_secret(str(path))
    assert caught.value.reason == "GateRefused"
    assert str(path) in str(caught.value)
    assert told in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
