"""A program's man page, from its own parser."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence

from pages.roff import Page, bold, escape, italic, typed

_CODE = re.compile(r"^  (\d+)  (.+)$", re.MULTILINE)
_QUOTED = re.compile(r"`([^`]+)`")


def fill_page(page: Page, parser: argparse.ArgumentParser) -> None:
    """Everything that the parser knows: usage, commands, flags and exit codes."""
    commands = list_commands(parser)
    own = [item for item in _list_arguments(parser) if not _is_commands(item)]
    page.heading("synopsis")
    page.paragraph(
        _render_usage(parser.prog, own) if not commands else _render_general(parser.prog)
    )
    page.heading("description")
    page.paragraph(_render_text(parser.description or ""))
    if commands:
        page.heading("commands")
    for name, command in commands.items():
        _add_command(page, parser, name, command)
    page.heading("options" if not commands else "options of every command")
    for item in own:
        _add_argument(page, item)
    codes = _CODE.findall(parser.epilog or "")
    if codes:
        page.heading("exit status")
        _add_codes(page, codes)
    elif parser.epilog:
        page.heading("signals")
        page.paragraph(_render_text(parser.epilog))


def list_commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Name -> its parser, in the order of the help; those without a help text are not shown."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            shown = {item.dest for item in action._choices_actions}
            return {name: item for name, item in action.choices.items() if name in shown}
    return {}


def _list_arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [item for item in parser._actions if item.help != argparse.SUPPRESS]


def _list_flags(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [item for item in _list_arguments(parser) if item.option_strings]


def _is_commands(item: argparse.Action) -> bool:
    return isinstance(item, argparse._SubParsersAction)


def _render_general(program: str) -> str:
    return f"{bold(program)} {italic('COMMAND')} [{italic('OPTION')}…] [{italic('ARGUMENT')}…]"


def _add_command(
    page: Page, program: argparse.ArgumentParser, name: str, parser: argparse.ArgumentParser
) -> None:
    """What the command has beside what all of them have."""
    shared = {item.dest for item in _list_flags(program) if item.dest != "version"}
    own = [item for item in _list_arguments(parser) if item.dest not in shared]
    usage = f"{program.prog} {name}"
    page.subheading(typed(usage))
    page.paragraph(_render_usage(usage, own))
    page.paragraph(_render_text(parser.description or ""))
    for item in own:
        if item.help:
            _add_argument(page, item)
    codes = _CODE.findall(parser.epilog or "")
    if codes and parser.epilog != program.epilog:
        page.paragraph("Exit status:")
        _add_codes(page, codes)


def _add_codes(page: Page, codes: Sequence[tuple[str, str]]) -> None:
    for code, meaning in codes:
        page.term(bold(code), _render_text(meaning))


def _add_argument(page: Page, item: argparse.Action) -> None:
    page.term(_render_names(item), _render_text(_expand(item)))


def _expand(item: argparse.Action) -> str:
    return (item.help or "") % {**vars(item), "prog": ""}


def _render_usage(name: str, arguments: Sequence[argparse.Action]) -> str:
    flags = [item for item in arguments if item.option_strings and item.dest != "help"]
    places = [item for item in arguments if not item.option_strings]
    parts = [bold(name)]
    parts += [
        text if item.required else f"[{text}]"
        for item in flags
        for text in (bold(item.option_strings[0]) + _render_value(item, " "),)
    ]
    return " ".join(parts + [_render_value(item, "") for item in places])


def _render_names(item: argparse.Action) -> str:
    if not item.option_strings:
        return _render_value(item, "")
    return ", ".join(bold(name) + _render_value(item, " ") for name in item.option_strings)


def _render_value(item: argparse.Action, before: str) -> str:
    """The argument's value as usage has it; "" of a flag that takes none."""
    if item.nargs == 0:
        return ""
    words = "|".join(map(bold, _list_choices(item))) or italic(_name_value(item))
    match item.nargs:
        case "?":
            words = f"[{words}]"
        case "*":
            words = f"[{words}…]"
        case "+":
            words = f"{words}…"
    return before + words


def _name_value(item: argparse.Action) -> str:
    return item.metavar if isinstance(item.metavar, str) else item.dest.upper()


def _list_choices(item: argparse.Action) -> Iterator[str]:
    if item.choices is not None and item.metavar is None:
        yield from map(str, item.choices)


def _render_text(text: str) -> str:
    """Text, of which what stands in backquotes is what one types."""
    parts = _QUOTED.split(text)
    return "".join(bold(part) if at % 2 else escape(part) for at, part in enumerate(parts))
