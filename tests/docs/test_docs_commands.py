"""Every command line that a document names is one that the program's own parser takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.documents import REPOSITORY, Command, find_commands, find_trouble, list_documents


@pytest.mark.parametrize(
    "path", list_documents(), ids=lambda path: str(path.relative_to(REPOSITORY))
)
def test_a_command_of_a_document_is_one_that_there_is(path: Path) -> None:
    commands = list(find_commands(path))
    assert [f"{item}: {find_trouble(item)}" for item in commands if find_trouble(item)] == []


def test_what_make_is_asked_for_is_a_target() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    assert {"demo", "test"} <= targets
    documents = [*list_documents(), REPOSITORY / "CONTRIBUTING.md"]
    named = re.compile(r"(?:`|^ *)make ([a-z][a-z-]*)(?=`| *#| BENCH_ARGS|$)", re.MULTILINE)
    asked = {name for path in documents for name in named.findall(path.read_text())}
    assert {"demo", "test", "pages", "bench"} <= asked <= targets


@pytest.mark.parametrize(
    "text",
    [
        "ya-salt frobnicate NAME",
        "ya-salt stop --for-ever",
        "orlyctl release RULE",
        "ya-salt applly",
    ],
)
def test_one_that_there_is_not_is_found(text: str) -> None:
    assert find_trouble(Command(REPOSITORY / "README.md", 1, text))
