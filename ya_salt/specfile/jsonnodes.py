"""Read JSON (RFC 8259, nothing more) into a tree with places. Pure.

The standard library's decoder forgets places and lets duplicate keys, NaN and Infinity through.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right

from ya_salt.porto.values import quote
from ya_salt.specfile.nodes import (
    Kind,
    ListNode,
    MapNode,
    Place,
    Scalar,
    Tree,
    TreeBuilder,
    UnreadableError,
)

_BLANK = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"[^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*"')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?P<fraction>(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)")
_WORD = re.compile(r"[A-Za-z0-9_.+-]+")
_WORDS: dict[str, Kind] = {"true": "bool", "false": "bool", "null": "null"}


def read_json(text: str) -> Tree:
    """Never raises for any text: what is wrong is among the tree's complaints."""
    reader = _Reader(text)
    try:
        reader.read()
    except UnreadableError as error:
        reader.builder.tree.complaints.append(error.complaint)
        reader.builder.give_up()
    return reader.builder.tree


class _Reader:
    def __init__(self, text: str) -> None:
        self.builder = TreeBuilder()
        self._text = text
        self._at = 0
        self._lines = [0, *(found.end() for found in re.finditer("\n", text))]

    def read(self) -> None:
        self._skip_blank()
        if self._at == len(self._text):
            return
        self._read_value()
        self._skip_blank()
        if self._at != len(self._text):
            raise self._error("holds something after its end; put one document into a file")

    def _place(self) -> Place:
        line = bisect_right(self._lines, self._at)
        return Place(line, self._at - self._lines[line - 1] + 1)

    def _error(self, message: str) -> UnreadableError:
        return self.builder.stop(self._place(), message)

    def _expected(self, what: str) -> UnreadableError:
        word = _WORD.match(self._text, self._at)
        found = quote(word[0] if word else self._peek())
        if self._at == len(self._text):
            found = "the end of the file"
        return self._error(f"is not JSON here: found {found}; write {what}")

    def _skip_blank(self) -> None:
        found = _BLANK.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _read_value(self) -> None:
        match self._peek():
            case "{":
                self._read_map()
            case "[":
                self._read_list()
            case '"':
                self._read_string()
            case _:
                self._read_word()

    def _read_string(self) -> None:
        found = _STRING.match(self._text, self._at)
        if not found:
            raise self._error(
                'is a string without its end; close it with " and write \\n for lines'
            )
        try:
            text = json.loads(found[0])
        except ValueError as error:
            raise self._error("holds an unknown escape; write a backslash as \\\\") from error
        self.builder.add(Scalar(self._place(), text))
        self._at = found.end()

    def _read_word(self) -> None:
        found = _WORD.match(self._text, self._at)
        word = found[0] if found else ""
        number = _NUMBER.fullmatch(word)
        kind: Kind | None = _WORDS.get(word)
        if number:
            kind = "float" if number["fraction"] else "int"
        if kind is None:
            raise self._expected("a value; texts stand in double quotes")
        self.builder.add(Scalar(self._place(), word, kind))
        self._at += len(word)

    def _read_map(self) -> None:
        is_open = self._enter(MapNode(self._place(), []), "}")
        while is_open:
            if self._peek() != '"':
                raise self._expected("a key in double quotes")
            self._read_string()
            self._skip_blank()
            self._take(":", "a colon after the key")
            self._skip_blank()
            self._read_value()
            is_open = self._has_more("}")
        self._leave()

    def _read_list(self) -> None:
        is_open = self._enter(ListNode(self._place(), []), "]")
        while is_open:
            self._read_value()
            is_open = self._has_more("]")
        self._leave()

    def _enter(self, node: ListNode | MapNode, close: str) -> bool:
        self.builder.open(node)
        self._at += 1
        self._skip_blank()
        return self._peek() != close

    def _leave(self) -> None:
        self._at += 1
        self.builder.close()

    def _has_more(self, close: str) -> bool:
        """Pass the comma between two members; none may stand before the closing bracket."""
        self._skip_blank()
        if self._peek() == close:
            return False
        self._take(",", f"a comma or {close}")
        self._skip_blank()
        if self._peek() == close:
            raise self._expected(f"one more value, or no comma before {close}")
        return True

    def _take(self, char: str, what: str) -> None:
        if self._peek() != char:
            raise self._expected(what)
        self._at += 1
