"""Settings as Salt gives them: minion configuration and pillar over the settings file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ya_salt.errors import SettingsError
from ya_salt.model import Settings
from ya_salt.settings import InForce, load_settings

SECTION = "porto_daemons"
"""The key of the minion's configuration and of pillar under which our settings stand."""

_NOT_SETTINGS = frozenset({"config", "daemons"})


def read_settings(opts: Mapping[str, Any], pillar: Mapping[str, Any]) -> Settings:
    """The settings in force. Raises SettingsError."""
    return read_in_force(opts, pillar).settings


def read_in_force(opts: Mapping[str, Any], pillar: Mapping[str, Any]) -> InForce:
    """The settings and where each comes from; `config` names another settings file."""
    sections = {"salt config": _section(opts, "salt config"), "pillar": _section(pillar, "pillar")}
    named = [section["config"] for section in sections.values() if section.get("config")]
    overrides = {
        origin: {key: value for key, value in section.items() if key not in _NOT_SETTINGS}
        for origin, section in sections.items()
    }
    return load_settings({}, os.environ, str(named[-1]) if named else None, overrides)


def _section(data: Mapping[str, Any], origin: str) -> Mapping[str, Any]:
    section = data.get(SECTION) or {}
    if not isinstance(section, Mapping):
        raise SettingsError(f"{origin} {SECTION}: it is a mapping of settings")
    return section
