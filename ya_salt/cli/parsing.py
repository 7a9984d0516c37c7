"""What the command lines of `ya-salt` and `orlyctl` have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from ya_salt import describe_version
from ya_salt.cli.output import end_streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from ya_salt.errors import YaSaltError

    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

FORMS = ("table", "json", "yaml")


class Program:
    """A program with commands."""

    def __init__(
        self,
        name: str,
        description: str,
        exit_codes: str,
        make_common: Callable[[], argparse.ArgumentParser],
    ) -> None:
        """`make_common`: flags before or after a command; `exit_codes` end every help text."""
        self.name = name
        self.description = description
        self.exit_codes = exit_codes
        self.make_common = make_common

    def make_parser(self) -> tuple[argparse.ArgumentParser, Commands]:
        """The parser, and where its commands are added."""
        parser = argparse.ArgumentParser(
            prog=self.name,
            description=self.description,
            epilog=self.exit_codes,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[self.make_common()],
            allow_abbrev=False,
        )
        version = f"{self.name} {describe_version()}"
        parser.add_argument("--version", action="version", version=version)
        return parser, parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        self, known: Commands, name: str, function: object, text: str
    ) -> argparse.ArgumentParser:
        """A command; `text` is its help, without a capital and a full stop."""
        parser = known.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=self.exit_codes,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[self.make_common()],
            allow_abbrev=False,
        )
        parser.set_defaults(command=function)
        return parser


def add_output(parser: argparse.ArgumentParser, forms: tuple[str, ...] = FORMS) -> None:
    """The first form is what one gets without asking."""
    text = f"form of the answer ({forms[0]})"
    parser.add_argument("-o", "--output", choices=forms, default=forms[0], help=text)


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
