"""What the command lines of `ya-salt` and `orlyctl` have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping

from ya_salt import describe_version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, TypeAlias

    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

FORMS = ("table", "json", "yaml")


class Parser(argparse.ArgumentParser):
    """Says what was meant by a word that it does not know."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2, after the usage and the message."""
        super().error(message + self._suggest(message))

    def _suggest(self, message: str) -> str:
        import difflib
        import re

        known: list[str] = []
        found = re.search(r"unrecognized arguments: (--[^ =]+)", message)
        if found:
            known = [*self._list_flags()]
        else:
            found = re.search(r"invalid choice: '([^']*)'", message)
            known = [word for action in self._actions for word in action.choices or ()]
        near = difflib.get_close_matches(found[1], known, 1, 0.6) if found else []
        return f"; did you mean {near[0]}?" if near else ""

    def _list_flags(self) -> Iterator[str]:
        """Its own, and those of its commands."""
        yield from self._option_string_actions
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for command in action.choices.values():
                    yield from command._option_string_actions


def format_codes(codes: Mapping[int, str]) -> str:
    """The end of a help text."""
    return "exit codes:\n" + "".join(f"  {code}  {text}\n" for code, text in codes.items())


class Program:
    """A program with commands."""

    def __init__(
        self,
        name: str,
        description: str,
        exit_codes: Mapping[int, str],
        make_common: Callable[[], argparse.ArgumentParser],
    ) -> None:
        """`make_common`: flags before or after a command; `exit_codes`: those of all commands."""
        self.name = name
        self.description = description
        self.exit_codes = exit_codes
        self.make_common = make_common

    def make_parser(self) -> tuple[argparse.ArgumentParser, Commands]:
        """The parser, and where its commands are added."""
        parser: argparse.ArgumentParser = Parser(
            prog=self.name,
            description=self.description,
            epilog=format_codes(self.exit_codes),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[self.make_common()],
            allow_abbrev=False,
        )
        version = f"{self.name} {describe_version()}"
        parser.add_argument("--version", action="version", version=version)
        return parser, parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        self, known: Commands, name: str, function: object, text: str, codes: Mapping[int, str]
    ) -> argparse.ArgumentParser:
        """A command; `text` is its help, without a capital and a full stop."""
        parser = known.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=format_codes(codes),
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


COLORS = ("auto", "always", "never")


def add_color(group: argparse._ArgumentGroup) -> None:
    text = "whether to paint: auto does on a terminal, unless NO_COLOR is set (default)"
    group.add_argument("--color", choices=COLORS, help=text)
