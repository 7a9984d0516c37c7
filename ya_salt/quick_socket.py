"""Connections to this host, without what the standard library's `socket` loads.

That makes enums of all constants there are, which takes a quick pass as long as everything that it
does. `_socket` is what it is made of. Whoever opens one of these closes it. Loads next to nothing.
"""

from __future__ import annotations

import _socket
from _socket import AF_UNIX, SOCK_STREAM, getaddrinfo, socket


def connect_path(path: str, timeout_s: float) -> socket:
    """To whoever listens at this path. Raises OSError."""
    return _connect(AF_UNIX, path, timeout_s)


def connect(host: str, port: int, timeout_s: float) -> socket:
    """To the first address of `host` at which somebody listens. Raises OSError."""
    # As bytes, it takes no codec.
    found = getaddrinfo(host.encode(), port, 0, SOCK_STREAM)
    for family, _, _, _, address in found[:-1]:
        try:
            return _connect(family, address, timeout_s)
        except OSError:
            pass
    return _connect(found[-1][0], found[-1][4], timeout_s)


def _connect(family: int, address: _socket._Address, timeout_s: float) -> socket:
    made = socket(family, SOCK_STREAM)
    try:
        made.settimeout(timeout_s)
        made.connect(address)
    except BaseException:
        made.close()
        raise
    return made
