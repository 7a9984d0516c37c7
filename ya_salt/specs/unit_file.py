"""What of a systemd service can be said in a spec, and what cannot. Pure: nothing is run.

Read as systemd.syntax(7) and systemd.service(5) have it: lines that go on after a backslash,
quotes and escapes within a word, specifiers, prefixes of a command. Each value that is taken has
passed the parser that checks specs; whatever was not taken is told with the reason.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from ya_salt.names import quote
from ya_salt.porto import values
from ya_salt.porto.properties import PROPERTIES
from ya_salt.quick_dataclass import dataclass, field
from ya_salt.specs.sockets import VARIABLES


@dataclass
class FromUnit:
    """`properties` are those of a spec, as they would be written there."""

    properties: dict[str, Any] = field(default_factory=dict)
    readiness: dict[str, Any] = field(default_factory=dict)
    description: str = ""
    told: list[str] = field(default_factory=list)
    """What was not taken, or not as it stood: a sentence each."""
    missing: list[str] = field(default_factory=list)
    """Why `cmd` is not what the service runs: a sentence each, which `told` has, too."""


def read_unit(text: str, name: str) -> FromUnit:
    """Translate a service; `name` is its file's, without the folder: `agent@1.service`."""
    return _Translator(name, _parse(text)).translate()


# -- the file ------------------------------------------------------------------------------------

_Lines = list[tuple[str, str, str]]
"""Section, key and value, in the order of the file."""


def _parse(text: str) -> _Lines:
    found: _Lines = []
    section, pending = "", ""
    for line in text.replace("\r\n", "\n").split("\n"):
        if line.lstrip().startswith(("#", ";")):
            # Within a value that goes on over several lines, too.
            continue
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        whole = (pending + line).strip()
        pending = ""
        if whole.startswith("[") and whole.endswith("]"):
            section = whole[1:-1]
        elif "=" in whole:
            key, _, value = whole.partition("=")
            found.append((section, key.strip(), value.strip()))
    return found


_ESCAPES = {
    **dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True)),
    **{char: char for char in "\\\"'"},
    "s": " ",
}
_CODES = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})", re.ASCII)


def split_words(text: str) -> list[str]:
    """Split as systemd does. Raises ValueError where a quote is not closed."""
    words: list[str] = []
    word: str | None = None
    mark = ""
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "\\" and at < len(text):
            part, at = _unescape(text, at)
            word = (word or "") + part
        elif mark:
            if char == mark:
                mark = ""
            else:
                word = (word or "") + char
        elif char in "\"'":
            mark, word = char, word or ""
        elif char in string.whitespace:
            words += [] if word is None else [word]
            word = None
        else:
            word = (word or "") + char
    if mark:
        raise ValueError("has a quote that is not closed")
    return words if word is None else [*words, word]


def _split_value(text: str) -> list[str]:
    """Split a variable's value as systemd does: quotes count, closed or not, and no escapes."""
    words: list[str] = []
    word: str | None = None
    mark = ""
    characters = iter(text)
    for char in characters:
        if char == "\\":
            word = (word or "") + next(characters, "")
        elif char == mark:
            mark = ""
        elif not mark and char in "\"'":
            mark, word = char, word or ""
        elif not mark and char in string.whitespace:
            words += [] if word is None else [word]
            word = None
        else:
            word = (word or "") + char
    return words if word is None else [*words, word]


def _unescape(text: str, at: int) -> tuple[str, int]:
    """What stands behind a backslash, and where the text goes on."""
    char = text[at]
    if char in _ESCAPES:
        return _ESCAPES[char], at + 1
    found = _CODES.match(text, at)
    if found is None:
        # Systemd keeps what it does not know.
        return f"\\{char}", at + 1
    digits = found[1] or found[2] or found[3]
    number = int(digits, 16) if digits else int(found[4], 8)
    is_character = 0 < number < 0x110000 and not 0xD800 <= number < 0xE000
    return (chr(number) if is_character else f"\\{found[0]}"), found.end()


# -- what is said by name ------------------------------------------------------------------------

_LIMITS = {
    "LimitAS": "as",
    "LimitCORE": "core",
    "LimitCPU": "cpu",
    "LimitDATA": "data",
    "LimitFSIZE": "fsize",
    "LimitLOCKS": "locks",
    "LimitMEMLOCK": "memlock",
    "LimitMSGQUEUE": "msgqueue",
    "LimitNICE": "nice",
    "LimitNOFILE": "nofile",
    "LimitNPROC": "nproc",
    "LimitRSS": "rss",
    "LimitRTPRIO": "rtprio",
    "LimitRTTIME": "rttime",
    "LimitSIGPENDING": "sigpending",
    "LimitSTACK": "stack",
}

_NO_WORDS = {
    "EnvironmentFile": "its variables are not read; write them into env, or env_secret",
    "ExecStartPre": "nothing runs before the command; do it in a package's script, or in a wrapper",
    "ExecStartPost": "nothing runs after the start; readiness may ask for what it waited for",
    "ExecCondition": "there are no conditions; the daemon always runs",
    "ExecStop": "the daemon is stopped by SIGTERM, and after 10 seconds by SIGKILL",
    "ExecStopPost": "nothing runs after the stop",
    "ExecReload": "nothing is reloaded by hand; watch with a signal tells it of changed files",
    "KillSignal": "the daemon is stopped by SIGTERM",
    "KillMode": "all of the container is stopped",
    "TimeoutStopSec": "the daemon has 10 seconds after SIGTERM",
    "TimeoutStartSec": "see ready_timeout_s",
    "TimeoutSec": "see ready_timeout_s; it has 10 seconds to stop",
    "PIDFile": "Porto watches the process that it starts",
    "NotifyAccess": "see readiness.notify, whose word counts",
    "StartLimitBurst": "a daemon that keeps dying rests before each start",
    "StartLimitIntervalSec": "a daemon that keeps dying rests before each start",
    "StartLimitInterval": "a daemon that keeps dying rests before each start",
    "DynamicUser": "a user has to be there; name one as user",
    "SupplementaryGroups": "Porto takes the groups that the user is in",
    "SyslogIdentifier": "Porto keeps what is written to stdout and stderr: ya-salt logs",
    "After": "after names daemons of ya-salt alone",
    "Requires": "after names daemons of ya-salt alone",
    "Wants": "after names daemons of ya-salt alone",
    "BindsTo": "after names daemons of ya-salt alone",
    "MemoryHigh": "Porto has no limit that slows down; see memory_limit",
    "MemorySwapMax": "Porto has none",
    "Slice": "Porto has its own groups",
    "Delegate": "Porto has its own groups; see cgroupfs",
    "Nice": "see cpu_policy and cpu_weight",
    "LoadCredential": "put secrets into env_secret, or let the daemon read a file",
    "PrivateTmp": "see bind and root",
    "NoNewPrivileges": "see capabilities",
    "LogsDirectory": "make the folder in a package",
    "RuntimeDirectory": "make the folder in a package, or by tmpfiles.d",
    "StateDirectory": "make the folder in a package",
    "CacheDirectory": "make the folder in a package",
    "ConfigurationDirectory": "make the folder in a package",
}
"""What a spec has no word for -> what there is instead."""

_NOT_NEEDED = frozenset(
    {"Documentation", "Description", "Restart", "RestartSec", "Type", "ExecStart"}
    | {"Environment", "WatchdogSec"}
)
"""Read elsewhere, or nothing that a daemon would miss."""

_PLACES = {
    "%": "%",
    "t": "/run",
    "S": "/var/lib",
    "C": "/var/cache",
    "L": "/var/log",
    "E": "/etc",
    "T": "/tmp",  # noqa: S108 - what systemd means by it
    "V": "/var/tmp",  # noqa: S108
    "u": "root",
    "U": "0",
    "g": "root",
    "G": "0",
    "h": "/root",
    "s": "/bin/sh",
}
"""Specifiers of a system's service that are the same on every host."""


def _make_specifiers(name: str) -> dict[str, str]:
    stem = name.removesuffix(".service")
    prefix, sign, instance = stem.partition("@")
    last = prefix.rpartition("-")[2]
    found = {"n": name, "N": stem, "p": prefix, "P": _unescape_name(prefix)}
    found |= {"j": last, "J": _unescape_name(last)}
    if instance or not sign:
        found |= {"i": instance, "I": _unescape_name(instance)}
        found["f"] = "/" + _unescape_name(instance or prefix)
    return _PLACES | found


def _unescape_name(text: str) -> str:
    """As systemd-escape(1) writes it: a dash for a slash, codes for what is special."""
    slashed = text.replace("-", "/")
    return re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), slashed)


def _check_variable(name: str) -> str:
    if name in VARIABLES:
        raise ValueError("is set by readiness.notify, should it be needed")
    return values.check_env_name(name)


def _check_whole(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds a NUL byte")
    return text


# -- numbers -------------------------------------------------------------------------------------


def _parse_bytes(text: str, base: int = 1024) -> str:
    found = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([KMGTPE]?)B?", text, re.ASCII)
    if not found:
        raise ValueError(f"{quote(text)} is no number of bytes")
    return str(int(Fraction(found[1]) * base ** " KMGTPE".index(found[2] or " ")))


def _parse_percent(text: str) -> Fraction:
    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,2})?)%", text, re.ASCII)
    if not found:
        raise ValueError(f"{quote(text)} is no percentage")
    return Fraction(found[1]) / 100


_SPAN = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([a-zµ]*)", re.ASCII)
_SPAN_UNITS = {
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 10**6),
    **dict.fromkeys(("ms", "msec"), 10**3),
    **dict.fromkeys(("us", "usec"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60 * 10**6),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600 * 10**6),
}


def _parse_micros(text: str) -> Fraction:
    total, at = Fraction(0), 0
    while at < len(text.rstrip()):
        found = _SPAN.match(text, at)
        if not found or found[2] not in _SPAN_UNITS:
            raise ValueError(f"{quote(text)} is no time")
        total += Fraction(found[1]) * _SPAN_UNITS[found[2]]
        at = found.end()
    return total


def _parse_span(text: str) -> str:
    """A time as Porto has it, such as 90s."""
    micros = int(_parse_micros(text))
    for unit, size in (("s", 10**6), ("ms", 10**3), ("us", 1)):
        if micros % size == 0:
            return f"{micros // size}{unit}"
    return f"{micros}us"


_SEMICOLON = "\ue000"
"""Stands for a semicolon that is an argument, where one alone would begin another command."""


# -- the translation -----------------------------------------------------------------------------


class _Translator:
    def __init__(self, name: str, lines: _Lines) -> None:
        self._lines = lines
        self._specifiers = _make_specifiers(name)
        self._found = FromUnit()
        self._env: dict[str, str] = {}

    def translate(self) -> FromUnit:
        # A command may speak of variables that stand below it.
        self._read_environment()
        self._read_commands()
        self._read_restart()
        self._read_type()
        for key, text in self._last_of_each().items():
            self._take_one(key, text)
        self._read_lists()
        if self._env:
            self._set("Environment", "env", self._env)
        return self._found

    def _miss(self, why: str, key: str = "", text: str = "") -> None:
        """Tell of a part of the command that a person has to write."""
        if key:
            self._tell(key, text, why)
        else:
            self._found.told.append(why)
        self._found.missing.append(self._found.told[-1])

    def _all(self, key: str) -> list[str]:
        """The values of a key, from the last empty one on, which forgets those before it."""
        found: list[str] = []
        for section, name, text in self._lines:
            if name == key and section in ("Service", "Unit"):
                found = [*found, text] if text else []
        return found

    def _last_of_each(self) -> dict[str, str]:
        known = {key: text for section, key, text in self._lines if section in ("Service", "Unit")}
        return {key: text for key, text in known.items() if text}

    def _tell(self, key: str, text: str, why: str) -> None:
        shown = " ".join(text.split())
        self._found.told.append(f"{key}={shown[:80]}{'…' if len(shown) > 80 else ''}: {why}")

    def _expand(self, text: str) -> str:
        """Put in what specifiers stand for. Raises ValueError of one that nobody knows here."""

        def replace(found: re.Match[str]) -> str:
            value = self._specifiers.get(found[1])
            if value is None:
                why = "differs from host to host"
                if found[1] in "iI":
                    why = "is the instance's name, which the file's name does not tell"
                raise ValueError(f"{found[0]} {why}; write what is meant in its place")
            return value

        return re.sub("%(.)", replace, text)

    def _set(self, key: str, name: str, value: Any) -> None:
        """Take a value that the checker of specs takes; tell of any other."""
        row = PROPERTIES[name]
        try:
            if isinstance(value, dict):
                for entry, one in value.items():
                    (row.check_key or str)(entry)
                    row.parse(one)
                self._found.properties.setdefault(name, {}).update(value)
            elif isinstance(value, list):
                for one in value:
                    row.parse(one)
                self._found.properties[name] = value
            else:
                row.parse(value)
                self._found.properties[name] = value
        except ValueError as error:
            shown = value if isinstance(value, str) else ", ".join(map(str, value))
            self._tell(key, shown, f"{name} {error}")

    # -- variables and the command ---------------------------------------------------------------

    def _read_environment(self) -> None:
        for text in self._all("Environment"):
            try:
                words = split_words(text)
            except ValueError as error:
                self._tell("Environment", text, str(error))
                continue
            for word in words:
                try:
                    name, sign, value = self._expand(word).partition("=")
                    _check_variable(name if sign else word)
                    values.parse_env(_check_whole(value))
                except ValueError as error:
                    self._tell("Environment", word, str(error))
                else:
                    self._env[name] = value

    def _read_commands(self) -> None:
        commands = [part for text in self._all("ExecStart") for part in self._split_command(text)]
        if not commands:
            self._miss("ExecStart: there is none; write the command")
            return
        for words in commands[1:]:
            self._tell(
                "ExecStart", " ".join(words), "a daemon has one command, the first was taken"
            )
        argv = self._read_prefix(commands[0])
        if not argv:
            self._miss("ExecStart: it names no program; write the command")
            return
        self._check_argv(argv)

    def _split_command(self, text: str) -> Iterator[list[str]]:
        """A line may hold several commands between semicolons that stand alone."""
        try:
            words = split_words(re.sub(r"(?<!\S)\\;(?!\S)", _SEMICOLON, text))
        except ValueError as error:
            self._miss(str(error), "ExecStart", text)
            return
        command: list[str] = []
        for word in words:
            if word == ";" and command:
                yield command
                command = []
            else:
                command.append(";" if word == _SEMICOLON else word)
        if command:
            yield command

    def _read_prefix(self, words: list[str]) -> list[str]:
        """The argument vector; what stood before the program is told."""
        first = words[0]
        signs = re.match(r"[-@:+!|]*", first)
        prefix = signs[0] if signs else ""
        program, *rest = [first[len(prefix) :], *words[1:]]
        meanings = {
            "-": "a failure is a failure here; see max_respawns",
            "+": "it runs as the container's user; see user and capabilities",
            "!": "it runs as the container's user; see user and capabilities",
            "|": "no shell is put around it; write [sh, -c, …] where one is meant",
        }
        for sign in dict.fromkeys(prefix):
            if sign in meanings:
                self._tell("ExecStart", first, f"the sign {sign} before it: {meanings[sign]}")
        if "@" in prefix and rest:
            self._tell("ExecStart", rest[0], "the name that it goes by is its path here")
            rest = rest[1:]
        program, *expanded = [self._expand_word(word) for word in (program, *rest)]
        if ":" in prefix:
            return [program, *expanded]
        return [program, *(one for word in expanded for one in self._put_in(word))]

    def _expand_word(self, word: str) -> str:
        try:
            return self._expand(word)
        except ValueError as error:
            self._miss(str(error), "ExecStart", word)
            return word

    def _put_in(self, word: str) -> list[str]:
        """Put in variables that the unit sets: `$NAME` becomes words, `${NAME}` a piece of one.

        One that nobody knows stays, and is told.
        """
        alone = re.fullmatch(r"\$([A-Za-z_][A-Za-z0-9_]*)", word, re.ASCII)
        if alone:
            if alone[1] in self._env:
                return _split_value(self._take_variable(alone[1]))
            self._tell_variable(word, alone[1])
            return [word]

        def replace(found: re.Match[str]) -> str:
            if found[0] == "$$":
                return "$"
            if found[1] not in self._env:
                self._tell_variable(word, found[1])
                return found[0]
            return self._take_variable(found[1])

        return [re.sub(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}", replace, word)]

    def _take_variable(self, name: str) -> str:
        if self._all("EnvironmentFile"):
            why = "put into the command as it stands here, whatever EnvironmentFile says"
            self._tell("Environment", name, why)
        return self._env[name]

    def _tell_variable(self, word: str, name: str) -> None:
        files = ", ".join(text.removeprefix("-") for text in self._all("EnvironmentFile"))
        where = f"no Environment= sets {name}, perhaps {files} does" if files else ""
        why = f"{where or f'nothing here sets {name}'}; Porto puts no variables into arguments"
        self._miss(f"{why}, write what is meant", "ExecStart", word)

    def _check_argv(self, argv: list[str]) -> None:
        good: list[str] = []
        for item in argv:
            try:
                good.append(values.check_argument(_check_whole(item)))
            except ValueError as error:
                self._miss(f"an argument {error}", "ExecStart", item)
        try:
            values.parse_argv(tuple(good))
        except ValueError as error:
            self._miss(str(error), "ExecStart", argv[0])
            return
        if good and good[0] == argv[0]:
            self._found.properties["cmd"] = good

    # -- the rest --------------------------------------------------------------------------------

    def _read_restart(self) -> None:
        found = self._all("Restart")
        how = found[-1] if found else ""
        if how == "no":
            self._found.properties["max_respawns"] = "0"
            self._tell("Restart", how, "max_respawns is 0, though each pass starts what is dead")
        elif not how:
            self._found.told.append(
                "Restart: there is none; a daemon is always started again (see max_respawns)"
            )
        elif how != "always":
            self._tell("Restart", how, "it is started again however it ended")
        for text in self._all("RestartSec")[-1:]:
            try:
                self._set("RestartSec", "respawn_delay", _parse_span(text))
            except ValueError as error:
                self._tell("RestartSec", text, str(error))

    def _read_type(self) -> None:
        for how in self._all("Type")[-1:]:
            why = {
                "forking": "Porto watches the process that it starts: give the flag that keeps it"
                " in the foreground",
                "dbus": "it is ready once it has run for min_ready_s; see readiness",
                "oneshot": "this is no daemon: it would be started again and again",
                "idle": "it does not wait for others",
            }.get(how)
            if why:
                self._tell("Type", how, why)
            if how in ("notify", "notify-reload"):
                self._found.readiness = {"notify": True}
                self._read_watchdog()
        if not self._found.readiness:
            for text in self._all("WatchdogSec")[-1:]:
                self._tell("WatchdogSec", text, "it is of use with readiness.notify alone")

    def _read_watchdog(self) -> None:
        for text in self._all("WatchdogSec")[-1:]:
            try:
                seconds = float(_parse_micros(text) / 10**6)
            except ValueError as error:
                self._tell("WatchdogSec", text, str(error))
                continue
            if seconds and not 0.1 <= seconds <= 86400:
                self._tell("WatchdogSec", text, "watchdog_s is 0.1 to 86400")
            elif seconds:
                self._found.readiness["watchdog_s"] = f"{seconds:g}"

    def _take_one(self, key: str, text: str) -> None:
        """A key of which the last value counts."""
        if key == "Description":
            try:
                self._found.description = self._expand(text)
            except ValueError as error:
                self._tell(key, text, str(error))
        elif key in _LIMITS:
            self._read_limit(key, text)
        elif key in _READERS:
            try:
                _READERS[key](self, key, self._expand(text))
            except ValueError as error:
                self._tell(key, text, str(error))
        elif key not in _NOT_NEEDED and key not in _LISTS and key not in _BY_DISK:
            self._tell(key, text, _NO_WORDS.get(key, "a spec has no word for it"))

    def _read_limit(self, key: str, text: str) -> None:
        soft, sign, hard = text.partition(":")
        parts = [part.strip() for part in ((soft, hard) if sign else (text,))]
        try:
            bounds = ["unlimited" if part == "infinity" else _parse_bytes(part) for part in parts]
        except ValueError as error:
            self._tell(key, text, str(error))
            return
        self._set(key, "ulimit", {_LIMITS[key]: " ".join(bounds)})

    def _read_lists(self) -> None:
        for key, name in _LISTS.items():
            words = [word for text in self._all(key) for word in text.split()]
            if words and words[0].startswith("~"):
                self._tell(
                    key, " ".join(words), f"it says what to leave out; {name} says what is in"
                )
            elif words:
                self._set(key, name, [word.upper().removeprefix("CAP_") for word in words])
        limits: dict[str, dict[str, str]] = {}
        for key, (name, end, base) in _BY_DISK.items():
            for text in self._all(key):
                place, _, amount = text.rpartition(" ")
                try:
                    limits.setdefault(name, {})[f"{place.strip()} {end}"] = _parse_bytes(
                        amount, base
                    )
                except ValueError as error:
                    self._tell(key, text, str(error))
        for name, entries in limits.items():
            self._set(name, name, entries)

    # -- readers of one key ----------------------------------------------------------------------

    def read_user(self, key: str, text: str) -> None:
        self._set(key, key.lower(), text)

    def read_folder(self, key: str, text: str) -> None:
        if text.startswith("-"):
            self._tell(key, text, "it has to be there; make it in a package")
        path = text.removeprefix("-")
        if path == "~":
            raise ValueError("the user's home; write its path")
        self._set(key, "cwd" if key == "WorkingDirectory" else "root", path)

    def read_umask(self, key: str, text: str) -> None:
        self._set(key, "umask", text)

    def read_memory(self, key: str, text: str) -> None:
        name = "memory_limit" if key in ("MemoryMax", "MemoryLimit") else "memory_guarantee"
        if text == "infinity":
            return
        if text.endswith("%"):
            raise ValueError(f"a share of the host's memory; write {name} in bytes")
        self._set(key, name, _parse_bytes(text))

    def read_quota(self, key: str, text: str) -> None:
        self._set(key, "cpu_limit", f"{float(_parse_percent(text)):g}c")

    def read_weight(self, key: str, text: str) -> None:
        if text == "idle":
            raise ValueError("see cpu_policy")
        number = int(values.parse_integer(text, 1, 262144))
        usual = 1024 if key == "CPUShares" else 500 if key == "BlockIOWeight" else 100
        name = "cpu_weight" if key.startswith("CPU") else "io_weight"
        self._set(key, name, f"{min(100.0, max(0.01, number / usual)):g}")

    def read_cpus(self, key: str, text: str) -> None:
        self._set(key, "cpu_set", ",".join(text.replace(",", " ").split()))

    def read_tasks(self, key: str, text: str) -> None:
        if text == "infinity":
            return
        if text.endswith("%"):
            raise ValueError("a share of the host's; write thread_limit as a number")
        self._set(key, "thread_limit", text)

    def read_score(self, key: str, text: str) -> None:
        self._set(key, "oom_score_adj", text)

    def read_stream(self, key: str, text: str) -> None:
        name = {"StandardInput": "stdin_path", "StandardOutput": "stdout_path"}.get(
            key, "stderr_path"
        )
        kind, _, path = text.partition(":")
        if kind in ("file", "append", "truncate"):
            self._set(key, name, path)
        elif text == "null" and name != "stdin_path":
            self._set(key, name, "/dev/null")
        elif text not in ("null", "inherit"):
            self._tell(key, text, "Porto keeps what is written to stdout and stderr: ya-salt logs")


_T = _Translator
_READERS: Mapping[str, Callable[[_Translator, str, str], None]] = {
    **dict.fromkeys(("User", "Group"), _T.read_user),
    **dict.fromkeys(("WorkingDirectory", "RootDirectory"), _T.read_folder),
    "UMask": _T.read_umask,
    **dict.fromkeys(("MemoryMax", "MemoryLimit", "MemoryMin", "MemoryLow"), _T.read_memory),
    "CPUQuota": _T.read_quota,
    **dict.fromkeys(("CPUWeight", "CPUShares", "IOWeight", "BlockIOWeight"), _T.read_weight),
    **dict.fromkeys(("CPUAffinity", "AllowedCPUs"), _T.read_cpus),
    "TasksMax": _T.read_tasks,
    "OOMScoreAdjust": _T.read_score,
    **dict.fromkeys(("StandardInput", "StandardOutput", "StandardError"), _T.read_stream),
}
_BY_DISK = {
    "IOReadBandwidthMax": ("io_limit", "r", 1000),
    "IOWriteBandwidthMax": ("io_limit", "w", 1000),
    "IOReadIOPSMax": ("io_ops_limit", "r", 1000),
    "IOWriteIOPSMax": ("io_ops_limit", "w", 1000),
}
"""Keys that may stand more than once, each for a disk -> property, its sign, what a K is."""
_LISTS = {
    "CapabilityBoundingSet": "capabilities",
    "AmbientCapabilities": "capabilities_ambient",
}
