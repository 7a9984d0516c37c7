"""`make docs`: the documents as a site, with every link within them checked."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from helpers.documents import DOCS, REPOSITORY


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    (command,) = re.findall(
        r"-m sphinx (.*) docs build/docs", (REPOSITORY / "Makefile").read_text()
    )
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *command.split(), str(source), str(target)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_every_document_is_a_page_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    done = build(DOCS, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for document in DOCS.rglob("*.md"):
        assert (tmp_path / document.relative_to(DOCS)).with_suffix(".html").exists()
    assert "<h1>ya-salt" in (tmp_path / "index.html").read_text()


def test_links_that_lead_nowhere_are_errors(tmp_path: Path) -> None:
    for path in REPOSITORY.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
        elif path.name != "docs":
            (tmp_path / path.name).symlink_to(path)
    source = tmp_path / "docs"
    shutil.copytree(DOCS, source)
    links = ["lifecycle.md#nothing-of-that-name", "no-such-page.md", "../no/such/file.yaml"]
    with (source / "running.md").open("a") as page:
        page.writelines(f"\n[here]({link})\n" for link in links)
    done = build(source, tmp_path / "site")
    assert done.returncode
    assert done.stderr.count("running.md") == done.stderr.count("WARNING") == len(links)
