"""Readiness on a Porto server: real processes, real ports, and the daemons' own words for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import answering
from helpers.passes import Passes
from helpers.portod import DevPortod
from helpers.programs import find_free_ports, wait_for

from ya_salt.cli.tables import render_plans
from ya_salt.converge.host import PassRequest
from ya_salt.converge.look_again import ReadyWait
from ya_salt.converge.observe import look_at_containers
from ya_salt.converge.preview import look_now
from ya_salt.converge.probing import AT_ONCE, Prober, Rounds
from ya_salt.converge.readiness import is_ready, name_start
from ya_salt.converge.run import run_pass
from ya_salt.life import Hold, Life, Probes
from ya_salt.model import (
    Container,
    DaemonPlan,
    DaemonSpec,
    DaemonStatus,
    Outcome,
    Readiness,
    ReplaceContainer,
    StartContainer,
    StepResult,
)
from ya_salt.names import PROBE_CONTAINER
from ya_salt.specs.directory import load_specs
from ya_salt.store import open_store, read_store

CHILD = f"d/{PROBE_CONTAINER}"


@pytest.fixture(scope="module")
def portod() -> Iterator[DevPortod]:
    with DevPortod() as server:
        yield server


@pytest.fixture
def passes(folder: Path, portod: DevPortod) -> Iterator[Passes]:
    made = Passes(folder, portod.socket_path)
    yield made
    made.remove_all()


class Daemon:
    """One that answers on a port, dropped into the directory of `passes`."""

    def __init__(self, passes: Passes) -> None:
        self.passes = passes
        self.folder = passes.folder / "daemon"
        self.folder.mkdir()
        (self.port,) = find_free_ports(1)
        self.say("200")

    def say(self, word: str) -> None:
        (self.folder / "new").write_text(word)
        (self.folder / "new").rename(self.folder / "answer")

    def drop(self, readiness: str = "", *, timeout_s: float = 20, properties: str = "") -> None:
        """Its file; `{port}` in `readiness` is its port."""
        asked = readiness or f"http: {{port: {self.port}, path: /health}}, period_s: 1"
        command = [sys.executable, answering.__file__, str(self.port), str(self.folder)]
        (self.passes.specs_dir / "d.yaml").write_text(
            "meta: {name: d, version: '1'}\nspec:\n  min_ready_s: 0\n"
            f"  ready_timeout_s: {timeout_s:g}\n  readiness: {{{asked}}}\n"
            f"  properties:\n    cmd: {command}\n{properties}"
        )

    def run(self, **scope: Any) -> DaemonStatus:
        (status,) = self.passes.run(**scope).statuses
        return status

    def pid(self, name: str = "d") -> str:
        with self.passes.client() as client:
            return client.get([name], ["root_pid"]).get(name, {}).get("root_pid", "")

    def count_asked(self) -> int:
        asked = self.folder / "asked"
        return len(asked.read_text().splitlines()) if asked.exists() else 0


@pytest.fixture
def daemon(passes: Passes) -> Daemon:
    return Daemon(passes)


def read_ready(status: DaemonStatus) -> tuple[bool, str]:
    assert status.ready is not None
    return status.ready.status, status.ready.reason


def read_history(passes: Passes) -> list[str]:
    store = read_store(passes.settings.state_dir)
    assert store is not None
    return [event.what for event in store.load_history()]


def list_commands(*words: str) -> list[int]:
    """Processes with all of these words in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if all(word in line for word in words):
                found.append(int(path.parent.name))
    return found


# -- the verdict -----------------------------------------------------------------------------------


def test_ready_once_it_says_so_and_not_before(daemon: Daemon) -> None:
    daemon.say("503")
    daemon.drop(timeout_s=2)
    status = daemon.run()
    assert read_ready(status)[0] is False
    # While it comes up nothing counts against it.
    assert status.probe is not None and status.probe.failures == 0
    assert "503" in status.probe.answer
    daemon.say("200")
    assert read_ready(daemon.run()) == (True, "Ready")


def test_apply_waits_until_it_says_so(daemon: Daemon) -> None:
    daemon.say("503")
    daemon.drop(timeout_s=20)
    later = subprocess.Popen(["sh", "-c", f"sleep 2; echo 200 > {daemon.folder}/answer"])
    started = time.monotonic()
    assert read_ready(daemon.run()) == (True, "Ready")
    assert 1.5 < time.monotonic() - started < 8
    later.wait()


def test_a_ready_daemon_that_fails_thrice_is_not_ready_and_runs_on(daemon: Daemon) -> None:
    daemon.drop()
    assert read_ready(daemon.run()) == (True, "Ready")
    pid = daemon.pid()
    daemon.say("503")
    for failures in (1, 2):
        status = daemon.run()
        assert read_ready(status) == (True, "Ready")
        assert status.probe is not None and status.probe.failures == failures
    status = daemon.run()
    assert read_ready(status) == (False, "ProbeFailed")
    assert status.ready is not None and "503" in status.ready.message
    assert status.restart_count == 0 and daemon.pid() == pid
    events = [what for what in read_history(daemon.passes) if what.startswith("not ready")]
    assert [what.partition(":")[0] for what in events] == ["not ready (ProbeFailed)"]
    # A daemon that says yes is ready at once, whatever was before.
    daemon.say("200")
    assert read_ready(daemon.run()) == (True, "Ready")


def test_on_failure_restart_starts_it_anew(daemon: Daemon) -> None:
    asked = f"http: {{port: {daemon.port}}}, period_s: 1, failure_threshold: 2"
    daemon.drop(f"{asked}, on_failure: restart", timeout_s=2)
    daemon.run()
    pid = daemon.pid()
    daemon.say("500")
    assert daemon.run().restart_count == 0
    status = daemon.run()
    assert status.restart_count == 1 and daemon.pid() != pid
    assert status.probe is not None and status.probe.failures == 0
    assert any("its readiness probe failed 2 times" in what for what in read_history(daemon.passes))


def test_a_held_daemon_is_neither_asked_nor_started_anew(daemon: Daemon) -> None:
    asked = f"http: {{port: {daemon.port}}}, period_s: 1, failure_threshold: 1"
    daemon.drop(f"{asked}, on_failure: restart")
    daemon.run()
    store = open_store(daemon.passes.settings.state_dir)
    record = store.load_records()["d"]
    probes = record.life.probes
    assert probes is not None
    held = replace(
        record.life,
        probes=replace(probes, is_ready=False, failures=5),
        hold=Hold("root", "a test", time.time()),
    )
    with store.transaction():
        store.save_records([replace(record, life=held)])
    store.close()
    count = daemon.count_asked()
    plan = daemon.passes.plan()["d"]
    assert not any(isinstance(step, ReplaceContainer) for step in plan.steps)
    daemon.run()
    assert daemon.count_asked() == count


def test_each_process_begins_anew(daemon: Daemon, portod: DevPortod) -> None:
    daemon.drop(properties="    respawn_delay: 10ms\n")
    daemon.run()
    daemon.say("503")
    daemon.run()
    assert daemon.run().probe.failures == 2  # type: ignore[union-attr]
    os.kill(int(daemon.pid()), signal.SIGKILL)
    with portod.connect() as wire:
        wire.wait_for("d", "respawn_count", "1")
        wire.wait_for("d", "state", "running")
    # Without a pass nobody takes the verdict on the old process for one on the new.
    (now,) = look(daemon.passes)
    assert read_ready(now) == (False, "Starting")
    status = daemon.run()
    assert status.probe is not None and status.probe.failures == 0
    assert read_ready(status)[0] is False


def look(passes: Passes) -> list[DaemonStatus]:
    store = read_store(passes.settings.state_dir)
    assert store is not None
    return look_now(passes.make_host(), store.load_records())


def test_of_a_process_that_we_started_nothing_is_known(daemon: Daemon) -> None:
    """Even where portod's whole seconds make it look like the one before."""
    daemon.drop()
    daemon.run()
    spec = replace(load(daemon.passes), ready_timeout_s=0)
    step = StartContainer("d", "dead", "it is dead")
    outcome = Outcome(DaemonPlan("d", (step,)), (StepResult(step),))
    with daemon.passes.client() as client, Prober(daemon.passes.client, time.time) as prober:
        container = look_at_containers(client, (), ["d"]).containers["d"]
        known = Life(probes=Probes(start=name_start(container), is_ready=True))
        wait = ReadyWait(client, prober, lambda _text: None, time.time)
        _, lives = wait.run([spec], {"d": outcome}, {"d": known})
    assert not is_ready(spec, container, lives["d"])


def test_status_goes_by_the_last_answer_and_asks_nobody(daemon: Daemon) -> None:
    daemon.drop()
    daemon.run()
    daemon.say("503")
    count = daemon.count_asked()
    (status,) = look(daemon.passes)
    assert read_ready(status) == (True, "Ready")
    daemon.passes.plan()
    assert daemon.count_asked() == count
    for _ in range(3):
        daemon.run()
    daemon.say("200")
    (status,) = look(daemon.passes)
    assert read_ready(status) == (False, "ProbeFailed")


def test_a_portod_that_restarts_changes_no_verdict(daemon: Daemon, portod: DevPortod) -> None:
    daemon.drop()
    daemon.run()
    daemon.say("503")
    daemon.run()
    portod.reload()
    status = daemon.run()
    assert read_ready(status) == (True, "Ready")
    assert status.probe is not None and status.probe.failures == 2


def test_passes_that_ask_too_seldom_are_warned_of(daemon: Daemon) -> None:
    daemon.drop()
    daemon.run()
    assert not any("period_s" in warning for warning in daemon.run().warnings)
    time.sleep(2)
    assert any("period_s is 1" in warning for warning in daemon.run().warnings)


def test_plan_says_how_it_will_be_asked(daemon: Daemon) -> None:
    daemon.drop()
    told = render_plans(list(daemon.passes.plan().values()), {})
    assert f"http {daemon.port}/health, every 1 s" in told


# -- ports -----------------------------------------------------------------------------------------


def ask(passes: Passes, spec: DaemonSpec, portod: DevPortod) -> tuple[str, str]:
    """(yes, no or unknown; in words) of one question."""
    with passes.client() as client:
        container = look_at_containers(client, (), [spec.name]).containers[spec.name]
    with Prober(passes.client, time.time) as prober:
        prober.begin(spec, container)
        answer = prober.take_all()[spec.name]
    return answer.says, answer.words


def load(passes: Passes) -> DaemonSpec:
    (spec,) = load_specs(str(passes.specs_dir)).specs
    return spec


@pytest.mark.parametrize(
    ("word", "says", "words"),
    [
        ("200", "yes", "200"),
        ("204", "no", "204"),
        ("503", "no", "503 so said"),
        ("redirect", "no", "302"),
        ("endless", "yes", "200"),
        ("drop", "yes", "200"),
        ("hang", "no", "nothing came in time"),
    ],
)
def test_http(
    daemon: Daemon,
    portod: DevPortod,
    monkeypatch: pytest.MonkeyPatch,
    word: str,
    says: str,
    words: str,
) -> None:
    daemon.drop(f"http: {{port: {daemon.port}, path: '/a?b=c'}}, timeout_s: 1")
    daemon.run()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    daemon.say(word)
    asked = daemon.count_asked()
    answer = ask(daemon.passes, load(daemon.passes), portod)
    assert answer[0] == says and words in answer[1]
    lines = (daemon.folder / "asked").read_text().splitlines()
    # Once, and that one: no redirect was followed.
    assert lines[asked:] == ["GET /a?b=c HTTP/1.1"]


def test_an_expected_status_other_than_200(daemon: Daemon, portod: DevPortod) -> None:
    daemon.drop(f"http: {{port: {daemon.port}, status: 204}}, timeout_s: 1")
    daemon.say("204")
    assert read_ready(daemon.run()) == (True, "Ready")


def test_tcp(daemon: Daemon, portod: DevPortod) -> None:
    daemon.drop(f"tcp: {daemon.port}, period_s: 1")
    assert read_ready(daemon.run()) == (True, "Ready")
    (other,) = find_free_ports(1)
    spec = replace(load(daemon.passes), readiness=Readiness(tcp=other))
    assert ask(daemon.passes, spec, portod) == ("no", "Connection refused")


@pytest.mark.parametrize("word", ["200", "drop"])
@pytest.mark.parametrize("way", ["http: {{port: {0}}}", "tcp: {0}"])
def test_sockets_do_not_pile_up(daemon: Daemon, portod: DevPortod, way: str, word: str) -> None:
    daemon.drop(way.format(daemon.port))
    daemon.say(word)
    daemon.run()
    for _ in range(20):
        assert ask(daemon.passes, load(daemon.passes), portod)[0] == "yes"
    port = f"{daemon.port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    waiting = [row for row in rows if row[3] == "06" and port in f"{row[1]} {row[2]}"]
    assert waiting == []


# -- commands --------------------------------------------------------------------------------------


def test_a_command_is_run_in_one_container_again_and_again(daemon: Daemon) -> None:
    daemon.drop("exec: ['test', '-e', '/'], period_s: 1")
    assert read_ready(daemon.run()) == (True, "Ready")
    child = daemon_child_id(daemon)
    for _ in range(3):
        assert read_ready(daemon.run()) == (True, "Ready")
    assert daemon_child_id(daemon) == child
    assert list_requests(daemon) == [
        "get",
        f"start {CHILD}",
        f"wait {CHILD}",
        "get",
        f"stop {CHILD}",
    ]
    # It is no daemon, no drift and no orphan.
    assert daemon.passes.plan()["d"].steps == ()
    with daemon.passes.client() as client:
        assert client.get([CHILD], ["state"])[CHILD]["state"] == "stopped"
    # Nor for a store that begins anew, and learns from labels which daemons there are.
    shutil.rmtree(daemon.passes.settings.state_dir)
    assert [status.name for status in daemon.passes.run().statuses] == ["d"]


def list_requests(daemon: Daemon) -> list[str]:
    """What one question asks of portod."""
    with daemon.passes.client() as client:
        container = look_at_containers(client, (), ["d"]).containers["d"]
    with daemon.passes.client() as client:
        with Prober(lambda: client, time.time) as prober:
            prober.begin(load(daemon.passes), container)
            assert prober.take_all()["d"].says == "yes"
        return client.requests


def daemon_child_id(daemon: Daemon) -> str:
    with daemon.passes.client() as client:
        return client.get([CHILD], ["id"])[CHILD]["id"]


def test_the_commands_container_goes_with_the_daemon(daemon: Daemon) -> None:
    daemon.drop("exec: ['true'], period_s: 1")
    daemon.run()
    daemon.passes.write("d", "", delete=True)
    daemon.passes.run()
    with daemon.passes.client() as client:
        assert client.get(["d", CHILD], ["state"]) == {}


def test_another_command_is_taken_up_without_a_restart(daemon: Daemon) -> None:
    daemon.drop("exec: ['true'], period_s: 1")
    daemon.run()
    pid = daemon.pid()
    daemon.drop("exec: ['sh', '-c', 'echo oh no >&2; exit 7'], failure_threshold: 1")
    status = daemon.run()
    assert read_ready(status) == (False, "ProbeFailed")
    assert status.probe is not None and status.probe.answer == "exited with 7: oh no"
    assert daemon.pid() == pid


@pytest.mark.parametrize(
    ("command", "says", "words"),
    [
        ("['/nonexistent/check']", "no", "InvalidCommand"),
        ("['sh', '-c', 'kill -9 $$']", "no", "killed by signal 9"),
        ("['test', '-n', '$HOME; true']", "yes", "exited with 0"),
        ("['false', ';', 'true']", "no", "exited with 1"),
    ],
)
def test_exec(daemon: Daemon, portod: DevPortod, command: str, says: str, words: str) -> None:
    daemon.drop(f"exec: {command}", timeout_s=0)
    daemon.run()
    answer = ask(daemon.passes, load(daemon.passes), portod)
    assert answer[0] == says and words in answer[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="another user takes root")
def test_a_command_runs_as_the_daemon_does(daemon: Daemon, portod: DevPortod) -> None:
    daemon.folder.chmod(0o755)
    (daemon.folder / "asked").touch()
    (daemon.folder / "asked").chmod(0o666)
    check = 'test "$(id -un)/$(id -gn) $PLAIN $SECRET $PATH $PWD" = "nobody/nogroup a b /bin /tmp"'
    daemon.drop(
        f"exec: ['/bin/sh', '-c', '{check}']",
        properties="    user: nobody\n    group: nogroup\n    cwd: /tmp\n"
        "    env: {PLAIN: a, PATH: /bin}\n    env_secret: {SECRET: b}\n",
    )
    daemon.run()
    assert ask(daemon.passes, load(daemon.passes), portod) == ("yes", "exited with 0")
    with daemon.passes.client() as client:
        told = client.get([CHILD], ["private", "respawn", "weak"])[CHILD]
    assert told["respawn"] == "false" and told["weak"] == "false"


def test_a_command_that_hangs_is_killed_with_all_it_has_started(
    daemon: Daemon, portod: DevPortod
) -> None:
    mark = f"{daemon.port}.5"
    hang = f"sleep {mark} & setsid sleep {mark} & sleep {mark}"
    daemon.drop(f"exec: ['sh', '-c', '{hang}'], timeout_s: 1", timeout_s=0)
    daemon.run()
    says, words = ask(daemon.passes, load(daemon.passes), portod)
    assert (says, words) == ("no", "no answer within 1 s, killed")
    wait_for(lambda: not list_commands("sleep", mark), "everything is gone")


def test_a_command_left_running_is_ended_by_the_next_question(
    daemon: Daemon, portod: DevPortod
) -> None:
    mark = f"{daemon.port}.5"
    well = daemon.folder / "well"
    daemon.drop(f"exec: [sh, -c, 'test -e {well} || sleep {mark}'], timeout_s: 50", timeout_s=0)
    daemon.run()
    script = daemon.passes.folder / "doomed.py"
    script.write_text(
        "import sys, time\n"
        "from ya_salt.converge.observe import look_at_containers\n"
        "from ya_salt.converge.probing import Prober\n"
        "from ya_salt.porto.client import PortoClient\n"
        "from ya_salt.specs.directory import load_specs\n"
        "spec, = load_specs(sys.argv[1]).specs\n"
        "connect = lambda: PortoClient(sys.argv[2])\n"
        "container = look_at_containers(connect(), (), ['d']).containers['d']\n"
        "prober = Prober(connect, time.time)\n"
        "prober.begin(spec, container)\n"
        "prober.take_all()\n"
    )
    doomed = subprocess.Popen(
        [sys.executable, str(script), str(daemon.passes.specs_dir), portod.socket_path]
    )
    wait_for(lambda: list_commands("sleep", mark), "the command runs")
    doomed.kill()
    doomed.wait()
    assert list_commands("sleep", mark)
    well.touch()
    assert read_ready(daemon.run()) == (True, "Ready")
    assert not list_commands("sleep", mark)


def test_nobody_starts_a_daemon_by_asking_it(daemon: Daemon, portod: DevPortod) -> None:
    daemon.drop("exec: ['true']")
    daemon.run()
    with daemon.passes.client() as client:
        container = look_at_containers(client, (), ["d"]).containers["d"]
        client.stop("d", 0)
        with Prober(daemon.passes.client, time.time) as prober:
            prober.begin(load(daemon.passes), container)
            answer = prober.take_all()["d"]
        assert answer.says == "unknown"
        assert client.get(["d"], ["state"])["d"]["state"] == "stopped"


def test_at_most_so_many_are_asked_at_once(passes: Passes, portod: DevPortod) -> None:
    log = passes.folder / "log"
    step = f"echo + >> {log}; sleep 0.5; echo - >> {log}"
    names = [f"m{number}" for number in range(AT_ONCE + 4)]
    for name in names:
        passes.write(name, "")
    loaded = load_specs(str(passes.specs_dir)).specs
    passes.run()
    with passes.client() as client:
        containers = look_at_containers(client, (), names).containers
    with Prober(passes.client, time.time) as prober:
        for spec in loaded:
            asked = replace(spec, readiness=Readiness(exec=("sh", "-c", step), timeout_s=30))
            prober.begin(asked, containers[spec.name])
        answers = prober.take_all()
    assert {answer.says for answer in answers.values()} == {"yes"}
    now = most = 0
    for line in log.read_text().split():
        now += 1 if line == "+" else -1
        most = max(most, now)
    assert 1 < most <= AT_ONCE


def test_a_pass_waits_for_so_long_and_asks_the_rest_first_the_next_time(
    passes: Passes, portod: DevPortod
) -> None:
    names = [f"m{number}" for number in range(AT_ONCE + 2)]
    for name in names:
        passes.write(name, "")
    passes.run()
    with passes.client() as client:
        containers = look_at_containers(client, (), names).containers
    with Prober(passes.client, time.time) as prober:
        for spec in load_specs(str(passes.specs_dir)).specs:
            asked = replace(spec, readiness=Readiness(exec=("sleep", "100"), timeout_s=2))
            prober.begin(asked, containers[spec.name])
        answers = prober.take_all(within_s=0.5)
        assert len(answers) == AT_ONCE and not prober.is_busy
    assert {answer.says for answer in answers.values()} == {"no"}


def test_a_pass_that_is_told_to_end_waits_for_no_answer(daemon: Daemon) -> None:
    mark = f"{daemon.port}.5"
    well = daemon.folder / "well"
    daemon.drop(f"exec: [sh, -c, 'test -e {well} || sleep {mark}'], timeout_s: 50", timeout_s=0)
    daemon.run()
    loaded = load_specs(str(daemon.passes.specs_dir))

    def end(text: str) -> None:
        if "whether they are ready" in text and list_commands("sleep", mark):
            raise KeyboardInterrupt

    host = replace(daemon.passes.make_host(), progress=end)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_pass(host, PassRequest(loaded.specs, loaded))
    assert time.monotonic() - started < 10
    assert list_commands("sleep", mark) == []
    well.touch()
    assert read_ready(daemon.run()) == (True, "Ready")


def test_who_lives_on_asks_between_passes(daemon: Daemon) -> None:
    asked = f"http: {{port: {daemon.port}}}, period_s: 1, failure_threshold: 2"
    daemon.drop(f"{asked}, on_failure: restart")
    loaded = load_specs(str(daemon.passes.specs_dir))
    host = daemon.passes.make_host()
    result = run_pass(host, PassRequest(loaded.specs, loaded))
    pid = daemon.pid()
    rounds = Rounds(host.connect, host.now)
    try:
        rounds.learn(loaded.specs, result.after)
        assert 0 < rounds.find_pause() <= 1
        count = daemon.count_asked()
        assert rounds.step() == frozenset()
        assert daemon.count_asked() == count
        daemon.say("503")
        news, give_up = frozenset[str](), time.monotonic() + 10
        while not news and time.monotonic() < give_up:
            time.sleep(rounds.find_pause())
            news = rounds.step()
        assert news == {"d"}
        count = daemon.count_asked()
        assert count - 1 == 2
        daemon.say("200")
        request = PassRequest(loaded.specs, loaded, asks_all=False, probes=rounds.probes)
        result = run_pass(host, request)
        assert daemon.pid() != pid
        assert read_ready(result.statuses[0]) == (True, "Ready")
        rounds.learn(loaded.specs, result.after)
        assert rounds.probes["d"].failures == 0
    finally:
        rounds.close()


def test_what_was_learnt_between_passes_is_saved(daemon: Daemon) -> None:
    daemon.drop()
    daemon.run()
    store = read_store(daemon.passes.settings.state_dir)
    assert store is not None
    probes = store.load_records()["d"].life.probes
    assert probes is not None
    newer = replace(probes, failures=2, asked_at=time.time())
    daemon.run(asks_all=False, probes={"d": newer})
    daemon.say("503")
    assert read_ready(daemon.run()) == (False, "ProbeFailed")


def test_an_end_in_the_middle_of_questions_leaves_nothing(
    daemon: Daemon, portod: DevPortod
) -> None:
    mark = f"{daemon.port}.5"
    daemon.drop(f"exec: ['sleep', '{mark}'], timeout_s: 50", timeout_s=0)
    daemon.run()
    with daemon.passes.client() as client:
        container: Container = look_at_containers(client, (), ["d"]).containers["d"]
    started = time.monotonic()
    with Prober(daemon.passes.client, time.time) as prober:
        prober.begin(load(daemon.passes), container)
        wait_for(lambda: list_commands("sleep", mark), "the command runs")
    assert time.monotonic() - started < 10
    assert list_commands("sleep", mark) == []


# -- with what else there is -----------------------------------------------------------------------


def test_an_update_that_never_says_yes_is_undone_and_nobody_else_is_asked_twice(
    daemon: Daemon,
) -> None:
    other = daemon.folder / "other"
    daemon.drop(timeout_s=3)
    (daemon.passes.specs_dir / "other.yaml").write_text(
        "meta: {name: other, version: '1'}\nspec:\n  min_ready_s: 0\n"
        f"  readiness: {{exec: [sh, -c, 'echo x >> {other}; test ! -e {other}.bad']}}\n"
        "  properties: {cmd: [sleep, '1000']}\n"
    )
    assert daemon.passes.run().ok
    Path(f"{other}.bad").touch()
    before = len(other.read_text().splitlines())
    text = (daemon.passes.specs_dir / "d.yaml").read_text()
    bad = text.replace("'1'", "'2'", 1).replace(f"'{daemon.port}'", f"'{daemon.port + 1}'")
    (daemon.passes.specs_dir / "d.yaml").write_text(bad)
    result = daemon.passes.run()
    status = next(item for item in result.statuses if item.name == "d")
    assert (status.version, status.wanted_version) == ("1", "2")
    assert status.state == "running" and status.probe is not None and status.probe.is_ready
    assert len(other.read_text().splitlines()) == before + 1


def test_one_that_fails_again_and_again_rests(daemon: Daemon) -> None:
    asked = f"http: {{port: {daemon.port}}}, period_s: 1, failure_threshold: 1"
    daemon.drop(f"{asked}, on_failure: restart", timeout_s=1)
    daemon.run()
    daemon.say("503")
    restarts = []
    for _ in range(6):
        restarts.append(daemon.run().restart_count)
        time.sleep(0.3)
    # At once the first time; then only after a rest that doubles.
    assert restarts[0] == 1
    assert restarts[-1] < 6
    store = read_store(daemon.passes.settings.state_dir)
    assert store is not None
    crash = store.load_records()["d"].life.crash
    assert crash is not None and crash.deaths == restarts[-1] >= 2
    assert crash.delay_s >= 2
