"""Linux capabilities as portod names, bounds and defaults them: sets are bit masks. Pure.

The two that portod 5.3 has no name for (PERFMON, CHECKPOINT_RESTORE) cannot be set, and are read
back as a hexadecimal rest where a container has every one.
"""

from __future__ import annotations

from devporto.containers import Container
from devporto.refusal import make_invalid
from devporto.values import trim

_NAMES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"),
    *("SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW"),
    *("IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE"),
    *("SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME"),
    *("SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"),
    *("MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ"),
)
_BITS = {name: 1 << number for number, name in enumerate(_NAMES)} | {"BPF": 1 << 39}
_EVERY = (1 << 41) - 1


def parse_capabilities(text: str) -> int:
    """`KILL;CHOWN`. Raises Refusal(InvalidValue)."""
    mask = 0
    for word in filter(None, map(trim, text.split(";"))):
        if word not in _BITS:
            raise make_invalid(f'Unknown flag "{word}"')
        mask |= _BITS[word]
    return mask


def format_capabilities(mask: int) -> str:
    words = [name for name, bit in _BITS.items() if mask & bit]
    rest = mask & ~sum(_BITS.values())
    return ";".join([*words, *([f"{rest:x}"] if rest else [])])


# What portod lets a first-level container have that asks for nothing.
_DEFAULT = parse_capabilities(
    "CHOWN;DAC_OVERRIDE;FOWNER;FSETID;KILL;SETGID;SETUID;SETPCAP;LINUX_IMMUTABLE;NET_BIND_SERVICE;"
    "NET_ADMIN;NET_RAW;IPC_LOCK;SYS_CHROOT;SYS_PTRACE;SYS_ADMIN;SYS_BOOT;SYS_NICE;SYS_RESOURCE;"
    "MKNOD;AUDIT_WRITE;SETFCAP"
)


def find_limit(container: Container) -> int:
    """What `capabilities` reads: its own setting, else that of the nearest ancestor."""
    for one in container.ancestors():
        if "capabilities" in one.values:
            mask: int = one.values["capabilities"]
            return mask
    return _EVERY if container.is_root else _DEFAULT


def find_ambient(container: Container) -> int:
    mask: int = container.values.get("capabilities_ambient", 0)
    return mask


def find_bound(container: Container) -> int:
    """What its processes can have at most."""
    is_set = "capabilities" in container.values
    if not is_set and (container.mode == "host" or container.is_root):
        return _EVERY
    if not is_set and container.owner.uid == 0:
        return _DEFAULT
    line = list(container.ancestors())
    bound = find_limit(container)
    for one in line:
        if not one.is_root:
            bound &= find_limit(one)
    return bound & ~(_find_unsafe(line) & ~_find_asked(container))


def _find_asked(container: Container) -> int:
    return int(container.values.get("capabilities", 0)) | find_ambient(container)


def _find_unsafe(line: list[Container]) -> int:
    """What takes a namespace or a limit that neither the container nor an ancestor has."""
    unsafe = 0
    if not any(one.isolate for one in line):
        unsafe |= _BITS["KILL"] | _BITS["SYS_PTRACE"]
    if not any(one.values.get("memory_limit") for one in line):
        unsafe |= _BITS["IPC_LOCK"]
    if not any(one.network.isolates for one in line):
        unsafe |= _BITS["NET_ADMIN"]
    return unsafe
