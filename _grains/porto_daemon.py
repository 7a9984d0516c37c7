"""
Names and versions of the daemons that ya-salt has on this host, as grains, where they are asked for

.. code-block:: yaml

    # /etc/salt/minion.d/ya-salt.conf
    porto_daemons:
      grain: true

``porto_daemons``
    A list of their names.

``porto_daemon_versions``
    Name -> the version that runs, or ran last.

``porto_daemon_packages``
    Name -> package -> the version that is installed; ``unknown`` where dpkg could not tell.

``porto_daemons_unknown``
    Why some or all of the others cannot be told. Not there where they can.

They are as the last pass found them. Neither portod nor dpkg is asked, as a minion must not wait
for them when it starts.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent

# Given by Salt's loader.
__opts__: Mapping[str, Any]

log = logging.getLogger(__name__)


def porto_daemons() -> dict[str, Any]:
    """
    The grains; none where nobody asked for them

    .. versionadded:: 0.1.0
    """
    section = __opts__.get("porto_daemons")
    if not isinstance(section, Mapping) or section.get("grain", False) is False:
        # Before anything is loaded: most minions have no use for it.
        return {}
    told = _tell()
    if "porto_daemons_unknown" in told:
        log.error("porto_daemon grains: %s", told["porto_daemons_unknown"])
    return told


def _tell() -> dict[str, Any]:
    if _HERE.name == "_grains" and importlib.util.find_spec("ya_salt") is None:
        # A checkout given as `module_dirs` has the core beside this folder. Salt's cache has not.
        sys.path.append(str(_HERE.parent))
    try:
        from ya_salt import salt_api  # noqa: PLC0415 - not where the grains are switched off

        salt_api.check_adapter(__file__, api=3)
        # An older core has none.
        from ya_salt.salt_api import grain  # noqa: PLC0415
    except ImportError as error:
        trouble = (
            f"{error}, for {sys.executable}; put ya-salt there: its Debian package does that (where"
            " it is installed: dpkg-reconfigure ya-salt), or salt-pip install . in a checkout of "
            "it; a synchronised copy: salt-call saltutil.sync_all"
        )
        return {"porto_daemons_unknown": trouble}
    told: dict[str, Any] = grain.tell_daemons(__opts__)
    return told
