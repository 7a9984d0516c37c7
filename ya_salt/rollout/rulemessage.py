"""Read one mapping of known fields, and write down what was set as protobuf JSON. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from ya_salt.specfile.checks import (
    Fields,
    Member,
    Report,
    camel,
    convert,
    describe,
    join,
    read_fields,
    read_quoted,
    read_text,
)
from ya_salt.specfile.container import Json
from ya_salt.specfile.nodes import ListNode, MapNode, Node

T = TypeVar("T")


def keep(value: str | int | bool) -> Json:
    """Show a value as it is."""
    return value


class Message:
    """One mapping. `document` is what was set and can be used, by the names of protobuf JSON."""

    def __init__(self, report: Report, node: Node, path: str, fields: Fields) -> None:
        self.report = report
        self.members = read_fields(report, node, path, fields)
        self.document: dict[str, Json] = {}
        self._node, self._path = node, path

    def read(
        self,
        name: str,
        parse: Callable[[str], T],
        show: Callable[[T], Json],
        *,
        is_quoted: bool = False,
    ) -> T | None:
        """Read one value; None where it is left out or cannot be used."""
        member = self.members.get(name)
        if member is None:
            return None
        text = (read_quoted if is_quoted else read_text)(self.report, member.node, member.field)
        value = convert(self.report, member.node.place, member.field, text, parse)
        if value is not None:
            self.show(name, show(value))
        return value

    def require(self, name: str, right: str) -> None:
        # What is no mapping has been reported already.
        if name not in self.members and isinstance(self._node, MapNode):
            field = join(self._path, name)
            self.report.add(self._node.place, field, f"is missing; {right}")

    def blame(self, name: str, message: str) -> None:
        member = self.members[name]
        self.report.add(member.node.place, member.field, message)

    def show(self, name: str, value: Json) -> None:
        self.document[camel(name)] = value

    def sort(self, names: Iterable[str]) -> dict[str, Json]:
        """Give the document in the order of `names`."""
        keys = [camel(name) for name in names]
        return {key: self.document[key] for key in keys if key in self.document}


def list_items(report: Report, member: Member, right: str) -> list[tuple[Node, str]]:
    """Give a list's values and their paths; an empty list is wrong: nobody knows what it means."""
    node, path = member.node, member.field
    if not isinstance(node, ListNode):
        report.add(node.place, path, f"{describe(node)}; {right}")
        return []
    if not node.items:
        report.add(node.place, path, "is an empty list; list something or leave it out")
    return [(item, f"{path}[{number}]") for number, item in enumerate(node.items)]


def list_items_or_one(report: Report, member: Member, right: str) -> list[tuple[Node, str]]:
    """Give the same, and one value as a list of itself."""
    if isinstance(member.node, ListNode):
        return list_items(report, member, right)
    return [(member.node, member.field)]
