"""What portod refuses when a container starts, before there is any process."""

from __future__ import annotations

import posixpath

from ya_salt.devporto.container import Container
from ya_salt.devporto.refusal import Refusal, make_denied, make_invalid
from ya_salt.devporto.users import Caller, Credentials
from ya_salt.proto import porto_pb2 as pb

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
    if container.values.get("net_rx_limit") and not _has_own_net(container):
        raise make_invalid("Net rx limit requires isolated network")
    _check_credentials(caller, container)
    _check_mode(container)
    _check_mounts(container)
    _check_sysctl(container)


def _settle_os_mode(container: Container) -> None:
    if container.mode != "os":
        return
    container.task = Credentials(0, 0, (0,))
    if "command" not in container.touched and not container.command:
        container.command = "/sbin/init"
    container.values.setdefault("cwd", "/")
    for name in ("stdout", "stderr"):
        if f"{name}_path" not in container.touched:
            getattr(container, name).path = "/dev/null"


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


def _has_own_net(container: Container) -> bool:
    rows = container.values.get("net", [["inherited"]])
    return bool(rows) and rows[0][0] not in ("inherited", "host")


def _check_sysctl(container: Container) -> None:
    for key in container.values.get("sysctl", {}):
        if key.startswith("net."):
            if not _has_own_net(container):
                raise make_denied(f"Sysctl {key} requires net isolation")
        elif key not in _IPC_SYSCTLS:
            raise make_denied(f"Sysctl {key} is not allowed")
        elif not container.isolate:
            raise make_denied(f"Sysctl {key} requires ipc isolation")
