"""A document as a tree that knows where everything stands. Pure; the same for YAML and JSON.

Both readers feed a `TreeBuilder` event by event, so the limits that keep a hostile file cheap hold
in one place, and what was read before a syntax error is still there to name the daemon.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from ya_salt.porto.values import quote

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


class Complaint(NamedTuple):
    """Something wrong at a place of the file; `field` is the value's path, "" for the whole."""

    place: Place
    field: str
    message: str


class UnreadableError(Exception):
    """The text cannot be read past this point."""

    def __init__(self, complaint: Complaint) -> None:
        super().__init__(complaint.message)
        self.complaint = complaint


@dataclass
class Tree:
    """What came out of a text: `root` is None where nothing did."""

    root: Node | None = None
    is_whole: bool = True
    """False where the reading stopped: what is not in the tree may still be in the file."""
    complaints: list[Complaint] = field(default_factory=list)


def key_path(parent: str, key: str) -> str:
    """Name a mapping's value: `meta.name`, but `env[FOO]` would be the checker's spelling."""
    shown = key if key.isidentifier() else quote(key)
    return f"{parent}.{shown}" if parent else shown


@dataclass
class _Frame:
    node: ListNode | MapNode
    size: int = 1
    key: Scalar | None = None
    anchor: str = ""


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
        self.tree.complaints.append(Complaint(place, self.path(), message))

    def stop(self, place: Place, message: str) -> UnreadableError:
        """Make the error that ends the reading here."""
        return UnreadableError(Complaint(place, self.path(), message))

    def open(self, node: ListNode | MapNode, anchor: str = "") -> None:
        if len(self._frames) >= MAX_DEPTH:
            raise self.stop(node.place, f"is nested over {MAX_DEPTH} levels; flatten it")
        self._check_key(node)
        self._count(1, node.place)
        self._frames.append(_Frame(node, anchor=anchor))

    def close(self) -> tuple[Node, int]:
        """End the innermost list or mapping; return it and how many values it holds."""
        frame = self._frames.pop()
        self._place(frame.node, frame.size)
        return frame.node, frame.size

    def add(self, node: Node) -> None:
        self._check_key(node)
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
        if isinstance(frame.node, ListNode):
            frame.node.items.append(node)
        elif frame.key is None and isinstance(node, Scalar):
            frame.key = node
        elif frame.key is not None:
            frame.node.entries.append((frame.key, node))
            frame.key = None
