"""Answer at once what can be: the version, and a pass or a status where nothing has changed.

Whatever is not as it has to be for that is left to the command proper, which says what is wrong.
Loads next to nothing.
"""

from __future__ import annotations

import os
import sys

from ya_salt.flags import CONFIG_VARIABLE, DEFAULT_FILE, ENVIRONMENT_PREFIX, FLAGS, STATE_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from typing import Any


def answer_quickly(words: Sequence[str]) -> int | None:
    """The exit code of the command, if it was answered; None leaves it to the command proper."""
    if list(words) == ["--version"]:
        from ya_salt import describe_version

        return 0 if _show(f"ya-salt {describe_version()}\n") else None
    command, flags = _parse(words)
    if command == "apply":
        return _apply(flags)
    return _show_status(flags) if command == "status" else None


def name_source(options: argparse.Namespace) -> dict[str, Any]:
    """What the settings of a command are made of, as the quick way has it."""
    names = ("config", *(flag.name for flag in FLAGS))
    given = {name: getattr(options, name, None) for name in names}
    return make_source({name: text for name, text in given.items() if text is not None})


def make_source(flags: Mapping[str, str]) -> dict[str, Any]:
    """The same of flags as they were given, by name; with the variables of this process."""
    environment = {
        name: text for name, text in os.environ.items() if name.startswith(ENVIRONMENT_PREFIX)
    }
    config = flags.get("config") or environment.get(CONFIG_VARIABLE) or DEFAULT_FILE
    return {
        "config": os.path.abspath(config),
        "environment": environment,
        "flags": {name: os.path.abspath(text) if text else text for name, text in flags.items()},
    }


def _parse(words: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The command and its flags; "" where there is anything else on the line."""
    known = {"--config": "config", **{flag.word: flag.name for flag in FLAGS}}
    command, flags, rest = "", {}, list(words)
    while rest:
        word = rest.pop(0)
        flag, sign, text = word.partition("=")
        if flag in known and (sign or rest):
            flags[known[flag]] = text if sign else rest.pop(0)
        elif word in {"apply", "status"} and not command:
            command = word
        else:
            return "", {}
    return command, flags


def find_state_dir(source: Mapping[str, Any], default: str = STATE_DIR) -> str:
    """Where a snapshot of these settings lies, should there be one.

    Where the settings file says otherwise, one that lies here is of other settings.
    """
    state_dir = source["flags"].get("state_dir") or source["environment"].get(
        f"{ENVIRONMENT_PREFIX}STATE_DIR"
    )
    return os.path.abspath(state_dir or default)


def _read(source: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The state directory and its snapshot, where that is of the same settings."""
    if not all(map(_is_open, (0, 1, 2))):
        return None
    from ya_salt import as_left

    state_dir = find_state_dir(source)
    data = as_left.read_of(state_dir, source)
    return None if data is None else (state_dir, data)


def _apply(flags: Mapping[str, str]) -> int | None:
    import time

    if not all(map(_is_open, (0, 1, 2))):
        return None
    from ya_salt.converge.quick import make_quick_pass

    source, now = make_source(flags), time.time()
    data = make_quick_pass(find_state_dir(source), source)
    if data is None:
        return None
    text = "\n".join([_render(data, now), "nothing had to be done", *data["warnings"]])
    return _end(0, f"{text}\n", is_deed=True)


def _show_status(flags: Mapping[str, str]) -> int | None:
    import time

    found = None if os.isatty(1) else _read(make_source(flags))
    if found is None:
        return None
    from ya_salt import as_left
    from ya_salt.cli import lines
    from ya_salt.converge.quick import look

    state_dir, data = found
    last = as_left.load_pass(state_dir)
    started = data["told"]["passed"] if last is None else last[0]
    used = look(data, state_dir, ("memory_usage",))
    if used is None:
        return None
    now, told = time.time(), data["told"]
    passed: dict[str, Any] = {"rejected": [], "started_at": started, "result": "ok", "error": ""}
    aside = [
        *lines.describe_last_pass(passed, now),
        *lines.describe_sinks(told["sinks"], now),
        *lines.describe_gate_trouble(told["gate"], now),
    ]
    text = "\n".join([_render(data, now, used, told["causes"]), *data["warnings"]])
    return _end(0, f"{text}\n", "".join(f"{line}\n" for line in aside))


def _render(
    data: Mapping[str, Any],
    now: float,
    used: Mapping[str, Sequence[int]] | None = None,
    causes: Mapping[str, Any] | None = None,
) -> str:
    """The table of daemons; with what they use and what was done to each last, if that is given."""
    from ya_salt.cli import lines

    if not data["daemons"]:
        return "no daemons"
    head: tuple[str, ...] = lines.HEAD
    rows = []
    for name, version, phase, state, ready, since, respawns, restarts in data["daemons"]:
        age = lines.format_age(now - since)
        row = [name, version or "-", phase, state or "-", ready, age, str(respawns), str(restarts)]
        if used is not None and causes is not None:
            row.append(lines.format_memory(used[name][0] if name in used else None))
            row.append(lines.describe_cause(causes.get(name), now))
        rows.append(row)
    if used is not None:
        head = (*head, "MEMORY", "LAST CAUSE")
    return lines.render_table(head, rows)


# -- the streams ---------------------------------------------------------------------------------


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _show(text: str) -> bool:
    """Whether stdout took it; nothing was written where it did not take all."""
    return _is_open(1) and _write(1, text, sys.stdout)


def _write(fd: int, text: str, stream: Any) -> bool:
    data = text.encode(getattr(stream, "encoding", None) or "ascii", "backslashreplace")
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        return False
    return True


def _end(code: int, text: str, aside: str = "", *, is_deed: bool = False) -> int:
    """Show the answer; where it cannot be, say so as every command does."""
    if _write(1, text, sys.stdout):
        _write(2, aside, sys.stderr)
        return code
    from ya_salt.cli.output import own_streams, say_painted
    from ya_salt.cli.running import end_program

    own_streams()
    say_painted(text.rstrip("\n"))
    return end_program("ya-salt", code, is_deed=is_deed)
