"""A spec to begin with: commented, and valid as it stands where the command is known. Pure."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ya_salt.model import Package
from ya_salt.reference.fields import Field, list_roots, walk
from ya_salt.reference.schema import FOLDER
from ya_salt.specs.sockets import MAX_NAME
from ya_salt.specs.unit_file import FromUnit
from ya_salt.text import printable

_WIDTH = 96
_WRITE_YOURS = "    # The program and its arguments, word by word: write yours."
_WRITE_REST = (
    "    # NOT WHOLE: the service does not tell all of its command, see above. Write what is",
    "    # missing, word by word, and take the # away:",
)
_OFFERED = (
    *("user", "group", "cwd", "env", "memory_limit", "cpu_limit", "ulimit", "thread_limit"),
    *("stdout_path", "virt_mode", "capabilities"),
)
"""Properties that most daemons want sooner or later."""

_OFFERED_BESIDE = """\
  # Asked whether it is ready; else it is once it has run for min_ready_s:
  # readiness:
  #   http: {port: 8080, path: /health}
  #   period_s: 10
  # An update that fails is undone; these data go back with it:
  # update:
  #   state: [/var/lib/NAME]
  # Files whose change restarts it, or is told by a signal:
  # watch:
  #   - path: /etc/NAME/*.conf
  #     signal: SIGHUP
  # Daemons that are ready before this one is started:
  # after: [another-daemon]
"""


def render_spec(name: str, packages: Sequence[Package], unit: FromUnit | None, origin: str) -> str:
    """The text of a spec file. `origin` names the unit.

    Where the unit does not tell all of the command its words are comments: no such file is valid.
    """
    found = unit or FromUnit()
    properties = dict(found.properties)
    is_guessed = "cmd" not in properties
    command = properties.pop("cmd", [f"/usr/bin/{_guess_program(name)}"])
    readiness = found.readiness
    told = list(found.told)
    if readiness and len(name) > MAX_NAME:
        readiness = {}
        told.append(f"Type: readiness.notify takes a name of at most {MAX_NAME} characters")
    lines = [
        f"# yaml-language-server: $schema={FOLDER}/spec.json",
        f"# The daemon {name}. Before it goes anywhere: ya-salt validate FILE",
        "# What a field means: ya-salt explain spec.properties.memory_limit",
        *_tell(told, origin),
        "meta:",
        f"  name: {quote_yaml(name)}",
        '  # version: "1.0"',
        *_annotate(found.description),
        "spec:",
        "  properties:",
        *([_WRITE_YOURS] if is_guessed and not found.missing else []),
        *(_write_open(command) if found.missing else _write("cmd", command, 4)),
        *(line for key, value in properties.items() for line in _write(key, _ease(key, value), 4)),
        *_offer(properties.keys()),
        *_list_packages(packages),
    ]
    beside = _OFFERED_BESIDE.replace("NAME", _guess_program(name))
    asked = _write("readiness", readiness, 2) if readiness else []
    return "\n".join([*lines, *asked]) + "\n" + beside


def _write_open(command: Sequence[str]) -> list[str]:
    """A command that is not whole: `validate` says that it is empty."""
    return [*_WRITE_REST, "    cmd:", *(f"    #  - {quote_yaml(word)}" for word in command)]


def _guess_program(name: str) -> str:
    return re.sub(r"[:@]", "-", name)


def _annotate(description: str) -> list[str]:
    shown = printable(description).strip()
    return ["  annotations:", *_write("description", shown, 4)] if shown else []


def _tell(told: Iterable[str], origin: str) -> list[str]:
    """What was not taken, as comments: nothing of it can be anything else."""
    sentences = [printable(sentence) for sentence in told]
    if not sentences:
        return []
    lines = ["#", f"# Not taken from {printable(origin)}, or not as it stands there:"]
    for sentence in sentences:
        lines += textwrap.wrap(
            sentence,
            _WIDTH,
            initial_indent="# - ",
            subsequent_indent="#   ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def _offer(taken: Iterable[str]) -> list[str]:
    fields: Mapping[str, Field] = {item.path: item for item in walk(list_roots())}
    lines = []
    for name in _OFFERED:
        if name not in set(taken):
            item = fields[f"spec.properties.{name}"]
            shown = f"# {name}: {item.example}"
            meaning = re.split("[:;]", item.meaning)[0].removesuffix(".")
            lines.append(f"    {shown:<44} # {meaning}")
    return lines


def _list_packages(packages: Sequence[Package]) -> list[str]:
    if not packages:
        return [
            "  # Exact versions, as dpkg -l shows them:",
            "  # packages:",
            "  #   - name: a-package",
            '  #     version: "1.0-1"',
        ]
    lines = ["  packages:"]
    for package in packages:
        lines += [
            f"    - name: {quote_yaml(package.name)}",
            f"      version: {quote_yaml(package.version, is_text=True)}",
        ]
    return lines


# -- YAML ----------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/_.@+-]*", re.ASCII)
_WORDS_OF_YAML = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def _write(key: str, value: Any, depth: int) -> list[str]:
    """`key: value`, on one line where it fits."""
    indent = " " * depth
    if isinstance(value, dict):
        pairs = [
            f"{indent}  {quote_yaml(name)}: {_flow(_ease(key, one))}" for name, one in value.items()
        ]
        return [f"{indent}{key}:", *pairs]
    line = f"{indent}{key}: {_flow(value)}"
    if isinstance(value, list) and len(line) > _WIDTH:
        return [f"{indent}{key}:", *(f"{indent}  - {quote_yaml(one)}" for one in value)]
    return [line]


_TEXTS = frozenset({"user", "group", "env", "annotations", "description"})


class _Plain(str):
    """Stands without quotes."""


_AMOUNT = re.compile(
    r"0|-?[1-9][0-9]{0,15}(?:\.[0-9]{1,9})?[a-zA-Z]{0,2}|0\.[0-9]{1,9}c?", re.ASCII
)


def _ease(key: str, value: Any) -> Any:
    """Amounts without quotes, as people write them; what is text stays text."""
    if isinstance(value, str) and _AMOUNT.fullmatch(value) and key not in _TEXTS:
        return _Plain(value)
    return value


def _flow(value: Any) -> str:
    if isinstance(value, bool | int | float | _Plain):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(quote_yaml, value))}]"
    return quote_yaml(value)


def quote_yaml(text: str, *, is_text: bool = False) -> str:
    """A text as YAML has it: as it is where nothing could be read into it, else in quotes."""
    if not is_text and _PLAIN.fullmatch(text) and text.lower() not in _WORDS_OF_YAML:
        return text
    return f'"{"".join(map(_escape, text))}"'


def _escape(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    # What a locale lacks is an escape all the same: the text is the same in each.
    if char.isascii() and char.isprintable():
        return char
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
