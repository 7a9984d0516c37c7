"""A man page about a file, from the project's documents (Markdown with tables)."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from pages.roff import Page, bold, escape

_READ = MarkdownIt("commonmark").enable("table")


def fill_page(page: Page, text: str, only: Collection[str] = ()) -> None:
    """What stands below the document's title; of sections of the second level `only` these."""
    tokens = _READ.parse(text)
    skips = bool(only)
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token.type == "heading_open":
            title = tokens[at + 1].content
            if token.tag == "h1" and not only:
                page.heading("description")
            elif token.tag == "h2":
                skips = bool(only) and title not in only
                if not skips:
                    page.heading(re.sub("[`*]", "", title))
            elif not skips and token.tag != "h1":
                page.subheading(escape(re.sub("[`*]", "", title)))
            at = _find_end(tokens, at)
        elif not skips:
            at = _add_block(page, tokens, at)
        at += 1


def _find_end(tokens: Sequence[Token], at: int) -> int:
    """Where what opens here is closed."""
    depth = 0
    for number in range(at, len(tokens)):
        depth += tokens[number].nesting
        if depth == 0:
            return number
    raise ValueError("the document ends within a block")


def _add_block(page: Page, tokens: Sequence[Token], at: int) -> int:
    """One block; where it ends."""
    token = tokens[at]
    end = _find_end(tokens, at)
    inside = tokens[at + 1 : end]
    match token.type:
        case "paragraph_open":
            page.paragraph(_render_inline(inside[0]))
        case "fence" | "code_block":
            page.code(token.content)
        case "bullet_list_open" | "ordered_list_open":
            _add_list(page, inside, is_numbered=token.type.startswith("ordered"))
        case "table_open":
            _add_table(page, inside)
        case "html_block":
            pass  # A comment: who made the table below.
        case _:
            raise ValueError(f"{token.type}: no such block is known")
    return end


def _add_list(page: Page, tokens: Sequence[Token], *, is_numbered: bool) -> None:
    number = 0
    for at, token in enumerate(tokens):
        if token.type != "list_item_open" or token.level != tokens[0].level:
            continue
        number += 1
        end = at + _find_end(tokens[at:], 0)
        texts = [_render_inline(item) for item in tokens[at:end] if item.type == "inline"]
        mark = f"{number}." if is_numbered else r"\(bu"
        page.lines += [f'.IP "{mark}" 4', *texts[0].splitlines()]
        for text in texts[1:]:
            page.lines += [".IP", *text.splitlines()]


def _add_table(page: Page, tokens: Sequence[Token]) -> None:
    """A row becomes a term: its first cell is the name, what it means stands below."""
    head, *rows = _list_rows(tokens)
    _, *names = (_render_inline(cell) for cell in head)
    is_plain = len(names) == 1 or "meaning" in names[-1].lower()
    for row in rows:
        first, *cells = (_render_inline(cell) for cell in row)
        meaning = cells.pop() if is_plain else ""
        more = [_name_cell(*pair) for pair in zip(names, cells, strict=False) if pair[1]]
        texts = [text for text in (meaning, " ".join(more)) if text]
        page.term(first if first.startswith(r"\fB") else rf"\fI{first}\fR", texts[0], texts[1:])


def _name_cell(name: str, cell: str) -> str:
    return f"{name[:1].upper()}{name[1:]}: {cell}." if name else f"{cell}."


def _list_rows(tokens: Sequence[Token]) -> list[list[Token]]:
    rows: list[list[Token]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(token)
    return rows


def _render_inline(token: Token) -> str:
    return "".join(map(_render_piece, token.children or ())).replace("\n ", "\n")


def _render_piece(piece: Token) -> str:
    match piece.type:
        case "text":
            return escape(piece.content)
        case "code_inline":
            return bold(piece.content)
        case "softbreak" | "hardbreak":
            return "\n"
        case "em_open" | "strong_open":
            return r"\fI"
        case "em_close" | "strong_close":
            return r"\fR"
        case "link_open" | "link_close":
            return ""
        case _:
            raise ValueError(f"{piece.type}: {piece.content!r}: no such text is known")
