"""Read a rule file that somebody named on a command line. Reads only."""

from __future__ import annotations

import os

from ya_salt.errors import OperatorError, SpecError, SpecProblem
from ya_salt.rollout.rule import Rule
from ya_salt.rollout.rulefile import parse_rule
from ya_salt.specfile.files import MAX_BYTES, RefusedFileError, read_path

STDIN = "-"


def load_rule_file(path: str) -> Rule:
    """Read and check a file (`-`: standard input); `.json` at its end means JSON, else it is YAML.

    Links are followed and anybody may own it: orlyctl's user answers for it. Raises OperatorError
    where it cannot be read and SpecError with everything that is wrong with it.
    """
    origin = "standard input" if path == STDIN else _show(path)
    try:
        content = _read_stdin() if path == STDIN else read_path(path)
    except RefusedFileError as error:
        raise OperatorError(f"{origin}: {error}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OperatorError(f"{origin}: cannot be read: {reason}") from error
    return parse_rule(_decode(content, origin), origin, is_json=path.endswith(".json"))


def _show(path: str) -> str:
    return path if path.isprintable() else ascii(path)[1:-1]


def _read_stdin() -> bytes:
    with os.fdopen(os.dup(0), "rb") as stream:
        return stream.read(MAX_BYTES + 1)


def _decode(content: bytes, origin: str) -> str:
    if len(content) > MAX_BYTES:
        raise SpecError(
            (
                SpecProblem(
                    origin, 1, 1, "", f"is over {MAX_BYTES} bytes; a rule is a few kilobytes"
                ),
            )
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        words = "is not UTF-8 here; save the file as UTF-8"
        raise SpecError((SpecProblem(origin, line, column, "", words),)) from error
