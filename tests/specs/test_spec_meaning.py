"""Good files mean what their writers meant, however they write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ya_salt.model import DaemonSpec, Package
from ya_salt.specs.directory import parse_spec

DATA = Path(__file__).parents[1] / "data"


def make(properties: str = "", *, meta: str = "", spec: str = "") -> DaemonSpec:
    text = f"meta: {{name: d, {meta}}}\nspec:\n  properties: {{cmd: [d], {properties}}}\n{spec}"
    return parse_spec(text, "d.yaml")


def test_the_documented_example_is_read() -> None:
    path = DATA / "juggler-agent-rtc.yaml"
    spec = parse_spec(path.read_bytes(), str(path))
    assert (spec.name, spec.version, spec.path) == (
        "juggler-agent-rtc",
        "2.3.2001221352",
        str(path),
    )
    assert dict(spec.properties) == {
        "command_argv": (
            "/usr/bin/juggler-client\t--pid-file\t/var/run/juggler-client.pid\t--lock-file\t"
            "/var/run/juggler-client.pid\t--config-dir\t/etc/juggler/"
        ),
        "virt_mode": "host",
        "isolate": "false",
        "user": "monitor",
        "group": "monitor",
        "controllers[devices]": "false",
        "memory_guarantee": "629145600",
        "memory_limit": "2147483648",
        "cpu_guarantee": "0.5c",
        "cpu_limit": "3c",
    }
    assert spec.packages == (
        Package("juggler-client-core", "2.3.2001221352", line=27),
        Package("yandex-rtc-juggler-config", "1.0-6238270", line=29),
    )
    assert spec.delete_requested is False
    assert (spec.min_ready_s, spec.ready_timeout_s, dict(spec.annotations)) == (5.0, 60.0, {})
    assert json.loads(spec.document)["spec"]["properties"]["controllers"] == {"devices": False}


PROPERTIES = [
    # what is written, what portod is told, what the document shows
    ("memory_limit: 2Gb", {"memory_limit": "2147483648"}, {"memoryLimit": 2147483648}),
    ("memory_limit: 2147483648", {"memory_limit": "2147483648"}, {"memoryLimit": 2147483648}),
    ("memory_limit: '2 gB'", {"memory_limit": "2147483648"}, {"memoryLimit": 2147483648}),
    ("memoryLimit: 2GiB", {"memory_limit": "2147483648"}, {"memoryLimit": 2147483648}),
    ("memory_limit: 2.147483648e+9", {"memory_limit": "2147483648"}, {"memoryLimit": 2147483648}),
    ("memory_limit: 1.5G", {"memory_limit": "1610612736"}, {"memoryLimit": 1610612736}),
    ("memory_limit: 0", {"memory_limit": "0"}, {"memoryLimit": 0}),
    ("stdout_limit: .5K", {"stdout_limit": "512"}, {"stdoutLimit": 512}),
    ("stdout_limit: 12B", {"stdout_limit": "12"}, {"stdoutLimit": 12}),
    ("cpu_limit: 3c", {"cpu_limit": "3c"}, {"cpuLimit": "3c"}),
    ("cpu_limit: 3.00c", {"cpu_limit": "3c"}, {"cpuLimit": "3c"}),
    ("cpu_limit: 500000000ns", {"cpu_limit": "0.5c"}, {"cpuLimit": "0.5c"}),
    ("cpu_limit: 12.5%", {"cpu_limit": "12.5"}, {"cpuLimit": "12.5%"}),
    ("cpu_limit: 0c", {"cpu_limit": "0c"}, {"cpuLimit": "0c"}),
    ("cpu_limit: 0", {"cpu_limit": "0c"}, {"cpuLimit": "0c"}),
    ("cpu_period: 50ms", {"cpu_period": "50000000"}, {"cpuPeriod": 50000000}),
    ("cpu_period: 50000000", {"cpu_period": "50000000"}, {"cpuPeriod": 50000000}),
    ("respawn_delay: 5s", {"respawn_delay": "5000000000ns"}, {"respawnDelay": "5s"}),
    ("respawn_delay: 1.5 sec", {"respawn_delay": "1500000000ns"}, {"respawnDelay": "1500ms"}),
    ("respawn_delay: 5000000000", {"respawn_delay": "5000000000ns"}, {"respawnDelay": "5s"}),
    ("respawn_delay: 7ns", {"respawn_delay": "7ns"}, {"respawnDelay": "7ns"}),
    ("respawn_delay: 0", {"respawn_delay": "0ns"}, {"respawnDelay": "0s"}),
    ("isolate: 'False'", {"isolate": "false"}, {"isolate": False}),
    ("isolate: off", {"isolate": "false"}, {"isolate": False}),
    ("isolate: TRUE", {"isolate": "true"}, {"isolate": True}),
    ("max_respawns: -1", {"max_respawns": "-1"}, {"maxRespawns": -1}),
    ("max_respawns: '3'", {"max_respawns": "3"}, {"maxRespawns": 3}),
    ("oom_score_adj: -1000", {"oom_score_adj": "-1000"}, {"oomScoreAdj": -1000}),
    ("io_weight: 0.50", {"io_weight": "0.5"}, {"ioWeight": 0.5}),
    ("cpu_weight: 100", {"cpu_weight": "100"}, {"cpuWeight": 100.0}),
    ("umask: 0022", {"umask": "022"}, {"umask": "022"}),
    ("umask: 22", {"umask": "022"}, {"umask": "022"}),
    ("umask: 0", {"umask": "0"}, {"umask": "0"}),
    ("enable_porto: no", {"enable_porto": "false"}, {"enablePorto": "false"}),
    ("enable_porto: none", {"enable_porto": "false"}, {"enablePorto": "false"}),
    ("enable_porto: full", {"enable_porto": "true"}, {"enablePorto": "true"}),
    ("enable_porto: read-only", {"enable_porto": "read-only"}, {"enablePorto": "read-only"}),
    ("user: 1000", {"user": "1000"}, {"user": "1000"}),
    ("user: www-data", {"user": "www-data"}, {"user": "www-data"}),
    ("hostname: a.b-c", {"hostname": "a.b-c"}, {"hostname": "a.b-c"}),
    ("cpu_set: 3", {"cpu_set": "3"}, {"cpuSet": "3"}),
    ("cpu_set: 'jail 4 ;  node 0'", {"cpu_set": "jail 4; node 0"}, {"cpuSet": "jail 4; node 0"}),
    ("coredump_filter: 0x0FF", {"coredump_filter": "0xff"}, {"coredumpFilter": "0xff"}),
    ('etc_hosts: "a b\\nc d\\n"', {"etc_hosts": "a b\nc d"}, {"etcHosts": "a b\nc d"}),
    ("net: inherited", {"net": "inherited"}, {"net": ["inherited"]}),
    (
        "net: 'L3  veth; MTU veth 1450'",
        {"net": "L3 veth;MTU veth 1450"},
        {"net": ["L3 veth", "MTU veth 1450"]},
    ),
    (
        "bind: [/a /b, '/c d ro,rec']",
        {"bind": "/a /b;/c d ro,rec"},
        {"bind": ["/a /b", "/c d ro,rec"]},
    ),
    (
        "capabilities: [NET_RAW, KILL, NET_RAW]",
        {"capabilities": "KILL;NET_RAW"},
        {"capabilities": ["KILL", "NET_RAW"]},
    ),
    (
        "capabilities: NET_RAW; KILL",
        {"capabilities": "KILL;NET_RAW"},
        {"capabilities": ["KILL", "NET_RAW"]},
    ),
    (
        "devices: [/dev/fuse rw, preset gpu]",
        {"devices": "/dev/fuse rw;preset gpu"},
        {"devices": ["/dev/fuse rw", "preset gpu"]},
    ),
    ("ip: [eth0 2001:db8::1/64]", {"ip": "eth0 2001:db8::1/64"}, {"ip": ["eth0 2001:db8::1/64"]}),
    (
        "env: {A: no, B: 0755, C: 1e3, D: '', E: true}",
        {"env[A]": "no", "env[B]": "0755", "env[C]": "1e3", "env[D]": "", "env[E]": "true"},
        {"env": {"A": "no", "B": "0755", "C": "1e3", "D": "", "E": "true"}},
    ),
    ("env: {}", {}, {}),
    ("env_secret: {T: s3cr3t}", {"env_secret[T]": "s3cr3t"}, {"envSecret": {"T": "***"}}),
    (
        "ulimit: {nofile: 1K 2k, core: unlimited, nproc: 5, memlock: '-1'}",
        {
            "ulimit[nofile]": "1024 2048",
            "ulimit[core]": "unlimited unlimited",
            "ulimit[nproc]": "5 5",
            "ulimit[memlock]": "unlimited unlimited",
        },
        {
            "ulimit": {
                "nofile": "1024 2048",
                "core": "unlimited unlimited",
                "nproc": "5 5",
                "memlock": "unlimited unlimited",
            }
        },
    ),
    (
        "controllers: {devices: 'False', memory: yes}",
        {"controllers[devices]": "false", "controllers[memory]": "true"},
        {"controllers": {"devices": False, "memory": True}},
    ),
    (
        "labels: {CF.a: 1, CF.b: no}",
        {"labels[CF.a]": "1", "labels[CF.b]": "no"},
        {"labels": {"CF.a": "1", "CF.b": "no"}},
    ),
    (
        "io_limit: {fs: 10M, /data r: 1K}",
        {"io_limit[fs]": "10485760", "io_limit[/data r]": "1024"},
        {"ioLimit": {"fs": 10485760, "/data r": 1024}},
    ),
    (
        "sysctl: {kernel.shmmax: 1}",
        {"sysctl[kernel.shmmax]": "1"},
        {"sysctl": {"kernel.shmmax": "1"}},
    ),
    ("symlink: {/a: b}", {"symlink[/a]": "b"}, {"symlink": {"/a": "b"}}),
]


@pytest.mark.parametrize(("written", "told", "shown"), PROPERTIES)
def test_property_is_read(written: str, told: dict[str, str], shown: dict[str, Any]) -> None:
    spec = make(written)
    assert dict(spec.properties) == {"command_argv": "d", **told}
    assert json.loads(spec.document)["spec"]["properties"] == {"cmd": ["d"], **shown}


def test_unquoted_arguments_keep_their_own_text() -> None:
    text = "meta: {name: d}\nspec: {properties: {cmd: [d, 0755, 1e3, no, 1.10, 2020-01-01, 1_0]}}\n"
    spec = parse_spec(text, "d.yaml")
    assert spec.properties["command_argv"] == "d\t0755\t1e3\tno\t1.10\t2020-01-01\t1_0"


def test_backslashes_are_doubled_as_portod_reads_them() -> None:
    spec = parse_spec(
        r'{"meta":{"name":"d"},"spec":{"properties":{"cmd":["a\\b","c\\"]}}}', "d.json"
    )
    assert spec.properties["command_argv"] == "a\\\\b\tc\\\\"
    assert json.loads(spec.document)["spec"]["properties"]["cmd"] == ["a\\b", "c\\"]


@pytest.mark.parametrize("field", ["cmd", "command"])
def test_one_string_is_a_command(field: str) -> None:
    text = f"meta: {{name: d}}\nspec: {{properties: {{{field}: ' d \"$HOME;x\" ''y z'' '}}}}\n"
    spec = parse_spec(text, "d.yaml")
    assert dict(spec.properties) == {"command": "d \"$HOME;x\" 'y z'"}
    assert json.loads(spec.document)["spec"]["properties"] == {"command": "d \"$HOME;x\" 'y z'"}


def test_virt_mode_is_told_before_what_it_resets() -> None:
    names = list(make("isolate: false, virt_mode: host").properties)
    assert names.index("virt_mode") < names.index("isolate")


@pytest.mark.parametrize("word", ["true", "True", '"true"', "'True'", "yes", "on"])
@pytest.mark.parametrize(
    "rest", ["", "spec: {}\n", "spec: {packages: [{name: a1, version: '1'}]}\n"]
)
def test_removal_needs_no_command(word: str, rest: str) -> None:
    spec = parse_spec(f"meta: {{name: d, delete_requested: {word}}}\n{rest}", "d.yaml")
    assert spec.delete_requested is True
    assert dict(spec.properties) == {}
    assert len(spec.packages) == ("packages" in rest)


@pytest.mark.parametrize("word", ["false", "False", '"False"', "off"])
def test_refused_removal_is_a_daemon_as_any_other(word: str) -> None:
    assert make(meta=f"delete_requested: {word}").delete_requested is False


def test_seconds_and_annotations_are_read() -> None:
    spec = make(
        meta="annotations: {owner: rtc, ticket: 39, y: no}",
        spec="  min_ready_s: 2.5\n  ready_timeout_s: '0'\n",
    )
    assert (spec.min_ready_s, spec.ready_timeout_s) == (2.5, 0.0)
    assert dict(spec.annotations) == {"owner": "rtc", "ticket": "39", "y": "no"}


def test_package_may_name_its_architecture_and_be_held() -> None:
    spec = make(
        spec="  packages:\n    - {name: 'libc6:i386', version: '1:2.3~rc1-4', allow_held: 'true'}\n"
    )
    assert spec.packages == (Package("libc6:i386", "1:2.3~rc1-4", allow_held=True, line=5),)


def test_alias_stands_for_its_value() -> None:
    text = (
        "meta: {name: d, version: &v '1.2'}\n"
        "spec: {properties: {cmd: [d]}, packages: [{name: a1, version: *v}]}\n"
    )
    assert parse_spec(text, "d.yaml").packages[0].version == "1.2"


def test_document_markers_and_comments_are_no_second_document() -> None:
    text = "# one\n---\nmeta: {name: d}\nspec: {properties: {cmd: [d]}}\n...\n# end\n"
    assert parse_spec(text, "d.yaml").name == "d"


DIGEST_SAME = [
    "{name: d, version: '2'}",
    "{name: d, annotations: {a: b}}",
    "{name: d, delete_requested: true}",
]


@pytest.mark.parametrize("meta", DIGEST_SAME)
def test_digest_ignores_what_decides_nothing(meta: str) -> None:
    text = "meta: {}\nspec: {{properties: {{cmd: [d]}}, min_ready_s: {}}}\n"
    plain = parse_spec(text.format("{name: d}", 5), "d.yaml")
    assert parse_spec(text.format(meta, 9), "other.yaml").digest == plain.digest


def test_digest_is_one_for_two_spellings_and_any_order() -> None:
    packages = "packages: [{name: a1, version: '1'}, {name: b1, version: '2'}]"
    swapped = "packages: [{version: '2', name: b1, allow_held: true}, {name: a1, version: '1'}]"
    one = make("memory_limit: 2Gb, env: {A: x, B: y}", spec=f"  {packages}\n")
    two = make("env: {B: y, A: x}, memory_limit: 2147483648", spec=f"  {swapped}\n")
    assert one.digest == two.digest
    assert len(one.digest) == 64


@pytest.mark.parametrize(
    "other",
    [
        make("memory_limit: 3Gb"),
        make("memory_limit: 2Gb, env: {A: x}"),
        make("memory_limit: 2Gb, env_secret: {A: x}"),
        make("memory_limit: 2Gb, env_secret: {A: y}"),
        make("memory_limit: 2Gb", spec="  packages: [{name: a1, version: '1'}]\n"),
        make("memory_limit: 2Gb", spec="  packages: [{name: a1, version: '2'}]\n"),
        parse_spec("meta: {name: e}\nspec: {properties: {cmd: [d], memory_limit: 2Gb}}", "d.yaml"),
        parse_spec("meta: {name: d}\nspec: {properties: {cmd: d, memory_limit: 2Gb}}", "d.yaml"),
        parse_spec(
            "meta: {name: d}\nspec: {properties: {cmd: [d, e], memory_limit: 2Gb}}", "d.yaml"
        ),
    ],
)
def test_digest_changes_with_what_runs(other: DaemonSpec) -> None:
    assert other.digest != make("memory_limit: 2Gb").digest


def test_yaml_and_json_say_the_same() -> None:
    text = (DATA / "juggler-agent-rtc.yaml").read_text()
    as_yaml = parse_spec(text, "d.yaml")
    as_json = parse_spec(json.dumps(yaml.safe_load(text)), "d.json")
    assert as_json.digest == as_yaml.digest
    assert as_json.document == as_yaml.document
    assert [(p.name, p.version) for p in as_json.packages] == [
        (p.name, p.version) for p in as_yaml.packages
    ]


def test_pure_python_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DATA / "juggler-agent-rtc.yaml").read_text()
    as_c = parse_spec(text, "d.yaml")
    monkeypatch.setattr("ya_salt.specs.yaml_tree._LOADER", yaml.SafeLoader)
    assert parse_spec(text, "d.yaml") == as_c


@pytest.mark.parametrize("key", ['"<<"', '"null"', "'1.10'", "on"])
def test_quoted_key_is_a_name_like_any_other(key: str) -> None:
    assert list(make(meta=f"annotations: {{{key}: x}}").annotations) == [key.strip("\"'")]
