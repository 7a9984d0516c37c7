"""Where in a spec file each thing stands, by the name that a plan calls it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ya_salt.porto.properties import PROPERTIES
from ya_salt.specs.checks import spellings
from ya_salt.specs.tree import ListNode, MapNode, Node, Scalar, read_json
from ya_salt.specs.yaml_tree import read_yaml

_NAMES = spellings(("cmd", "command", *PROPERTIES))


def find_lines(text: str, *, is_json: bool) -> dict[str, int]:
    """`memory_limit`, `env[PATH]`, `command_argv`, `package NAME`, `meta.version` -> its line.

    What cannot be read has no lines.
    """
    root = (read_json(text) if is_json else read_yaml(text)).root
    found: dict[str, int] = {}
    for section, node, line in _list_entries(root):
        for key, value, place in _list_entries(node):
            found[f"{section}.{key}"] = place
            if (section, key) == ("spec", "properties"):
                found |= _find_properties(value)
            elif (section, key) == ("spec", "packages") and isinstance(value, ListNode):
                found |= _find_packages(value)
        found[section] = line
    return found


def _find_properties(node: Node) -> dict[str, int]:
    found = {}
    for key, value, line in _list_entries(node):
        name = _NAMES.get(key, key)
        found[name] = line
        if name == "cmd":
            found |= {"command_argv": line, "command": line}
        found |= {f"{name}[{entry}]": place for entry, _, place in _list_entries(value)}
    return found


def _find_packages(node: ListNode) -> dict[str, int]:
    found = {}
    for item in node.items:
        entries = {key: (value, line) for key, value, line in _list_entries(item)}
        name, _ = entries.get("name", (None, 0))
        if isinstance(name, Scalar):
            found[f"package {name.text}"] = entries.get("version", entries["name"])[1]
    return found


def _list_entries(node: Node | None) -> Iterator[tuple[str, Node, int]]:
    if isinstance(node, MapNode):
        for key, value in node.entries:
            yield key.text, value, key.place.line
