"""`ya-salt explain` and `schema`: what may stand in a file, from the tables that check it."""

from __future__ import annotations

import argparse
import json

from ya_salt.cli.output import answer, say
from ya_salt.reference.fields import list_roots
from ya_salt.reference.finding import find_field, render, render_list, summarize, to_data
from ya_salt.reference.schema import make_schema

OK = 0


def explain(options: argparse.Namespace) -> int:
    """`ya-salt explain [FIELD]`."""
    if options.field is None:
        roots = list_roots()
        answer(
            options.output,
            lambda: "\n".join(render_list(roots)),
            lambda: [summarize(item) for item in roots],
        )
        return OK
    item = find_field(options.field)
    answer(options.output, lambda: render(item), lambda: to_data(item))
    return OK


def schema(options: argparse.Namespace) -> int:
    """`ya-salt schema WHAT`: byte for byte what docs/schemas holds."""
    if options.what.startswith("output-"):
        # Loaded where it is used: protobuf takes a while.
        from ya_salt.reference.outputs import make_output  # noqa: PLC0415

        made = make_output(options.what)
    else:
        made = make_schema(options.what)
    say(json.dumps(made, indent=2))
    return OK
