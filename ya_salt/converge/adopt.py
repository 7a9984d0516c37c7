"""Turn somebody's running container into a spec file, and take it over without a restart."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ya_salt.converge.containers import take_over_container
from ya_salt.converge.drift import OUR_PROPERTIES, decode_last_applied, read_entries
from ya_salt.converge.host import Host
from ya_salt.converge.host_key import load_key, make_key
from ya_salt.errors import PackageError, PortoError, RetryError, SpecError, UsageError
from ya_salt.lock import hold_lock
from ya_salt.model import LABEL, DaemonSpec, Event, Loaded, Observed
from ya_salt.names import REHEARSAL_PREFIX, check_daemon_name
from ya_salt.packages.apt import Apt
from ya_salt.porto.client import PortoClient, parse_labels
from ya_salt.porto.properties import PROPERTIES, SECRET_MASK, Property
from ya_salt.porto.values import CONTROLLERS
from ya_salt.quick_dataclass import dataclass, field, replace
from ya_salt.specs.directory import parse_spec
from ya_salt.store import open_store

_OURS = (
    "state",
    "labels",
    "private",
    "weak",
    "respawn",
    "aging_time",
    "command",
    "command_argv",
    "time",
)
_READ = (*_OURS, *PROPERTIES, *(f"controllers[{name}]" for name in CONTROLLERS))
_RESERVED = ("PORTO", "HOSTMAN")
"""Begin labels that no spec may set."""
_SECRET_MODE, _MODE = 0o600, 0o644
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Adoption:
    """What became of a container: a spec file, and what it cannot say."""

    name: str
    text: str
    """The file, with comments."""
    spec: DaemonSpec
    notes: tuple[str, ...] = ()
    """What is not carried over, or changes, a sentence each."""
    blockers: tuple[str, ...] = ()
    """Why it cannot be taken over as it runs."""
    running_s: int = 0
    defaults: Mapping[str, str] = field(default_factory=dict)
    """Property -> what portod has of it before anybody sets it."""
    is_written: bool = False
    """Whether its file is there already, as an adoption that was cut short has left it."""


class AdoptionError(RetryError):
    """The container cannot be taken over as it is; the text says why, and what to do."""


def read_container(host: Host, name: str, loaded: Loaded) -> Adoption:
    """The spec of a container that runs here. Changes nothing of it.

    Raises UsageError where it can be no daemon of ours, PortoError.
    """
    written = _check_name(name, loaded, f"{host.settings.specs_dir}/{name}.yaml")
    with host.connect() as client:
        found = client.look([name], _READ)[name]
        if found.is_gone:
            raise UsageError(f"there is no container {name}; portoctl list shows those that are")
        values = found.values
        if LABEL in parse_labels(values.get("labels", "")):
            raise UsageError(f"{name} is ya-salt's already: ya-salt describe {name}")
        if values.get("weak") == "true":
            raise UsageError(
                f"{name} is weak: portod removes it as soon as whoever made it goes away, so there "
                "is nothing to keep"
            )
        defaults = _read_defaults(client, name, values)
        dynamic = client.list_dynamic()
    unread = [f"{key} cannot be read: {why}" for key, why in sorted(found.unreadable.items())]
    adoption = _write_adoption(host, name, values, defaults, dynamic, unread)
    if written is None:
        return adoption
    if written.delete_requested or written.digest != adoption.spec.digest:
        raise UsageError(
            _say_defined(name, f"{written.path} says something else than {name} is, and")
        )
    return replace(adoption, spec=written, is_written=True)


def _check_name(name: str, loaded: Loaded, wanted: str) -> DaemonSpec | None:
    """The spec of a file that is at `wanted` already; raises UsageError for any other's."""
    try:
        check_daemon_name(name)
    except ValueError as error:
        raise UsageError(f"no daemon of ya-salt's can be called so: {error}") from error
    written = next((item for item in loaded.specs if item.name == name), None)
    if written is not None and written.path == wanted:
        return written
    path = written.path if written is not None else ""
    path = path or next((item.path for item in loaded.rejected if item.name == name), "")
    if path:
        raise UsageError(_say_defined(name, path))
    return None


def _say_defined(name: str, path: str) -> str:
    return (
        f"{path} defines a daemon {name} already: move that file away, adopt the container, then "
        "make the changes that are wanted"
    )


def _read_defaults(client: PortoClient, name: str, values: Mapping[str, str]) -> dict[str, str]:
    """What a container has of which nothing was set, on this host and in this mode.

    It is made for that, weak and never started, and destroyed.
    """
    probe = REHEARSAL_PREFIX + name
    with contextlib.suppress(PortoError):
        client.destroy(probe)
    client.create_weak(probe)
    try:
        if values.get("virt_mode", "app") != "app":
            client.set_property(probe, "virt_mode", values["virt_mode"])
        found = client.look([probe], _READ)[probe].values
    finally:
        with contextlib.suppress(PortoError):
            client.destroy(probe)
    return {key: text.replace(probe, name) for key, text in found.items()}


# -- from values to a file -------------------------------------------------------------------------


def _write_adoption(  # noqa: PLR0913, PLR0917 - each is a part of what was found
    host: Host,
    name: str,
    values: Mapping[str, str],
    defaults: Mapping[str, str],
    dynamic: frozenset[str],
    unread: list[str],
) -> Adoption:
    properties, notes = _Reading(values, defaults).read()
    notes = [*unread, *notes]
    spec, text = None, ""
    while spec is None:
        # Together some may be more than portod or we would take of a file: those are named.
        text = _render(name, properties)
        try:
            spec = parse_spec(text, f"{host.settings.specs_dir}/{name}.yaml")
        except SpecError as error:
            for problem in error.problems:
                key = problem.field.removeprefix("spec.properties.").partition("[")[0]
                if key not in properties or key == "cmd":
                    raise UsageError(
                        f"{name} cannot be written as a spec: {problem.field}: {problem.message}"
                    ) from error
                notes.append(f"{key} is not carried over: {problem.message}")
            for problem in error.problems:
                key = problem.field.removeprefix("spec.properties.").partition("[")[0]
                properties.pop(key, None)
    seconds = values.get("time", "")
    comments = [*notes, *_list_changes(values, defaults), *_list_packages(host.apt, spec)]
    return Adoption(
        name,
        "".join(f"# {line}\n" for line in comments) + text,
        spec,
        tuple(notes),
        tuple(_list_blockers(values, spec, dynamic)),
        int(seconds) if seconds.isdecimal() else 0,
        {key: defaults[key] for key in (*PROPERTIES, "aging_time") if key in defaults},
    )


def _render(name: str, properties: Mapping[str, Any]) -> str:
    document = {"meta": {"name": name}, "spec": {"properties": dict(properties)}}
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


class _Reading:
    """A container's values against those of one of which nothing was set."""

    def __init__(self, values: Mapping[str, str], defaults: Mapping[str, str]) -> None:
        self._values = values
        self._defaults = defaults
        self._notes: list[str] = []

    def read(self) -> tuple[dict[str, Any], list[str]]:
        """The properties as a file has them, and what is not among them."""
        told: dict[str, Any] = {}
        command = self._read_command()
        if command:
            told["cmd"] = command
        for name, row in PROPERTIES.items():
            text, default = self._values.get(name), self._defaults.get(name, "")
            if name == "controllers":
                value = self._read_controllers()
            elif text is None or text in {"", default}:
                continue
            else:
                value = self._read_value(row, text, default)
            if value not in (None, {}, []):
                told[name] = value
        return told, self._notes

    def _read_command(self) -> list[str] | str:
        argv = self._values.get("command_argv", "")
        if argv:
            return [word.replace("\\\\", "\\") for word in argv.split("\t")]
        return self._values.get("command", "")

    def _read_controllers(self) -> dict[str, bool]:
        """Those that were switched off; others come with what needs them."""
        names = [f"controllers[{name}]" for name in CONTROLLERS]
        return {
            key[len("controllers[") : -1]: False
            for key in names
            if self._values.get(key) == "false" and self._defaults.get(key) == "true"
        }

    def _read_value(self, row: Property, text: str, default: str) -> Any:
        if row.shape == "map":
            return self._read_map(row, text, default)
        if row.shape == "list":
            items = [item.strip() for item in text.split(row.joint) if item.strip()]
            values = [self._read_single(row, row.name, item) for item in items]
            return [item for item in values if item is not None]
        return self._read_single(row, row.name, text)

    def _read_map(self, row: Property, text: str, default: str) -> dict[str, Any]:
        usual = read_entries(row.name, default)
        told = {}
        for key, item in read_entries(row.name, text).items():
            if usual.get(key) == item or (row.name == "labels" and key.startswith(_RESERVED)):
                continue
            name = f"{row.name}[{key}]"
            if row.is_secret:
                told[key] = SECRET_MASK
                self._notes.append(f"{name}: portod does not tell its value: fill it in")
                continue
            value = self._read_single(row, name, item)
            if value is not None and self._check_key(row, name, key):
                told[key] = value
        return told

    def _check_key(self, row: Property, name: str, key: str) -> bool:
        try:
            if row.check_key is not None:
                row.check_key(key)
        except ValueError as error:
            self._notes.append(f"{name} is not carried over: {error}")
            return False
        return True

    def _read_single(self, row: Property, name: str, text: str) -> Any:
        try:
            shown = row.show(text)
            row.parse(shown)
            match row.json:
                case "integer":
                    return int(shown)
                case "number":
                    return float(shown)
                case "boolean":
                    return shown == "true"
                case "string":
                    return shown
        except ValueError as error:
            self._notes.append(f"{name} is not carried over: {error}")
        return None


def _list_changes(values: Mapping[str, str], defaults: Mapping[str, str]) -> Iterator[str]:
    """What ya-salt has otherwise, whatever the container had."""
    if values.get("respawn") != OUR_PROPERTIES["respawn"]:
        yield "respawn was false: from now on it is started again whenever it ends"
    if values.get("aging_time") != defaults.get("aging_time"):
        yield "aging_time goes back to portod's own, as ya-salt removes its containers itself"
    private = values.get("private", "")
    if private and decode_last_applied(private) is None:
        yield "private holds somebody's text; ya-salt keeps its own notes there in its place"


def _list_blockers(
    values: Mapping[str, str], spec: DaemonSpec, dynamic: frozenset[str]
) -> Iterator[str]:
    state = values.get("state", "")
    if state != "running":
        yield f"it is {state or 'in an unknown state'}, not running: there is no process to keep"
    if any(name.startswith("env_secret[") for name in spec.properties):
        yield "its env_secret has to be filled in by hand, as portod does not tell its values"
    if values.get("respawn") != OUR_PROPERTIES["respawn"] and "respawn" not in dynamic:
        yield "portod changes respawn of a running container no more"


def _list_packages(apt: Apt, spec: DaemonSpec) -> Iterator[str]:
    """The package that its program is of: offered, as it is purged with the daemon once named."""
    program = _find_program(spec, apt.root)
    if not program:
        return
    try:
        owners = {
            line.rpartition(": ")[0].partition(", ")[0].partition(":")[0]
            for path in dict.fromkeys((program, f"/usr{program}", program.removeprefix("/usr")))
            for line in _search(apt, path)
        }
        installed = apt.query(owners)
    except PackageError:
        return
    for name, package in sorted(installed.items()):
        yield f"{program} is of the package {name}; to keep it at its version add under spec:"
        yield "  packages:"
        yield f'    - {{name: {name}, version: "{package.version}"}}'


def _search(apt: Apt, path: str) -> tuple[str, ...]:
    try:
        return apt.read_dpkg("-S", path)
    except PackageError:
        # No package has it under this name of the two that a merged /usr gives it.
        return ()


def _find_program(spec: DaemonSpec, root: str) -> str:
    argv, command = (spec.properties.get(key, "") for key in ("command_argv", "command"))
    try:
        words = argv.split("\t") if argv else shlex.split(command)
    except ValueError:
        return ""
    if not words or spec.properties.get("root", "/") != "/" or set(words[0]) & set("*?[\\$"):
        return ""
    if words[0].startswith("/"):
        return words[0]
    base = root.rstrip("/")
    found = shutil.which(words[0], path=":".join(base + folder for folder in _PATH.split(":")))
    return found.removeprefix(base) if found else ""


# -- taking over -----------------------------------------------------------------------------------


def say_blocked(adoption: Adoption) -> str:
    """Why it cannot be taken over as it runs, and what can be done instead."""
    return (
        f"{adoption.name} cannot be taken over as it is: {'; '.join(adoption.blockers)}. "
        f"Nothing was changed: ya-salt adopt {adoption.name} > FILE, complete it, destroy the "
        "container, then ya-salt apply"
    )


def take_over(host: Host, adoption: Adoption, who: str, lock_wait_s: float = 0.0) -> str:
    """Write the file and make the container ours, its process untouched; the file's path.

    Where a kill comes in between, the same once more does the rest. Raises AdoptionError where it
    cannot be, LockHeldError, PortoError; nothing is left then.
    """
    if adoption.blockers:
        raise AdoptionError(say_blocked(adoption))
    with hold_lock(host.settings.state_dir, lock_wait_s):
        path = Path(adoption.spec.path) if adoption.is_written else _write_file(adoption)
        try:
            with host.connect() as client:
                make_key(host.settings.state_dir)
                observed = Observed(
                    key=load_key(host.settings.state_dir),
                    portod=client.version(),
                    dynamic=client.list_dynamic(),
                )
                take_over_container(client, adoption.spec, observed, adoption.defaults)
        except BaseException:
            if not adoption.is_written:
                path.unlink(missing_ok=True)
            raise
        store = open_store(host.settings.state_dir)
        said = f"adopt: taken over as it runs, from now on it is as {path} says"
        with store.transaction():
            store.add_history([Event(host.now(), adoption.name, said, who)])
        store.close()
    # The pass that follows is to find it ready, and did not start it, so that it does not wait.
    time.sleep(max(0.0, adoption.spec.min_ready_s - adoption.running_s))
    return str(path)


def _write_file(adoption: Adoption) -> Path:
    """Whole or not at all, and never over another file."""
    path = Path(adoption.spec.path)
    mode = _SECRET_MODE if "env_secret" in adoption.text else _MODE
    try:
        handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(handle, mode)
                file.write(adoption.text.encode())
                file.flush()
                os.fsync(handle)
            # Unlike a rename it does not replace what is there.
            os.link(draft, path)
        finally:
            Path(draft).unlink()
    except FileExistsError as error:
        raise AdoptionError(f"{path} is there already: it is not written over") from error
    except OSError as error:
        raise AdoptionError(f"{path} cannot be written: {error.strerror}") from error
    return path
