"""The README's pictures show what is printed today, and ask nobody for anything."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from helpers.documents import DOCS, Command, find_trouble

from ya_salt.cli.lines import HEAD

PICTURES = sorted((DOCS / "pictures").glob("*.svg"))


def read_lines(picture: Path) -> list[str]:
    texts = ET.parse(picture).getroot().iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()) for text in texts]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_a_picture_has_the_columns_and_commands_that_there_are(picture: Path) -> None:
    lines = read_lines(picture)
    (head,) = {tuple(line.split())[: len(HEAD)] for line in lines if line.startswith("NAME ")}
    assert head == HEAD, "stale: make pictures"
    commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ya-salt ")]
    assert commands
    assert not [text for text in commands if find_trouble(Command(picture, 1, text))]


def test_pictures_ask_no_server() -> None:
    for picture in PICTURES:
        text = picture.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "http" not in text and "url(" not in text and "<script" not in text


def test_they_are_shown() -> None:
    text = (DOCS.parent / "README.md").read_text()
    assert all(f"(docs/pictures/{picture.name})" in text for picture in PICTURES)
