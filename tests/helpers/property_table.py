"""The table of properties in docs/specs.md, made from the table that checks them.

`make docs-tables` writes it; a test holds that it is up to date.
"""

from __future__ import annotations

from pathlib import Path

from ya_salt.porto.properties import LIVE_IN_NAME_ONLY, NEEDS_SUPPORT, PROPERTIES, Property

PAGE = Path(__file__).parents[2] / "docs/specs.md"
BEGIN = "<!-- made by `make docs-tables` from ya_salt/porto/properties.py -->\n"
END = "<!-- end of what is made -->\n"

_HEAD = """\
| Property | Kind | A change | In `host` mode | Needs | Meaning |
| --- | --- | --- | --- | --- | --- |
"""
_CMD = (
    "| `cmd` | list or text | restart | | | Required. A list is taken word by word; one string goes"
    " through Porto's word splitting (quotes and `$VARIABLES`, no pipes or redirects). |\n"
)


def render() -> str:
    return BEGIN + _HEAD + _CMD + "".join(map(_render_row, PROPERTIES.values())) + END


def _render_row(row: Property) -> str:
    cells = (
        *(f"`{row.name}`", row.kind, _say_change(row), _say_host_mode(row), _say_needs(row)),
        row.meaning,
    )
    return f"| {' | '.join(cells)} |\n".replace("  |", " |")


def _say_change(row: Property) -> str:
    if not row.live or row.name in LIVE_IN_NAME_ONLY:
        return "restart"
    return {
        "resolv_conf": "live; between none and some a restart",
        "net_tos": "live; the first one a restart",
    }.get(row.name, "live")


def _say_host_mode(row: Property) -> str:
    if row.in_host is None:
        return ""
    return f"only {', '.join(f'`{word}`' for word in row.in_host)}" if row.in_host else "refused"


def _say_needs(row: Property) -> str:
    needs = ["a kernel or portod with it"] if row.name in NEEDS_SUPPORT else []
    needs += [row.needs] if row.needs else []
    needs += [f"controller `{row.controller}`"] if row.controller else []
    return ", ".join(needs)


def rewrite(page: str) -> str:
    """The page with the table anew."""
    before, _, rest = page.partition(BEGIN)
    return before + render() + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(rewrite(PAGE.read_text()))
