"""What a spec may set of Porto, and how. Pure: one table that checker, pass and documents share.

Facts from Porto's manual and property.cpp (5.3.59). The order is the order of setting, after the
command: `virt_mode` first, because it resets `isolate`; `controllers` last, because limits switch
controllers on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, Literal

from ya_salt.porto import values
from ya_salt.quick_dataclass import dataclass, replace

Parse = Callable[[str], str]


@dataclass(frozen=True)
class Property:
    """One property: `parse` makes the text for portod out of each single value.

    `shape`: `one` value; a `list` (joined by `joint`); a `map` set key by key as `name[key]`.
    `json`: the type of each single value in the document and in `proto/ya_salt.proto`.
    """

    name: str
    parse: Parse
    kind: str
    """How it is written, for people."""
    meaning: str
    """For people; ends with `Default: …` where Porto's own wants to be told."""
    shape: Literal["one", "list", "map"] = "one"
    json: Literal["string", "integer", "number", "boolean"] = "string"
    check_key: Parse | None = None
    show: Parse = str
    """Portod's text as the document shows it; `parse` takes it back."""
    live: bool = False
    """Whether a stock portod lists it as dynamic: portod has the last word, `propertyList`."""
    off: str | None = None
    """The text of a single value that asks for nothing: no request where it is not supported."""
    in_host: tuple[str, ...] | None = None
    """All that portod starts with virt_mode host; None for whatever there is."""
    needs: str = ""
    """What else has to be there, for people."""
    controller: str = ""
    """The controller that portod switches on for it."""
    joint: str = ";"
    is_secret: bool = False
    is_unordered: bool = False
    """A list where order and repetition mean nothing: sorted, so that order is no drift."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _flag(name: str, meaning: str, *, off: str | None = "false", **more: Any) -> Property:
    return Property(name, values.parse_bool, "boolean", meaning, json="boolean", off=off, **more)


def _size(name: str, meaning: str, parse: Parse = values.parse_size, **more: Any) -> Property:
    return Property(name, parse, "size", meaning, json="integer", off="0", **more)


def _count(
    name: str, kind: str, meaning: str, low: int = 0, high: int = values.MAX_UINT, **more: Any
) -> Property:
    parse = partial(values.parse_integer, low=low, high=high)
    return Property(name, parse, kind, meaning, json="integer", **more)


def _weight(name: str, meaning: str, controller: str = "") -> Property:
    parse = partial(values.parse_real, low="0.01", high="100")
    more: Any = {"live": True, "off": "1", "controller": controller}
    return Property(name, parse, "0.01…100", meaning, json="number", **more)


def _cpu(name: str, meaning: str) -> Property:
    return Property(
        name,
        *(values.parse_cpu, "CPU", meaning),
        show=values.show_cpu,
        live=True,
        off="0c",
        controller="cpu",
    )


def _choice(name: str, choices: str, meaning: str, **more: Any) -> Property:
    words = _words(choices)
    kind = ", ".join(f"`{word}`" for word in words)
    return Property(name, partial(values.parse_choice, choices=words), kind, meaning, **more)


def _list(name: str, parse: Parse, meaning: str, kind: str = "list", **more: Any) -> Property:
    return Property(name, parse, kind, meaning, "list", **more)


def _map(
    name: str, check_key: Parse, parse: Parse, kind: str, meaning: str, **more: Any
) -> Property:
    return Property(name, parse, kind, meaning, "map", check_key=check_key, **more)


def _sizes(name: str, kind: str, meaning: str, **more: Any) -> Property:
    return _map(
        name,
        *(values.check_index, values.parse_size, kind, meaning),
        json="integer",
        live=True,
        off="0",
        **more,
    )


_BY_DISK = "Bytes a second by `fs`, path or disk, with ` r` or ` w`."
_BY_NET = "Bytes a second by interface, class or `default`."
_NONE_IN_HOST: tuple[str, ...] = ()

_TABLE = (
    Property(
        "virt_mode",
        *(values.parse_virt_mode, ", ".join(f"`{word}`" for word in values.VIRT_MODES)),
        "How much of a machine it is. Default: `app`.",
        off="app",
    ),
    Property("user", values.parse_user, "name or number", "As whom it runs."),
    Property("group", values.parse_user, "name or number", "As which group it runs."),
    _flag(
        "isolate",
        "Own process, IPC and host name namespaces. Default: `true`, in `host` mode `false`.",
        off=None,
        in_host=("false",),
    ),
    Property(
        *("root", values.parse_path, "path", "What it sees as `/`."),
        off="/",
        in_host=("/",),
        controller="devices",
    ),
    _flag("root_readonly", "Mount everything read-only.", in_host=("false",)),
    Property("cwd", values.parse_path, "path", "Working directory; has to be there."),
    _map("env", values.check_env_name, values.parse_env, "map of texts", "Environment."),
    _map(
        "env_secret",
        *(values.check_env_name, values.parse_env, "map of texts"),
        "The same, never shown. What is remembered of it are hashes with a key of the host.",
        is_secret=True,
    ),
    Property(
        "umask", values.parse_umask, "octal", "Permissions that new files lack, such as `022`."
    ),
    _map(
        "ulimit",
        *(values.check_ulimit, values.parse_rlimit, "map"),
        "Limits of its processes: `nofile: 1024 2048`, `core: unlimited`; soft and hard, or one for"
        " both.",
        live=True,
    ),
    _list(
        "bind",
        values.parse_bind,
        "What it sees elsewhere: `/source /target ro,rec`.",
        in_host=_NONE_IN_HOST,
    ),
    _map(
        *("symlink", values.parse_mapped, values.parse_mapped, "map of paths", "Link to target."),
        live=True,
    ),
    Property(
        *("stdin_path", values.parse_stream, "path"),
        "What it reads; has to be there. Default: nothing.",
    ),
    Property(
        "stdout_path", values.parse_stream, "path", "Where stdout goes. Default: kept by Porto."
    ),
    Property(
        "stderr_path", values.parse_stream, "path", "Where stderr goes. Default: kept by Porto."
    ),
    _size("stdout_limit", "What Porto keeps of the output. Default: 8 MiB.", live=True),
    Property("core_command", values.parse_command, "command", "Gets core dumps."),
    Property("coredump_filter", values.parse_hex, "hex", "What core dumps hold."),
    # How it is started again.
    _count(
        "max_respawns",
        *("count", "Times it is started again before it stays dead; `-1` always. Default: `-1`."),
        low=-1,
        live=True,
    ),
    Property(
        "respawn_delay",
        *(values.parse_duration, "time", "Wait before that. Default: `1s`."),
        show=values.show_duration,
        live=True,
    ),
    _map(
        "labels",
        *(values.check_label, values.parse_label, "map"),
        "For other tools: `PREFIX.name: value`. `PORTO…` and `HOSTMAN` are taken.",
        live=True,
    ),
    # Memory.
    _size(
        *("memory_guarantee", "Memory that is not taken from it."), live=True, controller="memory"
    ),
    _size(
        "memory_limit",
        "Memory it may use; `0` or at least 1 MiB.",
        values.parse_memory_limit,
        live=True,
        controller="memory",
    ),
    _size(
        "anon_limit",
        "Limit of its anonymous memory.",
        values.parse_memory_limit,
        live=True,
        controller="memory",
    ),
    _flag("anon_only", "Count only anonymous memory.", live=True, controller="memory"),
    _size(
        "dirty_limit",
        "Limit of what it wrote and is not on disk yet.",
        values.parse_memory_limit,
        live=True,
        controller="memory",
    ),
    _size("hugetlb_limit", "Limit of its huge pages.", live=True, controller="hugetlb"),
    _choice(
        *("memory_lock_policy", "disabled mlockall executable xattr", "What is locked."),
        off="disabled",
        controller="memory",
    ),
    _flag("recharge_on_pgfault", "Count cache for who uses it.", live=True, controller="memory"),
    _flag(
        *("pressurize_on_death", "Take a dead container's memory back soon."),
        live=True,
        controller="memory",
    ),
    _flag("oom_is_fatal", "Out of memory kills all of it. Default: `true`.", off=None, live=True),
    _count(
        "oom_score_adj",
        *("-1000…1000", "Who is killed first on the host."),
        low=-1000,
        high=1000,
        off="0",
    ),
    # CPU.
    _cpu("cpu_guarantee", "What it gets when the host is busy."),
    _cpu("cpu_limit", "What it may use."),
    Property(
        "cpu_period",
        *(
            values.parse_cpu_period,
            "time, 1ms…1s",
            "In which the limit is counted. Default: `100ms`.",
        ),
        json="integer",
        live=True,
    ),
    _choice(
        *("cpu_policy", "normal high rt batch idle iso nosmt", "How the CPU is given to it."),
        live=True,
        off="normal",
    ),
    Property(
        "cpu_set",
        *(
            values.parse_cpu_set,
            "text",
            "On which CPUs it runs: `0-3,8`, `node 0`, `jail 4`, `inherit`.",
        ),
        live=True,
        off="inherit",
        controller="cpuset",
    ),
    _weight("cpu_weight", "Share among containers. Default: 1."),
    _count(
        "thread_limit",
        "count",
        "Threads it may have. Default: 10000.",
        live=True,
        controller="pids",
    ),
    # Disks.
    _sizes("io_guarantee", "map of sizes", _BY_DISK, controller="blkio"),
    _sizes("io_limit", "map of sizes", _BY_DISK, controller="blkio"),
    _sizes(
        "io_ops_guarantee", "map of counts", "Operations a second, by the same.", controller="blkio"
    ),
    _sizes(
        "io_ops_limit", "map of counts", "Operations a second, by the same.", controller="blkio"
    ),
    _choice(
        *("io_policy", "none rt high normal batch idle", "How the disks are given to it."),
        live=True,
        off="none",
    ),
    _weight("io_weight", "Share among containers. Default: 1.", controller="blkio"),
    _list("place", values.parse_words, "Where volumes of its own may be."),
    replace(_sizes("place_limit", "map of sizes", "How much they may hold."), live=False),
    _list(
        "volumes_required", values.parse_path, "Volumes without which it does not start.", live=True
    ),
    # Network.
    _list(
        *(
            "net",
            values.parse_net,
            "Its network: `inherited`, `none`, `L3 veth`, `macvlan eth0 eth0`, and more.",
        ),
        controller="net_cls",
    ),
    _list("ip", values.parse_interface_ip, "Its addresses: `eth0 192.0.2.1/24`."),
    _list(
        *(
            "ip_limit",
            values.parse_ip_limit,
            "Addresses that containers inside may have: `any`, `none`, or these.",
        ),
        joint=" ",
    ),
    _list("default_gw", values.parse_interface_ip, "Its gateways: `eth0 192.0.2.1`."),
    Property(
        *("hostname", values.parse_hostname, "text", "Host name inside."), in_host=_NONE_IN_HOST
    ),
    Property(
        *("etc_hosts", values.parse_block, "text", "All of `/etc/hosts` inside."),
        in_host=_NONE_IN_HOST,
    ),
    _list(
        "resolv_conf",
        values.parse_words,
        "Lines of `/etc/resolv.conf`, or `default`, `keep`, `inherit`.",
        live=True,
        in_host=("default", "keep", "inherit"),
    ),
    _map(
        "sysctl",
        *(
            values.check_sysctl,
            values.parse_mapped,
            "map",
            "Kernel parameters of its own: `net.ipv4.ip_forward: 1`.",
        ),
        needs="for `net.…` a `net` of its own, else `isolate`",
    ),
    _sizes("net_guarantee", "map of sizes", _BY_NET),
    _sizes("net_limit", "map of sizes", _BY_NET),
    _count("net_limit_soft", "count", "Kilobytes a second.", live=True, off="0"),
    _sizes("net_rx_limit", "map of sizes", _BY_NET, needs="a `net` of its own"),
    _choice(
        "net_tos",
        " ".join(f"CS{number}" for number in range(8)),
        "Class of its traffic.",
        live=True,
        off="CS0",
        controller="net_cls",
    ),
    # Security.
    _list(
        *("capabilities", values.parse_capability, "What root of it may do: names without `CAP_`."),
        is_unordered=True,
    ),
    _list(
        "capabilities_ambient",
        values.parse_capability,
        "The same for a user that is not root.",
        is_unordered=True,
    ),
    _list(
        *("devices", values.parse_device, "Devices it may use: `/dev/fuse rw`, `preset gpu`."),
        live=True,
        controller="devices",
    ),
    _flag("devices_explicit", "Only the devices that are listed.", live=True),
    Property(
        "enable_porto",
        *(values.parse_access, ", ".join(f"`{word}`" for word in values.ACCESS_LEVELS)),
        "What it may ask of Porto. Default: `true`.",
        live=True,
    ),
    _flag("enable_fuse", "May mount with FUSE."),
    _flag("children_allowed", "May have containers inside. Default: `true`.", off=None),
    _choice("cgroupfs", "none ro rw", "Control groups inside.", off="none"),
    Property("seccomp", values.parse_block, "text", "Filter of system calls."),
    Property("seccomp_name", values.parse_line, "text", "Such a filter that portod knows by name."),
    _flag("userns", "Own user namespace.", in_host=("false",)),
    _flag("unshare_on_exec", "Own namespaces only when it executes."),
    _map(
        "controllers",
        *(values.check_controller, values.parse_bool, "map of booleans"),
        "Controllers on or off: `devices: false` leaves devices as on the host.",
        json="boolean",
    ),
)

NEEDS_SUPPORT = frozenset(
    _words(
        "anon_limit anon_only core_command coredump_filter dirty_limit memory_guarantee"
        " memory_lock_policy recharge_on_pgfault"
    )
)
"""What a stock kernel or a portod without core dumps lacks: there it answers NotSupported."""

UNLISTED = NEEDS_SUPPORT | {row.name for row in _TABLE if row.name.endswith("_guarantee")}
"""What portod's list of properties may leave out, whether it can be set or not."""

LIVE_IN_NAME_ONLY: Mapping[str, str] = {
    "ulimit": "a running process keeps the limits that it was started with"
}
"""What portod sets in a running container without its process having it, each with why."""

PROPERTIES: Mapping[str, Property] = {row.name: row for row in _TABLE}

SECRET_MASK = "***"  # noqa: S105 - stands for what is not shown


@lru_cache(maxsize=1024)
def is_secret(name: str) -> bool:
    """Whether values of this property, or of an entry of this map, are shown to nobody."""
    row = PROPERTIES.get(name.partition("[")[0])
    return row is not None and row.is_secret


def mask_secrets(properties: Mapping[str, str]) -> dict[str, str]:
    """The same properties with secret values left out."""
    return {name: SECRET_MASK if is_secret(name) else text for name, text in properties.items()}


"""By name, in the order of setting. `cmd` and `command` are not here: see `specs.container`."""


def find_controller(key: str, text: str) -> str:
    """The controller that portod switches on for a flattened property; "" for none."""
    name, _, entry = key.partition("[")
    row = PROPERTIES.get(name)
    if row is None:
        return ""
    if name == "net" and not values.has_class(text):
        return ""
    if name == "devices" and values.is_node_only(text):
        return ""
    if entry == "fs]" and row.controller == "blkio":
        return "memory"
    return row.controller


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
