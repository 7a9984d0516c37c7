"""docs/packages.md names every reason code that there is, and none that there is not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import ya_salt.packages
from ya_salt.packages.failures import _SCRIPT_FILES

CODE = re.compile(r"(?:[A-Z][a-z]+)+\Z")
DOCUMENT = Path(__file__).parents[2] / "docs" / "packages.md"
ELSEWHERE = {"PackageVersionConflict", "DpkgUnavailable", "NotInstalled"}
"""Codes of plan and status that are about packages."""


def find_codes(tree: ast.AST) -> Iterator[str]:
    """First arguments of errors, first items of returned pairs, and what is called `reason`."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="PackageError" | "Failure"), args=[first, *_]):
                yield from find_texts(first)
            case ast.Return(value=ast.Tuple(elts=[first, *_])):
                yield from find_texts(first)
            case ast.Assign(targets=[ast.Name(id="reason")], value=value):
                yield from find_texts(value)


def find_texts(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and CODE.match(str(part.value)):
            yield str(part.value)


def read_codes() -> set[str]:
    folder = Path(ya_salt.packages.__file__).parent
    found = {
        code for file in folder.glob("*.py") for code in find_codes(ast.parse(file.read_text()))
    }
    scripts = {f"{script.capitalize()}Failed" for script in _SCRIPT_FILES.values()}
    # `…Failed` of a script is put together when it happens.
    return (found - {"Failed"}) | scripts


def read_documented() -> set[str]:
    table = DOCUMENT.read_text().partition("## Reasons")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (.+?) \|", table, re.MULTILINE)[1:]
    return {code for cell in cells for code in cell.split(", ") if CODE.match(code)}


def test_every_reason_is_documented_and_every_documented_one_exists() -> None:
    assert read_documented() == read_codes() | ELSEWHERE


def test_the_reading_finds_what_is_known_to_be_there() -> None:
    assert {"VersionNotFound", "Held", "WouldRemove", "AptTimeout"} <= read_codes()


def test_codes_of_other_modules_still_exist() -> None:
    folder = Path(ya_salt.packages.__file__).parents[1]
    words = "".join(file.read_text() for file in folder.rglob("*.py"))
    assert all(f'"{code}"' in words for code in ELSEWHERE)
