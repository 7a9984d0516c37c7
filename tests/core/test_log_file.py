"""The log: whole lines, each with its daemon's name; what happens to the file hurts nobody."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ya_salt.cli.logs import LogFile


@pytest.fixture
def log(tmp_path: Path) -> Iterator[tuple[logging.Logger, LogFile, Path]]:
    path = tmp_path / "folder" / "the.log"
    handler = LogFile(str(path))
    logger = logging.Logger("one")
    logger.addHandler(handler)
    yield logger, handler, path
    handler.close()


def test_each_line_of_a_record_carries_its_daemon(log) -> None:
    logger, _, path = log
    logger.error("porto-daemon-a:b: %s", "apt failed\n E: no\x1b[2J\rsuch \n\u202everb")
    logger.info("pass: one\ntwo")
    lines = path.read_text().splitlines()
    heads, words = zip(*(line.split("] ", 1) for line in lines), strict=True)
    assert words == (
        "porto-daemon-a:b: apt failed",
        "porto-daemon-a:b:    E: no\\x1b[2J",
        "porto-daemon-a:b:   such ",
        "porto-daemon-a:b:   \\u202everb",
        "pass: one",
        "  two",
    )
    assert len(set(heads[:4])) == 1
    assert "ERROR" in heads[0]


def test_a_traceback_carries_it_too(log) -> None:
    logger, _, path = log
    try:
        int("of no use")
    except ValueError:
        logger.exception("porto-daemon-a: a bug")
    lines = path.read_text().splitlines()
    assert len(lines) > 2
    assert all("] porto-daemon-a: " in line for line in lines)
    assert lines[-1].endswith("'of no use'")


def test_it_goes_on_after_rotation_and_after_its_folder_was_gone(log) -> None:
    logger, handler, path = log
    logger.info("one")
    path.rename(path.with_suffix(".1"))
    logger.info("two")
    assert path.read_text().endswith("two\n")
    shutil.rmtree(path.parent)
    path.parent.write_text("in its place a file")
    logger.info("three")
    assert str(path) in handler.problem
    path.parent.unlink()
    logger.info("four")
    assert path.read_text().endswith("four\n")
    assert path.stat().st_mode & 0o777 == 0o640


def test_what_is_no_text_and_no_format_is_no_error(log) -> None:
    logger, handler, path = log
    logger.info("name %s", "\udcff")
    assert path.read_text().endswith("name \\udcff\n")
    logger.info("wrong %d", "words")
    assert handler.problem
