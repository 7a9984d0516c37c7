"""YAML as editors' servers read it: the core schema of YAML 1.2; `yes` and `10:00` are texts."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml


class Reader(yaml.SafeLoader):
    """Keys are texts, as in JSON; a mapping's last value of a key counts."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        return {
            str(getattr(key, "value", key)): self.construct_object(value, deep=True)
            for key, value in node.value
        }

    def make_map(self, node: Any) -> dict[str, Any]:
        return self.construct_mapping(node)

    def make_int(self, node: Any) -> int:
        text = node.value
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


Reader.add_constructor("tag:yaml.org,2002:map", Reader.make_map)
Reader.add_constructor("tag:yaml.org,2002:int", Reader.make_int)
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
):
    Reader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}",
        re.compile(rf"^(?:{_pattern})$"),
        ["" if c == "\0" else c for c in _first],
    )


def read(text: str) -> Any:
    return yaml.load(text, Reader)
