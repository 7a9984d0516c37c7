"""What each parser of single values takes: for people in words, for editors as JSON Schema. Pure.

Found by the parser itself, so that a field's kind cannot differ from what checks it. A pattern
never refuses what its parser takes; where it takes more, `loose` says what it cannot see. Tests
hold both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from ya_salt import names, settings
from ya_salt.gate import rule_file
from ya_salt.gate.rule import DAYS
from ya_salt.porto import values
from ya_salt.quick_dataclass import dataclass, replace
from ya_salt.specs import behaviour, daemon

Schema = dict[str, Any]
Parser = Callable[..., Any]


@dataclass(frozen=True)
class Kind:
    """How one value is written."""

    words: str
    unit: str = ""
    pattern: str = ""
    """Of a text; both JSON Schema's and Python's regular expression. "": any text."""
    number: Schema | None = None
    """What a number has to be; None where none will do."""
    takes_boolean: bool = False
    """Whether true and false will do: to a text they are the words that stand there."""
    choices: tuple[str, ...] = ()
    may_be_date: bool = False
    """Whether a reader of YAML 1.1 may have made a date of it, which is none of JSON's types."""
    more: Schema | None = None
    """Further keywords for a text, such as maxLength."""
    loose: str = ""
    """What the schema cannot see."""

    def make_schema(self) -> Schema:
        """Of a value in a file that was read as YAML or JSON."""
        text: Schema = {"type": "string", **(self.more or {})}
        if self.choices:
            text["enum"] = list(self.choices)
        elif self.pattern:
            # To Python `$` is also before a line's end, to editors it is not.
            text["pattern"] = re.sub(r"\$$", r"(?!\\n)$", self.pattern)
        if self.may_be_date:
            others = ["number", "boolean", "null", "array", "object"]
            text = {"not": {"type": others}, "pattern": text["pattern"]}
        found = [text]
        if self.number is not None:
            found.insert(0, {"type": "number", **self.number})
        if self.takes_boolean:
            found.append({"type": "boolean"})
        return found[0] if len(found) == 1 else {"anyOf": found}


def quoted(kind: Kind) -> Kind:
    """The same where YAML must not have taken it for something else than a text."""
    return replace(kind, number=None, takes_boolean=False)


def find_kind(parse: Parser) -> Kind:
    """The kind of what a parser takes. KeyError for an unknown parser."""
    if isinstance(parse, partial):
        return _WITH_BOUNDS[parse.func](**parse.keywords)
    if parse in _WITH_BOUNDS:
        return _WITH_BOUNDS[parse]()
    return _KINDS[parse]


# -- pieces of patterns --------------------------------------------------------------------------

_SPACE = r"[ \t\n\r\f\v]*"
_UNSEEN = (
    r"\u0000-\u0008\u000b-\u001f\u007f-\u00a0\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff"
)
_DIGITS = r"(?:(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{0,40})?|\.[0-9]{1,40})"
_POWER = r"(?:[eE][+-]?[0-9]{1,2})"
_NUMBER = rf"{_DIGITS}{_POWER}?"
_SIZE_UNIT = "(?:[bB]|[kKmMgGtTpPeE](?:b|B|iB)?)"
_MAX = values.MAX_UINT


def _any_case(words: Iterable[str]) -> str:
    return "|".join(
        "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else re.escape(c) for c in word)
        for word in words
    )


def _whole(pattern: str) -> str:
    return f"^(?:{pattern})$"


def _padded(pattern: str) -> str:
    """With blanks around it, which the parser strips."""
    return f"^{_SPACE}(?:{pattern}){_SPACE}$"


def _one_of(words: Iterable[str]) -> str:
    return "|".join(map(re.escape, words))


_BOOL_WORDS = ("true", "yes", "on", "false", "no", "off")
_ANY_NUMBER: Schema = {}

# One line without what cannot be seen, and not empty.
_INNER = rf"[^\t\n{_UNSEEN}]"
_LINE = rf"^[ \t\n]*(?=[^ ]){_INNER}*[ \t\n]*$"
_WORDS = _LINE.replace(r"[^\t\n", r"[^;\t\n")
_PATH = rf"^[ \t\n]*(?!(?:[^\n]*/)?\.\.(?:/|[ \t\n]*$))/{_INNER}*[ \t\n]*$"
_STREAM = _PATH.replace(
    "^[ \\t\\n]*", "^[ \\t\\n]*(?!/dev/fd(?:/|$)|/proc/self(?:/|$)|/dev/std(?:in|out|err)$)", 1
)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_ADDRESS = r"[0-9A-Fa-f:.]+(?:/[0-9.]{1,15})?"
_MAPPED = rf"^[ \t\n]*(?=[^ ])[^;:\\\[\]\t\n{_UNSEEN}]*[ \t\n]*$"
_ENV_NAME = "[A-Za-z_][A-Za-z0-9_]*"
_ARGUMENT = r"^(?![ \n])[^\t\u0000]*[^ \n\t\u0000]$"
_COMMAND = (
    r"^[ \t\n]*(?=[^ \t\n])(?:\\[\s\S]|'[^']*'|\"(?:[^\"\\`$]|\\[\s\S]|\$(?!\((?!\()))*\""
    r"|\$\(\([^()]*\)\)|\$\{[^{}]*\}|[^'\"\\;|&<>\n(){}`]|\n(?=[ \t\n]*$))*$"
)

# -- kinds without bounds ------------------------------------------------------------------------

_ARITHMETIC = "what a text with a unit comes to"
_SIZE = Kind(
    "bytes, or a number with K, M, G, T, P, E (1024 each), such as 2Gb",
    "bytes",
    _padded(rf"{_NUMBER}[ \t]*{_SIZE_UNIT}?"),
    {"minimum": 0, "maximum": _MAX},
    loose=_ARITHMETIC,
)
_CPU_PATTERN = (
    rf"0(?:\.0{{0,40}})?|{_NUMBER}[ \t]*(?:c|ns)|{_DIGITS}{_POWER}[ \t]*%"
    r"|(?:100(?:\.0{0,40})?|[1-9]?[0-9](?:\.[0-9]{0,40})?|\.[0-9]{1,40})[ \t]*%"
)
_TIME_UNIT = "(?:s|sec|ms|msec|us|usec|ns|nsec)"
_BARE_NS = rf"0(?:\.[0-9]{{0,40}})?|[1-9][0-9]{{6,18}}(?:\.[0-9]{{0,40}})?|{_DIGITS}{_POWER}"
_DURATION = "(?=.)" + "".join(rf"(?:[0-9]{{1,7}}{unit})?" for unit in "dhms")
_BOUND = rf"(?:{_any_case(('unlimited', 'unlim', 'inf'))}|-1|{_NUMBER}{_SIZE_UNIT}?)"
_BIND_WORD = r"(?:\\ |[^ \t\n;])"
_DATE = r"20[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_URL = r'[hH][tT][tT][pP][sS]?://(?!:)[ -"$-.0->A-~]+(?:[/?#][ -~]*)?'
_DAY = f"(?:{_one_of(DAYS)})"


def _boolean() -> Kind:
    words = _padded(_any_case(_BOOL_WORDS))
    return Kind("true or false", pattern=words, takes_boolean=True)


_KINDS: Mapping[Parser, Kind] = {
    # Porto's.
    values.parse_bool: _boolean(),
    values.parse_size: _SIZE,
    values.parse_memory_limit: Kind(
        "0, or at least 1 MiB: " + _SIZE.words,
        "bytes",
        _SIZE.pattern,
        {"anyOf": [{"const": 0}, {"minimum": values.MIN_MEMORY_LIMIT, "maximum": _MAX}]},
        loose=_ARITHMETIC,
    ),
    values.parse_cpu: Kind(
        "cores such as 0.5c, or percent of the whole host such as 50%",
        "cores (c), or percent of the host (%)",
        _padded(_CPU_PATTERN),
        {"const": 0},
        loose=_ARITHMETIC,
    ),
    values.parse_duration: Kind(
        "a number with s, ms, us or ns, such as 5s",
        "s, ms, us or ns",
        _padded(rf"{_NUMBER}[ \t]*{_TIME_UNIT}|{_BARE_NS}"),
        {"anyOf": [{"const": 0}, {"minimum": 10**6, "maximum": _MAX}]},
        loose=_ARITHMETIC,
    ),
    values.parse_cpu_period: Kind(
        "1ms to 1s",
        "s, ms, us or ns",
        _padded(rf"{_NUMBER}[ \t]*{_TIME_UNIT}|{_BARE_NS}"),
        {"minimum": 10**6, "maximum": 10**9},
        loose=_ARITHMETIC,
    ),
    values.parse_seconds: Kind(
        "a number from 0 to 86400",
        "seconds",
        _padded(_NUMBER),
        {"minimum": 0, "maximum": 86400},
        loose="the range of a number in quotes",
    ),
    values.parse_umask: Kind(
        "octal digits such as 022",
        "octal",
        _padded("(?:0o)?0?[0-7]{1,3}"),
        {"minimum": 0, "maximum": 777},
        loose="the digits of a number without quotes",
    ),
    values.parse_hex: Kind(
        "hex from 0x0 to 0x1ff",
        "hex",
        _padded("0x0{0,5}(?:1[0-9a-fA-F]{2}|[0-9a-fA-F]{1,2})"),
        {"minimum": 0, "maximum": 0x1FF},
        loose="whether a number without quotes is written in hex",
    ),
    values.parse_virt_mode: Kind(
        f"one of {', '.join(values.VIRT_MODES)}", choices=values.VIRT_MODES
    ),
    values.parse_access: Kind(
        f"one of {', '.join(values.ACCESS_LEVELS)}",
        pattern=_padded(
            _any_case(dict.fromkeys((*values.ACCESS_LEVELS, *_BOOL_WORDS, "full", "none")))
        ),
        takes_boolean=True,
        choices=(),
    ),
    values.parse_rlimit: Kind(
        "one number, or soft and hard, each perhaps unlimited: 1024 2048",
        "",
        _padded(rf"{_BOUND}(?:[ \t\n\r\f\v]+{_BOUND})?"),
        {"minimum": -1, "maximum": _MAX},
        loose="whether the soft limit is over the hard one",
    ),
    values.check_argument: Kind(
        "a text", pattern=_ARGUMENT, number=_ANY_NUMBER, takes_boolean=True
    ),
    values.parse_command: Kind(
        "one string, split by Porto: quotes and $VARIABLES, no pipes or redirects",
        pattern=_COMMAND,
        number=_ANY_NUMBER,
        takes_boolean=True,
        loose="how long it is",
    ),
    values.parse_block: Kind(
        "a text of any lines",
        pattern=rf"^[ \t\n]*[^ \t\n{_UNSEEN}][^{_UNSEEN}]*$",
        number=_ANY_NUMBER,
        takes_boolean=True,
    ),
    values.parse_line: Kind("a line of text", "", _LINE, _ANY_NUMBER, takes_boolean=True),
    values.parse_words: Kind("words", "", _WORDS, _ANY_NUMBER, takes_boolean=True),
    values.parse_path: Kind("an absolute path", pattern=_PATH),
    values.parse_stream: Kind("an absolute path", pattern=_STREAM),
    values.parse_user: Kind(
        "a name or a number",
        "",
        _padded(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}\$?|0|[1-9][0-9]{0,9}"),
        {"multipleOf": 1, "minimum": 0, "maximum": 2**31 - 1},
        takes_boolean=True,
        loose="whether there is such a user; the range of a number in quotes",
    ),
    values.parse_hostname: Kind(
        "a host name",
        "",
        _padded(rf"(?=.{{1,64}}{_SPACE}$){_LABEL}(?:\.{_LABEL})*"),
        {"minimum": 0},
        takes_boolean=True,
    ),
    values.parse_cpu_set: Kind(
        "CPUs such as 0-3,8, or node 0, jail 4, inherit",
        "",
        _padded(rf"(?:{values.CPU_SET.pattern})(?:[ \t]*;[ \t]*(?:{values.CPU_SET.pattern}))*"),
        {"multipleOf": 1, "minimum": 0, "maximum": 9999},
        loose="ranges that run backwards, and CPUs beside a jail",
    ),
    values.parse_bind: Kind(
        "SOURCE TARGET [FLAG,…], such as /data /data ro",
        "",
        _padded(
            rf"/{_BIND_WORD}*[ ]+{_BIND_WORD}+"
            rf"(?:[ ]+(?:{_one_of(values.BIND_FLAGS)})(?:,(?:{_one_of(values.BIND_FLAGS)}))*)?"
        ),
    ),
    values.parse_device: Kind(
        "/dev/NAME and some of rwm-?, such as /dev/fuse rw, or preset NAME",
        "",
        _padded(
            r"preset[ ]+[^ ;\t\n]+"
            r"|(?![^ ]*/\.\.(?:/| ))/dev/[^ ;\t\n]+[ ]+[rwm?*-]+(?:[ ]+[^ ;\t\n]+){0,4}"
        ),
    ),
    values.parse_net: Kind(
        f"one of {', '.join(values.NET_OPTIONS)}, and what goes with it",
        "",
        _padded(
            "|".join(
                rf"{re.escape(word)}(?:[ ]+[^ ;\t\n]+){{{low},{high}}}"
                for word, (low, high) in values.NET_OPTIONS.items()
            )
        ),
        loose="what goes together",
    ),
    values.parse_interface_ip: Kind(
        "INTERFACE ADDRESS, such as eth0 192.0.2.1",
        "",
        _padded(rf"[^ ;\t\n]+[ ]+{_ADDRESS}"),
        loose="whether the address is one",
    ),
    values.parse_ip_limit: Kind(
        "any, none, or an address",
        "",
        _padded(rf"any|none|{_ADDRESS}"),
        loose="whether the address is one",
    ),
    values.parse_capability: Kind("a capability without CAP_", choices=values.CAPABILITIES),
    values.parse_env: Kind(
        "a text", "", r"^(?:(?![ \t\n])[^\u0000]*[^ \t\n\u0000])?$", _ANY_NUMBER, takes_boolean=True
    ),
    values.parse_label: Kind(
        "1 to 256 letters, digits and _-@:.",
        "",
        _whole(rf"[{names.NAME_ALPHABET}]{{1,256}}"),
        _ANY_NUMBER,
        takes_boolean=True,
    ),
    values.parse_mapped: Kind("a line without : ; [ ] \\", "", _MAPPED, _ANY_NUMBER, True),
    # Keys of maps.
    values.check_env_name: Kind("a variable's name", pattern=_whole(_ENV_NAME)),
    values.check_ulimit: Kind("a resource", choices=values.ULIMITS),
    values.check_controller: Kind("a controller", choices=values.CONTROLLERS),
    values.check_index: Kind("a disk, path, interface or class", pattern=_MAPPED),
    values.check_label: Kind(
        "PREFIX.name",
        pattern=_whole(
            rf"(?!HOSTMAN\.|PORTO)(?=.{{1,128}}$)[A-Z]{{2,16}}\.[{names.NAME_ALPHABET}]+"
        ),
    ),
    values.check_sysctl: Kind(
        "a sysctl such as net.ipv4.ip_forward",
        pattern=_whole(
            r"net(?:[./][A-Za-z0-9_-]+)+|"
            + "|".join(name.replace(".", "[./]") for name in values.SYSCTLS)
        ),
    ),
    str: Kind("a text", "", r"^[^\u0000]*$", _ANY_NUMBER, takes_boolean=True),
    # A daemon's.
    daemon.check_kind: Kind(daemon.KIND, choices=(daemon.KIND,)),
    daemon.check_version: Kind(
        "a line of at most 200 characters, in quotes", pattern=_LINE, more={"maxLength": 200}
    ),
    daemon.check_exact_version: Kind(
        "a Debian version as dpkg -l shows it, in quotes",
        pattern=_whole(rf"(?![^\n]*\+$)(?:{names.VERSION.pattern})"),
        more={"maxLength": names.MAX_VERSION},
    ),
    names.check_package_name: Kind(
        "a Debian package, perhaps with :ARCH",
        pattern=_whole(rf"(?![^\n]*:any$)(?:{names.PACKAGE.pattern})"),
    ),
    names.check_daemon_name: Kind(
        "1 to 100 letters, digits and _-@:.",
        pattern=_whole(
            rf"(?!-|{re.escape(names.REHEARSAL_PREFIX)}|\.{{1,2}}$|self$)[{names.NAME_ALPHABET}]+"
        ),
        more={"maxLength": names.MAX_DAEMON_NAME},
    ),
    behaviour.check_url_path: Kind(
        "a path such as /health", pattern=r'^/[!"$-~]*$', more={"maxLength": 1000}
    ),
    behaviour.check_path: Kind(
        "an absolute path", pattern=r"^(?!(?:[^\n]*/)?\.\.(?:/|$))/(?:[^\n]*[^\s])?$"
    ),
    behaviour.check_state: Kind(
        "a path below a daemon's own directory",
        pattern=r"^(?!(?:[^\n]*/)?\.\.(?:/|$))/[^/\n]*/[^\n]*[^\s/]/*$",
        loose="slashes beside each other",
    ),
    behaviour.parse_signal: Kind(
        "a signal such as SIGHUP",
        choices=tuple(
            word for name in behaviour.SIGNALS for word in (name, name.removeprefix("SIG"))
        ),
    ),
    # A rule's.
    rule_file.check_kind: Kind(rule_file.KIND, choices=(rule_file.KIND,)),
    rule_file.parse_switch: _boolean(),
    rule_file.parse_rule_name: Kind(
        "porto-daemon-NAME: 1 to 200 letters, digits and _-@:.",
        pattern=_whole(rf"(?!\.{{1,2}}$)[{names.NAME_ALPHABET}]+"),
        more={"maxLength": 200},
    ),
    rule_file.parse_zone: Kind(
        "a time zone such as Europe/Moscow",
        pattern=_whole(rule_file.ZONE.pattern),
        loose="whether there is such a zone",
    ),
    rule_file.parse_fact: Kind(
        "a line without commas, at most 250 characters",
        pattern=rf"^(?! )[^,\t\n{_UNSEEN}]*[^ ,\t\n{_UNSEEN}]$",
        more={"maxLength": 250},
    ),
    rule_file.parse_days: Kind(
        f"{', '.join(DAYS)}, or a span such as mon-fri", pattern=_whole(f"{_DAY}(?:-{_DAY})?")
    ),
    rule_file.parse_start: Kind(
        "HH:MM",
        "",
        _whole("(?:[01][0-9]|2[0-3]):[0-5][0-9]"),
        # To readers of YAML 1.1 an unquoted 10:00 is ten times sixty.
        {"multipleOf": 1, "minimum": 0, "maximum": 1439},
        loose="whether 600 is 10:00 as a reader of YAML 1.1 has it",
    ),
    rule_file.parse_minute: Kind(
        "HH:MM, up to 24:00",
        "",
        _whole("(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00"),
        {"multipleOf": 1, "minimum": 0, "maximum": 1440},
        loose="whether 600 is 10:00 as a reader of YAML 1.1 has it",
    ),
    rule_file.parse_date: Kind(
        "YYYY-MM-DD HH:MM or YYYY-MM-DD",
        pattern=_whole(rf"{_DATE}(?: (?:[01][0-9]|2[0-3]):[0-5][0-9])?"),
        may_be_date=True,
        loose="whether the month has that day",
    ),
    # Settings.
    settings.parse_path: Kind("a path", "", rf"^[^\t\n{_UNSEEN}]+$", _ANY_NUMBER, True),
    settings.parse_notify_dir: Kind(
        "a path of at most 43 bytes, without blanks and semicolons",
        pattern=rf"^[^ ;\t\n{_UNSEEN}]+$",
        more={"maxLength": 43},
        loose="bytes of what is not ASCII",
    ),
    settings.parse_socket: Kind(
        "a path of at most 107 bytes",
        pattern=rf"^[^\t\n{_UNSEEN}]+$",
        more={"maxLength": 107},
        loose="bytes of what is not ASCII",
    ),
    settings.parse_switch: Kind(
        "true or false", pattern=_whole(_any_case(_BOOL_WORDS)), takes_boolean=True
    ),
    settings.parse_word: Kind(
        "a line of at most 250 characters",
        "",
        rf"^[^\t\n{_UNSEEN}]*$",
        _ANY_NUMBER,
        takes_boolean=True,
        more={"maxLength": 250},
    ),
    settings.parse_hostname: Kind(
        "a host name",
        "",
        r"^[A-Za-z0-9_.:-]+$",
        {"minimum": 0},
        takes_boolean=True,
        more={"maxLength": 253},
    ),
    settings.parse_read_group: Kind(
        "a group's name, or nothing",
        pattern=_whole(r"(?:[A-Za-z_][A-Za-z0-9_.-]{0,30}\$?)?"),
        takes_boolean=True,
    ),
    settings.parse_url: Kind(
        "a URL such as http://localhost:9093/",
        pattern=_whole(_URL),
        loose="whether its port is one",
    ),
    settings.parse_url_or_nothing: Kind(
        "a URL such as http://localhost:9093/, or nothing",
        pattern=_whole(f"(?:{_URL})?"),
        loose="whether its port is one",
    ),
    settings.parse_tag: Kind(
        "1 to 128 letters, digits and -_.@/",
        "",
        r"^[A-Za-z0-9_.@/-]{1,128}$",
        {"minimum": 0},
        takes_boolean=True,
    ),
    settings.parse_gate_type: Kind(
        f"one of {', '.join(settings.GATE_TYPES)}", choices=settings.GATE_TYPES
    ),
    settings.parse_prefix: Kind(
        "a prefix of keys such as /orly/",
        "",
        r"^(?:/?[A-Za-z0-9._-]+)(?:/[A-Za-z0-9._-]+)*/?$",
        {"minimum": 0},
        takes_boolean=True,
        more={"maxLength": 250},
    ),
    settings.parse_fact: Kind(
        "a line without commas, at most 250 characters",
        "",
        rf"^[^,\t\n{_UNSEEN}]+$",
        _ANY_NUMBER,
        takes_boolean=True,
        more={"maxLength": 250},
    ),
    settings.parse_group: Kind(
        "letters, digits, dots and dashes", "", r"^[A-Za-z0-9.-]+$", _ANY_NUMBER, True
    ),
}

# -- kinds with bounds ---------------------------------------------------------------------------

_QUOTED_RANGE = "the range of a number in quotes"


def _integer(low: int, high: int) -> Kind:
    sign = "[+-]?" if low < 0 else r"(?:\+|-(?=0))?"
    return Kind(
        f"a whole number from {low} to {high}" if high < _MAX else f"a whole number from {low} on",
        "",
        _padded(rf"{sign}(?:0|[1-9][0-9]{{0,19}})"),
        {"multipleOf": 1, "minimum": low, "maximum": high},
        loose=f"{_QUOTED_RANGE}; that 1.0 is no whole number",
    )


def _digits(low: int, high: int) -> Kind:
    return Kind(
        f"a whole number from {low} to {high}",
        "",
        "^[0-9]+$",
        {"multipleOf": 1, "minimum": low, "maximum": high},
        loose=f"{_QUOTED_RANGE}; that 1.0 is no whole number",
    )


def _real(low: str, high: str) -> Kind:
    return Kind(
        f"a number from {low} to {high}",
        "",
        _padded(_NUMBER),
        {"minimum": float(low), "maximum": float(high)},
        loose=_QUOTED_RANGE,
    )


def _choice(choices: tuple[str, ...]) -> Kind:
    return Kind(f"one of {', '.join(choices)}", choices=choices)


def _span(low_s: int = 0) -> Kind:
    low = rule_file.show_duration(low_s)
    return Kind(
        f"whole numbers with d, h, m, s, such as 1h30m; {low} to 30d",
        "d, h, m, s",
        _whole(_DURATION),
        loose="the range of a time",
    )


_WITH_BOUNDS: Mapping[Parser, Callable[..., Kind]] = {
    values.parse_integer: _integer,
    behaviour.parse_whole: _integer,
    rule_file.parse_count: partial(_integer, low=1, high=rule_file.MAX_COUNT),
    settings.parse_count: _digits,
    values.parse_real: _real,
    behaviour.parse_number: _real,
    values.parse_choice: _choice,
    rule_file.parse_duration: _span,
}


def list_kinds() -> list[tuple[str, Parser, Kind]]:
    """Every parser with its kind, by a name; those with bounds with bounds of our own."""
    bounds: Mapping[Parser, Mapping[str, Any]] = {
        _integer: {"low": -5, "high": 1000},
        _digits: {"low": 1, "high": 64},
        _real: {"low": "0.1", "high": "60"},
        _choice: {"choices": ("one", "other")},
    }
    found = [(parse.__name__, parse, kind) for parse, kind in _KINDS.items()]
    for parse, make in _WITH_BOUNDS.items():
        known = bounds.get(make, {})
        found.append((parse.__name__, partial(parse, **known), make(**known)))
    return found
