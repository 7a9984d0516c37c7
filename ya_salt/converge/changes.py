"""Say what steps change, from the plan and the host as it was before. Pure.

So a pass that only looks and one that acts tell the same. The shape is Salt's: what changed, with
`old` and `new`; "" is something that is not there.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from ya_salt.converge.drift import (
    base_name,
    find_differences,
    find_guarded,
    find_now,
    hash_sent,
    wanted_properties,
)
from ya_salt.converge.watching import find_changes
from ya_salt.errors import describe_bug
from ya_salt.model import (
    LABEL,
    ChangeLive,
    Container,
    CreateContainer,
    DaemonSpec,
    InstallPackages,
    Observed,
    PurgePackages,
    RemoveContainer,
    ReplaceContainer,
    SignalContainer,
    StartContainer,
    Step,
    StopContainer,
)
from ya_salt.porto.properties import SECRET_MASK, is_secret, mask_secrets

Change = dict[str, str]
Changes = dict[str, dict[str, Any]]

_NOT_THERE = frozenset({"not-installed", "config-files"})


def describe_changes(spec: DaemonSpec, steps: Sequence[Step], observed: Observed) -> Changes:
    """{"packages": {name: {old, new}}, "container", "files", "process": {…}}; no empty ones.

    Properties stand below `container`, watched files below `files`.
    `observed` is the host before the first step. A process goes from portod's state of it, or
    `absent`, to `running`, `restarted` or `absent`.
    """
    try:
        return _describe(spec, steps, observed)
    except Exception as error:  # noqa: BLE001 - a bug met by one daemon must not hide the others'
        return {"container": {"unknown": _change("", describe_bug(error))}}


def _describe(spec: DaemonSpec, steps: Sequence[Step], observed: Observed) -> Changes:
    packages: dict[str, Change] = {}
    container: dict[str, Change] = {}
    process: Change = {}
    for step in steps:
        match step:
            case InstallPackages(packages=wanted):
                packages |= {
                    item.name: _change(_name_version(item.name, observed), item.version)
                    for item in wanted
                }
            case PurgePackages(packages=names):
                packages |= {name: _change(_name_version(name, observed), "") for name in names}
            case CreateContainer(spec=made) | ReplaceContainer(spec=made):
                # Where an update was undone it was made twice: what counts is the last one.
                container = _describe_container(made, step, observed)
            case ChangeLive(spec=changed):
                # Of a daemon that keeps dying not all is as its file says.
                container |= _describe_container(changed, step, observed)
        process = _describe_process(step, observed) or process
    renewing = CreateContainer | ReplaceContainer | SignalContainer
    files = (
        {
            path: _change("there" if item.old else "", "changed" if item.old and item.new else "")
            for path, item in sorted(find_changes(spec, observed).items())
        }
        if any(isinstance(step, renewing) for step in steps)
        else {}
    )
    told: Changes = {
        "packages": {name: item for name, item in packages.items() if item["old"] != item["new"]},
        "container": container,
        "files": files,
        "process": process,
    }
    return {key: value for key, value in told.items() if value}


def _change(old: str, new: str) -> Change:
    return {"old": old, "new": new}


def _name_version(name: str, observed: Observed) -> str:
    there = observed.packages.get(name)
    if there is None or there.status in _NOT_THERE:
        # Configuration that a removed package left behind is all that is purged then.
        return "config-files" if there is not None and there.status == "config-files" else ""
    return there.version if there.status == "installed" else f"{there.version} ({there.status})"


def _describe_process(step: Step, observed: Observed) -> Change:
    container = observed.containers.get(step.name)
    before = container.state if container else "absent"
    match step:
        case StartContainer(state="stopped") if before == "running":
            # It was stopped for a restart that failed, and brought back.
            return _change(before, "restarted")
        case StartContainer():
            return _change(before, "running")
        case CreateContainer() | ReplaceContainer():
            # It may be made anew because this very pass has stopped it, until another one was back.
            return _change(before, "restarted" if container else "running")
        case RemoveContainer() | StopContainer():
            is_kept = isinstance(step, StopContainer) and step.respawn
            return _change(before, "stopped" if is_kept else "absent")
        case SignalContainer(signal=signal):
            return _change(before, f"told by {signal}")
        case InstallPackages() | PurgePackages() | ChangeLive():
            return {}


# -- properties ----------------------------------------------------------------------------------


def _describe_container(spec: DaemonSpec, step: Step, observed: Observed) -> dict[str, Change]:
    container = observed.containers.get(spec.name)
    if container is None:
        return {
            name: _change("", _show(name, text))
            for name, text in mask_secrets(spec.properties).items()
        }
    changed = _ChangedContainer(spec, container, observed).describe()
    if not changed and isinstance(step, ChangeLive):
        # Nothing of the container is other than it should be but our own note.
        label = f"labels[{LABEL}]"
        return {label: _change(container.labels.get(LABEL, "")[:12], spec.digest[:12])}
    return changed


class _ChangedContainer:
    """A container against the spec that it is to have."""

    def __init__(self, spec: DaemonSpec, container: Container, observed: Observed) -> None:
        record = observed.records.get(spec.name)
        self._container = container
        self._applied = container.applied
        self._spec = spec
        self._key = observed.key
        self._wanted = mask_secrets(wanted_properties(spec))
        self._before = dict(record.spec.properties) if record and record.spec else {}

    def describe(self) -> dict[str, Change]:
        if self._applied is None or not self._applied.sent:
            return self._describe_unknown()
        found = find_differences(self._spec, self._container, self._applied, self._key)
        names = [name for item in found.changed | found.gone for name in self._spread(item)]
        old = {name: self._find_old(name) for name in names}
        old |= {name: self._find_now(name) for name in found.drifted}
        told = {
            name: _change(_show(name, text), _show(name, self._wanted.get(name, "")))
            for name, text in sorted(old.items())
            if text != self._wanted.get(name, "") or text == SECRET_MASK
        }
        guarded = find_guarded(self._container, self._applied)
        return told | {name: _change(self._find_now(name), new) for name, new in guarded.items()}

    def _describe_unknown(self) -> dict[str, Change]:
        """Somebody overwrote our notes: what portod reads back is all there is to compare with."""
        return {
            name: _change(_show(name, self._find_now(name)), _show(name, text))
            for name, text in self._wanted.items()
            if self._find_now(name) != text
        }

    def _spread(self, name: str) -> list[str]:
        """The entries of a map of which only the name is known; other names as they are."""
        return sorted(key for key in self._before if base_name(key) == name) or [name]

    def _is_known(self, name: str) -> bool:
        """Whether the last spec that we remember is what was sent."""
        known = hash_sent(self._before, self._key).get(name)
        return (
            known is not None
            and self._applied is not None
            and known == self._applied.sent.get(name)
        )

    def _find_old(self, name: str) -> str:
        if is_secret(name):
            return SECRET_MASK if name in self._before else ""
        # A spec that is remembered may never have been carried out: only what was sent counts.
        if self._is_known(name) or self._is_known(base_name(name)):
            return self._before.get(name, "")
        return self._find_now(name)

    def _find_now(self, name: str) -> str:
        return SECRET_MASK if is_secret(name) else find_now(name, self._container)


def _show(name: str, text: str) -> str:
    """Porto's argv is joined by tabs, which people cannot see."""
    return shlex.join(text.split("\t")) if name == "command_argv" and text else text
