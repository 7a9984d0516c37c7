"""Where the adapters and the SLS lie: in a checkout, or in an installed package."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
_KINDS = ("modules", "states", "beacons")


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
