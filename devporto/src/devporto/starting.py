"""What portod settles and refuses when a container starts, before there is any process."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from devporto import porto_pb2 as pb
from devporto.capabilities import find_ambient, find_bound, find_limit, format_capabilities
from devporto.containers import Container
from devporto.hardware import IO_LIMITS, CpuSet, check_cpu_set, check_disks
from devporto.network import is_address_inside, parse_net
from devporto.refusal import Refusal, make_denied, make_invalid
from devporto.users import Caller, Credentials
from devporto.values import normalize_path

_SYSTEM_FOLDERS = (
    *("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "root", "sbin"),
    *("sys", "usr", "var"),
)
_IPC_SYSCTLS = (
    *("fs.mqueue.queues_max", "fs.mqueue.msg_max", "fs.mqueue.msgsize_max"),
    *("fs.mqueue.msg_default", "fs.mqueue.msgsize_default", "kernel.shmmax", "kernel.shmall"),
    *("kernel.shmmni", "kernel.shm_rmid_forced", "kernel.msgmax", "kernel.msgmni"),
    *("kernel.msgmnb", "kernel.sem"),
)


def check_start(caller: Caller, container: Container) -> None:
    """Settle what the mode implies, and accept what is left. Raises Refusal."""
    caller.check_control(container.owner)
    _settle_os_mode(container)
    _settle_thread_limit(container)
    if container.values.get("net_rx_limit") and not container.network.isolates:
        raise make_invalid("Net rx limit requires isolated network")
    _check_credentials(caller, container)
    _check_mode(container)
    _check_capabilities(container)
    _check_places(container)
    _check_mounts(container)
    _check_sysctl(container)
    _check_addresses(container)
    for name in IO_LIMITS:
        check_disks(container, container.values.get(name, {}))
    check_volumes(container.values.get("volumes_required", ()))
    check_cpu_set(container, container.values.get("cpu_set", CpuSet()))


def _settle_os_mode(container: Container) -> None:
    if container.mode != "os":
        return
    container.task = Credentials(0, 0, (0,))
    if "net" not in container.touched:
        container.network = parse_net("none")
    if "command" not in container.touched and not container.command:
        container.command = "/sbin/init"
    container.values.setdefault("cwd", "/")
    for name in ("stdout", "stderr"):
        if f"{name}_path" not in container.touched:
            getattr(container, name).path = "/dev/null"


def _settle_thread_limit(container: Container) -> None:
    """Every first-level container has one, so it gets its controller back."""
    if container.level == 1:
        container.controllers.add("pids")


def has_mount_namespace(container: Container) -> bool:
    """Where portod makes links at start; in host mode it does so only when they are set."""
    return container.mode not in ("host", "job") and (container.isolate or container.level == 1)


def _check_capabilities(container: Container) -> None:
    bound = find_bound(container)
    over = bound & ~find_limit(container)
    if over and "capabilities" in container.values:
        raise make_denied(f"Capabilities out of bounds: {format_capabilities(over)}")
    if over := find_ambient(container) & ~bound:
        raise make_denied(f"Ambient capabilities out of bounds: {format_capabilities(over)}")


def _check_places(container: Container) -> None:
    for place in container.values.get("place", ()):
        path = place.partition("=")[2] if "=/" in place else place
        if path == "***":
            continue
        if not path.startswith("/") or normalize_path(path) != path or _is_system_path(path):
            raise make_denied(f"Place {place} is not allowed by parent container")


def _is_system_path(path: str) -> bool:
    if path in ("/", "/home"):
        return True
    below = [f"/{name}" for name in _SYSTEM_FOLDERS if f"{path}/".startswith(f"/{name}/")]
    return bool(below) and not f"{path}/".startswith("/var/lib/")


def _check_addresses(container: Container) -> None:
    """Obey the `ip_limit` of those above. Raises Refusal(Permission)."""
    if container.network.inherits:
        return
    for one in list(container.ancestors())[1:]:
        limits = one.values.get("ip_limit", [])
        if not limits or limits == [["any"]]:
            continue
        allowed = container.network.only_l3 and limits != [["none"]]
        asked = [row[1] for row in container.values.get("ip", [])]
        if not allowed or not all(is_address_inside(ip, limits) for ip in asked):
            raise make_denied(f"Parent container {one.name} forbids this network")


def check_volumes(wanted: Sequence[str]) -> None:
    """There are no volumes here, so what is asked for is missing. Raises Refusal."""
    if wanted:
        raise Refusal(pb.VolumeNotFound, f"Required volume {wanted[0]} not found")


def _check_credentials(caller: Caller, container: Container) -> None:
    at_root = container.values.get("root", "/") == "/"
    if at_root:
        caller.check_control(container.task)
        if not (caller.is_superuser or container.owner.is_member(container.task.gid)):
            raise make_denied("Cannot control the container's group")
        if container.task.uid == 0 and container.owner.uid != 0:
            raise make_denied("user=root requires chroot")


def _check_mode(container: Container) -> None:
    parent = container.parent
    if parent is None:
        return
    if container.mode == "host" and parent.mode != "host":
        raise make_denied("For virt_mode=host parent must be in the same mode")
    if container.mode == "job" and container.level == 1:
        raise make_invalid("Container in virt_mode=job without parent")
    if parent.mode == "job":
        raise make_invalid("Parent container in virt_mode=job")
    if container.mode == "job" and container.required:
        raise make_invalid("Cannot use cgroups in virt_mode=job")
    if container.mode == "job" and container.is_meta:
        raise make_invalid("Job container without command considered useless")


def _check_mounts(container: Container) -> None:
    values = container.values
    root = values.get("root", "/")
    named = ("bind", "hostname", "resolv_conf", "etc_hosts", "root_readonly")
    if container.mode in ("host", "job"):
        if posixpath.normpath(root) != "/":
            raise make_invalid("Cannot change root in this virt_mode")
        if any(values.get(name) for name in named):
            raise make_invalid("Cannot change mount-namespace in this virt_mode")
    if posixpath.normpath(root) != "/":
        raise Refusal(pb.NotSupported, "a root of its own takes mounts, which dev-portod has not")


def _check_sysctl(container: Container) -> None:
    for key in container.values.get("sysctl", {}):
        if key.startswith("net."):
            if not container.network.isolates:
                raise make_denied(f"Sysctl {key} requires net isolation")
        elif key not in _IPC_SYSCTLS:
            raise make_denied(f"Sysctl {key} is not allowed")
        elif not container.isolate:
            raise make_denied(f"Sysctl {key} requires ipc isolation")
