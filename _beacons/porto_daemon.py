"""
Tell the master when a daemon of ya-salt stops being ready, is ready again, was respawned, or runs
from another spec

.. code-block:: yaml

    beacons:
      porto_daemon:
        - interval: 30
        - disable_during_state_run: True
        - events: [not_ready, ready, respawned, changed]

Configuration:

interval
    Seconds between two looks; each is one question to portod. Salt's own, as
    ``disable_during_state_run`` is, which keeps quiet while a state run changes daemons.

events
    What to tell. Default: all of these. ``not_ready``: a daemon is not ready any more, or is not at
    the first look. ``ready``: it is again. ``respawned``: portod has started it again since.
    ``changed``: it runs from another spec than before.

Events come as ``salt/beacon/MINION/porto_daemon/not_ready/DAEMON``, with these fields:

event
    One of the four names.

name
    The daemon.

version
    Its version, as its spec says.

state
    Porto's word for its container: ``running``, ``dead``, …; empty where there is none.

reason, message
    Why it is ready or not: a word that stays the same, and a sentence for people.

respawn_count
    How often portod has started it again since its container was made.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
if _HERE.name == "_beacons" and importlib.util.find_spec("ya_salt") is None:
    # A checkout given as `module_dirs` has the core beside this folder. Salt's cache has not.
    sys.path.append(str(_HERE.parent))

try:
    from ya_salt import salt_api as _api

    _api.check_adapter(__file__, api=3)
    from ya_salt import errors as _errors

    _TROUBLE = ""
except ImportError as _error:
    _TROUBLE = (
        f"{_error}, for {sys.executable}; put ya-salt there: its Debian package does that (where "
        "it is installed: dpkg-reconfigure ya-salt), or salt-pip install . in a checkout of it; "
        "a synchronised copy: salt-call saltutil.sync_all"
    )

# Given by Salt's loader.
__opts__: Mapping[str, Any]

log = logging.getLogger(__name__)
_SEEN: dict[str, Any] = {}

__virtualname__ = "porto_daemon"


def __virtual__() -> str | tuple[bool, str]:
    return (False, _TROUBLE) if _TROUBLE else __virtualname__


def validate(config: Any) -> tuple[bool, str]:
    """
    Validate the beacon configuration

    .. versionadded:: 0.1.0
    """
    if not isinstance(config, list):
        return False, "Configuration for porto_daemon beacon must be a list."
    problem = _api.beacon.check_config(_merged(config))
    return (False, problem) if problem else (True, "Valid beacon configuration")


def beacon(config: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    Compare the daemons with how they were the last time

    .. versionadded:: 0.1.0
    """
    pillar = globals().get("__pillar__") or __opts__.get("pillar") or {}
    try:
        settings = _api.configuration.read_settings(__opts__, pillar)
    except _errors.YaSaltError as error:
        log.warning("porto_daemon beacon: %s", error)
        return []
    wanted = _merged(config).get("events", _api.beacon.EVENTS)
    return _api.beacon.find_events(_api.beacon.look(settings), _SEEN, wanted)


def _merged(config: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: value for item in config for key, value in item.items()}
