"""The command line of `ya-salt`: its commands, their flags, their help."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

from ya_salt.cli.parsing import Program, add_color, add_output
from ya_salt.flags import FLAGS

EXIT_CODES = {
    0: "fine",
    1: "a daemon failed or is not ready, a spec file cannot be used, or portod cannot be asked",
    2: "the command line or the configuration cannot be used",
    3: "another pass is running",
    4: "changes are pending (plan, --dry-run), or wait for the rollout gate (apply, restart, …)",
}
"""Of all commands together; each has its own among these, see `_COMMANDS`."""

_USAGE = "the command line or the settings cannot be used"
_UNKNOWN = f"{_USAGE}, or nobody knows a daemon of that name"
_UNTOLD = "the state directory cannot be read, or the answer not be written"
_APPLIED = {
    0: "every daemon is as its file says",
    1: "a daemon failed or is not ready, its file's version was rejected, a file cannot be used,"
    " portod cannot be asked, or what was done could not be written down",
    2: f"{_UNKNOWN}, or there is no daemons directory",
    3: "another pass is running",
    4: "something waits for the gate, and nothing failed; with --dry-run: something is to be done",
}
_ACTED = {
    0: "the daemon is as it was asked to be",
    1: "it failed or is not ready, or portod cannot be asked",
    2: f"{_UNKNOWN}, its file asks for its removal, or there is nothing to go back to",
    3: "another pass went on for longer than 30 seconds",
    4: "it waits for the gate; with --dry-run: something is to be done",
}
_READ = {0: "it was told", 1: _UNTOLD, 2: _UNKNOWN}
_TOLD = {0: "it was told", 1: "the answer could not be written", 2: _USAGE}

_OUTPUTS = (
    *("apply", "restart", "stop", "start", "retry", "rollback", "adopt", "plan", "status", "spec"),
    *("report", "history", "why", "describe", "generations", "settings", "explain"),
    *(f"orlyctl-{name}" for name in ("apply-rule", "list", "get", "status", "simulate")),
)
SCHEMAS = ("spec", "rule", "settings", *(f"output-{name}" for name in _OUTPUTS))
"""Of what there are schemas: files, and what commands print with -o json."""


def make_parser(arguments: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """The parser; of commands that are not among `arguments` it knows only what they are."""
    parser, known = _PROGRAM.make_parser()
    for name, (text, add_arguments, codes) in _COMMANDS.items():
        if arguments is None or name in arguments:
            add_arguments(_PROGRAM.add(known, name, name.replace("-", "_"), text, codes))
        else:
            known.add_parser(name, help=text, add_help=False)
    return parser


def _make_common() -> argparse.ArgumentParser:
    """Flags that stand before or after the command's name."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("settings (each also in the environment as YA_SALT_…)")
    group.add_argument("--config", metavar="FILE", help="settings file")
    for flag in FLAGS:
        group.add_argument(flag.word, metavar=flag.metavar, help=flag.help)
    add_color(common.add_argument_group("output"))
    return common


_PROGRAM = Program(
    "ya-salt",
    "Keep daemons running in Porto containers from exact Debian packages.",
    EXIT_CODES,
    _make_common,
)


def _add_apply(parser: argparse.ArgumentParser) -> None:
    _add_files(parser)
    parser.add_argument(
        "--full",
        action="store_true",
        help="read everything anew, though nothing seems to have changed since the last pass",
    )
    _add_pass(parser)


def _add_pass(parser: argparse.ArgumentParser) -> None:
    """How to go about a pass."""
    text = "only say what would be done and why"
    parser.add_argument("--dry-run", action="store_true", help=text)
    parser.add_argument(
        "--no-wait",
        action="store_true",
        help="do not wait until what was started is ready: the next pass sees to it",
    )
    parser.add_argument(
        "--override-gate",
        metavar="REASON",
        help="do not ask the rollout gate this time; for root at a terminal, logged and reported",
    )
    add_output(parser)


def _add_plan(parser: argparse.ArgumentParser) -> None:
    _add_files(parser)
    add_output(parser)


def _add_files(parser: argparse.ArgumentParser) -> None:
    text = "only these daemons of the daemons directory"
    parser.add_argument("names", metavar="NAME", nargs="*", help=text)
    parser.add_argument(
        "-f",
        "--file",
        dest="files",
        metavar="FILE",
        nargs="+",
        action="extend",
        default=[],
        help="only these spec files, wherever they are; may be given more than once",
    )


def _add_verb(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    _add_pass(parser)


def _add_restart(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", metavar="TEXT", default="", help="why, for the history")
    _add_verb(parser)


def _add_stop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--for",
        dest="span",
        metavar="TIME",
        help="how long, such as 30m, 2h or 3d; then it is started again (default: until `start`)",
    )
    _add_restart(parser)


def _add_rollback(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--to",
        dest="number",
        metavar="GENERATION",
        type=int,
        default=0,
        help="one of `generations` (default: the one before the present)",
    )
    _add_verb(parser)


def _add_adopt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument(
        "--write",
        action="store_true",
        help="write it into the daemons directory, and take the container over as it runs",
    )
    add_output(parser)


def _add_named(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    add_output(parser)


def _add_describe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    add_output(parser, ("yaml", "json"))


def _add_validate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="*", help="default: the daemons directory")


def _add_reader(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="only this daemon")
    add_output(parser)


def _add_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--saved", action="store_true", help="as the last pass saw it, without a look at the host"
    )
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=float,
        const=2.0,
        help="show it again every so many seconds (default: 2) until Ctrl-C",
    )
    _add_reader(parser)


def _add_history(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--lines", type=int, default=50, help="newest events (default: 50)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as more is done")
    _add_reader(parser)


def _add_logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("-n", "--lines", type=int, default=20, help="last lines (default: 20)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as more is written")


def _add_explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "field",
        metavar="FIELD",
        nargs="?",
        help="such as spec.properties.memory_limit, rule.spec.rate or settings.gate",
    )
    add_output(parser)


def _add_schema(parser: argparse.ArgumentParser) -> None:
    text = "spec, rule, settings, or output-COMMAND: of what `ya-salt COMMAND -o json` prints"
    parser.add_argument("what", metavar="WHAT", choices=SCHEMAS, help=text)


def _add_init(parser: argparse.ArgumentParser) -> None:
    # Not metavar NAME: there is no daemon of that name yet.
    parser.add_argument("name", metavar="NEW_NAME", help="of the daemon, and of its container")
    parser.add_argument(
        "--package",
        dest="packages",
        metavar="PACKAGE[=VERSION]",
        action="append",
        default=[],
        help="a package it runs from (default: the version installed here); may be repeated",
    )
    parser.add_argument(
        "--from-unit",
        dest="unit",
        metavar="FILE",
        help="a systemd service: what a spec can say is taken, the rest is named in comments",
    )


def _add_nothing(_parser: argparse.ArgumentParser) -> None:
    """A command without arguments of its own."""


def _add_dev_portod(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "A Porto server for development, the demo and the tests: Porto's protocol, "
        "real processes, no isolation. Not a security boundary."
    )
    parser.add_argument("--socket", metavar="PATH", required=True, help="unix socket to listen on")
    parser.add_argument(
        "--sysroot",
        metavar="DIR",
        help="a private package root: programs, users and groups are looked up there first",
    )


_COMMANDS: Mapping[
    str, tuple[str, Callable[[argparse.ArgumentParser], None], Mapping[int, str]]
] = {
    "apply": ("make the daemons directory, or single files, true", _add_apply, _APPLIED),
    "run": (
        "make a pass whenever something changes, and once a minute, until told to end",
        _add_nothing,
        {
            0: "it was told to end",
            1: "the state directory cannot be used",
            2: _USAGE,
            3: "an agent is running already",
        },
    ),
    "plan": (
        "say what a pass would do now, and why",
        _add_plan,
        {
            0: "nothing is to be done, also where a version is rejected",
            1: "a daemon is refused, a file cannot be used, or portod cannot be asked",
            2: f"{_UNKNOWN}, or there is no daemons directory",
            4: "something is to be done, or waits for the gate",
        },
    ),
    "restart": ("give a daemon a new process, as gently as an update does", _add_restart, _ACTED),
    "stop": ("stop a daemon, and keep it stopped", _add_stop, _ACTED),
    "start": ("start a daemon that was stopped", _add_verb, _ACTED),
    "retry": (
        "try a version again that was rejected, or what portod refused",
        _add_verb,
        _ACTED,
    ),
    "rollback": ("go back to what was ready before", _add_rollback, _ACTED),
    "adopt": (
        "make a spec file of somebody's running container",
        _add_adopt,
        {
            0: "it was told, with --write it is ours",
            1: "it cannot be taken over as it is, with --write also as of apply",
            2: f"{_USAGE}, there is no such container, it is ours, or a file has its name",
            3: "another pass is running (--write)",
            4: "something waits for the gate (--write)",
        },
    ),
    "generations": (
        "show what a daemon can go back to: what was ready, newest last",
        _add_named,
        _READ,
    ),
    "why": (
        "say what blocks a daemon, or what restarted it last, and what to type next",
        _add_named,
        _READ,
    ),
    "describe": ("show everything that is known of a daemon", _add_describe, _READ),
    "validate": (
        "check spec files and say all that is wrong",
        _add_validate,
        {0: "all are valid", 1: "one is not", 2: _USAGE},
    ),
    "spec": ("show the specs that were loaded", _add_reader, _READ),
    "status": (
        "show how the daemons stand",
        _add_status,
        {
            0: "every daemon is as it should be",
            1: "one is not, a file cannot be used, the last pass could not be made, or portod"
            " cannot be asked",
            2: _UNKNOWN,
        },
    ),
    "report": (
        "tell monitoring how the daemons stand now",
        add_output,
        {
            0: "all that listen were told",
            1: "one refused what it was told, or portod cannot be asked",
            2: _USAGE,
            3: "another pass is running",
        },
    ),
    "history": ("show what was done to daemons, and when", _add_history, _READ),
    "settings": ("show every setting and where it comes from", add_output, _TOLD),
    "logs": (
        "show what a daemon wrote to stdout and stderr",
        _add_logs,
        {
            0: "they were shown",
            1: "it has no container at the moment, or portod cannot be asked",
            2: _UNKNOWN,
        },
    ),
    "explain": (
        "say what a field of a spec file, a rule or the settings means, and how it is written",
        _add_explain,
        {**_TOLD, 2: "there is no such field"},
    ),
    "schema": ("print a JSON Schema, for editors", _add_schema, _TOLD),
    "init": (
        "print a commented spec file to begin with, perhaps made from a systemd service",
        _add_init,
        {**_TOLD, 2: "the name, a package or the service cannot be used"},
    ),
    "dev-portod": (
        "a Porto server for development, on machines that have none",
        _add_dev_portod,
        {
            0: "it was told to end",
            1: "the socket cannot be listened on",
            2: "the command line cannot be used, or devporto is not installed",
        },
    ),
}
"""Command -> what it does, without a capital and a full stop; how its arguments are added; its exit
codes."""


def list_exit_codes() -> dict[str, Mapping[int, str]]:
    """Of each command, those that it has."""
    return {name: codes for name, (_text, _add, codes) in _COMMANDS.items()}
