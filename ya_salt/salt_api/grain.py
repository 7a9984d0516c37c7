"""Which daemons of which version this host has, as grains: what the last pass wrote down.

Nobody is asked but the store, so that a minion starts however portod, dpkg and the gate are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ya_salt.errors import YaSaltError
from ya_salt.lock import FILE_NAME as LOCK_NAME
from ya_salt.model import DaemonStatus, Record
from ya_salt.salt_api.configuration import SECTION, read_settings
from ya_salt.salt_api.speech import speak
from ya_salt.store import FILE_NAME as STORE_NAME
from ya_salt.store import read_store
from ya_salt.text import escape_all

UNKNOWN = "unknown"
_LOST = "{} is gone, though passes were made: the next one learns anew which daemons there are"
_DAMAGED = "the store is damaged: what is lost of it the next pass learns anew"


def tell_daemons(opts: Mapping[str, Any]) -> dict[str, Any]:
    """`porto_daemons` (names), `porto_daemon_versions` and `porto_daemon_packages`, both by name.

    `porto_daemons_unknown` is there where not all can be known, and says why. Pillar counts where
    there is one yet: grains are made before it.
    """
    try:
        settings = read_settings(opts, opts.get("pillar") or {})
        store = read_store(settings.state_dir)
    except YaSaltError as error:
        return _speak({f"{SECTION}_unknown": str(error)})
    if store is None:
        # A pass leaves its lock file: without a store nobody knows what that one found.
        lock, name = Path(settings.state_dir, LOCK_NAME), Path(settings.state_dir, STORE_NAME)
        is_lost = os.path.lexists(lock)
        return _speak({f"{SECTION}_unknown": _LOST.format(name)}) if is_lost else make_grains([])
    grains = make_grains(store.load_records().values())
    if store.rebuilt:
        grains[f"{SECTION}_unknown"] = _DAMAGED
    return grains


def make_grains(records: Iterable[Record]) -> dict[str, Any]:
    """The grains of what is remembered. Pure."""
    found = {item.name: item.status for item in records if not _is_gone(item.status)}
    # Of a daemon that has been seen and not yet looked at only the name is known.
    versions = {name: status.version if status else UNKNOWN for name, status in found.items()}
    packages = {name: _list_packages(status) for name, status in found.items() if status}
    return _speak(
        {
            SECTION: list(found),
            "porto_daemon_versions": {name: text for name, text in versions.items() if text},
            "porto_daemon_packages": {name: named for name, named in packages.items() if named},
        }
    )


def _is_gone(status: DaemonStatus | None) -> bool:
    return status is not None and status.phase == "Removed"


def _list_packages(status: DaemonStatus) -> dict[str, str]:
    """Package -> its version; without those that are not installed."""
    is_unknown = status.installed is not None and status.installed.reason == "DpkgUnavailable"
    found = {name: version for name, _, version in status.packages}
    if is_unknown:
        return dict.fromkeys(found, UNKNOWN)
    return {name: version for name, version in found.items() if version}


def _speak(told: dict[str, Any]) -> dict[str, Any]:
    spoken: dict[str, Any] = speak(escape_all(told))
    return spoken
