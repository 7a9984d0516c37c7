"""What Salt's adapters need of the core, in plain data; imports nothing of Salt.

The adapters in `_modules`, `_states`, `_beacons` and `_grains` may be copies that
`saltutil.sync_all` made long ago, so each has its `API` compared with this one before it does
anything.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Loaded when they are asked for: see `__getattr__`.
    from ya_salt.salt_api import beacon as beacon
    from ya_salt.salt_api import configuration as configuration
    from ya_salt.salt_api import grain as grain
    from ya_salt.salt_api import queries as queries
    from ya_salt.salt_api import quick as quick
    from ya_salt.salt_api import speech as speech
    from ya_salt.salt_api import states as states
    from ya_salt.salt_api import turn as turn

API = 3
"""Goes up whenever an adapter and the core of different ages would misunderstand each other."""

_PACKAGE = Path(__file__).resolve().parent.parent
_KINDS = ("modules", "states", "beacons", "grains")
_NEEDED = ("yaml", "google.protobuf", "prometheus_client")


def check_adapter(path: str, api: int) -> None:
    """Raises ImportError with what to do where an adapter was made for another core than this.

    And where a library is missing: it would be found out only when it is wanted.
    """
    if api != API:
        raise ImportError(
            f"{path} speaks API {api}, but the ya-salt that is installed speaks {API}: it is an "
            "older or newer copy; run saltutil.sync_all, or delete it if the package has its own"
        )
    for name in _NEEDED:
        if not _is_there(name):
            raise ImportError(f"No module named '{name}'", name=name)


def __getattr__(name: str) -> Any:
    """A module of this package when it is first asked for: Salt loads adapters to look at them."""
    if name.startswith("_"):
        raise AttributeError(name)
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
        raise AttributeError(name) from error


def list_loader_folders() -> dict[str, list[str]]:
    """The folders of each of Salt's loaders; the entry point `salt.loader` names this function.

    A function, because Salt takes a module's `__path__` apart, which editable installs do not have.
    """
    found = {kind: _find(f"_{kind}", f"ext/{kind}") for kind in _KINDS}
    return {kind: [str(path)] for kind, path in found.items() if path is not None}


def find_file_root() -> str:
    """A folder for `file_roots` in which the SLS `porto_daemons` lies; "" where there is none."""
    for folder in (_PACKAGE.parent, _PACKAGE / "ext/file_root"):
        if (folder / "porto_daemons/init.sls").is_file():
            return str(folder)
    return ""


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def _find(checkout: str, installed: str) -> Path | None:
    for path in (_PACKAGE.parent / checkout, _PACKAGE / installed):
        if (path / "porto_daemon.py").is_file():
            return path
    return None
