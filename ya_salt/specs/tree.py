"""A document as a tree that knows where everything stands. Pure; the same for YAML and JSON.

Both readers feed a `TreeBuilder` event by event, so the limits that keep a hostile file cheap hold
in one place, and what was read before a syntax error is still there to name the daemon.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from typing import Literal, NamedTuple, TypeAlias

from ya_salt.names import quote
from ya_salt.quick_dataclass import dataclass, field

MAX_DEPTH = 32
MAX_NODES = 20_000
"""Values in a document with every alias written out. The largest honest spec has some hundreds."""

Kind = Literal["string", "bool", "int", "float", "null", "time", "merge"]


class Place(NamedTuple):
    """Where something begins, both counted from 1."""

    line: int
    column: int


START = Place(1, 1)


class Scalar(NamedTuple):
    """One value. `text` is the source's own for unquoted ones: `0755` stays `0755`."""

    place: Place
    text: str
    kind: Kind = "string"


class ListNode(NamedTuple):
    place: Place
    items: list[Node]


class MapNode(NamedTuple):
    place: Place
    entries: list[tuple[Scalar, Node]]


Node: TypeAlias = "Scalar | ListNode | MapNode"


class Diagnostic(NamedTuple):
    """Something wrong at a place of the file; `field` is the value's path, "" for the whole."""

    place: Place
    field: str
    message: str


class UnreadableError(Exception):
    """The text cannot be read past this point."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


@dataclass
class Tree:
    """What came out of a text: `root` is None where nothing did."""

    root: Node | None = None
    is_whole: bool = True
    """False where the reading stopped: what is not in the tree may still be in the file."""
    diagnostics: list[Diagnostic] = field(default_factory=list)


def key_path(parent: str, key: str) -> str:
    """Name a mapping's value: `meta.name`, but `env[FOO]` would be the checker's spelling."""
    shown = key if key.isidentifier() else quote(key)
    return f"{parent}.{shown}" if parent else shown


# -- building one --------------------------------------------------------------------------------


class _Frame:
    """A list or a mapping that is open, and how many values it holds so far."""

    __slots__ = ("anchor", "key", "node", "size")

    def __init__(self, node: ListNode | MapNode, anchor: str) -> None:
        self.node = node
        self.size = 1
        self.key: Scalar | None = None
        self.anchor = anchor


class TreeBuilder:
    """Put nodes together from events; hold the limits on depth and on the number of values."""

    def __init__(self) -> None:
        self.tree = Tree()
        self._frames: list[_Frame] = []
        self._total = 0

    @property
    def open_anchors(self) -> frozenset[str]:
        return frozenset(frame.anchor for frame in self._frames if frame.anchor)

    def path(self) -> str:
        """Name the value that comes next."""
        path = ""
        for frame in self._frames:
            if isinstance(frame.node, ListNode):
                path += f"[{len(frame.node.items)}]"
            elif frame.key is not None:
                path = key_path(path, frame.key.text)
        return path

    def complain(self, place: Place, message: str) -> None:
        self.tree.diagnostics.append(Diagnostic(place, self.path(), message))

    def stop(self, place: Place, message: str) -> UnreadableError:
        """Make the error that ends the reading here."""
        return UnreadableError(Diagnostic(place, self.path(), message))

    def open(self, node: ListNode | MapNode, anchor: str = "") -> None:
        if len(self._frames) >= MAX_DEPTH:
            raise self.stop(node.place, f"is nested over {MAX_DEPTH} levels; flatten it")
        self._check_key(node)
        self._count(1, node.place)
        self._frames.append(_Frame(node, anchor))

    def close(self) -> tuple[Node, int]:
        """End the innermost list or mapping; return it and how many values it holds."""
        frame = self._frames.pop()
        self._place(frame.node, frame.size)
        return frame.node, frame.size

    def add(self, node: Scalar) -> None:
        self._count(1, node.place)
        self._place(node, 1)

    def add_alias(self, place: Place, node: Node, size: int) -> None:
        """Add what an alias stands for: all its values count again."""
        self._check_key(node)
        self._count(size, place)
        self._place(node, size)

    def give_up(self) -> None:
        """Keep what was read before an error: close everything that is open."""
        self.tree.is_whole = False
        while self._frames:
            frame = self._frames.pop()
            self._place(frame.node, frame.size)

    def _check_key(self, node: Node) -> None:
        frame = self._frames[-1] if self._frames else None
        if frame is None or isinstance(frame.node, ListNode) or frame.key is not None:
            return
        if not isinstance(node, Scalar):
            raise self.stop(node.place, "a key is a list or a mapping; write a name")

    def _count(self, size: int, place: Place) -> None:
        self._total += size
        if self._total > MAX_NODES:
            raise self.stop(place, f"holds over {MAX_NODES} values; shorten it")

    def _place(self, node: Node, size: int) -> None:
        if not self._frames:
            self.tree.root = node
            return
        frame = self._frames[-1]
        frame.size += size
        among, key = frame.node, frame.key
        if isinstance(among, ListNode):
            among.items.append(node)
        elif key is not None:
            among.entries.append((key, node))
            frame.key = None
        elif isinstance(node, Scalar):
            frame.key = node


# -- JSON ----------------------------------------------------------------------------------------

_BLANK = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"[^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*"')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?P<fraction>(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)")
_WORD = re.compile(r"[A-Za-z0-9_.+-]+")
_WORDS: dict[str, Kind] = {"true": "bool", "false": "bool", "null": "null"}


def read_json(text: str) -> Tree:
    """Never raises for any text: what is wrong is among the tree's diagnostics."""
    reader = _JsonReader(text)
    try:
        reader.read()
    except UnreadableError as error:
        reader.builder.tree.diagnostics.append(error.diagnostic)
        reader.builder.give_up()
    return reader.builder.tree


class _JsonReader:
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
