"""Every property that a spec may set: set, changed, taken out; the plan is empty after each.

The table says what is live; the process is the witness, and where /proc shows it, it has the value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.passes import Passes
from helpers.portod import DevPortod

from ya_salt.model import DaemonStatus
from ya_salt.porto.properties import LIVE_IN_NAME_ONLY, NEEDS_SUPPORT, PROPERTIES

NAME = "walked"
VALUES: dict[str, tuple[str, str]] = {
    "virt_mode": ("host", "app"),
    "user": ("root", "daemon"),
    "group": ("root", "daemon"),
    "isolate": ("false", "true"),
    "root": ("/", "/"),
    "root_readonly": ("false", "false"),
    "cwd": ("/tmp", "/"),
    "env": ("{A: '1', B: '2'}", "{A: '1', B: '3'}"),
    "env_secret": ("{A: '1', B: '2'}", "{A: '1', B: '3'}"),
    "umask": ("'022'", "'077'"),
    "ulimit": ("{nofile: 100 200}", "{nofile: 100 300}"),
    "bind": ("[/tmp /mnt ro]", "[/tmp /mnt rw]"),
    "symlink": ("{LINK: /tmp}", "{LINK: /var}"),
    "stdin_path": ("/dev/null", "/dev/zero"),
    "stdout_path": ("/dev/null", "/dev/zero"),
    "stderr_path": ("/dev/null", "/dev/zero"),
    "stdout_limit": ("1Mb", "2Mb"),
    "core_command": ("cat", "cat -n"),
    "coredump_filter": ("'0x10'", "'0x11'"),
    "max_respawns": ("3", "-1"),
    "respawn_delay": ("5s", "500ms"),
    "labels": ("{TEAM.x: a, TEAM.y: b}", "{TEAM.x: c}"),
    "memory_guarantee": ("1Mb", "2Mb"),
    "memory_limit": ("64Mb", "1Gb"),
    "anon_limit": ("64Mb", "1Gb"),
    "anon_only": ("true", "false"),
    "dirty_limit": ("64Mb", "1Gb"),
    "hugetlb_limit": ("0", "0"),
    "memory_lock_policy": ("mlockall", "disabled"),
    "recharge_on_pgfault": ("true", "false"),
    "pressurize_on_death": ("true", "false"),
    "oom_is_fatal": ("false", "true"),
    "oom_score_adj": ("100", "200"),
    "cpu_guarantee": ("0.5c", "0.25c"),
    "cpu_limit": ("0.5c", "0.25c"),
    "cpu_period": ("50ms", "200ms"),
    "cpu_policy": ("batch", "idle"),
    "cpu_set": ("'0'", "0-1"),
    "cpu_weight": ("2", "0.333"),
    "thread_limit": ("500", "600"),
    "io_guarantee": ("{/: 1Mb}", "{/: 2Mb}"),
    "io_limit": ("{/: 100Mb}", "{/: 200Mb}"),
    "io_ops_guarantee": ("{/: 100}", "{/: 200}"),
    "io_ops_limit": ("{/: 1000}", "{/: 2000}"),
    "io_policy": ("batch", "idle"),
    "io_weight": ("2", "0.5"),
    "place": ("[/place]", "[/place, '***']"),
    "place_limit": ("{/place: 1Gb}", "{/place: 2Gb}"),
    "volumes_required": ("[/tmp]", "[/var]"),
    "net": ("inherited", "none"),
    "ip": ("[eth0 192.0.2.1]", "[eth0 192.0.2.2]"),
    "ip_limit": ("[192.0.2.1, 192.0.2.2]", "any"),
    "default_gw": ("[eth0 192.0.2.1]", "[eth0 192.0.2.2]"),
    "hostname": ("one", "two"),
    "etc_hosts": ("127.0.0.1 one", "127.0.0.1 two"),
    "resolv_conf": ("[nameserver 192.0.2.1]", "[nameserver 192.0.2.2]"),
    "sysctl": ("{kernel.shmmax: '1000'}", "{kernel.shmmax: '2000'}"),
    "net_guarantee": ("{default: 1Mb}", "{default: 2Mb}"),
    "net_limit": ("{default: 100Mb}", "{default: 200Mb}"),
    "net_limit_soft": ("100", "200"),
    "net_rx_limit": ("{default: 100Mb}", "{default: 200Mb}"),
    "net_tos": ("CS1", "CS2"),
    "capabilities": ("[KILL, CHOWN]", "[KILL]"),
    "capabilities_ambient": ("[KILL, CHOWN]", "[KILL]"),
    "devices": ("[/dev/fuse rw]", "[/dev/null rw]"),
    "devices_explicit": ("true", "false"),
    "enable_porto": ("read-only", "'false'"),
    "enable_fuse": ("false", "false"),
    "children_allowed": ("false", "true"),
    "cgroupfs": ("ro", "none"),
    "seccomp": ("'default_action { action: Allow }'", "'default_action { action: Allow }'"),
    "seccomp_name": ("nosuch", "nosuch"),
    "userns": ("false", "false"),
    "unshare_on_exec": ("true", "false"),
    "controllers": ("{devices: false, freezer: true}", "{devices: true}"),
}
BESIDE = {"net_rx_limit": "net: none", "symlink": "virt_mode: host"}
"""What the property needs beside it."""

SAID = {"volumes_required": "Required volume /tmp"}
"""What a refusal says where portod's words do not name the property: dev-portod has no volumes."""

AT_REST = ("resolv_conf", "net_tos")
"""What is live once it is on: overriding, and the controller, are switched on only at rest."""


def read_status(pid: str, field: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{field}:"))


def read_environ(pid: str) -> set[str]:
    return set(Path(f"/proc/{pid}/environ").read_text().split("\0"))


def read_nofile(pid: str) -> tuple[str, ...]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return tuple(next(line for line in lines if line.startswith("Max open files")).split()[3:5])


SEEN: dict[str, Callable[[str, int], bool]] = {
    "cwd": lambda pid, turn: str(Path(f"/proc/{pid}/cwd").readlink()) == ("/tmp", "/")[turn],
    "env": lambda pid, turn: {"A=1", f"B={turn + 2}"} <= read_environ(pid),
    "env_secret": lambda pid, turn: {"A=1", f"B={turn + 2}"} <= read_environ(pid),
    "umask": lambda pid, turn: read_status(pid, "Umask") == ("0022", "0077")[turn],
    "ulimit": lambda pid, turn: read_nofile(pid) == ("100", ("200", "300")[turn]),
    "user": lambda pid, turn: read_status(pid, "Uid").split()[0] == ("0", "1")[turn],
    "group": lambda pid, turn: read_status(pid, "Gid").split()[0] == ("0", "1")[turn],
    "oom_score_adj": lambda pid, turn: (
        Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == ("100", "200")[turn]
    ),
    "stdin_path": lambda pid, turn: (
        str(Path(f"/proc/{pid}/fd/0").readlink()) == ("/dev/null", "/dev/zero")[turn]
    ),
}
"""Where /proc shows it: whether the process has the value of the turn."""


@pytest.fixture(scope="module")
def portod() -> Iterator[DevPortod]:
    with DevPortod() as server:
        yield server


@pytest.fixture
def passes(folder: Path, portod: DevPortod) -> Iterator[Passes]:
    made = Passes(folder, portod.socket_path)
    yield made
    made.remove_all()


def find_pid(passes: Passes) -> str:
    with passes.client() as client:
        return client.get_property(NAME, "root_pid")


def test_every_property_is_walked() -> None:
    assert set(VALUES) == set(PROPERTIES)


def take_turn(passes: Passes, text: str) -> tuple[DaemonStatus, str, str]:
    """A pass over another spec, and the process before and after it."""
    before = find_pid(passes)
    passes.write(NAME, text)
    (status,) = passes.run().statuses
    return status, before, find_pid(passes)


def check_settled(passes: Passes) -> None:
    assert not passes.plan()[NAME].steps
    (status,) = passes.run().statuses
    assert status.actions == ()


@pytest.mark.parametrize("name", PROPERTIES)
def test_set_changed_and_taken_out(passes: Passes, folder: Path, name: str) -> None:
    beside = BESIDE.get(name, "")
    passes.write(NAME, beside)
    passes.run_one()
    is_live = PROPERTIES[name].live and name not in LIVE_IN_NAME_ONLY
    for turn, value in enumerate((*VALUES[name], "")):
        wanted = value.replace("LINK", str(folder / "link"))
        text = f"{beside}\n{name}: {wanted}" if value else beside
        status, before, after = take_turn(passes, text)
        if status.error:
            check_refusal(passes, status, name, before, after)
            return
        kinds = {action.split(":")[0] for action in status.actions}
        assert kinds <= {"live change", "restart"}
        assert (before != after) == (kinds == {"restart"})
        if is_live and not (name in AT_REST and turn != 1):
            assert kinds <= {"live change"}, status.actions
        if value and name in SEEN:
            assert SEEN[name](after, turn), (name, turn)
        if value and name == "symlink":
            assert str((folder / "link").resolve()) == ("/tmp", "/var")[turn]
        check_settled(passes)


def check_refusal(passes: Passes, status: DaemonStatus, name: str, before: str, after: str) -> None:
    """Refused: it is named, the old process runs on, and the next pass says the same."""
    assert before == after
    assert SAID.get(name, name) in status.error
    assert "the old one runs on" in status.error
    if name in NEEDS_SUPPORT:
        assert "is not supported here" in status.error
    (again,) = passes.run().statuses
    assert again.error == status.error
    assert find_pid(passes) == before
