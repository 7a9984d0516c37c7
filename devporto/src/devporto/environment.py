"""The environment Porto gives to a container's command."""

from __future__ import annotations

import hashlib
import secrets
import socket
from collections.abc import Mapping

from devporto.containers import Container
from devporto.refusal import make_invalid
from devporto.users import UserBook
from devporto.values import merge_list, split_list

Variables = dict[str, "str | None"]
"""None for a variable that shall not be set."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def parse_variables(text: str) -> Variables:
    """`A=1;B` -> {"A": "1", "B": None}."""
    pairs = (word.partition("=") for word in split_list(text, ";"))
    return {name: value if equals else None for name, equals, value in pairs}


def format_variables(variables: Mapping[str, str | None]) -> str:
    words = (name if value is None else f"{name}={value}" for name, value in variables.items())
    return merge_list(words, ";")


def hide_variables(variables: Mapping[str, str | None]) -> Variables:
    """Secrets read back as a salted digest."""
    return {name: value if value is None else _hide(value) for name, value in variables.items()}


def _hide(value: str) -> str:
    salt = secrets.token_hex(8)
    # The form is portod's; nobody trusts this digest here.
    digest = hashlib.md5((salt + value).encode(), usedforsecurity=False).hexdigest()
    return f"<secret salt={salt} md5={digest}>"


def find_variable(variables: Mapping[str, str | None], name: str) -> str:
    """Look a variable up. Raises Refusal(InvalidValue) where it is not set."""
    value = variables.get(name)
    if value is None:
        raise make_invalid(f"Environment variable {name} not defined")
    return value


def list_environment(container: Container, users: UserBook) -> Variables:
    """All variables; settings of the container win over those of the ancestors it shares with."""
    locked: Variables = {
        "PORTO_NAME": container.name,
        "PORTO_HOST": socket.gethostname(),
        "PORTO_USER": users.describe_user(container.owner),
    }
    base: Variables = {
        "PATH": _PATH,
        "HOME": container.find_cwd(),
        "USER": users.describe_user(container.task),
        "container": "lxc",
        **locked,
    }
    inherited: Variables = {}
    for one in list(container.ancestors())[1:] if not container.isolate else ():
        for name, value in _list_own(one).items():
            inherited.setdefault(name, value)
        if one.isolate:
            break
    # What an ancestor sets never replaces what is there already, the defaults included.
    return {**inherited, **base, **_list_own(container), **locked}


def _list_own(container: Container) -> Variables:
    env: Variables = container.values.get("env", {})
    secret: Variables = container.values.get("env_secret", {})
    return {**env, **secret}
