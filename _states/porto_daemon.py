"""
Daemons in Porto containers, from exact Debian packages

.. code-block:: yaml

    juggler-agent-rtc:
      porto_daemon.managed:
        - version: "2.3.2001221352"
        - properties:
            cmd: [/usr/bin/juggler-client, --config-dir, /etc/juggler/]
            user: monitor
            memory_limit: 2Gb
        - packages:
          - juggler-client-core: "2.3.2001221352"
        - watch:
          - file: /etc/juggler/client.conf

    old-agent:
      porto_daemon.absent

The work is ya-salt's (the Python package ``ya_salt``); this module says it in Salt's words.

:depends: ya-salt, installed for the Python that Salt runs on
"""

import logging
import sys
from pathlib import Path

# A checkout given as `module_dirs` has the core beside this folder; elsewhere it is installed.
_CHECKOUT = Path(__file__).resolve().parent.parent
if (_CHECKOUT / "ya_salt" / "salt_api").is_dir() and str(_CHECKOUT) not in sys.path:
    sys.path.append(str(_CHECKOUT))

try:
    from ya_salt import salt_api as _api
    from ya_salt.salt_api import states as _states

    _MISSING = ""
except ImportError as _error:
    _api = None
    _MISSING = str(_error)

log = logging.getLogger(__name__)

__virtualname__ = "porto_daemon"

_API = 1


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


def managed(name, source=None, file=None, lock_wait_s=None, together=None, **fields):
    """
    A daemon runs as its spec says: packages at their exact versions, the container from this spec,
    ready

    name
        The daemon's name, which is its container's too.

    source
        A spec file with ``meta`` and ``spec``: a path on the minion, or ``salt://…``. Left out, the
        spec is given here by the fields of such a file:

    version, annotations, properties, packages, min_ready_s, ready_timeout_s
        As in a spec file. A package may also be written ``- NAME: "VERSION"``.

    file
        Lay the spec that is given here down as this file of the daemons directory, so that passes
        without Salt know it too.

    lock_wait_s
        Seconds to wait for another pass on this host to end. Default: 600.

    together
        With True the work of all states that say so and wait for nothing is done at once: one look
        at the host, one apt transaction, one wait until ready. Each state still tells its own. So
        does Salt's ``aggregate``, which in 3008 also lets whoever requires one of them require all.

    What needs a new process gets one, what Porto can change in a running container is changed
    there. A ``watch`` restarts the daemon, once.
    """
    given = {"source": source, "file": file, "lock_wait_s": lock_wait_s, "together": together}
    given.update(fields)
    return _told(_states.run_daemon("managed", {"name": name, **given}, _run()))


def absent(name, source=None, lock_wait_s=None, together=None, packages=None, **fields):
    """
    A daemon is gone: container destroyed, packages purged but for those that others need

    name
        The daemon's name.

    source
        Its spec file, which then has to say ``meta.delete_requested: true`` itself.

    packages
        Packages to purge beside those that ya-salt remembers of it.

    lock_wait_s
        Seconds to wait for another pass on this host to end. Default: 600.

    together
        As for ``managed``.
    """
    given = {"source": source, "lock_wait_s": lock_wait_s, "together": together}
    given.update(fields, packages=packages)
    return _told(_states.run_daemon("absent", {"name": name, **given}, _run()))


def directory(name, makedirs=False):
    """
    The daemons directory can be read, and so can the settings

    name
        Anything; the directory is that of the settings.

    makedirs
        Make it where it is missing.

    What is wrong with single files is told by their own states.
    """
    return _states.run_directory(name, _run(), makedirs=makedirs)


def refused(name, problem):
    """
    Something about a daemon cannot be used: fail, in test mode too, with what is wrong

    For ``porto_daemons/init.sls``, which may not fail while it is rendered.
    """
    return {"name": name, "result": False, "changes": {}, "comment": problem}


def mod_watch(name, **arguments):
    """
    What the daemon watches has changed: give it a new process

    Called by Salt for ``watch``; not to be used in an SLS.
    """
    return _told(_states.run_restart({"name": name, **arguments}, _run()))


def mod_aggregate(low, chunks, running):
    """
    Let the first daemon of a run take all others along that wait for nothing: one look at the host,
    one apt transaction, one wait until ready
    """
    if low.get("fun") in ("managed", "absent"):
        return _states.mark_aggregate(low)
    return low


def _run():
    here = globals()
    return _states.Run(
        opts=__opts__,
        pillar=here.get("__pillar__") or __opts__.get("pillar") or {},
        context=__context__,
        low=here.get("__low__") or {},
        lowstate=here.get("__lowstate__") or (),
        running=here.get("__running__") or {},
        fetch=_fetch,
    )


def _fetch(url):
    return __salt__["cp.cache_file"](url, saltenv=globals().get("__env__") or "base") or ""


def _told(answer):
    """
    Tell the master of a change at once, where there is one
    """
    local = __opts__.get("local") or __opts__.get("file_client") == "local"
    if answer["changes"] and not __opts__.get("test") and not local:
        tag = f"porto_daemon/changed/{answer['name']}"
        __salt__["event.send"](tag, {key: answer[key] for key in ("name", "result", "changes")})
    return answer
