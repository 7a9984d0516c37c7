"""The project's documents: their sections, their blocks, and the command lines in running text."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shlex
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from devporto import __main__ as dev_portod
from ya_salt.cli import orlyctl
from ya_salt.cli import parser as ya_salt

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"

PARSERS: Mapping[str, Callable[[], argparse.ArgumentParser]] = {
    "ya-salt": ya_salt.make_parser,
    "orlyctl": orlyctl._make_parser,
    "dev-portod": dev_portod.make_parser,
}
"""Each program's own parser."""

_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_END = re.compile(r"\s(?:\||\d?>|<|&&|\|\||#)\s?.*|;.*")
_STAND_INS = {"N": "3", "GENERATION": "3", "SECONDS": "2", "TIME": "2h"}
"""Placeholders that a parser wants to be something."""


@dataclass(frozen=True)
class Command:
    """A command line of a document."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(REPOSITORY)}:{self.line}: {self.text}"


def list_documents() -> list[Path]:
    return [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))]


def find_commands(path: Path) -> Iterator[Command]:
    """Lines of ours in blocks, and what stands in backquotes within a line."""
    is_fenced = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        is_fenced ^= line.lstrip().startswith("```")
        is_block = is_fenced or line.startswith("    ")
        bare = re.sub(r"^\s*([$#] )?", "", line)
        for text in [bare] if is_block else _INLINE.findall(line):
            words = re.sub(r"^(sudo|watch|timeout \d+) ", "", text).split()
            if words and words[0] in PARSERS:
                yield Command(path, number, re.sub(r"^sudo ", "", text))


def find_trouble(command: Command) -> str:
    """What the program's own parser has against it; "" where it takes it.

    Of a synopsis, with brackets and dots, and of a bare name only that there is such a command.
    """
    text = _END.sub("", f"{command.text} ").strip()
    program, *words = [_STAND_INS.get(word, word) for word in shlex.split(text)]
    if len(words) < 2 or any(mark in text for mark in "[…|"):
        words = [*(word for word in words[:1] if word[0] != "-"), "--help"]
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
            PARSERS[program]().parse_args(words)
    except SystemExit as end:
        return told.getvalue() if end.code else ""
    return told.getvalue()


def find_sections(path: Path, level: str) -> dict[str, str]:
    """Heading -> what stands below it, up to the next heading of any level."""
    parts = re.split(rf"^{level} (.+)$", path.read_text(), flags=re.MULTILINE)[1:]
    return {
        heading: re.split(r"^#", body, maxsplit=1, flags=re.MULTILINE)[0]
        for heading, body in zip(parts[::2], parts[1::2], strict=True)
    }


@dataclass(frozen=True)
class Block:
    """A fenced block: `line` is its first one, `kind` what stands behind the fence."""

    path: Path
    line: int
    kind: str
    text: str

    def list_commands(self) -> list[Command]:
        """What is typed, one command each; of `console` what stands behind the prompt."""
        found: list[Command] = []
        is_open = False
        for number, line in enumerate(self.text.splitlines(), self.line):
            typed = line.removeprefix("$ ") if self.kind == "console" else line
            if is_open:
                found[-1] = Command(self.path, found[-1].line, f"{found[-1].text}\n{typed}")
            elif typed.strip() and (self.kind == "sh" or line.startswith("$ ")):
                found.append(Command(self.path, number, typed))
            is_open = bool(found) and _is_open(found[-1].text)
        return found


def _is_open(text: str) -> bool:
    """Whether the shell would ask for more: a line that goes on, a text up to its end, a loop."""
    word = re.search(r"<<'?(\w+)'?", text)
    if word:
        return text.splitlines()[-1] != word[1]
    is_loop = text.lstrip().startswith("for ") and not re.search(r"^\s*done\b", text, re.MULTILINE)
    return text.endswith("\\") or is_loop


def find_blocks(path: Path) -> Iterator[Block]:
    """Those that show what somebody types."""
    fence = re.compile(r"^([ ]*)```(sh|console)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
    text = path.read_text()
    for found in fence.finditer(text):
        line = text.count("\n", 0, found.start()) + 2
        yield Block(path, line, found[2], textwrap.dedent(found[3]))
