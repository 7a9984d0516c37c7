"""A YAML document as a tree. Pure. For those who have one to parse: PyYAML is long in loading."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import yaml

from ya_salt.names import quote
from ya_salt.specs.tree import (
    START,
    Kind,
    ListNode,
    MapNode,
    Node,
    Place,
    Scalar,
    Tree,
    TreeBuilder,
    UnreadableError,
)

MAX_ALIASES = 32

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER: Any = yaml.resolver.Resolver()
_KINDS: dict[str, Kind] = {
    "tag:yaml.org,2002:bool": "bool",
    "tag:yaml.org,2002:int": "int",
    "tag:yaml.org,2002:float": "float",
    "tag:yaml.org,2002:null": "null",
    "tag:yaml.org,2002:timestamp": "time",
    "tag:yaml.org,2002:merge": "merge",
}
_PLAIN_TAGS = frozenset({"!", *(f"tag:yaml.org,2002:{tag}" for tag in ("str", "seq", "map"))})


def read_yaml(text: str) -> Tree:
    """Never raises for any text: what is wrong is among the tree's diagnostics."""
    reader = _YamlReader()
    try:
        reader.read(text)
    except UnreadableError as error:
        reader.builder.tree.diagnostics.append(error.diagnostic)
        reader.builder.give_up()
    return reader.builder.tree


@lru_cache(maxsize=4096)
def _kind(text: str) -> Kind:
    """Tell what YAML 1.1 takes an unquoted text for."""
    tag = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))
    return _KINDS.get(tag, "string")


def _events(text: str) -> Iterator[Any]:
    """Yield the parser's events; its errors come out as UnreadableError."""
    try:
        loader = _LOADER(text)
        try:
            yield from iter(loader.get_event, None)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if "end of stream" in str(error.problem):
            # Where the quote was opened says more than where the file ends.
            mark = error.context_mark or mark
        place = _place(mark) if mark else START
        raise _syntax_error(place, str(error.problem)) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # The pure parser makes characters that do not exist out of some escapes.
        raise _syntax_error(START, str(error)) from error


def _syntax_error(place: Place, problem: str) -> UnreadableError:
    shown = re.sub(r"[^ -~]", "?", problem)
    return TreeBuilder().stop(
        place, f"is not YAML here ({shown}); look at the indentation and the quotes before it"
    )


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


class _YamlReader:
    def __init__(self) -> None:
        self.builder = TreeBuilder()
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._anchor_stack: list[str] = []
        self._aliases = 0
        self._documents = 0

    def read(self, text: str) -> None:
        # By their very classes: a document is some dozens of events, and there are many documents.
        take = {
            yaml.ScalarEvent: self._take_scalar,
            yaml.MappingStartEvent: self._open_map,
            yaml.SequenceStartEvent: self._open_list,
            yaml.MappingEndEvent: self._close,
            yaml.SequenceEndEvent: self._close,
            yaml.AliasEvent: self._take_alias,
        }
        for event in _events(text):
            kind = type(event)
            if kind in take:
                take[kind](event)
            elif kind is yaml.DocumentStartEvent:
                self._documents += 1
                if self._documents > 1:
                    self.builder.complain(
                        _place(event.start_mark),
                        "a second document begins here; put one document into a file",
                    )
                    return

    def _take_scalar(self, event: Any) -> None:
        place, tag, text = _place(event.start_mark), event.tag, event.value
        if tag is not None:
            self._check_tag(tag, place)
        is_plain = tag is None and event.implicit[0]
        node = Scalar(place, text, _kind(text) if is_plain else "string")
        self.builder.add(node)
        if event.anchor:
            self._anchors[event.anchor] = (node, 1)

    def _open_map(self, event: Any) -> None:
        self._open(MapNode(_place(event.start_mark), []), event)

    def _open_list(self, event: Any) -> None:
        self._open(ListNode(_place(event.start_mark), []), event)

    def _open(self, node: ListNode | MapNode, event: Any) -> None:
        if event.tag is not None:
            self._check_tag(event.tag, node.place)
        self.builder.open(node, event.anchor or "")
        self._anchor_stack.append(event.anchor or "")

    def _close(self, _event: Any) -> None:
        node, size = self.builder.close()
        anchor = self._anchor_stack.pop()
        if anchor:
            self._anchors[anchor] = (node, size)

    def _take_alias(self, event: Any) -> None:
        place, name = _place(event.start_mark), str(event.anchor)
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            raise self.builder.stop(place, f"is alias {MAX_ALIASES + 1}; write the values out")
        if name in self.builder.open_anchors:
            raise self.builder.stop(place, f"alias {quote(name)} holds itself; write the value out")
        if name not in self._anchors:
            raise self.builder.stop(place, f"alias {quote(name)} is not known; define it above")
        self.builder.add_alias(place, *self._anchors[name])

    def _check_tag(self, tag: Any, place: Place) -> None:
        if tag not in _PLAIN_TAGS:
            self.builder.complain(
                place, f"has the tag {quote(str(tag))}; write the value without a tag"
            )
