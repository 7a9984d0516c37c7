"""Settings as Salt gives them: minion configuration and pillar over the settings file.

Loads next to nothing but where the settings themselves are asked for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ya_salt.cli import quick
from ya_salt.errors import SettingsError
from ya_salt.flags import STATE_DIR

if TYPE_CHECKING:
    from ya_salt.model import Settings
    from ya_salt.settings import InForce

SECTION = "porto_daemons"
"""The key of the minion's configuration and of pillar under which our settings stand."""

GRAIN = "grain"
"""Whether a minion tells its daemons as grains."""

_NOT_SETTINGS = frozenset({"config", "daemons", GRAIN})


def read_settings(opts: Mapping[str, Any], pillar: Mapping[str, Any]) -> Settings:
    """The settings in force. Raises SettingsError."""
    return read_in_force(opts, pillar).settings


def read_in_force(opts: Mapping[str, Any], pillar: Mapping[str, Any]) -> InForce:
    """The settings and where each comes from; `config` names another settings file."""
    from ya_salt.settings import load_settings

    sections = _read_sections(opts, pillar)
    return load_settings({}, os.environ, _name_file(sections) or None, _list_overrides(sections))


def name_source(opts: Mapping[str, Any], pillar: Mapping[str, Any]) -> dict[str, Any]:
    """What these settings are made of, as the quick way has it (`ya_salt.cli.quick`).

    Where Salt adds none it is what a command without flags has, so that either finds quick what
    the other has left. Raises SettingsError, and TypeError and ValueError of what is no JSON.
    """
    sections = _read_sections(opts, pillar)
    path = _name_file(sections)
    source = quick.make_source({"config": path} if path else {})
    given = {origin: data for origin, data in _list_overrides(sections).items() if data}
    if given:
        source["salt"] = json.dumps(given, sort_keys=True)
    return source


def find_state_dir(opts: Mapping[str, Any], pillar: Mapping[str, Any]) -> str:
    """The state directory, but for what a settings file says of it. Raises SettingsError."""
    found = STATE_DIR
    for section in _read_sections(opts, pillar).values():
        found = str(section.get("state_dir") or found)
    return quick.find_state_dir(quick.make_source({}), found)


def _read_sections(
    opts: Mapping[str, Any], pillar: Mapping[str, Any]
) -> dict[str, Mapping[str, Any]]:
    pillar_section = _section(pillar, "pillar")
    if GRAIN in pillar_section:
        raise SettingsError(
            f"pillar {SECTION}: {GRAIN}: say it in the minion's configuration, as grains are made "
            "before there is a pillar"
        )
    return {"salt config": _section(opts, "salt config"), "pillar": pillar_section}


def _section(data: Mapping[str, Any], origin: str) -> Mapping[str, Any]:
    section = data.get(SECTION) or {}
    if not isinstance(section, Mapping):
        raise SettingsError(f"{origin} {SECTION}: it is a mapping of settings")
    if not isinstance(section.get(GRAIN, False), bool):
        raise SettingsError(f"{origin} {SECTION}: {GRAIN}: true or false is wanted")
    return section


def _name_file(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """The settings file that they name; "" where none is."""
    named = [section["config"] for section in sections.values() if section.get("config")]
    return str(named[-1]) if named else ""


def _list_overrides(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        origin: {key: value for key, value in section.items() if key not in _NOT_SETTINGS}
        for origin, section in sections.items()
    }
