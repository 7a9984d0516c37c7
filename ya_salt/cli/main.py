"""The program `ya-salt`. Loads as little as the answer needs."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `ya-salt`: without `arguments` the whole process is its own."""
    if arguments is not None:
        from ya_salt.cli.running import run_words

        return run_words(arguments)
    from ya_salt.cli.quick import answer_quickly

    code = answer_quickly(sys.argv[1:])
    if code is None:
        from ya_salt.cli.running import run_process

        code = run_process()
    return code


if __name__ == "__main__":
    sys.exit(main())
