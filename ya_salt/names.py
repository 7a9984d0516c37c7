"""Which names there can be: of daemons, of Debian packages, their versions and architectures. Pure.

The one place for these alphabets: what passes here can be an option of no command, a path of no
file, and is understood by Porto, dpkg and apt. Every `check_*` gives its text back or raises
ValueError, whose text is "what is wrong; what would be right".
"""

from __future__ import annotations

import json
import re

NAME_ALPHABET = "A-Za-z0-9_@:.-"
"""The characters of container names, label names and label values, as in a regular expression."""

REHEARSAL_PREFIX = "ya-salt-rehearsal."
"""Begins the name of a container that exists, stopped and weak, while a spec's values are tried."""

PROBE_CONTAINER = "ya-salt-probe"
"""Inside a daemon's container: the one in which the command of its `readiness` runs."""

MAX_DAEMON_NAME = 100
MAX_VERSION = 200

# Debian policy 5.6.1. A digit or a letter first: nothing can be an option of apt. No minus at the
# end: apt-get(8) reads `foo-` as "remove foo".
_BASE = r"[a-z0-9][a-z0-9+.-]{0,98}[a-z0-9+.]"
_ARCHITECTURE = r"[a-z0-9][a-z0-9-]{0,30}"
PACKAGE = re.compile(rf"{_BASE}(?::{_ARCHITECTURE})?", re.ASCII)
# Debian policy 5.6.12. Neither a minus at the end: apt would read `foo=1.0-` as "remove foo".
VERSION = re.compile(r"(?:[0-9]{1,9}:)?[0-9][A-Za-z0-9.+~]*(?:-[A-Za-z0-9.+~]+)*", re.ASCII)

_OWN = frozenset({"", "all", "native"})
"""Words for "as this host's own packages are": apt knows a package for all machines by these."""


def quote(text: str) -> str:
    """Show a text that somebody wrote on one line, cut after 40 characters."""
    cut = text if len(text) <= 40 else text[:40] + "…"
    quoted = json.dumps(cut, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in quoted)


def check_daemon_name(name: str) -> str:
    """Take a container's name that is no path, no option and nothing special to Porto or to us."""
    if name in (".", "..", "self"):
        raise ValueError(f"{quote(name)} means something else to Porto; choose another name")
    if "/" in name:
        raise ValueError(f"{quote(name)} holds a slash, which nests containers; remove it")
    if not re.fullmatch(f"[{NAME_ALPHABET}]+", name, re.ASCII):
        raise ValueError(
            f"{quote(name)} is not a name for a container; write letters, digits and _-@:."
        )
    if name.startswith("-"):
        raise ValueError(
            f"{quote(name)} begins with '-', as an option of a command does; begin with a letter"
        )
    if name.startswith(REHEARSAL_PREFIX):
        raise ValueError(
            f"{quote(name)} begins with {REHEARSAL_PREFIX}, the name of the containers in which "
            "ya-salt tries a spec's values; choose another name"
        )
    if len(name) > MAX_DAEMON_NAME:
        raise ValueError(f"is longer than {MAX_DAEMON_NAME} characters; shorten it")
    return name


def check_package_name(text: str) -> str:
    """Take NAME or NAME:ARCH."""
    if PACKAGE.fullmatch(text):
        if text.endswith(":any"):
            raise ValueError(f"{quote(text)} names no one architecture; leave :any out")
        return text
    if re.fullmatch(rf"{_BASE}-+(?::{_ARCHITECTURE})?", text, re.ASCII):
        raise ValueError(
            f"{quote(text)} ends with '-', which apt-get takes for \"remove it\"; "
            "rename the package"
        )
    raise ValueError(
        f"{quote(text)} is not a Debian package; write small letters, digits, '+', '-', '.',"
        " a letter or digit first, perhaps :ARCH"
    )


def check_package_version(text: str) -> str:
    if not VERSION.fullmatch(text) or len(text) > MAX_VERSION:
        raise ValueError(
            f"{quote(text)} is not a Debian version; write it as dpkg -l shows it, such as 1:2.3-4"
        )
    return text


def is_package_name(text: str) -> bool:
    """Whether dpkg can have a package of that name."""
    try:
        check_package_name(text)
    except ValueError:
        return False
    return True


def split_architecture(name: str) -> tuple[str, str]:
    """Split NAME:ARCH; the architecture is "" where none is named."""
    base, _, architecture = name.partition(":")
    return base, architecture


def is_own_architecture(architecture: str, native: str) -> bool:
    """Whether packages of this architecture are what a plain NAME means on this host."""
    return architecture in _OWN or architecture == native


def shorten_package_name(name: str, native: str) -> str:
    """Give the one spelling of a package on a host, as apt prints it: `foo` for `foo:amd64` there.

    A foreign architecture is another package and stays in the name.
    """
    base, architecture = split_architecture(name)
    return base if is_own_architecture(architecture, native) else name
