"""The table of exit codes in docs/commands.md, made from what `--help` shows.

`make docs-tables` writes it; a test holds that it is up to date.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ya_salt.cli.parser import list_exit_codes

PAGE = Path(__file__).parents[2] / "docs/commands.md"
BEGIN = "<!-- made by `make docs-tables` from ya_salt/cli/parser.py -->\n"
END = "<!-- end of what is made -->\n"


def render() -> str:
    alike: dict[tuple[tuple[int, str], ...], list[str]] = {}
    for name, codes in list_exit_codes().items():
        alike.setdefault(tuple(codes.items()), []).append(name)
    rows = [_render_row(names, dict(codes)) for codes, names in alike.items()]
    return BEGIN + "| command | exit codes |\n| --- | --- |\n" + "".join(rows) + END


def _render_row(names: list[str], codes: Mapping[int, str]) -> str:
    told = "; ".join(f"{code}: {text}" for code, text in codes.items())
    return f"| {', '.join(f'`{name}`' for name in names)} | {told} |\n"


def rewrite(page: str) -> str:
    """The page with the table anew."""
    before, _, rest = page.partition(BEGIN)
    return before + render() + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(rewrite(PAGE.read_text()))
