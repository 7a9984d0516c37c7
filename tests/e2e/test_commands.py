"""The command as its user types it: exit codes, output, what is said when something is wrong."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
import yaml
from helpers.example import NAME, VERSION, ExampleHost

from ya_salt.cli.main import main

EXAMPLE = Path(__file__).parent.parent / "data" / "juggler-agent-rtc.yaml"
SLEEPER = "meta: {name: sleeper}\nspec: {min_ready_s: 0, properties: {cmd: [sleep, '1000']}}\n"


@pytest.fixture
def sleeping(host: ExampleHost) -> ExampleHost:
    """A daemon without packages, which is ready at once."""
    (host.specs_dir / "sleeper.yaml").write_text(SLEEPER)
    assert host.run("apply").returncode == 0
    return host


def test_plan_says_what_and_why_and_changes_nothing(host: ExampleHost) -> None:
    shutil.copy(EXAMPLE, host.spec_file)
    done = host.run("plan")
    assert done.returncode == 4
    assert done.stdout.splitlines() == [
        f"{NAME}: install: juggler-client-core {VERSION} is not installed, "
        "yandex-rtc-juggler-config 1.0-6238270 is not installed",
        f"{NAME}: create: there is no container",
    ]
    assert host.values("state") == {}
    assert not host.state_dir.exists()


def test_plan_and_dry_run_agree(host: ExampleHost) -> None:
    shutil.copy(EXAMPLE, host.spec_file)
    plan, dry = host.run("plan", "-o", "json"), host.run("apply", "--dry-run", "-o", "json")
    assert (plan.returncode, plan.stdout) == (dry.returncode, dry.stdout)


def test_plan_has_nothing_to_do_after_a_pass(sleeping: ExampleHost) -> None:
    done = sleeping.run("plan")
    assert (done.returncode, done.stdout) == (0, "nothing to do\n")


def test_apply_of_a_file_touches_nothing_else(sleeping: ExampleHost, folder: Path) -> None:
    path = folder / "try.yaml"
    path.write_text(SLEEPER.replace("sleeper", "tried"))
    (sleeping.specs_dir / "new.yaml").write_text(SLEEPER.replace("sleeper", "new"))
    done = sleeping.run("apply", "-o", "json", "-f", str(path))
    assert done.returncode == 0, done.stderr
    assert [item["name"] for item in json.loads(done.stdout)["portoDaemons"]] == ["tried"]
    with sleeping.client() as client:
        states = client.get(["sleeper", "tried", "new"], ["state"])
    assert states == {"sleeper": {"state": "running"}, "tried": {"state": "running"}}
    # The next whole pass finds it without a file: it stays.
    told = json.loads(sleeping.run("apply", "-o", "json").stdout)["portoDaemons"]
    assert {item["name"]: item["phase"] for item in told} == {
        "new": "Managed",
        "sleeper": "Managed",
        "tried": "Orphaned",
    }


def test_apply_of_a_bad_file_says_all_that_is_wrong(host: ExampleHost, folder: Path) -> None:
    path = folder / "bad.yaml"
    path.write_text("meta: {name: ../x}\nspec: {propertis: {}}\n")
    done = host.run("apply", "-f", str(path))
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        f"{path}:1:14",
        f"{path}:2:7",
        f"{path}:2:8",
    ]


def test_a_file_that_is_not_there_is_an_error(host: ExampleHost) -> None:
    done = host.run("apply", "-f", "/nonexistent.yaml")
    assert done.returncode in (1, 2)
    assert "/nonexistent.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_validate_needs_no_porto_and_no_root(folder: Path) -> None:
    good, bad = folder / "good.yaml", folder / "bad.json"
    good.write_text(SLEEPER)
    bad.write_text('{"meta": {"name": "x", "nam": 1}}')
    command = [sys.executable, "-m", "ya_salt.cli.main", "validate", str(good), str(bad)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == f"{good}: sleeper: valid\n"
    assert f"{bad}:1:24: meta.nam: " in done.stderr


def test_validate_of_the_directory_lists_what_is_ignored(host: ExampleHost) -> None:
    (host.specs_dir / "a.yaml").write_text(SLEEPER)
    (host.specs_dir / "a.yaml.bak").write_text("")
    done = host.run("validate")
    assert done.returncode == 0
    assert "a.yaml.bak: ignored: " in done.stderr


def test_validate_says_where_passes_are_too_rare_for_the_questions(host: ExampleHost) -> None:
    text = SLEEPER.replace("spec: {", "spec: {readiness: {exec: ['true'], period_s: 1}, ")
    file = host.specs_dir / "a.yaml"
    file.write_text(text)
    assert host.run("apply").returncode == 0
    assert host.run("validate").stderr == ""
    time.sleep(4)
    assert host.run("apply").returncode == 0
    done = host.run("validate")
    assert done.returncode == 0
    assert f"{file}: sleeper: warning: readiness.period_s is 1, but only passes ask" in done.stderr


def test_documented_jq_paths_work(sleeping: ExampleHost) -> None:
    for command in ("spec", "status"):
        told = json.loads(sleeping.run(command, "-o", "json").stdout)["portoDaemons"]
        assert len(told) == 1
        as_yaml = yaml.safe_load(sleeping.run(command, "-o", "yaml").stdout)["portoDaemons"]
        assert [sorted(item) for item in as_yaml] == [sorted(item) for item in told]


def test_what_spec_prints_is_a_spec(sleeping: ExampleHost, folder: Path) -> None:
    (printed,) = json.loads(sleeping.run("spec", "-o", "json").stdout)["portoDaemons"]
    path = folder / "again.json"
    path.write_text(json.dumps(printed))
    done = sleeping.run("plan", "-f", str(path))
    assert (done.returncode, done.stdout) == (0, "nothing to do\n")


def test_status_without_any_pass_says_what_to_do(host: ExampleHost) -> None:
    done = host.run("status")
    assert (done.returncode, done.stdout) == (0, "no daemons\n")
    assert "ya-salt apply" in done.stderr


def test_status_of_a_daemon_nobody_knows_is_a_usage_error(sleeping: ExampleHost) -> None:
    done = sleeping.run("status", "nobody")
    assert done.returncode == 2
    assert "no daemon nobody is known" in done.stderr


def test_status_sees_what_happened_after_the_pass(sleeping: ExampleHost) -> None:
    with sleeping.client() as client:
        client.destroy("sleeper")
    done = sleeping.run("status", "-o", "json")
    assert done.returncode == 1
    (told,) = json.loads(done.stdout)["portoDaemons"]
    assert told["conditions"]["running"]["reason"] == "NoContainer"
    saved = json.loads(sleeping.run("status", "--saved", "-o", "json").stdout)["portoDaemons"]
    assert saved[0]["conditions"]["running"]["status"] is True


def test_a_daemon_that_dies_is_told_with_its_last_words(host: ExampleHost) -> None:
    (host.specs_dir / "dying.yaml").write_text(
        "meta: {name: dying}\n"
        "spec:\n"
        "  properties:\n"
        "    cmd: [sh, -c, 'echo cannot open the config >&2; exit 3']\n"
        "    max_respawns: 1\n"
        "    respawn_delay: 100ms\n"
    )
    done = host.run("apply", "-o", "json")
    assert done.returncode == 1
    (told,) = json.loads(done.stdout)["portoDaemons"]
    running = told["conditions"]["running"]
    assert running["reason"] == "Dead"
    assert "exited with code 3" in running["message"]
    assert "cannot open the config" in running["message"]
    log = host.log_file.read_text()
    assert "porto-daemon-dying: not ready reason=Dead" in log
    assert "cannot open the config" in host.run("logs", "dying").stderr


def test_a_program_that_is_not_there_is_told(host: ExampleHost) -> None:
    (host.specs_dir / "a.yaml").write_text(
        "meta: {name: lost}\nspec: {properties: {cmd: [/nonexistent/program]}}\n"
    )
    done = host.run("apply", "-o", "json")
    assert done.returncode == 1
    (told,) = json.loads(done.stdout)["portoDaemons"]
    assert told["conditions"]["ready"]["reason"] == "InvalidCommand"
    assert "/nonexistent/program" in told["error"]
    assert host.client().get(["lost"], ["state"]) == {}
    log = [line for line in host.log_file.read_text().splitlines() if "porto-daemon-lost" in line]
    assert any("/nonexistent/program" in line for line in log)


def test_one_bad_daemon_does_not_hold_the_others_back(host: ExampleHost) -> None:
    (host.specs_dir / "a.yaml").write_text(
        "meta: {name: lost}\nspec: {properties: {cmd: [/nonexistent/program]}}\n"
    )
    (host.specs_dir / "b.yaml").write_text(SLEEPER)
    (host.specs_dir / "c.yaml").write_text("meta: {name: broken}\nspec: {}\n")
    assert host.run("apply").returncode == 1
    assert host.client().get_property("sleeper", "state") == "running"


def test_a_second_pass_at_once_is_told_who_runs(sleeping: ExampleHost) -> None:
    with (sleeping.state_dir / "lock").open("w") as lock:
        lock.write("4711\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = sleeping.run("apply")
        assert done.returncode == 3
        assert "pid 4711" in done.stderr
        # Readers go on.
        assert sleeping.run("status").returncode == 0
        assert sleeping.run("plan").returncode == 0


def test_without_portod_there_is_one_clear_sentence(host: ExampleHost) -> None:
    (host.specs_dir / "sleeper.yaml").write_text(SLEEPER)
    done = host.run("apply", "--porto-socket", "/nonexistent/portod.socket")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "no portod answers on /nonexistent/portod.socket" in done.stderr
    status = json.loads(host.run("status", "-o", "json").stdout)
    assert "no portod answers" in status["lastPass"]["error"]


def test_without_the_daemons_directory_there_is_one_clear_sentence(host: ExampleHost) -> None:
    done = host.run("apply", "--specs-dir", "/nonexistent/specs")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "/nonexistent/specs" in done.stderr


def as_nobody(host: ExampleHost, *words: str) -> tuple[int, str]:
    """Exit code and stderr of `ya-salt WORDS…` run by a user without rights.

    A fork, as that user may not even read the interpreter that runs the tests; what the commands
    load later is loaded before it.
    """
    for name in ("ya_salt.cli.commands", "ya_salt.converge.run"):
        importlib.import_module(name)
    told = host.folder / "stderr"
    child = os.fork()
    if not child:
        try:
            fd = os.open(told, os.O_CREAT | os.O_WRONLY)
            os.dup2(fd, 2)
            sys.stderr = os.fdopen(2, "w")
            os.environ.update(host.environment)
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            code = main(words)
            sys.stderr.flush()
        except BaseException:  # noqa: BLE001 - the child may never come back into pytest
            traceback.print_exc()
            sys.stderr.flush()
            code = 99
        os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), told.read_text()


def test_a_user_who_may_not_write_gets_one_clear_sentence(host: ExampleHost) -> None:
    (host.specs_dir / "sleeper.yaml").write_text(SLEEPER)
    host.state_dir.mkdir(mode=0o500)
    code, told = as_nobody(host, "apply", "--log-file", "/dev/null")
    assert (code, len(told.splitlines())) == (1, 1), told
    assert "Permission denied" in told
    assert "run as root, or give --state-dir" in told


def test_settings_say_where_each_comes_from(host: ExampleHost) -> None:
    told = json.loads(host.run("settings", "--state-dir", "/flag", "-o", "json").stdout)["settings"]
    assert told["state_dir"] == {"value": "/flag", "origin": "flag --state-dir"}
    assert told["specs_dir"]["origin"] == "environment YA_SALT_SPECS_DIR"
    assert told["parallel"] == {"value": 4, "origin": "default"}


def test_flags_stand_before_or_after_the_command(host: ExampleHost) -> None:
    before = host.run("--state-dir", "/flag", "settings")
    after = host.run("settings", "--state-dir", "/flag")
    assert before.stdout == after.stdout
    assert "/flag" in after.stdout


@pytest.mark.parametrize("words", [(), ("no-such-command",), ("apply", "--no-such-flag")])
def test_a_wrong_command_line_exits_with_2(host: ExampleHost, words: tuple[str, ...]) -> None:
    assert host.run(*words).returncode == 2


def test_the_log_survives_logrotate(sleeping: ExampleHost) -> None:
    sleeping.log_file.rename(sleeping.log_file.with_suffix(".1"))
    with sleeping.client() as client:
        client.destroy("sleeper")
    assert sleeping.run("apply").returncode == 0
    assert "porto-daemon-sleeper: create" in sleeping.log_file.read_text()


def test_history_tells_what_was_done(sleeping: ExampleHost) -> None:
    told = json.loads(sleeping.run("history", "-o", "json").stdout)["history"]
    assert told[0]["what"] == "create: there is no container"
    assert told[1]["what"].startswith("ready (Ready)")


def test_output_into_a_closed_pipe_is_quiet(sleeping: ExampleHost) -> None:
    script = f"{sys.executable} -m ya_salt.cli.main status -o json | true"
    done = subprocess.run(
        ["bash", "-c", script],
        env=sleeping.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr


# -- what status says when things are other than the last pass saw them --------------------------


@pytest.mark.parametrize("trouble", ["gone", "hung"])
def test_status_without_portod_says_that_it_shows_the_past(
    sleeping: ExampleHost, trouble: str
) -> None:
    path = sleeping.folder / "other.socket"
    with socket.socket(socket.AF_UNIX) as listener:
        if trouble == "hung":
            listener.bind(str(path))
            listener.listen()
        began = time.monotonic()
        done = sleeping.run("status", "--porto-socket", str(path))
        assert time.monotonic() - began < 20
        told = json.loads(sleeping.run("status", "--porto-socket", str(path), "-o", "json").stdout)
    last = json.loads(sleeping.run("status", "--saved", "-o", "json").stdout)["lastPass"]
    assert done.returncode == 1
    assert "sleeper" in done.stdout
    cannot, shown = done.stderr.splitlines()[-2:]
    assert "portod cannot be asked now" in cannot
    assert "the last pass" in shown
    assert last["startedAt"] in shown
    assert told["portod"]["answers"] is False
    assert told["portod"]["since"] == last["startedAt"]
    # A pass that cannot ask it either makes it known since when.
    failed = sleeping.run("apply", "--porto-socket", "/nonexistent")
    assert failed.returncode == 1
    last = json.loads(sleeping.run("status", "--saved", "-o", "json").stdout)["lastPass"]
    done = sleeping.run("status", "--porto-socket", "/nonexistent")
    assert done.returncode == 1
    assert f"since {last['startedAt']}" in done.stderr.splitlines()[-1]


def test_status_shows_a_rejected_file_before_any_pass_has_seen_it(sleeping: ExampleHost) -> None:
    path = sleeping.specs_dir / "new.yaml"
    path.write_text("meta: {name: new}\nspec: {propertis: {}}\n")
    done = sleeping.run("status")
    assert done.returncode == 1
    assert f"{path}:2:8" in done.stderr
    told = json.loads(sleeping.run("status", "-o", "json").stdout)
    assert [item["path"] for item in told["rejectedFiles"]] == [str(path)]
    # What the last pass saw is another question.
    assert sleeping.run("status", "--saved").returncode == 0


def test_a_repaired_file_is_not_rejected_any_more(sleeping: ExampleHost) -> None:
    path = sleeping.specs_dir / "sleeper.yaml"
    path.write_text("meta: {name: sleeper}\nspec: {propertis: {}}\n")
    (told,) = json.loads(sleeping.run("status", "-o", "json").stdout)["portoDaemons"]
    assert (told["phase"], told["conditions"]["running"]["status"]) == ("Rejected", True)
    assert sleeping.run("apply").returncode == 1
    path.write_text(SLEEPER)
    done = sleeping.run("status", "-o", "json")
    told = json.loads(done.stdout)
    assert told["rejectedFiles"] == []
    assert [(item["phase"], item["error"]) for item in told["portoDaemons"]] == [("Managed", "")]
    assert "Rejected" not in sleeping.run("status").stdout


def test_status_of_one_shows_everything_about_it(sleeping: ExampleHost) -> None:
    path = sleeping.specs_dir / "talker.yaml"
    path.write_text(
        "meta: {name: talker, version: '1.7'}\nspec:\n  min_ready_s: 0\n  properties:\n"
        "    cmd: [sh, -c, 'echo first words >&2; exec sleep 1000']\n    memory_limit: 64Mb\n"
    )
    assert sleeping.run("apply").returncode == 0
    pid = sleeping.values("root_pid", name="talker")["root_pid"]
    done = sleeping.run("status", "talker")
    assert done.returncode == 0
    (told,) = json.loads(sleeping.run("status", "talker", "-o", "json").stdout)["portoDaemons"]
    assert told["pid"] == int(pid)
    assert told["limits"] == {"memory_limit": str(64 << 20)}
    assert "first words" in told["stderr"]
    assert "create: " in told["history"][0]["what"]
    for fact in (
        pid,
        str(path),
        told["digest"],
        "1.7",
        "first words",
        "create: ",
        "memory_limit 64M",
    ):
        assert fact in done.stdout
    assert told["conditions"]["running"]["lastTransitionTime"] in done.stdout


@pytest.mark.parametrize("command", ["status", "spec", "history", "logs"])
def test_an_unknown_name_is_the_same_error_everywhere(sleeping: ExampleHost, command: str) -> None:
    done = sleeping.run(command, "sleepr")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "no daemon sleepr is known" in line
    assert "sleeper?" in line


def test_a_daemon_that_no_pass_has_seen_is_told_apart(sleeping: ExampleHost) -> None:
    path = sleeping.specs_dir / "new.yaml"
    path.write_text(SLEEPER.replace("sleeper", "new"))
    done = sleeping.run("status", "new")
    assert done.returncode == 2
    assert str(path) in done.stderr
    assert "ya-salt apply" in done.stderr


def test_logs_of_a_daemon_without_container_is_no_wrong_name(sleeping: ExampleHost) -> None:
    with sleeping.client() as client:
        client.destroy("sleeper")
    done = sleeping.run("logs", "sleeper")
    assert done.returncode == 1
    assert "has no container" in done.stderr


@pytest.mark.parametrize("text", [SLEEPER, json.dumps(yaml.safe_load(SLEEPER), indent="\t")])
def test_a_spec_comes_from_standard_input_too(host: ExampleHost, text: str) -> None:
    done = host.run("validate", "-", stdin=text)
    assert (done.returncode, done.stdout) == (0, "standard input: sleeper: valid\n")
    assert host.run("plan", "-f", "-", stdin=text).returncode == 4
    assert host.run("apply", "-f", "-", stdin=text).returncode == 0
    assert host.values("state", name="sleeper") == {"state": "running"}
    done = host.run("validate", "-", stdin="meta: {name: 7 7}\n")
    assert done.returncode == 1
    assert "standard input:1:14: " in done.stderr


def test_plan_shows_values_old_and_new_and_no_secret(sleeping: ExampleHost) -> None:
    path = sleeping.specs_dir / "sleeper.yaml"
    path.write_text(
        SLEEPER.replace(
            "[sleep, '1000']",
            "[sleep, '1000'], memory_limit: 64Mb, env: {A: one}, env_secret: {T: hush}",
        )
    )
    assert sleeping.run("apply").returncode == 0
    path.write_text(
        path.read_text().replace("64Mb", "128Mb").replace("one", "two").replace("hush", "quiet")
    )
    done = sleeping.run("plan")
    assert done.returncode == 4
    assert "memory_limit: 64M -> 128M" in done.stdout
    assert "memory_limit: 64M -> 128M" in sleeping.run("why", "sleeper").stdout
    assert "env[A]: one -> two" in done.stdout
    (told,) = json.loads(sleeping.run("plan", "-o", "json").stdout)["plans"]
    assert told["changes"]["container"]["memory_limit"] == {
        "old": str(64 << 20),
        "new": str(128 << 20),
    }
    assert told["changes"]["process"] == {"old": "running", "new": "restarted"}
    assert "hush" not in done.stdout + json.dumps(told)
    assert "quiet" not in done.stdout + json.dumps(told)


def test_what_failed_is_not_called_nothing(sleeping: ExampleHost) -> None:
    (sleeping.specs_dir / "a.yaml").write_text(
        "meta: {name: lost}\nspec: {properties: {cmd: [/nonexistent/program]}}\n"
    )
    done = sleeping.run("apply")
    assert done.returncode == 1
    assert "0 done, 1 failed, 0 waiting" in done.stdout
    assert "nothing had to be done" not in done.stdout


@pytest.mark.parametrize("words", [("history", "-n", "-1"), ("logs", "sleeper", "-n", "-1")])
def test_a_negative_count_is_a_usage_error(sleeping: ExampleHost, words: tuple[str, ...]) -> None:
    assert sleeping.run(*words).returncode == 2
