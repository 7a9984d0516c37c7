"""Check the texts that portod takes as they are: paths, names, mounts, networks. Pure.

The same promise as in `values`: the text for portod, or a ValueError with "what is wrong; what
would be right". portod strips blanks at both ends of every value, so they are stripped here first.
"""

from __future__ import annotations

import ipaddress
import re

from ya_salt.porto.values import parse_choice, quote


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAME_ALPHABET = "A-Za-z0-9_@:.-"
"""The characters of container names, label names and label values, as in a regular expression."""

_BIND_FLAGS = _words(
    "ro rw rec dev nodev suid nosuid exec noexec private unbindable noatime nodiratime relatime"
)
_CONTROLLERS = _words(
    "freezer memory cpu cpuacct net_cls blkio devices hugetlb cpuset pids perf_event systemd"
    " cgroup2"
)
_ULIMITS = _words(
    "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending"
    " stack"
)
_CAPABILITIES = _words(
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE"
    " NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO"
    " SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME"
    " SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG"
    " WAKE_ALARM BLOCK_SUSPEND AUDIT_READ"
)
_NET_OPTIONS = _words(
    "inherited none L3 NAT tap ipip6 MTU MAC autoconf ip container netns steal macvlan ipvlan veth"
    " ECN"
)
_CPU_SET = re.compile(
    r"all|inherit|[0-9]{1,4}(?:-[0-9]{1,4})?(?:,[0-9]{1,4}(?:-[0-9]{1,4})?)*"
    r"|(?:node|jail|threads|cores|reserve) [0-9]{1,4}|mems [0-9]{1,4}(?:[,-][0-9]{1,4})*"
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
    if not all(_CPU_SET.fullmatch(part) for part in parts):
        raise ValueError(
            f"{quote(text)} is not a set of CPUs; write e.g. 0-3,8 or node 0 or jail 4 or inherit"
        )
    return "; ".join(parts)


def parse_bind(text: str) -> str:
    """Take `SOURCE TARGET [FLAG,…]`."""
    words = re.split(r"(?<!\\) ", parse_words(text))
    right = "write SOURCE TARGET [FLAG,…], such as /data /data ro"
    if len(words) not in (2, 3) or not words[0].startswith("/"):
        raise ValueError(f"{quote(text)} is not a bind mount; {right}")
    for flag in words[2].split(",") if len(words) == 3 else ():
        if flag not in _BIND_FLAGS:
            raise ValueError(
                f"{quote(flag)} is not a flag of bind; write some of {', '.join(_BIND_FLAGS)}"
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


def parse_net(text: str) -> str:
    line = parse_words(text)
    parse_choice(line.split(" ")[0], _NET_OPTIONS)
    return line


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


def parse_capability(text: str) -> str:
    name = text.strip()
    if name.upper().removeprefix("CAP_") in _CAPABILITIES and name not in _CAPABILITIES:
        right = name.upper().removeprefix("CAP_")
        raise ValueError(f"{quote(name)} is not Porto's spelling; write {right}")
    if name not in _CAPABILITIES:
        raise ValueError(f"{quote(name)} is no capability; see capabilities(7), without CAP_")
    return name


def check_controller(key: str) -> str:
    return parse_choice(key, _CONTROLLERS)


def check_ulimit(key: str) -> str:
    return parse_choice(key, _ULIMITS)


def check_env_name(key: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key, re.ASCII):
        raise ValueError(
            f"{quote(key)} is no variable's name; write letters, digits and '_', no digit first"
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
    return key
