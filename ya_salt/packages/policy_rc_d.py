"""A policy-rc.d of ours for the time of one apt call: no package starts or restarts a service.

invoke-rc.d and deb-systemd-invoke ask `/usr/sbin/policy-rc.d` before they touch a service; 101
means "forbidden" (README.policy-rc.d.gz of init-system-helpers). Ours answers so only to scripts
below our own call, which it knows by HOSTMAN: were it left behind, it would hinder nobody else.
A script that calls systemctl itself is not hindered at all.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

_LOG = logging.getLogger("ya_salt.packages")
_MARK = "# ya-salt: for the time of one apt call"
# While installing a running service is left as it is. A purge lets services stop: their files go.
_FORBIDDEN = {"install": "*", "purge": "*start*|*reload*"}


@contextlib.contextmanager
def policy_in_place(
    path: Path, call: str, is_needed: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Have ours there during `call` ("install" or "purge"); gone again on every way out.

    But where it `is_needed` still by an apt that goes on: then the next pass takes it away.
    """
    is_ours = _put(path, _format(call))
    try:
        yield
    finally:
        if is_ours and not is_needed():
            remove_our_policy(path)


def has_our_policy(path: Path) -> bool:
    """Whether there is a policy-rc.d of ours."""
    with contextlib.suppress(OSError):
        return _is_ours(path)
    return False


def remove_our_policy(path: Path) -> bool:
    """Remove our policy-rc.d, never anybody else's. True if there was one."""
    with contextlib.suppress(OSError):
        if _is_ours(path):
            path.unlink()
            return True
    return False


def _format(call: str) -> str:
    return (
        f"#!/bin/sh\n{_MARK}\n"
        "# Safe to delete. It only answers to maintainer scripts that ya-salt started.\n"
        '[ -n "$HOSTMAN" ] || exit 0\n'
        f'case "$2" in {_FORBIDDEN[call]}) exit 101 ;; esac\n'
        "exit 0\n"
    )


def _put(path: Path, text: str) -> bool:
    """Put it in place whole or not at all; an existing file of somebody else stays."""
    remove_our_policy(path)
    draft = path.with_name(f".policy-rc.d.ya-salt-{os.getpid()}")
    try:
        draft.write_text(text)
        draft.chmod(0o755)
        os.link(draft, path)
    except FileExistsError:
        _LOG.info("packages: %s is not ours: left as it is, it decides about services", path)
        return False
    except OSError as error:
        _LOG.warning(
            "packages: no policy-rc.d can be written, packages may start services: %s", error
        )
        return False
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    return True


def _is_ours(path: Path) -> bool:
    with path.open(errors="replace") as file:
        return _MARK in file.read(200)
