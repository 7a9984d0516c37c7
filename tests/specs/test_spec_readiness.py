"""What can be asked of which daemon, and what is refused when its file is read."""

from __future__ import annotations

import pytest

from ya_salt.converge.listening import put_socket
from ya_salt.converge.probing import list_addresses, list_probe_properties
from ya_salt.errors import SpecError
from ya_salt.model import NOTIFY_DIR, Readiness
from ya_salt.specs.directory import parse_spec
from ya_salt.specs.sockets import name_socket

FOLDER = f"{NOTIFY_DIR}/daemons/d"
HOSTS = ("127.0.0.1", "::1")


def write(readiness: str, properties: str = "") -> str:
    more = f", {properties}" if properties else ""
    return f"meta: {{name: d}}\nspec: {{readiness: {readiness}, properties: {{cmd: [d]{more}}}}}\n"


def find_problems(text: str) -> list[tuple[str, str]]:
    try:
        parse_spec(text, "d.yaml")
    except SpecError as error:
        return [(one.field, str(one)) for one in error.problems]
    return []


@pytest.mark.parametrize(
    ("readiness", "expected"),
    [
        ("{exec: [check, -q]}", Readiness(exec=("check", "-q"), period_s=30)),
        ("{exec: [check], period_s: 5}", Readiness(exec=("check",), period_s=5)),
        ("{tcp: 80}", Readiness(tcp=80)),
        ("{http: {port: 80}}", Readiness(http_port=80)),
        (
            "{http: {port: 80, path: /a, status: 204}, timeout_s: 0.5, failure_threshold: 1}",
            Readiness(
                http_port=80, http_path="/a", http_status=204, timeout_s=0.5, failure_threshold=1
            ),
        ),
        ("{tcp: 80, on_failure: restart}", Readiness(tcp=80, on_failure="restart")),
        ("{tcp: 80, notify: false}", Readiness(tcp=80)),
        ("{notify: true}", Readiness(notify=True, period_s=30, failure_threshold=1)),
        (
            "{notify: true, watchdog_s: 0.5, on_failure: restart}",
            Readiness(
                *((), 0, 0, "/", 200, 30, 5, 1, "restart"),
                notify=True,
                watchdog_s=0.5,
            ),
        ),
    ],
)
def test_meaning(readiness: str, expected: Readiness) -> None:
    spec = parse_spec(write(readiness), "d.yaml")
    assert spec.readiness == expected
    # It has longer to come up than one that is not asked.
    assert spec.ready_timeout_s == spec.ready_deadline_s == 300


@pytest.mark.parametrize(
    ("readiness", "properties", "field", "right"),
    [
        ("{}", "", "", "one of exec, tcp and http"),
        ("{tcp: 80, exec: [a]}", "", "", "one of exec, tcp and http"),
        ("{http: {path: /}}", "", ".http.port", "the port"),
        ("{tcp: 0}", "", ".tcp", "1"),
        ("{tcp: 80, timeout_s: 61}", "", ".timeout_s", "60"),
        ("{tcp: 80, period_s: 0}", "", ".period_s", "1"),
        ("{exec: []}", "", ".exec", "program"),
        ("{notify: false}", "", "", "notify: true"),
        ("{notify: true, tcp: 80}", "", "", "notify"),
        ("{notify: 3}", "", ".notify", "true"),
        ("{notify: true, period_s: 5}", "", ".period_s", "leave it out"),
        ("{notify: true, timeout_s: 5}", "", ".timeout_s", "leave it out"),
        ("{notify: true, failure_threshold: 5}", "", ".failure_threshold", "leave it out"),
        ("{notify: true, watchdog_s: 0}", "", ".watchdog_s", "0.1"),
        ("{tcp: 80, watchdog_s: 5}", "", ".watchdog_s", "notify"),
        ("{exec: [a]}", "children_allowed: false", ".exec", "children_allowed"),
        ("{tcp: 80}", "net: none", ".tcp", "exec"),
        ("{http: {port: 80}}", "net: none", ".http", "exec"),
        ("{tcp: 80}", "virt_mode: os", ".tcp", "exec"),
        ("{tcp: 80}", "net: macvlan eth0 eth0, ip: [eth0 192.0.2.1]", ".tcp", "exec"),
        ("{tcp: 80}", "net: NAT eth0", ".tcp", "exec"),
        ("{tcp: 80}", "net: container other", ".tcp", "exec"),
        ("{tcp: 80}", "net: L3 veth", ".tcp", "set ip"),
    ],
)
def test_refused(readiness: str, properties: str, field: str, right: str) -> None:
    (problem,) = find_problems(write(readiness, properties))
    assert problem[0] == f"spec.readiness{field}"
    assert right in problem[1]


@pytest.mark.parametrize(
    ("readiness", "properties", "addresses"),
    [
        ("{tcp: 80}", "", HOSTS),
        ("{tcp: 80}", "net: inherited", HOSTS),
        ("{tcp: 80}", "net: host", HOSTS),
        ("{tcp: 80}", "virt_mode: os, net: inherited", HOSTS),
        ("{tcp: 80}", "virt_mode: host", HOSTS),
        ("{tcp: 80}", "net: L3 veth, ip: [veth 192.0.2.1/24]", ("192.0.2.1",)),
        (
            "{http: {port: 1}}",
            "net: [L3 veth, MTU veth 1400], ip: [veth 192.0.2.1, 'veth 2001:db8::1/64']",
            ("192.0.2.1", "2001:db8::1"),
        ),
    ],
)
def test_where_it_is_asked(readiness: str, properties: str, addresses: tuple[str, ...]) -> None:
    spec = parse_spec(write(readiness, properties), "d.yaml")
    assert list_addresses(spec.properties) == addresses


@pytest.mark.parametrize("base", ["env", "env_secret"])
@pytest.mark.parametrize("variable", ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"])
def test_what_a_daemon_that_speaks_is_told_may_not_be_set(base: str, variable: str) -> None:
    text = (
        "meta: {name: d}\nspec:\n  readiness: {notify: true}\n"
        f"  properties:\n    cmd: [d]\n    {base}:\n      A: b\n      {variable}: '1'\n"
    )
    (problem,) = find_problems(text)
    assert problem[0] == f"spec.properties.{base}.{variable}"
    # Its own line, and what to do.
    assert problem[1].startswith("d.yaml:8:7:")
    assert "leave it out" in problem[1]
    # Whoever does not speak may have them.
    assert find_problems(text.replace("notify: true", "tcp: 80")) == []


def test_a_name_that_makes_no_socket_is_refused() -> None:
    text = write("{notify: true}")
    assert find_problems(text.replace("name: d", f"name: {'d' * 48}")) == []
    (problem,) = find_problems(text.replace("name: d", f"name: {'d' * 49}"))
    assert problem[0] == "spec.readiness.notify"
    assert len(name_socket("/" + "x" * 42, "d" * 48).encode()) <= 107


@pytest.mark.parametrize(
    ("properties", "bind"),
    [
        ("", f"{FOLDER} {FOLDER} ro"),
        ("bind: [/a /b ro, /c /d]", f"/a /b ro;/c /d;{FOLDER} {FOLDER} ro"),
        # There it sees the host's files.
        ("virt_mode: host", None),
    ],
)
def test_a_daemon_that_speaks_has_its_socket(properties: str, bind: str | None) -> None:
    spec = parse_spec(write("{notify: true, watchdog_s: 1.5}", properties), "d.yaml")
    assert spec.properties["env[NOTIFY_SOCKET]"] == f"{FOLDER}/socket"
    assert spec.properties["env[WATCHDOG_USEC]"] == "1500000"
    assert spec.properties.get("bind") == bind
    # To switch it on is another spec, and so is another place; back again is the same.
    other = put_socket(spec, "/elsewhere")
    assert "/elsewhere/daemons/d" in other.properties["env[NOTIFY_SOCKET]"]
    assert FOLDER not in str(other.properties)
    without = parse_spec(write("{tcp: 80}", properties), "d.yaml")
    assert len({spec.digest, other.digest, without.digest}) == 3
    assert put_socket(other, NOTIFY_DIR) == spec
    assert put_socket(without, "/elsewhere") is without


@pytest.mark.parametrize("net", ["none", "macvlan eth0 eth0", "NAT eth0"])
def test_a_command_goes_with_every_network(net: str) -> None:
    assert find_problems(write("{exec: [a]}", f"net: {net}")) == []


def test_a_command_has_what_the_daemon_has() -> None:
    properties = (
        "user: nobody, group: nogroup, cwd: /tmp, umask: '0077', env: {A: b}, env_secret: {C: d}, "
        "memory_limit: 1G, net: none, virt_mode: host, isolate: false"
    )
    spec = parse_spec(write("{exec: [sh, -c, 'a; b']}", properties), "d.yaml")
    assert spec.readiness is not None
    assert list_probe_properties(spec, spec.readiness) == {
        "virt_mode": "host",
        "isolate": "false",
        "command_argv": "sh\t-c\ta; b",
        "respawn": "false",
        "stdout_limit": "4096",
        "user": "nobody",
        "group": "nogroup",
        "cwd": "/tmp",
        "umask": spec.properties["umask"],
        "env[A]": "b",
        "env_secret[C]": "d",
    }
