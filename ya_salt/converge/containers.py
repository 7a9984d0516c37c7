"""Make, change, stop and remove containers, one at a time, through a client of portod.

A daemon that runs is not stopped before portod has taken, and where that is harmless started, its
new values; where it will not start them all the same the old container is made again.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from ya_salt.converge.drift import (
    OUR_PROPERTIES,
    base_name,
    decode_last_applied,
    encode_last_applied,
    has_secrets,
    hash_entries,
    hash_packages,
    hash_sent,
    hash_values,
    make_mark,
    name_key,
    name_read_back,
    read_entries,
    wanted_properties,
)
from ya_salt.converge.host_checks import find_harmless_program
from ya_salt.errors import PortoError, PortoUnavailableError, PortoUnknownFateError
from ya_salt.model import DOWN, LABEL, ChangeLive, DaemonSpec, LastApplied, Observed
from ya_salt.names import REHEARSAL_PREFIX
from ya_salt.porto.client import PortoClient, parse_labels
from ya_salt.porto.properties import PROPERTIES, UNLISTED
from ya_salt.porto.values import CONTROLLERS
from ya_salt.quick_dataclass import dataclass, replace
from ya_salt.text import count

_log = logging.getLogger("ya_salt.execute")

STOP_TIMEOUT_S = 10.0
"""Between SIGTERM and Destroy: the users' document says 10 seconds."""

RETURN_TIMEOUT_S = 10.0
"""How long a portod that went away is waited for; a killed one is back after 0.2 s."""

HELD_BY_OLD = frozenset({"ResourceNotAvailable", "NoSpace", "Busy"})
"""What the running daemon may hold itself until it is stopped; no verdict on the spec."""

DATA = "DataNotCopied"
"""What kept a daemon's data from being copied, or put back; no verdict on the spec either."""

_NOT_SUPPORTED = frozenset({"NotSupported", "InvalidProperty"})
"""What portod says of a property that its host, or its version, does not know."""

_LAST_WORDS = ("start_error", "exit_code", "oom_killed", "oom_kills_total", "stderr[:1000]")
_OOM = "killed for using more memory than memory_limit"

_SECRET = "env_secret"  # noqa: S105 - the name of a property

_UNREADABLE = frozenset({_SECRET, "labels"})
"""Not compared as a whole: portod masks the one, and others may add to the other."""

_SEEN_OUTSIDE = frozenset({"labels", "symlink"})
"""What a rehearsal goes without: others look for labels, links are made among the host's files."""

_STREAMS = ("stdin_path", "stdout_path", "stderr_path")

_GONE = "ContainerDoesNotExist"

_DEFAULTS = {"max_respawns": "-1"}
"""Defaults that portod shows as an empty text, which it must not be given."""


@dataclass(frozen=True)
class Turn:
    """Where others have their turn in the middle of the work; each of these may take long."""

    before_stop: Callable[[], None] = lambda: None
    """Nothing stands in the way of the stop any more."""
    before_destroy: Callable[[], None] = lambda: None
    """It is stopped; what it has counted goes with it."""
    before_start: Callable[[], None] = lambda: None
    """It is gone, and has not been started anew."""
    grace: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    """Around the time that a daemon is given to end."""


_ALONE = Turn()


class BroughtBackError(PortoError):
    """The new container was not to be had; the old one, which was stopped for it, runs again."""


def create_container(
    client: PortoClient, spec: DaemonSpec, observed: Observed, package_names: Iterable[str]
) -> None:
    """Build the daemon's container and start it; it becomes permanent only when it runs.

    Until then it is weak: should this process die, portod removes it. Raises PortoError.
    """
    names = tuple(package_names)

    def build(is_second: bool) -> None:
        if not (is_second and _finish_half_made(client, spec)):
            _build(client, spec, observed, names)

    _insist(client, build)


def _build(
    client: PortoClient, spec: DaemonSpec, observed: Observed, package_names: tuple[str, ...]
) -> None:
    client.create_weak(spec.name)
    try:
        wanted = wanted_properties(spec)
        settable = [name for name in wanted if name in observed.dynamic or name in UNLISTED]
        defaults = _read_defaults(client, spec.name, [*settable, "aging_time"])
        unsupported = _set_all(client, spec.name, wanted, observed)
        client.set_property(spec.name, f"labels[{LABEL}]", spec.digest)
        client.start(spec.name)
        if spec.properties.get("virt_mode") == "host":
            # There portod makes links only in a running container: conformance/symlink-live.
            links = {name: text for name, text in wanted.items() if base_name(name) == "symlink"}
            _set_all(client, spec.name, links, observed)
        # Read back only now: a start completes what was left open (controllers, isolate, cwd).
        applied = replace(
            _remember(client, spec, unsupported, observed),
            defaults=defaults,
            package_names=package_names,
        )
        client.set_property(spec.name, "private", encode_last_applied(applied))
        client.set_property(spec.name, "weak", "false")
    except PortoError as error:
        if not _is_lost(error):
            _destroy_quietly(client, spec.name)
        raise


def _finish_half_made(client: PortoClient, spec: DaemonSpec) -> bool:
    """After a lost connection: whether what it left is whole, and permanent now.

    Else it is destroyed, as far as it is ours.
    """
    variables = ["state", "labels", "private", "weak"]
    found = _read(client, spec.name, variables)
    if found is None:
        return False
    label = parse_labels(found.get("labels", "")).get(LABEL)
    is_whole = label == spec.digest and decode_last_applied(found.get("private", "")) is not None
    with contextlib.suppress(PortoError):
        if is_whole and found.get("state") in {"running", "starting", "respawning"}:
            client.set_property(spec.name, "weak", "false")
            # A weak one may just be on its way out.
            return client.get([spec.name], ["weak"]).get(spec.name, {}).get("weak") == "false"
        if label is not None or found.get("weak") == "true":
            client.destroy(spec.name)
    return False


def replace_container(
    client: PortoClient,
    spec: DaemonSpec,
    observed: Observed,
    package_names: Iterable[str],
    turn: Turn = _ALONE,
) -> None:
    """Stop the daemon and start it anew from `spec`; its old container comes back if that fails.

    Raises PortoError whose words say what became of the old one.
    """
    validate_on_portod(client, spec, observed)
    old = _copy_container(client, spec)
    remove_container(client, spec.name, turn)
    try:
        turn.before_start()
        create_container(client, spec, observed, package_names)
    except PortoError as error:
        if old is None:
            raise
        raise _bring_back(client, spec, observed, old, error) from error


def validate_on_portod(client: PortoClient, spec: DaemonSpec, observed: Observed) -> None:
    """Try every value on a container of its own, before the running daemon is stopped.

    It is started, too, with a command that does nothing, unless it would take a network or an
    address from the one that runs. Raises PortoError for a value that portod refuses.
    """
    name = REHEARSAL_PREFIX + spec.name
    wanted = wanted_properties(spec).items()
    values = {item: text for item, text in wanted if base_name(item) not in _SEEN_OUTSIDE}

    def rehearse_once(_is_second: bool) -> None:
        # Whatever has our name for this is nobody's daemon, and would be in the way for ever.
        _destroy_quietly(client, name)
        try:
            client.create_weak(name)
            _set_all(client, name, values, observed)
            _start_harmless(client, name, spec)
        except PortoError as error:
            if error.code not in HELD_BY_OLD:
                raise
        finally:
            _destroy_quietly(client, name)

    try:
        _insist(client, rehearse_once)
    except PortoError as error:
        raise type(error)(
            error.code,
            f"{error.message.replace(name, spec.name)}; the old one runs on",
            error.call.replace(name, spec.name),
        ) from error


def _start_harmless(client: PortoClient, name: str, spec: DaemonSpec) -> None:
    program = find_harmless_program(spec)
    if not program:
        return
    quiet = {"respawn": "false"}
    # What the running daemon reads and writes is not opened a second time.
    quiet |= {stream: "/dev/null" for stream in _STREAMS if stream in spec.properties}
    for variable, text in quiet.items():
        client.set_property(name, variable, text)
    words = spec.properties.get("command")
    # portod splits one string into words only at the start; ours does not mind what follows it.
    refusal = _try_command(client, name, "command", f"{program} {words}") if words else None
    ours = _try_command(client, name, "command_argv", program) if refusal or not words else None
    if refusal is not None and ours is None:
        raise refusal


def _try_command(client: PortoClient, name: str, variable: str, text: str) -> PortoError | None:
    """Start with this command; returns what is about the command, and raises anything else."""
    client.set_property(name, variable, text)
    try:
        client.start(name)
    except PortoError as error:
        if error.code != "InvalidCommand":
            raise
        return error
    return None


# -- bringing back -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Copy:
    """All that it takes to make a container again."""

    texts: Mapping[str, str]
    """Property -> text, in the order of setting."""
    labels: Mapping[str, str]
    private: str
    lost: tuple[str, ...] = ()
    """Secrets that nobody knows any more."""


def _copy_container(client: PortoClient, spec: DaemonSpec) -> _Copy | None:
    """What portod says of the container; None where there is none. Raises PortoError."""
    noted = _read(client, spec.name, ["labels", "private"])
    if noted is None:
        return None
    applied = decode_last_applied(noted.get("private", ""))
    sent = {base_name(name) for name in applied.sent} if applied is not None else set()
    order = ["respawn", "command_argv", "command", *PROPERTIES]
    names = [name for name in order if (name in sent or not sent) and name != "labels"]
    if "controllers" in names:
        names += [f"controllers[{word}]" for word in CONTROLLERS]
    texts = _read(client, spec.name, names)
    if texts is None:
        return None
    secrets = [f"env_secret[{name}]" for name in read_entries(_SECRET, texts.get(_SECRET, ""))]
    # portod does not tell their values: those that the new spec has still are taken from there.
    known = {name: spec.properties[name] for name in secrets if name in spec.properties}
    return _Copy(
        {name: text for name in names for text in _copy_text(name, texts)} | known,
        parse_labels(noted.get("labels", "")),
        noted.get("private", ""),
        tuple(name for name in secrets if name not in known),
    )


def _copy_text(name: str, texts: Mapping[str, str]) -> tuple[str, ...]:
    """The text to set so that it reads the same again, if any."""
    text = texts.get(name)
    if text is None or name in {"controllers", _SECRET}:
        return ()
    if name.startswith("controllers["):
        return (text,) if text == "false" else ()
    if name == "command" and texts.get("command_argv"):
        return ()
    return (text or _DEFAULTS.get(name, ""),)


def _bring_back(
    client: PortoClient, spec: DaemonSpec, observed: Observed, old: _Copy, error: PortoError
) -> PortoError:
    """Make the old container again; the error that says so."""

    def rebuild(is_second: bool) -> None:
        if is_second:
            _destroy_quietly(client, spec.name)
        _rebuild(client, spec.name, old, private)

    private = old.private
    if not _is_lost(error) and error.code != DATA:
        # Tried again it would cost the daemon its process once more.
        applied = _note_secrets(decode_last_applied(old.private) or LastApplied(), old, observed)
        because = f"{error.code}: {error.message}"[:200]
        mark = make_mark(spec, observed.key)
        private = encode_last_applied(replace(applied, refused=mark, refused_because=because))
    try:
        _insist(client, rebuild)
    except PortoError as second:
        words = (
            f"{error.message}; {spec.name} is DOWN: the old one was stopped, the new one did not "
            f"start, and the old one could not be brought back: {second}"
        )
    else:
        without = f", but without {', '.join(old.lost)}, which portod does not tell"
        words = f"{error.message}; the old one was brought back and runs as before"
        words += without if old.lost else ""
        return BroughtBackError(error.code, words, error.call)
    return type(error)(error.code, words, error.call)


def _note_secrets(applied: LastApplied, old: _Copy, observed: Observed) -> LastApplied:
    """Remember the secrets that the old one has now, so that those it lost come with its spec."""
    if _SECRET not in applied.sent:
        return applied
    now = {name: text for name, text in old.texts.items() if base_name(name) == _SECRET}
    return replace(
        applied,
        sent={**applied.sent, _SECRET: "lost", **hash_sent(now, observed.key)},
        entries={**applied.entries, _SECRET: {}, **hash_entries(now, observed.key)},
        key=name_key(observed.key),
    )


def _rebuild(client: PortoClient, name: str, old: _Copy, private: str) -> None:
    client.create_weak(name)
    try:
        for variable, text in old.texts.items():
            client.set_property(name, variable, text)
        for label, text in old.labels.items():
            client.set_property(name, f"labels[{label}]", text)
        client.set_property(name, "private", private)
        client.start(name)
        if old.texts.get("virt_mode") == "host" and old.texts.get("symlink"):
            # The new one may have led them elsewhere; without them it still runs.
            with contextlib.suppress(PortoError):
                client.set_property(name, "symlink", old.texts["symlink"])
        client.set_property(name, "weak", "false")
    except PortoError as error:
        if not _is_lost(error):
            _destroy_quietly(client, name)
        raise


# -- changing, starting, removing ----------------------------------------------------------------


def change_live(
    client: PortoClient, step: ChangeLive, observed: Observed, package_names: Iterable[str]
) -> None:
    """Set dynamic properties of the running container. Raises PortoError.

    What is not changed is remembered as it was: somebody may have changed it since we looked, and
    the next pass is to see that. The label is written last: a change cut short is found unfinished
    by the next pass.
    """
    spec, changes, names = step.spec, step.changes, tuple(package_names)
    other = {*map(name_read_back, changes), *step.relearn}

    def change(_is_second: bool) -> None:
        before = decode_last_applied(client.get_property(spec.name, "private")) or LastApplied()
        defaults = _keep_defaults(client, spec.name, before, changes)
        unsupported = _set_all(client, spec.name, changes)
        wanted = wanted_properties(spec)
        kept = [item for item in before.unsupported if item in wanted and item not in changes]
        read = {name: text for name, text in before.read.items() if name not in other}
        applied = replace(
            _remember(client, spec, [*kept, *unsupported], observed, read),
            defaults={k: text for k, text in defaults.items() if k in {*wanted, "aging_time"}},
            package_names=names,
        )
        client.set_property(spec.name, "private", encode_last_applied(applied))
        client.set_property(spec.name, f"labels[{LABEL}]", spec.digest)

    _insist(client, change)


def _keep_defaults(
    client: PortoClient, name: str, before: LastApplied, changes: Iterable[str]
) -> Mapping[str, str]:
    """Known defaults and those of properties that are new, remembered before anything is set.

    Were they remembered after, a change cut short would leave our own value to be taken for one.
    """
    if not before.sent:
        # Nobody knows what was set: what reads back may be ours.
        return before.defaults
    known = {*before.sent, *before.defaults, "weak"}
    fresh = _read_defaults(client, name, [item for item in changes if item not in known])
    defaults = {**fresh, **before.defaults}
    if fresh:
        client.set_property(
            name, "private", encode_last_applied(replace(before, defaults=defaults))
        )
    return defaults


def take_over_container(
    client: PortoClient, spec: DaemonSpec, observed: Observed, defaults: Mapping[str, str]
) -> None:
    """Make somebody's running container ours: as if it had been made from `spec`.

    The label comes last: until then it is nobody's of ours. Raises PortoError.
    """
    live = {**OUR_PROPERTIES, "aging_time": defaults.get("aging_time", "")}
    now = client.get([spec.name], list(live)).get(spec.name, {})
    for name, text in live.items():
        if text and now.get(name) != text:
            client.set_property(spec.name, name, text)
    applied = replace(
        _remember(client, spec, (), observed),
        defaults={
            name: _DEFAULTS.get(name, text)
            for name, text in defaults.items()
            if name in observed.dynamic
            and "[" not in name
            and name in {"aging_time", *spec.properties}
        },
    )
    client.set_property(spec.name, "private", encode_last_applied(applied))
    client.set_property(spec.name, f"labels[{LABEL}]", spec.digest)


def start_container(client: PortoClient, name: str, state: str) -> None:
    """Make a container that is there run again, from whatever state it is in. Raises PortoError."""

    def start(is_second: bool) -> None:
        now = client.get([name], ["state"]).get(name, {}).get("state") if is_second else state
        if now == "paused":
            client.resume(name)
        elif now == state == "respawning":
            _respawn_now(client, name)
        elif now not in {"running", "starting", "respawning"}:
            if now != "stopped":
                # Porto starts from `stopped` only; a dead one has nothing left to be gentle with.
                client.stop(name, timeout_s=STOP_TIMEOUT_S)
            client.start(name)

    _insist(client, start)


def _respawn_now(client: PortoClient, name: str) -> None:
    """A delay under way is not cut short by a new value."""
    try:
        client.respawn(name)
    except PortoError as error:
        # portod was quicker.
        if error.code != "InvalidState":
            raise


def stop_container(client: PortoClient, name: str, respawn: str, turn: Turn = _ALONE) -> None:
    """SIGTERM, up to 10 seconds, SIGKILL; the container stays, with what it wrote.

    `respawn` is what it has for that afterwards. Raises PortoError.
    """
    turn.before_stop()

    def stop(_is_second: bool) -> None:
        # With respawn portod would only start the command again after the SIGTERM.
        client.set_property(name, "respawn", "false")
        _terminate(client, name, turn)
        if client.get_property(name, "state") not in DOWN:
            with contextlib.suppress(PortoError):
                client.kill(name, signal.SIGKILL)
                client.wait_dead(name, STOP_TIMEOUT_S)
        _stop_rest(client, name)
        client.set_property(name, "respawn", respawn)
        _stop_rest(client, name)

    _insist(client, stop)


def _stop_rest(client: PortoClient, name: str) -> None:
    """What does not die by a signal (paused, respawning) goes with all that it wrote."""
    if client.get_property(name, "state") not in DOWN:
        client.stop(name, timeout_s=STOP_TIMEOUT_S)


def remove_container(client: PortoClient, name: str, turn: Turn = _ALONE) -> None:
    """SIGTERM, up to 10 seconds, Destroy; one that is not there is fine. Raises PortoError."""
    looked = False
    turn.before_stop()

    def remove(_is_second: bool) -> None:
        nonlocal looked
        try:
            # With respawn portod would only start the command again after the SIGTERM.
            client.set_property(name, "respawn", "false")
            _terminate(client, name, turn)
            if not looked:
                turn.before_destroy()
                looked = True
            client.destroy(name)
        except PortoError as error:
            if error.code != _GONE:
                raise

    _insist(client, remove)


def _terminate(client: PortoClient, name: str, turn: Turn) -> None:
    try:
        client.kill(name, signal.SIGTERM)
    except PortoError as error:
        # Dead, stopped, paused: nothing that could hear a signal, Destroy does the rest.
        if error.code != "InvalidState":
            raise
        return
    with turn.grace():
        client.wait_dead(name, STOP_TIMEOUT_S)


LAST_DEATH_S = 3.0
"""How long it is waited for how a version that is given up ends."""


def await_last_death(client: PortoClient, names: Sequence[str]) -> None:
    """Let these daemons, which keep dying, die once more and stay dead. Raises PortoError."""
    for name in names:
        client.set_property(name, "respawn", "false")
    give_up = time.monotonic() + LAST_DEATH_S
    waiting = list(names)
    while waiting and time.monotonic() < give_up:
        time.sleep(0.1)
        found = client.get(waiting, ["state"])
        waiting = [name for name in waiting if found.get(name, {}).get("state") != "dead"]


def describe_trouble(client: PortoClient, name: str, state: str) -> str:
    """What the container said last, for a person: start error, exit code, end of stderr.

    While portod starts it again and again it tells no exit code, but how often memory ran out.
    """
    said = []
    with contextlib.suppress(PortoError):
        values = client.get([name], _LAST_WORDS)
        found = values.get(name, {})
        if state == "stopped" and found.get("start_error"):
            said.append(f"start error: {found['start_error']}")
        kills = found.get("oom_kills_total", "0")
        if "exit_code" in found:
            said.append(_describe_exit(found["exit_code"], found.get("oom_killed")))
        elif kills.isdecimal() and int(kills):
            said.append(f"it was {_OOM}, {count(int(kills), 'time')}")
        tail = found.get("stderr[:1000]", "").strip().splitlines()[-3:]
        if tail:
            said.append("stderr ends with: " + " | ".join(tail))
    return "; ".join(said)


def _describe_exit(code: str, oom_killed: str | None) -> str:
    if oom_killed == "true" or code == "-99":
        return f"it was {_OOM}"
    if code.startswith("-"):
        return f"it was killed by signal {code[1:]}"
    return f"it exited with code {code}"


# -- pieces ------------------------------------------------------------------------------------


def _insist(client: PortoClient, act: Callable[[bool], None]) -> None:
    """Do it, and once more where portod went away in between, as soon as it is back.

    `act` is told whether it is the second time: it has to look at what is there. A portod that does
    not answer in time is not asked again.
    """
    try:
        act(False)
    except PortoError as error:
        # A connection that went while nothing was asked is not noticed but by what was weak.
        is_worth_it = _is_lost(error) or error.code == _GONE
        if not is_worth_it or isinstance(error.__cause__, TimeoutError):
            raise
        _log.info("portod may have been reloaded (%s): once more", error)
        _await_portod(client)
        act(True)


def _await_portod(client: PortoClient) -> None:
    """Returns when portod answers. Raises PortoError where it does not come back."""
    give_up = time.monotonic() + RETURN_TIMEOUT_S
    while True:
        try:
            client.version()
        except (PortoUnavailableError, PortoUnknownFateError):
            if time.monotonic() > give_up:
                raise
            time.sleep(0.1)
        else:
            return


def _read(client: PortoClient, name: str, variables: Iterable[str]) -> Mapping[str, str] | None:
    """What can be read of a container; None where there is none. Raises PortoError otherwise."""
    reading = client.look([name], variables)[name]
    for variable, why in reading.unreadable.items():
        raise PortoError("Unknown", f"portod does not tell its {variable}: {why}", f"get {name}")
    return None if reading.is_gone else reading.values


def _is_lost(error: PortoError) -> bool:
    """Whether the connection went, which takes weak containers with it and is no verdict."""
    return isinstance(error, PortoUnavailableError | PortoUnknownFateError)


def _set_all(
    client: PortoClient, name: str, wanted: Mapping[str, str], observed: Observed | None = None
) -> list[str]:
    """Set one by one; returns what the host has no support for and that asks for nothing.

    Without `observed` the container runs: what is not supported then may be so at rest.
    """
    unsupported = []
    for variable, text in wanted.items():
        try:
            client.set_property(name, variable, text)
        except PortoError as error:
            if error.code not in _NOT_SUPPORTED:
                raise
            if not _can_do_without(variable, text):
                if observed is None:
                    raise
                raise _explain_support(variable, observed, error) from error
            unsupported.append(variable)
    return unsupported


def _can_do_without(variable: str, text: str) -> bool:
    """Guarantees are promises that a host without them cannot break for anybody else."""
    base = base_name(variable)
    row = PROPERTIES.get(base)
    return base.endswith("_guarantee") or (row is not None and row.off == text)


def _explain_support(variable: str, observed: Observed, error: PortoError) -> PortoError:
    version = f" {observed.portod}" if observed.portod else ""
    words = (
        f"{base_name(variable)} is not supported here, by this host's kernel or its portod"
        f"{version} ({error.message}); leave it out of this host's spec"
    )
    return PortoError(error.code, words, error.call)


def _read_defaults(client: PortoClient, name: str, wanted: Iterable[str]) -> dict[str, str]:
    """What portod has before we set it, so that taking a property out of a spec can be live too.

    Entries of maps need none: taking one out needs the others, or an empty value.
    """
    names = [item for item in wanted if "[" not in item and item not in OUR_PROPERTIES]
    found = client.get([name], names).get(name, {}) if names else {}
    return {item: _DEFAULTS.get(item, found[item]) for item in names if item in found}


def _remember(
    client: PortoClient,
    spec: DaemonSpec,
    unsupported: Iterable[str],
    observed: Observed,
    known: Mapping[str, str] | None = None,
) -> LastApplied:
    """What was sent, and what portod reads back of all that is not in `known`."""
    wanted = wanted_properties(spec)
    left_out = set(unsupported)
    names = dict.fromkeys(name_read_back(item) for item in wanted if item not in left_out)
    kept = {name: text for name, text in (known or {}).items() if name in names}
    fresh = [item for item in names if item not in _UNREADABLE and item not in kept]
    read = client.get([spec.name], fresh).get(spec.name, {}) if fresh else {}
    return LastApplied(
        sent=hash_sent(wanted, observed.key),
        read=kept | hash_values(read),
        unsupported=tuple(left_out & wanted.keys()),
        packages=hash_packages(spec.packages),
        portod=observed.portod,
        key=name_key(observed.key) if has_secrets(spec) else "",
        entries=hash_entries(wanted, observed.key),
    )


def _destroy_quietly(client: PortoClient, name: str) -> None:
    with contextlib.suppress(PortoError):
        client.destroy(name)
