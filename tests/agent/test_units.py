"""packaging/systemd, under a real systemd."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.agents import AgentHost
from helpers.programs import wait_for
from helpers.systemd import UNITS, Systemd, list_variables, name_python


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for unit in UNITS.iterdir():
        # Where ya-salt is not installed, its programs are not there.
        text = re.sub("/usr/bin/(ya-salt|dev-portod)", sys.executable, unit.read_text())
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_service_runs_what_is_dropped_and_daemons_outlive_it(
    host: AgentHost, service: Systemd
) -> None:
    service.systemctl("start", "ya-salt.service")
    host.drop("one")
    wait_for(lambda: host.is_running("one"), "one runs", 5)
    wait_for(
        lambda: "1 daemon, last pass: ok" in service.show("ya-salt.service", "StatusText"),
        "systemd knows",
    )
    service.systemctl("stop", "ya-salt.service")
    assert service.show("ya-salt.service", "Result") == "success"
    assert host.is_running("one")


def test_the_service_reads_its_settings_anew(host: AgentHost, service: Systemd) -> None:
    service.systemctl("start", "ya-salt.service")
    pid = service.show("ya-salt.service", "MainPID")
    host.settings_file.write_text("interval_s: 77\n")
    service.systemctl("reload", "ya-salt.service")
    wait_for(lambda: "the settings were read anew" in host.log(), "it is told")
    assert service.show("ya-salt.service", "MainPID") == pid


def test_the_service_is_started_again_after_a_kill(host: AgentHost, service: Systemd) -> None:
    service.systemctl("start", "ya-salt.service")
    service.systemctl("kill", "--kill-whom=main", "--signal=KILL", "ya-salt.service")
    wait_for(lambda: host.log().count("agent: started") == 2, "it is back", 20)
    host.drop("one")
    wait_for(lambda: host.is_running("one"), "one runs", 5)


def test_an_agent_that_gets_no_further_is_started_anew(host: AgentHost, service: Systemd) -> None:
    service.add_lines("ya-salt.service", "Service", ["WatchdogSec=2"])
    service.systemctl("daemon-reload")
    service.systemctl("start", "ya-salt.service")
    time.sleep(5)
    assert host.log().count("agent: started") == 1, "it is fed while nothing happens"
    service.systemctl("kill", "--kill-whom=main", "--signal=STOP", "ya-salt.service")
    wait_for(lambda: host.log().count("agent: started") == 2, "it is back", 30)


def test_the_timer_makes_passes(host: AgentHost, systemd: Systemd) -> None:
    systemd.install("ya-salt-apply.service", name_python(), list_variables(host.environment))
    systemd.copy("ya-salt.timer")
    systemd.add_lines(
        "ya-salt.timer",
        "Timer",
        ("OnCalendar=", "OnCalendar=*-*-* *:*:0/2", "RandomizedDelaySec=0"),
    )
    systemd.systemctl("daemon-reload")
    systemd.systemctl("start", "ya-salt.timer")
    host.drop("one")
    wait_for(lambda: host.is_running("one"), "one runs", 20)
    first = host.last_pass()
    wait_for(lambda: host.last_pass() != first, "one more pass", 20)
    assert systemd.show("ya-salt-apply.service", "Result") == "success"
