"""Read single values out of a tree, and say what is wrong with them. Pure.

Nothing here raises: a value that cannot be used is reported and comes back as None, so that one
pass over a file finds everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple, TypeVar

from ya_salt.names import quote
from ya_salt.quick_dataclass import dataclass
from ya_salt.specs.tree import Diagnostic, ListNode, MapNode, Node, Place, Scalar

T = TypeVar("T")

_MAX_NUMBER = 100
_KIND_WORDS = {"bool": "a boolean", "int": "a number", "float": "a number", "time": "a date"}


class Member(NamedTuple):
    """A value of a mapping, with its key and its path in the file."""

    key: Scalar
    node: Node
    field: str


class Diagnostics:
    """Collects everything that is wrong with a file."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []

    def add(self, place: Place, field: str, message: str) -> None:
        self.diagnostics.append(Diagnostic(place, field, message))


@lru_cache(maxsize=1024)
def camel(name: str) -> str:
    """Give the protobuf JSON name of a field: `memoryLimit` of `memory_limit`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def spellings(names: Iterable[str]) -> dict[str, str]:
    """Map both spellings of each field to its name in the proto."""
    known = list(names)
    return {name: name for name in known} | {camel(name): name for name in known}


def nearest(name: str, known: Iterable[str]) -> str:
    """End a sentence about an unknown name: with the one that was meant, where one is near."""
    import difflib

    names = list(known)
    found = difflib.get_close_matches(name.lower(), names, 1, 0.7)
    if found:
        return f"did you mean {found[0]}?"
    return f"the fields here are {', '.join(names)}" if len(names) < 10 else "see docs/specs.md"


@dataclass(frozen=True)
class Fields:
    """The fields of one message: either spelling -> name; what to say of any other key."""

    names: Mapping[str, str]
    explain: Callable[[str], str]
    right: str = "write a mapping"


def make_fields(names: tuple[str, ...], right: str = "write a mapping") -> Fields:
    return Fields(spellings(names), lambda key: unknown_field(key, names), right)


def unknown_field(key: str, known: Iterable[str]) -> str:
    return f"is not a known field; {nearest(key, known)}"


@lru_cache(maxsize=1024)
def join(field: str, key: str) -> str:
    shown = key if key.isidentifier() else quote(key)
    return f"{field}.{shown}" if field else shown


def index(field: str, key: str) -> str:
    shown = key if key.isprintable() and len(key) <= 60 else quote(key)
    return f"{field}[{shown}]"


def describe(node: Node) -> str:
    match node:
        case ListNode():
            return "is a list"
        case MapNode():
            return "is a mapping"
        case Scalar(kind="null"):
            return "is empty"
    return "is a single value"


def read_members(
    report: Diagnostics, node: Node, field: str, path: Callable[[str, str], str], right: str
) -> list[Member]:
    """Read a mapping whose keys are free texts; each key once."""
    if not isinstance(node, MapNode):
        report.add(node.place, field, f"{describe(node)}; {right}")
        return []
    members: dict[str, Member] = {}
    for key, value in node.entries:
        member = Member(key, value, path(field, key.text))
        if _is_good_key(report, member):
            _keep_first(report, members, key.text, member)
    return list(members.values())


def _is_good_key(report: Diagnostics, member: Member) -> bool:
    key = member.key
    if key.kind == "null":
        report.add(key.place, member.field, "is a key without a name; quote it if it is meant")
    elif key.kind == "merge":
        report.add(
            key.place, member.field, "merge keys are not taken; write the values out at their place"
        )
    else:
        problem = _text_problem(key.text)
        if problem:
            report.add(key.place, member.field, problem)
        return not problem
    return False


def _keep_first(report: Diagnostics, members: dict[str, Member], name: str, member: Member) -> None:
    first = members.setdefault(name, member)
    if first is not member:
        line = first.key.place.line
        report.add(
            member.key.place, member.field, f"is given twice (first in line {line}); keep one"
        )


def read_fields(report: Diagnostics, node: Node, field: str, known: Fields) -> dict[str, Member]:
    """Read a mapping of known fields, by their names in the proto."""
    found = _read_plain_fields(node, field, known)
    if found is not None:
        return found
    fields: dict[str, Member] = {}
    for member in read_members(report, node, field, join, known.right):
        name = known.names.get(member.key.text)
        if name is None:
            report.add(member.key.place, member.field, known.explain(member.key.text))
        else:
            _keep_first(report, fields, name, member._replace(field=join(field, name)))
    return fields


def _read_plain_fields(node: Node, field: str, known: Fields) -> dict[str, Member] | None:
    """The same where nothing is to be said of the keys, as nearly always; else None."""
    if not isinstance(node, MapNode):
        return None
    fields: dict[str, Member] = {}
    for key, value in node.entries:
        name = known.names.get(key.text)
        if name is None or name in fields or key.kind != "string":
            return None
        fields[name] = Member(key, value, join(field, name))
    return fields


def _text_problem(text: str) -> str:
    if "\0" in text:
        return "holds a NUL byte; remove it"
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        return "holds half a surrogate pair; write the whole character"
    return ""


def read_text(report: Diagnostics, node: Node, field: str) -> str | None:
    """Read one value as its own text, however it is written."""
    if not isinstance(node, Scalar):
        report.add(node.place, field, f"{describe(node)}; write one value")
        return None
    problem = _text_problem(node.text)
    if node.kind == "null":
        problem = "is empty; write a value (quote it if it is meant as text) or leave it out"
    if problem:
        report.add(node.place, field, problem)
        return None
    return node.text


def read_quoted(report: Diagnostics, node: Node, field: str) -> str | None:
    """Read a text that YAML must not have taken for a number: 1.10 would become 1.1."""
    text = read_text(report, node, field)
    if text is None or not isinstance(node, Scalar) or node.kind == "string":
        return text
    word = _KIND_WORDS.get(node.kind, "a sign of YAML")
    became = _read_as_yaml(text)
    lost = (
        f": it has become {became}; quote it as meant: write" if became != text else "; quote it:"
    )
    report.add(node.place, field, f"{quote(text)[1:-1]} is {word}, not text{lost} {quote(text)}")
    return None


def _read_as_yaml(text: str) -> str:
    """What a reader that knows no source text makes of a plain word; the word where that is it."""
    import yaml

    try:
        value = yaml.safe_load(text) if len(text) <= _MAX_NUMBER else text
    except (yaml.YAMLError, ValueError, OverflowError):
        return text
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else text


def convert(
    report: Diagnostics, place: Place, field: str, text: str | None, parse: Callable[[str], T]
) -> T | None:
    """Apply a parser whose ValueError is a sentence."""
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        report.add(place, field, str(error))
        return None


def read_value(report: Diagnostics, node: Node, field: str, parse: Callable[[str], T]) -> T | None:
    return convert(report, node.place, field, read_text(report, node, field), parse)
