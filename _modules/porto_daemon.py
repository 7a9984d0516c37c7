"""
Look at and steer the daemons that ya-salt keeps in Porto containers

The work is ya-salt's (the Python package ``ya_salt``); this module says it in Salt's words.
Settings are those of ``/etc/hostman/ya-salt.yaml``, and over them ``porto_daemons:`` in the
minion's configuration and in pillar.

:depends: ya-salt, installed for the Python that Salt runs on
"""

import contextlib
import logging
import sys
from pathlib import Path

from salt.exceptions import CommandExecutionError, SaltInvocationError

# A checkout given as `module_dirs` has the core beside this folder; elsewhere it is installed.
_CHECKOUT = Path(__file__).resolve().parent.parent
if (_CHECKOUT / "ya_salt" / "salt_api").is_dir() and str(_CHECKOUT) not in sys.path:
    sys.path.append(str(_CHECKOUT))

try:
    from ya_salt import errors as _errors
    from ya_salt import salt_api as _api
    from ya_salt.salt_api import answers as _answers
    from ya_salt.salt_api import configuration as _configuration
    from ya_salt.salt_api import converge as _converge
    from ya_salt.salt_api import why as _why

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


def specs():
    """
    The spec files of the daemons directory: ``specs``, ``rejected`` with every problem of each
    file, ``ignored``

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.specs
    """
    with _spoken():
        return _answers.list_specs(_settings())


def status(name=None, summary=False):
    """
    How the daemons stand at this moment: all of them in a line each, one in full

    name
        Only this daemon, with its conditions, packages, warnings and what was done last.

    summary
        Only counts and the first names that want a look: a small answer from a host of any size.

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.status
        salt '*' porto_daemon.status summary=True
        salt web1 porto_daemon.status juggler-agent-rtc
    """
    with _spoken():
        return _answers.show_status(_settings(), _name(name), summary=bool(summary))


def ready(name):
    """
    Whether a daemon is ready: packages right, running from its spec for long enough

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.ready juggler-agent-rtc
    """
    with _spoken():
        return _answers.is_ready_now(_settings(), _name(name, needed=True))


def plan():
    """
    What a pass over the daemons directory would do now and why; empty when there is nothing to do

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.plan
    """
    with _spoken():
        return _answers.show_plan(_settings())


def apply(name=None, test=None, lock_wait_s=None):
    """
    Make the daemons directory true, or one daemon of it, and wait until what was started is ready

    name
        Only this daemon.

    test
        Only say what would be done. Default: the minion's ``test`` option.

    lock_wait_s
        Seconds to wait for another pass on this host to end. Default: 600.

    The exit code of ``salt-call`` is not 0 when a daemon failed or a file cannot be used.

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.apply
        salt '*' porto_daemon.apply juggler-agent-rtc test=True
    """
    with _spoken():
        done = _answers.apply_now(_settings(), _name(name), _mode(test, lock_wait_s))
    return _judged(done, done["ok"])


def validate(path):
    """
    What is wrong with a spec file, or with every file of a directory, each with line and column

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.validate /etc/hostman/porto-daemons.d/juggler-client.yaml
    """
    with _spoken():
        done = _answers.check_path(_name(path, needed=True))
    return _judged(done, not done["problems"])


def restart(name, test=None, lock_wait_s=None):
    """
    Give a daemon a new process: SIGTERM, up to ten seconds, a new container from its spec

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.restart juggler-agent-rtc
    """
    with _spoken():
        wanted = _name(name, needed=True)
        done = _answers.restart_now(_settings(), wanted, _mode(test, lock_wait_s))
    return _judged(done, done["result"] is not False)


def logs(name, lines=20):
    """
    The last lines that a daemon wrote: ``stdout`` and ``stderr``

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.logs juggler-agent-rtc lines=50
    """
    with _spoken():
        return _answers.show_logs(_settings(), _name(name, needed=True), _number(lines, "lines"))


def gate_status(name=None):
    """
    How the rollout gate stood in the last pass, and every daemon that waits for it or has a slot

    name
        Only this daemon.

    ``porto_daemon.plan`` asks the gate now: what it would not let through is among its answers.

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.gate_status
        salt web1 porto_daemon.gate_status juggler-agent-rtc
    """
    with _spoken():
        return _answers.show_gate(_settings(), _name(name))


def history(name=None, limit=50):
    """
    What was done to daemons and how their readiness changed, the newest last

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.history juggler-agent-rtc limit=10
    """
    with _spoken():
        return _answers.show_history(_settings(), _name(name), _number(limit, "limit"))


def why(name):
    """
    Why a daemon stands as it does, and what to type next

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.why juggler-agent-rtc
    """
    with _spoken():
        return _why.explain(_settings(), _name(name, needed=True))


def report():
    """
    Tell monitoring how the daemons stand now: what became of it, sink by sink

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.report
    """
    with _spoken():
        return _answers.tell_monitoring(_settings())


def settings():
    """
    Every setting in force and where it comes from

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.settings
    """
    with _spoken():
        return _answers.show_settings(_configuration.read_in_force(__opts__, __pillar__))


def version():
    """
    Versions and places: of ya-salt, of this module, of what they run on

    CLI Example:

    .. code-block:: bash

        salt '*' porto_daemon.version
    """
    return {
        **_answers.show_versions(),
        "adapter": __file__,
        "salt": __grains__.get("saltversion", "unknown"),
    }


@contextlib.contextmanager
def _spoken():
    try:
        yield
    except _errors.UsageError as error:
        raise SaltInvocationError(str(error)) from error
    except _errors.YaSaltError as error:
        raise CommandExecutionError(str(error)) from error


def _settings():
    return _configuration.read_settings(__opts__, __pillar__)


def _judged(answer, is_fine):
    if not is_fine:
        __context__["retcode"] = 1
    return answer


def _mode(test, lock_wait_s):
    wait_s = _converge.LOCK_WAIT_S if lock_wait_s is None else _number(lock_wait_s, "lock_wait_s")
    return _converge.Mode(bool(__opts__.get("test") if test is None else test), wait_s)


def _name(value, needed=False):
    if value is None and not needed:
        return ""
    if not isinstance(value, str) or not value:
        raise SaltInvocationError(f"{value!r} is no name: a text is wanted, quote it")
    return value


def _number(value, name):
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise SaltInvocationError(f"{name}: {value!r} is no whole number from 0 on")
    return value
