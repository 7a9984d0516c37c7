"""Text as man pages have it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_SPECIAL = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
_TYPED = re.compile("|".join(map(re.escape, _SPECIAL)))


def escape(text: str) -> str:
    """Running text: its hyphens may be broken at, its quotes are quotes."""
    return _guard(text.replace("\\", r"\e"))


def typed(text: str) -> str:
    """What somebody may type or copy: each character is itself."""
    return _guard(_TYPED.sub(lambda found: _SPECIAL[found[0]], text))


def _guard(text: str) -> str:
    """A line that begins with a control character is no request."""
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def bold(text: str) -> str:
    return rf"\fB{typed(text)}\fR" if text else ""


def italic(text: str) -> str:
    return rf"\fI{typed(text)}\fR" if text else ""


@dataclass
class Page:
    """A man page that grows by its methods; what they take is escaped already."""

    name: str
    section: int
    summary: str
    lines: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        self.lines.append(f'.SH "{escape(text).upper()}"')

    def subheading(self, text: str) -> None:
        self.lines.append(f'.SS "{text}"')

    def paragraph(self, text: str, indented: bool = False) -> None:
        self._begin(".IP" if indented else ".PP")
        self.lines += text.splitlines()

    def term(self, name: str, text: str, more: Iterable[str] = ()) -> None:
        """A name and what it is; `more` are paragraphs below."""
        self.lines += [".TP", name, *(text or r"\&").splitlines()]
        for item in more:
            self.paragraph(item, indented=True)

    def code(self, text: str) -> None:
        lines = (typed(line) or r"\&" for line in text.rstrip("\n").splitlines())
        self._begin(".PP")
        self.lines += [".RS 4", ".EX", *lines, ".EE", ".RE"]

    def _begin(self, request: str) -> None:
        """A paragraph; right below a heading one has begun already."""
        if request != ".PP" or not self.lines or not self.lines[-1].startswith((".SH", ".SS")):
            self.lines.append(request)

    def render(self) -> str:
        head = (
            r".\" Made by `make pages`; what is changed here is lost.",
            f'.TH {typed(self.name).upper()} {self.section} "" "ya\\-salt" "ya\\-salt"',
            # Left-aligned, and no word is broken: options and paths are copied. groff takes up
            # breaking words again after each example, unless its register says otherwise.
            ".nr HY 0",
            ".nh",
            ".ad l",
            ".SH NAME",
            f"{typed(self.name)} \\- {escape(self.summary)}",
        )
        return "\n".join((*head, *self.lines)) + "\n"
