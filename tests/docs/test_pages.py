"""Man pages and completions: as the parsers and documents are now, and fit to be shown."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.documents import DOCS, PARSERS, REPOSITORY

sys.path.insert(0, str(REPOSITORY / "packaging"))

try:
    from pages.everything import list_strays, make_all
except ModuleNotFoundError as error:
    pytest.fail(f"{error.name} is missing, which `make lint` installs", pytrace=False)

MAN = sorted((DOCS / "man").glob("*"))


def test_pages_and_completions_are_as_the_parsers_and_documents() -> None:
    made = make_all()
    stale = [name for name, text in made.items() if not is_same(REPOSITORY / name, text)]
    stale += [str(path) for path in list_strays(made)]
    if stale:
        pytest.fail(f"stale: {', '.join(stale)}: run `make pages`, and commit", pytrace=False)


def is_same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def test_every_page_that_is_promised_is_there() -> None:
    names = {path.name for path in MAN}
    assert names == {
        *(f"{program}.1" for program in PARSERS),
        *("ya-salt.yaml.5", "porto-daemon.5", "orly-rule.5"),
    }


@pytest.mark.parametrize("page", MAN, ids=lambda page: page.name)
@pytest.mark.parametrize("width", [60, 80, 200])
def test_man_shows_a_page_without_warnings(page: Path, width: int) -> None:
    shown = show(page, width)
    headings = re.findall(r"^[A-Z].*$", shown, re.MULTILINE)
    assert headings[1] == "NAME"
    assert "SEE ALSO" in headings
    # Nothing of the markup is left.
    assert not re.search(r"\\f|\\&|\]\(|^\.[A-Z]{2}", shown, re.MULTILINE)


def show(page: Path, width: int) -> str:
    if not shutil.which("man"):
        pytest.skip("man is missing: apt-get install man-db")
    done = subprocess.run(
        ["man", "--warnings", "-l", str(page)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "MANWIDTH": str(width), "LC_ALL": "C.UTF-8", "MANPAGER": "cat"},
    )
    assert done.stderr == ""
    return done.stdout


def test_what_one_types_can_be_copied_from_a_page() -> None:
    shown = show(DOCS / "man/ya-salt.1", 80)
    assert "--override-gate REASON" in shown
    shown = show(DOCS / "man/porto-daemon.5", 80)
    assert "cmd: [/usr/bin/juggler-client, --config-dir, /etc/juggler/]" in shown
    assert "memory_limit" in shown


def test_nothing_that_runs_imports_the_tools() -> None:
    tools = re.compile(r"^\s*(?:from|import) (?:shtab|markdown_it|pages)\b", re.MULTILINE)
    files = [*(REPOSITORY / "ya_salt").rglob("*.py"), *(REPOSITORY / "devporto").rglob("*.py")]
    assert [str(path) for path in files if tools.search(path.read_text())] == []
