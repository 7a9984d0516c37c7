"""Real bash, zsh and fish, asked what they offer for a line."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import signal
import subprocess
import time
from pathlib import Path

from helpers.programs import find_program

PACKAGES = {"zsh": "zsh", "fish": "fish"}
"""Program -> Debian package; bash is there."""

WAIT_S = 30.0


def complete(shell: str, script: Path, line: str, before: str = "") -> list[str]:
    """What the shell, with `script` loaded as its own, offers after `line`, sorted.

    `before` is typed first, in bash only.
    """
    if shell == "bash":
        return sorted(set(_ask_bash(script, line, before)))
    ask = {"zsh": _ask_zsh, "fish": _ask_fish}[shell]
    return sorted(set(ask(script, line)))


_BASH = """\
PS1= PS2=; stty columns 500; bind 'set bell-style none'; bind 'set enable-bracketed-paste off'
bind -x '"\\C-t": printf "[[%s]]" "$READLINE_LINE"'; bind '"\\C-y": insert-completions'
{before}source {script}; echo ready:$((6*7))
"""


def _ask_bash(script: Path, line: str, before: str = "") -> list[str]:
    """bash cuts lines into words, and puts back what is offered, at its line editor only."""
    process, terminal = pty.fork()
    if not process:
        os.environ["TERM"] = "dumb"
        os.execlp("bash", "bash", "--norc", "--noprofile", "-i")
    try:
        text = _BASH.format(before=before, script=shlex.quote(str(script)))
        _say(terminal, text, "ready:42")
        told = _say(terminal, f"{line}\x19\x14", "]]")
    finally:
        os.close(terminal)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    return _read_inserted(told.rpartition("[[")[2].partition("]]")[0], line)


def _read_inserted(told: str, line: str) -> list[str]:
    """What came in the place of the last word, of each as much as is replaced in it."""
    typed = line.rpartition(" ")[2]
    if told.strip() == line.strip():
        return []
    kept = typed[: len(typed) - len(re.split("[:=]", typed)[-1])]
    found = told[len(line) - len(typed) :].split()
    return [word if word.startswith(kept) else f"{kept}{word}" for word in found]


def _ask_fish(script: Path, line: str) -> list[str]:
    text = f"source {shlex.quote(str(script))}; complete -C {shlex.quote(line)}"
    done = subprocess.run(
        [str(find_program("fish")), "--no-config", "-c", text],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
        env={**os.environ, **_find_libraries("fish")},
    )
    assert not done.stderr, done.stderr
    return [item.partition("\t")[0] for item in done.stdout.splitlines()]


_ZSH = """\
PS1=; PS2=; unsetopt beep prompt_sp zle_bracketed_paste; LISTMAX=100000
{paths}fpath=({folder} $fpath); autoload -Uz compinit; compinit -D -u
zstyle ':completion:*' list-colors; zstyle ':completion:*' verbose no
bindkey '^T' list-choices; bindkey '^Y' kill-whole-line; print ready:$((6*7))
"""


def _ask_zsh(script: Path, line: str) -> list[str]:
    """zsh completes at its line editor only, so it gets a terminal."""
    zsh = str(find_program("zsh"))
    shares = Path(zsh).parents[1]
    paths = ""
    if shares != Path("/usr") and shares != Path("/"):
        modules, functions = f"{shares}/lib/*/zsh/*([1])", f"{shares}/share/zsh/functions/**/*(/N)"
        paths = f"module_path=({modules}); fpath=({functions})\n"
    process, terminal = pty.fork()
    if not process:
        os.environ.update({"TERM": "dumb", "COLUMNS": "200", "LINES": "1000"})
        os.execv(zsh, [zsh, "-f", "-i"])
    try:
        text = _ZSH.format(paths=paths, folder=shlex.quote(str(script.parent)))
        _say(terminal, text, "ready:42")
        told = _say(terminal, f"{line}\x14\x19print done:$((6*7))\n", "done:42")
    finally:
        os.close(terminal)
        os.waitpid(process, 0)
    return _read_listing(told, line)


def _say(terminal: int, text: str, until: str) -> str:
    os.write(terminal, text.encode())
    told, ends = "", time.monotonic() + WAIT_S
    while until not in told:
        left = ends - time.monotonic()
        assert left > 0, told
        if select.select([terminal], [], [], left)[0]:
            told += os.read(terminal, 65536).decode(errors="replace")
    return told


def _read_listing(told: str, line: str) -> list[str]:
    """What stands between the line and the line again."""
    listing = told.partition(f"{line}\r\r\n")[2].partition(f"{line}\r")[0]
    return listing.split()


def _find_libraries(program: str) -> dict[str, str]:
    found = Path(str(find_program(program))).parents[1]
    if found in {Path("/usr"), Path("/")}:
        return {}
    return {"LD_LIBRARY_PATH": ":".join(str(path) for path in (found / "lib").glob("*-linux-*"))}
