"""Ask whoever reads the daemons' sockets (`readiness.notify`) what they have said. Decides nothing.

That is the agent's drainer; without an agent there is none, and a daemon that counts on being heard
is not started.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ya_salt.model import DaemonSpec
from ya_salt.names import quote
from ya_salt.processes import read_start
from ya_salt.quick_dataclass import replace
from ya_salt.specs.digest import make_digest
from ya_salt.specs.sockets import is_notify, list_properties
from ya_salt.told import Told, decode
from ya_salt.trusted_files import explain, find_peer_problem

NO_AGENT = "NoAgent"
"""The reason of a daemon that is not started, as nobody would hear what it says."""

_TIMEOUT_S = 5.0
_MAX_ANSWER = 1 << 17
_AT_ONCE = 200
_REMEDY = "start it (systemctl start ya-salt, or ya-salt run), or ask by exec, tcp or http"


class ListeningError(Exception):
    """Nobody reads the sockets, or does not say what he read; the text says why."""


class NotAllowedError(ListeningError):
    """Who asks may not know."""


def put_socket(spec: DaemonSpec, notify_dir: str) -> DaemonSpec:
    """The spec with its socket where this host's settings say."""
    if not is_notify(spec):
        return spec
    texts = list_properties(spec.name, spec.properties, spec.readiness, notify_dir)
    if texts == spec.properties:
        return spec
    digest = make_digest(spec.name, texts, spec.packages)
    return replace(spec, properties=MappingProxyType(texts), digest=digest)


class Listening:
    """For any thread; each call is a connection of its own."""

    def __init__(self, notify_dir: str) -> None:
        self.control = Path(notify_dir, "drainer", "control")

    def find_trouble(self, specs: Iterable[DaemonSpec]) -> dict[str, str]:
        """Daemon -> why nobody would hear it, of those that want to be heard. Changes nothing.

        Whoever may not ask does not know, and finds none.
        """
        names = [spec.name for spec in specs if is_notify(spec)]
        try:
            why = self._find_absence() if names else ""
        except NotAllowedError:
            why = ""
        return dict.fromkeys(names, why) if why else {}

    def serve(self, specs: Iterable[DaemonSpec]) -> dict[str, str]:
        """Have a socket for each that wants to be heard; daemon -> why it has none."""
        wanted = {
            spec.name: {"uid": find_uid(spec), "watchdog_s": spec.readiness.watchdog_s}
            for spec in specs
            if spec.readiness is not None and spec.readiness.notify and not spec.delete_requested
        }
        if not wanted:
            return {}
        try:
            why = self._find_absence()
        except NotAllowedError as error:
            why = str(error)
        if why:
            return dict.fromkeys(wanted, why)
        problems: dict[str, str] = {}
        names = sorted(wanted)
        for first in range(0, len(names), _AT_ONCE):
            part = {name: wanted[name] for name in names[first : first + _AT_ONCE]}
            try:
                answer = self._ask({"do": "serve", "daemons": part})
                problems |= {
                    name: f"its socket cannot be made: {why}"
                    for name, why in answer["problems"].items()
                }
            except (ListeningError, LookupError, AttributeError) as error:
                problems |= dict.fromkeys(part, f"its socket cannot be made: {error}")
        return problems

    def ask(self, name: str, started: float) -> Told:
        """What the daemon has said whose process was started then. Raises ListeningError."""
        answer = self._ask({"do": "ask", "name": name, "started": started})
        try:
            return decode(answer["told"])
        except (ValueError, LookupError) as error:
            raise ListeningError(
                "it has no socket yet; the next pass of the agent makes it"
            ) from error

    def forget(self, name: str) -> None:
        """It is gone, and so is its socket; without an agent that stays."""
        with contextlib.suppress(ListeningError):
            self._ask({"do": "forget", "names": [name]})

    def _find_absence(self) -> str:
        try:
            if self._ask({"do": "look"}).get("agent"):
                return ""
            why = "none runs"
        except NotAllowedError:
            raise
        except ListeningError as error:
            why = str(error)
        return f"readiness.notify needs the agent, and {why}; {_REMEDY}"

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        connection = connect(self.control)
        try:
            connection.send(json.dumps(request).encode())
            answer = json.loads(connection.recv(_MAX_ANSWER))
        except OSError as error:
            raise ListeningError(
                f"the agent's drainer does not answer: {explain(error)}"
            ) from error
        except ValueError as error:
            raise ListeningError("the agent's drainer has just ended") from error
        finally:
            connection.close()
        if not isinstance(answer, dict) or "problem" in answer:
            raise ListeningError(f"the agent's drainer is of another version: {quote(str(answer))}")
        return answer


def connect(control: Path) -> socket.socket:
    """A connection to the drainer. Raises ListeningError."""
    found = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        found.settimeout(_TIMEOUT_S)
        found.connect(str(control))
        problem = find_peer_problem(found)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        found.close()
        raise ListeningError("none runs") from error
    except OSError as error:
        found.close()
        kind = NotAllowedError if isinstance(error, PermissionError) else ListeningError
        raise kind(f"{control}: {explain(error)}") from error
    if problem:
        found.close()
        raise ListeningError(f"{control}: {problem}")
    return found


# -- processes -----------------------------------------------------------------------------------


def find_uid(spec: DaemonSpec) -> int | None:
    """As whom its processes run; None where that is not known here."""
    properties = spec.properties
    if properties.get("userns") == "true":
        return None
    user = properties.get("user", "root")
    if user.isdecimal():
        return int(user)
    if user != "root" and properties.get("root", "/") != "/":
        return None
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def read_clock() -> float:
    """Seconds of CLOCK_BOOTTIME, by which `find_start` tells."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def find_start(pid: int) -> float | None:
    """When a process was started, in hundredths of a second; None where it is gone."""
    ticks = read_start(pid)
    return None if ticks is None else ticks / os.sysconf("SC_CLK_TCK")
