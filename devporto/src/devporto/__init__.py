"""A Porto server for machines without portod: Porto's protocol on a unix socket, real processes.

For development, demos and tests. **Not a security boundary**: there are no namespaces, mounts or
cgroups. `memory_limit`, `cpu_limit`, `io_*`, `net_*`, `devices`, `bind`, `seccomp`, `sysctl` and
`thread_limit` are checked, normalised and read back as portod does, and nothing more. A `root`
other than `/` is refused at start. Applied are: command, environment, directory, umask, ulimit,
oom_score_adj, processors, symlinks, streams; user, group and capabilities too where the server
runs as root. A server that is not root accepts known users and runs every command as itself; the
user who runs it has root's rights.

Signals: SIGTERM and SIGINT end the server and every process it started. SIGHUP breaks all
connections and keeps the socket, as clients of a reloading portod see it; containers stay, weak
ones go. SIGKILL ends the processes too: a small keeper process notices.
"""

from __future__ import annotations

__all__ = ["run"]
__version__ = "0.1.0"


def run(socket_path: str, *, sysroot: str | None = None) -> int:
    """Serve on `socket_path` until SIGTERM or SIGINT; the exit code for a command line.

    With `sysroot`, a private package root stands in for `/`: users and groups are looked up there
    first, and so are absolute paths of programs.
    """
    # Imported late: the keeper imports this package without protobuf at hand.
    import asyncio  # noqa: PLC0415
    import sys  # noqa: PLC0415

    from devporto.server import serve  # noqa: PLC0415

    try:
        asyncio.run(serve(socket_path, sysroot))
    except OSError as error:
        sys.stderr.write(f"dev-portod: {socket_path}: {error.strerror or error}\n")
        return 1
    return 0
