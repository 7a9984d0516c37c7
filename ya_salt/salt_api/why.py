"""Explain how one daemon stands, and what to type next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ya_salt.errors import PortoError, UsageError
from ya_salt.model import DaemonStatus, Loaded, Settings
from ya_salt.salt_api.answers import list_statuses, shorten_status, show_history
from ya_salt.salt_api.converge import Mode, apply_all
from ya_salt.specs.directory import DaemonsDirectoryMissingError, load_specs


def explain(settings: Settings, name: str) -> dict[str, Any]:
    """Everything that bears on how one daemon stands, and what to type next."""
    loaded = _load_quietly(settings)
    spec = next((item for item in loaded.specs if item.name == name), None)
    rejected = [item for item in loaded.rejected if item.name == name]
    told: dict[str, Any] = {"name": name}
    told["file"] = spec.path if spec else ", ".join(item.path for item in rejected) or "none"
    told["problems"] = [problem for item in rejected for problem in item.problems]
    statuses, trouble = _look_quietly(settings)
    status = next((item for item in statuses if item.name == name), None)
    if status is None and spec is None and not rejected:
        raise UsageError(f"no daemon {name} is known and no file of {settings.specs_dir} names it")
    told |= shorten_status(status) if status else {"ready": False, "message": trouble or _NEVER}
    told["error"] = status.error if status else trouble
    told["warnings"] = list(status.warnings) if status else []
    told["pending"] = _foresee(settings, name) if spec and not trouble else []
    told["history"] = [f"{item['time']} {item['what']}" for item in show_history(settings, name, 5)]
    told["next"] = _advise(told, settings)
    return told


_NEVER = "no pass has seen it yet"


def _load_quietly(settings: Settings) -> Loaded:
    try:
        return load_specs(settings.specs_dir)
    except DaemonsDirectoryMissingError:
        return Loaded()


def _look_quietly(settings: Settings) -> tuple[list[DaemonStatus], str]:
    try:
        return list_statuses(settings), ""
    except PortoError as error:
        return [], str(error)


def _foresee(settings: Settings, name: str) -> list[str]:
    verdict = apply_all(settings, name, Mode(test=True)).get(name)
    if verdict is None or (verdict.result and not verdict.changes):
        return []
    return verdict.comment.splitlines()


def _advise(told: Mapping[str, Any], settings: Settings) -> str:
    name = told["name"]
    if told["problems"]:
        return f"correct the file, then: ya-salt validate {told['file']}"
    if told.get("phase") == "Orphaned":
        return "put its file back; with meta.delete_requested: true if it is to be removed"
    if told["pending"]:
        return f"salt-call porto_daemon.apply {name}"
    if not told["ready"]:
        return f"salt-call porto_daemon.logs {name}; grep porto-daemon-{name} {settings.log_file}"
    return "nothing"
