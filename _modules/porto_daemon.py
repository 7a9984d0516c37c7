"""
Look at and steer the daemons that ya-salt keeps in Porto containers

The work is ya-salt's (the Python package ``ya_salt``); this module says it in Salt's words.
Settings are those of ``/etc/hostman/ya-salt.yaml``, and over them ``porto_daemons:`` in the
minion's configuration and in pillar.

:depends: ya-salt, installed for the Python that Salt runs on
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import salt.payload
from salt.exceptions import CommandExecutionError, SaltInvocationError

_HERE = Path(__file__).resolve().parent
if _HERE.name == "_modules" and importlib.util.find_spec("ya_salt") is None:
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

if TYPE_CHECKING:
    from ya_salt.model import Settings as _Settings
    from ya_salt.salt_api import queries as _queries
    from ya_salt.salt_api import turn as _turn

# Given by Salt's loader.
__opts__: Mapping[str, Any]
__pillar__: Mapping[str, Any]
__grains__: Mapping[str, Any]
__context__: MutableMapping[str, Any]

__virtualname__ = "porto_daemon"


def __virtual__() -> str | tuple[bool, str]:
    return (False, _TROUBLE) if _TROUBLE else __virtualname__


def specs() -> dict[str, Any]:
    """
    The spec files of the daemons directory: ``directory``, ``specs``, ``rejected`` with every
    problem of each file, ``ignored``

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.specs
    """
    with _spoken():
        known = _api.quick.list_specs(__opts__, __pillar__)
        return _api.queries.list_specs(_settings()) if known is None else known


def status(name: str | None = None, summary: bool = False, details: bool = False) -> dict[str, Any]:
    """
    How the daemons stand at this moment: all of them in a line each, one in full

    name
        Only this daemon, with its conditions, packages, warnings and what was done last.

    summary
        Only counts and the first names that want a look: a small answer from a host of any size.

    details
        Of each daemon a mapping in the place of a line, for programs: ``ready``, ``phase``,
        ``state``, ``version``, where there is anything to say ``reason``, ``message``,
        ``warnings``, ``path`` and ``problems``.

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.status
        salt '*' porto_daemon.status summary=True
        salt '*' porto_daemon.status details=True --out=json
        salt web1 porto_daemon.status juggler-agent-rtc
    """
    with _spoken():
        return _api.queries.show_status(
            _settings(), _name(name), summary=bool(summary), details=bool(details)
        )


def ready(name: str) -> bool:
    """
    Whether a daemon is ready: packages right, running from its spec for long enough

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.ready juggler-agent-rtc
    """
    with _spoken():
        return _api.queries.is_ready_now(_settings(), _name(name, needed=True))


def plan(name: str | None = None) -> dict[str, Any]:
    """
    What a pass over the daemons directory would do now and why; empty when there is nothing to do

    name
        Only this daemon.

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.plan
        salt '*' porto_daemon.plan juggler-agent-rtc
    """
    with _spoken():
        return _api.queries.show_plan(_settings(), _name(name))


def apply(
    name: str | None = None, test: bool | None = None, lock_wait_s: int | None = None
) -> dict[str, Any]:
    """
    Make the daemons directory true, or one daemon of it, and wait until what was started is ready

    name
        Only this daemon.

    test
        Only say what would be done. Default: the minion's ``test`` option.

    lock_wait_s
        Seconds to wait for another pass on this host to end. Default: 600.

    The exit code of ``salt-call`` is not 0 when a daemon failed or a file cannot be used.

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.apply
        salt '*' porto_daemon.apply juggler-agent-rtc test=True
    """
    with _spoken():
        wanted, mode = _name(name), _mode(test, lock_wait_s)
        done = _api.quick.apply_now(__opts__, __pillar__, wanted, test=mode.test)
        if done is None:
            source = _api.quick.find_source(__opts__, __pillar__)
            done = _api.queries.apply_now(_settings(), wanted, mode, source)
    return _with_exit_code(done, done["ok"])


def validate(path: str) -> dict[str, Any]:
    """
    What is wrong with a spec file, or with every file of a directory, each with line and column

    path
        A spec file, or a directory of them.

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.validate /etc/hostman/porto-daemons.d/juggler-client.yaml
    """
    with _spoken():
        done = _api.queries.check_path(_name(path, needed=True))
    return _with_exit_code(done, not done["problems"])


def restart(
    name: str,
    reason: str | None = None,
    test: bool | None = None,
    lock_wait_s: int | None = None,
) -> dict[str, Any]:
    """
    Give a daemon a new process: SIGTERM, up to ten seconds, a new container from its spec

    reason
        Why, for the history.

    test
        Only say what would be done. Default: the minion's ``test`` option.

    lock_wait_s
        Seconds to wait for another pass on this host to end. Default: 600.

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.restart juggler-agent-rtc
    """
    with _spoken():
        mode = _mode(test, lock_wait_s)
        wanted = _name(name, needed=True)
        done = _api.queries.restart_now(_settings(), wanted, mode, _name(reason))
    return _with_exit_code(done, done["result"] is not False)


def stop(
    name: str,
    duration: str | None = None,
    reason: str | None = None,
    test: bool | None = None,
    lock_wait_s: int | None = None,
) -> dict[str, Any]:
    """
    Stop a daemon, and keep it stopped until somebody starts it

    duration
        How long, such as ``30m``, ``2h`` or ``3d``; then it is started again.

    reason
        Why, for whoever finds it stopped.

    test, lock_wait_s
        As for ``restart``.

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.stop juggler-agent-rtc duration=2h reason='the disk is replaced'
    """
    return _order("stop", name, test, lock_wait_s, why=_name(reason), span=_name(duration))


def start(name: str, test: bool | None = None, lock_wait_s: int | None = None) -> dict[str, Any]:
    """
    Start a daemon that was stopped

    test, lock_wait_s
        As for ``restart``.

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.start juggler-agent-rtc
    """
    return _order("start", name, test, lock_wait_s)


def retry(name: str, test: bool | None = None, lock_wait_s: int | None = None) -> dict[str, Any]:
    """
    Try a version again that was rejected, or what portod refused

    test, lock_wait_s
        As for ``restart``.

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.retry juggler-agent-rtc
    """
    return _order("retry", name, test, lock_wait_s)


def rollback(
    name: str, to: int = 0, test: bool | None = None, lock_wait_s: int | None = None
) -> dict[str, Any]:
    """
    Go back to what was ready before, until the daemon's file changes

    to
        The number of a generation (``porto_daemon.generations``). Default: the one before.

    test, lock_wait_s
        As for ``restart``.

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.rollback juggler-agent-rtc
        salt '*' porto_daemon.rollback juggler-agent-rtc to=3
    """
    return _order("rollback", name, test, lock_wait_s, number=_number(to, "to"))


def adopt(
    name: str, write: bool = False, test: bool | None = None, lock_wait_s: int | None = None
) -> dict[str, Any]:
    """
    Make a spec file of somebody's running container, and take it over without a restart

    write
        With True the file is laid down in the daemons directory and the container is ya-salt's from
        then on. Otherwise the file is only shown, as ``spec``.

    test, lock_wait_s
        As for ``restart``.

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt web1 porto_daemon.adopt old-agent
        salt web1 porto_daemon.adopt old-agent write=True
    """
    with _spoken():
        mode, wanted = _mode(test, lock_wait_s), _name(name, needed=True)
        done = _api.queries.adopt_now(_settings(), wanted, mode, write=bool(write))
    return _with_exit_code(done, done["result"] is not False)


def generations(name: str) -> list[dict[str, Any]]:
    """
    What a daemon can go back to: every generation that became ready, the newest last

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.generations juggler-agent-rtc
    """
    with _spoken():
        return _api.queries.list_generations(_settings(), _name(name, needed=True))


def logs(name: str, lines: int = 20) -> dict[str, str]:
    """
    The last lines that a daemon wrote: ``stdout`` and ``stderr``

    lines
        How many of each, from the end; 0 for none.

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.logs juggler-agent-rtc lines=50
    """
    with _spoken():
        return _api.queries.show_logs(
            _settings(), _name(name, needed=True), _number(lines, "lines")
        )


def gate_status(name: str | None = None) -> dict[str, Any]:
    """
    How the rollout gate stood in the last pass, and every daemon that waits for it or has a slot

    name
        Only this daemon.

    ``porto_daemon.plan`` asks the gate now: what it would not let through is among its answers.

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.gate_status
        salt web1 porto_daemon.gate_status juggler-agent-rtc
    """
    with _spoken():
        return _api.queries.show_gate(_settings(), _name(name))


def history(name: str | None = None, limit: int = 50) -> list[dict[str, str]]:
    """
    What was done to daemons and how their readiness changed, the newest last

    limit
        How many events at most, the newest.

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.history juggler-agent-rtc limit=10
    """
    with _spoken():
        return _api.queries.show_history(_settings(), _name(name), _number(limit, "limit"))


def why(name: str) -> dict[str, Any]:
    """
    Why a daemon stands as it does: what blocks it, or what restarted it last; what to type next

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.why juggler-agent-rtc
    """
    with _spoken():
        return _api.queries.explain(_settings(), _name(name, needed=True))


def describe(name: str) -> dict[str, Any]:
    """
    Everything about one daemon: spec, status, what is remembered of its life, history

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.describe juggler-agent-rtc
    """
    with _spoken():
        return _api.queries.describe(_settings(), _name(name, needed=True))


def report() -> list[dict[str, str]]:
    """
    Tell monitoring how the daemons stand now: what became of it, sink by sink

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.report
    """
    with _spoken():
        return _api.queries.tell_monitoring(_settings())


def settings() -> dict[str, dict[str, Any]]:
    """
    Every setting in force and where it comes from

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.settings
    """
    with _spoken():
        return _api.queries.show_settings(_api.configuration.read_in_force(__opts__, __pillar__))


def version() -> dict[str, str]:
    """
    Versions and places: of ya-salt, of this module, of what they run on

    .. versionadded:: 0.1.0

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.version
    """
    return {
        **_api.queries.show_versions(),
        "adapter": __file__,
        "salt": __grains__.get("saltversion", "unknown"),
    }


@contextlib.contextmanager
def _spoken() -> Iterator[None]:
    try:
        yield
    except _errors.UsageError as error:
        raise SaltInvocationError(_api.speech.speak(str(error))) from error
    except _errors.YaSaltError as error:
        raise CommandExecutionError(_api.speech.speak(str(error))) from error


def _settings() -> _Settings:
    return _api.configuration.read_settings(__opts__, __pillar__)


def _order(
    kind: _queries.Kind, name: Any, test: bool | None, lock_wait_s: int | None, **more: Any
) -> dict[str, Any]:
    with _spoken():
        mode, wanted = _mode(test, lock_wait_s), _name(name, needed=True)
        done = _api.queries.give_order(_settings(), wanted, kind, mode, **more)
    return _with_exit_code(done, done["result"] is not False)


def _with_exit_code(answer: dict[str, Any], is_fine: bool) -> dict[str, Any]:
    if not is_fine:
        __context__["retcode"] = 1
    return answer


def _mode(test: bool | None, lock_wait_s: int | None) -> _turn.Mode:
    wait_s = _api.turn.LOCK_WAIT_S if lock_wait_s is None else _number(lock_wait_s, "lock_wait_s")
    is_test = bool(__opts__.get("test") if test is None else test)
    return _api.turn.Mode(is_test, wait_s, _api.speech.name_job(__opts__, salt.payload.loads))


def _name(value: Any, needed: bool = False) -> str:
    if value is None and not needed:
        return ""
    if not isinstance(value, str) or not value:
        raise SaltInvocationError(f"{value!r} is no name: a text is wanted, quote it")
    return value


def _number(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise SaltInvocationError(f"{name}: {value!r} is not a whole number from 0 on")
    return value
