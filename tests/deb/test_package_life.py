"""The packages on Debian: installed, at work, upgraded, downgraded, removed, purged."""

from __future__ import annotations

import json
import shutil
import time
from functools import partial
from pathlib import Path

from helpers.example import NAME
from helpers.machine import Machine, publish, repack
from helpers.programs import wait_for

EXAMPLE = Path(__file__).parents[1] / "data/juggler-agent-rtc.yaml"
DIRECTORY = "etc/hostman/porto-daemons.d"
ONE = "meta: {name: one, version: '1'}\nspec: {properties: {cmd: [/bin/sleep, '100000']}}\n"


def drop(machine: Machine, name: str, text: str) -> None:
    written = machine.root / "root" / name
    written.write_text(text)
    written.rename(machine.root / DIRECTORY / f"{name}.yaml")


def find_pid(machine: Machine, name: str) -> str:
    """Of the daemon's main process; "" while it does not run."""
    found = json.loads(machine.run("ya-salt", "status", "-o", "json", code=None) or "{}")
    for daemon in found.get("portoDaemons", []):
        if daemon["name"] == name and daemon["state"] == "running":
            return str(machine.run("pgrep", "-o", "-f", MAIN[name])).strip()
    return ""


MAIN = {"one": "sleep 100000", NAME: "juggler-client"}


def read_log(machine: Machine) -> str:
    path = machine.root / "var/log/ya-salt.log"
    return path.read_text() if path.exists() else ""


def count_starts(machine: Machine, version: str = "", since: int = 0) -> int:
    return read_log(machine)[since:].count(f"agent: started version={version}")


def wait_ready(machine: Machine, name: str) -> str:
    wait_for(lambda: f"porto-daemon-{name}: ready" in read_log(machine), f"{name} is ready", 60)
    pid = find_pid(machine, name)
    assert pid
    return pid


def test_a_file_that_is_dropped_after_the_installation_runs(
    machine: Machine, packages: list[Path]
) -> None:
    machine.install(*packages)
    assert machine.show("ya-salt.service", "ActiveState") == "active"
    assert machine.show("ya-salt.service", "UnitFileState") == "enabled"
    wait_for(lambda: "no daemons" in machine.run("ya-salt", "status", code=None), "portod is asked")
    assert not (machine.root / "etc/systemd/system/timers.target.wants/ya-salt.timer").exists()
    began = time.monotonic()
    drop(machine, "one", ONE)
    wait_for(lambda: machine.run("pgrep", "-f", MAIN["one"], code=None) != "", "one runs", 10)
    took = time.monotonic() - began
    assert took < 2, f"{took:.1f} s"
    # The document's example, to the byte.
    shutil.copy(EXAMPLE, machine.root / DIRECTORY)
    wait_ready(machine, NAME)
    assert "monitor" in machine.run("ps", "-o", "user=", "-p", find_pid(machine, NAME))
    for command in ("ya-salt", "orlyctl", "dev-portod"):
        assert machine.run("test", "-e", f"/usr/share/man/man1/{command}.1.gz") == ""
        assert command in machine.run("bash", "-c", f"complete -p {command} || . "
            f"/usr/share/bash-completion/completions/{command}; complete -p {command}")  # fmt: skip
    assert machine.run("dpkg", "--verify", "ya-salt", "ya-salt-dev-portod") == ""


def test_upgrade_and_downgrade_leave_daemons_alone(
    machine: Machine, packages: list[Path], folder: Path
) -> None:
    older, newer = ([repack(deb, version, folder / "p") for deb in packages] for version in "12")
    machine.install(*older)
    drop(machine, "one", ONE)
    pid = wait_ready(machine, "one")
    server = machine.show("dev-portod.service", "MainPID")
    for version, them in (("2", newer), ("1", older)):
        agent = machine.show("ya-salt.service", "MainPID")
        before = read_log(machine)
        told = machine.install(*them)
        assert machine.show("ya-salt.service", "MainPID") != agent, told
        wait_for(partial(count_starts, machine, version, len(before)), "the other agent")
        # Not before dpkg had put everything in place, and then once.
        assert count_starts(machine, "", len(before)) == 1, read_log(machine)
        assert machine.show("ya-salt.service", "NRestarts") == "0"
        assert version in machine.run("ya-salt", "--version")
        assert find_pid(machine, "one") == pid
        assert machine.show("dev-portod.service", "MainPID") == server


def test_an_upgrade_by_the_agents_own_pass_is_not_cut_off(
    machine: Machine, packages: list[Path], folder: Path
) -> None:
    older, newer = (repack(packages[0], version, folder / "p") for version in "12")
    machine.install(older, packages[1])
    drop(machine, "one", ONE)
    pid = wait_ready(machine, "one")
    agent = machine.show("ya-salt.service", "MainPID")
    shutil.copy(newer, machine.root / "srv/repository")
    publish(machine)
    wanted = "[{name: ya-salt, version: '2'}]"
    two = ONE.replace("one", "two").replace("100000", "100001")
    drop(machine, "two", two.replace("spec: {", f"spec: {{packages: {wanted}, "))
    wait_for(lambda: count_starts(machine, "2") > 0, "the new agent", 60)
    # Executed anew, not restarted: the pass has seen its apt end.
    assert machine.show("ya-salt.service", "MainPID") == agent
    wait_for(lambda: "last pass: ok" in machine.show("ya-salt.service", "StatusText"), "a pass")
    assert machine.run("dpkg-query", "-W", "-f", "${Version} ${Status}", "ya-salt") == (
        "2 install ok installed"
    )
    assert machine.run("dpkg", "--audit") == ""
    assert find_pid(machine, "one") == pid
    assert count_starts(machine) == 2


def test_who_prefers_the_timer_keeps_it_over_an_upgrade(
    machine: Machine, packages: list[Path], folder: Path
) -> None:
    machine.install(*packages)
    machine.run("systemctl", "disable", "--now", "ya-salt.service")
    machine.run("systemctl", "enable", "--now", "ya-salt.timer")
    assert machine.show("ya-salt.timer", "ActiveState") == "active"
    machine.install(repack(packages[0], "9", folder / "p"))
    assert machine.show("ya-salt.service", "ActiveState") == "inactive"
    assert machine.show("ya-salt.service", "UnitFileState") == "disabled"
    assert machine.show("ya-salt.timer", "ActiveState") == "active"
    assert machine.show("ya-salt.timer", "UnitFileState") == "enabled"
    machine.run("apt-get", "remove", "--yes", "ya-salt")
    assert machine.show("ya-salt.timer", "ActiveState") == "inactive"


def test_the_log_goes_on_under_its_name_when_it_is_rotated(
    machine: Machine, packages: list[Path]
) -> None:
    machine.install(*packages)
    wait_for(lambda: count_starts(machine) == 1, "the agent has begun")
    machine.run("logrotate", "--force", "/etc/logrotate.d/ya-salt")
    assert "agent: started" in (machine.root / "var/log/ya-salt.log.1").read_text()
    drop(machine, "one", ONE)
    wait_for(lambda: "porto-daemon-one" in read_log(machine), "the new file is written")


def test_removing_leaves_daemons_and_purging_takes_state_and_log(
    machine: Machine, packages: list[Path]
) -> None:
    machine.install(*packages)
    settings = machine.root / "etc/hostman/ya-salt.yaml"
    settings.write_text("interval_s: 50\n")
    drop(machine, "one", ONE)
    pid = wait_ready(machine, "one")
    others = [machine.root / name for name in ("var/log/ya-salt.logbook", "var/lib/ya-salt-own")]
    for other in others:
        other.touch()
    told = machine.run("apt-get", "remove", "--yes", "ya-salt")
    assert "nobody looks after the daemons from now on" in told
    assert machine.show("ya-salt.service", "LoadState") == "not-found"
    assert machine.run("pgrep", "-f", MAIN["one"]).strip() == pid
    assert settings.exists()
    assert (machine.root / "var/lib/ya-salt").is_dir()
    assert "ya_salt" not in machine.run("ls", "/usr/lib/python3/dist-packages")
    machine.run("apt-get", "purge", "--yes", "ya-salt")
    left = machine.run(
        *("find", "/etc", "/usr", "/var/lib", "/var/log", "/run", "-xdev", "-name", "*ya-salt*"),
        *("-not", "-path", "*dev-portod*", "-not", "-path", "/var/lib/dpkg/*"),
    )
    assert set(left.split()) == {f"/{other.relative_to(machine.root)}" for other in others}
    assert (machine.root / DIRECTORY / "one.yaml").read_text() == ONE
    assert not settings.exists()
    assert machine.run("pgrep", "-f", MAIN["one"]).strip() == pid
