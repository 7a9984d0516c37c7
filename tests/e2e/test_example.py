"""The users' document, end to end: its example file byte for byte, real apt and dpkg in a private
root, a Porto server on a real socket, the command as its user types it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from helpers.example import CONFIG_VERSION, NAME, VERSION, ExampleHost

from ya_salt.model import LABEL
from ya_salt.porto.client import parse_labels

EXAMPLE = Path(__file__).parent.parent / "data" / "juggler-agent-rtc.yaml"
NEW = "2.4.2002010000"


def edit(host: ExampleHost, old: str, new: str) -> None:
    text = host.spec_file.read_text()
    assert old in text
    host.spec_file.write_text(text.replace(old, new))


def apply(host: ExampleHost, *words: str, code: int = 0) -> dict:
    done = host.run("apply", "-o", "json", *words)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def daemon(host: ExampleHost) -> dict:
    done = host.run("status", "-o", "json")
    (found,) = json.loads(done.stdout)["portoDaemons"]
    return found


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_the_whole_life_of_the_example(host: ExampleHost) -> None:
    # Install and start.
    shutil.copy(EXAMPLE, host.spec_file)
    (status,) = apply(host)["portoDaemons"]
    assert host.installed() == {
        "juggler-client-core": VERSION,
        "yandex-rtc-juggler-config": CONFIG_VERSION,
    }
    assert status["conditions"]["ready"]["status"] is True
    values = host.values(
        "state", "virt_mode", "isolate", "user", "group", "memory_limit", "cpu_limit",
        "cpu_guarantee", "controllers[devices]", "respawn", "command_argv", "weak",
    )  # fmt: skip
    assert values == {
        "state": "running",
        "virt_mode": "host",
        "isolate": "false",
        "user": "monitor",
        "group": "monitor",
        "memory_limit": "2147483648",
        "cpu_limit": "3c",
        "cpu_guarantee": "0.5c",
        "controllers[devices]": "false",
        "respawn": "true",
        "weak": "false",
        "command_argv": "/usr/bin/juggler-client\t--pid-file\t/var/run/juggler-client.pid\t"
        "--lock-file\t/var/run/juggler-client.pid\t--config-dir\t/etc/juggler/",
    }
    first = host.pid()

    # Status, as documented.
    found = daemon(host)
    assert found["name"] == NAME
    assert {name: item["status"] for name, item in found["conditions"].items()} == {
        "installed": True,
        "running": True,
        "ready": True,
    }
    assert any("memory_guarantee" in warning for warning in found["warnings"])
    specs = json.loads(host.run("spec", "-o", "json").stdout)["portoDaemons"]
    assert specs[0]["spec"]["properties"]["memoryLimit"] == 2147483648

    # Update: the package first, then a new process.
    host.release(NEW)
    edit(host, VERSION, NEW)
    (status,) = apply(host)["portoDaemons"]
    assert host.installed()["juggler-client-core"] == NEW
    second = host.pid()
    assert second != first
    assert not is_alive(first)
    assert status["restartCount"] == 1
    assert NEW in host.run("logs", NAME).stderr

    # Live change: the same process.
    edit(host, 'memory_limit: "2Gb"', 'memory_limit: "3Gb"')
    (status,) = apply(host)["portoDaemons"]
    assert host.pid() == second
    assert host.values("memory_limit") == {"memory_limit": "3221225472"}
    assert status["restartCount"] == 1
    assert status["actions"] == ["live change: changed in the spec: memory_limit"]

    # Removal.
    edit(host, "delete_requested: False", "delete_requested: True")
    (status,) = apply(host)["portoDaemons"]
    assert status["phase"] == "Removed"
    assert host.values("state") == {}
    assert host.installed() == {}
    assert not is_alive(second)
    assert not (host.root / "etc/juggler/client.conf").exists()

    # Doing it again is a no-op, and then the file may go.
    assert apply(host)["portoDaemons"][0]["actions"] == []
    host.spec_file.unlink()
    assert apply(host)["portoDaemons"] == []


def test_maintainer_scripts_know_who_installs_them(running: ExampleHost) -> None:
    log = (running.root / "var/log/juggler.log").read_text()
    assert log.startswith("postinst configure HOSTMAN=1\n")


def test_a_pass_without_changes_changes_nothing_and_does_not_wait(running: ExampleHost) -> None:
    pid, before = running.pid(), running.values("change_time", "private", "labels")
    status = (running.root / "var/lib/dpkg/status").stat().st_mtime_ns
    started = time.monotonic()
    (told,) = apply(running)["portoDaemons"]
    took = time.monotonic() - started
    assert told["actions"] == []
    assert running.pid() == pid
    assert running.values("change_time", "private", "labels") == before
    assert (running.root / "var/lib/dpkg/status").stat().st_mtime_ns == status
    # min_ready_s is 5: a pass that waited for readiness could not be this quick.
    assert took < 5


def test_removing_the_file_removes_nothing(running: ExampleHost) -> None:
    pid = running.pid()
    running.spec_file.unlink()
    (told,) = apply(running)["portoDaemons"]
    assert told["phase"] == "Orphaned"
    assert told["conditions"]["running"]["status"] is True
    assert running.pid() == pid
    assert running.installed()["juggler-client-core"] == VERSION


def test_a_file_that_broke_leaves_its_daemon_running(running: ExampleHost) -> None:
    pid = running.pid()
    edit(running, "memory_limit", "memory_limt")
    done = running.run("apply", "-o", "json")
    assert done.returncode == 1
    assert f"{running.spec_file}:23:5: spec.properties.memory_limt: " in done.stderr
    assert "memory_limit" in done.stderr
    (told,) = json.loads(done.stdout)["portoDaemons"]
    assert told["phase"] == "Rejected"
    assert running.pid() == pid
    assert json.loads(running.run("status", "-o", "json").stdout)["rejectedFiles"]


def test_a_crash_is_respawned_by_portod_and_shown(running: ExampleHost) -> None:
    os.kill(running.pid(), signal.SIGKILL)
    running.wait_respawned()
    told = daemon(running)
    assert told["respawnCount"] == 1
    assert told["restartCount"] == 0


def test_the_store_may_be_lost(running: ExampleHost) -> None:
    pid = running.pid()
    (running.state_dir / "store.sqlite3").write_bytes(b"garbage" * 999)
    assert apply(running)["portoDaemons"][0]["actions"] == []
    assert running.pid() == pid
    # Also for a daemon whose file is gone: the container's label remembers it.
    (running.state_dir / "store.sqlite3").unlink()
    running.spec_file.unlink()
    (told,) = apply(running)["portoDaemons"]
    assert (told["name"], told["phase"]) == (NAME, "Orphaned")
    assert running.pid() == pid


def test_a_value_that_portod_refuses_leaves_the_old_daemon_running(running: ExampleHost) -> None:
    pid = running.pid()
    edit(running, 'user: "monitor"', 'user: "nosuchuser"')
    (told,) = apply(running, code=1)["portoDaemons"]
    assert running.pid() == pid
    assert running.values("state", "respawn") == {"state": "running", "respawn": "true"}
    assert "user" in told["error"]
    assert told["conditions"]["ready"]["status"] is False


def test_a_version_that_does_not_exist_leaves_the_old_daemon_running(running: ExampleHost) -> None:
    pid = running.pid()
    edit(running, VERSION, "9.9")
    (told,) = apply(running, code=1)["portoDaemons"]
    assert told["conditions"]["installed"]["reason"] == "VersionNotFound"
    assert running.pid() == pid
    # Going back needs no restart: nothing had changed under the process.
    edit(running, "9.9", VERSION)
    assert apply(running)["portoDaemons"][0]["actions"] == []
    assert running.pid() == pid


def test_a_container_that_is_not_ours_is_never_touched(host: ExampleHost) -> None:
    shutil.copy(EXAMPLE, host.spec_file)
    with host.client() as client:
        client.create_weak(NAME)
        client.set_property(NAME, "command", "sleep 100")
        client.start(NAME)
        (told,) = apply(host, code=1)["portoDaemons"]
        assert told["phase"] == "Foreign"
        edit(host, "delete_requested: False", "delete_requested: True")
        apply(host, code=1)
        assert client.get_property(NAME, "state") == "running"
    assert host.installed() == {}


@pytest.mark.parametrize(
    ("change", "value"), [("memory_limit", "1073741824"), ("respawn", "false")]
)
def test_what_somebody_changed_live_is_put_right_live(
    running: ExampleHost, change: str, value: str
) -> None:
    pid, right = running.pid(), running.values(change)
    with running.client() as client:
        client.set_property(NAME, change, value)
    (told,) = apply(running)["portoDaemons"]
    assert told["actions"] == [f"live change: changed by somebody else: {change}"]
    assert (running.pid(), running.values(change)) == (pid, right)


def test_a_stopped_daemon_is_started_again(running: ExampleHost) -> None:
    with running.client() as client:
        client.stop(NAME, 5)
    (told,) = apply(running)["portoDaemons"]
    assert told["actions"] == ["start: it is stopped"]
    assert told["restartCount"] == 1
    assert running.values("state") == {"state": "running"}


def test_the_label_tells_whose_and_which(running: ExampleHost) -> None:
    labels = parse_labels(running.values("labels")["labels"])
    assert labels[LABEL] == daemon(running)["digest"]
