"""Run one command of `ya-salt`, give its exit code. What is typed most is read without argparse."""

from __future__ import annotations

import gc
import os
import sys
from functools import partial
from importlib import import_module
from types import SimpleNamespace

from ya_salt.cli.output import choose_color, complain, end_streams, own_streams
from ya_salt.flags import FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from typing import Any

    from ya_salt.errors import YaSaltError

_VERBS = frozenset(
    {"restart", "stop", "start", "retry", "rollback", "generations", "why", "describe", "adopt"}
)
"""Commands about one daemon, in a module of their own."""

_WITHOUT_SETTINGS = {
    "dev_portod": "commands",
    "explain": "explain",
    "schema": "explain",
}
"""Commands for which it does not matter what is in force -> their modules."""

_DEEDS = frozenset(
    {"apply", "report", "adopt", "restart", "stop", "start", "retry", "rollback", "run"}
)
"""Commands that do something: what became of it is their exit code, whoever listens."""


_GARBAGE_AFTER = 100_000
"""Objects more than there were: so many 500 daemons have."""


def run_process() -> int:
    """The command of this process, which is wholly its own."""
    own_streams()
    options = _read(sys.argv[1:])
    if options.command != "run":
        # What a command makes it needs nearly to its end: to look for garbage in it each 700
        # objects is a tenth of what a pass over 500 daemons costs.
        gc.set_threshold(_GARBAGE_AFTER, 20, 20)
    return end_program("ya-salt", _run(options), is_deed=options.command in _DEEDS)


def run_words(arguments: Sequence[str]) -> int:
    """A command for whoever has a process already."""
    return _run(_read(arguments))


_APPLY = {
    "command": "apply",
    "full": False,
    "dry_run": False,
    "no_wait": False,
    "override_gate": None,
    "output": "table",
}
"""What the parser makes of the word alone; a test compares them."""

_SWITCHES = {"--full": "full", "--dry-run": "dry_run", "--no-wait": "no_wait"}


def _read(words: Sequence[str]) -> argparse.Namespace:
    """What was asked for; ends the program where that cannot be told, or was to be explained."""
    options: Any = read_apply(words)
    if options is None:
        # To load argparse, and to describe all commands to it, takes as long as Python's start.
        from ya_salt.cli.parser import make_parser

        options = make_parser(words).parse_args(words)
    found: argparse.Namespace = options
    return found


def read_apply(words: Sequence[str]) -> SimpleNamespace | None:
    """`apply` with nothing but flags, as timers and scripts write it; None: ask the parser."""
    known = {"--config": "config", **{flag.word: flag.name for flag in FLAGS}}
    given, rest, has_command = {**_APPLY, "names": [], "files": []}, list(words), False
    while rest:
        word = rest.pop(0)
        flag, sign, text = word.partition("=")
        if word == "apply" and not has_command:
            has_command = True
        elif word in _SWITCHES and has_command:
            given[_SWITCHES[word]] = True
        elif flag in known and sign:
            given[known[flag]] = text
        elif flag in known and rest and not rest[0].startswith("-"):
            given[known[flag]] = rest.pop(0)
        else:
            return None
    return SimpleNamespace(**given) if has_command else None


def _run(options: argparse.Namespace) -> int:
    choose_color(getattr(options, "color", "auto"))
    return run_guarded(lambda: _run_command(options), _explain)


def _explain(error: YaSaltError) -> int:
    from ya_salt.errors import LockHeldError, OperatorError

    for line in str(error).splitlines():
        complain(f"ya-salt: {line}")
    if isinstance(error, OperatorError):
        return 2
    return 3 if isinstance(error, LockHeldError) else 1


def _run_command(options: argparse.Namespace) -> int:
    # Only now: a command needs far more than the parser, and help needs none of it.
    if options.command in _WITHOUT_SETTINGS:
        module = import_module(f"ya_salt.cli.{_WITHOUT_SETTINGS[options.command]}")
        alone: Callable[[argparse.Namespace], int] = getattr(module, options.command)
        return alone(options)
    if options.command == "init":
        from ya_salt.cli import init as commands
    elif options.command in _VERBS:
        from ya_salt.cli import verbs as commands  # type: ignore[no-redef]
    else:
        from ya_salt.cli import commands  # type: ignore[no-redef]

    command: Callable[..., int] = getattr(commands, options.command)
    from ya_salt.settings import load_settings

    flags = {
        flag.name: getattr(options, flag.name)
        for flag in FLAGS
        if getattr(options, flag.name, None) is not None
    }
    read = partial(load_settings, flags, os.environ, getattr(options, "config", None))
    # Who runs on reads them more than once.
    return command(options, read) if options.command == "run" else command(options, read())


def run_guarded(command: Callable[[], int], explain: Callable[[YaSaltError], int]) -> int:
    """The exit code of a command, however it ends; `explain` tells an error and gives its code."""
    from ya_salt.errors import YaSaltError

    try:
        return command()
    except YaSaltError as error:
        return explain(error)
    except KeyboardInterrupt:
        return 130


def end_program(program: str, code: int, *, is_deed: bool) -> int:
    """The program's exit code: a deed's is its own, an answer that was not shown is no success."""
    is_whole = end_streams(program, is_deed=is_deed)
    return code if is_whole or is_deed else code or 1
