"""Make, change, stop and remove containers, one at a time, through a client of portod."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ya_salt.converge.drift import (
    OUR_PROPERTIES,
    decode_last_applied,
    encode_last_applied,
    group_sent,
    hash_packages,
    hash_values,
    name_read_back,
    wanted_properties,
)
from ya_salt.errors import PortoError
from ya_salt.model import LABEL, DaemonSpec, LastApplied, Observed
from ya_salt.names import REHEARSAL_PREFIX
from ya_salt.porto.client import PortoClient

STOP_TIMEOUT_S = 10.0
"""Between SIGTERM and Destroy: the users' document says 10 seconds."""

_HELD_BY_OLD = frozenset({"ResourceNotAvailable", "NoSpace", "Busy"})
"""What the running daemon may hold itself until it is stopped; no verdict on the spec."""

_UNREADABLE = frozenset({"env_secret", "labels"})
"""Not compared as a whole: portod masks the one, and others may add to the other."""

_GONE = "ContainerDoesNotExist"

_DEFAULTS = {"max_respawns": "-1"}
"""Defaults that portod shows as an empty text, which it must not be given."""


def create_container(
    client: PortoClient, spec: DaemonSpec, observed: Observed, package_names: Iterable[str]
) -> None:
    """Build the daemon's container and start it; it becomes permanent only when it runs.

    Until then it is weak: should this process die, portod removes it. Raises PortoError.
    """
    client.create_weak(spec.name)
    try:
        wanted = wanted_properties(spec)
        settable = [name for name in wanted if name in observed.dynamic]
        defaults = _read_defaults(client, spec.name, settable)
        unsupported = _set_all(client, spec.name, wanted)
        client.set_property(spec.name, f"labels[{LABEL}]", spec.digest)
        client.start(spec.name)
        # Read back only now: a start completes what was left open (controllers, isolate, cwd).
        applied = _remember(client, spec, wanted, unsupported)
        applied = replace(
            applied,
            defaults=defaults,
            package_names=tuple(package_names),
            portod=observed.portod,
        )
        client.set_property(spec.name, "private", encode_last_applied(applied))
        client.set_property(spec.name, "weak", "false")
    except PortoError:
        _destroy_quietly(client, spec.name)
        raise


def rehearse(client: PortoClient, spec: DaemonSpec) -> None:
    """Try every value on a container that never runs, before the running daemon is stopped.

    Raises PortoError for a value that portod refuses.
    """
    name = REHEARSAL_PREFIX + spec.name
    client.create_weak(name)
    try:
        _set_all(client, name, wanted_properties(spec))
    except PortoError as error:
        if error.code not in _HELD_BY_OLD:
            raise
    finally:
        _destroy_quietly(client, name)


def change_live(
    client: PortoClient,
    spec: DaemonSpec,
    changes: Mapping[str, str],
    observed: Observed,
    package_names: Iterable[str],
) -> None:
    """Set dynamic properties of the running container. Raises PortoError.

    The label is written last: a change cut short is found unfinished by the next pass.
    """
    before = decode_last_applied(client.get_property(spec.name, "private")) or LastApplied()
    defaults = _keep_defaults(client, spec.name, before, changes)
    unsupported = _set_all(client, spec.name, changes)
    wanted = wanted_properties(spec)
    kept = [item for item in before.unsupported if item in wanted and item not in changes]
    applied = replace(
        _remember(client, spec, wanted, [*kept, *unsupported]),
        defaults={name: text for name, text in defaults.items() if name in wanted},
        package_names=tuple(package_names),
        portod=observed.portod,
    )
    client.set_property(spec.name, "private", encode_last_applied(applied))
    client.set_property(spec.name, f"labels[{LABEL}]", spec.digest)


def _keep_defaults(
    client: PortoClient, name: str, before: LastApplied, changes: Iterable[str]
) -> Mapping[str, str]:
    """Known defaults and those of properties that are new, remembered before anything is set.

    Were they remembered after, a change cut short would leave our own value to be taken for one.
    """
    known = {*before.sent, *before.defaults}
    fresh = _read_defaults(client, name, [item for item in changes if item not in known])
    defaults = {**fresh, **before.defaults}
    if fresh:
        client.set_property(
            name, "private", encode_last_applied(replace(before, defaults=defaults))
        )
    return defaults


def start_container(client: PortoClient, name: str, state: str) -> None:
    """Make a container that is there run again, from whatever state it is in. Raises PortoError."""
    if state == "paused":
        client.resume(name)
        return
    if state != "stopped":
        # Porto starts from `stopped` only; a dead one has nothing left to be gentle with.
        client.stop(name, timeout_s=STOP_TIMEOUT_S)
    client.start(name)


def remove_container(
    client: PortoClient, name: str, before_destroy: Callable[[], None] = lambda: None
) -> None:
    """SIGTERM, up to 10 seconds, Destroy; one that is not there is fine. Raises PortoError.

    `before_destroy` may look at what goes with it.
    """
    try:
        # With respawn portod would only start the command again after the SIGTERM.
        client.set_property(name, "respawn", "false")
        _terminate(client, name)
        before_destroy()
        client.destroy(name)
    except PortoError as error:
        if error.code != _GONE:
            raise


def _terminate(client: PortoClient, name: str) -> None:
    try:
        client.kill(name, signal.SIGTERM)
    except PortoError as error:
        # Dead, stopped, paused: nothing that could hear a signal, Destroy does the rest.
        if error.code != "InvalidState":
            raise
        return
    client.wait_dead(name, STOP_TIMEOUT_S)


def describe_trouble(client: PortoClient, name: str, state: str) -> str:
    """What the container said last, for a person: start error, exit code, end of stderr."""
    said = []
    with contextlib.suppress(PortoError):
        values = client.get([name], ["start_error", "exit_code", "oom_killed", "stderr[:1000]"])
        found = values.get(name, {})
        if state == "stopped" and found.get("start_error"):
            said.append(f"start error: {found['start_error']}")
        if "exit_code" in found:
            said.append(_describe_exit(found["exit_code"], found.get("oom_killed")))
        tail = found.get("stderr[:1000]", "").strip().splitlines()[-3:]
        if tail:
            said.append("stderr ends with: " + " | ".join(tail))
    return "; ".join(said)


def _describe_exit(code: str, oom_killed: str | None) -> str:
    if oom_killed == "true" or code == "-99":
        return "it was killed for using more memory than memory_limit"
    if code.startswith("-"):
        return f"it was killed by signal {code[1:]}"
    return f"it exited with code {code}"


# -- pieces ------------------------------------------------------------------------------------


def _set_all(client: PortoClient, name: str, wanted: Mapping[str, str]) -> list[str]:
    """Set one by one; returns the guarantees that the host has no support for."""
    unsupported = []
    for variable, text in wanted.items():
        try:
            client.set_property(name, variable, text)
        except PortoError as error:
            if error.code != "NotSupported" or not variable.endswith("_guarantee"):
                raise
            unsupported.append(variable)
    return unsupported


def _read_defaults(client: PortoClient, name: str, wanted: Iterable[str]) -> dict[str, str]:
    """What portod has before we set it, so that taking a property out of a spec can be live too.

    Entries of maps need none: taking one out needs the others, or an empty value.
    """
    names = [item for item in wanted if "[" not in item and item not in OUR_PROPERTIES]
    found = client.get([name], names).get(name, {}) if names else {}
    return {item: _DEFAULTS.get(item, found[item]) for item in names if item in found}


def _remember(
    client: PortoClient, spec: DaemonSpec, wanted: Mapping[str, str], unsupported: list[str]
) -> LastApplied:
    names = dict.fromkeys(name_read_back(item) for item in wanted if item not in unsupported)
    readable = [item for item in names if item not in _UNREADABLE]
    return LastApplied(
        sent=hash_values(group_sent(wanted)),
        read=hash_values(client.get([spec.name], readable).get(spec.name, {})),
        unsupported=tuple(unsupported),
        packages=hash_packages(spec.packages),
    )


def _destroy_quietly(client: PortoClient, name: str) -> None:
    with contextlib.suppress(PortoError):
        client.destroy(name)
