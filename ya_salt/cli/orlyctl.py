"""Parse the command line of orlyctl, run one command, give the exit code."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ya_salt.cli import orlyctl_commands as commands
from ya_salt.cli import orlyctl_simulate
from ya_salt.cli.orlyctl_commands import FLAGS
from ya_salt.cli.output import complain, own_streams
from ya_salt.cli.parsing import Program, add_output
from ya_salt.cli.running import end_program, run_guarded
from ya_salt.errors import GateError, OperatorError, SpecError, YaSaltError
from ya_salt.names import NAME_ALPHABET

if TYPE_CHECKING:
    from ya_salt.cli.parsing import Commands

EXIT_CODES = {
    0: "fine",
    1: "no: no such rule or holder, the rule is held, somebody else changed it meanwhile",
    2: "the command line, the settings or a rule file cannot be used",
    3: "etcd cannot be asked, or refused us",
    4: "changes are pending (apply-rule --dry-run)",
}
"""Of all commands together."""

_USAGE = "the command line or the settings cannot be used"
_ETCD = {3: EXIT_CODES[3]}
_READ = {0: "it was told", 1: "the answer could not be written", 2: _USAGE, **_ETCD}
_CHANGED = {
    0: "it is so",
    1: "no: there is no such rule or holder, the rule is held, or somebody changed it meanwhile",
    2: _USAGE,
    **_ETCD,
}

_DEEDS = frozenset(
    {
        commands.apply_rule,
        commands.delete_rule,
        commands.pause,
        commands.release,
        commands.resume,
    }
)
"""Commands that do something: what became of it is their exit code, whoever listens."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `orlyctl`: without `arguments` the whole process is its own."""
    if arguments is not None:
        return _run(_make_parser().parse_args(arguments))
    own_streams()
    options = _make_parser().parse_args()
    return end_program("orlyctl", _run(options), is_deed=options.command in _DEEDS)


def _run(options: argparse.Namespace) -> int:
    return run_guarded(lambda: int(options.command(options)), _explain)


def _explain(error: YaSaltError) -> int:
    for line in str(error).splitlines():
        complain(f"{_choose_prefix(error)}{line}")
    if isinstance(error, OperatorError):
        return 2
    return 3 if isinstance(error, GateError) else 1


def _choose_prefix(error: YaSaltError) -> str:
    """None before FILE:LINE:COLUMN, so that editors find the place."""
    return "" if isinstance(error, SpecError | commands.RuleFilesError) else "orlyctl: "


def _make_parser() -> argparse.ArgumentParser:
    parser, known = _PROGRAM.make_parser()
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


_PROGRAM = Program(
    "orlyctl",
    "Say how changes may go through a fleet: rules, who holds slots, what stops them.",
    EXIT_CODES,
    _make_common,
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
        raise argparse.ArgumentTypeError(f"{text!r} is not a name: write letters, digits and _-@:.")
    return text


def _add_rules(known: Commands) -> None:
    apply_rule = _PROGRAM.add(
        known,
        "apply-rule",
        commands.apply_rule,
        "make rules what the files say",
        {
            0: "the rules are what the files say",
            1: "somebody else changed one meanwhile",
            2: EXIT_CODES[2],
            **_ETCD,
            4: "with --dry-run: something would change",
        },
    )
    _add_files(apply_rule)
    apply_rule.add_argument(
        "--dry-run", action="store_true", help="only say what would change; 4 if anything would"
    )
    add_output(apply_rule)
    codes = {0: "all are valid", 1: "the answer could not be written", 2: EXIT_CODES[2]}
    text = "check rule files, without etcd"
    validate = _PROGRAM.add(known, "validate", commands.validate, text, codes)
    _add_files(validate)
    missing = {**_READ, 1: "there is no such rule, or what is in etcd is none"}
    text = "show a rule as a file for apply-rule -f"
    get = _PROGRAM.add(known, "get", commands.get, text, missing)
    _add_rule(get)
    add_output(get, ("yaml", "json"))
    add_output(_PROGRAM.add(known, "list", commands.list_rules, "show all rules", _READ))
    text = "remove a rule that nobody holds a slot of; its daemon changes nowhere until it is back"
    _add_rule(_PROGRAM.add(known, "delete-rule", commands.delete_rule, text, _CHANGED))


def _add_status(known: Commands) -> None:
    text = "show who holds a slot, who failed and what blocks whom"
    codes = {**_READ, 0: "it could be told, however the rules stand", 1: "there is no such rule"}
    status = _PROGRAM.add(known, "status", commands.status, text, codes)
    _add_rule(status, nargs="?")
    add_output(status)


def _add_stoppers(known: Commands) -> None:
    text = "give back the slot that a host holds"
    release = _PROGRAM.add(known, "release", commands.release, text, _CHANGED)
    _add_rule(release)
    release.add_argument("host", metavar="HOST", type=_parse_name)
    text = "stop no further daemon until it is resumed, not even on hosts that have begun"
    pause = _PROGRAM.add(known, "pause", commands.pause, text, _CHANGED)
    _add_rule(pause)
    for parser in (release, pause):
        parser.add_argument(
            "--reason", metavar="TEXT", type=_parse_reason, required=True, help="why, for others"
        )
    _add_rule(_PROGRAM.add(known, "resume", commands.resume, "end a pause", _CHANGED))


def _parse_reason(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > 500:
        raise argparse.ArgumentTypeError("write one line of at most 500 characters")
    return text.strip()


def _add_simulate(known: Commands) -> None:
    text = "play a rollout on a fleet that is not there, by a rule file"
    codes = {
        0: "the rollout was done",
        1: "it halts, gets stuck, or is not done in time",
        2: "the rule file or a flag cannot be used",
    }
    parser = _PROGRAM.add(known, "simulate", orlyctl_simulate.run, text, codes)
    orlyctl_simulate.add_arguments(parser)


if __name__ == "__main__":
    sys.exit(main())
