"""A pass that finds everything as the last one left it is quick; whatever is not so it notices."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.bare_host import SPEC, BareHost, is_quick, kill, settle
from helpers.example import ExampleHost
from helpers.programs import find_free_ports
from helpers.receiver import Receiver, make_juggler, make_yasm

from ya_salt import as_left
from ya_salt.cli.main import main
from ya_salt.cli.quick import answer_quickly
from ya_salt.converge import quick
from ya_salt.monitoring import steady
from ya_salt.porto import glance

NAMES = ("one", "two")


@pytest.fixture
def host(folder: Path) -> Iterator[ExampleHost]:
    with BareHost(folder) as started:
        yield started


@pytest.fixture
def settled(host: ExampleHost, monkeypatch: pytest.MonkeyPatch) -> ExampleHost:
    """Two daemons that run, and a pass that has written down that nothing is to be done."""
    # What is waited for here is a new second, not five.
    monkeypatch.setattr(as_left, "SETTLED_S", 0.05)
    monkeypatch.setattr(quick, "_CLOCK_STEP_S", 1)
    for name, text in host.environment.items():
        monkeypatch.setenv(name, text)
    for name in NAMES:
        (host.specs_dir / f"{name}.yaml").write_text(SPEC.format(name=name))
    settle()
    return host


def rewrite(path: Path, data: bytes) -> None:
    """In place, with the same times as far as anybody can set them."""
    found = path.stat()
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


# -- what is quick -------------------------------------------------------------------------------


def test_it_says_what_the_long_way_says(
    settled: ExampleHost, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    assert is_quick()
    short = capfd.readouterr()
    full = settled.run("apply", "--full")
    # But for the ages of the daemons.
    assert [line.split()[:4] for line in short.out.splitlines()] == [
        line.split()[:4] for line in full.stdout.splitlines()
    ]
    assert short.err == full.stderr == ""


def test_status_says_what_the_long_way_says(
    settled: ExampleHost, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    assert answer_quickly(["status"]) == 0
    short = capfd.readouterr()
    as_left.remove_file(str(settled.state_dir / as_left.FILE_NAME))
    full = settled.run("status")

    def plain(text: str) -> list[list[str]]:
        rows = [line.split() for line in text.splitlines()]
        # Ages and memory go on.
        return [[word for word in row if not word[:1].isdigit()] for row in rows]

    assert plain(short.out) == plain(full.stdout)
    assert plain(short.err) == plain(full.stderr)
    assert "MEMORY" in short.out and "LAST CAUSE" in short.out


def test_a_quick_pass_is_the_last_pass(settled: ExampleHost) -> None:
    before = time.time()
    assert is_quick()
    told = json.loads(settled.run("status", "-o", "json").stdout)["lastPass"]
    assert told["result"] == "ok"
    assert told["startedAt"] >= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before))


def test_it_touches_neither_store_nor_portod_but_for_one_question(settled: ExampleHost) -> None:
    store = settled.state_dir / "store.sqlite3"
    before = store.read_bytes()
    assert is_quick()
    assert store.read_bytes() == before


def test_nothing_that_takes_long_to_load_is_loaded(settled: ExampleHost) -> None:
    assert not list_heavy(settled)


def list_heavy(host: ExampleHost) -> set[str]:
    """What a quick pass over it should do without, and does not."""
    code = (
        "import sys; sys.argv = ['ya-salt', 'apply']\n"
        "from ya_salt import as_left; from ya_salt.converge import quick\n"
        "as_left.SETTLED_S, quick._CLOCK_STEP_S = 0.05, 1\n"
        "before = set(sys.modules)\n"
        "from ya_salt.cli.main import main\n"
        "code = main(); print(*sorted(set(sys.modules) - before), file=sys.stderr); sys.exit(code)"
    )
    told = {name: text for name, text in os.environ.items() if name.startswith("YA_SALT_")}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={**host.environment, **told, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
        capture_output=True,
        check=True,
    )
    loaded = set(done.stderr.split())
    heavy = {"argparse", "dataclasses", "google.protobuf", "inspect", "logging", "pathlib"}
    heavy |= {"sqlite3", "subprocess", "threading", "typing", "yaml", "ya_salt.model"}
    # These are half of what Python takes to start.
    heavy |= {"enum", "json", "re", "socket"}
    assert "ya_salt.cli.quick" in loaded
    return heavy & loaded


@pytest.mark.parametrize("words", [["apply", "--full"], ["apply", "one"], ["apply", "--dry-run"]])
def test_what_is_asked_for_otherwise_goes_the_long_way(
    settled: ExampleHost, words: list[str]
) -> None:
    assert answer_quickly(words) is None


def test_another_root_is_another_host(settled: ExampleHost, tmp_path: Path) -> None:
    assert answer_quickly(["--root", str(tmp_path), "apply"]) is None
    assert answer_quickly(["apply", f"--state-dir={tmp_path}"]) is None
    assert is_quick()


def test_what_is_no_spec_file_may_stay_and_is_noticed_where_it_changes(
    settled: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = settled.specs_dir / "notes.txt"
    notes.write_text("one")
    settle()
    assert is_quick()
    rewrite(notes, b"two")
    assert not is_quick()
    settle()
    # What has changed a moment ago might change again without that showing.
    monkeypatch.setattr(as_left, "SETTLED_S", 2.0)
    time.sleep(3.0)
    assert main(["apply", "--full"]) == 0
    assert is_quick()
    rewrite(notes, b"six")
    assert main(["apply"]) == 0
    assert not is_quick()


def test_what_the_long_way_warns_of_the_quick_one_does(
    settled: ExampleHost, capfd: pytest.CaptureFixture[str]
) -> None:
    text = SPEC.format(name="three").replace("{cmd", "{user: root, cmd")
    (settled.specs_dir / "three.yaml").write_text(text)
    settle()
    capfd.readouterr()
    assert main(["apply", "--full"]) == 0
    long = capfd.readouterr().out
    warnings = [line for line in long.splitlines() if line.startswith("three: warning: group")]
    assert len(warnings) == 1
    for words in (["apply"], ["status"]):
        assert answer_quickly(words) == 0
        assert warnings[0] in capfd.readouterr().out.splitlines()


# -- what it notices: files ----------------------------------------------------------------------


def _same_size(host: ExampleHost) -> None:
    path = host.specs_dir / "one.yaml"
    rewrite(path, path.read_bytes().replace(b"64Mb", b"65Mb"))


def _new_file(host: ExampleHost) -> None:
    (host.specs_dir / "three.yaml").write_text(SPEC.format(name="three"))


def _settings(host: ExampleHost) -> None:
    settings = host.folder / "settings.yaml"
    settings.write_text("parallel: 3\n")


def _dpkg(host: ExampleHost) -> None:
    status = host.root / "var/lib/dpkg/status"
    rewrite(status, status.read_bytes() + b"")


def _dpkg_interrupted(host: ExampleHost) -> None:
    (host.root / "var/lib/dpkg/updates/0001").touch()


def _damage(host: ExampleHost) -> None:
    path = host.state_dir / as_left.FILE_NAME
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut_off(host: ExampleHost) -> None:
    path = host.state_dir / as_left.FILE_NAME
    path.write_bytes(path.read_bytes()[:-40])


def _write_otherwise(host: ExampleHost) -> None:
    """Whole, and as another version of ya-salt might write it."""
    path = host.state_dir / as_left.FILE_NAME
    form, _, rest = path.read_bytes().partition(b" ")
    path.write_bytes(b"%d %b" % (int(form) - 1, rest))


def _make_foreign(host: ExampleHost) -> None:
    os.chown(host.state_dir / as_left.FILE_NAME, 65534, 65534)


def _link(host: ExampleHost) -> None:
    path = host.state_dir / as_left.FILE_NAME
    path.rename(host.folder / "elsewhere")
    path.symlink_to(host.folder / "elsewhere")


FILE_CHANGES: dict[str, Callable[[ExampleHost], object]] = {
    "a file rewritten with its size and mtime": _same_size,
    "a file touched": lambda host: os.utime(host.specs_dir / "one.yaml"),
    "a file for all to write": lambda host: (host.specs_dir / "one.yaml").chmod(0o666),
    "a file gone": lambda host: (host.specs_dir / "one.yaml").unlink(),
    "a new file": _new_file,
    "the directory for all to write": lambda host: host.specs_dir.chmod(0o777),
    "what leads to it for all to write": lambda host: host.folder.chmod(0o777),
    "dpkg's database": _dpkg,
    "dpkg interrupted": _dpkg_interrupted,
    "the store gone": lambda host: (host.state_dir / "store.sqlite3").unlink(),
    "the store replaced": lambda host: os.utime(host.state_dir / "store.sqlite3"),
    "a journal left": lambda host: (host.state_dir / "journal").write_text("{}\n"),
    "a damaged snapshot": _damage,
    "half a snapshot": _cut_off,
    "a snapshot in another form": _write_otherwise,
    "somebody else's snapshot": _make_foreign,
    "a link in its place": _link,
    "node_exporter came": lambda host: (host.folder / "textfile").mkdir(),
}


@pytest.mark.parametrize("change", FILE_CHANGES)
def test_it_notices_on_the_disk(settled: ExampleHost, change: str) -> None:
    if os.geteuid() != 0 and change == "somebody else's snapshot":
        pytest.skip("only root gives files away; CI is root")
    FILE_CHANGES[change](settled)
    assert not is_quick()
    assert answer_quickly(["status"]) is None


def test_it_notices_another_settings_file(
    settled: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settled.folder / "settings.yaml"
    settings.write_text("parallel: 3\n")
    monkeypatch.setenv("YA_SALT_CONFIG", str(settings))
    assert not is_quick()
    time.sleep(0.1)
    settle()
    rewrite(settings, b"parallel: 4\n")
    assert not is_quick()


def test_a_group_that_is_made_is_let_in_by_the_next_pass(
    settled: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = settled.folder / "group"
    groups.write_text("")
    monkeypatch.setattr(quick, "_GROUPS", str(groups))
    time.sleep(0.1)
    assert main(["apply", "--full"]) == 0
    assert is_quick()
    groups.write_text("porto:x:5:op\n")
    assert not is_quick()


def test_it_notices_another_variable(settled: ExampleHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YA_SALT_PARALLEL", "3")
    assert not is_quick()


def test_a_status_of_other_settings_goes_the_long_way(
    settled: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert answer_quickly(["status"]) == 0
    monkeypatch.setenv("YA_SALT_PARALLEL", "2")
    assert answer_quickly(["status"]) is None


def test_what_changed_a_moment_ago_may_change_again(
    settled: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No stat tells two changes within a tick of the kernel's clock apart.
    monkeypatch.setattr(as_left, "SETTLED_S", 3.0)
    os.utime(settled.specs_dir / "one.yaml")
    assert main(["apply"]) == 0
    assert not is_quick()


# -- what it notices: portod ---------------------------------------------------------------------


def _set_property(host: ExampleHost) -> None:
    with host.client() as client:
        client.set_property("one", "memory_limit", "32Mb")


def _stop(host: ExampleHost) -> None:
    with host.client() as client:
        client.stop("one", 1.0)


def _destroy(host: ExampleHost) -> None:
    with host.client() as client:
        client.destroy("two")


def _make_anew(host: ExampleHost) -> None:
    """With the same label: only its life is another."""
    with host.client() as client:
        wanted = ("command", "command_argv", "memory_limit", "labels")
        values = client.get(["one"], wanted)["one"]
        client.destroy("one")
        client.create("one")
        for name, value in values.items():
            if value:
                client.set_property("one", name, value)
        client.start("one")


def _restart_portod(host: ExampleHost) -> None:
    host.portod.stop()
    Path(host.portod.socket_path).parent.mkdir()
    host.portod.start()


PORTO_CHANGES: dict[str, Callable[[ExampleHost], object]] = {
    "a property set": _set_property,
    "stopped": _stop,
    "destroyed": _destroy,
    "destroyed and made anew": _make_anew,
    "killed": lambda host: kill(host, "one"),
    "portod restarted": _restart_portod,
    "portod gone": lambda host: host.portod.stop(),
}


@pytest.mark.parametrize("change", PORTO_CHANGES)
def test_it_notices_in_porto(settled: ExampleHost, change: str) -> None:
    PORTO_CHANGES[change](settled)
    assert not is_quick()
    assert answer_quickly(["status"]) is None


def test_a_change_within_the_second_of_the_last_one_is_noticed(
    settled: ExampleHost,
) -> None:
    """portod's times are whole seconds: two changes in one of them look like one."""
    for _ in range(3):
        _set_property(settled)
        assert main(["apply"]) == 0
        _set_property(settled)
        assert not is_quick()


def test_a_clock_that_was_set_tells_nothing(
    settled: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    for step in (-3600.0, 3600.0, -5.0, 5.0):
        with monkeypatch.context() as patch:
            patch.setattr(as_left.time, "time", lambda step=step: now() + step)
            assert not is_quick()
    assert is_quick()


@pytest.mark.parametrize("step", [-3600, -4, 4, 3600])
def test_a_clock_of_portod_that_was_set_tells_nothing(
    settled: ExampleHost, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    receive = glance.Call.receive

    def receive_late(call: glance.Call) -> glance.Glance:
        found = receive(call)
        return glance.Glance(found.clock + step, found.told, found.peer)

    monkeypatch.setattr(glance.Call, "receive", receive_late)
    assert not is_quick()


def test_however_long_a_full_pass_takes_the_next_one_may_be_quick(
    settled: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = quick.look_before

    def look_and_take_long(*arguments: object) -> glance.Glance | None:
        found = look(*arguments)
        time.sleep(2.2)
        return found

    monkeypatch.setattr(quick, "look_before", look_and_take_long)
    assert main(["apply", "--full"]) == 0
    assert is_quick()


def test_another_portod_on_the_socket_is_noticed(
    settled: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = glance.Call.receive

    def receive_elsewhere(call: glance.Call) -> glance.Glance:
        found = receive(call)
        return glance.Glance(found.clock, found.told, "1:1")

    monkeypatch.setattr(glance.Call, "receive", receive_elsewhere)
    assert not is_quick()


def test_a_portod_that_hangs_holds_nothing_up_for_long(settled: ExampleHost) -> None:
    settled.portod.stop()
    with socket.socket(socket.AF_UNIX) as deaf:
        Path(settled.portod.socket_path).parent.mkdir()
        deaf.bind(settled.portod.socket_path)
        deaf.listen()
        started = time.monotonic()
        assert not is_quick()
        assert time.monotonic() - started < glance.TIMEOUT_S + 5
    shutil.rmtree(Path(settled.portod.socket_path).parent)


# -- what it notices: everything else ------------------------------------------------------------


def test_another_ya_salt_reads_everything_anew(
    settled: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(as_left, "__version__", "99")
    assert not is_quick()


def test_another_boot_or_machine_is_noticed(
    settled: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(as_left, "name_boot", lambda: "another")
    assert not is_quick()


def test_somebody_to_be_told_is_noticed(
    settled: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("YA_SALT_MONITORING_YASM_URL", f"http://127.0.0.1:{port}/")
        server.close()
        settle()
    with socket.create_server(("127.0.0.1", port)):
        assert not is_quick()


def test_about_every_tenth_minute_everything_is_read_anew(
    settled: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = as_left.read(str(settled.state_dir))
    assert data is not None
    in_s = data["full_at"] - time.clock_gettime(time.CLOCK_BOOTTIME)
    assert 0.9 * 600 - 60 < in_s <= 1.1 * 600
    monkeypatch.setattr(as_left, "FULL_EVERY_S", 0.0)
    settle_once = main(["apply", "--full"])
    assert settle_once == 0
    assert not is_quick()


def test_another_pass_is_not_overtaken(settled: ExampleHost) -> None:
    folder = os.open(settled.state_dir, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        assert not is_quick()
    finally:
        os.close(folder)
    assert is_quick()


def test_whoever_may_change_something_ends_it(settled: ExampleHost) -> None:
    assert settled.run("restart", "one").returncode == 0
    assert not (settled.state_dir / as_left.FILE_NAME).exists()
    assert not is_quick()


def test_nothing_is_written_down_where_anything_is_out_of_the_ordinary(
    settled: ExampleHost,
) -> None:
    (settled.specs_dir / "broken.yaml").write_text("meta: {}\n")
    time.sleep(1.1)
    assert main(["apply"]) == 1
    assert not (settled.state_dir / as_left.FILE_NAME).exists()


def test_a_daemon_that_is_held_is_told_each_time(settled: ExampleHost) -> None:
    assert settled.run("stop", "one").returncode == 0
    time.sleep(1.1)
    assert main(["apply"]) == 0
    assert not is_quick()


def test_a_daemon_that_is_asked_is_asked_by_each_pass_and_by_no_status(
    settled: ExampleHost, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = settled.folder / "asked"
    text = SPEC.format(name="three") + (
        f"  readiness: {{exec: [sh, -c, 'echo x >> {asked}'], period_s: 600}}\n"
    )
    (settled.specs_dir / "three.yaml").write_text(text)

    def read_snapshot() -> dict[str, object]:
        return as_left.read(str(settled.state_dir)) or {}

    for _ in range(4):
        assert main(["apply"]) == 0
        if read_snapshot().get("probed"):
            break
        time.sleep(1.1)
    assert list(read_snapshot()["probed"]) == ["three"]  # type: ignore[call-overload]
    assert not quick.is_as_left(read_snapshot(), str(settled.state_dir))
    before = asked.read_text()
    capfd.readouterr()
    assert answer_quickly(["status"]) == 0
    short = capfd.readouterr().out
    assert not is_quick()
    assert asked.read_text() == before
    as_left.remove_file(str(settled.state_dir / as_left.FILE_NAME))
    long = settled.run("status").stdout
    assert [line.split()[:5] for line in short.splitlines()] == [
        line.split()[:5] for line in long.splitlines()
    ]
    assert main(["apply"]) == 0
    assert asked.read_text() == f"{before}x\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_closed_streams_harm_nothing(settled: ExampleHost, closed: str) -> None:
    """A file that is opened would get the number of what was closed, and be written to."""
    before = {path.name: path.read_bytes() for path in settled.specs_dir.iterdir()}
    command = f"exec {sys.executable} -m ya_salt.cli.main apply {closed}"
    done = subprocess.run(["sh", "-c", command], env=settled.environment, check=False)
    assert done.returncode == 0
    assert {path.name: path.read_bytes() for path in settled.specs_dir.iterdir()} == before


def test_an_answer_that_nobody_takes_is_said(settled: ExampleHost) -> None:
    command = f"{sys.executable} -m ya_salt.cli.main apply > /dev/full"
    done = subprocess.run(
        ["sh", "-c", command], env=settled.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "the answer was not shown whole" in done.stderr


# -- who is told ---------------------------------------------------------------------------------


@pytest.fixture
def told(
    settled: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Receiver, Receiver, Path]]:
    """YASM's agent, Juggler's client and node_exporter's directory, all told in each pass."""
    textfile = settled.folder / "textfile"
    textfile.mkdir()
    # A trial's textfile is its own only where it is named with it.
    monkeypatch.setenv("YA_SALT_MONITORING_PROMETHEUS_TEXTFILE_DIR", str(textfile))
    with make_yasm() as yasm, make_juggler() as juggler:
        monkeypatch.setenv("YA_SALT_MONITORING_YASM_URL", yasm.url)
        monkeypatch.setenv("YA_SALT_MONITORING_JUGGLER_URL", juggler.url)
        settle()
        yield yasm, juggler, textfile / "ya-salt.prom"
        assert not yasm.problems + juggler.problems


def test_a_quick_pass_tells_all_that_a_full_one_does(
    told: tuple[Receiver, Receiver, Path],
) -> None:
    yasm, juggler, textfile = told
    assert main(["apply", "--full"]) == 0
    full = yasm.accepted[-1], juggler.accepted[-1], textfile.read_bytes()
    settle()
    before = len(yasm.accepted), len(juggler.accepted)
    assert is_quick()
    assert (len(yasm.accepted), len(juggler.accepted)) == (before[0] + 1, before[1] + 1)
    assert (yasm.accepted[-1], juggler.accepted[-1]) == full[:2]
    new = textfile.read_bytes()
    assert steady.sign_text(new) == steady.sign_text(full[2])
    values, old = read_samples(new.decode()), read_samples(full[2].decode())
    assert values.keys() == old.keys()
    assert (
        values["porto_daemons_pass_timestamp_seconds"] > old["porto_daemons_pass_timestamp_seconds"]
    )
    assert values['porto_daemon_memory_usage_bytes{daemon="one"}'] > 0
    assert textfile.stat().st_mode & 0o777 == 0o644


def test_a_quick_pass_over_a_part_leaves_node_exporters_file_alone(
    told: tuple[Receiver, Receiver, Path], settled: ExampleHost
) -> None:
    """When the last pass was, and what all use, is told by one over all."""
    textfile, state_dir = told[2], str(settled.state_dir)
    before, identity = textfile.read_bytes(), as_left.identify(str(textfile))
    last = as_left.load_pass(state_dir)
    data = as_left.read(state_dir)
    assert data
    part = quick.make_quick_pass(state_dir, data["source"], find_part=lambda: ["one"])
    assert part is not None
    assert list(part["changed"]) == ["one"]
    assert (textfile.read_bytes(), as_left.identify(str(textfile))) == (before, identity)
    assert as_left.load_pass(state_dir) == last
    assert quick.make_quick_pass(state_dir, data["source"]) == data
    assert textfile.read_bytes() != before


def read_samples(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@pytest.mark.parametrize(
    "mode", ["503", "stall", "drip", "drip-body", "endless", "hang-up", "garbage"]
)
def test_whoever_does_not_take_it_is_told_by_a_full_pass(
    told: tuple[Receiver, Receiver, Path], mode: str
) -> None:
    yasm, juggler, _ = told
    for receiver in (yasm, juggler):
        receiver.mode = mode
        started = time.monotonic()
        assert not is_quick()
        assert time.monotonic() - started < 3
        receiver.mode = "accept"
    assert is_quick()


def test_a_no_to_one_event_is_no_yes(told: tuple[Receiver, Receiver, Path]) -> None:
    _, juggler, _ = told
    juggler.answer = lambda body: {"events": [{"code": 400} for _ in body["events"]]}
    assert not is_quick()


@pytest.mark.parametrize("change", PORTO_CHANGES)
def test_it_notices_in_porto_where_it_asks_for_what_is_used(
    told: tuple[Receiver, Receiver, Path], settled: ExampleHost, change: str
) -> None:
    PORTO_CHANGES[change](settled)
    before = told[2].read_bytes()
    assert not is_quick()
    assert told[2].read_bytes() == before


def test_who_is_answered_as_before_takes_no_answer_apart(
    told: tuple[Receiver, Receiver, Path], settled: ExampleHost
) -> None:
    assert not list_heavy(settled)
    yasm, juggler, _ = told
    juggler.answer = lambda body: {"events": [{"code": 200} for _ in body["events"]]}
    assert list_heavy(settled) == {"enum", "json", "re"}
    yasm.answer = lambda _body: {"status": "ok", "words": "others than before"}
    assert is_quick()


def test_a_yes_to_other_events_is_no_yes(told: tuple[Receiver, Receiver, Path]) -> None:
    """Only the whole answer is known, and another one is read: it has to be a yes to each."""
    _, juggler, _ = told
    juggler.answer = lambda body: {"events": [{"code": 200} for _ in body["events"][1:]]}
    assert not is_quick()


@pytest.mark.parametrize(
    "change", ["gone", "edited", "open", "a link", "a sample more", "a family less"]
)
def test_a_textfile_that_is_another_is_written_by_a_full_pass(
    told: tuple[Receiver, Receiver, Path], change: str, tmp_path: Path
) -> None:
    textfile = told[2]
    if change == "edited":
        textfile.write_text(textfile.read_text().replace("ready", "steady"))
    elif change == "a sample more":
        samples = textfile.read_text().splitlines(keepends=True)
        at = samples.index("# TYPE porto_daemon_memory_usage_bytes gauge\n") + 1
        samples.insert(at, 'porto_daemon_memory_usage_bytes{daemon="three"} 5.0\n')
        textfile.write_text("".join(samples))
    elif change == "a family less":
        textfile.write_text(textfile.read_text().replace("# TYPE porto_daemon_mem", "# porto_mem"))
    elif change == "open":
        textfile.parent.chmod(0o777)
    else:
        textfile.rename(tmp_path / "elsewhere")
        if change == "a link":
            textfile.symlink_to(tmp_path / "elsewhere")
    assert not is_quick()


def test_counts_wait_for_a_yasm_that_is_not_there(
    settled: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passes are quick meanwhile, and it is told of them as soon as it is there."""
    (port,) = find_free_ports(1)
    monkeypatch.setenv("YA_SALT_MONITORING_YASM_URL", f"http://127.0.0.1:{port}/")
    assert settled.run("restart", "one").returncode == 0
    settle()
    with make_yasm(port) as yasm:
        assert not is_quick()
        assert main(["apply"]) == 0
        ((body,),) = yasm.accepted[:1]
    assert {"name": "porto-daemon-one-restart_count_thhh", "val": 1} in body["values"]


def test_counts_that_nobody_wants_keep_no_pass_busy(
    settled: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YA_SALT_MONITORING_YASM_ENABLED", "false")
    assert settled.run("restart", "one").returncode == 0
    settle()


def test_an_agent_of_yasm_that_has_gone_is_told_of(told: tuple[Receiver, Receiver, Path]) -> None:
    yasm, _, _ = told
    assert yasm._server is not None
    yasm._server.server_close()
    assert not is_quick()
