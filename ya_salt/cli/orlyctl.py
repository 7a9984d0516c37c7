"""Parse the command line of orlyctl, run one command, give the exit code."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ya_salt import __version__
from ya_salt.cli import orlyctl_commands as commands
from ya_salt.cli import orlyctl_simulate
from ya_salt.cli.orlyctl_connection import FLAGS
from ya_salt.cli.orlyctl_render import clean
from ya_salt.errors import GateError, OperatorError, SpecError, YaSaltError
from ya_salt.porto.texts import NAME_ALPHABET

EXIT_CODES = """\
exit codes:
  0  fine
  1  no: no such rule or holder, the rule is held, somebody else changed it meanwhile
  2  the command line, the settings or a rule file cannot be used
  3  etcd cannot be asked, or refused us
  4  changes are pending (apply-rule --dry-run)
"""
_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
_Command: TypeAlias = "Callable[[argparse.Namespace], int]"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `orlyctl`."""
    options = _make_parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except YaSaltError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"{_choose_prefix(error)}{clean(line)}\n")
        return _choose_code(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def _choose_prefix(error: YaSaltError) -> str:
    """None before FILE:LINE:COLUMN, so that editors find the place."""
    return "" if isinstance(error, SpecError | commands.RuleFilesError) else "orlyctl: "


def _choose_code(error: YaSaltError) -> int:
    if isinstance(error, OperatorError):
        return 2
    return 3 if isinstance(error, GateError) else 1


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="orlyctl",
        description="Say how changes may go through a fleet: rules, who is at it, what stops them.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_make_common()],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"orlyctl {__version__}")
    known = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_rules(known)
    _add_status(known)
    _add_stoppers(known)
    _add_simulate(known)
    return parser


def _make_common() -> argparse.ArgumentParser:
    """Flags that stand before or after the command's name."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("where etcd is (over the settings of ya-salt)")
    group.add_argument("--config", metavar="FILE", help="settings file of ya-salt")
    for name, (metavar, text) in FLAGS.items():
        group.add_argument(f"--{name.replace('_', '-')}", metavar=metavar, help=text)
    return common


def _add(known: _Commands, name: str, function: _Command, text: str) -> argparse.ArgumentParser:
    parser = known.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_make_common()],
        allow_abbrev=False,
    )
    parser.set_defaults(command=function)
    return parser


def _add_output(parser: argparse.ArgumentParser, default: str = "table") -> None:
    forms = ("table", "json", "yaml") if default == "table" else ("yaml", "json")
    parser.add_argument(
        "-o", "--output", choices=forms, default=default, help=f"form of the answer ({default})"
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f",
        "--file",
        dest="files",
        metavar="FILE",
        nargs="+",
        action="extend",
        required=True,
        help="rule files, YAML or JSON; may be given more than once",
    )


def _add_rule(parser: argparse.ArgumentParser, **more: Any) -> None:
    parser.add_argument(
        "rule", metavar="RULE", type=_parse_name, help="as orlyctl list has it", **more
    )


def _parse_name(text: str) -> str:
    # A slash would make it another key.
    if not re.fullmatch(f"[{NAME_ALPHABET}]+", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is no name: letters, digits and _-@:. make one")
    return text


def _add_rules(known: _Commands) -> None:
    apply_rule = _add(known, "apply-rule", commands.apply_rule, "make rules what the files say")
    _add_files(apply_rule)
    apply_rule.add_argument(
        "--dry-run", action="store_true", help="only say what would change; 4 if anything would"
    )
    _add_output(apply_rule)
    validate = _add(known, "validate", commands.validate, "check rule files, without etcd")
    _add_files(validate)
    get = _add(known, "get", commands.get, "show a rule as a file for apply-rule -f")
    _add_rule(get)
    _add_output(get, "yaml")
    _add_output(_add(known, "list", commands.list_rules, "show all rules"))
    text = "remove a rule that nobody holds a slot of; its daemon changes nowhere until it is back"
    _add_rule(_add(known, "delete-rule", commands.delete_rule, text))


def _add_status(known: _Commands) -> None:
    text = "show who is at it, who failed and what blocks whom"
    status = _add(known, "status", commands.status, text)
    _add_rule(status, nargs="?")
    _add_output(status)


def _add_stoppers(known: _Commands) -> None:
    release = _add(known, "release", commands.release, "give back the slot that a host holds")
    _add_rule(release)
    release.add_argument("host", metavar="HOST", type=_parse_name)
    text = "let nobody start until it is resumed; what is under way goes on"
    pause = _add(known, "pause", commands.pause, text)
    _add_rule(pause)
    for parser in (release, pause):
        parser.add_argument(
            "--reason", metavar="TEXT", type=_parse_reason, required=True, help="why, for others"
        )
    _add_rule(_add(known, "resume", commands.resume, "end a pause"))


def _parse_reason(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > 500:
        raise argparse.ArgumentTypeError("a line of at most 500 characters is wanted")
    return text.strip()


def _add_simulate(known: _Commands) -> None:
    text = "play a rollout on a fleet that is not there, by a rule file"
    orlyctl_simulate.add_arguments(_add(known, "simulate", orlyctl_simulate.run, text))


if __name__ == "__main__":
    sys.exit(main())
