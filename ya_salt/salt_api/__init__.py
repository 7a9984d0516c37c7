"""What Salt's adapters need of the core, in plain data; imports nothing of Salt.

The adapters in `_modules`, `_states` and `_beacons` may be copies that `saltutil.sync_all` made
long ago, so each has its `API` compared with this one before it does anything.
"""

from __future__ import annotations

from pathlib import Path

API = 2
"""Goes up whenever an adapter and the core of different ages would misunderstand each other."""

_PACKAGE = Path(__file__).resolve().parent.parent
_KINDS = ("modules", "states", "beacons")


def check_adapter(path: str, api: int) -> None:
    """Raises ImportError with what to do where an adapter was made for another core than this."""
    if api != API:
        raise ImportError(
            f"{path} speaks API {api}, but the ya-salt that is installed speaks {API}: it is an "
            "older or newer copy; run saltutil.sync_all, or delete it if the package has its own"
        )


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


def _find(checkout: str, installed: str) -> Path | None:
    for path in (_PACKAGE.parent / checkout, _PACKAGE / installed):
        if (path / "porto_daemon.py").is_file():
            return path
    return None
