"""What commands print with `-o json`, held against docs/schemas wherever a test runs one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

FOLDER = Path(__file__).parents[2] / "docs/schemas"


@cache
def read_schema(name: str) -> Any:
    return jsonschema.Draft7Validator(json.loads((FOLDER / f"{name}.json").read_text()))


def check_output(words: Sequence[str], printed: str, program: str = "") -> None:
    """Raise ValidationError where a command printed what its schema does not have."""
    if "json" not in words or not printed.strip():
        return
    command = next(word for word in words if (FOLDER / f"output-{program}{word}.json").exists())
    schema = read_schema(f"output-{program}{command}")
    documents = printed.splitlines() if "-f" in words and command == "history" else [printed]
    for document in documents:
        schema.validate(json.loads(document))
