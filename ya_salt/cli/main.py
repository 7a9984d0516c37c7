"""Parse the command line, run one command, give the exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module

from ya_salt.cli.output import complain, own_streams
from ya_salt.cli.parsing import FORMS, Commands, Program, add_output, end_program, run_guarded
from ya_salt.errors import LockHeldError, OperatorError, YaSaltError
from ya_salt.settings import SETTINGS, load_settings

EXIT_CODES = """\
exit codes:
  0  fine
  1  a daemon failed or is not ready, a spec file cannot be used, or portod cannot be asked
  2  the command line or the configuration cannot be used
  3  another pass is running
  4  changes are pending (plan, --dry-run), or wait for the rollout gate (apply, restart, …)
"""


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

SCHEMAS = ("spec", "rule", "settings")
"""Of what there are schemas."""

_DEEDS = frozenset(
    {"apply", "report", "adopt", "restart", "stop", "start", "retry", "rollback", "run"}
)
"""Commands that do something: what became of it is their exit code, whoever listens."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `ya-salt`: without `arguments` the whole process is its own."""
    if arguments is not None:
        return _run(_make_parser().parse_args(arguments))
    own_streams()
    options = _make_parser().parse_args()
    return end_program("ya-salt", _run(options), is_deed=options.command in _DEEDS)


def _run(options: argparse.Namespace) -> int:
    return run_guarded(lambda: _run_command(options), _explain)


def _explain(error: YaSaltError) -> int:
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
    if options.command in _VERBS:
        from ya_salt.cli import verbs as commands  # noqa: PLC0415
    else:
        from ya_salt.cli import commands  # type: ignore[no-redef]  # noqa: PLC0415

    command: Callable[..., int] = getattr(commands, options.command)
    flags = {
        setting.name: getattr(options, setting.name)
        for setting in SETTINGS
        if getattr(options, setting.name, None) is not None
    }
    read = partial(load_settings, flags, os.environ, getattr(options, "config", None))
    # Who runs on reads them more than once.
    return command(options, read) if options.command == "run" else command(options, read())


def _make_parser() -> argparse.ArgumentParser:
    parser, known = _PROGRAM.make_parser()
    _add_apply(known)
    _add_run(known)
    _add_plan(known)
    _add_verbs(known)
    _add_validate(known)
    _add_readers(known)
    _add_logs(known)
    _add_explain(known)
    _add_dev_portod(known)
    return parser


def _make_common() -> argparse.ArgumentParser:
    """Flags that stand before or after the command's name."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("settings (each also in the environment as YA_SALT_…)")
    group.add_argument("--config", metavar="FILE", help="settings file")
    for setting in SETTINGS:
        if setting.has_flag:
            kind = "FILE" if setting.name == "log_file" else "DIR"
            metavar = "PATH" if setting.name == "porto_socket" else kind
            flag = "--" + setting.name.replace("_", "-")
            group.add_argument(flag, metavar=metavar, help=setting.help)
    return common


_PROGRAM = Program(
    "ya-salt",
    "Keep daemons running in Porto containers from exact Debian packages.",
    EXIT_CODES,
    _make_common,
)


def _add_apply(known: Commands) -> None:
    text = "make the daemons directory, or single files, true"
    parser = _PROGRAM.add(known, "apply", "apply", text)
    _add_files(parser)
    _add_pass(parser)


def _add_pass(parser: argparse.ArgumentParser) -> None:
    """How to go about a pass."""
    text = "only say what would be done and why"
    parser.add_argument("--dry-run", action="store_true", help=text)
    parser.add_argument(
        "--override-gate",
        metavar="REASON",
        help="do not ask the rollout gate this time; for root at a terminal, logged and reported",
    )
    add_output(parser)


def _add_verbs(known: Commands) -> None:
    texts = {
        "restart": "give a daemon a new process, as gently as an update does",
        "stop": "stop a daemon, and keep it stopped",
        "start": "start a daemon that was stopped",
        "retry": "try a version again that was rejected, or what portod refused",
        "rollback": "go back to what was ready before",
    }
    parsers = {name: _PROGRAM.add(known, name, name, text) for name, text in texts.items()}
    for name, parser in parsers.items():
        parser.add_argument("name", metavar="NAME")
        if name in {"restart", "stop"}:
            parser.add_argument("--reason", metavar="TEXT", default="", help="why, for the history")
        _add_pass(parser)
    parsers["stop"].add_argument(
        "--for",
        dest="span",
        metavar="TIME",
        help="how long, such as 30m, 2h or 3d; then it is started again (default: until `start`)",
    )
    parsers["rollback"].add_argument(
        "--to",
        dest="number",
        metavar="GENERATION",
        type=int,
        default=0,
        help="one of `generations` (default: the one before the present)",
    )
    text = "show what a daemon can go back to: what was ready, newest last"
    adopt = _PROGRAM.add(
        known, "adopt", "adopt", "make a spec file of somebody's running container"
    )
    adopt.add_argument("name", metavar="NAME")
    adopt.add_argument(
        "--write",
        action="store_true",
        help="write it into the daemons directory, and take the container over as it runs",
    )
    add_output(adopt)
    readers = {
        "generations": text,
        "why": "say what blocks a daemon, or what restarted it last, and what to type next",
        "describe": "show everything that is known of a daemon",
    }
    for name, text in readers.items():
        parser = _PROGRAM.add(known, name, name, text)
        parser.add_argument("name", metavar="NAME")
        add_output(parser, ("yaml", "json") if name == "describe" else FORMS)


def _add_run(known: Commands) -> None:
    text = "make a pass whenever something changes, and once a minute, until told to end"
    _PROGRAM.add(known, "run", "run", text)


def _add_plan(known: Commands) -> None:
    parser = _PROGRAM.add(known, "plan", "plan", "say what a pass would do now, and why")
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


def _add_validate(known: Commands) -> None:
    parser = _PROGRAM.add(
        known, "validate", "validate", "check spec files and say all that is wrong"
    )
    parser.add_argument("files", metavar="FILE", nargs="*", help="default: the daemons directory")


def _add_readers(known: Commands) -> None:
    spec = _PROGRAM.add(known, "spec", "spec", "show the specs that were loaded")
    status = _PROGRAM.add(known, "status", "status", "show how the daemons stand")
    status.add_argument(
        "--saved", action="store_true", help="as the last pass saw it, without a look at the host"
    )
    status.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=float,
        const=2.0,
        help="show it again every so many seconds (default: 2) until Ctrl-C",
    )
    report = _PROGRAM.add(known, "report", "report", "tell monitoring how the daemons stand now")
    add_output(report)
    history = _PROGRAM.add(known, "history", "history", "show what was done to daemons, and when")
    history.add_argument("-n", "--lines", type=int, default=50, help="newest events (default: 50)")
    history.add_argument("-f", "--follow", action="store_true", help="go on as more is done")
    for parser in (spec, status, history):
        parser.add_argument("name", metavar="NAME", nargs="?", help="only this daemon")
        add_output(parser)
    settings = _PROGRAM.add(
        known, "settings", "settings", "show every setting and where it comes from"
    )
    add_output(settings)


def _add_logs(known: Commands) -> None:
    parser = _PROGRAM.add(known, "logs", "logs", "show what a daemon wrote to stdout and stderr")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("-n", "--lines", type=int, default=20, help="last lines (default: 20)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as more is written")


def _add_explain(known: Commands) -> None:
    text = "say what a field of a spec file, a rule or the settings means, and how it is written"
    parser = _PROGRAM.add(known, "explain", "explain", text)
    parser.add_argument(
        "field",
        metavar="FIELD",
        nargs="?",
        help="such as spec.properties.memory_limit, rule.spec.rate or settings.gate",
    )
    add_output(parser)
    parser = _PROGRAM.add(known, "schema", "schema", "print a JSON Schema, for editors")
    parser.add_argument("what", metavar="WHAT", choices=SCHEMAS, help=f"{', '.join(SCHEMAS)}")


def _add_dev_portod(known: Commands) -> None:
    parser = known.add_parser(
        "dev-portod",
        help="a Porto server for development, on machines that have none",
        description="A Porto server for development, the demo and the tests: Porto's protocol, "
        "real processes, no isolation. Not a security boundary.",
        allow_abbrev=False,
    )
    parser.add_argument("--socket", metavar="PATH", required=True, help="unix socket to listen on")
    parser.add_argument(
        "--sysroot",
        metavar="DIR",
        help="a private package root: programs, users and groups are looked up there first",
    )
    parser.set_defaults(command="dev_portod")


if __name__ == "__main__":
    sys.exit(main())
