"""Turn what people write into the text that portod keeps. Pure.

Every `parse_*` takes the text of one value and returns the text portod reads back where that can be
known (bytes, `0.5c`, `5000000000ns`), so that two spellings of one value give one digest. Anything
else is a ValueError whose text is "what is wrong; what would be right". The syntaxes are those of
Porto's manual and of its util/string.cpp, without what strtod takes by accident (hex, inf, nan).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache

from ya_salt.names import NAME_ALPHABET, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fractions import Fraction

MIN_MEMORY_LIMIT = 1 << 20
MAX_UINT = (1 << 63) - 1
MAX_CORES = 100_000
MAX_COMMAND_BYTES = 128 * 1024
_NANO = 10**9

_NUMBER = re.compile(
    r"(?P<digits>[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?P<power>[eE][+-]?[0-9]{1,2})?"
    r"[ \t]*(?P<unit>[A-Za-z%]*)",
    re.ASCII,
)
_QUOTED = re.compile(r"""\\.|'[^']*'|"(?:[^"\\]|\\.)*"|\$\(\([^()]*\)\)|\$\{[^{}]*\}""", re.DOTALL)
_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off"})
_SIZE_UNITS = "bkmgtpe"
_NS_PER_UNIT = {
    "s": _NANO,
    "sec": _NANO,
    "ms": 10**6,
    "msec": 10**6,
    "us": 10**3,
    "usec": 10**3,
    "ns": 1,
    "nsec": 1,
}
_UNLIMITED = frozenset({"unlimited", "unlim", "inf", "-1"})


# -- numbers -------------------------------------------------------------------------------------


def parse_bool(text: str) -> str:
    word = text.strip().lower()
    if word in _TRUE:
        return "true"
    if word in _FALSE:
        return "false"
    raise ValueError(f"{quote(text)} is not a boolean; write true or false")


@lru_cache(maxsize=256)
def _split_number(text: str, right: str) -> tuple[Fraction | int, str]:
    """Return the number and its unit; `right` says what would be right."""
    stripped = text.strip()
    if re.match(r"-[0-9.]", stripped):
        raise ValueError(f"{quote(text)} is negative; {right}")
    found = _NUMBER.fullmatch(stripped)
    if found is None:
        raise ValueError(f"{quote(text)} is not a number; {right}")
    digits = found["digits"]
    if len(digits) > 1 and digits[0] == "0" and digits[1] != ".":
        # YAML reads 010 as eight, Porto as ten: nobody can tell what was meant.
        raise ValueError(f"{quote(text)} begins with a zero; write the number without it")
    return _read_number((digits + "0" if "." in digits else digits) + (found["power"] or "")), (
        found["unit"]
    )


def _read_number(text: str) -> Fraction | int:
    """Exactly as it is written. Most are whole, and fractions take a while to load."""
    if text.isdigit():
        return int(text)
    from fractions import Fraction

    return Fraction(text)


def _check_limit(value: int, text: str) -> int:
    if value > MAX_UINT:
        raise ValueError(f"{quote(text)} is too big; write at most {MAX_UINT}")
    return value


def parse_size(text: str) -> str:
    """Bytes; suffixes B, K, M, G, T, P, E count in 1024, with `b`, `B` or `iB` after them."""
    right = "write bytes, or a number with K, M, G, T, P or E, such as 2Gb"
    number, unit = _split_number(text, right)
    if unit and (unit[0].lower() not in _SIZE_UNITS or unit[1:] not in ("", "b", "B", "iB")):
        raise ValueError(f"{quote(text)} has no size unit known to Porto; {right}")
    if unit[:1] in ("b", "B") and len(unit) > 1:
        raise ValueError(f"{quote(text)} has no size unit known to Porto; {right}")
    power = _SIZE_UNITS.index(unit[0].lower()) if unit else 0
    # portod drops the fraction of a byte as well.
    return str(_check_limit(int(number * (1 << 10 * power)), text))


def parse_memory_limit(text: str) -> str:
    """Give a size that portod takes as a limit: 0 (none) or at least 1 MiB."""
    size = int(parse_size(text))
    if 0 < size < MIN_MEMORY_LIMIT:
        raise ValueError(f"{quote(text)} is below 1 MiB, which portod refuses; write at least 1M")
    return str(size)


def _plain(nano: int) -> str:
    whole, rest = divmod(nano, _NANO)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")


def parse_cpu(text: str) -> str:
    """CPU power: `3c` is three cores, `50%` half of the whole host.

    A bare number is a percentage to portod, but three cores to most people who write 3: refused.
    """
    right = "write cores such as 0.5c, or a percentage of the host such as 50%"
    number, unit = _split_number(text, right)
    if not unit and number == 0:
        return "0c"
    if not unit:
        raise ValueError(f"{quote(text)} would be percent of the whole host to Porto; {right}")
    if unit == "%":
        if number > 100:
            raise ValueError(f"{quote(text)} is over the whole host; {right}")
        return _plain(int(number * _NANO))
    if unit not in ("c", "ns"):
        raise ValueError(f"{quote(text)} has no unit of CPU power known to Porto; {right}")
    nano = int(number * _NANO) if unit == "c" else int(number)
    if nano > MAX_CORES * _NANO:
        raise ValueError(f"{quote(text)} is too big; write at most {MAX_CORES}c")
    return _plain(nano) + "c"


def show_cpu(text: str) -> str:
    """Write portod's text so that `parse_cpu` takes it again."""
    return text if text.endswith("c") else f"{text}%"


def _parse_ns(text: str) -> int:
    right = "write a number with s, ms, us or ns, such as 5s"
    number, unit = _split_number(text, right)
    if unit and unit not in _NS_PER_UNIT:
        raise ValueError(f"{quote(text)} has no unit of time known to Porto; {right}")
    ns = _check_limit(int(number * _NS_PER_UNIT.get(unit, 1)), text)
    if not unit and 0 < ns < 10**6:
        raise ValueError(f"{quote(text)} means nanoseconds to Porto; write a unit, e.g. 5s")
    return ns


def parse_duration(text: str) -> str:
    """Take a time span; a bare number is nanoseconds, and under 1 ms surely a mistake."""
    return f"{_parse_ns(text)}ns"


def show_duration(text: str) -> str:
    """Write portod's nanoseconds in the largest unit that holds them whole."""
    ns = int(text.removesuffix("ns"))
    for unit in ("s", "ms", "us"):
        if ns % _NS_PER_UNIT[unit] == 0:
            return f"{ns // _NS_PER_UNIT[unit]}{unit}"
    return text


def parse_cpu_period(text: str) -> str:
    ns = _parse_ns(text)
    if not 10**6 <= ns <= _NANO:
        raise ValueError(f"{quote(text)} is out of Porto's range; write 1ms to 1s")
    return str(ns)


def parse_integer(text: str, low: int, high: int) -> str:
    right = f"write a whole number from {low} to {high}"
    stripped = text.strip()
    if not re.fullmatch(r"[+-]?[0-9]{1,20}", stripped, re.ASCII):
        raise ValueError(f"{quote(text)} is not a whole number; {right}")
    if re.match(r"[+-]?0[0-9]", stripped):
        raise ValueError(f"{quote(text)} begins with a zero; write the number without it")
    if not low <= int(stripped) <= high:
        raise ValueError(f"{quote(text)} is out of range; {right}")
    return str(int(stripped))


def parse_real(text: str, low: str, high: str) -> str:
    """Take a plain number from `low` to `high`, both decimal texts."""
    right = f"write a number from {low} to {high}"
    number, unit = _split_number(text, right)
    if unit:
        raise ValueError(f"{quote(text)} has a unit where none is known; {right}")
    if not _read_number(low) <= number <= _read_number(high):
        raise ValueError(f"{quote(text)} is out of range; {right}")
    return _plain(int(number * _NANO))


def parse_seconds(text: str) -> float:
    """Seconds as a plain number, 0 to a day: ours, not Porto's."""
    return float(parse_real(text, "0", "86400"))


def parse_umask(text: str) -> str:
    stripped = text.strip()
    if not re.fullmatch(r"(?:0o)?[0-7]{1,4}", stripped) or int(stripped, 8) > 0o777:
        raise ValueError(f"{quote(text)} is not a umask; write octal digits such as 022")
    value = int(stripped, 8)
    return f"0{value:o}" if value else "0"


def parse_hex(text: str) -> str:
    stripped = text.strip()
    if not re.fullmatch(r"0x[0-9a-fA-F]{1,8}", stripped) or int(stripped, 16) > 0x1FF:
        raise ValueError(f"{quote(text)} is not a filter; write hex from 0x0 to 0x1ff")
    return f"0x{int(stripped, 16):x}"


# -- words out of a list -------------------------------------------------------------------------


def parse_choice(text: str, choices: tuple[str, ...]) -> str:
    if text in choices:
        return text
    raise ValueError(f"{quote(text)} is not known; write one of {', '.join(choices)}")


VIRT_MODES = ("app", "os", "host", "docker", "fuse")


def parse_virt_mode(text: str) -> str:
    if text == "job":
        raise ValueError(
            "job is for containers inside another one, which a daemon's is not;"
            f" write one of {', '.join(VIRT_MODES)}"
        )
    return parse_choice(text, VIRT_MODES)


ACCESS_LEVELS = (
    *("false", "read-isolate", "read-only", "isolate", "self-isolate", "child-only", "true"),
)


def parse_access(text: str) -> str:
    """Take a level of access to Porto, which reads `none` back as false and `full` as true."""
    word = text.strip().lower()
    if word in _TRUE | {"full"}:
        return "true"
    if word in _FALSE | {"none"}:
        return "false"
    return parse_choice(word, ACCESS_LEVELS)


def parse_rlimit(text: str) -> str:
    """Give `SOFT HARD`, each a size or `unlimited`; one value is both."""
    words = text.split()
    if len(words) not in (1, 2):
        raise ValueError(
            f"{quote(text)} is not a limit; write one number, or soft and hard, such as 1024 2048"
        )
    soft, hard = (_parse_bound(word) for word in (words[0], words[-1]))
    if hard != "unlimited" and (soft == "unlimited" or int(soft) > int(hard)):
        raise ValueError(f"{quote(text)} has its soft limit over its hard limit; swap them")
    return f"{soft} {hard}"


def _parse_bound(word: str) -> str:
    return "unlimited" if word.lower() in _UNLIMITED else parse_size(word)


# -- commands ------------------------------------------------------------------------------------


def parse_argv(items: tuple[str, ...]) -> str:
    r"""Join arguments the way portod does: by tabs, with `\` doubled; it reads them back as sent.

    The items must have passed `check_argument`.
    """
    joined = "\t".join(item.replace("\\", "\\\\") for item in items)
    if len(joined.encode()) > MAX_COMMAND_BYTES:
        raise ValueError("the command is over 131072 bytes, which portod refuses; shorten it")
    return joined


def check_argument(item: str) -> str:
    """Refuse what `command_argv` would silently change: tabs separate, ends are trimmed."""
    if "\t" in item:
        raise ValueError(
            "holds a tab, which separates arguments in Porto; remove it, or read it from a file"
        )
    if not item:
        raise ValueError("is an empty argument, which portod drops; leave it out")
    if item != item.strip(" \n"):
        raise ValueError("begins or ends with a blank, which portod strips; remove the blank")
    return item


def parse_command(text: str) -> str:
    """One string for Porto's wordexp(3): no pipes, lists or redirects outside quotes."""
    command = text.strip(" \t\n")
    if not command:
        raise ValueError("is empty; write the command")
    if len(command.encode()) > MAX_COMMAND_BYTES:
        raise ValueError("is over 131072 bytes, which portod refuses; shorten it")
    unquoted, is_open = _strip_quotes(command)
    if is_open:
        raise ValueError("has a quote that is not closed; close it, or give cmd as a list")
    if unquoted.endswith("\\"):
        raise ValueError("ends with a backslash that quotes nothing; remove it")
    if _substitutes(command):
        raise ValueError(
            "holds `…` or $(…), which Porto refuses: it runs no command for a word;"
            " give cmd as a list, or run sh -c '…' in single quotes"
        )
    bad = re.search(r"[;|&<>\n(){}]", unquoted)
    if bad:
        raise ValueError(
            f"holds {quote(bad[0])} outside quotes, which Porto refuses: it is no shell;"
            " give cmd as a list, or run sh -c"
        )
    return command


def _strip_quotes(command: str) -> tuple[str, bool]:
    """Return what stands outside quotes, and whether a quote stays open.

    Sums and `${NAME}` are left out as well.
    """
    rest = _QUOTED.sub("", command)
    return rest, "'" in rest or '"' in rest


def _substitutes(command: str) -> bool:
    """Whether the output of a command is to become a word; between single quotes it is no such."""
    spoken = re.sub(
        r"""(?:\\.|"(?:[^"\\]|\\.)*"|[^'\\"])+|'[^']*'""",
        lambda found: "" if found[0].startswith("'") else found[0],
        command,
        flags=re.DOTALL,
    )
    return bool(re.search(r"`|\$\((?!\()", re.sub(r"\\.", "", spoken, flags=re.DOTALL)))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# -- lines, paths, users -------------------------------------------------------------------------

BIND_FLAGS = _words(
    "ro rw rec dev nodev suid nosuid exec noexec private unbindable noatime nodiratime relatime"
)
CONTROLLERS = _words(
    "freezer memory cpu cpuacct net_cls blkio devices hugetlb cpuset pids perf_event systemd"
    " cgroup2"
)
ULIMITS = _words(
    "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending"
    " stack"
)
CAPABILITIES = _words(
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE"
    " NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO"
    " SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME"
    " SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG"
    " WAKE_ALARM BLOCK_SUSPEND AUDIT_READ"
)
_NET_ALONE = {"inherited": (0, 0), "none": (0, 0), "host": (0, 0)}
_NET_KINDS = {
    "L3": (0, 3),
    "NAT": (0, 1),
    "tap": (1, 1),
    "ipip6": (3, 3),
    "container": (1, 1),
    "netns": (1, 1),
    "steal": (1, 1),
    "macvlan": (2, 5),
    "ipvlan": (2, 4),
    "veth": (2, 4),
}
_NET_ADDITIONS = {"MTU": (2, 2), "MAC": (2, 2), "autoconf": (1, 1), "ip": (1, 99), "ECN": (0, 1)}
NET_OPTIONS = {**_NET_ALONE, **_NET_KINDS, **_NET_ADDITIONS}
"""Porto's word for a network -> how many more words it takes, at least and at most."""

_NET_OPTIONS_ONLY = frozenset({"MTU", "MAC", "autoconf", "ECN"})
_NET_SHARED = {
    **dict.fromkeys(("inherited", "host", "tap"), "parent"),
    **{"container": "container", "netns": "netns"},
}
"""Porto's words for networks that are not made for the container -> whose they are."""

SYSCTLS = (
    *(f"fs.mqueue.{name}" for name in _words("queues_max msg_max msgsize_max")),
    *(f"fs.mqueue.{name}" for name in _words("msg_default msgsize_default")),
    *(f"kernel.{name}" for name in _words("shmmax shmall shmmni shm_rmid_forced")),
    *(f"kernel.{name}" for name in _words("msgmax msgmni msgmnb sem")),
)
"""Beside those of the network."""

CPU_SET = re.compile(
    r"all|inherit|[0-9]{1,4}(?:-[0-9]{1,4})?(?:,[0-9]{1,4}(?:-[0-9]{1,4})?)*"
    r"|node [0-9]{1,4}|jail [1-9][0-9]{0,3}|mems [0-9]{1,4}(?:[,-][0-9]{1,4})*"
)


def parse_block(text: str) -> str:
    """Any text of several lines."""
    stripped = text.strip(" \t\n")
    if not stripped:
        raise ValueError("is empty; write a value or leave the field out")
    if any(not (c.isprintable() or c in "\n\t") for c in stripped):
        raise ValueError("holds a character that cannot be seen; remove it")
    return stripped


def parse_line(text: str) -> str:
    """Any text of one line."""
    line = parse_block(text)
    if "\n" in line or "\t" in line:
        raise ValueError("holds a line break or a tab; write it on one line with spaces")
    return line


def parse_words(text: str) -> str:
    """Words between single spaces; `;` would begin another entry of the list."""
    line = " ".join(parse_line(text).split())
    if ";" in line:
        raise ValueError(f"{quote(line)} holds a semicolon; write one entry an item")
    return line


def parse_path(text: str) -> str:
    path = parse_line(text)
    if not path.startswith("/"):
        raise ValueError(f"{quote(path)} is not an absolute path; begin it with a slash")
    if ".." in path.split("/"):
        raise ValueError(f"{quote(path)} holds '..'; write the path without it")
    return path


def parse_stream(text: str) -> str:
    """Take a file for stdin, stdout or stderr."""
    path = parse_path(text)
    if re.match(r"/dev/fd(/|$)|/proc/self(/|$)|/dev/std(in|out|err)$", path):
        raise ValueError(
            f"{quote(path)} would be a file of ya-salt itself; name a file of your own"
        )
    return path


def parse_user(text: str) -> str:
    """Take a user's or group's name, or its number."""
    name = text.strip()
    if re.fullmatch(r"[0-9]{1,10}", name, re.ASCII):
        if int(name) > 2**31 - 1 or (len(name) > 1 and name[0] == "0"):
            raise ValueError(f"{quote(name)} is not a user or group number; write 0 to 2147483647")
        return name
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}\$?", name, re.ASCII):
        raise ValueError(
            f"{quote(name)} is not a user or group name;"
            " write letters, digits, '_', '.', '-', at most 32, a letter first"
        )
    return name


def parse_hostname(text: str) -> str:
    name = text.strip()
    label = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
    if len(name) > 64 or not re.fullmatch(rf"{label}(?:\.{label})*", name, re.ASCII):
        raise ValueError(
            f"{quote(name)} is not a host name; write letters, digits, '-' and '.', at most 64"
        )
    return name


def parse_cpu_set(text: str) -> str:
    parts = [" ".join(part.split()) for part in parse_line(text).split(";")]
    if not all(CPU_SET.fullmatch(part) for part in parts):
        raise ValueError(
            f"{quote(text)} is not a set of CPUs; write e.g. 0-3,8 or node 0 or jail 4 or inherit"
        )
    for low, high in re.findall(r"([0-9]+)-([0-9]+)", text):
        if int(low) > int(high):
            raise ValueError(f"{quote(f'{low}-{high}')} runs backwards; write {high}-{low}")
    kinds = {part.split(" ")[0] for part in parts}
    if "jail" in kinds and kinds - {"jail", "mems", "node", "all", "inherit"}:
        raise ValueError(f"{quote(text)} names CPUs beside a jail; write jail alone or with a node")
    return "; ".join(parts)


def parse_bind(text: str) -> str:
    """Take `SOURCE TARGET [FLAG,…]`."""
    words = re.split(r"(?<!\\) ", parse_words(text))
    right = "write SOURCE TARGET [FLAG,…], such as /data /data ro"
    if len(words) not in (2, 3) or not words[0].startswith("/"):
        raise ValueError(f"{quote(text)} is not a bind mount; {right}")
    for flag in words[2].split(",") if len(words) == 3 else ():
        if flag not in BIND_FLAGS:
            raise ValueError(
                f"{quote(flag)} is not a flag of bind; write some of {', '.join(BIND_FLAGS)}"
            )
    return " ".join(words)


def parse_device(text: str) -> str:
    """Take `/dev/NAME ACCESS [PATH] [MODE] [USER] [GROUP]` or `preset NAME`."""
    words = parse_words(text).split(" ")
    if words[0] == "preset" and len(words) == 2:
        return " ".join(words)
    is_device = words[0].startswith("/dev/") and ".." not in words[0].split("/")
    if not is_device or not 2 <= len(words) <= 6 or not re.fullmatch(r"[rwm?*-]+", words[1]):
        raise ValueError(
            f"{quote(text)} is not a device; write /dev/NAME and some of rwm-?, e.g. /dev/fuse rw"
        )
    return " ".join(words)


def is_node_only(devices: str) -> bool:
    """Whether nobody may read or write these devices: then there is nothing to control."""
    accesses = [entry.partition(" ")[2].partition(" ")[0] for entry in devices.split(";")]
    return all("m" in access and not {"r", "w"} & {*access} for access in accesses)


# -- the network ---------------------------------------------------------------------------------


def parse_net(text: str) -> str:
    """Take one entry of `net`: Porto's word, and as many more as go with it."""
    line = parse_words(text)
    word, *rest = line.split(" ")
    low, high = NET_OPTIONS[parse_choice(word, tuple(NET_OPTIONS))]
    if low <= len(rest) <= high:
        return line
    if word in _NET_ALONE:
        raise ValueError(f"{quote(line)} says more than {word}; write {word} alone")
    examples = {"container": "the container's name", "netns": "the namespace's name"}
    missing = examples.get(word, "what it needs, such as L3 veth or macvlan eth0 eth0")
    what = "too few words" if len(rest) < low else "too many words"
    raise ValueError(f"{quote(line)} has {what} for Porto; write {word} and {missing}")


def check_net_together(entries: Sequence[str]) -> str:
    """Say why portod refuses these entries of `net` beside each other, or ""."""
    words = [entry.split(" ")[0] for entry in entries]
    alone = [word for word in words if word in _NET_ALONE]
    if alone and len(words) > 1:
        return f"has {alone[0]} beside other entries; write {alone[0]} alone, or leave it out"
    if words and all(word in _NET_ADDITIONS for word in words):
        return f"has {words[0]} but no network; name one as well, such as L3 veth"
    kinds = {_NET_SHARED.get(word, "own"): word for word in words if word not in _NET_OPTIONS_ONLY}
    if len(kinds) > 1:
        return f"has {' beside '.join(kinds.values())}; a container has one network, keep one"
    return ""


def has_own_net(net: str) -> bool:
    """Whether a container with this `net` has a network that portod may set up: not another's."""
    words = [entry.split(" ")[0] for entry in net.split(";")]
    return not any(_NET_SHARED.get(word) in {"parent", "container"} for word in words)


def has_class(net: str) -> bool:
    """Whether portod makes classes of traffic for this `net`."""
    return net not in ("inherited", "host", "none")


def parse_interface_ip(text: str) -> str:
    """Take `INTERFACE IP[/PREFIX]`."""
    words = parse_words(text).split(" ")
    if len(words) != 2:
        raise ValueError(f"{quote(text)} is not INTERFACE IP; write e.g. eth0 192.0.2.1")
    return f"{words[0]} {_parse_ip(words[1])}"


def parse_ip_limit(text: str) -> str:
    word = parse_words(text)
    return word if word in ("any", "none") else _parse_ip(word)


def _parse_ip(word: str) -> str:
    try:
        ipaddress.ip_interface(word)
    except ValueError:
        raise ValueError(
            f"{quote(word)} is not an address; write e.g. 192.0.2.1 or 2001:db8::1/64"
        ) from None
    return word


# -- entries of lists and maps -------------------------------------------------------------------


def parse_capability(text: str) -> str:
    name = text.strip()
    if name.upper().removeprefix("CAP_") in CAPABILITIES and name not in CAPABILITIES:
        right = name.upper().removeprefix("CAP_")
        raise ValueError(f"{quote(name)} is not Porto's spelling; write {right}")
    if name not in CAPABILITIES:
        raise ValueError(f"{quote(name)} is not a capability; see capabilities(7), without CAP_")
    return name


def check_controller(key: str) -> str:
    return parse_choice(key, CONTROLLERS)


def check_ulimit(key: str) -> str:
    return parse_choice(key, ULIMITS)


def check_env_name(key: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key, re.ASCII):
        raise ValueError(
            f"{quote(key)} is not a variable's name; write letters, digits and '_', no digit first"
        )
    return key


def parse_env(text: str) -> str:
    """Take the value of a variable. Errors never show it: it may be a secret."""
    if text != text.strip(" \t\n"):
        raise ValueError("begins or ends with a blank, which portod strips; remove the blank")
    return text


def check_label(key: str) -> str:
    if key.startswith("HOSTMAN."):
        raise ValueError("labels under HOSTMAN are set by ya-salt; choose another prefix")
    if key.startswith("PORTO"):
        raise ValueError("prefixes that begin with PORTO are Porto's own; choose another prefix")
    if len(key) > 128 or not re.fullmatch(rf"[A-Z]{{2,16}}\.[{NAME_ALPHABET}]+", key, re.ASCII):
        raise ValueError(
            f"{quote(key)} is not a label; write PREFIX.name: 2 to 16 capitals, a dot, then"
            " letters, digits and _-@:. (at most 128)"
        )
    return key


def parse_label(text: str) -> str:
    if not re.fullmatch(rf"[{NAME_ALPHABET}]{{1,256}}", text, re.ASCII):
        raise ValueError(
            f"{quote(text)} is not a label's value; write 1 to 256 letters, digits and _-@:."
        )
    return text


def check_index(key: str) -> str:
    """Take the key of a limit by disk, path or interface. Its punctuation is Porto's own."""
    return parse_mapped(key)


def parse_mapped(text: str) -> str:
    """Take a text that portod writes to disk between `:` and `;` without escaping."""
    line = " ".join(parse_line(text).split())
    bad = re.search(r"[;:\\\[\]]", line)
    if bad:
        raise ValueError(f"{quote(line)} holds {quote(bad[0])}, which Porto loses; remove it")
    return line


def check_sysctl(key: str) -> str:
    if not re.fullmatch(r"[a-z0-9_]+(?:[./][A-Za-z0-9_-]+)+", key, re.ASCII):
        raise ValueError(f"{quote(key)} is not a sysctl; write e.g. net.ipv4.ip_forward")
    # portod knows them by dots alone.
    name = key.replace("/", ".")
    if not name.startswith("net.") and name not in SYSCTLS:
        raise ValueError(
            f"{quote(key)} is not one that portod sets for a container;"
            f" leave it out, or set net.… or one of {', '.join(SYSCTLS)}"
        )
    return name
