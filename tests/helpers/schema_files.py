"""docs/schemas, as `ya-salt schema` prints them. `make schemas` writes them; a test holds them."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path

from ya_salt.cli.main import main
from ya_salt.cli.parser import SCHEMAS

FOLDER = Path(__file__).parents[2] / "docs/schemas"


def render(name: str) -> str:
    printed = io.StringIO()
    with redirect_stdout(printed):
        if main(["schema", name]) != 0:
            raise ValueError(f"no schema {name}")
    return printed.getvalue()


if __name__ == "__main__":
    for schema in SCHEMAS:
        (FOLDER / f"{schema}.json").write_text(render(schema))
