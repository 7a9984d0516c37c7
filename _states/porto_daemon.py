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

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import salt.payload

_HERE = Path(__file__).resolve().parent
if _HERE.name == "_states" and importlib.util.find_spec("ya_salt") is None:
    # A checkout given as `module_dirs` has the core beside this folder. Salt's cache has not.
    sys.path.append(str(_HERE.parent))

try:
    from ya_salt import salt_api as _api

    _api.check_adapter(__file__, api=3)
    from ya_salt.salt_api import speech as _speech
    from ya_salt.salt_api import states as _states

    _TROUBLE = ""
except ImportError as _error:
    _TROUBLE = (
        f"{_error}, for {sys.executable}; put ya-salt there: its Debian package does that (where "
        "it is installed: dpkg-reconfigure ya-salt), or salt-pip install . in a checkout of it; "
        "a synchronised copy: salt-call saltutil.sync_all"
    )

# Given by Salt's loader.
__opts__: Mapping[str, Any]
__context__: MutableMapping[str, Any]
__salt__: Mapping[str, Any]

__virtualname__ = "porto_daemon"


def __virtual__() -> str | tuple[bool, str]:
    return (False, _TROUBLE) if _TROUBLE else __virtualname__


def managed(
    name: str,
    version: str | None = None,
    annotations: Mapping[str, str] | None = None,
    properties: Mapping[str, Any] | None = None,
    packages: list[Any] | None = None,
    min_ready_s: float | None = None,
    ready_timeout_s: float | None = None,
    readiness: Mapping[str, Any] | None = None,
    update: Mapping[str, Any] | None = None,
    watch_files: list[Any] | None = None,
    after: list[str] | None = None,
    drift: str | None = None,
    delete_requested: bool | None = None,
    source: str | None = None,
    file: str | None = None,
    lock_wait_s: float | None = None,
    together: bool | None = None,
    **unknown: Any,
) -> dict[str, Any]:
    """
    A daemon runs as its spec says: packages at their exact versions, the container from this spec,
    ready

    .. versionadded:: 0.1.0

    name
        The daemon's name, which is its container's too.

    version
        The version of the whole, for people and monitoring. Quote it: YAML makes 1.1 of 1.10.

    annotations
        Free texts by name, for people and their programs.

    properties
        Porto's properties, as in a spec file. Texts of ``env`` and ``cmd`` that look like numbers,
        booleans or dates have to be quoted.

    packages
        Debian packages, each ``name`` and ``version``, or ``- NAME: "VERSION"``.

    min_ready_s
        Seconds that the daemon has to run before it is ready. Default: 5.

    ready_timeout_s
        Seconds after which a daemon that is not ready is a failure. Default: 60, or 300 with
        ``readiness``.

    readiness
        How it is known whether it is ready: ``exec``, ``tcp``, ``http`` or ``notify``, as in a
        file.

    update
        What becomes of an update that fails: ``on_failure``, ``max_failures``, ``watch_s``,
        ``state``.

    watch_files
        The ``watch`` of a file, which in a state is Salt's own word: files whose change restarts
        it, or is told by a signal.

    after
        Names of daemons that are to be ready before it is started.

    drift
        ``correct`` or ``report``: what becomes of what somebody else changed.

    delete_requested
        With True the daemon is removed, as by ``absent``: for a daemon that pillar defines.

    source
        A spec file with ``meta`` and ``spec`` instead of all these fields: a path on the minion, or
        ``salt://…``.

    file
        Lay the spec that is given here down as this file of the daemons directory, so that passes
        without Salt know it too. Only its owner may read it.

    lock_wait_s
        Seconds to wait for another pass on this host to end. Default: 600.

    together
        With True the work of all states that say so and wait for nothing is done at once: one look
        at the host, one apt transaction, one wait until ready. Each state still tells its own. So
        does Salt's ``aggregate``, which in 3008 also lets whoever requires one of them require all.

    Any other argument makes this state fail, and it alone.

    What needs a new process gets one, what Porto can change in a running container is changed
    there. A ``watch`` restarts the daemon, once.

    .. code-block:: yaml

        juggler-agent-rtc:
          porto_daemon.managed:
            - version: "2.3.2001221352"
            - properties:
                cmd: [/usr/bin/juggler-client, --config-dir, /etc/juggler/]
                memory_limit: 2Gb
            - packages:
              - juggler-client-core: "2.3.2001221352"
    """
    # Without `**unknown` Salt lets one misspelt argument end the whole run with a traceback.
    return _states.run_daemon("managed", dict(locals()), _run())


def absent(
    name: str,
    packages: list[Any] | None = None,
    source: str | None = None,
    lock_wait_s: float | None = None,
    together: bool | None = None,
    version: str | None = None,
    annotations: Mapping[str, str] | None = None,
    properties: Mapping[str, Any] | None = None,
    min_ready_s: float | None = None,
    ready_timeout_s: float | None = None,
    readiness: Mapping[str, Any] | None = None,
    update: Mapping[str, Any] | None = None,
    watch_files: list[Any] | None = None,
    after: list[str] | None = None,
    drift: str | None = None,
    **unknown: Any,
) -> dict[str, Any]:
    """
    A daemon is gone: container destroyed, packages purged but for those that others need

    .. versionadded:: 0.1.0

    name
        The daemon's name.

    packages
        Packages to purge beside those that ya-salt remembers of it, as for ``managed``.

    source
        Its spec file, which then has to say ``meta.delete_requested: true`` itself.

    lock_wait_s
        Seconds to wait for another pass on this host to end. Default: 600.

    together
        As for ``managed``.

    version, annotations, properties, min_ready_s, ready_timeout_s
        As for ``managed``, so that the one word is all that has to be changed; checked, and of no
        effect.

    readiness, update, watch_files, after, drift
        The same.

    Any other argument makes this state fail, and it alone.

    .. code-block:: yaml

        old-agent:
          porto_daemon.absent:
            - packages:
              - old-agent: "1.0"
    """
    # As in `managed`.
    return _states.run_daemon("absent", dict(locals()), _run())


def directory(name: str, makedirs: bool = False, problem: str | None = None) -> dict[str, Any]:
    """
    The daemons directory can be read, and so can the settings

    .. versionadded:: 0.1.0

    name
        Anything; the directory is that of the settings.

    makedirs
        Make it where it is missing.

    problem
        Fail with this, in test mode too: what the SLS ``porto_daemons`` found, which may not fail
        while it is rendered.

    What is wrong with single files is told by their own states.

    .. code-block:: yaml

        porto-daemons:
          porto_daemon.directory:
            - makedirs: True
    """
    return _states.run_directory(name, _run(), makedirs=makedirs, problem=problem)


def mod_watch(name: str, **arguments: Any) -> dict[str, Any]:
    """
    What the daemon watches has changed: give it a new process

    .. versionadded:: 0.1.0

    Called by Salt for ``watch``, with the arguments of the state; not to be used in an SLS.

    .. code-block:: yaml

        agent:
          porto_daemon.managed:
            - source: salt://agent.yaml
            - watch:
              - file: /etc/agent.conf
    """
    return _states.run_restart({"name": name, **arguments}, _run())


def mod_aggregate(low: dict[str, Any], chunks: Any, running: Any) -> dict[str, Any]:
    """
    Let the first daemon of a run take all others along that wait for nothing: one look at the host,
    one apt transaction, one wait until ready

    .. versionadded:: 0.1.0

    Called by Salt for ``aggregate``; not to be used in an SLS.

    .. code-block:: yaml

        agent:
          porto_daemon.managed:
            - source: salt://agent.yaml
            - aggregate: True
    """
    if low.get("fun") in _states.FUNCTIONS:
        return _states.mark_aggregate(low)
    return low


def _run() -> _states.Run:
    here = globals()
    return _states.Run(
        opts=__opts__,
        pillar=here.get("__pillar__") or __opts__.get("pillar") or {},
        context=__context__,
        low=here.get("__low__") or {},
        lowstate=here.get("__lowstate__") or (),
        running=here.get("__running__") or {},
        find_who=lambda: _speech.name_job(__opts__, salt.payload.loads),
        fetch=_fetch,
    )


def _fetch(url: str) -> str:
    saltenv = globals().get("__env__") or "base"
    return str(__salt__["cp.cache_file"](url, saltenv=saltenv) or "")


_function: Any
for _function in (managed, absent):
    # Salt asks for it twice for each state that it runs; made of twenty arguments that takes long.
    _function.__signature__ = inspect.signature(_function)
