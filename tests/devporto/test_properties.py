"""The property table against a real portod's list, and the forms values read back in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.portod import DevPortod, Wire

KNOWN = json.loads((Path(__file__).parents[1] / "data" / "properties.json").read_text())
EVERY = sorted(name for names in KNOWN.values() for name in names)


def set_code(wire: Wire, name: str, key: str, value: str) -> str:
    return wire.code(setProperty={"name": name, "property": key, "value": value})


def test_property_list_is_that_of_a_real_server(wire: Wire) -> None:
    rows = wire.call(propertyList={})["propertyList"]["list"]
    kinds = {
        row["name"]: "read_only" if row["read_only"] else "dynamic" if row["dynamic"] else "static"
        for row in rows
    }
    assert kinds == {name: kind for kind, names in KNOWN.items() for name in names}
    assert [row["name"] for row in rows] == EVERY


def test_every_property_can_be_read_in_every_state(wire: Wire) -> None:
    wire.create("p", command="sleep 100")
    codes = []
    for action in ("start", "pause", "resume", "stop"):
        answer = wire.call(get={"name": ["p", "/"], "variable": EVERY})
        for entry in answer["get"]["list"]:
            assert len(entry["keyval"]) == len(EVERY)
            codes += [kv["error"] for kv in entry["keyval"] if "error" in kv]
        wire.must(**{action: {"name": "p"}})
    assert set(codes) <= {"InvalidState", "InvalidData"}


def test_every_property_can_be_read_of_a_dead_container(wire: Wire) -> None:
    wire.create("p", command="true")
    wire.must(start={"name": "p"})
    wire.wait_for("p", "state", "dead")
    answer = wire.call(get={"name": ["p"], "variable": EVERY})
    refused = {kv["variable"] for kv in answer["get"]["list"][0]["keyval"] if "error" in kv}
    assert refused == {"root_pid"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("virt_mode", "app"), ("isolate", "true"), ("respawn", "false"), ("respawn_count", "0"),
        ("respawn_delay", "1000000000ns"), ("max_respawns", ""), ("aging_time", "86400"),
        ("memory_limit", "0"), ("cpu_limit", "0c"), ("cpu_guarantee", "0c"),
        ("cpu_policy", "normal"),
        ("cpu_weight", "1"), ("cpu_period", "100000000"), ("cpu_set", ""), ("io_policy", ""),
        ("io_weight", "1"), ("io_limit", ""), ("net", "inherited"), ("net_tos", "CS0"), ("ip", ""),
        ("ip_limit", "any"), ("umask", "02"), ("ulimit", ""), ("env", ""), ("command", ""),
        ("command_argv", ""), ("labels", ""), ("private", ""), ("weak", "false"), ("root", "/"),
        ("thread_limit", "10000"), ("stdout_limit", "8388608"), ("stdin_path", "/dev/null"),
        ("stdout_path", "stdout"), ("oom_is_fatal", "true"), ("oom_score_adj", "0"),
        ("devices", ""),
        ("enable_porto", "true"), ("resolv_conf", "inherit"), ("cgroupfs", "none"), ("level", "1"),
        ("parent", "/"), ("absolute_name", "/porto/p"), ("absolute_namespace", "/porto/"),
        ("time", "0"), ("start_time", ""), ("start_error", ""), ("place", "/place;***"),
        (
            "controllers",
            "freezer;memory;cpu;cpuacct;blkio;devices;hugetlb;cpuset;pids;perf_event;cgroup2",
        ),
    ],
)  # fmt: skip
def test_default(wire: Wire, key: str, value: str) -> None:
    wire.create("p")
    assert wire.get("p", key) == value


@pytest.mark.parametrize(
    ("key", "value", "back"),
    [
        ("memory_limit", "-1", "18446744073709551615"),
        ("memory_limit", "0", "0"),
        ("command", "  sleep 1  ", "sleep 1"),
        ("command_argv", "a\t\tb c\t d ", "a\tb c\td"),
        ("command_argv", "a\\\\b\tc\\\td", "a\\\\b\tc\\\td"),
        ("env", " A=1 ;; B ;C=x=y", "A=1;B;C=x=y"),
        ("ulimit", "nofile: 1024 2048", "nofile: 1024 2048; "),
        ("umask", "22", "022"),
        ("respawn_delay", "500ms", "500000000ns"),
        ("max_respawns", "-1", ""),
        ("max_respawns", "5", "5"),
        ("cpu_period", "50ms", "50000000"),
        ("cpu_weight", "2.50", "2.5"),
        ("cpu_weight", "2x", "1"),
        ("cpu_set", "0,1", "0-1"),
        ("cpu_set", "node 0", "node 0"),
        ("cpu_set", "all", ""),
        ("io_limit", "1M", "1048576"),
        ("io_limit", "/dev/sda r: 1M; fs: 2", "/dev/sda r: 1048576; fs: 2"),
        ("net_limit", "default: 1K; a: 2", "a: 2; default: 1024"),
        ("net_limit_soft", "10", "10"),
        ("net", "container x", "container x"),
        ("ip", "eth0 10.0.0.1/24", "eth0 10.0.0.1/24"),
        ("ip_limit", "10.0.0.1 fe80::/64", "10.0.0.1 fe80::/64"),
        ("bind", "/a /b nosuid,ro ; /c /d", "/a /b ro,nosuid;/c /d "),
        ("symlink", "/a/: /b", "/a: /b; "),
        ("sysctl", "b: 1; a: 2", "a: 2; b: 1"),
        ("controllers", "memory;cpu", "memory;cpu"),
        ("capabilities", "KILL;CHOWN", "CHOWN;KILL"),
        ("enable_porto", "none", "false"),
        ("enable_porto", "full", "true"),
        ("aging_time", "60", "60"),
        ("thread_limit", "1K", "1024"),
        ("resolv_conf", "nameserver 1.1.1.1;search x", "nameserver 1.1.1.1;search x"),
        ("resolv_conf", "", "keep"),
        ("place", "/a;b=/c", "/a;b=/c"),
        ("virt_mode", "docker", "app"),
        ("user", "65534", "65534"),
        ("group", "0", "root"),
        ("respawn_count", "-1", "-1"),
        ("aging_time", "-1", "18446744073709550"),
        ("cpu_weight", "33.339", "33.33"),
        ("net", "L3; MTU eth0 1450; autoconf eth0", "L3;MTU eth0 1450;autoconf eth0"),
        ("net", "veth a br0 1500 1:2:3:4:5:6", "veth a br0 1500 1:2:3:4:5:6"),
        ("ip", "eth0 default", "eth0 default"),
        ("devices", "/dev/null r- /dev/x 0600 0 0", "/dev/null rm? /dev/x 0600 root root; "),
        (
            "seccomp",
            'rules { action { action: Errno } syscall: "read" } name: "x"',
            "default_action { action: Allow } "
            'rules { syscall: "read" action { action: Errno value: 0 } } ',
        ),
        ("private", " any; text: here ", "any; text: here"),
        ("stdout_limit", "1M", "1048576"),
        ("devices", "/dev/null rw", "/dev/null rwm /dev/null 0666 root root; "),
        ("oom_score_adj", "-5", "-5"),
        ("cwd", "/tmp", "/tmp"),
        ("hostname", "h", "h"),
    ],
)
def test_value_reads_back_in_portos_form(wire: Wire, key: str, value: str, back: str) -> None:
    wire.create("p")
    assert set_code(wire, "p", key, value) == "Success"
    assert wire.get("p", key) == back


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("memory_guarantee", "1G", "NotSupported"),
        ("anon_limit", "1G", "NotSupported"),
        ("recharge_on_pgfault", "true", "NotSupported"),
        ("memory_limit", "1023K", "InvalidValue"),
        ("cpu_policy", "", "InvalidValue"),
        ("cpu_period", "2s", "InvalidValue"),
        ("cpu_weight", "0", "InvalidValue"),
        ("cpu_set", "jail 0", "InvalidValue"),
        ("cpu_set", "cores 0", "InvalidValue"),
        ("cpu_set", "3-1", "InvalidValue"),
        ("io_weight", "1000", "InvalidValue"),
        ("io_policy", "x", "InvalidValue"),
        ("controllers", "devices: false", "InvalidValue"),
        ("controllers[devices]", "no", "Unknown"),
        ("controllers[bogus]", "true", "InvalidValue"),
        ("respawn", "1", "Unknown"),
        ("respawn_count", "x", "InvalidValue"),
        ("weak", "", "Unknown"),
        ("umask", "9", "InvalidValue"),
        ("oom_score_adj", "1001", "InvalidValue"),
        ("net_tos", "CS8", "InvalidValue"),
        ("net_limit", "1", "InvalidValue"),
        ("ip", "eth0", "InvalidValue"),
        ("ip", "eth0 nonsense", "Unknown"),
        ("ip", "eth0 192.0.2.1/x", "Unknown"),
        ("ip_limit", "1:2:3:4:5:6", "InvalidValue"),
        ("bind", "/only", "InvalidValue"),
        ("bind", "/a /b ro,shared", "InvalidValue"),
        ("capabilities", "PERFMON", "InvalidValue"),
        ("capabilities", "CAP_KILL", "InvalidValue"),
        ("cpu_set", "threads 1", "InvalidValue"),
        ("cpu_set", "4000", "InvalidValue"),
        ("cpu_set", "node 4000", "InvalidValue"),
        ("enable_fuse", "false", "NotSupported"),
        ("virt_mode", "fuse", "InvalidValue"),
        ("net", "L3 veth; MTU other 1450", "InvalidValue"),
        ("net", "inherited; L3", "InvalidValue"),
        ("net", "macvlan a b sideways", "InvalidValue"),
        ("net", "netns ../x", "Permission"),
        ("net", "netns nosuch", "InvalidValue"),
        ("net", "ip link add x", "Permission"),
        ("net", "tap x", "Success"),
        ("seccomp", "default_action { action: Forbid }", "InvalidValue"),
        ("seccomp_name", "", "InvalidValue"),
        ("sysctl", "a", "InvalidValue"),
        ("enable_porto", "maybe", "InvalidValue"),
        ("devices", "/dev/null", "InvalidValue"),
        ("devices", "/tmp rw", "InvalidValue"),
        ("devices", "/dev/nosuch rw", "DeviceNotFound"),
        ("devices", "/dev/nosuch rw?", "Success"),
        ("labels[]", "1", "InvalidProperty"),
        ("memory_limit[x]", "1G", "InvalidValue"),
        ("CF.x", "a b", "InvalidLabel"),
        ("CF.x", "ok", "Success"),
        ("foo.bar", "1", "InvalidProperty"),
        ("stdout", "x", "InvalidValue"),
        ("private", "é" * 2049, "InvalidValue"),
        ("command", "x" * (128 * 1024 + 1), "InvalidValue"),
        ("root", "../x", "Permission"),
    ],
)
def test_set_answers_with_portos_code(wire: Wire, key: str, value: str, code: str) -> None:
    wire.create("p")
    assert set_code(wire, "p", key, value) == code


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("env[A]", "1"),
        ("env[PORTO_NAME]", "p"),
        ("env[NOSUCH]", "error: InvalidValue"),
        ("command_argv[1]", "y"),
        ("command_argv[5]", "error: InvalidProperty"),
        ("ulimit[nofile]", "nofile: 1 2"),
        ("ulimit[core]", ""),
        ("net_limit[default]", "7"),
        ("net_limit[x]", "error: InvalidValue"),
        ("controllers[memory;cpu]", "true"),
        ("controllers[net_cls]", "false"),
        ("capabilities[KILL]", "true"),
        ("sysctl[x]", ""),
        ("symlink[/x]", "error: NoValue"),
        ("cgroups[freezer]", "/sys/fs/cgroup/freezer/porto/p"),
        ("cgroups[x]", "error: InvalidProperty"),
        ("start_time[raw]", "0"),
        ("start_time[x]", "error: InvalidValue"),
        ("time[dead]", "error: InvalidState"),
        ("labels[]", "error: InvalidProperty"),
        ("state[x]", "error: InvalidValue"),
        ("CF.none", "error: LabelNotFound"),
        ("memory.usage_in_bytes", "error: InvalidState"),
        ("memory_guarantee", "error: NotSupported"),
    ],
)
def test_index_form(wire: Wire, key: str, answer: str) -> None:
    wire.create("p", env="A=1", command_argv="x\ty", ulimit="nofile: 1 2", net_limit="default: 7")
    assert wire.get("p", key) == answer


def test_argument_set_by_index_makes_room(wire: Wire) -> None:
    wire.create("p", command_argv="echo")
    wire.set("p", **{"command_argv[2]": "z"})
    assert wire.get("p", "command") == "'echo' '' 'z' "


def test_required_controller_cannot_be_switched_off(wire: Wire) -> None:
    wire.create("p", memory_limit="1G")
    assert set_code(wire, "p", "controllers[memory]", "false") == "InvalidValue"
    assert set_code(wire, "p", "controllers[devices]", "false") == "Success"


def test_running_child_gets_no_new_controller(wire: Wire) -> None:
    wire.create("p")
    wire.create("p/c", command="sleep 100")
    wire.must(start={"name": "p/c"})
    assert set_code(wire, "p/c", "memory_limit", "1G") == "NotSupported"
    assert set_code(wire, "p/c", "labels[CF.a]", "1") == "Success"


def test_dead_container_takes_only_what_concerns_its_next_life(wire: Wire) -> None:
    wire.create("p", command="true")
    wire.must(start={"name": "p"})
    wire.wait_for("p", "state", "dead")
    assert set_code(wire, "p", "memory_limit", "1G") == "InvalidState"
    assert set_code(wire, "p", "ulimit", "") == "InvalidState"
    for key, value in (("respawn", "false"), ("labels[CF.a]", "1"), ("private", "x")):
        assert set_code(wire, "p", key, value) == "Success"


def test_isolate_is_bound_to_virt_mode(wire: Wire) -> None:
    wire.create("p", virt_mode="host")
    assert wire.get("p", "isolate") == "false"
    assert set_code(wire, "p", "isolate", "true") == "InvalidValue"
    assert set_code(wire, "p", "userns", "true") == "InvalidValue"


def test_user_keeps_the_group(wire: Wire) -> None:
    wire.create("p")
    before = wire.get("p", "group")
    wire.set("p", user="nobody")
    assert (wire.get("p", "user"), wire.get("p", "group")) == ("nobody", before)
    assert set_code(wire, "p", "user", "12345") == "Success"
    assert wire.get("p", "user") == "12345"


def test_secret_is_not_read_back(wire: Wire) -> None:
    wire.create("p", env_secret="KEY=hush", command="sh -c 'echo $KEY'")
    assert "hush" not in wire.get("p", "env_secret")
    assert wire.get("p", "env_secret").startswith("KEY=<secret salt=")
    assert "hush" not in wire.get("p", "env")
    wire.must(start={"name": "p"})
    wire.wait_for("p", "stdout", "hush\n")


def test_real_read_answers_only_what_was_set(portod: DevPortod, wire: Wire) -> None:
    wire.create("p", private="x")
    ask = {"name": ["p"], "variable": ["private", "env", "nosuch"], "real": True}
    keyval = wire.call(get=ask)["get"]["list"][0]["keyval"]
    assert [kv.get("error", kv.get("value")) for kv in keyval] == [
        "x",
        "NoValue",
        "InvalidProperty",
    ]


def test_unchanged_containers_are_only_named(wire: Wire) -> None:
    wire.create("p")
    ask = {"name": ["p"], "variable": ["state"]}
    entry = wire.call(get={**ask, "changed_since": "99999999999"})["get"]["list"][0]
    assert entry["no_changes"] is True
    assert "keyval" not in entry
    assert "keyval" in wire.call(get={**ask, "changed_since": "1"})["get"]["list"][0]
    assert "list" not in wire.call(list={"changed_since": "99999999999"})


def test_legacy_names_still_work(wire: Wire) -> None:
    wire.create("p")
    assert set_code(wire, "p", "cpu.smart", "1") == "Success"
    assert wire.get("p", "cpu_policy") == "rt"
    assert set_code(wire, "p", "memory.limit_in_bytes", "1G") == "Success"
    assert wire.get("p", "memory_limit") == str(1 << 30)
