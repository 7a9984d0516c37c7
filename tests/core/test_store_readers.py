"""Whoever reads the store beside a pass that writes it finds it, and finds it whole."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from ya_salt import store_file
from ya_salt.store import FILE_NAME, open_store
from ya_salt.store_file import Found, WeatherError, read_file


def make_store(state_dir: Path) -> Path:
    """A store with a fact; its file."""
    store = open_store(str(state_dir))
    with store.transaction():
        store.save_fact("a", 1)
    store.close()
    return state_dir / FILE_NAME


def test_a_journal_that_comes_and_goes_is_no_damage(tmp_path: Path) -> None:
    path = make_store(tmp_path / "state")
    journal, over = path.with_name(f"{FILE_NAME}-journal"), threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            journal.write_bytes(b"")
            journal.unlink()

    writer = threading.Thread(target=come_and_go)
    writer.start()
    try:
        found = [read_file(path, thoroughly=False) for _ in range(1500)]
    finally:
        over.set()
        writer.join()
    assert {item.damage for item in found} == {""}
    assert {item.content.facts["a"] for item in found} == {"1"}


def test_a_journal_that_goes_while_it_is_copied_leaves_the_store_to_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_store(tmp_path / "state")
    journal = path.with_name(f"{FILE_NAME}-journal")
    journal.write_bytes(b"")
    read, copy, tries = store_file._read_database, shutil.copyfile, list[Path]()

    def fail_first(path: Path, *, thoroughly: bool) -> Found:
        tries.append(path)
        if len(tries) == 1:
            raise WeatherError("it cannot be undone here")
        return read(path, thoroughly=thoroughly)

    def copy_late(source: Path, target: Path) -> None:
        if source == journal:
            journal.unlink()
        copy(source, target)

    monkeypatch.setattr(store_file, "_read_database", fail_first)
    monkeypatch.setattr(shutil, "copyfile", copy_late)
    assert read_file(path, thoroughly=False).content.facts["a"] == "1"
    assert tries == [path, path]
