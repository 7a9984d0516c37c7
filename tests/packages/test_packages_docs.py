"""docs/packages.md names every reason code that there is, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path

from helpers.reasons import CODE, read_package_codes

import ya_salt.packages

DOCUMENT = Path(__file__).parents[2] / "docs" / "packages.md"
ELSEWHERE = {"PackageVersionConflict", "DpkgUnavailable", "NotInstalled"}
"""Codes of plan and status that are about packages."""


def read_documented() -> set[str]:
    table = DOCUMENT.read_text().partition("## Reasons")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (.+?) \|", table, re.MULTILINE)[1:]
    return {code for cell in cells for code in cell.split(", ") if CODE.match(code)}


def test_every_reason_is_documented_and_every_documented_one_exists() -> None:
    assert read_documented() == read_package_codes() | ELSEWHERE


def test_the_reading_finds_what_is_known_to_be_there() -> None:
    assert {"VersionNotFound", "Held", "WouldRemove", "AptTimeout"} <= read_package_codes()


def test_codes_of_other_modules_still_exist() -> None:
    folder = Path(ya_salt.packages.__file__).parents[1]
    words = "".join(file.read_text() for file in folder.rglob("*.py"))
    assert all(f'"{code}"' in words for code in ELSEWHERE)
