"""Find a field by what somebody typed; show it to people and to programs. Pure."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterable, Sequence

from ya_salt.errors import UsageError
from ya_salt.names import quote
from ya_salt.porto.properties import PROGRAM_OWNED, READ_ONLY
from ya_salt.reference.fields import Field, list_roots, walk
from ya_salt.reference.kinds import Schema
from ya_salt.specs.checks import camel

WIDTH = 80


def find_field(path: str) -> Field:
    """By its path, in either spelling, or by the end of it where only one field ends so.

    Raises UsageError, with the nearest ones.
    """
    typed = re.sub(r"\[[^\]]*\]", "", path).strip(".")
    everything = list(walk(list_roots()))
    for item in everything:
        if typed in (item.path, _spell(item.path)):
            return item
    ends = [
        item
        for item in everything
        if item.path.endswith(f".{typed}") or _spell(item.path).endswith(f".{typed}")
    ]
    if len(ends) == 1:
        return ends[0]
    raise UsageError(f"{quote(path)} is not a field; {_suggest(typed, everything, ends)}")


def _spell(path: str) -> str:
    return ".".join(map(camel, path.split(".")))


def _suggest(typed: str, everything: Sequence[Field], ends: Sequence[Field]) -> str:
    last = typed.rpartition(".")[2]
    if last in PROGRAM_OWNED:
        return f"of Porto's properties {last} {PROGRAM_OWNED[last]}"
    if last in READ_ONLY:
        return f"of Porto's properties {last} is reported by portod and cannot be set"
    if ends:
        return f"did you mean {_or([item.path for item in ends])}?"
    paths = [item.path for item in everything]
    near = difflib.get_close_matches(typed, paths, 3, 0.75)
    if not near:
        by_name = difflib.get_close_matches(last, {item.name for item in everything}, 1, 0.75)
        near = [item.path for item in everything if item.name in by_name]
    if near:
        return f"did you mean {_or(near[:3])}?"
    return f"begin with {_or([item.path for item in list_roots()])}, as `ya-salt explain` lists"


def _or(words: Sequence[str]) -> str:
    return " or ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else words[0]


# -- showing -------------------------------------------------------------------------------------


def to_data(item: Field) -> dict[str, object]:
    """Everything about a field, in types that JSON has; docs/schemas/output-explain.json."""
    kind = item.kind
    numbers: Schema = (kind.number if kind else None) or {}
    facts: dict[str, object] = {
        "path": item.path,
        "meaning": item.meaning,
        "shape": item.shape,
        "type": item.type,
        "unit": item.unit,
        "choices": list(kind.choices) if kind else [],
        **{name: numbers[name] for name in ("minimum", "maximum") if name in numbers},
        "default": item.default,
        "required": item.is_required,
        "change": item.change,
        "needs": item.needs,
        "example": item.example,
    }
    if item.in_host is not None:
        facts["in_host_mode"] = list(item.in_host)
    if item.porto:
        facts["porto"] = {"name": item.porto.name, "told": item.porto.text}
    facts["children"] = [summarize(child) for child in item.children]
    return facts


def summarize(item: Field) -> dict[str, object]:
    return {
        "path": item.path,
        "type": item.type,
        "meaning": item.meaning,
        "required": item.is_required,
    }


def render(item: Field) -> str:
    """For people, as `explain` prints it."""
    facts = [
        ("type", item.type),
        ("unit", item.unit),
        ("default", "none: it is required" if item.is_required else item.default),
        ("a change", item.change),
        ("host mode", _say_host_mode(item.in_host)),
        ("needs", item.needs),
    ]
    if item.porto:
        told = item.porto.text.replace("\t", " ")
        facts.append(("Porto", f"{item.porto.name}, told as {told} in the example"))
    if item.example:
        facts.append(("example", f"{item.name}: {item.example}"))
    lines = [item.path, "", *textwrap.wrap(item.meaning, WIDTH), ""]
    for name, fact in facts:
        if fact:
            lines += textwrap.wrap(
                f"  {name:<11}{fact}",
                WIDTH,
                subsequent_indent=" " * 13,
                break_long_words=False,
                break_on_hyphens=False,
            )
    if item.children:
        lines += ["", *render_list(item.children)]
    return "\n".join(lines)


def _say_host_mode(in_host: tuple[str, ...] | None) -> str:
    if in_host is None:
        return ""
    return f"only {_or(in_host)}" if in_host else "refused with virt_mode host"


def render_list(items: Iterable[Field]) -> list[str]:
    """A line a field, as long as it is."""
    shown = list(items)
    width = max(len(item.path) for item in shown)
    return [f"  {item.path:<{width}}  {item.meaning}" for item in shown]
