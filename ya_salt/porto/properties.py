"""What a spec may set of Porto, and how. Pure: one table that checker and documents share.

Facts from Porto's manual and property.cpp (5.3.59). The order is the order of setting, after the
command: `virt_mode` first, because it resets `isolate`; `controllers` last, because limits switch
controllers on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from ya_salt.porto import values

Parse = Callable[[str], str]


@dataclass(frozen=True)
class Property:
    """One property: `parse` makes the text for portod out of each single value.

    `shape`: `one` value; a `list` (joined by `; `); a `map` set key by key as `name[key]`.
    `json`: the type of each single value in the document and in `proto/ya_salt.proto`.
    """

    name: str
    parse: Parse
    shape: Literal["one", "list", "map"] = "one"
    json: Literal["string", "integer", "number", "boolean"] = "string"
    check_key: Parse | None = None
    show: Parse = str
    """Portod's text as the document shows it; `parse` takes it back."""
    is_secret: bool = False
    is_unordered: bool = False
    """A list where order and repetition mean nothing: sorted, so that order is no drift."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _flag(name: str) -> Property:
    return Property(name, values.parse_bool, json="boolean")


def _size(name: str) -> Property:
    return Property(name, values.parse_size, json="integer")


def _limit(name: str) -> Property:
    return Property(name, values.parse_memory_limit, json="integer")


def _count(name: str, low: int = 0, high: int = values.MAX_UINT) -> Property:
    return Property(name, partial(values.parse_integer, low=low, high=high), json="integer")


def _weight(name: str) -> Property:
    return Property(name, partial(values.parse_real, low="0.01", high="100"), json="number")


def _choice(name: str, *choices: str) -> Property:
    return Property(name, partial(values.parse_choice, choices=choices))


def _list(name: str, parse: Parse, *, is_unordered: bool = False) -> Property:
    return Property(name, parse, "list", is_unordered=is_unordered)


def _map(name: str, check_key: Parse, parse: Parse, *, is_secret: bool = False) -> Property:
    return Property(name, parse, "map", check_key=check_key, is_secret=is_secret)


def _sizes(name: str) -> Property:
    return Property(name, values.parse_size, "map", "integer", values.check_index)


_TABLE = (
    _choice("virt_mode", "app", "os", "host", "job", "docker", "fuse"),
    Property("user", values.parse_user),
    Property("group", values.parse_user),
    _flag("isolate"),
    Property("root", values.parse_path),
    _flag("root_readonly"),
    Property("cwd", values.parse_path),
    _map("env", values.check_env_name, values.parse_env),
    _map("env_secret", values.check_env_name, values.parse_env, is_secret=True),
    Property("umask", values.parse_umask),
    _map("ulimit", values.check_ulimit, values.parse_rlimit),
    _list("bind", values.parse_bind),
    _map("symlink", values.parse_mapped, values.parse_mapped),
    Property("stdin_path", values.parse_stream),
    Property("stdout_path", values.parse_stream),
    Property("stderr_path", values.parse_stream),
    _size("stdout_limit"),
    Property("core_command", values.parse_command),
    Property("coredump_filter", values.parse_hex),
    # How it is started again.
    _count("max_respawns", low=-1),
    Property("respawn_delay", values.parse_duration, show=values.show_duration),
    _map("labels", values.check_label, values.parse_label),
    # Memory.
    _size("memory_guarantee"),
    _limit("memory_limit"),
    _limit("anon_limit"),
    _flag("anon_only"),
    _limit("dirty_limit"),
    _size("hugetlb_limit"),
    _choice("memory_lock_policy", "disabled", "mlockall", "executable", "xattr"),
    _flag("recharge_on_pgfault"),
    _flag("pressurize_on_death"),
    _flag("oom_is_fatal"),
    _count("oom_score_adj", low=-1000, high=1000),
    # CPU.
    Property("cpu_guarantee", values.parse_cpu, show=values.show_cpu),
    Property("cpu_limit", values.parse_cpu, show=values.show_cpu),
    Property("cpu_period", values.parse_cpu_period, json="integer"),
    _choice("cpu_policy", "normal", "high", "rt", "batch", "idle", "iso", "nosmt"),
    Property("cpu_set", values.parse_cpu_set),
    _weight("cpu_weight"),
    _count("thread_limit"),
    # Disks.
    _sizes("io_guarantee"),
    _sizes("io_limit"),
    _sizes("io_ops_guarantee"),
    _sizes("io_ops_limit"),
    _choice("io_policy", "none", "rt", "high", "normal", "batch", "idle"),
    _weight("io_weight"),
    _list("place", values.parse_words),
    _sizes("place_limit"),
    _list("volumes_required", values.parse_path),
    # Network.
    _list("net", values.parse_net),
    _list("ip", values.parse_interface_ip),
    _list("ip_limit", values.parse_ip_limit),
    _list("default_gw", values.parse_interface_ip),
    Property("hostname", values.parse_hostname),
    Property("etc_hosts", values.parse_block),
    _list("resolv_conf", values.parse_words),
    _map("sysctl", values.check_sysctl, values.parse_mapped),
    _sizes("net_guarantee"),
    _sizes("net_limit"),
    _count("net_limit_soft"),
    _sizes("net_rx_limit"),
    _choice("net_tos", *(f"CS{number}" for number in range(8))),
    # Security.
    _list("capabilities", values.parse_capability, is_unordered=True),
    _list("capabilities_ambient", values.parse_capability, is_unordered=True),
    _list("devices", values.parse_device),
    _flag("devices_explicit"),
    Property("enable_porto", values.parse_access),
    _flag("enable_fuse"),
    _flag("children_allowed"),
    _choice("cgroupfs", "none", "ro", "rw"),
    Property("seccomp", values.parse_block),
    Property("seccomp_name", values.parse_line),
    _flag("userns"),
    _flag("unshare_on_exec"),
    Property("controllers", values.parse_bool, "map", "boolean", values.check_controller),
)

NEEDS_SUPPORT = frozenset(
    _words(
        "anon_limit anon_only core_command coredump_filter dirty_limit memory_guarantee"
        " memory_lock_policy recharge_on_pgfault"
    )
)
"""What a stock kernel or a portod without core dumps lacks: there it answers NotSupported."""

LIVE_IN_NAME_ONLY: Mapping[str, str] = {
    "ulimit": "a running process keeps the limits that it was started with"
}
"""What portod sets in a running container without its process having it, each with why."""

PROPERTIES: Mapping[str, Property] = {row.name: row for row in _TABLE}
"""By name, in the order of setting. `cmd` and `command` are not here: see `specs.container`."""

_OWNER = "ya-salt owns the container, so that it can update and remove it; leave it out"

PROGRAM_OWNED: Mapping[str, str] = {
    "aging_time": "portod would destroy a dead daemon by itself, which is for ya-salt to do;"
    " leave it out",
    "command_argv": "is how ya-salt sends the command; write the list as cmd",
    "owner_containers": _OWNER,
    "owner_cred": _OWNER,
    "owner_group": _OWNER,
    "owner_user": _OWNER,
    "porto_namespace": "would hide the container from ya-salt's name for it;"
    " leave it out, or set enable_porto to isolate",
    "private": "is kept for ya-salt's own notes; put yours into meta.annotations",
    "respawn": "is set by ya-salt: a daemon is always started again;"
    " leave it out, or limit it with max_respawns",
    "respawn_count": "is counted by portod and reported by ya-salt; leave it out",
    "session_info": "belongs to a login session, which a daemon does not have; leave it out",
    "task_cred": "is user and group in numbers; write user and group",
    "weak": "is set by ya-salt while it builds the container; leave it out",
}
"""What portod would take but a spec may not set, each with why and what to do instead."""

READ_ONLY = frozenset(
    _words(
        "absolute_name absolute_namespace anon_usage cache_usage capabilities_allowed"
        " capabilities_ambient_allowed cgroups change_time core_dumped cpu_guarantee_bound"
        " cpu_guarantee_total cpu_limit_bound cpu_limit_total cpu_pressure cpu_set_affinity"
        " cpu_throttled cpu_usage cpu_usage_system creation_time death_time exit_code exit_status"
        " hugetlb_usage id io_ops io_pressure io_read io_read_ops io_time io_write io_write_ops"
        " level major_faults memory_limit_total memory_pressure memory_reclaimed memory_usage"
        " minor_faults mlock_usage net_bytes net_class_id net_drops net_limit_bound"
        " net_limit_soft_stat net_netstat net_overlimits net_packets net_rx_bytes net_rx_drops"
        " net_rx_limit_bound net_rx_overlimits net_rx_packets net_snmp net_snmp6 net_tx_bytes"
        " net_tx_drops net_tx_packets oom_killed oom_kills oom_kills_total parent place_usage"
        " process_count root_path root_pid shmem_usage start_error start_time state stderr"
        " stderr_offset stdout stdout_offset taint thread_count time virtual_memory volumes_linked"
        " volumes_owned"
    )
)
"""What portod reports and nobody sets."""
