"""What portod takes and only `start` refuses is refused by the checker, and its neighbours pass."""

from __future__ import annotations

import pytest
from devporto.kernel import WordExpError, split_words

from ya_salt.errors import SpecError
from ya_salt.porto.values import parse_command
from ya_salt.specs.directory import parse_spec


def problems(properties: str) -> list[str]:
    """The fields that are wrong, in a spec with these properties."""
    text = f"meta: {{name: d}}\nspec: {{properties: {{cmd: [d], {properties}}}}}\n"
    try:
        parse_spec(text, "d.yaml")
    except SpecError as error:
        return sorted({one.field.removeprefix("spec.properties.") for one in error.problems})
    return []


HOST = "virt_mode: host"
REFUSED = [
    # conformance/host-mode-refusals
    (f"{HOST}, bind: [/tmp /mnt ro]", "bind"),
    (f"{HOST}, root_readonly: true", "root_readonly"),
    (f"{HOST}, root: /tmp", "root"),
    (f"{HOST}, hostname: foo", "hostname"),
    (f"{HOST}, isolate: true", "isolate"),
    (f"{HOST}, userns: true", "userns"),
    (f"{HOST}, resolv_conf: [nameserver 192.0.2.1]", "resolv_conf"),
    (f"{HOST}, etc_hosts: 127.0.0.1 x", "etc_hosts"),
    (f"{HOST}, sysctl: {{net.ipv4.ip_forward: '1'}}", "sysctl"),
    (f"{HOST}, sysctl: {{kernel.shmmax: '1000'}}", "sysctl"),
    (f"{HOST}, net: none, sysctl: {{kernel.nosuch: '1'}}", "sysctl[kernel.nosuch]"),
    ("sysctl: {vm.swappiness: '1'}", "sysctl[vm.swappiness]"),
    ("isolate: false, sysctl: {kernel.shmmax: '1000'}", "sysctl"),
    ("isolate: false, sysctl: {kernel/shmmax: '1000'}", "sysctl"),
    ("net: inherited, sysctl: {net/ipv6/conf/all/forwarding: '1'}", "sysctl"),
    (f"{HOST}, net_rx_limit: {{default: 10M}}", "net_rx_limit"),
    ("net_rx_limit: {default: 10M}", "net_rx_limit"),
    ("net: host, net_rx_limit: {eth0: 10M}", "net_rx_limit"),
    # conformance/virt-modes
    ("virt_mode: job", "virt_mode"),
    # conformance/net-forms
    ("net: [L3 veth, none]", "net"),
    ("net: [inherited, container x]", "net"),
    ("net: [veth]", "net[0]"),
    ("net: [MTU veth 1450]", "net"),
    ("net: [container]", "net[0]"),
    ("net: [container a b]", "net[0]"),
    ("net: [netns]", "net[0]"),
    ("net: [none eth0]", "net[0]"),
    ("net: [macvlan eth0]", "net[0]"),
    # conformance/ip-limit-forms
    ("ip_limit: [any, none]", "ip_limit"),
    ("ip_limit: [192.0.2.1, any]", "ip_limit"),
    ("ip_limit: [x]", "ip_limit[0]"),
    ("cpu_set: threads 2", "cpu_set"),
    ("cpu_set: cores 1", "cpu_set"),
    ("cpu_set: reserve 1", "cpu_set"),
    # conformance/limits-without-their-controller
    ("controllers: {memory: false}, memory_limit: 10M", "memory_limit"),
    ("controllers: {cpu: false}, cpu_limit: 1c", "cpu_limit"),
    ("controllers: {cpuset: false}, cpu_set: '0'", "cpu_set"),
    ("controllers: {net_cls: false}, net_tos: CS1", "net_tos"),
    ("controllers: {blkio: false}, io_limit: {/: 10M}", "io_limit"),
    ("controllers: {memory: false}, io_limit: {fs: 10M}", "io_limit"),
    ("controllers: {blkio: false}, io_weight: 2", "io_weight"),
    ("controllers: {memory: false}, pressurize_on_death: true", "pressurize_on_death"),
    ("controllers: {pids: false}, thread_limit: 10", "thread_limit"),
    ("controllers: {devices: false}, root: /srv", "root"),
    ("controllers: {devices: false}, devices: [/dev/null rw]", "devices"),
    ("controllers: {net_cls: false}, net: [L3 veth]", "net"),
    # One network, and set up only where it is the container's own.
    ("net: [container a, L3 veth]", "net"),
    ("net: [netns a, container b]", "net"),
    ("net: [tap a, L3 veth]", "net"),
    ("net: [container a], net_rx_limit: {default: 1M}", "net_rx_limit"),
    ("net: [container a], sysctl: {net.ipv4.ip_forward: '1'}", "sysctl"),
    ("virt_mode: os, net: inherited, net_rx_limit: {default: 1M}", "net_rx_limit"),
    ("cpu_set: jail 0", "cpu_set"),
    ("cpu_set: jail 2; 0-3", "cpu_set"),
    ("cpu_set: 3-1", "cpu_set"),
]
TAKEN = [
    f"{HOST}, net: none, cgroupfs: ro, unshare_on_exec: true",
    f"{HOST}, isolate: false, userns: false, root: /, root_readonly: false, resolv_conf: [keep]",
    f"{HOST}, net: [L3 veth], sysctl: {{net.ipv4.ip_forward: '1'}}, net_rx_limit: {{default: 1M}}",
    f"{HOST}, symlink: {{/tmp/a: /tmp}}, stdin_path: /dev/null, cwd: /tmp",
    "hostname: foo, bind: [/tmp /mnt ro], etc_hosts: 127.0.0.1 x, root_readonly: true",
    "sysctl: {kernel.shmmax: '1000'}",
    "net: [L3 veth, MTU veth 1450], sysctl: {net.ipv4.ip_forward: '1'}",
    "net: [container other]",
    "net: NAT",
    "net: host",
    "ip_limit: [192.0.2.1, 2001:db8::/64]",
    "cpu_set: jail 4; node 0",
    "controllers: {memory: false}, memory_limit: 0, pressurize_on_death: false",
    "controllers: {memory: false}, io_limit: {/: 10M}",
    "controllers: {blkio: false}, io_limit: {fs: 10M}",
    "controllers: {devices: false}, root: /, devices: [/dev/null m]",
    "controllers: {net_cls: false}, net: none",
    "net: [netns a], sysctl: {net.ipv4.ip_forward: '1'}, net_rx_limit: {default: 1M}",
    "net: [L3 extra_routes veth eth0]",
    "cpu_set: jail 4; mems 0",
    "virt_mode: os, net_rx_limit: {default: 1M}, sysctl: {net.ipv4.ip_forward: '1'}",
    "controllers: {memory: false}, cpu_limit: 1c",
]


@pytest.mark.parametrize(("properties", "field"), REFUSED)
def test_what_only_a_start_refuses_is_refused_by_the_checker(properties: str, field: str) -> None:
    assert problems(properties) == [field]


@pytest.mark.parametrize("properties", TAKEN)
def test_what_portod_starts_passes(properties: str) -> None:
    assert problems(properties) == []


def test_a_sysctl_is_told_to_portod_with_dots() -> None:
    written = "net: NAT, sysctl: {net/ipv4/ip_forward: '1', kernel/sem: '1 2 3 4'}"
    text = f"meta: {{name: d}}\nspec: {{properties: {{cmd: [d], {written}}}}}\n"
    told = set(parse_spec(text, "d.yaml").properties) - {"command_argv", "net"}
    assert told == {"sysctl[kernel.sem]", "sysctl[net.ipv4.ip_forward]"}


def test_what_asks_for_nothing_does_not_switch_its_controller_on() -> None:
    written = "controllers: {memory: false, devices: false}, memory_limit: 0, root: /"
    text = f"meta: {{name: d}}\nspec: {{properties: {{cmd: [d], {written}}}}}\n"
    assert sorted(parse_spec(text, "d.yaml").properties) == [
        *("command_argv", "controllers[devices]", "controllers[memory]"),
    ]


@pytest.mark.parametrize(
    "written", ["[192.0.2.1, 192.0.2.2]", "192.0.2.1; 192.0.2.2", "192.0.2.1 192.0.2.2"]
)
def test_addresses_of_ip_limit_are_separated_by_blanks(written: str) -> None:
    text = f"meta: {{name: d}}\nspec: {{properties: {{cmd: [d], ip_limit: {written}}}}}\n"
    assert parse_spec(text, "d.yaml").properties["ip_limit"] == "192.0.2.1 192.0.2.2"


WORDS = [
    *(
        "a b",
        "a 'b;c' \"d|e\"",
        "a $((1+1))",
        "a '$(b)'",
        "a \\(b\\)",
        "a \\`b",
        "sh -c 'b; echo $C'",
    ),
    *("a (b)", "a {b,c}", "a $(b)", 'a "$(b)"', "a `b`", 'a "`b`"', "a b;", "a|b", "a >b", "a 'b"),
    *("a ${B", "a \\", 'a "it\'s" $(b)', "a \"b'\" $(c) 'd'"),
]


@pytest.mark.parametrize("text", WORDS)
def test_the_checker_splits_words_as_wordexp_does(text: str) -> None:
    try:
        split_words(text)
    except WordExpError:
        with pytest.raises(ValueError, match=r"holds|quote|backslash"):
            parse_command(text)
    else:
        assert parse_command(text) == text
