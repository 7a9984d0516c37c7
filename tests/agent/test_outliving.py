"""apt in a unit of its own outlives the agent, under a real systemd with a real apt and dpkg."""

from __future__ import annotations

import json
import time
from pathlib import Path

from helpers.agents import AgentHost
from helpers.programs import wait_for
from helpers.systemd import Systemd, list_variables, name_python

UNIT = "ya-salt.service"

SLOW = """\
#!/bin/sh
echo begun >> "$DPKG_ROOT/scripts.log"
sleep {seconds}
echo ended >> "$DPKG_ROOT/scripts.log"
exit {code}
"""


def publish(host: AgentHost, seconds: int = 4, code: int = 0) -> None:
    host.repository.add(
        "slow-tool", "1", scripts={"postinst": SLOW.format(seconds=seconds, code=code)}
    )
    host.repository.write_index()


def read_scripts(host: AgentHost) -> list[str]:
    path = Path(host.root, "scripts.log")
    return path.read_text().split() if path.exists() else []


def begin(host: AgentHost, service: Systemd) -> None:
    """Until the maintainer script is at work."""
    service.systemctl("start", UNIT)
    host.drop("one", package="slow-tool=1")
    wait_for(lambda: read_scripts(host) == ["begun"], "the script is at work", 30)


def tell_apt(host: AgentHost) -> list[str]:
    """What the history says of the install: how each of its lines ends."""
    wait_for(lambda: "has done its work" in host.run("history", "one").stdout, "it is told")
    lines = json.loads(host.run("history", "one", "-o", "json").stdout)["history"]
    ends = ("interrupted, its end was not seen", "has done its work")
    texts = [item["what"] for item in lines if "slow-tool" in item["what"]]
    return [end for text in texts for end in ends if text.endswith(end)]


def find_apt_units(service: Systemd) -> list[str]:
    done = service.systemctl("list-units", "--all", "--plain", "--no-legend", "ya-salt-apt*")
    return [line.split()[0] for line in done.stdout.splitlines()]


def test_apt_works_on_while_the_agent_is_killed_and_the_next_takes_its_result(
    host: AgentHost, service: Systemd
) -> None:
    publish(host)
    begin(host, service)
    service.systemctl("kill", "--kill-whom=all", "--signal=KILL", UNIT)
    wait_for(lambda: host.is_running("one"), "one runs", 40)
    assert read_scripts(host) == ["begun", "ended"]
    assert "which a pass before this one has started, has done its work" in host.log()
    assert tell_apt(host) == ["interrupted, its end was not seen", "has done its work"]
    assert find_apt_units(service) == []


def test_apt_works_on_while_the_agent_is_restarted(host: AgentHost, service: Systemd) -> None:
    publish(host)
    begin(host, service)
    started = time.monotonic()
    service.systemctl("restart", UNIT)
    assert time.monotonic() - started < 4
    wait_for(lambda: host.is_running("one"), "one runs", 40)
    assert read_scripts(host) == ["begun", "ended"]
    assert "goes on, the next pass takes its result" in host.log()
    assert tell_apt(host) == ["interrupted, its end was not seen", "has done its work"]


def test_policy_rc_d_stays_as_long_as_apt_is_at_work(host: AgentHost, service: Systemd) -> None:
    publish(host)
    begin(host, service)
    policy = host.root / "usr/sbin/policy-rc.d"
    assert policy.exists()
    service.systemctl("stop", UNIT)
    assert policy.exists()
    wait_for(lambda: read_scripts(host) == ["begun", "ended"], "the script has ended")
    service.systemctl("start", UNIT)
    wait_for(lambda: host.is_running("one"), "one runs", 30)
    assert not policy.exists()


def test_an_apt_that_failed_meanwhile_is_told_and_tried_again(
    host: AgentHost, service: Systemd
) -> None:
    publish(host, seconds=2, code=7)
    begin(host, service)
    service.systemctl("stop", UNIT)
    wait_for(lambda: "ended" in read_scripts(host), "the script has ended")
    time.sleep(1)
    service.systemctl("start", UNIT)
    wait_for(lambda: "which a pass before this one has started, failed" in host.log(), "told")
    wait_for(lambda: "packages failed" in host.log(), "the next one says why", 30)


def test_a_shell_ends_at_ctrl_c_and_apt_works_on(host: AgentHost, service: Systemd) -> None:
    publish(host)
    host.drop("one", package="slow-tool=1")
    variables = list_variables(host.environment)
    settings = [f"--setenv={name}={value}" for name, value in variables.items()]
    name = "a-shell.service"
    service.enter("systemd-run", f"--unit={name}", *settings, "--", *name_python(), "apply")
    wait_for(lambda: read_scripts(host) == ["begun"], "the script is at work", 30)
    service.systemctl("kill", "--kill-whom=main", "--signal=INT", name)
    wait_for(lambda: service.show(name, "SubState") in {"failed", "dead"}, "it has ended", 3)
    assert read_scripts(host) == ["begun"]
    wait_for(lambda: read_scripts(host) == ["begun", "ended"], "the script has ended")
