"""`ya-salt adopt`: somebody's running container becomes a file, and ours, without a restart."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.example import ExampleHost
from helpers.passes import DoomedClient, Passes
from helpers.portod import DevPortod

from ya_salt.converge.adopt import read_container, take_over
from ya_salt.specs.directory import load_specs

FOUND: dict[str, str] = {
    "command_argv": "sleep\t1000",
    "env": "A=1;B=x y;C=a\\;b",
    "cwd": "/tmp",
    "user": "root",
    "ulimit": "nofile: 10 20",
    "labels": "TEAM.owner: me",
    "isolate": "false",
    "memory_limit": "67108864",
    "cpu_limit": "0.5c",
    "thread_limit": "50",
    "max_respawns": "7",
    "respawn_delay": "5s",
    "capabilities": "KILL;CHOWN",
    "oom_is_fatal": "false",
    "aging_time": "3600",
}


def make(host: ExampleHost, name: str = "theirs", **more: str) -> int:
    """Somebody's container, running; its process."""
    with host.client() as client:
        client.create(name)
        for key, text in {**FOUND, **more}.items():
            if text:
                client.set_property(name, key, text)
        client.start(name)
    return pid(host, name)


def pid(host: ExampleHost, name: str = "theirs") -> int:
    return int(host.values("root_pid", name=name)["root_pid"])


def read(text: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def test_a_container_is_printed_as_a_spec_and_left_as_it_is(host: ExampleHost) -> None:
    make(host)
    before = host.values("labels", "private", "respawn", "aging_time", name="theirs")
    done = host.run("adopt", "theirs")
    assert done.returncode == 0, done.stderr
    document = read(done.stdout)
    assert document["meta"] == {"name": "theirs"}
    assert document["spec"]["properties"] == {
        "cmd": ["sleep", "1000"],
        "isolate": False,
        "cwd": "/tmp",
        "env": {"A": "1", "B": "x y", "C": "a;b"},
        "ulimit": {"nofile": "10 20"},
        "max_respawns": 7,
        "respawn_delay": "5s",
        "labels": {"TEAM.owner": "me"},
        "memory_limit": 67108864,
        "oom_is_fatal": False,
        "cpu_limit": "0.5c",
        "thread_limit": 50,
        "capabilities": ["CHOWN", "KILL"],
    }
    assert "# respawn was false" in done.stdout
    assert host.values("labels", "private", "respawn", "aging_time", name="theirs") == before
    assert list(host.specs_dir.iterdir()) == []
    assert not host.state_dir.exists()
    assert host.values("state", name="ya-salt-rehearsal.theirs") == {}


def test_written_it_is_ours_with_the_same_process(
    host: ExampleHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "alice")
    was = make(host)
    done = host.run("adopt", "theirs", "--write")
    assert done.returncode == 0, done.stdout + done.stderr
    path = host.specs_dir / "theirs.yaml"
    assert path.stat().st_mode & 0o777 == 0o644
    assert pid(host) == was
    values = host.values("labels", "respawn", "aging_time", name="theirs")
    (spec,) = load_specs(str(host.specs_dir)).specs
    assert f"HOSTMAN.spec: {spec.digest}" in values["labels"]
    assert "TEAM.owner: me" in values["labels"]
    assert (values["respawn"], values["aging_time"]) == ("true", "86400")
    plan = host.run("plan")
    assert (plan.returncode, plan.stdout) == (0, "nothing to do\n")
    assert host.run("apply").returncode == 0
    assert pid(host) == was
    told = json.loads(host.run("history", "theirs", "-o", "json").stdout)["history"]
    assert [item["who"] for item in told if item["what"].startswith("adopt")] == ["shell: alice"]
    # What is live is changed live, what is drift is put right, what left the file goes live.
    path.write_text(
        path.read_text().replace("67108864", "33554432").replace("thread_limit: 50", "")
    )
    with host.client() as client:
        client.set_property("theirs", "cpu_limit", "0.7c")
    assert host.run("apply").returncode == 0
    limits = host.values("memory_limit", "thread_limit", "cpu_limit", name="theirs")
    assert limits == {"memory_limit": "33554432", "thread_limit": "10000", "cpu_limit": "0.5c"}
    assert pid(host) == was
    # What is static gets a new process, made from the file alone.
    path.write_text(path.read_text().replace("cwd: /tmp", "cwd: /"))
    assert host.run("apply").returncode == 0
    assert pid(host) != was
    assert host.values("env", name="theirs")["env"] == "A=1;B=x y;C=a\\;b"


def test_a_command_of_one_string_stays_one(host: ExampleHost) -> None:
    was = make(host, command_argv="", command="sh -c 'exec sleep 1000'")
    assert host.run("adopt", "theirs", "--write").returncode == 0
    text = (host.specs_dir / "theirs.yaml").read_text()
    assert read(text)["spec"]["properties"]["cmd"] == "sh -c 'exec sleep 1000'"
    assert host.run("plan").returncode == 0
    assert pid(host) == was


def test_a_secret_is_to_be_filled_in_and_nothing_is_taken_over(host: ExampleHost) -> None:
    was = make(host, env_secret="TOKEN=hunter2")
    done = host.run("adopt", "theirs")
    assert done.returncode == 0
    assert read(done.stdout)["spec"]["properties"]["env_secret"] == {"TOKEN": "***"}
    assert "# env_secret[TOKEN]: portod does not tell its value: fill it in" in done.stdout
    done = host.run("adopt", "theirs", "--write")
    assert done.returncode == 1
    assert "env_secret" in done.stderr
    assert list(host.specs_dir.iterdir()) == []
    assert "HOSTMAN" not in host.values("labels", name="theirs")["labels"]
    assert pid(host) == was


def test_what_no_spec_can_say_is_a_comment(host: ExampleHost) -> None:
    make(host, private="somebody's notes", porto_namespace="x.")
    done = host.run("adopt", "theirs")
    assert done.returncode == 0, done.stderr
    assert "# private holds somebody's text" in done.stdout


def test_the_package_of_its_program_is_offered(host: ExampleHost) -> None:
    shutil.copy(Path(__file__).parent.parent / "data/juggler-agent-rtc.yaml", host.spec_file)
    assert host.run("apply").returncode == 0
    host.spec_file.unlink()
    # With so few files a shell cannot even open its script.
    make(host, command_argv="/usr/bin/juggler-client\t--x", ulimit="")
    done = host.run("adopt", "theirs")
    assert "/usr/bin/juggler-client is of the package juggler-client-core" in done.stdout
    assert 'version: "2.3.2001221352"' in done.stdout
    # Only offered: whatever a spec names goes with its daemon.
    assert "packages" not in read(done.stdout)["spec"]


def test_no_file_is_written_over(host: ExampleHost) -> None:
    make(host)
    path = host.specs_dir / "theirs.yaml"
    path.write_text("meta: {name: another}\nspec: {properties: {cmd: [sleep, '9']}}\n")
    before = path.read_text()
    done = host.run("adopt", "theirs", "--write")
    assert done.returncode == 1
    assert "is there already" in done.stderr
    assert path.read_text() == before
    assert "HOSTMAN" not in host.values("labels", name="theirs")["labels"]


@pytest.mark.parametrize("writes", range(5))
def test_killed_at_every_step_the_same_once_more_does_the_rest(folder: Path, writes: int) -> None:
    """Before respawn, aging_time, private and the label are set, and after all of them."""
    with DevPortod() as portod:
        passes = Passes(folder, portod.socket_path)
        with passes.client() as client:
            client.create("theirs")
            for key, text in {**FOUND, "user": ""}.items():
                if text:
                    client.set_property("theirs", key, text)
            client.start("theirs")
            was = client.get_property("theirs", "root_pid")
        child = os.fork()
        if not child:
            try:
                doomed = passes.make_host(lambda: DoomedClient(portod.socket_path))
                DoomedClient.writes_left = 10
                adoption = read_container(doomed, "theirs", load_specs(str(passes.specs_dir)))
                DoomedClient.writes_left = writes
                take_over(doomed, adoption, "shell: alice")
            finally:
                os._exit(0)
        was_killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert was_killed == (writes < 4)
        host, loaded = passes.make_host(), load_specs(str(passes.specs_dir))
        assert [spec.name for spec in loaded.specs] == ["theirs"]
        if was_killed:
            (status,) = passes.run().statuses
            assert status.phase == "Foreign"
            assert "ya-salt adopt theirs --write" in status.error
            text = Path(loaded.specs[0].path).read_text()
            take_over(host, read_container(host, "theirs", loaded), "shell: alice")
            assert Path(loaded.specs[0].path).read_text() == text
        assert passes.plan()["theirs"].steps == ()
        assert passes.run_one().actions == ()
        with passes.client() as client:
            assert client.get_property("theirs", "root_pid") == was
        passes.remove_all()


def test_a_file_that_says_something_else_than_the_container_is_kept(host: ExampleHost) -> None:
    make(host)
    path = host.specs_dir / "theirs.yaml"
    path.write_text(host.run("adopt", "theirs").stdout.replace("67108864", "33554432"))
    before = path.read_text()
    done = host.run("adopt", "theirs", "--write")
    assert (done.returncode, "says something else than theirs is" in done.stderr) == (2, True)
    assert path.read_text() == before
    assert "HOSTMAN" not in host.values("labels", name="theirs")["labels"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nobody", "no container nobody"),
        ("-x", "can be called so"),
        ("a/b", "slash"),
        ("self", "something else to Porto"),
    ],
)
def test_what_is_no_daemon_is_refused(host: ExampleHost, name: str, said: str) -> None:
    done = host.run("adopt", "--", name)
    assert done.returncode == 2
    assert said in done.stderr


def test_what_is_ours_defined_weak_or_dead_is_not_taken_over(host: ExampleHost) -> None:
    make(host)
    assert host.run("adopt", "theirs", "--write").returncode == 0
    (host.specs_dir / "theirs.yaml").unlink()
    done = host.run("adopt", "theirs")
    assert (done.returncode, "ya-salt's already" in done.stderr) == (2, True)
    make(host, "second")
    (host.specs_dir / "x.yaml").write_text(
        "meta: {name: second}\nspec: {properties: {cmd: [sleep, '9']}}\n"
    )
    done = host.run("adopt", "second", "--write")
    assert (done.returncode, f"{host.specs_dir}/x.yaml defines" in done.stderr) == (2, True)
    with host.client() as client:
        client.create_weak("weak")
        client.set_property("weak", "command_argv", "sleep\t1000")
        client.start("weak")
        # A weak one goes with its connection: it is looked at while that lasts.
        done = host.run("adopt", "weak")
    assert (done.returncode, "is weak" in done.stderr) == (2, True)
    make(host, "dead")
    with host.client() as client:
        client.kill("dead", 9)
        assert client.wait_dead("dead", 10)
    done = host.run("adopt", "dead", "--write")
    assert (done.returncode, "not running" in done.stderr) == (1, True)
    assert not (host.specs_dir / "dead.yaml").exists()
    # It can be read all the same.
    done = host.run("adopt", "dead")
    assert read(done.stdout)["spec"]["properties"]["cmd"] == ["sleep", "1000"]
