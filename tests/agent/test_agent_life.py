"""How the agent begins and ends, and what it lives through."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from helpers.agents import AgentHost
from helpers.programs import wait_for


def test_sigterm_ends_it_and_the_daemons_live_on(host: AgentHost) -> None:
    host.drop("one")
    host.start()
    pid = host.value("one", "root_pid")
    assert host.end() == 0
    assert host.is_running("one")
    assert host.value("one", "root_pid") == pid


def test_sigterm_while_it_waits_for_a_daemon_ends_it_soon(host: AgentHost) -> None:
    host.start()
    text = host.text("slow").replace("min_ready_s: 0", "min_ready_s: 300\n  ready_timeout_s: 300")
    (host.specs_dir / "slow.yaml").write_text(text)
    wait_for(lambda: host.is_running("slow"), "slow runs")
    started = time.monotonic()
    assert host.end() == 0
    assert time.monotonic() - started < 5
    assert host.is_running("slow")


def test_there_is_one_agent_on_a_host(host: AgentHost) -> None:
    host.start()
    second = host.run("run")
    assert second.returncode == 3
    assert host.process is not None
    assert str(host.process.pid) in second.stderr


def test_it_waits_its_turn_where_a_shell_makes_a_pass(host: AgentHost) -> None:
    host.start()
    text = host.text("slow").replace("min_ready_s: 0", "min_ready_s: 3\n  ready_timeout_s: 30")
    file = host.folder / "slow.yaml"
    file.write_text(text)
    words = [sys.executable, "-m", "ya_salt.cli.main", "apply", "-f", str(file)]
    with subprocess.Popen(words, env=host.environment, stdout=subprocess.DEVNULL):
        wait_for(lambda: host.is_running("slow"), "the shell's pass is at work")
        host.drop("one")
    wait_for(lambda: host.is_running("one"), "one runs", 5)
    assert "another pass is running" in host.log()


def test_portod_gone_and_back_needs_no_help(host: AgentHost) -> None:
    host.drop("one")
    host.start()
    host.portod.kill()
    host.drop("two")
    wait_for(lambda: "portod cannot be asked" in host.log(), "it is told")
    host.portod.start()
    wait_for(lambda: host.is_running("one") and host.is_running("two"), "both run", 10)


def test_a_socket_that_was_deleted_and_comes_back_is_used(host: AgentHost) -> None:
    host.start()
    socket = Path(host.portod.socket_path)
    aside = socket.with_name("aside")
    socket.rename(aside)
    host.drop("one")
    wait_for(lambda: "portod cannot be asked" in host.log(), "it is told")
    aside.rename(socket)
    wait_for(lambda: host.is_running("one"), "one runs", 5)


def test_a_portod_that_hangs_is_survived(host: AgentHost) -> None:
    host.start()
    assert host.portod.process is not None
    host.portod.process.send_signal(signal.SIGSTOP)
    host.drop("one")
    wait_for(lambda: "portod cannot be asked" in host.log(), "it is told", 20)
    host.portod.process.send_signal(signal.SIGCONT)
    host.drop("two")
    wait_for(lambda: host.is_running("one") and host.is_running("two"), "both run", 20)
