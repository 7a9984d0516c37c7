"""Commands run as Porto runs them, and nothing of them stays."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.helpers.portod import DevPortod, Wire
from tests.helpers.processes import find_processes

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="switching users takes root")
# Leaves the session, forks twice, and forgets its environment: no name leads back to it.
DAEMON = "sh -c 'env -i setsid sh -c \"(sleep 7{n} & sleep 7{n} & wait) & sleep 7{n}\" & sleep {m}'"


def count_processes(pattern: str) -> int:
    return len(find_processes(pattern))


def wait_until_gone(pattern: str, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while count_processes(pattern):
        assert time.monotonic() < deadline, f"{pattern} is still there"
        time.sleep(0.05)


def wait_until_there(pattern: str, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not count_processes(pattern):
        assert time.monotonic() < deadline, f"{pattern} did not start"
        time.sleep(0.05)


def run(wire: Wire, command: str, **properties: str) -> str:
    """stdout of a command run to its end."""
    wire.create("r", command=command, **properties)
    wire.must(start={"name": "r"})
    wire.wait_for("r", "state", "dead")
    out = wire.get("r", "stdout")
    wire.must(destroy={"name": "r"})
    return out


def test_environment_is_portos_and_nothing_else(wire: Wire) -> None:
    lines = dict(line.split("=", 1) for line in run(wire, "env").splitlines())
    assert lines.pop("HOME").endswith("/r")
    assert lines.pop("PORTO_HOST") == os.uname().nodename
    assert lines.pop("USER") == lines.pop("PORTO_USER")
    assert lines == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "container": "lxc",
        "PORTO_NAME": "r",
    }


def test_porto_variables_cannot_be_overridden(wire: Wire) -> None:
    assert run(wire, "sh -c 'echo $PORTO_NAME $A'", env="PORTO_NAME=x;A=1") == "r 1\n"


def test_shared_environment_is_inherited_from_the_parent(wire: Wire) -> None:
    wire.create("p", env="A=parent;B=parent")
    wire.create("p/c", command="sh -c 'echo $A $B'", isolate="false", env="B=own")
    wire.must(start={"name": "p/c"})
    wire.wait_for("p/c", "stdout", "parent own\n")


@pytest.mark.parametrize(
    "command",
    [
        "a | b",
        "a & b",
        "a; b",
        "a > b",
        "a < b",
        "(a)",
        "echo `id`",
        "echo $(id)",
        "echo $NOSUCH",
        "'",
        "a\nb",
    ],
)
def test_shell_syntax_is_refused(wire: Wire, command: str) -> None:
    wire.create("p", command=command)
    assert wire.code(start={"name": "p"}) == "InvalidCommand"
    assert wire.get("p", "state") == "stopped"
    assert wire.get("p", "start_error").startswith("InvalidCommand:(wordexp()")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("printf '%s|' a\\ b 'c d' \"e f\"", "a b|c d|e f|"),
        ("printf '%s|' $HOMELY", "x|y|"),
        ("printf '%s|' \"$HOMELY\" '$HOMELY'", "x y|$HOMELY|"),
        ("printf '%s|' ${HOMELY}z", "x|yz|"),
        ("printf '%s|' /etc/pass[w]d", "/etc/passwd|"),
        ("printf '%s|' $((1+2))", "3|"),
    ],
)
def test_words_are_expanded_as_wordexp_does(wire: Wire, command: str, words: str) -> None:
    assert run(wire, command, env="HOMELY=x y") == words


def test_umask_ulimit_directory_and_session(wire: Wire) -> None:
    is_leader = '[ $(cut -d" " -f6 /proc/$$/stat) = $$ ] && echo leader'
    script = f"sh -c 'umask; ulimit -n; ulimit -Hn; pwd; {is_leader}'"
    out = run(wire, script, umask="027", ulimit="nofile: 100 200", cwd="/tmp")
    assert out.splitlines() == ["0027", "100", "200", "/tmp", "leader"]


def test_ulimit_is_inherited(wire: Wire) -> None:
    wire.create("p", ulimit="nofile: 123 456; core: 0")
    wire.create("p/c", command="sh -c 'ulimit -n'", ulimit="nproc: 5000")
    wire.must(start={"name": "p/c"})
    wire.wait_for("p/c", "stdout", "123\n")


def read_open_files(wire: Wire, name: str) -> list[str]:
    limits = Path(f"/proc/{wire.get(name, 'root_pid')}/limits").read_text()
    line = next(line for line in limits.splitlines() if line.startswith("Max open files"))
    return line.split()[3:5]


def test_ulimit_set_live_is_for_the_next_start(wire: Wire) -> None:
    wire.create("p", command="sleep 100", ulimit="nofile: 55 66")
    wire.must(start={"name": "p"})
    wire.set("p", ulimit="nofile: 77 88")
    assert read_open_files(wire, "p") == ["55", "66"]
    wire.must(stop={"name": "p"})
    wire.must(start={"name": "p"})
    assert read_open_files(wire, "p") == ["77", "88"]


@pytest.mark.parametrize("limits", ["nofile: 10 5", "nofile: unlimited"])
def test_ulimit_that_the_kernel_refuses_fails_the_start(wire: Wire, limits: str) -> None:
    wire.create("p", command="sleep 100", ulimit=limits)
    assert wire.code(start={"name": "p"}) == "Unknown"
    assert wire.get("p", "state") == "stopped"


@ROOT_ONLY
def test_capabilities_are_what_the_process_has(wire: Wire) -> None:
    shown = "sh -c 'grep -E \"Cap(Eff|Bnd|Amb)\" /proc/self/status'"
    out = run(wire, shown, capabilities="KILL;NET_BIND_SERVICE", user="nobody",
              capabilities_ambient="NET_BIND_SERVICE")  # fmt: skip
    found = {line.split()[0]: int(line.split()[1], 16) for line in out.splitlines()}
    assert found == {"CapEff:": 1 << 10, "CapBnd:": 1 << 5 | 1 << 10, "CapAmb:": 1 << 10}


def test_ambient_capability_beyond_the_limit_fails_the_start(wire: Wire) -> None:
    wire.create("p", command="true", capabilities="KILL", capabilities_ambient="CHOWN")
    assert wire.code(start={"name": "p"}) == "Permission"


def test_cpu_set_is_where_the_process_runs(wire: Wire) -> None:
    cpu = min(os.sched_getaffinity(0))
    wire.create("p", command="sleep 100")
    wire.must(start={"name": "p"})
    pid = int(wire.get("p", "root_pid"))
    wire.set("p", cpu_set=str(cpu))
    assert os.sched_getaffinity(pid) == {cpu}
    assert wire.get("p", "cpu_set_affinity") == str(cpu)
    wire.set("p", cpu_set="")
    assert os.sched_getaffinity(pid) >= os.sched_getaffinity(0)


def test_policy_and_weight_order_the_processes_at_start_and_live(wire: Wire) -> None:
    wire.create("p", command="sleep 100", cpu_policy="batch", cpu_weight="0.5")
    wire.must(start={"name": "p"})
    pid = int(wire.get("p", "root_pid"))
    assert (os.sched_getscheduler(pid), os.getpriority(0, pid)) == (os.SCHED_BATCH, 7)
    wire.set("p", cpu_weight="0.1", cpu_policy="idle")
    assert (os.sched_getscheduler(pid), os.getpriority(0, pid)) == (os.SCHED_IDLE, 19)


def test_links_are_made_at_start_but_in_host_mode_only_when_they_are_set(
    wire: Wire, tmp_path: Path
) -> None:
    link = tmp_path / "new" / "link"
    for mode, is_made in (("app", True), ("host", False)):
        wire.create(mode, command="sleep 100", virt_mode=mode, symlink=f"{link}: {tmp_path}")
        wire.must(start={"name": mode})
        assert link.is_symlink() == is_made
        wire.set(mode, **{f"symlink[{link}]": "/etc"})
        assert link.resolve() == Path("/etc").resolve()
        wire.set(mode, symlink="")
        assert not link.is_symlink()
        assert wire.code(
            setProperty={"name": mode, "property": f"symlink[{link}]", "value": ""}
        ) == "Unknown"  # fmt: skip


def test_descriptors_of_the_server_stay_there(wire: Wire) -> None:
    assert run(wire, "sh -c 'ls /proc/$$/fd'").split() == ["0", "1", "2"]


def test_private_directory_lives_from_start_to_stop(wire: Wire) -> None:
    wire.create("p", command="sh -c 'echo x > f; pwd'")
    wire.must(start={"name": "p"})
    wire.wait_for("p", "state", "dead")
    directory = Path(wire.get("p", "stdout").strip())
    assert directory == Path(wire.get("p", "cwd"))
    assert (directory / "f").read_text() == "x\n"
    wire.must(stop={"name": "p"})
    assert not directory.exists()


def test_named_streams_are_used_and_kept(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("hello\n")
    tmp_path.chmod(0o755)
    wire.create(
        "p", command="cat", stdin_path=str(tmp_path / "in"), stdout_path=str(tmp_path / "out")
    )
    wire.must(start={"name": "p"})
    wire.wait_for("p", "state", "dead")
    assert wire.get("p", "stdout") == "hello\n"
    wire.must(destroy={"name": "p"})
    assert (tmp_path / "out").read_text() == "hello\n"


def test_unusable_stream_is_a_bad_value(wire: Wire) -> None:
    wire.create("p", command="true", stdout_path="/nosuch/dir/out")
    assert wire.code(start={"name": "p"}) == "InvalidValue"
    wire.set("p", stdout_path="/dev/null")
    wire.must(start={"name": "p"})
    assert wire.get("p", "stdout") == "error: InvalidData"


def test_output_is_bounded_and_keeps_the_end(wire: Wire) -> None:
    wire.create("p", command="sh -c 'seq 1 20000'", stdout_limit="8192")
    wire.must(start={"name": "p"})
    wire.wait_for("p", "state", "dead")
    kept = wire.get("p", "stdout")
    assert len(kept) <= 8192
    assert kept.endswith("19999\n20000\n")
    offset = int(wire.get("p", "stdout_offset"))
    assert offset > 0
    assert wire.get("p", f"stdout[{offset - 1}:]") == "error: InvalidData"
    assert wire.get("p", f"stdout[{offset}:1]") == kept[-int(os.sysconf("SC_PAGE_SIZE")) * 2 :][:1]
    assert wire.get("p", "stdout[x]") == "error: InvalidValue"


def test_short_limit_shows_the_last_bytes(wire: Wire) -> None:
    assert run(wire, "printf 0123456789", stdout_limit="4") == "6789"


@pytest.mark.parametrize(
    ("script", "status", "code", "dumped"),
    [
        ("exit 0", "0", "0", "false"),
        ("exit 7", "1792", "7", "false"),
        ("kill -9 $$", "9", "-9", "false"),
        ("exit 143", "15", "-15", "false"),
        ("exit 200", "51200", "200", "false"),
        ("exit 173", "139", "-11", "true"),
    ],
)
def test_exit_status(wire: Wire, script: str, status: str, code: str, dumped: str) -> None:
    """portod's init passes a signal on as 128 + signal, so such exit codes look like one."""
    wire.create("p", command=f"sh -c '{script}'")
    wire.must(start={"name": "p"})
    wire.wait_for("p", "state", "dead")
    seen = [wire.get("p", key) for key in ("exit_status", "exit_code", "core_dumped")]
    assert seen == [status, code, dumped]


@ROOT_ONLY
def test_user_group_and_supplementary_groups(wire: Wire) -> None:
    assert run(wire, "id -u -n", user="nobody", group="nogroup") == "nobody\n"
    assert run(wire, "sh -c 'id -u; id -g'", user="1234", group="4321") == "1234\n4321\n"
    out = run(wire, "sh -c 'id -G; echo x > f && stat -c %u f'", user="nobody", group="nogroup")
    assert out == "65534\n65534\n"


@ROOT_ONLY
def test_oom_score_is_applied(wire: Wire) -> None:
    assert run(wire, "cat /proc/self/oom_score_adj", oom_score_adj="700") == "700\n"


def test_sysroot_stands_in_for_the_root(tmp_path: Path) -> None:
    for directory in ("etc", "usr/bin", "opt"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text("hero:x:4242:4343::/:/bin/sh\n")
    (tmp_path / "etc/group").write_text("heroes:x:4343:\nband:x:4444:hero\n")
    for name, text in (("usr/bin/true", "by path"), ("opt/tool", "absolute")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {text} $0\n")
        (tmp_path / name).chmod(0o755)
    tmp_path.chmod(0o755)
    with DevPortod(sysroot=str(tmp_path)) as server, server.connect() as wire:
        assert run(wire, "true") == f"by path {tmp_path}/usr/bin/true\n"
        assert run(wire, "/opt/tool") == f"absolute {tmp_path}/opt/tool\n"
        assert run(wire, "/bin/echo own") == "own\n"
        wire.create("p", user="hero", group="heroes", command="/opt/tool")
        assert wire.get("p", "command") == "/opt/tool"
        assert wire.get("p", "task_cred").startswith("4242 4343 ")
        assert "4444" in wire.get("p", "task_cred")
        assert wire.get("p", "user") == "hero"


def test_script_without_interpreter_runs_by_the_shell(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "script").write_text("echo from sh $1\n")
    (tmp_path / "script").chmod(0o755)
    assert run(wire, f"{tmp_path}/script x") == "from sh x\n"


def test_what_a_dead_command_left_is_killed(wire: Wire) -> None:
    wire.create("p", command=DAEMON.format(n=70071, m="0.5"))
    wire.must(start={"name": "p"})
    wait_until_there("sleep 770071")
    wire.wait_for("p", "state", "dead")
    wait_until_gone("sleep 770071")


def test_destroy_ends_daemons_too(wire: Wire) -> None:
    wire.create("p", command=DAEMON.format(n=70072, m="100"))
    wire.must(start={"name": "p"})
    wait_until_there("sleep 770072")
    deadline = time.monotonic() + 20
    while int(wire.get("p", "process_count")) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    wire.must(destroy={"name": "p"})
    wait_until_gone("sleep 770072")


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_server(sig: signal.Signals) -> None:
    number = 70080 + sig
    server = DevPortod()
    server.start()
    try:
        with server.connect() as wire:
            for index in range(3):
                wire.create(f"p{index}", command=DAEMON.format(n=number, m="100"), respawn="true")
                wire.must(start={"name": f"p{index}"})
            scratch = Path(wire.get("p0", "cwd")).parent
            keeper = find_processes(str(scratch))
        wait_until_there(f"sleep 7{number}")
        assert server.process is not None
        server.process.send_signal(sig)
        server.process.wait(20)
        wait_until_gone(f"sleep 7{number}")
        wait_until_gone(f"{scratch}")
        assert not scratch.exists()
        assert keeper
    finally:
        server.stop()


def test_server_ends_with_its_keeper() -> None:
    server = DevPortod()
    server.start()
    try:
        with server.connect() as wire:
            wire.create("p", command=DAEMON.format(n=70099, m="100"))
            wire.must(start={"name": "p"})
            scratch = Path(wire.get("p", "cwd")).parent
        wait_until_there("sleep 770099")
        os.kill(find_processes(str(scratch))[0], signal.SIGKILL)
        assert server.process is not None
        server.process.wait(20)
        wait_until_gone("sleep 770099")
    finally:
        server.stop()


def test_killed_init_makes_the_container_dead(wire: Wire) -> None:
    wire.create("p", command=DAEMON.format(n=70098, m="100"))
    wire.must(start={"name": "p"})
    wait_until_there("sleep 770098")
    main = int(wire.get("p", "root_pid"))
    init = int(Path(f"/proc/{main}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(init, signal.SIGKILL)
    wire.wait_for("p", "state", "dead")
    wait_until_gone("sleep 770098")


def test_usage_is_read_from_the_kernel(wire: Wire) -> None:
    wire.create("p", command="sh -c 'while :; do :; done'")
    wire.must(start={"name": "p"})
    pid = int(wire.get("p", "root_pid"))
    assert Path(f"/proc/{pid}").exists()
    deadline = time.monotonic() + 20
    while int(wire.get("p", "cpu_usage")) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert int(wire.get("p", "memory_usage")) > 100_000
    assert int(wire.get("p", "anon_usage")) > 0
    # portod counts its own init as well.
    assert wire.get("p", "process_count") == "2"
    assert wire.get("p", "thread_count") == "2"
    wire.must(kill={"name": "p", "sig": 9})
    wire.wait_for("p", "state", "dead")
    assert int(wire.get("p", "cpu_usage")) > 0
    assert wire.get("p", "process_count") == "0"


def test_five_hundred_containers(portod: DevPortod, wire: Wire) -> None:
    names = [f"n{index}" for index in range(500)]
    for name in names:
        wire.create(name, command="sleep 1000")
        wire.must(start={"name": name})
    keys = ["state", "command", "memory_usage", "process_count", "root_pid", "user"]
    found = wire.call(get={"name": ["n*"], "variable": keys})["get"]["list"]
    assert [entry["name"] for entry in found] == sorted(names)
    assert {entry["keyval"][0]["value"] for entry in found} == {"running"}
    assert {entry["keyval"][3]["value"] for entry in found} == {"2"}
    assert len({entry["keyval"][4]["value"] for entry in found}) == 500
