"""The `symlink` property: links that portod makes for a container, in its file system."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

from devporto import porto_pb2 as pb
from devporto.refusal import Refusal, make_denied
from devporto.users import Credentials
from devporto.values import normalize_path

_FOLDER_MODE = 0o775
_WRITE = 2


def place_symlink(cwd: str, link: str, target: str, owner: Credentials) -> None:
    """Make a link, point it elsewhere, or remove it where there is no target, as `owner` may.

    A link that is to go and is not there is an error, as with portod. Raises Refusal.
    """
    path = Path(normalize_path(posixpath.join(cwd, link)))
    try:
        _make_folder(path.parent, owner)
        _place(path, _find_text(path, cwd, target), owner)
    except OSError as error:
        raise Refusal(pb.Unknown, f"symlink {path}: {error.strerror}") from error


def _find_text(path: Path, cwd: str, target: str) -> str:
    if not target:
        return ""
    return posixpath.relpath(normalize_path(posixpath.join(cwd, target)), path.parent)


def _place(path: Path, text: str, owner: Credentials) -> None:
    if not path.is_symlink():
        # Without a target the kernel says that there is no such file, and so does portod.
        _make_link(path, text, owner)
    elif not text:
        path.unlink()
    elif os.readlink(path) != text:  # noqa: PTH115 - the text, as it stands
        fresh = path.with_name(f".next_{path.name}")
        fresh.unlink(missing_ok=True)
        _make_link(fresh, text, owner)
        fresh.replace(path)


def _make_link(path: Path, text: str, owner: Credentials) -> None:
    os.symlink(text, path)  # noqa: PTH211 - the text, as it stands
    _give(path, owner)


def _give(path: Path, owner: Credentials) -> None:
    if os.geteuid() == 0:
        os.chown(path, owner.uid, owner.gid, follow_symlinks=False)


def _make_folder(folder: Path, owner: Credentials) -> None:
    """Let pass a folder that `owner` may write to; make what is missing of it."""
    if not folder.exists():
        _make_folder(folder.parent, owner)
        folder.mkdir(_FOLDER_MODE)
        _give(folder, owner)
        return
    status = folder.stat()
    shift = 6 if owner.uid == status.st_uid else 3 if owner.is_member(status.st_gid) else 0
    if owner.uid != 0 and not status.st_mode >> shift & _WRITE:
        raise make_denied(f"uid {owner.uid} has no write access to {folder}")
