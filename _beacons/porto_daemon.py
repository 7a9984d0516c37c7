"""
Tell the master when a daemon of ya-salt stops being ready, is ready again, was respawned, or runs
from another spec

.. code-block:: yaml

    beacons:
      porto_daemon:
        - interval: 30
        - disable_during_state_run: True
        - events: [not_ready, ready, respawned, changed]

Events come as ``salt/beacon/MINION/porto_daemon/not_ready/DAEMON``.
"""

import logging
import sys
from pathlib import Path

# A checkout given as `module_dirs` has the core beside this folder; elsewhere it is installed.
_CHECKOUT = Path(__file__).resolve().parent.parent
if (_CHECKOUT / "ya_salt" / "salt_api").is_dir() and str(_CHECKOUT) not in sys.path:
    sys.path.append(str(_CHECKOUT))

try:
    from ya_salt import errors as _errors
    from ya_salt import salt_api as _api
    from ya_salt.salt_api import beacon as _beacon
    from ya_salt.salt_api import configuration as _configuration

    _MISSING = ""
except ImportError as _error:
    _api = None
    _MISSING = str(_error)

log = logging.getLogger(__name__)

__virtualname__ = "porto_daemon"

_API = 1
_SEEN = {}


def __virtual__():
    if getattr(_api, "API", _API) != _API:
        return (
            False,
            f"{__file__} speaks API {_API}, but the ya-salt that is installed {_api.API}: it is a "
            "copy of another age; run saltutil.sync_all, or delete it if the package has its own",
        )
    if _MISSING:
        return (
            False,
            f"ya-salt cannot be imported by {sys.executable} ({_MISSING}); "
            "install it there: salt-pip install ya-salt",
        )
    return __virtualname__


def validate(config):
    """
    Validate the beacon configuration
    """
    if not isinstance(config, list):
        return False, "Configuration for porto_daemon beacon must be a list."
    problem = _beacon.check_config(_merged(config))
    return (False, problem) if problem else (True, "Valid beacon configuration")


def beacon(config):
    """
    Compare the daemons with how they were the last time
    """
    pillar = globals().get("__pillar__") or __opts__.get("pillar") or {}
    try:
        settings = _configuration.read_settings(__opts__, pillar)
    except _errors.YaSaltError as error:
        log.warning("porto_daemon beacon: %s", error)
        return []
    wanted = _merged(config).get("events", _beacon.EVENTS)
    return _beacon.find_events(_beacon.look(settings), _SEEN, wanted)


def _merged(config):
    merged = {}
    for item in config:
        merged.update(item)
    return merged
