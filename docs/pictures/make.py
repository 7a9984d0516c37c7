"""Make the README's pictures from what ya-salt really prints: `make pictures`.

Real apt, dpkg and processes in a temporary folder, as in the demo; nothing is left.
"""

from __future__ import annotations

import fcntl
import html
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from helpers.example import BAD_CLIENT, ExampleHost  # noqa: E402 - the tests' helpers are not installed

COLUMNS = 112
CHAR, LINE, FRAME, BAR = 8.43, 19, 18, 30

_SPEC = """\
meta: {{name: {name}, version: "{version}"}}
spec:
  min_ready_s: 1
  ready_timeout_s: 12
  properties: {{cmd: [sh, -c, "{command}"], virt_mode: host, memory_limit: 64Mb}}
"""
_AGENT = """\
meta: {{name: agent, version: "{version}"}}
spec:
  min_ready_s: 1
  properties:
    cmd: [/usr/bin/juggler-client, --config-dir, /etc/juggler/]
    user: monitor
    group: monitor
    virt_mode: host
    memory_limit: 2Gb
  packages: [{{name: juggler-client-core, version: "{version}"}}]
"""
_DYING = "echo no route >&2; sleep 0.7; exit 3"


def record_status(host: ExampleHost) -> list[tuple[str, str]]:
    """Four daemons: fine, fine, held by somebody, dying again and again."""
    host.release("1.0")
    write(host, "agent", _AGENT.format(version="1.0"))
    for name, version, command in (
        ("log-shipper", "7.2", "sleep 1000"),
        ("cache", "3.1", "sleep 1000"),
        ("net-probe", "0.9", _DYING),
    ):
        write(host, name, _SPEC.format(name=name, version=version, command=command))
    host.run("apply")
    host.run("stop", "cache", "--for", "2h", "--reason", "its disk is being changed")
    words = (("status",), ("why", "net-probe"))
    return [(f"ya-salt {' '.join(item)}", type_in(host, *item)) for item in words]


def record_rollback(host: ExampleHost) -> list[tuple[str, str]]:
    """A version whose program ends at once."""
    host.release("1.1", BAD_CLIENT)
    edit = "sed -i s/1.0/1.1/ /etc/hostman/porto-daemons.d/agent.yaml"
    write(host, "agent", _AGENT.format(version="1.1"))
    told = type_in(host, "apply", "agent")
    package = "juggler-client-core"
    return [
        (edit, ""),
        ("ya-salt apply agent", told),
        (f"dpkg-query -W {package}", f"{package}\t{host.installed()[package]}\n"),
    ]


def write(host: ExampleHost, name: str, text: str) -> None:
    (host.specs_dir / f"{name}.yaml").write_text(text)


def type_in(host: ExampleHost, *words: str) -> str:
    """What the command shows on a terminal, progress aside."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "ya_salt.cli.main", *words],
        env={**host.environment, "TERM": "xterm-256color"},
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(terminal)
        told = b"".join(read_all(controller))
        _, said = process.communicate()
    os.close(controller)
    lines = said.decode().splitlines()
    told += "\n".join(line for line in lines if "\r" not in line).encode()
    # On a host these are the paths.
    text = told.decode().replace("\r\n", "\n")
    text = text.replace(str(host.specs_dir), "/etc/hostman/porto-daemons.d")
    return text.replace(str(host.log_file), "/var/log/ya-salt.log")


def read_all(controller: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(controller, 65536)
        except OSError:
            return
        if not data:
            return
        yield data


# -- drawing -------------------------------------------------------------------------------------

_COLOURS = {"31": "#ff7b72", "32": "#7ee787", "33": "#e3b341", "36": "#79c0ff", "2": "#8b949e"}
_FONTS = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
_ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")


def draw(steps: Sequence[tuple[str, str]], title: str) -> str:
    """An SVG without a font or a link of anybody's."""
    lines = [line for command, told in steps for line in list_lines(command, told)]
    width, height = COLUMNS * CHAR + 2 * FRAME, len(lines) * LINE + 2 * FRAME + BAR
    texts = "\n".join(
        f'<text x="{FRAME}" y="{BAR + FRAME + LINE * (number + 0.7):.1f}">{paint(line)}</text>'
        for number, line in enumerate(lines)
        if line
    )
    buttons = "".join(f'<circle cx="{at}" cy="18" r="6"/>' for at in (20, 40, 60))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img" \
aria-label="{title}">
<!-- Made by docs/pictures/make.py of what ya-salt prints. -->
<title>{title}</title>
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
<g fill="#30363d">{buttons}</g>
<g fill="#e6edf3" font-family="{_FONTS}" font-size="14" xml:space="preserve">
{texts}
</g>
</svg>
"""


def list_lines(command: str, told: str) -> Iterator[str]:
    yield f"\x1b[36m$\x1b[0m \x1b[1m{command}\x1b[0m"
    for line in told.rstrip("\n").expandtabs().splitlines():
        yield from wrap(line)
    yield ""


def wrap(line: str) -> list[str]:
    """At words, as a reader likes it; a line with colours is a table's, and fits."""
    if _ESCAPE.search(line) or len(line) <= COLUMNS:
        return [line]
    return textwrap.wrap(line, COLUMNS, subsequent_indent="    ", break_long_words=False)


def paint(line: str) -> str:
    parts = _ESCAPE.split(line)
    style: Mapping[str, str] = {}
    done = []
    for number, part in enumerate(parts):
        if number % 2:
            style = read_style(part)
        elif part:
            marks = "".join(f' {name}="{value}"' for name, value in style.items())
            text = html.escape(part, quote=False)
            done.append(f"<tspan{marks}>{text}</tspan>" if marks else text)
    return "".join(done)


def read_style(codes: str) -> dict[str, str]:
    style = {}
    for code in codes.split(";"):
        if code in _COLOURS:
            style["fill"] = _COLOURS[code]
        elif code == "1":
            style["font-weight"] = "bold"
    return style


def main() -> None:
    folder = Path(__file__).parent
    temporary = tempfile.TemporaryDirectory(prefix="ya-salt-pictures.")
    with temporary as place, ExampleHost(Path(place)) as host:
        status = draw(record_status(host), "ya-salt status and ya-salt why")
        rollback = draw(record_rollback(host), "a bad update that undoes itself")
    (folder / "status.svg").write_text(status)
    (folder / "rollback.svg").write_text(rollback)


if __name__ == "__main__":
    main()
